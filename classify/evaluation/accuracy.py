"""Predictions against true labels: over all, by class, by band of confidence, and what is taken for what."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.answer import Answer
from knnvote.classify.interval import share_interval
from knnvote.indexer.rungs import Interval

from .coverage import Coverage, cover, few_thresholds

_BANDS = 10
_TOP = 5


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """Images of one true label, and the share of them that are predicted to be it."""

    label: Any
    images: int
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class Band:
    """Images whose confidence is from low to below high, in the last band to high, and the share with the right label.

    Where low is high, they have that very confidence.
    """

    low: float
    high: float
    images: int
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """So many images of one true label that are predicted to have one label, the same or another."""

    truth: Any
    label: Any
    images: int


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Predicted classes against true ones, of the images that have a true label.

    Attributes:
        balanced_accuracy: the mean of the accuracies of the true labels, each of which counts the same however many
            images it has, as scikit-learn has it.
        classes: by true label, in class order, labels that the index does not know last.
        confusion: by true label and then by predicted one, in the same order; what never occurs is left out.
        confidence: by band, ascending; each value a band of its own where there are no more than ten.
    """

    balanced_accuracy: float
    classes: list[ClassAccuracy]
    confusion: list[Confusion]
    confidence: list[Band]

    @property
    def worst_classes(self) -> list[ClassAccuracy]:
        """Classes with a wrong prediction, from that of the lowest upper end: a class of few images may be unlucky."""
        some_wrong = (of_class for of_class in self.classes if of_class.accuracy.value < 1)
        return sorted(some_wrong, key=lambda of_class: (of_class.accuracy.high, of_class.accuracy.value))

    @property
    def commonest_confusions(self) -> list[tuple[Confusion, float]]:
        """Wrong predictions, the commonest first and then those of the smallest class, each with its share of that."""
        images = {of_class.label: of_class.images for of_class in self.classes}
        shares = [(pair, pair.images / images[pair.truth]) for pair in self.confusion if pair.truth != pair.label]
        return sorted(shares, key=lambda shared: (-shared[0].images, -shared[1]))


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
    places = [place for place, true in enumerate(truth) if true is not None]
    if not places:
        return None
    pairs = [(truth[place], predicted[place]) for place in places]
    bands = _bands(confidence[places], np.array([true == label for true, label in pairs]))
    return judge_counts(Counter(pairs), classes, bands)


def judge_counts(pairs: Counter[tuple[Any, Any]], classes: Sequence[Any], bands: list[Band]) -> Judgement:
    """Judge pairs of a true label and a predicted one that are counted already.

    Args:
        pairs: how many images have each.
        classes: of the index, in order.
        bands: of their confidence.
    """
    unknown = sorted({true for true, _ in pairs} - set(classes), key=str)
    order = {label: i for i, label in enumerate([*classes, *unknown])}
    images, right = Counter[Any](), Counter[Any]()
    for (true, label), n in pairs.items():
        images[true] += n
        right[true] += n * (true == label)
    by_class = [
        ClassAccuracy(label=true, images=images[true], accuracy=share_interval(right[true], images[true]))
        for true in sorted(images, key=order.__getitem__)
    ]
    return Judgement(
        balanced_accuracy=fmean(of_class.accuracy.value for of_class in by_class),
        classes=by_class,
        confusion=[
            Confusion(truth=true, label=label, images=n)
            for (true, label), n in sorted(pairs.items(), key=lambda counted: [order[label] for label in counted[0]])
        ],
        confidence=bands,
    )


def right_predictions(answer: Answer, truth: Sequence[Any]) -> NDArray[np.bool_]:
    """Which predictions (nq,) are the true label; none is of an image without one."""
    pairs = zip(answer.prediction.to_pylist(), truth, strict=True)
    return np.array([true is not None and label == true for label, true in pairs])


def score_classes(answer: Answer, truth: list[Any]) -> dict[str, Any]:
    """What a report says of classes against true labels."""
    labelled, right = len(truth) - truth.count(None), int(right_predictions(answer, truth).sum())
    interval = share_interval(right, labelled) if labelled else None
    return {
        "accuracy": None if interval is None else interval.value,
        "accuracy_interval": interval,
        "top5_accuracy": _top_accuracy(answer.of_confidences, truth),
        "mean_absolute_error": None,
        "judgement": judge(answer.prediction.to_pylist(), truth, answer.confidence, answer.index.classes.to_pylist()),
        "coverage": _coverage(answer.of_confidences, truth) if labelled else [],
    }


def _top_accuracy(answer: Answer, truth: list[Any]) -> Interval | None:
    """How often the true label is among the best classes of those that have votes; None where these are most of all."""
    labelled = [place for place, true in enumerate(truth) if true is not None]
    if not labelled or len(answer.index.classes) <= _TOP:
        return None
    best = answer.top(_TOP)["top"].to_pylist()
    return share_interval(sum(truth[place] in best[place] for place in labelled), len(labelled))


def _coverage(answer: Answer, truth: list[Any]) -> list[Coverage]:
    """What a few thresholds would accept of the labelled images, as a job with the least confidence does."""
    is_labelled = np.array([true is not None for true in truth])
    confidence, right = answer.confidence[is_labelled], right_predictions(answer, truth)[is_labelled]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(truth))}
    of_rows = np.array([numbers[true] for true in truth], np.int64)[is_labelled]
    return cover(confidence, right, few_thresholds(confidence), of_rows)


def score_numbers(answer: Answer, truth: list[Any]) -> dict[str, Any]:
    """What a report says of numbers against true ones."""
    from sklearn.metrics import mean_absolute_error, r2_score  # noqa: PLC0415  # slow to import, and only this needs it

    pairs = [pair for pair in zip(truth, answer.prediction.to_pylist(), strict=True) if pair[0] is not None]
    measured, predicted = zip(*pairs, strict=True) if pairs else ((), ())
    varies = bool(pairs) and np.ptp(measured) > 0
    return {
        "accuracy": float(r2_score(measured, predicted)) if varies else None,
        "accuracy_interval": None,
        "top5_accuracy": None,
        "mean_absolute_error": float(mean_absolute_error(measured, predicted)) if pairs else None,
        "judgement": None,
        "coverage": [],
    }


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
