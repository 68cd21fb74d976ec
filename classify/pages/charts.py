"""Figures that a page draws as HTML: where values stand along an axis, in percent of its length, and its ticks.

So they take the width that there is, the page's colours and its text; matplotlib draws what has two axes of numbers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = 4  # between ticks, at most: labels of more would meet on a phone
_ROOM = 0.8  # of the distance between single values, that their columns take


@dataclass(frozen=True)
class Axis:
    """An axis that starts and ends at a tick.

    Attributes:
        values: of the ticks, ascending, at equal distances.
    """

    values: list[float]

    def at(self, value: float) -> float:
        """Where a value stands, in percent; one beyond an end stands there."""
        low, high = self.values[0], self.values[-1]
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 3)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where each stands, and what it says."""
        return [(self.at(value), f"{value:,.10g}") for value in self.values]


@dataclass(frozen=True)
class Column:
    """A column of a histogram: where it begins, how wide and how high it is, in percent, and what it says."""

    left: float
    width: float
    height: float
    told: str


@dataclass(frozen=True)
class Mark:
    """A line across a histogram: where it stands, in percent, and what it is."""

    at: float
    told: str
    is_faint: bool = False


@dataclass(frozen=True)
class Histogram:
    """Columns over an axis of values, beside one of counts.

    Attributes:
        rows: (low, high, count) of each column; low is high where it is of a single value.
    """

    columns: list[Column]
    x: Axis
    y: Axis
    rows: list[tuple[float, float, int]]
    marks: list[Mark] = field(default_factory=list)


def axis_over(values: Iterable[float], *, steps: int = _STEPS) -> Axis:
    """The narrowest axis over some values whose ticks are round, at most so many steps apart."""
    held = [*values]
    low, high = min(held), max(held)
    if low == high:
        low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (0.0, 1.0)
    step = _round_up((high - low) / steps)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last - first > steps:  # both ends were moved out
        step = _round_up(step * 1.01)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis([float(f"{place * step:.12g}") for place in range(first, last + 1)])


def share_axis(intervals: Iterable[Any]) -> Axis:
    """An axis over the ends of intervals of shares, from 0 to 1 if there are none."""
    ends = [end for interval in intervals for end in (interval.low, interval.high)]
    return axis_over(ends or (0.0, 1.0))


def draw_histogram(
    rows: Sequence[tuple[float, float, int]], marks: Sequence[tuple[float, str]] = (), *, least: float = 0.0
) -> Histogram:
    """A histogram from 0, or from less where values are less.

    Args:
        rows: (low, high, count) of each column, ascending; low is high where it is of a single value.
        marks: values and what they are: lines that the first is the main one of.
        least: where the axis ends at least.
    """
    singles = sorted({low for low, high, _ in rows if low == high})
    gap = min(np.diff(singles), default=least or abs(singles[0]) or 1.0) * _ROOM if singles else 0.0
    columns = [
        (low - gap / 2, high + gap / 2, count) if low == high else (low, high, count) for low, high, count in rows
    ]
    ends = [end for low, high, _ in columns for end in (low, high)] + [value for value, _ in marks]
    # Columns around 0 and around the last value need room of their own beyond these.
    ticks = axis_over([0.0, least, *(end for low, high, _ in rows for end in (low, high)), *(v for v, _ in marks)])
    low, high = min(ticks.values[0], *ends), max(ticks.values[-1], *ends)
    x = _Padded(ticks.values, low, high)
    y = axis_over([0.0, float(max(count for *_, count in rows))], steps=3)
    return Histogram(
        columns=[
            Column(
                left=x.at(start),
                width=round(x.at(stop) - x.at(start), 3),
                height=y.at(count),
                told=f"{_span(row[0], row[1])}: {count:,}",
            )
            for (start, stop, count), row in zip(columns, rows, strict=True)
        ],
        x=x,
        y=y,
        rows=[*rows],
        marks=[Mark(x.at(value), told, is_faint=place > 0) for place, (value, told) in enumerate(marks)],
    )


def bin_values(values: NDArray[np.float64], bins: int) -> list[tuple[float, float, int]]:
    """(low, high, count) of so many bins of equal width over some values; of one bin where all are equal."""
    if values.min() == values.max():
        return [(float(values[0]), float(values[0]), len(values))]
    counts, edges = np.histogram(values, bins=bins)
    return [(float(low), float(high), int(n)) for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)]


@dataclass(frozen=True)
class _Padded(Axis):
    """An axis that reaches beyond its ticks."""

    low: float
    high: float

    def at(self, value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 3)


def _span(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _round_up(step: float) -> float:
    """The least of 1, 2 and 5 times a power of 10 that is no less."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= step * (1 - 1e-9))
