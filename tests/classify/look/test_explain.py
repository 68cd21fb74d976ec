"""Why rows and images were answered so, against what the job wrote and what brute force finds."""

import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from rich.text import Text

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.receipt import KEY
from knnvote.classify.job.rows import Place, find_rows
from knnvote.classify.look.explain import gather
from knnvote.classify.look.seen import explain_images, explain_rows
from knnvote.classify.look.words import left_out, nearness, outvoted, verdict
from knnvote.classify.vote import Rule
from knnvote.cli.tables.explanation import pictures_in_lines
from knnvote.cli.tables.picture import half_blocks, shows_pictures
from knnvote.data.errors import KnnvoteError
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (300, 6, 6), dtype=np.uint8)
LABELS = IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64
VECTORS = RNG.normal(size=(200, 20)).astype(np.float32)


def png(pixels):
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def work(tmp_path, invoke):
    """Encoded pictures of two files, one of them broken, classified with abstentions; ids and a text are kept."""
    index_arrays(IMAGES[:200], LABELS[:200], Path("x.knn"))
    for name, rows in {"in/a.parquet": range(200, 240), "in/below/b.parquet": range(240, 300)}.items():
        held = [b"broken" if row == 205 else png(IMAGES[row]) for row in rows]
        columns = {"image": held, "id": [f"id-{row}" for row in rows], "said": ["x" * 80] * len(held)}
        write_table(pa.table(columns), Path(name))
    assert invoke("classify", "x.knn", "in", "--out", "out", "--min-confidence", "0.6", "--k", "4").code == 0
    return tmp_path


@pytest.fixture
def job(work):  # noqa: ARG001  # which lies in the working folder
    return FinishedJob.open(locate("out"))


@pytest.fixture
def classifier(job):
    return job.classifier(open_index("x.knn"))


def test_each_row_is_explained_by_what_brute_force_finds(job, classifier):
    written = pq.read_table("out/a.parquet").to_pylist()
    names = [f"a.parquet#{row}" for row in range(40)]
    stored = IMAGES[:200].reshape(200, -1).astype(np.int64)
    for row, one in enumerate(explain_rows(job, classifier, names)):
        assert (one.name, one.id, one.status) == (names[row], f"id-{200 + row}", written[row]["status"])
        if one.status == "bad_image":
            assert (row, one.neighbors, one.votes, one.pixels) == (5, [], [], None)
            continue
        assert (one.pixels == IMAGES[200 + row]).all()
        D = np.sqrt(((stored - IMAGES[200 + row].ravel()) ** 2).sum(axis=1))
        order = np.lexsort([np.arange(200), D])[:4]
        assert [(each.row, each.label) for each in one.neighbors] == [(i, LABELS[i]) for i in order]
        assert [each.distance for each in one.neighbors] == pytest.approx(D[order])
        counts = {vote.label: vote.neighbors for vote in one.votes}
        assert counts == {label: (LABELS[order] == label).sum() for label in LABELS[order]}
        assert (one.votes[0].label, one.votes[0].share) == (written[row]["best"], written[row]["confidence"])


def test_rows_are_found_by_file_and_row_and_by_id_in_the_order_asked_for(job):
    names = ["id-299", "a.parquet#3", "below/b.parquet#0", "id-200"]
    places = [Place("below/b.parquet", 59), Place("a.parquet", 3), Place("below/b.parquet", 0), Place("a.parquet", 0)]
    assert find_rows(job, names) == places


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("id-1", "no row of out has 'id-1' in column 'id': give file and row, such as a.parquet#0"),
        ("3", "no row of out has '3' in column 'id'"),
        ("a.parquet#40", "has 40 rows, which count from 0, and no row 40"),
        ("c.parquet#4", "no row of out has 'c.parquet#4'"),
    ],
)
def test_a_name_of_no_row_is_refused(job, name, told):
    with pytest.raises(KnnvoteError, match=told):
        find_rows(job, ["id-200", name])


