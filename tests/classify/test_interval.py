"""The interval of a share: that of SciPy's exact binomial test."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from knnvote.classify.interval import share_interval

COUNTS = [(0, 1), (1, 1), (0, 2), (1, 2), (2, 2), (0, 1200), (1, 1200), (1199, 1200), (1200, 1200), (11_988, 12_000)]


def assert_is_exact(successes, trials):
    found = share_interval(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    assert found.value == successes / trials
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("successes", "trials"), [*COUNTS, (0, 40_000), (39_999, 40_000), (40_000, 40_000)])
def test_the_interval_is_the_exact_one_at_and_near_the_ends(successes, trials):
    assert_is_exact(successes, trials)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_interval_is_the_exact_one_for_any_count(data):
    trials = data.draw(st.integers(1, 50_000))
    assert_is_exact(data.draw(st.integers(0, trials)), trials)


def test_the_interval_of_none_starts_at_0_and_that_of_all_ends_at_1():
    assert share_interval(0, 7).low == 0.0
    assert share_interval(7, 7).high == 1.0
    assert share_interval(0, 7).high == pytest.approx(1 - share_interval(7, 7).low)
