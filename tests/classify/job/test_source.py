"""Outputs that tell the file and row that each row is of, however they are made, and whoever looks at them."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, 300)
IMAGES = np.clip(LABELS[:, None, None] * 60 + RNG.integers(-90, 90, (300, 4, 4)), 0, 255).astype(float)
FILES = {"a": range(100, 200), "b": range(200, 300)}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An index, and two files of labelled images."""
    monkeypatch.chdir(tmp_path)
    index_arrays(IMAGES[:100], LABELS[:100], Path("x.knn"))
    for name, rows in FILES.items():
        write_table(
            image_table(IMAGES[rows.start : rows.stop], LABELS[rows.start : rows.stop]), Path(f"in/{name}.parquet")
        )


def check_places(out):
    """Each row has its own place, between what was kept and what was answered."""
    for name in FILES:
        table = pq.read_table(f"{out}/{name}.parquet")
        assert table.column_names[:4] == ["label", "file", "row", "prediction"]
        assert set(table["file"].to_pylist()) == {f"{name}.parquet"}
        assert table["row"].to_pylist() == list(range(100))


@pytest.mark.usefixtures("work")
def test_they_are_there_however_the_output_is_made(invoke):
    def classified(*options, out="out"):
        done = invoke("classify", "x.knn", "in", "--out", out, "--source", *options)
        assert done.code == 0, done.stderr
        check_places(out)
        return done.stderr

    assert invoke("classify", "x.knn", "in", "--out", "out", "--source", "--dry-run").code == 0
    classified("--min-confidence", "0.7")
    assert "2 skipped as done" in classified("--min-confidence", "0.7")
    assert "(2 without a search)" in classified("--min-confidence", "0.9")
    classified("--min-confidence", "0.9", out="anew")
    assert Path("out/a.parquet").read_bytes() == Path("anew/a.parquet").read_bytes()
    assert "are kept of an earlier job" in classified("--k", "1", "--only", "abstained")
    other = invoke("classify", "x.knn", "in", "--out", "anew", "--min-confidence", "0.9")
    assert "--source was given and is not given; all outputs get other columns: pass --overwrite" in other.stderr


@pytest.mark.usefixtures("work")
def test_they_are_no_ids_and_no_labels(invoke):
    assert invoke("classify", "x.knn", "in", "--out", "out", "--source", "--min-confidence", "0.9").code == 0
    explained = json.loads(invoke("explain", "out", "b.parquet#7", "--index", "x.knn", "--json").stdout)["images"][0]
    assert (explained["name"], explained["id"]) == ("b.parquet#7", None)
    assert explained["kept"].keys() == {"label"}
    assert invoke("review", "out", "--top", "3").code == 0
    with Path("review.csv").open(newline="") as stream:
        assert all(row["id"] == f"{row['file']}#{row['row']}" for row in csv.DictReader(stream))
    shown = invoke("show", "in", "--predictions", "out", "--id", "b.parquet#7", "--out", "grid.png")
    assert (shown.code, "1 image" in shown.stderr) == (0, True), shown.stderr
    Path("truth.csv").write_text("id,label\n" + "".join(f"a.parquet#{row},{LABELS[100 + row]}\n" for row in range(100)))
    judged = invoke("report", "out", "--labels", "truth.csv", "--out", "report.html")
    assert judged.code == 0, judged.stderr
    refused = invoke("report", "out", "--label-column", "file", "--out", "report.html")
    assert "keeps no column 'file' of its input" in refused.stderr


@pytest.mark.usefixtures("work")
def test_a_column_of_the_input_that_has_the_name_is_refused_with_what_helps(invoke):
    table = pq.read_table("in/a.parquet")
    write_table(table.append_column("File", table["label"]), Path("named.parquet"))
    command = ("classify", "x.knn", "named.parquet", "--out", "named", "--source")
    refused = invoke(*command)
    assert (
        "the input has a column 'File' already: pass --prefix knn_ to name knnvote's columns otherwise, or leave it "
        "out with --keep" in refused.stderr
    )
    assert invoke(*command, "--prefix", "knn_").code == 0
    assert pq.read_schema("named/named.parquet").names[:4] == ["label", "File", "knn_file", "knn_row"]
