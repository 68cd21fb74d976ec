"""Labelled images: read from Parquet files or taken from arrays, checked row by row, with where each row came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.codecs.names import Background
from knnvote.data.errors import ImageFileError, KnnvoteError, param, warn
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import distinctly_named, folders_told, tell_unused_labels
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.reading import DecodedRows, ImageFile, Part, files_with_rows, open_images
from knnvote.data.recognition import recognise_images
from knnvote.data.steps import Pixels, Step
from knnvote.data.vectors import smallest_type

from .building.gathered import FilePart, Gathered
from .building.provenance import provenance_table, read_ids
from .building.work import Work
from .doubts import doubt_ids, tell_of_floats, tell_of_new_classes, tell_of_sources, tell_of_vectors
from .labels import (
    UNLABELLED,
    check_same_kind,
    class_names,
    is_usual_name,
    label_array,
    recognise_label,
    refuse_beside_folders,
    same_names,
    told_as_text,
    unusable_labels,
)
from .manifest import Source
from .metric import METRICS, Metric
from .names import MetricName

_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What the user says of labelled images; all of it optional.

    Attributes:
        images: overrides of how images are recognised.
        label_column: where labels are, if the guess fails.
        id_column: where ids are; without it ids are ``file#row``, or the paths of image files.
        is_regression: labels are numbers to be averaged.
        skip_bad: leave out rows that do not fit, and count them.
        limit: of all files together take so many rows, the first.
        sample: of all files together take so many rows, drawn at random, in their order.

    Example:
        >>> from knnvote import TrainingOptions, index_files
        >>> training = TrainingOptions(label_column="label", skip_bad=True)
        >>> index_files("digits/train.parquet", "labelled.knn", training=training)
    """

    images: ImageOptions = field(default_factory=ImageOptions)
    label_column: str | None = None
    id_column: str | None = None
    is_regression: bool = False
    skip_bad: bool = False
    limit: int | None = None
    sample: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Labelled images as vectors.

    Attributes:
        vectors: (n, d) in the smallest type that holds all of them without loss.
        provenance: (n rows) columns label, id, file, row.
        shape: of one image.
        step: that made vectors of images.
        image_column: where the first file holds its images; None for arrays.
        label_column: where it holds the labels; None for arrays.
        id_column: where ids were looked for; None where they are ``file#row``.
        class_names: names that a Hugging Face data set gives its integer classes.
        is_regression: labels are numbers to be averaged.
        grayscale: colour images are converted to grey.
        background: on which transparent pixels are laid.
        sources: each file.
        skipped: rows left out as bad.
        feature_names: of each value of a vector, where they came from a table with a column a value.
        estimator: parameters by which the estimator that saved an index answers, as `Manifest` has them.
        part: ``limit`` or ``sample`` with their rows, where these are not all rows of the sources.
    """

    vectors: NDArray[np.generic]
    provenance: pa.Table
    shape: tuple[int, ...]
    step: Step = field(default_factory=Pixels)
    image_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    class_names: list[str] | None = None
    is_regression: bool = False
    grayscale: bool = False
    background: Background | None = None
    sources: tuple[Source, ...] = ()
    skipped: int = 0
    feature_names: tuple[str, ...] | None = None
    estimator: dict[str, Any] = field(default_factory=dict)
    part: dict[str, int] = field(default_factory=dict)


def read_training_set(
    inputs: Sequence[InputFile],
    options: TrainingOptions,
    *,
    metric: MetricName = "l2",
    stored: TrainingSet | None = None,
    seed: int = 0,
    work: Work | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
    tell: Callable[[str], None] = warn,
) -> TrainingSet:
    """Read labelled images.

    Args:
        inputs: Parquet files; all must hold images of one shape.
        options: overrides and checks.
        metric: rows that have no place in its space are bad.
        stored: what an index holds; the files must fit it. The result is of its rows and theirs, but of their vectors.
        seed: of a sample.
        work: where what is read is kept slice by slice, and what a killed build of the same had read; None where all
            stays in memory.
        progress: told the rows of each batch.
        tell: told what could have been meant otherwise: labels, images of two scales or all equal, copies of files.

    Raises:
        KnnvoteError: a file or row does not fit; the message names it and what to do.
    """
    gathered = Gathered(work or Work())
    step: Step = Pixels()
    if stored is not None:
        step, gathered.names, gathered.sources = stored.step, stored.class_names, [*stored.sources]
        gathered.begin(_as_part(stored), stored.vectors, stored.provenance)
    chosen = Part(limit=options.limit, sample=options.sample, seed=seed).of(inputs)
    known = {source.path for source in gathered.sources} if stored is not None else set[str]()
    inputs = distinctly_named(inputs, known, has_ids=options.id_column is not None)
    tell_floats = tell
    for place, (source, wanted) in enumerate(files_with_rows(inputs, chosen)):
        if place < gathered.files:
            progress(_passed_over(source, wanted, None))
            continue
        first = gathered.parts[0] if gathered.parts else None
        with open_images(source, _like(first, options, stored)) as images:
            described = source.describe()
            before = None if first is None else first.label_column
            label_column = _label_column(images, inputs, options, before, stored)
            gathered.names = same_names(source.shown, gathered.names, class_names(images.schema, label_column))
            if images.num_rows:
                _Reader(images, label_column, options, gathered, step, METRICS[metric]).read(wanted, progress)
                if not options.is_regression:
                    tell_floats = tell_of_floats(images, label_column, tell_floats)
        dtype = str(gathered.parts[-1].common.dtype) if images.num_rows else None
        gathered.end_file(Source(**described, dtype=dtype))
    _check_parts(inputs, gathered.parts[0 if stored is None else 1 :], is_whole=chosen is None)
    found = _joined(gathered, options, stored)
    _tell(found, gathered, options, stored=stored, metric=metric, tell=tell)
    return replace(
        found,
        step=step,
        id_column=options.id_column if stored is None else stored.id_column,
        is_regression=options.is_regression,
        part={} if chosen is None else {"limit" if options.limit else "sample": sum(map(len, chosen))},
    )


def _passed_over(source: InputFile, wanted: NDArray[np.int64] | None, rows: int | None) -> int:
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


def _joined(gathered: Gathered, options: TrainingOptions, stored: TrainingSet | None) -> TrainingSet:
    """All that was read; new ids are distinct but for those of a named column."""
    parts = gathered.parts
    first = 0 if stored is None else len(stored.vectors)
    vectors, provenance = gathered.finish(are_ids_named=options.id_column is not None, first=first)
    return TrainingSet(
        vectors=vectors,
        provenance=provenance,
        shape=parts[0].shape,
        image_column=parts[0].image_column or parts[-1].image_column,
        label_column=parts[0].label_column or parts[-1].label_column,
        class_names=gathered.names,
        sources=tuple(gathered.sources),
        skipped=sum(part.skipped for part in parts),
        grayscale=options.images.grayscale,
        background=options.images.background,
    )


def _tell(
    found: TrainingSet,
    gathered: Gathered,
    options: TrainingOptions,
    *,
    stored: TrainingSet | None,
    metric: MetricName,
    tell: Callable[[str], None],
) -> None:
    """Tell what could have been meant otherwise, or refuse it where it was guessed."""
    before, known = (0, ()) if stored is None else (len(stored.vectors), stored.sources)
    if not options.is_regression:
        if stored is None or stored.label_column is None:
            new = found.provenance.slice(before)
            doubt_ids(found.label_column, new, is_named=options.label_column is not None, tell=tell)
        if stored is not None:
            labels = found.provenance["label"]
            tell_of_new_classes(labels[:before], labels[before:], found.class_names, tell)
    tell_of_sources(found.sources[len(known) :], tell)
    tell_of_vectors(gathered.by_file(found.vectors), found.image_column, metric, tell)


def _as_part(stored: TrainingSet) -> FilePart:
    return FilePart(
        name="the index",
        shape=stored.shape,
        image_column=stored.image_column,
        label_column=stored.label_column,
        skipped=stored.skipped,
    )


def _check_parts(inputs: Sequence[InputFile], new: Sequence[FilePart], *, is_whole: bool) -> None:
    """Refuse files without any image; tell of labels without any, where all rows were read."""
    if is_whole:
        tell_unused_labels(inputs)
    if not any(part.n for part in new):
        skipped = sum(part.skipped for part in new)
        raise KnnvoteError(
            f"{', '.join(source.shown for source in inputs)}: no labelled image in {len(inputs)} file(s)"
            f"{f', {skipped:,} bad rows left out' if skipped else ''}; an index needs at least one"
        )


def _like(first: FilePart | None, options: TrainingOptions, stored: TrainingSet | None) -> Callable[[pa.Table], Layout]:
    """What recognises images of the first part's shape; of columns that could be meant, the stored ones."""
    known = (options, *(() if stored is None else (stored,)))
    others = {column for of in known for column in (of.label_column, of.id_column) if column is not None}
    others.discard(options.images.image_column or "")
    shape = None if first is None else first.shape
    found = partial(recognise_images, options=options.images, expected=shape, others=others)
    return (
        found if stored is None else partial(found, preferred=stored.image_column, feature_names=stored.feature_names)
    )


