"""Made sets of labelled images that differ in kind, each drawn anew for every seed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.names import MetricName, Ties, Weights

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
        ties: what breaks those of a vote.
        k: neighbours that vote, where the set is about another number than is asked for.
    """

    make: Make
    metric: MetricName = "l2"
    weights: Weights = "uniform"
    is_regression: bool = False
    ties: Ties = "nearest"
    k: int | None = None


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


def _copies(rng: np.random.Generator, n: int) -> Images:
    """Half are exact copies of few images with labels at random, as icons and forms are; half are new and easy."""
    frequent = rng.normal(size=(max(1, n // 40), 64))
    which, easy = rng.integers(len(frequent), size=n), rng.integers(10, size=n)
    is_copy = rng.random(n) < 0.5
    images = np.where(is_copy[:, None], frequent[which], 8 * np.eye(10, 64)[easy] + rng.normal(size=(n, 64)))
    return images.astype(np.float32), np.where(is_copy, rng.integers(4, size=n), easy)


def _things(rng: np.random.Generator, n: int, *, per_thing: int = 5, noise: float = 0.3) -> Images:
    """A few things, each drawn again and again with noise, and a label that is right three times of four."""
    things = rng.normal(size=(max(1, n // per_thing), 128))
    which = rng.integers(len(things), size=n)
    labels = np.where(rng.random(n) < 0.25, rng.integers(4, size=n), which % 4)
    return (things[which] + noise * rng.normal(size=(n, 128))).astype(np.float32), labels


def _hard_classes(rng: np.random.Generator, n: int) -> Images:
    """Ten classes apart, and one image in twenty of two that lie in each other."""
    labels = np.where(rng.random(n) < 0.05, rng.integers(10, 12, size=n), rng.integers(10, size=n))
    images = 6 * np.eye(12, 96)[np.minimum(labels, 10)] + rng.normal(size=(n, 96))
    images[labels == 11, 20] += 1
    return images.astype(np.float32), labels


def _in_turn(rng: np.random.Generator, n: int) -> Images:
    """Ten classes of unequal spread in turn, as balanced sets are stored."""
    labels = np.arange(n) % 10
    centres = 2 * rng.normal(size=(10, 96)) / np.arange(1, 97) ** 0.5
    images = centres[labels] + rng.normal(size=(n, 96)) / np.arange(1, 97) ** 0.6 * (0.5 + labels[:, None] / 5)
    return images.astype(np.float32), labels


SETS = {
    "strokes": MadeSet(_strokes),
    "strokes, distance weights": MadeSet(_strokes, weights="distance"),
    "clusters, wrong labels": MadeSet(_clusters),
    "clusters, cosine": MadeSet(_clusters, metric="cosine"),
    "100 unequal classes": MadeSet(_unequal),
    "noise": MadeSet(_noise),
    "spots, regression": MadeSet(_spots, is_regression=True),
    "copies, k 5": MadeSet(_copies, k=5),
    "copies, k 25": MadeSet(_copies, k=25),
    "things, k 2, first class": MadeSet(_things, ties="first-class", k=2),
    "things again and again": MadeSet(partial(_things, per_thing=100)),
    "5% hard classes": MadeSet(_hard_classes),
    "classes in turn": MadeSet(_in_turn),
    "clusters, k 1": MadeSet(_clusters, k=1),
    "clusters, k 50": MadeSet(_clusters, k=50),
}
