"""Labelled images: read from Parquet files or taken from arrays, checked row by row, with where each row came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.codecs.names import Background
from knnvote.data.columns import is_float
from knnvote.data.errors import ImageFileError, KnnvoteError, param, warn
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import distinctly_named, folders_told, tell_unused_labels
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.reading import ImageFile, Part, files_with_rows, open_images
from knnvote.data.recognition import recognise_images
from knnvote.data.steps import Pixels, Step
from knnvote.data.vectors import common_type, smallest_type

from .doubts import doubt_ids, tell_of_floats, tell_of_new_classes, tell_of_sources, tell_of_vectors
from .labels import (
    UNLABELLED,
    check_same_kind,
    class_names,
    distinct_ids,
    is_usual_name,
    label_array,
    provenance_table,
    read_ids,
    recognise_label,
    refuse_beside_folders,
    same_names,
    told_as_text,
    unusable_labels,
)
from .manifest import Source
from .metric import METRICS
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


@dataclass(frozen=True)
class _Part:
    """What one file gives, or an index that files are added to: vectors (m, d), provenance (m rows), rows left out."""

    name: str
    vectors: list[NDArray[np.generic]]
    provenance: list[pa.Table]
    skipped: int
    shape: tuple[int, ...]
    image_column: str | None
    label_column: str | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """That holds all vectors without loss."""
        return common_type(self.vectors)

    @property
    def label_type(self) -> pa.DataType:
        """Of the labels."""
        return self.provenance[0].schema.field("label").type


def read_training_set(
    inputs: Sequence[InputFile],
    options: TrainingOptions,
    *,
    metric: MetricName = "l2",
    stored: TrainingSet | None = None,
    seed: int = 0,
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
        progress: told the rows of each batch.
        tell: told what could have been meant otherwise: labels, images of two scales or all equal, copies of files.

    Raises:
        KnnvoteError: a file or row does not fit; the message names it and what to do.
    """
    parts: list[_Part] = [] if stored is None else [_as_part(stored)]
    names, step = (None, Pixels()) if stored is None else (stored.class_names, stored.step)
    sources = [] if stored is None else [*stored.sources]
    chosen = Part(limit=options.limit, sample=options.sample, seed=seed).of(inputs)
    inputs = distinctly_named(inputs, {source.path for source in sources}, has_ids=options.id_column is not None)
    for source, wanted in files_with_rows(inputs, chosen):
        with open_images(source, _like(parts[0] if parts else None, options, stored)) as images:
            described = source.describe()
            label_column = _label_column(images, inputs, options, parts[0].label_column if parts else None, stored)
            names = same_names(source.shown, names, class_names(images.schema, label_column))
            if images.num_rows:
                read = partial(_read_part, names=names, step=step, metric=metric, progress=progress)
                parts.append(read(images, label_column, options, wanted))
                check_same_kind(source, label_column, parts[0].label_type, parts[-1].label_type)
                tell = tell if options.is_regression else tell_of_floats(images, label_column, tell)
        sources.append(Source(**described, dtype=str(parts[-1].dtype) if images.num_rows else None))
    _check_parts(inputs, parts if stored is None else parts[1:], is_whole=chosen is None)
    found = replace(_joined(parts, options, stored), class_names=names, sources=tuple(sources))
    _tell(found, parts, options, stored=stored, metric=metric, tell=tell)
    return replace(
        found,
        step=step,
        id_column=options.id_column if stored is None else stored.id_column,
        is_regression=options.is_regression,
        part={} if chosen is None else {"limit" if options.limit else "sample": sum(map(len, chosen))},
    )


def _joined(parts: Sequence[_Part], options: TrainingOptions, stored: TrainingSet | None) -> TrainingSet:
    """All parts as one, in types that hold all without loss; new ids are distinct but for those of a named column."""
    first = 0 if stored is None else len(stored.vectors)
    tables = [table for part in parts for table in part.provenance]
    blocks = [block for part in parts for block in part.vectors]
    provenance = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    return TrainingSet(
        vectors=np.concatenate(blocks if stored is None else blocks[1:], dtype=common_type(blocks)),
        provenance=provenance if options.id_column else distinct_ids(provenance, first),
        shape=parts[0].shape,
        image_column=parts[0].image_column or parts[-1].image_column,
        label_column=parts[0].label_column or parts[-1].label_column,
        skipped=sum(part.skipped for part in parts),
        grayscale=options.images.grayscale,
        background=options.images.background,
    )


