"""The manifest of an index folder: what it must hold, sealed by a checksum of itself."""

import hashlib
import json
import re
from pathlib import Path
from types import UnionType
from typing import Any

from data.errors import KnnvoteError
from data.files import atomic_write, describe_os_error
from indexer.faiss_index import KINDS
from indexer.rungs import read_rung, read_tuned
from indexer.space import METRICS

FORMAT = 1
MANIFEST = "manifest.json"
VECTOR_STEP = "pixels"  # between an image and its vector stands one named step: today flattening
TIMING = "timing"
GENERATION_NAME = re.compile(r"(index|vectors|bounds|labels|timing)-(\d+)\.(faiss|npy|parquet|json)")
_DTYPES = ("uint8", "uint16", "uint32", "float32", "float64")
# What a manifest of this format holds; a seal says that it was not damaged since, not that it was ever right.
_FIELDS: dict[str, type | UnionType] = {
    "format": int,
    "generation": int,
    "kind": str,
    "factory": str,
    "metric": str,
    "n": int,
    "d": int,
    "shape": list,
    "dtype": str,
    "range": list,
    "vector": dict,
    "task": str,
    "classes": list,
    "class_names": list | None,
    "label_type": str,
    "image_column": str | None,
    "label_column": str | None,
    "id_column": str | None,
    "sources": list,
    "skipped": int,
    "search": dict,
    "seed": int,
    "data_sha256": str,
    "versions": dict,
    "files": dict,
}


def is_index_folder(path: Path) -> bool:
    """Whether there is a manifest at path."""
    return (path / MANIFEST).is_file()


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an index folder, checked against its own checksum.

    Raises:
        KnnvoteError: there is none, it is of a newer format, or it was changed.
    """
    if not path.exists():
        raise KnnvoteError(f"{path} does not exist: give an index folder that knnvote index made")
    if not is_index_folder(path):
        raise KnnvoteError(f"{path} is not an index folder: it has no {MANIFEST}; give one that knnvote index made")
    manifest = _read_sealed(path / MANIFEST)
    if isinstance(manifest.get("format"), int) and manifest["format"] > FORMAT:
        raise KnnvoteError(
            f"{path} has index format {manifest['format']}, and this knnvote reads up to {FORMAT}: "
            "upgrade with pip install --upgrade knnvote"
        )
    wrong = _wrong_fields(manifest)
    if wrong:
        raise KnnvoteError(
            f"{path / MANIFEST} is not one that knnvote writes: missing or unusable are {', '.join(wrong)}; "
            "build the index again"
        )
    return manifest


def _wrong_fields(manifest: dict[str, Any]) -> list[str]:
    """Entries of a manifest that are missing, of another type or, for files, name anything outside the folder."""
    wrong = [key for key, kind in _FIELDS.items() if not isinstance(manifest.get(key), kind) or key not in manifest]
    if wrong:
        return wrong
    if manifest["dtype"] not in _DTYPES:
        wrong.append("dtype")
    if manifest["metric"] not in METRICS:
        wrong.append("metric")
    if manifest["kind"] not in KINDS:
        wrong.append("kind")
    if manifest["kind"] == "adaptive" and not _has_rungs(manifest["search"]):
        wrong.append("search")
    if "grayscale" not in manifest["vector"] or manifest["vector"].get("step") != VECTOR_STEP:
        wrong.append("vector")
    if not all(map(_is_source, manifest["sources"])):
        wrong.append("sources")
    files = manifest["files"]
    if "labels" not in files or not all(map(_is_file_entry, files.values())):
        wrong.append("files")
    return wrong


def _has_rungs(search: dict[str, Any]) -> bool:
    """Whether the search settings of an adaptive index can be read."""
    try:
        read_rung(search["careful"])
        if search["tuned"] is not None:
            read_tuned(search["tuned"])
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _is_source(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("path"), str) and entry.get("dtype") in (None, *_DTYPES)


def _is_file_entry(entry: Any) -> bool:
    kinds = {"name": str, "size": int, "sha256": str}
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
        and GENERATION_NAME.fullmatch(entry["name"]) is not None
    )


def read_timing(path: Path, manifest: dict[str, Any]) -> dict[str, float]:
    """Seconds that each step of the build took."""
    return _read_sealed(path / f"{TIMING}-{manifest['generation']}.json")


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


def _read_sealed(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        record = json.loads(content)
        is_sealed = isinstance(record, dict) and seal(record) == content
    except OSError as error:
        raise KnnvoteError(f"cannot read {path}: {describe_os_error(error)}") from error
    except (ValueError, RecursionError) as error:  # of what is no JSON, or holds half a surrogate pair
        raise KnnvoteError(f"{path} is damaged: it is not JSON; build the index again") from error
    if not is_sealed:
        raise KnnvoteError(f"{path} was changed: its checksum does not fit its content; build the index again")
    sealed: dict[str, Any] = record
    return sealed
