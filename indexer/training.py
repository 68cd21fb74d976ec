"""Labelled images read from files, checked row by row, with where each row came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.codecs.names import Background
from knnvote.data.errors import ImageFileError, KnnvoteError, check, check_instance, param, warn
from knnvote.data.input_file import InputFile, tell_unused_labels
from knnvote.data.inputs import distinctly_named, folders_told
from knnvote.data.labels.lists import refuse_fixes
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.reading import ImageFile, Part, files_with_rows, open_one_of
from knnvote.data.recognition import recognise_images
from knnvote.data.steps.chain import Steps, steps_of

from .building.doubts import (
    doubt_ids,
    tell_of_first_classes,
    tell_of_floats,
    tell_of_groups,
    tell_of_ids,
    tell_of_like_classes,
    tell_of_new_classes,
    tell_of_sources,
    tell_of_types,
    tell_of_vectors,
)
from .building.gathered import FilePart, Gathered
from .building.reader import Reader, passed_over
from .building.stepped import make_vectors
from .building.work import Work
from .labels import (
    class_names,
    is_usual_name,
    recognise_label,
    refuse_beside_folders,
    same_names,
)
from .manifest import Source
from .metric import METRICS
from .names import MetricName
from .records.kept import told_without_kept

_SHOWN = 3  # files in a message


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What the user says of labelled images; all of it optional.

    Attributes:
        images: overrides of how images are recognised.
        steps: between an image and its vector, in this order, as ``("centred", "unit")``; none for the pixels
            themselves.
        label_column: where labels are, if the guess fails.
        id_column: where ids are; without it ids are ``file#row``, or the paths of image files.
        group_column: where groups are, as of one patient, film or document: with an image its group is left out of what
            is measured on stored images.
        weight_column: where each image has what its vote is multiplied by, a finite number above 0; without it all
            count the same.
        keep: columns that are stored for people to read, as text: lists and pages of suspects, explanations and reviews
            show them.
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
    steps: Sequence[str] = ()
    label_column: str | None = None
    id_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    keep: Sequence[str] = ()
    is_regression: bool = False
    skip_bad: bool = False
    limit: int | None = None
    sample: int | None = None

    def __post_init__(self) -> None:
        """Check what was given.

        Raises:
            OptionError: naming what cannot be used.
        """
        check_instance("images", self.images, ImageOptions)
        are_names = not isinstance(self.keep, str) and all(isinstance(name, str) for name in self.keep)
        check("keep", self.keep, are_names, "give names of columns, as keep=('text',) does")
        object.__setattr__(self, "keep", tuple(dict.fromkeys(self.keep)))
        steps_of(self.steps).check_classes(is_regression=self.is_regression)


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Labelled images as vectors.

    Attributes:
        vectors: (n, d) as steps made them; without steps the images, in the smallest type that holds all without loss.
        provenance: (n rows) columns label, id, file, row and, if there are such, group, weight and what is kept.
        shape: of one image.
        steps: that made vectors of images, fitted.
        images: (n, pixels) of which steps made the vectors, in the smallest type likewise; None without steps.
        image_column: where the first file holds its images; None for arrays.
        label_column: where it holds the labels; None for arrays.
        id_column: where ids were looked for; None where they are ``file#row``.
        group_column: where groups were looked for; None where there are none, and for arrays.
        weight_column: where weights were found; None where there are none, and for arrays.
        keep: columns that are stored for people to read.
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
    steps: Steps = field(default_factory=Steps)
    images: NDArray[np.generic] | None = None
    image_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    keep: tuple[str, ...] = ()
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
        work: keeps what is read slice by slice, and has what a killed build of the same read; None for memory alone.
        progress: told the rows of each batch.
        tell: told what could have been meant otherwise: labels, images of two scales or all equal, copies of files.

    Raises:
        KnnvoteError: a file or row does not fit; the message names it and what to do.
    """
    steps, work = steps_of(options.steps) if stored is None else stored.steps, work or Work()
    gathered = _begun(work, stored, tell)
    chosen = Part(limit=options.limit, sample=options.sample, seed=seed).of(inputs)
    known = {source.path for source in (() if stored is None else stored.sources)}
    inputs = distinctly_named(inputs, known, has_ids=options.id_column is not None)
    reader = partial(
        Reader,
        id_column=options.id_column,
        group_column=options.group_column,
        weight_column=options.weight_column,
        keep=tuple(options.keep),
        is_regression=options.is_regression,
        skip_bad=options.skip_bad,
        gathered=gathered,
        steps=steps,
        metric=METRICS[metric],
    )
    _read_files(inputs, chosen, options, gathered, stored=stored, reader=reader, progress=progress, tell=tell)
    _check_parts(inputs, gathered.parts[0 if stored is None else 1 :], is_whole=chosen is None)
    found = _joined(gathered, options, stored)
    depends_on_scale = steps.depends_on_scale(METRICS[metric].keeps_values)
    _tell(found, gathered, options, stored=stored, depends_on_scale=depends_on_scale, tell=tell)
    part = {} if chosen is None else {"limit" if options.limit else "sample": sum(map(len, chosen))}
    return replace(with_vectors(found, steps, metric, stored, work), part=part)


