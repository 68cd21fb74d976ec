"""What the commands tell of tuning: when an index is built, inspected, searched and compared."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_sets import build, clusters

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.vote import Rule
from knnvote.cli.tables.inspection import tuning_lines
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.manifest import AdaptiveSettings, read_manifest
from knnvote.indexer.rungs import EXACT, Interval, MeasuredLadder, MeasuredRung, Tuned

VOTE = ("--k", "3", "--weights", "distance")
INDEX = ("--kind", "adaptive", "--threads", "1")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Labelled images, others to classify, and an exact index; tests only read them."""
    folder = tmp_path_factory.mktemp("commands")
    data = clusters("uint8", n=6000, nq=200, d=144)
    write_table(image_table(data.x.reshape(-1, 12, 12), data.y), folder / "train.parquet")
    images = image_table(data.xq.reshape(-1, 12, 12), np.arange(200))
    write_table(images.rename_columns([images.column_names[0], "number"]), folder / "test.parquet")
    index_arrays(data.x.reshape(-1, 12, 12), data.y, folder / "exact.knn")
    tune = Tuning(k=3, weights="distance", target_agreement=0.97)
    build(folder / "tuned.knn", data.x.reshape(-1, 12, 12), data.y, tune=tune)
    return folder


def test_index_tunes_for_k_weights_and_target_and_says_what_it_measured(folder, invoke, tmp_path):
    options = (*VOTE, "--target-agreement", "0.97")
    built = invoke("index", folder / "train.parquet", "--out", "x.knn", *INDEX, *options)
    assert built.code == 0, built.stderr
    tuned = read_manifest(tmp_path / "x.knn").search.tuned
    entry = tuned.to_json()
    assert (entry["k"], entry["weights"], entry["target_agreement"]) == (3, "distance", 0.97)
    assert tuned == read_manifest(folder / "tuned.knn").search.tuned  # from files or arrays, on 1 thread or more
    assert entry["label"]["reached"]
    assert len(entry["label"]["rungs"]) > 1
    agreement = entry["label"]["agreement"]
    _, tuned_for, labels, confidences = built.stderr.splitlines()
    assert tuned_for == f"tuned for k 3 and distance weights on {entry['queries']:,} stored images, each left out"
    promise = f"{agreement['value']:.4f}, of a 95% interval from {agreement['low']:.4f}; rungs settle "
    assert labels.startswith(f"labels that are exact search's: {promise}")
    assert confidences.startswith("labels and confidences that are, for --min-confidence: ")
    assert built.stdout == ""
    shown = invoke("inspect", "x.knn")
    assert shown.code == 0
    told = " ".join(shown.stdout.split())
    assert "tuned for k 3 and distance weights" in told
    assert promise in told
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["search"]["tuned"] == entry


def test_classify_is_silent_where_the_promise_holds_and_gives_each_images_rung(folder, invoke, tmp_path):
    index = folder / "tuned.knn"
    done = invoke("classify", index, folder / "test.parquet", "--out", "out", *VOTE, "--neighbors")
    assert done.code == 0
    assert "note:" not in done.stderr
    table = pq.read_table(tmp_path / "out" / "test.parquet")
    assert table.column_names[-2:] == ["neighbors", "rung"]
    images = pq.read_table(folder / "test.parquet")
    answer = Classifier(open_index(index), Rule(k=3, weights="distance"))(images)
    assert table["rung"].to_pylist() == answer.rung.tolist()
    assert len(set(answer.rung.tolist())) > 1


def test_classify_notes_that_nothing_was_measured_for_another_k(folder, invoke, tmp_path):
    index = folder / "tuned.knn"
    for_another = ("--k", 5, "--weights", "uniform")
    done = invoke("classify", index, folder / "test.parquet", "--out", "out", *for_another)
    assert done.code == 0
    assert done.stderr.splitlines()[0] == (
        f"note: {index} was tuned for k 3 and distance weights: for k 5 and uniform weights its most careful rung "
        "searches, and no agreement was measured for that"
    )
    assert pq.read_table(tmp_path / "out" / "test.parquet").column_names[-1] == "reason"


def test_compare_notes_the_same_of_the_index_that_it_is_true_of(folder, invoke):
    tuned, exact = ("--index", folder / "tuned.knn"), ("--index", folder / "exact.knn")
    noted = invoke("compare", folder / "test.parquet", *tuned, *exact, "--json", "--k", 5)
    assert noted.code == 0, noted.stderr
    assert noted.stderr.count("note:") == 1
    assert f"note: {folder / 'tuned.knn'} was tuned for k 3 and distance weights" in noted.stderr
    silent = invoke("compare", folder / "test.parquet", *tuned, *exact, "--json")  # as that was made for
    assert "note:" not in silent.stderr
    report = json.loads(silent.stdout)["indexes"][0]
    assert report["agreement"]["high"] >= 0.97


