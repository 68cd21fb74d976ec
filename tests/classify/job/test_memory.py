"""A job where memory ends: one line that says what helps, and nothing that was done is lost."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.run import run_job
from knnvote.classify.search import search
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(0)
FILES, ROWS = 3, 200
SHORT = """
import resource, sys
import faiss, pyarrow.parquet
import knnvote.classify.job.run
from knnvote.cli.main import main
with open("/proc/self/statm") as status:
    held = int(status.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (64 << 20), resource.RLIM_INFINITY))
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An index and images to classify. Tests only read them."""
    folder = tmp_path_factory.mktemp("memory")
    images = RNG.integers(0, 255, (300, 8, 8), dtype=np.uint8)
    index_arrays(images, np.arange(300) % 3, folder / "x.knn")
    for i in range(FILES):
        write_table(image_table(images[:ROWS] // (i + 1), np.arange(ROWS)), folder / "in" / f"{i}.parquet")
    return folder


def run(folder, out, **options):
    classifier = Classifier.open(folder / "x.knn")
    return run_job(classifier, find_inputs([str(folder / "in")]), locate(out), threads=1, **options)


def outputs(out):
    return {file.name: file.read_bytes() for file in out.glob("*.parquet")}


@pytest.mark.parametrize(
    "error", [MemoryError("the kernel found none"), MemoryError(), pa.ArrowMemoryError("malloc of size 4096 failed")]
)
def test_too_little_memory_ends_a_job_and_the_same_goes_on(error, folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "undisturbed")
    found, calls = search.in_blocks, []

    def fail_at_last(*arguments):
        calls.append(arguments)
        if len(calls) > 5:  # of three batches a file, in the second
            raise error
        return found(*arguments)

    monkeypatch.setattr(search, "in_blocks", fail_at_last)
    with pytest.raises(KnnvoteError) as told:
        run(folder, tmp_path / "out", batch_size=80)
    assert str(told.value).startswith(f"{folder / 'in' / '1.parquet'}: memory ran out (")
    assert "give a smaller batch_size than 80 or fewer threads, or run it where there is more memory" in str(told.value)
    assert outputs(tmp_path / "out").keys() == {"0.parquet"}
    monkeypatch.undo()
    summary = run(folder, tmp_path / "out", batch_size=40)
    assert (summary.skipped, summary.written, summary.failed) == (1, FILES - 1, {})
    assert outputs(tmp_path / "out") == outputs(tmp_path / "undisturbed")


def test_the_command_names_its_options(folder, invoke, monkeypatch):
    def fail(*_arguments):
        raise MemoryError

    monkeypatch.setattr(search, "in_blocks", fail)
    done = invoke("classify", folder / "x.knn", folder / "in", "--out", "out")
    assert done.code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "0.parquet: memory ran out (" in done.stderr
    assert "give a smaller --batch-size than 2,048 or fewer --threads" in done.stderr


def test_a_build_without_memory_leaves_the_index_of_before(folder, invoke, monkeypatch, tmp_path):
    assert invoke("index", folder / "in", "--out", "y.knn").code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "y.knn").iterdir()}

    def fail(*_arguments, **_named):
        raise MemoryError

    monkeypatch.setattr("knnvote.indexer.build.build_faiss", fail)
    done = invoke("index", folder / "in", "--out", "y.knn", "--overwrite")
    assert done.code == 1
    assert done.stderr.splitlines()[-1].startswith("error: memory ran out (")
    assert (
        "give fewer --threads, or run it where there is more memory; what was there before is as it was" in done.stderr
    )
    assert {file.name: file.read_bytes() for file in (tmp_path / "y.knn").iterdir()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process so")
def test_a_process_that_may_take_no_more_says_so_in_a_line(folder, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SHORT,
            "classify",
            str(folder / "x.knn"),
            str(folder / "in"),
            "--out",
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1
    assert [line.startswith("error: memory ran out (") for line in done.stderr.splitlines()] == [True], done.stderr
    assert not list(tmp_path.rglob("*.parquet"))
