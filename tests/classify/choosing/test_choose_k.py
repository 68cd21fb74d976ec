"""The choice of k: leave-one-out accuracies, against plain loops, scikit-learn and the vote itself."""

import json
import math
import re
import shlex
from pathlib import Path

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from weightings import WEIGHTS, in_sklearn, temperature

import knnvote.classify.search.left_out
from knnvote.classify.choosing.choose_k import Choice, choose_k
from knnvote.classify.choosing.every_k import mean_targets, votes
from knnvote.classify.choosing.scores import Score
from knnvote.classify.search.left_out import neighbors_left_out
from knnvote.classify.vote import Rule, mean_target, vote
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.sample import split_digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import KINDS

DIGITS = split_digits()
TRAIN = DIGITS.train_images.reshape(-1, 64)
RNG = np.random.default_rng(11)


def made(folder, images, labels, **options):
    is_regression = options.pop("is_regression", False)
    index_arrays(images, labels, folder / "i.knn", is_regression=is_regression, options=IndexOptions(**options))
    return open_index(folder / "i.knn")


def plain_neighbors(x, k, metric="l2"):
    """Neighbours (n, k) of each row among the others, by distance, then by row."""
    D, I = brute_force.neighbors(x, x, len(x), metric)
    others = np.arange(len(x))[:, None] != I
    return D[others].reshape(len(x), -1)[:, :k], I[others].reshape(len(x), -1)[:, :k]


def plain_weight(distance, nearest, weights):
    if weights == "uniform":
        return 1.0
    if weights.startswith("softmax"):
        return math.exp((nearest - distance) / temperature(weights))
    return float(distance == 0) if nearest == 0 else 1 / distance


def plain_winners(labels, D, I, weights):
    """The winner (n, k) of each row's first neighbours, in plain loops."""
    winners = np.empty(I.shape, dtype=object)
    for row, (distances, neighbors) in enumerate(zip(D, I, strict=True)):
        tally = {}
        for j, (distance, neighbor) in enumerate(zip(distances.tolist(), neighbors.tolist(), strict=True)):
            votes, total = tally.get(labels[neighbor], (0.0, 0.0))
            weight = plain_weight(distance, distances[0], weights)
            tally[labels[neighbor]] = (votes + weight, total + distance)
            winners[row, j] = min(tally, key=lambda label: (-tally[label][0], tally[label][1], label))
    return winners


def plain_accuracies(labels, D, I, tried):
    """Accuracy by k and weighting that was tried."""
    truth = np.array(labels, dtype=object)[:, None]
    shares = {w: (plain_winners(labels, D, I, w) == truth).mean(axis=0).tolist() for w in tried}
    return {(j + 1, w): shares[w][j] for j in range(I.shape[1]) for w in tried}


