import numpy as np
import pytest
from scipy.stats import binomtest

from knnvote.classify.evaluation.coverage import cover, few_thresholds


@pytest.mark.parametrize("k", [1, 5, 300])
def test_each_threshold_accepts_what_reaches_it_and_counts_what_is_right(k):
    rng = np.random.default_rng(k)
    confidence, right = rng.integers(1, k + 1, 200) / k, rng.random(200) < 0.8
    found = cover(confidence, right)
    assert [record.threshold for record in found] == sorted(set(confidence.tolist()))
    for record in [*found, *cover(confidence, right, np.array([0.5, 0.0]))]:
        accepted = confidence >= record.threshold
        assert record.images == accepted.sum()
        assert record.coverage == accepted.mean()
        assert record.accuracy.value == right[accepted].mean()
        exact = binomtest(int(right[accepted].sum()), int(accepted.sum())).proportion_ci(0.95)
        assert (record.accuracy.low, record.accuracy.high) == pytest.approx((exact.low, exact.high))


def test_thresholds_that_nothing_reaches_are_left_out():
    found = cover(np.array([0.4, 0.6]), np.array([True, False]), np.array([0.7, 0.6, 0.1]))
    assert [(record.threshold, record.images) for record in found] == [(0.1, 2), (0.6, 1)]
    assert cover(np.zeros(0), np.zeros(0, dtype=bool)) == []


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        (np.array([1 / 3, 2 / 3, 1.0, 1.0]), [0.33, 0.66, 1.0]),
        (np.arange(1, 6) / 5, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (np.array([0.29, 0.57, 0.58]), [0.29, 0.57, 0.58]),
        (np.arange(1, 1001) / 1000, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (np.append(np.arange(500, 510) / 1000, np.ones(990)), [0.5, 1.0]),
        (np.array([0.8 - 1e-16, 0.9, 1 - 1e-10]), [0.79, 0.9, 0.99]),
    ],
)
def test_few_thresholds_can_be_typed_and_accept_what_the_shares_they_show_do(confidence, expected):
    few = few_thresholds(confidence)
    assert few.tolist() == expected
    assert cover(confidence, confidence > 0, few)[0].coverage == 1.0


def test_few_thresholds_of_many_confidences_lie_where_coverage_falls():
    confidence = np.append(np.linspace(0.2, 0.9, 100), np.ones(900))
    shares = [record.coverage for record in cover(confidence, confidence > 0, few_thresholds(confidence))]
    assert shares == pytest.approx([1, 0.98, 0.96, 0.94, 0.92, 0.9], abs=0.002)


@pytest.mark.parametrize("seed", range(4))
def test_beside_the_accuracy_stands_its_mean_over_the_true_labels_of_what_is_accepted(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.choice(5, 90, p=[0.5, 0.3, 0.1, 0.07, 0.03]), rng.integers(0, 5, 90)
    confidence = rng.integers(1, 6, 90) / 5
    found = cover(confidence, truth == predicted, np.array([0.2, 0.5, 0.8, 1.0]), truth)
    for step in found:
        accepted = confidence >= step.threshold
        balanced = np.mean([(predicted == true)[accepted & (truth == true)].mean() for true in set(truth[accepted])])
        assert step.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    assert cover(confidence, truth == predicted)[0].balanced_accuracy is None
