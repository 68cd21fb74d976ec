"""Columns that an index keeps for people to read: kept by whatever changes it, and shown where one looks."""

import csv
import datetime
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.layout import ImageOptions
from knnvote.indexer.build import IndexOptions, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.folder.write import describe_file
from knnvote.indexer.grow import add_arrays, add_files, compact, relabel_ids, remove_ids
from knnvote.indexer.sealed import seal
from knnvote.indexer.training import TrainingOptions
from knnvote.indexer.trial.folder import try_folder

N = 40
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 6)).astype(np.float32) + 4 * (np.arange(N) % 2)[:, None].astype(np.float32)
LABELS = np.array(["ask", "buy"])[np.arange(N) % 2].tolist()
LABELS[7] = "ask"  # wrongly
TEXTS = [None if row % 9 == 4 else f"<i>words\nof {row}\x1b[31m" for row in range(N)]
KEEP, KEEP_TEXT = (TrainingOptions(keep=names) for names in (("text", "distance", "text"), ["text"]))


def write(path, rows, **more):
    columns = {"embedding": list(X[rows]), "label": LABELS[rows], **more}
    pq.write_table(pa.table(columns), path)
    return path


def with_texts(path, rows=slice(0, N)):
    return write(path, rows, text=TEXTS[rows], distance=np.arange(N)[rows] / 8)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("metric", ["l2", "l1"])
def test_what_is_kept_follows_its_rows_through_every_change(metric):
    """In an index that grows in place, and in one that each change builds again."""
    index_files(with_texts("a.parquet", slice(0, 20)), "x.knn", training=KEEP, options=IndexOptions(metric=metric))
    told = []
    add_files("x.knn", with_texts("b.parquet", slice(20, 30)), tell=told.append)
    add_files("x.knn", write("c.parquet", slice(30, 35), text=TEXTS[30:35]), training=KEEP_TEXT, tell=told.append)
    assert told == [
        "of 10 new rows some have no value in a column that the index keeps, and stay so: 1 in 'text'",
        "of 5 new rows some have no value in a column that the index keeps, and stay so: 1 in 'text', 5 in 'distance'",
    ]
    add_arrays("x.knn", X[35:], LABELS[35:])
    relabel_ids("x.knn", ["a.parquet#7"], ["buy"])
    remove_ids("x.knn", ["a.parquet#0", "b.parquet#3"])
    compact("x.knn")
    left = [row for row in range(N) if row not in {0, 23}]
    index = open_index("x.knn")
    assert index.manifest.keep == ("text", "distance")
    assert index.kept.to_pydict() == {
        "text": [TEXTS[row] if row < 35 else None for row in left],
        "distance": [f"{row / 8:g}" if row < 30 else None for row in left],
    }
    assert verify_folder("x.knn") == []
    try_folder("x.knn")


DAY = datetime.date(2026, 11, 27)
VALUES = {
    "numbers": ([1, None], ["1", None]),
    "floats": (np.array([0.1, 1e22], np.float32), ["0.1", "1e+22"]),
    "truths": ([True, False], ["true", "false"]),
    "days": ([DAY, None], ["2026-11-27", None]),
    "words": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
}


@pytest.mark.usefixtures("here")
def test_numbers_truths_and_dates_are_kept_as_text():
    write("a.parquet", slice(0, 2), **{name: given for name, (given, _) in VALUES.items()})
    index_files("a.parquet", "x.knn", training=TrainingOptions(label_column="label", keep=(*VALUES,)))
    assert open_index("x.knn").kept.to_pydict() == {name: texts for name, (_, texts) in VALUES.items()}


@pytest.mark.usefixtures("here")
def test_a_table_of_labels_may_have_what_is_kept(invoke):
    pq.write_table(pa.table({"embedding": list(X)}), "rows.parquet")
    for name, rows in (("few", range(20)), ("more", range(20, N))):
        lines = [f"rows.parquet#{row},{LABELS[row]},said {row}" for row in rows]
        Path(f"{name}.csv").write_text("\n".join(["id,label,words", *lines]) + "\n")
    index = ("index", "rows.parquet", "--labels", "few.csv", "--skip-bad", "--keep", "words", "--out", "x.knn")
    for command in (index, ("add", "x.knn", "rows.parquet", "--labels", "more.csv", "--skip-bad")):
        done = invoke(*command)
        assert done.code == 0, done.stderr
    assert open_index("x.knn").kept["words"].to_pylist() == [f"said {row}" for row in range(N)]
    facts = json.loads(invoke("inspect", "x.knn", "--json").stdout)
    assert facts["keep"] == ["words"]
    assert "kept         words\n" in invoke("inspect", "x.knn").stdout


