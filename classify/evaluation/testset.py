"""Labelled images on which searches are compared."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.classifier import Classifier
from knnvote.classify.search.sampling import sample_rows
from knnvote.data.errors import ImageFileError, KnnvoteError, as_recorded, param, spelled_reasons
from knnvote.data.input_file import InputFile, tell_unused_labels
from knnvote.data.inputs import count_rows, distinctly_named, folders_told
from knnvote.data.layout import ImageOptions
from knnvote.data.progress import stage
from knnvote.data.reading import DecodedRows, ImageFile, Part, open_one_of
from knnvote.indexer.index import Index
from knnvote.indexer.labels import class_names, find_label, true_labels

_BATCH = 4096


@dataclass(frozen=True)
class TestSet:
    """Test images as one index takes them.

    Attributes:
        xq: (nq, d) queries.
        images: (nq, pixels) of which they were made, as their files hold them; the queries where no step makes them.
        truth: (nq,) true labels; None for an image without one.
        rows: (nq,) place of each among all rows of the inputs.
        bad: rows that could not be read, by reason.
        files: the inputs, each behind the number of rows before it.
    """

    xq: NDArray[np.generic]
    images: NDArray[np.generic]
    truth: list[Any]
    rows: NDArray[np.int64]
    bad: dict[str, int]
    files: tuple[tuple[int, InputFile], ...]

    def names(self, rows: Sequence[int]) -> list[str]:
        """What some rows of the inputs are called: in folders of image files by their paths, else by their numbers."""
        found, starts = {row: f"row {row}" for row in rows}, [start for start, _ in self.files]
        for place, several in groupby(sorted(found), lambda row: bisect_right(starts, row) - 1):
            (start, source), of_file = self.files[place], [*several]
            if source.is_image_folder:
                places = source.places_of([row - start for row in of_file])
                found |= {row: path for row, (path, _) in zip(of_file, places, strict=True)}
        return [found[row] for row in rows]

    def sample(self, size: int) -> "TestSet":
        """So many of the images, drawn at random; all if there are no more."""
        places = sample_rows(len(self.xq), size)
        truth = [self.truth[place] for place in places]
        return TestSet(self.xq[places], self.images[places], truth, self.rows[places], self.bad, self.files)


def read_test_set(
    inputs: Sequence[InputFile],
    classifier: Classifier,
    options: ImageOptions,
    label_column: str | None,
    part: Part | None = None,
    *,
    has_labels: bool = True,
) -> TestSet:
    """All readable images of the inputs as queries, or those of a part, with their labels if their files have them.

    Where labels are of no use none are looked for.

    Raises:
        KnnvoteError: a file does not fit the index, or no image is left.
    """
    blocks: list[NDArray[np.generic]] = []
    pixels: list[NDArray[np.generic]] = []
    labels: list[Any] = []
    numbers: list[NDArray[np.int64]] = []
    reasons: Counter[str] = Counter()
    starts = [0]
    inputs = distinctly_named(inputs, set(), has_ids=False)
    chosen = None if part is None else part.of(inputs)
    rows_to_read = partial(count_rows, inputs) if chosen is None else sum(map(len, chosen))
    with stage("reading test images", rows_to_read) as advance:
        for place, source in enumerate(inputs):
            with open_one_of(inputs, source, partial(classifier.recognise, options=options)) as images:
                with folders_told(source, inputs):
                    label = _label_column(images, classifier.index, label_column) if has_labels else None
                columns = [label] if label else []
                of_all = images.read(columns, batch_size=_BATCH)
                for rows in of_all if chosen is None else images.take(chosen[place], columns, batch_size=_BATCH):
                    xq, bad = classifier.queries(rows)
                    good = np.setdiff1d(np.arange(len(xq)), list(bad))
                    blocks.append(xq[good])
                    pixels += [rows.pixels[good]] if classifier.index.steps else []
                    numbers.append(starts[-1] + rows.numbers[good])
                    labels += _labels_of(images, rows, good, label, classifier.index)
                    reasons.update(spelled_reasons(bad, as_recorded).values())
                    advance(len(xq))
            starts.append(starts[-1] + images.num_rows)
    if chosen is None:
        tell_unused_labels(inputs)
    if not sum(map(len, blocks)):
        why = "".join(f": {reason}" for reason, _ in reasons.most_common(1))
        raise KnnvoteError(f"no readable image in {', '.join(source.shown for source in inputs)} to compare on{why}")
    xq = np.concatenate(blocks)
    made_of, files = np.concatenate(pixels) if pixels else xq, tuple(zip(starts, inputs, strict=False))
    return TestSet(xq, made_of, labels, np.concatenate(numbers), dict(reasons), files)


def none_is_new(index: Index, images: int) -> KnnvoteError:
    """That so many labelled test images all equal stored ones, which answer for themselves."""
    return KnnvoteError(
        f"each of the {images:,} labelled images equals one that {index.path} stores, and answers for itself: give "
        f"others, or leave out {param('tests')}, and stored images are judged, each left out"
    )


def _labels_of(
    images: ImageFile, rows: DecodedRows, good: NDArray[np.int64], label: str | None, index: Index
) -> list[Any]:
    """True labels of the good ones among some rows; None for each without a column of them."""
    if label is None:
        return [None] * len(good)
    found = images.column(rows, label).take(good)
    return read_true_labels(images, label, found, index.labels.type, index.manifest.class_names)


def _label_column(images: ImageFile, index: Index, named: str | None) -> str | None:
    """The column of true labels, if there is one."""
    names, named = images.schema.names, named or images.source.joined_label
    if named is not None and named not in names:
        raise ImageFileError(
            f"{images.source}: no column {named!r} for {param('label_column')}; there are {', '.join(names)}"
        )
    return find_label(images.schema, images.layout.columns, named or index.manifest.label_column)


def read_true_labels(
    images: ImageFile, name: str, column: pa.Array, like: pa.DataType, known: list[str] | None
) -> list[Any]:
    """Labels (n,) of a file's column, to be compared with labels of a type, perhaps with names; None without one.

    Raises:
        ImageFileError: they cannot be compared.
    """
    try:
        names = class_names(images.schema, name)
        return true_labels(column, like, names=names, known=known)
    except KnnvoteError as error:
        raise ImageFileError(
            f"{images.source.shown}: labels in column {name!r} are {error.marked}: "
            f"name the right column with {param('label_column')}"
        ) from error
