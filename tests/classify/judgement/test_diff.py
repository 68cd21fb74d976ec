"""Two jobs over the same inputs compared, against a count row by row in plain Python."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

import knnvote.classify.job.output
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import OutputOptions, in_step
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.judgement.diff import diff_jobs
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 4, 500)
IMAGES = np.clip(LABELS[:, None, None] * 50 + RNG.integers(-90, 90, (500, 4, 4)), 0, 255).astype(float)
NAMES = np.array(["ash", "béch", "elm", "oak"])
FILES = {"a.parquet": slice(200, 330), "below/b.parquet": slice(330, 500)}
KINDS = {"numbers": LABELS, "text": NAMES[LABELS], "truth": LABELS % 2 == 0}


@pytest.fixture(params=KINDS)
def jobs(request, tmp_path, monkeypatch):
    """Two jobs of two files, one row of which is no image and one of which has no label, in the working folder."""
    monkeypatch.chdir(tmp_path)
    labels, images = KINDS[request.param], IMAGES.copy()
    images[210, 0, 0] = np.nan
    index_arrays(IMAGES[:200], labels[:200], Path("x.knn"))
    for name, rows in FILES.items():
        truth = labels[rows].tolist()
        truth[7] = None
        write_table(image_table(images[rows]).append_column("label", pa.array(truth)), Path("in") / name)
    monkeypatch.setattr(knnvote.classify.job.output, "_GROUP_BYTES", 20_000)  # row groups of the two are not in step
    run_job(Classifier.open("x.knn", Rule(k=1)), "in", "one")
    options = JobOptions(output=OutputOptions(neighbors=True, prefix="knn_"))
    run_job(Classifier.open("x.knn", Rule(k=7, min_confidence=0.5)), "in", "other", options)
    return [FinishedJob.open(locate(name)) for name in ("one", "other")]


def rows_of(out, prefix=""):
    """File, row, label, status and prediction of every row."""
    for name in FILES:
        for row, values in enumerate(pq.read_table(Path(out) / name).to_pylist()):
            yield name, row, values["label"], values[f"{prefix}status"], values[f"{prefix}prediction"]


def test_every_change_is_counted_with_its_first_rows_and_judged(jobs):
    diff = diff_jobs(*jobs)
    labels, statuses, better, worse, first = Counter(), Counter(), Counter(), Counter(), {}
    right, of_class, answered = np.zeros(2, int), defaultdict(list), (defaultdict(list), defaultdict(list))
    for (name, row, truth, *one), (_, _, _, *other) in zip(rows_of("one"), rows_of("other", "knn_"), strict=True):
        hits = [truth is not None and prediction == truth for _, prediction in (one, other)]
        right += hits
        if truth is not None:
            of_class[truth].append(hits)
            for answers, hit, (status, _) in zip(answered, hits, (one, other), strict=True):
                if status == "ok":
                    answers[truth].append(hit)
        if one == other:
            assert hits[0] == hits[1]
            continue
        place = 0 if one[0] != other[0] else 1
        change = (place, one[place], other[place])
        (labels if place else statuses)[change] += 1
        better[change] += hits == [False, True]
        worse[change] += hits == [True, False]
        first.setdefault(change, []).append((name, row))
    balanced = np.mean([np.mean(hits, axis=0) for hits in of_class.values()], axis=0).tolist()
    for place, changes, counted in ((1, diff.labels, labels), (0, diff.statuses, statuses)):
        assert {(place, change.before, change.now): change.rows for change in changes} == dict(counted)
        assert [change.rows for change in changes] == sorted(counted.values(), reverse=True)
        for change in changes:
            key = (place, change.before, change.now)
            assert (change.better, change.worse) == (better[key], worse[key])
            assert [(found.file, found.row) for found in change.first] == first[key][:3]
    assert (diff.rows, diff.changed) == (300, labels.total() + statuses.total())
    assert [judged.right for judged in diff.judged] == right.tolist()
    assert [judged.labelled for judged in diff.judged] == [298, 298]
    assert [judged.balanced_accuracy for judged in diff.judged] == pytest.approx(balanced, abs=1e-12)
    assert diff.judged[0].answered == 297  # but for the bad image
    for judged, answers in zip(diff.judged, answered, strict=True):
        of_answered = np.mean([np.mean(hits) for hits in answers.values()])
        assert judged.balanced_accuracy_of_answered == pytest.approx(of_answered, abs=1e-12)
    assert (diff.accuracies.only_name, diff.accuracies.only_other) == (better.total(), worse.total())
    assert diff.accuracies.p == binomtest(better.total(), better.total() + worse.total()).pvalue
    assert diff.to_json()["differences"][:2] == ["--k was 1 and is 7", "--min-confidence was not given and is 0.5"]


@pytest.mark.parametrize("jobs", ["numbers"], indirect=True)
def test_the_command_tells_it_in_80_columns_as_json_and_as_a_page(jobs, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    diff = diff_jobs(*jobs)
    done = invoke("diff", "one", "other", "--report", "diff.html")
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("one and then other: --k was 1 and is 7; --min-confidence was not given and is 0.5")
    assert lines[1] == f"{diff.changed} of 300 rows have another answer ({diff.changed / 300:.2%})"
    assert max(map(len, lines[2:-1])) <= 80
    assert done.stdout.splitlines()[-1] == diff.accuracies.told()
    assert json.loads(invoke("diff", "one", "other", "--json").stdout) == json.loads(json.dumps(diff.to_json()))
    page = Path("diff.html").read_text()
    assert f"<li>{diff.changed} of 300 rows have another answer" in page
    assert page.count("<tr>") == 3 + 2 + len(diff.labels) + len(diff.statuses)


@pytest.mark.parametrize("jobs", ["text"], indirect=True)
def test_outputs_that_one_job_alone_has_and_those_of_changed_inputs_are_left_out_and_told(jobs, invoke):
    Path("one/a.parquet").unlink()
    done = invoke("diff", "one", "other")
    assert "note: 1 outputs are left out, the first a.parquet: one alone has them" in done.stdout
    write_table(image_table(IMAGES[:50]), Path("in/below/b.parquet"))
    run_job(jobs[0].classifier(Classifier.open("x.knn").index), "in", "one")
    done = invoke("diff", "one", "other")
    assert "note: 1 outputs are left out, the first below/b.parquet: their inputs had other contents" in done.stdout
    assert diff_jobs(*(FinishedJob.open(locate(name)) for name in ("one", "other"))).rows == 130
    Path("one/a.parquet").unlink()
    done = invoke("diff", "one", "other")
    assert (done.code, done.stdout) == (1, "")
    assert "have no output of the same input; below/b.parquet was made of other contents: give two" in done.stderr


@pytest.mark.parametrize("jobs", ["numbers"], indirect=True)
def test_true_labels_are_those_that_either_job_kept(jobs, invoke):
    narrow = JobOptions(output=OutputOptions(keep=()))
    run_job(Classifier.open("x.knn", Rule(k=7, min_confidence=0.5)), "in", "narrow", narrow)
    found = FinishedJob.open(locate("narrow"))
    assert diff_jobs(found, found).judged is None
    diff = diff_jobs(jobs[0], found)
    assert diff.to_json()["truth"] == diff_jobs(*jobs).to_json()["truth"]
    assert diff_jobs(found, jobs[0]).accuracies.only_other == diff.accuracies.only_name
    refused = invoke("diff", "narrow", "narrow", "--label-column", "label")
    assert "narrow/a.parquet keeps no column 'label' of its input for --label-column; there are none" in refused.stderr
    refused = invoke("diff", "narrow", "other", "--label-column", "knn_status")
    assert "keeps no column 'knn_status'" in refused.stderr  # which is none of its input


@pytest.mark.parametrize("jobs", ["numbers"], indirect=True)
def test_true_labels_may_be_in_a_table_of_their_own(jobs, invoke):
    for name, k in (("bare", 1), ("other", 7)):
        options = JobOptions(output=OutputOptions(keep=()))
        run_job(Classifier.open("x.knn", Rule(k=k, min_confidence=0.5)), "in", f"{name}_narrow", options)
    told = invoke("diff", "bare_narrow", "other_narrow").stdout.splitlines()[-1]
    assert told.endswith("--label-column names one, or --labels takes them from a file of their own")
    rows = [(f"{name}#{row}", truth) for name, row, truth, *_ in rows_of("one") if truth is not None]
    Path("truth.csv").write_text("\n".join(["place,y", *(f"{place},{truth}" for place, truth in rows)]))
    given = ("--labels", "truth.csv", "--id-column", "place", "--label-column", "y", "--json")
    found = json.loads(invoke("diff", "bare_narrow", "other_narrow", *given).stdout)
    run_job(Classifier.open("x.knn", Rule(k=1, min_confidence=0.5)), "in", "bare")
    assert found["truth"] == diff_jobs(FinishedJob.open(locate("bare")), jobs[1]).to_json()["truth"]
    Path("order.csv").write_text("\n".join(["y", *(str(truth) for _, truth in rows)]))
    refused = invoke("diff", "bare_narrow", "other_narrow", "--labels", "order.csv")
    assert (refused.code, "holds 2: give a table with a column of ids, FILE#ROW" in refused.stderr) == (1, True)
    assert invoke("diff", "one", "other", "--id-column", "place").code == 2


@pytest.mark.parametrize("jobs", ["numbers"], indirect=True)
def test_answers_that_are_never_equal_and_numbers_of_a_regression_are_refused(jobs):
    for name, labels, told in (
        ("text", NAMES[LABELS], "one has labels of type int64 and out of type string"),
        ("regression", LABELS / 2, "out holds numbers of a regression"),
    ):
        index_arrays(IMAGES[:200], labels[:200], Path(f"{name}.knn"), is_regression=name == "regression")
        run_job(Classifier.open(f"{name}.knn"), "in", name)
        job = FinishedJob.open(locate(name))
        with pytest.raises(KnnvoteError, match=told.replace("out", name)):
            diff_jobs(jobs[0] if name == "text" else job, job)


@pytest.mark.parametrize(("one", "other"), [([3, 3, 1], [7]), ([0, 7], [2, 0, 5]), ([], []), ([7], [7])])
def test_batches_of_two_files_comein_step(one, other):
    def batches(sizes):
        for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            yield [pa.array(range(start, start + size), pa.int64()), pa.array(["x"] * size, pa.string())]

    names = (locate("a"), locate("b"))
    pairs = list(in_step(batches(one), batches(other), names))
    assert [row for left, _ in pairs for row in left[0].to_pylist()] == list(range(sum(one)))
    assert all(left[0].equals(right[0]) for left, right in pairs)
    if one:
        with pytest.raises(KnnvoteError, match="a and b do not hold as many rows"):
            list(in_step(batches([*one, 1]), batches(other), names))


def test_rows_that_equal_what_an_index_stores_answer_for_themselves_and_are_not_judged(tmp_path, monkeypatch, invoke):
    """As after those that were looked at are added, with true labels or, here, with wrong ones."""
    monkeypatch.chdir(tmp_path)
    index_arrays(IMAGES[:200], LABELS[:200], Path("before.knn"))
    grown = np.append(LABELS[:200], (LABELS[200:230] + 1) % 4)
    index_arrays(IMAGES[:230], grown, Path("after.knn"))
    write_table(image_table(IMAGES[200:], LABELS[200:]), Path("new.parquet"))
    for name in ("before", "after"):
        run_job(Classifier.open(f"{name}.knn", Rule(weights="distance")), "new.parquet", name)
    diff = diff_jobs(*(FinishedJob.open(locate(name)) for name in ("before", "after")))
    assert diff.stored == 30
    assert [judged.labelled for judged in diff.judged] == [270, 270]
    for name, judged in zip(("before", "after"), diff.judged, strict=True):
        rows = pq.read_table(f"{name}/new.parquet").to_pylist()[30:]
        assert judged.right == sum(row["prediction"] == row["label"] for row in rows)
    assert diff.changed >= 20
    told = invoke("diff", "before", "after").stdout
    assert "30 rows with a true label equal an image that either index stores: these answer for themselves" in told
