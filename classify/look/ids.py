"""The ids by which `add` knows rows of a job's input again, where a list names them in a column ``id``."""

from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.rows import Place, read_kept_ids
from knnvote.data.columns import is_binary
from knnvote.data.containers.images import FILE
from knnvote.data.convert.ids import USUAL_NAME
from knnvote.data.rows import RowFile
from knnvote.indexer.building.provenance import read_ids

_BATCH = 1 << 16


def ids_to_add(job: FinishedJob, file: str, held: RowFile, rows: NDArray[np.int64]) -> dict[int, str]:
    """By row the ids of some rows; none of rows that are known by their file and place alone.

    They are those of an input's own column ``id``, as it is the list's, or else what the rows have by nature, as those
    of a folder of images have paths.

    Args:
        job: whose output may keep them.
        file: the output.
        held: its input, open.
        rows: (m,) from 0, ascending.

    Raises:
        KnnvoteError: they cannot be read.
    """
    own, prefix = held.id_column, held.id_prefix
    if USUAL_NAME in held.schema.names and not is_binary(held.schema.field(USUAL_NAME).type):
        own, prefix = USUAL_NAME, ""
        if _repeats(held, own):  # a label is one of all rows that have its id
            return {}
    if own is None:
        return {}
    places = [] if own in job.record.output.of_source else [Place(file, row) for row in rows.tolist()]
    if kept := read_kept_ids(job, places, own):
        return {place.row: prefix + text for place, text in kept.items()}
    if own == FILE:
        above = PurePosixPath(file).with_suffix("")  # by whose name alone an output may have columns without the paths
        return {row: str(above / PurePosixPath(held.row_name(row)).name) for row in rows.tolist()}
    found: dict[int, str] = {}
    for some, table in held.take(rows, [own], _BATCH):
        texts = read_ids(held.source, table[own].combine_chunks(), own, prefix).to_pylist()
        found |= {row: text for row, text in zip(some.tolist(), texts, strict=True) if text}
    return found


def _repeats(held: RowFile, column: str) -> bool:
    """Whether any value of a column stands in it more than once."""
    values = pa.chunked_array([batch.column(column) for batch in held.batches([column], _BATCH)])
    return len(values.unique()) < len(values)
