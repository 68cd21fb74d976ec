"""How many components of a vector are coded, and which: counted on a sample, for it is the data that says what pays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knnvote.data.reading import rows_within_budget
from knnvote.indexer.metric import Euclidean

from .projection import Projection
from .steps import distances

_CHOICES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768)
_HARDLY_MORE = 1.1  # times the least cost, for fewer components: they take less memory
_QUERIES = 64
_NEIGHBOR = 5  # which the bound must not rule out
_STORED = 65_536  # rows, at most, among which it is looked for
_SAMPLE = 4096  # rows, at most, of which it is counted how many are ruled out
_ROUNDING = 2 / np.sqrt(12)  # of a query's component and a stored vector's, times the root of p
# Microseconds on one core of 2023: of a scan for each stored vector and for each of its components; for each product
# of the projection; to settle a stored vector beside what the metric says of its values; and of a plain scan likewise.
ROW, COMPONENT, _PRODUCT, SETTLED, _PLAIN_ROW = 0.00012, 0.0000042, 0.00003, 0.02, 0.0015


def choose_components(
    x: NDArray[np.generic], projections: Sequence[Projection], metric: Euclidean, seed: int
) -> Projection | None:
    """The projection by which an exact search of stored vectors x (n, d) costs least.

    Args:
        x: stored vectors.
        projections: each on as many components as there may be.
        metric: of the search.
        seed: of what is drawn at random.

    Returns:
        One of them, on its first components alone; None where a plain scan of all stored vectors is cheaper.
    """
    n, d = x.shape
    drawn = np.random.default_rng([seed, 2]).permutation(n)
    queries, stored, sample = (np.sort(drawn[: rows_within_budget(d, most)]) for most in (_QUERIES, _STORED, _SAMPLE))
    D = distances(x[queries], x, np.tile(stored, (len(queries), 1)), metric)
    place = min(_NEIGHBOR, len(stored) - 1)  # the first is the query itself
    t = np.sqrt(metric.squared(np.partition(D, place, axis=1)[:, place], d))
    xq, stored_xs, settling = metric.space(x[queries]), metric.space(x[sample]), metric.settling_cost(x.dtype) * d
    costs = []
    for projection in projections:
        choices = _choices(projection)
        for p, share in zip(choices, _shares_not_ruled_out(xq, stored_xs, t, projection, choices), strict=True):
            product = 0 if projection.is_plain else _PRODUCT * p * d
            costs.append((n * (ROW + COMPONENT * p + share * (SETTLED + settling)) + product, p, projection))
    least = min(cost for cost, *_ in costs)
    if least >= n * (_PLAIN_ROW + metric.scan_cost * d):
        return None
    _, p, projection = min((found for found in costs if found[0] <= _HARDLY_MORE * least), key=lambda found: found[1])
    return projection.first(p)


def _choices(projection: Projection) -> list[int]:
    """Numbers of components to try."""
    most = projection.p
    return [most] if projection.is_plain else [*(p for p in _CHOICES if p < most), most]


def _shares_not_ruled_out(
    xq: NDArray[np.float64],
    x: NDArray[np.float64],
    t: NDArray[np.float64],
    projection: Projection,
    choices: list[int],
) -> list[float]:
    """Of stored vectors x (n, d), by bounds of so many components each, for queries xq whose k-th is at t (nq,)."""
    with np.errstate(over="ignore"):  # a query infinitely many units away rules nothing out
        tau = t * projection.unit
    (yq, rest_q), (y, rest) = (projection.components(vectors) for vectors in (xq, x))
    D = np.zeros((len(xq), len(x)))
    shares, done = [], 0
    for p in choices:
        a, b = yq[:, done:p], y[:, done:p]
        squares_q, squares = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
        nearer = squares_q[:, None] + squares
        nearer -= 2 * a @ b.T
        D += nearer
        rest_q, rest, done = rest_q - squares_q, rest - squares, p
        bound = np.subtract(np.sqrt(rest_q.clip(0))[:, None], np.sqrt(rest.clip(0)), out=nearer)
        np.square(bound, out=bound)
        bound += D
        np.sqrt(np.maximum(bound, 0, out=bound), out=bound)
        bound -= _ROUNDING * np.sqrt(p)
        shares.append(float((bound <= tau[:, None]).mean()))
    return shares
