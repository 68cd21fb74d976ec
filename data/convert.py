"""Images in IDX, NPZ, NPY and CSV files, any of them gzipped, to Parquet."""

import gzip
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from .errors import KnnvoteError, OptionError, param
from .files import atomic_write
from .locations import describe_os_error
from .tables import image_table, write_table
from .text import describe_error

_FORMATS = "an IDX, NPZ, NPY or CSV file"
_GZIP_MAGIC = b"\x1f\x8b"
_IDX_MAGIC = b"\0\0"
_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK"
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# A block becomes a row group: large enough that 784 columns are worth one, small enough for any machine.
_CSV_BLOCK = 16 << 20
# What gzip, zipfile, NumPy (which parses a header as Python) and Arrow raise for damaged files; RuntimeError
# is an encrypted archive, MemoryError a header that promises more than the machine holds.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
    SyntaxError,
    tokenize.TokenError,
    RuntimeError,
    MemoryError,
)


def convert(
    sources: Sequence[Path],
    destination: Path,
    *,
    images_key: str | None = None,
    labels_key: str | None = None,
    overwrite: bool = False,
) -> int:
    """Convert images, and their labels if there are any, to one Parquet file.

    The format is told by content, and so is gzip. From IDX, NPZ and NPY the array of rank 2 or more,
    (n, *shape) of numbers, becomes the column ``image`` and the array (n,) the column ``label``; they may
    stand in two files, given in either order. From CSV the columns are kept as they are; where the first line
    is a row of numbers they are named ``label``, ``pixel0``, ``pixel1``...

    Args:
        sources: one file, or one of images and one of labels.
        destination: the .parquet file to make.
        images_key: the array that holds the images, where an NPZ file has several that could.
        labels_key: likewise the labels; (n, 1) is taken as (n,).
        overwrite: replace a destination that is there.

    Returns:
        The number of rows written.

    Raises:
        OptionError: no source, a key that is not there, a destination that is a folder or a source.
        KnnvoteError: a file that is damaged, ambiguous or of another format, or a destination that is there; it stays.
    """
    _check_paths(sources, destination)
    if destination.exists() and not overwrite:
        raise KnnvoteError(f"{destination} exists: pass {param('overwrite=True')} to replace it, or name another file")
    arrays: dict[str, NDArray[Any]] = {}
    for source in sources:
        found = _read_arrays(source, {images_key, labels_key})
        if found is None:
            if len(sources) > 1 or images_key or labels_key:
                raise OptionError(
                    f"{source} is taken as CSV, not as IDX, NPZ or NPY: convert it on its own, "
                    f"without {param('images_key')} and {param('labels_key')}"
                )
            return _convert_csv(source, destination)
        if repeated := arrays.keys() & found.keys():
            raise KnnvoteError(f"{source}: an earlier file holds an array {min(repeated)} too: convert each on its own")
        arrays |= found
    table = _choose_table(arrays, sources, images_key, labels_key)
    write_table(table, destination)
    return int(table.num_rows)


def _check_paths(sources: Sequence[Path], destination: Path) -> None:
    if not sources:
        raise OptionError(f"nothing to convert: give {_FORMATS} before {destination}")
    if destination.is_dir() or destination.suffix != ".parquet":
        found = "a folder" if destination.is_dir() else "not a .parquet file"
        raise OptionError(f"{destination} is {found}: name a .parquet file to write, such as images.parquet")
    if destination.resolve() in {source.resolve() for source in sources}:
        raise OptionError(f"{destination} is both a source and the destination: name another file to write")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell what is wrong with the file at path in one line."""
    try:
        yield
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise KnnvoteError(
                f"cannot read {path}: {describe_os_error(error)}; give the path of {_FORMATS}"
            ) from error
        reason = describe_error(error)[:200]
        advice = (
            "save its arrays as plain numbers and strings, without Python objects"
            if "pickle" in reason
            else f"expected {_FORMATS}: if it is one it is damaged, so get or export it again"
        )
        raise KnnvoteError(f"cannot read {path}: {reason}; {advice}") from error


_Stream = IO[bytes] | gzip.GzipFile


@contextmanager
def _open(path: Path) -> Iterator[_Stream]:
    """The content of a file, unpacked if it is gzipped."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.open(raw) as unpacked:
            yield unpacked


