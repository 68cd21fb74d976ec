"""The page of the service in headless Chromium: drawn on by real pointer events, fingers and keys."""

import json
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="serving needs the extra serve")

from browsers import CHROMIUM, DRIVER, PALE, WIDTHS, start_browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from services import png, running, service

from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.pages.suspects import write_suspects
from knnvote.classify.vote import Rule
from knnvote.data.sample import drawn_one
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Chromium is not installed: apt-get install chromium chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def addresses(exact_index, tmp_path_factory):
    """Services of the digits with pages beside them, of the digits with a limit of distance, and of vectors."""
    folder, pages = tmp_path_factory.mktemp("vectors"), tmp_path_factory.mktemp("pages")
    index = open_index(exact_index)
    for name in ("one", "two & three"):
        write_suspects(pages / f"{name}.html", find_suspects(index), index, 3)
    index_arrays(np.random.default_rng(1).normal(size=(30, 12)), np.arange(30) % 3, folder / "x.knn")

    def limited():
        return Classifier.open(exact_index, Rule(max_distance=8))

    with ExitStack() as stack:
        found = {
            name: stack.enter_context(running(service(opened, pages=pages if name == "digits" else None))).address
            for name, opened in (("digits", exact_index), ("limited", limited), ("vectors", folder / "x.knn"))
        }
        yield SimpleNamespace(**found)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def show(browser, address, width="desktop", scheme="light"):
    size = {"width": WIDTHS[width], "height": 900, "deviceScaleFactor": 1, "mobile": width == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    prefer(browser, scheme)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(address)


def prefer(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def draw(browser, *strokes, kind="mouse"):
    """Draw strokes of points, each from 0 to 1 of the pad."""
    pad = browser.find_element(By.CSS_SELECTOR, "canvas.pad")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    box = browser.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width, b.height]", pad
    )
    for stroke in strokes:
        actions = ActionBuilder(browser, mouse=PointerInput(kind, f"pen of {kind}"), duration=5)
        points = [(round(box[0] + x * box[2]), round(box[1] + y * box[3])) for x, y in stroke]
        actions.pointer_action.move_to_location(*points[0])
        actions.pointer_action.pointer_down()
        for point in points[1:]:
            actions.pointer_action.move_to_location(*point)
        actions.pointer_action.pointer_up()
        actions.perform()


def told(browser, words):
    """Wait until the page says something that begins so."""
    status = browser.find_element(By.CSS_SELECTOR, "p.told")
    WebDriverWait(browser, 10, 0.02).until(lambda _: status.text.startswith(words), f"it says {status.text!r}")
    return status.text


def circle(middle, radius, points=12):
    turns = np.linspace(0, 2 * np.pi, points + 1)
    return [(middle[0] + radius[0] * np.sin(turn), middle[1] - radius[1] * np.cos(turn)) for turn in turns]


ONE = [(0.4, 0.3), (0.52, 0.18), (0.52, 0.8)]


@pytest.mark.parametrize(("width", "kind", "scheme"), [("desktop", "mouse", "light"), ("phone", "touch", "dark")])
def test_a_drawn_one_is_recognised_while_it_is_drawn(browser, addresses, width, kind, scheme):
    show(browser, addresses.digits, width, scheme)
    draw(browser, ONE, kind=kind)
    assert told(browser, "1, with ").endswith("% of the vote")
    label = browser.find_element(By.CSS_SELECTOR, "p.label")  # answers to what was drawn before may come in between
    WebDriverWait(browser, 10, 0.02).until(lambda _: label.text == "1")
    assert len(browser.find_elements(By.CSS_SELECTOR, "ul.voters li")) == 5
    pictures = "return [...document.querySelectorAll('ul.voters img, .seen')].map((picture) => picture.naturalWidth)"
    assert browser.execute_script(pictures) == [8] * 6
    bars = browser.find_elements(By.CSS_SELECTOR, ".votes .bar")
    assert bars[0].rect["width"] > 20
    for preferred in ("light", "dark"):
        prefer(browser, preferred)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= WIDTHS[width]
        assert browser.execute_script(PALE) == []
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith("data:")} == {addresses.digits, f"{addresses.digits}drawing"}


