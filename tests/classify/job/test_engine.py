"""Where the files of a job are done changes nothing that it leaves."""

import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from apart import Apart
from job_inputs import IMAGES, write_inputs

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.engine import LocalEngine
from knnvote.classify.job.folder import plan_outputs
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import BATCH_SIZE, JobOptions, Work
from knnvote.classify.job.worker import Worker
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.indexer.build import index_arrays

OPTIONS = JobOptions(output=OutputOptions(neighbors=True, probabilities=True, top=3, prefix="knn_"))


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """An index and inputs in the working folder: two files with a bad row each, one that fails, one without rows."""
    monkeypatch.chdir(tmp_path)
    return write_inputs()


def files(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*.*")}


@pytest.mark.long
def test_files_that_are_done_in_another_process_are_the_same_byte_by_byte(classifier):
    told = {}
    for name, engine in (("here", None), ("apart", Apart())):
        rows, done = [], []
        for _ in range(2):
            summary = run_job(
                classifier,
                find_inputs(["in"]),
                Path(name),
                OPTIONS,
                engine=engine,
                progress=rows.append,
                tell_done=lambda *of, done=done: done.append(of),
            )
            done.append(replace(summary, seconds=0))
        told[name] = (sum(rows), done, files(Path(name)))
    assert told["apart"] == told["here"]
    rows, done, written = told["here"]
    assert (rows, len(written)) == (60, 4)
    assert done[:5] == [(0, 4), (1, 4), (1, 4), (2, 4), (3, 4)]
    assert (done[5].written, done[5].bad_example) == (3, "in/a.parquet, row 5: value 0 is NaN")
    assert (done[-1].skipped, list(done[-1].failed), done[-1].bad_example) == (3, ["in/b/broken.parquet"], None)


def test_fail_fast_ends_the_engine_with_the_job(classifier):
    ended = []

    class Watched(LocalEngine):
        def run(self, work, tasks, progress):
            try:
                yield from LocalEngine.run(self, work, tasks, progress)
            finally:
                ended.append(len(tasks))

    with pytest.raises(ImageFileError, match=r"^cannot read in/b/broken\.parquet as Parquet"):
        run_job(classifier, find_inputs(["in"]), Path("out"), OPTIONS, engine=Watched(classifier), fail_fast=True)
    assert ended == [4]
    assert [*files(Path("out"))] == ["a.parquet", "_knnvote/job.json"]


def test_the_local_engine_takes_the_index_that_is_open(classifier, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError

    monkeypatch.setattr(Classifier, "open", refuse)
    assert run_job(classifier, find_inputs(["in"]), Path("out"), OPTIONS, engine=LocalEngine(classifier)).written == 3


def work_of(classifier):
    return Work.of(classifier, OPTIONS, locate(Path("out").resolve()), threads=None, batch_size=BATCH_SIZE)


def test_work_is_the_same_after_it_was_pickled(classifier):
    work, tasks = work_of(classifier), plan_outputs(find_inputs([str(Path("in").resolve())]), locate("/out"))
    assert pickle.loads(pickle.dumps((work, tasks))) == (work, tasks)  # noqa: S301  # our own bytes
    assert work.made_from["options"]["min_confidence"] == 0.5


def test_a_worker_refuses_an_index_that_was_built_anew_since(classifier):
    work = work_of(classifier)
    shutil.rmtree("x.knn")
    index_arrays(IMAGES[:20], np.arange(20) % 3, Path("x.knn"))
    with pytest.raises(KnnvoteError, match=r"x\.knn is another index than when the job began: run the same"):
        Worker.open(work).__enter__()
