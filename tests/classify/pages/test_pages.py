"""Pages as text: what they say, and that nothing in an input can speak as the page."""

import base64
import builtins
import hashlib
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version

import imagecodecs
import numpy as np
import pytest

import knnvote.classify.pages.comparison
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.comparison import Flip
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.interval import share_interval
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.report import report_job
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.pages.comparison import summary_sentence, write_comparison
from knnvote.classify.pages.job import write_job
from knnvote.classify.pages.page import check_page
from knnvote.classify.pages.suspects import write_suspects
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.data.text import show_bytes
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.shown.thumbnails import thumbnail

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (300, 10, 10), dtype=np.uint8)
CODES = IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64
ROUGH = IndexOptions(kind="factory", factory="IVF5,Flat")


def make(folder, images, labels):
    """A page of a rough index of 200 images asked for 100, and what was compared."""
    index_arrays(images[:200], labels[:200], folder / "rough.knn", options=ROUGH)
    write_table(image_table(images[200:], labels[200:]), folder / "test.parquet")
    inputs, indexes = find_inputs([str(folder / "test.parquet")]), [open_index(folder / "rough.knn")]
    comparison = compare(inputs, indexes, Rule())
    write_comparison(folder / "page.html", comparison, inputs, indexes, Rule())
    return (folder / "page.html").read_text(), comparison


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder as `make` leaves it, its page, and what was compared. Tests only read them."""
    folder = tmp_path_factory.mktemp("compared")
    return folder, *make(folder, IMAGES, CODES)


def inputs_of(folder):
    return find_inputs([str(folder / "test.parquet")]), [open_index(folder / "rough.knn")]


def test_images_that_changed_since_they_were_compared_are_told(tmp_path):
    _, comparison = make(tmp_path, IMAGES, CODES)
    assert comparison.indexes[0].flips
    write_table(image_table(IMAGES[:100], CODES[:100]), tmp_path / "test.parquet")
    inputs, indexes = find_inputs([str(tmp_path / "test.parquet")]), [open_index(tmp_path / "rough.knn")]
    with pytest.raises(KnnvoteError, match=r"^the images changed since .*: run the same command again$"):
        write_comparison(tmp_path / "page.html", comparison, inputs, indexes, Rule())


class Tags(HTMLParser):
    """Names of all tags, and those that are left open or closed unopened."""

    VOID = frozenset({"meta", "link", "img", "br", "wbr", "input"})

    def __init__(self):
        super().__init__()
        self.names, self.open, self.wrong = [], [], []

    def handle_starttag(self, tag, _attrs):
        self.names.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, _attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def read_tags(page):
    tags = Tags()
    tags.feed(page)
    return tags


def test_labels_cannot_speak_as_the_page(tmp_path):
    labels = np.array(["<script>alert(1)</script>", '"><img src=x>', "&amp;", "$x$"])[CODES]
    page, comparison = make(tmp_path, IMAGES, labels)
    assert comparison.indexes[0].flips
    tags = read_tags(page)
    assert (tags.open, tags.wrong) == ([], [])
    assert tags.names.count("script") == 1  # the page's own, by which its tables are sorted
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert set(re.findall(r'<img src="(data:|[^"]*)', page)) == {"data:"}


def without_figures(page):
    """A page without the cells that draw what others say."""
    return re.sub(r'<td class="plot[^>]*>.*?</td>', "", page)


def test_every_flip_and_every_judgement_is_there(compared):
    _, page, comparison = compared
    report, page = comparison.indexes[0], without_figures(page)
    assert "There are no pictures" not in page
    assert f"<td>{show_bytes(report.bytes)}</td>" in page
    cards = re.findall(r'<li class="flip".*?</ul>\s*</li>', page, re.DOTALL)
    assert len(cards) == len(report.flips)
    assert {card.count("<img ") for card in cards} == {11}
    for band in report.judgement.confidence:
        assert f'<th scope="row">{band.low:.2f}</th><td>{band.images}</td><td>{band.accuracy.value:.4f}</td>' in page
    for row in report.coverage:
        assert f'<th scope="row">{row.threshold:.2f}</th><td>{row.images}</td><td>{row.coverage:.2%}</td>' in page
    for difference in comparison.differences:
        assert f"<li>{difference.told()}.</li>" in page
    assert f"accuracy {report.accuracy:.4f}, of a 95% interval from" in page
    for images in filter(None, report.recall.found):
        assert f"<td>{images}</td>" in page


def test_classes_have_their_names_in_every_table(compared, tmp_path):
    folder, _, comparison = compared
    inputs, (index,) = inputs_of(folder)
    named = replace(index, manifest=replace(index.manifest, class_names=["ant", "bee", "cat", "dog"]))
    write_comparison(tmp_path / "named.html", comparison, inputs, [named], Rule())
    page = (tmp_path / "named.html").read_text()
    assert page.count('<th scope="row"><bdi>1 (bee)</bdi></th>') == 2  # accuracy by class, and what is taken for what
    assert page.count('<th scope="col"><bdi>1 (bee)</bdi></th>') == 1
    assert "<strong>1 (bee)</strong>" in page


def test_same_comparison_gives_the_same_bytes(compared, tmp_path):
    folder, page, comparison = compared
    write_comparison(tmp_path / "page.html", comparison, *inputs_of(folder), Rule())
    assert (tmp_path / "page.html").read_text() == page


def test_vectors_that_are_no_pictures_have_none(tmp_path):
    page, comparison = make(tmp_path, RNG.normal(size=(300, 40)).astype(np.float32), CODES)
    assert comparison.indexes[0].flips
    index, inputs = open_index(tmp_path / "rough.knn"), find_inputs([str(tmp_path / "test.parquet")])
    found = find_suspects(index)
    write_suspects(tmp_path / "suspects.html", found, index, 3)
    assert f"; --top {found.label_errors.first} shows them here" in (tmp_path / "suspects.html").read_text()
    run_job(Classifier(index, Rule()), inputs, locate(str(tmp_path / "out")), JobOptions())
    write_job(tmp_path / "job.html", report_job(FinishedJob.open(locate(str(tmp_path / "out"))), index), index)
    for text in (page, *((tmp_path / name).read_text() for name in ("suspects.html", "job.html"))):
        assert "<img" not in text
        assert "There are no pictures, as what is stored has no height and width." in text


def test_images_without_labels_are_not_judged(tmp_path):
    index_arrays(IMAGES[:200], CODES[:200], tmp_path / "rough.knn", options=ROUGH)
    write_table(image_table(IMAGES[200:]), tmp_path / "test.parquet")
    inputs, indexes = find_inputs([str(tmp_path / "test.parquet")]), [open_index(tmp_path / "rough.knn")]
    write_comparison(tmp_path / "page.html", compare(inputs, indexes, Rule()), inputs, indexes, Rule())
    page = (tmp_path / "page.html").read_text()
    assert "How far its confidence" not in page
    assert "<li>no test image has a true label" in page
    assert ">true label" not in page


def test_summary_counts_flips_by_what_they_do(compared):
    *_, comparison = compared
    flips = [Flip(row=row, name=f"row {row}", exact=1, label=2, truth=truth) for row, truth in enumerate([1, 2, 3])]
    report = replace(comparison.indexes[0], path="a.knn", kind="adaptive", relative_speed=31.04, flips=flips)
    assert summary_sentence(replace(report, judged=10_000)) == (
        "a.knn (adaptive) is 31 times as fast as FAISS's flat index; 3 labels of 10,000 differ from exact search, "
        "1 of them for the worse, 1 of them for the better, 1 of them wrong either way."
    )
    alone = replace(report, relative_speed=0.5, flips=[replace(flips[0], truth=None)])
    assert summary_sentence(replace(alone, judged=10)) == (
        "a.knn (adaptive) is 2 times as slow as FAISS's flat index; 1 label of 10 differs from exact search."
    )
    same = replace(report, flips=[], agreement=share_interval(10, 10))
    assert summary_sentence(replace(same, judged=10)).endswith("none of 10 labels differs from exact search.")


def test_numbers_have_no_better_or_worse(tmp_path):
    targets = RNG.normal(0, 3, 300)
    index_arrays(IMAGES[:200], targets[:200], tmp_path / "x.knn", is_regression=True, options=ROUGH)
    write_table(image_table(IMAGES[200:], targets[200:]), tmp_path / "test.parquet")
    inputs, indexes = find_inputs([str(tmp_path / "test.parquet")]), [open_index(tmp_path / "x.knn")]
    comparison = compare(inputs, indexes, Rule())
    report = comparison.indexes[0]
    assert len(report.flips) > 1
    assert summary_sentence(report).endswith(
        f"{len(report.flips)} labels of 100 lie over {report.tolerance:.4g} from exact search's."
    )
    write_comparison(tmp_path / "page.html", comparison, inputs, indexes, Rule())
    page = (tmp_path / "page.html").read_text()
    assert page.count('<li class="flip"') == len(report.flips)
    assert not re.search("for the (worse|better)|wrong either way|accuracy", page)
    assert f"R² {report.accuracy:.4f}, a mean absolute error of {report.mean_absolute_error:.4g}." in page
    assert '<th scope="col">R²</th>' in page


def test_a_matrix_of_too_many_classes_is_told_of(compared, tmp_path, monkeypatch):
    monkeypatch.setattr(knnvote.classify.pages.comparison, "_MOST_CLASSES", 3)
    folder, _, comparison = compared
    write_comparison(tmp_path / "page.html", comparison, *inputs_of(folder), Rule())
    page = (tmp_path / "page.html").read_text()
    assert '<table class="matrix">' not in page
    assert "More labels than a table here can show" in page
    pair, share = comparison.indexes[0].judgement.commonest_confusions[0]
    assert f"<bdi>{pair.label}</bdi></td><td>{pair.images}</td><td>{share:.1%}</td>" in page


def test_command_writes_the_page_and_the_table(compared, tmp_path, invoke):
    folder, *_ = compared
    asked = ("compare", folder / "test.parquet", "--index", folder / "rough.knn", "--report")
    done = invoke(*asked, tmp_path / "report.html")
    assert done.code == 0, done.stderr
    assert done.stderr.endswith(f"{tmp_path / 'report.html'}: written\n")
    assert "rough.knn" in done.stdout
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    done = invoke(*asked, tmp_path / "nowhere.pdf")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path / 'nowhere.pdf'} is no name of a page: give one that ends in .html\n"


def test_suspects_have_their_pictures_neighbours_and_equal_images(tmp_path):
    images = np.concatenate([IMAGES[:100], IMAGES[:1]])
    index_arrays(images, [f"<{code}>" for code in CODES[:100]] + ["<other>"], tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    found = find_suspects(index, k=4)
    write_suspects(tmp_path / "page.html", found, index, 3)
    page = (tmp_path / "page.html").read_text()
    tags = read_tags(page)
    assert (tags.open, tags.wrong) == ([], [])
    assert page.count('<li class="suspect"') == 3
    assert page.count("<img ") == sum(1 + 4 + len(suspect.equal) for suspect in found.cases[:3])
    assert [suspect.label for suspect in found.suspects].count("<other>") == 1  # and it has no card of its own
    pair = found.cases[0]
    assert page.count(f"its equal, <bdi>{pair.equal[0].id}</bdi>, is <bdi>&lt;") == 1
    assert re.search(rf"<bdi>{pair.id}</bdi></h3>.*?stored as <strong>&lt;", page, re.DOTALL)
    assert {pair.label, pair.equal[0].label} == {f"<{CODES[0]}>", "<other>"}
    assert {"array#0", "array#100"} == {pair.id, pair.equal[0].id}
    assert f"The first 3 of {len(found.cases)} are shown" in page


def test_pictures_are_told_by_the_names_of_their_classes(tmp_path):
    index_arrays(IMAGES[:100], CODES[:100], tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    named = replace(index, manifest=replace(index.manifest, class_names=["ant", "bee", "cat", "dog"]))
    write_suspects(tmp_path / "page.html", find_suspects(named, k=4), named, 100)
    told = set(re.findall(r'alt="([^"]*)"', (tmp_path / "page.html").read_text()))
    classes = {"1 (bee)", "2 (cat)"}
    assert {f"{what} {name}" for what in ("the image stored as", "a stored") for name in classes} <= told
    assert all(text.endswith(")") for text in told)


def test_suspects_command_writes_the_page_and_the_table(tmp_path, invoke):
    index_arrays(IMAGES, CODES, tmp_path / "x.knn")
    done = invoke("suspects", tmp_path / "x.knn", "--top", "2", "--report", tmp_path / "s.html")
    assert (done.code, done.stderr) == (0, f"{tmp_path / 's.html'}: written\n")
    assert "neighbours say" in done.stdout
    assert (tmp_path / "s.html").read_text().count('<li class="suspect"') == 2


@pytest.fixture
def without(monkeypatch):
    """Take a library away."""
    importing = builtins.__import__

    def take_away(library):
        def import_others(name, *arguments, **named):
            if name.startswith(library):
                raise ModuleNotFoundError(name)
            return importing(name, *arguments, **named)

        monkeypatch.setattr(builtins, "__import__", import_others)

    return take_away


@pytest.mark.parametrize(("library", "told"), [("jinja2", "Jinja2"), ("matplotlib", "matplotlib")])
def test_without_a_library_the_command_to_install_it_is_told(without, tmp_path, library, told):
    without(library)
    with pytest.raises(KnnvoteError, match=rf"{told}, which is not installed: pip install 'knnvote\[plot\]'"):
        check_page(tmp_path / "page.html", has_figures=True)


def test_pages_of_a_job_and_of_suspects_need_no_matplotlib(without, tmp_path, invoke):
    index_arrays(IMAGES[:200], CODES[:200], tmp_path / "x.knn")
    write_table(image_table(IMAGES[200:], CODES[200:]), tmp_path / "test.parquet")
    assert invoke("classify", "x.knn", "test.parquet", "--out", "out").code == 0
    without("matplotlib")
    os.utime(tmp_path / "out" / "test.parquet", (2e9, 2e9))
    assert invoke("report", "out", "--index", "x.knn").code == 0
    date = '<time datetime="2033-05-18T03:33Z">2033-05-18 03:33 UTC</time>'
    page = (tmp_path / "report.html").read_text()
    assert f'<p class="faint">Data of {date}.</p>' in page  # the later of both
    assert f"<dd>out: 100 rows, of {date}</dd>" in page
    assert invoke("suspects", "x.knn", "--report", "suspects.html").code == 0
    done = invoke("compare", "test.parquet", "--index", "x.knn", "--report", "comparison.html")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == "error: pictures need matplotlib, which is not installed: pip install 'knnvote[plot]'\n"


def test_a_page_ends_in_html(tmp_path):
    with pytest.raises(OptionError, match=r"page.png is no name of a page"):
        check_page(tmp_path / "page.png", has_figures=False)


def test_a_picture_within_a_page_is_black_where_the_file_is_0():
    pixels = np.array([[0, 8], [16, 20]], np.uint8)
    kind, data = thumbnail(pixels, (0, 16), "digit").source.split(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(imagecodecs.png_decode(base64.b64decode(data)), [[0, 128], [255, 255]])


def test_pictures_in_colour_are_drawn_so_and_never_as_negatives(tmp_path, invoke):
    colours = np.random.default_rng(7).integers(0, 256, (60, 4, 6, 3), dtype=np.uint8)
    index_arrays(colours, CODES[:60], tmp_path / "x.knn")
    assert invoke("suspects", "x.knn", "--ink", "dark", "--report", "x.html").code == 0
    page = (tmp_path / "x.html").read_text()
    drawn = [
        imagecodecs.png_decode(base64.b64decode(data))
        for data in re.findall(r'<img class="colour" src="data:image/png;base64,([^"]*)"', page)
    ]
    assert len(drawn) == page.count("<img ") > 10
    assert {picture.tobytes() for picture in drawn} <= {picture.tobytes() for picture in colours}
    assert "img:not(.colour)" in page  # those that dark ink turns


def test_a_large_picture_is_made_smaller():
    pixels = np.kron(np.array([[0, 200], [255, 40]], np.uint8), np.ones((150, 100), np.uint8))
    grey = imagecodecs.png_decode(base64.b64decode(thumbnail(pixels, (0, 255), "x").source.split(",")[1]))
    assert grey.shape == (96, 64)
    assert grey[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 200, 255, 40]


def test_a_page_of_200_cards_with_large_pictures_is_small(tmp_path):
    noise = RNG.integers(0, 256, (210, 128, 128), dtype=np.uint8)
    index_arrays(noise, np.arange(210) % 5, tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    found = find_suspects(index, k=5)
    assert len(found.cases) > 150
    write_suspects(tmp_path / "page.html", found, index, 200)
    assert (tmp_path / "page.html").stat().st_size < 5e6


def test_pages_of_one_folder_link_each_other(tmp_path):
    index_arrays(IMAGES[:100], CODES[:100], tmp_path / "<&>.knn")
    index = open_index(tmp_path / "<&>.knn")
    found = find_suspects(index, k=4)
    first, second = tmp_path / "a.html", tmp_path / "b #1?.html"
    (tmp_path / "other.html").write_text("<title>not ours</title>")
    write_suspects(first, found, index, 1)
    assert 'class="links"' not in first.read_text()
    write_suspects(second, found, index, 1)
    write_suspects(first, found, index, 1)
    for page, other in ((first, "./b%20%231%3F.html"), (second, "./a.html")):
        (links,) = re.findall(r'<nav class="links".*?</nav>', page.read_text(), re.DOTALL)
        assert re.findall(r'href="([^"]*)"', links) == [other]
        assert links.count("Suspects of ") == 2
        assert "<&>" not in links
        assert links.count('aria-current="page"') == 1
    assert not re.search(r'(href|src)="(/|file:|https?:)', first.read_text())


def test_a_page_tells_what_it_was_made_from_and_how(tmp_path, invoke):
    index_arrays(IMAGES[:100], CODES[:100], tmp_path / "x.knn")
    os.utime(tmp_path / "x.knn" / "manifest.json", (1e9, 1e9))
    assert invoke("suspects", "x.knn", "--k", 4, "--ink", "dark", "--report", "a b.html").code == 0
    page = (tmp_path / "a b.html").read_text()
    assert "<code>knnvote suspects x.knn --k 4 --ink dark --report &#39;a b.html&#39;</code>" in page
    digest = open_index(tmp_path / "x.knn").manifest.data_sha256
    date = '<time datetime="2001-09-09T01:46Z">2001-09-09 01:46 UTC</time>'
    assert f"<dd>x.knn: 100 images, exact, l2, data {digest[:12]}, of {date}</dd>" in page
    assert f'<p class="faint">Data of {date}.</p>' in page
    assert f"<dd>knnvote {version('knnvote')}</dd>" in page
    assert '<body class="dark-ink">' in page
    plain = []
    for folder, given in (("one", ("--report", tmp_path / "one" / "a b.html")), ("two", ("--report=two/a b.html",))):
        (tmp_path / folder).mkdir()
        assert invoke("suspects", "x.knn", "--k", 4, *given).code == 0
        plain.append((tmp_path / folder / "a b.html").read_text())
    assert "<code>knnvote suspects x.knn --k 4 --report &#39;a b.html&#39;</code>" in plain[0]
    assert "<code>knnvote suspects x.knn --k 4 &#39;--report=a b.html&#39;</code>" in plain[1]
    assert '<body class="dark-ink">' not in plain[0]
    done = invoke("suspects", "x.knn", "--ink", "dark")
    assert (done.code, done.stdout) == (2, "")
    assert "--ink is of the page: give one with --report" in done.stderr


def test_the_script_of_a_page_is_the_one_that_it_allows(compared):
    _, page, _ = compared
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (allowed,) = re.findall(r"script-src 'sha256-([^']*)'", page)
    assert base64.b64decode(allowed) == hashlib.sha256(script.encode()).digest()


def test_a_confusion_has_images_that_are_confused(compared):
    folder, page, comparison = compared
    ((pair, _), *_) = comparison.indexes[0].judgement.commonest_confusions
    answer = Classifier(open_index(folder / "rough.knn"), Rule())(IMAGES[200:])
    rows = [
        row
        for row, (label, true) in enumerate(zip(answer.prediction.to_pylist(), CODES[200:], strict=True))
        if (true, label) == (pair.truth, pair.label)
    ]
    assert len(rows) == pair.images
    head = f'<li><strong>{pair.truth}</strong> taken for <strong class="worse">{pair.label}</strong>: '
    (card,) = re.findall(rf"{re.escape(head)}.*?</ul>", page, re.DOTALL)
    assert [int(row) for row in re.findall(r"row (\d+), like", card)] == rows[:4]
    assert card.count("<img ") == 2 * len(rows[:4])
