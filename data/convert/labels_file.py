"""Labels alone in a text file of one column, beside a file of images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from knnvote.data.errors import KnnvoteError, OptionError

from .arrays import StoredArray
from .dialect import Dialect, read_dialect
from .kinds import parse
from .source import first_character
from .survey import TextRows, look_over


def read_labels(path: Path, others: str) -> StoredArray:
    """The one column of a text file.

    Args:
        path: of the file.
        others: files beside it, for messages.

    Raises:
        OptionError: it has several columns.
        KnnvoteError: it cannot be read, or lacks a label.
    """
    dialect = read_dialect(path, is_labels=True)
    if dialect.width > 1:
        raise OptionError(
            f"{path} is CSV of {dialect.width} columns, and stands beside {others}: convert it on its own or, where "
            "one holds the labels of the other's rows, put them side by side first, as paste -d, does with CSV"
        )
    _, values, _ = _one_column(path, dialect)
    labels = np.array(values.to_pylist())
    return StoredArray(name=str(path), path=path, shape=labels.shape, dtype=labels.dtype, load=lambda: labels)


def read_one_column(path: Path) -> tuple[str | None, pa.Array, pa.Array] | None:
    """Of a text file of one column its name, if it has any, its values (n,), and these as they stand there, in strings.

    None of a file of several columns, or of JSON.

    Raises:
        KnnvoteError: it cannot be read, or lacks a label.
    """
    if first_character(path) in {b"{", b"["}:
        return None
    dialect = read_dialect(path, is_labels=True)
    return None if dialect.width > 1 else _one_column(path, dialect)


def _one_column(path: Path, dialect: Dialect) -> tuple[str | None, pa.Array, pa.Array]:
    text = TextRows(path, replace(dialect, names=None))  # of which none stands again
    (column,), _ = look_over(text, [False], [0])
    column.keep_apart(dialect.decimal)
    cells = pa.chunked_array([batch.column(0) for _, batch in text.batches()], pa.string()).combine_chunks()
    values = parse(cells, column.kind, dialect.decimal)
    if values.null_count:
        raise KnnvoteError(f"{path}: {values.null_count:,} of {len(values):,} labels are missing: give one a line")
    return (dialect.names[0] if dialect.names else None), values, cells
