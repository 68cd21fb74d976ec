"""Leaving one out: every image once, in blocks of any size, with brute force's neighbours among the others."""

from dataclasses import replace

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.search import left_out
from knnvote.classify.search.distance_limit import distance_limit
from knnvote.classify.search.left_out import BLOCK, check_left_out, leave_out, most_left, neighbors_left_out
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.groups.record import Groups

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


def plain_of_other_groups(x, groups, k, metric="l2"):
    """Brute force, with the own group of each masked."""
    D, I = brute_force.neighbors(x, x, len(x), metric)
    found = [np.flatnonzero(groups[I[row]] != groups[row])[:k] for row in range(len(x))]
    return tuple(np.take_along_axis(array, np.array(found), axis=1) for array in (D, I))


SIZES = {
    "alone": [1] * 60,
    "a few": [5] * 12,
    "one of half, smaller than that": [30, 1, 2, 3, 24],
    "larger than what is searched first": [45, 5, 5, 5],
    "two": [40, 20],
}


@pytest.mark.parametrize("metric", ["l2", "cosine", "l1"])
@pytest.mark.parametrize("sizes", SIZES)
def test_neighbours_are_brute_forces_of_other_groups(tmp_path, monkeypatch, sizes, metric):
    """Images of a group lie nearest to each other: all of it has to be found before one of another is."""
    monkeypatch.setattr(left_out, "_GROUP_ROOM", 2)
    rng = np.random.default_rng(1)
    groups = rng.permutation(np.repeat(np.arange(len(SIZES[sizes])), SIZES[sizes]))
    x = (rng.integers(1, 200, (len(SIZES[sizes]), 4))[groups] + rng.integers(0, 4, (60, 4))).astype(np.uint8)
    index_arrays(x, np.arange(60) % 3, tmp_path / "i.knn", groups=groups, options=IndexOptions(metric=metric))
    index = open_index(tmp_path / "i.knn")
    assert most_left(index) == 60 - max(SIZES[sizes])
    for k in {1, 7, most_left(index)}:
        if k <= most_left(index):
            D, I = neighbors_left_out(index, np.arange(60), k)
            expected_D, expected_I = plain_of_other_groups(x, groups, k, metric)
            assert np.array_equal(I, expected_I)
            assert np.array_equal(D, expected_D)


@pytest.mark.filterwarnings("ignore:.*images of.* one group")
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(3, 60), groups=st.integers(2, 12), values=st.integers(2, 200))
def test_so_they_are_of_any_images_in_any_blocks(tmp_path_factory, seed, n, groups, values):
    rng = np.random.default_rng(seed)
    x, of = rng.integers(0, values, (n, 3)).astype(np.float32), np.append([0, 1], rng.integers(0, groups, n - 2))
    path = tmp_path_factory.mktemp("any") / "i.knn"
    index_arrays(x, np.arange(n) % 2, path, groups=of)
    index = open_index(path)
    k = int(rng.integers(1, most_left(index) + 1))
    expected = plain_of_other_groups(x, of, k)
    parts = list(leave_out(index, k, block=int(rng.integers(1, n + 1))))
    assert np.array_equal(np.concatenate([part.D for part in parts]), expected[0])
    assert np.array_equal(np.concatenate([part.I for part in parts]), expected[1])
    alone = neighbors_left_out(index, np.arange(n), 1, by_group=False)
    assert np.array_equal(alone[1], plain_of_other_groups(x, np.arange(n), 1)[1])


@pytest.mark.parametrize("kind", ["adaptive", "hnsw"])
def test_approximate_indexes_find_none_of_the_own_group_either(tmp_path, kind):
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(20), 15)
    x = (rng.integers(1, 200, (20, 16))[groups] + rng.integers(0, 4, (300, 16))).astype(np.uint8)
    index_arrays(x, groups % 3, tmp_path / "i.knn", groups=groups, options=IndexOptions(kind=kind))
    index = open_index(tmp_path / "i.knn")
    D, I = neighbors_left_out(index, np.arange(300), 5)
    assert (groups[I] != groups[:, None]).all()
    assert (np.diff(D, axis=1) >= 0).all()
    assert np.array_equal(
        neighbors_left_out(index, np.arange(300), 5, "exact")[1], plain_of_other_groups(x, groups, 5)[1]
    )


