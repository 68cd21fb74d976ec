"""Tuning: the same rungs for the same input, honest measurements, and a promise that holds on images never seen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from left_out import LeaveOneOut
from made_sets import build, clusters, frequent, many_classes, noisy_embeddings, sparse_binary, things

from knnvote.classify.adaptive import tune
from knnvote.classify.adaptive.trials import Trials
from knnvote.classify.adaptive.tune import Tuning, _choose, _draw, _split, asked_to_show, stored_to_ask
from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.search.search import exact_search, find, why_no_promise
from knnvote.classify.vote import Rule
from knnvote.data.errors import OptionError
from knnvote.data.sample import split_digits
from knnvote.data.vectors import convert_queries
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.codes.inverted_file import training_rows
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.manifest import read_manifest
from knnvote.indexer.rungs import EXACT, Rung, Tuned
from knnvote.indexer.threads import limit_threads

ANSWERS = ("label", "confidence")


ROW = tune.ROW


@pytest.fixture(scope="module", autouse=True)
def exact_search_is_dear():
    """Of so few images it costs less than any rung, and no rungs are tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "ROW", 0.1)
        yield


TUNING = Tuning(target_agreement=0.97)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """A made set and an index of it that was tuned, each made once."""
    folder, made = tmp_path_factory.mktemp("tuned"), {}

    def get(tuning=TUNING, dtype="uint8", metric="l2", *, is_regression=False):
        key = (tuning, dtype, metric, is_regression)
        if key not in made:
            data = clusters(dtype, n=3000, d=300)
            y = data.y * 10.0 + data.x[:, 0] / 400.0 if is_regression else data.y
            path = folder / f"{len(made)}.knn"
            made[key] = data, build(path, data.x, y, tune=tuning, metric=metric, is_regression=is_regression)
        return made[key]

    return get


def entry_of(index):
    return index.tuned.to_json()


# What is recorded


@pytest.mark.parametrize(
    ("tuning", "dtype", "metric", "is_regression"),
    [
        (TUNING, "uint8", "l2", False),
        (Tuning(k=3, weights="distance", target_agreement=0.95), "float64", "cosine", False),
        (Tuning(target_agreement=0.9), "float32", "l1", False),
        (Tuning(target_agreement=0.9), "float32", "l2", True),
    ],
)
def test_the_record_tells_rungs_shares_and_agreement_that_add_up(tuned, tuning, dtype, metric, is_regression):
    _, index = tuned(tuning, dtype, metric, is_regression=is_regression)
    entry = entry_of(index)
    assert entry == json.loads(json.dumps(entry))
    assert (entry["k"], entry["weights"]) == (tuning.k, tuning.weights)
    assert entry["target_agreement"] == tuning.target_agreement
    assert (entry["tolerance"] is not None) == is_regression
    assert entry["queries"] > 0
    for answers in ANSWERS:
        found = entry[answers]
        assert sum(rung["settled"] for rung in found["rungs"]) == pytest.approx(1)
        share = sum(rung["settled"] * rung["agreement"] for rung in found["rungs"] if rung["settled"])
        assert share == pytest.approx(found["agreement"]["value"])
        right = round(found["agreement"]["value"] * entry["queries"])
        interval = share_interval(right, entry["queries"])
        if len(found["rungs"]) > 1:
            assert found["agreement"] == {"value": interval.value, "low": interval.low, "high": interval.high}
        assert found["reached"] or found["rungs"] == [{**EXACT.to_json(), "settled": 1.0, "agreement": 1.0}]
        assert interval.low >= tuning.target_agreement or not found["reached"]
        rungs = [Rung.from_json(rung) for rung in found["rungs"]]
        reach = [rung.nprobe or np.inf for rung in rungs]
        assert reach == sorted(set(reach))
        assert rungs[-1].confidence == 0
        assert all(rung.confidence != 0 for rung in rungs[:-1])
    assert len(entry["label"]["rungs"]) > 1
    assert index.tuned == Tuned.from_json(entry)
    assert verify_folder(index.path) == []
    assert read_timing(index.path, index.manifest.generation).tune_seconds > 0


def test_the_same_input_and_seed_give_the_same_record_on_any_number_of_threads(tuned, tmp_path):
    data, index = tuned()
    for threads in (1, 2):
        with limit_threads(threads):
            assert TUNING(open_index(index.path)).tuned.to_json() == entry_of(index)
    again = build(tmp_path / "x.knn", data.x, data.y, tune=TUNING)
    assert entry_of(again) == entry_of(index)
    assert again.fingerprint == index.fingerprint


