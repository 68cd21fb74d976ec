"""Rows of text with something between the columns, CSV and its kin, to Parquet."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.files import atomic_write
from knnvote.data.layouts.wide import Wide

from .dialect import Dialect, read_dialect
from .kinds import LISTS, NEARLY_ALL, Kind, lists_told, parse, whole_told
from .label import FEWEST_NUMBERED, describe, find_label
from .source import Tell
from .survey import Column, TextRows, look_over, refuse_dirty


def convert_delimited(source: Path, destination: Path, label_column: int | None, tell: Tell) -> int:
    """Convert a text file of rows to a Parquet file.

    What separates the columns and whether there is a header is told by the first lines, what a column holds by all: it
    becomes numbers where they keep every digit, else it is text. The rows are read twice, a block at a time.

    Returns:
        The number of rows written.

    Raises:
        OptionError: a label column that is not there, or of a file whose header names it.
        KnnvoteError: the file is damaged, or may be read in several ways.
    """
    dialect = read_dialect(source)
    _check_columns(source, dialect, label_column)
    text = TextRows(source, dialect)
    pixels = _pixels(dialect, label_column)
    columns, rows = look_over(text, pixels, _counted(dialect, pixels))
    is_named = bool(dialect.names and dialect.names[-1]) or label_column == dialect.width
    if columns[-1].kind == Kind.NULL and len(rows) and not is_named:
        columns.pop()  # each line ends with what separates columns
    names = list(dialect.names[: len(columns)]) if dialect.names else _name(text, columns, label_column, tell)
    refuse_dirty(text, columns, names)
    if dialect.has_odd_names:
        tell(f"the first line of {source}, which holds numbers, is taken for the names of its columns")
    if dialect.comments:
        tell(f"{dialect.comments:,} line(s) above the rows of {source} begin with # and are left out")
    if headers := text.repeated_headers(rows):
        tell(f"the header stands again in {_lines(headers)} of {source}: left out")
    _tell_nearly_numbers(text, columns, names, tell)
    for column in columns:
        if merged := column.keep_apart(dialect.decimal):
            tell(f"column {names[column.place]!r} is text: {' and '.join(map(repr, merged))} in it are one number")
    kinds = _settle(columns, names, tell)
    return _write(text, names, kinds, destination)


def _check_columns(path: Path, dialect: Dialect, label_column: int | None) -> None:
    if dialect.width < 2:
        raise KnnvoteError(
            f"{path} is not IDX, NPZ or NPY, and as CSV it has one column: separate columns by commas "
            "(ids of images to remove need no conversion: knnvote remove takes a file of them)"
        )
    names = dialect.names or ()
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise KnnvoteError(f"{path} has several columns named {repeated!r}: give each a name of its own")
    if label_column is not None and names:
        raise OptionError(
            f"{path} has a header, which names its columns: convert it without {param('label_column')}, and name the "
            "label to knnvote index"
        )
    if label_column is not None and not 0 <= label_column <= dialect.width:
        raise OptionError(
            f"{param('label_column')} is {label_column}, and {path} has {dialect.width} columns: "
            "give the number of one, from 1, or 0 if none is the label"
        )


def _pixels(dialect: Dialect, label_column: int | None) -> list[bool]:
    """For each column whether it is one of many of numbers: by names that count up, or as there are no names."""
    if dialect.names is None:
        return [place + 1 != label_column for place in range(dialect.width)]
    schema = pa.schema([(name, pa.int64()) for name in dialect.names])
    found = {name for candidate in Wide.candidates(schema) for name in candidate.columns}
    return [name in found for name in dialect.names]


def _counted(dialect: Dialect, pixels: Sequence[bool]) -> set[int]:
    """Places of columns whose values are counted: those that are no pixels, and where no names tell, may be none."""
    others = {place for place, is_pixel in enumerate(pixels) if not is_pixel}
    return others if dialect.names else {0, dialect.width - 2, dialect.width - 1, *others}


def _name(text: TextRows, columns: Sequence[Column], label_column: int | None, tell: Tell) -> list[str]:
    """Names for columns that have none: label, pixel0, pixel1... and of text by place."""
    if text.dialect.counted:
        tell(f"the first line of {text.path} only counts its columns, and is left out")
    for column in columns:  # what is mostly text is no pixel
        column.is_pixel = column.is_pixel and (2 * column.numbers >= column.filled or column.kind == Kind.BOOLEAN)
    columns[0].is_pixel = columns[0].is_pixel and not (columns[0].counts_rows and columns[0].filled >= FEWEST_NUMBERED)
    label = find_label(text.path, columns) if label_column is None else label_column - 1
    if label_column is None:
        other = columns[-1 if label == 0 else 0]
        tell(
            f"{text.path} has no header: column {label + 1} is taken as the label, {describe(columns[label])} "
            f"(column {other.place + 1} holds {describe(other)}); {param('label_column')} names another, or 0 for none"
        )
    if label >= 0:
        columns[label].is_pixel = False
    names, pixels = [], 0
    for column in columns:
        names.append(
            "label" if column.place == label else f"pixel{pixels}" if column.is_pixel else f"column{column.place + 1}"
        )
        pixels += column.is_pixel
    if columns[0].is_pixel and _is_like_ids(columns[0]):
        tell(
            f"column 1 of {text.path} holds another number in each row or nearly so, as ids do, and is taken as "
            f"{names[0]!r}; if it is no pixel, leave it out, as cut -d, -f2- does"
        )
    for column in columns:
        if column.place != label and not column.is_pixel and column.kind not in LISTS:
            tell(f"column {column.place + 1} of {text.path}, {describe(column)}, is no pixel: {names[column.place]!r}")
    return names


def _is_like_ids(column: Column) -> bool:
    """Whether whole numbers are as many as rows, or more than are told apart."""
    different = column.filled if column.values is None else len(column.values)
    return column.kind in {Kind.INTEGER, Kind.LONG} and different == column.filled >= FEWEST_NUMBERED


def _tell_nearly_numbers(text: TextRows, columns: Sequence[Column], names: Sequence[str], tell: Tell) -> None:
    """Tell of a column that is text for a few cells."""
    for column in columns:
        if column.kind == Kind.TEXT and column.other is not None and column.numbers >= NEARLY_ALL * column.filled:
            line, cell = text.first_other(column)
            tell(
                f"column {names[column.place]!r} is text: line {line} holds {cell!r}, and {column.numbers:,} of its "
                f"{column.filled:,} cells are numbers"
            )


def _settle(columns: Sequence[Column], names: Sequence[str], tell: Tell) -> list[Kind]:
    """What each column is written as: pixels all as fractions where one is, whole fractions else as integers."""
    has_pixels = any(column.is_pixel for column in columns)
    any_fraction = any(column.kind == Kind.FLOAT for column in columns if column.is_pixel)
    for column in columns:
        if column.is_pixel and column.kind == Kind.WHOLE and any_fraction:
            column.kind = Kind.FLOAT
        if column.is_pixel and column.kind == Kind.NULL:
            column.kind = Kind.INTEGER
        if column.kind in LISTS and has_pixels:  # corners of a box, for one
            column.kind = Kind.TEXT
    whole = [names[column.place] for column in columns if column.kind == Kind.WHOLE]
    if whole:
        tell(whole_told(whole))
    lists = [names[column.place] for column in columns if column.kind in LISTS]
    if lists:
        tell(lists_told(lists))
    return [column.kind for column in columns]


def _write(text: TextRows, names: Sequence[str], kinds: Sequence[Kind], destination: Path) -> int:
    """Write the rows, each block that has any as a row group; their number."""
    schema = pa.schema([(name, kind.type) for name, kind in zip(names, kinds, strict=True)])
    rows = 0
    with atomic_write(destination) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for _, batch in text.batches():
            columns = batch.columns[: len(kinds)]  # less an empty one at the end
            cells = [parse(column, kind, text.dialect.decimal) for column, kind in zip(columns, kinds, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(cells, schema=schema))
            rows += batch.num_rows
    return rows


def _lines(lines: Sequence[int]) -> str:
    return f"line {lines[0]}" if len(lines) == 1 else f"{len(lines)} lines, the first {lines[0]},"
