"""JSON lines, an object a line, to Parquet."""

import json as plain_json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import json

from knnvote.data.errors import KnnvoteError
from knnvote.data.layouts.wide import Wide
from knnvote.data.tables import write_table
from knnvote.data.vectors import LARGEST_EXACT

from .kinds import LIST, LISTS, NEARLY_ALL, first_other, kind_of, lists_told, parse, whole_told
from .source import BLOCK, Tell, open_source, reading

_CHANGED = re.compile(r"Column\(/(.*)\) changed from (\w+) to (\w+)")  # as PyArrow tells it
_PLAIN = {"number", "string", "boolean"}


def convert_json(source: Path, destination: Path, tell: Tell, *, is_array: bool) -> int:
    """Convert JSON lines to a Parquet file: columns as PyArrow reads them, but text that looks like a date stays text.

    Types are of the whole file, for those of its first lines need not hold for all: it is held in memory.

    Returns:
        The number of rows written.

    Raises:
        KnnvoteError: it is damaged, JSON of another form, or holds numbers that would lose digits.
    """
    if is_array:
        raise KnnvoteError(
            f"{source} is a JSON array, and JSON lines are read, one object a line: jq -c '.[]' makes them of it"
        )
    table = _read(source, pa.schema([]))
    dates = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if dates:
        table = _read(source, pa.schema([(name, pa.string()) for name in dates]))
    _check_rows(source, table.schema)
    table = _lists(_whole(source, table, tell), tell)
    write_table(table, destination)
    return int(table.num_rows)


def _read(path: Path, known: pa.Schema) -> pa.Table:
    """All rows, with the types that are known, and others as they look."""
    with reading(path), open_source(path) as stream:
        try:
            table = json.read_json(
                stream,
                json.ReadOptions(block_size=BLOCK),
                json.ParseOptions(explicit_schema=known, unexpected_field_behavior="infer"),
            )
        except pa.ArrowInvalid as error:
            _refuse_mixed(path, error)
            raise
        names = table.schema.names  # which fails where they are not UTF-8
        table.validate(full=True)
    if not names:
        raise KnnvoteError(f"{path} holds JSON objects without any value: expected a row in each, with its image")
    return table


def _refuse_mixed(path: Path, error: pa.ArrowInvalid) -> None:
    """Refuse a column whose values are of several kinds, if PyArrow says so, with what makes them texts."""
    changed = _CHANGED.search(str(error))
    if changed is None:
        return
    name, *kinds = changed.groups()
    advice = "write values of one kind, or leave out rows that have others"
    if {*kinds} <= _PLAIN:
        made = re.sub(r"(\.jsonl?)?(\.gz)?$", ".new.jsonl", str(path), count=1)
        program, file = shlex.quote(f"(.{plain_json.dumps(name)} | values) |= tostring"), shlex.quote(str(path))
        command = f"gzip -dc {file} | jq -c {program}" if str(path).endswith(".gz") else f"jq -c {program} {file}"
        advice = f"{command} > {shlex.quote(made)} makes texts of all"
    raise KnnvoteError(
        f"{path}: column {name!r} holds {kinds[0]}s in some rows and {kinds[1]}s in others: {advice}"
    ) from error


def _check_rows(path: Path, schema: pa.Schema) -> None:
    if any(pa.types.is_struct(kind) and kind.get_field_index("0") == 0 for kind in schema.types):
        raise KnnvoteError(
            f"{path} is JSON of columns, and JSON lines are read, one row a line: write it so, as pandas does with "
            "orient='records', lines=True"
        )


def _whole(path: Path, table: pa.Table, tell: Tell) -> pa.Table:
    """The same with integers for numbers that have fractions by their form alone."""
    whole = []
    for place, field in enumerate(table.schema):
        if not pa.types.is_float64(field.type):
            continue
        numbers = table.column(place).drop_null().to_numpy()
        if (np.abs(numbers) >= LARGEST_EXACT).any():
            raise KnnvoteError(
                f"{path}: column {field.name!r} holds numbers beyond 2**53, which lose digits: write them as strings"
            )
        if (np.floor(numbers) == numbers).all():
            table = table.set_column(place, field.name, table.column(place).cast(pa.int64()))
            whole.append(field.name)
    if whole:
        tell(whole_told(whole))
    return table


def _lists(table: pa.Table, tell: Tell) -> pa.Table:
    """The same with lists for text that holds lists of numbers; beside other images it may be corners of a box."""
    if any(map(pa.types.is_list, table.schema.types)) or any(Wide.candidates(table.schema)):
        return table
    for place, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        cells = table.column(place)
        kind = kind_of(cells, ".", is_pixel=False, is_quoted=True)
        lists, other = first_other(cells, ".", LIST)
        if kind in LISTS:
            table = table.set_column(place, field.name, parse(cells, kind, "."))
            tell(lists_told([field.name]))
        elif other is not None and lists >= NEARLY_ALL * (len(cells) - cells.null_count):
            tell(
                f"column {field.name!r} is text: row {other} holds {cells[other].as_py()[:40]!r}, and {lists:,} of "
                f"{len(cells):,} are lists of numbers"
            )
    return table
