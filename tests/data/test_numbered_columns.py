"""Tables whose columns are all numbered, one of them the label's or the id's: R, NumPy and pandas write such."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.testset import read_test_set
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.sample import split_digits
from knnvote.indexer.folder.open import open_index

SPLIT = split_digits()
STORED, TESTS = slice(0, 300), slice(0, 60)


def columns(images, extra, names):
    """Pixels column by column under names, in which other columns lie at their own."""
    pixels = iter(images.reshape(len(images), 64).T)
    return pa.table({name: extra[name] if name in extra else next(pixels) for name in names})


def make(images, labels, names, label, other=None):
    extra = {} if labels is None else {label: labels}
    return columns(images, extra | ({} if other is None else {other: np.arange(len(images)) + 5000}), names)


NAMES = {
    "first of R": (["V1"], [f"V{i}" for i in range(1, 66)]),
    "first of NumPy": (["0"], [str(i) for i in range(65)]),
    "last": (["64"], [str(i) for i in range(65)]),
    "in the middle": (["x30"], [f"x{i}" for i in range(65)]),
    "far away": (["x1000"], [*(f"x{i}" for i in range(64)), "x1000"]),
    "beside an id": (["V66", "V1"], [f"V{i}" for i in range(1, 67)]),
}


@pytest.mark.parametrize(("name", "kind"), [*((name, np.int64) for name in NAMES), ("first of R", np.str_)])
def test_a_named_label_and_id_are_no_pixels_whatever_their_number(invoke, tmp_path, name, kind):
    (label, *ids), names = NAMES[name]
    for file, rows, split in (("train", STORED, "train"), ("test", TESTS, "test")):
        images, truth = getattr(SPLIT, f"{split}_images")[rows], getattr(SPLIT, f"{split}_labels")[rows].astype(kind)
        pq.write_table(make(images, truth, names, label, *ids), tmp_path / f"{file}.parquet")
        without = [name for name in names if name not in {label, *ids}]
        pq.write_table(make(images, None, without, label), tmp_path / f"{file}-unlabelled.parquet")
    assert invoke("index", "train.parquet", "--out", "x.knn").code == 1
    named = ["--label-column", label, *(["--id-column", *ids] if ids else [])]
    assert invoke("index", "train.parquet", "--out", "x.knn", *named).code == 0
    index = open_index(tmp_path / "x.knn")
    assert np.array_equal(index.vectors, SPLIT.train_images[STORED].reshape(-1, 64))
    tests = read_test_set(find_inputs(tmp_path / "test.parquet"), Classifier(index), ImageOptions(), None)
    assert tests.truth == SPLIT.test_labels[TESTS].astype(kind).tolist()
    assert np.array_equal(tests.xq, SPLIT.test_images[TESTS].reshape(-1, 64))
    for out, file in enumerate(("test.parquet", "test-unlabelled.parquet")):
        assert invoke("classify", "x.knn", file, "--out", f"{out}").code == 0
    with_label, without = (pq.read_table(path) for path in ("0/test.parquet", "1/test-unlabelled.parquet"))
    assert with_label["prediction"].equals(without["prediction"])
    assert label in with_label.column_names


def test_pixels_that_were_numbered_anew_without_the_label_are_still_all_of_them(invoke, tmp_path):
    """As R and pandas number what is left from their first number on."""
    table = make(SPLIT.train_images[STORED], SPLIT.train_labels[STORED], [f"V{i}" for i in range(1, 66)], "V1")
    pq.write_table(table, tmp_path / "train.parquet")
    anew = make(SPLIT.test_images[TESTS], None, [f"V{i}" for i in range(1, 65)], "V1")
    pq.write_table(anew, tmp_path / "new.parquet")
    guessed = invoke("index", "train.parquet", "--out", "x.knn")
    assert guessed.stderr.endswith(
        "name one with --label-column, or give labels in a file of their own with --labels\n"
    )
    assert invoke("index", "train.parquet", "--out", "x.knn", "--label-column", "V1").code == 0
    assert invoke("classify", "x.knn", "new.parquet", "--out", "o").code == 0
    assert invoke("show", "new.parquet", "--predictions", "o", "--out", "x.png").code == 0, "the job knows them too"
    predicted = pq.read_table("o/new.parquet")["prediction"].to_numpy()
    assert (predicted == SPLIT.test_labels[TESTS]).mean() > 0.9
