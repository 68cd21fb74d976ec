"""One column of images, a Series or an Arrow array: taken in Python as the command takes such columns of files."""

import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import add_arrays

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def _of_objects(rows):
    found = np.empty(len(rows), object)
    found[:] = [*rows]
    return found


def _pandas(rows):
    return pytest.importorskip("pandas").Series([*rows], index=range(5, 5 + len(rows)))


COLUMNS = {
    "lists": lambda x: pa.array(x.tolist(), pa.list_(pa.float32())),
    "chunks": lambda x: pa.chunked_array([pa.array([*x[:3]]), pa.array([*x[3:]])]),
    "tensors": pa.FixedShapeTensorArray.from_numpy_ndarray,
    "arrays in an array": _of_objects,
    "pandas, arrays": _pandas,
    "pandas, lists": lambda x: _pandas(x.tolist()),
    "pandas, of several axes": lambda x: _pandas(x.reshape(-1, 2, 3)),
    "polars": lambda x: pytest.importorskip("polars").Series(x.tolist()),
}


@pytest.fixture
def index(tmp_path):
    index_arrays(X, Y, tmp_path / "x.knn")
    return open_index(tmp_path / "x.knn")


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_taken_as_its_array(index, tmp_path, name):
    column = COLUMNS[name](X)
    assert Classifier(index)(column).D[:, 0].tolist() == [0.0] * 40
    index_arrays(column, Y, tmp_path / "column.knn")
    assert np.array_equal(open_index(tmp_path / "column.knn").vectors, X)
    if name != "pandas, of several axes":  # which are no rows for scikit-learn
        assert KNNVoteClassifier(n_neighbors=1).fit(column, Y).predict(column).tolist() == Y.tolist()
    assert add_arrays(index.path, COLUMNS[name](X + 1), Y) == 40


def test_rows_of_a_column_that_are_no_image_are_bad_or_refused(index, tmp_path):
    column = pa.array([X[0], None, X[0][:5]])
    answer = Classifier(index)(column)
    assert answer.reason.tolist() == [None, "null vector", "5 values, expected 6"]
    with pytest.raises(KnnvoteError, match=r"^image 1 cannot be stored: null vector; leave it out$"):
        index_arrays(column, [0, 1, 0], tmp_path / "no.knn")
    with pytest.raises(KnnvoteError, match=r"^no image column"):
        Classifier(index)(pa.array(["a", "b"]))


def test_a_warning_shows_the_line_that_called(index):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        add_arrays(index.path, X, Y + 5, ids=np.arange(40))
        [*Classifier(index).stream([np.full((30, 6), 1e9)])]
    assert len(told) >= 2
    assert {warning.filename for warning in told} == {sys._getframe().f_code.co_filename}
