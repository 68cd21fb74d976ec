"""Made sets of labelled images that differ in kind, each drawn anew for every seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.names import MetricName, Weights

Images = tuple[NDArray[Any], NDArray[Any]]  # (n, *shape) images and (n,) labels
Make = Callable[[np.random.Generator, int], Images]
_SIDE = 16


@dataclass(frozen=True)
class MadeSet:
    """A source of labelled images.

    Attributes:
        make: draws n images with their labels.
        metric: of the index.
        weights: of the vote.
        is_regression: labels are numbers to be averaged.
    """

    make: Make
    metric: MetricName = "l2"
    weights: Weights = "uniform"
    is_regression: bool = False


def _strokes(rng: np.random.Generator, n: int) -> Images:
    """Binary images of 10 classes: six ways each to draw a few strokes, moved by a pixel, a twelfth of bits flipped."""
    drawn = np.zeros((10, 6, _SIDE, _SIDE), dtype=np.uint8)
    for image in drawn.reshape(-1, _SIDE, _SIDE):
        for _ in range(rng.integers(2, 5)):
            (x0, y0), (x1, y1) = rng.uniform(1, _SIDE - 2, size=(2, 2))
            steps = np.linspace(0, 1, 3 * _SIDE)
            rows, columns = np.rint(x0 + (x1 - x0) * steps).astype(int), np.rint(y0 + (y1 - y0) * steps).astype(int)
            image[rows, columns] = image[rows + 1, columns] = 1
    labels, ways = rng.integers(10, size=n), rng.integers(6, size=n)
    images = drawn[labels, ways]
    for i, (down, right) in enumerate(rng.integers(-1, 2, size=(n, 2))):
        images[i] = np.roll(images[i], (down, right), axis=(0, 1))
    return images ^ (rng.random(images.shape) < 1 / 12), labels


def _clusters(rng: np.random.Generator, n: int) -> Images:
    """Embeddings in 40 Gaussian clusters of 10 classes, long in few directions; a fifth of the labels is at random."""
    d, clusters = 256, 40
    centres = rng.normal(size=(clusters, d)) / np.arange(1, d + 1) ** 0.5
    which = rng.integers(clusters, size=n)
    images = centres[which] + rng.normal(size=(n, d)) / np.arange(1, d + 1) ** 0.7
    labels = np.where(rng.random(n) < 0.2, rng.integers(10, size=n), which % 10)
    return images.astype(np.float32), labels


def _unequal(rng: np.random.Generator, n: int) -> Images:
    """Grey images of 100 classes, the largest of two fifths of them, the smallest of one in 2,000."""
    side, classes = 12, 100
    shares = 1 / np.arange(1, classes + 1) ** 1.4
    labels = rng.choice(classes, size=n, p=shares / shares.sum())
    coarse = rng.normal(size=(classes, 4, 4)).repeat(3, axis=1).repeat(3, axis=2)
    changes = rng.normal(size=(12, side, side)).cumsum(axis=1).cumsum(axis=2) / side  # of all classes alike
    images = 50 * coarse[labels] + 20 * np.tensordot(rng.normal(size=(n, 12)), changes, axes=1)
    images += rng.normal(scale=20, size=images.shape)
    return np.rint(images + 128).clip(0, 255).astype(np.uint8), labels


def _noise(rng: np.random.Generator, n: int) -> Images:
    """Uniform noise; its label depends on a few of 128 numbers, weakly."""
    images = rng.random((n, 128), dtype=np.float32)
    score = images[:, :16].sum(axis=1) + rng.normal(scale=1, size=n)
    return images, np.digitize(score, [7.2, 8, 8.8])


def _spots(rng: np.random.Generator, n: int) -> Images:
    """Grey images of a spot; the number to tell is smooth in its place and width, and noisy."""
    x, y, width = rng.uniform(3, 12, size=n), rng.uniform(3, 12, size=n), rng.uniform(1.5, 4, size=n)
    axis = np.arange(_SIDE)
    squared = (axis - x[:, None])[:, :, None] ** 2 + ((axis - y[:, None]) ** 2)[:, None, :]
    images = 220 * np.exp(-squared / (2 * width**2)[:, None, None]) + rng.normal(scale=8, size=squared.shape)
    target = np.sin(x / 3) + np.cos(y / 2) * width / 3 + rng.normal(scale=0.1, size=n)
    return np.rint(images + 16).clip(0, 255).astype(np.uint8), target


SETS = {
    "strokes": MadeSet(_strokes),
    "strokes, distance weights": MadeSet(_strokes, weights="distance"),
    "clusters, wrong labels": MadeSet(_clusters),
    "clusters, cosine": MadeSet(_clusters, metric="cosine"),
    "100 unequal classes": MadeSet(_unequal),
    "noise": MadeSet(_noise),
    "spots, regression": MadeSet(_spots, is_regression=True),
}
