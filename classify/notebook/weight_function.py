"""A function as weights of a vote, as scikit-learn's KNeighborsClassifier takes one: of distances, in Python alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from knnvote.classify.weighting import check_weights, read_weighting
from knnvote.data.errors import OptionError, check, param
from knnvote.indexer.names import Weights

WeightFunction = Callable[[NDArray[np.float64]], ArrayLike]  # of distances (nq, k), ascending: weights (nq, k)
AnyWeights = Weights | WeightFunction | None  # None is uniform
_SAME = 1e-9  # relative


def plain_weights(given: Any) -> Weights | WeightFunction:
    """Weights as `Rule` keeps them: the text of a weighting, which None has too, or a function as it is.

    Raises:
        OptionError: they are none.
    """
    if callable(given):
        return given  # type: ignore[no-any-return]  # what it gives is checked when it is called
    if given is not None and not isinstance(given, str):
        check("weights", given, False, "give one of uniform, distance, softmax[T], a function of distances, or None")
    text = "uniform" if given is None else given
    check_weights(text)
    return read_weighting(text).text


def neighbor_weights(weights: AnyWeights, D: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much each neighbour's vote counts (nq, k), by its distance.

    Args:
        weights: the text of a weighting, or a function.
        D: (nq, k) distances, ascending.

    Raises:
        OptionError: a function gives no such weights, or those of a query depend on the others that are asked with it.
    """
    if not callable(weights):
        return read_weighting(weights or "uniform")(D)
    if not len(D):
        return np.ones_like(D)
    found = _called(weights, D)
    if len(D) > 1 and not np.allclose(_called(weights, D[:1]), found[:1], rtol=_SAME, atol=0):
        raise OptionError(
            f"{param('weights')} gives a query other weights among others than alone, and answers would depend on "
            "what is asked together: reduce along axis 1 alone, as D.max(axis=1, keepdims=True) does"
        )
    return found


def _called(function: WeightFunction, D: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a function gives of distances, of which it may change its own copy."""
    found = np.asarray(function(D.copy()))
    if found.shape != D.shape or found.dtype.kind not in "biuf":
        raise OptionError(
            f"{param('weights')} gives {found.dtype} of shape {found.shape} for distances of shape {D.shape}: "
            "give a function of distances (nq, k) whose weights have the same shape"
        )
    w = found.astype(np.float64)
    wrong = ~(np.isfinite(w) & (w >= 0))
    if wrong.any():
        row, j = np.argwhere(wrong)[0]
        raise OptionError(
            f"{param('weights')} gives {w[row, j]:g} for distance {D[row, j]:g}: give finite weights of at least 0"
            + (
                "; weights='distance' is 1 / distance, by which neighbours at distance 0 alone vote"
                if D[row, j] == 0
                else ""
            )
        )
    if not w.any(axis=1).all():
        nearest = D[~w.any(axis=1)][0, 0]
        raise OptionError(
            f"{param('weights')} gives all neighbours of a query 0, the nearest of which is {nearest:g} away: "
            "give one at least a weight above 0, or abstain from far ones with max_distance"
        )
    return w


def told_weights(weights: AnyWeights) -> str:
    """Weights in words."""
    return "the weights of a function" if callable(weights) else f"{weights or 'uniform'} weights"