@pytest.fixture
def films(tmp_path):
    """Thirty films of six frames that are nearly the same, and labels drawn at random for each film."""
    rng = np.random.default_rng(3)
    film = np.repeat(np.arange(30), 6)
    x = (rng.integers(20, 220, (30, 25))[film] + rng.integers(0, 3, (180, 25))).astype(np.uint8)
    y = rng.integers(0, 2, 30)[film]
    index_arrays(x, y, tmp_path / "alone.knn")
    index_arrays(x, y, tmp_path / "films.knn", groups=film)
    return open_index(tmp_path / "alone.knn"), open_index(tmp_path / "films.knn")


def test_whatever_leaves_images_out_leaves_out_their_groups(films):
    """Labels are at random, so that other films tell nothing; and frames of its own film tell all."""
    alone, by_film = films
    rule = Rule(k=3)
    accuracies = [choose_k(index, max_k=3).best.value for index in films]
    assert accuracies[0] == 1
    assert accuracies[1] < 0.75
    assert [choose_threshold(index, rule).steps[0].accuracy.value == 1 for index in films] == [True, False]
    assert [find_suspects(index, k=3).losing_the_vote > 30 for index in films] == [False, True]
    limits = [distance_limit(index, rule, false_alarms=0.05).limit for index in films]
    assert limits[1] > 10 * limits[0]
    tuned = [Tuning(k=3, target_accuracy=0.9)(index).vote.acceptance.accuracy.value for index in (alone,)]
    assert tuned == [1]
    with pytest.warns(UserWarning, match="target_accuracy.*0.9 is not reached"):
        assert Tuning(k=3, target_accuracy=0.9)(by_film).vote.acceptance.min_confidence is None


def test_more_neighbours_than_the_largest_group_leaves_are_refused(tmp_path):
    index_arrays(X, np.arange(40) % 3, tmp_path / "i.knn", groups=np.minimum(np.arange(40), 30))
    index = open_index(tmp_path / "i.knn")
    assert check_left_out(index, "max_k", None, 50) == 30
    words = r"max_k is 31, and with the largest group, 10 of the 40 images of .*, left out there are 30 neighbours"
    with pytest.raises(OptionError, match=words):
        check_left_out(index, "max_k", 31, 30)
    with pytest.raises(OptionError, match=r"k is 31, and with the largest group, 10 of .*: give test images"):
        choose_threshold(index, Rule(k=31))
    assert choose_k(index, max_k=30).groups == 31


def test_classes_of_one_group_are_told_where_they_lose_for_it(tmp_path):
    rng = np.random.default_rng(4)
    y = np.repeat(np.arange(3), 20)
    x = (rng.integers(20, 220, (3, 25))[y] + rng.integers(0, 9, (60, 25))).astype(np.uint8)
    with pytest.warns(UserWarning, match="all images of class 2 are of one group"):
        index_arrays(x, y, tmp_path / "i.knn", groups=np.where(y == 2, 99, np.arange(60) % 5))
    index = open_index(tmp_path / "i.knn")
    words = (
        "all images of class 2 are of one group: with that left out no other has their label, and they count as wrong"
    )
    assert words in choose_k(index).notes
    assert words in find_suspects(index, k=3).told()
    assert choose_threshold(index, Rule(k=3)).of_one_group == words


def test_an_index_of_one_group_tells_why_nothing_is_left(films):
    index = films[1]
    one = replace(index, manifest=replace(index.manifest, groups=Groups(column="film", count=1, largest=180)))
    for ask in (choose_k, find_suspects, lambda index: distance_limit(index, Rule())):
        with pytest.raises(KnnvoteError, match=r"all 180 images of .* are of one group, and leaving it out leaves no"):
            ask(one)
