"""Leaving one out: every image once, in blocks of any size, with brute force's neighbours among the others."""

import brute_force
import numpy as np
import pytest

from knnvote.classify.search.left_out import BLOCK, check_left_out, leave_out, neighbors_left_out
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

X = np.random.default_rng(0).integers(1, 4, (40, 3), np.uint8)  # 27 vectors: most have copies


@pytest.fixture(params=["exact", "adaptive"])
def index(request, tmp_path):
    index_arrays(X, np.arange(40) % 3, tmp_path / "i.knn", options=IndexOptions(kind=request.param))
    return open_index(tmp_path / "i.knn")


def plain_neighbors(k):
    D, I = brute_force.neighbors(X, X, len(X), "l2")
    others = np.arange(len(X))[:, None] != I
    return D[others].reshape(len(X), -1)[:, :k], I[others].reshape(len(X), -1)[:, :k]


@pytest.mark.parametrize("block", [None, 1, 7, 40, 10_000])
@pytest.mark.parametrize("rows", [None, np.array([0, 3, 39, 11])])
def test_every_image_asked_for_is_left_out_once_in_blocks_of_any_size(index, block, rows):
    told = []
    parts = list(leave_out(index, 6, rows=rows, block=block, promise="exact", progress=told.append))
    asked = np.arange(40) if rows is None else rows
    assert told == [len(part.rows) for part in parts]
    assert max(told) <= (block or BLOCK)
    found, D, I = (np.concatenate(values) for values in zip(*parts, strict=True))
    expected_D, expected_I = plain_neighbors(6)
    assert np.array_equal(found, asked)
    assert np.array_equal(D, expected_D[asked])
    assert np.array_equal(I, expected_I[asked])


def test_copies_are_counted_where_they_are_among_the_neighbours(index):
    has_copy = (X[:, None] == X).all(axis=2).sum(axis=1) > 1
    assert 10 < has_copy.sum() < 40
    assert sum(part.count_copies(index) for part in leave_out(index, 5, block=7, promise="exact")) == has_copy.sum()


def test_progress_is_told_after_the_block_was_worked_on(index):
    told = []
    for number, _ in enumerate(leave_out(index, 1, block=10, progress=told.append)):
        assert len(told) == number


def test_an_image_with_more_copies_than_neighbours_has_others_than_itself(tmp_path):
    index_arrays(np.ones((9, 2), np.uint8), np.arange(9) % 3, tmp_path / "i.knn")
    D, I = neighbors_left_out(open_index(tmp_path / "i.knn"), np.arange(9), 3)
    assert not D.any()
    assert (np.arange(9)[:, None] != I).all()


def test_neighbours_are_at_most_all_the_others(index, tmp_path):
    assert check_left_out(index, "max_k", None, 30) == 30
    assert check_left_out(index, "max_k", None, 50) == 39
    assert check_left_out(index, "max_k", 39, 30) == 39
    for k in (0, 40, -3):
        with pytest.raises(OptionError, match=rf"max_k is {k}, .* there are 39 neighbours: give max_k from 1 to 39"):
            check_left_out(index, "max_k", k, 30)
    index_arrays(X[:1], [0], tmp_path / "one.knn")
    with pytest.raises(KnnvoteError, match=r"one\.knn holds one image, and leaving it out leaves no neighbour"):
        check_left_out(open_index(tmp_path / "one.knn"), "k", None, 20)
