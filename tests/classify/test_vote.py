"""The vote: who wins, how surely, and when nobody does; scikit-learn's answer where that has only one."""

import functools
import operator

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from weightings import WEIGHTS, in_sklearn

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE, OK
from knnvote.classify.classifier import Classifier
from knnvote.classify.search.search import search
from knnvote.classify.vote import Rule, class_shares, mean_target, runner_up, vote
from knnvote.classify.weighting import read_weighting
from knnvote.data.errors import OptionError
from knnvote.data.sample import split_digits
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.names import TIES

# How many of the 450 test digits have their k-th and their next neighbour equally far, by k. Which of the two votes is
# a matter of order, for which scikit-learn has no rule (here it is the first row): they are left out of the comparison.
TIED_AT_K = {1: 4, 3: 9, 5: 10, 10: 13}
DIGITS = split_digits()
TRAIN = DIGITS.train_images.reshape(-1, 64)
QUERIES = DIGITS.test_images.reshape(-1, 64)


def one(codes, D, **rule):
    winner, confidence = vote(np.array([codes], np.int32), np.array([D], np.float64), Rule(k=len(D), **rule))
    return winner[0], confidence[0]


def test_the_majority_wins_with_its_share_as_confidence():
    assert one([2, 0, 2, 1, 2], [1, 2, 3, 4, 5]) == (2, 0.6)


def test_among_equal_votes_the_class_with_the_smaller_summed_distance_wins():
    codes, D = [0, 1, 1, 0, 2], [1, 2, 3, 5, 6]
    assert one(codes, D, ties="nearest") == (1, 0.4)
    assert one(codes, D, ties="first-class") == (0, 0.4)


def test_among_equal_votes_and_equal_distances_the_first_class_wins():
    assert one([3, 1, 1, 3], [1, 1, 2, 2], ties="nearest") == (1, 0.5)
    assert one([3, 1, 1, 3], [1, 1, 2, 2], ties="first-class") == (1, 0.5)


def test_a_class_with_fewer_votes_never_wins_a_tie_however_near():
    assert one([4, 2, 2, 1, 1], [0.1, 5, 5, 6, 6]) == (2, 0.4)


def test_weighted_by_distance_one_near_neighbour_outvotes_two_far_ones():
    codes, D = [1, 0, 0], [1, 4, 4]
    assert one(codes, D, weights="uniform") == (0, 2 / 3)
    assert one(codes, D, weights="distance") == (1, 1 / 1.5)


def test_ties_of_weighted_votes_follow_the_rule_too():
    codes, D = [1, 0, 0], [1, 2, 2]
    assert one(codes, D, weights="distance", ties="nearest") == (1, 0.5)
    assert one(codes, D, weights="distance", ties="first-class") == (0, 0.5)


def test_neighbours_at_distance_zero_outvote_all_others():
    assert one([2, 1, 1, 1], [0, 1e-9, 1e-9, 1e-9], weights="distance") == (2, 1.0)
    assert one([2, 1, 1, 1], [0, 0, 0, 1e-9], weights="distance") == (1, 2 / 3)
    assert one([2, 1, 0, 0], [0, 0, 1, 1], weights="distance", ties="nearest") == (1, 0.5)
    assert one([2, 1, 0, 0], [0, 0, 1, 1], weights="uniform") == (0, 0.5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_all_neighbours_at_distance_zero_have_one_vote_each(weights):
    assert one([1, 0, 1, 1], [0, 0, 0, 0], weights=weights) == (1, 0.75)


def test_distances_too_small_to_invert_still_give_shares():
    D = np.full((1, 5), 1e-320)
    codes = np.array([[1, 0, 1, 1, 0]], np.int32)
    winner, confidence = vote(codes, D, Rule(k=5, weights="distance"))
    assert (winner[0], confidence[0]) == (1, pytest.approx(0.6))
    assert class_shares(codes, D, 2, "distance")[0] == pytest.approx([0.4, 0.6])


def test_weights_are_one_each_or_the_inverse_of_distance():
    D = np.array([[0.5, 2.0, 4.0], [0.0, 0.0, 3.0]])
    assert read_weighting("uniform")(D).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert read_weighting("distance")(D).tolist() == [[2, 0.5, 0.25], [1, 1, 0]]


def test_a_unanimous_vote_has_confidence_one_exactly():
    D = np.sort(np.random.default_rng(0).uniform(0.1, 9, (500, 7)), axis=1)
    for weights in WEIGHTS:
        winner, confidence = vote(np.full((500, 7), 3, np.int32), D, Rule(k=7, weights=weights))
        assert (winner == 3).all()
        assert (confidence == 1).all()


def test_regression_averages_with_the_same_weights():
    targets = np.array([[1.0, 4.0], [1.0, 4.0]])
    D = np.array([[1.0, 2.0], [0.0, 5.0]])
    assert mean_target(targets, D, "uniform").tolist() == [2.5, 2.5]
    assert mean_target(targets, D, "distance").tolist() == [2.0, 1.0]


def test_no_queries_give_no_votes():
    winner, confidence = vote(np.empty((0, 5), np.int32), np.empty((0, 5)), Rule())
    assert winner.shape == confidence.shape == (0,)
    assert class_shares(np.empty((0, 5), np.int32), np.empty((0, 5)), 3, "distance").shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"k": 0}, "^k is 0"),
        ({"weights": "rank"}, "^weights is 'rank'"),
        ({"ties": "random"}, "^ties is 'random'"),
        ({"min_confidence": 1.5}, "^min_confidence is 1.5"),
        ({"min_confidence": float("nan")}, "^min_confidence is nan"),
        ({"max_distance": -1.0}, "^max_distance is -1"),
        ({"max_distance": float("nan")}, "^max_distance is nan"),
    ],
)
def test_a_rule_without_a_meaning_is_refused_by_name(options, named):
    with pytest.raises(OptionError, match=named):
        Rule(**options)


