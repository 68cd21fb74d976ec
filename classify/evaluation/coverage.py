"""Coverage against accuracy: the share of answers above a threshold of confidence, and how many of them are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.interval import share_interval
from knnvote.indexer.rungs import Interval

_FEW = 6
_STEPS = 100  # of a threshold that can be typed


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What is accepted where confidence is at least a threshold, as ``min_confidence`` has it.

    Attributes:
        threshold: of the confidence.
        images: that are accepted.
        coverage: their share of all.
        accuracy: the share of the accepted ones with the right label.
        balanced_accuracy: the mean of such shares over the true labels that accepted ones have; None where true labels
            were not asked for.
    """

    threshold: float
    images: int
    coverage: float
    accuracy: Interval
    balanced_accuracy: float | None = None


def cover(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    thresholds: NDArray[np.float64] | None = None,
    truth: NDArray[np.integer[Any]] | None = None,
) -> list[Coverage]:
    """What each threshold accepts, the lowest first; one that no confidence reaches is left out.

    Args:
        confidence: (nq,) of each answer.
        right: (nq,) whether it is the true label.
        thresholds: by default every confidence that occurs, between which nothing changes.
        truth: (nq,) a number from 0 for each true label, where the balanced accuracy is wanted.
    """
    order = np.argsort(confidence)[::-1]
    limits = np.unique(confidence if thresholds is None else thresholds)
    accepted = len(order) - np.searchsorted(confidence[order[::-1]], limits)
    hits = np.append(0, np.cumsum(right[order]))
    balanced: list[float | None] = [None] * len(limits)
    if truth is not None:
        balanced = _balanced(confidence, right, limits, truth)
    return [
        Coverage(
            threshold=float(limit),
            images=int(images),
            coverage=int(images) / len(order),
            accuracy=share_interval(int(hits[images]), int(images)),
            balanced_accuracy=mean,
        )
        for limit, images, mean in zip(limits, accepted, balanced, strict=True)
        if images
    ]


def _balanced(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    limits: NDArray[np.float64],
    truth: NDArray[np.integer[Any]],
) -> list[float | None]:
    """Of what each limit accepts, ascending (m,), the mean over true labels of the share that is right."""
    reached = np.searchsorted(limits, confidence, side="right")  # so many limits accept it
    shape = (int(truth.max(initial=-1)) + 1, len(limits) + 1)
    cells = truth * shape[1] + reached
    images, hits = (
        np.bincount(cells, weights, minlength=shape[0] * shape[1]).reshape(shape)[:, :0:-1].cumsum(axis=1)[:, ::-1]
        for weights in (None, right)
    )
    there = images > 0
    shares = np.divide(hits, images, out=np.zeros(images.shape), where=there)
    means: list[float | None] = (shares.sum(axis=0) / np.maximum(1, there.sum(axis=0))).tolist()
    return means


def few_thresholds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Six thresholds at most that show how coverage falls, in hundredths, ascending: every share where k is small.

    They are rounded down, so that two of three votes are accepted above the 0.66 that is shown and can be typed.
    """
    values, images = np.unique(confidence, return_counts=True)
    if len(values) > _FEW:
        rejected = np.cumsum(images) - images
        values = values[np.searchsorted(rejected, np.linspace(0, rejected[-1], _FEW))]
    return as_typed(values)


def as_typed(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Confidences in hundredths, which can be typed, rounded down: each once, ascending."""
    steps = np.round(confidence * _STEPS)
    return np.unique(np.where(steps / _STEPS > confidence, steps - 1, steps) / _STEPS)
