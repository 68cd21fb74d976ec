"""Weights of images: every vote has them, as a plain statement of the rule says, whatever asks for it."""

import json
import pickle
from pathlib import Path

import brute_force
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sets import LADDERS, SURE, clusters, with_rungs
from repeats import spread
from sklearn.ensemble import BaggingClassifier
from sklearn.utils.class_weight import compute_class_weight
from weightings import WEIGHTS, temperature

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.choosing.every_k import mean_targets, votes
from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.pictures import space_map
from knnvote.classify.search.left_out import neighbors_left_out
from knnvote.classify.vote import Rule, class_shares, mean_target, ranked, runner_up, vote
from knnvote.data.errors import KnnvoteError
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.index import in_memory
from knnvote.indexer.rungs import EXACT

RNG = np.random.default_rng(4)
N, NAMES = 240, np.array(["hen", "owl", "wren"])
CODES = np.repeat([0, 1, 2], [160, 60, 20])
X = (RNG.normal(size=(N, 3)) + np.array([0, 1.1, 2.0])[CODES, None]).astype(np.float32)
XQ = (RNG.normal(size=(40, 3)) + 1).astype(np.float32)
S = RNG.choice([0.25, 1, 3, 7.5], N)


def made(path, **given):
    index_arrays(X, NAMES[CODES], path, sample_weight=S, **given)
    return open_index(path)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return made(tmp_path_factory.mktemp("weights") / "x.knn")


def by_distance(D, weights):
    """What votes count by distances (nq, k) of which none is 0."""
    if weights == "uniform":
        return np.ones_like(D)
    return 1 / D if weights == "distance" else np.exp((D[:, :1] - D) / temperature(weights))


def stated(D, codes, s, weights, of_class=None):
    """Shares (nq, 3) of the vote, as one would write the rule down."""
    w = by_distance(D, weights) * s * (1 if of_class is None else of_class[codes])
    return np.stack([(w * (codes == code)).sum(axis=1) for code in range(3)], axis=1) / w.sum(axis=1)[:, None]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("metric", ["l2", "cosine", "l1"])
def test_answers_are_those_of_the_rule_as_it_is_written_down(tmp_path, metric, weights):
    index = made(tmp_path / "x.knn", options=IndexOptions(metric=metric))
    D, I = brute_force.neighbors(XQ, X, 9, metric)
    counts = np.bincount(CODES, S)
    for asked, of_class in ((None, None), ("balanced", counts.sum() / (3 * counts)), ({"wren": 20}, [1, 1, 20.0])):
        answer = Classifier(index, Rule(k=9, weights=weights, class_weight=asked))(XQ)
        assert np.array_equal(answer.I, I)
        shares = stated(D, CODES[I], S[I], weights, None if of_class is None else np.array(of_class))
        assert np.allclose(answer.probabilities(), shares, rtol=0, atol=1e-12)
        assert np.array_equal(answer.confidence, answer.probabilities().max(axis=1))
        first, second = np.sort(shares, axis=1)[:, :0:-1].T
        assert np.allclose(answer.margin, first - second, rtol=0, atol=1e-12)
        clear = first > second + 1e-9
        assert clear.mean() > 0.9
        assert np.array(answer.best.to_pylist())[clear].tolist() == NAMES[shares.argmax(axis=1)][clear].tolist()
        tops = answer.top(3).to_pylist()
        assert [top["top"][0] for top in tops] == answer.best.to_pylist()
        assert [top["top_share"][0] for top in tops] == answer.confidence.tolist()
    assert answer.neighbors()[0].as_py()[0]["weight"] == S[I[0, 0]]


def test_balanced_class_weights_are_those_of_scikit_learn_where_it_repeats_rows(tmp_path):
    times = RNG.integers(1, 5, N)
    index_arrays(X, CODES, tmp_path / "x.knn", sample_weight=times)
    ours = open_index(tmp_path / "x.knn").class_weights("balanced")
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=np.repeat(CODES, times))
    assert len(np.unique(np.round(np.log2(theirs / ours), 9))) == 1


CELLS = st.integers(1, 12).flatmap(
    lambda k: st.tuples(
        st.lists(st.integers(0, 3), min_size=k, max_size=k),
        st.lists(st.floats(0.01, 9), min_size=k, max_size=k).map(sorted),
        st.lists(st.floats(1e-3, 1e3), min_size=k, max_size=k),
    )
)


