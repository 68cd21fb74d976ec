"""Image files as they lie in a folder, a row each, in the order of their names."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs as pafs

from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.locations import Location, hash_stream, local_state
from knnvote.data.rows import HEAD_ROWS, RowFile, RowSource

IMAGE, FILE = "image", "file"
# Those of formats that are known and not read are rows too, bad ones that tell their format.
IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".webp", ".gif", ".bmp", ".dib", ".jp2", ".j2k", ".avif"),
    *(".tif", ".tiff", ".heic", ".heif", ".jxl"),
)
BATCH_BYTES = 1 << 27
FILE_BYTES = 1 << 30  # what may be larger is no image
_READERS = 16  # of an object store, each of whose answers is waited for
# By which they are encoded images, even where none of the first begins as one.
ENCODED = {b"huggingface": json.dumps({"info": {"features": {IMAGE: {"_type": "Image"}}}}).encode()}


@dataclass(frozen=True)
class _Listed:
    """An image file of a folder.

    Attributes:
        file: where it lies.
        size: bytes.
        state: what no change of its content leaves as it is, as far as a listing tells.
    """

    file: Location
    size: int
    state: tuple[object, ...]


@dataclass(frozen=True)
class ImageRows(RowFile):
    """Image files of one folder, or one alone: columns ``image``, ``file``, and those that names of folders tell.

    Attributes:
        files: in the order of their names.
        paths: of each, relative to the folder that was named.
        told: columns of one value.
    """

    files: tuple[_Listed, ...]
    paths: tuple[str, ...]
    told: tuple[tuple[str, int | float | str], ...]

    @classmethod
    @contextmanager
    def open(cls, source: RowSource) -> Iterator[Self]:
        """List the files, none of which is read yet.

        Raises:
            KnnvoteError: they cannot be listed.
        """
        files = _list(source)
        if source.is_folder:
            above = f"{source.inner}/" if source.inner else ""
            paths = tuple(f"{above}{listed.file.path.rpartition('/')[2]}" for listed in files)
        else:
            paths = (source.inner,)
        yield cls(source, files, paths, source.told)

    @classmethod
    def mark(cls, source: RowSource) -> dict[str, Any]:
        """What tells these files from any others: bytes of all, and SHA-256 of names and contents.

        On an object store, whose listing tells when each object was written, it is of that in place of contents.
        """
        digest, files = hashlib.sha256(), _list(source)
        for listed in files:
            if source.is_local:
                with listed.file.open() as stream, listed.file.errors_told():
                    content: object = hash_stream(stream)
            else:
                content = listed.state
            digest.update(json.dumps([listed.file.path.rpartition("/")[2], listed.size, content]).encode())
        kind = "sha256" if source.is_local else "etag"
        return {"size": sum(listed.size for listed in files), kind: digest.hexdigest()}

    @classmethod
    def state(cls, source: RowSource) -> tuple[object, ...]:
        """What no change, neither of a file nor of which there are, leaves as it is."""
        return tuple((listed.file.path, listed.state) for listed in _list(source))

    @property
    def schema(self) -> pa.Schema:
        """Bytes, path, and what names of folders tell."""
        told = [(name, pa.scalar(value).type) for name, value in self.told]
        return pa.schema([(IMAGE, pa.binary()), (FILE, pa.string()), *told], ENCODED)

    @property
    def id_column(self) -> str:
        """The path."""
        return FILE

    @property
    def num_rows(self) -> int:
        """Files that there are."""
        return len(self.files)

    def row_name(self, number: int) -> str:
        """The path of the file."""
        return self.files[number].file.shown

    def place(self, number: int) -> tuple[str, int]:
        """The path of the file, whose only row it is."""
        return self.row_name(number), 0

    def head(self) -> pa.Table:
        """As `RowFile.head`."""
        rows = self._bounded(np.arange(min(HEAD_ROWS, self.num_rows)), HEAD_ROWS)
        return pa.Table.from_batches([self._read(self.schema.names, next(rows, np.arange(0)))])

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        return self._span(columns, batch_size, range(self.num_rows))

    def _span(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """As `RowFile._span`; no other file is read."""
        for rows in self._bounded(np.arange(span.start, span.stop), batch_size, has_images=IMAGE in columns):
            yield self._read(columns, rows)

    def take(
        self, wanted: NDArray[np.int64], columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """As `RowFile.take`; no other file is read."""
        for rows in self._bounded(wanted, batch_size, has_images=IMAGE in columns):
            yield rows, pa.Table.from_batches([self._read(columns, rows)])

    def _bounded(
        self, rows: NDArray[np.int64], batch_size: int, *, has_images: bool = True
    ) -> Iterator[NDArray[np.int64]]:
        """Rows, so many at a time, or fewer where their images are large.

        Raises:
            ImageFileError: a file is larger than any image.
        """
        sizes = np.array([listed.size * has_images for listed in self.files], np.int64)
        for row in rows[sizes[rows] > FILE_BYTES].tolist():
            raise ImageFileError(
                f"{self.row_name(row)} has {sizes[row]:,} bytes, and at most {FILE_BYTES:,} are read: "
                "take it out of the folder"
            )
        return places_within(rows, sizes, batch_size)

    def _read(self, columns: Sequence[str], rows: NDArray[np.int64]) -> pa.RecordBatch:
        """Some columns of some rows."""
        schema, told = self.schema, dict(self.told)
        arrays = []
        for name in columns:
            kind = schema.field(name).type
            if name == IMAGE:
                arrays.append(pa.array(self._contents(rows), kind))
            elif name == FILE:
                arrays.append(pa.array([self.paths[row] for row in rows.tolist()], kind))
            else:
                arrays.append(pa.array([told[name]] * len(rows), kind))
        fields = [schema.field(name) for name in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, schema.metadata))

    def _contents(self, rows: NDArray[np.int64]) -> list[bytes]:
        files = [self.files[row].file for row in rows.tolist()]
        if self.source.is_local:
            return [_content(file) for file in files]
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(_content, files))


def places_within(rows: NDArray[np.int64], sizes: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Rows, so many at a time, or fewer, one at least, where what is read of them is large.

    Args:
        rows: (m,) of which some are given at a time.
        sizes: (n,) bytes of every row.
        batch_size: rows at a time, at most.
    """
    start = 0
    while start < len(rows):
        here = rows[start : start + batch_size]
        fitting = int(np.searchsorted(np.cumsum(sizes[here]), BATCH_BYTES, side="right"))
        here = here[: max(1, fitting)]
        yield here
        start += len(here)


