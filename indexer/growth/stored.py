"""What an index stores, as the training set of one that follows it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import OptionError, param
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
        provenance=index.provenance(*index.columns),
        shape=index.shape,
        step=index.step,
        image_column=manifest.image_column,
        label_column=manifest.label_column,
        id_column=manifest.id_column,
        weight_column=manifest.weight_column,
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

    Its vectors are (0, d), of the type that those which stay and the files they are from need.
    """
    stored = training_set(index)
    provenance = stored.provenance.filter(pa.array(kept)).combine_chunks()
    sources = with_rows(stored.sources, provenance)
    blocks = (block for block in stored_blocks(index, kept) if len(block))
    if len(provenance["file"].unique()) == len({source.path for source in sources}):  # none are from arrays
        needed = np.result_type(*(np.dtype(source.dtype) for source in sources if source.dtype is not None))
        blocks = (block.astype(needed, copy=False) for block in blocks)
    dtype = common_type(smallest_type(block) for block in blocks)
    return replace(stored, vectors=np.empty((0, index.d), dtype), provenance=provenance, sources=sources)


def weight_column_of(index: Index, named: str | None) -> str | None:
    """Where new images have their weights, which they have if the stored ones have; None where these have none.

    Args:
        index: that they are added to.
        named: the column that the user names; that of the stored images without.

    Raises:
        OptionError: one is named where the stored images have none, or none where these came from arrays.
    """
    own = index.manifest.sample_weight
    if own is None and named is not None:
        raise OptionError(
            f"the images of {index.path} have no weights: leave out {param('weight_column')}, or build it again with "
            "it of all images"
        )
    if own is not None and named is None and own.column is None:
        raise OptionError(
            f"each image of {index.path} has a weight, given by an array: name the column of the new ones' with "
            f"{param('weight_column')}"
        )
    return named or index.manifest.weight_column


def with_rows(sources: Sequence[Source], provenance: pa.Table) -> tuple[Source, ...]:
    """The sources of which any row is stored."""
    files = set(provenance["file"].unique().to_pylist())
    return tuple(source for source in sources if source.path in files)