@settings(max_examples=40, deadline=None)
@given(cells=CELLS, weights=st.sampled_from(WEIGHTS), ties=st.sampled_from(["nearest", "first-class"]))
def test_all_that_counts_votes_counts_the_same(cells, weights, ties):
    codes, D, s = (np.array([values]) for values in cells)
    codes, k = codes.astype(np.int32), D.shape[1]
    rule = Rule(k=k, weights=weights, ties=ties)
    w = by_distance(D, weights) * s
    shares = np.bincount(codes[0], w[0], minlength=4) / w.sum()
    found = class_shares(codes, D, 4, weights, s)
    assert np.allclose(found, shares, rtol=0, atol=1e-12)
    winner, confidence = vote(codes, D, rule, s)
    assert confidence[0] == found[0, winner[0]] == found.max()
    second, share = runner_up(codes, D, rule, winner, s)
    order, of_order = ranked(codes, D, rule, 4, s)
    assert (order[0, 0], of_order[0, 0]) == (winner[0], confidence[0])
    assert [*order[0, 1:2], *of_order[0, 1:2]] in ([], [-1, 0], [second[0], share[0]])
    if len({*codes[0]}) == 1:
        assert (confidence[0], second[0]) == (1, -1)
    winners = votes(codes, D, weights, s)
    means = mean_targets(D * 3, D, weights, s)
    for j in range(1, k + 1):
        near = (codes[:, :j], D[:, :j], Rule(k=j, weights=weights), s[:, :j])
        assert winners[0, j - 1] == vote(*near)[0][0]
        assert means[0, j - 1] == mean_target(D[:, :j] * 3, D[:, :j], weights, s[:, :j])[0]
    assert np.isclose(means[0, -1], (w * D * 3).sum() / w.sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("weight", [1, 0.7, 1.1, 1e-30])
def test_shares_of_equal_weights_are_those_of_none(tmp_path, weight):
    index_arrays(X, CODES, tmp_path / "plain.knn")
    index_arrays(X, CODES, tmp_path / "x.knn", sample_weight=np.full(N, weight))
    for asked in (None, {0: weight, 1: weight, 2: weight} if weight > 1e-9 else None):
        for k in (5, 7, 20):
            plain = Classifier(open_index(tmp_path / "plain.knn"), Rule(k=k, min_confidence=0.6))(XQ)
            answer = Classifier(open_index(tmp_path / "x.knn"), Rule(k=k, min_confidence=0.6, class_weight=asked))(XQ)
            assert np.array_equal(answer.confidence, plain.confidence)
            assert answer.prediction.equals(plain.prediction)


def test_where_all_images_vote_a_weight_is_as_many_copies(tmp_path):
    """And nowhere else: of copies each is one of the k neighbours."""
    x, codes, times = X[:30], CODES[::8], RNG.integers(1, 6, 30)
    y = RNG.normal(size=30)
    repeated = [np.repeat(values, times, axis=0) for values in (x, codes, y)]
    for name, (rows, classes, targets), s in (("w", (x, codes, y), times), ("r", repeated, None)):
        index_arrays(rows, classes, tmp_path / f"{name}.knn", sample_weight=s)
        index_arrays(rows, targets, tmp_path / f"{name}-mean.knn", sample_weight=s, is_regression=True)
    one, other = (open_index(tmp_path / f"{name}.knn") for name in "wr")
    answers = [Classifier(found, Rule(k=found.n, ties="first-class"))(XQ) for found in (one, other)]
    assert np.array_equal(*(answer.probabilities() for answer in answers))
    assert answers[0].best.equals(answers[1].best)
    assert len({*answers[0].best.to_pylist()}) == 1
    one, other = (open_index(tmp_path / f"{name}-mean.knn") for name in "wr")
    means = [Classifier(found, Rule(k=found.n))(XQ).prediction.to_numpy() for found in (one, other)]
    assert np.allclose(*means, rtol=1e-12)


def test_weights_are_relative_and_of_equal_ones_no_bit_changes(tmp_path, index):
    rule = Rule(k=7, weights="distance")
    shares = Classifier(index, rule)(XQ).probabilities()
    for times, is_same in ((2.0**40, True), (2.0**-60, True), (1e29 / 7.5, False)):
        index_arrays(X, NAMES[CODES], tmp_path / f"{times}.knn", sample_weight=S * times)
        found = Classifier.open(tmp_path / f"{times}.knn", rule)(XQ).probabilities()
        assert np.array_equal(found, shares) if is_same else np.allclose(found, shares, rtol=1e-12)
    for s in (None, np.full(N, 3.0)):
        index_arrays(X, NAMES[CODES], tmp_path / f"{s is None}.knn", sample_weight=s)
    plain, equal = (Classifier.open(tmp_path / f"{none}.knn", rule)(XQ) for none in (True, False))
    assert np.allclose(plain.probabilities(), equal.probabilities(), rtol=1e-15)
    assert plain.to_table(neighbors=True)["neighbors"].type != equal.to_table(neighbors=True)["neighbors"].type


# Search in rungs


def adaptive(path, data, s, *, tune=None, is_regression=False):
    y = data.y.astype(float) if is_regression else data.y
    options = IndexOptions(kind="adaptive", threads=1)
    index_arrays(data.x, y, path, sample_weight=s, is_regression=is_regression, options=options, tune=tune)
    return open_index(path)


@spread(("ladder", LADDERS.values()), ("is_regression", [False, True]))
def test_rungs_settle_by_the_weighed_vote_and_answers_have_the_same_bits_in_any_batch(tmp_path, ladder, is_regression):
    if is_regression and SURE in ladder:
        pytest.skip("a mean has no confidence")
    data = clusters("uint8", n=2500, nq=120)
    s = np.random.default_rng(1).choice([0.1, 1, 20], 2500)
    adaptive(tmp_path / "x.knn", data, s, is_regression=is_regression)
    tolerance = 0.2 if is_regression else None
    classify = Classifier(with_rungs(tmp_path / "x.knn", ladder, tolerance=tolerance))
    whole = classify(data.xq)
    single = [classify(row[None]) for row in data.xq[:30]]
    assert whole.prediction[:30].equals(pa.concat_arrays([one.prediction for one in single]))
    assert np.array_equal(whole.confidence[:30], np.concatenate([one.confidence for one in single]), equal_nan=True)
    first = np.flatnonzero(whole.rung == 1)
    assert len(first) > 20
    if ladder[0].confidence is None:
        assert (np.ptp(data.y[whole.I[first]], axis=1) <= (tolerance or 0)).all()
        assert is_regression or (whole.confidence[first] == 1).all()
    _, I = brute_force.neighbors(data.xq, data.x, 5, "l2")
    w, y = s[I], data.y[I]
    found = np.array(whole.best.to_pylist())
    if is_regression:
        assert (np.abs(found - (w * y).sum(axis=1) / w.sum(axis=1)) <= 0.2).mean() > 0.9
    else:
        shares = np.stack([(w * (y == code)).sum(axis=1) for code in range(10)], axis=1)
        assert (found == shares.argmax(axis=1)).mean() > 0.9


def test_tuning_is_by_the_weighed_vote(tmp_path):
    data = clusters("uint8", n=3000, nq=0)
    s = np.where(data.y == 1, 50.0, 1.0)
    index = adaptive(tmp_path / "x.knn", data, s, tune=Tuning(target_agreement=0.9))
    assert index.tuned.label.ladder != (EXACT,)
    answers = [Classifier(index, promise=promise)(data.x[:300]) for promise in ("label", "exact")]
    assert np.mean(np.array(answers[0].best) == np.array(answers[1].best)) >= 0.9


# What stored images say of themselves


def test_left_out_images_are_answered_by_the_weighed_votes_of_the_others(index):
    _, I = neighbors_left_out(index, np.arange(N), 8)
    shares = stated(np.ones(I.shape), CODES[I], S[I], "uniform")
    right = shares.argmax(axis=1) == CODES
    choice = choose_k(index, max_k=8)
    score = next(score for score in choice.scores if (score.k, score.weights) == (8, "uniform"))
    assert score.value == pytest.approx(right.mean(), abs=0.02)  # ties of votes are by distance
    found = choose_threshold(index, Rule(k=8))
    for step in found.steps:
        accepted = shares.max(axis=1) >= step.threshold - 1e-9
        assert step.images == accepted.sum()
        assert step.accuracy.value == pytest.approx(right[accepted].mean(), abs=0.03)
    for asked in (None, "balanced"):
        rule = Rule(k=8, class_weight=asked)
        suspects = find_suspects(index, k=8, class_weight=asked)
        own = class_shares(CODES[I], np.ones(I.shape), 3, "uniform", rule.factors(index, I))
        against = 1 - own[np.arange(N), CODES]
        assert [one.against for one in suspects.suspects] == pytest.approx(
            [against[one.row] for one in suspects.suspects], abs=1e-12
        )
        winner = own.argmax(axis=1)
        assert suspects.losing_the_vote == pytest.approx((winner != CODES).sum(), abs=3)
        assert suspects.suspects[0].to_json()["neighbors"][0]["weight"] == S[I[suspects.suspects[0].row, 0]]
    assert suspects.to_json()["class_weight"] == suspects.class_weight == "balanced"


def test_a_regression_averages_by_them_in_answers_and_left_out(tmp_path):
    y = RNG.normal(size=N)
    index_arrays(X, y, tmp_path / "x.knn", sample_weight=S, is_regression=True)
    index = open_index(tmp_path / "x.knn")
    D, I = brute_force.neighbors(XQ, X, 5, "l2")
    for weights in WEIGHTS:
        w = by_distance(D, weights) * S[I]
        found = Classifier(index, Rule(weights=weights))(XQ).prediction.to_numpy()
        assert np.allclose(found, (w * y[I]).sum(axis=1) / w.sum(axis=1), rtol=1e-12)
    _, I = neighbors_left_out(index, np.arange(N), 4)
    error = np.square((S[I] * y[I]).sum(axis=1) / S[I].sum(axis=1) - y).mean()
    scores = choose_k(index, max_k=4).scores
    assert next(one.value for one in scores if (one.k, one.weights) == (4, "uniform")) == pytest.approx(
        error, rel=1e-12
    )


def test_indexes_of_the_same_images_with_other_weights_are_judged_by_their_own(tmp_path, index):
    index_arrays(X, NAMES[CODES], tmp_path / "plain.knn")
    plain, own = open_index(tmp_path / "plain.knn"), index
    assert plain.manifest.data_sha256 != own.manifest.data_sha256
    true = NAMES[np.arange(40) % 3]
    write_table(image_table(XQ.reshape(-1, 1, 3), true), tmp_path / "t.parquet")
    found = compare(tmp_path / "t.parquet", [plain, own], Rule(k=9))
    for report, of in zip(found.indexes, (plain, own), strict=True):
        answer = Classifier(of, Rule(k=9))(XQ)
        assert report.accuracy == np.mean(np.array(answer.best.to_pylist()) == true)
        assert report.agreement.value == 1


def test_a_map_is_of_the_weighed_vote(index, monkeypatch):
    monkeypatch.setattr(space_map, "_SIDES", (48, 36))
    rules = [Rule(k=5), Rule(k=5, class_weight=(("wren", 1e6),))]
    maps = [space_map.find_map(index, rule=rule, seed=0).regions for rule in rules]
    assert (maps[0] != maps[1]).any()
    assert (maps[1] == 2).mean() > (maps[0] == 2).mean()


# Estimators


def test_an_estimator_has_them_and_rows_of_weight_0_are_as_if_they_were_not_there(tmp_path, index):
    s = np.where(np.arange(N) % 5 == 0, 0, S)
    kept = s > 0
    model = KNNVoteClassifier(7, weights="distance").fit(X, NAMES[CODES], sample_weight=s.tolist())
    same = KNNVoteClassifier(7, weights="distance").fit(X[kept], NAMES[CODES][kept], s[kept])
    assert np.array_equal(model.predict_proba(XQ), same.predict_proba(XQ))
    assert model.n_samples_fit_ == kept.sum()
    whole = KNNVoteClassifier(7).fit(X, NAMES[CODES], S)
    shares = Classifier(index, Rule(k=7))(XQ).probabilities()
    assert np.array_equal(whole.predict_proba(XQ), shares)
    assert np.array_equal(pickle.loads(pickle.dumps(whole)).predict_proba(XQ), shares)  # noqa: S301  # our own bytes
    whole.save(tmp_path / "x.knn")
    opened = KNNVoteClassifier.open(tmp_path / "x.knn", n_neighbors=7)
    assert np.array_equal(opened.predict_proba(XQ), shares)
    assert np.array_equal(in_memory(open_index(tmp_path / "x.knn")).sample_weight, S)
    y = CODES * 1.5
    mean = KNNVoteRegressor(7).fit(X, y, S).predict(XQ)
    _, I = brute_force.neighbors(XQ, X, 7, "l2")
    assert np.allclose(mean, (S[I] * y[I]).sum(axis=1) / S[I].sum(axis=1), rtol=1e-12)
    bag = BaggingClassifier(KNNVoteClassifier(3), n_estimators=3, random_state=0).fit(X, CODES)
    assert bag.score(X, CODES) > 0.8


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.ones(N - 1), rf"^sample_weight has shape \({N - 1},\): give \({N},\), a number a row of X$"),
        (np.ones((N, 2)), r"^sample_weight has shape"),
        (["much"] * N, r"^sample_weight is no array of numbers"),
        (np.zeros(N), r"^sample_weight is zero for every row of X: give some of them another$"),
        (
            np.where(np.arange(N) == 9, -1, np.arange(N) > 3),
            r"^row 9 of X has weight -1, which is below 0: leave it out",
        ),
        (np.where(np.arange(N) == 7, np.nan, 1), r"^row 7 of X has no weight: leave it out, or give another$"),
        (np.where(np.arange(N) == 7, np.inf, 1), r"^row 7 of X has weight inf, which is infinite"),
    ],
)
def test_an_estimator_refuses_what_is_no_weight_as_scikit_learn_does(given, told):
    for made in (KNNVoteClassifier, KNNVoteRegressor):
        with pytest.raises(ValueError, match=told):
            made().fit(X, CODES, sample_weight=given)


