"""Rows to look at, against their definition over all rows at once, and the files that are made of them."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from repeats import spread

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.look.doubt import Doubts, find_doubts
from knnvote.classify.look.review import review
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import locate
from knnvote.data.tables import write_table
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.growth.fixes import read_reviewed

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (700, 5, 5), dtype=np.uint8)
LABELS = np.array(["cat", "dog", "hen", "owl"])[IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64]
KINDS = ("close", "unsure", "far", "bad")


def made(rows, seed=0):
    """Answers of made-up rows, with few distinct confidences and distances so that many are equal."""
    rng = np.random.default_rng(seed)
    status = rng.choice(["ok", "ok", "abstained", "bad_image"], rows)
    is_bad = status == "bad_image"
    best, second = (rng.choice(["a", "b", "c"], rows).astype(object) for _ in range(2))
    confidence, distance = rng.integers(1, 6, rows) / 5, rng.integers(0, 5, rows) * 1.0
    margin = np.where(confidence == 1, 1.0, rng.integers(0, 4, rows) / 5)
    best[is_bad] = second[is_bad] = None
    return pa.table(
        {
            "file": pa.repeat("f", rows),
            "row": pa.array(np.arange(rows)),
            "best": pa.array(best, pa.string()),
            "second": pa.array(second, pa.string(), mask=confidence == 1),
            "confidence": pa.array(confidence, mask=is_bad),
            "distance": pa.array(distance, mask=is_bad),
            "margin": pa.array(margin, mask=is_bad),
            "status": pa.array(status),
            "reason": pa.array(np.where(is_bad, rng.choice(["torn", "empty"], rows), None), pa.string()),
        }
    )


def expected(answers, rule, most):
    """Rows in the order in which they pay, of each kind as many as `most`, by plain Python over all of them."""
    kinds = {kind: {} for kind in KINDS}
    for row in answers.to_pylist():
        if row["status"] == "bad_image":
            kind, key, group = "bad", (), row["reason"]
        else:
            is_far = rule.max_distance is not None and row["distance"] > rule.max_distance
            unsure = row["status"] == "abstained" and not is_far
            kind = "unsure" if unsure else "close" if row["status"] == "ok" and row["margin"] < 1 else "far"
            off = row["margin"] if rule.min_confidence is None else abs(row["confidence"] - rule.min_confidence)
            key = (-row["distance"],) if kind == "far" else (off, row["margin"], -row["distance"])
            group = row["best"], row["second"]
        kinds[kind].setdefault(group, []).append((key, row["row"]))
    of_kinds = {}
    for kind, groups in kinds.items():
        in_turns = [(turn, *one) for rows in groups.values() for turn, one in enumerate(sorted(rows))]
        of_kinds[kind] = [row for _, _, row in sorted(in_turns)][:most]
    *doubts, bad = (of_kinds[kind] for kind in KINDS)
    longest = max(map(len, doubts))
    return [rows[turn] for turn in range(longest) for rows in doubts if turn < len(rows)] + bad


@spread(("rule", [Rule(), Rule(min_confidence=0.6), Rule(min_confidence=0.5, max_distance=2)]), ("batch", [1, 7, 150]))
def test_the_rows_are_those_of_the_definition_whatever_the_batches(rule, batch):
    answers = made(150)
    for most in (3, 25, 150):
        doubts = Doubts(most)
        for first in range(0, 150, batch):
            doubts.add(answers.slice(first, batch), rule)
            assert len(doubts.kept) <= 4 * most
        assert [row["row"] for row in doubts.in_turn()] == expected(answers, rule, most)
    assert sum(doubts.rows.values()) == 150
    assert Doubts(3).in_turn() == []


@pytest.fixture
def work(tmp_path, invoke):
    """A job of two files with ids, exact copies of a doubtful image, and a bad row."""
    index_arrays(IMAGES[:300], LABELS[:300], Path("x.knn"))
    write(Path("in/a.parquet"), range(300, 500))
    write(Path("in/b.parquet"), range(500, 700))
    assert invoke("classify", "x.knn", "in", "--out", "out", "--min-confidence", "0.5").code == 0
    return tmp_path


def write(path, rows):
    held = [IMAGES[row].ravel().tolist() for row in rows]
    held[10] = held[11] = held[12]
    held[13] = held[13][:7]
    ids = [f"id-{row}" for row in rows]
    ids[4] = None
    write_table(pa.table({"image": pa.array(held, pa.list_(pa.uint8())), "key": ids}), path)


@pytest.fixture
def job(work):  # noqa: ARG001  # in the working folder
    return FinishedJob.open(locate("out"))


def test_copies_are_listed_once_and_every_other_row_in_order(job):
    every = [(row["file"], row["row"]) for row in find_doubts(job, 400).in_turn()]
    assert len(every) == 400
    found = review(job, None, top=400)
    listed = [(row.place.file, row.place.row) for row in found.rows]
    copies = [(file, row) for file, row in every if row in {10, 11, 12}]
    left_out = [
        copy for copy in copies if copy not in [next(c for c in copies if c[0] == f"{n}.parquet") for n in "ab"]
    ]
    assert listed == [place for place in every if place not in left_out]
    assert (found.copies, found.unread) == (4, [])
    assert [(listed, rows) for _, listed, rows in found.kinds][3] == (2, 2)
    assert [row.place.row for row in found.rows[-2:]] == [13, 13]  # bad images are last, and no copies of each other


def test_neighbours_and_pictures_are_of_the_rows_and_no_image_is_searched_twice(job, monkeypatch):
    asked = []
    answer = Classifier.answer
    monkeypatch.setattr(Classifier, "answer", lambda self, xq, bad: asked.append(len(xq)) or answer(self, xq, bad))
    classifier = job.classifier(open_index("x.knn"))
    found = review(job, classifier, top=398, pixels=True)
    assert sum(asked) == 400
    for row in found.rows[:20]:
        assert (row.pixels == IMAGES[row.place.row + (300 if row.place.file == "a.parquet" else 500)]).all()
        assert row.neighbors[0].distance == row.distance
    asked.clear()
    again = review(job, classifier, top=7, pixels=True)
    assert [row.place for row in again.rows] == [row.place for row in found.rows[:7]]
    assert sum(asked) == 7


def test_rows_of_a_new_class_are_no_copies_of_each_other_though_they_have_one_neighbour(tmp_path, invoke):
    rng = np.random.default_rng(3)
    index_arrays(rng.normal(size=(60, 6)), np.repeat([0, 1], 30), tmp_path / "x.knn")
    new = 40 + rng.normal(size=(20, 6))
    write_table(pa.table({"image": np.concatenate([new, new[:5] + 1e-3]).tolist()}), tmp_path / "q.parquet")
    assert invoke("classify", "x.knn", "q.parquet", "--out", "out", "--k", "1").code == 0
    job = FinishedJob.open(locate("out"))
    found = review(job, job.classifier(open_index("x.knn")), top=25)
    assert len({row.neighbors[0].row for row in found.rows}) < 5
    assert (len({row.place.row % 20 for row in found.rows}), found.copies) == (20, 5)


def test_a_shifted_copy_beside_the_same_stored_images_is_no_row_of_its_own(tmp_path, invoke):
    stored = np.array([[10, 0], [0, 200], [200, 0]], np.uint8)
    index_arrays(stored, [0, 1, 0], tmp_path / "x.knn")
    held = pa.array([[11, 1], [12, 1], [30, 190]], pa.list_(pa.uint8(), 2))
    write_table(pa.table({"image": held}), tmp_path / "q.parquet")
    assert invoke("classify", "x.knn", "q.parquet", "--out", "out", "--k", "3").code == 0
    job = FinishedJob.open(locate("out"))
    assert [row.place.row for row in review(job, None, top=5).rows] == [2, 1, 0]
    found = review(job, job.classifier(open_index("x.knn")), top=5)
    assert ([row.place.row for row in found.rows], found.copies) == ([2, 1], 1)
    named = replace(found, class_names=["zero", "one"]).to_table()
    assert named.select(["best", "second"]).to_pylist() == [{"best": "zero", "second": "one"}] * 2


@pytest.mark.usefixtures("work")
def test_the_csv_has_what_adds_the_rows_and_an_empty_column_of_labels(invoke):
    done = invoke("review", "out", "--top", "30", "--index", "x.knn", "--report", "page.html")
    assert done.code == 0, done.stderr
    assert done.stdout == ""
    first, written = done.stderr.splitlines()
    told = (
        r"review\.csv: 30 rows to look at: 10 of \d+ close votes, 10 of \d+ abstained by the vote, 10 of \d+ others.*"
    )
    assert re.fullmatch(told + "0 of 2 bad images", first)
    assert written == "page.html: written"
    with Path("review.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = ["id", "file", "row", "best", "second", "confidence", "margin", "distance", "key", "why", "label"]
    assert list(rows[0]) == names  # and what the job kept that is text
    assert len(rows) == 30
    for row in rows:
        answer = pq.read_table(Path("out") / row["file"]).slice(int(row["row"]), 1).to_pylist()[0]
        assert (row["id"], row["key"], row["label"]) == (f"{row['file']}#{row['row']}", answer["key"] or "", "")
        assert (row["best"], row["second"]) == (answer["best"] or "", answer["second"] or "")
        assert float(row["distance"]) == pytest.approx(answer["distance"], rel=1e-5)
        assert (answer["status"] == "abstained") == row["why"].startswith("abstained: confidence below 0.5")
    page = Path("page.html").read_text()
    assert page.count('<li id="row-') == 30
    assert all(f"key: {row['key']}" in page for row in rows if row["key"])
    assert page.count("<img") == 30 * 6
    first = Path("review.csv").read_bytes()
    again = invoke("review", "out", "--top", "30", "--index", "x.knn")
    assert (again.code, Path("review.csv").read_bytes()) == (2, first)
    assert "review.csv exists, and may have been filled in: give a new name" in again.stderr
    assert invoke("review", "out", "--top", "30", "--index", "x.knn", "--out", "again.csv").code == 0
    assert Path("again.csv").read_bytes() == first


def test_ids_are_those_of_a_column_and_file_and_row_where_it_has_none(job):
    found = {str(row.place): row.id for row in review(job, None, top=400, id_column="key").rows}
    assert found["a.parquet#7"] == "id-307"
    assert found["b.parquet#4"] == "b.parquet#4"


@pytest.mark.usefixtures("work")
def test_rows_whose_input_is_gone_are_listed_and_told(invoke):
    Path("in/b.parquet").unlink()
    done = invoke("review", "out", "--out", "all.csv", "--top", "400", "--report", "page.html")
    assert done.code == 0, done.stderr
    assert "left out: 2 that equal a listed row" in done.stderr
    assert "note: 1 inputs are gone or were changed, the first b.parquet: their rows are listed" in done.stderr
    with Path("all.csv").open(newline="") as stream:
        files = [row["file"] for row in csv.DictReader(stream)]
    assert (files.count("a.parquet"), files.count("b.parquet")) == (198, 200)


def test_a_regression_is_reviewed_by_distance_alone(tmp_path, invoke):
    index_arrays(IMAGES[:50], IMAGES[:50, 0, 0], tmp_path / "x.knn", is_regression=True)
    write(tmp_path / "q.parquet", range(50, 90))
    assert invoke("classify", "x.knn", "q.parquet", "--out", "out").code == 0
    found = review(FinishedJob.open(locate("out")), None, top=5)
    distances = pq.read_table("out/q.parquet")["distance"].to_pylist()
    assert [row.distance for row in found.rows] == sorted((d for d in distances if d is not None), reverse=True)[:5]


def test_outputs_of_before_are_refused(job):
    options = {name: value for name, value in job.record.options.items() if name != "columns"}
    job.record.options.clear()
    job.record.options.update(options)
    with pytest.raises(KnnvoteError, match="written by an older version of knnvote, without best, second and margin"):
        find_doubts(job, 5)


@pytest.mark.usefixtures("work")
def test_a_list_of_another_name_is_refused_and_one_that_was_made_during_the_review_stays(invoke, monkeypatch):
    def made_meanwhile(*args, **named):
        Path("review.csv").write_text("theirs")
        return review(*args, **named)

    done = invoke("review", "out", "--out", "review.xlsx")
    assert done.code == 2
    assert "review.xlsx is no name of a CSV file: give one that ends in .csv" in done.stderr
    monkeypatch.setattr("knnvote.classify.look.review.review", made_meanwhile)
    done = invoke("review", "out", "--report", "page.html")
    told = "error: review.csv was made by something else meanwhile, and stays: give a new name\n"
    assert (done.code, done.stderr.endswith(told), Path("page.html").exists()) == (1, True, False)
    assert Path("review.csv").read_text() == "theirs"
    done = invoke("review", "x.knn")  # which says that first, and not that the list is there
    assert (done.code, "exists" in done.stderr, "x.knn" in done.stderr) == (1, False, True)


def test_a_filled_list_of_image_files_is_what_add_takes(tmp_path, invoke):
    index_arrays(IMAGES[:100], LABELS[:100], tmp_path / "x.knn")
    for row in range(100, 140):
        path = tmp_path / "in" / ("low" if row % 2 else "high") / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(IMAGES[row]).save(path)
    assert invoke("classify", "x.knn", "in", "--out", "out").code == 0
    assert invoke("review", "out", "--top", "6").code == 0
    with Path("review.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    named = {pq.read_table(Path("out") / row["file"])["file"][int(row["row"])].as_py() for row in rows}
    assert {row["id"] for row in rows} == named
    assert invoke("classify", "x.knn", "in", "--out", "kept", "--keep", "label").code == 0
    assert {row.id for row in review(FinishedJob.open(locate("kept")), None, top=6).rows} == named
    lines = Path("review.csv").read_text().splitlines()
    filled = [*lines[:2], f'{lines[2]}"owl"', f'{lines[3]}"cat"', f'{lines[4]}""', f'{lines[5]}" "', *lines[6:]]
    Path("filled.csv").write_text("\n".join(filled))  # blank in all the ways in which programs write it
    done = invoke("add", "x.knn", "in", "--labels", "filled.csv", "--skip-bad")
    assert done.code == 0, done.stderr
    index = open_index("x.knn")
    added = dict(zip(index.ids[100:].to_pylist(), index.labels[100:].to_pylist(), strict=True))
    assert added == {rows[1]["id"]: "owl", rows[2]["id"]: "cat"}
    refused = invoke("remove", "x.knn", "--ids", "filled.csv")
    assert (refused.code, "filled.csv: it has columns 'why' and 'label', as lists to be" in refused.stderr) == (1, True)
    assert open_index("x.knn").n == 102
    assert read_reviewed("filled.csv").to_pylist() == [rows[1]["id"], rows[2]["id"]]
    assert invoke("suspects", "x.knn", "--k", "3", "--reviewed", "filled.csv").stderr == ""


def fill_in(name, labels):
    """Write labels into a list, as who looked at its first rows would."""
    head, *lines = Path(name).read_text().splitlines()
    filled = [f'{line}"{label}"' for line, label in zip(lines, labels, strict=False)]
    Path(name).write_text("\n".join([head, *filled, *lines[len(filled) :]]))
    return [line.split(",")[0].strip('"') for line in lines]


def test_rounds_of_review_list_what_is_not_stored_and_a_list_is_added_as_far_as_it_is_new(tmp_path, invoke):
    index_arrays(IMAGES[:300], LABELS[:300], tmp_path / "x.knn")
    new = {"image": IMAGES[300:420].reshape(120, -1).tolist(), "id": [f"new-{row}" for row in range(120)]}
    write_table(pa.table(new), tmp_path / "q.parquet")
    listed = []
    for turn in range(2):
        assert invoke("classify", "x.knn", "q.parquet", "--out", "out", "--overwrite").code == 0
        done = invoke("review", "out", "--index", "x.knn", "--top", "20", "--out", f"{turn}.csv")
        assert ("left out: 20 that equal a stored image\n" in done.stderr) == (turn == 1)
        listed += fill_in(f"{turn}.csv", ["cat"] * 20)
        done = invoke("add", "x.knn", "q.parquet", "--labels", f"{turn}.csv", "--skip-bad")
        assert (done.code, "x.knn: 20 images added" in done.stderr) == (0, True)
        told = (
            "were listed for being doubtful, and, with the 20 added before, as far as such lists had these too, are 12%"
        )
        assert (told in done.stderr, "doubtful" in done.stderr) == (turn == 1,) * 2
    assert len({*listed}) == 40
    before, free = open_index("x.knn").manifest, next(name for name in new["id"] if name not in listed)
    done = invoke("add", "x.knn", "q.parquet", "--labels", "1.csv", "--skip-bad")
    assert done.stderr.startswith("note: 20 of 20 labelled images of 1.csv are stored already under these labels, and")
    assert "x.knn: 0 images added" in done.stderr
    assert open_index("x.knn").manifest == before
    filled = re.sub('"cat"$', '"owl"', Path("1.csv").read_text(), count=1, flags=re.MULTILINE)
    Path("1.csv").write_text(f'{filled}\n"{free}",,,,,,,,,"cat"')
    refused = invoke("add", "x.knn", "q.parquet", "--labels", "1.csv", "--skip-bad").stderr
    told = (
        f"x.knn stores 1 of the 21 labelled images of 1.csv under another label, the first '{listed[20]}' as cat, and"
    )
    assert told in refused
    command = re.search(r"knnvote (relabel \S+ \S+) gives them these labels; the same", refused)[1]
    done = invoke(*command.split())
    assert done.stderr.startswith("note: 1 labelled row of 1.csv is of images that are not stored, and passed over")
    assert "1 label changed by 20 rows" in done.stderr
    assert "1 image added" in invoke("add", "x.knn", "q.parquet", "--labels", "1.csv", "--skip-bad").stderr
    assert open_index("x.knn").ids[-1].as_py() == free
    Path("1.csv").write_text(Path("1.csv").read_text().replace('"owl"', '"asp"').replace('"cat"', '"asp"'))
    refused = invoke("add", "x.knn", "q.parquet", "--labels", "1.csv", "--skip-bad", "--new-classes").stderr
    command = re.search(r"knnvote (relabel \S+ \S+ --new-classes) gives them these labels; the same", refused)[1]
    assert invoke(*command.split()).code == 0


def test_a_list_of_review_whose_ids_lost_their_zeros_is_refused(invoke):
    ids = [f"{row:06}" for row in range(40)]
    rows = {"image": IMAGES[:40].reshape(40, -1).tolist(), "label": LABELS[:40], "id": ids}
    write_table(pa.table(rows), Path("x.parquet"))
    assert invoke("index", "x.parquet", "--id-column", "id", "--out", "x.knn").code == 0
    Path("1.csv").write_text(f"id,why,label\n12,close vote,{LABELS[0]}\n")
    assert "1.csv has ids that are not stored, the first '12': " in invoke("relabel", "x.knn", "1.csv").stderr


def test_ids_that_are_stored_are_refused_by_what_they_are_of(invoke):
    columns = {"image": IMAGES[:40].reshape(40, -1).tolist(), "label": LABELS[:40]}
    for name, rows in (("few", slice(30)), ("all", slice(40))):
        write_table(pa.table({key: list(values)[rows] for key, values in columns.items()}), Path(f"{name}/q.parquet"))
    assert invoke("index", "few/q.parquet", "--out", "x.knn").code == 0
    told = invoke("add", "x.knn", "all/q.parquet").stderr
    assert "stores 30 of the 40 ids already, the first 'q.parquet#0'; nothing was added: they are the same im" in told
    assert "to add the others give a table of ids and labels with --labels, by which stored ones are passed" in told
    pa.csv.write_csv(pa.table({"id": [f"q.parquet#{row}" for row in range(40)], "label": LABELS[:40]}), "l.csv")
    assert "x.knn: 10 images added" in invoke("add", "x.knn", "all/q.parquet", "--labels", "l.csv").stderr
    Path("l.csv").write_text(
        Path("l.csv").read_text().replace(f'"{LABELS[7]}"', f'"{min({*LABELS} - {LABELS[7]})}"', 1)
    )
    told = invoke("add", "x.knn", "all/q.parquet", "--labels", "l.csv").stderr
    assert "knnvote relabel x.knn fixes.csv gives them these labels once fixes.csv has a column id and a" in told
    others = {"image": IMAGES[50:90].reshape(40, -1).tolist(), "label": LABELS[:40]}
    write_table(pa.table(others), Path("new/q.parquet"))
    for labels in ([], ["--labels", "l.csv"]):
        told = invoke("add", "x.knn", "new/q.parquet", *labels).stderr
        assert "stores 40 of the 40 ids already, the first 'q.parquet#0'; nothing was added: these are other im" in told


def test_neighbours_are_shown_of_rows_that_they_answered(tmp_path, invoke):
    index_arrays(IMAGES[:100], LABELS[:100], tmp_path / "x.knn")
    write_table(pa.table({"image": IMAGES[400:460].reshape(60, -1).tolist()}), tmp_path / "q.parquet")
    options = ("q.parquet", "--out", "out", "--min-confidence", "0.6")
    assert invoke("classify", "x.knn", *options).code == 0
    kept = [row for row, status in enumerate(pq.read_table("out/q.parquet")["status"].to_pylist()) if status == "ok"]
    held = IMAGES[[*range(100, 300), *range(400, 460)[kept[0] : kept[0] + 1]]]
    write_table(
        pa.table({"image": held.reshape(len(held), -1).tolist(), "label": ["cat"] * len(held)}), Path("m.parquet")
    )
    assert invoke("add", "x.knn", "m.parquet").code == 0
    assert invoke("classify", "x.knn", *options, "--only", "abstained").code == 0
    done = invoke("review", "out", "--index", "x.knn", "--top", "60", "--report", "page.html")
    assert "left out: 1 that equal a stored image\n" in done.stderr
    assert re.search(r"note: \d+ of \d+ answers are kept of an earlier job: the index was", done.stderr)
    assert (told := re.search(r"note: (\d+) listed rows are without neighbours: the index answers", done.stderr))
    job = FinishedJob.open(locate("out"))
    found = review(job, job.classifier(open_index("x.knn")), top=60)
    without = [row for row in found.rows if not row.neighbors]
    assert 0 < len(without) == int(told[1]) < 59
    assert {row.place.row for row in without} <= {*kept}
    assert all(row.neighbors[0].distance == pytest.approx(row.distance) for row in found.rows if row.neighbors)
    assert f"{told[1]} listed rows are without neighbours" in Path("page.html").read_text()
