"""Files on any file system: finding inputs, reading, and writing so that a file appears whole or not at all."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import fs as pafs

from data.errors import ImageFileError, KnnvoteError

_CHUNK = 1 << 20
_LABELS = re.compile(r"labels-\d+\.parquet")
_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class InputFile:
    """One input.

    Attributes:
        filesystem: the pyarrow file system that holds it.
        path: its path in that file system.
        relative: its path relative to the argument that named it, with forward slashes.
        shown: the path or URI as users know it, for messages.
        size: bytes.
        root: the local folder that was named, resolved, if one was.
    """

    filesystem: Any
    path: str
    relative: str
    shown: str
    size: int
    root: Path | None = None

    @property
    def is_local(self) -> bool:
        """It lies on a disk of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def open(self) -> Any:
        """Open for random access, as a pyarrow file.

        Raises:
            ImageFileError: it is gone, or may not be read.
        """
        try:
            return self.filesystem.open_input_file(self.path)
        except OSError as error:
            raise ImageFileError(f"cannot read {self.shown}: {describe_os_error(error)}") from error

    def sha256(self) -> str:
        """Hash of the content, as 64 hexadecimal digits.

        Raises:
            ImageFileError: it cannot be read.
        """
        with self.open() as stream:
            try:
                return hash_stream(stream)
            except OSError as error:
                raise ImageFileError(f"cannot read {self.shown}: {describe_os_error(error)}") from error


def hash_stream(stream: Any) -> str:
    """SHA-256 of what a binary stream still holds, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def describe_os_error(error: OSError) -> str:
    """The reason alone, without errno or a path that the message around it already names."""
    return error.strerror or str(error).splitlines()[0]


def find_inputs(arguments: Sequence[str]) -> list[InputFile]:
    """Expand files, folders, globs and URIs into Parquet files, in the order given and then by name.

    A folder gives every ``*.parquet`` file below it, but names that begin with ``.`` or ``_``, as Spark and Arrow have
    it, and what knnvote made (index folders, outputs of jobs). The same file named twice is taken once.

    Raises:
        KnnvoteError: a path does not exist, a folder or glob holds no Parquet file.
    """
    found: dict[tuple[str, str], InputFile] = {}
    for argument in arguments:
        for file in _expand(argument):
            found.setdefault((file.filesystem.type_name, _place(file)), file)
    return list(found.values())


def _place(file: InputFile) -> str:
    """A path that is the same in whatever words a file is named; a link to it is a file of its own."""
    path = Path(file.path)
    return str(path.parent.resolve() / path.name) if file.is_local else file.path


def _expand(argument: str) -> list[InputFile]:
    if "://" in argument:
        return _expand_uri(argument)
    if not _exists(argument) and _GLOB_CHARACTERS & set(argument):
        return _expand_glob(argument)
    return _select(pafs.LocalFileSystem(), str(Path(argument)), argument)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError as error:  # a name too long, for one
        raise KnnvoteError(f"cannot read {path}: {describe_os_error(error)}") from error


def _expand_uri(uri: str) -> list[InputFile]:
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise KnnvoteError(f"cannot open {uri}: {str(error).splitlines()[0]}") from error
    return _select(filesystem, path, uri)


def _expand_glob(pattern: str) -> list[InputFile]:
    first = next(i for i, part in enumerate(Path(pattern).parts) if _GLOB_CHARACTERS & set(part))
    base = str(Path(*Path(pattern).parts[:first]))
    # As in a shell, and unlike pathlib's, a star does not stand for a leading dot.
    matches = sorted(glob(pattern, recursive=True))  # noqa: PTH207
    files = [file for match in matches for file in _select(pafs.LocalFileSystem(), match, match, base=base)]
    if not files:
        raise KnnvoteError(f"no file matches {pattern}: give the path of a Parquet file, a folder or a glob")
    return files


def _select(filesystem: Any, path: str, shown: str, *, base: str | None = None) -> list[InputFile]:
    """The file at path, or the Parquet files below the folder there; relative to base, if given."""
    try:
        info = filesystem.get_file_info(path)
    except OSError as error:
        raise KnnvoteError(f"cannot read {shown}: {describe_os_error(error)}") from error
    if info.type == pafs.FileType.NotFound:
        raise KnnvoteError(f"{shown} does not exist: give the path of a Parquet file, a folder or a glob")
    if info.type != pafs.FileType.Directory:
        relative = _relative(path, base) if base is not None else PurePosixPath(path).name
        return [InputFile(filesystem, path, relative, shown, info.size or 0)]
    try:
        entries = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    except OSError as error:
        raise KnnvoteError(f"cannot read {shown}: {describe_os_error(error)}") from error
    made_by_knnvote = _folders_of_knnvote([PurePosixPath(entry.path) for entry in entries])
    files = [
        InputFile(
            filesystem,
            entry.path,
            _relative(entry.path, base if base is not None else path),
            _shown_below(shown, path, entry.path),
            entry.size or 0,
            Path(path).resolve() if isinstance(filesystem, pafs.LocalFileSystem) else None,
        )
        for entry in sorted(entries, key=lambda entry: entry.path)
        if entry.type == pafs.FileType.File
        and _is_visible_parquet(_relative(entry.path, path))
        and made_by_knnvote.isdisjoint(PurePosixPath(entry.path).parents)
    ]
    if not files:
        raise KnnvoteError(f"{shown} is a folder without any *.parquet file: give one that holds some")
    return files


def _folders_of_knnvote(paths: list[PurePosixPath]) -> set[PurePosixPath]:
    """Index folders, which hold a manifest and labels, and outputs of jobs."""
    with_labels = {path.parent for path in paths if _LABELS.fullmatch(path.name)}
    indexes = {path.parent for path in paths if path.name == "manifest.json"} & with_labels
    return indexes | {path.parents[1] for path in paths if path.parts[-2:] == ("_knnvote", "job.json")}


def _relative(path: str, base: str) -> str:
    return str(PurePosixPath(path).relative_to(PurePosixPath(base))) if base not in ("", ".") else path


def _shown_below(shown: str, path: str, entry: str) -> str:
    return f"{shown.rstrip('/')}/{_relative(entry, path)}"


def _is_visible_parquet(relative: str) -> bool:
    parts = PurePosixPath(relative).parts
    return parts[-1].endswith(".parquet") and not any(part.startswith((".", "_")) for part in parts)


@contextmanager
def atomic_write(target: Path, *, scratch: Path | None = None) -> Iterator[BinaryIO]:
    """Write target so that it appears whole or not at all: written beside, synced, renamed, folder synced.

    Args:
        target: the file to make or replace; its folder is made if need be.
        scratch: a folder on the same file system for the unfinished file, where the target's own must stay clean.

    Raises:
        KnnvoteError: it cannot be written (disk full, no permission); an older target stays as it was.
    """
    unfinished = (scratch or target.parent) / f".{target.name}.{os.getpid()}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(target)
        sync(target.parent)
    except OSError as error:
        raise KnnvoteError(
            f"cannot write {target}: {describe_os_error(error)}; mend that and run the same command again"
        ) from error
    finally:
        with suppress(OSError):  # it may never have been made, nor its folder
            unfinished.unlink()


@contextmanager
def hold_lock(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, which the system frees when its holder ends, however it ends; it is removed when let go.

    Raises:
        KnnvoteError: with the refusal, if another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise KnnvoteError(f"cannot write {path}: {describe_os_error(error)}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise KnnvoteError(refusal) from error
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(stream.fileno())):
            raise KnnvoteError(refusal)  # its last holder removed it between our opening and locking it
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold a file or folder as it is now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
