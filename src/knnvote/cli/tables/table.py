"""A table and the lines around it, with rich: nothing in them commands the terminal."""

from rich.console import Console
from rich.table import Table

from knnvote.data.text import printable


def new_table(title: str, *headers: str) -> Table:
    """A table without rows; its first column is of text, the others are of numbers."""
    table = Table(title=printable(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold")
    return table


def new_list(title: str) -> Table:
    """A table without rows or headers, of names with their values."""
    return Table(title=printable(title), title_justify="left", box=None, show_header=False, pad_edge=False)


def add_row(table: Table, *cells: str) -> None:
    """Add a row to a table."""
    table.add_row(*map(printable, cells))


def print_table(table: Table) -> None:
    """A table on stdout; where that is no terminal, as wide as it needs."""
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False, emoji=False)
    console.print(table)


def print_line(line: str) -> None:
    """A line on stdout, which is not wrapped."""
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(printable(line))
