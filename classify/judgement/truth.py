"""True labels that the outputs of a job keep of its inputs, by which its answers are judged."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.rows import USUAL_IDS
from knnvote.data.containers.label_table import Labels, LabelTable
from knnvote.data.containers.tar import KEY, TAR_KEY
from knnvote.data.errors import ImageFileError, KnnvoteError, param
from knnvote.data.locations import Location
from knnvote.data.text import describe_error
from knnvote.indexer.building.provenance import read_ids
from knnvote.indexer.labels import find_label, true_labels


class TruthError(ImageFileError):
    """What stands in a column cannot be the true labels of a job's rows."""


def truth_column(output: Location, options: OutputOptions, named: str | None) -> str | None:
    """The column of true labels that an output keeps: the one named, else the only one with a usual name.

    Args:
        output: of a job.
        options: what its job added.
        named: the column.

    Raises:
        ImageFileError: it does not keep the one that is named, or cannot be read.
    """
    schema = _schema(output)
    kept = [name for name in schema.names if name not in options.added]
    if named is not None and named not in kept:
        raise ImageFileError(
            f"{output} keeps no column {named!r} of its input for {param('label_column')}; "
            f"there are {', '.join(kept) or 'none'}"
        )
    return named or find_label(schema, sorted(options.added), None)


def join_table(
    output: Location, name: str, table: Labels, column: str | None, batches: Iterable[list[pa.Array]]
) -> Iterator[list[pa.Array]]:
    """Batches of an output's columns with the labels that a table has of their rows in place of the last, of ids.

    Args:
        output: of a job.
        name: its path relative to the folder of outputs.
        table: of the labels.
        column: of ids; None where these are ``file#row``, and there is no such column in batches.
        batches: all rows, in order.

    Raises:
        KnnvoteError: ids are no text, two rows have one key of the table, or rows and labels in order are not as many.
    """
    if not isinstance(table, LabelTable):
        yield from _in_order(output, table, batches)
        return
    first, shard = 0, name.removesuffix(".parquet") + TAR_KEY if column == KEY else ""
    for columns in batches:
        n, kept = len(columns[0]), columns
        if column is None:
            ids = pa.array([f"{name}#{first + row}" for row in range(n)], pa.string())
        else:
            *kept, values = columns
            ids = read_ids(output, values, column, shard)
        first += n
        yield [*kept, table.find(ids, are_paths=column in USUAL_IDS, prefix=shard)]


def _in_order(output: Location, labels: Labels, batches: Iterable[list[pa.Array]]) -> Iterator[list[pa.Array]]:
    """Batches of an output's columns, each with as many labels behind them.

    Raises:
        KnnvoteError: all together there are not as many.
    """
    with output.open() as stream:
        found, first = labels.of_rows(pq.read_metadata(stream).num_rows, output.shown).labels, 0
    for columns in batches:
        yield [*columns, found.slice(first, len(columns[0]))]
        first += len(columns[0])


def id_column(output: Location, options: OutputOptions, table: Labels) -> str | None:
    """The column of ids that an output keeps: what the table says, else the first usual one; None where there is none.

    Args:
        output: of a job.
        options: what its job added.
        table: of the labels.

    Raises:
        ImageFileError: it does not keep the one that is named, or cannot be read.
    """
    if not isinstance(table, LabelTable):
        return None
    names = [name for name in _schema(output).names if name not in options.of_source]
    if table.rows_column not in {None, *names}:
        raise ImageFileError(
            f"neither {output} nor {table.shown} has a column {table.rows_column!r} for {param('id_column')}; the "
            f"first has {', '.join(names)}"
        )
    own = table.rows_column or table.key_column
    return own if own in names else next((name for name in USUAL_IDS if name in names), None)


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


def _schema(output: Location) -> pa.Schema:
    try:
        with output.open() as stream:
            return pq.read_schema(stream)
    except (pa.ArrowException, OSError) as error:
        raise ImageFileError(f"cannot read {output}: {describe_error(error)}") from error
