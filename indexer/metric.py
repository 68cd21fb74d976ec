"""The spaces in which vectors are compared: pixels as stored, and the metric's own space in floats."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Metric = Literal["l2", "cosine", "l1"]
_LARGEST = 1e150
_SMALLEST = 1e-150
METRICS: tuple[Metric, ...] = get_args(Metric)


def metric_space(x: NDArray[np.generic], metric: Metric) -> NDArray[np.float64]:
    """Vectors (..., d) of any number type -> a float64 copy in which the metric is l2 or l1 itself.

    For cosine each row is scaled to length 1; |u - v|^2 / 2 is then the cosine distance. A row's result has the same
    bits whatever rows stand beside it: every operation is by element or along one row.
    """
    values = np.array(x, dtype=np.float64, order="C")
    if metric == "cosine":
        length = np.sqrt(np.square(values).sum(axis=-1, keepdims=True))
        values /= np.where(length == 0, 1, length)
    return values


def projectable(x: NDArray[np.generic], metric: Metric) -> NDArray[np.generic]:
    """Vectors as `Projection` takes them: in the metric's space, but 8-bit pixels that are in it as they are."""
    return x if x.dtype == np.uint8 and metric != "cosine" else metric_space(x, metric)


def unusable_rows(x: NDArray[np.generic], metric: Metric) -> dict[int, str]:
    """Rows of x (n, d) that have no place in the metric's space, each with the reason."""
    bad: dict[int, str] = {}
    if x.dtype == np.float64:
        large = np.flatnonzero(np.abs(x).max(axis=1, initial=0) > _LARGEST).tolist()
        bad |= dict.fromkeys(large, f"a value beyond {_LARGEST:g}: squared distances would overflow")
    if metric == "cosine":
        reason = "every pixel is zero, and cosine distance needs a direction"
        bad |= dict.fromkeys(np.flatnonzero(~x.any(axis=1)).tolist(), reason)
        if x.dtype == np.float64:
            small = np.abs(x).max(axis=1, initial=0)
            rows = np.flatnonzero((small > 0) & (small < _SMALLEST)).tolist()
            bad |= dict.fromkeys(rows, f"no value as large as {_SMALLEST:g}: squares would underflow to zero")
    return bad
