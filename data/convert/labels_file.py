"""Labels alone in a text file of one column, beside a file of images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from knnvote.data.errors import KnnvoteError, OptionError

from .arrays import StoredArray
from .dialect import read_dialect
from .kinds import parse
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
    text = TextRows(path, replace(dialect, names=None))  # of which none stands again
    (column,), _ = look_over(text, [False], [0])
    column.keep_apart(dialect.decimal)
    cells = [parse(batch.column(0), column.kind, dialect.decimal) for _, batch in text.batches()]
    values = pa.chunked_array(cells, column.kind.type)
    if values.null_count:
        raise KnnvoteError(f"{path}: {values.null_count:,} of {len(values):,} labels are missing: give one a line")
    labels = np.array(values.to_pylist())
    return StoredArray(name=str(path), path=path, shape=labels.shape, dtype=labels.dtype, load=lambda: labels)
