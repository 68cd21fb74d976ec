"""A file of labelled images: read and checked row by row, but what was read before a kill."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import ImageFileError, KnnvoteError, param
from knnvote.data.input_file import InputFile
from knnvote.data.reading import DecodedRows, ImageFile
from knnvote.data.steps.chain import Steps
from knnvote.data.vectors import smallest_type
from knnvote.indexer.groups.column import read_groups
from knnvote.indexer.labels import (
    UNLABELLED,
    check_same_kind,
    label_array,
    told_as_text,
    unusable_labels,
)
from knnvote.indexer.metric import Metric
from knnvote.indexer.records.kept import read_kept
from knnvote.indexer.records.weights import read_weights, unusable_weights

from .gathered import FilePart, Gathered
from .provenance import provenance_table, read_ids
from .stepped import unusable_images

_BATCH = 4096


def passed_over(source: InputFile, wanted: NDArray[np.int64] | None, rows: int | None) -> int:
    """How many rows of a file were read before; a table of labels is told which of these they took.

    Args:
        source: the file.
        wanted: rows of it that are taken; None for all.
        rows: how many of them were read; None for all.
    """
    if source.joined_label is None and rows is not None:
        return rows
    with source.open_rows() as found:
        read = np.arange(found.num_rows) if wanted is None else wanted
        read = read[:rows]
        if source.joined_label is not None:
            for _ in found.take(read, [source.joined_label], _BATCH):
                pass
    return len(read)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads a file's rows into what is gathered.

    Attributes:
        images: the file.
        label_column: of it.
        id_column: of it, if one was named.
        group_column: likewise.
        weight_column: of it, likewise.
        keep: columns of it that are kept for people to read.
        may_lack: whether it may be without these.
        is_regression: labels are numbers to be averaged.
        skip_bad: leave out rows that do not fit, and count them.
        gathered: with what was read before.
        steps: that make vectors.
        metric: in whose space these must have a place.
    """

    images: ImageFile
    label_column: str
    id_column: str | None
    group_column: str | None
    weight_column: str | None
    keep: tuple[str, ...]
    may_lack: bool
    is_regression: bool
    skip_bad: bool
    gathered: Gathered
    steps: Steps
    metric: Metric

    def read(self, wanted: NDArray[np.int64] | None, progress: Callable[[int], None]) -> None:
        """Read the rows that are wanted, None for all, but those that were read before a kill.

        Raises:
            KnnvoteError: a row or its label does not fit.
        """
        images, gathered, start = self.images, self.gathered, self.gathered.rows
        columns = self._other_columns()
        if not start:
            gathered.parts.append(self._part())
        else:
            progress(passed_over(images.source, wanted, start))
        of_all = images.read(columns, batch_size=_BATCH, span=range(start, images.num_rows) if start else None)
        some = None if wanted is None else wanted[start:]
        for rows in of_all if some is None else images.take(some, columns, batch_size=_BATCH):
            pixels, table, skipped = self._good(rows)
            kinds = (
                part.label_type or table.schema.field("label").type for part in (gathered.parts[0], gathered.parts[-1])
            )
            check_same_kind(images.source, self.label_column, *kinds)
            gathered.add(pixels, table, rows=len(rows.numbers), skipped=skipped)
            progress(len(rows.numbers))

    def _part(self) -> FilePart:
        """Of this file, without any row."""
        return FilePart(
            name=self.images.source.shown,
            shape=self.images.layout.shape,
            image_column=self.images.layout.name,
            label_column=self.label_column,
            has_ids=self._known_by is not None,
        )

    @property
    def _known_by(self) -> str | None:
        return self.id_column or self.images.rows.id_column

    def _good(self, rows: DecodedRows) -> tuple[NDArray[Any], pa.Table, int]:
        """Images of the rows that fit, in the type that they need, their provenance, and how many others are told of.

        Raises:
            KnnvoteError: one does not, and such are not left out, or a label's type cannot be used.
        """
        images, source = self.images, self.images.source
        block = rows.pixels
        bad = unusable_images(block, rows.shape, self.steps, self.metric) | rows.bad
        label = images.column(rows, self.label_column)
        bad |= unusable_labels(label, None if self.is_regression else self.gathered.names)
        weights = self._weights(rows)
        bad = bad if weights is None else unusable_weights(weights) | bad
        if bad and not self.skip_bad:
            row = min(bad)
            raise KnnvoteError(
                f"{images.rows.row_name(int(rows.numbers[row]))}: {bad[row]}; "
                f"mend it{images.how_to_mend(bad[row])}, or pass {param('skip_bad=True')} to leave such rows out"
            )
        good = np.setdiff1d(np.arange(len(block)), list(bad))
        try:
            pixels = smallest_type(block[good] if bad else block)
        except KnnvoteError as error:
            raise KnnvoteError(f"{source.shown}: {error.marked}") from error
        try:
            labels = label_array(label.take(good), is_regression=self.is_regression)
        except KnnvoteError as error:
            told = f"{error.marked}{told_as_text(source, self.label_column, label.type)}"
            raise KnnvoteError(f"{source.shown}, column {self.label_column!r}: {told}") from error
        ids = None
        if self._known_by is not None:
            prefix = "" if self.id_column else images.rows.id_prefix
            ids = read_ids(source, images.column(rows, self._known_by), self._known_by, prefix).take(good)
        groups = None
        if self.group_column is not None:
            named = f"{source.shown}, column {self.group_column!r}"
            groups = read_groups(images.column(rows, self.group_column), named).take(good)
        weights = None if weights is None else weights[good]
        kept = self._kept(rows, good)
        numbers = rows.numbers[good]
        table = provenance_table(labels, ids, source.relative, numbers, groups=groups, weights=weights, kept=kept)
        skipped = sum(source.labels is None or reason != UNLABELLED for reason in bad.values())  # a table leaves out
        return pixels, table, skipped

    def _weights(self, rows: DecodedRows) -> NDArray[np.float64] | None:
        """What the votes of rows (n,) are multiplied by, as it stands there; None where nothing is asked."""
        if self.weight_column is None:
            return None
        try:
            return read_weights(self.images.column(rows, self.weight_column))
        except KnnvoteError as error:
            told = f"{self.images.source.shown}, column {self.weight_column!r}: {error.marked}"
            raise KnnvoteError(told) from error

    def _kept(self, rows: DecodedRows, good: NDArray[np.int64]) -> dict[str, pa.Array]:
        """Of some of the rows (m,) what is kept for people to read, by the names of its columns."""
        found, names = {}, self.images.rows.schema.names
        for name in self.keep:
            values = pa.nulls(len(rows.numbers), pa.string())
            if name in names:
                values = read_kept(self.images.column(rows, name), f"{self.images.source.shown}: column {name!r}")
            found[name] = values.take(good)
        return found

    def _other_columns(self) -> list[str]:
        """The columns that are read beside the images."""
        names = self.images.rows.schema.names
        kept = [("keep", name) for name in self.keep if name in names or not self.may_lack]
        beside = [("group_column", self.group_column), ("weight_column", self.weight_column), *kept]
        for option, name in (("id_column", self._known_by), *beside):
            if name not in {None, *names}:
                raise ImageFileError(
                    f"{self.images.source}: no column {name!r} for {param(option)}; there are {', '.join(names)}"
                )
        for option, name in beside:
            if name in {self.label_column, *self.images.layout.columns}:
                holds = "the labels" if name == self.label_column else "images"
                what = option.removesuffix("_column") + "s"
                instead = f", no {what}: name another with {param(option)}"
                if option == "keep":
                    instead = f", which the index stores anyway: leave it out of {param(option)}"
                raise ImageFileError(f"{self.images.source}: column {name!r} holds {holds}{instead}")
        named = (self.label_column, self._known_by, *(name for _, name in beside))
        return list(dict.fromkeys(name for name in named if name is not None))
