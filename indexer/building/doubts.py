"""What of labelled images could have been meant otherwise: told, or refused where it was guessed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.columns import is_float
from knnvote.data.errors import KnnvoteError, param
from knnvote.data.input_file import InputFile
from knnvote.data.reading import ImageFile
from knnvote.data.vectors import Numbers, all_equal, scales_told
from knnvote.indexer.groups.record import GROUP, number_groups, told_of_lone_classes, told_without_group
from knnvote.indexer.labels import is_usual_name, like_known, show_class, told_alike
from knnvote.indexer.manifest import Source

from .provenance import repeated_told

Tell = Callable[[str], None]

_MANY_LABELS = 20  # that are all unlike each other: of fewer images each may be of a class of its own
_LISTED = 10  # classes


def look_like_ids(values: int, within_files: int, images: int) -> bool:
    """Whether labels are so many that they name images rather than classes.

    Args:
        values: distinct labels of all files.
        within_files: distinct labels of each file, summed: some number the rows of each file anew.
        images: that are labelled.
    """
    return values >= _MANY_LABELS and 2 * within_files > images


def doubt_ids(column: str | None, provenance: pa.Table, *, is_named: bool, tell: Tell) -> None:
    """Refuse a guessed column that names nearly each image of a file otherwise: such are ids.

    One that the user names, or that is called as labels usually are, is told of where each image has its own.

    Args:
        column: its name.
        provenance: (n rows) columns label and file.
        is_named: the user has named it.
        tell: told of it.

    Raises:
        KnnvoteError: it was guessed.
    """
    images, values = len(provenance), len(pc.unique(provenance["label"]))
    within_files = len(provenance.group_by(["file", "label"]).aggregate([]))
    if not look_like_ids(values, within_files, images):
        return
    told = f"column {column!r} has {values:,} values in {images:,} rows: it looks like an id"
    if not is_named and not is_usual_name(column):
        raise KnnvoteError(
            f"{told}; name the labels' with {param('label_column')}, or this one if they are, or give labels in a file "
            f"of their own with {param('labels')}"
        )
    if values == images:
        tell(f"{told}; {param('label_column')} names another column")


def tell_of_floats(images: ImageFile, label_column: str, tell: Tell) -> Tell:
    """Tell that floats are taken for classes, as they are if all are whole; what tells so of other files tells once."""
    kind = images.schema.field(label_column).type
    if not is_float(kind):
        return tell
    tell(
        f"{images.source.shown}: labels in column {label_column!r} are {kind}, and all are whole: they are "
        f"classes; to average them, give {param('is_regression=True')}"
    )
    return lambda _note: None


def tell_of_ids(ids: pa.ChunkedArray, tell: Tell) -> None:
    """Tell of ids (n,) that several images have."""
    if (told := repeated_told(ids)) is not None:
        tell(f"{told}: remove and relabel take all that have an id")


def tell_of_sources(new: Sequence[Source], tell: Tell) -> None:
    """Tell of files, or links to them, that hold the same."""
    first: dict[str | None, str] = {}
    copies = [source for source in new if source.dtype and first.setdefault(source.mark, source.path) != source.path]
    if copies:
        tell(
            f"{len(copies):,} of {len(new):,} files hold the same bytes as another, {copies[0].path} those of "
            f"{first[copies[0].mark]}: their images are stored, and vote, more than once; leave such files out"
        )


def tell_of_groups(
    provenance: pa.Table, before: int, names: list[str] | None, *, is_regression: bool, tell: Tell
) -> None:
    """Tell of images without a group, and of classes of one group alone; of rows without groups nothing.

    Args:
        provenance: of n rows.
        before: how many of them were told of before.
        names: of integer classes, where they have any.
        is_regression: labels are no classes.
        tell: told of them.
    """
    if GROUP not in provenance.schema.names:
        return
    if note := told_without_group(provenance.slice(before)):
        tell(note)
    groups = number_groups(provenance[GROUP])
    if not is_regression and groups.any() and (note := told_of_lone_classes(provenance["label"], groups, names)):
        tell(note)


def tell_of_first_classes(inputs: Sequence[InputFile], chosen: Sequence[NDArray[np.int64]] | None, tell: Tell) -> None:
    """Tell that the first rows of class folders are of some of these alone.

    Args:
        inputs: files and folders, in order.
        chosen: the rows of each that are taken; None where they are not the first of all.
        tell: told of it.
    """
    if chosen is None:
        return
    label = [
        source.told[0][1] if source.told and is_usual_name(source.told[0][0]) and not source.joined_label else None
        for source in inputs
    ]
    taken = {value for value, rows in zip(label, chosen, strict=True) if len(rows)}
    classes = {*label}
    if None not in classes and len(taken) < len(classes):
        tell(
            f"the first {sum(map(len, chosen)):,} rows are of {len(taken):,} of the {len(classes):,} classes that "
            f"folders are named for: {param('sample')} in place of {param('limit')} draws from all"
        )


def tell_of_types(types: Mapping[str, np.dtype[Any]], stored: np.dtype[Any], tell: Tell, *, grows: bool) -> None:
    """Tell that vectors of few bytes take more of them beside those of another file. Nothing is lost by that.

    Of pixels, which are unsigned, their scale is told.

    Args:
        types: what the vectors of each file alone need, first those of an index that files are added to.
        stored: in which all are stored.
        tell: told of it.
        grows: whether files are added to an index, whose bytes alone count then.
    """
    narrow = [name for name, dtype in types.items() if dtype.itemsize < stored.itemsize and dtype.kind != "u"]
    if not narrow or (grows and narrow[0] != next(iter(types))):
        return
    name, own = narrow[0], types[narrow[0]]
    for other, dtype in types.items():
        if not np.can_cast(dtype, own):
            times = stored.itemsize // own.itemsize
            tell(
                f"images of {name} are {own}, and those of {other} {dtype}: all are stored as {stored}, which holds "
                f"both, in {times} times the bytes of {own}; store {other} alone, or write its images as {own} first, "
                "if that loses little enough"
            )
            return


def tell_of_vectors(
    by_file: Mapping[str, tuple[Numbers, np.dtype[Any]]],
    image_column: str | None,
    tell: Tell,
    *,
    depends_on_scale: bool,
) -> None:
    """Tell of images of two scales, and of images that are all equal.

    Args:
        by_file: vectors (m, d) of each file, and the type that they alone need.
        image_column: where the first file holds its images.
        tell: told of them.
        depends_on_scale: whether distances do.
    """
    if depends_on_scale and (note := scales_told(by_file)):
        tell(note)
    pieces = [vectors for vectors, _ in by_file.values()]
    if all_equal(pieces):
        tell(
            f"all {sum(map(len, pieces)):,} images are equal, so no distance tells one from another: see that column "
            f"{image_column!r} holds the images; {param('image_column')} names another"
        )


def tell_of_like_classes(labels: pa.ChunkedArray | pa.Array, tell: Tell) -> None:
    """Tell of classes whose names look the same."""
    if pa.types.is_string(labels.type) and (note := told_alike(pc.unique(labels).to_pylist())):
        tell(note)


def tell_of_new_classes(stored: pa.ChunkedArray, added: pa.ChunkedArray, names: list[str] | None, tell: Tell) -> None:
    """Tell which classes of images that are added an index has not."""
    found = pc.unique(added)
    new = sorted(found.filter(pc.invert(pc.is_in(found, value_set=pc.unique(stored)))).to_pylist())
    if new:
        known = pc.unique(stored).to_pylist()
        shown = ", ".join(
            f"{label!r}{like_known(label, known)}" if names is None else show_class(label, names)
            for label in new[:_LISTED]
        )
        more = ", ..." if len(new) > _LISTED else ""
        tell(f"{len(new):,} new class{'es' if len(new) > 1 else ''}: {shown}{more}")
