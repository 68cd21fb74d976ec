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


def tile_type(p: int) -> np.dtype[np.void]:
    """One tile of vectors of p components, as the kernel reads it."""
    fields = [("norm", "<i4"), ("rest", "<f4"), ("rounding", "<f4"), ("row", "<i4")]
    return np.dtype([("codes", "u1", (p // _WORD, TILE, _WORD)), *((name, form, (TILE,)) for name, form in fields)])


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

    def part(self, start: int, stop: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """(stop - start,) of `record_type` and their rows: what it holds of the vectors at these places."""
        first = start // TILE
        tiles, within = self.tiles[first : -(-stop // TILE)], np.s_[start - first * TILE : stop - first * TILE]
        found = np.empty(len(tiles) * TILE, dtype=record_type(self.p))
        found["codes"] = tiles["codes"].transpose(0, 2, 1, 3).reshape(-1, self.p).astype(np.int16) - 128
        for name in ("norm", "rest", "rounding"):
            found[name] = tiles[name].reshape(-1)
        return found[within], tiles["row"].reshape(-1)[within].astype(np.int64)


def record_type(p: int) -> np.dtype[np.void]:
    """What a table holds of a vector of p components, but for its row."""
    return np.dtype([("codes", "i1", (p,)), ("norm", "<i4"), ("rest", "<f4"), ("rounding", "<f4")])


def records(coded: Coded) -> NDArray[np.void]:
    """Codes (n,) of vectors with their bounds, rounded to the safe side, as a table holds them."""
    found = np.empty(len(coded.codes), record_type(coded.codes.shape[1]))
    rounding = (coded.rounding * (1 + DELTA)).clip(max=MOST_ROUNDING)
    found["codes"], found["rest"] = coded.codes, coded.rest
    found["norm"] = np.floor(coded.norm).clip(max=MOST_NORM)
    found["rounding"] = np.nextafter(rounding.astype(np.float32), np.float32(np.inf))
    return found


def pack(stored: NDArray[np.void], rows: NDArray[np.int64]) -> Table:
    """A table of vectors by their records (n,) in this order, each with its row."""
    n, p = len(stored), stored.dtype["codes"].shape[0]
    tiles = np.zeros(-(-n // TILE), dtype=tile_type(p))
    codes = np.full((len(tiles) * TILE, p), 128, dtype=np.uint8)
    codes[:n] = stored["codes"].astype(np.int16) + 128
    tiles["codes"] = codes.reshape(len(tiles), TILE, p // _WORD, _WORD).transpose(0, 2, 1, 3)
    for name, values, empty in (
        *((name, stored[name], empty) for name, empty in (("norm", MOST_NORM), ("rest", 0), ("rounding", 0))),
        ("row", rows, -1),
    ):
        whole = np.full(len(tiles) * TILE, empty, dtype=tiles.dtype[name].base)
        whole[:n] = values
        tiles[name] = whole.reshape(-1, TILE)
    return Table(tiles, n)
