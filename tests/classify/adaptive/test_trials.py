"""Trials: each stored image asked with itself and its copies left out, as plain NumPy has it."""

import numpy as np
import pytest
from left_out import LeaveOneOut, squared_distances
from made_sets import build, clusters
from repeats import spread
from weightings import WEIGHTS

from knnvote.classify.adaptive.trials import ask, try_rungs
from knnvote.classify.vote import Rule, vote
from knnvote.indexer.rungs import Rung

FIRSTS = [Rung(1, 2, None), Rung(4, 3, None)]
OTHERS = [Rung(2, 2, 0.75), Rung(4, 8, 1.0), Rung(8, 4, 0.0)]


def assert_trials_are_numpys(index, x, y, rows, rule, *, groups=None, compare_confidence=True):
    plain = LeaveOneOut(index, x, y, rule, groups)
    queries = ask(index, rows, rule, None)
    assert np.array_equal(queries.rows, rows)  # each was asked once, in order
    exact = [plain.exact(row) for row in rows]
    assert queries.label.tolist() == [label for label, _ in exact]
    assert queries.confidence.tolist() == [confidence for _, confidence in exact]
    tried = try_rungs(queries, FIRSTS, OTHERS)
    compared = 0
    for rung, place in tried.place.items():
        for i, row in enumerate(rows):
            found = plain.rung(row, rung)
            if found is None or (rung in OTHERS and tried.sure[: len(FIRSTS), i].all()):
                continue
            is_sure, answer = found
            assert tried.sure[place, i] == is_sure, (rung, row)
            if is_sure:
                assert tried.right["label"][place, i] == (answer[0] == exact[i][0]), (rung, row)
                if compare_confidence:
                    expected = answer[0] == exact[i][0] and (answer[1] or 1.0) == exact[i][1]
                    assert tried.right["confidence"][place, i] == expected, (rung, row)
            compared += 1
    assert compared > len(rows)
    return tried


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    data = clusters("uint8", n=3000)
    return data, build(tmp_path_factory.mktemp("trials") / "x.knn", data.x, data.y)


@spread(("weights", WEIGHTS), ("k", [1, 5]))
def test_what_rungs_answer_to_an_image_left_out_is_what_numpy_finds(made, k, weights):
    data, index = made
    rows = np.random.default_rng(0).permutation(3000)[:60]
    tried = assert_trials_are_numpys(index, data.x, data.y, rows, Rule(k=k, weights=weights))
    assert 0 < tried.sure[0].mean() < 1
    assert 0 < tried.right["label"].mean() < 1


@pytest.fixture(scope="session")
def threefold(tmp_path_factory):
    """Each image stored three times, and labels that only its own copies share."""
    data = clusters("uint8", n=1000)
    x, y = np.repeat(data.x, 3, axis=0), np.repeat(np.arange(1000), 3)
    order = np.random.default_rng(1).permutation(3000)
    return x[order], y[order], build(tmp_path_factory.mktemp("trials") / "x.knn", x[order], y[order])


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.long)])
def test_an_image_stored_three_times_never_finds_its_copies(threefold, k):
    x, y, index = threefold
    rows = np.random.default_rng(2).permutation(3000)[:60]
    tried = assert_trials_are_numpys(index, x, y, rows, Rule(k=k))
    queries = ask(index, rows, Rule(k=k), None)
    assert not (queries.label == y[rows]).any()
    assert tried.sure[0].any() == (k == 1)  # two candidates can be copies of one other image, six cannot


