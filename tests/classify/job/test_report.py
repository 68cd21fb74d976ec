"""The report of a finished job, against what its output files hold."""

import json
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import read_record, write_record

import knnvote.classify.job.report
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.report import report_job
from knnvote.classify.pages.job import write_job
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays, index_files
from knnvote.indexer.folder.open import open_index

RNG = np.random.default_rng(8)
IMAGES = RNG.integers(0, 256, (500, 6, 6), dtype=np.uint8)
LABELS = IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64
FILES = {"a.parquet": slice(200, 310), "below/b.parquet": slice(310, 500)}


@pytest.fixture
def job(tmp_path, monkeypatch, invoke):
    """A job of two files without labels, some of whose rows abstain, in the working folder."""
    monkeypatch.chdir(tmp_path)
    index_arrays(IMAGES[:200], LABELS[:200], Path("x.knn"))
    for name, rows in FILES.items():
        write_table(image_table(IMAGES[rows]), Path("in") / name)
    done = invoke("classify", "x.knn", "in", "--out", "out", "--min-confidence", "0.6")
    assert done.code == 0, done.stderr
    return FinishedJob.open(locate("out"))


def written():
    """Confidence, distance, file and row of every row of the outputs."""
    found = []
    for name in FILES:
        table = pq.read_table(Path("out") / name)
        columns = zip(table["confidence"].to_pylist(), table["distance"].to_pylist(), strict=True)
        found += [(confidence, distance, name, row) for row, (confidence, distance) in enumerate(columns)]
    return found


def write_one(table, name):
    write_table(table, Path(name))
    return find_inputs([name])[0]


def test_rows_to_look_at_are_the_least_confident_and_the_farthest(job):
    report = report_job(job, None)
    least_confident = sorted((row for row in written() if row[0] < 1), key=lambda row: (row[0], -row[1]))[:20]
    assert [(row.confidence, row.distance, row.file, row.row) for row in report.least_confident] == least_confident
    farthest = sorted(written(), key=lambda row: -row[1])[:20]
    assert [(row.confidence, row.distance, row.file, row.row) for row in report.farthest] == farthest
    for row in report.least_confident + report.farthest:
        assert (row.pixels == IMAGES[FILES[row.file]][row.row]).all()
        assert (row.status == "abstained") == (row.confidence < 0.6)
        assert row.neighbors == []


def test_distributions_count_every_row_once(job):
    report = report_job(job, None)
    confidences = [row[0] for row in written()]
    assert [(one.low, one.rows) for one in report.confidence] == [
        (value, confidences.count(value)) for value in sorted(set(confidences))
    ]
    assert sum(one.rows for one in report.distance) == 300
    write_job(Path("page.html"), report, None)
    told = "Each band holds its lower end, and the last its upper end too.</caption>"
    assert Path("page.html").read_text().count(told) == 1  # of distances: confidences are few, each a band of its own
    distances = np.array([row[1] for row in written()])
    for one in report.distance:
        is_last = one is report.distance[-1]
        inside = (distances >= one.low) & ((distances <= one.high) if is_last else (distances < one.high))
        assert one.rows == inside.sum()


