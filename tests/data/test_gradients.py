"""Histograms of gradients, against plain code that takes one pixel at a time and computes in fractions."""

from fractions import Fraction
from functools import cache
from math import isqrt

import numpy as np
import pytest

from knnvote.data.errors import OptionError
from knnvote.data.steps import gradients
from knnvote.data.steps.chain import parse_steps

CELLS = 7
SHAPES = [(8, 8), (10, 9), (3, 1), (6, 5, 3)]


def pictures(shape):
    """Noise, a faint picture, a line, a stroke and a pixel."""
    made = np.random.default_rng(4).integers(0, 256, (5, *shape), dtype=np.uint8)
    made[1] //= 100
    made[2:] = 0
    made[2, 1] = 255
    made[3, : shape[0] // 2 + 1, : shape[1] // 2 + 1] = 31
    made[4, 0, 0] = 200
    return made


@cache
def weight(pixel, size, cell):
    """How much of a pixel's gradient is in a cell along a side, in sixteenths."""
    away = abs(Fraction(2 * pixel + 1, 2 * size) - Fraction(2 * cell + 1, 2 * CELLS)) * CELLS
    return int(max(Fraction(0), 1 - away) * 16 * CELLS + Fraction(CELLS, 2)) // CELLS if away < 1 else 0


def histogram(image):
    """(392,) of one image, whose pixels are whole numbers."""
    rows, columns = image.shape[:2]
    image = image.reshape(rows, columns, -1).astype(int)
    sums = np.zeros((8, CELLS, CELLS), object)
    for y, x, channel in np.ndindex(image.shape):
        of = image[:, :, channel]
        across = of[y, min(x + 1, columns - 1)] - of[y, max(x - 1, 0)]
        down = of[min(y + 1, rows - 1), x] - of[max(y - 1, 0), x]
        straight = (0 if across > 0 else 4) if abs(across) > abs(down) else (2 if down > 0 else 6)
        slanted = {(1, 1): 1, (-1, 1): 3, (-1, -1): 5, (1, -1): 7}.get((np.sign(across), np.sign(down)))
        for i, j in np.ndindex(CELLS, CELLS):
            share = weight(y, rows, i) * weight(x, columns, j)
            sums[straight, i, j] += 5 * share * abs(abs(across) - abs(down))
            if slanted is not None:
                sums[slanted, i, j] += 7 * share * min(abs(across), abs(down))
    return np.array([min(255, (isqrt(4 * 810_000 * s // sums.sum()) + 1) // 2) for s in sums.ravel()], np.uint8)


def done(images):
    return parse_steps("gradients")(images.reshape(len(images), -1), images.shape[1:])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_histogram_is_what_plain_code_makes_of_it(shape):
    images = pictures(shape)
    vectors, bad = done(images)
    assert (vectors.dtype, bad) == (np.uint8, {})
    assert vectors.tolist() == [histogram(image).tolist() for image in images]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float16, np.float32, np.float64])
def test_neither_the_type_nor_the_range_nor_what_stands_beside_counts(monkeypatch, dtype):
    images = pictures((9, 6))
    vectors, _ = done(images)
    by = dtype(0.125) if np.issubdtype(dtype, np.floating) else dtype(4)
    assert np.array_equal(done(images.astype(dtype) * by)[0], vectors)
    monkeypatch.setattr(gradients, "_BLOCK", 100)  # an image at a time
    assert np.array_equal(done(images)[0], vectors)
    assert parse_steps("gradients").depends_on_scale(in_space=True) is False


@pytest.mark.parametrize("side", [28, 300])
def test_sums_are_exact_in_float32_where_they_are_in_float64(monkeypatch, side):
    images = np.random.default_rng(1).integers(0, 256, (2, side, side), dtype=np.uint8)
    vectors, _ = done(images)
    monkeypatch.setattr(gradients, "_EXACT", 0)
    assert np.array_equal(done(images)[0], vectors)


def test_negative_numbers_have_gradients_too():
    images = pictures((8, 8)).astype(np.int16)
    lower = np.clip(images, 0, 120)
    assert np.array_equal(done(lower - 60)[0][:1], done(lower * 2)[0][:1])


def test_what_has_no_gradient_is_told_and_what_is_no_picture_refused():
    images = np.full((3, 4, 4), 7, np.uint8)
    images[1, 2, 2] = 8
    vectors, bad = done(images)
    assert bad == dict.fromkeys((0, 2), "its pixels are all alike, and have no gradient")
    assert vectors[1].any()
    with pytest.raises(OptionError, match=r"^steps: gradients needs rows and columns"):
        done(np.zeros((2, 384), np.float32))
    with pytest.raises(OptionError, match="deskew needs rows and columns"):
        parse_steps("gradients deskew")(images.reshape(3, -1), (4, 4))
