"""Labelled images taken from arrays, checked row by row."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.columns import is_float
from knnvote.data.errors import KnnvoteError, OptionError, check, param, warn
from knnvote.data.layout import Shape
from knnvote.data.progress import stage
from knnvote.data.steps.chain import Steps, steps_of
from knnvote.data.tables import check_numbers, check_several, values_of, why_no_column
from knnvote.data.vectors import smallest_type
from knnvote.indexer.building.provenance import ARRAY, id_array, provenance_table
from knnvote.indexer.building.stepped import unusable_images
from knnvote.indexer.building.work import Work
from knnvote.indexer.groups.column import read_groups
from knnvote.indexer.labels import label_array
from knnvote.indexer.metric import METRICS, Metric
from knnvote.indexer.names import MetricName
from knnvote.indexer.records.weights import weights_from_array
from knnvote.indexer.training import TrainingSet, with_vectors

_BLOCK = 1 << 16  # rows at a time


def training_set_from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[Any],
    *,
    ids: NDArray[Any] | Sequence[Any] | None = None,
    groups: NDArray[Any] | Sequence[Any] | None = None,
    sample_weight: NDArray[Any] | Sequence[float] | None = None,
    metric: MetricName = "l2",
    steps: Steps | Sequence[str] = (),
    is_regression: bool = False,
    feature_names: Sequence[str] | None = None,
    first: int = 0,
    progress: Callable[[int], None] = lambda _rows: None,
) -> TrainingSet:
    """Take labelled images from arrays.

    Args:
        images: (n, *shape) of any number type.
        labels: (n,) integers, strings or booleans; floats for regression.
        ids: (n,) texts or whole numbers by which images are known; without them, and where one is None, ``array#row``.
        groups: (n,) integers or strings, None for an image without one; None where there are no groups.
        sample_weight: (n,) what the vote of each image is multiplied by; None for all alike.
        metric: rows that have no place in its space are refused.
        steps: between an image and its vector, as `TrainingOptions` has them, or fitted ones.
        is_regression: labels are numbers to be averaged.
        feature_names: of each value, where they have any.
        first: number of the first row.
        progress: told the rows of each block that was looked through.

    Raises:
        KnnvoteError: the counts differ, a value is not finite, or a weight or a label is missing or cannot be used.
    """
    images = np.asarray(images)
    labels, ids = values_of(labels, "labels"), values_of(ids, "ids")
    groups, sample_weight = values_of(groups, "groups"), values_of(sample_weight, "sample_weight")
    _check_arrays(images, labels)
    chosen, shape = _taken_steps(steps, is_regression=is_regression), images.shape[1:]
    flat = images.reshape(len(images), -1)
    _check_numbers(flat, shape, chosen, METRICS[metric], progress)
    label, rows = _label_array(labels, is_regression=is_regression), np.arange(first, first + len(images))
    of_groups = None if groups is None else _group_array(groups, len(images))
    weights = None if sample_weight is None else weights_from_array(sample_weight, len(images))
    found = TrainingSet(
        vectors=smallest_type(flat),
        provenance=provenance_table(label, _id_array(ids, len(images)), ARRAY, rows, groups=of_groups, weights=weights),
        shape=shape,
        is_regression=is_regression,
        feature_names=None if feature_names is None else tuple(feature_names),
    )
    return with_vectors(found, chosen, metric, None, Work())


def _taken_steps(steps: Steps | Sequence[str], *, is_regression: bool) -> Steps:
    found = steps if isinstance(steps, Steps) else steps_of(steps)
    found.check_classes(is_regression=is_regression)
    return found


def _check_arrays(images: NDArray[Any], labels: NDArray[Any] | Sequence[Any]) -> None:
    check_several(labels, "labels", "give one label for each image, as a list or an array")
    if images.ndim < 2 or len(images) != len(labels) or not len(images):
        raise KnnvoteError(
            f"images of shape {images.shape} and {len(labels)} labels: expected (n, ...) with one label for each of "
            "n images, n at least 1"
        )
    check_numbers(images.dtype)
    if not images[0].size:
        raise KnnvoteError(f"images have shape {images.shape}: expected one number or more an image")


def _check_numbers(
    flat: NDArray[Any], shape: Shape, steps: Steps, metric: Metric, progress: Callable[[int], None]
) -> None:
    """Refuse the first of the images (n, pixels) that has no distance."""
    with stage("reading", len(flat), progress=progress) as advance:
        for start in range(0, len(flat), _BLOCK):
            rows = flat[start : start + _BLOCK]
            wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))[:1].tolist()
            bad = dict.fromkeys(wrong, "not finite") or unusable_images(rows, shape, steps, metric)
            for row, reason in bad.items():
                raise KnnvoteError(f"image {start + row} cannot be stored: {reason}; leave it out")
            advance(len(rows))


def _label_array(labels: NDArray[Any] | Sequence[Any], *, is_regression: bool) -> pa.Array:
    try:
        given = pa.array(labels)
        label = label_array(given, is_regression=is_regression)
    except (pa.ArrowException, OverflowError) as error:
        why = why_no_column(labels, error)
        raise KnnvoteError(f"labels cannot be used ({why}): give one integer, string or boolean an image") from error
    if is_float(given.type) and not is_regression:
        warn(f"labels are {given.type}, and all are whole: they are classes; to average them, give is_regression=True")
    if label.null_count:
        raise KnnvoteError(f"{label.null_count} labels are missing: leave those images out")
    return label


def _group_array(groups: NDArray[Any] | Sequence[Any], n: int) -> pa.Array:
    """Groups (n,) as strings."""
    give = "give one whole number or text an image, None where it has none"
    check_several(groups, "groups", give)
    if len(groups) != n:
        raise KnnvoteError(f"{len(groups)} groups for {n} images: {give}")
    try:
        given = pa.array(groups)
    except (pa.ArrowException, OverflowError) as error:
        raise OptionError(f"{param('groups')} cannot be used ({why_no_column(groups, error)}): {give}") from error
    return read_groups(given, "groups")


def _id_array(ids: NDArray[Any] | Sequence[Any] | None, n: int) -> pa.Array | None:
    """Ids as strings."""
    if ids is None:
        return None
    expected = f"give one text or whole number for each of the {n:,} images"
    given = id_array(ids, expected=expected)
    check("ids", len(given), len(given) == n, expected)
    return given