def test_the_agreement_recorded_is_what_the_rungs_do_with_images_left_out_in_plain_numpy(tmp_path):
    data = clusters("uint8", n=2000, d=400)
    index = build(tmp_path / "x.knn", data.x, data.y, tune=TUNING)
    entry = entry_of(index)
    rule = Rule(k=entry["k"], weights=entry["weights"])
    plain = LeaveOneOut(index, data.x, data.y, rule)
    rows = _draw(index, TUNING.target_agreement)[1]
    assert len(rows) == entry["queries"] > 300
    exact = [plain.exact(row) for row in rows]
    for answers in ANSWERS:
        rungs = [Rung.from_json(rung) for rung in entry[answers]["rungs"]]
        settled, right, unclear = np.zeros(len(rungs)), 0, 0
        for row, truth in zip(rows, exact, strict=True):
            for number, rung in enumerate(rungs):
                found = plain.rung(row, rung)
                if found is None:
                    unclear += 1
                    break
                is_sure, answer = found
                if is_sure:
                    settled[number] += 1
                    label, confidence = answer
                    is_same = answers == "label" or (1.0 if confidence is None else confidence) == truth[1]
                    right += label == truth[0] and is_same
                    break
        margin = (unclear + 0.5) / len(rows)
        assert unclear <= 0.05 * len(rows)
        assert entry[answers]["agreement"]["value"] == pytest.approx(right / len(rows), abs=margin)
        shares = [rung["settled"] for rung in entry[answers]["rungs"]]
        assert np.allclose(settled / len(rows), shares, atol=margin)
        assert settled[0] > 0


def test_tuned_rungs_settle_new_images_in_the_shares_that_were_measured(tuned):
    data, index = tuned()
    xq, _ = convert_queries(data.xq, index.vectors.dtype)
    settled_by = find(index, xq, Rule(), "label")[2]
    measured = [rung["settled"] for rung in entry_of(index)["label"]["rungs"]]
    found = np.bincount(settled_by, minlength=len(measured) + 1)[1:] / len(xq)
    assert np.allclose(found, measured, atol=0.12)


# Where there is nothing to tune


@pytest.mark.parametrize("is_regression", [False, True])
def test_a_target_of_1_is_exact_search(tmp_path, is_regression):
    data = clusters("uint8", nq=100)
    labels = data.y * 1.0 if is_regression else data.y
    index = build(tmp_path / "x.knn", data.x, labels, tune=Tuning(target_agreement=1.0), is_regression=is_regression)
    assert (index.tuned.label.ladder, index.tuned.confidence.ladder) == ((EXACT,), (EXACT,))
    assert entry_of(index)["queries"] == 0
    D, I, settled_by = find(index, data.xq, Rule(), "label")
    expected_D, expected_I = exact_search(index, data.xq, 5)
    assert np.array_equal(I, expected_I)
    assert np.array_equal(D, expected_D)
    assert (settled_by == 1).all()


