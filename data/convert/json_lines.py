"""JSON lines, an object a line, to Parquet."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import json

from knnvote.data.errors import KnnvoteError

from .source import open_source, reading
from .writing import write_batches

_BLOCK = 16 << 20


def convert_json(source: Path, destination: Path, *, is_array: bool) -> int:
    """Convert JSON lines to a Parquet file, with their columns as PyArrow reads them.

    Returns:
        The number of rows written.

    Raises:
        KnnvoteError: it is damaged, or one array of all objects.
    """
    if is_array:
        raise KnnvoteError(
            f"{source} is a JSON array, and JSON lines are read, one object a line: jq -c '.[]' makes them of it"
        )
    return write_batches(_batches(source), destination)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """An empty batch for its schema, then the rows."""
    with reading(path), open_source(path) as stream:
        # Types are of the whole file: those of its first lines need not hold for all.
        table = json.read_json(stream, json.ReadOptions(block_size=_BLOCK))
        yield pa.RecordBatch.from_pylist([], table.schema)
        yield from table.to_batches()