def accuracies(choice):
    return {(score.k, score.weights): score.value for score in choice.scores}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 7 rows, so that small indexes have several and an incomplete one."""
    monkeypatch.setattr(knnvote.classify.search.left_out, "BLOCK", 7)


def test_accuracies_on_the_digits_are_those_of_plain_leave_one_out(exact_index):
    choice = choose_k(open_index(exact_index), max_k=12)
    labels = DIGITS.train_labels.tolist()
    D, I = plain_neighbors(TRAIN, 12)
    expected = plain_accuracies(labels, D, I, choice.weights)
    assert accuracies(choice) == pytest.approx(expected, abs=1e-15)
    assert choice.weights == ["uniform", "distance", *(f"softmax[{t}]" for t in (1, 2, 5, 10, 20))]
    assert (choice.images, choice.search, choice.measure, choice.with_copies) == (1347, "exact", "accuracy", 0)
    winners = {w: plain_winners(labels, D, I, w) for w in ("uniform", "softmax[2]")}
    for score in choice.scores:
        if score.weights in winners:
            balanced = balanced_accuracy_score(labels, winners[score.weights][:, score.k - 1].tolist())
            assert score.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
        expected = math.sqrt(score.value * (1 - score.value) / 1347)
        assert score.standard_error == pytest.approx(expected, rel=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_accuracies_are_those_of_scikit_learn_where_no_votes_tie(tmp_path):
    x = RNG.normal(size=(60, 4))
    labels = (x[:, 0] + RNG.normal(size=60) > 0).astype(int)
    found = accuracies(choose_k(made(tmp_path, x, labels), max_k=9))
    tried = list(dict.fromkeys(weights for _, weights in found))
    assert len(tried) == 7
    for k, place in ((1, 0), (9, 0), (3, 1), (5, 2), (9, 4), (7, 6)):  # of two classes no odd number of votes ties
        weights = tried[place]
        reference = KNeighborsClassifier(k, weights=in_sklearn(weights))
        predicted = cross_val_predict(reference, x, labels, cv=LeaveOneOut())
        assert found[k, weights] == pytest.approx((predicted == labels).mean(), abs=1e-15)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_copies_with_other_labels_and_classes_of_one_row_count_as_any(tmp_path, metric, dtype):
    x = RNG.integers(1, 4, (40, 3)).astype(dtype)  # 27 vectors: most have copies, and distances are often equal
    labels = RNG.integers(0, 3, 40).tolist()
    labels[5], labels[6] = 7, 8
    index = made(tmp_path, x, labels, metric=metric)
    choice = choose_k(index)
    D, I = plain_neighbors(x, 30, metric)
    found = neighbors_left_out(index, np.arange(40), 30)
    assert np.array_equal(found[1], I)
    assert np.array_equal(found[0], D)
    assert accuracies(choice) == pytest.approx(plain_accuracies(labels, D, I, choice.weights), abs=1e-15)
    assert len(choice.weights) == 7
    at = x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x  # by which a brighter one is equal
    equal = (np.abs(at[:, None] - at).max(axis=2) < 1e-9).sum(axis=1) > 1
    assert choice.with_copies == equal.sum() > 10


@pytest.mark.parametrize("labels", [["b", "a", "b", "a", "c"], [True, False, True, True, False], [3, -1, 3, 3, 8]])
def test_labels_of_every_type_are_compared_as_classes(tmp_path, labels):
    x = np.array([[0], [1], [3], [4], [9]], np.uint8)
    choice = choose_k(made(tmp_path, x, labels))
    expected = plain_accuracies(labels, *plain_neighbors(x, 4), choice.weights)
    assert accuracies(choice) == pytest.approx(expected, abs=1e-15)


@pytest.mark.usefixtures("small_blocks")
def test_more_copies_than_neighbours_push_a_row_out_of_its_own_search_and_change_nothing(tmp_path):
    x = np.repeat(np.array([[5, 5], [9, 9]], np.uint8), 10, axis=0)
    choice = choose_k(made(tmp_path, x, [0] * 10 + [1] * 10), max_k=2)
    assert set(accuracies(choice).values()) == {1.0}
    assert choice.with_copies == 20
    _, I = neighbors_left_out(open_index(tmp_path / "i.knn"), np.arange(20), 2)
    assert (np.arange(20)[:, None] != I).all()
    assert I[9].tolist() == [0, 1]
    assert I[1].tolist() == [0, 2]


def test_two_images_have_one_neighbour_each(tmp_path):
    x = np.array([[0, 0], [1, 1]], np.uint8)
    choice = choose_k(made(tmp_path, x, [4, 4]))
    assert choice.scores == [
        Score(k=1, weights=w, value=1.0, standard_error=0.0, balanced_accuracy=1.0) for w in ("uniform", "distance")
    ]
    index_arrays(x, [4, 5], tmp_path / "o.knn")
    choice = choose_k(open_index(tmp_path / "o.knn"))
    assert choice.best == Score(k=1, weights="uniform", value=0.0, standard_error=0.0, balanced_accuracy=0.0)


def test_one_image_is_refused_and_so_are_more_neighbours_than_there_are(tmp_path):
    index_arrays(np.zeros((1, 2), np.uint8), [1], tmp_path / "one.knn")
    with pytest.raises(KnnvoteError, match=r"one\.knn holds one image, and leaving it out") as error:
        choose_k(open_index(tmp_path / "one.knn"), max_k=3)
    assert not isinstance(error.value, OptionError)
    index = made(tmp_path, np.arange(6, dtype=np.uint8)[:, None], [0, 1] * 3)
    assert max(score.k for score in choose_k(index).scores) == 5
    for max_k in (6, 0):
        with pytest.raises(OptionError, match=rf"^max_k is {max_k}, and with one of the 6 images .* are 5 neighbours"):
            choose_k(index, max_k=max_k)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "factory"])
def test_every_kind_of_index_is_taken_and_no_row_finds_itself(tmp_path, kind):
    x, labels = TRAIN[:300], DIGITS.train_labels[:300]
    index = made(tmp_path, x, labels, kind=kind)
    _, I = neighbors_left_out(index, np.arange(300), 6)
    assert (np.arange(300)[:, None] != I).all()
    expected = plain_neighbors(x, 6)[1]
    assert (expected[:, :, None] == I[:, None]).any(axis=2).mean() > 0.95
    choice = choose_k(index, max_k=6)
    assert choice.search == kind
    assert choice.best.value > 0.9


@pytest.mark.parametrize("is_regression", [False, True])
def test_threads_change_nothing_and_progress_counts_every_row(exact_index, tmp_path, monkeypatch, is_regression):
    monkeypatch.setattr(knnvote.classify.search.left_out, "BLOCK", 500)
    index = open_index(exact_index)
    if is_regression:
        index = made(tmp_path, TRAIN, DIGITS.train_labels / 3, is_regression=True)
    done = []
    one = choose_k(index, max_k=5, threads=1, progress=done.append)
    assert done == [500, 500, 347]
    assert choose_k(index, max_k=5, threads=2) == one


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_regression_has_the_mean_squared_error_of_scikit_learn(tmp_path, place):
    x = RNG.normal(size=(50, 3))
    targets = x[:, 0] + RNG.normal(size=50) / 3 + 1e6  # far from zero, where sums of squares would cancel
    choice = choose_k(made(tmp_path, x, targets, is_regression=True), max_k=7)
    assert choice.measure == "mean_squared_error"
    assert choice.best_balanced is choice.scores[0].balanced_accuracy is None
    weights = choice.weights[place]
    scores = {score.k: score for score in choice.scores if score.weights == weights}
    for k in (1, 2, 4, 7):
        predicted = cross_val_predict(KNeighborsRegressor(k, weights=in_sklearn(weights)), x, targets, cv=LeaveOneOut())
        errors = (predicted - targets) ** 2
        assert scores[k].value == pytest.approx(errors.mean(), rel=1e-8)
        assert scores[k].standard_error == pytest.approx(errors.std() / math.sqrt(50), rel=1e-8)
    assert choice.best.value == min(score.value for score in choice.scores)


def test_targets_whose_squares_overflow_are_refused(tmp_path):
    x = np.arange(4, dtype=np.uint8)[:, None]
    with pytest.raises(KnnvoteError, match=r"labels of .*i.knn go from -1e\+300 to 1e\+308, .* scale them"):
        choose_k(made(tmp_path, x, [-1e300, 0.0, 1.0, 1e308], is_regression=True))


def choice_of(values, error=0.01, measure="accuracy"):
    """A choice with the two values of each k."""
    scores = [
        Score(k=k, weights=w, value=value, standard_error=error)
        for k, pair in enumerate(values, 1)
        for w, value in zip(("uniform", "distance"), pair, strict=True)
    ]
    return Choice(images=100, search="exact", measure=measure, with_copies=0, scores=scores)


def named(score):
    return score.k, score.weights


def test_among_equally_good_ones_the_smaller_k_is_best_then_uniform_weights():
    assert named(choice_of([(0.5, 0.5), (0.7, 0.9), (0.9, 0.9)]).best) == (2, "distance")
    assert named(choice_of([(0.5, 0.5), (0.9, 0.9), (0.9, 0.9)]).best) == (2, "uniform")
    assert named(choice_of([(4.0, 3.0), (3.0, 2.0)], measure="mean_squared_error").best) == (2, "distance")


def test_the_smallest_k_is_within_one_standard_error_and_the_better_of_its_two():
    choice = choice_of([(0.5, 0.5), (0.75, 0.8125), (0.75, 0.875)], error=0.125)
    assert named(choice.smallest_within_one_standard_error) == (2, "distance")
    choice = choice_of([(0.75, 0.5), (0.75, 0.875)], error=0.125)
    assert named(choice.smallest_within_one_standard_error) == (1, "uniform")  # at the limit is within
    choice = choice_of([(0.7, 0.5), (0.875, 0.75)], error=0.125)
    assert named(choice.smallest_within_one_standard_error) == named(choice.best) == (2, "uniform")
    choice = choice_of([(9.0, 2.5), (2.0, 2.25)], error=0.5, measure="mean_squared_error")
    assert named(choice.smallest_within_one_standard_error) == (1, "distance")


def test_the_largest_k_is_within_one_standard_error_and_the_better_of_its_two():
    choice = choice_of([(0.875, 0.5), (0.75, 0.8125), (0.5, 0.5)], error=0.125)
    assert named(choice.largest_within_one_standard_error) == (2, "distance")
    choice = choice_of([(0.875, 0.5), (0.5, 0.75), (0.5, 0.7)], error=0.125)
    assert named(choice.largest_within_one_standard_error) == (2, "distance")  # at the limit is within
    choice = choice_of([(0.5, 0.5), (0.875, 0.875), (0.7, 0.5)], error=0.125)
    assert named(choice.largest_within_one_standard_error) == named(choice.best) == (2, "uniform")
    choice = choice_of([(2.0, 9.0), (2.5, 2.25), (9.0, 9.0)], error=0.5, measure="mean_squared_error")
    assert named(choice.largest_within_one_standard_error) == (2, "distance")


@st.composite
def neighbors(draw):
    """Some queries of k neighbours with many equal and zero distances: codes and D."""
    k, nq = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    distances = st.sampled_from([0.0, 0.0, 1e-320, 0.1, 0.25, 0.3, 1.0, 1.0, 3.0, 7.5, 1e20])
    rows = st.lists(distances, min_size=k, max_size=k).map(sorted)
    codes = st.lists(st.sampled_from([0, 1, 2, 5, 40_000]), min_size=k, max_size=k)
    return (
        np.array([draw(codes) for _ in range(nq)], np.int32),
        np.array([draw(rows) for _ in range(nq)], np.float64),
    )


@settings(max_examples=60, deadline=None)
@given(case=neighbors(), weights=st.sampled_from([*WEIGHTS]))
def test_every_k_has_the_label_and_the_mean_that_the_vote_gives_it(case, weights):
    codes, D = case
    targets = codes / 7
    winners, means = votes(codes, D, weights), mean_targets(targets, D, weights)
    for k in range(1, D.shape[1] + 1):
        rule = Rule(k=k, weights=weights)
        assert np.array_equal(winners[:, k - 1], vote(codes[:, :k], D[:, :k], rule)[0])
        assert np.array_equal(means[:, k - 1], mean_target(targets[:, :k], D[:, :k], weights))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_with_thousands_of_classes_every_k_has_the_label_that_the_vote_gives_it(weights):
    codes = RNG.integers(0, 5000, (200, 40), dtype=np.int32)
    codes[::2] %= 7
    D = np.sort(RNG.integers(0, 30, (200, 40)) / 3, axis=1)
    winners = votes(codes, D, weights)
    for k in range(1, 41):
        assert np.array_equal(winners[:, k - 1], vote(codes[:, :k], D[:, :k], Rule(k=k, weights=weights))[0])


def test_the_command_prints_a_row_for_each_k_then_the_best_the_smallest_and_the_largest(invoke, exact_index):
    result = invoke("choose-k", exact_index, "--max-k", "10", "--threads", "1")
    assert (result.code, result.stderr) == (0, "")
    choice = choose_k(open_index(exact_index), max_k=10)
    title, measure, headers, *rows = result.stdout.splitlines()
    assert (title, measure) == ("1,347 images, each left out in turn, exact search", "accuracy by k and weights")
    assert headers.split() == ["k", *choice.weights]
    found = {
        (int(k), w): v for k, *pair in map(str.split, rows[:10]) for w, v in zip(choice.weights, pair, strict=True)
    }
    assert found == {key: f"{value:.4f}" for key, value in accuracies(choice).items()}
    named = {
        "best": choice.best,
        "smallest k within one standard error of it": choice.smallest_within_one_standard_error,
        "largest k within one standard error of it": choice.largest_within_one_standard_error,
        "best balanced accuracy": choice.best_balanced,
    }
    assert rows[10:14] == [
        f"{told}: k = {s.k}, {s.weights}: accuracy {s.value:.4f}, standard error {s.standard_error:.4f}, "
        f"balanced {s.balanced_accuracy:.4f}"
        for told, s in named.items()
    ]


def test_the_command_gives_json_on_stdout(invoke, exact_index):
    result = invoke("choose-k", exact_index, "--max-k", "3", "--json")
    assert (result.code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    record = json.loads(result.stdout)
    choice = choose_k(open_index(exact_index), max_k=3)
    assert record == choice.to_json()
    assert list(record) == [
        "images",
        "search",
        *("with_copies", "groups", "near_copies"),
        "results",
        *("best", "best_balanced"),
        "smallest_within_one_standard_error",
        "largest_within_one_standard_error",
    ]
    assert [list(entry) for entry in record["results"]] == [
        ["k", "weights", "accuracy", "standard_error", "balanced_accuracy"]
    ] * 21
    assert record["best"] in record["results"]


def test_the_command_tells_of_copies_and_of_squared_errors(invoke):
    x = np.array([[1, 1], [1, 1], [4, 4], [5, 5]], np.uint8)
    index_arrays(x, [0, 0, 1, 1], Path("copies.knn"))
    result = invoke("choose-k", "copies.knn")
    assert (result.code, result.stderr) == (0, "")
    told = "2 of the 4 vectors have an exact copy among the others, which flatters the accuracy"
    *_, note, _, classify, _, _ = result.stdout.splitlines()
    assert (note, classify) == (told, "knnvote classify copies.knn IMAGES... --out DIR --k 1 --weights uniform")
    index_arrays(x, [0.5, 0.5, 1.5, 2.5], Path("r.knn"), is_regression=True)
    result = invoke("choose-k", "r.knn", "--max-k", "1")
    assert re.search(r"\nmean squared error by k and weights\nk +uniform +distance .*\n1 +0\.5 +0\.5 ", result.stdout)
    assert "best: k = 1, uniform: mean squared error 0.5, standard error 0.25\n" in result.stdout
    record = json.loads(invoke("choose-k", "r.knn", "--max-k", "1", "--json").stdout)
    assert record["best"] == {"k": 1, "weights": "uniform", "mean_squared_error": 0.5, "standard_error": 0.25}


def test_the_command_refuses_more_neighbours_than_there_are_as_wrong_usage(invoke):
    index_arrays(np.arange(3, dtype=np.uint8)[:, None], [0, 1, 1], Path("three.knn"))
    result = invoke("choose-k", "three.knn", "--max-k", "3")
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: --max-k is 3, and with one of the 3 images of three.knn left out there are 2 neighbours: "
        "give --max-k from 1 to 2\n"
    )
    index_arrays(np.zeros((1, 2), np.uint8), [1], Path("one.knn"))
    result = invoke("choose-k", "one.knn")
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: one.knn holds one image")


def test_of_unequal_classes_the_best_balanced_accuracy_is_another_than_the_best(tmp_path):
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [180, 20])
    x = rng.normal(size=(200, 2)) + labels[:, None] * 1.5
    choice = choose_k(made(tmp_path, x, labels))
    assert choice.best_balanced.balanced_accuracy > choice.best.balanced_accuracy
    assert choice.best_balanced.value < choice.best.value
    assert (
        named(choice.best_balanced)
        == max(((score.balanced_accuracy, -place), named(score)) for place, score in enumerate(choice.scores))[1]
    )


def test_the_commands_that_go_on_with_the_best_run_and_say_what_an_index_that_was_mended_would_lose(invoke):
    write_table(image_table(np.arange(24, dtype=np.uint8).reshape(12, 1, 2), [*"aaaabbbbaabb"]), Path("in.parquet"))
    assert (
        invoke("index", "in.parquet", "--out", "x.knn", "--step", "centred", "--k", 7, "--ties", "first-class").code
        == 0
    )
    Path("fix.csv").write_text("id,fix\nin.parquet#8,b\n")
    assert invoke("relabel", "x.knn", "fix.csv").code == 0
    told = invoke("choose-k", "x.knn", "--max-k", 3).stdout
    assert "the index has labels changed since it was built: another one of the same files has nothing of that" in told
    *_, classify, _, _, build = told.splitlines()
    for command in (classify, build):
        assert invoke(*shlex.split(command.replace("IMAGES...", "in.parquet"))[1:]).code == 0
    kept = open_index("x-best.knn")
    best = choose_k(open_index("x.knn"), max_k=3).best
    assert (kept.vote.k, kept.vote.weights, kept.vote.ties) == (best.k, best.weights, "first-class")
    assert kept.manifest.steps == "centred"
    best = choose_k(kept, max_k=3).best
    made = ("--out", "x-best.knn", "--overwrite", "--k", best.k, "--weights", best.weights, "--step", "centred")
    assert invoke("index", "in.parquet", *made).code == 0
    again = invoke("choose-k", "x-best.knn", "--max-k", 3).stdout.splitlines()
    assert again[-2:] == [
        "to classify with the best, for which the index was made:",
        "knnvote classify x-best.knn IMAGES... --out DIR",
    ]
