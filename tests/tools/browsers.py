"""Headless Chromium for tests of pages."""

import shutil
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
WIDTHS = {"phone": 390, "desktop": 1200}
_ALONE = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
# Text whose colour differs too little from what is behind it, by WCAG 2.2 (AA), but that of matplotlib's figures.
PALE = """
const read = (text) => text.match(/[0-9.]+/g).map(Number);
const over = ([r, g, b, a = 1], back) => [r, g, b].map((part, i) => part * a + back[i] * (1 - a));
const papers = new Map();
const behind = (element) => {
  if (!element) return [255, 255, 255];
  if (!papers.has(element)) {
    const colour = read(getComputedStyle(element).backgroundColor);
    papers.set(element, (colour[3] ?? 1) === 1 ? colour : over(colour, behind(element.parentElement)));
  }
  return papers.get(element);
};
const light = (colour) => {
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = colour.map((part) => linear(part / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
};
const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
return [...document.querySelectorAll("body *:not(script)")].filter(hasText).filter((element) => {
  const paper = behind(element), ink = over(read(getComputedStyle(element).color), paper);
  const [a, b] = [light(ink), light(paper)];
  return !element.closest("svg") && Math.max(a, b) / Math.min(a, b) < 4.5;
}).map((element) => element.outerHTML.slice(0, 120));
"""


def start_browser(profile: Path) -> webdriver.Chrome:
    """A browser that keeps nothing but in its profile, and logs what pages say and ask for."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        *_ALONE,
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(str(DRIVER)))
