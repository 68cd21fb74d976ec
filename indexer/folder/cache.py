"""Index folders on an object store: copied once into the user's cache folder, and checked by their hashes."""

from pathlib import Path

from platformdirs import user_cache_path

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import atomic_write
from knnvote.data.locations import Location, chunks, hash_stream, locate
from knnvote.indexer.fields import is_raw
from knnvote.indexer.manifest import MANIFEST, StoredFile, is_index_folder, read_manifest

from .generations import timing_name
from .known import is_known


def local_folder(index: Path | str) -> Path:
    """An index folder of this machine: the one that is named, or the copy of one on an object store.

    A copy's name is the checksum of the manifest, so that it stands for one state of the index alone.

    Raises:
        KnnvoteError: on the store there is no index folder, or one whose files are not those of its manifest.
    """
    folder = locate(index)
    if folder.is_local:
        return Path(folder.path)
    manifest = read_manifest(folder)
    copy = Path(user_cache_path("knnvote"), "indexes", manifest.checksum)
    if not (is_index_folder(copy) and is_known(copy, manifest)):
        for stored in manifest.files.values():
            _copy(folder / stored.name, copy / stored.name, stored)
        for name in (timing_name(manifest.generation), MANIFEST):  # the manifest last: with it, the copy is complete
            _copy(folder / name, copy / name)
    return copy


def _copy(source: Location, target: Path, stored: StoredFile | None = None) -> None:
    if stored is not None and target.is_file():  # from a copy that was interrupted, or damaged since
        with target.open("rb") as stream:
            if hash_stream(stream) == stored.sha256:
                return
    size = stored.size if stored is not None and is_raw(stored.name) else None  # what lies beyond it is not of it
    with atomic_write(target) as stream:
        with source.open() as origin, source.errors_told():
            stream.writelines(chunks(origin, size))
        stream.seek(0)
        if stored is not None and hash_stream(stream) != stored.sha256:
            raise KnnvoteError(f"{source} was changed: its SHA-256 differs from the manifest's; copy the index again")
