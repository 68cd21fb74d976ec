"""Images added to an index that has codes, or taken from it: coded by its axes, put into its lists, and committed.

Nothing is built again. Vectors are appended to their file, beyond what the committed manifest names of it, or written
without those that go; the table of codes is written with more or fewer. What an index promises was measured before, and
is measured again when many images came or went since.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.data.progress import stage
from knnvote.indexer.build import Tune, timing_since
from knnvote.indexer.building.content import read_through
from knnvote.indexer.codes.change import Changed, with_added, without
from knnvote.indexer.fields import IMAGES, STEPS
from knnvote.indexer.folder.facts import library_versions, of_examples, of_images, of_stored_classes, unmeasured
from knnvote.indexer.folder.known import describe_files, remember
from knnvote.indexer.folder.open import load_index, map_images, map_vectors
from knnvote.indexer.folder.write import commit, describe_file, new_generation, write_labels
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import Manifest, StoredFile
from knnvote.indexer.metric import METRICS
from knnvote.indexer.records.growth import Growth
from knnvote.indexer.records.weights import weights_of
from knnvote.indexer.threads import limit_threads
from knnvote.indexer.training import TrainingSet

from .files import stored_blocks, write_codes, write_more, write_rows


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How an index is changed.

    Attributes:
        tune: measures what it promises, where that is due; None where it is not, or nothing is promised.
        threads: that work; None for as many as there are processors.
        start: `time.perf_counter()` when the reading began.
    """

    tune: Tune | None
    threads: int | None
    start: float


@dataclass(frozen=True, kw_only=True)
class _Next:
    """What an index is to be.

    Attributes:
        manifest: but for its files, and what follows from what it stores.
        examples: what it stores, but for all or some of the vectors.
        changed: its inverted file.
        fitted: rows that axes and centroids were fitted to; None where nobody asks.
        write: writes vectors, and images beside them, for a generation; what the manifest says of the files by role.
    """

    manifest: Manifest
    examples: TrainingSet
    changed: Changed
    fitted: NDArray[np.int64] | None
    write: Callable[[int], dict[str, StoredFile]]


def grown(index: Index, *, added: int = 0, removed: int = 0) -> Growth:
    """What will have come to an index and gone since it was built, when so many more have."""
    return (index.manifest.growth or Growth.of(index.n)).after(added=added, removed=removed)


def append(index: Index, examples: TrainingSet, digests: Mapping[str, Any], manner: Manner) -> None:
    """Commit an index with more images, in its place.

    Args:
        index: opened, with codes; its lock the caller holds, and every byte was checked.
        examples: what it is to store, but of vectors (m, d) and images those alone that it does not.
        digests: hashlib's of its files by their roles.
        manner: how.

    Raises:
        KnnvoteError: it cannot be written; the index is not changed.
    """
    read, added = time.perf_counter(), examples.vectors

    def write(generation: int) -> dict[str, StoredFile]:
        pairs = {"vectors": (index.vectors, added), **_images(index, examples)}
        return {
            role: write_more(index, generation, role, *pair, digest=digests.get(role)) for role, pair in pairs.items()
        }

    with limit_threads(manner.threads):
        following = _Next(
            manifest=replace(
                index.manifest,
                dtype=str(added.dtype),
                versions=library_versions(),
                growth=grown(index, added=len(added)),
            ),
            examples=examples,
            changed=with_added(index.ivf, added, METRICS[index.metric]),
            fitted=index.fitted_rows if index.kind == "adaptive" else None,
            write=write,
        )
        _commit(index, following, manner, read)


def leave_out(index: Index, kept: NDArray[np.bool_], examples: TrainingSet, manner: Manner) -> None:
    """Commit an index without some of its images, in its place; those that stay are numbered anew.

    Args:
        index: opened, with codes; its lock the caller holds, and every byte was checked.
        kept: (n,) whether an image stays.
        examples: what it is to store, but for its vectors and images: (0, d) of the type that they need.
        manner: how.

    Raises:
        KnnvoteError: it cannot be written; the index is not changed.
    """
    read, dtype = time.perf_counter(), examples.vectors.dtype
    fitted = None
    if index.kind == "adaptive":
        rows, before = np.cumsum(kept, dtype=np.int32) - 1, index.fitted_rows
        fitted = rows[before[kept[before]]].astype(np.int64)

    def write(generation: int) -> dict[str, StoredFile]:
        pairs = {"vectors": (index.vectors, examples.vectors), **_images(index, examples)}
        return {
            role: write_rows(index, generation, role, stored_blocks(before, kept), like.dtype)
            for role, (before, like) in pairs.items()
        }

    following = _Next(
        manifest=replace(
            index.manifest,
            dtype=str(dtype),
            growth=grown(index, removed=int((~kept).sum())),
        ),
        examples=examples,
        changed=without(index.ivf, kept),
        fitted=fitted,
        write=write,
    )
    with limit_threads(manner.threads):
        _commit(index, following, manner, read)


def _commit(index: Index, following: _Next, manner: Manner, read: float) -> None:
    """Write what an index is to be as a new generation of its folder, measure it where that is due, and commit it."""
    folder, rows = index.path, following.examples.provenance
    labels = rows["label"].combine_chunks()
    with _known_to_stay(index), new_generation(folder) as generation:
        with stage("writing"):
            codes = write_codes(index, generation, following.changed, following.fitted)
            described = describe_file(write_labels(folder, generation, rows))
            written = following.write(generation)
            remember(folder, describe_files(folder, index.manifest))  # who opens it meanwhile need not try it
            files = {"vectors": written["vectors"], **codes, "labels": described, **_of_steps(index, written)}
            facts = of_examples(following.examples, labels)
            manifest = replace(following.manifest, **facts, generation=generation, files=files, relabelled_from=())
            manifest = _with_images(of_stored_classes(manifest), folder, following.examples)
            mapped = map_vectors(folder / files["vectors"].name, manifest)
            ends, stored = read_through(mapped, labels, weights_of(rows))
        manifest, untuned = replace(manifest, range=ends, data_sha256=stored), time.perf_counter()
        if manner.tune is not None:
            manifest = manner.tune(load_index(folder, unmeasured(manifest))).manifest
        commit(folder, manifest, timing_since(manner.start, read, untuned))


def _images(index: Index, examples: TrainingSet) -> dict[str, tuple[NDArray[np.generic], NDArray[np.generic]]]:
    """The images that lie beside the vectors of an index, if any do, and those that are to: by their role."""
    if index.stored_images is None or examples.images is None:
        return {}
    return {IMAGES: (index.stored_images, examples.images)}


def _of_steps(index: Index, written: Mapping[str, StoredFile]) -> dict[str, StoredFile]:
    """Files that an index has where steps make its vectors; what these were fitted to stays as it is."""
    kept = {role: file for role, file in index.manifest.files.items() if role == STEPS}
    return {role: file for role, file in written.items() if role == IMAGES} | kept


def _with_images(manifest: Manifest, folder: Path, examples: TrainingSet) -> Manifest:
    """What a manifest says of images beside vectors, now that they are written."""
    if examples.images is None:
        return manifest
    manifest = replace(manifest, images={"dtype": str(examples.images.dtype)})
    return replace(manifest, images=of_images(map_images(folder / manifest.files[IMAGES].name, manifest)))


@contextmanager
def _known_to_stay(index: Index) -> Iterator[None]:
    """Have an index that was checked stay known if its successor fails, though its file of vectors was written to."""
    try:
        yield
    except BaseException:
        remember(index.path, describe_files(index.path, index.manifest))
        raise
