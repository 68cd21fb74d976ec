"""Indexes and comparisons of a part of the rows: the first ones of all files, or some drawn at random."""

import json

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.evaluation.compare import compare
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.inputs import find_inputs
from knnvote.data.reading import Part
from knnvote.data.sample import digits
from knnvote.indexer.build import IndexOptions, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import add_files, remove_ids
from knnvote.indexer.training import TrainingOptions

IMAGES, LABELS = (array[:120] for array in digits())
SIZES = (50, 0, 30, 40)
KINDS = {
    "bytes": lambda images: [image.astype(np.uint8).tobytes() for image in images],
    "PNG": lambda images: [imagecodecs.png_encode(image.astype(np.uint8)) for image in images],
    "floats": lambda images: (images.reshape(-1, 64) / 7).tolist(),
}
FILE = np.repeat(np.arange(4), SIZES)
IDS = [f"{file}.parquet#{row}" for file, size in enumerate(SIZES) for row in range(size)]


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    """Files of 50, 0, 30 and 40 rows. Tests only read them."""
    made = tmp_path_factory.mktemp("in")
    schema = pa.schema([pa.field("image", pa.array(KINDS[request.param](IMAGES)).type), pa.field("label", pa.int64())])
    for file in range(4):
        rows = np.flatnonzero(file == FILE)
        columns = [KINDS[request.param](IMAGES[rows]), LABELS[rows]]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
        table = pa.table(arrays, schema=schema)
        pq.write_table(table, made / f"{file}.parquet", row_group_size=20)
    return made


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The index of all of them."""
    path = tmp_path_factory.mktemp("whole") / "whole.knn"
    index_files(folder, path)
    return open_index(path)


def ids_of(path):
    return open_index(path).provenance("id")["id"].to_pylist()


def same_as_whole(path, whole, rows):
    part = open_index(path)
    return np.array_equal(part.vectors, whole.vectors[rows]) and part.labels.to_pylist() == LABELS[rows].tolist()


@pytest.mark.parametrize("limit", [1, 50, 51, 80, 119, 120, 500])
def test_a_limit_takes_the_first_rows_of_all_files(folder, whole, tmp_path, limit):
    index_files(folder, tmp_path / "x", training=TrainingOptions(limit=limit))
    rows = np.arange(min(limit, 120))
    assert ids_of(tmp_path / "x") == IDS[:limit]
    assert same_as_whole(tmp_path / "x", whole, rows)
    manifest = open_index(tmp_path / "x").manifest
    assert manifest.part == ({"limit": limit} if limit < 120 else {})
    if limit >= 120:
        assert manifest.fingerprint == whole.fingerprint
    assert [source.path for source in manifest.sources][:1] == ["0.parquet"]
    assert len(manifest.sources) == (4 if limit >= 120 else 1 + (limit > 50) + (limit > 80))


def test_a_sample_is_drawn_by_its_seed_and_keeps_the_order(folder, whole, tmp_path):
    drawn = {}
    for name, seed in {"x": 0, "again": 0, "other": 7}.items():
        training, options = TrainingOptions(sample=40), IndexOptions(seed=seed)
        index_files(folder, tmp_path / name, training=training, options=options)
        drawn[name] = [IDS.index(found) for found in ids_of(tmp_path / name)]
        assert same_as_whole(tmp_path / name, whole, drawn[name])
    assert drawn["x"] == drawn["again"] == sorted({*drawn["x"]})
    assert drawn["x"] != drawn["other"]
    assert len(drawn["x"]) == len(drawn["other"]) == 40
    assert open_index(tmp_path / "x").manifest.part == {"sample": 40}


def test_a_part_counts_rows_that_do_not_fit(tmp_path):
    images = [None if row == 3 else image.ravel().tolist() for row, image in enumerate(IMAGES)]
    pq.write_table(pa.table({"image": images, "label": LABELS}), tmp_path / "a.parquet")
    with pytest.raises(KnnvoteError, match=r"a\.parquet, row 3: null image"):
        index_files(tmp_path / "a.parquet", tmp_path / "x", training=TrainingOptions(limit=4))
    index_files(tmp_path / "a.parquet", tmp_path / "y", training=TrainingOptions(limit=10, skip_bad=True))
    found = open_index(tmp_path / "y").manifest
    assert (found.n, found.skipped, found.part) == (9, 1, {"limit": 10})


def test_rows_are_drawn_evenly():
    class Source:
        def count_rows(self):
            return 50

    counts = np.zeros(100)
    for seed in range(200):
        for file, rows in enumerate(Part(sample=10, seed=seed).of([Source(), Source()])):
            counts[50 * file + rows] += 1
    assert counts.sum() == 2000
    assert counts.min() > 3
    assert counts.max() < 45


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 3, "sample": 3}, "limit and sample both say how many rows to take: give one"),
        ({"limit": 0}, "limit is 0: give a number of rows"),
        ({"sample": 2.5}, "sample is 2.5: give a number of rows"),
    ],
)
def test_a_part_that_has_no_meaning_is_refused(tmp_path, digits_folder, options, message):
    with pytest.raises(OptionError, match=message):
        index_files(digits_folder / "train.parquet", tmp_path / "x", training=TrainingOptions(**options))
    assert not (tmp_path / "x").exists()


def test_an_index_of_a_part_stays_one_when_it_grows_and_takes_whole_files_alone(tmp_path, digits_folder):
    train, test = digits_folder / "train.parquet", digits_folder / "test.parquet"
    index_files(train, tmp_path / "x", training=TrainingOptions(limit=300))
    with pytest.raises(OptionError, match="limit and sample are of a new index: add whole files"):
        add_files(tmp_path / "x", test, training=TrainingOptions(sample=7))
    assert add_files(tmp_path / "x", test) == 450
    assert remove_ids(tmp_path / "x", "train.parquet#0") == 1
    manifest = open_index(tmp_path / "x").manifest
    assert (manifest.n, manifest.part) == (749, {"limit": 300})


def test_the_commands_take_a_part_and_inspect_says_so(invoke, digits_folder, exact_index):
    made = invoke("index", digits_folder / "train.parquet", "--out", "x.knn", "--sample", "200", "--seed", "3")
    assert made.stderr.startswith("x.knn: 200 images of 8 x 8")
    shown = invoke("inspect", "x.knn")
    assert "part         200 rows, by --sample" in shown.stdout
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["part"] == {"sample": 200}
    assert "part  " not in invoke("inspect", exact_index).stdout
    test = digits_folder / "test.parquet"
    few = json.loads(invoke("compare", test, "--index", "x.knn", "--limit", "30", "--json").stdout)
    assert few["queries"] == 30
    both = invoke("compare", test, "--index", "x.knn", "--limit", "30", "--sample", "3")
    assert (both.code, both.stderr) == (
        2,
        "error: --limit and --sample both say how many rows to take: give one\n",
    )


def test_a_comparison_of_a_sample_is_that_of_its_rows(tmp_path, digits_folder, exact_index):
    test = digits_folder / "test.parquet"
    (rows,) = Part(sample=60).of(find_inputs(test))
    pq.write_table(pq.read_table(test).take(rows), tmp_path / "drawn.parquet")
    index = open_index(exact_index)
    of_sample, of_file = compare(test, index, sample=60), compare(tmp_path / "drawn.parquet", index)
    assert (of_sample.queries, of_sample.indexes[0].accuracy) == (60, of_file.indexes[0].accuracy)
    assert compare(test, index, limit=450).queries == compare(test, index).queries == 450
