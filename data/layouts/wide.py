"""One numeric column a pixel, whose names end in consecutive numbers or in the two numbers of a grid."""

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa

from knnvote.data.columns import is_number, read_column, read_numbers
from knnvote.data.layout import Candidate, FirstRows, Layout, Measured, Shape
from knnvote.data.vectors import Numbers, Reasons, blank_unusable

_FEWEST_COLUMNS = 4


class Wide(Layout):
    """A column a pixel."""

    title: ClassVar[str] = "one column a pixel"

    @classmethod
    def candidates(cls, schema: pa.Schema) -> Iterable[Candidate]:
        """Groups of columns with a common prefix and consecutive numbers, or the two numbers of a grid."""
        names = [field.name for field in schema if is_number(field.type)]
        used: set[str] = set()
        for prefix, group in _by_prefix(names, r"(.*?)(\d+)[_x](\d+)"):
            height, width = (len({key[axis] for key in group}) for axis in (0, 1))
            if min(height, width) > 1 and _counts_up(group, width):
                used.update(group.values())
                yield cls._candidate(prefix, group, (height, width))
        for prefix, group in _by_prefix([name for name in names if name not in used], r"(.*?)(\d+)"):
            if _counts_up(group, len(group)):
                yield cls._candidate(prefix, group, (len(group),))

    @classmethod
    def _candidate(cls, prefix: str, group: dict[Shape, str], grid: Shape) -> Candidate:
        return Candidate(layout=cls, name=prefix, columns=tuple(group.values()), shape=grid)

    @classmethod
    def measure(cls, first: FirstRows) -> Measured:
        """As the names tell."""
        return [first.candidate.shape], ""

    def decode(self, batch: pa.RecordBatch | pa.Table) -> tuple[Numbers, Reasons]:
        """(n, d) in the type that holds the numbers of all columns."""
        columns = [read_column(batch, name) for name in self.columns]
        pixels = [read_numbers(column) for column in columns]
        by_pixel = np.stack(pixels, dtype=np.result_type(*{values.dtype for values in pixels}), casting="unsafe")
        vectors = np.ascontiguousarray(by_pixel.T)
        if not any(column.null_count for column in columns):
            return blank_unusable(vectors, None, {})
        null = np.stack([column.is_null().to_numpy(zero_copy_only=False) for column in columns], axis=1)
        return blank_unusable(vectors, null, {})


def _by_prefix(names: list[str], pattern: str) -> Iterator[tuple[str, dict[Shape, str]]]:
    """For each prefix its columns by number; a prefix with two columns of one number is none."""
    groups: dict[str, list[tuple[Shape, str]]] = {}
    for name in names:
        if match := re.fullmatch(pattern, name, flags=re.ASCII):
            prefix, *numbers = match.groups()
            groups.setdefault(prefix, []).append((tuple(map(int, numbers)), name))
    for prefix, pairs in groups.items():
        group = dict(sorted(pairs))
        if len(group) == len(pairs) >= _FEWEST_COLUMNS:
            yield prefix, group


def _counts_up(group: dict[Shape, str], width: int) -> bool:
    """Whether the numbers run through a whole grid of this width, from 0 or from 1."""
    first = min(group)
    wanted = [
        (i // width + first[0], i % width + first[-1]) if len(first) == 2 else (i + first[0],)
        for i in range(len(group))
    ]
    return max(first) <= 1 and list(group) == wanted
