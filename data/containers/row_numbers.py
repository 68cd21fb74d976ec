"""Columns that number the rows of a table of labels, which labels in the order of rows must not contradict."""

import numpy as np
import pyarrow as pa

from knnvote.data.errors import ImageFileError
from knnvote.data.rows import RowFile

_NAMES = ("row", "index", "unnamed: 0")


def is_row_number(name: str) -> bool:
    """Whether a column is called as pandas calls one that numbers rows."""
    return not name or name.startswith("__index_level_")


def refuse_other_order(rows: RowFile) -> None:
    """Refuse a table whose column of row numbers has them in another order than its own.

    Raises:
        ImageFileError: naming the column, and what sorts the rows.
    """
    for field in rows.schema:
        if not pa.types.is_integer(field.type) or not (is_row_number(field.name) or field.name.lower() in _NAMES):
            continue
        numbers = pa.Table.from_batches(rows.batches([field.name], 1 << 16), pa.schema([field]))[0].to_numpy()
        if len(np.unique(numbers)) == len(numbers) and (np.diff(numbers) < 0).any():
            raise ImageFileError(
                f"{rows.source}: column {field.name!r} numbers the rows in another order than theirs, in which labels "
                f"without ids are taken: sort the rows by it first, as pandas does by "
                f"table.sort_values({field.name!r}), or leave it out if it is of something else"
            )