def test_an_id_of_several_rows_is_refused_by_naming_them(job):
    with pytest.raises(KnnvoteError, match=r"the id of 100 rows of out: give one as a\.parquet#0 or a\.parquet#1"):
        find_rows(job, ["x" * 80], "said")
    with pytest.raises(KnnvoteError, match="out keeps no column 'none' for id_column: it has id, said, prediction"):
        find_rows(job, ["1"], "none")


def test_an_answer_that_is_another_one_now_is_refused(job, classifier):
    """As of an output that was changed: its receipt alone is not all of it."""
    path = Path("out/a.parquet")
    table = pq.read_table(path)
    changed = table.set_column(table.schema.names.index("best"), "best", pa.array([9] * 40, pa.int64()))
    pq.write_table(changed.replace_schema_metadata({KEY: pq.read_metadata(path).metadata[KEY]}), path)
    with pytest.raises(KnnvoteError, match=r"a.parquet#7 has best \d now, and the job wrote 9: .* knnvote verify out"):
        explain_rows(job, classifier, ["a.parquet#7"])


def test_an_input_that_is_gone_or_changed_is_refused(job, classifier):
    shutil.copy("in/a.parquet", "in/below/b.parquet")
    with pytest.raises(KnnvoteError, match=r"was made of another content than .* has now: classify it again"):
        explain_rows(job, classifier, ["below/b.parquet#1"])
    Path("in/a.parquet").unlink()
    with pytest.raises(KnnvoteError, match=r"a\.parquet is gone, from which out/a\.parquet was made"):
        explain_rows(job, classifier, ["a.parquet#1"])


def test_a_picture_and_the_same_row_of_a_file_are_explained_alike(classifier, invoke):
    Path("one.png").write_bytes(png(IMAGES[250]))
    Path("text.png").write_text("no picture")
    picture, row, bad = explain_images(classifier, ["one.png", "in/below/b.parquet#10", "text.png"], ImageOptions())
    assert picture.neighbors == row.neighbors
    assert (picture.pixels == row.pixels).all()
    assert bad.status == "bad_image"
    with pytest.raises(KnnvoteError, match=r"b\.parquet has no row 60: it has 60, which count from 0"):
        explain_images(classifier, ["in/below/b.parquet#60"], ImageOptions())
    assert [invoke("explain", "x.knn", *names).code for names in (["text.png"], ["text.png", "one.png"])] == [1, 0]


def test_a_file_of_rows_is_explained_by_one_that_is_named_or_its_only_one(classifier, invoke):
    pq.write_table(pq.read_table("in/a.parquet")[7:8], "one.parquet")
    with tarfile.open("some.tar", "w") as tar:
        for row in (250, 251):
            info, data = tarfile.TarInfo(f"{row}.png"), png(IMAGES[row])
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    only, row = explain_images(classifier, ["one.parquet", "in/a.parquet#7"], ImageOptions())
    assert (only.name, only.neighbors) == ("one.parquet", row.neighbors)
    for name, n, first in (
        ("in/a.parquet", 40, "in/a.parquet"),
        ("some.tar", 2, "some.tar"),
        ("in", 100, "in/a.parquet"),
    ):
        done = invoke("explain", "x.knn", name)
        told = f"error: {name} holds {n} rows: give the one to explain, such as {first}#0\n"
        assert (done.code, done.stderr) == (1, told)
        assert invoke("explain", "x.knn", f"{first}#0").code == 0
    pq.write_table(pq.read_table("in/a.parquet")[:0], "none.parquet")
    Path("broken.parquet").write_bytes(b"PAR1")
    for name, told in (
        ("none.parquet", "has no row 0: it has 0"),
        ("broken.parquet", "cannot read"),
        ("gone", "exist"),
    ):
        assert told in invoke("explain", "x.knn", name).stderr


