"""What a build has made so far: in memory and, once that is more than a slice, in files that outlive a kill.

Arrays grow row by row. When a slice is full, what was appended goes to files, the disk is made to hold them, and then a
state that counts it takes the place of the one before. What a killed build wrote beyond its state is cut off by the
next, which goes on from there if it is the same: of the same inputs, options and versions. So memory holds a slice,
whatever is built, and a small build, which fits in one, writes nothing.
"""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import atomic_write, make_folder, sync
from knnvote.data.locations import CHUNK, describe_os_error, locate
from knnvote.indexer.sealed import read_sealed, write_sealed

STATE = "state.json"
SLICE_BYTES = 1 << 26
SLICE_ROWS = 1 << 17
_FORM = 1  # of the files


class Work:
    """Arrays that a build appends to, and facts that say how far it came.

    Attributes:
        facts: of steps, as JSON; kept with what was appended when they were.
        is_kept: whether a slice was kept on the disk: then all is, from there on.
    """

    def __init__(self, folder: Path | None = None, made_from: Any = None) -> None:
        """Of nothing yet.

        Args:
            folder: where it may be kept; None for memory alone.
            made_from: as JSON, what a build must share that goes on with it.
        """
        self._folder = folder
        self._made_from = made_from
        self._growing: dict[str, Growing] = {}
        self._lengths: dict[str, int] = {}
        self._dropped: list[str] = []
        self.facts: dict[str, Any] = {}
        self.is_kept = False

    @classmethod
    @contextmanager
    def taken_up(cls, folder: Path, made_from: Any, tell: Callable[[str], None]) -> Iterator[Self]:
        """What an interrupted build of the same left in a folder, or else nothing, which is told of another one.

        It stays where the machine ends the build, be it for a full disk, and goes where the data cannot be indexed.
        """
        work = cls(folder, made_from)
        work._take_up(tell)
        try:
            yield work
        except Exception as error:
            if not _is_of_machine(error):
                work.remove()
            raise

    def _take_up(self, tell: Callable[[str], None]) -> None:
        if self._folder is None or not self._folder.is_dir():
            return
        try:
            record = read_sealed(locate(self._folder / STATE))
        except KnnvoteError:  # it was killed before its first slice, or is damaged
            self.remove()
            return
        if (record.get("form"), record.get("made_from")) != (_FORM, json.loads(json.dumps(self._made_from))):
            tell(f"{self._folder} is of a build of other inputs, options or versions: it is removed")
            self.remove()
            return
        if not self._has(record["lengths"]):
            tell(f"{self._folder} was changed: it is removed, and the build begins anew")
            self.remove()
            return
        self.facts, self._lengths, self.is_kept = record["facts"], record["lengths"], True

    def _has(self, lengths: dict[str, int]) -> bool:
        """Whether all that a state counts is there."""
        try:
            return all(self.path(name).stat().st_size >= length for name, length in lengths.items())
        except OSError:
            return False

    def remove(self) -> None:
        """Forget what was kept."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def growing(
        self, name: str, dtype: np.dtype[Any], width: tuple[int, ...] = (), *, header: bytes = b""
    ) -> "Growing":
        """Rows (n, *width) of a type under a name, with those that were kept; their file begins with a header."""
        path = None if self._folder is None else self._folder / name
        self._growing[name] = Growing(path, dtype, width, header, self._lengths.get(name, 0))
        return self._growing[name]

    def drop(self, name: str) -> None:
        """Forget rows of a name; their file goes when the state no longer counts it."""
        self._growing.pop(name, None)
        if self._lengths.pop(name, None) is not None:
            self._dropped.append(name)

    def is_full(self, rows: int, size: int) -> bool:
        """Whether so many rows and bytes in memory are a slice, which should be kept."""
        return self._folder is not None and (rows >= SLICE_ROWS or size >= SLICE_BYTES)

    def keep(self, **facts: Any) -> None:
        """Have the disk hold all that was appended, with facts that then hold; what is in memory alone stays so.

        Raises:
            KnnvoteError: it cannot be written; what was kept before is.
        """
        if self._folder is None:
            return
        with self._errors_told():
            make_folder(self._folder)
            for name, growing in self._growing.items():
                self._lengths[name] = growing.write()
            sync(self._folder)
        self.facts |= facts
        record = {"form": _FORM, "made_from": self._made_from, "facts": self.facts, "lengths": self._lengths}
        write_sealed(self._folder / STATE, record)
        self.is_kept = True
        while self._dropped:
            self.path(self._dropped.pop()).unlink(missing_ok=True)

    def keep_more(self, **facts: Any) -> None:
        """As `keep`, if anything was kept."""
        if self.is_kept:
            self.keep(**facts)

    def once(self, name: str, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Some small arrays, made if they were not kept.

        Raises:
            KnnvoteError: they cannot be written.
        """
        path = self.path(f"{name}.npz")
        if name in self.facts.get("made", []):
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        made = make()
        if self.is_kept:
            with self._whole(f"{name}.npz") as stream:
                np.savez(stream, **made)  # type: ignore[arg-type]  # numbers alone
            self.keep(made=[*self.facts.get("made", []), name])
        return made

    def give(self, array: NDArray[Any], target: Path) -> bool:
        """Have a file that holds an array of this work be known by another name too; whether there is such.

        Raises:
            KnnvoteError: it cannot be copied, where the file system has no links.
        """
        growing = next((found for found in self._growing.values() if found.is_mapped_as(array)), None)
        if growing is None or growing.path is None:
            return False
        with suppress(OSError):
            target.hardlink_to(growing.path)
            sync(target.parent)
            return True
        with growing.path.open("rb") as stream, atomic_write(target) as copy:
            shutil.copyfileobj(stream, copy, CHUNK)
        return True

    def path(self, name: str) -> Path:
        """Of a file among those that are kept."""
        return (self._folder or Path()) / name

    def write_table(self, name: str, table: pa.Table) -> None:
        """Keep a table as a file of its own.

        Raises:
            KnnvoteError: it cannot be written.
        """
        with self._whole(name) as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)

    def read_table(self, name: str) -> pa.Table:
        """What `write_table` kept, mapped."""
        return pa.ipc.open_file(pa.memory_map(str(self.path(name)))).read_all()

    @contextmanager
    def _whole(self, name: str) -> Iterator[BinaryIO]:
        """A file that is written at once, and is counted when the next slice is."""
        with atomic_write(self.path(name)) as stream:
            yield stream
        self._lengths[name] = self.path(name).stat().st_size

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KnnvoteError(
                f"cannot write {self._folder}: {describe_os_error(error)}; mend that and run the same command again, "
                "which goes on from what is there"
            ) from error


