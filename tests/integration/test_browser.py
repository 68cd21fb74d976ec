"""Pages in headless Chromium: real clicks, at the widths of a phone and a desktop, light and dark."""

import json

import numpy as np
import pyarrow as pa
import pytest
from browsers import CHROMIUM, DRIVER, PALE, WIDTHS, start_browser
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

IMAGES = np.random.default_rng(5).integers(0, 256, (600, 10, 10), dtype=np.uint8)
CODES = IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64
PAGES = ("report", "suspects", "job", "diff", "explanation", "review")
_PAPER = 718  # of A4 without margins of 1 cm

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is not installed: apt-get install chromium chromium-driver"
)


def write_pages(folder, labels):
    """The pages of a comparison in which labels differ, of suspects, of a job and of two; what was compared."""
    rough = IndexOptions(kind="factory", factory="IVF12,Flat")
    index_arrays(IMAGES[:500], labels[:500], folder / "exact.knn")
    index_arrays(IMAGES[:500], labels[:500], folder / "rough.knn", options=rough)
    write_table(image_table(IMAGES[500:], pa.array(labels[500:])), folder / "test.parquet")
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
    write_diff(folder / "diff.html", diff_jobs(job, other))
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


def show(browser, path, width, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what was told before is read away
    browser.get(path.as_uri())


# Ticks of an axis that are seen and meet the one before.
_MEETING = """
const boxes = (axis) =>
  [...axis.querySelectorAll("span")].map((tick) => tick.getBoundingClientRect()).filter((box) => box.width);
return [...document.querySelectorAll(".axis, .values")].flatMap((axis) =>
  boxes(axis).filter((box, i, all) => i && box.left < all[i - 1].right + 2).map(() => axis.outerHTML));
"""


def ink_and_paper(browser):
    """Mean brightness of the colours of text and page."""
    script = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    return [np.mean([int(part) for part in found[4:-1].split(",")]) for found in browser.execute_script(script)]


@pytest.mark.parametrize("name", [f"{folder}{name}.html" for folder in ("", "long/") for name in PAGES])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_page_fits_is_readable_and_asks_for_nothing(browser, page, name, width, scheme):
    path = page[0].parent / name
    show(browser, path, width, scheme)
    ink, paper = ink_and_paper(browser)
    assert ink - paper > 150 if scheme == "dark" else paper - ink > 150
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(PALE) == []
    assert browser.execute_script(_MEETING) == []
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
    voters = first.find_elements(By.CSS_SELECTOR, "ul.voters li")
    assert [voter.is_displayed() for voter in voters] == [True] * 10
    assert f"row {told.row}: {told.label}, exact search says {told.exact}, true label {told.truth}" in first.text
    drawn = first.find_elements(By.TAG_NAME, "img")
    assert len(drawn) == 11
    assert all(browser.execute_script("return arguments[0].naturalWidth", image) == 10 for image in drawn)


def test_a_list_is_filtered_by_what_is_typed_and_by_kind(browser, page):
    path, comparison = page
    show(browser, path, WIDTHS["desktop"])
    flips = browser.find_elements(By.CSS_SELECTOR, "li.flip")
    form = browser.find_element(By.CSS_SELECTOR, "form.filter")
    wanted = f"row {comparison.indexes[1].flips[0].row}:"
    form.find_element(By.TAG_NAME, "input").send_keys(wanted)
    assert [flip.is_displayed() for flip in flips] == [wanted in flip.get_attribute("textContent") for flip in flips]
    assert form.find_element(By.TAG_NAME, "output").text == f"1 of {len(flips)} shown"
    form.find_element(By.TAG_NAME, "input").clear()
    worse = [flip for flip in flips if flip.get_attribute("data-kind") == "for the worse"]
    assert 0 < len(worse) < len(flips)
    Select(form.find_element(By.TAG_NAME, "select")).select_by_visible_text("for the worse")
    assert [flip for flip in flips if flip.is_displayed()] == worse


def test_a_table_is_sorted_by_a_click_on_a_head(browser, page):
    show(browser, page[0], WIDTHS["desktop"])
    table = browser.find_element(By.CSS_SELECTOR, "table.classes")
    head = table.find_elements(By.CSS_SELECTOR, "thead th")[2]
    for order, is_down in (("descending", True), ("ascending", False)):
        head.find_element(By.TAG_NAME, "button").click()
        images = [int(row.text) for row in table.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(3)")]
        assert images == sorted(images, reverse=is_down)
        assert head.get_attribute("aria-sort") == order


def test_what_a_row_says_stands_beside_its_picture(browser, page):
    show(browser, page[0].parent / "long" / "suspects.html", WIDTHS["phone"])
    for card in browser.find_elements(By.CSS_SELECTOR, "li.suspect .answer"):
        picture, text = (card.find_element(By.TAG_NAME, tag).rect for tag in ("img", "div"))
        assert text["height"] > picture["height"]
        assert text["x"] >= picture["x"] + picture["width"]


@pytest.mark.parametrize("folder", ["", "long"])
def test_names_in_tables_are_broken_only_where_they_are_long(browser, page, folder):
    show(browser, page[0].parent / folder / "report.html", WIDTHS["phone"])
    names = [name.rect for name in browser.find_elements(By.CSS_SELECTOR, "table:not(.matrix) bdi")]
    line = min(name["height"] for name in names)
    assert all(name["height"] == line or name["width"] > 200 for name in names)
    assert max(name["width"] for name in names) < 250


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_in_order_for_who_hears_it(browser, page, name):
    show(browser, page[0].with_name(f"{name}.html"), WIDTHS["desktop"])
    levels = [int(heading.tag_name[1]) for heading in browser.find_elements(By.CSS_SELECTOR, "h1, h2, h3, h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1  # no level is left out
    assert browser.find_elements(By.CSS_SELECTOR, "th:not([scope]), img:not([alt]), img[alt='']") == []
    assert browser.find_elements(By.CSS_SELECTOR, "[role=region]:not([aria-label]):not([aria-labelledby])") == []
    drawn = browser.find_elements(By.CSS_SELECTOR, ".bar, .track, .columns")
    assert not any(element.text for element in drawn)  # no text is over what is drawn
    ids = [element.get_attribute("id") for element in browser.find_elements(By.CSS_SELECTOR, "[id]")]
    assert len(ids) == len({*ids})
    told = browser.find_elements(By.CSS_SELECTOR, "[aria-labelledby]")
    assert {element.get_attribute("aria-labelledby") for element in told} <= {*ids}
    assert {
        link.get_attribute("href").split("#")[1] for link in browser.find_elements(By.CSS_SELECTOR, ".contents a")
    } <= {*ids}


@pytest.mark.parametrize("name", PAGES)
def test_a_printed_page_has_all_but_what_is_clicked(browser, page, name):
    show(browser, page[0].with_name(f"{name}.html"), _PAPER)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script("return document.documentElement.scrollWidth") <= _PAPER
    assert not any(found.is_displayed() for found in browser.find_elements(By.CSS_SELECTOR, "nav, form, details"))
    assert all(found.is_displayed() for found in browser.find_elements(By.CSS_SELECTOR, "img, figure"))
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
    assert all(image.get_attribute("alt") for image in browser.find_elements(By.TAG_NAME, "img"))
    chart = browser.find_element(By.CSS_SELECTOR, "figure[role=img]")
    assert f"agreement {comparison.indexes[1].agreement.value:.4f}" in chart.get_attribute("aria-label")
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
