"""An inverted file over codes: stored vectors in lists around centroids, so that a search can look through a few."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.progress import stage
from knnvote.data.reading import rows_within_budget
from knnvote.indexer.metric import Euclidean, Metric

from .components import choose_components
from .projection import Coded, Projection, fit_projection, join, plain_projection
from .steps import nearest
from .table import MOST_COMPONENTS, TILE, Table, pack, tile_type

_AXES_FROM = 16_384  # rows at most: the covariance of more does not change the axes noticeably
_CENTROID_FROM, _CENTROID_LEAST = 24, 4  # rows for each centroid: more do not change it noticeably
_LEFT = 40_000  # rows that are left out of these, if there are more
_FEW = 64  # components: more dimensions than there may be components have axes for some of them alone
_BLOCK = 16_384  # rows projected at a time, at most
_LARGEST = {np.dtype(np.uint8): 2**8 - 1, np.dtype(np.uint16): 2**16 - 1}  # of pixels that the grid takes as they are


@dataclass(frozen=True, eq=False)
class InvertedFile:
    """Codes of n stored vectors, list after list.

    Attributes:
        projection: makes codes of queries.
        table: codes of stored vectors.
        centroids: codes of the middle of each list.
        ends: (nlist,) int64, where each list ends in the table.
    """

    projection: Projection
    table: Table
    centroids: Table
    ends: NDArray[np.int64]

    @property
    def nlist(self) -> int:
        """Lists."""
        return len(self.ends)

    @property
    def p(self) -> int:
        """Components of a code."""
        return self.table.p

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays that can be stored, which with the projection's grid say all."""
        axes = np.vstack([self.projection.centre, self.projection.axes])
        return {"axes": axes, "codes": self.table.tiles, "lists": self.centroids.tiles, "ends": self.ends}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], grid: float, n: int, d: int) -> "InvertedFile":
        """What `to_arrays` gave, for n stored vectors of d dimensions.

        Raises:
            ValueError: types and shapes do not fit each other; where lists end is not checked, nor what codes are.
        """
        axes, tiles, lists, ends = (arrays[role] for role in ("axes", "codes", "lists", "ends"))
        projection, nlist = Projection(centre=axes[0], grid=grid, axes=axes[1:]), len(ends)
        p = projection.p
        fits = (
            axes.dtype == np.float64
            and axes.shape[1:] == (d,)
            and len(axes) > 1
            and p % 4 == 0
            and p <= MOST_COMPONENTS
            and tiles.dtype == lists.dtype == tile_type(p)
            and tiles.shape == (-(-n // TILE),)
            and lists.shape == (-(-nlist // TILE),)
            and ends.dtype == np.int64
            and ends.shape == (nlist,)
            and nlist >= 1
        )
        if not fits:
            raise ValueError("its codes do not fit its vectors")
        return cls(projection, Table(tiles, n), Table(lists, nlist), ends)

    def probe(self, codes: NDArray[np.int8], m: int, nprobe: int) -> NDArray[np.int64]:
        """The m nearest by their codes (nq, p) in the nprobe nearest lists, nearest first: (nq, m), -1 for none."""
        if nprobe >= self.nlist:
            return nearest(self.table, codes, m)
        lists = nearest(self.centroids, codes, nprobe)
        # Queries of one list come together, so that it is fetched once, be it from memory or from a disk.
        order = np.argsort(lists[:, 0], kind="stable")
        rows = np.empty((len(codes), m), dtype=np.int64)
        rows[order] = nearest(self.table, codes[order], m, lists[order], self.ends)
        return rows


def fit_codes(x: NDArray[np.generic], rows: NDArray[np.int64], metric: Metric, seed: int) -> tuple[Projection, bool]:
    """Axes for stored vectors x (n, d), as many as pay, and whether exact search is faster with them than without.

    Args:
        x: stored vectors.
        rows: those of them that axes are fitted to, in random order; some are enough.
        metric: their space.
        seed: of what is drawn at random.
    """
    d = x.shape[1]
    sample = x[np.sort(rows[: rows_within_budget(d, _AXES_FROM)])]
    largest = _LARGEST.get(x.dtype) if metric.keeps_values else None
    vectors = metric.space(sample)
    principal = fit_projection(vectors, d if d <= MOST_COMPONENTS else _FEW, largest=largest)
    if not isinstance(metric, Euclidean):
        return principal.first(_FEW), False
    projections = (principal, plain_projection(vectors, largest=largest)) if d <= MOST_COMPONENTS else (principal,)
    chosen = choose_components(x, projections, metric, seed)
    return chosen or principal.first(_FEW), chosen is not None


def build_inverted_file(
    x: NDArray[np.generic], projection: Projection, rows: NDArray[np.int64], metric: Metric, seed: int
) -> InvertedFile:
    """Code stored vectors x (n, d), and put them into lists around centroids.

    Args:
        x: stored vectors.
        projection: by which they are coded.
        rows: those of them that centroids are fitted to, in random order; some are enough.
        metric: their space.
        seed: of what is drawn at random.
    """
    coded = _code(x, projection, metric)
    with stage("building lists"):
        centroids = _centroids(coded.codes, rows[: _CENTROID_FROM * _list_count(len(x))], seed)
        list_of = nearest(centroids, coded.codes, 1)[:, 0]
    order = np.argsort(list_of, kind="stable")
    ends = np.cumsum(np.bincount(list_of, minlength=centroids.n)).astype(np.int64)
    return InvertedFile(projection, pack(coded.take(order), order), centroids, ends)


def _code(x: NDArray[np.generic], projection: Projection, metric: Metric) -> Coded:
    """The codes of stored vectors x (n, d)."""
    parts = []
    with stage("coding", len(x), "images") as advance:
        for block in _blocks(x):
            parts.append(projection.encode(metric.projectable(block)))
            advance(len(block))
    return join(parts)


def training_rows(n: int, seed: int) -> NDArray[np.int64]:
    """Rows of n stored vectors that axes and centroids are fitted to, in random order.

    The others are as new to these as a query is, and can stand for one: of few vectors most are left for that.
    """
    return np.random.default_rng(seed).permutation(n)[: training_count(n)]


def training_count(n: int) -> int:
    """How many rows of n stored vectors axes and centroids are fitted to."""
    nlist = _list_count(n)
    return min(n, max(_CENTROID_LEAST * nlist, min(_CENTROID_FROM * nlist, n - _LEFT)))


def _list_count(n: int) -> int:
    """About 4 sqrt(n), but lists of two tiles at least.

    To find the nearest lists costs about as much then as to search those that a cheap rung needs.
    """
    return int(min(-(-n // (2 * TILE)), 2 ** round(np.log2(4 * np.sqrt(n)))))


def _blocks(x: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """Stored vectors x (n, d), as many at a time as may be floats at once."""
    step = rows_within_budget(x.shape[1], _BLOCK)
    return (x[start : start + step] for start in range(0, len(x), step))


def _centroids(codes: NDArray[np.int8], train: NDArray[np.int64], seed: int) -> Table:
    """Middles of lists, by k-means of codes (n, p)."""
    n, p = codes.shape
    clustering: Any = faiss.Kmeans(
        p, _list_count(n), niter=10, seed=seed, min_points_per_centroid=1, max_points_per_centroid=n
    )
    clustering.train(codes[np.sort(train)].astype(np.float32))
    rounded = np.rint(clustering.centroids)
    nothing = np.zeros(len(rounded))
    return pack(
        Coded(rounded.astype(np.int8), np.square(rounded.astype(np.float64)).sum(axis=1), nothing, nothing),
        np.arange(len(rounded)),
    )
