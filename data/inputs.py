"""Inputs found on any file system: files, folders of them, and folders of images."""

import itertools
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs as pafs

from .containers.arrays import ArrayRows, array_lengths
from .containers.arrow import ArrowRows
from .containers.foreign import what_it_is
from .containers.images import ImageRows, is_image_name
from .containers.tar import TarRows
from .convert.saved import SAVED_ENDINGS
from .errors import ImageFileError, KnnvoteError, param, warn
from .folders.classes import class_columns, partition_label
from .folders.endings import has_rows, holds_labels_of, is_arrow, labelled_stem, parquet_name, stem
from .folders.globs import is_glob, matches
from .folders.kinds import inputs_of_folder
from .folders.left_out import folders_of_knnvote, tell_like_parquet, tell_unfinished
from .folders.named import classes_told, labels_told, renamed, tables_told, tell_split_classes
from .folders.partitions import partitions_told
from .folders.splits import splits_of
from .folders.tables import refuse_revisions, refuse_table
from .input_file import CONTAINERS, InputFile
from .locations import Location, describe_os_error, expand_home, is_uri, locate, path_text, relative_path

_FEW = 20  # image files by themselves, as which a shell gives those of a folder
_PARQUET, _TAR = ".parquet", ".tar"
_LATER = frozenset({ImageRows, TarRows, ArrowRows, ArrayRows})  # what a folder gives only where it holds no tables


Inputs = str | Path | InputFile | Sequence[str | Path | InputFile]


def count_rows(sources: Iterable[InputFile]) -> int:
    """Rows of several files, as these say."""
    return sum(source.count_rows() for source in sources)


