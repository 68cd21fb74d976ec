"""Arrays of images and labels in IDX, NPY and NPZ files."""

import gzip
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.tables import image_table
from knnvote.data.text import python_command

from .saved import saved_arrays
from .source import Stream, Tell, open_source, read_at_most, reading

IDX_MAGIC = b"\0\0"
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK"
_HEAD = 64
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array of a file, known by its header alone until it is read.

    Attributes:
        name: as keys name it: an NPZ file's own, else the path.
        path: of the file.
        shape: as the header has it.
        dtype: likewise.
        load: reads it.
        start: bytes before its numbers, in its file or member, unpacked.
        is_fortran: its first axis is the one along which neighbours in the file lie.
        is_packed: it does not lie in its file as it is, but in an archive or gzipped.
        member: of the archive, that it is.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]
    start: int = 0
    is_fortran: bool = False
    is_packed: bool = False
    member: str | None = None

    @property
    def end(self) -> int:
        """Bytes of its file or member, unpacked."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize

    def check_end(self, found: int) -> None:
        """Refuse a file or member, unpacked, of another length.

        Raises:
            KnnvoteError: it is.
        """
        if found < self.end:
            raise _wrong_size(self.path, str(found), f"{self.end} for shape {self.shape} of {self.dtype.name}")
        if found > self.end:
            raise KnnvoteError(
                f"{self.path} holds more than the {self.end} bytes of its array {self.shape} of {self.dtype.name}, as "
                "where several arrays are saved one behind the other: save one alone"
            )

    @contextmanager
    def unpacked(self) -> Iterator[Any]:
        """The bytes of its file or member, unpacked."""
        with reading(self.path), open_source(self.path) as stream:
            if self.member is None:
                yield stream
                return
            with zipfile.ZipFile(stream) as archive, archive.open(self.member) as content:
                yield content

    @property
    def rank(self) -> int:
        """Of its shape, where (n, 1) counts as (n,): one number for each image is rather its label."""
        return 1 if self.shape[1:] == (1,) else len(self.shape)


def read_headers(path: Path) -> list[StoredArray]:
    """The arrays of an IDX, NPY or NPZ file.

    Raises:
        KnnvoteError: it is damaged.
    """
    with reading(path), open_source(path) as stream:
        magic = stream.read(_HEAD)
        stream.seek(0)
        packed = isinstance(stream, gzip.GzipFile)
        if magic.startswith(IDX_MAGIC):
            shape, dtype = _idx_header(stream, path)
            return [
                StoredArray(
                    name=str(path),
                    path=path,
                    shape=shape,
                    dtype=dtype,
                    load=partial(_load_idx, path),
                    start=stream.tell(),
                    is_packed=packed,
                )
            ]
        if magic.startswith(NPY_MAGIC):
            return [_npy(stream, path, str(path), partial(_load_npy, path), is_packed=packed)]
        if (told := saved_arrays(str(path), magic)) is not None:
            raise KnnvoteError(f"cannot read {path}: {told}")
        return list(_npz_headers(stream, path))


def _npz_headers(stream: Stream, path: Path) -> Iterator[StoredArray]:
    with np.load(stream, allow_pickle=False) as archive:
        if not any(member.endswith(".npy") for member in archive.zip.namelist()):
            held = ", ".join(archive.zip.namelist()[:3]) or "nothing"
            raise KnnvoteError(f"{path} is a zip file of {held}, and not NPZ: unzip it, and convert what it holds")
        for name in archive.files:
            member = name if name in archive.zip.namelist() else f"{name}.npy"
            with archive.zip.open(member) as content:
                if content.read(len(NPY_MAGIC)) != NPY_MAGIC:
                    continue
            with archive.zip.open(member) as content:
                yield _npy(content, path, name, partial(_load_npz, path, name), is_packed=True, member=member)


def _npy(
    stream: Any, path: Path, name: str, load: Callable[[], NDArray[Any]], *, is_packed: bool, member: str | None = None
) -> StoredArray:
    """An array by NumPy's header."""
    version = np.lib.format.read_magic(stream)
    # What came later than version 2 differs from it in how names of fields are written, which plain numbers have not.
    header = _NPY_HEADERS.get(version, np.lib.format.read_array_header_2_0)(stream)
    shape, is_fortran, dtype = header
    if any(size < 0 for size in shape):
        raise ValueError(f"its header has the shape {shape}")
    return StoredArray(
        name=name,
        path=path,
        shape=shape,
        dtype=dtype,
        load=load,
        start=stream.tell(),
        is_fortran=is_fortran,
        is_packed=is_packed,
        member=member,
    )


