"""How sure is sure enough: thresholds against plain loops, on stored images left out and on labelled ones."""

import json
import re
from dataclasses import replace
from pathlib import Path

import brute_force
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_sets import clusters
from scipy.stats import binomtest

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.threshold import JudgedAnswers, choose, choose_threshold
from knnvote.classify.vote import Rule
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import KnnvoteError, OptionError, spelled
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import add_files


def judged(confidence, right):
    winner = np.zeros(len(right), np.int32)
    return JudgedAnswers(
        confidence=confidence,
        winner=winner,
        right=right,
        truth=1 - right.astype(np.int32),
        with_copies=0,
        left_out=True,
    )


@settings(max_examples=30, deadline=None)
@example(seed=1, n=140, k=1000, target=0.75)
@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 400),
    k=st.sampled_from([1, 3, 5, 7, 1000]),
    target=st.floats(0.3, 0.999),
)
def test_the_least_threshold_stands_down_to_which_all_are_shown_to_reach_the_target(seed, n, k, target):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(1, k + 1, n) / k
    right = rng.random(n) < 0.3 + 0.7 * confidence
    expected, before, failed = None, 0, 0
    thresholds = np.unique(np.floor(np.round(confidence * 100, 6)) / 100)
    for threshold in thresholds[::-1]:
        accepted = right[confidence >= threshold]
        if 20 * (len(accepted) - before) < n and threshold != thresholds[0]:
            continue
        before = len(accepted)
        if binomtest(int(accepted.sum()), len(accepted)).proportion_ci(0.95).low >= target:
            expected = threshold
        elif 0.025 ** (1 / len(accepted)) >= target:  # so many could show it
            failed += 1
            if failed == 2:
                break
    found = choose(judged(confidence, right), ["a"], target)
    assert (found.chosen and found.chosen.threshold) == expected
    assert found.classes[0].own_threshold == expected  # all are of it
    if found.chosen is not None:
        assert found.chosen.images == (confidence >= expected).sum()
        assert found.classes[0].accepted == replace(found.chosen, balanced_accuracy=None)


def test_a_threshold_whose_accuracy_is_below_the_target_is_chosen_as_seldom_as_is_said():
    """0.9 of the sure are right, and fewer of the others: each threshold is below 0.9 or just there."""
    wrong, times = 0, 1000
    for seed in range(times):
        rng = np.random.default_rng(seed)
        confidence = rng.choice([0.6, 0.8, 1.0], 500, p=[0.1, 0.2, 0.7])
        right = rng.random(500) < np.where(confidence == 1, 0.9, 0.89)
        wrong += choose(judged(confidence, right), ["a"], 0.9).chosen is not None
    assert wrong <= 0.05 * times + 3 * np.sqrt(0.05 * times)


