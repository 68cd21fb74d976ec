"""Lower bounds of l2 distances from a few principal components, so that most stored vectors need no distance at all.

Let B (p, d) be a contraction, |Bv| <= |v| for every v, and C = (I - B'B)^(1/2). Then |v|^2 = |Bv|^2 + |Cv|^2, and with
r_v = |Cv| the triangle inequality gives

    |q - x|^2 = |Bq - Bx|^2 + |Cq - Cx|^2 >= |Bq - Bx|^2 + (r_q - r_x)^2,

a distance between points of p + 1 coordinates that never exceeds the true one. With B's rows along the principal axes
it is close to it. A scan of these points, as one matrix product a block, rules out all but a few stored vectors.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexer.projection import Projection
from indexer.space import Metric, metric_space

_BLOCK = 16_384  # stored vectors projected at a time
_STORED = 2048  # stored vectors in one matrix product


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
        self, x: NDArray[np.float64], t: NDArray[np.float64], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """All stored vectors that may be as near as t.

        Args:
            x: (nq, d) queries in the metric's space.
            t: (nq,) squared distances.
            limit: give up on a query that has more.

        Returns:
            I (nq, m): rows, -1 to fill up; counts (nq,); and whether the query was given up (nq,).
        """
        points = bound_points(x, self.projection)
        lengths = np.sqrt(2 * points[:, -1].astype(np.float64))
        # Float32 rounds: products and sums as by Higham's bound (see classify.search), the points themselves by less.
        slack = (points.shape[1] + 64) * 2.0**-24 * (lengths + self._reach) ** 2
        threshold = (t / self.projection.grid**2 + slack) / 2 - points[:, -1].astype(np.float64)
        threshold = np.nextafter(threshold.astype(np.float32), np.float32(np.inf))
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
            rows.append(row)
            columns.append(column + first)
        row = np.concatenate(rows)
        order = np.argsort(row, kind="stable")
        return np.concatenate(columns)[order], counts, counts > limit


def bound_points(x: NDArray[np.float64], projection: Projection) -> NDArray[np.float32]:
    """Vectors (nq, d) in the metric's space -> (nq, p + 2) float32 as in `Bounds.table`."""
    centred = (x - projection.centre) / projection.grid
    projected = centred @ projection.contraction.T
    squared = np.square(centred).sum(axis=1)
    rest = np.sqrt(np.maximum(squared - np.square(projected).sum(axis=1), 0))
    return np.column_stack([projected, rest, squared / 2]).astype(np.float32)


def bound_table(x: NDArray[np.generic], metric: Metric, projection: Projection) -> NDArray[np.float32]:
    """`bound_points` of stored vectors (n, d), block by block."""
    return np.concatenate(
        [
            bound_points(metric_space(x[start : start + _BLOCK], metric), projection)
            for start in range(0, len(x), _BLOCK)
        ]
    )
