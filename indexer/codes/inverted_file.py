"""An inverted file over codes: stored vectors in lists around centroids, so that a search can look through a few."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.progress import stage
from knnvote.data.reading import rows_within_budget
from knnvote.indexer.building.work import Work, npy_header, slices_of
from knnvote.indexer.metric import Euclidean, Metric

from .components import choose_components
from .projection import Coded, Projection, fit_projection, plain_projection
from .steps import nearest
from .table import MOST_COMPONENTS, TILE, Table, pack, record_type, records, tile_type

TABLE = "codes.npy"  # the work's name of the table, whose file is that of an index
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
        fitted: (m,) int64, rows that axes and centroids were fitted to, where vectors came or went since; None where
            `training_rows` tells them, or nobody asks.
    """

    projection: Projection
    table: Table
    centroids: Table
    ends: NDArray[np.int64]
    fitted: NDArray[np.int64] | None = None

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
        fitted = {} if self.fitted is None else {"fitted": self.fitted}
        return {"axes": axes, "codes": self.table.tiles, "lists": self.centroids.tiles, "ends": self.ends, **fitted}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], grid: float, n: int, d: int) -> "InvertedFile":
        """What `to_arrays` gave, for n stored vectors of d dimensions.

        Raises:
            ValueError: types and shapes do not fit each other; where lists end is not checked, nor what codes are.
        """
        axes, tiles, lists, ends = (arrays[role] for role in ("axes", "codes", "lists", "ends"))
        fitted = arrays.get("fitted")
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
            and (fitted is None or (fitted.dtype == np.int64 and fitted.ndim == 1))
        )
        if not fits:
            raise ValueError("its codes do not fit its vectors")
        return cls(projection, Table(tiles, n), Table(lists, nlist), ends, fitted)

    def probe(self, codes: NDArray[np.int8], m: int, nprobe: int) -> NDArray[np.int64]:
        """The m nearest by their codes (nq, p) in the nprobe nearest lists, nearest first: (nq, m), -1 for none."""
        if nprobe >= self.nlist:
            return nearest(self.table, codes, m)
        return nearest(self.table, codes, m, nearest(self.centroids, codes, nprobe), self.ends)


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
    x: NDArray[np.generic],
    projection: Projection,
    rows: NDArray[np.int64],
    metric: Metric,
    seed: int,
    *,
    work: Work | None = None,
) -> InvertedFile:
    """Code stored vectors x (n, d), and put them into lists around centroids.

    Args:
        x: stored vectors.
        projection: by which they are coded.
        rows: those of them that centroids are fitted to, in random order; some are enough.
        metric: their space.
        seed: of what is drawn at random.
        work: where it is kept slice by slice, with what a killed build of the same made; None for memory alone.
    """
    work = work or Work()

    def fit() -> dict[str, NDArray[Any]]:
        train = np.sort(rows[: _CENTROID_FROM * _list_count(len(x))])
        return {"tiles": _centroids(_codes(x, train, projection, metric), _list_count(len(x)), seed).tiles}

    with stage("building lists"):
        tiles = work.once("lists", fit)["tiles"]
    centroids = Table(tiles, _list_count(len(x)))
    stored, list_of = _assign(x, projection, centroids, metric, work)
    counts = sum(np.bincount(lists, minlength=centroids.n) for lists in slices_of(list_of))
    ends = np.cumsum(counts).astype(np.int64)
    return InvertedFile(projection, _in_lists(stored, list_of, ends, work), centroids, ends)


def _codes(
    x: NDArray[np.generic], rows: NDArray[np.int64], projection: Projection, metric: Metric
) -> NDArray[np.float32]:
    """(m, p) the codes of some rows of stored vectors x (n, d)."""
    step = _step(x)
    found = np.empty((len(rows), projection.p), dtype=np.float32)
    for start in range(0, len(rows), step):
        block = x[rows[start : start + step]]
        found[start : start + step] = projection.encode(metric.projectable(block)).codes
    return found


def _assign(
    x: NDArray[np.generic], projection: Projection, centroids: Table, metric: Metric, work: Work
) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    """Records (n,) of stored vectors x (n, d), and the list (n,) of each."""
    stored = work.growing("records", record_type(projection.p))
    list_of = work.growing("list-of", np.dtype(np.int32))
    with stage("coding", len(x), "images") as advance:
        advance(len(list_of))
        for rows in slices_of(x, len(list_of)):
            for block in _blocks(rows):
                coded = projection.encode(metric.projectable(block))
                stored.append(records(coded))
                list_of.append(nearest(centroids, coded.codes, 1)[:, 0].astype(np.int32))
                advance(len(block))
            work.keep_more()
    return stored.array(), list_of.array()


def _in_lists(stored: NDArray[np.void], list_of: NDArray[np.int32], ends: NDArray[np.int64], work: Work) -> Table:
    """Records (n,) list after list, and in each in the order of their rows.

    A slice of the table is of the lists that it reaches into, whose rows are looked for among all.
    """
    n, p = len(stored), stored.dtype["codes"].shape[0]
    tiles = work.growing(TABLE, tile_type(p), header=npy_header(tile_type(p), -(-n // TILE)))
    step = max(TILE, next(slices_of(stored), stored).shape[0] // TILE * TILE)
    for start in range(len(tiles) * TILE, n, step):
        end = min(n, start + step)
        first, last = np.searchsorted(ends, [start, end - 1], side="right")
        rows, lists = _rows_of(list_of, first, last)
        rows = rows[np.argsort(lists, kind="stable")]
        before = start - (ends[first - 1] if first else 0)
        rows = rows[before : before + end - start]
        tiles.append(pack(stored[rows], rows).tiles)
        work.keep_more()
    return Table(tiles.array(), n)


def _rows_of(list_of: NDArray[np.int32], first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The rows, ascending, that are in lists from the first to the last, and the list of each."""
    found, start = [], 0
    for lists in slices_of(list_of):
        rows = np.flatnonzero((lists >= first) & (lists <= last))
        found.append((rows + start, lists[rows]))
        start += len(lists)
    rows, lists = map(np.concatenate, zip(*found, strict=True))
    return rows, lists


def training_rows(n: int, seed: int) -> NDArray[np.int64]:
    """Rows of n stored vectors that axes and centroids are fitted to, in random order.

    The others are as new to these as a query is, and can stand for one: of few vectors most are left for that.
    """
    return np.random.default_rng(seed).permutation(n)[: training_count(n)].copy()  # of many a few: the rest is let go


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
    step = _step(x)
    return (x[start : start + step] for start in range(0, len(x), step))


def _step(x: NDArray[np.generic]) -> int:
    return rows_within_budget(x.shape[1], _BLOCK)


def _centroids(codes: NDArray[np.float32], nlist: int, seed: int) -> Table:
    """Middles of lists, by k-means of codes (m, p)."""
    m, p = codes.shape
    clustering: Any = faiss.Kmeans(p, nlist, niter=10, seed=seed, min_points_per_centroid=1, max_points_per_centroid=m)
    clustering.train(codes)
    rounded = np.rint(clustering.centroids)
    nothing = np.zeros(len(rounded))
    coded = Coded(rounded.astype(np.int8), np.square(rounded.astype(np.float64)).sum(axis=1), nothing, nothing)
    return pack(records(coded), np.arange(len(rounded)))