def slow_vote(codes, D, weights, ties):
    """One query, written out: the classes in order, each with its votes and summed distance."""
    if weights == "uniform":
        w = [1.0] * len(D)
    elif weights.startswith("softmax"):
        w = read_weighting(weights)(np.array([D]))[0].tolist()
    else:
        w = [float(distance == 0) for distance in D] if 0 in D else [1 / distance for distance in D]
    best = None
    for c in sorted(set(codes)):
        votes = added(w[j] for j in range(len(D)) if codes[j] == c)
        total = added(D[j] for j in range(len(D)) if codes[j] == c)
        if best is None or votes > best[1] or (votes == best[1] and ties == "nearest" and total < best[2]):
            best = (c, votes, total)
    return best[0], best[1] / added(w)


def added(values):
    """One after the other, each sum rounded: Python's own sum has kept more digits since 3.12."""
    return functools.reduce(operator.add, values, 0.0)


NEIGHBORS = st.integers(1, 12).flatmap(
    lambda k: st.tuples(
        st.lists(st.integers(0, 4), min_size=k, max_size=k),
        st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.0, 3.0, 7.5]), min_size=k, max_size=k).map(sorted),
    )
)


@settings(max_examples=100, deadline=None)
@given(neighbors=NEIGHBORS, weights=st.sampled_from([*WEIGHTS]), ties=st.sampled_from(TIES))
def test_every_vote_is_the_one_counted_by_hand_and_shares_sum_to_one(neighbors, weights, ties):
    codes, D = neighbors
    winner, confidence = one(codes, D, weights=weights, ties=ties)
    assert (winner, confidence) == slow_vote(codes, D, weights, ties)
    shares = class_shares(np.array([codes]), np.array([D]), 5, weights)[0]
    assert shares.sum() == pytest.approx(1)
    assert shares.max() == shares[winner] == confidence
    assert (shares[[c for c in range(5) if c not in codes]] == 0).all()


@settings(max_examples=50, deadline=None)
@given(neighbors=NEIGHBORS, weights=st.sampled_from([*WEIGHTS]), ties=st.sampled_from(TIES))
def test_the_second_is_the_class_that_wins_where_nobody_votes_for_the_first(neighbors, weights, ties):
    codes, D = neighbors
    rule = Rule(k=len(D), weights=weights, ties=ties)
    given_codes, given_D = np.array([codes], np.int32), np.array([D])
    (winner,), _ = vote(given_codes, given_D, rule)
    (second,), (share,) = runner_up(given_codes, given_D, rule, np.array([winner], np.int32))
    if set(codes) == {winner}:
        assert (second, share) == (-1, 0)
    else:
        others = sorted(set(codes) - {winner})
        shares = class_shares(given_codes, given_D, 5, weights)[0]
        best = [c for c in others if shares[c] == shares[others].max()]
        total = {c: added(D[j] for j in range(len(D)) if codes[j] == c) for c in best}
        expected = min(best, key=lambda c: (total[c], c)) if ties == "nearest" else best[0]
        assert (second, share) == (expected, shares[expected])


@pytest.fixture(scope="module")
def digits_classifier(exact_index):
    index = open_index(exact_index)
    return lambda **rule: Classifier(index, Rule(**rule))


@pytest.mark.parametrize("k", TIED_AT_K)
def test_digits_tied_at_the_k_th_place_are_as_few_as_stated(k):
    D, _ = brute_force.neighbors(QUERIES, TRAIN, k + 1, "l2")
    assert len(D) == 450
    assert (D[:, k - 1] == D[:, k]).sum() == TIED_AT_K[k]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("k", TIED_AT_K)
