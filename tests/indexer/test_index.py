"""An index as an object: what it is pickled as, and what it is before it is written."""

import copy
import pickle
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.search.search import search
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.arrays.labelled import training_set_from_arrays
from knnvote.indexer.build import IndexOptions, build_in_memory, index_arrays
from knnvote.indexer.folder.open import open_index

X = np.random.default_rng(0).integers(0, 256, size=(300, 50), dtype=np.uint8)
Y = np.arange(300) % 3


@pytest.fixture
def folder(tmp_path):
    index_arrays(X, Y, tmp_path / "x.knn")
    return tmp_path / "x.knn"


def test_an_opened_index_is_pickled_as_its_address_and_opened_again(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(open_index("x.knn"))
    assert len(pickled) < 1000
    monkeypatch.chdir("/")  # the address holds from anywhere
    again = pickle.loads(pickled)  # noqa: S301  # our own bytes
    assert again.fingerprint == open_index(folder).fingerprint
    for found, expected in zip(search(again, X[:9], 5), search(open_index(folder), X[:9], 5), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_index_that_was_written_anew_since_it_was_pickled_is_refused(folder):
    pickled = pickle.dumps(open_index(folder))
    index_arrays(X[:200], Y[:200], folder, options=IndexOptions(overwrite=True))
    with pytest.raises(KnnvoteError, match=r"x.knn was written anew since: open it again with open_index\('"):
        pickle.loads(pickled)  # noqa: S301  # our own bytes


def test_an_index_that_was_written_anew_from_the_same_images_is_the_same_to_who_unpickles_it(folder):
    pickled = pickle.dumps(open_index(folder))
    index_arrays(X, Y, folder, options=IndexOptions(overwrite=True))
    assert pickle.loads(pickled).manifest.generation == 2  # noqa: S301  # our own bytes


def test_a_classifier_and_its_answer_are_pickled_and_copied_with_the_index_even_if_that_is_gone(folder):
    classify = Classifier.open(folder, Rule(k=3))
    answer = classify(X[:9])
    expected = answer.to_table(neighbors=True)
    for found in pickle.loads(pickle.dumps([classify(X[:9]), pickle.loads(pickle.dumps(classify))(X[:9])])):  # noqa: S301
        assert found.to_table(neighbors=True).equals(expected)
    shutil.rmtree(folder)
    for again in (copy.copy, copy.deepcopy):
        assert again(answer).to_table(neighbors=True).equals(expected)
        assert again(classify)(X[:9]).to_table(neighbors=True).equals(expected)
    with pytest.raises(KnnvoteError, match=r"x.knn does not exist"):
        pickle.loads(pickle.dumps(classify))  # noqa: S301  # our own bytes


def test_an_index_in_memory_is_pickled_whole_and_has_no_fingerprint_yet():
    examples = training_set_from_arrays(X, Y)
    index, _ = build_in_memory(examples, Path("mine"), IndexOptions(), None, start=time.perf_counter())
    again = pickle.loads(pickle.dumps(index))  # noqa: S301  # our own bytes
    assert again.ids.to_pylist() == index.ids.to_pylist()
    for found, expected in zip(search(again, X[:9], 5), search(index, X[:9], 5), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(KnnvoteError, match="mine is in memory alone: write it to a folder first"):
        _ = index.fingerprint


def test_a_vector_is_shown_as_the_picture_it_is_where_it_is_one(folder):
    index = open_index(folder)
    assert index.shape == (50,)
    assert index.picture(3) is None
    np.testing.assert_array_equal(index.picture(3, (5, 10)), X[3].reshape(5, 10))
    examples = training_set_from_arrays(X.reshape(300, 5, 10), Y)
    pictures, _ = build_in_memory(examples, Path("mine"), IndexOptions(), None, start=time.perf_counter())
    np.testing.assert_array_equal(pictures.picture(3), X[3].reshape(5, 10))
    assert (index.has_pictures, pictures.has_pictures) == (False, True)


def test_an_index_tells_of_its_images_and_of_the_steps_that_make_vectors_of_them(tmp_path):
    index_arrays(X[:30].reshape(30, 5, 10), Y[:30], tmp_path / "s.knn", steps=("centred", "unit"))
    told = repr(open_index(tmp_path / "s.knn"))
    assert told.endswith("s.knn: 30 images of 5 x 10, uint8, steps centred unit, 3 classes, exact search by l2>")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what it was advised of a file's memory")
def test_the_system_is_told_that_vectors_beside_codes_are_read_at_random(tmp_path):
    x = np.random.default_rng(1).integers(0, 256, size=(3000, 50), dtype=np.uint8)
    index_arrays(x, np.arange(len(x)) % 3, tmp_path / "y.knn")
    index = open_index(tmp_path / "y.knn")
    assert index.inverted_file is not None
    vectors = f"{index.path}/{index.manifest.files['vectors'].name}"
    mapped = Path("/proc/self/smaps").read_text().split(vectors)[1]
    flags = next(line for line in mapped.splitlines() if line.startswith("VmFlags"))
    assert " rr " in flags
