"""K-neighbour search: FAISS proposes candidates, the stored vectors settle them.

D (nq, k) float64: distances in the index's metric, ascending. I (nq, k) int64: rows of the stored vectors; equal
distances are ordered by row. Both have the same bits for a query whatever the batch, the number of threads or the
place in the batch.
"""

import itertools
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import OptionError
from knnvote.indexer.bounds import Bounds
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import ProposingSettings
from knnvote.indexer.metric import METRICS, Euclidean, FaissMetric, Metric
from knnvote.indexer.threads import map_single_threaded

from .distances import candidate_distances

Search = Callable[[Index, NDArray[np.generic], int], tuple[NDArray[np.float64], NDArray[np.int64]]]

_FIRST_CANDIDATES = 3  # for each neighbour: their k-th distance is nearly the true one
_FIRST_ROOM = 30  # stored vectors probed for each of them
_SPARE = 16  # candidates beyond k of the first scan: room for ties and for float32's rounding
_WIDEN = 8
_SCAN_BLOCK = 16_384  # stored vectors converted to float32 at a time
_QUERY_BLOCK = 4096
_LEAST_BLOCK = 64  # queries that are worth a thread
_CANDIDATES = 1 << 22  # settled at a time
_BOUND_BLOCK = 1024  # queries of one matrix product with the bounds
_FIRST_BLOCK = 256  # queries that show whether bounds are of use
_MOST_SURVIVORS = 1 << 14  # of one query: memory stays small
_USEFUL = 16  # a distance of its own costs a survivor this many times what a plain scan costs it
_ALIKE = 32  # queries settled together, of about as many survivors


