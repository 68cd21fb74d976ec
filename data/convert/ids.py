"""Text files that say something of images by their ids, as text whatever it looks like: one id a line, or CSV."""

import csv
import io
from pathlib import Path
from typing import cast

import pyarrow as pa

from knnvote.data.errors import ImageFileError, param

from .dialect import read_dialect
from .source import first_character, open_source, reading
from .survey import TextRows

USUAL_NAME = "id"


def holds_text(path: Path) -> bool:
    """Whether a file is text by its first bytes, and not a container's."""
    with reading(path), open_source(path) as stream:
        head = stream.read(512)
    return b"\0" not in head and not head.startswith(b"PAR1")


def read_text_columns(path: Path, id_column: str | None) -> pa.Table:
    """The columns of a text file as strings, empty where a cell is: of CSV, or the lines of a ``.txt`` file.

    Args:
        path: of the file.
        id_column: that holds the ids; without it the only column, or else the one named ``id``. The name of an only
            column need not stand above it.

    Raises:
        ImageFileError: there is no such column, two have one name, or a row has no id or not as many columns.
        KnnvoteError: the file cannot be read.
    """
    name, rows = id_column or USUAL_NAME, _read_rows(path)
    names = rows[0] if rows else []
    if len(names) > 1 and name not in names:
        raise ImageFileError(
            f"{path}: no column {name!r} of ids; there are {', '.join(names)}: name one with {param('id_column')}"
        )
    if name in names:
        del rows[0]
    else:
        names = [name]
    twice = [one for one in names if names.count(one) > 1]
    if twice:
        raise ImageFileError(f"{path}: several columns are named {twice[0]!r}: rename all but one")
    place = names.index(name)
    bad = sum(len(row) != len(names) or not row[place] for row in rows)
    if bad:
        raise ImageFileError(f"{path}: {bad:,} rows have no id, or not as many columns: leave those rows out")
    return pa.table([pa.array((row[i] for row in rows), pa.string()) for i in range(len(names))], names)


def read_cells(path: Path, place: int) -> pa.Array | None:
    """The cells (n,) of a column of CSV, by its place from 0, as they stand in the rows that `convert` takes.

    None of a file that is no text, or JSON, which has types of its own.
    """
    if not holds_text(path) or first_character(path) in {b"{", b"["}:
        return None
    rows = TextRows(path, read_dialect(path)).batches()
    return pa.chunked_array([batch.column(place) for _, batch in rows], pa.string()).combine_chunks()


def _read_rows(path: Path) -> list[list[str]]:
    """The cells of each line that says something, without spaces around them."""
    delimiter = None if path.name.removesuffix(".gz").endswith(".txt") else read_dialect(path).delimiter
    with reading(path), open_source(path) as stream:
        text = io.TextIOWrapper(cast("io.BufferedReader", stream), encoding="utf-8-sig", newline="")
        if delimiter is None:
            return [[line.strip()] for line in text.read().splitlines() if line]
        return [[cell.strip() for cell in row] for row in csv.reader(text, delimiter=delimiter, strict=True) if row]
