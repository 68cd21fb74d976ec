"""A table and the lines around it, with rich: nothing in them commands the terminal."""

import os
import sys
from collections.abc import Container

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from knnvote.data.text import printable

_LEAST_NAME = 12  # characters, of a name that gives way to numbers
_LEAST_KEPT = 24  # likewise, of text that people read
_GAP = 2
_WIDE = 200  # columns, where no terminal and no COLUMNS tells how many there are
_DOTS = "..."
_IN_A_SENTENCE = 32  # columns of a terminal, for a name


class Name:
    """Text of a cell that gives way in its middle where the numbers beside it need the room."""

    def __init__(self, text: str, least: int = _LEAST_NAME) -> None:
        """Keep it, harmless for a terminal, and to how many characters it gives way."""
        self._text, self.least = printable(text), least

    def __rich_measure__(self, _console: Console, _options: ConsoleOptions) -> Measurement:
        """From what it can give way to, to all of it."""
        width = cell_len(self._text)
        return Measurement(min(width, self.least), width)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """As much of it as fits."""
        yield Text(shorten(self._text, options.max_width), no_wrap=True)


def shorten(text: str, width: int) -> str:
    """Text with dots in place of its middle if it takes more than so many columns of a terminal."""
    if cell_len(text) <= width:
        return text
    kept = max(0, width - len(_DOTS))
    tail = set_cell_size(text[::-1], kept - kept // 2)[::-1]
    return f"{set_cell_size(text, kept // 2)}{_DOTS}{tail}"


def short_name(name: str) -> str:
    """A name as a sentence has it: on a terminal not so long that the sentence is lost."""
    return shorten(name, _IN_A_SENTENCE) if Console().is_terminal else name


def new_table(title: str, *headers: str, text: Container[str] = (), read: Container[str] = ()) -> Table:
    """A table without rows; its first column, those of `text` and those to `read` are of text, others of numbers.

    Numbers are never broken over lines. Where even the names give way and there is no room, columns are left out from
    the right.
    """
    table = Table(title=printable(title), title_justify="left", box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for i, header in enumerate(headers):
        is_read = i == 0 or header in read
        is_text = is_read or header in text
        table.add_column(header, justify="left" if is_read else "right", overflow="fold", no_wrap=not is_text)
    return table


def kept_name(kept: dict[str, str | None] | None, column: str) -> Name:
    """What is kept of an image for people to read in a column, of which so much is left that it can be read."""
    return Name((kept or {}).get(column) or "", _LEAST_KEPT)


def new_list(title: str) -> Table:
    """A table without rows or headers, of names with their values."""
    return Table(title=printable(title), title_justify="left", box=None, show_header=False, pad_edge=False)


def add_row(table: Table, *cells: str | Name) -> None:
    """Add a row to a table."""
    table.add_row(*(cell if isinstance(cell, Name) else printable(cell) for cell in cells))


def print_table(table: Table) -> list[str]:
    """A table on a terminal; else as wide as it needs or COLUMNS says, lines without blanks at the end.

    Returns:
        The headers of columns that were left out, for which there is no room.
    """
    console = Console(markup=False, emoji=False)
    if console.is_terminal:
        return _print_as_fits(console, table)
    width = os.environ.get("COLUMNS", "")
    console = Console(width=int(width) if width.isdecimal() and int(width) else _WIDE, markup=False, emoji=False)
    with console.capture() as printed:
        left_out = _print_as_fits(console, table)
    for line in printed.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")
    return left_out


def _print_as_fits(console: Console, table: Table) -> list[str]:
    left_out: list[str] = []
    while len(table.columns) > 1 and _least_width(console, table) > console.width:
        left_out.insert(0, str(table.columns.pop().header))
    console.print(table)
    return left_out


def _least_width(console: Console, table: Table) -> int:
    """Of a table whose names give way, but whose numbers are whole."""
    width = -_GAP
    for column in table.columns:
        cells = [column.header, *column.cells]
        widest = max(Measurement.get(console, console.options, cell).maximum for cell in cells)
        least = max((cell.least for cell in cells if isinstance(cell, Name)), default=_LEAST_NAME)
        width += _GAP + (widest if column.no_wrap else min(widest, least))
    return width


def print_line(line: str) -> None:
    """A line on stdout, which is not wrapped."""
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(printable(line))


def print_text(sentence: str) -> None:
    """A sentence on stdout; on a terminal it goes on in the next line between words."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(printable(sentence), soft_wrap=not console.is_terminal)
