"""Which images of input files are shown, with labels and predictions: only the pixels that are shown are kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from knnvote.classify.answer import Answer
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.testset import read_true_labels
from knnvote.data.columns import check_text, read_column
from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError, param
from knnvote.data.input_file import InputFile
from knnvote.data.layout import ImageOptions, Layout, is_picture, show_shape
from knnvote.data.reading import DecodedRows, ImageFile
from knnvote.data.recognition import recognise_images
from knnvote.indexer.labels import class_names, find_label, like_known

from .filter import Chosen, FilteredFile, RowFilter
from .finished import FinishedJob, first_rows

_BATCH = 2048
_CLASSES = 20  # that are named
_LABELS = 1 << 16  # rows of a batch without images


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image of an input file.

    Attributes:
        source: the file.
        row: in the file, from 0.
        name: of a folder of image files the name of its own, else the row.
        pixels: (height, width) as the file holds them; None where it cannot be read.
        truth: its label in the file, None without one.
        status: what a job made of it, ``ok``, ``abstained`` or ``bad_image``; None without a job.
        prediction: of that job, None unless the status is ok.
        is_wrong: whether the prediction is another class than the truth.
        answer: of the one image with its neighbours, where these were asked for.
    """

    source: InputFile
    row: int
    name: str
    pixels: NDArray[Any] | None
    truth: Any = None
    status: str | None = None
    prediction: Any = None
    is_wrong: bool = False
    answer: Answer | None = None


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a file as a job and the file's labels have them, each (n,); None where there are none."""

    truth: list[Any] | None = None
    prediction: pa.Array | None = None
    status: pa.Array | None = None

    @cached_property
    def is_wrong(self) -> NDArray[np.bool_]:
        """(n,) rows with a truth and a prediction of another class; numbers that were averaged are never wrong."""
        if self.truth is None or self.prediction is None or pt.is_floating(self.prediction.type):
            return np.zeros(0 if self.status is None else len(self.status), np.bool_)
        # By value: the types of integers, of strings too, may differ.
        pairs = zip(self.truth, self.prediction.to_pylist(), strict=True)
        wrong = (None not in (true, label) and label != true for true, label in pairs)
        return np.fromiter(wrong, np.bool_, len(self.truth))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How images are found and which are shown.

    Attributes:
        count: images that are shown, at most.
        images: overrides of how they are recognised.
        label_column: their labels; by default the only column with a usual name.
        rows: which are meant, and which of them come first.
        job: whose predictions are shown beside the labels.
        classifier: shows only images that the job gave a wrong label, with the neighbours that it finds.
    """

    count: int
    images: ImageOptions
    label_column: str | None = None
    rows: RowFilter = field(default_factory=RowFilter)
    job: FinishedJob | None = None
    classifier: Classifier | None = None

    def recognise(self, head: pa.Table) -> Layout:
        """How a file whose first rows these are holds its images.

        Raises:
            ImageFileError: it holds none, or of another shape than the job's index.
        """
        return recognise_images(head, self.images) if self.job is None else self.job.recognise(head, self.images)

    @contextmanager
    def filtered(self, images: ImageFile, label: str | None, *, is_alone: bool) -> Iterator[FilteredFile]:
        """A file of images as rows are chosen in it: by the job's output of it, or without one by its own columns.

        Raises:
            KnnvoteError: the job has no output of it, or one of other content.
        """
        source = images.source
        names = None if label is None else class_names(images.schema, label)
        if self.job is None:
            yield FilteredFile(
                rows=images.rows, name=source.relative, is_alone=is_alone, prefix="", label=label, class_names=names
            )
            return
        prefix = self.job.record.prefix
        with ParquetRows.open(self.job.output(source)) as rows:
            yield FilteredFile(
                rows=rows,
                name=source.relative,
                is_alone=is_alone,
                prefix=prefix,
                label=f"{prefix}best",
                class_names=names,
                own_ids=self.job.record.id_column,
                of_source=self.job.record.output.of_source,
            )


def select_images(inputs: Sequence[InputFile], selection: Selection) -> tuple[list[ShownImage], int]:
    """The first images that are to be shown, and how many there are in all.

    Where every row is meant no more are read than are shown, and these are counted.

    Raises:
        ImageFileError: a file holds no images that are pictures, or no such label column.
        KnnvoteError: the job's outputs are not those of the inputs, or an id is of no row.
        OptionError: the classifier's index has no classes.
    """
    if selection.classifier is not None and selection.classifier.index.is_regression:
        raise OptionError(
            f"{selection.classifier.index.path} was built for regression, where no class is wrong: "
            f"leave out {param('classifier')}"
        )
    selection.rows.check_job(selection.job is not None)
    chosen = _choose(inputs, selection)
    shown: dict[tuple[int, int], ShownImage] = {}
    for file in dict.fromkeys(chosen.files.tolist()):
        source, wanted = inputs[file], np.sort(chosen.rows[chosen.files == file])
        with source.open_rows() as held:
            images = ImageFile.recognised(source, held, selection.recognise)
            rows = _read_rows(images, _label_column(images, selection), selection, int(wanted[-1]) + 1)
            for decoded in images.take(wanted, batch_size=_BATCH):
                for image in _show(images, decoded, rows, selection.classifier):
                    shown[file, image.row] = image
    places = zip(chosen.files.tolist(), chosen.rows.tolist(), strict=True)
    return [shown[place] for place in places], chosen.total


def _choose(inputs: Sequence[InputFile], selection: Selection) -> Chosen:
    """The rows that are to be shown; files are read as far as it takes to know."""
    chosen = Chosen(selection.rows, selection.count)
    is_plain, classes = selection.rows.takes_all and selection.classifier is None, set[str]()
    for file, source in enumerate(inputs):
        if is_plain and chosen.total == selection.count:
            break
        with source.open_rows() as held:
            if not held.num_rows:
                continue
            images = ImageFile.recognised(source, held, selection.recognise)
            label = _label_column(images, selection)
            if is_plain:
                left = selection.count - chosen.total
                chosen.add(file, np.arange(min(left, images.num_rows)))
                continue
            wrong = None
            if selection.classifier is not None:
                wrong = _read_rows(images, label, selection, None).is_wrong
            with selection.filtered(images, label, is_alone=len(inputs) == 1) as filtered:
                for rows, keys, met in filtered.meant(selection.rows):
                    is_meant = np.ones(len(rows), np.bool_) if wrong is None else wrong[rows]
                    chosen.add(file, rows[is_meant], keys[is_meant], met)
                classes |= filtered.classes
    _check_class(selection, classes)
    if missing := [name for name in selection.rows.ids if name not in chosen.met]:
        raise KnnvoteError(
            f"no row of {inputs[0]}{' and the other files' if inputs[1:] else ''} is {missing[0]!r}: give file and "
            f"row, such as {inputs[0].relative}#0, an id, or {param('id_column')} for its column"
        )
    return chosen


def _check_class(selection: Selection, classes: set[str]) -> None:
    """Refuse to look for a class that is none of those that files have.

    Raises:
        KnnvoteError: naming these.
    """
    label = selection.rows.label
    if label is None or not classes or label in classes:
        return
    known = sorted(classes)
    shown = ", ".join(known[:_CLASSES]) + (f" and {len(known) - _CLASSES:,} more" if known[_CLASSES:] else "")
    what = "labels" if selection.job is None else "best guesses"
    raise KnnvoteError(f"no class is {label!r}{like_known(label, known)}: {what} are of {shown}")


def _label_column(images: ImageFile, selection: Selection) -> str | None:
    """The label column of a file of pictures, if it has one."""
    source, layout = images.source, images.layout
    if not is_picture(layout.shape):
        raise ImageFileError(
            f"{source} holds {show_shape(layout.shape)} a row in column {layout.name!r}, and what is shown are "
            f"pictures of height x width: give {param('shape')} if they are some"
        )
    asked = selection.label_column or source.joined_label
    if asked is None and selection.classifier is not None:  # as compare takes it
        of_index = selection.classifier.index.manifest.label_column
        asked = of_index if of_index in images.schema.names else None
    label = find_label(images.schema, layout.columns, asked)
    if asked is not None and label != asked:
        raise ImageFileError(f"{source} has no column {asked!r} for {param('label_column')}")
    if selection.classifier is not None and label is None:
        raise ImageFileError(
            f"{source} has no labels to tell errors by: name their column with {param('label_column')}"
        )
    return label


def _read_rows(images: ImageFile, label: str | None, selection: Selection, rows: int | None) -> _Rows:
    """Labels and answers of the first rows, or of all."""
    truth = prediction = status = None
    source = images.source
    if selection.job is not None:
        prediction, status = selection.job.answers(source, rows)
    if label is not None:
        batches = images.rows.batches([label], min(rows or _LABELS, _LABELS))
        labels = first_rows(([read_column(batch, label)] for batch in batches), rows)[0]
        with source.content_told():
            check_text(labels, label)
        if prediction is None or pt.is_floating(prediction.type):  # nothing to compare them with
            truth = labels.to_pylist()
        else:
            classifier = selection.classifier
            known = None if classifier is None else classifier.index.manifest.class_names
            truth = read_true_labels(images, label, labels, prediction.type, known)
    return _Rows(truth=truth, prediction=prediction, status=status)


def _show(images: ImageFile, decoded: DecodedRows, rows: _Rows, classifier: Classifier | None) -> list[ShownImage]:
    """Images of some rows, with what is known of them."""
    source = images.source
    answers = None if classifier is None else _answer_one_by_one(classifier, decoded)
    shown = []
    for place, row in enumerate(decoded.numbers.tolist()):
        prediction, status = (
            None if column is None else column[row].as_py() for column in (rows.prediction, rows.status)
        )
        answer = None if answers is None else answers[place]
        if answer is not None and answer.prediction[0].as_py() != prediction:
            raise KnnvoteError(
                f"{source}, row {row} is {answer.prediction[0]} now, and the job wrote {prediction}: give the "
                "images as the job had them"
            )
        shown.append(
            ShownImage(
                source=source,
                row=row,
                name=PurePosixPath(images.rows.place(row)[0]).name if source.is_image_folder else f"row {row:,}",
                pixels=decoded.picture(place),
                truth=None if rows.truth is None else rows.truth[row],
                status=status,
                prediction=prediction,
                is_wrong=rows.status is not None and bool(rows.is_wrong[row]),
                answer=answer,
            )
        )
    return shown


def _answer_one_by_one(classifier: Classifier, decoded: DecodedRows) -> list[Answer]:
    xq, bad = classifier.queries(decoded)
    return [
        classifier.answer(xq[place : place + 1], {0: bad[place]} if place in bad else {}) for place in range(len(xq))
    ]
