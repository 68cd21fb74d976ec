"""A column that names rows: kept in outputs whatever else is, and known again wherever the job is looked at."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.rows import Place, find_rows, kept_ids
from knnvote.classify.look.review import review
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, 300)
IMAGES = np.clip(LABELS[:, None, None] * 60 + RNG.integers(-90, 90, (300, 4, 4)), 0, 255).astype(float)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An index, and two files with a column of names and one that a usual name would take for ids."""
    monkeypatch.chdir(tmp_path)
    index_arrays(IMAGES[:100], LABELS[:100], Path("x.knn"))
    for name, rows in (("a", range(100, 200)), ("b", range(200, 300))):
        table = image_table(IMAGES[rows.start : rows.stop], LABELS[rows.start : rows.stop])
        table = table.append_column("sheet", pa.array([f"sheet-{row}" for row in rows]))
        write_table(table.append_column("id", pa.array([row % 7 for row in rows])), Path(f"in/{name}.parquet"))


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("keep", "kept"), [((), ["label", "sheet", "id"]), (("id",), ["sheet", "id"]), (("sheet",), ["sheet"])]
)
def test_it_is_kept_whatever_else_is(invoke, keep, kept):
    options = [word for name in keep for word in ("--keep", name)]
    assert invoke("classify", "x.knn", "in", "--out", "out", "--id-column", "sheet", *options).code == 0
    names = pq.read_schema("out/a.parquet").names
    assert names[: names.index("prediction")] == kept
    assert invoke("classify", "x.knn", "in", "--out", "out", "--id-column", "sheet", *options).stderr.count("2 skipped")


@pytest.mark.usefixtures("work")
def test_rows_are_named_by_it_in_all_that_looks_at_the_job(invoke):
    for out, options in (("one", ("--k", "1")), ("two", ("--min-confidence", "0.7", "--id-column", "sheet"))):
        assert invoke("classify", "x.knn", "in", "--out", out, *options).code == 0
    (place,) = find_rows(FinishedJob.open(locate("two")), ["sheet-203"])
    assert (place.file, place.row) == ("b.parquet", 3)
    explained = json.loads(invoke("explain", "two", "sheet-103", "--index", "x.knn", "--json").stdout)["images"][0]
    assert (explained["name"], explained["id"]) == ("a.parquet#3", "sheet-103")
    named = json.loads(
        invoke("explain", "two", "sheet-103", "--index", "x.knn", "--json", "--id-column", "sheet").stdout
    )
    assert named["images"] == [explained]
    assert invoke("review", "two", "--top", "5").code == 0
    with Path("review.csv").open(newline="") as stream:
        assert all(row["id"].startswith("sheet-") for row in csv.DictReader(stream))
    shown = invoke("show", "in", "--predictions", "two", "--id", "sheet-150", "--out", "grid.png")
    assert (shown.code, "1 image" in shown.stderr) == (0, True), shown.stderr
    for pair in (("one", "two"), ("two", "one")):
        found = json.loads(invoke("diff", *pair, "--json").stdout)
        changes = found["labels"] + found["statuses"]
        assert changes
        for change in changes:
            start = {"a.parquet": 100, "b.parquet": 200}
            assert change["ids"] == [f"sheet-{start[place['file']] + place['row']}" for place in change["first"]]
    assert " sheet-1" in invoke("diff", "one", "two").stdout
    assert invoke("diff", "one", "two", "--report", "page.html").code == 0
    assert "<bdi>sheet-1" in Path("page.html").read_text()


@pytest.mark.usefixtures("work")
def test_one_that_is_not_there_is_refused_and_jobs_of_before_go_on(invoke):
    refused = invoke("classify", "x.knn", "in", "--out", "out", "--id-column", "sheets")
    assert refused.code == 1
    assert "no column 'sheets' for --id-column; columns beside the image: label, sheet, id" in refused.stderr
    assert invoke("classify", "x.knn", "in", "--out", "plain").code == 0
    assert "id_column" not in json.loads(invoke("inspect", "plain", "--json").stdout)["options"]
    other = invoke("classify", "x.knn", "in", "--out", "plain", "--id-column", "sheet")
    assert '--id-column was not given and is "sheet"; all outputs get other columns: pass --overwrite' in other.stderr


@pytest.mark.usefixtures("work")
def test_it_may_be_in_some_outputs_alone(invoke):
    write_table(image_table(IMAGES[:5] + 0.5, LABELS[:5]), Path("in/0.parquet"))
    assert invoke("classify", "x.knn", "in", "--out", "out").code == 0
    job = FinishedJob.open(locate("out"))
    assert [find_rows(job, ["sheet-203"], "sheet"), kept_ids(job, None)] == [[Place("b.parquet", 3)], "id"]
    ids = {str(row.place): row.id for row in review(job, None, top=205, id_column="sheet").rows}
    assert (ids["0.parquet#2"], ids["a.parquet#2"]) == ("0.parquet#2", "sheet-102")