def test_few_small_images_are_searched_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "ROW", ROW)
    digits = split_digits()
    index = build(tmp_path / "x.knn", digits.train_images, digits.train_labels, tune=Tuning())
    assert index.tuned.label.ladder == index.tuned.confidence.ladder == (EXACT,)
    classifier = Classifier(index)
    answer = classifier(digits.test_images)
    expected = classifier.answer_neighbors(*exact_search(index, digits.test_images.reshape(-1, 64), 5))
    assert answer.prediction.equals(expected.prediction)
    assert entry_of(index)["label"]["reached"]
    assert entry_of(index)["label"]["agreement"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_a_target_that_so_few_images_cannot_show_is_recorded_as_not_reached_and_search_is_exact(tuned):
    data, index = tuned(Tuning(target_agreement=0.99999))
    entry = entry_of(index)
    first, rest = _draw(index, 0.99999)
    assert entry["queries"] == len(rest) > len(first)
    assert not set(rest) & {*first, *training_rows(3000, 0)}  # none of those that chose anything
    assert [entry[answers]["reached"] for answers in ANSWERS] == [False, False]
    assert index.tuned.label.shown == share_interval(len(rest), len(rest))
    assert index.tuned.label.ladder == index.tuned.confidence.ladder == (EXACT,)
    answer = Classifier(index)(data.xq)
    expected = Classifier(index).answer_neighbors(*exact_search(index, data.xq, 5))
    assert answer.prediction.equals(expected.prediction)
    assert answer.confidence.tobytes() == expected.confidence.tobytes()


def test_indexes_of_other_kinds_are_not_tuned(tmp_path):
    x, y = np.random.default_rng(0).integers(0, 256, (200, 16), np.uint8), np.arange(200) % 3
    for kind in ("exact", "hnsw"):
        options = IndexOptions(kind=kind, overwrite=True)
        index_arrays(x, y, tmp_path / kind, options=options)
        before = read_manifest(tmp_path / kind).search
        index_arrays(x, y, tmp_path / kind, options=options, tune=Tuning())
        assert read_manifest(tmp_path / kind).search == before
        assert open_index(tmp_path / kind).tuned is None


# What is refused


@pytest.mark.parametrize("target", [0, -0.5, 1.001, float("nan"), float("inf")])
def test_a_target_that_is_no_share_is_refused(target):
    with pytest.raises(OptionError, match=r"^target_agreement is .*: give a share above 0, at most 1"):
        Tuning(target_agreement=target)


def test_unknown_weights_are_refused():
    with pytest.raises(OptionError, match=r"^weights is 'squared': give one of uniform, distance"):
        Tuning(weights="squared")


def test_a_k_below_one_is_refused():
    with pytest.raises(OptionError, match=r"^k is 0: give a whole number of at least 1"):
        Tuning(k=0)


@pytest.mark.parametrize(("n", "k"), [(30, 29), (30, 30), (30, 31), (3, 5), (1, 5), (1, 1)])
def test_where_as_many_vote_as_there_are_images_search_is_exact(tmp_path, n, k):
    x = np.random.default_rng(0).integers(0, 256, (n, 4), np.uint8)
    index = build(tmp_path / "x.knn", x, np.arange(n) % 3, tune=Tuning(k=k))
    assert index.tuned.label.ladder == index.tuned.confidence.ladder == (EXACT,)


# Copies


def test_copies_of_images_do_not_flatter_what_is_promised(tmp_path):
    data = clusters("uint8", n=1000, nq=600, d=300)
    index = build(tmp_path / "x.knn", np.repeat(data.x, 3, axis=0), np.repeat(data.y, 3), tune=TUNING)
    assert entry_of(index)["label"]["reached"]
    assert_promise_holds(index, data.xq, 0.97)


@pytest.mark.parametrize("copies", [5, pytest.param(20, marks=pytest.mark.long)])
def test_where_every_image_is_stored_many_times_new_images_that_are_not_agree_as_promised(tmp_path, copies):
    """Stored so by mistake: with itself alone left out, each would find its copies by any search."""
    data = clusters("uint8", n=5000 // copies, nq=800)
    index = build(tmp_path / "x.knn", np.repeat(data.x, copies, axis=0), np.repeat(data.y, copies), tune=TUNING)
    assert entry_of(index)["queries"] > 1000
    assert_promise_holds(index, data.xq, TUNING.target_agreement)


def test_copies_are_no_trials_of_their_own(tmp_path):
    data = clusters("uint8", n=50, nq=1)
    tuning = Tuning(target_agreement=0.99)  # which thousands could show, and fifty cannot
    index = build(tmp_path / "x.knn", np.repeat(data.x, 100, axis=0), np.repeat(data.y, 100), tune=tuning)
    assert [entry_of(index)[answers]["reached"] for answers in ANSWERS] == [False, False]


def test_where_some_images_come_again_and_again_new_ones_agree_as_promised(tmp_path):
    """Half are one of 200 that come some fifteen times each: fewer than k, and their labels differ."""
    data, rule = frequent(n=6000, nq=1000), Rule(k=25)
    index = build(tmp_path / "x.knn", data.x, data.y, tune=Tuning(k=25, target_agreement=0.99))
    assert_promise_holds(index, data.xq, 0.99, rule)


def manifest_for_k(index, k):
    tuned = replace(index.tuned, k=k)
    return replace(index.manifest, search=replace(index.manifest.search, tuned=tuned))


def test_what_breaks_ties_is_tuned_for_and_told(tmp_path):
    """Things with labels at random: of two neighbours the first decides, or both have to be known."""
    data, first_class = things(n=5000, nq=2000), Rule(k=2, ties="first-class")
    index = build(tmp_path / "x.knn", data.x, data.y, tune=Tuning(k=2, ties="first-class", target_agreement=0.99))
    assert index.tuned.ties == "first-class"
    assert_promise_holds(index, data.xq, 0.99, first_class)
    assert why_no_promise(index, first_class) is None
    assert "with ties first-class: for ties nearest" in why_no_promise(index, Rule(k=2))
    assert why_no_promise(replace(index, manifest=manifest_for_k(index, 1)), Rule(k=1)) is None  # one has no ties


# The promise


def assert_promise_holds(index, xq, target, rule=Rule()):  # noqa: B008  # it cannot be changed
    queries, bad = convert_queries(xq, index.vectors.dtype)
    assert not bad
    D, I = exact_search(index, queries, rule.k)
    for min_confidence in (None, 0.0):
        classifier = Classifier(index, replace(rule, min_confidence=min_confidence))
        answer = classifier.answer(queries, {})
        expected = classifier.answer_neighbors(D, I)
        agree = answer.prediction.to_numpy() == expected.prediction.to_numpy()
        if min_confidence is not None:
            agree &= answer.confidence == expected.confidence
        assert share_interval(int(agree.sum()), len(agree)).high >= target


@pytest.mark.parametrize(
    ("make", "metric", "n", "nq", "seed"),
    [
        *((sparse_binary, "l1", 4000, 1000, 0), (noisy_embeddings, "l1", 4000, 1000, 1)),
        (many_classes, "l2", 6000, 2000, 0),
        pytest.param(many_classes, "l2", 6000, 2000, 1, marks=pytest.mark.long),
    ],
)
def test_on_images_never_seen_labels_agree_with_exact_search_as_often_as_promised(tmp_path, make, metric, n, nq, seed):
    data = make(n=n, nq=nq, seed=seed)
    index = build(tmp_path / "x.knn", data.x, data.y, tune=Tuning(target_agreement=0.99), metric=metric)
    entry = entry_of(index)["label"]
    assert entry["reached"] or index.tuned.label.ladder == (EXACT,)
    if make is many_classes:  # else two thousand images left out show too little for some seeds
        assert len(entry["rungs"]) > 1
        assert entry["rungs"][0]["settled"] > 0
    assert_promise_holds(index, data.xq, 0.99)


def test_a_regression_is_within_its_tolerance_of_exact_search_as_often_as_promised(tuned):
    data, index = tuned(Tuning(target_agreement=0.9), "float32", "l2", is_regression=True)
    xq = data.xq.astype(np.float64)
    found = Classifier(index).answer(xq, {}).prediction.to_numpy()
    exact = Classifier(index).answer_neighbors(*exact_search(index, xq, 5)).prediction.to_numpy()
    agree = np.abs(found - exact) <= index.tuned.tolerance
    assert share_interval(int(agree.sum()), len(agree)).high >= 0.9
    assert entry_of(index)["label"]["rungs"][0]["settled"] > 0


@pytest.mark.parametrize(
    ("passes", "kept"),
    [("yynnyy", 1), ("nynyyy", 1), ("nnyyyy", None), ("nyyyyy", 5), ("ynyyyn", 4)],
)
def test_the_last_ladder_that_passes_before_the_second_fails_is_kept(passes, kept):
    rungs = [Rung(nprobe, 2, 0.0) for nprobe in range(1, 7)]
    right = np.array([np.full(1000, letter == "y") for letter in passes])
    everything = np.ones_like(right)
    places = {rung: place for place, rung in enumerate(rungs)}
    trials = Trials(np.arange(1000), np.arange(1000), places, everything, {"label": right})
    chosen = _choose(trials, [(rung,) for rung in rungs], "label", 0.99)
    assert chosen.reached == (kept is not None)
    assert chosen.ladder == ((EXACT,) if kept is None else (rungs[kept],))
    assert chosen.shown == (share_interval(0, 1000) if kept is None else None)


@pytest.mark.parametrize(("agreed", "target"), [(5000, 0.999), (4999, 0.999), (5000, 0.9999), (4800, 0.95)])
def test_so_many_as_it_says_show_the_target_and_are_asked_of_so_many_stored(agreed, target):
    shown = share_interval(agreed, 5000)
    asked = asked_to_show(shown, target)
    assert share_interval(shown.value * asked, asked).low >= target
    stored = stored_to_ask(asked, target)
    unseen = stored - len(training_rows(stored, 0))
    assert asked <= _split(unseen, target)[1] < 1.2 * asked + 10


def test_what_no_number_shows_or_is_asked_is_none():
    assert asked_to_show(share_interval(4990, 5000), 0.999) is None
    assert stored_to_ask(40_001, 0.9999) is None
