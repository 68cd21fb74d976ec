"""Answers and indexes as notebooks show them: what they say, and that nothing in an index can speak as HTML."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import imagecodecs
import numpy as np
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.sample import split_digits
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.records.growth import Growth
from knnvote.indexer.rungs import (
    Acceptance,
    Interval,
    MeasuredLadder,
    MeasuredRung,
    Rung,
    Tuned,
    VoteDefaults,
)

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 200, (40, 3, 4), dtype=np.uint8)


class Shown(HTMLParser):
    """What HTML shows: its text, its pictures with what is told of them, and each tag that is not closed in turn."""

    def __init__(self, html):
        super().__init__()
        self.said, self.pictures, self.told, self.names, self.open = [], [], [], set(), []
        self.feed(html)
        assert self.open == []
        assert not self.names & {"script", "style", "link", "iframe", "object", "svg"}

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.names.add(tag)
        assert not any(name.startswith("on") or name in {"href", "id", "class"} for name in attrs)
        assert "url(" not in attrs.get("style", "")
        if tag == "img":
            kind, png = attrs["src"].split(",")
            assert kind == "data:image/png;base64"
            self.pictures.append(imagecodecs.png_decode(base64.b64decode(png)))
            self.told.append(attrs["alt"])
        elif tag != "br":
            self.open.append(tag)
        self.said.append(" ")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.said.append(" ")

    def handle_data(self, data):
        self.said.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.said)).strip()


def shown(value):
    return Shown(value._repr_html_())


def make(folder, labels, images=IMAGES, **options):
    index_arrays(images, labels, folder / "x.knn", **options)
    return open_index(folder / "x.knn")


def test_an_answer_shows_labels_votes_and_the_neighbours_with_their_pictures(exact_index):
    images = split_digits().test_images[:80].astype(float)
    images[1] = np.nan
    answer = Classifier.open(exact_index, Rule(k=4, max_distance=14))(images)
    index, page = answer.index, shown(answer)
    assert page.text.startswith(repr(answer)[1:-1])
    assert "and 75 more: " in page.text
    assert {"ok", "abstained", "bad_image"} == set(answer.status[:5])
    assert f" 1 bad image {answer.reason[1]} 2 " in page.text
    pictures, told = iter(page.pictures), iter(page.told)
    for row in (0, 2, 3, 4):
        start = f" {row} " if answer.status[row] == "ok" else f" {row} abstained : {answer.reason[row]} best guess "
        lines = [f"{answer.confidence[row]:.0%} {answer.best[row]} "]
        voters = [f"{index.labels[i]} at {d:.4g}" for i, d in zip(answer.I[row], answer.D[row], strict=True)]
        assert f"{start}{answer.best[row]} {lines[0]}" in page.text
        assert " ".join(voters) in page.text
        for i in answer.I[row]:
            assert next(told) == f"a stored {index.labels[i]}"
            np.testing.assert_array_equal(next(pictures), np.rint(index.picture(i) * (255 / 16)))
    assert list(pictures) == []


def test_labels_cannot_speak_as_html(tmp_path):
    labels = np.array(["<script>alert(1)</script>", '"><img src=x onerror=y>', "&amp;", "x" * 500])[np.arange(40) % 4]
    index = make(tmp_path, labels)
    for value in (index, Classifier(index, Rule(k=3))(IMAGES[:9])):
        page = shown(value)
        assert "<script>alert(1)</script>" in page.text
        assert '"><img src=x onerror=y>' in page.text
        assert f"{'x' * 59}… " in page.text
        assert 'a stored "><img src=x onerror=y>' in page.told


@pytest.mark.parametrize("named", [["one", "two", "three"], None])
def test_what_is_no_picture_is_text_and_long_votes_are_cut(tmp_path, named):
    index = make(tmp_path, np.arange(40) % 3, IMAGES.reshape(40, 12).astype(np.float32) - 99.5)
    index = replace(index, manifest=replace(index.manifest, class_names=named))
    page = shown(Classifier(index, Rule(k=14))(index.vectors[:1]))
    assert page.pictures == []
    assert re.search(r"^Answer to 1 image by \S+: 1 ok 0 \d", page.text)
    assert f" {'0 (one)' if named else '0'} at 0, row 0 " in page.text
    assert page.text.endswith("and 4 more neighbours")
    of_index = shown(index)
    assert of_index.pictures == []
    assert "images 40 of 12 values, float32 from -99.5 to " in of_index.text


def test_a_regression_shows_numbers(tmp_path):
    index = make(tmp_path, np.arange(40) / 8, is_regression=True)
    page = shown(Classifier(index, Rule(k=2))(IMAGES[:2]))
    assert "0 at 0 " in page.text
    assert "%" not in page.text
    assert len(page.pictures) == 4
    of_index = shown(index)
    assert "labels numbers from 0 to 4.875 0 0.125 0.25" in of_index.text
    assert len(of_index.pictures) == 12


def test_no_images_are_shown_as_none(tmp_path):
    answer = Classifier(make(tmp_path, np.arange(40) % 3), Rule(k=2))(IMAGES[:0])
    assert shown(answer).text == repr(answer)[1:-1]


def test_an_index_shows_its_classes_each_with_an_image(tmp_path):
    labels = np.array([f"class {number}" for number in np.arange(40) % 15])
    index = make(tmp_path, labels, sample_weight=np.arange(1, 41.0), steps=("unit",))
    page = shown(index)
    assert page.text.startswith(f"Index {index.path} images 40 of 3 x 4, uint8 from ")
    assert (
        " vectors 12 dimensions, float32, by the steps unit search exact, by l2 classes 15 class 0 3 images "
        in page.text
    )
    assert page.text.endswith(" and 3 more classes")
    assert page.told == [f"a stored {label}" for label in sorted(set(labels))[:12]]
    assert len(page.pictures) == 12
    assert shown(Classifier(index, Rule(k=1))(IMAGES[:1])).text.endswith("class 0 at 0, weight 1")


def test_an_answer_of_an_adaptive_index_is_shown_without_another_search(adaptive_index):
    def search_again():
        raise AssertionError

    answer = Classifier.open(adaptive_index)(split_digits().test_images[:9])
    assert shown(replace(answer, again=search_again)).text == shown(answer).text


def test_an_index_shows_what_it_promises_and_on_what_that_was_measured(adaptive_index):
    index = open_index(adaptive_index)
    assert "promise none was asked for" in shown(index).text
    share = Interval(value=0.9987, low=0.9976, high=0.9995)
    ladder = MeasuredLadder(rungs=(MeasuredRung(Rung(4, 3), 1.0, 0.9987),), agreement=share, reached=True)
    tuned = Tuned(
        k=5, weights="uniform", target_agreement=0.99, tolerance=None, queries=1300, label=ladder, confidence=ladder
    )
    accepted = Acceptance(target_accuracy=0.99, min_confidence=0.6, coverage=0.9, accuracy=share, images=1347)
    promising = replace(
        index.manifest,
        search=replace(index.manifest.search, tuned=tuned),
        vote=VoteDefaults(acceptance=accepted),
        growth=Growth(built=1347, added=5, measured=1347, changed=5),
    )
    text = shown(replace(index, manifest=promising)).text
    assert "0.9987 of the labels are exact search's, of a 95% interval from 0.9976: measured on 1,300 stored" in text
    assert "from confidence 0.6 on 0.9987 of the answers are right, of a 95% interval from 0.9976: 90.0% of" in text
    assert text.count("measured on 1,347 images; since then 5 came or went") == 2
    exact = replace(tuned, label=replace(ladder, reached=False))
    promising = replace(promising, search=replace(promising.search, tuned=exact))
    assert "exact search alone answers promise from confidence" in shown(replace(index, manifest=promising)).text
