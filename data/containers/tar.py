"""Tar files of WebDataset, read where they lie: members that share a key are one row."""

import io
import json
import re
import shlex
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import ImageFileError, warn
from knnvote.data.locations import Location
from knnvote.data.rows import HEAD_ROWS, RowFile, RowSource
from knnvote.data.text import describe_error, whole_characters

from .images import ENCODED, FILE_BYTES, IMAGE, IMAGE_ENDINGS, places_within

KEY, LABEL = "__key__", "label"
TAR_KEY = ".tar#"  # between file and key in an id
_NAME = re.compile(r"((?:.*/)?[^.]+)\.([^/]*)", re.DOTALL)  # the key, and what follows the first dot of the file's name
_IMAGES = frozenset(ending[1:] for ending in IMAGE_ENDINGS)
_TEXTS = frozenset({"cls", "txt", "json"})
_TEXT_BYTES = 1 << 20
# Before Python 3.11.10 and 3.12.6 tarfile may take time by the square of an extended header's length.
_EXTENDED_BYTES = 1 << 16
_EXTENDED = frozenset(
    {
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    }
)
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
# Files with the other endings are packed, which is told.
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
BUFFER = 4 << 20
_BLOCK = 512
# What tarfile and PyArrow's streams raise of headers that lie; tarfile has errors of its own for some lies alone.
_DAMAGE = (
    *(tarfile.TarError, pa.ArrowException, ValueError, LookupError, EOFError),
    *(MemoryError, OverflowError, RecursionError, SystemError),
)
_PACKED = {b"\x1f\x8b": "gzip -dc", b"BZh": "bzip2 -dc", b"\xfd7zXZ": "xz -dc", b"\x28\xb5\x2f\xfd": "zstd -dc"}