def _load_npz(path: Path, name: str) -> NDArray[Any]:
    with reading(path), open_source(path) as stream, np.load(stream, allow_pickle=False) as archive:
        return np.asarray(archive[name])


def _load_npy(path: Path) -> NDArray[Any]:
    with reading(path), open_source(path) as stream:
        found = np.asarray(np.load(stream, allow_pickle=False))
        if stream.read(1):
            raise ValueError("it holds more than one array")
        return found


def _load_idx(path: Path) -> NDArray[Any]:
    with reading(path), open_source(path) as stream:
        shape, dtype = _idx_header(stream, path)
        start, size = stream.tell(), math.prod(shape) * dtype.itemsize
        content = read_at_most(stream, size + 1)
        if len(content) != size:
            more = "more than " if len(content) > size else ""
            found = f"{more}{start + min(len(content), size)}"
            raise _wrong_size(path, found, f"{start + size} for shape {shape} of {dtype.name}")
        return np.frombuffer(content, dtype).reshape(shape)


def _idx_header(stream: Stream, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type by an IDX file's header: two zero bytes, type, rank, then sizes, high byte first."""
    magic = stream.read(4)
    code, rank = magic[2:4] if len(magic) == 4 else (0, 0)
    if code not in _IDX_TYPES or rank == 0:
        raise KnnvoteError(
            f"{path} begins with {magic!r}: expected an IDX file's 0, 0, its type "
            f"({', '.join(map(hex, _IDX_TYPES))}) and a rank of 1 or more; get or export it again"
        )
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        expected = f"at least {4 + 4 * rank} for the header of an IDX file of rank {rank}"
        raise _wrong_size(path, str(4 + len(sizes)), expected)
    return struct.unpack(f">{rank}I", sizes), np.dtype(_IDX_TYPES[code])


def _wrong_size(path: Path, found: str, expected: str) -> KnnvoteError:
    return KnnvoteError(f"{path} holds {found} bytes (unpacked), expected {expected}: get or export it again")


def choose_table(
    arrays: Sequence[StoredArray],
    sources: Sequence[Path],
    images_key: str | None,
    labels_key: str | None,
    tell: Tell,
) -> pa.Table:
    """A table of the images and labels that `choose` finds.

    Raises:
        OptionError: a key names none.
        KnnvoteError: none or several could be meant, or they do not fit together.
    """
    images, chosen = choose(arrays, sources, images_key, labels_key, tell)
    pixels = images.load()
    labels = None if chosen is None else load_labels(chosen)
    try:
        return image_table(pixels, labels)
    except KnnvoteError as error:
        raise KnnvoteError(f"{_listed(sources)}: {error.marked}") from error


def choose(
    arrays: Sequence[StoredArray],
    sources: Sequence[Path],
    images_key: str | None,
    labels_key: str | None,
    tell: Tell,
) -> tuple[StoredArray, StoredArray | None]:
    """The images, and labels if there are any, that keys name or that alone could be meant; what is left out is told.

    Raises:
        OptionError: a key names none.
        KnnvoteError: none or several could be meant, or are no plain numbers.
    """
    where = _listed(sources)
    images = _choose(arrays, images_key, "images", _with_pixels(arrays), where)
    for array in arrays if images is None else [images]:
        refuse_objects(array)
    if images is None:
        raise KnnvoteError(
            f"{where}: no images among {_listing(arrays)}: "
            "expected an array of rank 2 or more, such as (n, d) or (n, height, width)"
        )
    # A file of its own is there to be used, so its length is checked; an archive may hold other things.
    candidates = [
        array
        for array in arrays
        if array.rank == 1
        and array is not images
        and (array.path != images.path or (array.dtype.kind in "biuUSO" and array.shape[:1] == images.shape[:1]))
    ]
    chosen = _choose(arrays, labels_key, "labels", candidates, where)
    left = [array for array in arrays if array not in {images, chosen}]
    if left and not (images_key and labels_key):
        tell(f"left out {_listing(left)}; {param('images_key')} and {param('labels_key')} name what is taken")
    return images, chosen


def load_labels(chosen: StoredArray) -> NDArray[Any]:
    """(n,) labels.

    Raises:
        KnnvoteError: they are damaged, or no plain values.
    """
    refuse_objects(chosen)
    labels = chosen.load()
    return labels.reshape(-1) if labels.shape[1:] == (1,) else labels


def refuse_objects(array: StoredArray) -> None:
    """Refuse an array of Python objects, or of records, with Python that makes plain ones of it.

    Raises:
        KnnvoteError: it is such.
    """
    if array.dtype.hasobject:
        raise KnnvoteError(
            f"{_held(array)} are Python objects that are pickled, which are not read, for to unpickle runs whatever "
            f"they say: if you trust the file, {_plain_arrays(array)}"
        )
    if array.dtype.names:
        made = f"{_without_ending(array.path)}.new.parquet"
        code = (
            f"import numpy as np, pyarrow as pa, pyarrow.parquet as pq; a = {_loaded(array)}.reshape(-1); "
            f"pq.write_table(pa.table({{k: a[k].tolist() for k in a.dtype.names}}), {made!r})"
        )
        raise KnnvoteError(
            f"{_held(array)} are records with fields {', '.join(array.dtype.names)}: {python_command(code)} "
            f"makes {made} of it, with a column a field"
        )


def _plain_arrays(array: StoredArray) -> str:
    """The command that makes plain arrays of those of objects, of a dictionary of arrays too."""
    loaded = _loaded(array, ", allow_pickle=True")
    if array.member is None and array.shape:
        made = f"{_without_ending(array.path)}.new.npy"
        code = f"np.save({made!r}, np.array({loaded}.tolist()))"
    else:
        made = f"{_without_ending(array.path)}.new.npz"
        code = (
            f"d = {loaded}{'' if array.member else '.item()'}; a = {{str(k): np.asarray(d[k]) for k in d}}; "
            f"np.savez({made!r}, **{{k: np.array(v.tolist()) if v.dtype == object else v for k, v in a.items()}})"
        )
    return f"{python_command(f'import numpy as np; {code}')} makes {made} of it"


def _held(array: StoredArray) -> str:
    return str(array.path) if array.member is None else f"{array.path}: the values of array {array.name}"


def _loaded(array: StoredArray, options: str = "") -> str:
    """Python that loads a file."""
    path = str(array.path)
    opened = f"__import__('gzip').open({path!r})" if path.lower().endswith(".gz") else repr(path)
    return f"np.load({opened}{options}){f'[{array.name!r}]' if array.member and not options else ''}"


def _without_ending(path: Path) -> str:
    return re.sub(r"(\.(npy|npz))?(\.gz)?$", "", str(path), flags=re.IGNORECASE)


def _with_pixels(arrays: Sequence[StoredArray]) -> list[StoredArray]:
    """The arrays that could be images; of one number each only where no others are."""
    return [array for array in arrays if array.rank >= 2] or [array for array in arrays if len(array.shape) >= 2]


def _choose(
    arrays: Sequence[StoredArray], key: str | None, role: str, candidates: Sequence[StoredArray], where: str
) -> StoredArray | None:
    """The array that a key names, else the only candidate, if there is one."""
    named = [array for array in arrays if array.name == key]
    if key is not None and not named:
        raise OptionError(
            f"{where}: no array {key} for {param(f'{role}_key')} among {_listing(arrays)}: give one of these"
        )
    # Arrays of several files may have one name, and the rank tells images from labels.
    found = named if len(named) == 1 else [array for array in candidates if key is None or array in named]
    if len(found) > 1:
        raise KnnvoteError(
            f"{where}: several arrays could be the {role}, of {_listing(arrays)}: "
            f"name the right ones with {param('images_key')} and {param('labels_key')}, "
            "or give one file of images and one of labels"
        )
    return next(iter(found), None)


def _listed(sources: Sequence[Path]) -> str:
    return ", ".join(map(str, sources))


def _listing(arrays: Sequence[StoredArray]) -> str:
    return ", ".join(f"{array.name} {array.shape} {array.dtype}" for array in arrays) or "no arrays at all"
