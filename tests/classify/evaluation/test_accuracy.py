"""Predictions judged by true labels, against counts made by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from knnvote.classify.evaluation.accuracy import judge
from knnvote.classify.interval import share_interval

RNG = np.random.default_rng(3)


def test_classes_bands_and_confusion_are_those_counted_by_hand():
    truth = ["a", "a", "b", None, "z"]
    found = judge(["a", "b", "b", "a", "b"], truth, np.array([1.0, 0.6, 1.0, 0.2, 0.6]), ["a", "b", "c"])
    assert [(row.label, row.images, row.accuracy) for row in found.classes] == [
        ("a", 2, share_interval(1, 2)),
        ("b", 1, share_interval(1, 1)),
        ("z", 1, share_interval(0, 1)),  # a label that the index does not know
    ]
    assert found.balanced_accuracy == 0.5
    assert [(pair.truth, pair.label, pair.images) for pair in found.confusion] == [
        ("a", "a", 1),
        ("a", "b", 1),
        ("b", "b", 1),
        ("z", "b", 1),
    ]
    assert [(band.low, band.high, band.images, band.accuracy.value) for band in found.confidence] == [
        (0.6, 0.6, 2, 0.0),
        (1.0, 1.0, 2, 1.0),
    ]


def test_without_a_true_label_there_is_nothing_to_judge():
    assert judge([1, 2], [None, None], np.ones(2), [1, 2]) is None


def test_a_hundred_thousand_classes_take_no_more_than_the_images_do():
    found = judge([0, 7], [99_999, 7], np.ones(2), range(100_000))
    assert [(pair.truth, pair.label, pair.images) for pair in found.confusion] == [(7, 7, 1), (99_999, 0, 1)]


@pytest.mark.parametrize("confidences", [3, 500])
def test_counts_are_those_of_scikit_learn(confidences):
    truth, predicted = (RNG.integers(0, 4, 600) for _ in range(2))
    confidence = RNG.integers(1, confidences + 1, 600) / confidences
    found = judge(predicted.tolist(), truth.tolist(), confidence, [0, 1, 2, 3])
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-15)
    counts = confusion_matrix(truth, predicted)
    assert [(pair.truth, pair.label, pair.images) for pair in found.confusion] == [
        (i, j, counts[i, j]) for i, j in np.argwhere(counts)
    ]
    assert sum(band.images for band in found.confidence) == 600
    for band in found.confidence:
        is_last = band.high == 1
        inside = (confidence >= band.low) & ((confidence < band.high) | (confidence == band.low) | is_last)
        assert band.images == inside.sum()
        assert band.accuracy.value == pytest.approx((truth == predicted)[inside].mean())
