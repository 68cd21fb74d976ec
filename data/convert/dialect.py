"""How a text file of rows is written, told by its first lines: what separates columns, and what they are called."""

import csv
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from knnvote.data.columns import is_usual_label
from knnvote.data.errors import KnnvoteError

from .source import BLOCK, FORMATS, Stream, open_source, reading

_DELIMITERS = ",;\t|"
EXCEL_DELIMITER = re.compile(r"sep=.\s*")
_QUOTED = re.compile(r'"[^"]*"')
_COMMA_NUMBER = re.compile(r"\s*[+-]?\d*(,\d+)?\s*")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_LOOKED_AT = 64  # rows, for quotes
_FEWEST_NAMES = 4  # numbers that go up may be names of columns; fewer go up in a row too


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How the rows of a text file are written.

    Attributes:
        delimiter: between columns.
        decimal: point or comma, in numbers.
        names: of the columns; None where no line tells them.
        counted: whether the file's own names only count the columns.
        width: the number of columns.
        start: bytes before the first row.
        lines: lines before the first row.
        comments: lines among these that begin with # and are not taken for names.
        quoted: places of columns in quotes where others are not, which are text.
    """

    delimiter: str
    decimal: str
    names: tuple[str, ...] | None
    counted: bool
    width: int
    start: int
    lines: int
    comments: int
    quoted: frozenset[int]

    @property
    def has_odd_names(self) -> bool:
        """Whether some names are numbers, and do not count the columns: they may be a row."""
        numbers = [float(name) for name in self.names or () if _is_number(name)]
        return bool(numbers) and not _count_up(numbers)


def read_dialect(path: Path, *, is_labels: bool = False) -> Dialect:
    """Look at the first lines of a file.

    Args:
        path: of the file.
        is_labels: its one column is labels, which may be words: one more word is a name only if labels are called so,
            or what follows are numbers.

    Raises:
        KnnvoteError: they do not tell how it is written, or are not UTF-8.
    """
    with reading(path), open_source(path) as stream:
        comments, line, before = _first_line(stream, path)
        after = stream.tell()
        following = [_line(stream, path) for _ in range(_LOOKED_AT)]
        delimiter, decimal = _find_delimiter(line, path)
        if delimiter != "," and _has_comma_numbers(following, delimiter):
            decimal = ","
            _refuse_thousands(following, delimiter, path)
        cells = _split(line, delimiter)
        names = _split(comments[-1], delimiter) if comments and comments[-1] else []
        counted = False
        if len(names) != len(cells) or any(map(_is_number, names)):
            counted = _counts(cells, path)
            is_header = _names_labels(cells, following) if is_labels else _is_header(cells, decimal, path)
            names = cells if is_header and not counted else []
        is_row = names is not cells and not counted
        quoted = _quoted([line, *following] if is_row else following, delimiter, len(cells))
    return Dialect(
        delimiter=delimiter,
        decimal=decimal,
        names=tuple(names) if names else None,
        counted=counted,
        width=len(cells),
        start=after - len(line.encode()) if is_row else after,
        lines=before if is_row else before + 1,
        comments=len(comments) - bool(names and is_row),
        quoted=quoted,
    )


def _first_line(stream: Stream, path: Path) -> tuple[list[str], str, int]:
    """The comments above the first line that says something, that line, and how many are before it."""
    comments, before = [], 0
    line = _line(stream, path).removeprefix("\ufeff")
    while line and (not line.strip() or line.startswith("#") or EXCEL_DELIMITER.fullmatch(line)):
        comments += [line.strip("# \t\r\n")] if line.startswith("#") else []
        line, before = _line(stream, path), before + 1
    if not line:
        raise KnnvoteError(f"{path} is empty, or holds only comments: expected {FORMATS}")
    if "\r" in _QUOTED.sub("", line).rstrip("\r\n"):
        raise KnnvoteError(f"{path} has lines that end as old Macs had it: end them as Unix does, with tr '\\r' '\\n'")
    return comments, line, before


def _line(stream: Stream, path: Path) -> str:
    line = stream.readline(BLOCK)
    if len(line) == BLOCK:
        raise KnnvoteError(f"{path} has a line of {BLOCK:,} bytes or more: expected {FORMATS}")
    return line.decode()


def _find_delimiter(line: str, path: Path) -> tuple[str, str]:
    """What separates the columns of a line, and what a number's fraction."""
    bare = _QUOTED.sub("", line)
    found = [delimiter for delimiter in _DELIMITERS if delimiter in bare]
    if len(found) == 2 and found[0] == "," and all(map(_COMMA_NUMBER.fullmatch, line.split(found[1]))):
        return found[1], ","
    if len(found) > 1:
        raise KnnvoteError(
            f"the first line of {path} holds {' and '.join(map(repr, found))}, which may separate columns: "
            "separate them by commas, and put text that holds any in double quotes"
        )
    if found:
        return found[0], "."
    words = bare.split()
    if len(words) > 1 and all(map(_is_number, words)):
        if bare.rstrip("\r\n") != " ".join(words):
            raise KnnvoteError(
                f"{path} has columns of numbers with more than one space or tab between or beside them: separate "
                f"them by commas, as awk '{{$1=$1}} 1' OFS=, does"
            )
        return " ", "."
    return ",", "."


