"""Files that `knnvote convert` makes Parquet of, converted once, to a folder that goes at the end."""

import hashlib
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pyarrow import fs as pafs

from knnvote.data.convert.arrays import read_headers
from knnvote.data.convert.convert import convert
from knnvote.data.convert.ids import read_cells
from knnvote.data.errors import ImageFileError, KnnvoteError, spelled, warn
from knnvote.data.locations import Location, hash_stream, local_state
from knnvote.data.rows import RowSource

from .parquet import ParquetRows

_TEXT = r"\.(csv|tsv|json|jsonl|ndjson)"
_ARRAYS = r"\.(npy|npz)|[.-]idx\d?([.-]ubyte)?|[.-]ubyte"
_NAME = re.compile(rf"({_TEXT}|{_ARRAYS})(\.gz)?$", re.IGNORECASE)
_OF_ARRAYS = re.compile(rf"({_ARRAYS})(\.gz)?$", re.IGNORECASE)
_ENDING = re.compile(rf"({_TEXT}|\.(npy|npz))?(\.gz)?$", re.IGNORECASE)
_made: dict[tuple[object, ...], Path] = {}


@dataclass(frozen=True)
class ConvertedRows(ParquetRows):
    """A file of IDX, NPY, NPZ, CSV or JSON lines as the Parquet file that `convert` makes of it.

    Attributes:
        origin: the file itself.
    """

    origin: Path = field(kw_only=True)

    @classmethod
    @contextmanager
    def open(cls, source: RowSource) -> Iterator[Self]:  # type: ignore[override]  # labels may lie beside
        """Convert it, if this process has not yet, and open what was made.

        Raises:
            ImageFileError: it cannot be converted as it is, or is not on this machine.
        """
        made = Location(pafs.LocalFileSystem(), str(_convert(source)), source.shown)
        with ParquetRows.open(made) as rows:
            yield cls(rows.source, rows.file, origin=Path(source.path))

    @classmethod
    def mark(cls, source: RowSource) -> dict[str, Any]:
        """As `RowFile.mark`, of the file of labels too."""
        if source.beside is None:
            return super().mark(source)
        digest, size = hashlib.sha256(), 0
        for file in (source, source.beside):
            with file.open() as stream, file.errors_told():
                digest.update(bytes.fromhex(hash_stream(stream)))
                size += stream.size()
        return {"size": size, "sha256": digest.hexdigest()}

    @classmethod
    def state(cls, source: RowSource) -> tuple[object, ...]:
        """As `RowFile.state`, of the file of labels too."""
        if source.beside is None:
            return super().state(source)
        with source.errors_told():
            return (*super().state(source), *local_state(Path(source.beside.path).stat()))

    def cells(self, column: str) -> pa.Array | None:
        """As `RowFile.cells`, of CSV."""
        return read_cells(self.origin, self.schema.names.index(column))


def is_convertible(name: str) -> bool:
    """Whether a file's name ends as that of one which `convert` takes."""
    return _NAME.search(name) is not None


def converted_name(name: str) -> str:
    """The name of the Parquet file that stands for one of another format."""
    return f"{_ENDING.sub('', name)}.parquet"


def array_lengths(source: Location) -> tuple[int | None, int | None]:
    """How many images a file of arrays holds, and how many labels; None for none, or for what is no such file."""
    if not source.is_local or not _OF_ARRAYS.search(source.path) or not source.is_file:
        return None, None
    try:
        arrays = read_headers(Path(source.path))
    except KnnvoteError:  # which is told when its turn comes
        return None, None
    images = [array.shape[0] for array in arrays if array.rank >= 2]
    labels = [array.shape[0] for array in arrays if array.rank == 1]
    return next(iter(images), None), next(iter(labels), None)


def _convert(source: RowSource) -> Path:
    """The Parquet file made of a file, or of one of images and one of labels."""
    if not source.is_local:
        raise ImageFileError(f"{source} is no Parquet, and can be converted on this machine alone: download it")
    sources = [Path(file.path) for file in (source, source.beside) if file is not None]
    with source.errors_told():
        key = tuple(state for path in sources for state in (str(path), *local_state(path.stat())))
    if key not in _made:
        made = Path(_folder().name, f"{len(_made)}.parquet")
        try:
            convert(sources, made, tell=warn, overwrite=True)
        except KnnvoteError as error:
            has_options = spelled(error.marked, lambda _name: "") != error.marked
            names = [str(path) for path in sources] + [converted_name(sources[0].name)]
            command = f"; {shlex.join(['knnvote', 'convert', *names])} takes these options"
            raise ImageFileError(f"{error.marked}{command if has_options else ''}") from error
        _made[key] = made
    return _made[key]


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where converted files are while this process runs."""
    return tempfile.TemporaryDirectory(prefix="knnvote-")
