"""What an index stores, as the training set of one that follows it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
