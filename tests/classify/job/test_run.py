"""The batch job: a Parquet file of predictions for each Parquet file of images."""

import errno
import hashlib
import io
import json
import os
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from records import ENDED, read_record, write_record
from repeats import spread

from knnvote.classify.classifier import Classifier
from knnvote.classify.job import pipeline, worker
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.receipt import read_receipt
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.verification import verify_path
from knnvote.classify.vote import Rule
from knnvote.data.containers import parquet
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError
from knnvote.data.files import hold_lock
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays

RNG = np.random.default_rng(0)
LABELS = np.repeat([3, 5, 8], 12)
IMAGES = np.clip(LABELS[:, None, None] * 25 + RNG.integers(-40, 40, (36, 4, 4)), 0, 255).astype(np.uint8)
QUERIES = np.clip(np.resize([3, 5, 8], 20)[:, None, None] * 25 + RNG.integers(-60, 60, (20, 4, 4)), 0, 255)
QUERIES = QUERIES.astype(np.uint8)


@pytest.fixture(scope="module")
def index_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "x.knn"
    index_arrays(IMAGES, LABELS, folder)
    return folder


@pytest.fixture(scope="module")
def classifier(index_folder):
    return Classifier.open(index_folder)


@pytest.fixture
def source(tmp_path):
    write_table(image_table(QUERIES, np.arange(20)), tmp_path / "in" / "a.parquet")
    return tmp_path / "in" / "a.parquet"


def run(classifier, images, out, options=None, **how):
    named = [images] if isinstance(images, str | Path) else images
    return run_job(classifier, find_inputs([str(name) for name in named]), out, options or JobOptions(), **how)


def output(**options):
    return JobOptions(output=OutputOptions(**options))


def written(out):
    """Files of an output folder, less the job's own records, each with its content's hash."""
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.rglob("*"))
        if file.is_file() and not {"_knnvote", ENDED} & {*file.parts}
    }


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


# Rows and columns