def _label_column(
    images: ImageFile,
    inputs: Sequence[InputFile],
    options: TrainingOptions,
    before: str | None,
    stored: TrainingSet | None,
) -> str:
    """The column of labels: that of the labels before these, unless another is named; in one go, a usual one."""
    names, named = images.schema.names, options.label_column or images.source.joined_label
    if named is None and before in names:
        named = before
    with folders_told(images.source, inputs), images.source.content_told():
        found = recognise_label(images.schema, images.no_labels, named, options.id_column)
        if named is None:
            refuse_beside_folders(found, images.source.relative)
        if named is None and before is not None and (stored is not None or not is_usual_name(found)):
            raise ImageFileError(
                f"no column {before!r}, from which the labels before it were read; there are {', '.join(names)}: "
                f"name the labels' with {param('label_column')}"
            )
    return found


@dataclass(frozen=True)
class _Reader:
    """Reads a file's rows into what is gathered.

    Attributes:
        images: the file.
        label_column: of it.
        options: what the user says of it.
        gathered: with what was read before.
        step: that makes vectors.
        metric: in whose space these must have a place.
    """

    images: ImageFile
    label_column: str
    options: TrainingOptions
    gathered: Gathered
    step: Step
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
            progress(_passed_over(images.source, wanted, start))
        of_all = images.read(columns, batch_size=_BATCH, span=range(start, images.num_rows) if start else None)
        some = None if wanted is None else wanted[start:]
        for rows in of_all if some is None else images.take(some, columns, batch_size=_BATCH):
            vectors, table, skipped = self._good(rows)
            kinds = (
                part.label_type or table.schema.field("label").type for part in (gathered.parts[0], gathered.parts[-1])
            )
            check_same_kind(images.source, self.label_column, *kinds)
            gathered.add(vectors, table, rows=len(rows.numbers), skipped=skipped)
            progress(len(rows.numbers))

    def _part(self) -> FilePart:
        """Of this file, without any row."""
        return FilePart(
            name=self.images.source.shown,
            shape=self.images.layout.shape,
            image_column=self.images.layout.name,
            label_column=self.label_column,
            has_ids=self._id_column is not None,
        )

    @property
    def _id_column(self) -> str | None:
        return self.options.id_column or self.images.rows.id_column

    def _good(self, rows: DecodedRows) -> tuple[NDArray[Any], pa.Table, int]:
        """Vectors of the rows that fit, in the type that they need, their provenance, and how many others are told of.

        Raises:
            KnnvoteError: one does not, and such are not left out, or a label's type cannot be used.
        """
        images, options, source = self.images, self.options, self.images.source
        block = rows.vectors(self.step)
        bad = self.metric.unusable_rows(block) | rows.bad
        label = images.column(rows, self.label_column)
        bad |= unusable_labels(label, None if options.is_regression else self.gathered.names)
        if bad and not options.skip_bad:
            row = min(bad)
            raise KnnvoteError(
                f"{images.rows.row_name(int(rows.numbers[row]))}: {bad[row]}; "
                f"mend it{images.how_to_mend(bad[row])}, or pass {param('skip_bad=True')} to leave such rows out"
            )
        good = np.setdiff1d(np.arange(len(block)), list(bad))
        try:
            vectors = smallest_type(block[good] if bad else block)
        except KnnvoteError as error:
            raise KnnvoteError(f"{source.shown}: {error.marked}") from error
        try:
            labels = label_array(label.take(good), is_regression=options.is_regression)
        except KnnvoteError as error:
            told = f"{error.marked}{told_as_text(source, self.label_column, label.type)}"
            raise KnnvoteError(f"{source.shown}, column {self.label_column!r}: {told}") from error
        ids = None
        if self._id_column is not None:
            prefix = "" if options.id_column else images.rows.id_prefix
            ids = read_ids(source, images.column(rows, self._id_column), self._id_column, prefix).take(good)
        table = provenance_table(labels, ids, source.relative, rows.numbers[good])
        skipped = sum(source.labels is None or reason != UNLABELLED for reason in bad.values())  # a table leaves out
        return vectors, table, skipped

    def _other_columns(self) -> list[str]:
        """The columns that are read beside the images."""
        names = self.images.rows.schema.names
        if self._id_column not in {None, *names}:
            raise ImageFileError(
                f"{self.images.source}: no column {self._id_column!r} for {param('id_column')}; "
                f"there are {', '.join(names)}"
            )
        return [self.label_column] if self._id_column is None else [self.label_column, self._id_column]