def _has_comma_numbers(lines: Sequence[str], delimiter: str) -> bool:
    """Whether rows have commas in numbers, where they separate no columns."""
    cells = itertools.chain.from_iterable(csv.reader(lines, delimiter=delimiter))
    return any("," in cell and _COMMA_NUMBER.fullmatch(cell) for cell in cells)


def _refuse_thousands(lines: Sequence[str], delimiter: str, path: Path) -> None:
    """Refuse numbers whose commas may separate thousands: each has three digits behind it, and none before is 0 alone.

    Raises:
        KnnvoteError: naming one.
    """
    cells = [cell.strip() for row in csv.reader(lines, delimiter=delimiter) for cell in row if "," in cell]
    numbers = [cell for cell in cells if _COMMA_NUMBER.fullmatch(cell) or _THOUSANDS.fullmatch(cell)]
    if numbers and all(_THOUSANDS.fullmatch(cell) for cell in numbers):
        raise KnnvoteError(
            f"{path} holds numbers such as {numbers[0]!r}, whose comma may separate thousands or a fraction: "
            "write them with points, and without what separates thousands"
        )


def _split(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]


def _is_header(cells: Sequence[str], decimal: str, path: Path) -> bool:
    """Whether a line names columns: it has no numbers, or some that count up as no row does beside others.

    Raises:
        KnnvoteError: it is a row that a program took for names, and so lost its numbers.
    """
    numbers = [cell.replace(decimal, ".") for cell in cells if _is_number(cell.replace(decimal, "."))]
    if _is_made_up(numbers):
        raise KnnvoteError(
            f"the first line of {path} is a row that was taken for a header, for it holds numbers such as "
            f"{next(cell for cell in numbers if '.' in cell)}: leave it out, as tail -n +2 does, or "
            "write the file again from one that was read without header"
        )
    if len(numbers) == len([cell for cell in cells if cell]):
        return False
    values = [float(number) for number in numbers]
    goes_up = all(one < other for one, other in itertools.pairwise(values))
    return not values or _count_up(values) or (goes_up and len(values) >= _FEWEST_NAMES)


def _count_up(values: Sequence[float]) -> bool:
    return len(values) > 1 and list(values) in ([*range(len(values))], [*range(1, len(values) + 1)])


def _names_labels(cells: Sequence[str], following: Sequence[str]) -> bool:
    """Whether a line is the name of labels, and not the first of them."""
    is_word = not _is_number(cells[0])
    return is_word and (is_usual_label(cells[0]) or all(_is_number(line) for line in following if line.strip()))


def _counts(cells: Sequence[str], path: Path) -> bool:
    """Whether a line is 0,1,2... or 1,2,3..., as pandas calls columns that have no names.

    Raises:
        KnnvoteError: it is, behind the empty name of a column of row numbers, which is no pixel.
    """
    named = cells[1:] if cells[:1] == [""] else cells
    counts = len(named) >= _FEWEST_NAMES and any(
        all(cell == str(first + i) for i, cell in enumerate(named)) for first in (0, 1)
    )
    if counts and named is not cells:
        raise KnnvoteError(
            f"the first column of {path} has no name beside others that count up: name it, or leave it out if it "
            "numbers the rows, as pandas does with index=False"
        )
    return counts


def _is_made_up(numbers: Sequence[str]) -> bool:
    """Whether numbers are a row that pandas made different to be names: of a second 0 it makes 0.1, then 0.2."""
    different = set(numbers)
    repeated = [number.rpartition(".")[0] for number in numbers if re.fullmatch(r"\d+(\.\d+)?\.[1-9]\d*", number)]
    return len(different) == len(numbers) and bool(repeated) and all(number in different for number in repeated)


def _quoted(lines: Sequence[str], delimiter: str, width: int) -> frozenset[int]:
    """Places of columns whose cells are all in quotes, where that tells them from others."""
    rows = [row for row in csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE) if len(row) == width]
    quoted = {place for place in range(width) if all(row[place].lstrip().startswith('"') for row in rows)}
    return frozenset(quoted if rows and len(quoted) < width else ())


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
