"""Input files: found on any file system, described, opened as rows, and watched while they are read."""

import itertools
import re
import shlex
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs as pafs

from .containers.parquet import ParquetRows
from .errors import ImageFileError, KnnvoteError
from .folders.partitions import partitions_told
from .folders.splits import splits_of
from .folders.tables import refuse_revisions, refuse_table
from .locations import Location, describe_os_error, expand_home, hash_stream, is_uri, locate, relative_path
from .rows import RowFile

# By the ending of a file's name; those of a folder that have none of these are no inputs.
CONTAINERS: dict[str, type[RowFile]] = {".parquet": ParquetRows}

_LIKE_PARQUET = re.compile(r"\.(parquet|parq|pq)(\.(gz|bz2|zst|zip|part))?$")
_LABELS = re.compile(r"labels-\d+\.parquet")
_GLOB_CHARACTERS = frozenset("*?[")
_MAGIC = b"PAR1"
_UNFINISHED = "_temporary"


@dataclass(frozen=True)
class InputFile(Location):
    """One input.

    Attributes:
        relative: its path relative to the argument that named it, with forward slashes.
        size: bytes, when it was found.
        root: the place of the folder that was named, if one was.
        found_by: the folder or glob that was named, if it was not the file itself.
    """

    relative: str
    size: int
    root: str | None = None
    found_by: str | None = None

    def describe(self) -> dict[str, Any]:
        """What tells this content from any other: relative path, size, and SHA-256 or the tag that its store gives it.

        Raises:
            ImageFileError: it cannot be read.
        """
        with self.open() as stream, self.errors_told():
            tag = stream.metadata().get("ETag")
            mark = {"sha256": hash_stream(stream)} if tag is None else {"etag": tag.decode()}
            return {"path": self.relative, "size": stream.size(), **mark}

    @contextmanager
    def open_rows(self) -> Iterator[RowFile]:
        """Open as the container that its name tells, else as Parquet, and see that it stays as it is while it is read.

        Raises:
            ImageFileError: it is not of this container, or does not stay.
        """
        with self.steady(), self._container.open(self) as rows:
            yield rows

    def count_rows(self) -> int:
        """Rows that it says it holds; 0 for a file that cannot be read, which is told when its turn comes."""
        try:
            with self._container.open(self) as rows:
                return rows.num_rows
        except ImageFileError:
            return 0

    @property
    def _container(self) -> type[RowFile]:
        return next((found for ending, found in CONTAINERS.items() if self.path.endswith(ending)), ParquetRows)

    @contextmanager
    def content_told(self) -> Iterator[None]:
        """Tell what is wrong with its content as said of this file."""
        try:
            yield
        except ImageFileError as error:
            raise ImageFileError(f"{self.shown}: {error.marked}") from error

    @contextmanager
    def steady(self) -> Iterator[None]:
        """See that it stays as it is while it is read.

        Raises:
            ImageFileError: it does not.
        """
        before = self._state()
        try:
            yield
        except ImageFileError as error:
            self._check_unchanged(before, error)
            raise
        self._check_unchanged(before, None)

    def _check_unchanged(self, before: tuple[object, ...], cause: Exception | None) -> None:
        if self._state() != before:
            raise ImageFileError(
                f"{self.shown} changed while it was read: run the same command again when nothing writes to it"
            ) from cause

    def _state(self) -> tuple[object, ...]:
        """What no change of the content leaves as it is."""
        with self.errors_told():
            if self.is_local:
                status = Path(self.path).stat()
                return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            with self.open() as stream:
                return stream.size(), stream.metadata().get("ETag"), stream.metadata().get("Last-Modified")

    @contextmanager
    def errors_told(self, verb: str = "read") -> Iterator[None]:
        """Tell an error of the file system as one of this file alone."""
        try:
            with super().errors_told(verb):
                yield
        except ImageFileError:
            raise
        except KnnvoteError as error:
            raise ImageFileError(error.marked) from error


Inputs = str | Path | InputFile | Sequence[str | Path | InputFile]


def find_inputs(arguments: Inputs) -> list[InputFile]:
    """Expand files, folders, globs and URIs into Parquet files, in the order given and then by name.

    A folder gives every ``*.parquet`` file below it, but names that begin with ``.`` or ``_``, as Spark and Arrow have
    it, and what knnvote made (index folders, outputs of jobs). The same file named twice is taken once, and one that
    was found before stands as it is.

    Raises:
        KnnvoteError: a path does not exist, a folder or glob holds no Parquet file.
    """
    if isinstance(arguments, str | Path | InputFile):
        arguments = [arguments]
    found: list[InputFile] = []
    by_place: dict[str, list[Any]] = {}
    for file in itertools.chain.from_iterable(map(_expand, arguments)):
        filesystems = by_place.setdefault(file.place, [])
        if file.filesystem not in filesystems:
            filesystems.append(file.filesystem)
            found.append(file)
    return found


