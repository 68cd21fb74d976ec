"""Weightings: texts that stand for them and come back, the exponential to the bit, and the vote of DINOv2."""

import decimal
import hashlib
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_sets import build, clusters
from repeats import spread
from sklearn.neighbors import KNeighborsClassifier
from weightings import WEIGHTS, in_sklearn

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.vote import Rule
from knnvote.classify.weighting import WEIGHTINGS, Softmax, exp_of_minus, is_weighting, read_weighting
from knnvote.data.errors import OptionError
from knnvote.data.sample import split_digits
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

NO_TEMPERATURE = (
    "weights is 'softmax', and only similarities have a usual temperature: of metric {} give one in the unit of its "
    "distances, as in softmax[T]; knnvote choose-k X.knn tells the accuracy with several; embeddings are "
    "mostly indexed by metric cosine, which needs none"
)


def distances(nq=50, k=9):
    D = np.sort(np.random.default_rng(0).integers(0, 5, (nq, k)) / 3, axis=1)
    assert (D[:, 0] == 0).any()
    assert (D[:, 0] > 0).any()
    return D


@pytest.mark.parametrize("text", WEIGHTS)
def test_a_weighting_is_its_text_and_has_words(text):
    weighting = read_weighting(text)
    assert weighting.text == text
    assert weighting.of_neighbors
    assert weighting.of_metric("l1") == weighting


@pytest.mark.parametrize(
    "text",
    [
        *("", "Uniform", "uniform[", "uniform]", "uniform[]", "uniform[2]", "[uniform]", "x[2]"),
        *("softmax[]", "softmax[x]", "softmax[-1]", "softmax[0]", "softmax[nan]", "softmax[inf]", "softmax[0.07"),
    ],
)
def test_a_text_that_stands_for_none_is_refused_with_all_forms(text):
    assert not is_weighting(text)
    for made in (Rule, Tuning):
        with pytest.raises(OptionError) as told:
            made(weights=text)
        forms = "uniform, distance, softmax[T] with a temperature T above 0"
        assert str(told.value) == f"weights is {text!r}: give one of {forms}"


@pytest.mark.parametrize("value", [None, 3, ["uniform"], {"uniform": 1}])
def test_what_is_no_text_stands_for_no_weighting(value):
    assert not is_weighting(value)


@pytest.mark.parametrize("text", WEIGHTS)
def test_weights_are_positive_or_zero_and_never_all_zero(text):
    w = read_weighting(text)(distances())
    assert (w >= 0).all()
    assert (w.sum(axis=1) > 0).all()
    assert read_weighting(text)(distances()[:0]).shape == (0, 9)


@pytest.mark.parametrize("text", [text for text in WEIGHTS if WEIGHTINGS[text.partition("[")[0]].is_stepwise])
def test_stepwise_weights_of_the_first_neighbours_are_those_that_they_have_alone(text):
    D, weighting = distances(), read_weighting(text)
    for k in range(1, D.shape[1] + 1):
        assert np.array_equal(weighting(D[:, :k]), weighting(D)[:, :k])


# The exponential


def points():
    rng = np.random.default_rng(0)
    near_halves = (np.arange(1, 1021) - 0.5) * math.log(2)  # where the reduction goes from one power to the next
    edges = [0, 5e-324, 1e-300, 2.0**-54, 2.0**-53, 1, 707.99, np.nextafter(708, 0), 708]
    others = (rng.uniform(0, 2, 2000), rng.uniform(0, 708, 2000), 10.0 ** rng.uniform(-20, 2.8, 1000))
    x = np.concatenate([edges, near_halves, np.nextafter(near_halves, 0), np.arange(709), *others])
    return x[x <= 708]


def test_the_exponential_is_within_one_ulp_of_the_true_one():
    x = points()
    with decimal.localcontext(prec=40):
        for argument, found in zip(x.tolist(), exp_of_minus(x).tolist(), strict=True):
            true = (-decimal.Decimal(argument)).exp()
            assert abs(decimal.Decimal(found) - true) < decimal.Decimal(math.ulp(float(true))), argument
    assert exp_of_minus(np.array([0.0]))[0] == 1


def test_the_exponential_falls_and_beyond_708_is_zero():
    x = np.sort(points())
    assert (np.diff(exp_of_minus(x)) <= 0).all()
    assert exp_of_minus(np.array([np.nextafter(708, 709), 1e9, np.finfo(float).max, np.inf])).tolist() == [0] * 4


