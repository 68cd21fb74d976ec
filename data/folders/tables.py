"""Folders whose files are not all meant: tables that keep replaced files, and caches that keep several revisions."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location
from knnvote.data.text import python_command

_REVISION = re.compile("[0-9a-f]{40}")
_WRITE = "import pyarrow.parquet as pq; pq.write_table({rows}, 'rows.parquet')"
# By what tells a table: its name, the package that reads it, and Python that writes the rows that it has now.
_TABLES = {
    "_delta_log/*": (
        "Delta",
        "deltalake",
        "from deltalake import DeltaTable; " + _WRITE.format(rows="DeltaTable({table!r}).to_pyarrow_table()"),
    ),
    "metadata/*.metadata.json": (
        "Iceberg",
        "'pyiceberg[pyarrow]'",
        "from pyiceberg.table import StaticTable; "
        + _WRITE.format(rows="StaticTable.from_metadata({mark!r}).scan().to_arrow()"),
    ),
    ".hoodie/*": (
        "Hudi",
        "daft",
        "import daft; " + _WRITE.format(rows="daft.read_hudi({table!r}).to_arrow()"),
    ),
}


def refuse_table(folder: Location, names: Iterable[str]) -> None:
    """Refuse a folder that is a table, has one below, or is a part of one: old files still hold what was deleted.

    Args:
        folder: that is searched.
        names: of what lies below it, relative to it.

    Raises:
        KnnvoteError: it does, naming what writes the rows of the table.
    """
    paths = [PurePosixPath(name) for name in names]
    for mark in _TABLES:
        found = max((path for path in paths if path.match(mark)), key=_by_number, default=None)
        if found is not None:
            raise _table(mark, folder / str(found))
    if folder.is_local:
        for above in Path(folder.path).absolute().parents:
            for mark in _TABLES:
                if inside := max(map(PurePosixPath, above.glob(mark)), key=_by_number, default=None):
                    raise _table(mark, Location(folder.filesystem, str(inside), str(inside)))


def _by_number(path: PurePosixPath) -> tuple[int, str]:
    """Versions of a table's metadata are numbered, some without leading zeros."""
    number = re.search(r"\d+", path.name)
    return int(number[0]) if number else 0, path.name


def _table(mark: str, found: Location) -> KnnvoteError:
    name, package, code = _TABLES[mark]
    table = found.shown.rpartition("/")[0].rpartition("/")[0] or "."
    return KnnvoteError(
        f"{table} is a table of {name}, whose files may hold rows that were deleted since: pip install {package}, "
        f"{python_command(code.format(table=table, mark=found.shown))}, and give rows.parquet; "
        "or give files of it one by one"
    )


def refuse_revisions(folder: Location, names: Iterable[str]) -> None:
    """Refuse several revisions of one repository, as a cache of the Hub keeps them: most images are in each.

    Raises:
        KnnvoteError: naming one of them.
    """
    revisions: dict[PurePosixPath, set[str]] = defaultdict(set)
    for path in map(PurePosixPath, names):
        for above in (path, *path.parents):
            if _REVISION.fullmatch(above.name) and (folder / str(above.parent)).path.endswith("snapshots"):
                revisions[above.parent].add(above.name)
    for parent, found in revisions.items():
        if len(found) > 1:
            raise KnnvoteError(
                f"{folder} holds {len(found)} revisions of one repository, with the same images in each: give one of "
                f"them, such as {folder / str(parent / max(found))}"
            )