@pytest.mark.parametrize(
    ("metric", "labels", "told"),
    [
        ("l2", [7, 1, 1, 1, 1], "an exact copy is stored, labelled 7; the vote of 5 says 1"),
        ("l2", [1, 1, 1, 1, 1], ""),
        ("l2", ["b", "c", "a", "a", "a"], "2 exact copies are stored, labelled b and c; the vote of 5 says a"),
        ("cosine", [7, 1, 1, 1, 1], "an image at distance 0 is stored, labelled 7; the vote of 5 says 1"),
        ("l2", [0.5, 1.5, 1.5, 1.5, 1.5], ""),
    ],
)
def test_that_an_exact_copy_is_outvoted_is_told(tmp_path, monkeypatch, invoke, metric, labels, told):
    monkeypatch.chdir(tmp_path)
    copies = 2 if labels[0] == "b" else 1
    stored = np.array([[4.0, 0.0]] * copies + [[4.0, x] for x in range(1, 6 - copies)])
    is_regression = isinstance(labels[0], float)
    index_arrays(stored, labels, Path("x.knn"), options=IndexOptions(metric=metric), is_regression=is_regression)
    write_table(pa.table({"image": pa.array([[4.0, 0.0], [4.0, 0.5]], pa.list_(pa.float64(), 2))}), Path("q.parquet"))
    shown = explain_images(Classifier.open("x.knn", Rule(k=5)), ["q.parquet#0", "q.parquet#1"], ImageOptions())
    assert [outvoted(one, None) for one in shown] == [told, ""]
    done = invoke("explain", "x.knn", "q.parquet#0", "--k", "5", "--report", "page.html")
    assert done.code == 0
    assert (told in done.stdout, told[1:] in Path("page.html").read_text()) == (True, True)


def test_a_picture_is_answered_by_the_vote_that_the_index_was_made_for(work, invoke):
    (work / "one.png").write_bytes(png(IMAGES[250]))
    write_table(pa.table({"image": [png(image) for image in IMAGES[:200]], "label": LABELS[:200]}), Path("l.parquet"))
    assert invoke("index", "l.parquet", "--out", "k3.knn", "--k", "3").code == 0
    for arguments, k in ((), 3), (("--k", "7"), 7):
        (image,) = json.loads(invoke("explain", "k3.knn", "one.png", "--json", *arguments).stdout)["images"]
        assert len(image["neighbors"]) == sum(vote["neighbors"] for vote in image["votes"]) == k


def test_how_near_the_nearest_is_is_told_beside_all_stored_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = np.array([[0.0], [1.0], [3.0], [7.0]])  # nearest others: 1, 1, 2, 4
    index_arrays(stored, ["a", "a", "b", "b"], Path("line.knn"))
    classifier = Classifier.open("line.knn", Rule(k=1))
    write_table(
        pa.table({"image": pa.array([[v] for v in (7.0, 0.5, 4.5, 5.0, 90)], pa.list_(pa.float64(), 1))}),
        Path("q.parquet"),
    )
    shown = explain_images(classifier, [f"q.parquet#{row}" for row in range(5)], ImageOptions())
    found = gather(classifier, shown)
    told = [nearness(found, one) for one in found.shown]
    assert told == [
        "nearest at 0: nearer than 100% of 4 stored vectors are to their nearest other",
        "nearest at 0.5: nearer than 100% of 4 stored vectors are to their nearest other",
        "nearest at 1.5: nearer than 50% of 4 stored vectors are to their nearest other",
        "nearest at 2: farther than 50% of 4 stored vectors are from their nearest other",
        "nearest at 83: farther than any of 4 stored vectors is from its nearest other",
    ]
    assert verdict(shown[0], None) == "b, confidence 1: all neighbours agree"