def test_memory_of_a_report_does_not_grow_with_the_rows(job, monkeypatch):
    read_answers = knnvote.classify.job.report.read_answers

    def repeated(*asked):
        for columns in read_answers(*asked):
            for _ in range(20):
                yield [pa.concat_arrays([column] * 250) for column in columns]

    monkeypatch.setattr(knnvote.classify.job.report, "read_answers", repeated)
    tracemalloc.start()
    report = report_job(job, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows = 300 * 20 * 250
    assert sum(one.rows for one in report.distance) == rows
    assert len({(row.file, row.row) for row in report.farthest}) == 20
    assert peak < 8 * rows


def test_with_the_index_each_row_has_the_neighbours_that_voted(job):
    report = report_job(job, open_index("x.knn"))
    x = IMAGES[:200].reshape(200, -1).astype(np.int64)
    for row in report.least_confident:
        D = ((x - IMAGES[FILES[row.file]][row.row].reshape(-1).astype(np.int64)) ** 2).sum(axis=1)
        nearest = np.lexsort((np.arange(200), D))[:5]
        assert [(n.row, n.label) for n in row.neighbors] == [(i, LABELS[i]) for i in nearest]
        assert row.neighbors[0].distance == row.distance


def test_another_index_is_refused(job):
    index_arrays(IMAGES[:100], LABELS[:100], Path("y.knn"))
    with pytest.raises(KnnvoteError, match=r"out was made with another index than y.knn"):
        report_job(job, open_index("y.knn"))


def test_inputs_that_are_gone_or_changed_are_told_and_leave_no_picture(job):
    (Path("in") / "a.parquet").unlink()
    write_table(image_table(IMAGES[:190]), Path("in") / "below" / "b.parquet")
    report = report_job(job, None)
    assert report.unread == ["a.parquet", "below/b.parquet"]
    assert {row.pixels is None for row in report.least_confident + report.farthest} == {True}
    write_job(Path("page.html"), report, None)
    page = Path("page.html").read_text()
    assert "<img" not in page
    assert "No picture of rows in 2 files whose input is gone or was changed, the first a.parquet." in page


@pytest.mark.usefixtures("job")
def test_page_has_counts_reasons_and_pictures(invoke):
    done = invoke("report", "out", "--index", "x.knn", "--out", "page.html")
    why = "no column that the outputs keep is known to hold true labels: --label-column names one, or --labels takes"
    assert (done.code, done.stdout, done.stderr) == (
        0,
        "",
        f"note: no row is judged: {why} them from a file of their own\npage.html: written\n",
    )
    page = re.sub(r'<td class="plot[^>]*>.*?</td>', "", Path("page.html").read_text())  # bars
    facts = json.loads(invoke("inspect", "out", "--json").stdout)
    assert f"300 rows: {facts['ok']} with a label, {facts['abstained']} abstained, 0 bad images." in page
    for label, rows in facts["labels"].items():
        assert f'<th scope="row"><bdi>{label}</bdi></th><td>{rows}</td>' in page
    assert f"<li>{facts['abstained']}: " in page
    assert page.count('<li class="row"') == 40
    assert page.count("<img ") == 40 * 6


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "5 neighbours of equal weight; of equal votes the nearer class wins; never abstains."),
        (
            ("--k", 1, "--max-distance", 250),
            "The nearest neighbour answers; abstains where the nearest neighbour is farther than 250.",
        ),
        (
            ("--ties", "first-class"),
            "5 neighbours of equal weight; of equal votes the first in class order wins; never abstains.",
        ),
        (
            ("--weights", "distance", "--max-distance", 250, "--min-confidence", 0.6),
            (
                "5 neighbours weighted by 1 / distance; of equal votes the nearer class wins; "
                "abstains where the confidence is below 0.6 or the nearest neighbour is farther than 250."
            ),
        ),
    ],
)
def test_the_rule_stands_in_plain_words_and_limits_with_their_numbers(job, invoke, options, told):
    assert job.record.rule.k == 5
    assert invoke("classify", "x.knn", "in", "--out", "limited", *options).code == 0
    assert invoke("report", "limited").code == 0
    page = Path("report.html").read_text()
    assert told in page
    assert (": nearest neighbour farther than 250</li>" in page) == ("--max-distance" in options)
    assert "N stands for" not in page


