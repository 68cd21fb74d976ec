"""Labelled images of arrays, joined with what an index stores."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.layout import compatible, show_shape
from knnvote.data.tables import SupportsArrow, named_values, table_of
from knnvote.data.vectors import common_type, scales_told
from knnvote.indexer.arrays.labelled import training_set_from_arrays
from knnvote.indexer.building.doubts import tell_of_groups, tell_of_new_classes
from knnvote.indexer.building.provenance import ARRAY
from knnvote.indexer.index import Index
from knnvote.indexer.labels import common_label_type, unusable_labels
from knnvote.indexer.metric import METRICS
from knnvote.indexer.training import TrainingSet

from .stored import refuse_stored_ids, training_set

Tell = Callable[[str], None]


def with_arrays(
    index: Index,
    images: NDArray[Any] | SupportsArrow,
    labels: NDArray[Any] | Sequence[Any],
    *,
    ids: NDArray[Any] | Sequence[Any] | None,
    groups: NDArray[Any] | Sequence[Any] | None,
    sample_weight: NDArray[Any] | Sequence[float] | None,
    progress: Callable[[int], None],
    tell: Tell,
) -> TrainingSet:
    """What an index is to store with images of arrays, but of vectors (m, d) those of the arrays alone.

    Args:
        index: an opened one.
        images: (m, *shape) of its shape or flat, or a table with its columns.
        labels: (m,) of the kind that it has.
        ids: (m,) of the images; None for those that count on.
        groups: (m,) of the images, if those of the index have groups.
        sample_weight: (m,) of the images, if those of the index have weights.
        progress: told the rows of each block.
        tell: told of classes that are new, and of images of another scale.

    Raises:
        KnnvoteError: they do not fit, or an id is stored; the message says what to do.
    """
    _check_groups(index, groups)
    _check_weights(index, sample_weight)
    stored = training_set(index)
    new = training_set_from_arrays(
        _of_shape(_in_order(images, stored.feature_names), stored.shape),
        labels,
        ids=ids,
        groups=groups,
        sample_weight=sample_weight,
        metric=index.metric,
        steps=index.steps,
        is_regression=index.is_regression,
        first=_next_row(stored.provenance),
        progress=progress,
    )
    _check_labels(new.provenance["label"].combine_chunks(), stored)
    rows = pa.concat_tables([stored.provenance, new.provenance], promote_options="permissive").combine_chunks()
    others = f"remove these first with knnvote remove or give other {param('ids')}"
    refuse_stored_ids(index, rows["id"].combine_chunks(), others)
    _tell(index, stored, new, tell)
    tell_of_groups(rows, index.n, stored.class_names, is_regression=index.is_regression, tell=tell)
    made_of = None if stored.images is None or new.images is None else _widened(stored.images, new.images)
    return replace(stored, vectors=_widened(stored.vectors, new.vectors), images=made_of, provenance=rows)


def _widened(stored: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """New numbers of a type that holds stored ones too."""
    return new.astype(common_type([stored, new]), copy=False)


def _check_groups(index: Index, groups: Any) -> None:
    """Refuse images without groups where the stored ones have some, and the other way."""
    if (groups is None) == (index.manifest.groups is None):
        return
    if groups is None:
        raise OptionError(
            f"images of {index.path} have groups: give {param('groups')}, None in the place of an image without one"
        )
    raise OptionError(
        f"{index.path} has no groups, and images without one beside others are not left out with theirs: add without "
        f"{param('groups')}, or build an index of all with them"
    )


def _check_weights(index: Index, sample_weight: Any) -> None:
    """Refuse images without weights where the stored ones have some, and the other way."""
    if (sample_weight is None) == (index.manifest.sample_weight is None):
        return
    if sample_weight is None:
        raise OptionError(f"each image of {index.path} has a weight: give {param('sample_weight')}, one an image")
    raise OptionError(
        f"the images of {index.path} have no weights: leave out {param('sample_weight')}, or build an index of all "
        "images with it"
    )


def _in_order(images: NDArray[Any] | SupportsArrow, names: tuple[str, ...] | None) -> NDArray[Any]:
    """Values of images, where an index knows them by names and a table has names too, in the order of the index."""
    table = None if names is None else table_of(images)
    if table is not None and names is not None:
        missing = [name for name in names if table.column_names.count(name) != 1]
        if missing:
            raise KnnvoteError(
                f"the table has no one column {missing[0]!r}, and the index has {len(names):,} columns of that and "
                "other names: name its columns as the index's are"
            )
        images = table.select(names)
    return named_values(images)[0]


def _of_shape(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Images as those of an index lie."""
    found = values.shape[1:]
    if values.ndim < 2 or not compatible(found, shape):
        raise KnnvoteError(f"images are {show_shape(found)}, and the index stores {show_shape(shape)}: give such")
    return values.reshape(len(values), *shape)


def _next_row(provenance: pa.Table) -> int:
    """The number after those of rows that came from arrays."""
    last = pc.max(provenance["row"].filter(pc.equal(provenance["file"], ARRAY))).as_py()
    return 0 if last is None else last + 1


def _check_labels(labels: pa.Array, stored: TrainingSet) -> None:
    """Refuse labels of another kind than the stored ones, and numbers of no class where classes have names."""
    known = stored.provenance.schema.field("label").type
    if common_label_type([labels.type, known]) is None:
        raise KnnvoteError(f"labels are {labels.type}, and those stored {known}: give all labels one type")
    for row, reason in unusable_labels(labels, stored.class_names).items():
        raise KnnvoteError(f"image {row} cannot be stored: {reason}; mend its label, or leave it out")


def _tell(index: Index, stored: TrainingSet, new: TrainingSet, tell: Tell) -> None:
    """Tell what could have been meant otherwise."""
    if not index.is_regression:
        tell_of_new_classes(stored.provenance["label"], new.provenance["label"], stored.class_names, tell)
    both = {"the index": index.images, "the arrays": new.vectors if new.images is None else new.images}
    by_source = {name: (images, images.dtype) for name, images in both.items()}
    if index.steps.depends_on_scale(METRICS[index.metric].keeps_values) and (note := scales_told(by_source)):
        tell(note)
