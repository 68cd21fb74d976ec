"""Text files of rows, CSV and JSON lines, converted once to Parquet, in a folder that goes at the end."""

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import pyarrow as pa
from pyarrow import fs as pafs

from knnvote.data.convert.convert import convert
from knnvote.data.convert.ids import read_cells
from knnvote.data.convert.source import Tell
from knnvote.data.errors import ImageFileError, KnnvoteError, as_recorded, spelled, warn
from knnvote.data.folders.endings import parquet_name
from knnvote.data.locations import Location, local_state
from knnvote.data.rows import RowSource

from .parquet import ParquetRows

_made: dict[tuple[object, ...], Path] = {}


@dataclass(frozen=True)
class ConvertedRows(ParquetRows):
    """A file of CSV or JSON lines as the Parquet file that `convert` makes of it.

    Attributes:
        origin: the file itself.
    """

    origin: Path = field(kw_only=True)

    @classmethod
    @contextmanager
    def open(cls, source: RowSource) -> Iterator[Self]:  # type: ignore[override]  # which tells what lies on this machine
        """Convert it, if this process has not yet, and open what was made.

        Raises:
            ImageFileError: it cannot be converted as it is, or is not on this machine.
        """
        made = Location(pafs.LocalFileSystem(), str(_convert(source)), source.shown)
        with ParquetRows.open(made) as rows:
            yield cls(rows.source, rows.file, origin=Path(source.path))

    @classmethod
    def has_ranges(cls, source: RowSource) -> bool:  # noqa: ARG003 - of none
        """None is counted before it is converted as a whole."""
        return False

    def cells(self, column: str) -> pa.Array | None:
        """As `RowFile.cells`, of CSV."""
        return read_cells(self.origin, self.schema.names.index(column))


@contextmanager
def told_with_command(paths: Sequence[Path]) -> Iterator[None]:
    """Tell what stands in the way of converting files as of these, with the command that takes the options it names.

    Raises:
        ImageFileError: in place of any other error.
    """
    try:
        yield
    except ImageFileError:
        raise
    except KnnvoteError as error:
        raise ImageFileError(_with_command(error.marked, paths)) from error


def warn_with_command(paths: Sequence[Path]) -> Tell:
    """What tells in Python how files were taken, with the command that takes the options which a note names."""
    return lambda note: warn(_with_command(note, paths))


def _with_command(told: str, paths: Sequence[Path]) -> str:
    """A message, followed by the command whose options it names: others may have none of these names, or mean more."""
    options = spelled(told, as_recorded)
    if options == told:
        return told
    made = parquet_name(paths[0].name)
    command = shlex.join(["knnvote", "convert", *map(str, paths), made])
    return f"{options}; give such options to {command}, and {shlex.quote(made)} here"


def _convert(source: RowSource) -> Path:
    """The Parquet file made of a file."""
    if not source.is_local:
        raise ImageFileError(f"{source} is no Parquet, and can be converted on this machine alone: download it")
    path = Path(source.path)
    with source.errors_told():
        key = (str(path), *local_state(path.stat()))
    if key not in _made:
        made = made_folder() / f"{len(_made)}.parquet"
        with told_with_command([path]):
            convert([path], made, tell=warn_with_command([path]), overwrite=True)
        _made[key] = made
    return _made[key]


def made_folder() -> Path:
    """Where converted and unpacked files are while this process runs."""
    return Path(_folder().name)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="knnvote-")
