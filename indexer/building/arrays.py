"""Labelled images taken from arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.columns import is_float
from knnvote.data.errors import KnnvoteError, warn
from knnvote.data.steps import Pixels
from knnvote.data.vectors import smallest_type
from knnvote.indexer.labels import label_array
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import MetricName
from knnvote.indexer.training import TrainingSet

from .provenance import provenance_table


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