def _tell(
    found: TrainingSet,
    parts: Sequence[_Part],
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
    tell_of_vectors({part.name: part.vectors for part in parts}, found.image_column, metric, tell)


def _as_part(stored: TrainingSet) -> _Part:
    return _Part(
        "the index",
        [stored.vectors],
        [stored.provenance],
        stored.skipped,
        stored.shape,
        stored.image_column,
        stored.label_column,
    )


def _check_parts(inputs: Sequence[InputFile], new: Sequence[_Part], *, is_whole: bool) -> None:
    """Refuse files without any image; tell of labels without any, where all rows were read."""
    if is_whole:
        tell_unused_labels(inputs)
    if not any(len(block) for part in new for block in part.vectors):
        skipped = sum(part.skipped for part in new)
        raise KnnvoteError(
            f"{', '.join(source.shown for source in inputs)}: no labelled image in {len(inputs)} file(s)"
            f"{f', {skipped:,} bad rows left out' if skipped else ''}; an index needs at least one"
        )


def _like(first: _Part | None, options: TrainingOptions, stored: TrainingSet | None) -> Callable[[pa.Table], Layout]:
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


def training_set_from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[Any],
    *,
    metric: MetricName = "l2",
    is_regression: bool = False,
    feature_names: Sequence[str] | None = None,
) -> TrainingSet:
    """Take labelled images from arrays.

    Args:
        images: (n, *shape) of any number type.
        labels: (n,) integers, strings or booleans; floats for regression.
        metric: rows that have no place in its space are refused.
        is_regression: labels are numbers to be averaged.
        feature_names: of each value, where they have any.

    Raises:
        KnnvoteError: the counts differ, a value is not finite, a label is missing or of a type that cannot be used.
    """
    images = np.asarray(images)
    _check_arrays(images, labels)
    step = Pixels()
    flat = step(images, images.shape[1:])
    bad = {} if np.isfinite(flat).all() else {int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0]): "not finite"}
    bad |= METRICS[metric].unusable_rows(flat)
    for row, reason in bad.items():
        raise KnnvoteError(f"image {row} cannot be stored: {reason}; leave it out")
    try:
        given = pa.array(labels)
        label = label_array(given, is_regression=is_regression)
    except (pa.ArrowException, OverflowError) as error:
        raise KnnvoteError(f"labels cannot be used ({error}): give one integer, string or boolean an image") from error
    if is_float(given.type) and not is_regression:
        warn(f"labels are {given.type}, and all are whole: they are classes; to average them, give is_regression=True")
    if label.null_count:
        raise KnnvoteError(f"{label.null_count} labels are missing: leave those images out")
    provenance = provenance_table(label, None, "array", np.arange(len(images)))
    return TrainingSet(
        vectors=smallest_type(flat),
        provenance=provenance,
        shape=images.shape[1:],
        step=step,
        is_regression=is_regression,
        feature_names=None if feature_names is None else tuple(feature_names),
    )


def _check_arrays(images: NDArray[Any], labels: NDArray[Any] | Sequence[Any]) -> None:
    if images.ndim < 2 or len(images) != len(labels) or not len(images):
        raise KnnvoteError(
            f"images of shape {images.shape} and {len(labels)} labels: expected (n, ...) with one label for each of "
            "n images, n at least 1"
        )
    if images.dtype.kind not in "biuf" or not images[0].size:
        raise KnnvoteError(f"images are {images.dtype} of shape {images.shape}: expected numbers, one or more an image")


def _read_part(
    images: ImageFile,
    label_column: str,
    options: TrainingOptions,
    wanted: NDArray[np.int64] | None,
    *,
    names: Sequence[str] | None,
    step: Step,
    metric: MetricName,
    progress: Callable[[int], None],
) -> _Part:
    vectors, tables, skipped = [], [], 0
    source = images.source
    columns = _other_columns(images, label_column, options)
    of_all = images.read(columns, batch_size=_BATCH)
    for rows in of_all if wanted is None else images.take(wanted, columns, batch_size=_BATCH):
        block = rows.vectors(step)
        bad = METRICS[metric].unusable_rows(block) | rows.bad
        label = images.column(rows, label_column)
        bad |= unusable_labels(label, None if options.is_regression else names)
        if bad and not options.skip_bad:
            row = min(bad)
            raise KnnvoteError(
                f"{images.rows.row_name(int(rows.numbers[row]))}: {bad[row]}; "
                f"mend it, or pass {param('skip_bad=True')} to leave such rows out"
            )
        good = np.setdiff1d(np.arange(len(block)), list(bad))
        try:
            vectors.append(smallest_type(block[good] if bad else block))
        except KnnvoteError as error:
            raise KnnvoteError(f"{source.shown}: {error.marked}") from error
        try:
            labels = label_array(label.take(good), is_regression=options.is_regression)
        except KnnvoteError as error:
            told = f"{error.marked}{told_as_text(source, label_column, label.type)}"
            raise KnnvoteError(f"{source.shown}, column {label_column!r}: {told}") from error
        ids = None
        if (id_column := options.id_column or images.rows.id_column) is not None:
            ids = read_ids(source, images.column(rows, id_column), id_column).take(good)
        tables.append(provenance_table(labels, ids, source.relative, rows.numbers[good]))
        skipped += sum(source.labels is None or reason != UNLABELLED for reason in bad.values())  # a table leaves out
        progress(len(block))
    return _Part(source.shown, vectors, tables, skipped, images.layout.shape, images.layout.name, label_column)


def _other_columns(images: ImageFile, label_column: str, options: TrainingOptions) -> list[str]:
    """The columns that are read beside the images."""
    id_column = options.id_column or images.rows.id_column
    names = images.rows.schema.names
    if id_column not in {None, *names}:
        raise ImageFileError(
            f"{images.source}: no column {id_column!r} for {param('id_column')}; there are {', '.join(names)}"
        )
    return [label_column] if id_column is None else [label_column, id_column]
