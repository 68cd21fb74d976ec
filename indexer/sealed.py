"""JSON files with a checksum of themselves: damage and changes by hand are told when they are read."""

import hashlib
import json
from pathlib import Path
from typing import Any

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import atomic_write
from knnvote.data.locations import Location

_LARGEST = 1 << 28  # bytes of a JSON file: many times what a million classes take


def seal(record: dict[str, Any]) -> bytes:
    """A record as JSON with a checksum of all the rest of it, in the one form that `read_sealed` accepts."""
    body = {key: value for key, value in record.items() if key != "checksum"}
    checksum = hashlib.sha256(json.dumps(body, ensure_ascii=False).encode()).hexdigest()
    return (json.dumps({**body, "checksum": checksum}, ensure_ascii=False, indent=1) + "\n").encode()


def write_sealed(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its checksum; it appears whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(seal(record))


def read_sealed(file: Location) -> dict[str, Any]:
    """A record that `write_sealed` wrote, its checksum among its entries.

    Raises:
        KnnvoteError: the file cannot be read, is no JSON, or was changed since.
    """
    with file.open() as stream, file.errors_told():
        content = stream.read(_LARGEST)
    try:
        record = json.loads(content)
        is_sealed = isinstance(record, dict) and seal(record) == content
    except (ValueError, RecursionError) as error:  # of what is no JSON, or holds half a surrogate pair
        raise KnnvoteError(f"{file} is damaged: it is not JSON; build the index again") from error
    if not is_sealed:
        raise KnnvoteError(f"{file} was changed: its checksum does not fit its content; build the index again")
    sealed: dict[str, Any] = record
    return sealed
