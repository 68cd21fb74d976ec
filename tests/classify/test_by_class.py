"""Least confidences by class: chosen, kept by an index, taken by jobs, against a plain count."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.search.left_out import neighbors_left_out
from knnvote.classify.vote import Rule, vote
from knnvote.cli.tables import inspection
from knnvote.cli.tables.inspection import acceptance_lines
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import add_files
from knnvote.indexer.rungs import Acceptance, ClassAcceptance, Interval
from knnvote.indexer.sealed import seal

TARGET = 0.9
RNG = np.random.default_rng(8)
LABELS = np.repeat(["clear", "mixed", "near", "rare"], [300, 300, 300, 12])
CENTRES = {"clear": (0, 9), "mixed": (0, 0), "near": (2.4, 0), "rare": (9, 9)}
X = (np.array([CENTRES[label] for label in LABELS]) + RNG.normal(size=(912, 2))).astype(np.float32)
XQ = (np.array([CENTRES[label] for label in LABELS[::2]]) + RNG.normal(size=(456, 2))).astype(np.float32)
RULE = Rule(k=15)


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index_arrays(X, LABELS, Path("x.knn"), tune=Tuning(k=15, target_accuracy=TARGET, by_class=True))
    write_table(image_table(XQ.reshape(-1, 1, 2), LABELS[::2]), Path("new.parquet"))
    return open_index("x.knn")


def test_each_class_has_the_threshold_that_its_own_answers_show_and_one_of_few_has_none(work):
    D, I = neighbors_left_out(work, np.arange(912), 15)
    winner, confidence = vote(work.class_codes[I], D, RULE)
    by_class = {one.label: one for one in work.vote.acceptance.by_class}
    assert [*by_class] == ["clear", "mixed", "near", "rare"]
    assert (by_class["rare"].min_confidence, by_class["rare"].coverage, by_class["rare"].accuracy) == (None, None, None)
    for code, (label, one) in enumerate(by_class.items()):
        assert one.answers == (winner == code).sum()
        if label == "rare":
            continue
        accepted = (winner == code) & (confidence >= one.min_confidence)
        assert one.coverage == pytest.approx(accepted.sum() / one.answers)
        assert one.accuracy.value == pytest.approx((work.class_codes[accepted] == code).mean())
        assert one.accuracy.low >= TARGET
    assert by_class["clear"].coverage == 1 > max(by_class[label].coverage for label in ("mixed", "near"))
    found = choose_threshold(work, RULE, TARGET)
    assert work.vote.acceptance == found.acceptance_by_class
    assert replace(work.vote.acceptance, by_class=()) == found.acceptance


def test_an_index_that_keeps_them_withholds_by_the_class_that_won(work):
    rule = Rule.of(work)
    own, acceptance = dict(rule.min_confidence_by_class), work.vote.acceptance
    assert set(own) == {"clear", "mixed", "near"}
    assert rule.min_confidence == acceptance.min_confidence
    answer = Classifier(work)(XQ)
    assert answer.rule == rule
    least = [own.get(label, acceptance.min_confidence) for label in answer.best.to_pylist()]
    accepted = answer.confidence >= least
    assert 0 < (~accepted).sum() < 200
    assert accepted.tolist() != (answer.confidence >= acceptance.min_confidence).tolist()
    assert np.array_equal(answer.status == "ok", accepted)
    reasons = [None if ok else f"confidence below {limit:g}" for ok, limit in zip(accepted, least, strict=True)]
    assert answer.reason.tolist() == reasons
    assert Rule.of(work, min_confidence=0.5).min_confidence_by_class is None
    assert Rule.of(work, k=7).min_confidence_by_class is None  # they are of another vote
    assert compare("new.parquet", work).indexes[0].accuracy == np.mean(
        [best == true for best, true in zip(answer.best.to_pylist(), LABELS[::2], strict=True)]
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"min_confidence_by_class": {"near": 0.5}}, r"^min_confidence is None: give that of other classes$"),
        *(
            ({"min_confidence": 0.5, "min_confidence_by_class": wrong}, r"^min_confidence_by_class is .*: give shares")
            for wrong in ({}, {"near": 2}, {"near": None}, {"near": "x"}, 3, [("near", 1), ("near", 1)])
        ),
    ],
)
def test_what_is_no_confidence_by_class_is_refused(given, told):
    with pytest.raises(OptionError, match=told):
        Rule(**given)


@pytest.mark.usefixtures("work")
def test_a_class_that_there_is_not_and_no_target_are_refused(invoke):
    with pytest.raises(
        OptionError, match=r"^min_confidence_by_class names the class 'far', which no image of x\.knn has"
    ):
        Classifier.open("x.knn", Rule(min_confidence=0.5, min_confidence_by_class={"far": 0.5}))
    with pytest.raises(OptionError, match=r"^by_class is of target_accuracy: give that too$"):
        Tuning(by_class=True)
    done = invoke("classify", "x.knn", "new.parquet", "--out", "o", "--by-class")
    assert (done.code, "--by-class is of --target-accuracy: give that too" in done.stderr) == (2, True)
    done = invoke("index", "new.parquet", "--out", "y.knn", "--by-class")
    assert (done.code, done.stderr) == (2, "error: --by-class is of --target-accuracy: give that too\n")


@pytest.mark.usefixtures("work")
def test_jobs_take_them_from_the_index_or_find_them_and_go_on_without_a_search(invoke):
    index_arrays(X, LABELS, Path("y.knn"), tune=Tuning(k=15))
    kept = invoke("classify", "x.knn", "new.parquet", "--out", "kept")
    assert "as the index was made for accuracy 0.9, or with that of their class; --min-confidence 0" in kept.stderr
    found = invoke("classify", "y.knn", "new.parquet", "--out", "found", "--target-accuracy", TARGET, "--by-class")
    assert "of 3 of 4 classes from a confidence of their own, from " in found.stderr
    assert "too few answers, or too few right ones, to tell of: rare; the confidence of all is theirs" in found.stderr
    assert pq.read_table("kept/new.parquet").equals(pq.read_table("found/new.parquet"))
    content = Path("found/new.parquet").read_bytes()
    again = invoke("classify", "y.knn", "new.parquet", "--out", "found", "--target-accuracy", TARGET)
    assert "1 written (1 without a search)" in again.stderr
    back = invoke("classify", "y.knn", "new.parquet", "--out", "found", "--target-accuracy", TARGET, "--by-class")
    assert "1 written (1 without a search)" in back.stderr
    assert Path("found/new.parquet").read_bytes() == content
    assert invoke("review", "found", "--index", "y.knn", "--out", "r.csv").code == 0
    assert invoke("report", "found", "--index", "y.knn", "--out", "page.html").code == 0
    assert ", or that of its class" in Path("page.html").read_text()
    inspected = invoke("inspect", "x.knn").stdout
    assert "of 3 of 4 classes from a confidence of their own" in inspected
    *own, rare = open_index("x.knn").vote.acceptance.by_class
    for one in own:
        line = (
            f"{one.label}: from confidence {one.min_confidence:g}, {one.coverage:.1%} of {one.answers} answers, of "
            f"which {one.accuracy.value:.4f} are right ({one.accuracy.low:.4f} to {one.accuracy.high:.4f})"
        )
        assert line in found.stderr.splitlines()
        assert line in " ".join(inspected.split())
    few = f"rare: {rare.answers} answers, too few to tell, for 0.9 takes 36: the confidence of all is its own"
    assert few in found.stderr.splitlines()


def test_they_are_chosen_anew_when_images_are_added_and_refused_where_they_are_none(work):
    more = (np.array(CENTRES["rare"]) + RNG.normal(size=(200, 1, 2))).astype(np.float32)
    write_table(image_table(more, np.array(["rare"] * 200)), Path("more.parquet"))
    add_files(Path("x.knn"), "more.parquet", tuning=Tuning, tell=lambda _note: None)
    after = open_index("x.knn").vote.acceptance
    assert [one.min_confidence is None for one in after.by_class] == [False] * 4
    assert [one.answers for one in after.by_class][3] > [one.answers for one in work.vote.acceptance.by_class][3]
    record = json.loads(Path("x.knn/manifest.json").read_text())
    for wrong in ({"min_confidence": 2}, {"label": None}, {"answers": -1}, {"accuracy": 1}, {"more": 1}):
        changed = json.loads(json.dumps(record))
        changed["vote"]["acceptance"]["by_class"][0] |= wrong
        Path("x.knn/manifest.json").write_bytes(seal(changed))
        with pytest.raises(KnnvoteError, match="vote"):
            open_index("x.knn")


@pytest.mark.usefixtures("work")
def test_that_jobs_differ_by_them_is_told_without_an_option_that_there_is_not(invoke):
    assert invoke("classify", "x.knn", "new.parquet", "--out", "a").code == 0
    assert invoke("classify", "x.knn", "new.parquet", "--out", "b", "--min-confidence", 0.5).code == 0
    told = invoke("diff", "a", "b").stdout
    assert 'thresholds by class was [["clear", ' in told
    assert "min-confidence-by-class" not in told


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("near,-1\n", "w.csv gives class near the weight -1: give one from 1e-9 to 1e9"),
        ("near,1\nnear,2\n", "w.csv names the class near more than once: give each one weight"),
        ("", "w.csv has no row: give a class and its weight in each"),
    ],
)
def test_a_file_of_class_weights_that_cannot_be_is_told_by_its_name_and_class(invoke, rows, told):
    Path("w.csv").write_text("class,weight\n" + rows)
    done = invoke("classify", "x.knn", "new.parquet", "--out", "o", "--class-weight", "w.csv")
    assert (done.code, done.stderr) == (1, f"error: {told}\n")


@pytest.mark.usefixtures("work")
def test_choose_threshold_tells_what_each_class_alone_accepts_and_which_are_too_small(invoke):
    told = invoke("choose-threshold", "x.knn", "--target-accuracy", TARGET).stdout.split("chosen likewise, ")[1]
    found = choose_threshold(open_index("x.knn"), RULE, TARGET)
    assert told.startswith("for which 0.9 takes 36 answers at least\n")
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines()[2:]}
    for of_class in found.classes:
        own = of_class.own
        if own is None:
            assert of_class.label == "rare"
            assert "1 class has that of all, with too few answers to tell: rare" in told.splitlines()
            continue
        right = own.accuracy
        assert rows[of_class.label] == [
            *(f"{own.threshold:.2f}", f"{own.images}", f"{own.coverage:.1%}", f"{right.value:.4f}"),
            f"{right.low:.4f}-{right.high:.4f}",
        ]


def test_where_no_class_has_another_confidence_that_is_told_with_how_many_could_tell():
    of_all = Interval(value=0.95, low=0.9, high=0.98)
    own = ClassAcceptance(label="a", answers=90, min_confidence=0.6, coverage=0.9, accuracy=of_all)
    few = [ClassAcceptance(label=name, answers=9, min_confidence=None, coverage=None, accuracy=None) for name in "bc"]
    found = Acceptance(
        target_accuracy=0.9, min_confidence=0.6, coverage=0.9, accuracy=of_all, images=108, by_class=(own, *few)
    )
    told = "--by-class changes nothing: of 3 classes 1 have that of all for their own confidence, and of 2 there is too"
    assert acceptance_lines(found, "image")[1].startswith(told)
    assert acceptance_lines(replace(found, by_class=(replace(own, min_confidence=0.5),)), "image")[1].startswith(
        "of 1 of 1 classes"
    )


@pytest.mark.usefixtures("work")
def test_of_many_classes_those_with_a_confidence_of_their_own_are_told_and_the_command_that_tells_of_all(
    invoke, monkeypatch
):
    monkeypatch.setattr(inspection, "CLASSES_SHOWN", 1)
    given = ("--target-accuracy", TARGET, "--by-class", "--k", 9)
    job = invoke("classify", "x.knn", "new.parquet", "--out", "o", *given).stderr
    for told, k in ((job, 9), (invoke("inspect", "x.knn").stdout, 15)):
        words = " ".join(told.split())
        assert "the confidence of all is its own" not in words
        found = re.search(r"more class.* own, and . class.* too few .*: knnvote (.*?) tells of all", words)
        assert found, words
        in_json = json.loads(invoke(*shlex.split(found[1])).stdout)
        assert [one["label"] for one in in_json["classes"]] == [*CENTRES]
        of_vote = choose_threshold(open_index("x.knn"), Rule(k=k), TARGET)
        assert in_json["chosen"]["images"] == of_vote.chosen.images