@pytest.mark.long
def test_small_and_large_drawings_anywhere_are_recognised(browser, addresses):
    show(browser, addresses.digits)
    for label, strokes in {
        "0": [circle((0.5, 0.5), (0.25, 0.4))],
        "1": [[(0.1, 0.12), (0.15, 0.05), (0.15, 0.35)]],
        "7": [[(0.55, 0.5), (0.9, 0.5), (0.7, 0.95)], [(0.6, 0.72), (0.85, 0.72)]],
    }.items():
        draw(browser, *strokes)
        assert told(browser, f"{label}, with")
        browser.find_element(By.CSS_SELECTOR, ".clear").click()
        told(browser, "Nothing is drawn yet.")


def test_who_has_only_keys_draws_too(browser, addresses):
    show(browser, addresses.digits)
    pad = browser.find_element(By.CSS_SELECTOR, "canvas.pad")
    for _ in browser.find_elements(By.CSS_SELECTOR, "nav a, canvas"):  # links come first
        ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element == pad
    pad.send_keys(*[Keys.ARROW_UP] * 8, Keys.SPACE, *[Keys.ARROW_DOWN] * 16, Keys.SPACE)
    told(browser, "1, with ")
    pad.send_keys(Keys.SPACE, *[Keys.ARROW_RIGHT] * 9)
    pad.send_keys(Keys.BACKSPACE)
    told(browser, "1, with ")
    pad.send_keys(Keys.ESCAPE)
    told(browser, "Nothing is drawn yet.")


def test_a_chosen_picture_is_answered(browser, addresses, tmp_path):
    show(browser, addresses.digits)
    (tmp_path / "one.png").write_bytes(png(255 - np.kron(drawn_one(), np.full((9, 9), 15))))  # dark on light
    browser.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(tmp_path / "one.png"))
    told(browser, "1, with ")
    (tmp_path / "text.png").write_text("no picture")
    browser.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(tmp_path / "text.png"))
    told(browser, "not PNG, JPEG")


def test_a_dropped_picture_is_answered(browser, addresses, tmp_path):
    """As a desktop drops a file: entering, over and let go, with the browser's own DataTransfer."""
    show(browser, addresses.digits)
    (tmp_path / "one.png").write_bytes(png(255 - np.kron(drawn_one(), np.full((9, 9), 15))))
    drop(browser, {"items": [], "files": [str(tmp_path / "one.png")]})
    told(browser, "1, with ")
    draw(browser, *([(0.1, y), (0.9, y)] for y in (0.1, 0.9)))  # which takes the picture's place
    drop(browser, {"items": [{"mimeType": "text/plain", "data": "words"}], "files": []})
    told(browser, "What was dropped is no file")


def drop(browser, data):
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 200, "y": 300, "data": {**data, "dragOperationsMask": 1}}
        browser.execute_cdp_cmd("Input.dispatchDragEvent", event)
        is_over = "over" in browser.find_element(By.CSS_SELECTOR, "canvas.pad").get_attribute("class").split()
        assert is_over == (kind == "dragOver")


def test_what_is_seen_is_heard_once_it_lasts(browser, addresses):
    show(browser, addresses.digits)
    # Nothing lasts until the test says so.
    browser.execute_script("window.setTimeout = (said) => { window.lasting = said; return 1; };")
    draw(browser, ONE)
    told(browser, "1, with ")
    heard = browser.find_element(By.CSS_SELECTOR, "[role=status]")
    assert heard.get_attribute("textContent") == "Nothing is drawn yet."
    both = "return ['[role=status]', 'p.told'].map((part) => document.querySelector(part).textContent)"
    then, seen = browser.execute_script(f"window.lasting(); {both}")
    assert then == seen
    browser.find_element(By.CSS_SELECTOR, "canvas.pad").send_keys(Keys.SPACE)
    assert heard.get_attribute("textContent") == "The pen is down."