def test_embeddings_and_regressions_are_explained_without_pictures(invoke):
    index_arrays(VECTORS[:150], VECTORS[:150, 0], Path("v.knn"), is_regression=True)
    held = pa.array(VECTORS[150:].tolist(), pa.list_(pa.float32()))
    write_table(pa.table({"vector": held, "text": [f"text {row}" for row in range(50)]}), Path("v.parquet"))
    assert invoke("classify", "v.knn", "v.parquet", "--out", "v").code == 0
    done = invoke("explain", "v", "7", "--index", "v.knn", "--report", "v.html")
    assert done.code == 0, done.stderr
    best = pq.read_table("v/v.parquet")["best"][7].as_py()
    assert done.stdout.startswith(f"v.parquet#7: {best:.6g}\nits row: text text 7\nrank ")
    page = Path("v.html").read_text()
    assert "There are no pictures" in page
    assert "<code>knnvote index --keep NAME</code>" in page


@pytest.mark.usefixtures("work")
def test_the_command_tells_prints_json_and_writes_a_page(invoke):
    done = invoke("explain", "out", "id-204", "a.parquet#5", "--index", "x.knn", "--report", "page.html")
    assert done.code == 0, done.stderr
    one, bad = done.stdout.split("\n\n")
    row = pq.read_table("out/a.parquet").slice(4, 1).to_pylist()[0]
    assert row["status"] == "abstained"
    told = f"confidence below 0.6; the best guess is {row['best']}, confidence {row['confidence']:.4g}; second"
    assert one.startswith(f"a.parquet#4: abstained: {told} {row['second']}, margin {row['margin']:.4g}\n")
    assert f"said {'x' * 59}…" in one
    assert bad.startswith("a.parquet#5: bad image: not PNG, JPEG")
    assert "put an image there as x.knn stores them, 6 x 6 from 0 to 255" in bad
    assert max(map(len, bad.split(" "))) < 80
    page = Path("page.html").read_text()
    assert page.count("<img") == 1 + 4
    assert page.count('<figure class="histogram">') == 1
    found = json.loads(invoke("explain", "out", "id-204", "--index", "x.knn", "--json").stdout)
    assert found["images"][0]["id"] == "id-204"
    assert {name: found["images"][0][name] for name in ("best", "confidence", "distance", "second", "margin")} == {
        name: row[name] for name in ("best", "confidence", "distance", "second", "margin")
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("out", "id-204"), "the rows of out are explained by the index that classified: give it as --index"),
        (("out", "id-204", "--index", "x.knn", "--k", "3"), "the job out has settled --k: leave it out"),
        (("x.knn", "one.png", "--index", "x.knn"), "x.knn is an index, whose images are files"),
    ],
)
@pytest.mark.usefixtures("work")
def test_what_does_not_go_together_is_refused(invoke, arguments, told):
    done = invoke("explain", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert told in done.stderr


def test_pictures_of_a_terminal_are_the_pixels_two_a_character():
    pixels = np.array([[0, 16], [8, 16], [16, 0]])
    text = half_blocks(pixels, (0, 16), 5)
    assert text.plain == "▀▀▀▀\n▀▀▀▀\n▀▀▀▀"  # enlarged twice, 4 x 6
    styles = [str(span.style) for span in text.spans]
    assert styles[:4] == ["#000000 on #000000"] * 2 + ["#ffffff on #ffffff"] * 2
    assert styles[4:6] == ["#808080 on #808080"] * 2
    odd = half_blocks(np.full((3, 40), 8), (0, 16), 20)
    assert {len(line) for line in odd.plain.split("\n")} == {20}
    (colours,) = half_blocks(np.array([[[255, 128, 0]], [[0, 0, 16]]]), (0, 255), 1).spans
    assert str(colours.style) == "#ff8000 on #000010"
    wide = Console(
        force_terminal=True, color_system="truecolor", width=80, file=io.TextIOWrapper(io.BytesIO(), "utf-8")
    )
    assert shows_pictures(wide)
    for options in ({"width": 30}, {"color_system": None}, {"force_terminal": False}):
        given = {"force_terminal": True, "color_system": "truecolor", "width": 80, "file": wide.file, **options}
        assert not shows_pictures(Console(**given))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_shows_the_image_and_its_neighbours_within_its_width(job, classifier, width):
    (one,) = explain_rows(job, classifier, ["a.parquet#7"])
    console = Console(
        force_terminal=True, color_system="truecolor", width=width, file=io.TextIOWrapper(io.BytesIO(), "utf-8")
    )
    with console.capture() as captured:
        console.print(pictures_in_lines(gather(classifier, [one]), one, width))
    lines = Text.from_ansi(captured.get()).plain.split("\n")
    assert max(map(len, lines)) <= width
    labels = [f"{rank}: {neighbor.label}" for rank, neighbor in enumerate(one.neighbors, 1)]
    assert re.findall(r"image|\d: \d", " ".join(lines)) == ["image", *labels]
    side = 24 if width == 200 else 18  # of 6 pixels, enlarged by a whole number
    assert sum(line.count("▀") for line in lines) == 5 * side * side // 2


@pytest.mark.parametrize("name", ["s7", "in/s.parquet#7", "s.parquet#7"])
def test_a_stored_image_is_explained_by_the_others(invoke, name):
    Path("in").mkdir()
    ids = [f"s{row}" for row in range(38)] + ["twice", "twice"]
    write_table(image_table(IMAGES[:40], LABELS[:40]).append_column("id", [ids]), Path("in/s.parquet"))
    assert invoke("index", "in/s.parquet", "--id-column", "id", "--out", "s.knn").code == 0

    done = invoke("explain", "s.knn", name, "--k", "4", "--report", "why.html")
    told = f"stored in s.knn, labelled {LABELS[7]}, and left out of its own vote"
    assert (done.code, done.stdout.splitlines()[1]) == (0, told), done.stderr
    assert f"<p>S{told[1:]}.</p>" in Path("why.html").read_text(encoding="utf-8")

    (one,) = json.loads(invoke("explain", "s.knn", name, "--k", "4", "--json").stdout)["images"]
    D = np.sqrt(((IMAGES[:40].reshape(40, -1).astype(np.int64) - IMAGES[7].ravel()) ** 2).sum(axis=1))
    others = [row for row in np.lexsort([np.arange(40), D]).tolist() if row != 7][:4]
    assert ([one["row"] for one in one["neighbors"]], one["stored"]) == (others, {"row": 7, "label": int(LABELS[7])})

    write_table(image_table(IMAGES[100:140], LABELS[:40]), Path("in/s.parquet"))  # another image at the same place
    (other,) = json.loads(invoke("explain", "s.knn", "in/s.parquet#7", "--json").stdout)["images"]
    assert other["stored"] is None
    for asked, said in (
        ("twice", "is the id of 2 images of s.knn: give one by its file and row, as s.parquet#38 or s.parquet#39"),
        ("s70", "s70 does not exist, and s.knn stores no image with this id"),
        ("s.parquet#70", "s.parquet#70 does not exist, and"),
    ):
        assert said in invoke("explain", "s.knn", asked).stderr
    assert invoke("explain", "s.knn", "s.parquet#39").code == 0
    assert "give --k from 1 to 39" in invoke("explain", "s.knn", name, "--k", "40").stderr or name.startswith("in/")


def test_with_a_stored_image_its_group_is_left_out(tmp_path):
    index_arrays(IMAGES[:40], LABELS[:40], tmp_path / "g.knn", groups=np.arange(40) // 4)
    classifier = Classifier.open(tmp_path / "g.knn", Rule(k=5))
    (one,) = explain_images(classifier, ["array#9"], ImageOptions())
    assert not {neighbor.row for neighbor in one.neighbors} & {8, 9, 10, 11}
    assert "left out with its group of its own vote" in left_out(one, None)
    assert (one.pixels == IMAGES[9]).all()
