"""Which column of a file without header is the label: taken where but one can be, else asked."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from knnvote.data.errors import KnnvoteError, param

from .kinds import LISTS, Kind
from .survey import Column

_FEWEST_CLASSES = 3
FEWEST_NUMBERED = 20  # rows that are numbered; fewer may be one of each class


def find_label(path: Path, columns: Sequence[Column]) -> int:
    """The place of the label, the first or the last column, where the other beside a square of pixels cannot be it.

    A pixel may look like a class, so most is asked. It is taken without a question where its values are those of
    classes, numbered without gaps, of two rows or more but none of most, and the other column is 0 in all rows.

    Raises:
        KnnvoteError: it may be either, or none.
    """
    pixels = len(columns) - 1
    if math.isqrt(pixels) ** 2 == pixels and all(column.kind <= Kind.FLOAT for column in columns):
        first, last = columns[0], columns[-1]
        for one, other in ((first, last), (last, first)):
            if _is_class(one) and _numbers(other) == [0]:
                return one.place
    raise KnnvoteError(
        f"{path} has no header that tells which of its {len(columns)} columns is the label; the first holds "
        f"{describe(columns[0])}, the last {describe(columns[-1])}: pass {param('label_column')} 1, {len(columns)} or "
        "the number of another, or 0 if none is"
    )


def describe(column: Column) -> str:
    """What a column holds, for people."""
    if column.kind > Kind.LONG or column.kind == Kind.NULL:
        return "lists of numbers" if column.kind in LISTS else "nothing" if column.kind == Kind.NULL else "text"
    if column.counts_rows and column.filled >= FEWEST_NUMBERED:
        return "the numbers of rows"
    numbers = _numbers(column)
    if not numbers:
        return "many numbers"
    if len(numbers) == 1:
        return f"{numbers[0]:g} alone"
    return f"{len(numbers):,} numbers from {numbers[0]:g} to {numbers[-1]:g}"


def _is_class(column: Column) -> bool:
    numbers = _numbers(column)
    values: Counter[str] = column.values or Counter()
    return (
        column.kind in (Kind.INTEGER, Kind.WHOLE)
        and column.filled == sum(values.values())
        and _FEWEST_CLASSES <= len(numbers) <= column.filled / 2
        and numbers[0] in (0, 1)
        and numbers == [numbers[0] + i for i in range(len(numbers))]
        and 2 * max(values.values()) <= column.filled
        and not any(re.match(r"\s*0\d", value) for value in values)  # which may be text
    )


def _numbers(column: Column) -> list[float]:
    """The different values of a column of numbers, ascending; none where they are too many or some is missing."""
    values: Counter[str] = column.values or Counter()
    if column.kind > Kind.FLOAT or any(value is None for value in values):
        return []
    try:
        return sorted(set(map(float, values)))
    except ValueError:  # a decimal comma, or a word for what is missing
        return []