def _read_files(
    inputs: Sequence[InputFile],
    chosen: Sequence[NDArray[np.int64]] | None,
    options: TrainingOptions,
    gathered: Gathered,
    *,
    stored: TrainingSet | None,
    reader: Callable[..., Reader],
    progress: Callable[[int], None],
    tell: Callable[[str], None],
) -> None:
    """Read what was not read before a kill; of labels that are floats it is told once."""
    refuse_fixes(inputs)
    tell_of_first_classes(inputs, chosen if options.limit else None, tell)
    tell_floats = tell
    for place, (source, wanted) in enumerate(files_with_rows(inputs, chosen)):
        if place < gathered.files:
            progress(passed_over(source, wanted, None))
            continue
        first = gathered.parts[0] if gathered.parts else None
        with open_one_of(inputs, source, _like(first, options, stored)) as images:
            described = source.describe()
            before = None if first is None else first.label_column
            label_column = _label_column(images, inputs, options, before, stored)
            gathered.names = same_names(source.shown, gathered.names, class_names(images.schema, label_column))
            if images.num_rows:
                may_lack = stored is not None
                reader(images=images, label_column=label_column, may_lack=may_lack).read(wanted, progress)
                tell_floats = tell if options.is_regression else tell_of_floats(images, label_column, tell_floats)
        dtype = str(gathered.parts[-1].common.dtype) if images.num_rows else None
        gathered.end_file(Source(**described, dtype=dtype))


def _begun(work: Work, stored: TrainingSet | None, tell: Callable[[str], None]) -> Gathered:
    """What a killed build had read, which is told, or else what an index stores that files are added to."""
    gathered = Gathered(work)
    if gathered.parts:
        read = sum(part.n + part.skipped for part in gathered.parts)
        tell(f"goes on with a build that was cut off: {read:,} rows are read already")
    if stored is not None:
        gathered.names, gathered.sources = stored.class_names, [*stored.sources]
        images = stored.vectors if stored.images is None else stored.images
        gathered.begin(_as_part(stored), images, stored.provenance)
    return gathered