def _expand(named: str | Path | InputFile) -> list[InputFile]:
    if isinstance(named, InputFile):
        return [named]
    argument = expand_home(str(named))
    if is_uri(argument):
        return _expand_uri(argument)
    if not _exists(argument) and _GLOB_CHARACTERS & set(argument):
        return _expand_glob(argument)
    return _expand_path(locate(argument))


def _expand_path(location: Location) -> list[InputFile]:
    files = _select(location)
    if not files:
        raise KnnvoteError(
            f"{location} is a folder without any *.parquet file but what knnvote made: give one that holds some"
        )
    return files


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError as error:  # a name too long, for one
        raise KnnvoteError(f"cannot read {path}: {describe_os_error(error)}") from error


def _expand_glob(pattern: str) -> list[InputFile]:
    first = next(i for i, part in enumerate(Path(pattern).parts) if _GLOB_CHARACTERS & set(part))
    base = str(Path(*Path(pattern).parts[:first]))
    # As in a shell, and unlike pathlib's, a star does not stand for a leading dot.
    matches = sorted(glob(pattern, recursive=True))  # noqa: PTH207
    return _select_all([locate(match) for match in matches], pattern, base)


def _select_all(matches: Sequence[Location], pattern: str, base: str) -> list[InputFile]:
    """What matches a glob: files, and those of folders."""
    folders = {str(PurePosixPath(match.path).parent): match for match in matches}
    for match in folders.values():
        refuse_table(match, ())
    found = [file for match in matches for file in _select(match, base=base)]
    if not found:
        raise KnnvoteError(f"no file matches {pattern}: give the path of a Parquet file, a folder or a glob")
    return [replace(file, found_by=pattern) for file in found]


def _expand_uri(uri: str) -> list[InputFile]:
    """A URI, whose query has no wildcards, and its path none but * and [...]: ? begins a query."""
    path, mark, query = uri.partition("?")
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if _GLOB_CHARACTERS & set(part)), None)
    location = locate(uri.replace("[", "%5B").replace("]", "%5D"))
    if first is None or location.info().type != pafs.FileType.NotFound:
        return _expand_path(location)
    base = locate("/".join(parts[:first]) + mark + query)
    matches = [base / name for name in base.below() if _matches(name.split("/"), parts[first:])]
    return _select_all(matches, location.shown, base.path)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a glob, part by part, in which ** stands for any number of parts."""
    if not parts or not pattern:
        return not parts and not pattern
    if pattern[0] == "**" and _matches(parts, pattern[1:]):
        return True
    is_hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    rest = pattern if pattern[0] == "**" else pattern[1:]
    return not is_hidden and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], rest)


def _select(location: Location, *, base: str | None = None) -> list[InputFile]:
    """The file at a location, or the Parquet files below the folder there; relative to base, if given."""
    info = location.info()
    if info.type == pafs.FileType.NotFound:
        raise KnnvoteError(f"{location} does not exist: give the path of a Parquet file, a folder or a glob")
    if info.type != pafs.FileType.Directory:
        relative = relative_path(location.path, base) if base is not None else PurePosixPath(location.path).name
        return [_input(location, relative, info)]
    entries = location.below()
    refuse_table(location, entries)
    made_by_knnvote = _folders_of_knnvote([PurePosixPath(name) for name in entries])
    root = str(Path(location.path).resolve()) if location.is_local else location.path
    visible = {
        name: entry
        for name, entry in entries.items()
        if entry.type != pafs.FileType.Directory  # a link to nothing fails when its turn comes
        and not any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
        and made_by_knnvote.isdisjoint(PurePosixPath(name).parents)
    }
    taken = [name for name in visible if name.endswith(tuple(CONTAINERS))]
    refuse_revisions(location, taken)
    _tell_left_out(location, taken, visible)
    _tell_unfinished(location, entries)
    return [
        _input(
            location / name,
            name if base is None else relative_path((location / name).path, base),
            entries[name],
            root,
            location.shown,
        )
        for name in taken
    ]


def _tell_left_out(folder: Location, taken: Sequence[str], visible: Mapping[str, Any]) -> None:
    """Tell of files that may be meant too, but have another ending; a link to one that is taken is known by it."""
    real = {_real(folder / name) for name in taken}
    left_out = [
        name
        for name in visible
        if name not in taken and _may_be_parquet(folder / name) and _real(folder / name) not in real
    ]
    if left_out:
        warnings.warn(
            f"{folder}: {len(left_out):,} file(s) that may be Parquet are left out, as they do not end in .parquet: "
            f"{left_out[0]}{', ...' if left_out[1:] else ''}; rename them, or give each by its name",
            stacklevel=2,
        )


def _tell_unfinished(folder: Location, entries: Iterable[str]) -> None:
    """Tell of the folder in which Spark, and all that writes as Hadoop does, keeps files till a job has ended."""
    unfinished = next((name for name in entries if _UNFINISHED in PurePosixPath(name).parts), None)
    if unfinished is not None:
        shown = folder / unfinished[: unfinished.index(_UNFINISHED) + len(_UNFINISHED)]
        warnings.warn(
            f"{shown} tells of a job that is still writing or broke off, so rows may be missing: wait for its end, or "
            "write the files again",
            stacklevel=2,
        )


def _real(location: Location) -> str:
    return str(Path(location.path).resolve()) if location.is_local else location.path


def _may_be_parquet(location: Location) -> bool:
    """Whether a file's name says so or, on this machine, its first bytes."""
    name = PurePosixPath(location.path).name.lower()
    if _LIKE_PARQUET.search(name):
        return True
    if not location.is_local:
        return False
    try:
        with location.open() as stream:
            return bool(stream.read(len(_MAGIC)) == _MAGIC)
    except KnnvoteError:
        return False


