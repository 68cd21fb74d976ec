"""Search in rungs: true distances whatever rung settles, brute force from the exact one, and the same bits always."""

import brute_force
import numpy as np
import pytest
from made_sets import CHEAP, LADDERS, LAST, SURE, build, clusters, with_rungs
from repeats import spread
from weightings import WEIGHTS

from knnvote.classify.classifier import Classifier
from knnvote.classify.search.candidates import encode
from knnvote.classify.search.ladder import rungs_for
from knnvote.classify.search.search import exact_search, find, search, why_no_promise
from knnvote.classify.vote import Rule, mean_target, vote
from knnvote.data.errors import OptionError
from knnvote.data.vectors import convert_queries
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.rungs import EXACT, Rung
from knnvote.indexer.threads import limit_threads

K = 5
CASES = [
    ("uint8", "l2"),
    ("uint8", "cosine"),
    ("uint8", "l1"),
    ("uint16", "l2"),
    ("float32", "l2"),
    ("float32", "l1"),
    ("float64", "cosine"),
]


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    """A made set, the folder of an untuned index of it, queries, and brute force's distances, each made once."""
    folder, made = tmp_path_factory.mktemp("ladder"), {}

    def get(dtype, metric):
        if (dtype, metric) not in made:
            data = clusters(dtype, nq=60)
            path = folder / f"{dtype} {metric}.knn"
            index = build(path, data.x, data.y, metric=metric)
            xq, bad = convert_queries(data.xq, index.vectors.dtype)
            assert not bad
            made[dtype, metric] = data, path, xq, brute_force.distances(data.xq, data.x, metric)
        return made[dtype, metric]

    return get


def brute_neighbors(distances, k, metric):
    I = np.argsort(distances, axis=1, kind="stable")[:, :k]  # stable: equal distances stay in the order of rows
    D = np.take_along_axis(distances, I, axis=1)
    return (np.sqrt(D) if metric == "l2" else D), I


@spread(("ladder", LADDERS), ("dtype, metric", CASES))
def test_every_rung_gives_true_distances_in_order_and_the_exact_one_brute_forces_neighbours(
    case, dtype, metric, ladder
):
    _, path, xq, distances = case(dtype, metric)
    rungs = LADDERS[ladder]
    D, I, settled_by = find(with_rungs(path, rungs), xq, Rule(k=K), "label")
    assert set(settled_by.tolist()) == set(range(1, len(rungs) + 1))  # these data need every rung
    true = np.take_along_axis(distances, I, axis=1)
    assert np.array_equal(D, np.sqrt(true) if metric == "l2" else true)
    assert (np.diff(D) >= 0).all()
    assert (np.diff(I)[np.diff(D) == 0] > 0).all()
    if rungs[-1] == EXACT:
        last = settled_by == len(rungs)
        expected_D, expected_I = brute_neighbors(distances, K, metric)
        assert np.array_equal(I[last], expected_I[last])
        assert np.array_equal(D[last], expected_D[last])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("dtype", "metric"), CASES)
def test_rungs_settle_the_queries_of_which_they_are_sure_and_no_others(case, dtype, metric, weights):
    data, path, xq, distances = case(dtype, metric)
    rule = Rule(k=K, weights=weights)
    index = with_rungs(path, (CHEAP, SURE, LAST), rule)
    D, I, settled_by = find(index, xq, rule, "label")
    codes = encode(index, xq).codes
    cheap = index.ivf.probe(codes, CHEAP.candidates(K, index.n), CHEAP.nprobe)
    agree = (cheap >= 0).all(axis=1) & (data.y[cheap] == data.y[cheap[:, :1]]).all(axis=1)
    assert np.array_equal(settled_by == 1, agree)
    passed_on = np.flatnonzero(~agree)
    proposed = index.ivf.probe(codes, SURE.candidates(K, index.n), SURE.nprobe)
    for row in passed_on:
        near = proposed[row][proposed[row] >= 0]
        order = near[np.lexsort((near, distances[row, near]))][:K]
        near_D = distances[row, order][None]
        share = vote(data.y[order].astype(np.int32)[None], np.sqrt(near_D) if metric == "l2" else near_D, rule)[1][0]
        is_sure = len(order) == K and share >= SURE.confidence
        assert settled_by[row] == (2 if is_sure else 3), row
        if is_sure:
            assert I[row].tolist() == order.tolist()
    labels = data.y[I]
    assert (labels[settled_by == 1] == labels[settled_by == 1][:, :1]).all()
    assert np.isfinite(D).all()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("dtype", "metric"), [("uint8", "l2"), ("float64", "cosine")])
