"""Pages in headless Chromium: real clicks, at the widths of a phone and a desktop, light and dark."""

import json

import numpy as np
import pyarrow as pa
import pytest
from browsers import CHROMIUM, DRIVER, PALE, WIDTHS, start_browser
from repeats import every_other, repeats
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.report import report_job
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.judgement.diff import diff_jobs
from knnvote.classify.judgement.job import judge_job
from knnvote.classify.look.explain import gather
from knnvote.classify.look.review import review
from knnvote.classify.look.seen import explain_rows
from knnvote.classify.pages.comparison import write_comparison
from knnvote.classify.pages.diff import write_diff
from knnvote.classify.pages.explanation import write_explanations
from knnvote.classify.pages.job import write_job
from knnvote.classify.pages.review import write_review_page
from knnvote.classify.pages.suspects import write_suspects
from knnvote.classify.vote import Rule
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

IMAGES = np.random.default_rng(5).integers(0, 256, (540, 10, 10), dtype=np.uint8)
CODES = IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64
PAGES = ("report", "suspects", "job", "diff", "explanation", "review")
_PAPER = 718  # of A4 without margins of 1 cm

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Chromium is not installed: apt-get install chromium chromium-driver"
    ),
]


def write_pages(folder, labels):
    """The pages of a comparison in which labels differ, of suspects, of a job and of two; what was compared."""
    rough = IndexOptions(kind="factory", factory="IVF12,Flat")
    index_arrays(IMAGES[:480], labels[:480], folder / "exact.knn")
    index_arrays(IMAGES[:480], labels[:480], folder / "rough.knn", options=rough)
    write_table(image_table(IMAGES[480:], pa.array(labels[480:])), folder / "test.parquet")
    inputs = find_inputs([str(folder / "test.parquet")])
    indexes = [open_index(folder / "exact.knn"), open_index(folder / "rough.knn")]
    comparison = compare(inputs, indexes, Rule())
    assert comparison.indexes[1].flips
    write_comparison(folder / "report.html", comparison, inputs, indexes, Rule())
    write_suspects(folder / "suspects.html", find_suspects(indexes[0]), indexes[0], 10)
    run_job(Classifier(indexes[0], Rule()), inputs, locate(str(folder / "out")), JobOptions())
    run_job(Classifier(indexes[0], Rule(k=15)), inputs, locate(str(folder / "other")), JobOptions())
    job, other = (FinishedJob.open(locate(str(folder / name))) for name in ("out", "other"))
    write_job(folder / "job.html", report_job(job, indexes[0]), indexes[0], judge_job(job))
    write_diff(folder / "diff.html", diff_jobs(job, other), (job, other))
    classifier = job.classifier(indexes[0])
    explained = explain_rows(job, classifier, ["3", "4"])
    write_explanations(folder / "explanation.html", gather(classifier, explained))
    found = review(job, classifier, top=20, pixels=True)
    write_review_page(folder / "review.html", found, indexes[0], folder / "review.csv")
    return comparison


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a comparison, with others beside it and those of long labels below it, and what was compared."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "long").mkdir()
    write_pages(folder / "long", np.array([f"{'without_spaces' * 10}{code}" for code in CODES]))
    return folder / "report.html", write_pages(folder, CODES)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def emulate(browser, width, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def show(browser, path, width):
    emulate(browser, width)
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what was told before is read away
    browser.get(path.as_uri())


# What the colours of a page are like: brightness of those of text and page, and text that is hard to read.
_COLOURS = f"""
const brightness = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0) / 3;
const style = getComputedStyle(document.body);
return {{
  ink: brightness(style.color),
  paper: brightness(style.backgroundColor),
  pale: (() => {{{PALE}}})(),
}};
"""
# How wide a page is, ticks of an axis that are seen and meet the one before, and tables that do not fit.
_FIT = """
const boxes = (axis) =>
  [...axis.querySelectorAll("span")].map((tick) => tick.getBoundingClientRect()).filter((box) => box.width);
return {
  width: document.documentElement.scrollWidth,
  meeting: [...document.querySelectorAll(".axis, .values")].flatMap((axis) =>
    boxes(axis).filter((box, i, all) => i && box.left < all[i - 1].right + 2).map(() => axis.outerHTML)),
  cut: [...document.querySelectorAll(".wide")].filter((table) => table.scrollWidth > table.clientWidth).length,
};
"""
# Elements by a selector, and which of them are seen.
_SEEN = """
const all = (selector) => [...document.querySelectorAll(selector)];
const isSeen = (element) => element.checkVisibility({opacityProperty: true, visibilityProperty: true})
  && [...element.getClientRects()].some((box) => box.width && box.height);
"""


@pytest.mark.parametrize(
    "name",
    [
        *(f"{name}.html" for name in PAGES),
        *repeats((f"long/{name}.html" for name in PAGES), lambda name: name.endswith(("report.html", "suspects.html"))),
    ],
)
def test_page_fits_is_readable_and_asks_for_nothing(browser, page, name):
    """On a phone and on a desktop; light and dark."""
    path = page[0].parent / name
    show(browser, path, WIDTHS["phone"])
    for width in WIDTHS.values():
        emulate(browser, width)
        fit = browser.execute_script(_FIT)
        assert fit["width"] <= width
        assert fit["meeting"] == []
        assert width < 1000 or not fit["cut"]
    for scheme in ("light", "dark"):
        emulate(browser, WIDTHS["desktop"], scheme)
        colours = browser.execute_script(_COLOURS)
        contrast = colours["ink"] - colours["paper"]
        assert contrast > 150 if scheme == "dark" else -contrast > 150
        assert colours["pale"] == []
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert path.as_uri() in urls
    assert [url for url in urls if url != path.as_uri() and not url.startswith("data:")] == []


def test_a_flip_shows_both_neighbour_lists_at_once(browser, page):
    path, comparison = page
    show(browser, path, WIDTHS["phone"])
    flips = browser.find_elements(By.CSS_SELECTOR, "li.flip")
    assert len(flips) == len(comparison.indexes[1].flips)
    first, told = flips[0], comparison.indexes[1].flips[0]
    seen = f"{_SEEN} return [...arguments[0].querySelectorAll('ul.voters li')].map(isSeen)"
    assert browser.execute_script(seen, first) == [True] * 10
    assert f"row {told.row}: {told.label}, exact search says {told.exact}, true label {told.truth}" in first.text
    widths = "return [...arguments[0].querySelectorAll('img')].map((image) => image.naturalWidth)"
    assert browser.execute_script(widths, first) == [10] * 11


def test_a_list_is_filtered_by_what_is_typed_and_by_kind(browser, page):
    path, comparison = page
    show(browser, path, WIDTHS["desktop"])
    flips = f"{_SEEN} return all('li.flip').map((flip) => [isSeen(flip), flip.textContent, flip.dataset.kind])"
    form = browser.find_element(By.CSS_SELECTOR, "form.filter")
    wanted = f"row {comparison.indexes[1].flips[0].row}:"
    form.find_element(By.TAG_NAME, "input").send_keys(wanted)
    found = browser.execute_script(flips)
    assert [is_seen for is_seen, _, _ in found] == [wanted in text for _, text, _ in found]
    assert form.find_element(By.TAG_NAME, "output").text == f"1 of {len(found)} shown"
    form.find_element(By.TAG_NAME, "input").clear()
    Select(form.find_element(By.TAG_NAME, "select")).select_by_visible_text("for the worse")
    found = browser.execute_script(flips)
    assert [is_seen for is_seen, _, _ in found] == [kind == "for the worse" for _, _, kind in found]
    assert 0 < sum(is_seen for is_seen, _, _ in found) < len(found)


def test_a_table_is_sorted_by_a_click_on_a_head(browser, page):
    show(browser, page[0], WIDTHS["desktop"])
    table = browser.find_element(By.CSS_SELECTOR, "table.classes")
    head = table.find_elements(By.CSS_SELECTOR, "thead th")[2]
    for order, is_down in (("descending", True), ("ascending", False)):
        head.find_element(By.TAG_NAME, "button").click()
        column = "return [...arguments[0].querySelectorAll('tbody td:nth-child(3)')].map((row) => +row.innerText)"
        images = browser.execute_script(column, table)
        assert len(images) == 4
        assert images == sorted(images, reverse=is_down)
        assert head.get_attribute("aria-sort") == order


def test_what_a_row_says_stands_beside_its_picture(browser, page):
    show(browser, page[0].parent / "long" / "suspects.html", WIDTHS["phone"])
    cards = browser.execute_script("""
        const box = (card, tag) => card.querySelector(tag).getBoundingClientRect();
        return [...document.querySelectorAll("li.suspect .answer")].map((card) => [box(card, "img"), box(card, "div")]);
    """)
    assert cards
    for picture, text in cards:
        assert text["height"] > picture["height"]
        assert text["x"] >= picture["x"] + picture["width"]


# Of each name in a table how wide it is, and its words with the number of lines that each takes.
_NAMES = """
const lines = (word) => {
  const range = document.createRange();
  range.selectNodeContents(word);
  return new Set([...range.getClientRects()].map((box) => box.top)).size;
};
return [...document.querySelectorAll("table:not(.matrix) bdi")].map((name) => [
  name.getBoundingClientRect().width,
  [...name.childNodes].filter((node) => node.nodeType === 3).map((word) => [word.data, lines(word)]),
]);
"""


@pytest.mark.parametrize("folder", ["", "long"])
def test_names_in_tables_are_broken_only_where_they_are_long(browser, page, folder):
    show(browser, page[0].parent / folder / "report.html", WIDTHS["phone"])
    names = browser.execute_script(_NAMES)
    assert all(lines == 1 for _, words in names for text, lines in words if len(text) < 15)  # no word is broken
    assert all(len(words) == 1 or sum(len(text) for text, _ in words) > 15 for _, words in names)
    assert max(width for width, _ in names) < 180


_ORDER = """
const all = (selector) => [...document.querySelectorAll(selector)];
return {
  levels: all("h1, h2, h3, h4").map((heading) => +heading.tagName[1]),
  unnamed: all("th:not([scope]), img:not([alt]), img[alt='']").length,
  regions: all("[role=region]:not([aria-label]):not([aria-labelledby])").length,
  drawn: all(".bar, .track, .columns").map((element) => element.innerText.trim()),
  ids: all("[id]").map((element) => element.id),
  told: all("[aria-labelledby]").map((element) => element.getAttribute("aria-labelledby")),
  linked: all(".contents a").map((link) => link.href.split("#")[1]),
};
"""


@pytest.mark.parametrize("name", every_other(PAGES))
def test_a_page_is_in_order_for_who_hears_it(browser, page, name):
    show(browser, page[0].with_name(f"{name}.html"), WIDTHS["desktop"])
    order = browser.execute_script(_ORDER)
    assert order["levels"].count(1) == 1
    assert order["levels"][0] == 1
    assert max(np.diff(order["levels"])) == 1  # no level is left out
    assert (order["unnamed"], order["regions"]) == (0, 0)
    assert not any(order["drawn"])  # no text is over what is drawn
    ids = order["ids"]
    assert len(ids) == len({*ids})
    assert {*order["told"], *order["linked"]} <= {*ids}


@pytest.mark.parametrize("name", every_other(PAGES))
def test_a_printed_page_has_all_but_what_is_clicked(browser, page, name):
    show(browser, page[0].with_name(f"{name}.html"), _PAPER)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script("return document.documentElement.scrollWidth") <= _PAPER
    clicked, read = browser.execute_script(
        f"{_SEEN} return [all('nav, form, details').map(isSeen), all('img, figure').map(isSeen)]"
    )
    assert not any(clicked)
    assert all(read)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_page_leads_to_the_others_of_its_folder(browser, page):
    path = page[0]
    show(browser, path.with_name("review.html"), WIDTHS["phone"])  # which was written last
    links = browser.find_elements(By.CSS_SELECTOR, "nav.links a")
    assert {link.get_attribute("href") for link in links} == {
        path.with_name(f"{name}.html").as_uri() for name in PAGES if name != "review"
    }
    links[0].click()
    assert browser.find_element(By.TAG_NAME, "h1").is_displayed()
    assert browser.current_url.endswith("/diff.html")


def test_who_does_not_see_is_told_what_pictures_show(browser, page):
    path, comparison = page
    show(browser, path, WIDTHS["desktop"])
    told = browser.execute_script("return [...document.images].map((image) => image.alt)")
    assert told
    assert all(told)
    chart = browser.find_element(By.CSS_SELECTOR, "figure[role=img]")
    assert f"agreement {comparison.indexes[1].agreement.value:.4f}" in chart.get_attribute("aria-label")
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