def is_image_name(path: str) -> bool:
    """Whether the name of a file ends as those of images do; hidden ones are none."""
    return path.lower().endswith(IMAGE_ENDINGS) and not path.rpartition("/")[2].startswith(".")


def _content(file: Location) -> bytes:
    try:
        if not file.is_local:
            return file.read()
        with file.errors_told():  # faster than by PyArrow, which shows in small files
            return Path(file.path).read_bytes()
    except KnnvoteError as error:
        raise ImageFileError(error.marked) from error


def _list(source: RowSource) -> tuple[_Listed, ...]:
    """The image files of a folder that are meant, in the order of their names; or the one file.

    Raises:
        KnnvoteError: they cannot be listed.
    """
    if not source.is_folder:
        file = Location(source.filesystem, source.path, source.shown)
        if not source.is_local:
            return (_elsewhere(file, file.info()),)
        with source.errors_told():
            return (_here(file, Path(source.path).stat()),)
    if not source.is_local:
        return tuple(
            _elsewhere(source / name, info)
            for name, info in source.below(recursive=False).items()
            if info.type == pafs.FileType.File and _is_meant(source, name)
        )
    with source.errors_told(), os.scandir(source.path) as entries:
        found = [entry for entry in entries if _is_meant(source, entry.name) and not entry.is_dir()]
    listed = []
    for entry in sorted(found, key=lambda entry: entry.name):
        file = source / entry.name
        with file.errors_told():
            entry.name.encode()  # which fails where it is not UTF-8
            listed.append(_here(file, entry.stat()))
    return tuple(listed)


def _is_meant(source: RowSource, name: str) -> bool:
    return is_image_name(name) and (source.only is None or fnmatchcase(name, source.only))


def _elsewhere(file: Location, info: Any) -> _Listed:
    return _Listed(file, info.size or 0, (info.size, info.mtime_ns))


def _here(file: Location, status: os.stat_result) -> _Listed:
    """A file of this machine.

    Raises:
        OSError: it is a pipe or a device, to open which would be to wait for its other end.
    """
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return _Listed(file, status.st_size, local_state(status))
