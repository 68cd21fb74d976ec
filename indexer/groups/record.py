"""Groups: stored images that belong together, as those of one patient, film or document do, and are much alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, param
from knnvote.indexer.labels import show_class

GROUP = "group"  # the column that keeps them
_SHOWN = 5  # classes


@dataclass(frozen=True, kw_only=True)
class Groups:
    """What an index says of its groups.

    Attributes:
        column: that named them; None for arrays.
        count: of them. An image without one is a group of its own.
        largest: images of the largest.
    """

    column: str | None
    count: int
    largest: int

    @classmethod
    def of(cls, provenance: pa.Table, column: str | None) -> "Groups | None":
        """Of what is known of n rows; None where no groups are."""
        if GROUP not in provenance.schema.names:
            return None
        sizes = np.bincount(number_groups(provenance[GROUP]))
        return cls(column=column, count=len(sizes), largest=int(sizes.max()))

    @property
    def told(self) -> str:
        """In words."""
        named = "" if self.column is None else f" by column {self.column!r}"
        return (
            f"{self.count:,} groups{named}, the largest of {self.largest:,} images: an image is left out with its group"
        )


def number_groups(groups: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) a number for each group, from 0, which its images share; those without one have each their own."""
    encoded = groups.combine_chunks().dictionary_encode()
    numbers: NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    alone = np.flatnonzero(numbers < 0)
    numbers[alone] = len(encoded.dictionary) + np.arange(len(alone))
    return numbers


def told_without_group(provenance: pa.Table) -> str | None:
    """What is to be told of rows without a group; None where each has one."""
    missing = provenance[GROUP].null_count if GROUP in provenance.schema.names else 0
    if not missing:
        return None
    return (
        f"{missing:,} of {len(provenance):,} images have no group: each counts as a group of its own, and near copies "
        "of it are not left out with it"
    )


def told_of_lone_classes(labels: pa.Array, groups: NDArray[np.int64], names: list[str] | None) -> str | None:
    """What is to be told of classes whose images are all of one group, one each; None where there are none.

    Args:
        labels: (n,) classes.
        groups: (n,) as `number_groups` gives them.
        names: of integer classes, where they have any.
    """
    pairs = pa.table({"label": labels, GROUP: groups}).group_by("label")
    found = pairs.aggregate([(GROUP, "count_distinct"), (GROUP, "count")])
    is_lone = pc.and_(pc.equal(found["group_count_distinct"], 1), pc.greater(found["group_count"], 1))
    lone: list[Any] = sorted(found["label"].filter(is_lone).to_pylist())
    if not lone:
        return None
    shown = ", ".join(show_class(label, names) for label in lone[:_SHOWN]) + (", ..." if lone[_SHOWN:] else "")
    return (
        f"all images of class {shown} are of one group: with that left out no other has their label, and they count "
        "as wrong"
        if len(lone) == 1
        else f"{len(lone):,} classes have images of one group alone ({shown}): with that left out no other has their "
        "label, and they count as wrong"
    )


def refuse_one_group(groups: Groups | None, images: int) -> None:
    """Refuse groups of which there is but one: with it, all is left out.

    Raises:
        KnnvoteError: naming their column.
    """
    if groups is not None and groups.count == 1 and images > 1:
        others = "give other groups" if groups.column is None else f"name another column with {param('group_column')}"
        where = "" if groups.column is None else f" by column {groups.column!r}"
        raise KnnvoteError(
            f"all {images:,} images are of one group{where}, and with it left out nothing is left to judge them by: "
            f"{others}, or none"
        )
