"""What people type wrong in Python: each is refused in Python's words before any work, and nothing is written."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import knnvote
from knnvote import Classifier, ImageOptions, IndexOptions, JobOptions, OutputOptions, Rule, TrainingOptions, Tuning

X, Y = (array[:60] for array in load_digits(return_X_y=True))
FILE = "digits/test.parquet"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes") / "x.knn"
    knnvote.index_arrays(X.reshape(-1, 8, 8).astype(np.uint8), Y, folder)
    return knnvote.open_index(folder)


WHOLE = "give a whole number"
MISTAKES = {
    # How many, and which
    "k is text": (lambda _: Rule(k="5"), f"k is '5': {WHOLE} of at least 1"),
    "k is a fraction": (lambda _: Rule(k=5.0), f"k is 5.0: {WHOLE} of at least 1"),
    "k is of an array": (lambda _: Rule(k=np.array([5])), f"k is array([5]): {WHOLE} of at least 1"),
    "k of tuning": (lambda _: Tuning(k="5"), f"k is '5': {WHOLE} of at least 1"),
    "weights": (lambda _: Rule(weights="inverse"), "weights is 'inverse': give one of uniform, distance, softmax[T]"),
    "confidence": (
        lambda _: Rule(min_confidence="0.5"),
        "min_confidence is '0.5': give a share of the vote from 0 to 1",
    ),
    "max_k": (lambda index: knnvote.choose_k(index, max_k="8"), f"max_k is '8': {WHOLE} from 1 to 59"),
    "k of suspects": (lambda index: knnvote.find_suspects(index, k=2.5), f"k is 2.5: {WHOLE} from 1 to 59"),
    "share": (
        lambda index: knnvote.distance_limit(index, Rule(), false_alarms="0.01"),
        "false_alarms is '0.01': give a share of images",
    ),
    "threads": (lambda index: knnvote.choose_k(index, threads="2"), f"threads is '2': {WHOLE} of at least 1, or None"),
    "threads of scikit-learn": (lambda _: IndexOptions(threads=-1), f"threads is -1: {WHOLE} of at least 1, or None"),
    "threads of a job": (
        lambda index: knnvote.run_job(Classifier(index), FILE, "out", threads=0),
        f"threads is 0: {WHOLE} of at least 1, or None",
    ),
    "batch_size": (
        lambda index: knnvote.run_job(Classifier(index), FILE, "out", batch_size="64"),
        f"batch_size is '64': {WHOLE} of at least 1",
    ),
    # One thing for another
    "a number for a rule": (lambda index: Classifier(index, 5), "rule is 5: give Rule(...), or leave it out"),
    "a target for a rule": (lambda index: knnvote.choose_threshold(index, 0.99), "rule is 0.99: give Rule(...)"),
    "a dict for a rule": (lambda index: knnvote.distance_limit(index, {"k": 3}), "rule is {'k': 3}: give Rule(...)"),
    "a rule of a comparison": (lambda index: knnvote.compare(FILE, index, 3), "rule is 3: give Rule(...)"),
    "a dict of options": (
        lambda _: knnvote.index_arrays(X, Y, "new.knn", options={"metric": "l1"}),
        "options is {'metric': 'l1'}: give IndexOptions(...), or leave it out",
    ),
    "other options": (
        lambda index: knnvote.run_job(Classifier(index), FILE, "out", OutputOptions()),
        "options is OutputOptions(neighbors=False, ",
    ),
    "a dict of outputs": (
        lambda _: JobOptions(output={"neighbors": True}),
        "output is {'neighbors': True}: give OutputOptions(...)",
    ),
    "a shape for images": (lambda _: TrainingOptions(images=(8, 8)), "images is (8, 8): give ImageOptions(...)"),
    "images for training": (
        lambda _: knnvote.index_files(FILE, "new.knn", training=ImageOptions()),
        "training is ImageOptions(image_column=None, ",
    ),
    "text to keep": (
        lambda _: OutputOptions(keep="label"),
        "keep is 'label': give names of columns, as keep=('label',)",
    ),
    "a class to tune": (
        lambda _: knnvote.index_arrays(X, Y, "new.knn", tune=Tuning),
        "tune is <class 'knnvote.classify.adaptive.tune.Tuning'>: give what is called with the index, as Tuning(k=3)",
    ),
    # Paths, arrays and labels
    "no path": (lambda _: knnvote.index_arrays(X, Y, None), "type NoneType is no path: give a text or a pathlib.Path"),
    "arguments in another order": (
        lambda _: knnvote.index_arrays("new.knn", X, Y),
        "type ndarray is no path: give a text or a pathlib.Path",
    ),
    "a number for a path": (lambda _: knnvote.open_index(5), "type int is no path: give a text or a pathlib.Path"),
    "arrays for files": (
        lambda index: knnvote.run_job(Classifier(index), X, "out"),
        "type ndarray is no path: give a text or a pathlib.Path",
    ),
    "files for arrays": (
        lambda _: knnvote.index_arrays(FILE, Y, "new.knn"),
        f"images is '{FILE}': give an array; files are for index_files and run_job",
    ),
    "labels of wrong length": (
        lambda _: knnvote.index_arrays(X, Y[:5], "new.knn"),
        "images of shape (60, 64) and 5 labels: expected (n, ...) with one label for each of n images, n at least 1",
    ),
    "no labels": (lambda _: knnvote.index_arrays(X, None, "new.knn"), "labels is None: give one label for each image"),
    "labels of two axes": (
        lambda _: knnvote.index_arrays(X, Y[:, None], "new.knn"),
        "labels cannot be used (only handle 1-dimensional arrays): give one integer, string or boolean an image",
    ),
    "labels of two kinds": (lambda _: knnvote.index_arrays(X, [1, "a"] * 30, "new.knn"), "labels cannot be used ("),
    "fractions as labels": (
        lambda _: knnvote.index_arrays(X, Y / 3, "new.knn"),
        "labels of type double are numbers to be averaged: pass is_regression=True, or give integers, strings or",
    ),
    "missing labels": (
        lambda _: knnvote.index_arrays(X, [None, *Y[1:]], "new.knn"),
        "1 labels are missing: leave those images out",
    ),
    "one axis": (
        lambda _: knnvote.index_arrays(X[0], Y, "new.knn"),
        "images of shape (64,) and 60 labels: expected (n, ...)",
    ),
    "NaN": (
        lambda _: knnvote.index_arrays(np.where(np.arange(60)[:, None] == 3, np.nan, X), Y, "new.knn"),
        "image 3 cannot be stored: not finite; leave it out",
    ),
    "a query of one axis": (
        lambda index: Classifier(index)(X[0, :5]),
        "images have shape (5,): give (n, ...) images of (8, 8)",
    ),
    "a query of another shape": (
        lambda index: Classifier(index)(np.zeros((2, 7, 7))),
        "images are 7 x 7, the index stores 8 x 8: they need an index of images of their shape",
    ),
    "rows of unlike length": (
        lambda index: Classifier(index)([[1.0, 2.0], [3.0]]),
        "images of type list cannot be read as an array (",
    ),
    "a file for a query": (
        lambda index: Classifier(index)(Path(FILE)),
        f"images is '{FILE}': give an array; files are for index_files and run_job",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_refused_in_the_words_of_python(index, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, told = MISTAKES[name]
    with pytest.raises(knnvote.KnnvoteError) as refused:
        call(index)
    assert str(refused.value).startswith(told)
    assert "--" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_the_instance_where_the_class_is_asked_for_is_told(tmp_path):
    adaptive = IndexOptions(kind="adaptive")
    knnvote.index_arrays(X, Y, tmp_path / "x.knn", options=adaptive, tune=Tuning(k=1))
    with pytest.raises(
        knnvote.OptionError, match=r"^tuning is Tuning\(k=5, .*give the class itself, .*=knnvote\.Tuning$"
    ):
        knnvote.add_arrays(tmp_path / "x.knn", X, Y, tuning=Tuning())
    assert knnvote.add_arrays(tmp_path / "x.knn", X, Y, tuning=Tuning) == 60


def test_single_images_that_are_none_are_answered_so_and_no_mistake(index):
    answer = Classifier(index)([[np.nan] * 64, [0.5] * 64, X[0].tolist()])
    assert answer.status.tolist() == ["bad_image", "bad_image", "ok"]
    assert answer.reason[0] == "value 0 is NaN"
    assert answer.reason[1].startswith("value 0.5 is not a whole number from 0 to 255, as the index stores")