@dataclass
class _Sample:
    """Members of one key.

    Attributes:
        key: their names up to the first dot.
        image: where the image's bytes begin, and how many there are; none without one.
        texts: of its other members, by what follows the dot.
    """

    key: str
    image: tuple[int, int] | None = None
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TarRows(RowFile):
    """A tar file of samples: columns ``image``, ``__key__``, ``label``, and what texts and JSON beside images hold.

    Attributes:
        images: where the image of each sample begins and its bytes; none for a sample without one.
        others: (n rows) the other columns.
        prefix: of ids: keys may begin anew in each shard.
    """

    images: tuple[tuple[int, int] | None, ...]
    others: pa.Table
    prefix: str

    @classmethod
    @contextmanager
    def open(cls, source: RowSource) -> Iterator[Self]:
        """Read what each member is and the texts; images are read with their rows.

        Raises:
            ImageFileError: it is no tar file, is packed, or holds samples that cannot be told apart.
        """
        with source.open() as stream, source.errors_told(), _told_by_name(source):
            # Each read of an object is a request.
            samples = _samples(source, stream if source.is_local else io.BufferedReader(stream, BUFFER))
        images, others = tuple(sample.image for sample in samples), _columns(source, samples)
        yield cls(source, images, others, f"{source.inner}#")

    @property
    def schema(self) -> pa.Schema:
        """The image, the key, the label if there is one, and the others."""
        return pa.schema([pa.field(IMAGE, pa.binary()), *self.others.schema], ENCODED)

    @property
    def id_column(self) -> str:
        """The key."""
        return KEY

    @property
    def id_prefix(self) -> str:
        """The file."""
        return self.prefix

    @property
    def num_rows(self) -> int:
        """Samples that there are."""
        return len(self.images)

    def row_name(self, number: int) -> str:
        """The file and the key of the sample."""
        return f"{self.source}, sample {self.others[KEY][number].as_py()}"

    def head(self) -> pa.Table:
        """As `RowFile.head`."""
        for batch in self._batches(self.schema.names, HEAD_ROWS):
            return pa.Table.from_batches([batch])
        return pa.Table.from_batches([], self.schema)

    def _batches(self, columns: Sequence[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        return self._span(columns, batch_size, range(self.num_rows))

    def _span(self, columns: Sequence[str], batch_size: int, span: range) -> Iterator[pa.RecordBatch]:
        """As `RowFile._span`; no other image is read."""
        for rows in self._places(np.arange(span.start, span.stop), columns, batch_size):
            yield self._read(columns, rows)

    def take(
        self, wanted: NDArray[np.int64], columns: Sequence[str], batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        """As `RowFile.take`; no other image is read."""
        for rows in self._places(wanted, columns, batch_size):
            yield rows, pa.Table.from_batches([self._read(columns, rows)])

    def _places(self, rows: NDArray[np.int64], columns: Sequence[str], batch_size: int) -> Iterator[NDArray[np.int64]]:
        sizes = [0 if image is None or IMAGE not in columns else image[1] for image in self.images]
        return places_within(rows, np.array(sizes, np.int64), batch_size)

    def _read(self, columns: Sequence[str], rows: NDArray[np.int64]) -> pa.RecordBatch:
        taken = self.others.take(pa.array(rows)).combine_chunks()
        arrays = [self._contents(rows) if name == IMAGE else _one_piece(taken[name]) for name in columns]
        fields = [self.schema.field(name) for name in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, ENCODED))

    def _contents(self, rows: NDArray[np.int64]) -> pa.Array:
        places = [self.images[row] for row in rows.tolist()]
        there = [place for place in places if place is not None]
        if not there:
            return pa.nulls(len(rows), pa.binary())
        with self.source.open() as stream, self.source.errors_told():
            read = _reader(stream, there)
            return pa.array([None if place is None else read(*place) for place in places], pa.binary())


def _reader(stream: Any, places: Sequence[tuple[int, int]]) -> Callable[[int, int], bytes]:
    """What gives bytes from a place on: from all that lies between places in one read, unless that is much more."""
    begin, end = min(start for start, _ in places), max(start + size for start, size in places)
    if end - begin > 2 * sum(size for _, size in places) + BUFFER:
        return lambda start, size: bytes(stream.read_at(size, start))
    held = stream.read_at(end - begin, begin)
    return lambda start, size: held[start - begin : start - begin + size]


def _one_piece(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


@contextmanager
def _told_by_name(source: Location) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        with source.open() as stream:
            head = stream.read(6)
        unpack = next((command for magic, command in _PACKED.items() if head.startswith(magic)), None)
        if unpack is not None:
            made = re.sub(r"\.(tar(\.\w+)?|t\w+)$", "", source.shown) + ".new.tar"
            command = f"{unpack} {shlex.quote(source.shown)} > {shlex.quote(made)}"
            reason = f"it is packed, and images are read where they lie in it: {command} unpacks it"
        else:
            reason = f"{describe_error(error)}; get or write it again"
        raise ImageFileError(f"cannot read {source} as a tar file: {reason}") from error


class _Member(tarfile.TarInfo):
    """A member whose extended headers, for long names and the like, are short."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As `TarInfo.frombuf`.

        Raises:
            tarfile.TarError: it is no header, or an extended one that is long.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and header.size > _EXTENDED_BYTES:
            raise tarfile.ReadError(f"an extended header has {header.size:,} bytes of at most {_EXTENDED_BYTES:,}")
        return header


def _samples(source: Location, stream: Any) -> list[_Sample]:
    """All samples, in the order of the file."""
    with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Member, encoding="utf-8", errors="strict") as archive:
        reader = _Reader(source, archive)
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it holds them all
            if member.size < 0 or archive.offset <= member.offset:  # which would be read for ever
                raise ImageFileError(
                    f"{source}: member {member.name} has a damaged header, which leads back: get or write it again"
                )
            reader.see(member)
        _check_end(source, stream, archive.offset)
    if reader.left_out:
        names = ", ".join(name for name, _ in reader.left_out.most_common(3))
        warn(f"{source}: {reader.left_out.total():,} members that are neither images nor texts are left out: {names}")
    return reader.samples


@dataclass
class _Reader:
    """What members of a tar file are, one after the other.

    Attributes:
        source: the file, for messages.
        archive: that is open.
        samples: so far.
        keys: of these.
        left_out: how many members of each kind are no part of a sample.
    """

    source: Location
    archive: tarfile.TarFile
    samples: list[_Sample] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    def see(self, member: tarfile.TarInfo) -> None:
        """Take the next member into account."""
        found = _NAME.fullmatch(member.name)
        if not member.isreg() or found is None:
            self.left_out.update([] if member.isdir() else [member.name])
            return
        key, suffix = found[1], found[2].lower()
        if suffix not in _IMAGES | _TEXTS:
            self.left_out.update([f".{suffix}"])
        if not self.samples or self.samples[-1].key != key:
            if key in self.keys:
                raise ImageFileError(
                    f"{self.source}: members of sample {key} do not follow one after the other: write it again so"
                )
            self.keys.add(key)
            self.samples.append(_Sample(key))
        if suffix in _IMAGES | _TEXTS:
            self._add(member, suffix, self.samples[-1])

    def _add(self, member: tarfile.TarInfo, suffix: str, sample: _Sample) -> None:
        limit = FILE_BYTES if suffix in _IMAGES else _TEXT_BYTES
        if member.size > limit or member.issparse():
            raise ImageFileError(
                f"{self.source}: member {member.name} has {member.size:,} bytes or is sparse, and at most {limit:,} "
                "are read: leave it out"
            )
        if suffix in sample.texts or (suffix in _IMAGES and sample.image is not None):
            raise ImageFileError(
                f"{self.source}: sample {sample.key} has several images or texts of one kind, the second "
                f"{member.name}: leave out all but one"
            )
        if suffix in _IMAGES:
            sample.image = member.offset_data, member.size
            return
        content = self.archive.extractfile(member)  # a reader, which writes nothing
        sample.texts[suffix] = "" if content is None else content.read().decode().strip()


def _check_end(source: Location, stream: Any, offset: int) -> None:
    """Refuse what follows the end of the first of several tar files in one, and tell where there is no end."""
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if not block:
        warn(f"{source} has no end mark, as if it were not written to its end: samples may be missing")
    while block:
        if block.strip(b"\0"):
            raise ImageFileError(
                f"{source} holds more behind its end, as tar files put one after the other do: part them"
            )
        block = stream.read(1 << 20)


def _columns(source: Location, samples: Sequence[_Sample]) -> pa.Table:
    """Keys, labels, texts, and the plain values of JSON objects."""
    columns: dict[str, pa.Array] = {KEY: pa.array([sample.key for sample in samples], pa.string())}
    for suffix, name in (("cls", LABEL), ("txt", "txt")):
        if any(suffix in sample.texts for sample in samples):
            columns[name] = _numbers_or_text([sample.texts.get(suffix) for sample in samples], suffix)
    objects = [_object(source, sample) for sample in samples]
    for name in dict.fromkeys(name for found in objects for name in found):
        values = [found.get(name) for found in objects]
        if all(value is None or isinstance(value, str | int | float | bool) for value in values):
            try:
                columns[f"json.{name}" if name in {IMAGE, *columns} else name] = pa.array(values)
            except (pa.ArrowException, OverflowError):
                columns[f"json.{name}" if name in {IMAGE, *columns} else name] = pa.array(
                    [None if value is None else str(value) for value in values], pa.string()
                )
    return pa.table(columns)


def _numbers_or_text(values: Sequence[str | None], suffix: str) -> pa.Array:
    """Classes that are all whole numbers as such, else as text."""
    if suffix == "cls" and all(value is None or _WHOLE.fullmatch(value) for value in values):
        return pa.array([None if value is None else int(value) for value in values], pa.int64())
    return pa.array([value or None for value in values], pa.string())


def _object(source: Location, sample: _Sample) -> dict[str, Any]:
    """What a sample's JSON holds, if it is an object."""
    if "json" not in sample.texts:
        return {}
    try:
        found = json.loads(sample.texts["json"])
    except (ValueError, RecursionError) as error:
        raise ImageFileError(
            f"{source}: {sample.key}.json is no JSON ({describe_error(error)}): mend or leave it out"
        ) from error
    if not isinstance(found, dict):
        return {}
    return {
        whole_characters(name): whole_characters(value) if isinstance(value, str) else value
        for name, value in found.items()
    }
