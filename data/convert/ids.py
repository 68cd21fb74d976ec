"""Text files that say something of images by their ids, as text whatever it looks like: one id a line, or CSV."""

import csv
import io
from pathlib import Path
from typing import cast

import pyarrow as pa

from knnvote.data.errors import ImageFileError, param
from knnvote.data.text import counted

from .dialect import EXCEL_DELIMITER, read_dialect
from .source import first_character, open_source, reading
from .survey import TextRows

USUAL_NAME = "id"


def holds_text(path: Path) -> bool:
    """Whether a file is text by its first bytes, and not a container's."""
    with reading(path), open_source(path) as stream:
        head = stream.read(512)
    return b"\0" not in head and not head.startswith(b"PAR1")


def read_text_columns(path: Path, id_column: str | None) -> tuple[pa.Table, pa.Array]:
    """The columns of a text file as strings, empty where a cell is: of CSV, or the lines of a ``.txt`` file.

    And (n,) the line of each row, from 1. Rows of empty cells, as spreadsheets leave them, are none.

    Args:
        path: of the file.
        id_column: that holds the ids; without it the only column, or else the one named ``id``. The name of an only
            column need not stand above it.

    Raises:
        ImageFileError: there is no such column, two have one name, or a row has no id or not as many columns.
        KnnvoteError: the file cannot be read.
    """
    name, rows = id_column or USUAL_NAME, _read_rows(path)
    names = rows[0][1] if rows else []
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
    bad = [line for line, row in rows if len(row) != len(names) or not row[place]]
    if bad:
        raise ImageFileError(
            f"{path}: {counted(len(bad), 'row')} without an id, or with not as many columns, the first in line "
            f"{bad[0]:,}: mend or leave out such rows"
        )
    columns = [pa.array([row[i] for _, row in rows], pa.string()) for i in range(len(names))]
    return pa.table(columns, names), pa.array([line for line, _ in rows], pa.int64())


def line_of(path: Path, column: str, text: str) -> int | None:
    """The first line of a text file, from 1, that has a text in a column; None where there is none, or it is JSON."""
    if not holds_text(path) or first_character(path) in {b"{", b"["}:
        return None
    (_, names), *rows = _read_rows(path)
    place = names.index(column) if column in names else 0
    return next((line for line, row in rows if row[place : place + 1] == [text]), None)


def read_cells(path: Path, place: int) -> pa.Array | None:
    """The cells (n,) of a column of CSV, by its place from 0, as they stand in the rows that `convert` takes.

    None of a file that is no text, or JSON, which has types of its own.
    """
    if not holds_text(path) or first_character(path) in {b"{", b"["}:
        return None
    rows = TextRows(path, read_dialect(path)).batches()
    return pa.chunked_array([batch.column(place) for _, batch in rows], pa.string()).combine_chunks()


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The cells of each line that says something, without spaces around them, and the number of the line, from 1."""
    delimiter = None if path.name.removesuffix(".gz").endswith(".txt") else read_dialect(path).delimiter
    with reading(path), open_source(path) as stream:
        text = io.TextIOWrapper(cast("io.BufferedReader", stream), encoding="utf-8-sig", newline="")
        if delimiter is None:
            lines = enumerate(text.read().splitlines(), start=1)
            return [(number, [line.strip()]) for number, line in lines if line]
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        cells = ((rows.line_num, [cell.strip() for cell in row]) for row in rows)
        return [
            (line, row)
            for line, row in cells
            if any(row) and not (line == 1 and EXCEL_DELIMITER.fullmatch(delimiter.join(row)))
        ]