@pytest.mark.parametrize("k", [1, 5])
def test_an_image_is_left_out_with_its_group_of_any_size(tmp_path, k):
    """Groups of one to three hundred images, each of which lies around a centre of its own."""
    data = clusters("uint8", n=2400)
    sizes = [300, 70, 64, 16, 5] + [1] * 45
    groups = np.random.default_rng(6).permutation(np.append(np.repeat(np.arange(50), sizes), np.arange(50, 1950)))
    x = np.where(np.isin(groups, np.arange(5))[:, None], data.x // 4 + data.x[groups] // 2, data.x).astype(np.uint8)
    index = build(tmp_path / "x.knn", x, data.y, groups=groups)
    rows = np.concatenate([np.flatnonzero(groups == group)[:8] for group in range(12)])
    tried = assert_trials_are_numpys(index, x, data.y, rows, Rule(k=k), groups=groups)
    assert 0 < tried.sure[0].mean() < 1


@pytest.mark.parametrize("k", [5, 12])
def test_an_image_with_many_copies_is_asked_with_and_without_them_and_one_with_very_many_with_them(tmp_path, k):
    """Nine copies of one image and a hundred of another, with labels of their own."""
    data = clusters("uint8", n=900)
    x = np.vstack([np.repeat(data.x[:1], 9, axis=0), np.repeat(data.x[1:2], 100, axis=0), data.x[2:]])
    y = np.concatenate([np.arange(9) % 2 + 20, np.arange(100) % 3 + 30, data.y[2:]])
    index = build(tmp_path / "x.knn", x, y)
    rule, rows = Rule(k=k), np.array([0, 3, 8, 40, 109, 600])
    queries = ask(index, rows, rule, None)
    asked = sorted(zip(queries.image.tolist(), queries.is_alone.tolist(), strict=True))
    nine, hundred = ((False, True), (True,))
    assert asked == [
        *((i, alone) for i in range(3) for alone in nine),
        *((3, a) for a in hundred),
        (4, False),
        (5, False),
    ]
    tried = try_rungs(queries, FIRSTS, OTHERS)
    D = squared_distances(x[queries.rows], x)
    for query, (row, is_alone) in enumerate(zip(queries.rows, queries.is_alone, strict=True)):
        others = np.delete(np.arange(len(x)), row if is_alone else np.flatnonzero(D[query] == 0))
        near = others[np.lexsort((others, D[query][others]))[:k]]
        codes, confidence = vote(index.class_codes[near][None], np.sqrt(D[query][near])[None], rule)
        assert queries.label[query] == codes[0]
        assert queries.confidence[query] == confidence[0]
        if is_alone and k == 5:  # copies are found by every rung, with the labels that they have
            assert tried.right["label"][:, query].all()


def test_every_image_stored_twice_agrees_no_more_often_than_each_stored_once(made, tmp_path):
    """Ten neighbours of two copies each vote as five do; a search that found its own copy would be surer and better."""
    data, single = made
    index = build(tmp_path / "x.knn", np.repeat(data.x, 2, axis=0), np.repeat(data.y, 2))
    rows = np.random.default_rng(3).permutation(3000)[:600]
    asked_once, asked_twice = ask(single, rows, Rule(k=5), None), ask(index, 2 * rows, Rule(k=10), None)
    assert np.array_equal(asked_twice.label, asked_once.label)
    assert np.array_equal(asked_twice.confidence, asked_once.confidence)
    once, twice = try_rungs(asked_once, FIRSTS, OTHERS), try_rungs(asked_twice, FIRSTS, OTHERS)
    for place in range(len(FIRSTS)):
        assert twice.sure[place].mean() == pytest.approx(once.sure[place].mean(), abs=0.1)
    for answers in ("label", "confidence"):
        last = once.place[OTHERS[-1]]
        assert twice.right[answers][last].mean() == pytest.approx(once.right[answers][last].mean(), abs=0.03)


def test_a_regression_is_right_within_its_tolerance_of_the_exact_mean(tmp_path):
    data = clusters("float32", n=2000)
    targets = data.y * 10.0 + data.x[:, 0] / 400
    index = build(tmp_path / "x.knn", data.x, targets, is_regression=True)
    rows = np.arange(0, 2000, 7)
    D = squared_distances(data.x[rows], data.x)
    D[np.arange(len(rows)), rows] = np.inf
    mean = targets[np.argsort(D, axis=1)[:, :5]].mean(axis=1)
    queries = ask(index, rows, Rule(), 1.0)
    assert np.allclose(queries.label, mean)
    tried = try_rungs(queries, [Rung(4, 2, None)], [Rung(64, 8, 0.0)])
    assert 0.1 < tried.sure[0].mean() < 1
    assert 0.7 < tried.right["label"][0][tried.sure[0]].mean() < 1
    assert tried.right["label"][1].mean() > 0.9
    assert tried.sure[1].all()
