"""What the cells of a text column are, seen over all of them: numbers where that loses nothing, else text."""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from knnvote.data.vectors import LARGEST_EXACT

_LONG_INTEGER = r"^\s*[+-]?\d{16,}\s*$"
_LONG_WHOLE = r"^\s*[+-]?\d{16,}([.,]0*)?\s*$"
_CODE = r"^\s*[+-]?(0[0-9xX]|\d+[eE]\d)"  # programs that write powers of ten give them a sign or a point
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?[iI]nf(inity)?$"
LIST = r"^[\s\[]*N([\s,\[\]]+N){3,}[\s\]]*$".replace("N", r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LISTED = 3
NEARLY_ALL = 0.9  # cells of a column, of which the others may be mistakes
_MISSING = pa.array(csv.ConvertOptions().null_values)
_TRUTHS = pa.array(["true", "false", "True", "False", "TRUE", "FALSE"])


class Kind(IntEnum):
    """What cells are. Of two numeric kinds the greater holds both."""

    NULL = 0
    INTEGER = 1
    WHOLE = 2  # written as fractions, 3.0 or 3e+00, and whole all the same
    FLOAT = 3
    LONG = 4  # an integer that float64 would round
    BOOLEAN = 5
    INTEGERS = 6  # several in a cell
    FLOATS = 7
    TEXT = 8

    @property
    def type(self) -> pa.DataType:
        """In Parquet."""
        return _TYPES[self]


LISTS = (Kind.INTEGERS, Kind.FLOATS)
_TYPES = {
    Kind.NULL: pa.null(),
    Kind.INTEGER: pa.int64(),
    Kind.WHOLE: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.LONG: pa.int64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.INTEGERS: pa.list_(pa.int64()),
    Kind.FLOATS: pa.list_(pa.float64()),
    Kind.TEXT: pa.string(),
}


def whole_told(names: Sequence[str]) -> str:
    """What is to be told of columns whose fractions became integers."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"numbers written with a point are all whole, and became integers, in {', '.join(names[:_LISTED])}{more}"


def lists_told(names: Sequence[str]) -> str:
    """What is to be told of columns whose text became lists."""
    return f"the text of column {', '.join(map(repr, names))} is lists of numbers, and became flat ones"


def join(one: Kind, other: Kind) -> Kind:
    """The kind of a column whose parts are of two kinds."""
    low, high = sorted((one, other))
    if low in {high, Kind.NULL}:
        return high
    if high <= Kind.FLOAT or (low, high) in ((Kind.INTEGER, Kind.LONG), LISTS):
        return high
    return Kind.TEXT


def kind_of(cells: pa.Array, decimal: str, *, is_pixel: bool, is_quoted: bool = False) -> Kind:
    """What cells are.

    Args:
        cells: (n,) strings, null where empty.
        decimal: point or comma.
        is_pixel: whether they are numbers whatever zeros, quotes or digits they have; others that begin with 0, are
            written 1e5 or would be rounded are text.
        is_quoted: whether they stand in quotes, and others do not.
    """
    if cells.null_count == len(cells):
        return Kind.NULL
    if not is_pixel and (is_quoted or _any(pc.match_substring_regex(cells, _CODE))):
        return _kind_of_lists(cells)
    try:
        return _kind_of_numbers(cells, decimal, _LONG_INTEGER if is_pixel else _LONG_WHOLE)
    except pa.ArrowInvalid:
        pass
    if _all(pc.is_in(_present(cells, "."), value_set=_TRUTHS)):
        return Kind.BOOLEAN
    return _kind_of_lists(cells)


def parse(cells: pa.Array, kind: Kind, decimal: str) -> pa.Array:
    """Cells as what their column is."""
    return _PARSERS[kind](cells, decimal)


def first_other(cells: pa.Array, decimal: str, pattern: str) -> tuple[int, int | None]:
    """How many cells are what a pattern says, and the first that is something else."""
    matched = pc.match_substring_regex(_present(cells, decimal), pattern)
    numbers = int(pc.sum(matched).as_py() or 0)
    first = int(pc.index(matched, False).as_py())
    return numbers, first if first >= 0 else None


def same_number(texts: Iterable[str | None], decimal: str) -> tuple[str, str] | None:
    """Two numbers that differ as text alone, 1.1 and 1.10 for one, if there are any; 1 and 1.0 are the same text."""
    present = pc.replace_substring_regex(_present(pa.array(texts, pa.string()), decimal), r"\.0*$", "")
    first: dict[float, str] = {}
    for text in present.drop_null().unique().to_pylist():
        other = first.setdefault(float(text), text)
        if other != text and float(text):
            return other, text
    return None


def _kind_of_numbers(cells: pa.Array, decimal: str, long: str) -> Kind:
    try:
        integers = _integers(cells, decimal)
    except pa.ArrowInvalid:
        values = _floats(cells, decimal)
        if _any(pc.match_substring_regex(cells, long)):
            return Kind.TEXT
        numbers = values.drop_null().to_numpy()
        if not len(numbers):
            return Kind.NULL
        whole = np.all((np.abs(numbers) <= LARGEST_EXACT) & (np.floor(numbers) == numbers))
        return Kind.WHOLE if whole else Kind.FLOAT
    low, high = pc.min_max(integers).values()
    if not low.is_valid:
        return Kind.NULL
    if low.as_py() < 0 and _any(pc.match_substring_regex(cells, "0[xX][89a-fA-F]")):
        return Kind.TEXT  # a sign is taken out of 16 hexadecimal digits
    return Kind.LONG if max(-low.as_py(), high.as_py()) > LARGEST_EXACT else Kind.INTEGER


def _kind_of_lists(cells: pa.Array) -> Kind:
    """Of text such as 0 255 13 or [0, 255, 13], all the way down."""
    if not _all(pc.match_substring_regex(cells, LIST)):
        return Kind.TEXT
    for kind in LISTS:
        try:
            parse(cells, kind, ".")
        except pa.ArrowInvalid:
            continue
        return kind
    return Kind.TEXT


def _present(cells: pa.Array, decimal: str) -> pa.Array:
    """Cells without spaces around them and with a decimal point, null where they say that nothing is there."""
    cells = pc.utf8_trim_whitespace(cells)
    if decimal != ".":
        cells = pc.replace_substring(pc.replace_substring(cells, ".", "?"), decimal, ".")
    return pc.if_else(pc.is_in(cells, value_set=_MISSING), pa.scalar(None, pa.string()), cells)


def _integers(cells: pa.Array, decimal: str) -> pa.Array:
    try:
        return pc.cast(cells, pa.int64())
    except pa.ArrowInvalid:
        return pc.cast(_present(cells, decimal), pa.int64())


def _floats(cells: pa.Array, decimal: str) -> pa.Array:
    return pc.cast(_present(cells, decimal), pa.float64())


def _whole(cells: pa.Array, decimal: str) -> pa.Array:
    return pc.cast(_floats(cells, decimal), pa.int64())


def _truths(cells: pa.Array, _decimal: str) -> pa.Array:
    return pc.cast(_present(cells, "."), pa.bool_())


def _lists(number: pa.DataType) -> Callable[[pa.Array, str], pa.Array]:
    def parse_lists(cells: pa.Array, _decimal: str) -> pa.Array:
        bare = pc.utf8_trim_whitespace(pc.replace_substring_regex(cells, r"[\[\],]", " "))
        words = pc.split_pattern_regex(bare, r"\s+")
        return pc.cast(words, pa.list_(number))

    return parse_lists


_PARSERS: dict[Kind, Callable[[pa.Array, str], pa.Array]] = {
    Kind.NULL: lambda cells, _decimal: pa.nulls(len(cells)),
    Kind.INTEGER: _integers,
    Kind.WHOLE: _whole,
    Kind.FLOAT: _floats,
    Kind.LONG: _integers,
    Kind.BOOLEAN: _truths,
    Kind.INTEGERS: _lists(pa.int64()),
    Kind.FLOATS: _lists(pa.float64()),
    Kind.TEXT: lambda cells, _decimal: cells,
}


def _any(matched: pa.Array) -> bool:
    return bool(pc.any(matched).as_py())


def _all(matched: pa.Array) -> bool:
    return bool(pc.all(matched).as_py())
