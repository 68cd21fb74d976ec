"""What an earlier version left still opens: tests/kept/before, made by the last code that had no package of its own."""

import json
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.data.errors import KnnvoteError
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.manifest import MANIFEST, read_manifest
from knnvote.indexer.sealed import seal

BEFORE = Path(__file__).parent / "kept" / "before"
RULE = ["--neighbors", "--probabilities", "--min-confidence", "0.7"]  # as the jobs were run
OF_INDEX = ["--index", "adaptive.knn"]
NOT_COMPARED = ("confidence", "distance", "probabilities", "best", "second", "margin")  # rounded, or not there before


@pytest.fixture(autouse=True)
def _before(tmp_path, invoke):  # noqa: ARG001  # invoke goes to the folder
    """Two indexes, a job of each and the jobs' input, in the folder that the jobs' records name."""
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    for record in tmp_path.glob("job-*/_knnvote/job.json"):
        record.write_text(record.read_text().replace("FOLDER", str(tmp_path.resolve())))


def succeed(invoke, *arguments):
    done = invoke(*arguments)
    assert done.code == 0, done.stderr
    return done


def answers(path):
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["neighbors"] = [neighbor["id"] for neighbor in row["neighbors"] or ()]
    return [{key: value for key, value in row.items() if key not in NOT_COMPARED} for row in rows]


def test_an_index_and_a_job_of_before_are_whole_and_are_told_of(invoke):
    assert succeed(invoke, "verify", "exact.knn").stderr == "exact.knn: every byte is as it was written\n"
    index = json.loads(succeed(invoke, "inspect", "exact.knn", "--json").stdout)
    assert (index["kind"], index["n"], index["d"]) == ("exact", 150, 64)
    for kind in ("exact", "adaptive"):
        assert succeed(invoke, "verify", f"job-{kind}").stderr == f"job-{kind}: 1 file is as it was written\n"
        job = json.loads(succeed(invoke, "inspect", f"job-{kind}", "--json").stdout)
        assert (job["rows"], job["ok"], job["abstained"], job["bad_image"]) == (50, 42, 7, 1)
        succeed(invoke, "report", f"job-{kind}", "--out", f"{kind}.html")
    succeed(invoke, "report", "job-exact", "--index", "exact.knn")
    assert Path("report.html").stat().st_size > 10_000


def test_a_job_of_before_had_fewer_columns_and_is_not_gone_on_with_and_a_fresh_one_answers_as_it_did(invoke):
    done = Path("job-exact/test.parquet").read_bytes()
    again = invoke("classify", "exact.knn", "test.parquet", "--out", "job-exact", *RULE)
    told = (
        "another version of knnvote wrote it, with other columns; all outputs get other columns: "
        "pass --overwrite to make all its outputs anew, or give another --out\n"
    )
    assert (again.code, again.stderr) == (1, f"error: job-exact was made by another job: {told}")
    assert Path("job-exact/test.parquet").read_bytes() == done
    succeed(invoke, "classify", "exact.knn", "test.parquet", "--out", "fresh", *RULE)
    assert answers("fresh/test.parquet") == answers("job-exact/test.parquet")
    succeed(invoke, "classify", "exact.knn", "test.parquet", "--out", "job-exact", "--overwrite", *RULE)
    assert Path("job-exact/test.parquet").read_bytes() == Path("fresh/test.parquet").read_bytes()


def test_an_index_of_before_grows(invoke):
    succeed(invoke, "add", "exact.knn", "test.parquet", "--skip-bad")
    succeed(invoke, "remove", "exact.knn", "train.parquet#3")
    Path("fixes.csv").write_text("id,label\ntrain.parquet#4,9\ntrain.parquet#5,9\n")
    succeed(invoke, "relabel", "exact.knn", "fixes.csv")
    assert open_index("exact.knn").labels[3:5].to_pylist() == [9, 9]
    index = json.loads(succeed(invoke, "inspect", "exact.knn", "--json").stdout)
    assert (index["n"], index["format"]) == (150 + 49 - 1, 3)
    succeed(invoke, "verify", "exact.knn")


def test_an_index_of_before_that_has_bounds_is_refused_with_the_command_that_builds_it_again(invoke):
    stored = open_index("exact.knn")  # of the same images
    write_table(image_table(stored.vectors.reshape(-1, 8, 8), stored.labels.to_numpy()), Path("train.parquet"))
    command = "knnvote index train.parquet --out adaptive.knn --kind adaptive --overwrite"
    told = f"error: adaptive.knn has index format 1, of an earlier knnvote: build it again with {command}\n"
    for arguments in (
        *(["inspect", "adaptive.knn"], ["verify", "adaptive.knn"], ["add", "adaptive.knn", "test.parquet"]),
        *(["classify", "adaptive.knn", "test.parquet", "--out", "fresh"], ["report", "job-adaptive", *OF_INDEX]),
    ):
        done = invoke(*arguments)
        assert (done.code, done.stderr) == (1, told)
    succeed(invoke, *shlex.split(command)[1:])
    assert open_index("adaptive.knn").manifest.data_sha256 == stored.manifest.data_sha256
    assert [file.name for file in Path("adaptive.knn").glob("*-1.*")] == []
    succeed(invoke, "classify", "adaptive.knn", "test.parquet", "--out", "fresh", *RULE)
    assert answers("fresh/test.parquet") == answers("job-adaptive/test.parquet")


def test_the_command_has_what_the_index_was_built_with_and_its_words_quoted(invoke):
    images = digits()[0][:40]
    table = image_table(images, digits()[1][:40], image_column="a picture", label_column="kind")
    write_table(table.append_column("key", pa.array(map(str, range(40)))), Path("my digits.parquet"))
    options = [
        *("--kind", "adaptive", "--metric", "cosine", "--image-column", "a picture", "--label-column", "kind"),
        *("--id-column", "key", "--seed", "3", "--k", "3", "--weights", "distance", "--ties", "first-class"),
        *("--target-agreement", "0.9", "--grayscale"),
    ]
    succeed(invoke, "index", "my digits.parquet", "--out", "x.knn", *options)
    built = read_manifest(Path("x.knn"))
    make_older(Path("x.knn"))
    command = shlex.split(invoke("inspect", "x.knn").stderr.partition("build it again with ")[2])
    assert command[:5] == ["knnvote", "index", "my digits.parquet", "--out", "x.knn"]
    assert sorted(command[5:]) == sorted([*options, "--overwrite"])
    succeed(invoke, *command[1:])
    again = read_manifest(Path("x.knn"))
    assert [file.sha256 for file in again.files.values()] == [file.sha256 for file in built.files.values()]
    assert again.search == built.search


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sources": []}, "build it again with overwrite, from the arrays it was made of"),
        ({"sources": [3]}, "build it again from its images"),
        ({"skipped": "x"}, "build it again from its images"),
        ({"search": 3}, "missing or unusable are search"),
        ({"search": {"grid": 1.0, "tuned": 3}}, "build it again from its images"),
    ],
)
def test_one_that_no_command_builds_again_is_refused_too(changes, told):
    make_older(Path("adaptive.knn"), **changes)
    with pytest.raises(KnnvoteError, match=told):
        open_index("adaptive.knn")


def make_older(folder, **changes):
    """Have a manifest say that an earlier version wrote it, and more."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(seal({**manifest, "format": 1, **changes}))