def test_the_exact_rung_alone_gives_the_answers_of_exact_search(case, dtype, metric, weights):
    _, path, xq, _ = case(dtype, metric)
    classifier = Classifier(with_rungs(path, (EXACT,), Rule(weights=weights)), Rule(weights=weights))
    answer = classifier.answer(xq, {})
    expected = classifier.answer_neighbors(*exact_search(classifier.index, xq, K))
    assert answer.prediction.equals(expected.prediction)
    assert answer.confidence.tobytes() == expected.confidence.tobytes()
    assert (answer.rung == 1).all()


@pytest.mark.parametrize(
    ("dtype", "metric", "ladder", "limited"),
    [
        ("uint8", "l2", "cheap, sure, last", True),
        ("float64", "cosine", "cheap, sure, last", False),
        ("uint8", "l1", "cheap, sure, exact", True),
        ("uint8", "l2", "cheap, sure, exact", False),
        ("float32", "l2", "cheap, exact", True),
    ],
)
def test_answers_have_the_same_bits_in_every_batch_order_and_on_every_number_of_threads(
    case, dtype, metric, ladder, limited
):
    _, path, xq, distances = case(dtype, metric)
    limit = np.median(brute_neighbors(distances, 1, metric)[0]) if limited else None
    rule = Rule(max_distance=limit)
    index = with_rungs(path, LADDERS[ladder], rule)
    expected = find(index, xq, rule, "label")
    rng = np.random.default_rng(0)
    for threads in (1, 2):
        with limit_threads(threads):
            for size in (1, 7, 163, 164):
                asked = 12 if size == 1 else len(xq)
                for start in range(0, asked, size):
                    for found, whole in zip(
                        find(index, xq[start : start + size], rule, "label"), expected, strict=True
                    ):
                        assert found.tobytes() == whole[start : start + size].tobytes(), (threads, size, start)
            for order in (np.arange(len(xq))[::-1], rng.permutation(len(xq)), np.resize(np.arange(3), 200)):
                for found, whole in zip(find(index, xq[order], rule, "label"), expected, strict=True):
                    assert found.tobytes() == whole[order].tobytes(), threads


@spread(
    (
        "ladder, quantile",
        [*(("cheap, sure, last", quantile) for quantile in (0, 0.3)), *(("cheap, sure, exact", q) for q in (0.3, 0.9))],
    ),
    ("dtype, metric", CASES),
)
def test_images_abstain_for_their_distance_where_exact_search_finds_them_too_far(case, dtype, metric, ladder, quantile):
    _, path, xq, distances = case(dtype, metric)
    nearest, _ = brute_neighbors(distances, 1, metric)
    limit = float(np.quantile(nearest, quantile))
    rungs, rule = LADDERS[ladder], Rule(max_distance=limit)
    answer = Classifier(with_rungs(path, rungs), rule).answer(xq, {})
    is_far = answer.status == "abstained"
    assert np.array_equal(is_far, answer.D[:, 0] > limit)
    assert (answer.rung[is_far] == len(rungs)).all()
    if quantile:
        assert len(set(answer.rung[~is_far].tolist())) > 1
    assert np.array_equal(is_far, nearest[:, 0] > limit)


# Which rungs


def test_a_least_confidence_asks_the_rungs_that_were_tuned_for_confidences(case):
    _, path, xq, _ = case("uint8", "l2")
    index = with_rungs(path, (CHEAP, LAST), for_confidence=(EXACT,))
    assert rungs_for(index, Rule(), "label") == (CHEAP, LAST)
    assert rungs_for(index, Rule(max_distance=9.0), "label") == (CHEAP, LAST)
    assert rungs_for(index, Rule(), "confidence") == (EXACT,)
    answer = Classifier(index, Rule(min_confidence=0.9)).answer(xq, {})
    expected = Classifier(index, Rule(min_confidence=0.9)).answer_neighbors(*exact_search(index, xq, K))
    assert answer.confidence.tobytes() == expected.confidence.tobytes()
    assert answer.status.tolist() == expected.status.tolist()
    assert {"ok", "abstained"} == set(answer.status)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(k=7), "tuned for k 5 and uniform weights: for k 7 and uniform weights its most careful rung searches"),
        (Rule(weights="distance"), "for k 5 and distance weights its most careful rung searches"),
        (Rule(k=1, min_confidence=0.5), "for k 1 and uniform weights"),
        (
            Rule(ties="first-class"),
            "for k 5 and uniform weights with ties nearest: for ties first-class its most",
        ),
    ],
)
def test_another_k_or_weighting_or_breaking_of_ties_is_searched_carefully_and_the_note_names_both(case, rule, words):
    _, path, xq, _ = case("uint8", "l2")
    index = with_rungs(path, (CHEAP, LAST))
    assert rungs_for(index, rule, "label") == (index.careful(rule.k),)
    note = why_no_promise(index, rule)
    assert words in note
    assert note.startswith(str(path))
    assert note.endswith("no agreement was measured for that")
    D, I, settled_by = find(index, xq, rule, "label")
    assert (settled_by == 1).all()
    expected_D, expected_I = search(index, xq, rule.k)
    assert np.array_equal(I, expected_I)
    assert np.array_equal(D, expected_D)


