"""True labels that the outputs of a job keep of its inputs, by which its answers are judged."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.data.errors import ImageFileError, KnnvoteError, param
from knnvote.data.locations import Location
from knnvote.data.text import describe_error
from knnvote.indexer.labels import find_label, true_labels


class TruthError(ImageFileError):
    """What stands in a column cannot be the true labels of a job's rows."""


ADDED = (  # columns of an output
    *("prediction", "confidence", "distance", "best", "second", "margin", "status", "reason"),
    *("neighbors", "rung", "probabilities", "top", "top_share"),
)


def truth_column(output: Location, prefix: str, named: str | None) -> str | None:
    """The column of true labels that an output keeps: the one named, else the only one with a usual name.

    Raises:
        ImageFileError: it does not keep the one that is named, or cannot be read.
    """
    try:
        with output.open() as stream:
            schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError) as error:
        raise ImageFileError(f"cannot read {output}: {describe_error(error)}") from error
    added = [prefix + name for name in ADDED]
    kept = [name for name in schema.names if name not in added]
    if named is not None and named not in kept:
        raise ImageFileError(
            f"{output} keeps no column {named!r} of its input for {param('label_column')}; "
            f"there are {', '.join(kept) or 'none'}"
        )
    return named or find_label(schema, added, None)


def read_truth(output: Location, column: str, labels: pa.Array, like: pa.DataType) -> list[Any]:
    """Labels (n,) of an output's column, to be compared with answers of a type; None where there is none.

    Raises:
        TruthError: they cannot be compared.
    """
    try:
        return true_labels(labels, like)
    except KnnvoteError as error:
        raise TruthError(
            f"{output}: labels in column {column!r} are {error.marked}: "
            f"name the right column with {param('label_column')}"
        ) from error
