"""Batches to a Parquet file."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.data.files import atomic_write


def write_batches(batches: Iterator[pa.RecordBatch], destination: Path) -> int:
    """Write batches, of which the first tells the schema and becomes a row group if it has rows, as each other does.

    Returns:
        The number of rows written.
    """
    first = next(batches)
    rows = 0
    with (
        atomic_write(destination) as stream,
        pq.ParquetWriter(stream, first.schema, compression="zstd") as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows
