"""Nearest neighbours in plain NumPy: what every search is compared with. It uses no code of the project.

Unsigned numbers are summed in int64, or as Python's own where that would overflow, which is exact; all others in
float64, in the one order that is promised for them: each term to one of 32 sums in turn, and these by halves.
"""

import numpy as np

_BLOCK_VALUES = 1 << 22


def distances(xq, x, metric):
    """Queries (nq, d) and stored vectors (n, d) -> (nq, n) float64; for l2 squared."""
    xq, x = _prepare(xq, metric), _prepare(x, metric)
    D = np.empty((len(xq), len(x)))
    step = max(1, _BLOCK_VALUES // max(1, x.size))
    for start in range(0, len(xq), step):
        D[start : start + step] = _block(xq[start : start + step], x, metric)
    return D


def neighbors(xq, x, k, metric):
    """D (nq, k) float64 and I (nq, k): by distance, then by row; l2 as its square root."""
    return nearest(distances(xq, x, metric), k, metric)


def nearest(D, k, metric):
    """The same of all distances D (nq, n), squared for l2."""
    I = np.stack([np.lexsort((np.arange(len(row)), row))[:k] for row in D])
    D = np.take_along_axis(D, I, axis=1)
    return (np.sqrt(D) if metric == "l2" else D), I


def _prepare(x, metric):
    if x.dtype.kind == "u":
        return x.astype(np.int64 if x.dtype.itemsize < 4 else object)
    x = x.astype(np.float64)
    return x * (1 / np.sqrt(_in_turn(x**2)[..., None])) if metric == "cosine" else x


def _block(xq, x, metric):
    if x.dtype.kind == "f":
        return _OF_DIFFERENCES[metric](x - xq[:, None])
    if metric == "l1":
        return np.abs(x - xq[:, None]).sum(axis=-1).astype(np.float64)
    products, squares_q, squares = _products(xq, x), (xq**2).sum(axis=-1)[:, None], (x**2).sum(axis=-1)
    if metric == "l2":
        return (squares_q + squares - 2 * products).astype(np.float64)
    return np.maximum(1 - products / np.sqrt(squares_q.astype(np.float64) * squares.astype(np.float64)), 0)


def _in_turn(terms):
    """Sums of terms (..., d)."""
    sums = np.zeros((*terms.shape[:-1], 32))
    for i in range(terms.shape[-1]):
        sums[..., i % 32] += terms[..., i]
    for half in (16, 8, 4, 2, 1):
        sums = sums[..., :half] + sums[..., half : 2 * half]
    return sums[..., 0]


def _products(xq, x):
    """Of whole numbers; in float64, which is exact below 2^53, where it can be: BLAS is much faster."""
    if len(x) and float(x.max()) * float(xq.max(initial=0)) * x.shape[1] < 2**53:
        return (xq.astype(np.float64) @ x.T.astype(np.float64)).astype(np.int64)
    return xq @ x.T


_OF_DIFFERENCES = {
    "l2": lambda difference: _in_turn(difference**2),
    "cosine": lambda difference: _in_turn(difference**2) / 2,
    "l1": lambda difference: _in_turn(np.abs(difference)),
}