def test_labels_and_probabilities_are_those_of_scikit_learn(digits_classifier, k, weights):
    classifier = digits_classifier(k=k, weights=weights, ties="first-class")
    D, _ = search(classifier.index, QUERIES, k + 1)
    alike = D[:, k - 1] != D[:, k]
    assert (~alike).sum() == TIED_AT_K[k]
    answer = classifier.answer(QUERIES, {})
    reference = KNeighborsClassifier(k, weights=in_sklearn(weights), algorithm="brute").fit(
        TRAIN.astype(np.float64), DIGITS.train_labels
    )
    queries = QUERIES.astype(np.float64)
    assert np.array_equal(answer.prediction.to_numpy()[alike], reference.predict(queries)[alike])
    assert np.array_equal(answer.D, np.sort(reference.kneighbors(queries)[0], axis=1))
    expected = reference.predict_proba(queries)
    assert np.allclose(answer.probabilities()[alike], expected[alike], rtol=1e-12, atol=0)
    assert np.allclose(answer.confidence[alike], expected.max(axis=1)[alike], rtol=1e-12, atol=0)
    assert np.allclose(answer.probabilities().sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("k", TIED_AT_K)
def test_regression_is_that_of_scikit_learn(tmp_path, k, weights):
    targets = DIGITS.train_labels + np.linspace(0, 0.5, len(TRAIN))
    index_arrays(TRAIN, targets, tmp_path / "regression.knn", is_regression=True)
    classifier = Classifier.open(tmp_path / "regression.knn", Rule(k=k, weights=weights))
    D, _ = search(classifier.index, QUERIES, k + 1)
    alike = D[:, k - 1] != D[:, k]
    assert (~alike).sum() == TIED_AT_K[k]
    answer = classifier.answer(QUERIES, {})
    reference = KNeighborsRegressor(k, weights=in_sklearn(weights), algorithm="brute").fit(
        TRAIN.astype(np.float64), targets
    )
    expected = reference.predict(QUERIES.astype(np.float64))
    assert np.allclose(answer.prediction.to_numpy()[alike], expected[alike], rtol=1e-12, atol=0)
    assert np.isnan(answer.confidence).all()
    assert answer.best.equals(answer.prediction)
    assert answer.second.null_count == len(answer.margin) == np.isnan(answer.margin).sum()


def test_below_min_confidence_the_answer_is_null_and_at_it_a_label(digits_classifier):
    plain = digits_classifier().answer(QUERIES, {})
    answer = digits_classifier(min_confidence=0.8).answer(QUERIES, {})
    unsure = plain.confidence < 0.8
    assert 0 < unsure.sum() < 50
    assert (plain.confidence == 0.8).any()
    assert np.array_equal(answer.status == ABSTAINED, unsure)
    assert np.array_equal(answer.prediction.is_null().to_numpy(zero_copy_only=False), unsure)
    sure = np.flatnonzero(~unsure)
    assert answer.prediction.take(sure).equals(plain.prediction.take(sure))
    assert np.array_equal(answer.confidence, plain.confidence)
    assert answer.best.equals(plain.prediction)
    assert plain.second.null_count == (plain.confidence == 1).sum()
    assert np.array_equal(answer.second.is_null(), plain.margin == 1)
    shares = np.sort(plain.probabilities(), axis=1)
    assert np.array_equal(answer.margin, shares[:, -1] - shares[:, -2])
    assert set(answer.reason[unsure]) == {"confidence below 0.8"}
    assert set(answer.reason[~unsure]) == {None}


def test_farther_than_max_distance_the_answer_is_null_and_at_it_a_label(digits_classifier):
    plain = digits_classifier().answer(QUERIES, {})
    limit = float(np.sort(plain.D[:, 0])[400])
    answer = digits_classifier(max_distance=limit).answer(QUERIES, {})
    far = plain.D[:, 0] > limit
    assert 0 < far.sum() < 50
    assert np.array_equal(answer.status == ABSTAINED, far)
    assert np.array_equal(answer.prediction.is_null().to_numpy(zero_copy_only=False), far)
    assert all("farther than" in reason for reason in answer.reason[far])


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_bad_image_votes_for_nothing_and_changes_no_other_answer(digits_classifier, weights):
    classifier = digits_classifier(weights=weights, min_confidence=0.5, max_distance=100)
    plain = classifier.answer(QUERIES, {})
    bad = {0: "no image", 17: "NaN", 449: "no image"}
    answer = classifier.answer(QUERIES, bad)
    rows = list(bad)
    good = np.setdiff1d(np.arange(450), rows)
    assert answer.status[rows].tolist() == [BAD_IMAGE] * 3
    assert answer.reason[rows].tolist() == list(bad.values())
    assert answer.prediction.take(rows).null_count == 3
    assert (answer.I[rows] == -1).all()
    assert all(column.take(rows).null_count == 3 for column in (answer.best, answer.second))
    for values in (answer.D, answer.confidence, answer.margin, answer.probabilities()):
        assert np.isnan(values[rows]).all()
        assert not np.isnan(values[good]).any()
    assert answer.neighbors().take(rows).null_count == 3
    assert answer.prediction.take(good).equals(plain.prediction.take(good))
    assert answer.neighbors().take(good).equals(plain.neighbors().take(good))
    assert np.array_equal(answer.confidence[good], plain.confidence[good])
    assert np.array_equal(answer.D[good], plain.D[good])


def test_a_batch_of_nothing_but_bad_images_is_answered(digits_classifier):
    answer = digits_classifier().answer(np.zeros((3, 64), np.uint8), dict.fromkeys(range(3), "no image"))
    assert answer.prediction.null_count == 3
    assert set(answer.status) == {BAD_IMAGE}
    assert OK not in answer.status
