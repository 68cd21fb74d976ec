"""Ids from text: one a line, or a column of CSV. They are text whatever they look like."""

import csv
import io
from pathlib import Path
from typing import cast

import pyarrow as pa

from knnvote.data.errors import ImageFileError, param

from .dialect import read_dialect
from .source import open_source, reading

_USUAL_NAME = "id"


def holds_text(path: Path) -> bool:
    """Whether a file is text by its first bytes, and not a container's."""
    with reading(path), open_source(path) as stream:
        head = stream.read(512)
    return b"\0" not in head and not head.startswith(b"PAR1")


def read_text_ids(path: Path, id_column: str | None) -> pa.Array:
    """The ids in a text file: each line of a ``.txt`` file, or a column of CSV.

    Args:
        path: of the file.
        id_column: that holds the ids; without it the only column, or else the one named ``id``. The name of an only
            column need not stand above it.

    Raises:
        ImageFileError: there is no such column, or a line has no id.
        KnnvoteError: the file cannot be read.
    """
    delimiter = None if path.name.removesuffix(".gz").endswith(".txt") else read_dialect(path).delimiter
    with reading(path), open_source(path) as stream:
        text = io.TextIOWrapper(cast("io.BufferedReader", stream), encoding="utf-8-sig", newline="")
        lines = text.read().splitlines() if delimiter is None else []
        rows = [[line] for line in lines if line] if delimiter is None else list(csv.reader(text, delimiter=delimiter))
    rows = [[cell.strip() for cell in row] for row in rows if row]
    name, names = id_column or _USUAL_NAME, rows[0] if rows else []
    if len(names) > 1 and name not in names:
        raise ImageFileError(
            f"{path}: no column {name!r} of ids; there are {', '.join(names)}: name one with {param('id_column')}"
        )
    place = names.index(name) if name in names else 0
    if name in names:
        del rows[0]
    ids = [row[place] if len(row) == len(names) else "" for row in rows]
    if not all(ids):
        raise ImageFileError(f"{path}: {ids.count(''):,} rows have no id, or not as many columns: leave those rows out")
    return pa.array(ids, pa.string())