# Commands


def test_the_commands_take_keep_and_show_them(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    table = image_table(X.reshape(-1, 1, 3), NAMES[CODES]).append_column("sure", pa.array(S))
    write_table(table, Path("train.parquet"))
    write_table(image_table(XQ.reshape(-1, 1, 3), NAMES[np.arange(40) % 3]), Path("new.parquet"))
    done = invoke("index", "train.parquet", "--out", "x.knn", "--weight-column", "sure")
    assert "weights of column 'sure', from 0.25 to 7.5: what an image's vote is multiplied by\n" in done.stderr
    assert "of column 'sure', from 0.25 to 7.5" in invoke("inspect", "x.knn").stdout
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["sample_weight"] == {
        "column": "sure",
        "least": 0.25,
        "most": 7.5,
    }
    assert invoke("classify", "x.knn", "new.parquet", "--out", "o", "--neighbors").code == 0
    answer = Classifier.open("x.knn")(XQ)
    out = pq.read_table("o/new.parquet")
    assert out["confidence"].to_pylist() == answer.confidence.tolist()
    assert [[one["weight"] for one in row] for row in out["neighbors"].to_pylist()] == S[answer.I].tolist()
    told = invoke("explain", "o", "3", "--index", "x.knn", "--report", "why.html").stdout
    assert told.split("rank", 1)[1].split("\n")[0].split() == ["id", "label", "distance", "weight"]
    assert f", weight {S[answer.I[3, 0]]:g}<br>" in Path("why.html").read_text()
    assert invoke("report", "o", "--index", "x.knn").code == 0
    assert (
        "5 neighbours of equal weight, but for the weight of each image; of equal votes"
        in Path("report.html").read_text()
    )
    told = invoke("suspects", "x.knn", "--class-weight", "balanced", "--report", "s.html").stdout
    assert told.startswith("240 images, each left out in turn, exact search, k = 20, class weight balanced\n")
    assert "20 neighbours vote, class weight balanced.</p>" in Path("s.html").read_text()


def test_images_of_an_array_with_weights_that_are_none_are_refused(tmp_path):
    for s, told in (
        (S[:-1], rf"^sample_weight has shape \({N - 1},\): give \({N},\), a number an image$"),
        (["a"] * N, r"^sample_weight is no array of numbers"),
        (np.where(np.arange(N) == 5, 0, S), r"^image 5 has weight 0, with which an image has no vote: leave it out"),
        (np.where(np.arange(N) == 5, 1e-31, S), r"^image 5 has weight 1e-31, which is not from 1e-30 to 1e\+30: leave"),
    ):
        with pytest.raises(KnnvoteError, match=told):
            index_arrays(X, CODES, tmp_path / "x.knn", sample_weight=s)
        assert not (tmp_path / "x.knn").exists()
