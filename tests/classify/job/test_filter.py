"""Rows that show is asked for, against plain Python over what the outputs hold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.job.filter import Chosen, RowFilter
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.selection import Selection, select_images
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import locate
from knnvote.data.tables import write_table
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index

RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 256, (500, 5, 5), dtype=np.uint8)
LABELS = IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64
NAMES = ["none", "low", "mid", "high"]
FILES = {"a.parquet": range(200, 320), "b.parquet": range(320, 500)}


@pytest.fixture
def job(tmp_path, invoke):  # noqa: ARG001  # it changes to the folder
    """A job of two files, with named labels, ids and texts that are null here and there, and a bad row in each."""
    index_arrays(IMAGES[:200], LABELS[:200], Path("x.knn"))
    huggingface = '{"info": {"features": {"label": {"names": ["none", "low", "mid", "high"], "_type": "ClassLabel"}}}}'
    for name, rows in FILES.items():
        held = [IMAGES[row].ravel().tolist()[: 24 if row % 100 == 50 else 25] for row in rows]
        texts = [None if row % 7 == 0 else f"text {row % 5}" for row in rows]
        columns = {
            "image": pa.array(held, pa.list_(pa.uint8())),
            "label": LABELS[rows],
            "id": list(rows),
            "text": texts,
        }
        write_table(pa.table(columns).replace_schema_metadata({"huggingface": huggingface}), Path("in") / name)
    assert invoke("classify", "x.knn", "in", "--out", "out", "--min-confidence", "0.5").code == 0
    return FinishedJob.open(locate("out"))


def select(job, count=10_000, **wanted):
    index = open_index("x.knn") if wanted.pop("errors", False) else None
    classifier = None if index is None else job.classifier(index)
    options = {"images": ImageOptions(shape=(5, 5)), "job": job, "classifier": classifier}
    shown, total = select_images(find_inputs("in"), Selection(count=count, rows=RowFilter(**wanted), **options))
    for image in shown:
        written = IMAGES[FILES[image.source.relative][image.row]]
        assert image.pixels is None or (image.pixels == written).all()
    return [(image.source.relative, image.row) for image in shown], total


def written():
    """Every row of the outputs, with its file and row."""
    tables = {name: pq.read_table(Path("out") / name).to_pylist() for name in FILES}
    return [{**row, "place": (name, i)} for name, rows in tables.items() for i, row in enumerate(rows)]


HOLDS = {
    "confidence < 0.6": lambda row: row["confidence"] is not None and row["confidence"] < 0.6,
    "confidence<=0.6": lambda row: row["confidence"] is not None and row["confidence"] <= 0.6,
    "label=2": lambda row: row["label"] == 2,
    "label != 2": lambda row: row["label"] != 2,
    "text = text 3": lambda row: row["text"] == "text 3",
    "text = 'text 3'": lambda row: row["text"] == "text 3",
    'label = "2"': lambda row: row["label"] == 2,
    "text > text 3": lambda row: row["text"] is not None and row["text"] > "text 3",
    "status == bad_image": lambda row: row["status"] == "bad_image",
    "second >= 2": lambda row: row["second"] is not None and row["second"] >= 2,
}


@pytest.mark.parametrize("where", [*((text,) for text in HOLDS), ("label=2", "confidence<=0.6")])
def test_a_comparison_holds_for_the_rows_that_python_says(job, where):
    places = [row["place"] for row in written() if all(HOLDS[text](row) for text in where)]
    assert places
    assert select(job, where=where) == (places, len(places))
    assert select(job, count=3, where=where) == (places[:3], len(places))


def test_classes_and_statuses_are_those_of_the_job(job):
    assert select(job, status="abstained")[0] == [row["place"] for row in written() if row["status"] == "abstained"]
    of_best = [row["place"] for row in written() if row["best"] == 2]
    assert select(job, label="2")[0] == select(job, label="mid")[0] == of_best
    assert select(job, label="3", where=("confidence < 0",)) == ([], 0)
    told = r"^no class is 'Mid' \(like 'mid'\): best guesses are of high, low, mid, none$"
    with pytest.raises(KnnvoteError, match=told):
        select(job, label="Mid")
    of_label = [row["place"] for row in written() if row["label"] == 2]
    assert select(None, label="mid")[0] == of_label


@pytest.mark.parametrize(("sort", "sign"), [("confidence", 1), ("margin", 1), ("distance", -1)])
def test_the_more_doubtful_come_first_and_unknown_ones_last(job, sort, sign):
    rows = sorted(written(), key=lambda row: (row[sort] is None, sign * (row[sort] or 0)))  # which is stable
    assert select(job, count=30, sort=sort) == ([row["place"] for row in rows[:30]], 300)
    assert select(job, sort=sort)[0] == [row["place"] for row in rows]


def test_a_sample_is_the_same_each_time_and_another_for_another_seed(job):
    low = {row["place"] for row in written() if HOLDS["confidence<=0.6"](row)}
    first, total = select(job, where=("confidence<=0.6",), sample=12)
    assert (first, total) == (sorted(first), len(low))
    assert select(job, where=("confidence<=0.6",), sample=12)[0] == first
    assert set(first) <= low
    assert len(set(first)) == 12
    assert select(job, where=("confidence<=0.6",), sample=12, seed=1)[0] != first
    distances = {row["place"]: row["distance"] for row in written()}
    by_distance = select(job, where=("confidence<=0.6",), sample=12, sort="distance")[0]
    assert set(by_distance) == set(first)
    assert by_distance == sorted(first, key=lambda place: -distances[place])


def test_every_row_is_as_likely_in_a_sample_however_it_is_read():
    times = np.zeros(60)
    for seed in range(300):
        chosen = Chosen(RowFilter(sample=6, seed=seed), 100)
        for first in range(0, 60, 7):
            chosen.add(0, np.arange(first, min(first + 7, 60)))
        at_once = Chosen(RowFilter(sample=6, seed=seed), 100)
        at_once.add(0, np.arange(60))
        assert (chosen.rows == at_once.rows).all()
        times[chosen.rows] += 1
    assert times.sum() == 1800
    assert times.min() > 12  # of 30, whose standard deviation is 5
    assert times.max() < 50


def test_rows_are_named_by_file_and_row_and_by_id(job):
    assert select(job, ids=("a.parquet#7", "330"))[0] == [("a.parquet", 7), ("b.parquet", 10)]
    assert select(None, ids=("330",))[0] == [("b.parquet", 10)]
    assert select(job, ids=("text 4",), id_column="text")[1] == sum(row["text"] == "text 4" for row in written())
    with pytest.raises(KnnvoteError, match=r"is '7': give file and row, such as a\.parquet#0, an id, or id_column"):
        select(job, ids=("330", "7"))
    with pytest.raises(ImageFileError, match="has no column 'key' to choose rows by: there are label, id, text, pred"):
        select(job, ids=("7",), id_column="key")


def test_errors_are_filtered_too(job):
    wrong = [row for row in written() if row["prediction"] is not None and row["prediction"] != row["label"]]
    low = sorted((row for row in wrong if row["confidence"] < 0.8), key=lambda row: row["margin"])
    assert select(job, where=("confidence < 0.8",), sort="margin", errors=True)[0] == [row["place"] for row in low]


@pytest.mark.parametrize(
    ("wanted", "error", "told"),
    [
        ({"where": ("confidence",)}, OptionError, "where is 'confidence': give a column, one of = =="),
        ({"where": ("none < 1",)}, ImageFileError, "has no column 'none' to choose rows by: there are label, id"),
        ({"where": ("label < x",)}, ImageFileError, "has int64 in column 'label', which 'x' in where is not to be"),
        ({"sort": "label"}, OptionError, "sort is 'label': give one of confidence, margin, distance"),
        ({"status": "bad"}, OptionError, "status is 'bad': give one of ok, abstained, bad_image"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(job, wanted, error, told):
    with pytest.raises(error, match=told):
        select(job, **wanted)


def test_what_only_a_job_knows_needs_one(job):  # noqa: ARG001  # in whose folder the images are
    with pytest.raises(OptionError, match="sort is of a job's answers: give its outputs as predictions"):
        select(None, sort="margin")


def test_the_command_draws_what_was_asked_for_and_tells_how_many(job, invoke):  # noqa: ARG001  # likewise
    show = ("show", "in", "--shape", "5x5", "--predictions", "out")
    done = invoke(*show, "--sample", "4", "--class", "mid")
    assert (done.code, done.stdout) == (0, "")
    of_class = sum(row["best"] == 2 for row in written())
    assert done.stderr == f"show.png: 4 images of {of_class}\n"
    done = invoke(*show, "--class", "mid", "--where", "confidence < 0")
    assert (done.code, done.stderr) == (0, "no row is as asked for: nothing is drawn\n")
    assert (
        "error: --status is of a job's answers: give its outputs as --predictions"
        in invoke(*show[:4], "--status", "ok").stderr
    )
