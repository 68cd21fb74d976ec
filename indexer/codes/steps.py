"""The hot steps of a search: by the compiled kernel where there is one, else in NumPy, with the same bits.

Each is one call for a block of queries, during which other threads run.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.data.vectors import sum_in_lanes
from knnvote.indexer.metric import L1, L2, Cosine, Euclidean, Metric

from . import plain
from .library import kernel
from .plain import Neighbors
from .projection import Coded
from .table import Table

_L2, _COSINE, _L1, _COSINE_OF_WHOLE = range(4)  # kernel.cpp's numbers
_TYPES = {np.dtype(name): number for number, name in enumerate(("u1", "u2", "u4", "f4", "f8", "f2", "i1"))}
_L2_OF_BYTES = 7


def distances(
    xq: NDArray[np.generic], x: NDArray[np.generic], I: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """Distances between queries and their own candidates.

    Args:
        xq: (nq, d) queries.
        x: (n, d) stored vectors.
        I: (nq, m) rows of x; -1 for none.
        metric: what to compute, as its `reduced` gives it; `final` is for what is left of them.

    Returns:
        (nq, m) float64, infinite for none. Exact for l2 and l1 between whole numbers while sums stay below 2^53;
        else the same bits for a pair of vectors whatever else is computed beside it.
    """
    compiled = kernel()
    pairs = None if compiled is None else _pairs(xq, x, metric)
    if compiled is None or pairs is None:
        return plain.distances(xq, x, I, metric)
    D, I = np.empty(I.shape), np.ascontiguousarray(I, dtype=np.int64)
    compiled.distances(*pairs.arguments, _address(I), I.shape[1], _address(D))
    return D


def nearest(
    table: Table,
    codes: NDArray[np.int8],
    m: int,
    lists: NDArray[np.int64] | None = None,
    ends: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The m stored vectors of the least keys, by key, then by row.

    Args:
        table: of codes.
        codes: (nq, p) int8 of queries.
        m: how many are wanted.
        lists: (nq, nprobe) those parts of the table that are looked through, each once; None for all of it.
        ends: (nlist,) where each part of the table ends.

    Returns:
        (nq, m) rows; -1 where there are no more.
    """
    compiled = kernel()
    if compiled is None:
        return plain.nearest(table, codes, m, lists, ends)
    rows, room = np.empty((len(codes), m), dtype=np.int64), np.empty((8 * m, 2), dtype=np.int32)
    codes = np.ascontiguousarray(codes)
    lists = None if lists is None else np.ascontiguousarray(lists)
    nprobe = 1 if lists is None else lists.shape[1]
    compiled.nearest(
        *(_address(table.tiles), table.p, table.n, _address(codes), len(codes), _address(ends), _address(lists)),
        *(nprobe, m, _address(room), _address(rows)),
    )
    return rows


def scan(
    table: Table,
    coded: Coded,
    first: NDArray[np.int64],
    xq: NDArray[np.generic],
    x: NDArray[np.generic],
    *,
    k: int,
    metric: Euclidean,
    unit: float,
) -> Neighbors:
    """The k nearest stored vectors, by distance, then by row.

    Args:
        table: of codes of x.
        coded: the queries' codes.
        first: (nq, m) rows of x that may be near, each once, -1 for none: the nearer, the more others are ruled out.
        xq: (nq, d) queries.
        x: (n, d) stored vectors.
        k: neighbours.
        metric: of the distances.
        unit: of the codes, as `Projection.unit` has it.

    Returns:
        D (nq, k) as `distances` gives it, and I (nq, k).
    """
    compiled = kernel()
    pairs = None if compiled is None else _pairs(xq, x, metric)
    if compiled is None or pairs is None:
        return plain.scan(table, coded, first, xq, x, k=k, metric=metric, unit=unit)
    D, I, room = np.empty((len(xq), k)), np.empty((len(xq), k), dtype=np.int64), np.empty((len(xq), 2 * k, 2))
    codes, first = np.ascontiguousarray(coded.codes), np.ascontiguousarray(first, dtype=np.int64)
    compiled.scan(
        *(_address(table.tiles), table.p, table.n, _address(codes)),
        *map(_address, (coded.norm, coded.rest, coded.rounding, first)),
        *(first.shape[1], metric.square, metric.lost(x.shape[1]), unit),
        *(*pairs.arguments, k, *map(_address, (room, D, I))),
    )
    return D, I


class _Pairs:
    """Queries and stored vectors as the kernel takes them; they live as long as this does."""

    def __init__(self, xq: NDArray[np.generic], x: NDArray[np.generic], number: int, of_type: int) -> None:
        self._xq, self._x = np.ascontiguousarray(xq), np.ascontiguousarray(x)
        self._squares = None if number != _COSINE_OF_WHOLE else sum_in_lanes(np.square(xq, dtype=np.float64))
        addresses = (_address(array) for array in (self._xq, self._squares, self._x))
        first_q, squares, first = addresses
        self.arguments = (first_q, squares, len(xq), first, x.shape[1], number, of_type)


def _pairs(xq: NDArray[np.generic], x: NDArray[np.generic], metric: Metric) -> _Pairs | None:
    """None where the kernel does not know the metric or a type."""
    of_type = _TYPES.get(x.dtype)
    if of_type is None or not isinstance(metric, L2 | Cosine | L1):
        return None
    if isinstance(metric, L2) and xq.dtype == x.dtype == np.uint8:
        return _Pairs(xq, x, _L2, _L2_OF_BYTES)
    if isinstance(metric, Cosine) and xq.dtype.kind == x.dtype.kind == "u":
        return _Pairs(xq.astype(np.float64), x, _COSINE_OF_WHOLE, of_type)
    number = _COSINE if isinstance(metric, Cosine) else _L2 if isinstance(metric, L2) else _L1
    return _Pairs(metric.space(xq), x, number, of_type)


def _address(array: NDArray[Any] | None) -> int | None:
    """Of a contiguous array's first value."""
    if array is None:
        return None
    if not array.flags.c_contiguous:
        raise TypeError("the kernel takes contiguous arrays")
    address: int = array.__array_interface__["data"][0]  # which takes a third of the time of `array.ctypes`
    return address
