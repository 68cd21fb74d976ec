"""The manifest of an index folder: what it must hold, sealed by a checksum of itself."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import atomic_write
from knnvote.data.locations import Location, locate

from .fields import is_number, wrong_fields

FORMAT = 1
MANIFEST = "manifest.json"
ENVELOPE = ("format", "generation", "checksum", "files")  # entries that the writer of the folder adds
GENERATION_NAME = re.compile(r"(index|vectors|bounds|labels|timing)-(\d+)\.(faiss|npy|parquet|json)")
_LARGEST = 1 << 28  # bytes of a JSON file: many times what a million classes take


def is_index_folder(path: Path | Location) -> bool:
    """Whether there is a manifest at path."""
    return (locate(path) / MANIFEST).is_file


def read_manifest(path: Path | Location) -> dict[str, Any]:
    """The manifest of an index folder, checked against its own checksum.

    Raises:
        KnnvoteError: there is none, it is of a newer format, or it was changed.
    """
    folder = locate(path)
    if not is_index_folder(folder):
        if folder.is_folder or folder.is_file:
            raise KnnvoteError(f"{path} is not an index folder: it has no {MANIFEST}; give one that knnvote index made")
        raise KnnvoteError(f"{path} does not exist: give an index folder that knnvote index made")
    manifest = _read_sealed(folder / MANIFEST)
    if type(manifest.get("format")) is int and manifest["format"] > FORMAT:
        raise KnnvoteError(
            f"{path} has index format {manifest['format']}, and this knnvote reads up to {FORMAT}: "
            "upgrade with pip install --upgrade knnvote"
        )
    wrong = wrong_fields(manifest)
    if wrong:
        raise KnnvoteError(
            f"{folder / MANIFEST} is not one that knnvote writes: missing or unusable are {', '.join(wrong)}; "
            "build the index again"
        )
    return manifest


def last_generation(folder: Path) -> int:
    """The highest generation that any file here has, committed or not."""
    matches = [GENERATION_NAME.fullmatch(file.name) for file in folder.iterdir()]
    return max((int(match[2]) for match in matches if match), default=0)


def timing_name(generation: int) -> str:
    """The file that tells what a build took: not among those that the manifest names, whose bytes the input settles."""
    return f"timing-{generation}.json"


def read_timing(path: Path | Location, manifest: dict[str, Any]) -> dict[str, float]:
    """Seconds that each step of the build took.

    Raises:
        KnnvoteError: the file is not there, was changed, or holds anything else.
    """
    file = locate(path) / timing_name(manifest["generation"])
    timing = _read_sealed(file)
    seconds = {name: value for name, value in timing.items() if name != "checksum"}
    if not {"read_seconds", "build_seconds"} <= seconds.keys() or not all(map(is_number, seconds.values())):
        raise KnnvoteError(f"{file} is not one that knnvote writes: it does not hold seconds; build the index again")
    return timing


def fingerprint(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest but for what says when and as which generation it was written."""
    lasting = {key: value for key, value in manifest.items() if key not in ("generation", "checksum", "files")}
    files = {role: entry["sha256"] for role, entry in manifest["files"].items()}
    return hashlib.sha256(json.dumps([lasting, files]).encode()).hexdigest()


def folder_bytes(manifest: dict[str, Any]) -> int:
    """Bytes of the files that a manifest names."""
    return sum(int(entry["size"]) for entry in manifest["files"].values())


def seal(record: dict[str, Any]) -> bytes:
    """A record as JSON with a checksum of all the rest of it, in the one form that `_read_sealed` accepts."""
    body = {key: value for key, value in record.items() if key != "checksum"}
    checksum = hashlib.sha256(json.dumps(body, ensure_ascii=False).encode()).hexdigest()
    return (json.dumps({**body, "checksum": checksum}, ensure_ascii=False, indent=1) + "\n").encode()


def write_sealed(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its checksum; it appears whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(seal(record))


def _read_sealed(file: Location) -> dict[str, Any]:
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
