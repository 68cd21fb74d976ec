"""Dry runs: what index and classify would do and take, without writing anything."""

import json

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify import dry_run
from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.dry_run import dry_index, dry_job
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import locate
from knnvote.data.sample import digits
from knnvote.indexer.build import IndexOptions, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.training import TrainingOptions

IMAGES, LABELS = (array[:300] for array in digits())
KINDS = {
    "bytes": lambda images: [image.astype(np.uint8).tobytes() for image in images],
    "PNG": lambda images: [imagecodecs.png_encode(image.astype(np.uint8)) for image in images],
    "floats": lambda images: (images.reshape(-1, 64) / 7).tolist(),
}


def write(path, images=IMAGES, labels=LABELS, kind="bytes"):
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": KINDS[kind](images), "label": labels}), path)
    return path


def state(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def forget(_note):
    pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"kind": "adaptive"}, {"kind": "hnsw"}], ids=str)
def test_an_index_is_measured_and_not_written(tmp_path, kind, options):
    path, options = write(tmp_path / "a.parquet", kind=kind), IndexOptions(**options)
    before = state(tmp_path)
    found = dry_index(path, tmp_path / "x.knn", TrainingOptions(), options, Tuning(), tell=forget)
    assert state(tmp_path) == before
    assert (found.files, found.done, found.rows, found.measured, found.failed) == (1, 0, 300, 300, [])
    assert found.steps.keys() == {"read", "build"}
    assert all(0 <= low <= high for low, high in found.steps.values())
    index_files(path, tmp_path / "x.knn", options=options, tune=Tuning())
    assert found.bytes == pytest.approx(open_index(tmp_path / "x.knn").manifest.folder_bytes, rel=0.05)


def test_seconds_and_bytes_grow_with_the_rows_that_were_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "_BATCH", 25)
    path = write(tmp_path / "a.parquet", np.tile(IMAGES, (10, 1, 1)), np.tile(LABELS, 10))
    options = IndexOptions()
    few = dry_index(path, tmp_path / "x", TrainingOptions(limit=100), options, None, tell=forget)
    many = dry_index(path, tmp_path / "x", TrainingOptions(), options, None, tell=forget)
    assert (few.rows, few.measured, many.rows, many.measured) == (100, 100, 3000, 100)
    assert many.bytes == pytest.approx(30 * few.bytes, rel=0.01)


def test_an_index_that_half_of_the_rows_are_too_few_for_is_measured_by_all(tmp_path, invoke):
    write(tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match="FAISS says") as notes:
        told = invoke("index", "a.parquet", "--out", "x", "--factory", "IVF200,Flat", "--dry-run")
    assert (told.code, told.stdout.splitlines()[1].rstrip()) == (0, "rows    300 of 1 file, measured on 300")
    assert [str(note.message).partition(" to ")[0] for note in notes] == ["FAISS says: clustering 300 points"]


def test_a_clock_tells_the_fastest_and_the_slowest_batch(monkeypatch):
    times = iter([0.0, 100.0, 101.0, 104.0, 104.0])
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: next(times))
    clock = dry_run._Clock()
    for rows in (10, 10, 10):
        clock(rows)
    assert clock.rows == 30
    assert clock.seconds_of(100) == (10.0, 30.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_measured_and_not_written(tmp_path, kind):
    index_files(write(tmp_path / "train.parquet", kind=kind), tmp_path / "x.knn")
    for name, rows in {"a": 120, "b": 80}.items():
        write(tmp_path / "in" / f"{name}.parquet", IMAGES[:rows], LABELS[:rows], kind)
    classifier = Classifier.open(tmp_path / "x.knn")

    def dry():
        out = locate(tmp_path / "out")
        return dry_job(classifier, tmp_path / "in", out, JobOptions(), threads=1, batch_size=32)

    before = state(tmp_path)
    found = dry()
    assert state(tmp_path) == before
    assert (found.files, found.done, found.rows, found.measured, found.failed) == (2, 0, 200, 152, [])
    assert all(0 < low <= high for low, high in found.steps.values())
    run_job(classifier, tmp_path / "in" / "a.parquet", tmp_path / "out")
    before = state(tmp_path)
    rest = dry()
    assert state(tmp_path) == before
    assert (rest.files, rest.done, rest.rows, rest.measured) == (1, 1, 80, 80)
    run_job(classifier, tmp_path / "in", tmp_path / "out")
    assert (dry().files, dry().done, dry().rows, dry().bytes) == (0, 2, 0, 0)


def test_what_the_command_would_refuse_is_refused(tmp_path, invoke, exact_index, digits_folder):
    images = [None if row == 7 else image.ravel().tolist() for row, image in enumerate(IMAGES)]
    pq.write_table(pa.table({"image": images, "label": LABELS}), tmp_path / "bad.parquet")
    for command in ("index", "--dry-run"):
        told = invoke("index", "bad.parquet", "--out", "x.knn", *(["--dry-run"] if command == "--dry-run" else []))
        assert (told.code, told.stdout) == (1, "")
        assert told.stderr.startswith("error: bad.parquet, row 7: null image; mend it, or pass --skip-bad")
    told = invoke("index", digits_folder / "train.parquet", "--out", exact_index, "--dry-run")
    assert "exists: pass --overwrite to replace it" in told.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    test = digits_folder / "test.parquet"
    told = invoke("classify", exact_index, test, "--out", "mine", "--dry-run")
    assert (told.code, "mine holds files that knnvote did not make" in told.stderr) == (1, True)
    assert invoke("classify", exact_index, test, "--out", "out").code == 0
    told = invoke("classify", exact_index, test, "--out", "out", "--k", "3", "--dry-run")
    assert (told.code, "out was made by another job" in told.stderr) == (1, True)
    told = invoke("classify", exact_index, test, "--out", "out", "--k", "3", "--dry-run", "--overwrite")
    assert (told.code, told.stdout.splitlines()[1].rstrip()) == (0, "rows    450 of 1 file, measured on 450")
    told = invoke("classify", exact_index, test, "--out", "out", "--min-confidence", "0.9", "--dry-run")
    assert told.code == 0
    assert told.stdout.splitlines()[1].rstrip() == "rows    0 of 0 files; 1 without a search, measured on 0"
    with pytest.raises(KnnvoteError, match="index folder"):
        dry_job(Classifier.open(exact_index), test, locate(exact_index), JobOptions(), threads=1, batch_size=9)


def test_the_commands_tell_a_dry_run(tmp_path, invoke, exact_index, digits_folder):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.parquet").write_text("no Parquet")
    pq.write_table(pq.read_table(digits_folder / "test.parquet"), tmp_path / "in" / "good.parquet")
    told = invoke("classify", exact_index, "in", "--out", "out", "--dry-run")
    assert (told.code, told.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert lines[:2] == ["out: nothing was written", "rows 450 of 2 files, measured on 450"]
    assert [line.split()[0] for line in lines[2:6]] == ["read", "search", "writes", "failed"]
    assert lines[5].startswith("failed cannot read in/broken.parquet as Parquet")
    found = json.loads(invoke("classify", exact_index, "in", "--out", "out", "--dry-run", "--json").stdout)
    assert found.keys() == {"out", "files", "done", "decided", "rows", "measured", "steps", "bytes", "failed"}
    assert found["steps"]["search"].keys() == {"low", "high"}
    assert not (tmp_path / "out").exists()
    told = invoke("index", digits_folder / "train.parquet", "--out", "x.knn", "--dry-run", "--limit", "200")
    assert told.stdout.splitlines()[1].rstrip() == "rows    200 of 1 file, measured on 200"
    assert not (tmp_path / "x.knn").exists()
