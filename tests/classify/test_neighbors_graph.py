"""The graph of neighbours, beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor

X, Y = load_digits(return_X_y=True)
PAIRS = [(KNNVoteClassifier, KNeighborsClassifier), (KNNVoteRegressor, KNeighborsRegressor)]


def without_ties(x, xq, k):
    D, _ = KNeighborsClassifier(algorithm="brute").fit(x, np.zeros(len(x))).kneighbors(xq, k + 1)
    return xq[(np.diff(D, axis=1) > 1e-9).all(axis=1)]


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
@pytest.mark.parametrize("k", [None, 1, 3])
def test_it_is_that_of_scikit_learn(mine, theirs, mode, k):
    x, xq = X[:800], without_ties(X[:800], X[800:1000], 5)
    assert len(xq) > 100
    found, expected = (
        made.fit(x, Y[:800]).kneighbors_graph(xq, k, mode) for made in (mine(), theirs(algorithm="brute"))
    )
    assert type(found) is type(expected)
    assert (found.shape, found.dtype, found.format) == (expected.shape, expected.dtype, expected.format)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-9)


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
def test_stored_rows_are_no_neighbours_of_themselves(mode):
    x, y = load_iris(return_X_y=True)
    found, expected = (
        made.fit(x, y).kneighbors_graph(mode=mode) for made in (KNNVoteClassifier(3), KNeighborsClassifier(3))
    )
    assert found.shape == expected.shape == (150, 150)
    assert found.diagonal().max() == 0
    np.testing.assert_allclose(np.sort(found.data), np.sort(expected.data), rtol=1e-9, atol=1e-12)
    assert (np.diff(found.indptr) == 3).all()


def test_another_mode_is_refused_in_words_and_an_unfitted_one_as_elsewhere():
    with pytest.raises(ValueError, match=r"^mode is 'ones': give one of connectivity, distance$"):
        KNNVoteClassifier().fit(X, Y).kneighbors_graph(X[:2], mode="ones")
    with pytest.raises(NotFittedError):
        KNNVoteClassifier().kneighbors_graph(X[:2])
