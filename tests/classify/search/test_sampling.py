"""Which of many images stand for all."""

import numpy as np
import pytest

from knnvote.classify.search.sampling import sample_rows


@pytest.mark.parametrize("size", [1, 7, 40, 99])
def test_a_sample_has_its_size_and_each_row_once_in_order(size):
    rows = sample_rows(100, size)
    assert len(rows) == size
    assert (np.diff(rows) > 0).all()
    assert 0 <= rows[0] <= rows[-1] < 100
    assert np.array_equal(rows, sample_rows(100, size))


@pytest.mark.parametrize("size", [100, 5000])
def test_of_no_more_rows_than_asked_for_all_are_taken(size):
    assert np.array_equal(sample_rows(100, size), np.arange(100))


@pytest.mark.parametrize("period", [2, 10, 100])
def test_no_period_of_the_rows_has_more_than_its_share(period):
    counts = np.bincount(sample_rows(100_000, 10_000) % period, minlength=period)
    assert (np.abs(counts - 10_000 / period) < 5 * np.sqrt(10_000 / period)).all()
