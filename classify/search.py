"""K-neighbour search: FAISS proposes candidates, the stored vectors settle them.

D (nq, k) float64: distances in the index's metric, ascending. I (nq, k) int64: rows of the stored vectors; equal
distances are ordered by row. Both have the same bits for a query whatever the batch, the number of threads or the
place in the batch.
"""

from collections.abc import Callable

import faiss
import numpy as np
from numpy.typing import NDArray

from classify.distances import candidate_distances, final_distances
from data.errors import OptionError
from indexer.bounds import Bounds
from indexer.faiss_index import FAISS_METRIC
from indexer.space import Metric, metric_space
from indexer.store import Index
from indexer.threads import map_single_threaded

_SPARE = 16  # candidates beyond k of the first scan: room for ties and for float32's rounding
_WIDEN = 8
_SCAN_BLOCK = 16_384  # stored vectors converted to float32 at a time
_QUERY_BLOCK = 4096
_LEAST_BLOCK = 64  # queries that are worth a thread
_CANDIDATES = 1 << 22  # settled at a time
_BOUND_BLOCK = 512  # queries of one matrix product with the bounds
_MOST_SURVIVORS = 1 << 14  # of one query: memory stays small
_USEFUL = 16  # a distance of its own costs a survivor this many times what a plain scan costs it
_ALIKE = 32  # queries settled together, of about as many survivors


