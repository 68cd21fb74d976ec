"""Receipts: what an output file was made from, in its own footer, so that equal work is known again."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.data.locations import CHUNK, Location, hash_stream

KEY = b"knnvote"
UNSEALED = "0" * 64
_MOST_ROWS = 1 << 62
_AFTER_SEAL = len('"}')
NO_RECEIPT = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what JSON of another sort raises
_MAGIC_AND_LENGTH = 8  # the last bytes of a Parquet file: the footer's length, and PAR1


@dataclass(frozen=True)
class Counts:
    """Rows by status."""

    rows: int = 0
    ok: int = 0
    abstained: int = 0
    bad_image: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Sum by sum."""
        return Counts(
            self.rows + other.rows,
            self.ok + other.ok,
            self.abstained + other.abstained,
            self.bad_image + other.bad_image,
        )


@dataclass(frozen=True)
class Kept:
    """Rows of an output that an earlier job had answered.

    Attributes:
        index: fingerprint of that job's index.
        options: everything else that shaped its answers.
        rows: how many.
    """

    index: str
    options: dict[str, Any]
    rows: int

    @property
    def made_from(self) -> dict[str, Any]:
        """As of a receipt."""
        return {"index": self.index, "options": self.options}


@dataclass(frozen=True)
class Receipt:
    """What an output file was made from, and what it holds.

    Attributes:
        index: fingerprint of the index.
        options: everything that shapes the answer.
        input: path relative to the argument that named it, size in bytes, SHA-256 or the tag of its store.
        counts: rows by status.
        kept: of the rows that are ok, those that earlier jobs had answered, by job.
        seal: SHA-256 of the whole file as it was with zeros in the seal's own place; the last entry, so that the place
            is known.
    """

    index: str
    options: dict[str, Any]
    input: dict[str, Any]
    counts: Counts
    kept: tuple[Kept, ...] = ()
    seal: str = UNSEALED

    @property
    def made_from(self) -> dict[str, Any]:
        """The part that all files of a job share."""
        return {"index": self.index, "options": self.options}

    def to_json(self) -> bytes:
        """As the value of KEY in a file's metadata."""
        content = {**vars(self), "counts": vars(self.counts), "kept": [vars(kept) for kept in self.kept]}
        if not self.kept:  # which few outputs have
            del content["kept"]
        return json.dumps(content, ensure_ascii=False).encode()


def read_receipt(output: Location) -> Receipt | None:
    """The receipt in an output file's footer; None if there is no file, or none with a receipt.

    Raises:
        KnnvoteError: the file cannot be read.
    """
    if not output.is_file:
        return None
    with output.open() as stream:
        try:
            return to_receipt(_raw_receipt(stream))
        except (OSError, pa.ArrowException, *NO_RECEIPT):
            return None


def to_receipt(raw: bytes) -> Receipt:
    """A receipt from JSON.

    Raises:
        One of NO_RECEIPT: it is none.
    """
    record = json.loads(raw)
    counts = _to_counts(record["counts"])
    return Receipt(
        index=str(record["index"]),
        options=dict(record["options"]),
        input=dict(record["input"]),
        counts=counts,
        kept=_to_kept(record.get("kept", []), counts.ok),
        seal=str(record["seal"]),
    )


def _to_counts(rows: dict[str, Any]) -> Counts:
    if not all(type(number) is int and 0 <= number < _MOST_ROWS for number in rows.values()):
        raise ValueError
    return Counts(**rows)


def _to_kept(jobs: list[dict[str, Any]], most: int) -> tuple[Kept, ...]:
    kept = tuple(Kept(str(job["index"]), dict(job["options"]), job["rows"]) for job in jobs)
    if not all(type(job.rows) is int and job.rows > 0 for job in kept) or sum(job.rows for job in kept) > most:
        raise ValueError
    return kept


def write_sealed(
    stream: BinaryIO, schema: pa.Schema, groups: Iterable[pa.Table], receipt: Callable[[], Receipt]
) -> None:
    """Write an output file: row groups, each a table, and the receipt, which is asked for when all are there."""
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group)
        unsealed = receipt().to_json()
        writer.add_key_value_metadata({KEY: unsealed})
    seal(stream, unsealed)


def seal(stream: BinaryIO, unsealed: bytes) -> None:
    """Seal a Parquet file that was just written with this unsealed receipt."""
    stream.flush()
    stream.seek(0)
    digest = hash_stream(stream)
    stream.seek(_place_of_seal(stream, unsealed))
    stream.write(digest.encode())


def is_sealed(output: Location, receipt: Receipt) -> bool:
    """Whether every byte of an output file is as it was when it was sealed.

    Raises:
        KnnvoteError: it cannot be read.
    """
    digest, at = hashlib.sha256(), 0
    with output.open() as stream, output.errors_told():
        place = _place_of_seal(stream, _raw_receipt(stream))
        stream.seek(0)
        while chunk := stream.read(CHUNK):
            first, last = (min(max(edge - at, 0), len(chunk)) for edge in (place, place + len(UNSEALED)))
            digest.update(chunk[:first] + b"0" * (last - first) + chunk[last:])
            at += len(chunk)
    return digest.hexdigest() == receipt.seal


def _place_of_seal(stream: Any, raw: bytes) -> int:
    """Where in a Parquet file the seal of its receipt, as its metadata have it, stands."""
    end = stream.seek(0, 2) - _MAGIC_AND_LENGTH
    stream.seek(end)
    length = int.from_bytes(stream.read(4), "little")
    stream.seek(end - length)
    after = end - length + stream.read(length).rindex(raw) + len(raw)
    return int(after - _AFTER_SEAL - len(UNSEALED))


def _raw_receipt(stream: Any) -> bytes:
    raw: bytes = pq.read_metadata(stream).metadata[KEY]
    return raw
