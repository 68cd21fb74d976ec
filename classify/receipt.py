"""Receipts: what an output file was made from, in its own footer, so that equal work is known again."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_KEY = b"knnvote"


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
class Receipt:
    """What an output file was made from, and what it holds.

    Attributes:
        index: fingerprint of the index.
        options: everything that shapes the answer.
        input: path relative to the argument that named it, size in bytes, SHA-256.
        counts: rows by status.
    """

    index: str
    options: dict[str, Any]
    input: dict[str, Any]
    counts: Counts

    def to_metadata(self) -> dict[bytes, bytes]:
        """As Parquet key-value metadata."""
        return {_KEY: json.dumps(asdict(self), ensure_ascii=False).encode()}


def read_receipt(path: Path) -> Receipt | None:
    """The receipt in an output file's footer; None if the file or the receipt cannot be read."""
    try:
        record = json.loads(pq.read_metadata(path).metadata[_KEY])
        return Receipt(record["index"], record["options"], record["input"], Counts(**record["counts"]))
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