def test_every_input_row_gets_one_output_row_in_order_with_the_answer_of_the_classifier(classifier, source, tmp_path):
    summary = run(classifier, source, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    answer = classifier(QUERIES)
    assert table.column_names == [
        "label",
        "prediction",
        "confidence",
        "distance",
        "best",
        "second",
        "margin",
        "status",
        "reason",
    ]
    assert table["label"].to_pylist() == list(range(20))
    assert table["prediction"].to_pylist() == answer.prediction.to_pylist()
    assert table["confidence"].to_numpy().tolist() == answer.confidence.tolist()
    assert table["distance"].to_numpy().tolist() == answer.D[:, 0].tolist()
    assert (summary.counts.rows, summary.counts.ok, summary.written, summary.skipped) == (20, 20, 1, 0)
    assert summary.failed == {}


def bad_pngs():
    rows = [png(image) for image in QUERIES[:6]]
    rows[1], rows[3], rows[4] = None, b"\x89PNG\r\n\x1a\nnot a picture", png(QUERIES[0][:3])
    return pa.array(rows), {1: "null image", 3: "", 4: "image is 3 x 4, expected 4 x 4"}


def bad_floats():
    rows = QUERIES[:6].reshape(6, 16).astype(float).tolist()
    rows[1][0], rows[2][3], rows[3][1], rows[5] = float("nan"), float("inf"), -1.0, None
    rows[4][7] = 256.0
    return pa.array(rows), {
        1: "value 0 is NaN",
        2: "value 3 is infinite",
        3: "value -1.0 is not a whole number from 0 to 255",
        4: "value 256.0 is not a whole number from 0 to 255",
        5: "null image",
    }


def bad_lists():
    rows = QUERIES[:6].astype(int).tolist()
    rows[0], rows[2][1], rows[4][3] = rows[0][:3], rows[2][1][:2], None
    rows[5][0][0] = None
    return pa.array(rows), {
        0: "3 rows of pixels, expected 4",
        2: "a row of 2 pixels, expected 4",
        4: "null row of pixels",
        5: "null value at 0",
    }


def bad_bytes():
    rows = [image.tobytes() for image in QUERIES[:6]]
    rows[2], rows[5] = rows[2][:7], None
    return pa.array(rows), {2: "7 bytes, expected 16", 5: "null image"}


@pytest.mark.parametrize("make", [bad_pngs, bad_floats, bad_lists, bad_bytes])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_bad_rows_are_told_by_status_and_reason_and_leave_the_others_as_they_are(
    classifier, tmp_path, make, batch_size
):
    column, bad = make()
    pq.write_table(pa.table({"image": column, "row": range(6)}), tmp_path / "a.parquet")
    summary = run(classifier, tmp_path / "a.parquet", tmp_path / "out", output(neighbors=True), batch_size=batch_size)
    good = classifier(QUERIES[:6]).prediction.to_pylist()
    for row in pq.read_table(tmp_path / "out" / "a.parquet").to_pylist():
        if (number := row["row"]) in bad:
            assert row["status"] == "bad_image"
            assert row["reason"].startswith(bad[number])
            assert row["reason"]
            assert [row[name] for name in ("prediction", "confidence", "distance", "neighbors")] == [None] * 4
        else:
            assert (row["status"], row["reason"], row["prediction"]) == ("ok", None, good[number])
    assert summary.counts.bad_image == len(bad)
    assert summary.counts.rows == 6
    assert summary.failed == {}


def test_neighbors_and_probabilities(classifier, tmp_path):
    images = QUERIES.astype(float)
    images[3, 0, 0] = np.nan
    write_table(image_table(images), tmp_path / "a.parquet")
    run(classifier, tmp_path / "a.parquet", tmp_path / "out", output(neighbors=True, probabilities=True, top=2))
    rows = pq.read_table(tmp_path / "out" / "a.parquet").to_pylist()
    assert rows[3]["neighbors"] is None
    assert rows[3]["probabilities"] is rows[3]["top"] is rows[3]["top_share"] is None
    for row in rows[:3] + rows[4:]:
        assert len(row["neighbors"]) == 5
        assert list(row["probabilities"]) == ["3", "5", "8"]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probabilities"][str(row["prediction"])] == row["confidence"]
        assert row["top"] == [label for label in (row["best"], row["second"]) if label is not None]
        assert row["top_share"] == [row["probabilities"][str(label)] for label in row["top"]]
        labels = [voter["label"] for voter in row["neighbors"]]
        assert {name: labels.count(int(name)) / 5 for name in ("3", "5", "8")} == pytest.approx(row["probabilities"])
        assert row["neighbors"][0]["distance"] == row["distance"]
        assert all(LABELS[voter["row"]] == voter["label"] for voter in row["neighbors"])
        assert [voter["id"] for voter in row["neighbors"]] == [f"array#{voter['row']}" for voter in row["neighbors"]]


def test_regression_has_null_confidence_and_refuses_probabilities(tmp_path, source):
    index_arrays(IMAGES, LABELS / 2, tmp_path / "r.knn", is_regression=True)
    classifier = Classifier.open(tmp_path / "r.knn")
    run(classifier, source, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    assert table["confidence"].null_count == 20
    assert table["prediction"].to_pylist() == pytest.approx((LABELS / 2)[classifier(QUERIES).I].mean(axis=1).tolist())
    with pytest.raises(OptionError, match=r"leave out probabilities$"):
        run(classifier, source, tmp_path / "other", output(probabilities=True))
    assert not (tmp_path / "other").exists()


def test_abstained_rows_are_counted_and_have_no_prediction(index_folder, source, tmp_path):
    classifier = Classifier.open(index_folder, Rule(min_confidence=1.0))
    summary = run(classifier, source, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "a.parquet").to_pylist()
    abstained = [row for row in rows if row["status"] == "abstained"]
    assert 0 < len(abstained) < 20
    assert summary.counts.abstained == len(abstained)
    assert all(row["prediction"] is None and row["confidence"] < 1 and row["distance"] >= 0 for row in abstained)


def test_keep_narrows_the_columns_and_prefix_renames_ours(classifier, tmp_path):
    table = (
        image_table(QUERIES).append_column("status", pa.array(["mine"] * 20)).append_column("n", pa.array(range(20)))
    )
    pq.write_table(table, tmp_path / "a.parquet")
    summary = run(classifier, tmp_path / "a.parquet", tmp_path / "out")
    assert "'status' already: pass --prefix" in summary.failed[str(tmp_path / "a.parquet")]
    assert not (tmp_path / "out" / "a.parquet").exists()
    run(classifier, tmp_path / "a.parquet", tmp_path / "prefixed", output(prefix="knn_"))
    prefixed = pq.read_table(tmp_path / "prefixed" / "a.parquet")
    assert prefixed.column_names[:3] == ["status", "n", "knn_prediction"]
    assert prefixed["status"].to_pylist() == ["mine"] * 20
    run(classifier, tmp_path / "a.parquet", tmp_path / "kept", output(keep=("n",)))
    assert pq.read_schema(tmp_path / "kept" / "a.parquet").names[:2] == ["n", "prediction"]


def test_columns_of_every_sort_go_through_unharmed(classifier, tmp_path):
    table = image_table(QUERIES)
    others = {
        "a.b": pa.array(range(20)),
        "struct": pa.array([{"b": i, "status": "x"} for i in range(20)]),
        "list": pa.array([[i] * (i % 3) for i in range(20)]),
        "category": pa.array(["red", None, "green", "blue"] * 5).dictionary_encode(),
        "when": pa.array(range(20), pa.timestamp("us", "UTC")),
        "nothing": pa.nulls(20),
        "ümlaut": pa.array(["ü"] * 20),
    }
    for name, values in others.items():
        table = table.append_column(name, values)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=6)
    outputs = set()
    for batch_size in (1, 7, 100):
        out = tmp_path / str(batch_size)
        options = JobOptions(images=ImageOptions(image_column="image"))
        assert run(classifier, tmp_path / "a.parquet", out, options, batch_size=batch_size).failed == {}
        read = pq.read_table(out / "a.parquet")
        for name, values in others.items():
            assert read[name].to_pylist() == values.to_pylist()
            assert read.schema.field(name).type == values.type
        outputs.add(written(out)["a.parquet"])
    assert len(outputs) == 1


def test_stale_metadata_of_pandas_and_hugging_face_does_not_survive(classifier, tmp_path):
    frame = pd.DataFrame({"image": [image.tobytes() for image in QUERIES], "n": range(20)}, index=range(5, 25))
    table = pa.Table.from_pandas(frame, preserve_index=True)
    features = {"image": {"_type": "Image"}, "n": {"_type": "Value", "dtype": "int64"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), "mine": "kept"}
    table = table.replace_schema_metadata({**table.schema.metadata, **metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    run(classifier, tmp_path / "a.parquet", tmp_path / "out", JobOptions(images=ImageOptions(shape=(4, 4))))
    assert {b"pandas", b"huggingface"}.isdisjoint(pq.read_schema(tmp_path / "out" / "a.parquet").metadata)
    assert pq.read_schema(tmp_path / "out" / "a.parquet").metadata[b"mine"] == b"kept"
    frame = pd.read_parquet(tmp_path / "out" / "a.parquet")
    assert frame["n"].tolist() == list(range(20))


@pytest.mark.parametrize("kind", [pa.binary(), pa.list_(pa.uint8()), pa.list_(pa.float32(), 16), None])
def test_a_file_of_no_rows_gives_one_of_no_rows_with_the_schema_of_the_others(classifier, source, tmp_path, kind):
    some = pq.read_table(source)
    none = some.slice(0, 0)
    if kind is not None:
        none = none.set_column(0, "image", pa.array([], kind))
    pq.write_table(none, tmp_path / "in" / "none.parquet")
    options = output(neighbors=True, probabilities=True, top=2)
    summary = run(classifier, tmp_path / "in", tmp_path / "out", options)
    assert summary.failed == {}
    empty = pq.read_table(tmp_path / "out" / "none.parquet")
    assert empty.num_rows == 0
    assert empty.schema.equals(pq.read_schema(tmp_path / "out" / "a.parquet"))
    assert run(classifier, tmp_path / "in", tmp_path / "out", options).skipped == 2


def test_duckdb_pandas_and_polars_read_the_same_values(classifier, tmp_path):
    images = QUERIES.astype(float)
    images[3, 0, 0] = np.nan
    write_table(image_table(images, np.arange(20)), tmp_path / "a.parquet")
    run(classifier, tmp_path / "a.parquet", tmp_path / "out", output(neighbors=True, probabilities=True, top=2))
    file = tmp_path / "out" / "a.parquet"
    rows = pq.read_table(file).to_pylist()
    assert pl.read_parquet(file).to_dicts() == rows
    relation = duckdb.sql(f"SELECT * FROM '{file}'")  # noqa: S608  # a path of this test's own
    assert [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()] == rows
    frame = pd.read_parquet(file)
    assert frame.columns.tolist() == list(rows[0])
    for name in ("prediction", "confidence", "distance", "status"):
        given = [None if pd.isna(value) else value for value in frame[name]]
        assert given == [row[name] for row in rows]
    voters = [None if value is None else list(value) for value in frame["neighbors"]]
    assert voters == [row["neighbors"] for row in rows]


# Which file goes where


def test_a_finished_folder_is_read_as_one_table_by_readers_that_take_every_file_below(classifier, tmp_path):
    """Polars, `**` of DuckDB: beside the outputs lies a file without rows, of their columns, that has the records."""
    for name in ("a.parquet", "deep/b.parquet"):
        write_table(image_table(QUERIES, np.arange(20)), tmp_path / "in" / name)
    (tmp_path / "in" / "z.parquet").write_text("broken")
    out = tmp_path / "out"
    assert len(run(classifier, tmp_path / "in", out).failed) == 1
    assert pl.read_parquet(out).shape == (40, 9)
    assert len(duckdb.read_parquet(f"{out}/**").fetchall()) == 40
    assert len(pq.read_table(out)) == 40
    assert [file.name for file in out.iterdir() if file.is_file()].count(ENDED) == 1
    assert run(classifier, tmp_path / "in", out).skipped == 2


def test_what_desktops_and_notebooks_leave_in_an_output_folder_is_passed_over(
    classifier, source, tmp_path, monkeypatch
):
    out = tmp_path / "out"

    def leave():
        (out / ".ipynb_checkpoints").mkdir(parents=True, exist_ok=True)
        for name in (".DS_Store", "._a.parquet", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/a-checkpoint.parquet"):
            (out / name).write_bytes(b"\0")

    leave()
    assert run(classifier, source, out).written == 1
    leave()
    assert run(classifier, source, out).skipped == 1
    monkeypatch.chdir(tmp_path)
    assert verify_path("out").problems == []


def test_names_that_differ_in_case_alone_are_refused_where_the_disk_says_that_they_are_one(classifier, tmp_path):
    """As a disk that ignores case does, LOCK leads to the lock."""
    for name in ("a.parquet", "A.parquet"):
        write_table(image_table(QUERIES), tmp_path / "in" / name)
    assert run(classifier, tmp_path / "in", tmp_path / "out").written == 2
    (tmp_path / "other" / "_knnvote").mkdir(parents=True)
    (tmp_path / "other" / "_knnvote" / "LOCK").symlink_to("lock")
    with pytest.raises(KnnvoteError, match=r"A\.parquet and .*a\.parquet would both be written to .*ignores case"):
        run(classifier, tmp_path / "in", tmp_path / "other")


def test_folders_globs_and_files_keep_their_paths_relative_to_what_was_named(classifier, tmp_path, monkeypatch):
    names = ["a.parquet", "deep/b.parquet", "deep/er/c.parquet", ".hidden.parquet", "_skip/d.parquet"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_table(image_table(QUERIES[:3]), tmp_path / "in" / name)
    (tmp_path / "in" / "deep" / "note.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    run(classifier, "in", Path("folder"))
    assert list(written(Path("folder"))) == ["a.parquet", "deep/b.parquet", "deep/er/c.parquet"]
    run(classifier, "in/deep", Path("below"))
    assert list(written(Path("below"))) == ["b.parquet", "er/c.parquet"]
    run(classifier, "in/*/*.parquet", Path("glob"))
    assert sorted(written(Path("glob"))) == ["_skip/d.parquet", "deep/b.parquet"]
    run(classifier, "in/**/c.parquet", Path("stars"))
    assert list(written(Path("stars"))) == ["deep/er/c.parquet"]
    run(classifier, ["in/a.parquet", "in/deep/b.parquet", "in/deep/er"], Path("several"))
    assert list(written(Path("several"))) == ["a.parquet", "b.parquet", "c.parquet"]
    run(classifier, (tmp_path / "in" / "deep").as_uri(), Path("uri"))
    assert list(written(Path("uri"))) == ["b.parquet", "er/c.parquet"]


def test_a_file_named_twice_is_classified_once(classifier, source, tmp_path):
    summary = run(classifier, [source, source.parent, source.parent / "*.parquet"], tmp_path / "out")
    assert (summary.written, summary.counts.rows) == (1, 20)


def test_two_inputs_with_one_output_path_are_refused_before_any_work(classifier, tmp_path):
    for folder in ("x", "y"):
        write_table(image_table(QUERIES), tmp_path / folder / "a.parquet")
    with pytest.raises(KnnvoteError, match=r"x/a\.parquet and .*y/a\.parquet would both be written to .*name a folder"):
        run(classifier, [tmp_path / "x", tmp_path / "y"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "out", "deep/out"])
def test_an_output_folder_inside_an_input_is_refused(classifier, source, below):
    before = written(source.parent)
    with pytest.raises(KnnvoteError, match="lies inside the input"):
        run(classifier, source.parent, source.parent / below)
    assert written(source.parent) == before


def test_an_output_that_would_replace_its_input_is_refused(classifier, source):
    before = source.read_bytes()
    with pytest.raises(KnnvoteError, match="is the input itself: give another out"):
        run(classifier, source, source.parent)
    assert source.read_bytes() == before


def test_an_output_that_is_a_file_is_refused(classifier, source, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(KnnvoteError, match="is not a folder: give out a folder"):
        run(classifier, source, tmp_path / "out")
    with pytest.raises(KnnvoteError, match="cannot write"):
        run(classifier, source, tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_folder_with_foreign_files_is_refused_and_an_empty_one_taken(classifier, source, tmp_path):
    (tmp_path / "out").mkdir()
    run(classifier, source, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.parquet").write_text("mine")
    with pytest.raises(KnnvoteError, match="holds files that knnvote did not make"):
        run(classifier, source, tmp_path / "other")
    assert written(tmp_path / "other") == {"a.parquet": hashlib.sha256(b"mine").hexdigest()}


@pytest.mark.parametrize("link", ["_knnvote", "sub"])
def test_a_folder_of_the_output_that_is_a_link_is_refused_and_what_it_leads_to_stays(
    classifier, source, tmp_path, link
):
    """A stranger's folder may hold one; without it the job is done."""
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    for name in ("notes.tmp", ".a.parquet.7.tmp", "a.parquet"):
        write_table(image_table(QUERIES, np.arange(20)), elsewhere / name)
    write_table(image_table(QUERIES, np.arange(20)), source.parent / "sub" / "a.parquet")
    before = {file: file.read_bytes() for file in elsewhere.iterdir()}
    (out / "_knnvote").mkdir(parents=True)
    if link == "_knnvote":
        (out / link).rmdir()
    (out / link).symlink_to(elsewhere)
    with pytest.raises(KnnvoteError, match=f"{link} is a link.*remove it"):
        run(classifier, source.parent, out)
    assert {file: file.read_bytes() for file in elsewhere.iterdir()} == before
    (out / link).unlink()
    assert run(classifier, source.parent, out).written == 2


def test_only_unfinished_files_among_the_records_are_removed(classifier, source, tmp_path):
    run(classifier, source, tmp_path / "out")
    (tmp_path / "out" / "_knnvote").mkdir()
    for name in ("notes.tmp", ".a.parquet.7.tmp"):
        (tmp_path / "out" / "_knnvote" / name).touch()
    run(classifier, source, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out" / "_knnvote").iterdir()} == {"notes.tmp"}


def test_large_kept_columns_are_held_a_few_rows_at_a_time(classifier, tmp_path, monkeypatch):
    """20 kB in each row, alike, so that the file is small."""
    monkeypatch.setattr(parquet, "BATCH_BYTES", 1 << 23)
    n, table = 1000, image_table(np.resize(QUERIES, (1000, 4, 4)), np.arange(1000))
    schema = table.schema.append(pa.field("text", pa.string()))
    (tmp_path / "in").mkdir()
    with pq.ParquetWriter(tmp_path / "in" / "a.parquet", schema) as writer:
        for start in range(0, n, 100):
            columns = [*table.slice(start, 100).columns, pa.array(["x" * 20_000] * 100)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    outputs = {}
    for batch_size in (64, 4096):
        run(classifier, tmp_path / "in", tmp_path / str(batch_size), batch_size=batch_size)
        outputs[batch_size] = (tmp_path / str(batch_size) / "a.parquet").read_bytes()
    assert outputs[64] == outputs[4096]
    metadata = pq.read_metadata(tmp_path / "64" / "a.parquet")
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sum(rows) == n
    assert max(rows) * 20_000 <= 1 << 23


def test_a_column_whose_rows_cannot_be_joined_fails_the_file_alone_and_keep_leaves_it_out(classifier, source, tmp_path):
    """Codes of 8 bits and another dictionary in each row group: more values than the codes can tell apart."""
    table = image_table(np.resize(QUERIES, (200, 4, 4)), np.arange(200))
    codes = pa.array(np.tile(np.arange(100, dtype=np.int8), 2))
    both = [pa.DictionaryArray.from_arrays(codes[:100], pa.array([f"{part}{i}" for i in range(100)])) for part in "ab"]
    schema = table.schema.append(pa.field("word", pa.dictionary(pa.int8(), pa.string())))
    with pq.ParquetWriter(tmp_path / "in" / "b.parquet", schema) as writer:
        for part, words in enumerate(both):
            rows = table.slice(100 * part, 100)
            writer.write_table(pa.Table.from_arrays([*rows.columns, words], schema=schema))
    summary = run(classifier, source.parent, tmp_path / "out")
    assert (summary.written, list(summary.failed)) == (1, [str(tmp_path / "in" / "b.parquet")])
    (told,) = summary.failed.values()
    assert "'word' cannot be joined" in told
    assert "keep" in told
    kept = JobOptions(output=OutputOptions(keep=("label",)))
    assert run(classifier, source.parent, tmp_path / "kept", kept).written == 2


def test_folders_named_as_a_column_of_ours_are_refused_and_a_prefix_names_it_otherwise(classifier, tmp_path):
    """Spark and DuckDB showed what the folders say in place of every prediction."""
    (tmp_path / "in" / "Prediction=7").mkdir(parents=True)
    write_table(image_table(QUERIES), tmp_path / "in" / "Prediction=7" / "a.parquet")
    failed = run(classifier, tmp_path / "in", tmp_path / "out").failed
    (told,) = failed.values()
    assert "a column 'Prediction' already, which readers take before the output's own: pass --prefix knn_ to" in told
    assert run(classifier, tmp_path / "in", tmp_path / "prefixed", output(prefix="knn_")).failed == {}
    read = duckdb.read_parquet(str(tmp_path / "prefixed" / "*" / "a.parquet"))
    assert len(read.project("knn_prediction").distinct().fetchall()) > 1


def test_classes_whose_names_differ_in_case_alone_are_told_with_their_shares(source, tmp_path):
    """Spark refused the whole folder, and DuckDB called one a_1."""
    index_arrays(IMAGES, np.array(["A", "a"] * 18), tmp_path / "x.knn")
    classifier = Classifier.open(tmp_path / "x.knn", Rule(k=3))
    with pytest.warns(UserWarning, match=r"classes 'A' and 'a' of the column 'probabilities' .*caseSensitive is true"):
        run(classifier, source, tmp_path / "out", output(probabilities=True))
    run(classifier, source, tmp_path / "without", output(neighbors=True))


def test_what_a_writer_says_of_all_columns_does_not_go_on(classifier, tmp_path):
    """Spark believes its own key before the file, and showed no predictions."""
    table = image_table(QUERIES, np.arange(20))
    stale = {"org.apache.spark.sql.parquet.row.metadata": "{}", "parquet.avro.schema": "{}", "geo": "{}"}
    metadata = {**stale, "iceberg.schema": "{}", "of the user": "kept", "geology": "kept", "pandas notes": "kept"}
    write_table(table.replace_schema_metadata(metadata), tmp_path / "in" / "a.parquet")
    run(classifier, tmp_path / "in", tmp_path / "out")
    found = pq.read_metadata(tmp_path / "out" / "a.parquet").metadata
    assert found.keys() == {b"of the user", b"geology", b"pandas notes", b"knnvote", b"ARROW:schema"}
    assert found[b"of the user"] == b"kept"


def test_old_timestamps_of_96_bits_stay_the_dates_that_they_are(classifier, tmp_path):
    """Spark and Impala wrote them, of years that nanoseconds do not reach."""
    texts = ["1066-10-14 09:30:00", "2026-01-02 03:04:05.678901", "9999-12-31 00:00:00", *[None] * 17]
    dates = pa.array(texts).cast(pa.timestamp("us"))
    table = image_table(QUERIES, np.arange(20)).append_column("when", dates)
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    run(classifier, tmp_path / "a.parquet", tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "a.parquet")["when"].combine_chunks().equals(dates)


def test_timestamps_of_96_bits_by_spark_stay_the_instants_that_they_are(classifier, tmp_path):
    """It writes local ones in 64 bits; where other writers say no zone, there is none."""
    times = pa.array(["1066-10-14 09:30:00", None] * 10).cast(pa.timestamp("us")).to_pylist()
    plain = pa.timestamp("us")
    columns = {
        "when": pa.array(times, plain),
        "list": pa.array([[time] for time in times], pa.list_(plain)),
        "struct": pa.array([{"a": 1, "b": time} for time in times], pa.struct([("a", pa.int32()), ("b", plain)])),
        "map": pa.array([[("k", time)] for time in times], pa.map_(pa.string(), plain)),
    }
    table = pa.table({"image": image_table(QUERIES)["image"], **columns})
    (tmp_path / "in").mkdir()
    for name, version in {"spark": {"org.apache.spark.version": "4.0.0"}, "other": {}}.items():
        path, as_spark = tmp_path / "in" / f"{name}.parquet", {"use_deprecated_int96_timestamps": True}
        with pq.ParquetWriter(path, table.schema, store_schema=False, **as_spark) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(version)
    run(classifier, tmp_path / "in", tmp_path / "out")
    out = pq.read_table(tmp_path / "out" / "spark.parquet")
    for name, column in columns.items():
        assert str(out.schema.field(name).type).count("timestamp[us, tz=UTC]") == 1
        assert out[name].combine_chunks().cast(column.type).equals(column)
    assert pq.read_table(tmp_path / "out" / "other.parquet")["when"].type == plain


def test_two_jobs_at_once_into_one_output_are_refused(classifier, source, tmp_path):
    with (
        hold_lock(tmp_path / "out" / "_knnvote" / "lock", "held"),
        pytest.raises(KnnvoteError, match=r"another job is writing to .*out: wait for it"),
    ):
        run(classifier, source, tmp_path / "out")
    assert run(classifier, source, tmp_path / "out").written == 1


# Files that fail


def spoilt_folder(folder):
    write_table(image_table(QUERIES), folder / "a.parquet")
    (folder / "b.parquet").write_text("not Parquet")
    pq.write_table(pa.table({"x": [1.5]}), folder / "c.parquet")
    write_table(image_table(np.zeros((3, 5, 5), np.uint8)), folder / "d.parquet")
    whole = (folder / "a.parquet").read_bytes()
    (folder / "e.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "f.parquet").write_bytes(b"")
    damaged = bytearray(whole)
    damaged[10:60] = bytes(50)  # the footer is whole, the data are not
    (folder / "g.parquet").write_bytes(damaged)
    write_table(image_table(QUERIES[:7]), folder / "z.parquet")


def test_files_that_do_not_fit_are_reported_by_name_and_the_others_go_on(classifier, tmp_path):
    spoilt_folder(tmp_path / "in")
    summary = run(classifier, tmp_path / "in", tmp_path / "out")
    reasons = {Path(name).name: reason for name, reason in summary.failed.items()}
    assert list(reasons) == [f"{letter}.parquet" for letter in "bcdefg"]
    assert all(str(tmp_path / "in" / name) in reason for name, reason in reasons.items())
    assert all("\n" not in reason for reason in reasons.values())
    assert "as Parquet" in reasons["b.parquet"]
    assert "no image column" in reasons["c.parquet"]
    assert "images are 5 x 5, the index stores 4 x 4" in reasons["d.parquet"]
    assert list(written(tmp_path / "out")) == ["a.parquet", "z.parquet"]
    assert (summary.written, summary.counts.rows) == (2, 27)
    assert json.loads(read_record(tmp_path / "out", "failures.json")) == summary.failed
    assert not list(tmp_path.rglob("*.tmp"))


def test_fail_fast_stops_at_the_first_file_that_fails(classifier, tmp_path):
    spoilt_folder(tmp_path / "in")
    with pytest.raises(ImageFileError, match=r"b\.parquet as Parquet"):
        run(classifier, tmp_path / "in", tmp_path / "out", fail_fast=True)
    assert list(written(tmp_path / "out")) == ["a.parquet"]


def test_a_rerun_does_the_files_that_were_mended_and_forgets_their_failure(classifier, tmp_path):
    spoilt_folder(tmp_path / "in")
    run(classifier, tmp_path / "in", tmp_path / "out")
    for letter in "bcdefg":
        write_table(image_table(QUERIES[:2]), tmp_path / "in" / f"{letter}.parquet")
    summary = run(classifier, tmp_path / "in", tmp_path / "out")
    assert (summary.written, summary.skipped, summary.failed, summary.counts.rows) == (6, 2, {}, 39)
    assert read_record(tmp_path / "out", "failures.json") is None


def test_a_file_that_is_gone_when_its_turn_comes_fails_alone(classifier, tmp_path):
    for name in "abc":
        write_table(image_table(QUERIES), tmp_path / "in" / f"{name}.parquet")
    inputs = find_inputs([str(tmp_path / "in")])
    (tmp_path / "in" / "b.parquet").unlink()
    summary = run_job(classifier, inputs, tmp_path / "out", JobOptions())
    assert list(summary.failed) == [str(tmp_path / "in" / "b.parquet")]
    assert summary.written == 2


# Running again


def test_a_rerun_skips_what_is_done_and_touches_nothing(classifier, tmp_path):
    for name in "abc":
        write_table(image_table(QUERIES), tmp_path / "in" / f"{name}.parquet")
    first = run(classifier, tmp_path / "in", tmp_path / "out")
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.parquet")}
    second = run(classifier, tmp_path / "in", tmp_path / "out")
    assert (second.written, second.skipped, second.new_rows) == (0, 3, 0)
    assert second.counts == first.counts
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.parquet")} == times


def test_a_rerun_redoes_an_input_that_changed_and_only_that(classifier, tmp_path):
    for name in "abc":
        write_table(image_table(QUERIES), tmp_path / "in" / f"{name}.parquet")
    run(classifier, tmp_path / "in", tmp_path / "out")
    before = written(tmp_path / "out")
    write_table(image_table(QUERIES[::-1]), tmp_path / "in" / "b.parquet")
    summary = run(classifier, tmp_path / "in", tmp_path / "out")
    assert (summary.written, summary.skipped) == (1, 2)
    after = written(tmp_path / "out")
    assert {name for name in after if after[name] != before[name]} == {"b.parquet"}
    expected = classifier(QUERIES[::-1]).prediction.to_pylist()
    assert pq.read_table(tmp_path / "out" / "b.parquet")["prediction"].to_pylist() == expected


def write_raw(images, path):
    """A file whose size does not depend on its pixels."""
    table = pa.table({"image": [image.tobytes() for image in images]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    return path.stat().st_size


def test_an_input_of_the_same_size_with_other_content_counts_as_changed(classifier, tmp_path):
    file = tmp_path / "a.parquet"
    assert write_raw(QUERIES, file) == write_raw(QUERIES[::-1], file)
    for images in (QUERIES, QUERIES[::-1]):
        write_raw(images, file)
        assert run(classifier, file, tmp_path / "out").written == 1
        predicted = pq.read_table(tmp_path / "out" / "a.parquet")["prediction"].to_pylist()
        assert predicted == classifier(images).prediction.to_pylist()


def test_an_input_replaced_while_it_is_read_is_done_again(classifier, tmp_path):
    file, other = tmp_path / "a.parquet", tmp_path / "other.parquet"
    assert write_raw(QUERIES, file) == write_raw(QUERIES[::-1], other)

    def replace(_rows):
        if other.exists():
            other.replace(file)

    run(classifier, file, tmp_path / "out", progress=replace)
    assert not other.exists()
    assert run(classifier, file, tmp_path / "out").written == 1
    expected = classifier(QUERIES[::-1]).prediction.to_pylist()
    assert pq.read_table(tmp_path / "out" / "a.parquet")["prediction"].to_pylist() == expected


@pytest.mark.parametrize("damage", [b"", b"PAR1 of something else", None])
def test_a_rerun_mends_an_output_that_was_damaged_or_removed(classifier, source, tmp_path, damage):
    run(classifier, source, tmp_path / "out")
    before = written(tmp_path / "out")
    if damage is None:
        (tmp_path / "out" / "a.parquet").unlink()
    else:
        (tmp_path / "out" / "a.parquet").write_bytes(damage)
    assert run(classifier, source, tmp_path / "out").written == 1
    assert written(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((Rule(k=3), JobOptions()), r"k was 5 and is 3"),
        ((Rule(weights="distance"), JobOptions()), r'weights was "uniform" and is "distance"'),
        ((Rule(ties="first-class"), JobOptions()), r'ties was "nearest" and is "first-class"'),
        ((Rule(), output(neighbors=True)), r"neighbors was not given and is given"),
        ((Rule(), output(keep=("label",))), r'keep was not given and is \["label"\]'),
        ((Rule(k=3), output(prefix="x")), r'k was 5 and is 3; prefix was not given and is "x"'),
        ((Rule(), JobOptions(images=ImageOptions(grayscale=True))), r"grayscale was not given and is given"),
        ((Rule(), JobOptions(images=ImageOptions(background="black"))), r'background was not given and is "black"'),
    ],
)
def test_a_folder_made_with_other_options_is_refused_naming_them(classifier, source, tmp_path, asked, told):
    run(classifier, source, tmp_path / "out")
    rule, options = asked
    before = written(tmp_path / "out")
    with pytest.raises(KnnvoteError, match=rf"was made by another job: {told}; .*: pass overwrite=True to"):
        run(Classifier(classifier.index, rule), source, tmp_path / "out", options)
    assert written(tmp_path / "out") == before


def test_a_folder_made_with_another_index_is_refused(classifier, source, tmp_path):
    run(classifier, source, tmp_path / "out")
    index_arrays(IMAGES[1:], LABELS[1:], tmp_path / "other.knn")
    with pytest.raises(KnnvoteError, match=r"the index was [0-9a-f]{12}\.{3} and is [0-9a-f]{12}\.{3}; another index"):
        run(Classifier.open(tmp_path / "other.knn"), source, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"index": 1, "options": 2}', b"\xff"])
def test_a_damaged_job_record_is_told_and_the_files_that_fit_are_kept(classifier, source, tmp_path, content):
    run(classifier, source, tmp_path / "out")
    (tmp_path / "out" / "_knnvote").mkdir()
    at_work, ended = tmp_path / "out" / "_knnvote" / "job.json", tmp_path / "out" / ENDED
    at_work.write_bytes(content)
    write_record(tmp_path / "out", content)
    for record in (at_work, ended):
        with pytest.raises(KnnvoteError, match=f"{record} is damaged: remove it"):
            run(classifier, source, tmp_path / "out")
        record.unlink()
    assert run(classifier, source, tmp_path / "out").skipped == 1


def test_what_a_killed_job_left_half_written_is_cleared_away(classifier, source, tmp_path):
    run(classifier, source, tmp_path / "out")
    (tmp_path / "out" / "_knnvote").mkdir()
    (tmp_path / "out" / "_knnvote" / ".a.parquet.123.tmp").write_bytes(b"half")
    run(classifier, source, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [ENDED, "a.parquet"]


def test_a_receipt_tells_index_options_input_and_counts_and_no_time_or_place(classifier, source, tmp_path):
    run(classifier, source, tmp_path / "out", threads=2, batch_size=7)
    receipt = read_receipt(locate(tmp_path / "out" / "a.parquet"))
    assert receipt.index == classifier.index.fingerprint
    assert receipt.options["k"] == 5
    content = source.read_bytes()
    assert receipt.input == {
        "path": "a.parquet",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert (receipt.counts.rows, receipt.counts.ok) == (20, 20)
    assert {"threads", "batch_size", "seconds"}.isdisjoint(receipt.options)
    assert str(tmp_path).encode() not in (tmp_path / "out" / "a.parquet").read_bytes()


# The same bytes, always


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Data of 784 dimensions, in which FAISS turns to BLAS from 164 queries on; in uint8 and in float32."""
    folder = tmp_path_factory.mktemp("photographs")
    labels = RNG.integers(0, 10, 800)
    images = RNG.integers(0, 256, (10, 28, 28))[labels] + RNG.normal(0, 90, (800, 28, 28))
    for dtype in ("uint8", "float32"):
        typed = np.clip(images, 0, 255).astype(dtype)
        for kind in ("exact", "adaptive"):
            index_arrays(typed[:600], labels[:600], folder / f"{kind}-{dtype}.knn", options=IndexOptions(kind=kind))
        table = image_table(typed[600:], labels[600:])
        write_table(table, folder / f"{dtype}.parquet")
        for i in range(10):
            write_table(table.slice(i * 20, 20), folder / dtype / f"{i}.parquet")
    return folder


@spread(("kind", ["exact", "adaptive"]), ("dtype", ["uint8", "float32"]))
def test_output_bytes_do_not_depend_on_batch_size_threads_or_split(photographs, tmp_path, kind, dtype):
    classifier = Classifier.open(photographs / f"{kind}-{dtype}.knn")
    options = output(neighbors=True, probabilities=True, top=2)
    contents = set()
    for threads, batch_size in ((1, 1), (1, 163), (1, 164), (2, 7), (2, 164), (2, 5000)):
        out = tmp_path / f"{threads}-{batch_size}"
        run(classifier, photographs / f"{dtype}.parquet", out, options, threads=threads, batch_size=batch_size)
        contents.add((out / f"{dtype}.parquet").read_bytes())
    assert len(contents) == 1
    run(classifier, photographs / dtype, tmp_path / "ten", options)
    ten = pa.concat_tables(pq.read_table(tmp_path / "ten" / f"{i}.parquet") for i in range(10))
    one = pq.read_table(io.BytesIO(contents.pop()))
    assert ten.replace_schema_metadata().equals(one.replace_schema_metadata())


def test_files_of_few_rows_take_no_other_thread_and_get_the_same_bytes(classifier, source, tmp_path, monkeypatch):
    bad = pa.table({"image": pa.array([bytes(16), b"short", None], pa.binary())})
    write_table(bad, tmp_path / "in" / "b.parquet")
    monkeypatch.setattr(worker, "LEAST_BLOCK", 0)
    run(classifier, tmp_path / "in", tmp_path / "handed-on")
    monkeypatch.undo()
    monkeypatch.setattr(pipeline.ThreadPoolExecutor, "submit", lambda *_: pytest.fail("handed to another thread"))
    run(classifier, source.parent, tmp_path / "in-place")
    assert written(tmp_path / "in-place") == written(tmp_path / "handed-on")
    assert len(written(tmp_path / "in-place")) == 2


# A full disk


class FullDisk(io.FileIO):
    """A file on a disk with room for 1,000 bytes more."""

    def write(self, content):
        if self.tell() + len(memoryview(content).cast("B")) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


def test_a_full_disk_is_told_leaves_no_partial_file_and_the_rerun_completes(classifier, source, tmp_path, monkeypatch):
    write_table(image_table(QUERIES[:1]), source.parent / "b.parquet")
    run(classifier, source.parent, tmp_path / "undisturbed")
    real = Path.open

    def full(path, mode="r", *rest, **named):
        if path.name.startswith(".b.parquet."):
            return FullDisk(path, mode)
        return real(path, mode, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(
            KnnvoteError, match=r"cannot write .*b\.parquet: No space left on device; mend that and run"
        ):
            run(classifier, source.parent, tmp_path / "out")
    assert list(written(tmp_path / "out")) == ["a.parquet"]
    assert not list(tmp_path.rglob("*.tmp"))
    summary = run(classifier, source.parent, tmp_path / "out")
    assert (summary.written, summary.skipped) == (1, 1)
    assert written(tmp_path / "out") == written(tmp_path / "undisturbed")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_last_step_is_told_too(classifier, source, tmp_path, monkeypatch, call):
    def fail(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        with pytest.raises(KnnvoteError, match="No space left on device"):
            run(classifier, source, tmp_path / "out")
    assert written(tmp_path / "out") == {}
    assert not list(tmp_path.rglob("*.tmp"))
    assert run(classifier, source, tmp_path / "out").written == 1


def test_progress_counts_every_row_once_skipped_files_included(classifier, tmp_path):
    for name in "ab":
        write_table(image_table(QUERIES), tmp_path / "in" / f"{name}.parquet")
    told = []
    run(classifier, tmp_path / "in" / "a.parquet", tmp_path / "out", progress=told.append, batch_size=7)
    assert told == [7, 7, 6]
    told.clear()
    run(classifier, tmp_path / "in", tmp_path / "out", progress=told.append)
    assert sum(told) == 40


def test_the_summary_as_json_has_the_documented_keys(classifier, source, tmp_path):
    record = run(classifier, source, tmp_path / "out").to_json()
    assert {"rows", "ok", "abstained", "bad_image", "files", "seconds", "rows_per_second"} <= record.keys()
    assert record["files"] == {"written": 1, "skipped": 0, "failed": 0}
    json.dumps(record)


def test_a_job_that_wrote_nothing_leaves_its_folder_to_another(classifier, source, tmp_path):
    mistaken = run(classifier, source, tmp_path / "out", output(keep=("nothing",)))
    assert (mistaken.written, len(mistaken.failed)) == (0, 1)
    assert list((tmp_path / "out").iterdir()) == []  # nor does it look like a job
    assert run(classifier, source, tmp_path / "out").written == 1


def test_the_first_bad_image_is_told_by_file_row_and_reason(classifier, tmp_path):
    images = np.full((3, *classifier.index.shape), 1.0)
    images[1:] = np.nan
    write_table(image_table(images), tmp_path / "x.parquet")
    summary = run(classifier, tmp_path / "x.parquet", tmp_path / "out", batch_size=1)
    assert summary.counts.bad_image == 2
    assert summary.bad_example == f"{tmp_path}/x.parquet, row 1: value 0 is NaN"


def test_an_input_that_changes_while_it_is_classified_fails_alone_and_leaves_no_output(classifier, source, tmp_path):
    write_table(image_table(QUERIES[:5]), tmp_path / "in" / "b.parquet")

    def change(_rows):
        write_table(image_table(QUERIES[::-1], np.arange(20)), source)

    summary = run(classifier, tmp_path / "in", tmp_path / "out", progress=change, batch_size=7)
    assert list(summary.failed) == [str(source)]
    assert "changed while it was read: run the same command again" in summary.failed[str(source)]
    assert list(written(tmp_path / "out")) == ["b.parquet"]
    assert run(classifier, tmp_path / "in", tmp_path / "out").failed == {}


def test_the_output_of_one_input_is_not_replaced_by_that_of_another_of_its_name(classifier, source, tmp_path):
    write_table(image_table(QUERIES[:5]), tmp_path / "other" / "a.parquet")
    run(classifier, source, tmp_path / "out")
    before = written(tmp_path / "out")
    with pytest.raises(KnnvoteError, match=r"is the output of .*/in/a\.parquet, and .*/other/a\.parquet would replace"):
        run(classifier, tmp_path / "other" / "a.parquet", tmp_path / "out")
    assert written(tmp_path / "out") == before
    source.unlink()
    run(classifier, tmp_path / "other" / "a.parquet", tmp_path / "out")
    assert written(tmp_path / "out") != before