def refuse_splits(inputs: Sequence[InputFile]) -> None:
    """Refuse files of several splits that one folder or glob gave: an index of all leaves none to test it on.

    Raises:
        KnnvoteError: naming the splits, and how to give one or all.
    """
    by_argument: dict[str, list[InputFile]] = defaultdict(list)
    for source in inputs:
        if source.found_by is not None:
            by_argument[source.found_by].append(source)
    for argument, files in by_argument.items():
        splits = splits_of(source.relative for source in files)
        if len(splits) > 1:
            base = files[0].shown.removesuffix(files[0].relative)
            globs = {split: " ".join(shlex.quote(base + glob) for glob in found) for split, found in splits.items()}
            raise KnnvoteError(
                f"{argument} holds several splits, {' and '.join(splits)}, and test images that are stored would vote "
                f"for themselves: give {globs.get('train') or min(globs.values())}, or each by itself to store all: "
                f"{' '.join(globs.values())}"
            )


def distinctly_named(inputs: Sequence[InputFile], taken: Set[str]) -> list[InputFile]:
    """Inputs whose relative paths tell them apart, and from others; where they do not, the path as given stands.

    No others are given where ids are file#row: a file of a stored one's name stays so, and ids tell if it was added.
    """
    times = Counter([*(source.relative for source in inputs), *taken])
    return [source if times[source.relative] == 1 else replace(source, relative=source.shown) for source in inputs]


@contextmanager
def folders_told(source: InputFile, inputs: Sequence[InputFile]) -> Iterator[None]:
    """Where a label column is not found, tell what makes one of the names of folders, if these may be labels."""
    try:
        yield
    except ImageFileError as error:
        base = source.shown.removesuffix(source.relative)
        beside = [other.relative for other in inputs if other.shown == base + other.relative]
        told = partitions_told(base.rstrip("/") or ".", beside)
        if told is None or source.found_by is None:
            raise
        raise ImageFileError(f"{error.marked}; {told}") from error


def _input(
    location: Location, relative: str, info: Any, root: str | None = None, found_by: str | None = None
) -> InputFile:
    return InputFile(location.filesystem, location.path, location.shown, relative, info.size or 0, root, found_by)


def _folders_of_knnvote(paths: list[PurePosixPath]) -> set[PurePosixPath]:
    """Index folders, which hold a manifest and labels, and outputs of jobs."""
    with_labels = {path.parent for path in paths if _LABELS.fullmatch(path.name)}
    indexes = {path.parent for path in paths if path.name == "manifest.json"} & with_labels
    at_work = {path.parents[1] for path in paths if path.parts[-2:] == ("_knnvote", "job.json")}
    return indexes | at_work | {path.parent for path in paths if path.name == ".knnvote.parquet"}
