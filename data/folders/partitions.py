"""What the names of folders say of the rows of the files in them."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from knnvote.data.text import python_command

READ_INT96 = "coerce_int96_timestamp_unit='us'"  # without which PyArrow makes other dates of those far from today
_PADDED = re.compile(r"(^|=)[+-]?0\d+$")


def partition_keys(relative: str) -> list[str]:
    """The names of the columns that folders named ``key=value`` stand for."""
    return [part.partition("=")[0] for part in PurePosixPath(relative).parts[:-1] if "=" in part]


def partitions_told(base: str, relatives: Sequence[str]) -> str | None:
    """How to have what the names of folders say as a column, where there are several; None where there are not.

    Args:
        base: the folder, as users know it.
        relatives: of files, relative to it.
    """
    folders = {PurePosixPath(name).parts[:-1] for name in relatives}
    keys = list(dict.fromkeys(key for name in relatives for key in partition_keys(name)))
    if not keys and (len(folders) < 2 or any(len(parts) != 1 for parts in folders)):
        return None
    flavor = "'hive'" if keys else "['label']"
    if any(_PADDED.search(part) for parts in folders for part in parts):
        # PyArrow makes one number of 07 and 7.
        text = ", ".join(f"({key!r}, pa.string())" for key in keys or ["label"])
        flavor = f"ds.partitioning(pa.schema([{text}]), flavor={'hive' if keys else None!r})"
    code = (
        "import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq; "
        f"found = ds.dataset({base!r}, partitioning={flavor}, exclude_invalid_files=True, "
        f"format=ds.ParquetFileFormat({READ_INT96})); "
        "pq.write_table(found.to_table(), 'rows.parquet')"
    )
    return f"if the names of folders tell it, {python_command(code)} makes rows.parquet, which holds it"
