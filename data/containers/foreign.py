"""What a file is that was expected to be Parquet, by its first and last bytes, and what makes Parquet of it."""

import shlex
from typing import Any

from knnvote.data.convert.saved import saved_arrays
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location
from knnvote.data.text import python_command

_MAGIC = b"PAR1"
_LONGEST = 64
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error", b"<head")
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
_WORKBOOK = "a workbook of a spreadsheet: save it as CSV in UTF-8 there, and give that"
# By how it begins, in small letters: what it is, and what to do.
_KINDS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"version https://git-lfs",), "a pointer of Git LFS in place of the file: git -C {folder} lfs pull"),
    (_PAGES, "a page in HTML or XML, perhaps one that tells an error: download the file again"),
    ((b"\x1f\x8b",), "packed with gzip: gzip -dc {path} > {made}"),
    ((b"\x28\xb5\x2f\xfd",), "packed with zstd: zstd -dc {path} > {made}"),
    ((b"bzh",), "packed with bzip2: bzip2 -dc {path} > {made}"),
    ((b"pk\x03\x04",), "a zip archive: unzip {path}, or knnvote convert where it is NPZ"),
    ((b"pare",), "encrypted Parquet: write it again without that"),
)
# The same of files of rows, and Python that reads them.
_ROWS = {
    b"ARROW1": ("an Arrow or Feather file", "ipc.open_file({path!r}).read_all()"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "ipc.open_stream({path!r}).read_all()"),
    b"FEA1": ("a Feather file", "feather.read_table({path!r})"),
    b"ORC": ("an ORC file", "orc.read_table({path!r})"),
}


def what_it_is(source: Location) -> str | None:
    """What a file is if it is not Parquet, and what to do; None where its bytes do not tell."""
    try:
        with source.open() as stream, source.errors_told():
            size, head = stream.size(), stream.read(_LONGEST)
            if not size:
                return "it is empty: get or write it again"
            if head.startswith(_MAGIC) and not _ends_well(stream, size):
                return "it was not downloaded or written to its end: get it again"
    except KnnvoteError:
        return None
    return saved_arrays(source.shown, head) or _kind(head, source.shown)


def _ends_well(stream: Any, size: int) -> bool:
    stream.seek(max(0, size - len(_MAGIC)))
    return bool(stream.read() == _MAGIC)


def _kind(head: bytes, path: str) -> str | None:
    made = f"{path.removesuffix('.parquet')}.new.parquet"
    folder = path.rpartition("/")[0] or "."
    for begin, (kind, rows) in _ROWS.items():
        if head.startswith(begin):
            command = python_command(
                f"from pyarrow import {rows.split('.')[0]}, parquet as pq; "
                f"pq.write_table({rows.format(path=path)}, {made!r})"
            )
            return f"it is {kind}: {command} makes {made} of it"
    begun = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if path.lower().endswith(_WORKBOOKS) or (begun.startswith(b"pk") and b"[content_types].xml" in begun):
        return f"it is {_WORKBOOK}"
    for begins, text in _KINDS:
        if begun.startswith(begins):
            return "it is " + text.format(path=shlex.quote(path), made=shlex.quote(made), folder=shlex.quote(folder))
    return None