def test_who_hears_the_page_is_told_what_each_part_of_it_is(browser, addresses):
    show(browser, addresses.digits)
    draw(browser, ONE)
    told(browser, "1, with ")
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    heard = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), properties_of(node))
        for node in nodes
        if not node["ignored"]
    ]
    parts = {(role, name) for role, name, _ in heard}
    assert parts >= {
        ("navigation", "Other pages"),
        ("main", ""),
        ("heading", "What is this?"),
        ("region", "Draw"),
        ("application", "Drawing area"),
        ("button", "Undo"),
        ("button", "Clear"),
        ("region", "Answer"),
        ("table", "Share of the vote"),
        ("columnheader", "share of the vote as a bar"),
        ("image", "the drawing as the classifier saw it"),
    }
    assert any(role == "button" and name.startswith("Choose a picture") for role, name, _ in heard)
    (status,) = [properties for role, _, properties in heard if role == "status"]
    assert (status["live"], status["atomic"]) == ("polite", True)
    pictures = [name for role, name, _ in heard if role == "image"]
    assert len(pictures) == 6
    assert all(pictures)
    focusable = [(role, name) for role, name, properties in heard if properties.get("focusable")]
    assert all(name for role, name in focusable if role != "RootWebArea")
    assert not any(role == "StaticText" and name == "?" for role, name, _ in heard)


def properties_of(node):
    return {each["name"]: each["value"].get("value") for each in node.get("properties", ())}


def test_other_pages_are_reached_and_lead_back(browser, addresses):
    show(browser, addresses.digits, "phone")
    assert len(browser.find_elements(By.CSS_SELECTOR, "nav.links a")) == 2
    for _ in range(2):
        browser.find_elements(By.CSS_SELECTOR, "nav.links a")[-1].click()
        assert browser.find_element(By.TAG_NAME, "h1").text.startswith("Suspects of")
    assert browser.current_url == f"{addresses.digits}pages/one.html"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= WIDTHS["phone"]
    assert browser.execute_script(PALE) == []
    assert browser.get_log("browser") == []  # its script and style may run
    assert browser.find_elements(By.CSS_SELECTOR, "form.filter")
    browser.find_elements(By.CSS_SELECTOR, "nav.links a")[0].click()
    assert browser.current_url == addresses.digits
    assert browser.find_element(By.CSS_SELECTOR, "canvas.pad").is_displayed()


def test_what_is_none_of_its_kind_has_no_label(browser, addresses):
    show(browser, addresses.limited)
    draw(browser, *([(0.1, y), (0.9, y)] for y in (0.1, 0.3, 0.5, 0.7, 0.9)))
    assert "the best guess is" in told(browser, "no label: nearest neighbour farther than 8")
    assert "none" in browser.find_element(By.CSS_SELECTOR, "p.label").get_attribute("class")


def test_the_page_of_vectors_says_what_to_do(browser, addresses):
    show(browser, addresses.vectors, "phone", "dark")
    text = browser.find_element(By.TAG_NAME, "main").text
    assert "there is nothing to draw" in text
    assert f"curl {addresses.vectors}v2/models/" in text
    assert browser.execute_script("return document.documentElement.scrollWidth") <= WIDTHS["phone"]
    assert browser.execute_script(PALE) == []
    assert browser.get_log("browser") == []


def test_the_page_is_in_order_for_who_hears_it(browser, addresses):
    show(browser, addresses.digits)
    draw(browser, ONE)
    told(browser, "1, with ")
    levels = [int(heading.tag_name[1]) for heading in browser.find_elements(By.CSS_SELECTOR, "h1, h2, h3, h4")]
    assert (levels.count(1), levels[0], max(np.diff(levels))) == (1, 1, 1)
    assert browser.find_elements(By.CSS_SELECTOR, "th:not([scope]), img:not([alt]), img[alt='']") == []
    names = browser.find_elements(By.CSS_SELECTOR, "canvas, button, input")
    assert all(element.accessible_name for element in names)
    pad = browser.find_element(By.CSS_SELECTOR, "canvas.pad")
    assert "arrows move the pen" in browser.find_element(By.ID, pad.get_attribute("aria-describedby")).text
