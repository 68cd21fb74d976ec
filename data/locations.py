"""Files and folders of this machine and of object stores: the one place that opens a file system."""

import errno
import hashlib
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs as pafs

from .errors import KnnvoteError, OptionError
from .text import describe_error, first_line

CHUNK = 1 << 20
_LIMIT = 20  # seconds for a request to be tried again
_REPLACED = 5  # times that a file may be replaced while it is read
_NOT_UTF8 = (UnicodeDecodeError, UnicodeEncodeError)  # of a name, which PyArrow cannot give or take then
_OF_A_URI = "%/:?#[]@!$&'()*+,;=~"


@dataclass(frozen=True)
class Location:
    """A file or folder, which need not exist.

    Attributes:
        filesystem: the pyarrow file system that holds it.
        path: its path in that file system.
        shown: the path or URI as users know it, without what gives access to it.
    """

    filesystem: Any
    path: str
    shown: str

    def __truediv__(self, relative: str) -> "Location":
        """What lies below."""
        path, shown = (f"{base.rstrip('/')}/{relative}" for base in (self.path, self.shown))
        return Location(self.filesystem, path, shown)

    def __str__(self) -> str:
        """As users know it."""
        return self.shown

    def __getstate__(self) -> dict[str, Any]:
        """Pickled so that it leads to the same place from any working folder, with what gives access to it."""
        return {**vars(self), "path": str(Path(self.path).absolute())} if self.is_local else vars(self)

    @property
    def is_local(self) -> bool:
        """It lies on a disk of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def address(self) -> str:
        """What `locate` finds it by from anywhere, given the same access: a path from the root, or a URI."""
        return self.place if self.is_local else f"{self.shown.split('://')[0]}://{quote(self.path)}"

    @property
    def place(self) -> str:
        """A path that is the same in whatever words it is named; a link is a place of its own."""
        path = Path(self.path)
        return str(path.parent.resolve() / path.name) if self.is_local else self.path

    @property
    def above(self) -> "Location":
        """The folder that it lies in."""
        shown = self.shown.rpartition("/")[0] or ("/" if self.shown.startswith("/") else ".")
        return Location(self.filesystem, str(PurePosixPath(self.path).parent), shown)

    def info(self) -> Any:
        """What the file system says of it.

        Raises:
            KnnvoteError: it says nothing.
        """
        with self.errors_told():
            return self.filesystem.get_file_info(self.path)

    @property
    def written(self) -> datetime | None:
        """When its content was last written, in UTC, as the file system or store says; None where it does not."""
        when: datetime | None = self.info().mtime
        return when

    @property
    def is_file(self) -> bool:
        """A file is there."""
        return bool(self.info().type == pafs.FileType.File)

    @property
    def is_folder(self) -> bool:
        """A folder is there; on an object store, anything below it."""
        return bool(self.info().type == pafs.FileType.Directory)

    def below(self, *, recursive: bool = True) -> dict[str, Any]:
        """Files and folders below this one, by their path relative to it, in order of their names.

        Raises:
            KnnvoteError: they cannot be listed.
        """
        try:
            if self.is_local:
                entries = self.filesystem.get_file_info(_walk(self.path, recursive=recursive))
            else:
                entries = self.filesystem.get_file_info(pafs.FileSelector(self.path, recursive=recursive))
            # An object store may hold a file and a folder of one name: then the file counts.
            entries.sort(key=lambda entry: (entry.path, entry.type == pafs.FileType.File))
            return {relative_path(entry.path, self.path): entry for entry in entries}
        except (pa.ArrowInvalid, *_NOT_UTF8) as error:
            raise KnnvoteError(f"cannot list {self.shown}: {describe_os_error(error)}") from error
        except OSError as error:  # perhaps of a folder below, which its own words name
            reason = first_line(error.strerror or describe_error(error))
            where = os.fsdecode(error.filename or self.shown)
            raise KnnvoteError(f"cannot list {where if self.is_local else self.shown}: {reason}") from error

    def open(self) -> Any:
        """Open for random access, as a pyarrow file.

        Raises:
            KnnvoteError: it is gone, may not be read, or is a pipe, a device or a folder.
        """
        with self.errors_told():
            if self.is_local and not stat.S_ISREG(Path(self.path).stat().st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")  # to open a pipe would wait for its other end
            return self.filesystem.open_input_file(self.path)

    def open_if_there(self) -> Any:
        """Open as `open` does; None where nothing is, or nothing is any more.

        Raises:
            KnnvoteError: it is there, and may not be read.
        """
        try:
            return self.open() if self.is_file else None
        except KnnvoteError:
            if self.is_file:
                raise
            return None

    def read(self) -> bytes:
        """The whole content.

        Raises:
            KnnvoteError: it cannot be read.
        """
        with self.open() as stream, self.errors_told():
            content: bytes = stream.read()
            return content

    def read_if_there(self) -> bytes | None:
        """The whole content; None where nothing is, or nothing is any more.

        A store may give some of a file as it was, and some of what it was replaced by meanwhile: then it is read again.

        Raises:
            KnnvoteError: it cannot be read.
        """
        for attempt in range(_REPLACED + 1):
            before = self.tag()
            stream = self.open_if_there()
            if stream is None:
                return None
            try:
                with stream, self.errors_told():
                    content: bytes = stream.read()
            except KnnvoteError:
                if self.is_local or attempt == _REPLACED:
                    raise
            else:
                if self.is_local or self.tag() == before:
                    return content
        raise KnnvoteError(f"cannot read {self.shown}: it is replaced all the time; run the same command again")

    def tag(self) -> str | None:
        """What an object store gives a file as long as it stays as it is; None without a file, or on a disk."""
        stream = None if self.is_local else self.open_if_there()
        if stream is None:
            return None
        with stream, self.errors_told():
            tag = stream.metadata().get("ETag")
            return None if tag is None else tag.decode()

    def remove(self) -> None:
        """Remove a file, if it is there.

        Raises:
            KnnvoteError: it may not be removed.
        """
        with self.errors_told("remove"), suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path)

    def remove_folder(self) -> None:
        """Remove a folder that may be there, which on an object store is what an object below it leaves.

        Raises:
            KnnvoteError: it may not be removed.
        """
        with self.errors_told("remove"), suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.path)

    @contextmanager
    def errors_told(self, verb: str = "read") -> Iterator[None]:
        """Tell an error of the file system as one of this file."""
        try:
            yield
        except (OSError, pa.ArrowException, *_NOT_UTF8) as error:
            raise KnnvoteError(f"cannot {verb} {self.shown}: {describe_os_error(error)}") from error


def _walk(folder: str, *, recursive: bool) -> list[str]:
    """What lies in a folder of this machine, and below it in each folder once: a link may lead back.

    A folder that has several names, by links, is listed by the one nearest to the top.

    Raises:
        OSError: a folder cannot be listed.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = deque([folder])
    while waiting:
        here = waiting.popleft()
        try:
            status = Path(here).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                names = sorted(entry.name for entry in entries)
        except FileNotFoundError:
            if here == folder:
                raise
            continue  # it was removed meanwhile
        for name in names:
            path = str(Path(here, name))
            found.append(path)
            if recursive and Path(path).is_dir():  # which of a link to itself says no
                waiting.append(path)
    return found


