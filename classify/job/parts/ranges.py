"""The answers to the ranges of a large file, kept among the records until all are there to make its output of."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from knnvote.classify.job.output import ROW_GROUP
from knnvote.classify.job.receipt import NO_RECEIPT, UNSEALED, Counts, Receipt, to_receipt
from knnvote.classify.job.record import RECORDS
from knnvote.classify.job.work import Piece, Task, Work
from knnvote.data.errors import ImageFileError
from knnvote.data.locations import Location, describe_os_error, digest_of
from knnvote.data.text import describe_error

RANGES = "ranges"  # the folder among the records
_LENGTH = 8  # bytes at the end, which say how long the receipt before them is


@dataclass(frozen=True)
class Ranges:
    """The ranges of one file of a job.

    They are streams of Arrow, as such the very arrays that an output is written from, with a receipt behind each,
    whose seal is the SHA-256 of the stream and of the receipt as it was with zeros in the seal's place.

    Attributes:
        out: the output folder.
        task: one of the file's.
        sound: those whose every byte was found to be as it was written.
    """

    out: Location
    task: Task
    sound: set[Piece] = field(default_factory=set, compare=False)

    @property
    def folder(self) -> Location:
        """Where they are kept."""
        return self.out / RECORDS / RANGES / self.task.source.relative

    def file(self, piece: Piece) -> Location:
        """The answers to one of them."""
        return self.folder / file_name(piece)

    @cached_property
    def pieces(self) -> list[Piece]:
        """All of the file."""
        pieces = self.task.piece.pieces if self.task.piece else 0
        return [Piece(number, pieces) for number in range(pieces)]

    def done(self, piece: Piece, made_from: dict[str, Any], described: dict[str, Any]) -> Counts | None:
        """Rows by status of a range that is done, of an input that is so described; None of one that is not."""
        receipt = _read_receipt(self.file(piece))
        if receipt is None or (receipt.made_from, receipt.input) != (made_from, of_piece(described, piece)):
            return None
        return None if receipt.seal == UNSEALED else receipt.counts  # as of ranges of before, which nothing vouches for

    def all_done(self, made_from: dict[str, Any], described: dict[str, Any]) -> Counts | None:
        """Rows by status of the file, if all its ranges are done."""
        if not self.folder.is_folder:
            return None
        names = self.folder.below(recursive=False)
        if any(file_name(piece) not in names for piece in self.pieces):
            return None
        counts = [self.done(piece, made_from, described) for piece in self.pieces]
        return None if None in counts else sum(filter(None, counts), Counts())

    def groups(self) -> Iterator[pa.Table]:
        """The row groups of the output, of ranges that are all done.

        Raises:
            ImageFileError: one is damaged, and was removed; or it cannot be read.
        """
        for piece in self.pieces:
            with self._opened(piece) as stream:
                for batch in pa.ipc.open_stream(stream):
                    batch.validate(full=True)
                    yield pa.Table.from_batches([batch])

    def schema(self) -> pa.Schema:
        """Of the output, of ranges that are all done.

        Raises:
            ImageFileError: the first is damaged, and was removed; or it cannot be read.
        """
        with self._opened(self.pieces[0]) as stream:
            return pa.ipc.open_stream(stream).schema

    @contextmanager
    def _opened(self, piece: Piece) -> Iterator[Any]:
        """The stream of a range, of which nothing is believed before all is known to be as it was written."""
        file = self.file(piece)
        with file.open() as stream:
            try:
                if piece not in self.sound:
                    _check(stream)
                    self.sound.add(piece)
                    stream.seek(0)
                yield stream
            except MemoryError:  # which Arrow has as an error of its own, too, and which says nothing of the file
                raise
            except pa.ArrowException as error:
                file.remove()
                raise ImageFileError(
                    f"{file} was damaged ({describe_error(error)}) and is removed: run the same command again"
                ) from error
            except OSError as error:  # such as a connection that is lost: the range may be as good as it was
                raise ImageFileError(
                    f"cannot read {file}: {describe_os_error(error)}; run the same command again"
                ) from error

    def remove(self) -> None:
        """Remove them, whoever else does so at the same time."""
        remove_tree(self.folder)
        above = Path(self.folder.path).parent
        while self.out.is_local and above.name != RECORDS:
            with suppress(OSError):  # others are kept there, or it is gone
                above.rmdir()
            above = above.parent


def is_range_done(work: Work, task: Task, piece: Piece) -> bool:
    """Whether a range of a file is done that is not."""
    return Ranges(work.out, task).done(piece, work.made_from, task.source.describe()) is not None


def file_name(piece: Piece) -> str:
    """Of the answers to a range."""
    return f"{piece.number + 1}-of-{piece.pieces}.arrow"


def of_piece(described: dict[str, Any], piece: Piece) -> dict[str, Any]:
    """What the receipt of a range has for its input; what else sets where ranges end is in the options."""
    return {**described, "range": [*piece.told, ROW_GROUP]}


def write_range(
    stream: BinaryIO, schema: pa.Schema, groups: Iterable[pa.Table], receipt: Callable[[], Receipt], piece: Piece
) -> None:
    """Write the answers to a range, as `write_sealed` writes those to a file."""
    with pa.ipc.new_stream(stream, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for group in groups:
            writer.write_table(group)
    of_file = receipt()
    of_range = replace(of_file, input=of_piece(of_file.input, piece))
    stream.flush()
    raw = replace(of_range, seal=_seal(stream, stream.seek(0, 2), of_range)).to_json()
    stream.write(raw + len(raw).to_bytes(_LENGTH, "little"))


def _seal(stream: Any, length: int, receipt: Receipt) -> str:
    """SHA-256 of a stream of so many bytes, and of the receipt behind it before it is sealed."""
    stream.seek(0)
    digest = digest_of(stream, length)
    digest.update(replace(receipt, seal=UNSEALED).to_json())
    return str(digest.hexdigest())


def _check(stream: Any) -> None:
    """Read a range to its end.

    Raises:
        pa.ArrowInvalid: it is not as it was written.
        OSError: it cannot be read.
    """
    try:
        length, raw = _parts(stream)
        receipt = to_receipt(raw)
        is_sound = _seal(stream, length, receipt) == receipt.seal
    except NO_RECEIPT:
        is_sound = False
    if not is_sound:
        raise pa.ArrowInvalid("its bytes are not those that were written")


def _parts(stream: Any) -> tuple[int, bytes]:
    """The bytes of a range's stream, and the receipt behind it.

    Raises:
        ValueError: it is too short to have one.
        OSError: it cannot be read.
    """
    end = stream.size() - _LENGTH
    stream.seek(max(0, end))
    length = int.from_bytes(stream.read(_LENGTH), "little")
    if not 0 <= length <= end:
        raise ValueError
    stream.seek(end - length)
    return end - length, stream.read(length)


def _read_receipt(file: Location) -> Receipt | None:
    stream = file.open_if_there()
    if stream is None:
        return None
    with suppress(OSError, *NO_RECEIPT), stream:
        return to_receipt(_parts(stream)[1])
    return None


def remove_tree(folder: Location) -> None:
    """Remove a folder of records and all below it, if it is there, whoever else does so at the same time."""
    if not folder.is_local:
        if folder.is_folder:
            folder.remove_folder()
        return
    for path, folders, files in os.walk(folder.path, topdown=False):  # which follows no links
        remove_files(Path(path), [*files, *folders])
    with suppress(OSError):
        Path(folder.path).rmdir()


def remove_files(folder: Path, names: Sequence[str]) -> None:
    """Remove files, links and empty folders that may be gone already."""
    for name in names:
        path = folder / name
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
