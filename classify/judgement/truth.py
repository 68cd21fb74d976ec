"""True labels of a job's rows, by which its answers are judged: of a column that outputs keep, or of a table."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.rows import USUAL_IDS
from knnvote.data.containers.label_table import Labels, LabelTable
from knnvote.data.containers.tar import KEY, TAR_KEY
from knnvote.data.errors import ImageFileError, KnnvoteError, param
from knnvote.data.folders.endings import is_array
from knnvote.data.labels.read import read_label_file
from knnvote.data.locations import Location
from knnvote.data.text import describe_error
from knnvote.indexer.building.provenance import read_ids
from knnvote.indexer.index import Index
from knnvote.indexer.labels import find_label, true_labels

NO_COLUMN = (
    f"no column that the outputs keep is known to hold true labels: {param('label_column')} names one, or "
    f"{param('labels')} takes them from a file of their own"
)


class TruthError(ImageFileError):
    """What stands in a column cannot be the true labels of a job's rows."""


@dataclass(frozen=True)
class OutputTruth:
    """Where the true labels of an output's rows are.

    Attributes:
        output: of a job.
        name: its path relative to the folder of outputs.
        column: that is read of it: of labels, or of ids where a table has the labels; None for ids ``file#row``.
        label: the column of the labels.
        table: of the labels; None where the output keeps them.
    """

    output: Location
    name: str
    column: str | None
    label: str
    table: Labels | None = None

    def join(self, batches: Iterable[list[pa.Array]]) -> Iterator[list[pa.Array]]:
        """Batches of the output's columns, of which the last is `column` if there is one, with the labels as last."""
        if self.table is None:
            return iter(batches)
        return _join_table(self.output, self.name, self.table, self.column, batches)

    def read(self, labels: pa.Array, like: pa.DataType) -> list[Any]:
        """Labels (n,), to be compared with answers of a type; None where there is none.

        Raises:
            TruthError: they cannot be compared.
        """
        try:
            return true_labels(labels, like)
        except KnnvoteError as error:
            raise TruthError(
                f"{self.output}: labels in column {self.label!r} are {error.marked}: "
                f"name the right column with {param('label_column')}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Where the true labels of jobs are.

    Attributes:
        label_column: of the outputs, as it was named; by default that of the index, or the only one of a usual name.
        of_index: the index's own; by default as a job's record has it.
        table: of the labels, by ids of rows or in their order, in place of a column.
    """

    label_column: str | None = None
    of_index: str | None = None
    table: Labels | None = None

    @classmethod
    def of(
        cls,
        job: FinishedJob,
        labels: str | Path | None = None,
        label_column: str | None = None,
        id_column: str | None = None,
        index: Index | None = None,
    ) -> "Truth":
        """Those of a file of labels, if one is given, else of a column.

        Args:
            job: whose rows they are of.
            labels: the file.
            label_column: of it, or of the outputs.
            id_column: of it.
            index: of the job, if it is at hand.

        Raises:
            KnnvoteError: as of `read_label_file`.
        """
        if labels is None:
            return cls(label_column=label_column, of_index=None if index is None else index.manifest.label_column)
        are_numbered = all(map(is_array, job.record.inputs.values()))
        table = read_label_file(labels, label_column=label_column, id_column=id_column, are_numbered=are_numbered)
        return cls(table=table)

    @property
    def is_named(self) -> bool:
        """Whether it was said where they are, so that what stands there must be labels."""
        return self.label_column is not None or self.table is not None

    def check(self, outputs: Sequence[str], out: Location) -> None:
        """Refuse labels in the order of rows for several outputs.

        Raises:
            ImageFileError: they are.
        """
        if self.table is not None and self.table.is_in_order and len(outputs) > 1:
            raise ImageFileError(
                f"{self.table.shown} has no ids, and so a label for each row of one output, and {out} holds "
                f"{len(outputs):,}: give a table with a column of ids, FILE#ROW"
            )

    def find(self, job: FinishedJob, name: str) -> OutputTruth | None:
        """Where those of an output's rows are; None where it keeps no such column.

        Raises:
            ImageFileError: it does not keep the column that is named, or cannot be read.
        """
        output = job.out / name
        if self.table is not None:
            column = _id_column(output, job.record.output, self.table)
            return OutputTruth(output, name, column, self.table.label_column, self.table)
        column = _label_column(output, job, self.label_column, self.of_index or job.record.label_column)
        return None if column is None else OutputTruth(output, name, column, column)

    def tell_unused(self) -> None:
        """Tell of labels of a table that no row had."""
        if self.table is not None:
            self.table.tell_unused()


def leave_out_stored(truth: list[Any], are_stored: NDArray[np.bool_]) -> tuple[list[Any], int]:
    """True labels (n,) less those of rows that equal a stored image, which answer for themselves, and how many."""
    left = [None if is_stored else true for true, is_stored in zip(truth, are_stored.tolist(), strict=True)]
    return left, left.count(None) - truth.count(None)


def _label_column(output: Location, job: FinishedJob, named: str | None, of_index: str | None) -> str | None:
    """The column of true labels that an output keeps: the one named, else the index's, or the only usual one.

    Raises:
        ImageFileError: it does not keep the one that is named, or cannot be read.
    """
    schema = _schema(output)
    added = job.record.output.added
    kept = [name for name in schema.names if name not in added]
    if named is not None and named not in kept:
        raise ImageFileError(
            f"{output} keeps no column {named!r} of its input for {param('label_column')}; "
            f"there are {', '.join(kept) or 'none'}"
        )
    return named or find_label(schema, sorted(added), of_index)


def _join_table(
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


def _id_column(output: Location, options: OutputOptions, table: Labels) -> str | None:
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


def _schema(output: Location) -> pa.Schema:
    try:
        with output.open() as stream:
            return pq.read_schema(stream)
    except (pa.ArrowException, OSError) as error:
        raise ImageFileError(f"cannot read {output}: {describe_error(error)}") from error