N, CLASSES = 800, 5
DATA = clusters("uint8", n=N, nq=600, d=24, classes=CLASSES)
TRUE_OF_NEW = clusters("uint8", n=N + 600, nq=0, d=24, classes=CLASSES).y[N:]
Y = np.where(np.random.default_rng(0).random(N) < 0.1, (DATA.y + 1) % CLASSES, DATA.y)  # a tenth of them wrong


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exact index of images with wrong labels, one made for a target, and new images with the true ones."""
    path = tmp_path_factory.mktemp("thresholds")
    index_arrays(DATA.x, Y, path / "x.knn")
    index_arrays(DATA.x, Y, path / "sure.knn", tune=Tuning(k=7, target_accuracy=0.85))
    write_table(image_table(DATA.xq, TRUE_OF_NEW), path / "new.parquet")
    write_table(image_table(DATA.xq), path / "unlabelled.parquet")
    return path


@pytest.fixture
def index(folder):
    return open_index(folder / "x.knn")


@pytest.mark.parametrize("rule", [Rule(), Rule(k=7, weights="distance")])
def test_stored_images_are_judged_by_the_others_as_plain_numpy_says(index, rule):
    found = choose_threshold(index, rule)
    D, I = brute_force.neighbors(DATA.x, DATA.x, rule.k + 1, "l2")
    confidence, right = np.empty(N), np.empty(N, dtype=bool)
    for row in range(N):
        others = I[row] != row
        w = 1 / D[row][others] if rule.weights == "distance" else np.ones(rule.k)
        votes = np.bincount(Y[I[row][others]], weights=w, minlength=CLASSES)
        confidence[row], right[row] = votes.max() / w.sum(), votes.argmax() == Y[row]
    assert (found.images, found.left_out, found.with_copies, found.chosen) == (N, True, 0, None)
    for step in found.steps:
        accepted = confidence >= step.threshold - 1e-9
        assert step.images == accepted.sum()
        assert step.accuracy.value == pytest.approx(right[accepted].mean(), abs=0.01)  # ties of votes are by distance


def test_of_new_images_as_many_of_the_accepted_are_right_as_was_wanted(index):
    """Judged by labels of which a tenth are wrong: the true ones are met more often."""
    found = choose_threshold(index, target_accuracy=0.8)
    answer = Classifier(index, Rule(min_confidence=found.chosen.threshold))(DATA.xq)
    accepted = answer.status == "ok"
    assert abs(accepted.mean() - found.chosen.coverage) < 0.05
    assert (answer.prediction.to_numpy(zero_copy_only=False) == TRUE_OF_NEW)[accepted].mean() >= 0.8


def test_labelled_images_are_judged_as_compare_judges_them(index, folder):
    found = choose_threshold(index, Rule(k=3), 0.9, tests=folder / "new.parquet")
    (report,) = compare(folder / "new.parquet", index, Rule(k=3)).indexes
    assert (found.images, found.left_out) == (600, False)
    assert found.steps[0].accuracy.value == report.accuracy
    assert found.steps[0].balanced_accuracy == pytest.approx(report.judgement.balanced_accuracy, abs=1e-12)
    for few in report.coverage:
        same = next(step for step in found.steps if step.threshold == few.threshold)
        assert few.balanced_accuracy == pytest.approx(same.balanced_accuracy, abs=1e-12)
    answer = Classifier(index, Rule(k=3))(DATA.xq)
    named = np.array(answer.best.to_pylist())
    right = named == TRUE_OF_NEW
    for of_class in found.classes:
        accepted = (named == of_class.label) & (answer.confidence >= found.chosen.threshold)
        assert of_class.answers == (named == of_class.label).sum()
        assert of_class.accepted.images == accepted.sum()
        assert of_class.accepted.accuracy.value == pytest.approx(right[accepted].mean())
    with pytest.raises(OptionError, match="no test image has a label: name their column with label_column"):
        choose_threshold(index, tests=folder / "unlabelled.parquet")


def test_labels_of_test_images_may_be_in_a_table_of_their_own(folder, invoke, tmp_path):
    lines = [f"unlabelled.parquet#{row},{label}" for row, label in enumerate(TRUE_OF_NEW)]
    (tmp_path / "truth.csv").write_text("\n".join(["id,label", *lines]))
    tables = ("choose-threshold", folder / "x.knn", folder / "unlabelled.parquet", "--labels", "truth.csv", "--json")
    in_file = invoke("choose-threshold", folder / "x.knn", folder / "new.parquet", "--json")
    assert json.loads(invoke(*tables).stdout) == json.loads(in_file.stdout)
    for wrong in (("--labels", "truth.csv"), (folder / "new.parquet", "--id-column", "id")):
        assert invoke("choose-threshold", folder / "x.knn", *wrong).code == 2


def test_test_images_that_are_stored_are_left_out_and_told(folder, index, invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mixed = image_table(np.concatenate([DATA.xq, DATA.x[:50]]), np.append(TRUE_OF_NEW, Y[:50]))
    write_table(mixed, Path("mixed.parquet"))
    write_table(image_table(DATA.x[:50], Y[:50]), Path("stored.parquet"))
    found = choose_threshold(index, target_accuracy=0.8, tests="mixed.parquet")
    assert found == replace(choose_threshold(index, target_accuracy=0.8, tests=folder / "new.parquet"), stored=50)
    told = "left out: 50 images equal to a stored one"
    assert told in invoke("choose-threshold", folder / "x.knn", "mixed.parquet").stdout
    of_distance = ("choose-threshold", folder / "x.knn", "--false-alarms", 0.05)
    assert told in invoke(*of_distance, "--unknown", "mixed.parquet").stdout
    limits = [json.loads(invoke(*of_distance, of, "--json").stdout) for of in ("mixed.parquet", folder / "new.parquet")]
    assert limits[0] == {**limits[1], "stored": 50}
    for command in (of_distance, ("choose-threshold", folder / "x.knn")):
        refused = invoke(*command, "stored.parquet")
        assert (refused.code, refused.stdout) == (1, "")
        assert "answers for itself: give others, or leave out IMAGES, and stored images are judged" in refused.stderr
        assert invoke(*command).code == 0
    refused = invoke(*of_distance, "--unknown", "stored.parquet")
    assert "known: give others, or leave out --unknown" in refused.stderr


def test_a_target_that_is_not_reached_is_refused_with_one_that_is(folder, invoke):
    given = ("classify", folder / "x.knn", folder / "new.parquet", "--out", "out", "--target-accuracy")
    done = invoke(*given, 0.999)
    assert (done.code, done.stdout) == (1, "")
    enough = re.search(r"give --target-accuracy (0\.\d+) or less, or another --k", done.stderr)[1]
    again = invoke(*given, enough)
    assert again.code == 0
    assert again.stderr.startswith("accepts answers with confidence 0.8 or more: ")
    told = invoke("choose-threshold", folder / "x.knn", "--target-accuracy", 0.999)
    assert told.code == 1
    assert f"give --target-accuracy {enough} or less" in told.stdout


@pytest.mark.parametrize("target", [0, 1, -1, 1.5, float("nan"), "0.9", True])
def test_a_target_that_no_share_can_be_shown_to_reach_is_refused(index, target):
    for call in (lambda: choose_threshold(index, target_accuracy=target), lambda: Tuning(target_accuracy=target)):
        with pytest.raises(OptionError, match=r"target_accuracy is .*: give a share above 0 and below 1"):
            call()


def test_what_has_no_confidence_or_no_other_images_is_refused(tmp_path):
    index_arrays(DATA.x[:20], Y[:20] / 2, tmp_path / "r.knn", is_regression=True)
    with pytest.raises(OptionError, match="was built for regression"):
        choose_threshold(open_index(tmp_path / "r.knn"))
    index_arrays(DATA.x[:5], Y[:5], tmp_path / "few.knn")
    with pytest.raises(OptionError, match="give test images with labels, or a smaller k"):
        choose_threshold(open_index(tmp_path / "few.knn"))
    with pytest.raises(OptionError, match="was built for regression"):
        index_arrays(DATA.x[:20], Y[:20] / 2, tmp_path / "s.knn", is_regression=True, tune=Tuning(target_accuracy=0.9))
    assert not (tmp_path / "s.knn").exists()


def test_copies_of_stored_images_are_told_for_they_flatter(tmp_path, invoke):
    index_arrays(np.repeat(DATA.x, 2, axis=0), np.repeat(Y, 2), tmp_path / "x.knn")
    write_table(image_table(DATA.xq), tmp_path / "new.parquet")
    done = invoke("classify", "x.knn", "new.parquet", "--out", "out", "--target-accuracy", 0.5)
    assert "note: 1,600 of them have an exact copy stored, which flatters the accuracy" in done.stderr
    told = invoke("choose-threshold", "x.knn").stdout
    assert "1,600 of the vectors have an exact copy among the others" in told
    assert "\nall answers by their class\n" in told  # for none of the thresholds is chosen


# What an index keeps


def test_an_index_keeps_its_vote_and_its_threshold_and_classify_takes_them(folder, invoke, tmp_path):
    sure = open_index(folder / "sure.knn")
    kept = sure.vote.acceptance
    assert kept == choose_threshold(sure, Rule(k=7), 0.85).acceptance
    assert Rule.of(sure) == Classifier(sure).rule == Rule(k=7, min_confidence=kept.min_confidence)
    done = invoke("classify", folder / "sure.knn", folder / "new.parquet", "--out", "kept")
    assert done.stderr.startswith(f"accepts answers with confidence {kept.min_confidence:g} or more, as the index was ")
    asked = invoke(
        *("classify", folder / "sure.knn", folder / "new.parquet", "--out", "asked"),
        *("--k", 7, "--min-confidence", kept.min_confidence),
    )
    assert asked.stderr.startswith("asked: ")
    read = [pq.read_table(tmp_path / out / "new.parquet") for out in ("kept", "asked")]
    assert read[0].equals(read[1])
    assert read[0]["prediction"].null_count == (Classifier(sure)(DATA.xq).status == "abstained").sum() > 0
    everything = invoke("classify", folder / "sure.knn", folder / "new.parquet", "--out", "all", "--min-confidence", 0)
    assert "600 ok" in everything.stderr
    other = invoke("classify", folder / "sure.knn", folder / "new.parquet", "--out", "other", "--k", 5, "--json")
    assert json.loads(other.stdout)["ok"] == 600
    assert other.stderr.startswith(
        "note: all answers are accepted, as the index's own threshold is for k 7 and uniform"
    )
    inspected = invoke("inspect", folder / "sure.knn").stdout
    assert "made for k 7 and uniform weights; accepts answers with confidence" in inspected
    assert f"; balanced accuracy {kept.balanced_accuracy:.4f}" in " ".join(inspected.split())


def test_of_an_index_that_grows_the_threshold_is_found_anew(folder, tmp_path, invoke):
    written = ("index", folder / "new.parquet", "--out", "x.knn", "--k", 7, "--weights", "distance")
    assert invoke(*written, "--target-accuracy", 0.8).code == 0
    before = open_index(tmp_path / "x.knn").vote
    write_table(image_table(DATA.x, Y), tmp_path / "more.parquet")
    with pytest.raises(KnnvoteError, match=r"pass tuning=knnvote\.Tuning"):
        add_files(tmp_path / "x.knn", tmp_path / "more.parquet")
    assert invoke("add", "x.knn", "more.parquet").code == 0
    after = open_index(tmp_path / "x.knn").vote
    assert (after.k, after.weights) == (before.k, before.weights) == (7, "distance")
    assert after.acceptance.target_accuracy == 0.8
    assert after.acceptance.images == N + 600
    assert after.acceptance.accuracy.low >= 0.8


def test_an_index_that_does_not_reach_its_target_accepts_nothing_unless_told_and_tries_again_as_it_grows(
    folder, invoke, tmp_path
):
    with pytest.warns(UserWarning, match="target_accuracy 0.985 is not reached: of the 600 images .*asks for") as told:
        done = invoke("index", folder / "new.parquet", "--out", "x.knn", "--target-accuracy", 0.985)
    assert done.code == 0
    assert spelled(told[0].message.marked, as_typed).startswith("--target-accuracy 0.985 is not reached")
    assert "accepts no answer unless told: 0.985 was wanted" in done.stderr
    kept = open_index(tmp_path / "x.knn").vote.acceptance
    assert (kept.min_confidence, kept.target_accuracy) == (None, 0.985)
    given = ("classify", "x.knn", folder / "new.parquet", "--out", "out")
    refused = invoke(*given)
    assert refused.code == 2
    assert refused.stderr.endswith(
        "give --min-confidence 0 to accept all, or another; knnvote choose-threshold tells what each accepts\n"
    )
    with pytest.raises(OptionError, match="which no confidence is shown to reach: give min_confidence 0"):
        Classifier.open(tmp_path / "x.knn")
    assert invoke(*given, "--min-confidence", 0).code == 0
    assert invoke("choose-threshold", "x.knn").code == 0
    assert invoke("compare", folder / "new.parquet", "--index", "x.knn").code == 0
    assert "accepts no answer" in invoke("inspect", "x.knn").stdout
    easy = np.repeat(np.eye(5, 24) * 200, 400, axis=0) + np.random.default_rng(0).integers(0, 9, (2000, 24))
    write_table(image_table(easy.astype(np.uint8), np.repeat(np.arange(5), 400)), tmp_path / "easy.parquet")
    assert invoke("add", "x.knn", "easy.parquet").code == 0
    assert open_index(tmp_path / "x.knn").vote.acceptance.min_confidence is not None
    assert invoke(*given, "--overwrite").code == 0


def test_a_vote_without_a_threshold_is_kept_when_an_index_grows_or_is_not_tuned(folder, tmp_path):
    index_arrays(DATA.x, Y, tmp_path / "x.knn", tune=Tuning(k=3, ties="first-class"))
    add_files(tmp_path / "x.knn", folder / "new.parquet")
    assert Rule.of(open_index(tmp_path / "x.knn")) == Rule(k=3, ties="first-class")


def test_indexes_made_for_different_votes_are_each_judged_by_their_own_or_all_by_the_one_given(
    folder, invoke, tmp_path
):
    index_arrays(DATA.x, Y, tmp_path / "y.knn", tune=Tuning(k=3, weights="distance"))
    sure, any_ = folder / "sure.knn", folder / "x.knn"  # made for k 7, and for no vote
    given = ("compare", folder / "new.parquet", "--index", sure, "--index", "y.knn", "--index", any_)
    page = tmp_path / "page.html"
    done = invoke(*given, "--json", "--report", page)
    found = json.loads(done.stdout)
    votes = [(report["vote"]["k"], report["vote"]["weights"]) for report in found["indexes"]]
    assert (found["k"], found["weights"], votes) == (7, "uniform", [(7, "uniform"), (3, "distance"), (5, "uniform")])
    table = pq.read_table(folder / "new.parquet")
    for index, report in zip((sure, "y.knn", any_), found["indexes"], strict=True):
        right = pc.equal(Classifier.open(index)(table).best, table["label"])
        assert report["accuracy"] == pytest.approx(pc.mean(right).as_py())
    told = f"each by its own vote, or all by the one of --k and --weights: {sure}: k = 7; y.knn: k = 3, distance; "
    assert invoke(*given).stdout.startswith(told)
    assert f"{told}{any_}: k = 5" in page.read_text()
    by_one = json.loads(invoke(*given, "--json", "--k", 3).stdout)["indexes"]
    assert [(report["vote"]["k"], report["vote"]["weights"]) for report in by_one] == [
        *((3, "uniform"), (3, "distance"), (3, "uniform"))
    ]