def _read_arrays(path: Path, keys: set[str | None]) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file by name, or None for what must be CSV."""
    with _reading(path), _open(path) as stream:
        head = stream.read(512)
        stream.seek(0)
        if head.startswith(_IDX_MAGIC):
            return {str(path): _parse_idx(stream.read(), path)}
        if head.startswith(_NPY_MAGIC):
            return {str(path): np.load(stream, allow_pickle=False)}
        if head.startswith(_ZIP_MAGIC):
            return _load_npz(stream, keys)
    if b"\0" in head:
        raise KnnvoteError(f"{path} begins with {head[:4]!r}: expected {_FORMATS}")
    return None


def _load_npz(stream: _Stream, keys: set[str | None]) -> dict[str, NDArray[Any]]:
    """The arrays that the keys name, where both are given and there; else all, to choose from."""
    with np.load(stream, allow_pickle=False) as archive:
        wanted = keys if keys <= set(archive.files) else set(archive.files)
        members = {name: archive[name] for name in archive.files if name in wanted}
    return {name: member for name, member in members.items() if isinstance(member, np.ndarray)}


def _parse_idx(content: bytes, path: Path) -> NDArray[Any]:
    """The array of an IDX file: two zero bytes, type, rank, then sizes and values, high byte first."""
    code, rank = content[2:4] if len(content) >= 4 else (0, 0)
    if code not in _IDX_TYPES or rank == 0:
        raise KnnvoteError(
            f"{path} begins with {content[:4]!r}: expected an IDX file's 0, 0, its type "
            f"({', '.join(map(hex, _IDX_TYPES))}) and a rank of 1 or more; get or export it again"
        )
    dtype = np.dtype(_IDX_TYPES[code])
    start = 4 + 4 * rank
    if len(content) < start:
        raise _wrong_size(path, len(content), f"at least {start} for the header of an IDX file of rank {rank}")
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise _wrong_size(path, len(content), f"{expected} for shape {shape} of {dtype.name}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _wrong_size(path: Path, found: int, expected: str) -> KnnvoteError:
    return KnnvoteError(f"{path} holds {found} bytes (unpacked), expected {expected}: get or export it again")


def _choose_table(
    arrays: Mapping[str, NDArray[Any]],
    sources: Sequence[Path],
    images_key: str | None,
    labels_key: str | None,
) -> pa.Table:
    where = ", ".join(map(str, sources))
    images_name = _choose(arrays, images_key, "images", [name for name in arrays if arrays[name].ndim >= 2], where)
    if images_name is None:
        raise KnnvoteError(
            f"{where}: no images among {_listing(arrays)}: "
            "expected an array of rank 2 or more, such as (n, height, width)"
        )
    images = arrays[images_name]
    # A file of its own is there to be used, so its length is checked; an archive may hold other things.
    given = len(sources) > 1
    candidates = [
        name
        for name, array in arrays.items()
        if array.ndim == 1 and (given or (array.dtype.kind in "biuUS" and array.shape == images.shape[:1]))
    ]
    labels_name = _choose(arrays, labels_key, "labels", candidates, where)
    labels = None if labels_name is None else arrays[labels_name]
    if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.reshape(-1)
    try:
        return image_table(images, labels)
    except KnnvoteError as error:
        raise KnnvoteError(f"{where}: {error.marked}") from error


def _choose(
    arrays: Mapping[str, NDArray[Any]], key: str | None, role: str, candidates: Sequence[str], where: str
) -> str | None:
    """The name of the array that a key names, else of the only candidate, if there is one."""
    if key is not None and key not in arrays:
        raise OptionError(
            f"{where}: no array {key} for {param(f'{role}_key')} among {_listing(arrays)}: give one of these"
        )
    if key is None and len(candidates) > 1:
        raise KnnvoteError(
            f"{where}: several arrays could be the {role}, of {_listing(arrays)}: "
            f"name the right ones with {param('images_key')} and {param('labels_key')}, "
            "or give one file of images and one of labels"
        )
    return key or next(iter(candidates), None)


def _listing(arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items()) or "no arrays at all"


def _convert_csv(source: Path, destination: Path) -> int:
    names = _missing_header(source)
    try:
        return _write_batches(_csv_batches(source, names), destination)
    except KnnvoteError as error:
        if not isinstance(error.__cause__, pa.ArrowInvalid):
            raise
    # Types are guessed from the first block; where a later one disagrees, the whole file has to be seen.
    return _write_batches(_csv_batches(source, names, whole=True), destination)


def _missing_header(path: Path) -> list[str] | None:
    """Names for the columns of a CSV file whose first line is a row; None if that line names them itself."""
    with _reading(path), _open(path) as stream:
        cells = [cell.strip(' "\r\n') for cell in stream.readline().decode("utf-8-sig").split(",")]
    if not all(map(_is_number, cells)):
        return None
    pixels = len(cells) - 1
    is_square = pixels > 1 and math.isqrt(pixels) ** 2 == pixels
    if _is_made_up(cells) or not (cells[0].lstrip("+-").isdecimal() and is_square):
        raise KnnvoteError(
            f"the first line of {path} is {len(cells)} numbers, not names: expected a header, or rows of an "
            "integer label and a square number of pixels; add a first line: label,pixel0,pixel1,pixel2..."
        )
    return ["label", *(f"pixel{i}" for i in range(pixels))]


def _is_made_up(cells: Sequence[str]) -> bool:
    """Whether numbers are names made by pandas: 0,1,2... or, of a row taken for a header, 5,0,0.1,0.2..."""
    counted = all(cell == str(i) for i, cell in enumerate(cells))
    different = len(set(cells)) == len(cells)
    return counted or (different and len({"." in cell for cell in cells[1:]}) == 2)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _csv_batches(path: Path, names: list[str] | None, *, whole: bool = False) -> Iterator[pa.RecordBatch]:
    """An empty batch for its schema, then the rows of a CSV file."""
    options = csv.ReadOptions(block_size=_CSV_BLOCK, column_names=names)
    with _reading(path), _open(path) as stream:
        reader = csv.read_csv(stream, options).to_reader() if whole else csv.open_csv(stream, options)
        _check_columns(reader.schema.names, path)
        yield pa.RecordBatch.from_pylist([], reader.schema)
        yield from reader


def _check_columns(names: Sequence[str], path: Path) -> None:
    if len(names) < 2:
        raise KnnvoteError(f"{path} is not IDX, NPZ or NPY, and as CSV it has one column: separate columns by commas")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise KnnvoteError(f"{path} has several columns named {repeated!r}: give each a name of its own")


def _write_batches(batches: Iterator[pa.RecordBatch], destination: Path) -> int:
    schema = next(batches).schema
    rows = 0
    with (
        atomic_write(destination) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows
