"""Weights of images: read with them, refused by row, kept beside their labels by whatever changes an index."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError
from knnvote.data.labels.join import join_labels
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.folder.write import describe_file
from knnvote.indexer.grow import add_files, compact, relabel_ids, remove_ids
from knnvote.indexer.manifest import read_manifest
from knnvote.indexer.sealed import seal
from knnvote.indexer.training import TrainingOptions

IMAGES, LABELS = (array[:120] for array in digits())
S = np.random.default_rng(7).choice([0.5, 1, 4], 120)
KINDS = {
    "codes": IndexOptions(threads=1),
    "plain": IndexOptions(metric="l1", threads=1),
    "adaptive": IndexOptions(kind="adaptive", threads=1),
    "hnsw": IndexOptions(kind="hnsw", threads=1),
}


def write(path, rows=slice(0, 120), weights=None, name="w"):
    table = image_table(IMAGES[rows], LABELS[rows])
    weights = pa.array(S[rows]) if weights is None else weights
    write_table(table.append_column(name, weights), Path(path))
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def index(source, out="x.knn", options=KINDS["codes"], **training):
    index_files(source, out, training=TrainingOptions(**{"weight_column": "w", **training}), options=options)
    return open_index(out)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "weights",
    [
        pa.array(range(1, 121), pa.int16()),
        pa.array(S, pa.float32()),
        pa.array([Decimal(1 + row % 3) for row in range(120)]),
        pa.array([1 + row % 2 for row in range(120)]).dictionary_encode(),
    ],
    ids=["int16", "float32", "decimal", "dictionary"],
)
def test_numbers_of_any_type_are_weights(weights):
    found = index(write("a.parquet", weights=weights))
    assert found.sample_weight.tolist() == [float(weight) for weight in weights.to_pylist()]
    told = found.manifest.sample_weight
    assert (told.column, told.least, told.most) == ("w", found.sample_weight.min(), found.sample_weight.max())
    assert found.manifest.label_column == "label"
    assert verify_folder("x.knn") == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (None, "no weight"),
        (float("nan"), "no weight"),
        (-2.5, "weight -2.5, which is below 0"),
        (float("-inf"), "weight -inf, which is below 0"),
        (float("inf"), "weight inf, which is infinite"),
        (0.0, "weight 0, with which an image has no vote"),
        (1e-31, "weight 1e-31, which is not from 1e-30 to 1e+30"),
        (1e31, "weight 1e+31, which is not from 1e-30 to 1e+30"),
    ],
)
def test_what_is_no_weight_is_refused_by_file_and_row_and_left_out_when_told(wrong, told):
    values = S.tolist()
    values[70] = wrong
    write("a.parquet", weights=pa.array(values, pa.float64()))
    with pytest.raises(KnnvoteError) as error:
        index("a.parquet")
    assert str(error.value) == (f"a.parquet, row 70: {told}; mend it, or pass skip_bad=True to leave such rows out")
    assert not Path("x.knn").exists()
    found = index("a.parquet", skip_bad=True)
    assert (found.n, found.manifest.skipped) == (119, 1)
    assert found.sample_weight.tolist() == np.delete(S, 70).tolist()


@pytest.mark.usefixtures("here")
def test_columns_that_cannot_be_weights_are_refused_by_name(invoke):
    write("a.parquet", weights=pa.array(["much"] * 120))
    cases = {
        "w": "a.parquet, column 'w': weights of type string cannot be used: give numbers",
        "v": "a.parquet: no column 'v' for --weight-column; there are image, label, w",
        "label": "a.parquet: column 'label' holds the labels, no weights: name another with --weight-column",
    }
    for name, told in cases.items():
        done = invoke("index", "a.parquet", "--out", "x.knn", "--label-column", "label", "--weight-column", name)
        assert (done.code, done.stderr) == (1, f"error: {told}\n")
        assert not Path("x.knn").exists()


@pytest.mark.usefixtures("here")
def test_a_column_of_weights_is_neither_guessed_for_the_label_nor_for_a_pixel():
    table = pa.table({f"p{j}": IMAGES[:, 0, j] for j in range(8)} | {"p8": S, "kind": LABELS})
    pq.write_table(table, "wide.parquet")
    found = index("wide.parquet", weight_column="p8")
    assert (found.d, found.manifest.label_column) == (8, "kind")
    assert Classifier(found)(table.slice(0, 9)).best.to_pylist() == Classifier(found)(IMAGES[:9, 0]).best.to_pylist()


@pytest.mark.usefixtures("here")
def test_an_index_without_weights_says_nothing_of_them_and_one_with_them_has_other_data():
    write("a.parquet")
    plain = index("a.parquet", "plain.knn", label_column="label", weight_column=None)
    assert "sample_weight" not in json.loads(Path("plain.knn/manifest.json").read_text())
    assert pq.read_schema("plain.knn/labels-1.parquet").names == ["label", "id", "file", "row"]
    assert (plain.sample_weight, plain.vote_factors(None, np.zeros((1, 1), int))) == (None, None)
    own = index("a.parquet")
    assert own.manifest.data_sha256 != plain.manifest.data_sha256
    assert own.fingerprint != plain.fingerprint


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_added_removed_relabelled_and_built_afresh_keeps_its_weights(kind):
    write("a.parquet", slice(0, 90))
    write("b.parquet", slice(90, 120))
    index("a.parquet", options=KINDS[kind])
    assert add_files("x.knn", "b.parquet", tuning=Tuning) == 30
    assert open_index("x.knn").sample_weight.tolist() == S.tolist()
    whole = index(["a.parquet", "b.parquet"], "whole.knn", KINDS[kind])
    rows = pq.read_table("x.knn/" + read_manifest("x.knn").files["labels"].name)
    assert rows.equals(pq.read_table("whole.knn/labels-1.parquet"))
    assert open_index("x.knn").manifest.data_sha256 == whole.manifest.data_sha256
    assert relabel_ids("x.knn", ["a.parquet#3"], [(LABELS[3] + 1) % 10], tuning=Tuning) == 1
    ids = whole.ids.to_pylist()
    heavy = [name for name, weight in zip(ids, S, strict=True) if weight == 4]
    remove_ids("x.knn", heavy, tuning=Tuning)
    for _ in range(2):
        found = open_index("x.knn")
        assert found.sample_weight.tolist() == S[S < 4].tolist()
        assert found.manifest.sample_weight.most == 1
        assert found.manifest.sample_weight.column == "w"
        assert verify_folder("x.knn") == []
        compact("x.knn", tuning=Tuning)


@pytest.mark.usefixtures("here")
def test_what_is_added_has_weights_where_the_index_has_and_only_there(invoke):
    write("a.parquet", slice(0, 90))
    write("b.parquet", slice(90, 120), name="sure")
    index("a.parquet")
    done = invoke("add", "x.knn", "b.parquet")
    assert (done.code, done.stderr) == (
        1,
        "error: b.parquet: no column 'w' for --weight-column; there are image, label, sure\n",
    )
    assert open_index("x.knn").n == 90
    assert invoke("add", "x.knn", "b.parquet", "--weight-column", "sure").code == 0
    assert open_index("x.knn").sample_weight.tolist() == S.tolist()
    index("a.parquet", "plain.knn", weight_column=None, label_column="label")
    with pytest.raises(OptionError, match=r"^the images of plain\.knn have no weights: leave out weight_column, or"):
        add_files("plain.knn", "b.parquet", training=TrainingOptions(weight_column="sure"))
    index_arrays(IMAGES[:90], LABELS[:90], "array.knn", sample_weight=S[:90])
    with pytest.raises(
        OptionError, match=r"^each image of array\.knn has a weight, given by an array: name the column"
    ):
        add_files("array.knn", "b.parquet")
    add_files("array.knn", "b.parquet", training=TrainingOptions(weight_column="sure", label_column="label"))
    assert open_index("array.knn").sample_weight.tolist() == S.tolist()
    assert "given by an array, from 0.5 to 4" in invoke("inspect", "array.knn").stdout


@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore:twice.csv. 1 of 31 rows repeat a key")
def test_a_table_of_labels_may_have_the_weights(invoke):
    Path("in").mkdir()
    for row in range(30):
        Image.fromarray(IMAGES[row] * 16).save(f"in/{row}.png")
    lines = [f"{row}.png,{LABELS[row]},{S[row]}" for row in range(30)]
    Path("labels.csv").write_text("\n".join(["file,label,times", *lines[::-1]]) + "\n")
    done = invoke("index", "in", "--labels", "labels.csv", "--weight-column", "times", "--out", "x.knn")
    assert done.code == 0, done.stderr
    found = open_index("x.knn")
    by_name = {f"{row}.png": S[row] for row in range(30)}
    assert found.sample_weight.tolist() == [by_name[name] for name in found.ids.to_pylist()]
    Path("twice.csv").write_text("\n".join(["file,label,times", *lines, f"3.png,{LABELS[3]},9"]) + "\n")
    told = rf"^twice\.csv: '3\.png' has two values in column 'times', {S[3]:g}.* and 9"
    with pytest.raises(ImageFileError, match=told):
        join_labels("in", "twice.csv", weight_column="times")
    Path("few.csv").write_text("\n".join(["file,label,times", *lines[:20], "20.png,7,"]) + "\n")
    done = invoke(
        *("index", "in", "--labels", "few.csv", "--weight-column", "times", "--out", "few.knn", "--skip-bad"),
    )
    assert done.code == 0, done.stderr
    assert "20 images of 8 x 8, 1 bad rows left out" in done.stderr
    for row in range(30, 40):
        Path("more").mkdir(exist_ok=True)
        Image.fromarray(IMAGES[row] * 16).save(f"more/{row}.png")
    Path("more.csv").write_text(
        "\n".join(["file,label,times", *(f"{r}.png,{LABELS[r]},{S[r]:g}" for r in range(30, 40))])
    )
    done = invoke("add", "x.knn", "more", "--labels", "more.csv")
    assert done.code == 0, done.stderr
    assert open_index("x.knn").sample_weight[30:].tolist() == S[30:40].tolist()
    write("rows.parquet", slice(0, 30))
    Path("ids.csv").write_text("\n".join(["id,label", *(f"rows.parquet#{row},x{row % 2}" for row in range(30))]) + "\n")
    done = invoke("index", "rows.parquet", "--labels", "ids.csv", "--weight-column", "w", "--out", "own.knn")
    assert done.code == 0, done.stderr
    assert open_index("own.knn").sample_weight.tolist() == S[:30].tolist()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.set_column(4, "weight", pa.array([-1.0] * 120)),
        lambda rows: rows.set_column(4, "weight", pa.array([np.nan] * 120)),
        lambda rows: rows.set_column(4, "weight", pa.array(S * 2)),
        lambda rows: rows.set_column(4, "weight", pa.array(S.astype(np.float32))),
        lambda rows: rows.drop(["weight"]),
    ],
    ids=["negative", "nan", "others", "float32", "none"],
)
def test_a_stranger_whose_weights_are_not_those_of_its_manifest_is_refused(here, spoil):
    index(write("a.parquet"))
    shutil.copytree("x.knn", "y.knn")
    path = here / "y.knn/labels-1.parquet"
    pq.write_table(spoil(pq.read_table(path)), path)
    record = json.loads(Path("y.knn/manifest.json").read_text())
    found = describe_file(path)
    record["files"]["labels"] |= {"size": found.size, "sha256": found.sha256}
    Path("y.knn/manifest.json").write_bytes(seal(record))
    with pytest.raises(KnnvoteError, match=r"its (labels file has columns|weights are not those)|its content does not"):
        open_index("y.knn")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "wrong",
    [{}, {"least": 0}, {"least": -1}, {"least": 9}, {"most": 1e31}, {"most": "4"}, {"column": 3}, {"more": 1}, None],
)
def test_a_manifest_whose_weights_are_none_is_refused(wrong):
    index(write("a.parquet"))
    record = json.loads(Path("x.knn/manifest.json").read_text())
    assert record["sample_weight"] == {"column": "w", "least": 0.5, "most": 4.0}
    record["sample_weight"] = record["sample_weight"] | wrong if wrong else wrong
    Path("x.knn/manifest.json").write_bytes(seal(record))
    with pytest.raises(KnnvoteError, match="sample_weight"):
        open_index("x.knn")


@pytest.mark.usefixtures("here")
def test_a_table_of_labels_may_have_groups_and_weights(invoke):
    """An index that takes both from one table has their columns found again when images are added."""
    write_table(image_table(IMAGES, LABELS), Path("rows.parquet"))
    write_table(image_table(IMAGES[:30] ^ 1, LABELS[:30]), Path("more.parquet"))
    for name, n in (("rows", 120), ("more", 30)):
        lines = [f"{name}.parquet#{row},{LABELS[row]},p{row // 6},{S[row]}" for row in range(n)]
        Path(f"{name}.csv").write_text("\n".join(["id,label,patient,times", *lines]) + "\n")
    beside = ("--group-column", "patient", "--weight-column", "times")
    done = invoke("index", "rows.parquet", "--labels", "rows.csv", *beside, "--out", "x.knn")
    assert done.code == 0, done.stderr
    assert "20 groups by column 'patient'" in done.stderr
    assert "weights of column 'times'" in done.stderr
    assert open_index("x.knn").manifest.other_columns == ("label", None, "patient", "times")
    done = invoke("add", "x.knn", "more.parquet", "--labels", "more.csv")
    assert done.code == 0, done.stderr
    found = open_index("x.knn")
    assert found.sample_weight.tolist() == [*S, *S[:30]]
    assert found.provenance("group")["group"].to_pylist()[120:] == [f"p{row // 6}" for row in range(30)]
    assert verify_folder("x.knn") == []


@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore:groups.csv. 1 of 9 rows repeat a key")
def test_a_key_with_two_groups_is_refused():
    write_table(image_table(IMAGES[:8], LABELS[:8]), Path("rows.parquet"))
    lines = [f"rows.parquet#{row},{LABELS[row]},p{row % 2}" for row in (*range(8), 3)]
    Path("groups.csv").write_text("\n".join(["id,label,patient", *lines[:-1], lines[-1].replace("p1", "p7")]) + "\n")
    with pytest.raises(ImageFileError, match=r"'rows\.parquet#3' has two values in column 'patient', p1 and p7"):
        join_labels("rows.parquet", "groups.csv", group_column="patient")
