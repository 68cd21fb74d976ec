"""Weights that are a function of distances, or None: as scikit-learn takes them; what cannot be promised for one."""

import pickle

import numpy as np
import pytest
from made_sets import clusters, with_rungs
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from weightings import WEIGHTS

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.job.run import run_job
from knnvote.classify.search.search import search, why_no_promise
from knnvote.classify.vote import Rule
from knnvote.classify.weighting import read_weighting
from knnvote.data.errors import OptionError
from knnvote.data.sample import split_digits
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.rungs import Rung

METRICS = ("cosine", "l1", "l2")


def by_square(D):
    return 1 / (1 + D**2)


def to_the_farthest(D):
    return 1.01 * D[:, -1:] - D + 1e-3


def as_a_list(D):
    return np.exp(-D).tolist()


FUNCTIONS = (by_square, to_the_farthest, as_a_list)


def parts(load):
    """Rows to store and to ask, the latter without those that have neighbours at equal distances."""
    X, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    stored, asked = order[::2][:500], order[1::2][:200]
    D, _ = KNeighborsClassifier(algorithm="brute").fit(X[stored], y[stored]).kneighbors(X[asked], 6)
    return X[stored], y[stored], X[asked][(np.diff(D, axis=1) > 1e-9).all(axis=1)]


@pytest.fixture(scope="module")
def classify(exact_index):
    return Classifier.open(exact_index, Rule(weights=by_square))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("load", [load_digits, load_iris])
def test_answers_are_those_of_scikit_learn(load, function):
    x, y, xq = parts(load)
    assert len(xq) > 30
    theirs = KNeighborsClassifier(5, weights=lambda D: np.asarray(function(D)), algorithm="brute").fit(x, y)
    mine = KNNVoteClassifier(5, weights=function).fit(x, y)
    np.testing.assert_array_equal(mine.predict(xq), theirs.predict(xq))
    np.testing.assert_allclose(mine.predict_proba(xq), theirs.predict_proba(xq), rtol=1e-6, atol=1e-9)
    means = KNeighborsRegressor(5, weights=lambda D: np.asarray(function(D)), algorithm="brute").fit(x, x[:, 2])
    found = KNNVoteRegressor(5, weights=function).fit(x, x[:, 2])
    np.testing.assert_allclose(found.predict(xq), means.predict(xq), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("weights", "metric"), [*zip(WEIGHTS, METRICS, strict=True)])
def test_a_function_that_weighs_as_a_name_does_gives_the_same_bits(tmp_path, weights, metric):
    data = clusters("float32", n=200)
    index_arrays(data.x, data.y, tmp_path / "x.knn", options=IndexOptions(metric=metric))
    index = open_index(tmp_path / "x.knn")
    named, called = (Classifier(index, Rule(weights=one))(data.xq) for one in (weights, read_weighting(weights)))
    assert named.prediction.equals(called.prediction)
    assert named.second.equals(called.second)
    assert named.probabilities().tobytes() == called.probabilities().tobytes()
    assert named.top(3).equals(called.top(3))


def test_shares_are_those_of_the_function_with_class_weights_too(exact_index):
    classify = Classifier.open(exact_index, Rule(weights=by_square, class_weight={0: 3.0}))
    answer = classify(split_digits().test_images)
    labels = answer.index.labels.to_numpy()[answer.I]
    w = by_square(answer.D) * np.where(labels == 0, 3, 1)
    expected = np.stack([(w * (labels == label)).sum(axis=1) for label in range(10)], axis=1)
    np.testing.assert_allclose(answer.probabilities(), expected / w.sum(axis=1, keepdims=True), rtol=1e-12)


def test_answers_do_not_depend_on_what_is_asked_together(classify):
    images = split_digits().test_images[:60]
    whole = classify(images)
    pieces = [classify(images[start : start + size]) for start, size in ((0, 1), (1, 7), (8, 52))]
    assert b"".join(piece.probabilities().tobytes() for piece in pieces) == whole.probabilities().tobytes()
    assert len(classify(images[:0]).probabilities()) == 0
    bad = images.astype(float)
    bad[3] = np.nan
    assert classify(bad).probabilities()[4:].tobytes() == whole.probabilities()[4:].tobytes()


def test_no_weights_are_uniform_and_a_function_may_change_what_it_is_given(classify):
    def in_place(D):
        D += 1
        return 1 / D

    assert Rule(weights=None) == Rule()
    assert Rule.of(classify.index, weights=in_place).weights is in_place
    images = split_digits().test_images[:9]
    answer = Classifier(classify.index, Rule(weights=in_place))(images)
    assert answer.D.tobytes() == classify(images).D.tobytes()
    x, y, xq = parts(load_iris)
    theirs, mine = (
        made(weights=None).fit(x, y).predict_proba(xq) for made in (KNeighborsClassifier, KNNVoteClassifier)
    )
    np.testing.assert_array_equal(mine, theirs)


