"""Checking a job's outputs against their receipts and inputs."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from records import write_record

from knnvote.classify.classifier import Classifier
from knnvote.classify.inspection import inspect_made
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.receipt import Counts
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.verification import verify_path
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import Location
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 256, (30, 4, 4), dtype=np.uint8)
OPTIONS = JobOptions(output=OutputOptions(prefix="knn_"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "x.knn"
    index_arrays(IMAGES, np.arange(30) % 3, folder)
    return Classifier.open(folder, Rule(min_confidence=0.5))


@pytest.fixture
def job(tmp_path, classifier, monkeypatch):
    """The outputs of a job over three files, one of them with bad images of two sorts."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b/c"):
        write_table(image_table(RNG.integers(0, 256, (20, 4, 4), dtype=np.uint8)), tmp_path / "in" / f"{name}.parquet")
    floats = RNG.integers(0, 256, (20, 4, 4)).astype(float)
    floats[3, 0, 0], floats[7, 1, 1], floats[9, 2, 2] = np.nan, np.nan, 300
    floats[11, 3, 3] = 301
    write_table(image_table(floats), tmp_path / "in" / "bad.parquet")
    run_job(classifier, find_inputs(["in"]), tmp_path / "out", OPTIONS)
    return tmp_path / "out"


def problems(path="out"):
    return verify_path(str(path)).problems


def test_what_a_job_left_is_as_it_was_written(job):
    found = verify_path("out")
    assert (found.problems, found.gone, found.summary) == ([], [], "3 files are as they were written")
    assert verify_path(str(job)).problems == []


def test_a_missing_a_changed_a_foreign_and_a_damaged_file_are_each_told(job):
    content = bytearray((job / "b" / "c.parquet").read_bytes())
    content[10] ^= 4
    (job / "b" / "c.parquet").write_bytes(content)
    (job / "bad.parquet").write_bytes(b"PAR1")
    (job / "a.parquet").unlink()
    (job / "x.txt").write_text("mine")
    missing, changed, damaged, foreign = sorted(problems(), key=lambda line: line.split()[0])
    assert missing.startswith("out/a.parquet is missing: ")
    assert changed.startswith("out/b/c.parquet was changed: its SHA-256 differs from its receipt's")
    assert damaged.startswith("out/bad.parquet is damaged")
    assert foreign.startswith("out/x.txt is foreign")


def test_an_output_of_another_job_is_told(job, classifier, tmp_path):
    other = Classifier(classifier.index, Rule(k=3))
    run_job(other, find_inputs(["in"]), tmp_path / "other", OPTIONS)
    shutil.copy(tmp_path / "other" / "a.parquet", job / "a.parquet")
    (told,) = problems()
    assert told.startswith("out/a.parquet was made with another index or other options")


def test_a_receipt_that_does_not_tell_the_rows_that_are_there_is_told(job, classifier, tmp_path, monkeypatch):
    shutil.rmtree(job)
    with monkeypatch.context() as patched:
        patched.setattr("knnvote.classify.job.worker._count", lambda _answer: Counts(20, 19, 1, 0))
        run_job(classifier, find_inputs(["in"]), tmp_path / "out", OPTIONS)
    assert [line.split()[0] for line in problems()] == ["out/a.parquet", "out/b/c.parquet", "out/bad.parquet"]
    assert all("does not hold the rows that its receipt tells" in line for line in problems())


def test_outputs_that_were_exchanged_are_told_even_when_their_inputs_are_gone(job, tmp_path):
    (job / "a.parquet").rename(job / "x")
    (job / "b" / "c.parquet").rename(job / "a.parquet")
    (job / "x").rename(job / "b" / "c.parquet")
    shutil.rmtree(tmp_path / "in")
    found = verify_path("out")
    assert [line.split()[0] for line in found.problems] == ["out/a.parquet", "out/b/c.parquet"]
    assert all("was made from another input" in line for line in found.problems)
    assert len(found.gone) == 3


