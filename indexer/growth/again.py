"""Images that are given again to an index that stores them: passed over, or what to do about them."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.containers.label_table import LabelTable
from knnvote.data.errors import KnnvoteError, param
from knnvote.data.labels.lists import LABEL, is_of_review
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.training import TrainingSet

from .stored import refuse_stored_ids

_FIXES = "fixes.csv"


@dataclass(frozen=True, kw_only=True)
class _Again:
    """Images (m,) of an index's ids, as they are given again.

    Attributes:
        row: (m,) the first stored one of the id, -1 where it is of none.
        is_equal: (m,) whether that is the same image.
        is_other: (m,) whether it is, and has another label.
    """

    row: NDArray[np.int64]
    is_equal: NDArray[np.bool_]
    is_other: NDArray[np.bool_]


def without_stored(
    index: Index, found: TrainingSet, tables: Sequence[LabelTable], tell: Callable[[str], None]
) -> TrainingSet:
    """What was read for an index, without images that it stores already, where tables name the images.

    Args:
        index: an opened one, of n images.
        found: its provenance and that of m images of files, and the vectors (m, d) of these.
        tables: of their labels, as far as these are in some.
        tell: told how many were passed over.

    Raises:
        KnnvoteError: an id is stored of another image or under another label, or is stored and no table names it.
    """
    again = _find(index, found)
    if not tables:
        refuse_stored_ids(index, found.provenance["id"].combine_chunks(), _without_table(again))
        return found
    if again.is_other.any():
        raise _other_labels(index, found, again, tables)
    kept = ~again.is_equal
    if kept.all():
        new = found
    else:
        tell(
            f"{again.is_equal.sum():,} of {len(kept):,} labelled images of {tables[0].shown} are stored already under "
            "these labels, and are passed over"
        )
        images = None if found.images is None else found.images[kept]
        rows = found.provenance.filter(pa.array(np.append(np.ones(index.n, np.bool_), kept))).combine_chunks()
        new = replace(found, vectors=found.vectors[kept], images=images, provenance=rows)
    refuse_stored_ids(index, new.provenance["id"].combine_chunks(), _other_images())
    return new


def _find(index: Index, found: TrainingSet) -> _Again:
    """Which new images have ids of stored ones."""
    ids, labels = (found.provenance[name].combine_chunks() for name in ("id", "label"))
    new = ids[index.n :]
    stored = np.flatnonzero(pc.is_in(ids[: index.n], value_set=new).to_numpy(zero_copy_only=False))  # of many few
    places = pc.index_in(new, value_set=ids.take(pa.array(stored)))
    row = np.full(len(new), -1, np.int64)
    known = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    row[known] = stored[places.drop_null().to_numpy()]
    before, given = index.images, found.vectors if found.images is None else found.images
    is_equal, is_other = np.zeros((2, len(new)), np.bool_)
    is_equal[known] = [np.array_equal(before[row[place]], given[place]) for place in known.tolist()]
    equal = np.flatnonzero(is_equal)
    of_both = (labels.take(pa.array(rows)) for rows in (row[equal], index.n + equal))
    is_other[equal] = pc.not_equal(*of_both).to_numpy(zero_copy_only=False)
    return _Again(row=row, is_equal=is_equal, is_other=is_other)


def _without_table(again: _Again) -> str:
    """What helps where files of labelled images have ids that are stored."""
    if (again.is_equal != (again.row >= 0)).any():
        return _other_images()
    if again.is_equal.all():
        return "they are the same images, and knnvote relabel gives them other labels"
    return (
        f"they are the same images; to add the others give a table of ids and labels with {param('labels')}, by which "
        "stored ones are passed over; knnvote relabel gives these other labels"
    )


def _other_images() -> str:
    """What helps where ids are stored that other images have."""
    return (
        f"these are other images, so rename their files or name a column of ids with {param('id_column')}, or remove "
        "those that are stored first with knnvote remove"
    )


def _other_labels(index: Index, found: TrainingSet, again: _Again, tables: Sequence[LabelTable]) -> KnnvoteError:
    """That images are stored under other labels than a table has, and by what these are given to them."""
    place = int(np.flatnonzero(again.is_other)[0])
    rows = found.provenance.take(pa.array([index.n + place, again.row[place]])).to_pylist()
    new, old = (show_class(row["label"], index.manifest.class_names) for row in rows)
    (table, *others), fixes = tables, _FIXES
    if not others and is_of_review(table.header) and (table.key_column, table.label_column) == ("id", LABEL):
        fixes = table.shown
    given = found.provenance["label"].take(pa.array(index.n + np.flatnonzero(again.is_other)))
    is_new = not pc.all(pc.is_in(given, value_set=index.labels.unique().cast(given.type))).as_py()
    new = f" {param('new_classes=True')}" if is_new else ""
    how = f"knnvote relabel {shlex.quote(str(index.path))} {shlex.quote(fixes)}{new}"
    rest = f" once {fixes} has a column id and a column label of such rows alone" if fixes == _FIXES else ""
    return KnnvoteError(
        f"{index.path} stores {again.is_other.sum():,} of the {len(again.row):,} labelled images of {table.shown} "
        f"under another label, the first {rows[0]['id']!r} as {old}, and not {new}; nothing was added: {how} gives "
        f"them these labels{rest}; the same command then adds the others"
    )
