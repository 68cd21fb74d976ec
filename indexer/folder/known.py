"""Which index folders this user built or checked before, as records in the user's cache folder.

A record holds what the file system says of the folder's files. One that is copied, moved or changed is not known.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from knnvote.indexer.manifest import Manifest


def describe_files(path: Path, manifest: Manifest) -> str | None:
    """What tells the files of an index folder from any others, without reading them; None if one cannot be seen."""
    try:
        stats = [(stored.name, (path / stored.name).stat()) for stored in manifest.files.values()]
    except OSError:
        return None
    files = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev) for name, stat in stats]
    return hashlib.sha256(json.dumps([manifest.checksum, files]).encode()).hexdigest()


def is_known(path: Path, manifest: Manifest) -> bool:
    """Whether the folder's files are those of its record."""
    try:
        return _record(path).read_text() == describe_files(path, manifest)
    except (OSError, ValueError):  # there is none, or it is damaged
        return False


def remember(path: Path, description: str | None) -> None:
    """Record a folder's files, as `describe_files` gave them; where there is no place for that, it stays unknown."""
    if description is not None:
        record = _record(path)
        with suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(description)  # half a record is none


def _record(path: Path) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()
    return user_cache_path("knnvote") / "known" / name