def search(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest stored vectors of each query, as far as the index's kind finds them.

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
    if not 1 <= k <= index.n:
        raise OptionError(f"k is {k}, and {index.path} holds {index.n:,} images: give --k from 1 to {index.n}")
    return _in_blocks(_exact_block if index.kind == "exact" else _approximate_block, index, xq, k)


def exact_search(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest stored vectors of each query, of any kind of index; arguments and results as of `search`."""
    return _in_blocks(_exact_block, index, xq, k)


def _in_blocks(
    work: Callable[[Index, NDArray[np.generic], int], tuple[NDArray[np.float64], NDArray[np.int64]]],
    index: Index,
    xq: NDArray[np.generic],
    k: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Search in blocks of queries, side by side where there are threads."""
    threads = faiss.omp_get_max_threads()
    size = min(_QUERY_BLOCK, max(_LEAST_BLOCK, -(-len(xq) // threads)))
    blocks = map_single_threaded(
        lambda start: work(index, xq[start : start + size], k), range(0, len(xq), size), threads
    )
    if not blocks:
        return np.empty((0, k)), np.empty((0, k), dtype=np.int64)
    D = np.concatenate([D for D, _ in blocks])
    return final_distances(D, index.metric), np.concatenate([I for _, I in blocks])


def _exact_block(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if index.bounds is not None:
        return exact_by_bounds(index, index.bounds, xq, k)
    return exact(xq, index.vectors, k, index.metric)


def _approximate_block(index: Index, xq: NDArray[np.generic], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    D, I = _settle(xq, index.vectors, candidates(index, xq, k), k, index.metric)
    lacking = (I < 0).any(axis=1)
    if lacking.any():
        D[lacking], I[lacking] = exact(xq[lacking], index.vectors, k, index.metric)
    return D, I


def candidates(index: Index, xq: NDArray[np.generic], k: int) -> NDArray[np.int64]:
    """What an approximate index proposes for each query: (nq, m) rows, m at least k; -1 for none."""
    settings = index.manifest["search"]
    m = min(index.n, k * settings["candidates_per_neighbor"])
    queries = metric_space(xq, index.metric)
    if "nprobe" in settings:
        ivf, projection = index.ivf
        parameters = faiss.SearchParametersIVF(nprobe=settings["nprobe"])
        proposed: NDArray[np.int64] = ivf.search(projection(queries), m, params=parameters)[1]
        return proposed
    inner = index.faiss_index
    if settings["is_centred"]:
        centring = faiss.downcast_VectorTransform(inner.chain.at(0))
        queries = queries - faiss.vector_to_array(centring.mean).astype(np.float64)
        inner = faiss.downcast_index(inner.index)
    with np.errstate(over="ignore"):  # a query infinitely far out gets some candidates or, from exact search, all
        floats = queries.astype(np.float32)
    # HNSW takes each query by itself. Other indexes may hand a batch to BLAS, which rounds by batch: one query a call
    # has one way through the code.
    step = len(floats) if isinstance(inner, faiss.IndexHNSW) else 1
    return np.concatenate([inner.search(floats[i : i + step], m)[1] for i in range(0, len(floats), step)])


def exact_by_bounds(
    index: Index, bounds: Bounds, xq: NDArray[np.generic], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Brute force by result: only what a lower bound does not rule out gets a distance.

    The k-th distance among an approximate search's candidates is at least the true one; every stored vector whose
    bound is not above it is settled. Queries for which too few are ruled out are searched by `exact`.

    Returns:
        D (nq, k) as `candidate_distances` gives it, and I (nq, k).
    """
    D, I = np.empty((len(xq), k)), np.empty((len(xq), k), dtype=np.int64)
    doubtful = []
    for start in range(0, len(xq), _BOUND_BLOCK):
        queries = xq[start : start + _BOUND_BLOCK]
        t = _settle(queries, index.vectors, candidates(index, queries, k), k, index.metric)[0][:, -1]
        # For cosine, half the squared distance and 1 - cos round differently.
        squared = 2 * (t + 2.0**-48) if index.metric == "cosine" else t
        columns, counts, given_up = bounds.survivors(metric_space(queries, index.metric), squared, _MOST_SURVIVORS)
        if np.median(counts) > max(k, index.n // _USEFUL):  # these data leave a bound nothing to work with
            doubtful.append(np.arange(start, len(xq)))
            break
        doubtful.append(start + np.flatnonzero(given_up))
        first = np.cumsum(counts) - counts
        for rows in _alike(counts, np.flatnonzero(~given_up)):
            proposed = _padded(columns, first[rows], counts[rows])
            D[start + rows], I[start + rows] = _settle(queries[rows], index.vectors, proposed, k, index.metric)
    rest = np.concatenate(doubtful)
    if len(rest):
        D[rest], I[rest] = exact(xq[rest], index.vectors, k, index.metric)
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
    can have: that of the last candidate, less the most that float32 can have rounded it by.

    Returns:
        D (nq, k) as `candidate_distances` gives it, and I (nq, k).
    """
    n = len(x)
    D = np.empty((len(xq), k))
    I = np.empty((len(xq), k), dtype=np.int64)
    open_rows = np.arange(len(xq))
    m = k + _SPARE
    while len(open_rows) and m < n:
        doubtful = []
        for rows in _split(open_rows, m):
            outside, proposed = _scan(xq[rows], x, m, metric)
            D[rows], I[rows] = _settle(xq[rows], x, proposed, k, metric)
            doubtful.append(rows[~(D[rows, -1] < outside)])
        open_rows = np.concatenate(doubtful)
        m *= _WIDEN
    for rows in _split(open_rows, n):
        D[rows], I[rows] = _settle(xq[rows], x, np.broadcast_to(np.arange(n), (len(rows), n)), k, metric)
    return D, I


def _split(rows: NDArray[np.int64], m: int) -> list[NDArray[np.int64]]:
    """Rows in parts that keep m candidates each within memory."""
    step = max(1, _CANDIDATES // m)
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _settle(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], k: int, metric: Metric
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest of each query's candidates I (nq, m), by distance, then by row."""
    D = candidate_distances(xq, x, I, metric)
    if I.shape[1] > 8 * k:  # what is farther than the k-th need not be sorted
        near = np.partition(D, k - 1, axis=1)[:, k - 1, None] >= D
        width = int(near.sum(axis=1).max())
        places = np.argsort(~near, axis=1, kind="stable")[:, :width]
        D, I = np.take_along_axis(D, places, axis=1), np.take_along_axis(I, places, axis=1)
    order = np.lexsort((I, D), axis=1)[:, :k]
    return np.take_along_axis(D, order, axis=1), np.take_along_axis(I, order, axis=1)


def _scan(
    xq: NDArray[np.generic], x: NDArray[np.generic], m: int, metric: Metric
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
        reach = max(reach, float(_lengths(block, metric).max()))
        found_D, found_I = faiss.knn(queries, block, min(m, len(block)), metric=FAISS_METRIC[metric])
        D, I = np.hstack([D, found_D]), np.hstack([I, found_I + start])
        if D.shape[1] > m:
            nearest = np.argpartition(D, m - 1, axis=1)[:, :m]
            D, I = np.take_along_axis(D, nearest, axis=1), np.take_along_axis(I, nearest, axis=1)
    farthest = D.max(axis=1).astype(np.float64)
    outside = farthest - _rounding(_lengths(queries, metric), reach, x.shape[1], metric)
    underflow = x.shape[1] * np.finfo(np.float64).tiny  # squares of settled distances that float64 loses
    return outside * to_floats.unit - underflow, I


class _Float32Space:
    """Float32 for a scan: centred, so that an offset costs no precision, scaled by a power of two, against overflow.

    `unit` turns a scan's distances into those of `candidate_distances`.
    """

    def __init__(self, xq: NDArray[np.generic], x: NDArray[np.generic], metric: Metric) -> None:
        self._metric = metric
        self._is_whole = metric != "cosine" and x.dtype in (np.uint8, np.uint16)
        self._centre = metric_space(x[:_SCAN_BLOCK], metric).mean(axis=0)
        self._scale = 1.0
        if self._is_whole:
            self._centre = np.rint(self._centre)
        elif metric != "cosine":
            low, high = min(float(xq.min()), float(x.min())), max(float(xq.max()), float(x.max()))
            self._scale = 2.0 ** -np.frexp(max(high - low, np.finfo(np.float64).tiny))[1]
            self._centre = self._centre.clip(low, high)  # a mean of equal values need not equal them
        self.unit = {"l2": self._scale**-2, "l1": 1 / self._scale, "cosine": 0.5}[metric]

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.float32]:
        if self._is_whole:
            floats: NDArray[np.float32] = x.astype(np.float32) - self._centre.astype(np.float32)
        else:
            floats = ((metric_space(x, self._metric) - self._centre) * self._scale).astype(np.float32)
        return floats


def _lengths(x: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """(n,) how far each vector is from zero in its metric."""
    lengths = np.abs(x).sum(axis=1) if metric == "l1" else np.sqrt(np.einsum("ij,ij->i", x, x))
    result: NDArray[np.float64] = lengths.astype(np.float64)
    return result


def _rounding(lengths: NDArray[np.float64], reach: float, d: int, metric: Metric) -> NDArray[np.float64]:
    """(nq,) the most by which a float32 distance can differ from the true one.

    A sum of d products in any order is off by at most d 2^-24 times the sum of their sizes (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1); the constants cover the conversion to float32, the few
    operations around the sum, and the rounding of the lengths themselves. What is not in proportion is added: each
    term may underflow, and for cosine `candidate_distances` has another formula, which rounds by about 2^-52.
    """
    size = lengths + reach if metric == "l1" else (lengths + reach) ** 2
    fixed = d * 2.0**-126 + (2.0**-48 if metric == "cosine" else 0)
    return (d + 16) * 2.0**-24 * size * 1.05 + fixed