REFUSED = {
    "one for all": (lambda D: D.sum(), r"weights gives float64 of shape \(\) for distances of shape \(9, 5\)"),
    "one a query": (lambda D: D[:, 0], r"weights gives float64 of shape \(9,\) .*the same shape"),
    "words": (lambda D: D.astype(str), r"weights gives <U32 of shape"),
    "below zero": (lambda D: -D, r"weights gives -?\d.* for distance \d.*give finite weights of at least 0$"),
    "not a number": (lambda D: D * np.nan, "weights gives nan for distance"),
    "nothing": (lambda D: D * 0, "gives all neighbours of a query 0, the nearest of which is .* max_distance$"),
    "by the batch": (lambda D: 1 - D / (2 * D.max()), "weights gives a query other weights among others than alone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_function_gives_that_is_no_weights_is_refused(exact_index, name):
    function, told = REFUSED[name]
    with pytest.raises(OptionError, match=told):
        Classifier.open(exact_index, Rule(weights=function))(split_digits().test_images[:9])
    fitted = KNNVoteClassifier(weights=function).fit(*(of[:60] for of in load_digits(return_X_y=True)))
    with pytest.raises(ValueError, match="weights gives"):  # as scikit-learn's own errors are
        fitted.predict(split_digits().test_images[:9].reshape(9, 64))


def test_an_infinite_weight_of_an_exact_copy_is_refused_with_what_has_a_word_for_it(exact_index):
    def inverse(D):
        with np.errstate(divide="ignore"):
            return 1 / D

    classify = Classifier.open(exact_index, Rule(weights=inverse))
    with pytest.raises(
        OptionError, match=r"gives inf for distance 0: .*; weights='distance' is 1 / distance, by which"
    ):
        classify(classify.index.vectors[:3])
    assert (
        Classifier(classify.index, Rule(weights="distance"))(classify.index.vectors[:3]).confidence.tolist() == [1] * 3
    )


@pytest.mark.parametrize("wrong", [5, 0.5, np.ones(3), ["uniform"], True])
def test_what_is_neither_a_name_nor_a_function_is_refused(wrong):
    with pytest.raises(
        OptionError, match=r"^weights is .*: give one of uniform, distance, softmax\[T\], a function of"
    ):
        Rule(weights=wrong)


def test_no_index_is_tuned_for_a_function_and_no_job_done_by_one(classify, tmp_path):
    told = "^weights is <function by_square.*give one of uniform, .*for no function is stored or tuned for$"
    with pytest.raises(OptionError, match=told):
        Tuning(weights=by_square)
    with pytest.raises(OptionError, match=told):
        run_job(classify, "digits.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(OptionError, match=r"^weights is <.*: give kind='exact' with a function") as refused:
        KNNVoteClassifier(weights=by_square, kind="adaptive").fit([[0.0], [1.0]], [0, 1])
    assert isinstance(refused.value, ValueError)
    fitted = KNNVoteClassifier(1, weights=by_square).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(OptionError, match=told):
        fitted.save(tmp_path / "x.knn")
    assert not (tmp_path / "x.knn").exists()
    fitted.set_params(weights=None).save(tmp_path / "x.knn")
    opened = KNNVoteClassifier.open(tmp_path / "x.knn")
    assert opened.weights == "uniform"
    assert KNNVoteClassifier.open(tmp_path / "x.knn", weights=by_square).predict([[0.2]]).tolist() == [0]


def test_a_fitted_estimator_is_pickled_with_its_function():
    x, y, xq = parts(load_iris)
    fitted = KNNVoteClassifier(weights=by_square).fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301  # our own bytes
    np.testing.assert_array_equal(again.predict_proba(xq), fitted.predict_proba(xq))


def test_an_adaptive_index_searches_with_its_most_careful_rung_and_promises_nothing(adaptive_index):
    cheap, last = Rung(nprobe=1, candidates_per_neighbor=2, confidence=None), Rung(nprobe=8, candidates_per_neighbor=8)
    index, rule = with_rungs(adaptive_index, (cheap, last)), Rule(weights=by_square)
    images = split_digits().test_images
    assert set(Classifier(index)(images).rung) == {1, 2}
    told = "tuned for k 5 and uniform weights: for k 5 and the weights of a function its most careful rung searches"
    assert told in why_no_promise(index, rule)
    answer = Classifier(index, rule)(images)
    assert set(answer.rung) == {1}  # of the careful one alone
    assert answer.I.tobytes() == search(index, images.reshape(-1, 64), 5, "careful")[1].tobytes()
    assert answer.again is None


def test_thresholds_are_chosen_for_a_function_and_choose_k_tries_the_names(classify):
    found = choose_threshold(classify.index, classify.rule, target_accuracy=0.99)
    accepting = Classifier(classify.index, classify.rule.accepting(found.acceptance))
    assert (accepting(split_digits().test_images).status == "abstained").any()
    assert all(isinstance(weights, str) for weights in choose_k(classify.index, max_k=2).weights)
