"""Queries of another scale than the stored images, which are told of once, whatever the batches."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier
from knnvote.classify.scale import Scale
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

DIGITS = load_digits().images
STORED, ASKED = DIGITS[:300], DIGITS[300:400]
TAILS = np.random.default_rng(0).standard_t(3, (400, 8, 8))


def build(tmp_path, images, metric="l2"):
    index_arrays(images, np.arange(len(images)) % 3, tmp_path / "x.knn", options=IndexOptions(metric=metric))
    return open_index(tmp_path / "x.knn")


def unlike(index, images):
    images = images.reshape(-1, 64)
    whole = Scale.of(index, images)
    assert sum((Scale.of(index, part) for part in np.array_split(images, 7)), Scale()) == whole
    return whole.unlike(index)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (STORED / 16, ASKED),
        (STORED, ASKED / 16),
        (STORED / 16, (ASKED * 15).astype(np.uint8)),
        (STORED * 15, (ASKED * 15).astype(np.uint8).astype(np.int8)),  # beyond 127 it wraps
        (STORED / 8 - 1, ASKED),
    ],
)
def test_images_of_another_scale_are_told_with_both_ranges(tmp_path, stored, asked):
    told = unlike(build(tmp_path, stored), asked)
    ends = (asked.min(), asked.max(), stored.min(), stored.max())
    low, high, *of_stored = (f"{end:g}" for end in ends)
    assert f"of 100 images are of another scale than the stored ones: the images range from {low} to {high}" in told
    assert f"the stored ones from {of_stored[0]} to {of_stored[1]}, and nothing is rescaled" in told


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (STORED, ASKED),
        (STORED, ASKED * 1.2),
        (STORED, np.where(np.arange(100)[:, None, None] < 95, ASKED, 255)),
        (np.where(np.arange(300)[:, None, None], STORED, 1e9), ASKED),  # one stored image is far out
        (TAILS[:200], TAILS[200:]),
        (STORED, np.zeros((100, 8, 8))),
        (STORED, ASKED[:5] / 16),
        (STORED, ASKED[:0]),
    ],
)
def test_images_of_the_stored_scale_are_no_matter_of_talk(tmp_path, stored, asked):
    assert unlike(build(tmp_path, stored), asked) is None


@pytest.mark.parametrize("steps", [(), ("blur",), ("gradients",)])
@pytest.mark.parametrize(("stored", "asked"), [(STORED, 16 - ASKED), (240 - 15 * STORED, 15 * ASKED)])
def test_images_of_the_opposite_ink_are_told_whatever_the_steps(tmp_path, stored, asked, steps):
    index_arrays(stored.astype(np.uint8), np.arange(300) % 3, tmp_path / "x.knn", steps=steps)
    index = open_index(tmp_path / "x.knn")
    kinds = ("light on dark", "dark on light")
    one, other = kinds if asked[0, 0, 0] == 0 else kinds[::-1]
    assert f" of 100 images are {one}, by their corners, and the stored ones {other}, so that" in unlike(index, asked)
    assert unlike(index, asked.max() - asked) is None
    assert unlike(index, asked[:19]) is None
    patches = np.random.default_rng(0).integers(0, asked.max() + 1, (100, 8, 8))
    assert unlike(index, patches) is None


def test_a_direction_has_no_scale(tmp_path):
    assert unlike(build(tmp_path, STORED / 16, "cosine"), ASKED) is None


def test_bad_rows_do_not_count(tmp_path):
    index = build(tmp_path, STORED)
    assert Scale.of(index, ASKED.reshape(100, 64) * 99, dict.fromkeys(range(98), "bad")).rows == 2


def test_a_job_tells_it_once_and_a_comparison_too(invoke, tmp_path):
    build(tmp_path, STORED / 16)
    for name, part in (("a", ASKED[:50]), ("b", ASKED[50:])):
        write_table(image_table(part.astype(np.float32), np.arange(50) % 3), tmp_path / "in" / f"{name}.parquet")
    told = "100 of 100 images are of another scale than the stored ones: the images range from 0 to 16"
    for size in (7, 100):
        done = invoke("classify", "x.knn", "in", "--out", f"out{size}", "--batch-size", size)
        assert (done.code, done.stderr.count("another scale"), done.stderr.count(f"note: {told}")) == (0, 1, 1)
    assert told in " ".join(invoke("compare", "in", "--index", "x.knn").stdout.split())


def test_a_classifier_warns_of_it_where_it_is_called(tmp_path):
    classify = Classifier(build(tmp_path, STORED / 16))
    with pytest.warns(UserWarning, match="30 of 30 images are of another scale") as warned:
        classify(ASKED[:30])
    assert warned[0].filename == __file__


def test_an_estimator_warns_of_it_where_it_predicts():
    fitted = KNNVoteClassifier().fit(STORED.reshape(-1, 64) / 16, np.arange(300) % 3)
    with pytest.warns(UserWarning, match="100 of 100 vectors are of another scale") as warned:
        fitted.predict(ASKED.reshape(-1, 64))
    assert warned[0].filename == __file__
