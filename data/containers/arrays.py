"""Arrays of numbers in NumPy's and IDX files, read where they lie, a few rows at a time."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs as pafs

from knnvote.data.convert.arrays import StoredArray, choose, load_labels, read_headers
from knnvote.data.convert.source import BLOCK
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.folders.endings import is_array
from knnvote.data.locations import Location, describe_os_error, hash_stream, local_state
from knnvote.data.rows import HEAD_ROWS, RowFile, RowSource, blocks_of
from knnvote.data.tables import image_array, labels_array

from .converted import made_folder, told_with_command, warn_with_command
from .images import BATCH_BYTES, IMAGE

LABEL = "label"
_MOST_UNPACKED = 8  # files that are kept; each is as large as its numbers
_chosen: dict[tuple[object, ...], tuple[StoredArray, StoredArray | None]] = {}
_unpacked: dict[tuple[object, ...], Path] = {}
_unpacking = Lock()
_names = count()


@dataclass(frozen=True)
class ArrayRows(RowFile):
    """Rows of an array, its first axis: columns ``image`` and, where an array of labels is there, ``label``.

    It is not mapped into memory: a mapped file that is written anew meanwhile ends the process.

    Attributes:
        images: the array.
        labels: (n,) of any type; None without.
        key: what tells its file, as it is, from any other.
        opened: closes what is opened to read numbers.
    """

    images: StoredArray
    labels: pa.Array | None
    key: tuple[object, ...]
    opened: ExitStack = field(default_factory=ExitStack, compare=False)

    @classmethod
    @contextmanager
    def open(cls, source: RowSource) -> Iterator[Self]:
        """Read what the arrays are, and the labels.

        Raises:
            ImageFileError: it is damaged, holds several arrays that could be meant or none, or is not on this machine.
        """
        if not source.is_local:
            raise ImageFileError(f"{source} is no Parquet, and can be read on this machine alone: download it")
        paths = _paths(source)
        with told_with_command(paths):
            with source.errors_told():
                key = tuple(state for path in paths for state in (str(path), *local_state(path.stat())))
            if key not in _chosen:
                arrays = [array for path in paths for array in read_headers(path)]
                _chosen[key] = choose(arrays, paths, None, None, warn_with_command(paths))
            images, labels = _chosen[key]
            if not images.is_packed:
                images.check_end(images.path.stat().st_size)
            with _named(paths[0]):
                rows = cls(source, images, _as_column(images, labels), key)
                _ = rows.schema  # which fails where they are no numbers
        with rows.opened:
            yield rows

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

    @classmethod
    def has_ranges(cls, source: RowSource) -> bool:
        """Of what is not packed."""
        return source.is_local and not source.path.lower().endswith((".npz", ".gz"))

    @cached_property
    def schema(self) -> pa.Schema:
        """The image, and the label if there is one."""
        none = image_array(np.zeros((0, *self.images.shape[1:]), self.images.dtype))
        columns = {IMAGE: none.type} | ({} if self.labels is None else {LABEL: self.labels.type})
        return pa.schema(list(columns.items()))

    @property
    def num_rows(self) -> int:
        """The length of the first axis."""
        return self.images.shape[0]

    def head(self) -> pa.Table:
        """As `RowFile.head`."""
        return pa.Table.from_batches([self._read(self.schema.names, range(min(HEAD_ROWS, self.num_rows)))])

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        return self._span(columns, batch_size, range(self.num_rows))

    def _span(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """As `RowFile._span`; no other rows are read."""
        rows = self._bounded(batch_size)
        for start in span[::rows]:
            yield self._read(columns, range(start, min(start + rows, span.stop)))

    def take(
        self, wanted: NDArray[np.int64], columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """As `RowFile.take`; rows far from those that are wanted are not read."""
        for rows in blocks_of(wanted, self._bounded(batch_size)):
            first = int(rows[0])
            read = self._read(columns, range(first, int(rows[-1]) + 1))
            yield rows, pa.Table.from_batches([read]).take(pa.array(rows - first))

    def _bounded(self, rows: int) -> int:
        """So many rows, or fewer where they are large."""
        return max(1, min(rows, BATCH_BYTES // (self._d * self.images.dtype.itemsize)))

    @property
    def _d(self) -> int:
        return math.prod(self.images.shape[1:])

    def _read(self, columns: Sequence[str], rows: range) -> pa.RecordBatch:
        labels = self.labels
        arrays = [
            image_array(self._numbers(rows)) if name == IMAGE or labels is None else labels[rows.start : rows.stop]
            for name in columns
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([self.schema.field(name) for name in columns]))

    def _numbers(self, rows: range) -> NDArray[Any]:
        """(m, *shape) of some rows, one after the other."""
        (n, *shape), m, dtype = self.images.shape, len(rows), self.images.dtype
        if not self.images.is_fortran:
            content = self._bytes(rows.start * self._d, m * self._d)
            return np.frombuffer(content, dtype).reshape(m, *shape)
        pieces = [self._bytes(place * n + rows.start, m) for place in range(self._d)] if m else []
        return np.frombuffer(b"".join(pieces), dtype).reshape(*shape[::-1], m).T

    def _bytes(self, first: int, count: int) -> bytes:
        """So many numbers of the file, from one on."""
        size = self.images.dtype.itemsize
        with self.source.errors_told():
            content: bytes = self._stream.read_at(count * size, self.images.start + first * size)
        if len(content) < count * size:
            raise ImageFileError(f"{self.source} ends before its last row: get or export it again")
        return content

    @cached_property
    def _stream(self) -> Any:
        path = self.images.path
        if self.images.is_packed:
            with told_with_command([path]):
                path = _unpack(self.images, self.key)
        return self.opened.enter_context(Location(pafs.LocalFileSystem(), str(path), self.source.shown).open())


def array_lengths(source: Location) -> tuple[int | None, int | None]:
    """How many images a file of arrays holds, and how many labels; None for none, or for what is no such file."""
    if not source.is_local or not is_array(source.path) or not source.is_file:
        return None, None
    try:
        arrays = read_headers(Path(source.path))
    except KnnvoteError:  # which is told when its turn comes
        return None, None
    images = [array.shape[0] for array in arrays if array.rank >= 2]
    labels = [array.shape[0] for array in arrays if array.rank == 1]
    return next(iter(images), None), next(iter(labels), None)


def _paths(source: RowSource) -> list[Path]:
    return [Path(file.path) for file in (source, source.beside) if file is not None]


def _as_column(images: StoredArray, labels: StoredArray | None) -> pa.Array | None:
    """The labels of images.

    Raises:
        KnnvoteError: they cannot be read, or are not as many.
    """
    return labels_array(load_labels(labels), images.shape[0]) if labels is not None and images.shape else None


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Tell what is wrong with arrays as of their file."""
    try:
        yield
    except KnnvoteError as error:
        named = error.marked if error.marked.startswith(f"{path}") else f"{path}: {error.marked}"
        raise KnnvoteError(named) from error


def _unpack(array: StoredArray, key: tuple[object, ...]) -> Path:
    """A file that holds an array's bytes as they are, unpacked once while few others are.

    Raises:
        KnnvoteError: it is damaged, or there is no room.
    """
    with _unpacking:
        if key not in _unpacked:
            made = made_folder() / f"{next(_names)}.array"
            try:
                _write_unpacked(array, made)
            except BaseException:
                made.unlink(missing_ok=True)
                raise
            _unpacked[key] = made
            if len(_unpacked) > _MOST_UNPACKED:
                _unpacked.pop(next(iter(_unpacked))).unlink(missing_ok=True)
        return _unpacked[key]


def _write_unpacked(array: StoredArray, made: Path) -> None:
    """Write an array's bytes as they are."""
    size = 0
    with array.unpacked() as content, made.open("wb") as unpacked:
        while piece := content.read(BLOCK):
            size += len(piece)
            if size > array.end:
                break
            try:
                unpacked.write(piece)
            except OSError as error:
                told = f"cannot unpack {array.path} to {made.parent}: {describe_os_error(error)}"
                raise KnnvoteError(f"{told}; the variable TMPDIR names another folder") from error
    array.check_end(size)
