"""Opening an index folder: its manifest and sizes are checked, what is not known to be ours entirely."""

import math
import mmap
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import locate
from knnvote.data.steps.chain import Steps, parse_steps
from knnvote.data.text import describe_error
from knnvote.indexer.codes.inverted_file import InvertedFile
from knnvote.indexer.codes.library import kernel
from knnvote.indexer.faiss_index import held_vectors, read_faiss
from knnvote.indexer.fields import CODES, FITTED, IMAGES, STEPS, is_raw
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import MANIFEST, Manifest, read_manifest

from .cache import local_folder
from .known import is_known
from .verify import check_content


@dataclass(frozen=True, eq=False, repr=False)
class OpenedIndex(Index):
    """An index that was opened from a folder.

    Attributes:
        address: by which it is found from anywhere, given the same access.
    """

    address: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its address: where it is unpickled it is opened again, if it still gives the same answers."""
        return _reopened, (self.address, self.fingerprint)


def _reopened(address: str, fingerprint: str) -> OpenedIndex:
    index = open_index(address)
    if index.fingerprint != fingerprint:
        raise KnnvoteError(f"{address} was written anew since: open it again with open_index({address!r})")
    return index


def open_index(path: Path | str) -> OpenedIndex:
    """Open an index folder, or the copy of one on an object store, after checking its manifest and its files' sizes.

    One that this user neither built nor checked before is checked first: every byte against the manifest, and its
    content in a process of its own, because FAISS trusts what it reads.

    Raises:
        KnnvoteError: it is no index folder, is of a newer format, is damaged, or is not one that knnvote writes.

    Example:
        >>> from knnvote import open_index
        >>> index = open_index("digits.knn")
        >>> index.n, index.kind, index.metric
        (1347, 'exact', 'l2')
    """
    kernel()  # the environment may ask for one that is not there
    folder, location = local_folder(path), locate(path)
    manifest, address = read_manifest(folder), location.address
    try:
        opened = _open_generation(folder, manifest, address)
    except KnnvoteError:
        newer = read_manifest(folder)
        if newer.generation == manifest.generation:
            raise
        opened = _open_generation(folder, newer, address)  # it was replaced while we opened it
    return replace(opened, written=(location / MANIFEST).written)


def _open_generation(path: Path, manifest: Manifest, address: str) -> OpenedIndex:
    for stored in manifest.files.values():
        file = path / stored.name
        size = file.stat().st_size if file.is_file() else None
        if size is None or size < stored.size or (size > stored.size and not is_raw(stored.name)):
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise KnnvoteError(
                f"{file} {found}, and the manifest says {stored.size:,}: the index is damaged; build it again"
            )
    if not is_known(path, manifest):
        problems = check_content(path, manifest)
        if problems:
            raise KnnvoteError(f"{problems[0]}; build the index again, or get it again from where it came")
    try:
        return load_index(path, manifest, address)
    except KnnvoteError as error:  # a file that was well when it was checked
        raise KnnvoteError(f"{path} is damaged: {error}; run knnvote verify {path}") from error


def load_index(path: Path, manifest: Manifest, address: str = "") -> OpenedIndex:
    """Open the files of an index folder, which must be trusted.

    Raises:
        KnnvoteError: they do not hold what the manifest says.
    """
    dtype = np.dtype(manifest.dtype)
    names = {role: path / stored.name for role, stored in manifest.files.items()}
    try:
        faiss_index = read_faiss(names["index"]) if "index" in names else None
        vectors = (
            held_vectors(faiss_index, dtype)
            if "vectors" not in names
            else map_vectors(names["vectors"], manifest, at_random="codes" in names)
        )
        inverted_file = _map_codes(names, manifest) if "codes" in names else None
        images = map_images(names[IMAGES], manifest) if IMAGES in names else None
        steps = _read_steps(names, manifest)
        rows = pq.ParquetFile(names["labels"])
        labels = rows.read(["label"])["label"].combine_chunks()
    except (ValueError, KeyError, OSError, OverflowError, pa.ArrowException) as error:
        raise KnnvoteError(f"its files cannot be read ({describe_error(error)})") from error
    expected = (manifest.n, manifest.d)
    if vectors is None or vectors.shape != expected or vectors.dtype != dtype or len(labels) != expected[0]:
        raise KnnvoteError("it does not hold the vectors that its manifest describes")
    return OpenedIndex(
        path, manifest, faiss_index, vectors, labels, rows, inverted_file, steps, images, address=address
    )


def _map_codes(names: dict[str, Path], manifest: Manifest) -> InvertedFile:
    """The inverted file of an index that has one.

    Raises:
        ValueError: its arrays do not fit each other.
    """
    grid = manifest.search.to_json()["grid"]
    arrays = {role: _map_array(names[role]) for role in (*CODES, FITTED) if role in names}
    return InvertedFile.from_arrays(arrays, grid, manifest.n, manifest.d)


def _read_steps(names: dict[str, Path], manifest: Manifest) -> Steps:
    """What makes vectors of images, fitted.

    Raises:
        ValueError: the file of what they were fitted to holds something else, or is not there.
    """
    state = np.array(_map_array(names[STEPS])) if STEPS in names else np.zeros(0)
    return parse_steps(manifest.steps).with_state(state, manifest.shape)


def map_images(path: Path, manifest: Manifest) -> NDArray[Any]:
    """Stored images (n, pixels) mapped.

    Raises:
        ValueError: there are not so many.
    """
    shape = (manifest.n, math.prod(manifest.shape))
    return np.memmap(path, np.dtype(manifest.images["dtype"]), "r", shape=shape).view(np.ndarray)


def map_vectors(path: Path, manifest: Manifest, *, at_random: bool = False) -> NDArray[Any]:
    """Stored vectors (n, d) mapped: of a raw file by what the manifest says of them.

    Those that are read at random are read a page at a time. Some systems else read megabytes around each, and where
    memory does not hold all that is what others need.

    Raises:
        ValueError: there are not so many.
    """
    if not is_raw(path.name):
        return _map_array(path)
    mapped = np.memmap(path, np.dtype(manifest.dtype), "r", shape=(manifest.n, manifest.d))
    if at_random and hasattr(mmap, "MADV_RANDOM"):
        file: Any = mapped.base  # an mmap.mmap, of which NumPy's types do not know
        file.madvise(mmap.MADV_RANDOM)
    return mapped.view(np.ndarray)


def _map_array(path: Path) -> NDArray[Any]:
    """A .npy file mapped: nothing is read but its header, and never more than the file holds."""
    try:
        with np.errstate(over="ignore"):  # of a shape that no file can hold, which is refused next
            array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (SyntaxError, TokenError) as error:  # of a header, which NumPy reads as Python
        raise ValueError(str(error)) from error
    return array
