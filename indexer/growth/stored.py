"""What an index stores, as the training set of one that follows it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.data.input_file import InputFile
from knnvote.data.vectors import common_type, smallest_type
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import Source
from knnvote.indexer.training import TrainingSet

from .files import stored_blocks


def training_set(index: Index) -> TrainingSet:
    """What an index stores, its vectors still mapped."""
    manifest = index.manifest
    return TrainingSet(
        vectors=index.vectors,
        provenance=index.provenance(),
        shape=index.shape,
        steps=index.steps,
        images=index.stored_images,
        image_column=manifest.image_column,
        label_column=manifest.label_column,
        id_column=manifest.id_column,
        group_column=manifest.group_column,
        weight_column=manifest.weight_column,
        keep=manifest.keep,
        class_names=manifest.class_names,
        is_regression=index.is_regression,
        grayscale=manifest.grayscale is not None,
        background=manifest.background,
        sources=manifest.sources,
        skipped=manifest.skipped,
        feature_names=manifest.feature_names,
        estimator=manifest.estimator,
        part=manifest.part,
    )


def keep(index: Index, kept: NDArray[np.bool_]) -> TrainingSet:
    """Some of the stored images; files that none of them is from are forgotten.

    Its vectors are (0, d), of the type that those which stay and the files they are from need; where steps made them,
    vectors and images are of the types that they had.
    """
    stored = training_set(index)
    provenance = stored.provenance.filter(pa.array(kept)).combine_chunks()
    sources = with_rows(stored.sources, provenance)
    if stored.images is not None:
        return replace(
            stored, vectors=index.vectors[:0], images=stored.images[:0], provenance=provenance, sources=sources
        )
    blocks = (block for block in stored_blocks(index.vectors, kept) if len(block))
    if len(provenance["file"].unique()) == len({source.path for source in sources}):  # none are from arrays
        needed = np.result_type(*(np.dtype(source.dtype) for source in sources if source.dtype is not None))
        blocks = (block.astype(needed, copy=False) for block in blocks)
    dtype = common_type(smallest_type(block) for block in blocks)
    return replace(stored, vectors=np.empty((0, index.d), dtype), provenance=provenance, sources=sources)


def after_stored(index: Index, examples: TrainingSet) -> TrainingSet:
    """Labelled images with the vectors of all, those that an index stores before the new ones that they have."""
    added, images = examples.vectors, examples.images
    if index.stored_images is not None and images is not None:
        images = np.concatenate([index.stored_images, images], dtype=images.dtype)
    return replace(examples, vectors=np.concatenate([index.vectors, added], dtype=added.dtype), images=images)


def with_kept(index: Index, kept: NDArray[np.bool_], examples: TrainingSet) -> TrainingSet:
    """What `keep` gave, with the vectors that stay."""
    images = None if index.stored_images is None else index.stored_images[kept]
    vectors = index.vectors[kept].astype(examples.vectors.dtype, copy=False)
    return replace(examples, vectors=vectors, images=images)


def with_rows(sources: Sequence[Source], provenance: pa.Table) -> tuple[Source, ...]:
    """The sources of which any row is stored."""
    files = set(provenance["file"].unique().to_pylist())
    return tuple(source for source in sources if source.path in files)


def refuse_stored_ids(index: Index, ids: pa.Array, otherwise: str) -> None:
    """Refuse ids of new images, those from the n-th, that are among the ids before.

    Args:
        index: that has n images.
        ids: of these and the new ones.
        otherwise: what helps.
    """
    new, stored = ids[index.n :], ids[: index.n]
    again = new.filter(pc.is_in(new, value_set=stored.filter(pc.is_in(stored, value_set=new))))  # of many stored few
    if len(again):
        raise KnnvoteError(
            f"{index.path} stores {len(again):,} of the {len(new):,} ids already, the first {again[0].as_py()!r}; "
            f"nothing was added: {otherwise}"
        )


def refuse_stored_files(index: Index, stored: TrainingSet, new: Sequence[Source], inputs: Sequence[InputFile]) -> None:
    """Refuse a file that is stored under another path, which gives its images other ids."""
    if any(source.labels is not None for source in inputs):
        return  # tables may each tell the labels of other rows of one file
    paths = {source.mark: source.path for source in with_rows(stored.sources, stored.provenance)}
    for source in new:
        if source.mark in paths:
            raise KnnvoteError(
                f"{index.path} stores images of a file with the same bytes as {source.path} already, then named "
                f"{paths[source.mark]}; nothing was added: leave it out, or remove those images first"
            )
