"""Labelled images taken from arrays, checked row by row."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.columns import is_float
from knnvote.data.errors import KnnvoteError, OptionError, check, param, warn
from knnvote.data.progress import stage
from knnvote.data.steps import Pixels, Step
from knnvote.data.tables import array_of, is_tensor
from knnvote.data.vectors import smallest_type
from knnvote.indexer.building.provenance import ARRAY, id_array, provenance_table
from knnvote.indexer.labels import label_array
from knnvote.indexer.metric import METRICS, Metric
from knnvote.indexer.names import MetricName
from knnvote.indexer.training import TrainingSet

_BLOCK = 1 << 16  # rows at a time


def training_set_from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[Any],
    *,
    ids: NDArray[Any] | Sequence[Any] | None = None,
    metric: MetricName = "l2",
    is_regression: bool = False,
    feature_names: Sequence[str] | None = None,
    step: Step | None = None,
    first: int = 0,
    progress: Callable[[int], None] = lambda _rows: None,
) -> TrainingSet:
    """Take labelled images from arrays.

    Args:
        images: (n, *shape) of any number type.
        labels: (n,) integers, strings or booleans; floats for regression.
        ids: (n,) texts or whole numbers by which images are known; without them, and where one is None, ``array#row``.
        metric: rows that have no place in its space are refused.
        is_regression: labels are numbers to be averaged.
        feature_names: of each value, where they have any.
        step: that makes vectors; by default the pixels are.
        first: number of the first row.
        progress: told the rows of each block that was looked through.

    Raises:
        KnnvoteError: the counts differ, a value is not finite, a label is missing or of a type that cannot be used.
    """
    images, step = np.asarray(images), step or Pixels()
    labels = array_of(labels, "labels") if is_tensor(labels) else labels
    ids = array_of(ids, "ids") if is_tensor(ids) else ids
    _check_arrays(images, labels)
    flat = step(images, images.shape[1:])
    _check_numbers(flat, METRICS[metric], progress)
    label = _label_array(labels, is_regression=is_regression)
    return TrainingSet(
        vectors=smallest_type(flat),
        provenance=provenance_table(label, _id_array(ids, len(images)), ARRAY, np.arange(first, first + len(images))),
        shape=images.shape[1:],
        step=step,
        is_regression=is_regression,
        feature_names=None if feature_names is None else tuple(feature_names),
    )


def _check_arrays(images: NDArray[Any], labels: NDArray[Any] | Sequence[Any]) -> None:
    if not hasattr(labels, "__len__") or isinstance(labels, str):
        raise OptionError(f"{param('labels')} is {labels!r}: give one label for each image, as a list or an array")
    if images.ndim < 2 or len(images) != len(labels) or not len(images):
        raise KnnvoteError(
            f"images of shape {images.shape} and {len(labels)} labels: expected (n, ...) with one label for each of "
            "n images, n at least 1"
        )
    if images.dtype.kind not in "biuf" or not images[0].size:
        raise KnnvoteError(f"images are {images.dtype} of shape {images.shape}: expected numbers, one or more an image")


def _check_numbers(flat: NDArray[Any], metric: Metric, progress: Callable[[int], None]) -> None:
    """Refuse the first of the vectors (n, d) that has no distance."""
    with stage("reading", len(flat), progress=progress) as advance:
        for start in range(0, len(flat), _BLOCK):
            rows = flat[start : start + _BLOCK]
            wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))[:1].tolist()
            for row, reason in {**dict.fromkeys(wrong, "not finite"), **metric.unusable_rows(rows)}.items():
                raise KnnvoteError(f"image {start + row} cannot be stored: {reason}; leave it out")
            advance(len(rows))


def _label_array(labels: NDArray[Any] | Sequence[Any], *, is_regression: bool) -> pa.Array:
    try:
        given = pa.array(labels)
        label = label_array(given, is_regression=is_regression)
    except (pa.ArrowException, OverflowError) as error:
        raise KnnvoteError(f"labels cannot be used ({error}): give one integer, string or boolean an image") from error
    if is_float(given.type) and not is_regression:
        warn(f"labels are {given.type}, and all are whole: they are classes; to average them, give is_regression=True")
    if label.null_count:
        raise KnnvoteError(f"{label.null_count} labels are missing: leave those images out")
    return label


def _id_array(ids: NDArray[Any] | Sequence[Any] | None, n: int) -> pa.Array | None:
    """Ids as strings."""
    if ids is None:
        return None
    expected = f"give one text or whole number for each of the {n:,} images"
    given = id_array(ids, expected=expected)
    check("ids", len(given), len(given) == n, expected)
    return given