def test_an_index_that_was_not_tuned_is_searched_carefully_and_says_so(case):
    _, path, _, _ = case("uint8", "l2")
    index = open_index(path)
    assert rungs_for(index, Rule(), "label") == (index.careful(5),)
    note = why_no_promise(index, Rule())
    assert note == f"{path} was not tuned: its most careful rung searches, and no agreement was measured for it"


@pytest.mark.parametrize("k", [1, 3, 7])
def test_an_index_that_tuning_left_to_exact_search_is_exact_for_every_k(case, k):
    _, path, xq, distances = case("uint8", "l2")
    index = with_rungs(path, (EXACT,))
    for weights in ("uniform", "distance"):
        rule = Rule(k=k, weights=weights)
        D, I, _ = find(index, xq, rule, "label")
        expected_D, expected_I = brute_neighbors(distances, k, "l2")
        assert np.array_equal(I, expected_I)
        assert np.array_equal(D, expected_D)
        assert why_no_promise(index, rule) is None
    assert np.array_equal(search(index, xq, k)[1], expected_I)


def test_where_a_promise_was_measured_or_none_is_needed_there_is_no_note(case, tmp_path):
    _, path, _, _ = case("uint8", "l2")
    for rule in (Rule(), Rule(min_confidence=0.5), Rule(max_distance=3.0)):
        assert why_no_promise(with_rungs(path, (CHEAP, LAST)), rule) is None
    x = np.arange(80, dtype=np.uint8).reshape(20, 4)
    for kind in ("exact", "hnsw"):
        index_arrays(x, np.arange(20) % 2, tmp_path / kind, options=IndexOptions(kind=kind))
        assert why_no_promise(open_index(tmp_path / kind), Rule(k=3)) is None


# Few candidates, no queries, far queries


@pytest.mark.parametrize(
    "rungs", [(CHEAP, EXACT), (Rung(1, 2, 0.0),), (CHEAP, Rung(2, 2, 0.0)), (Rung(1, 1, None), Rung(2, 1, 0.0))]
)
@pytest.mark.parametrize(("dtype", "metric"), [("uint8", "l2"), ("float64", "cosine"), ("uint8", "l1")])
def test_queries_with_too_few_candidates_get_brute_forces_neighbours(case, dtype, metric, rungs):
    _, path, xq, distances = case(dtype, metric)
    rule = Rule(k=60)
    index = with_rungs(path, rungs, rule)
    lacking = (index.ivf.probe(encode(index, xq).codes, rule.k, rungs[-1].nprobe or 1) < 0).any(axis=1)
    assert lacking.any()
    D, I, settled_by = find(index, xq, rule, "label")
    expected_D, expected_I = brute_neighbors(distances, rule.k, metric)
    assert np.array_equal(I[lacking], expected_I[lacking])
    assert np.array_equal(D[lacking], expected_D[lacking])
    assert (settled_by[lacking] == len(rungs)).all()
    assert (I >= 0).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_rung_in_the_middle_is_not_sure_of_queries_with_too_few_candidates(case, weights):
    _, path, xq, distances = case("uint8", "l2")
    rule = Rule(k=60, weights=weights)
    index = with_rungs(path, (Rung(1, 1, None), Rung(2, 1, 0.5), EXACT), rule)
    lacking = (index.ivf.probe(encode(index, xq).codes, 60, 2) < 0).any(axis=1)
    assert lacking.any()
    _, I, settled_by = find(index, xq, rule, "label")
    assert (settled_by[lacking] == 3).all()
    assert np.array_equal(I[lacking], brute_neighbors(distances, 60, "l2")[1][lacking])


@pytest.mark.parametrize("ladder", list(LADDERS))
def test_as_many_neighbours_as_there_are_images_are_all_of_them(tmp_path, ladder):
    data = clusters("uint8", n=300, nq=20)
    build(tmp_path / "x.knn", data.x, data.y)
    rule = Rule(k=300)
    D, I, _ = find(with_rungs(tmp_path / "x.knn", LADDERS[ladder], rule), data.xq, rule, "label")
    expected_D, expected_I = brute_force.neighbors(data.xq, data.x, 300, "l2")
    assert np.array_equal(I, expected_I)
    assert np.array_equal(D, expected_D)


@pytest.mark.parametrize("ladder", LADDERS)
def test_no_queries_get_no_neighbours_and_no_rung(case, ladder):
    _, path, xq, _ = case("uint8", "l2")
    D, I, settled_by = find(with_rungs(path, LADDERS[ladder]), xq[:0], Rule(), "label")
    assert (D.shape, I.shape, settled_by.shape) == ((0, K), (0, K), (0,))
    assert settled_by.dtype == np.int8


