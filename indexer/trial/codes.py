"""What codes of an opened index must be: in bounds, for the kernel believes them, and those of its vectors.

Of others a search could rule out true neighbours, or find fewer than it is asked for.
"""

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.data.reading import rows_within_budget
from knnvote.indexer.codes.inverted_file import InvertedFile
from knnvote.indexer.codes.projection import LONGEST, SHORTEST, Coded
from knnvote.indexer.codes.table import MOST_NORM, MOST_ROUNDING, Table
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

from .structure import expect

_BLOCK = 16_384  # rows coded at a time, at most
_CLOSE = 2.0**-20  # of lengths that another machine computed, in float32


def check_vectors(index: Index) -> None:
    """Check that each stored vector is one that could be stored.

    Raises:
        KnnvoteError: saying what is wrong.
    """
    metric = METRICS[index.metric]
    for start in range(0, index.n, _rows(index)):
        x, images = (array[start : start + _rows(index)] for array in (index.vectors, index.images))
        expect(bool(np.isfinite(x).all() and np.isfinite(images).all()), "it stores values that are not finite")
        for reason in metric.unusable_rows(x).values():
            raise KnnvoteError(f"it stores a vector that no index can: {reason}")


def check_codes(index: Index) -> None:
    """Check the codes of an index that has some.

    Raises:
        KnnvoteError: saying what is wrong.
    """
    if index.inverted_file is None:
        return
    _check_lists(index.inverted_file)
    fitted = index.inverted_file.fitted
    expect(fitted is None or bool(((fitted >= 0) & (fitted < index.n)).all()), "it was fitted to rows that it has not")
    table, projection, metric = index.ivf.table, index.ivf.projection, METRICS[index.metric]
    place = np.argsort(table.field("row"))
    for start in range(0, index.n, _rows(index)):
        block = np.s_[start : start + _rows(index)]
        coded = projection.encode(metric.projectable(index.vectors[block]))
        expect(_are_of(table, place[block], coded), "its codes are not those of its vectors")


def _rows(index: Index) -> int:
    return rows_within_budget(index.d, _BLOCK)


def _check_lists(by_codes: InvertedFile) -> None:
    """Check that each stored vector is in one list, and that codes and bounds are numbers that knnvote could write."""
    projection, ends = by_codes.projection, by_codes.ends
    expect(bool(np.isfinite(projection.centre).all()), "its centre is not finite")
    expect(
        bool(SHORTEST <= np.abs(projection.axes).max() <= LONGEST),
        "its axes are too long, too short or not finite",
    )
    expect(
        bool(ends[0] >= 0 and (ends[1:] >= ends[:-1]).all() and ends[-1] == by_codes.table.n),
        "its lists do not end one after the other",
    )
    for table, what in ((by_codes.table, "stored vector"), (by_codes.centroids, "list")):
        rows = table.tiles["row"].reshape(-1)
        expect(
            bool(np.array_equal(np.sort(rows[: table.n]), np.arange(table.n)) and (rows[table.n :] == -1).all()),
            f"its codes do not hold each {what} once",
        )
        _check_bounds(table)


def _check_bounds(table: Table) -> None:
    norm, rest, rounding = (table.tiles[name] for name in ("norm", "rest", "rounding"))
    lengths = (rest >= 0).all() and np.isfinite(rest).all() and (rounding >= 0).all()
    lengths = lengths and np.isfinite(rounding).all()
    expect(bool(lengths and ((norm >= 0) & (norm <= MOST_NORM)).all()), "its bounds are no lengths")


def _are_of(table: Table, place: NDArray[np.int64], coded: Coded) -> bool:
    """Whether vectors at these places of a table have these codes, and bounds that are no closer."""
    norm, rest, rounding = (table.field(name)[place].astype(np.float64) for name in ("norm", "rest", "rounding"))
    return bool(
        np.array_equal(table.codes[place], coded.codes)
        and (norm <= coded.norm * (1 + _CLOSE) + 1).all()
        and (np.abs(rest - coded.rest) <= coded.rest * _CLOSE + coded.rounding).all()
        and (rounding >= coded.rounding.clip(max=MOST_ROUNDING)).all()
    )
