"""Vectors that a table holds as text, as ``[0.1, 0.2]`` or as NumPy prints them."""

import pyarrow as pa

from knnvote.data.columns import is_string
from knnvote.data.folders.endings import python_table
from knnvote.data.text import python_command

from .kinds import LISTS, kind_of


def lists_in_text(head: pa.Table, shown: str) -> str | None:
    """What makes lists of numbers of a column that holds them as text; None where none does.

    Args:
        head: the first rows of a Parquet or Arrow file.
        shown: the file.
    """
    for place, field in enumerate(head.schema):
        if not is_string(field.type):
            continue
        cells = head.column(place).combine_chunks().cast(pa.string())
        if kind_of(cells, ".", is_pixel=False, is_quoted=True) in LISTS:
            made = f"{shown.removesuffix('.parquet')}.new.parquet"
            code = (
                f"import pyarrow as pa, pyarrow.parquet as pq; t = {python_table(shown)}; "
                "read = lambda s: [float(n) for n in s.translate(dict.fromkeys(b'[],', 32)).split()] if s else None; "
                f"new = pa.array(map(read, t.column({place}).to_pylist()), pa.list_(pa.float64())); "
                f"pq.write_table(t.set_column({place}, {field.name!r}, new), {made!r})"
            )
            return (
                f"column {field.name!r} holds lists of numbers as text: {python_command(code)} makes {made}, with lists"
            )
    return None