@pytest.mark.parametrize("k", [0, 4501])
def test_a_k_that_cannot_be_is_refused_with_both_numbers(case, k):
    _, path, xq, _ = case("uint8", "l2")
    with pytest.raises(OptionError, match=r"k is (0|4501)"):
        find(with_rungs(path, (EXACT,)), xq, Rule(k=k), "label")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_queries_far_out_get_true_distances_and_change_no_other(tmp_path, dtype):
    data = clusters(dtype, n=1500, nq=20)
    build(tmp_path / "x.knn", data.x, data.y)
    index = with_rungs(tmp_path / "x.knn", (CHEAP, SURE, EXACT))
    xq = data.xq.astype(np.float64)
    far = np.vstack([np.full((1, 160), 1e30), np.full((1, 160), -1e6), xq[:1] * 1e12])
    D, I, settled_by = find(index, np.vstack([far, xq]), Rule(), "label")
    true = np.take_along_axis(brute_force.distances(far, data.x, "l2"), I[:3], axis=1)
    assert np.array_equal(D[:3], np.sqrt(true))
    for found, alone in zip((D, I, settled_by), find(index, xq, Rule(), "label"), strict=True):
        assert np.array_equal(found[3:], alone)


# Regression


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("dtype", "metric"), [("uint8", "l2"), ("float32", "l1")])
def test_a_regressions_rung_is_sure_where_all_candidates_lie_within_the_tolerance(tmp_path, dtype, metric, weights):
    data = clusters(dtype, nq=100)
    targets = data.y * 10.0 + data.x[:, :4].astype(np.float64).mean(axis=1) / 50
    build(tmp_path / "x.knn", data.x, targets, is_regression=True, metric=metric)
    rule, tolerance = Rule(weights=weights), 2.0
    index = with_rungs(tmp_path / "x.knn", (CHEAP, EXACT), rule, tolerance=tolerance)
    xq, _ = convert_queries(data.xq, index.vectors.dtype)
    answer = Classifier(index, rule).answer(xq, {})
    cheap = index.ivf.probe(encode(index, xq).codes, CHEAP.candidates(K, index.n), CHEAP.nprobe)
    full, labels = (cheap >= 0).all(axis=1), targets[cheap]
    sure = full & (labels.max(axis=1) - labels.min(axis=1) <= tolerance)
    assert 20 < sure.sum() < 90
    assert np.array_equal(answer.rung, np.where(sure, 1, 2))
    found = answer.prediction.to_numpy()
    rng = np.random.default_rng(0)
    for w in (np.ones(labels.shape), rng.random(labels.shape), np.eye(labels.shape[1])[rng.integers(0, 10, len(xq))]):
        mean = (w * labels).sum(axis=1) / w.sum(axis=1)
        assert (np.abs(found - mean)[sure] <= tolerance + 1e-9).all()
    exact = mean_target(index.targets[exact_search(index, xq, K)[1]], exact_search(index, xq, K)[0], weights)
    assert np.array_equal(found[~sure], exact[~sure])
    assert np.isnan(answer.confidence).all()


# What an answer tells


def test_an_answer_tells_each_images_rung_and_0_for_bad_ones(case):
    data, path, xq, _ = case("float32", "l2")
    index = with_rungs(path, (CHEAP, SURE, LAST))
    expected = Classifier(index)(data.xq).rung
    assert expected.dtype == np.int8
    assert np.array_equal(expected, find(index, xq, Rule(), "label")[2])
    images = data.xq.astype(np.float64)
    images[3, 5] = np.nan
    answer = Classifier(index)(images)
    assert answer.status[3] == "bad_image"
    assert answer.rung[3] == 0
    assert np.array_equal(np.delete(answer.rung, 3), np.delete(expected, 3))
    everything_bad = Classifier(index)(np.full((2, 160), np.nan))
    assert everything_bad.rung.tolist() == [0, 0]


@pytest.mark.parametrize("options", [{"kind": "exact"}, {"kind": "hnsw"}, {"kind": "factory", "factory": "IVF4,Flat"}])
def test_indexes_of_other_kinds_have_no_rungs_and_are_searched_as_ever(tmp_path, options):
    x = np.random.default_rng(0).integers(0, 256, (400, 16), np.uint8)
    index_arrays(x, np.arange(400) % 3, tmp_path / "x.knn", options=IndexOptions(**options))
    classifier = Classifier.open(tmp_path / "x.knn")
    assert classifier.index.tuned is None
    answer = classifier(x[:50])
    assert answer.rung is None
    D, I = search(classifier.index, x[:50], K)
    assert np.array_equal(answer.D, D)
    assert np.array_equal(answer.I, I)
