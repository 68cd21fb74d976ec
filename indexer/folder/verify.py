"""Whether an index folder is as it was written, and whether its content can be trusted.

FAISS trusts what it reads. What is not known to be ours is hashed and then tried in a process of its own.
"""

from pathlib import Path
from typing import Any

from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location, digest_of, locate
from knnvote.indexer.apart import run_apart
from knnvote.indexer.codes.library import kernel
from knnvote.indexer.fields import is_raw
from knnvote.indexer.manifest import Manifest, StoredFile, read_manifest

from .generations import read_timing
from .known import describe_files, is_known, remember

_TRIAL_ROOM = 8  # bytes that opening a folder may take for each byte of it
_TRIAL_SECONDS = 1e-6  # of one processor that opening it may take for each byte: a hundred times what it does


def verify_folder(index: Path | Location, digests: dict[str, Any] | None = None) -> list[str]:
    """Check every byte of an index folder; one line for each thing that is wrong, none if all is well.

    What is not known to be ours is also tried as `open_index` does; one on an object store is when it is opened.

    Args:
        index: the folder.
        digests: filled with hashlib's of each file by its role, so that what is appended to one can be hashed alone.

    Raises:
        KnnvoteError: it is no index folder, or its manifest was changed.
    """
    folder = locate(index)
    manifest = read_manifest(folder)
    if folder.is_local and not is_known(Path(folder.path), manifest):
        problems = check_content(Path(folder.path), manifest, digests)
    else:
        problems = _changed_files(folder, manifest, digests)
    try:
        read_timing(folder, manifest.generation)
    except KnnvoteError as error:
        problems.append(str(error))
    return problems


def check_content(path: Path, manifest: Manifest, digests: dict[str, Any] | None = None) -> list[str]:
    """Hash a folder's files and, if they are the manifest's, try them apart; remember it if all is well.

    Arguments and result are as those of `verify_folder`.
    """
    kernel()  # the environment may ask for one that is not there, which is no fault of the folder's
    description = describe_files(path, manifest)
    problems = _changed_files(locate(path), manifest, digests)
    if not problems:
        size = manifest.folder_bytes
        memory, seconds = _TRIAL_ROOM * size, _TRIAL_SECONDS * size
        try:
            run_apart("knnvote.indexer.trial.folder", str(path.resolve()), memory=memory, seconds=seconds)
        except KnnvoteError as error:
            return [f"{path} is not an index that knnvote writes: {error}"]
        remember(path, description)
    return problems


def _changed_files(folder: Location, manifest: Manifest, digests: dict[str, Any] | None) -> list[str]:
    """A line for each file that is not the manifest's."""
    problems = []
    for role, stored in manifest.files.items():
        try:
            digest = _digest(folder / stored.name, stored)
        except KnnvoteError as error:
            problems.append(str(error))
        else:
            if digests is not None:
                digests[role] = digest
    return problems


def _digest(file: Location, stored: StoredFile) -> Any:
    """Of a file that is the manifest's; of raw vectors, to which `knnvote add` appends, those that it names.

    Raises:
        KnnvoteError: it is another.
    """
    if not file.is_file:
        raise KnnvoteError(f"{file} is missing")
    with file.open() as stream, file.errors_told():
        digest = digest_of(stream, stored.size if is_raw(stored.name) else None)
        if digest.hexdigest() != stored.sha256:
            raise KnnvoteError(f"{file} was changed: its SHA-256 differs from the manifest's")
        if stream.tell() != stored.size:
            raise KnnvoteError(f"{file} has {stream.tell():,} bytes, and the manifest says {stored.size:,}")
    return digest