def test_the_exponential_has_the_same_bits_in_any_order_place_and_shape_and_on_any_machine():
    x = points()[:5000]
    found = exp_of_minus(x)
    assert np.array_equal(exp_of_minus(x[::-1])[::-1], found)
    assert np.array_equal(exp_of_minus(x[3:].reshape(-1, 1))[:, 0], found[3:])
    assert np.array_equal(np.concatenate([exp_of_minus(x[i : i + 1]) for i in range(300)]), found[:300])
    exact = np.arange(0, 708, 0.375)  # the same arguments everywhere
    assert hashlib.sha256(exp_of_minus(exact).astype("<f8").tobytes()).hexdigest()[:16] == "2b7c2d3c88991da2"


def test_neighbours_far_beyond_the_temperature_weigh_nothing_without_a_warning():
    D = np.array([[3.0, 3.0, 3.5, 1e300], [0.0, 1e-320, 2.0, 2.0]])
    assert read_weighting("softmax[1e-300]")(D).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert read_weighting("softmax[1e300]")(D)[1].tolist() == [1, 1, 1, 1]


# Temperatures


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        *(("softmax[0.070]", "softmax[0.07]"), ("softmax[7e-2]", "softmax[0.07]"), ("softmax[7]", "softmax[7]")),
        *(("softmax[0.0712345678]", "softmax[0.0712345678]"), ("softmax[1e-05]", "softmax[1e-05]")),
    ],
)
def test_a_temperature_is_stored_as_it_can_be_typed_and_none_of_its_digits_is_lost(text, stored):
    assert Rule(weights=text).weights == Tuning(weights=text).weights == stored
    assert read_weighting(stored) == read_weighting(text)


def test_softmax_alone_has_temperature_007_for_cosine_and_is_refused_for_other_metrics(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
    index_arrays(x, y, tmp_path / "cosine.knn", options=IndexOptions(metric="cosine"), tune=Tuning(weights="softmax"))
    cosine = open_index(tmp_path / "cosine.knn")
    assert cosine.vote.weights == Rule.of(cosine).weights == Rule.of(cosine, weights="softmax").weights
    assert Classifier(cosine, Rule(weights="softmax")).rule.weights == cosine.vote.weights == "softmax[0.07]"
    index_arrays(x, y, tmp_path / "l1.knn", options=IndexOptions(metric="l1"))
    index = open_index(tmp_path / "l1.knn")
    for refused in (
        lambda: Classifier(index, Rule(weights="softmax")),
        lambda: Rule.of(index, weights="softmax"),
        lambda: index_arrays(
            x, y, tmp_path / "n.knn", options=IndexOptions(metric="l1"), tune=Tuning(weights="softmax")
        ),
        lambda: KNNVoteClassifier(weights="softmax", metric="l1").fit(x, y),
        lambda: KNNVoteRegressor(metric="l1").fit(x, y).set_params(weights="softmax").predict(x),
    ):
        with pytest.raises(OptionError) as told:
            refused()
        assert str(told.value) == NO_TEMPERATURE.format("l1")
    assert not (tmp_path / "n.knn").exists()
    with pytest.raises(ValueError, match=r"^softmax$"):
        Softmax()(distances())


def test_temperatures_that_are_tried_lie_about_the_spread_of_neighbours():
    assert Softmax.to_try("cosine", 0.0) == tuple(f"softmax[{t}]" for t in ("0.02", "0.05", "0.07", "0.1", "0.2"))
    assert Softmax.to_try("l2", 130.0) == tuple(f"softmax[{t}]" for t in (20, 50, 100, 200, 500))
    assert Softmax.to_try("l2", 4e-9) == tuple(f"softmax[{t}]" for t in ("1e-09", "2e-09", "5e-09", "1e-08", "2e-08"))
    assert Softmax.to_try("l1", 0.0) == ()


def test_where_all_neighbours_are_equally_far_no_temperature_is_tried(tmp_path):
    index_arrays(np.eye(5, dtype=np.uint8), [0, 0, 1, 1, 2], tmp_path / "x.knn")
    assert choose_k(open_index(tmp_path / "x.knn")).weights == ["uniform", "distance"]


# The vote of the field


def dinov2(xq, x, y, k, temperature):
    """Shares (nq, classes) as eval/knn.py of DINOv2 has them: of unit vectors, softmax of the k best similarities."""
    unit, unit_q = (v / np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True) for v in (x, xq))
    similarity = unit_q @ unit.T
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    weight = np.exp(np.take_along_axis(similarity, best, axis=1) / temperature)
    weight /= weight.sum(axis=1, keepdims=True)
    return (np.eye(y.max() + 1)[y[best]] * weight[:, :, None]).sum(axis=1)


def embeddings():
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(12, 48))
    y, yq = rng.integers(0, 12, 900), rng.integers(0, 12, 200)
    return *((centres[c] + rng.normal(size=(len(c), 48)) * 2).astype(np.float32) for c in (y, yq)), y


def pictures():
    digits = split_digits()
    return digits.train_images.reshape(-1, 64), digits.test_images.reshape(-1, 64), digits.train_labels.astype(np.int64)