def test_bad_rows_have_no_place_among_rows_to_look_at(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(knnvote.classify.job.report, "_SHOWN", 3)
    index_arrays(IMAGES[:200].astype(np.float32), LABELS[:200], Path("x.knn"))
    images = IMAGES[200:204].astype(np.float32)
    images[1] = np.nan
    write_table(image_table(images), Path("in.parquet"))
    assert invoke("classify", "x.knn", "in.parquet", "--out", "out").code == 0
    report = report_job(FinishedJob.open(locate("out")), None)
    assert {row.row for row in report.farthest} == {0, 2, 3}
    assert report.facts["bad_image"] == 1
    assert invoke("report", "out").code == 0
    page = Path("report.html").read_text()
    assert "<li>4 rows: 3 with a label, 0 abstained, 1 bad image.</li>" in page
    assert "<li>1: value 0 is NaN</li>" in page


def test_rows_that_equal_a_stored_image_are_not_unlike_anything(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    index_arrays(IMAGES[:200], LABELS[:200], Path("x.knn"))
    for first, farthest in ((0, 0), (195, 5)):
        write_table(image_table(IMAGES[first : first + 10]), Path("in.parquet"))
        assert invoke("classify", "x.knn", "in.parquet", "--out", f"out{first}").code == 0
        assert len(report_job(FinishedJob.open(locate(f"out{first}")), None).farthest) == farthest
        assert invoke("report", f"out{first}").code == 0
        assert ("Unlike anything stored" in Path("report.html").read_text()) == bool(farthest)


def test_a_job_of_files_without_rows_has_an_empty_page(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    index_arrays(IMAGES[:200], LABELS[:200], Path("x.knn"))
    write_table(image_table(IMAGES[:5]).slice(0, 0), Path("in.parquet"))
    assert invoke("classify", "x.knn", "in.parquet", "--out", "out").code == 0
    done = invoke("report", "out")
    assert (done.code, done.stderr.endswith("report.html: written\n")) == (0, True)
    assert "0 rows: 0 with a label" in Path("report.html").read_text()


def test_a_regression_has_distances_and_no_confidences(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    index_arrays(IMAGES[:200], LABELS[:200] / 2, Path("x.knn"), is_regression=True)
    write_table(image_table(IMAGES[200:260]), Path("in.parquet"))
    assert invoke("classify", "x.knn", "in.parquet", "--out", "out").code == 0
    report = report_job(FinishedJob.open(locate("out")), open_index("x.knn"))
    assert (report.confidence, report.least_confident, len(report.farthest)) == ([], [], 20)
    assert invoke("report", "out").code == 0
    done = invoke("show", "in.parquet", "--predictions", "out", "--errors", "--index", "x.knn")
    assert (done.code, done.stdout) == (2, "")
    assert "x.knn was built for regression, where no class is wrong: leave out --errors" in done.stderr


def pictured(folder):
    """The pixels of each row that the report of a job shows, by row."""
    report = report_job(FinishedJob.open(locate(folder)), None)
    return {row.row: row.pixels for row in report.farthest}


def test_raw_bytes_are_shown_in_the_shape_of_the_index(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    wide = RNG.integers(0, 256, (60, 4, 16), dtype=np.uint8)
    raw = pa.array([image.tobytes() for image in wide])
    pq.write_table(pa.table({"image": raw[:50], "label": np.arange(50) % 3}), "train.parquet")
    pq.write_table(pa.table({"image": raw[50:]}), "in.parquet")
    assert invoke("index", "train.parquet", "--shape", "4x16", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "in.parquet", "--out", "out").code == 0
    shown = pictured("out")
    assert len(shown) == 10
    for row, pixels in shown.items():
        np.testing.assert_array_equal(pixels, wide[50 + row])


def test_of_two_image_columns_that_of_the_index_is_shown_and_drawn(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    both = image_table(IMAGES[200:210]).append_column("mask", pa.array([b"\0" * 36] * 10))
    index_files([write_one(image_table(IMAGES[:200], LABELS[:200]), "train.parquet")], Path("x.knn"))
    write_table(both, Path("in.parquet"))
    assert invoke("classify", "x.knn", "in.parquet", "--out", "out").code == 0
    for row, pixels in pictured("out").items():
        np.testing.assert_array_equal(pixels, IMAGES[200 + row])
    assert invoke("show", "in.parquet", "--predictions", "out").code == 0
    write_record(Path("out"), read_record(Path("out")).replace(b'"column": "image"', b'"column": null'))
    with pytest.raises(ImageFileError, match=r"in\.parquet: several columns could be the image: 'image', 'mask'"):
        pictured("out")


@pytest.mark.usefixtures("job")
def test_outputs_of_another_job_are_left_out_and_told(invoke):
    whole = invoke("inspect", "out", "--json").stdout
    assert invoke("classify", "x.knn", "in", "--out", "other").code == 0
    Path("other/a.parquet").rename("out/c.parquet")
    Path("out/notes.txt").write_text("mine")
    shutil.copy("out/a.parquet", "out/copied.parquet")
    facts = json.loads(invoke("inspect", "out", "--json").stdout)
    assert facts == json.loads(whole) | {"left_out": ["c.parquet", "copied.parquet", "notes.txt"]}
    assert "3 files that are not of this job, the first c.parquet: knnvote verify says why" in " ".join(
        invoke("inspect", "out").stdout.split()
    )
    assert invoke("report", "out").code == 0
    page = Path("report.html").read_text()
    assert "2 of 2 inputs have an output." in page
    assert "<li>300 rows: " in page
    assert "<li>3 files of the folder left out" in page
    assert "c.parquet, copied.parquet, notes.txt.</li>" in page
    for name in FILES:
        (Path("out") / name).unlink()
    assert invoke("report", "out").stderr == (
        "error: out holds no finished output of its job, but c.parquet, of which knnvote verify says why it is none: "
        "classify into it first\n"
    )


@pytest.mark.usefixtures("job")
def test_a_job_that_is_not_done_looks_so(invoke):
    (Path("out") / "a.parquet").unlink()
    told = invoke("report", "out")
    first = "1 of 2 inputs has no output: this is of the other, until the same job is run again"
    assert (told.code, told.stdout.splitlines()[0]) == (0, first)
    page = Path("report.html").read_text()
    assert "1 of 2 inputs has an output." in page
    assert "<li>190 rows: " in page
    assert "<li>1 input without an output: run the same job again.</li>" in page
    assert "1 of 2 classified, 0 failed" in invoke("inspect", "out").stdout


def damage(**changed):
    """Change entries of the job's record; those that its options have there, others beside."""
    record = json.loads(read_record(Path("out")))
    for name, value in changed.items():
        (record["options"] if name in record["options"] else record)[name] = value
    write_record(Path("out"), json.dumps(record).encode())


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    "changed",
    [
        {"shape": 5},
        {"shape": [0, 6]},
        {"ties": "neerest"},
        {"weights": ["uniform"]},
        {"k": 2.5},
        {"k": True},
        {"min_confidence": "high"},
        {"max_distance": -1},
        {"image_column": 3},
        {"grayscale": None},
        {"prefix": None},
        {"stored_images": {"shape": "6x6", "column": None, "grayscale": False}},
        {"stored_images": {"shape": [6, 6], "column": None, "grayscale": 1}},
        {"stored_images": {"shape": [6, 6]}},
        {"metric": "far"},
        {"label_column": 7},
        {"index": 1},
        {"inputs": {"a.parquet": 1}},
        {"inputs": 7},
    ],
    ids=json.dumps,
)
def test_a_damaged_record_is_told_by_its_name_with_what_to_do(invoke, changed):
    damage(**changed)
    for command in (("report", "out"), ("show", "in", "--predictions", "out"), ("inspect", "out")):
        done = invoke(*command)
        assert (done.code, done.stdout) == (1, "")
        assert done.stderr == (
            "error: out/.knnvote.parquet is damaged: remove it and run the job again, which keeps the files that fit\n"
        )


@pytest.mark.usefixtures("job")
def test_a_record_of_more_neighbours_than_the_index_has_is_damaged(invoke):
    damage(k=201)
    done = invoke("show", "in", "--predictions", "out", "--errors", "--index", "x.knn")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: out/.knnvote.parquet is damaged: remove it and run the job again")


@pytest.mark.usefixtures("job")
def test_a_folder_without_finished_outputs_is_told(invoke):
    for name in FILES:
        (Path("out") / name).unlink()
    done = invoke("report", "out")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == "error: out holds no finished output of its job: classify into it first\n"
    done = invoke("report", "in")
    assert done.code == 1
    assert "in is not the output folder of a job" in done.stderr