def search(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest stored vectors of each query, as far as the index's kind finds them.

    An adaptive index is searched by its most careful rung; `classify/adaptive` climbs all of them.

    Args:
        index: an opened index.
        xq: (nq, d) queries in the index's type, or in float64 for an index of floats.
        k: neighbours, at most n.

    Returns:
        D (nq, k) float64 and I (nq, k) int64. A query for which an approximate index has fewer than k candidates is
        searched exactly.

    Raises:
        OptionError: k is not from 1 to n.
    """
    check_k(index, k)
    block = exact_block if index.is_exact(k) else _approximate_block
    D, I = in_blocks(lambda queries: block(index, queries, k), xq)
    return METRICS[index.metric].final(D), I


def exact_search(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest stored vectors of each query, of any kind of index; arguments and results as of `search`."""
    D, I = in_blocks(lambda queries: exact_block(index, queries, k), xq)
    return METRICS[index.metric].final(D), I


def neighbors_left_out(
    index: Index, rows: NDArray[np.int64], k: int, search_by: Search = search
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest stored vectors of some stored vectors, each without itself; its copies stay.

    Args:
        index: an opened index.
        rows: (nq,) which stored vectors.
        k: neighbours, at most n - 1.
        search_by: `search` or `exact_search`.

    Returns:
        D (nq, k) float64 and I (nq, k) int64, as of `search`.
    """
    D, I = search_by(index, index.vectors[rows], k + 1)
    dropped = rows[:, None] == I
    # A vector with more than k copies of lower rows is not found itself, nor need it be by an approximate index.
    dropped[~dropped.any(axis=1), -1] = True
    return D[~dropped].reshape(-1, k), I[~dropped].reshape(-1, k)


def check_k(index: Index, k: int) -> None:
    """Refuse to look for more neighbours than there are, or for none.

    Raises:
        OptionError: k is not from 1 to n.
    """
    if not 1 <= k <= index.n:
        raise OptionError(f"k is {k}, and {index.path} holds {index.n:,} images: give --k from 1 to {index.n}")


def in_blocks(
    work: Callable[[NDArray[np.generic]], tuple[NDArray[Any], ...]], xq: NDArray[np.generic]
) -> tuple[NDArray[Any], ...]:
    """Search in blocks of queries, side by side where there are threads; `work` gives arrays of a row a query."""
    threads = faiss.omp_get_max_threads()
    rounds = max(1, -(-len(xq) // (threads * _QUERY_BLOCK)))
    size = max(_LEAST_BLOCK, -(-len(xq) // (threads * rounds)))
    starts = range(0, max(1, len(xq)), size)
    blocks = map_single_threaded(lambda start: work(xq[start : start + size]), starts, threads)
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))


def exact_block(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """D as `candidate_distances` gives it and I, both (nq, k), of one block of queries."""
    metric = METRICS[index.metric]
    if index.bounds is not None and isinstance(metric, Euclidean):
        return exact_by_bounds(index, index.bounds, xq, k, metric)
    return exact(xq, index.vectors, k, metric)


def _approximate_block(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return settle_or_scan(index, xq, candidates(index, xq, k), k)


def settle_or_scan(
    index: Index, xq: NDArray[np.generic], I: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest of each query's candidates I (nq, m); of all stored vectors where there are fewer than k."""
    D, I = settle(xq, index.vectors, I, k, METRICS[index.metric])
    lacking = (I < 0).any(axis=1)
    if lacking.any():
        D[lacking], I[lacking] = exact_block(index, xq[lacking], k)
    return D, I


def candidates(index: Index, xq: NDArray[np.generic], k: int) -> NDArray[np.int64]:
    """What an approximate index proposes for each query: (nq, m) rows, m at least k; -1 for none."""
    if index.kind == "adaptive":
        rung = index.careful(k)
        return probe(index, project(index, xq), rung.candidates(k, index.n), rung.nprobe or index.ivf[0].nlist)[1]
    settings = index.manifest.search
    if not isinstance(settings, ProposingSettings):
        raise TypeError(f"{index.path} has no FAISS index that proposes candidates")
    m = min(index.n, k * settings.candidates_per_neighbor)
    queries = METRICS[index.metric].space(xq)
    inner = index.faiss_index
    if settings.is_centred:
        centring = faiss.downcast_VectorTransform(inner.chain.at(0))
        queries = queries - faiss.vector_to_array(centring.mean).astype(np.float64)
        inner = faiss.downcast_index(inner.index)
    with np.errstate(over="ignore"):  # a query infinitely far out gets some candidates or, from exact search, all
        floats = queries.astype(np.float32)
    # HNSW takes each query by itself. Other indexes may hand a batch to BLAS, which rounds by batch: one query a call
    # has one way through the code.
    nq = max(1, len(floats))
    step = nq if isinstance(inner, faiss.IndexHNSW) else 1
    return np.concatenate([inner.search(floats[i : i + step], m)[1] for i in range(0, nq, step)])


def finds_equal(
    index: Index, xq: NDArray[np.generic], D: NDArray[np.float64], I: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which queries (nq, d) have an equal stored vector among their neighbours D, I (nq, k)."""
    may_be_equal = METRICS[index.metric].equal_within >= D
    found = np.zeros(len(D), dtype=np.bool_)
    for j in range(D.shape[1]):
        asked = np.flatnonzero(may_be_equal[:, j] & ~found)
        if len(asked):
            found[asked] = (index.vectors[I[asked, j]] == xq[asked]).all(axis=1)
    return found


def project(index: Index, xq: NDArray[np.generic]) -> NDArray[np.float32]:
    """Queries (nq, d) as the inverted file of an index takes them, (nq, p)."""
    return index.ivf[1](METRICS[index.metric].projectable(xq))


def probe(
    index: Index, projected: NDArray[np.float32], m: int, nprobe: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The m nearest by their projections in the nprobe nearest lists, nearest first.

    Returns:
        D (nq, m): squared distances of the projections, infinite for none. I (nq, m): rows; -1 for none.
    """
    D, I = index.ivf[0].search(projected, m, params=faiss.SearchParametersIVF(nprobe=nprobe))
    return D, I


def _lists_holding(index: Index, rows: int) -> int:
    """How many lists of the inverted file hold so many stored vectors, if they are of even length."""
    nlist = index.ivf[0].nlist
    return int(min(nlist, -(-rows * nlist // index.n)))


def exact_by_bounds(
    index: Index, bounds: Bounds, xq: NDArray[np.generic], k: int, metric: Euclidean
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Brute force by result: only what a lower bound does not rule out gets a distance.

    The k-th distance among an approximate search's candidates is at least the true one; every stored vector whose
    bound is not above it is settled. Queries for which too few are ruled out are searched by `exact`.

    Returns:
        D (nq, k) as `candidate_distances` gives it, and I (nq, k).
    """
    D, I = np.empty((len(xq), k)), np.empty((len(xq), k), dtype=np.int64)
    if not len(xq):
        return D, I
    doubtful = []
    m = min(index.n, _FIRST_CANDIDATES * k)
    for start, end in itertools.pairwise([0, *range(_FIRST_BLOCK, len(xq), _BOUND_BLOCK), len(xq)]):
        queries = xq[start:end]
        proposed = probe(index, project(index, queries), m, _lists_holding(index, _FIRST_ROOM * m))[1]
        t = settle(queries, index.vectors, proposed, k, metric)[0][:, -1]
        columns, counts, given_up = bounds.survivors(
            metric.space(queries), metric.squared(t), _MOST_SURVIVORS, max(k, index.n // _USEFUL)
        )
        given_up |= counts < k  # no bound rules out so many: the index is not one that knnvote built
        if given_up.all():  # these data leave a bound nothing to work with
            doubtful.append(np.arange(start, len(xq)))
            break
        doubtful.append(start + np.flatnonzero(given_up))
        first = np.cumsum(counts) - counts
        for rows in _alike(counts, np.flatnonzero(~given_up)):
            survivors = _padded(columns, first[rows], counts[rows])
            D[start + rows], I[start + rows] = settle(queries[rows], index.vectors, survivors, k, metric)
    rest = np.concatenate(doubtful)
    if len(rest):
        D[rest], I[rest] = exact(xq[rest], index.vectors, k, metric)
    return D, I


def _alike(counts: NDArray[np.int64], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows in parts of nearly equal counts."""
    rows = rows[np.argsort(counts[rows], kind="stable")]
    return [rows[i : i + _ALIKE] for i in range(0, len(rows), _ALIKE)]


def _padded(values: NDArray[np.int64], first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Runs of values, each from `first` and `counts` long, as the rows of a matrix that -1 fills up."""
    places = np.arange(counts.max())
    return np.where(places < counts[:, None], values.take(first[:, None] + places, mode="clip"), -1)


def exact(
    xq: NDArray[np.generic], x: NDArray[np.generic], k: int, metric: Metric
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Brute force by result: float32 proposes, stored vectors settle, and what float32 leaves in doubt is widened.

    A query is done when its k-th settled distance is smaller than any distance that a vector outside the candidates
    can have: that of the last candidate, less the most that float32 can have rounded it by. Of a metric that FAISS does
    not know, every stored vector is settled.

    Returns:
        D (nq, k) as `candidate_distances` gives it, and I (nq, k).
    """
    n = len(x)
    D = np.empty((len(xq), k))
    I = np.empty((len(xq), k), dtype=np.int64)
    open_rows = np.arange(len(xq))
    m = k + _SPARE
    while isinstance(metric, FaissMetric) and len(open_rows) and m < n:
        doubtful = []
        for rows in _split(open_rows, m):
            outside, proposed = _scan(xq[rows], x, m, metric)
            D[rows], I[rows] = settle(xq[rows], x, proposed, k, metric)
            doubtful.append(rows[~(D[rows, -1] < outside)])
        open_rows = np.concatenate(doubtful)
        m *= _WIDEN
    for rows in _split(open_rows, n):
        D[rows], I[rows] = settle(xq[rows], x, np.broadcast_to(np.arange(n), (len(rows), n)), k, metric)
    return D, I


def _split(rows: NDArray[np.int64], m: int) -> list[NDArray[np.int64]]:
    """Rows in parts that keep m candidates each within memory."""
    step = max(1, _CANDIDATES // m)
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def settle(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], k: int, metric: Metric
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest of each query's candidates I (nq, m), by distance, then by row."""
    return nearest(candidate_distances(xq, x, I, metric), I, k)


def nearest(D: NDArray[np.float64], I: NDArray[np.int64], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest of candidates D, I (nq, m), by distance, then by row."""
    if I.shape[1] > 8 * k:  # what is farther than the k-th need not be sorted
        near = np.partition(D, k - 1, axis=1)[:, k - 1, None] >= D
        width = int(near.sum(axis=1).max(initial=k))
        places = np.argsort(~near, axis=1, kind="stable")[:, :width]
        D, I = np.take_along_axis(D, places, axis=1), np.take_along_axis(I, places, axis=1)
    order = np.lexsort((I, D), axis=1)[:, :k]
    return np.take_along_axis(D, order, axis=1), np.take_along_axis(I, order, axis=1)


def _scan(
    xq: NDArray[np.generic], x: NDArray[np.generic], m: int, metric: FaissMetric
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The m nearest by float32, block by block.

    Returns:
        A lower bound (nq,) of the distance, as `candidate_distances` gives it, to any vector not proposed; and I
        (nq, m).
    """
    to_floats = _Float32Space(xq, x, metric)
    queries = to_floats(xq)
    D = np.empty((len(xq), 0), dtype=np.float32)
    I = np.empty((len(xq), 0), dtype=np.int64)
    reach = 0.0
    for start in range(0, len(x), _SCAN_BLOCK):
        block = to_floats(x[start : start + _SCAN_BLOCK])
        reach = max(reach, float(metric.lengths(block).max()))
        found_D, found_I = faiss.knn(queries, block, min(m, len(block)), metric=metric.faiss_type)
        D, I = np.hstack([D, found_D]), np.hstack([I, found_I + start])
        if D.shape[1] > m:
            nearest = np.argpartition(D, m - 1, axis=1)[:, :m]
            D, I = np.take_along_axis(D, nearest, axis=1), np.take_along_axis(I, nearest, axis=1)
    farthest = D.max(axis=1).astype(np.float64)
    outside = farthest - metric.rounding(metric.lengths(queries), reach, x.shape[1])
    underflow = x.shape[1] * np.finfo(np.float64).tiny  # squares of settled distances that float64 loses
    return outside * to_floats.unit - underflow, I


class _Float32Space:
    """Float32 for a scan: centred, so that an offset costs no precision, scaled by a power of two, against overflow.

    `unit` turns a scan's distances into those of `candidate_distances`.
    """

    def __init__(self, xq: NDArray[np.generic], x: NDArray[np.generic], metric: FaissMetric) -> None:
        self._metric = metric
        self._is_whole = metric.keeps_values and x.dtype in (np.uint8, np.uint16)
        self._centre = metric.space(x[:_SCAN_BLOCK]).mean(axis=0)
        self._scale = 1.0
        if self._is_whole:
            self._centre = np.rint(self._centre)
        elif metric.keeps_values:
            low, high = min(float(xq.min()), float(x.min())), max(float(xq.max()), float(x.max()))
            self._scale = 2.0 ** -np.frexp(max(high - low, np.finfo(np.float64).tiny))[1]
            self._centre = self._centre.clip(low, high)  # a mean of equal values need not equal them
        self.unit = metric.unit(self._scale)

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.float32]:
        if self._is_whole:
            floats: NDArray[np.float32] = x.astype(np.float32) - self._centre.astype(np.float32)
        else:
            floats = ((self._metric.space(x) - self._centre) * self._scale).astype(np.float32)
        return floats
