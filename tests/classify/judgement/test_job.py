"""How good a job is by the labels that its outputs keep, against a count row by row in plain Python."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

import knnvote.classify.judgement.job
from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.judgement.job import judge_job
from knnvote.classify.judgement.numbers import judge_numbers
from knnvote.classify.judgement.truth import Truth, TruthError
from knnvote.classify.vote import Rule
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(6)
LABELS = RNG.integers(0, 4, 500)
IMAGES = np.clip(LABELS[:, None, None] * 50 + RNG.integers(-90, 90, (500, 4, 4)), 0, 255).astype(float)
FILES = {"a.parquet": slice(200, 330), "below/b.parquet": slice(330, 500)}
KINDS = {
    "numbers": (LABELS, LABELS),
    "floats": (LABELS, LABELS.astype(float)),  # as pandas holds integers with gaps
    "text": (np.array(["ash", "béch", "elm", "oak"])[LABELS],) * 2,
}


def classify(labels, truth, **output):
    """A job of two files with a bad image, a row without label and one of a label that is not stored."""
    images = IMAGES.copy()
    images[210, 0, 0] = np.nan
    index_arrays(IMAGES[:200], labels[:200], Path("x.knn"), is_regression=labels.dtype.kind == "f")
    for name, rows in FILES.items():
        column = truth[rows].tolist()
        column[7], column[9] = None, "new" if isinstance(column[9], str) else 9
        table = image_table(images[rows]).append_column("label", pa.array(column))
        write_table(table.append_column("n", pa.array(map(str, range(len(column))))), Path("in") / name)
    limit = None if labels.dtype.kind == "f" else 0.7
    options = JobOptions(output=OutputOptions(prefix="knn_", **output))
    run_job(Classifier.open("x.knn", Rule(min_confidence=limit)), "in", "out", options)
    return FinishedJob.open(locate("out"))


@pytest.mark.parametrize("kind", KINDS)
def test_best_guesses_and_accepted_labels_are_counted(tmp_path, monkeypatch, invoke, kind):
    monkeypatch.chdir(tmp_path)
    found = judge_job(classify(*KINDS[kind])).accuracy
    rows = [row for name in FILES for row in pq.read_table(Path("out") / name).to_pylist()]
    rows = [row for row in rows if row["label"] is not None and row["knn_best"] is not None]
    right = [row["knn_best"] == row["label"] for row in rows]
    accepted = [hit for row, hit in zip(rows, right, strict=True) if row["knn_status"] == "ok"]
    assert (found.rows, found.accuracy) == (297, share_interval(sum(right), 297))
    assert 0 < len(accepted) < 297
    assert found.accepted == len(accepted)
    assert found.accuracy_of_accepted == share_interval(sum(accepted), len(accepted))
    hits = {label: [] for label in {row["label"] for row in rows if row["knn_status"] == "ok"}}
    for row, hit in zip(rows, right, strict=True):
        if row["knn_status"] == "ok":
            hits[row["label"]].append(hit)
    balanced = np.mean([np.mean(of_label) for of_label in hits.values()])
    assert found.balanced_accuracy_of_accepted == pytest.approx(balanced, abs=1e-12)
    pairs = Counter((row["label"], row["knn_best"]) for row in rows)
    assert {(pair.truth, pair.label): pair.images for pair in found.judgement.confusion} == pairs
    by_class = {one.label: (one.images, round(one.accuracy.value * one.images)) for one in found.judgement.classes}
    assert by_class == {
        label: (sum(n for (true, _), n in pairs.items() if true == label), pairs[label, label])
        for label in {row["label"] for row in rows}
    }
    assert found.judgement.classes[-1].accuracy.value == 0  # the label that is not stored, behind all others
    done = invoke("report", "out")
    assert done.code == 0, done.stderr
    told, of_accepted = done.stdout.splitlines()
    assert told.startswith(f"297 rows with a true label: the best guess is right for {sum(right) / 297:.4f} (95% ")
    assert of_accepted.startswith(f"{len(accepted)} of them ({len(accepted) / 297:.2%}) are accepted: the label is ")
    assert of_accepted.endswith(f", balanced accuracy {balanced:.4f}")
    page = Path("report.html").read_text()
    assert f"Of 297 rows with a true label the best guess is right for {sum(right) / 297:.2%}" in page
    table = page.partition('<h2 id="confusions">')[2].partition("</table>")[0]
    assert table.count('<th scope="row">') == len(found.judgement.commonest_confusions)


def test_other_columns_are_no_true_labels(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    classify(LABELS, np.array(["ash", "béch", "elm", "oak"])[LABELS])
    done = invoke("report", "out")
    told = "labels in column 'label' are string, and those to compare with are int64: name the right column with --"
    assert (done.code, done.stdout) == (0, "")
    assert f"note: no row is judged: out/a.parquet: {told}" in done.stderr
    refused = invoke("report", "out", "--label-column", "label")
    assert refused.code == 1
    assert refused.stderr.startswith(f"error: out/a.parquet: {told}")
    refused = invoke("report", "out", "--label-column", "truth")
    assert "out/a.parquet keeps no column 'truth' of its input for --label-column; there are label, n" in refused.stderr
    done = invoke("diff", "out", "out")
    assert done.stdout.splitlines()[-1].startswith(
        "note: no row is judged: out/a.parquet: labels in column 'label' are"
    )
    assert invoke("diff", "out", "out", "--label-column", "label").code == 1
    monkeypatch.setattr(knnvote.classify.judgement.job, "_MOST_LABELS", 100)
    index_arrays(IMAGES[:200], LABELS[:200].astype(str), Path("text.knn"))
    run_job(Classifier.open("text.knn"), "in", "text")
    with pytest.raises(TruthError, match="column 'n' holds over 100 values, so it is no label"):
        judge_job(FinishedJob.open(locate("text")), Truth(label_column="n"))
    assert judge_job(FinishedJob.open(locate("text"))).accuracy.accuracy.value == 0


def test_errors_of_numbers_far_from_zero_keep_their_digits():
    truth = RNG.normal(1e9, 1, 300)
    best = truth + RNG.normal(0, 0.5, 300)
    parts = [
        (truth[part], best[part], np.ones(len(truth[part]), np.bool_)) for part in np.array_split(np.arange(300), 7)
    ]
    found = judge_numbers(lambda: iter([parts[0], tuple(of[:0] for of in parts[0]), *parts[1:]]))
    assert found.r2 == pytest.approx(r2_score(truth, best), rel=1e-6)
    assert found.mean_absolute_error == pytest.approx(mean_absolute_error(truth, best), rel=1e-12)
    assert judge_numbers(lambda: iter([])) is None
    few = np.full(3, 2.5), np.array([2.5, 3.5, 0.5]), np.array([True, True, False])
    constant = judge_numbers(lambda: iter([few]))
    assert (constant.mean_absolute_error, constant.mean_absolute_error_of_accepted, constant.r2) == (1, 0.5, None)


def test_numbers_of_a_regression_are_judged_by_how_far_they_are(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    found = judge_job(classify(LABELS / 2, LABELS / 2)).accuracy
    rows = [row for name in FILES for row in pq.read_table(Path("out") / name).to_pylist()]
    pairs = [(row["label"], row["knn_best"]) for row in rows]
    truth, best = np.array([pair for pair in pairs if None not in pair]).T
    assert found.rows == found.accepted == len(truth) == 297
    assert found.mean_absolute_error == pytest.approx(mean_absolute_error(truth, best), rel=1e-12)
    assert found.r2 == pytest.approx(r2_score(truth, best), rel=1e-6)
    assert sum(one.rows for one in found.spread) == 297
    assert (found.spread[0].low, found.spread[-1].high) == (min(best - truth), max(best - truth))
    for options in ([], ["--label-column", "label"]):
        done = invoke("report", "out", *options)
        told = f"297 rows with a true number: R² {found.r2:.4f}, mean absolute error {found.mean_absolute_error:.4g}\n"
        assert (done.code, done.stdout) == (0, told)
    page = Path("report.html").read_text()
    assert f"the mean absolute error is {found.mean_absolute_error:.4g}, and R² {found.r2:.4f}." in page
    assert page.partition('<h2 id="errors">')[2].partition("</figure>")[0].count("<tr>") > 2


def test_a_regression_that_abstains_is_judged_of_what_it_accepts_too(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    classify(LABELS / 2, LABELS / 2)
    half = float(np.nanmedian(pq.read_table("out/a.parquet")["knn_distance"].to_numpy()))
    run_job(Classifier.open("x.knn", Rule(max_distance=half)), "in", "near")
    found = judge_job(FinishedJob.open(locate("near"))).accuracy
    assert 0 < found.accepted < found.rows == 297
    told = f"{found.accepted} of them ({found.accepted / 297:.2%}) are accepted: mean absolute error "
    assert told in invoke("report", "near").stdout


def test_outputs_without_labels_are_not_judged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classify(LABELS, LABELS)
    run_job(Classifier.open("x.knn"), "in", "narrow", JobOptions(output=OutputOptions(keep=("n",))))
    assert judge_job(FinishedJob.open(locate("narrow"))).accuracy is None


def test_what_equals_a_stored_image_by_the_metric_is_told_alike_and_judged_by_no_command(tmp_path, monkeypatch, invoke):
    """By cosine a brighter one does; the column of labels has a name that only the index tells."""
    monkeypatch.chdir(tmp_path)
    images = IMAGES + 100
    brighter = np.concatenate([images[:30] * 3, images[200:260]])
    truth = np.append(1 - LABELS[:30] % 2, LABELS[200:260] % 2)  # of the stored ones a wrong one
    for name, of, labels in (("old", images[:200], LABELS[:200] % 2), ("new", brighter, truth)):
        table = image_table(of).append_column("fraud", pa.array(labels)).append_column("n", pa.array(range(len(of))))
        write_table(table, Path(f"{name}.parquet"))
    made = ("index", "old.parquet", "--label-column", "fraud", "--metric", "cosine", "--out", "x.knn")
    assert invoke(*made).code == 0
    done = invoke("classify", "x.knn", "new.parquet", "--out", "out", "--json")
    assert json.loads(done.stdout)["stored"] == 30
    right = np.mean([row["best"] == row["fraud"] for row in pq.read_table("out/new.parquet").to_pylist()[30:]])
    for index in ((), ("--index", "x.knn")):
        done = invoke("report", "out", *index)
        assert done.stdout.startswith(f"60 rows with a true label: the best guess is right for {right:.4f} ")
        assert done.stdout.splitlines()[-1].startswith("30 rows with a true label equal a stored image: these answer")
    assert "<li>30 rows with a true label equal a stored image" in Path("report.html").read_text()
    found = json.loads(invoke("diff", "out", "out", "--json").stdout)
    assert (found["stored"], found["truth"]["first"]["labelled"]) == (30, 60)
    found = json.loads(invoke("compare", "new.parquet", "--index", "x.knn", "--json").stdout)
    assert found["indexes"][0]["stored"] == 30
