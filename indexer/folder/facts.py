"""What the manifest of an index says of what it was built of."""

from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.codecs.grey import GRAYSCALE_FORMULA
from knnvote.indexer.building.content import range_of, read_through
from knnvote.indexer.faiss_index import Built
from knnvote.indexer.groups.record import Groups
from knnvote.indexer.manifest import AdaptiveSettings, Manifest
from knnvote.indexer.names import Kind, MetricName
from knnvote.indexer.records.weights import SampleWeight, weights_of
from knnvote.indexer.rungs import class_weight_of_classes
from knnvote.indexer.training import TrainingSet


def describe(
    examples: TrainingSet, labels: pa.Array, built: Built, *, kind: Kind, metric: MetricName, seed: int
) -> Manifest:
    """Everything that is known of an index that is not yet tuned."""
    x = examples.vectors
    ends, stored = read_through(x, labels, weights_of(examples.provenance))
    return Manifest(
        kind=kind,
        factory=built.factory,
        metric=metric,
        d=x.shape[1],
        dtype=str(x.dtype),
        range=ends,
        search=built.search,
        seed=seed,
        data_sha256=stored,
        images={} if examples.images is None else of_images(examples.images),
        versions=library_versions(),
        **of_examples(examples, labels),
    )


def of_examples(examples: TrainingSet, labels: pa.Array) -> dict[str, Any]:
    """What a manifest says of a training set with labels (n,), but for its vectors and what is built of them."""
    return {
        "n": len(labels),
        "shape": examples.shape,
        "steps": str(examples.steps),
        "grayscale": GRAYSCALE_FORMULA if examples.grayscale else None,
        "background": examples.background,
        "is_regression": examples.is_regression,
        **of_labels(labels, is_regression=examples.is_regression),
        "class_names": examples.class_names,
        "image_column": examples.image_column,
        "label_column": examples.label_column,
        "id_column": examples.id_column,
        "sample_weight": SampleWeight.of(examples.provenance, examples.weight_column),
        "sources": examples.sources,
        "skipped": examples.skipped,
        "feature_names": examples.feature_names,
        "estimator": examples.estimator,
        "part": examples.part,
        "keep": examples.keep,
        "groups": Groups.of(examples.provenance, examples.group_column),
    }


def of_images(images: NDArray[np.generic]) -> dict[str, Any]:
    """What a manifest says of stored images (n, pixels) of which steps made vectors."""
    return {"dtype": str(images.dtype), "range": list(range_of(images))}


def unmeasured(manifest: Manifest) -> Manifest:
    """Of an index whose answers are to be measured now: nothing that is known of them."""
    if isinstance(manifest.search, AdaptiveSettings):
        manifest = replace(manifest, search=replace(manifest.search, tuned=None))
    growth = None if manifest.growth is None else manifest.growth.measured_now()
    return replace(manifest, vote=None, growth=growth)


def of_stored_classes(manifest: Manifest) -> Manifest:
    """Without what is known of classes that no stored image has any more: their weights and confidences."""
    if manifest.is_regression:
        return manifest
    classes, search, vote = frozenset(manifest.classes), manifest.search, manifest.vote
    if isinstance(search, AdaptiveSettings) and search.tuned is not None:
        class_weight = class_weight_of_classes(search.tuned.class_weight, classes)
        search = replace(search, tuned=replace(search.tuned, class_weight=class_weight))
    return replace(manifest, search=search, vote=None if vote is None else vote.of_classes(classes))


def of_labels(labels: pa.Array, *, is_regression: bool) -> dict[str, Any]:
    """What a manifest says of labels (n,)."""
    classes = () if is_regression else tuple(sorted(labels.unique().to_pylist()))
    return {"classes": classes, "label_type": str(labels.type)}


def library_versions() -> dict[str, str]:
    """Versions of knnvote and of the libraries that shape its answers."""
    return {name: installed_version(name) for name in ("knnvote", "faiss-cpu", "numpy", "pyarrow", "imagecodecs")}


@cache
def installed_version(name: str) -> str:
    """Of a library; "unknown" where it is not said. Asked once: to read it takes as long as to build a small index."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
