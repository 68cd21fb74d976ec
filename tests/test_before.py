"""What an earlier version left still opens: tests/kept/before, made by the last code that had no package of its own."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

BEFORE = Path(__file__).parent / "kept" / "before"
RULE = ["--neighbors", "--probabilities", "--min-confidence", "0.7"]  # as the jobs were run
ROUNDED = ("confidence", "distance", "probabilities")


@pytest.fixture(params=["exact", "adaptive"])
def kind(request, tmp_path, invoke):  # noqa: ARG001  # invoke goes to the folder
    """An index, a job of it and the job's input, in the folder that the job's record names."""
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    for record in tmp_path.glob("job-*/_knnvote/job.json"):
        record.write_text(record.read_text().replace("FOLDER", str(tmp_path.resolve())))
    return request.param


def succeed(invoke, *arguments):
    done = invoke(*arguments)
    assert done.code == 0, done.stderr
    return done


def answers(path):
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["neighbors"] = [neighbor["id"] for neighbor in row["neighbors"] or ()]
    return [{key: value for key, value in row.items() if key not in ROUNDED} for row in rows]


def test_an_index_and_a_job_of_before_are_whole_and_are_told_of(kind, invoke):
    assert succeed(invoke, "verify", f"{kind}.knn").stderr == f"{kind}.knn: every byte is as it was written\n"
    assert succeed(invoke, "verify", f"job-{kind}").stderr == f"job-{kind}: 1 files are as they were written\n"
    index = json.loads(succeed(invoke, "inspect", f"{kind}.knn", "--json").stdout)
    assert (index["kind"], index["n"], index["d"]) == (kind, 150, 64)
    job = json.loads(succeed(invoke, "inspect", f"job-{kind}", "--json").stdout)
    assert (job["rows"], job["ok"], job["abstained"], job["bad_image"]) == (50, 42, 7, 1)
    succeed(invoke, "report", f"job-{kind}", "--index", f"{kind}.knn")
    assert Path("report.html").stat().st_size > 10_000


def test_a_job_of_before_goes_on_where_it_was_and_a_fresh_one_answers_as_it_did(kind, invoke):
    before = Path(f"job-{kind}/test.parquet").read_bytes()
    again = succeed(invoke, "classify", f"{kind}.knn", "test.parquet", "--out", f"job-{kind}", *RULE, "--json")
    assert json.loads(again.stdout)["files"] == {"written": 0, "skipped": 1, "failed": 0}
    assert Path(f"job-{kind}/test.parquet").read_bytes() == before
    succeed(invoke, "classify", f"{kind}.knn", "test.parquet", "--out", "fresh", *RULE)
    assert answers("fresh/test.parquet") == answers(f"job-{kind}/test.parquet")


def test_an_index_of_before_grows(kind, invoke):
    succeed(invoke, "add", f"{kind}.knn", "test.parquet", "--skip-bad")
    succeed(invoke, "remove", f"{kind}.knn", "train.parquet#3")
    index = json.loads(succeed(invoke, "inspect", f"{kind}.knn", "--json").stdout)
    assert index["n"] == 150 + 49 - 1
    succeed(invoke, "verify", f"{kind}.knn")