@pytest.mark.usefixtures("here")
def test_suspects_are_told_with_what_is_kept(invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    index_files(with_texts("a.parquet"), "x.knn", training=KEEP)
    done = invoke("suspects", "x.knn", "--k", 3, "--csv", "s.csv", "--report", "s.html")
    (header, row) = [line.split() for line in done.stdout.splitlines()[1:3]]
    assert header == ["rank", "id", "text", "label", "neighbours", "say", "votes", "against"]
    assert row[2:] == ["<i>words\\nof", "7\\x1b[31m", "ask", "buy", "100%"]
    (listed, *_) = csv.DictReader(io.StringIO(Path("s.csv").read_text(), newline=""))
    assert [*listed][2:7] == ["suggested", "fix", "text", "kept_distance", "share"]
    assert (listed["id"], listed["fix"], listed["text"]) == ("a.parquet#7", "", TEXTS[7])
    assert listed["kept_distance"] == "0.875" != listed["distance"]
    (suspect, *_) = found = find_suspects(open_index("x.knn"), k=3).suspects
    page = Path("s.html").read_text()
    assert "There are no pictures" not in page
    for one in (suspect, *suspect.neighbors):
        assert one.kept == {"text": TEXTS[one.row], "distance": f"{one.row / 8:g}"}
        assert one.kept["text"] is None or f"&lt;i&gt;words\nof {one.row}" in page
    assert found[0].to_json()["neighbors"][0]["kept"]["distance"] == f"{suspect.neighbors[0].row / 8:g}"
    # The list is taken once its column is filled in.
    text = Path("s.csv").read_text().replace('"ask","buy",,', '"ask","buy","buy",', 1)
    Path("s.csv").write_text(text)
    assert "1 label changed" in invoke("relabel", "x.knn", "s.csv").stderr
    assert open_index("x.knn").labels[7].as_py() == "buy"


@pytest.mark.usefixtures("here")
def test_neighbours_are_told_with_what_is_kept(invoke):
    index_files(with_texts("a.parquet"), "x.knn", training=KEEP)
    pq.write_table(pa.table({"embedding": list(X[:6] + np.float32(0.1))}), "new.parquet")
    done = invoke("explain", "x.knn", "new.parquet#2", "--k", 3, "--report", "e.html")
    assert done.stdout.split("rank", 1)[1].split("\n")[0].split() == ["id", "label", "distance", "text", "distance"]
    (one,) = json.loads(invoke("explain", "x.knn", "new.parquet#2", "--k", 3, "--json").stdout)["images"]
    rows = [neighbor["row"] for neighbor in one["neighbors"]]
    assert [neighbor["kept"]["text"] for neighbor in one["neighbors"]] == [TEXTS[row] for row in rows]
    assert "its row: text <i>words\\nof 3" in invoke("explain", "x.knn", "a.parquet#3", "--k", 3).stdout
    assert invoke("classify", "x.knn", "new.parquet", "--out", "out", "--k", 3).code == 0
    assert invoke("review", "out", "--index", "x.knn", "--top", 6, "--report", "r.html").code == 0
    for page in ("e.html", "r.html"):
        assert all(f"&lt;i&gt;words\nof {row}" in Path(page).read_text() for row in rows if TEXTS[row])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("tags", r"column 'tags' is list<.*>, which is not kept: texts, .*; leave it out of keep$"),
        ("bytes", r"column 'bytes' is binary, which is not kept"),
        ("none", r"no column 'none' for keep; there are embedding, label, text"),
        ("label", r"column 'label' holds the labels, which the index stores anyway: leave it out of keep$"),
        ("embedding", r"column 'embedding' holds images, which the index stores anyway: leave it out of keep$"),
    ],
)
def test_other_columns_are_refused_by_name(column, why):
    write("a.parquet", slice(0, 4), text=TEXTS[:4], tags=[["a"]] * 4, bytes=[b"a"] * 4)
    images = ImageOptions(image_column="embedding")
    with pytest.raises(KnnvoteError, match=why):
        index_files("a.parquet", "x.knn", training=TrainingOptions(images=images, keep=["text", column]))
    assert not Path("x.knn").exists()


@pytest.mark.usefixtures("here")
def test_an_index_keeps_the_same_of_all_its_rows(invoke):
    with_texts("a.parquet", slice(0, 20))
    with_texts("b.parquet", slice(20, N))
    with pytest.raises(OptionError, match=r"keep is 'text': give names of columns, as keep=\('text',\) does"):
        TrainingOptions(keep="text")
    for keep, kept in (((), "no columns"), (("distance",), "the columns 'distance'")):
        index_files("a.parquet", "x.knn", training=TrainingOptions(keep=keep), options=IndexOptions(overwrite=True))
        with pytest.raises(OptionError, match=rf"^x\.knn keeps {kept} of its files, and so of new ones: add without"):
            add_files("x.knn", "b.parquet", training=KEEP_TEXT)
    assert invoke("add", "x.knn", "b.parquet").code == 0  # as the message says


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("wrong", ["numbers", "no text", [], ["text", "text"], "text"])
def test_a_stranger_s_index_whose_kept_columns_do_not_fit_is_refused(wrong):
    index_files(with_texts("a.parquet"), "x.knn", training=KEEP)
    record, file = json.loads(Path("x.knn/manifest.json").read_bytes()), Path("x.knn/labels-1.parquet")
    del record["checksum"]
    if wrong in ("numbers", "no text"):
        rows = pq.read_table(file)
        values = rows["row"] if wrong == "numbers" else pa.array([b"\xe9\xff"] * N).view(pa.string())
        pq.write_table(rows.set_column(4, "kept_text", values), file)
        record["files"]["labels"] = vars(describe_file(file))
    else:
        record["keep"] = wrong
    Path("x.knn/manifest.json").write_bytes(seal(record))
    with pytest.raises(KnnvoteError, match=r"labels file has columns|unusable are keep|UTF8"):
        try_folder("x.knn")