def _joined(gathered: Gathered, options: TrainingOptions, stored: TrainingSet | None) -> TrainingSet:
    """All that was read, images as vectors; new ids are distinct but for those of a named column."""
    parts = gathered.parts
    first, named = (0, options) if stored is None else (len(stored.vectors), stored)
    vectors, provenance = gathered.finish(are_ids_named=options.id_column is not None, first=first)
    return TrainingSet(
        vectors=vectors,
        provenance=provenance,
        shape=parts[0].shape,
        image_column=parts[0].image_column or parts[-1].image_column,
        label_column=parts[0].label_column or parts[-1].label_column,
        id_column=named.id_column,
        group_column=named.group_column,
        weight_column=named.weight_column,
        keep=tuple(named.keep),
        class_names=gathered.names,
        is_regression=options.is_regression,
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
    depends_on_scale: bool,
    tell: Callable[[str], None],
) -> None:
    """Tell what could have been meant otherwise, or refuse it where it was guessed."""
    before, known = (0, ()) if stored is None else (len(stored.vectors), stored.sources)
    if not options.is_regression:
        if stored is None or stored.label_column is None:
            new = found.provenance.slice(before)
            doubt_ids(found.label_column, new, is_named=options.label_column is not None, tell=tell)
        if stored is None:
            tell_of_like_classes(found.provenance["label"], tell)
        else:
            labels = found.provenance["label"]
            tell_of_new_classes(labels[:before], labels[before:], found.class_names, tell)
    tell_of_groups(found.provenance, before, found.class_names, is_regression=options.is_regression, tell=tell)
    if options.id_column is not None:
        tell_of_ids(found.provenance["id"].slice(before), tell)
    tell_of_sources(found.sources[len(known) :], tell)
    if stored is not None and (told := told_without_kept(found.provenance.slice(before), stored.keep)) is not None:
        tell(told)
    by_file = gathered.by_file(found.vectors)
    types = {name: dtype for name, (vectors, dtype) in by_file.items() if len(vectors)}
    tell_of_types(types, found.vectors.dtype, tell, grows=stored is not None)
    tell_of_vectors(by_file, found.image_column, tell, depends_on_scale=depends_on_scale)


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
        tables = [source.labels for source in inputs if source.labels is not None]
        if tables and all(table.labels.null_count == len(table.labels) for table in tables):
            raise KnnvoteError(
                f"{tables[0].shown} holds no label, its column {tables[0].label_column!r} is empty: fill it in first"
            )
        skipped = sum(part.skipped for part in new)
        shown = ", ".join([*(source.shown for source in inputs[:_SHOWN]), *(["..."] if len(inputs) > _SHOWN else [])])
        raise KnnvoteError(
            f"{shown}: no labelled image in {len(inputs)} file(s)"
            f"{f', {skipped:,} bad rows left out' if skipped else ''}; an index needs at least one"
        )


def _like(first: FilePart | None, options: TrainingOptions, stored: TrainingSet | None) -> Callable[[pa.Table], Layout]:
    """What recognises images of the first part's shape; of columns that could be meant, the stored ones."""
    known = (options, *(() if stored is None else (stored,)))
    named = ((of.label_column, of.id_column, of.group_column, of.weight_column, *of.keep) for of in known)
    others = {column for columns in named for column in columns if column is not None}
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
        doubtful = (options.group_column, *options.keep)
        beside = (*(name for name in doubtful if not is_usual_name(name)), options.weight_column)
        found = recognise_label(images.schema, (*images.no_labels, *filter(None, beside)), named, options.id_column)
        if named is None:
            refuse_beside_folders(found, images.source.relative)
        if named is None and before is not None and (stored is not None or not is_usual_name(found)):
            raise ImageFileError(
                f"no column {before!r}, from which the labels before it were read; there are {', '.join(names)}: "
                f"name the labels' with {param('label_column')}"
            )
    return found


def with_vectors(
    found: TrainingSet, steps: Steps, metric: MetricName, stored: TrainingSet | None, work: Work
) -> TrainingSet:
    """Images that were taken as vectors, with the vectors that steps make of them; without steps as they are.

    Raises:
        KnnvoteError: a step makes no vector of an image, or none of the type of the stored ones.
    """
    if not steps:
        return found
    images, before = found.vectors, 0 if stored is None else len(stored.vectors)
    new = found.provenance.slice(before)
    classes = None if found.is_regression else _codes(new["label"])
    given = {"classes": classes, "metric": METRICS[metric], "provenance": new, "work": work}
    vectors, fitted = make_vectors(images, found.shape, steps, **given)
    if stored is not None and vectors.dtype != stored.vectors.dtype:
        raise KnnvoteError(
            f"the steps {steps} make {vectors.dtype} of images of type {images.dtype}, and {stored.vectors.dtype} of "
            "those that are stored: build an index of all of them"
        )
    return replace(found, vectors=vectors, images=images, steps=fitted)


def _codes(labels: pa.ChunkedArray) -> NDArray[np.int32]:
    """(n,) a number for each label, the same of the same."""
    codes: NDArray[np.int32] = labels.combine_chunks().dictionary_encode().indices.to_numpy()
    return codes