def test_an_input_that_failed_and_is_gone_is_no_problem_for_ever(job, classifier, tmp_path):
    (tmp_path / "in" / "junk.parquet").write_bytes(b"junk")
    run_job(classifier, find_inputs(["in"]), job, OPTIONS)
    (told,) = problems()
    assert told.startswith("out/junk.parquet is missing")
    (tmp_path / "in" / "junk.parquet").unlink()
    assert problems() == []
    assert verify_path("out").gone == [str(tmp_path / "in" / "junk.parquet")]


def test_an_output_that_may_not_be_read_is_told_as_that(job, monkeypatch):
    real = Location.open

    def open_other(location):
        if location.path.endswith("a.parquet"):
            raise KnnvoteError("cannot read out/a.parquet: Permission denied")
        return real(location)

    monkeypatch.setattr(Location, "open", open_other)
    assert problems() == ["cannot read out/a.parquet: Permission denied"]
    assert job.exists()


def test_an_input_that_changed_since_is_told_and_one_that_is_gone_is_noted(job, tmp_path):
    write_table(image_table(IMAGES), tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "bad.parquet").unlink()
    found = verify_path(str(job))
    (told,) = found.problems
    assert told.startswith(f"{tmp_path}/in/a.parquet was changed since {job}/a.parquet was made from it")
    assert found.gone == [str(tmp_path / "in" / "bad.parquet")]


def test_files_of_two_runs_into_one_folder_are_all_known(job, classifier, tmp_path):
    write_table(image_table(IMAGES), tmp_path / "more.parquet")
    run_job(classifier, find_inputs(["more.parquet"]), job, OPTIONS)
    assert problems() == []
    assert (job / "more.parquet").exists()
    assert verify_path("out").summary == "4 files are as they were written"


def test_a_folder_that_is_neither_is_told(tmp_path):
    with pytest.raises(KnnvoteError, match="is neither an index folder"):
        verify_path(str(tmp_path))


def test_an_inspection_sums_up_labels_and_reasons(job):
    facts = inspect_made(str(job))
    tables = [pq.read_table(file) for file in sorted(job.rglob("*.parquet"))]
    statuses = [status for table in tables for status in table["knn_status"].to_pylist()]
    predictions = [label for table in tables for label in table["knn_prediction"].to_pylist() if label is not None]
    assert (facts["rows"], facts["ok"], facts["abstained"]) == (60, statuses.count("ok"), statuses.count("abstained"))
    assert facts["abstained"] > 0
    assert facts["labels"] == {label: predictions.count(label) for label in sorted(set(predictions))}
    assert facts["abstained_because"] == {"confidence below 0.5": facts["abstained"]}
    assert facts["bad_because"] == {
        "value N is NaN": 2,
        "value N is not a whole number from 0 to 255, as the index stores; knnvote never rescales": 2,
    }


def test_the_command_tells_problems_on_stderr_and_ends_with_1(job, invoke):
    assert invoke("verify", "out").code == 0
    shown = invoke("inspect", "out")
    assert "value N is NaN: 2" in shown.stdout
    (job / "a.parquet").unlink()
    done = invoke("verify", "out")
    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


def test_a_regression_has_no_labels_to_count(tmp_path):
    index_arrays(IMAGES, np.linspace(0, 1, 30), tmp_path / "r.knn", is_regression=True)
    write_table(image_table(IMAGES), tmp_path / "a.parquet")
    run_job(Classifier.open(tmp_path / "r.knn"), find_inputs([str(tmp_path / "a.parquet")]), tmp_path / "o", OPTIONS)
    assert inspect_made(str(tmp_path / "o"))["labels"] == {}
    assert verify_path(str(tmp_path / "o")).problems == []


def test_a_damaged_record_is_told(job):
    write_record(job, json.dumps({"index": "x", "options": {}}).encode())
    with pytest.raises(KnnvoteError, match=r"out/\.knnvote\.parquet is damaged"):
        verify_path("out")


def test_a_damaged_record_of_failures_is_told(job):
    write_record(job, b'["a"]', "failures.json")
    with pytest.raises(KnnvoteError, match=r"out/\.knnvote\.parquet is damaged"):
        inspect_made(str(job))
