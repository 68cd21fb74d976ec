"""Writing files so that they appear whole or not at all, and locks."""

import errno
import fcntl
import hashlib
import mmap
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, takewhile
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa

from .errors import KnnvoteError
from .locations import Location, describe_os_error

Result = TypeVar("Result")
_ATTEMPTS = 10
_PAUSE = 0.05  # seconds between them
_LONG = 200  # bytes of a name; file systems take 255
_UNFINISHED = re.compile(r"\..+\.\d+\.tmp", re.DOTALL)


class VanishedError(KnnvoteError):
    """What was being written was removed by something else."""


class TakenError(KnnvoteError):
    """What was to be made is there already, made by something else."""


@contextmanager
def atomic_write(target: Path | Location, *, scratch: Path | None = None, is_new: bool = False) -> Iterator[BinaryIO]:
    """Write target so that it appears whole or not at all.

    On a disk it is written beside, synced, renamed, and its folder synced; on an object store it is written to a
    temporary file of this machine, and put whole.

    Args:
        target: the file to make or replace; its folder is made if need be.
        scratch: a folder on the same file system for the unfinished file, where the target's own must stay clean.
        is_new: on a disk, refuse a target that is there when it would get its name, whoever made it meanwhile.

    Yields:
        A file open for writing and reading.

    Raises:
        VanishedError: the unfinished file was removed by something else; an older target stays as it was.
        TakenError: the target is not new, and stays as it is.
        KnnvoteError: it cannot be written (disk full, no permission); an older target stays as it was.
    """
    if isinstance(target, Location) and not target.is_local:
        writing, disk = _put(target), f" in {tempfile.gettempdir()}"
    else:
        path = Path(target.path) if isinstance(target, Location) else target
        writing, disk = _renamed(path, scratch or path.parent, is_new=is_new), ""
    try:
        with writing as stream:
            yield stream
    except OSError as error:
        reason = describe_os_error(error) + (disk if error.errno else "")  # a store's errors have no number
        raise KnnvoteError(f"cannot write {target}: {reason}; mend that and run the same command again") from error


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is one that `atomic_write` had not finished."""
    return _UNFINISHED.fullmatch(name) is not None


@contextmanager
def _renamed(target: Path, scratch: Path, *, is_new: bool) -> Iterator[BinaryIO]:
    name = os.fsencode(target.name)
    if len(name) > _LONG:  # it has no room for more
        name = hashlib.sha256(name).hexdigest().encode()
    # Drawn at random: process numbers are those of other processes on other hosts, and in other containers.
    unfinished = scratch / f".{os.fsdecode(name)}.{secrets.randbits(64)}.tmp"
    try:
        with _again_without_folder(lambda: _open_new(unfinished)) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        try:
            _again_without_folder(lambda: _name(unfinished, target, is_new=is_new))
        except FileNotFoundError as error:
            raise VanishedError(
                f"cannot write {target}: {unfinished}, which was to be it, was removed by something else; run the same "
                "command again"
            ) from error
        with suppress(FileNotFoundError):  # the folder and all in it were removed right away
            sync(target.parent)
    finally:
        with suppress(OSError):  # it may never have been made, nor its folder
            unfinished.unlink()


def _open_new(path: Path) -> BinaryIO:
    make_folder(path.parent)
    return path.open("x+b")  # which follows no link


def _name(unfinished: Path, target: Path, *, is_new: bool) -> None:
    make_folder(target.parent)
    if is_new:
        _rename_to_new(unfinished, target)
    else:
        unfinished.replace(target)


def _again_without_folder(do: Callable[[], Result]) -> Result:
    """Do something in a folder that is made for it, and that another process may remove when it finds it empty."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            return do()
    return do()


def _rename_to_new(unfinished: Path, target: Path) -> None:
    """Name a file as a target that is not there, in one step where the file system has links."""
    try:
        try:
            target.hardlink_to(unfinished)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):  # of FAT, SMB and their kin
                raise
            target.open("x").close()
            unfinished.replace(target)
    except FileExistsError as error:
        raise TakenError(f"{target} was made by something else meanwhile, and stays: give a new name") from error


@contextmanager
def _put(target: Location) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as stream:
        yield stream
        stream.flush()
        content = pa.py_buffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        # An interruption of this thread must not come between opening the object and writing to it: to close it then,
        # as Python does, would make an object of what there is.
        with ThreadPoolExecutor(1, "putting") as putting:
            putting.submit(_put_whole, target, content).result()


def _put_whole(target: Location, content: pa.Buffer) -> None:
    """In one write: where a part of it fails, no object is made."""
    with target.filesystem.open_output_stream(target.path, compression=None) as sink:
        sink.write(content)


@contextmanager
def hold_lock(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, which the system frees when its holder ends, however it ends; it is removed when let go.

    Raises:
        KnnvoteError: with the refusal, if another process holds it.
    """
    with _open_lock(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_current = os.path.samestat(path.stat(), os.fstat(stream.fileno()))
        except (BlockingIOError, FileNotFoundError) as error:
            raise KnnvoteError(refusal) from error
        except OSError as error:
            raise KnnvoteError(f"cannot lock {path}: {describe_os_error(error)}; give a folder that can be") from error
        if not is_current:
            raise KnnvoteError(refusal)  # its last holder removed it between our opening and locking it
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def share_lock(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file beside others who share it, so that nobody holds it alone; the last of them removes it.

    A file system that knows no locks, or none of other hosts, keeps nobody away: no data may depend on it.

    Raises:
        KnnvoteError: with the refusal, if another process holds it alone.
    """
    with ExitStack() as held:
        for attempt in range(_ATTEMPTS):
            stream = held.enter_context(_open_lock(path))
            with suppress(BlockingIOError, FileNotFoundError):
                is_known = _is_locked(stream, fcntl.LOCK_SH)
                if not is_known or os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                    break
            held.close()
            if attempt:  # the last of others who shared it holds it alone for the moment in which it removes it
                time.sleep(_PAUSE)
        else:
            raise KnnvoteError(refusal)
        try:
            yield
        finally:
            with suppress(OSError):  # others share it still
                if not is_known or _is_locked(stream, fcntl.LOCK_EX):
                    path.unlink()


def _is_locked(stream: BinaryIO, how: int) -> bool:
    """Lock a file at once; False where the file system knows no locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _open_to_lock(path: Path) -> int:
    make_folder(path.parent)
    # In a stranger's folder the name may be a link: nothing is written through it, nor is what it leads to emptied.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _open_lock(path: Path) -> BinaryIO:
    try:
        return os.fdopen(_again_without_folder(lambda: _open_to_lock(path)), "r+b")
    except OSError as error:
        reason = "it is a link: remove it" if path.is_symlink() else describe_os_error(error)
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            reason += "; give a path where you may write, such as that of a copy, or have this one made writable"
        raise KnnvoteError(f"cannot write {path}: {reason}") from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it where there are none, and have the disk hold them.

    Raises:
        OSError: it cannot be made.
    """
    missing = [*takewhile(lambda folder: not folder.exists(), chain((path,), path.parents))]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        if path.exists():  # and is no folder
            raise
        raise FileNotFoundError(*error.args) from error  # a folder that another process removed at this moment
    for folder in reversed(missing):
        sync(folder.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file or folder as it is now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
