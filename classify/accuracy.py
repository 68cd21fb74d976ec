"""Predictions against true labels: over all, by class, by band of confidence, and what is taken for what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classify.interval import Interval, share_interval

_BANDS = 10


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """Images of one true label, and the share of them that are predicted to be it."""

    label: Any
    images: int
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class Band:
    """Images whose confidence is from low to high, both included, and the share of them whose label is right."""

    low: float
    high: float
    images: int
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """`counts[i][j]` images of true label `labels[i]` are predicted to be `labels[j]`."""

    labels: list[Any]
    counts: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Predicted classes against true ones, of the images that have a true label.

    Attributes:
        classes: by true label, in class order, labels that the index does not know last.
        confusion: of the same labels.
        confidence: by band, ascending; each value a band of its own where there are no more than ten.
    """

    classes: list[ClassAccuracy]
    confusion: Confusion
    confidence: list[Band]


def has_label(truth: Any) -> bool:
    """Whether a true label is known; numbers that are none are not."""
    return truth is not None and not (isinstance(truth, float) and math.isnan(truth))


def judge(
    predicted: Sequence[Any], truth: Sequence[Any], confidence: NDArray[np.float64], classes: Sequence[Any]
) -> Judgement | None:
    """Judge predictions (nq,) by true labels (nq,); None if no image has one.

    Args:
        predicted: classes.
        truth: labels, None for images without.
        confidence: (nq,) of each prediction.
        classes: of the index, in order.
    """
    places = [place for place, true in enumerate(truth) if has_label(true)]
    if not places:
        return None
    pairs = [(truth[place], predicted[place]) for place in places]
    unknown = sorted({true for true, _ in pairs} - set(classes), key=str)
    labels = [*classes, *unknown]
    code = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, tuple(np.array([[code[true], code[label]] for true, label in pairs]).T), 1)
    is_right = np.array([true == label for true, label in pairs])
    images = counts.sum(axis=1)
    return Judgement(
        classes=[
            ClassAccuracy(label=label, images=int(n), accuracy=share_interval(int(right), int(n)))
            for label, n, right in zip(labels, images, counts.diagonal(), strict=True)
            if n
        ],
        confusion=Confusion(labels=labels, counts=counts.tolist()),
        confidence=_bands(confidence[places], is_right),
    )


def _bands(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> list[Band]:
    values = np.unique(confidence)
    if len(values) > _BANDS:
        band = np.minimum((confidence * _BANDS).astype(np.int64), _BANDS - 1)
        limits = [(i / _BANDS, (i + 1) / _BANDS) for i in range(_BANDS)]
    else:
        band = np.searchsorted(values, confidence)
        limits = [(float(value), float(value)) for value in values]
    images = np.bincount(band, minlength=len(limits))
    right = np.bincount(band, weights=is_right, minlength=len(limits)).astype(np.int64)
    return [
        Band(low=low, high=high, images=int(n), accuracy=share_interval(int(hits), int(n)))
        for (low, high), n, hits in zip(limits, images, right, strict=True)
        if n
    ]
