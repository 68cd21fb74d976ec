"""The hot table of an index: codes of 8 bits for each stored vector, and bounds of distances that follow from them.

Let B (p, d) be a contraction, |Bv| <= |v| for every v, and rest_v the root of |v|^2 - |Bv|^2. By the triangle
inequality

    |q - x|^2 >= |Bq - Bx|^2 + (rest_q - rest_x)^2,

a distance between points of p + 1 coordinates that never exceeds the true one, so that no neighbour is ruled out by it
(Faloutsos, Ranganathan and Manolopoulos 1994). With B's rows along the principal axes it is close to the true one. Bv
is rounded to whole numbers of 8 bits, a_v, with rounding_v the length of what that took off; by the same inequality

    |q - x| >= |(a_q, rest_q) - (a_x, rest_x)| - rounding_q - rounding_x.

So x can be as near as t, tau = t + rounding_q, only if |(a_q, rest_q) - (a_x, rest_x)|^2 <= (tau + rounding_x)^2, or

    norm_x - 2 a_q.a_x - 2 rest_q rest_x - rounding_x (rounding_x + 2 tau) <= tau^2 - norm_q,   norm = |a|^2 + rest^2,

of which a_q.a_x alone costs work: a product of bytes. A scan of the table rules out all but a few stored vectors. The
key norm_x - 2 a_q.a_x puts them in the order of |a_q - a_x|^2 + rest_x^2: what the axes do not see of two vectors is
about at right angles, so that it is near the order of true distances.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .projection import Coded

TILE = 16  # stored vectors whose codes lie side by side, as wide instructions take them
_WORD = 4  # components of each
MOST_NORM = 2.0**30
MOST_COMPONENTS = 1024  # products of so many codes stay below 2^24, which float32 adds in any order
MOST_ROUNDING = 2.0**60  # by which a vector is never ruled out; float32 holds its square
DELTA = 2.0**-18  # see kernel.cpp


_FIELDS = (("norm", "<i4"), ("rest", "<f4"), ("rounding", "<f4"), ("row", "<i4"))
_EMPTY = {"codes": 128, "norm": MOST_NORM, "rest": 0, "rounding": 0, "row": -1}  # where the last tile is not full


def tile_type(p: int) -> np.dtype[np.void]:
    """One tile of vectors of p components, as the kernel reads it."""
    in_tile = ((name, form, (TILE,)) for name, form in _FIELDS)
    return np.dtype([("codes", "u1", (p // _WORD, TILE, _WORD)), *in_tile])


def record_type(p: int) -> np.dtype[np.void]:
    """What a tile holds of one vector of p components."""
    return np.dtype([("codes", "u1", (p,)), *_FIELDS])


@dataclass(frozen=True, eq=False)
class Table:
    """Codes of stored vectors, in tiles.

    Attributes:
        tiles: (ceil(n / 16),) of `tile_type`: codes as a + 128, norm rounded down, rest, rounding, and the row of each
            vector; -1 where the last tile is not full.
        n: vectors.
    """

    tiles: NDArray[np.void]
    n: int

    @property
    def p(self) -> int:
        """Components."""
        return int(self.tiles.dtype["codes"].shape[0] * _WORD)

    @cached_property
    def codes(self) -> NDArray[np.int8]:
        """(n, p), as they are without tiles."""
        stored = self.tiles["codes"].transpose(0, 2, 1, 3).reshape(-1, self.p)[: self.n]
        return (stored.astype(np.int16) - 128).astype(np.int8)

    def field(self, name: str) -> NDArray[np.generic]:
        """(n,) norm, rest, rounding or row."""
        values: NDArray[np.generic] = self.tiles[name].reshape(-1)[: self.n]
        return values

    def records(self, start: int, stop: int) -> NDArray[np.void]:
        """(stop - start,) of `record_type`: what it holds of the vectors at these places."""
        first = start // TILE
        tiles = self.tiles[first : -(-stop // TILE)]
        found = np.empty(len(tiles) * TILE, dtype=record_type(self.p))
        found["codes"] = tiles["codes"].transpose(0, 2, 1, 3).reshape(-1, self.p)
        for name, _ in _FIELDS:
            found[name] = tiles[name].reshape(-1)
        return found[start - first * TILE : stop - first * TILE]


def pack(coded: Coded, rows: NDArray[np.int64]) -> Table:
    """A table of vectors in this order, each with its row."""
    return Table(in_tiles(as_records(coded, rows)), len(rows))


def as_records(coded: Coded, rows: NDArray[np.int64]) -> NDArray[np.void]:
    """(n,) of `record_type`: what a table holds of vectors, each with its row."""
    records = np.empty(len(rows), dtype=record_type(coded.codes.shape[1]))
    records["codes"] = coded.codes.astype(np.int16) + 128
    records["norm"] = np.floor(coded.norm).clip(max=MOST_NORM)
    records["rest"] = coded.rest
    rounding = (coded.rounding * (1 + DELTA)).clip(max=MOST_ROUNDING)
    records["rounding"] = np.nextafter(rounding.astype(np.float32), np.float32(np.inf))
    records["row"] = rows
    return records


def in_tiles(records: NDArray[np.void]) -> NDArray[np.void]:
    """(ceil(n / 16),) of `tile_type`: records (n,) in this order."""
    n, p = len(records), records.dtype["codes"].shape[0]
    tiles = np.zeros(-(-n // TILE), dtype=tile_type(p))
    for name, empty in _EMPTY.items():
        values = records[name]
        if len(tiles) * TILE > n:
            values = np.concatenate([values, np.full((len(tiles) * TILE - n, *values.shape[1:]), empty, values.dtype)])
        if name == "codes":
            tiles[name] = values.reshape(len(tiles), TILE, p // _WORD, _WORD).transpose(0, 2, 1, 3)
        else:
            tiles[name] = values.reshape(-1, TILE)
    return tiles
