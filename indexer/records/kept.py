"""Columns of labelled files that an index keeps for people to read: as text, beside the labels of its rows."""

from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.types as pt

from knnvote.data.columns import is_binary
from knnvote.data.errors import KnnvoteError, param

_PREFIX = "kept_"


def stored_as(name: str) -> str:
    """The column of provenance that holds a column of this name."""
    return f"{_PREFIX}{name}"


def listed_as(names: Iterable[str], own: Collection[str]) -> dict[str, str]:
    """By the name of each kept column what a list calls it, which has columns of its own: another name than these."""
    listed: dict[str, str] = {}
    for name in names:
        called = name
        while called in own or called in listed.values():
            called = stored_as(called)
        listed[name] = called
    return listed


def read_kept(column: pa.Array | pa.ChunkedArray, where: str) -> pa.Array | pa.ChunkedArray:
    """Values (n,) of a column as strings; null where there is none.

    Args:
        column: of strings, numbers, booleans, dates or times.
        where: it stands, in words.

    Raises:
        KnnvoteError: it is of another type, which no text tells.
    """
    kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
    try:
        if not (is_binary(kind) or pt.is_duration(kind)):  # Arrow would take bytes for text, and leave out the unit
            return column.cast(pa.string())
    except pa.ArrowException:
        pass
    raise KnnvoteError(
        f"{where} is {column.type}, which is not kept: texts, numbers, booleans, dates and times are; leave it out of "
        f"{param('keep')}"
    )


def told_without_kept(provenance: pa.Table, names: Iterable[str]) -> str | None:
    """What is to be told of new rows without a value in columns that are kept; None where each has one."""
    missing = {name: count for name in names if (count := provenance[stored_as(name)].null_count)}
    if not missing:
        return None
    counts = ", ".join(f"{count:,} in {name!r}" for name, count in missing.items())
    return f"of {len(provenance):,} new rows some have no value in a column that the index keeps, and stay so: {counts}"
