"""The records of a job that has ended, which are in the footer of a file without rows, read and changed by tests."""

from pathlib import Path

import pyarrow.parquet as pq

ENDED = ".knnvote.parquet"


def read_record(out: Path, name: str = "job.json") -> bytes | None:
    """What a record holds, None where there is none."""
    return pq.read_metadata(out / ENDED).metadata.get(name.encode())


def write_record(out: Path, content: bytes, name: str = "job.json") -> None:
    """Put another content in a record's place."""
    schema = pq.read_schema(out / ENDED)
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != b"ARROW:schema"}
    pq.write_table(schema.with_metadata({**metadata, name.encode(): content}).empty_table(), out / ENDED)