def local_state(status: os.stat_result) -> tuple[int, ...]:
    """What no change of a file of this machine leaves as it is."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def locate(argument: str | Path | Location) -> Location:
    """Where a path or URI leads; access to an object store is taken from the environment, as its own tools do.

    Raises:
        KnnvoteError: no file system of this kind can be opened.
    """
    if isinstance(argument, Location):
        return argument
    text = path_text(argument)
    if not text:
        raise KnnvoteError("an empty path is given: give that of a file or folder, or . for the folder at work")
    if not is_uri(argument):
        path = str(Path(expand_home(text)))
        return Location(pafs.LocalFileSystem(), path, path)
    uri = text
    try:
        uri = _with_limit(quote(text, safe=_OF_A_URI))
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except UnicodeEncodeError as error:
        raise KnnvoteError(f"cannot open {without_secrets(text)!a}: it is not UTF-8; rename it") from error
    except (pa.ArrowException, OSError, ImportError, ValueError) as error:
        shown = without_secrets(text)
        reason = describe_os_error(error).replace(uri, shown).replace(text, shown)
        raise KnnvoteError(
            f"cannot open {shown}: {reason}; if it is not of s3:// or gs://, download it and give its path"
        ) from error
    return Location(filesystem, path.rstrip("/") or path, f"{text.split('://', maxsplit=1)[0]}://{path}".rstrip("/"))


def local_path(argument: str | Path) -> Path:
    """A path on this machine, which a URI is not.

    Raises:
        OptionError: it is a URI.
    """
    text = path_text(argument)
    if is_uri(argument):
        shown = without_secrets(text)
        raise OptionError(f"{shown!r} is a URI, and what is needed is a path of this machine")
    return Path(expand_home(text))


def path_text(given: object) -> str:
    """The text of a path.

    Raises:
        OptionError: it is none, and would be one only as the text that it is shown by, as None and arrays would.
    """
    if not isinstance(given, str | os.PathLike):
        raise OptionError(f"type {type(given).__name__} is no path: give a text or a pathlib.Path")
    return str(given)


def expand_home(path: str) -> str:
    """A path whose leading ~ or ~user is that home, as a shell has it where it sees one."""
    return os.path.expanduser(path)  # noqa: PTH111  # pathlib's fails for a user that there is not


def _with_limit(uri: str) -> str:
    """A URI of Google's store, which would be waited for minutes in silence, with a limit in its query."""
    if not uri.startswith(("gs://", "gcs://")) or "retry_limit_seconds=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={_LIMIT}"


def is_uri(argument: str | Path) -> bool:
    """Whether a command's argument is a URI, not a path."""
    return isinstance(argument, str) and "://" in argument


def without_secrets(uri: str) -> str:
    """A URI less user, password and query."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def relative_path(path: str, base: str) -> str:
    """A path below base, relative to it."""
    return str(PurePosixPath(path).relative_to(PurePosixPath(base))) if base not in ("", ".") else path


def hash_stream(stream: Any, size: int | None = None) -> str:
    """SHA-256 of what a binary stream still holds, or of so many bytes of it, as 64 hexadecimal digits."""
    digest: str = digest_of(stream, size).hexdigest()
    return digest


def digest_of(stream: Any, size: int | None = None) -> Any:
    """The same as hashlib has it, which can be told of more bytes."""
    digest = hashlib.sha256()
    for chunk in chunks(stream, size):
        digest.update(chunk)
    return digest


def chunks(stream: Any, size: int | None = None) -> Iterator[bytes]:
    """What a binary stream still holds, or so many bytes of it, in pieces."""
    left = CHUNK if size is None else size
    while chunk := stream.read(min(CHUNK, left)):
        yield chunk
        left -= 0 if size is None else len(chunk)


def describe_os_error(error: Exception) -> str:
    """The reason alone, without errno or a path that the message around it already names."""
    if isinstance(error, _NOT_UTF8):
        return f"the name {error.object!a} is not UTF-8; rename it"
    reason = first_line(getattr(error, "strerror", None) or describe_error(error))
    return re.sub(r"^.*Detail: \[errno \d+\] ", "", reason)  # so PyArrow tells the system's own words
