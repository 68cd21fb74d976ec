"""Lower bounds of l2 distances from a few principal components, so that most stored vectors need no distance at all.

Let B (p, d) be a contraction, |Bv| <= |v| for every v, and C = (I - B'B)^(1/2). Then |v|^2 = |Bv|^2 + |Cv|^2, and with
r_v = |Cv| the triangle inequality gives

    |q - x|^2 = |Bq - Bx|^2 + |Cq - Cx|^2 >= |Bq - Bx|^2 + (r_q - r_x)^2,

a distance between points of p + 1 coordinates that never exceeds the true one, so that no neighbour is ruled out by it
(Faloutsos, Ranganathan and Manolopoulos 1994). With B's rows along the principal axes it is close to the true one. A
scan of these points, as one matrix product a block, rules out all but a few stored vectors.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from knnvote.data.reading import rows_within_budget

from .metric import Metric
from .projection import Projection

_BLOCK = 16_384  # stored vectors projected at a time, at most
_STORED = 512  # stored vectors in one matrix product: with a thousand queries it stays in the cache


@dataclass(frozen=True, eq=False)
class Bounds:
    """Points of p + 1 coordinates whose distances are lower bounds, for stored vectors and for queries.

    Attributes:
        projection: gives B's axes, the centre and the unit of all that follows.
        table: (n, p + 2) float32: Bx, r_x and half the squared length of these p + 1 coordinates.
    """

    projection: Projection
    table: NDArray[np.float32]

    @cached_property
    def _reach(self) -> float:
        """Length of the longest stored vector."""
        return float(np.sqrt(2 * self.table[:, -1].max()))

    def survivors(
        self, x: NDArray[np.float64], t: NDArray[np.float64], limit: int, median_limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """All stored vectors that may be as near as t.

        Args:
            x: (nq, d) queries in the metric's space.
            t: (nq,) squared distances.
            limit: give up on a query that has more.
            median_limit: give up on all when half of them have more.

        Returns:
            The rows of each query's survivors, query after query; how many each has (nq,); and whether the query was
            given up (nq,), as it is too where it lies too far out for float32.
        """
        points = bound_points(x, self.projection)
        threshold = self._thresholds(points, t, x.shape[1])
        is_far = ~np.isfinite(threshold)
        points[is_far], threshold[is_far] = 0, -np.inf
        queries = np.column_stack([-points[:, :-1], np.ones(len(points), dtype=np.float32)])
        rows, columns = [], []
        counts = np.zeros(len(x), dtype=np.int64)
        products = np.empty((len(queries), min(_STORED, len(self.table))), dtype=np.float32)
        for first in range(0, len(self.table), _STORED):
            block = self.table[first : first + _STORED]
            product = products if len(block) == products.shape[1] else np.empty_like(products[:, : len(block)])
            np.matmul(queries, block.T, out=product)
            found = np.flatnonzero(product <= threshold[:, None])
            row, column = np.divmod(found, len(block))
            counts += np.bincount(row, minlength=len(x))
            threshold[counts > limit] = -np.inf
            if np.median(counts) > median_limit:
                return np.empty(0, dtype=np.int64), counts, np.ones(len(x), dtype=np.bool_)
            rows.append(row)
            columns.append(column + first)
        row = np.concatenate(rows)
        order = np.argsort(row, kind="stable")
        return np.concatenate(columns)[order], counts, is_far | (counts > limit)

    def _thresholds(self, points: NDArray[np.float32], t: NDArray[np.float64], d: int) -> NDArray[np.float32]:
        """What half a bound, less half the query's squared length, must not exceed (nq,); not finite beyond float32.

        Float32 rounds products and sums by at most Higham's bound (see `FaissMetric.rounding`). A residual length is
        the root of a difference of sums of d squares in float64, so its error goes with the root of theirs.
        """
        half = points[:, -1].astype(np.float64)
        share = (points.shape[1] + 64) * 2.0**-24 + 4 * np.sqrt((d + 16) * 2.0**-52)
        underflow = d * np.finfo(np.float64).tiny  # squares of settled distances that float64 loses
        with np.errstate(over="ignore", invalid="ignore"):
            slack = share * (np.sqrt(2 * half) + self._reach) ** 2
            squared = (np.sqrt(t + underflow) / self.projection.grid) ** 2
            threshold: NDArray[np.float32] = ((squared + slack) / 2 - half).astype(np.float32)
        return np.nextafter(threshold, np.float32(np.inf))


def bound_points(x: NDArray[np.float64], projection: Projection) -> NDArray[np.float32]:
    """Vectors (nq, d) in the metric's space -> (nq, p + 2) float32 as in `Bounds.table`."""
    centred = (x - projection.centre) / projection.grid
    projected = centred @ projection.contraction.T
    squared = np.square(centred).sum(axis=1)
    rest = np.sqrt(np.maximum(squared - np.square(projected).sum(axis=1), 0))
    with np.errstate(over="ignore"):  # what is infinitely far out has no bound
        return np.column_stack([projected, rest, squared / 2]).astype(np.float32)


def bound_table(x: NDArray[np.generic], metric: Metric, projection: Projection) -> NDArray[np.float32]:
    """`bound_points` of stored vectors (n, d), block by block."""
    step = rows_within_budget(x.shape[1], _BLOCK)
    return np.concatenate(
        [bound_points(metric.space(x[start : start + step]), projection) for start in range(0, len(x), step)]
    )
