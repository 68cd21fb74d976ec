"""The step between an image and its vector: text to object and back, and the one place where it is applied."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data import steps
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.steps import Pixels, Step, parse_step
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.arrays.labelled import training_set_from_arrays
from knnvote.indexer.build import IndexOptions, build_in_memory
from knnvote.indexer.training import TrainingOptions, read_training_set

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 6), np.uint8)
LABELS = np.arange(60) % 3


def test_a_step_is_its_text():
    assert parse_step("pixels") == Pixels()
    assert str(parse_step("pixels")) == "pixels"


@pytest.mark.parametrize("text", ["", "pixel", "pixels[]", "pixels[8]", "pixels]", "Pixels", "pixels ", "pixels[8"])
def test_what_is_no_step_is_refused(text):
    with pytest.raises(KnnvoteError, match="is no step between image and vector: expected one of pixels"):
        parse_step(text)


def test_pixels_are_taken_row_by_row_without_a_copy():
    flat = IMAGES.reshape(60, 24)
    for images in (IMAGES, flat):
        vectors = Pixels()(images, (4, 6))
        np.testing.assert_array_equal(vectors, flat)
        assert np.shares_memory(vectors, images)
    assert Pixels()(np.zeros((0, 24)), (4, 6)).shape == (0, 24)
    assert (Pixels().d((4, 6)), Pixels().d((7,)), Pixels().d(())) == (24, 7, 0)


def test_pixels_show_a_picture_where_images_have_height_and_width_alone():
    np.testing.assert_array_equal(Pixels().picture(np.arange(6), (2, 3)), [[0, 1, 2], [3, 4, 5]])
    assert Pixels().picture(np.arange(6), (6,)) is None
    assert Pixels().picture(np.arange(12), (2, 3, 2)) is None


@dataclass(frozen=True)
class Blocks(Step):
    """A step that knnvote does not take: means of blocks of so many rows."""

    name = "blocks"
    rows: int

    def __str__(self):
        return f"blocks[{self.rows}]"

    @classmethod
    def read(cls, settings):
        return cls(int(settings))

    def d(self, shape):
        return shape[0] // self.rows * shape[1]

    def __call__(self, pixels, shape):
        means = pixels.reshape(len(pixels), -1, self.rows, shape[1]).mean(axis=2)
        return means.reshape(len(pixels), self.d(shape))


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.setitem(steps._STEPS, "blocks", Blocks)
    return Blocks(2)


def test_a_further_step_is_a_class_and_a_row_of_a_table(blocks, tmp_path):
    """Files that are added to an index, and queries of every form, become vectors by the step that the index names."""
    assert parse_step("blocks[2]") == blocks
    means = blocks(IMAGES, (4, 6))
    assert means.shape == (60, 12)
    stored = replace(training_set_from_arrays(means[:40], LABELS[:40]), shape=(4, 6), step=blocks)
    write_table(image_table(IMAGES[40:], LABELS[40:]), tmp_path / "x.parquet")
    inputs = find_inputs([str(tmp_path / "x.parquet")])
    examples = read_training_set(inputs, TrainingOptions(), stored=stored)
    np.testing.assert_array_equal(examples.vectors, means[40:])
    examples = replace(examples, vectors=means)
    index, _ = build_in_memory(examples, Path("mine"), IndexOptions(), None, start=time.perf_counter())
    assert (index.manifest.step, index.step, index.shape, index.d) == ("blocks[2]", blocks, (4, 6), 12)
    answer = Classifier(index, Rule(k=1))(image_table(IMAGES))
    assert answer.I[:, 0].tolist() == list(range(60))
    assert answer.D.max() == 0
    assert index.picture(index.vectors[0]) is None
