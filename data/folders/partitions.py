"""What the names of folders say of the rows of the files in them."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from knnvote.data.text import python_command


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
    if len(folders) < 2 and not any(map(partition_keys, relatives)):
        return None
    if any(map(partition_keys, relatives)):
        flavor = "'hive'"
    elif all(len(parts) == 1 for parts in folders):
        flavor = "['label']"
    else:
        return None
    code = (
        "import pyarrow.dataset as ds, pyarrow.parquet as pq; "
        f"found = ds.dataset({base!r}, partitioning={flavor}, exclude_invalid_files=True); "
        "pq.write_table(found.to_table(), 'rows.parquet')"
    )
    return f"if the names of folders tell it, {python_command(code)} makes rows.parquet, which holds it"
