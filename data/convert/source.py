"""A file to convert: opened, unpacked, read no further than need be, and what is wrong with it told in one line."""

import codecs
import csv
import gzip
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import describe_os_error
from knnvote.data.text import describe_error

FORMATS = "an IDX, NPZ, NPY, CSV or JSON lines file"
_HEAD = 512
_GZIP_MAGIC = b"\x1f\x8b"
# A block of text becomes a row group: large enough that 784 columns are worth one, small enough for any machine.
BLOCK = 16 << 20
# What gzip, zipfile, NumPy (which parses a header as Python), csv and Arrow raise for damaged files; RuntimeError
# is an encrypted archive, MemoryError a header that promises more than the machine holds.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
    SyntaxError,
    tokenize.TokenError,
    csv.Error,
    RuntimeError,
    MemoryError,
)

Tell = Callable[[str], object]  # called with each note on how a file was taken
Stream = IO[bytes] | gzip.GzipFile


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell what is wrong with the file at path in one line."""
    try:
        yield
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise KnnvoteError(f"cannot read {path}: {describe_os_error(error)}; give the path of {FORMATS}") from error
        reason = describe_error(error)[:200]
        raise KnnvoteError(f"cannot read {path}: {reason}; {_advice(error, reason)}") from error


def _advice(error: Exception, reason: str) -> str:
    if isinstance(error, UnicodeDecodeError) or "UTF8" in reason:
        return "if it is text, save it as UTF-8, as iconv -f LATIN1 -t UTF-8 does where it is Latin-1"
    return f"expected {FORMATS}: if it is one it is damaged, so get or export it again"


@contextmanager
def open_source(path: Path) -> Iterator[Stream]:
    """The content of a file, unpacked if it is gzipped."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.open(raw) as unpacked:
            yield unpacked


def first_character(path: Path) -> bytes:
    """The first of a text file that says something: JSON begins with { or [."""
    with reading(path), open_source(path) as stream:
        return stream.read(_HEAD).removeprefix(codecs.BOM_UTF8).lstrip()[:1]


def read_at_most(stream: Stream, size: int) -> bytearray:
    """So many bytes, or as many as there are; memory is taken for what there is, whatever the size asked for."""
    content = bytearray()
    while len(content) < size and (piece := stream.read(min(BLOCK, size - len(content)))):
        content += piece
    return content