@spread(
    ("made", [embeddings, pictures]),
    ("weights, temperature", [("softmax", 0.07), ("softmax[0.01]", 0.01), ("softmax[1]", 1)]),
)
def test_of_cosine_the_vote_is_that_of_dinov2(tmp_path, made, weights, temperature):
    x, xq, y = made()
    index_arrays(x, y, tmp_path / "x.knn", options=IndexOptions(metric="cosine"))
    for k in (1, 10, 20):
        answer = Classifier.open(tmp_path / "x.knn", Rule(k=k, weights=weights, ties="first-class"))(xq)
        shares = dinov2(xq, x, y, k, temperature)
        assert np.allclose(answer.probabilities(), shares, rtol=0, atol=1e-12)
        assert answer.prediction.to_pylist() == shares.argmax(axis=1).tolist()


def test_a_softmax_votes_is_tuned_for_compared_and_stored_by_its_text(tmp_path):
    data = clusters("uint8", n=1200, nq=40, d=20)
    index = build(tmp_path / "x.knn", data.x, data.y, tune=Tuning(weights="softmax[7]", target_agreement=0.9))
    assert index.tuned.weights == "softmax[7]"
    answer = Classifier(index)(data.xq)
    assert answer.rule.weights == "softmax[7]"
    w = np.exp((answer.D[:, :1] - answer.D) / 7)
    shares = np.stack([(w * (data.y[answer.I] == code)).sum(axis=1) for code in range(10)], axis=1)
    assert np.allclose(answer.probabilities(), shares / w.sum(axis=1, keepdims=True))
    found = compare(np_file(tmp_path, data), index, algorithms=["brute"])
    assert [report.agreement.value for report in found.indexes] == [1, 1]


def np_file(folder, data):
    np.savez(folder / "test.npz", x=data.xq)
    return folder / "test.npz"


def test_the_estimators_take_a_softmax_and_keep_it_in_a_folder(tmp_path):
    x, xq, y = embeddings()
    fitted = KNNVoteClassifier(n_neighbors=7, weights="softmax", metric="cosine").fit(x, y)
    assert np.allclose(fitted.predict_proba(xq), dinov2(xq, x, y, 7, 0.07), rtol=0, atol=1e-12)
    fitted.save(tmp_path / "x.knn")
    assert Classifier(open_index(tmp_path / "x.knn")).rule.weights == "softmax[0.07]"
    assert np.array_equal(KNNVoteClassifier.open(tmp_path / "x.knn").predict(xq), fitted.predict(xq))
    for weights in ("softmax[3]", "softmax[0.5]"):
        ours = KNNVoteClassifier(9, weights=weights).fit(x, y)
        theirs = KNeighborsClassifier(9, weights=in_sklearn(weights)).fit(x.astype(np.float64), y)
        assert np.allclose(ours.predict_proba(xq), theirs.predict_proba(xq.astype(np.float64)), rtol=0, atol=1e-9)


def test_the_commands_take_a_softmax_and_refuse_one_without_a_temperature_at_once(invoke, digits_folder):
    refused = invoke("index", digits_folder / "train.parquet", "--out", "x.knn", "--weights", "softmax")
    assert (refused.code, refused.stderr) == (2, f"error: --{NO_TEMPERATURE.format('l2')}\n")
    for metric, weights, stored in (("cosine", "softmax", "softmax[0.07]"), ("l2", "softmax[5]", "softmax[5]")):
        out = f"{metric}.knn"
        made = invoke("index", digits_folder / "train.parquet", "--out", out, "--metric", metric, "--weights", weights)
        assert made.code == 0, made.stderr
        assert f"made for k 5 and {stored} weights" in made.stderr
        job, page = f"job-{metric}", f"{metric}.html"
        assert invoke("classify", out, digits_folder / "test.parquet", "--out", job, "--probabilities").code == 0
        answer = Classifier.open(out, Rule(weights=stored))(split_digits().test_images)
        assert pq.read_table(f"{job}/test.parquet")["confidence"].to_pylist() == answer.confidence.tolist()
        assert invoke("report", job, "--out", page).code == 0
        assert f"exp(-distance / {stored[8:-1]})" in Path(page).read_text()
    assert invoke("choose-k", "cosine.knn", "--max-k", 3).stdout.splitlines()[2].split()[-3:] == [
        *("softmax[0.07]", "softmax[0.1]", "softmax[0.2]")
    ]
    for arguments in (
        ("map", "l2.knn", "--weights", "softmax[20]"),
        ("review", "job-l2", "--out", "review.csv"),
        ("inspect", "cosine.knn"),
    ):
        done = invoke(*arguments)
        assert done.code == 0, (arguments, done.stderr)