def test_a_target_that_is_not_reached_is_told_and_search_is_exact(folder, invoke, tmp_path):
    done = invoke("index", folder / "train.parquet", "--out", "x.knn", *INDEX, "--target-agreement", "0.99999")
    assert done.code == 0
    tuned = open_index(tmp_path / "x.knn").tuned
    least = math.floor(share_interval(tuned.queries, tuned.queries).low * 10_000) / 10_000
    last = f"--target-agreement {least} is the most that these can show"
    lines = [
        "labels that are exact search's, with their confidences: all, by exact search alone",
        f"even without a miss {tuned.queries:,} images asked show {least}, not the target 0.99999",
        f"to show it takes about 370,000, and 40,000 are asked at most; {last}",
    ]
    assert done.stderr.splitlines()[2:] == lines
    assert tuned.label.ladder == (EXACT,)
    told = " ".join(invoke("inspect", "x.knn").stdout.split())
    assert "; ".join(lines) in told
    # What it says can be shown: to ask for it is not refused for the number of images.
    done = invoke("index", folder / "train.parquet", "--out", "y.knn", *INDEX, "--target-agreement", str(least))
    assert "without a miss" not in done.stderr


@pytest.mark.parametrize(
    ("agreed", "why", "more"),
    [
        (
            5000,
            "even without a miss 5,000 images asked show 0.9992, not the target 0.9995",
            (
                "to show it, and so be faster than exact search, takes about 7,400, of about 9,600 stored; "
                "--target-agreement 0.9992 is the most that these can show"
            ),
        ),
        (
            4999,
            "faster rungs agree on 0.9998 of 5,000 images asked, which shows 0.9988, not the target 0.9995",
            (
                "to show it, and so be faster than exact search, takes about 21,000, of about 26,000 stored; "
                "--target-agreement 0.9988 can be shown"
            ),
        ),
        (
            4990,
            "faster rungs agree on 0.9980 of 5,000 images asked, which shows 0.9963, not the target 0.9995",
            "to ask more images would not change that; --target-agreement 0.9963 can be shown",
        ),
    ],
)
def test_what_can_be_shown_and_what_more_images_would_buy_is_told(agreed, why, more):
    whole, exact = Interval(value=1, low=1, high=1), (MeasuredRung(EXACT, 1.0, 1.0),)
    best = MeasuredLadder(rungs=exact, agreement=whole, reached=False, shown=share_interval(agreed, 5000))
    tuned = Tuned(
        k=5,
        weights="uniform",
        target_agreement=0.9995,
        tolerance=None,
        queries=5000,
        label=best,
        confidence=best,
    )
    settings = AdaptiveSettings(grid=1.0, careful=EXACT, tuned=tuned)
    assert tuning_lines(settings)[2:] == [why, more]
    older = replace(best, shown=None)  # tuned before what can be shown was recorded
    settings = replace(settings, tuned=replace(tuned, label=older, confidence=older))
    assert tuning_lines(settings)[2:] == ["5,000 images asked do not show that rungs reach the target 0.9995"]


def test_copies_among_those_asked_are_named_where_they_keep_the_target_from_being_shown():
    whole, exact = Interval(value=1, low=1, high=1), (MeasuredRung(EXACT, 1.0, 1.0),)
    shown = replace(share_interval(1600, 1600), value=1.0)
    best = MeasuredLadder(rungs=exact, agreement=whole, reached=False, shown=shown)
    tuned = Tuned(
        k=5, weights="uniform", target_agreement=0.999, tolerance=None, queries=20_000, label=best, confidence=best
    )
    assert tuning_lines(AdaptiveSettings(grid=1.0, careful=EXACT, tuned=tuned))[2:] == [
        (
            "even without a miss 20,000 images asked, which for the copies among them tell as much as about 1,600, "
            "show 0.9976, not the target 0.999"
        ),
        (
            "to show it, and so be faster than exact search, takes about 3,700 that are no copies of each other, "
            "of about 4,800 such stored; --target-agreement 0.9976 is the most that these can show"
        ),
    ]


def test_a_target_of_1_is_told_to_be_exact_search(folder, invoke):
    done = invoke("index", folder / "train.parquet", "--out", "x.knn", *INDEX, "--target-agreement", "1")
    assert done.code == 0
    assert done.stderr.splitlines()[1].startswith("tuned for k 5 and uniform weights: exact search alone")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target-agreement", "1.5"), "--target-agreement is 1.5: give a share above 0, at most 1"),
        (("--target-agreement", "0"), "--target-agreement is 0.0: give a share above 0, at most 1"),
    ],
)
def test_what_cannot_be_tuned_for_is_refused_in_one_line_and_nothing_is_left(
    folder, invoke, tmp_path, options, message
):
    done = invoke("index", folder / "train.parquet", "--out", "x.knn", *INDEX, *options)
    assert done.code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.knn").exists()


def test_an_index_of_another_kind_is_not_tuned_has_no_rungs_and_no_note(folder, invoke, tmp_path):
    done = invoke("index", folder / "train.parquet", "--out", "x.knn", "--kind", "hnsw", "--target-agreement", 0.9)
    assert done.code == 0
    assert done.stderr.splitlines()[0] == (
        "note: --target-agreement without effect: only adaptive indexes are tuned, and this one is hnsw"
    )
    assert len(done.stderr.splitlines()) == 2
    assert open_index(tmp_path / "x.knn").tuned is None
    assert tuning_lines(read_manifest(tmp_path / "x.knn").search) == []
    for index in ("x.knn", folder / "exact.knn"):
        done = invoke("classify", index, folder / "test.parquet", "--out", f"out-{index == 'x.knn'}", "--neighbors")
        assert "note:" not in done.stderr
        assert pq.read_schema(tmp_path / f"out-{index == 'x.knn'}" / "test.parquet").names[-1] == "neighbors"
