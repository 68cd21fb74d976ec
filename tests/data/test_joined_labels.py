"""Labels in a table of their own: joined by ids, paths or names of files, and what does not fit told."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from knnvote import TrainingOptions, compare, index_files, join_labels, open_index
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.inputs import find_inputs, tell_unused_labels
from knnvote.data.tables import image_table, write_table

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 5, 4), np.uint8)
LABELS = [i % 3 for i in range(30)]
PATHS = [f"{'ab'[i % 2]}/{i:03d}.png" for i in range(30)]


def png(i):
    stream = io.BytesIO()
    Image.fromarray(PIXELS[i]).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, path in enumerate(PATHS):
        Path("in", path).parent.mkdir(parents=True, exist_ok=True)
        Path("in", path).write_bytes(png(i))
    write_table(image_table(PIXELS), Path("rows.parquet"))
    own = pa.table({"image": [png(i) for i in range(30)], "key": [f"k{i:03d}" for i in range(30)]})
    pq.write_table(own, "own.parquet")
    with tarfile.open("shard.tar", "w") as archive:
        for i in range(30):
            member = tarfile.TarInfo(f"s{i:03d}.png")
            member.size = len(png(i))
            archive.addfile(member, io.BytesIO(png(i)))
    return tmp_path


def csv(name, keys, labels=None, header="id,label"):
    rows = zip(keys, LABELS if labels is None else labels, strict=False)
    Path(name).write_text("\n".join([header, *(f"{key},{label}" for key, label in rows)]) + "\n")
    return name


def stored(index):
    return {row["id"]: row["label"] for row in pq.read_table(Path(index, "labels-1.parquet")).to_pylist()}


@pytest.mark.parametrize(
    ("images", "keys", "ids", "header"),
    [
        ("in", PATHS, PATHS, "file_name,label"),
        ("in", [Path(path).name for path in PATHS], PATHS, "image,y"),
        ("rows.parquet", [f"rows.parquet#{i}" for i in range(30)], None, "id,klass"),
        ("own.parquet", [f"k{i:03d}" for i in range(30)], None, "key,label"),
        ("shard.tar", [f"s{i:03d}" for i in range(30)], None, "anything,label"),
    ],
)
def test_rows_have_the_labels_of_their_ids_paths_or_names(here, images, keys, ids, header):
    expected = dict(zip(ids or keys, LABELS, strict=True))
    csv("labels.csv", keys[::-1], LABELS[::-1], header)
    index_files(join_labels(images, "labels.csv"), here / "x.knn")
    assert stored("x.knn") == expected
    key, label = header.split(",")
    pq.write_table(pa.table({"more": LABELS, label: LABELS, key: keys}), "labels.parquet")
    index_files(join_labels(images, "labels.parquet", label_column=label, id_column=key), here / "y.knn")
    assert stored("y.knn") == expected
    found = compare(join_labels(images, "labels.csv"), open_index("x.knn"))
    assert found.unlabelled == 0
    assert found.indexes[0].accuracy is not None


def test_the_commands_take_them(invoke, here):
    csv("labels.csv", PATHS[:20])
    csv("more.csv", PATHS[20:], LABELS[20:])
    done = invoke("index", "in", "--labels", "labels.csv", "--out", "x.knn")
    assert (done.code, done.stderr.startswith("error: in/a/020.png: no label; mend it, or pass --skip-bad")) == (
        1,
        True,
    )
    assert invoke("index", "in", "--labels", "labels.csv", "--out", "x.knn", "--skip-bad").code == 0
    assert invoke("add", "x.knn", "in", "--labels", "more.csv", "--skip-bad").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["n"] == 30
    done = invoke("compare", "in", "--labels", "labels.csv", "--index", "x.knn", "--json")
    assert json.loads(done.stdout)["unlabelled"] == 10
    done = invoke("compare", "in", "--id-column", "id", "--index", "x.knn")
    assert (done.code, "give one with --labels" in done.stderr) == (2, True)
    assert here.is_dir()


@pytest.mark.usefixtures("here")
def test_a_table_of_few_ids_that_a_column_of_the_images_holds_adds_these_rows_alone(invoke):
    """As a list of rows to look at is filled in."""
    table = pq.read_table("rows.parquet")
    pq.write_table(table.append_column("name", pa.array([f"n{i}" for i in range(30)])), "named.parquet")
    csv("labels.csv", PATHS)
    assert invoke("index", "in", "--labels", "labels.csv", "--out", "x.knn").code == 0
    csv("few.csv", ["n3", "n29"], [2, 1])
    done = invoke("add", "x.knn", "named.parquet", "--labels", "few.csv", "--id-column", "name", "--skip-bad")
    assert (done.code, done.stderr.splitlines()[0]) == (0, "x.knn: 2 images added")
    grown = open_index("x.knn")
    assert dict(zip(grown.ids.to_pylist()[30:], grown.labels.to_pylist()[30:], strict=True)) == {"n3": 2, "n29": 1}
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["skipped"] == 0
    with pytest.warns(
        UserWarning, match="2 of 2 labels are of no image, the first of 'n3'; id_column names the column"
    ):
        invoke("add", "x.knn", "named.parquet", "--labels", "few.csv", "--skip-bad")
    wrong = invoke("add", "x.knn", "named.parquet", "--labels", "few.csv", "--id-column", "nome", "--skip-bad")
    assert wrong.stderr.startswith("error: neither named.parquet nor few.csv has a column 'nome' for --id-column")


def test_the_table_counts_before_a_column_of_the_same_name(here):
    csv("labels.csv", PATHS, ["x"] * 30)
    index_files(join_labels("in", "labels.csv"), here / "x.knn")
    assert {*stored("x.knn").values()} == {"x"}


def test_labels_of_no_image_are_told_and_so_is_a_table_of_other_ids(here):
    csv("labels.csv", [*PATHS, "gone.png", "lost.png"], [*LABELS, 1, 2])
    with pytest.warns(UserWarning, match=r"^labels\.csv: 2 of 32 labels are of no image, the first of 'gone\.png'$"):
        index_files(join_labels("in", "labels.csv"), here / "x.knn")
    csv("others.csv", [f"p{i}" for i in range(30)], [1] * 30)
    with (
        pytest.warns(
            UserWarning, match=r"none of the first 15 rows of in/a has a label in others\.csv.*such as 'p0'.*'a/000"
        ),
        pytest.raises(KnnvoteError, match=r"in/a/000\.png: no label"),
    ):
        index_files(join_labels("in", "others.csv"), here / "y.knn")


@pytest.mark.parametrize(
    ("keys", "labels", "header", "message"),
    [
        ([*PATHS, PATHS[0]], [*LABELS, 2], "id,label", "'a/000.png' has two labels, 0 and 2: leave in the right one"),
        (PATHS, LABELS, "a,b", "which of the columns a, b holds labels"),
        (["", "x"], [1, 2], "id,label", "1 ids are missing"),
    ],
)
def test_tables_that_do_not_tell_are_refused(here, keys, labels, header, message):
    csv("labels.csv", keys, labels, header)
    with pytest.raises(ImageFileError, match=message):
        join_labels("in", "labels.csv")
    with pytest.raises(ImageFileError, match=r"no column 'nothing' for .*; there are"):
        join_labels("in", "labels.csv", label_column="nothing")
    assert here.is_dir()


def test_rows_that_repeat_a_key_with_its_label_are_told(here):
    csv("labels.csv", [*PATHS, *PATHS[:2]], [*LABELS, *LABELS[:2]])
    with pytest.warns(UserWarning, match="2 of 32 rows repeat a key with the same label"):
        inputs = join_labels("in", "labels.csv")
    index_files(inputs, here / "x.knn")
    assert stored("x.knn") == dict(zip(PATHS, LABELS, strict=True))


@pytest.mark.parametrize(
    "labels", [pa.array([None, 1, 2, None, 1, 0]), pa.array([np.nan, 1, 2, None, 1, 0]), ["", "x", "y", " ", "x", "z"]]
)
def test_a_blank_row_is_no_second_label_of_its_key(here, labels):
    keys = ["rows.parquet#4", "rows.parquet#4", "rows.parquet#2", "rows.parquet#3", "rows.parquet#4", "rows.parquet#3"]
    pq.write_table(
        pa.table(
            {
                "id": [*keys, "rows.parquet#2"],
                "label": pa.concat_arrays([pa.array(labels), pa.array(labels).slice(0, 1)]),
            }
        ),
        "labels.parquet",
    )
    with pytest.warns(UserWarning, match="labels.parquet: 1 of 7 rows repeat a key with the same label"):
        inputs = join_labels("rows.parquet", "labels.parquet")
    index_files(inputs, here / "x.knn", training=TrainingOptions(skip_bad=True), tell=print)
    filled = pa.array(labels).to_pylist()
    assert stored("x.knn") == {"rows.parquet#2": filled[2], "rows.parquet#3": filled[5], "rows.parquet#4": filled[1]}
    pq.write_table(pa.table({"id": ["a", "a", "a"], "label": pa.array(labels).take([0, 1, 2])}), "labels.parquet")
    with pytest.raises(ImageFileError, match=r"'a' has two labels, [1x].* and [2y].*: leave in the right one"):
        join_labels("rows.parquet", "labels.parquet")


def test_the_name_of_two_files_is_no_key(here):
    Path("in/b/000.png").write_bytes(png(0))
    csv("labels.csv", [Path(path).name for path in PATHS])
    with pytest.raises(
        ImageFileError, match=r"000\.png is the name of several files, a/000\.png and b/000\.png: give paths"
    ):
        index_files(join_labels("in", "labels.csv"), here / "x.knn")


def test_rows_are_joined_whatever_is_read_and_in_whatever_batches(here):
    csv("labels.csv", [f"rows.parquet#{i}" for i in range(30)])
    (source,) = join_labels("rows.parquet", "labels.csv")
    with source.open_rows() as rows:
        for columns in (["label"], ["image", "label"], ["label", "image"], ["image"]):
            batches = list(rows.batches(columns, 7))
            assert {tuple(batch.schema.names) for batch in batches} == {tuple(columns)}
            found = [label for batch in batches for label in batch.to_pydict().get("label", [None] * batch.num_rows)]
            assert found == (LABELS if "label" in columns else [None] * 30)
            taken = list(rows.take(np.array([2, 29]), columns, 8))
            assert [number for numbers, _ in taken for number in numbers.tolist()] == [2, 29]
            if "label" in columns:
                assert [label for _, table in taken for label in table["label"].to_pylist()] == [2, 2]
    tell_unused_labels(find_inputs("in"))
    assert here.is_dir()


def test_a_table_that_lies_beside_images_without_class_folders_is_told_and_taken(invoke, here):
    flat = here / "flat"
    flat.mkdir()
    for i in range(6):
        (flat / f"{i}.png").write_bytes(png(i))
    csv("flat/metadata.csv", [f"{i}.png" for i in range(6)], header="file_name,label")
    done = invoke("index", "flat", "--out", "x.knn")
    assert (done.code, done.stderr.endswith("--labels flat/metadata.csv takes them\n")) == (1, True)
    assert invoke("index", "flat", "--labels", "flat/metadata.csv", "--out", "x.knn").code == 0
    assert stored("x.knn") == {f"{i}.png": i % 3 for i in range(6)}