def find_inputs(arguments: Inputs) -> list[InputFile]:
    """Expand files, folders, globs and URIs into inputs, in the order given and then by name.

    A folder gives every ``*.parquet`` file below it, but names that begin with ``.`` or ``_``, as Spark and Arrow have
    it, and what knnvote made (index folders, outputs of jobs). Where there is none, each folder below it that holds
    image files is one input. The same file named twice is taken once, and one that was found before stands as it is.

    Raises:
        KnnvoteError: a path does not exist, a folder or glob holds neither Parquet files nor images.
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
    _refuse_parts(found)
    return _beside_arrays(found)


def _beside_arrays(inputs: Sequence[InputFile]) -> list[InputFile]:
    """The same, each file of arrays that holds labels alone put beside the one of images that they are of.

    That is the one of its stem in the same folder, as ``a.npy`` of ``a-labels.npy``; of files given by name, else one
    next to it that holds as many images.

    Raises:
        KnnvoteError: two are of one file.
    """
    lengths = [array_lengths(source) for source in inputs]
    images = {place: n for place, (n, labels) in enumerate(lengths) if n is not None and labels is None}
    stems = {stem(inputs[place].place): place for place in images}
    beside: dict[int, int] = {}
    for place, (n, labels) in enumerate(lengths):
        if n is not None or labels is None:
            continue
        named = stems.get(labelled_stem(inputs[place].place) or "")
        if named is not None and named in beside:
            both = f"{inputs[beside[named]]} and {inputs[place]}"
            raise KnnvoteError(f"{both} may both hold the labels of {inputs[named]}: leave one out")
        free = [at for at in (place - 1, place + 1) if images.get(at) == labels and at not in beside]
        if named is not None or (free and not _is_of_folder(inputs[place])):
            beside[free[0] if named is None else named] = place
    found = []
    for place, source in enumerate(inputs):
        if place in beside:
            labels_file = inputs[beside[place]]
            found.append(replace(source, beside=labels_file, size=source.size + labels_file.size))
        elif place not in beside.values():
            found.append(source)
    return found


def _is_of_folder(source: InputFile) -> bool:
    """Whether a file was found in a folder that was named."""
    return source.root is not None


def _refuse_parts(inputs: Sequence[InputFile]) -> None:
    """Refuse images that are in two inputs, those of a folder and some of it; tell where many are given one by one.

    Raises:
        KnnvoteError: naming both.
    """
    folders: dict[str, InputFile] = {}
    for source in inputs:
        if source.is_image_folder:
            other = folders.setdefault(replace(source, only=None).place, source)
            if other is not source:
                raise KnnvoteError(f"{source} is given by {other.found_by} and by {source.found_by}: give it once")
    alone = [source for source in inputs if not source.is_image_folder and is_image_name(source.path)]
    for source in alone:
        name = PurePosixPath(source.path).name
        other = folders.get(source.above.place, source)
        if other is not source and fnmatchcase(name, other.only or "*"):
            raise KnnvoteError(f"{source} is given by itself and by {other.found_by}: give it once")
    if len(alone) > _FEW:
        above = alone[0].above
        of_ending = shlex.quote(str(above / f"*{PurePosixPath(alone[0].path).suffix}"))
        warn(
            f"{len(alone):,} image files are given one by one, and each is an input of its own, of which classify "
            f"writes an output of one row: to have one of all in a folder give {above}, or {of_ending} in quotes"
        )


def _expand(named: str | Path | InputFile) -> list[InputFile]:
    if isinstance(named, InputFile):
        return [named]
    argument = expand_home(path_text(named))
    if is_uri(argument):
        return _with_classes(_expand_uri(argument))
    if not _exists(argument) and is_glob(argument):
        return _with_classes(_expand_glob(argument))
    return _with_classes(_expand_path(locate(argument)))


def _with_classes(found: list[InputFile]) -> list[InputFile]:
    """The inputs of one argument, with the labels that names of folders tell."""
    told = class_columns({source.inner for source in found if source.is_image_folder})
    told |= partition_label([source.inner for source in found if not source.is_image_folder])
    return [replace(source, told=told.get(source.inner, ())) for source in found]


def _expand_path(location: Location) -> list[InputFile]:
    files = _select(location)
    if not files:
        unread = next((name for name in location.below() if name.lower().endswith(SAVED_ENDINGS)), None)
        told = "" if unread is None else f"; {location / unread} is not read: {what_it_is(location / unread)}"
        raise KnnvoteError(
            f"{location} is a folder without any *.parquet file but what knnvote made, and without images: "
            f"give one that holds some{told}"
        )
    return files


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError as error:  # a name too long, for one
        raise KnnvoteError(f"cannot read {path}: {describe_os_error(error)}") from error


def _expand_glob(pattern: str) -> list[InputFile]:
    first = next(i for i, part in enumerate(Path(pattern).parts) if is_glob(part))
    base = str(Path(*Path(pattern).parts[:first]))
    # As in a shell, and unlike pathlib's, a star does not stand for a leading dot.
    found = sorted(glob(pattern, recursive=True))  # noqa: PTH207
    return _select_all([locate(match) for match in found], pattern, base)


def _select_all(found: Sequence[Location], pattern: str, base: str) -> list[InputFile]:
    """What matches a glob: files, and those of folders; images by the folder that holds them."""
    folders = {str(PurePosixPath(match.path).parent): match for match in found}
    for match in folders.values():
        refuse_table(match, ())
    only, inputs = PurePosixPath(pattern).name, list[InputFile]()
    holding: set[str] = set()
    for match in found:
        above = match.above
        if not is_image_name(PurePosixPath(match.path).name) or match.is_folder:
            inputs += _select(match, base=base)
        elif above.path not in holding:
            holding.add(above.path)
            inputs.append(replace(_image_folder(above, base), only=only))
    if not inputs:
        raise KnnvoteError(f"no file matches {pattern}: give the path of a file, a folder or a glob")
    return [replace(file, found_by=pattern) for file in inputs]


def _expand_uri(uri: str) -> list[InputFile]:
    """A URI, whose query has no wildcards, and its path none but * and [...]: ? begins a query."""
    path, mark, query = uri.partition("?")
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if is_glob(part)), None)
    location = locate(uri.replace("[", "%5B").replace("]", "%5D"))
    if first is None or location.info().type != pafs.FileType.NotFound:
        return _expand_path(location)
    base = locate("/".join(parts[:first]) + mark + query)
    found = [base / name for name in base.below() if matches(name.split("/"), parts[first:])]
    return _select_all(found, location.shown, base.path)


def _select(location: Location, *, base: str | None = None) -> list[InputFile]:
    """The file at a location, or what the folder there holds; relative to base, if given."""
    info = location.info()
    if info.type == pafs.FileType.NotFound:
        raise KnnvoteError(f"{location} does not exist: give the path of a file, a folder or a glob")
    if info.type != pafs.FileType.Directory:
        return [_input(location, _relative(location, base), info)]
    entries = location.below()
    is_image = {name: is_image_name(name) for name in entries}  # of which there may be many
    others = [name for name in entries if not is_image[name]]
    refuse_table(location, others)
    made_by_knnvote = folders_of_knnvote([*map(PurePosixPath, others)])
    of_knnvote = tuple("" if str(folder) == "." else f"{folder}/" for folder in made_by_knnvote)
    files = [
        name
        for name, entry in entries.items()
        if entry.type != pafs.FileType.Directory  # a link to nothing fails when its turn comes
        and "/." not in f"/{name}"
        and not name.startswith(of_knnvote)
    ]
    visible = [name for name in files if "/_" not in f"/{name}" and not is_image[name]]
    tables = tuple(ending for ending, kind in CONTAINERS.items() if kind not in _LATER)
    names = inputs_of_folder(location, visible, [name for name in files if is_image[name]], tables)
    refuse_revisions(location, names)
    unlike = [name for name in visible if not (has_rows(name) or name.endswith((*tables, _TAR)))]
    tell_like_parquet(location, names, unlike)
    tell_unfinished(location, others)
    root = _root(location)
    if names and is_image[names[0]]:
        return _image_folders(location, base, {name: entries[name].size or 0 for name in names}, root)
    return [
        _input(location / name, _relative(location / name, base, location), entries[name], root, location.shown)
        for name in names
    ]


def _root(folder: Location) -> str:
    return str(Path(folder.path).resolve()) if folder.is_local else folder.path


def _image_folders(named: Location, base: str | None, sizes: Mapping[str, int], root: str) -> list[InputFile]:
    """The folder that was named and those below it, as far as they hold images of these sizes, by their paths."""
    bytes_of: Counter[str] = Counter()
    for name, size in sizes.items():
        bytes_of[name.rpartition("/")[0]] += size
    return [
        replace(
            _image_folder(named / folder if folder else named, named.path if base is None else base),
            size=size,
            root=root,
            found_by=named.shown,
        )
        for folder, size in sorted(bytes_of.items())
    ]


def _image_folder(folder: Location, base: str) -> InputFile:
    """A folder of images, which is relative to a base or is that itself."""
    inner = relative_path(folder.path, base) if folder.path != base else ""
    name = inner or Path(folder.path).resolve().name or "images"
    return InputFile(
        folder.filesystem,
        folder.path,
        folder.shown,
        f"{name}{_PARQUET}",
        0,
        _root(folder),
        inner=inner,
        container=ImageRows,
    )


def _relative(location: Location, base: str | None, named: Location | None = None) -> str:
    """The path of a file relative to the base of a glob, else to the folder that was named, else its name."""
    if base is not None:
        return relative_path(location.path, base)
    return PurePosixPath(location.path).name if named is None else relative_path(location.path, named.path)


def refuse_splits(inputs: Sequence[InputFile]) -> None:
    """Refuse files of several splits that one folder or glob gave: an index of all leaves none to test it on.

    Folders that are called as splits, and are classes beside others, are told.

    Raises:
        KnnvoteError: naming the splits, and how to give one or all.
    """
    by_argument: dict[str, list[InputFile]] = defaultdict(list)
    for source in inputs:
        if source.found_by is not None:
            by_argument[source.found_by].append(source)
    for argument, files in by_argument.items():
        folders = [source for source in files if source.is_image_folder]
        tell_split_classes(argument, [folder for folder in folders if folder.told])
        splits = splits_of(source.without_classes for source in files)
        if len(splits) > 1:
            base, other = files[0].base, renamed(folders)
            globs = {split: " ".join(shlex.quote(base + glob) for glob in found) for split, found in splits.items()}
            raise KnnvoteError(
                f"{argument} holds several splits, {' and '.join(splits)}, and test images that are stored would vote "
                f"for themselves: give {globs.get('train') or min(globs.values())}, or each by itself to store all: "
                f"{' '.join(globs.values())}{other and f'; {other}'}"
            )


def distinctly_named(inputs: Sequence[InputFile], taken: Set[str], *, has_ids: bool) -> list[InputFile]:
    """Inputs whose relative paths tell them apart, and from others; where they do not, the path as given stands.

    Others count only where ids are not file#row: a file of a stored one's name stays so, and ids tell if it was added.
    So do the paths of images, and of tar files, in ids, but where two inputs would give the same.

    Args:
        inputs: all that are read at once.
        taken: the paths of others.
        has_ids: a column of ids was named.
    """
    times = Counter(source.relative for source in inputs)
    inner = Counter(source.inner for source in inputs if source.names_rows)
    named = []
    for source in inputs:
        is_other = source.relative in taken and (has_ids or source.is_image_folder)
        if times[source.relative] > 1 or is_other:
            source = replace(source, relative=source.shown)  # noqa: PLW2901
        named.append(replace(source, inner=source.shown) if inner[source.inner] > 1 else source)
    return named


@contextmanager
def folders_told(source: InputFile, inputs: Sequence[InputFile]) -> Iterator[None]:
    """Where a label column is not found, tell what makes one of the names of folders, if these may be labels."""
    try:
        yield
    except ImageFileError as error:
        if source.is_image_folder and not source.told:
            raise ImageFileError(
                f"{error.marked}; {classes_told(source, source.found_by)}{tables_told(source)}"
            ) from error
        if source.is_numbered:
            folder = source.found_by if source.root is not None else None
            raise ImageFileError(f"{error.marked}{labels_told(source, folder)}") from error
        beside = [other.inner for other in inputs if other.shown == source.base + other.inner]
        keys = partitions_told(source.base.rstrip("/") or ".", beside)
        if keys is None or source.found_by is None or source.is_image_folder or is_arrow(source.path):
            raise
        raise ImageFileError(f"{error.marked}; {keys}") from error


@contextmanager
def labels_among_told(source: InputFile, inputs: Sequence[InputFile]) -> Iterator[None]:
    """Where a file is none of images, tell that by its name it holds the labels of another that is given."""
    try:
        yield
    except ImageFileError as error:
        name, others = PurePosixPath(source.path).name, [other for other in inputs if other is not source]
        images = next((other for other in others if holds_labels_of(name, PurePosixPath(other.path).name)), None)
        if images is None or source.labels is not None:
            raise
        taken = f"{param('labels')} {shlex.quote(source.shown)}"
        raise ImageFileError(f"{source} may hold the labels of {images}: give it as {taken}, not as images") from error


def _input(
    location: Location, inner: str, info: Any, root: str | None = None, found_by: str | None = None
) -> InputFile:
    relative = inner
    if is_image_name(PurePosixPath(inner).name):
        relative = f"{inner}{_PARQUET}"
    elif inner.endswith(_TAR):
        relative = inner.removesuffix(_TAR) + _PARQUET
    elif has_rows(inner):
        relative = parquet_name(inner)
    return InputFile(
        location.filesystem, location.path, location.shown, relative, info.size or 0, root, found_by, inner=inner
    )
