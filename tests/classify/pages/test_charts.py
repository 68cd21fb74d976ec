"""Where things stand along the axes that pages draw."""

from itertools import pairwise

import numpy as np
import pytest

from knnvote.classify.interval import share_interval
from knnvote.classify.pages.charts import axis_over, bin_values, draw_histogram, share_axis


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.91, 1.0], ["0.9", "0.95", "1"]),
        ([0.9243, 0.9908], ["0.92", "0.94", "0.96", "0.98", "1"]),
        ([0, 1], ["0", "0.5", "1"]),
        ([0, 61_000], ["0", "20,000", "40,000", "60,000", "80,000"]),
        ([-3, 2], ["-4", "-2", "0", "2"]),
        ([0, 0], ["0", "0.5", "1"]),
    ],
)
def test_an_axis_starts_and_ends_at_round_ticks(values, ticks):
    assert [told for _, told in axis_over(values).ticks] == ticks


def test_an_axis_holds_all_values_and_has_few_ticks_of_equal_distance():
    rng = np.random.default_rng(0)
    for _ in range(300):
        values = rng.normal(size=2) * 10.0 ** rng.integers(-6, 7)
        axis = axis_over(values)
        room = 1e-6 * np.ptp(values)
        assert axis.values[0] - room <= min(values)
        assert axis.values[-1] + room >= max(values)
        assert 2 <= len(axis.values) <= 5
        places = [at for at, _ in axis.ticks]
        assert (places[0], places[-1]) == (0, 100)
        np.testing.assert_allclose(np.diff(places), 100 / (len(places) - 1), atol=0.01)


def test_an_axis_of_one_value_has_room_around_it():
    axis = axis_over([0.5])
    assert axis.values[0] < 0.5 < axis.values[-1]


def test_an_axis_of_shares_ends_at_1_and_one_of_none_is_whole():
    assert share_axis([share_interval(97, 100), share_interval(100, 100)]).values[-1] == 1
    assert share_axis([]).values == [0, 0.5, 1]


def test_columns_stand_side_by_side_and_are_as_high_as_they_count():
    drawn = draw_histogram([(10, 20, 5), (20, 30, 0), (30, 40, 20)], [(25.0, "limit"), (35.0, "other")])
    assert [column.left for column in drawn.columns] == [25, 50, 75]
    assert {column.width for column in drawn.columns} == {25}
    assert [column.height for column in drawn.columns] == [25, 0, 100]
    assert [(mark.at, mark.is_faint) for mark in drawn.marks] == [(62.5, False), (87.5, True)]
    assert drawn.columns[0].told == "10 to 20: 5"


@pytest.mark.parametrize("values", [[0.2, 0.4, 1.0], [1.0], [0.0, 1.0]])
def test_columns_of_single_values_neither_touch_nor_leave_the_frame(values):
    drawn = draw_histogram([(value, value, 3) for value in values], least=1.0)
    assert drawn.columns[0].left >= 0
    assert drawn.columns[-1].left + drawn.columns[-1].width <= 100.01
    assert all(one.left + one.width < other.left for one, other in pairwise(drawn.columns))
    for column, value in zip(drawn.columns, values, strict=True):
        assert column.left + column.width / 2 == pytest.approx(drawn.x.at(value), abs=0.01)


def test_bins_count_every_value_once():
    values = np.random.default_rng(1).normal(size=1000)
    assert sum(count for *_, count in bin_values(values, 40)) == 1000
    assert bin_values(np.full(7, 2.5), 40) == [(2.5, 2.5, 7)]