def npy_header(dtype: np.dtype[Any], n: int) -> bytes:
    """With what a .npy file begins of an array (n,)."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def slices_of(array: NDArray[Any], start: int = 0) -> Iterator[NDArray[Any]]:
    """The rows of an array from one on, a slice at a time."""
    step = max(1, min(SLICE_ROWS, SLICE_BYTES // max(1, array[:1].nbytes)))
    return (array[at : at + step] for at in range(start, len(array), step))


class Growing:
    """Rows of one type that are appended, in memory until they are written."""

    def __init__(
        self, path: Path | None, dtype: np.dtype[Any], width: tuple[int, ...], header: bytes, written: int
    ) -> None:
        """Of so many bytes that were written before."""
        self.path = path
        self._mapped: NDArray[Any] | None = None
        self.dtype = dtype
        self.width = width
        self._header = header
        self._row = dtype.itemsize * int(np.prod(width, dtype=np.int64))
        self._written = max(0, written - len(header)) // self._row
        self._pending: list[NDArray[Any]] = []

    def __len__(self) -> int:
        """Rows that were appended."""
        return self._written + sum(map(len, self._pending))

    def append(self, rows: NDArray[Any]) -> None:
        """Take more of them (m, *width), of a type that this one holds."""
        self._pending.append(rows)

    def write(self) -> int:
        """Have the disk hold all rows; the bytes of its file."""
        if self.path is None:
            raise TypeError("there is no file for these rows")
        size = len(self._header) + self._written * self._row if self._written else 0
        if self._pending or not size:
            with self.path.open("r+b" if size else "wb") as stream:
                stream.truncate(size)  # what a killed build had written and not counted
                stream.seek(size)
                if not size:
                    stream.write(self._header)
                for rows in self._pending:
                    stream.write(np.ascontiguousarray(rows, self.dtype).data)
            sync(self.path)
        self._written, self._pending = len(self), []
        return len(self._header) + self._written * self._row

    def array(self) -> NDArray[Any]:
        """All rows (n, *width): joined where they are in memory, and mapped where they are written."""
        if not self._written:
            empty = np.empty((0, *self.width), self.dtype)
            if len(self._pending) != 1 or self._pending[0].dtype != self.dtype:
                self._pending = [np.concatenate([empty, *self._pending], dtype=self.dtype)]
            return self._pending[0]
        if self._pending:
            self.write()
        shape = (self._written, *self.width)
        mapped = np.memmap(str(self.path), self.dtype, "r", offset=len(self._header), shape=shape).view(np.ndarray)
        self._mapped = mapped
        return mapped

    def is_mapped_as(self, array: NDArray[Any]) -> bool:
        """Whether an array is all rows, mapped."""
        return self._mapped is array


def _is_of_machine(error: BaseException | None) -> bool:
    """Whether an error is the file system's or memory's, or follows from one."""
    while error is not None:
        if isinstance(error, OSError | MemoryError):
            return True
        error = error.__cause__
    return False
