"""Lists for a person to fill in, as `suspects` and `review` write them: by which columns they are known, and whose."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from .provenance import ids_as_stored

FIX = "fix"  # a column to be filled in by who looks: the right label, be it the present one
LABEL = "label"
_OF_REVIEW = ("why", LABEL)
_TO_FILL_IN = ((FIX,), _OF_REVIEW)  # columns that tell such lists, the last of which is to be filled in


def told_to_fill_in(names: Sequence[str]) -> tuple[str, ...]:
    """The columns that tell that a file of some columns is a list to be filled in, if it is."""
    return next((told for told in _TO_FILL_IN if {*told} <= {*names}), ())


def is_of_review(names: Sequence[str]) -> bool:
    """Whether a file of some columns is a list of `review`, of rows of which any, few or none are stored."""
    return told_to_fill_in(names) == _OF_REVIEW


def of_stored(fixes: pa.Table, ids: pa.Array, shown: str, tell: Callable[[str], None]) -> pa.Table:
    """Of a list of `review` the rows of images that an index stores; those of others that are filled in are told.

    Args:
        fixes: the list's columns id, string, and value, null where it is empty.
        ids: (n,) of the stored images.
        shown: the list, as users know it.
        tell: told how many labels are of others, and as of `ids_as_stored`.
    """
    stored = fixes.filter(pc.is_in(ids_as_stored(fixes["id"].combine_chunks(), ids, tell), value_set=ids))
    if others := len(fixes["value"].drop_null()) - len(stored["value"].drop_null()):
        tell(
            f"{others:,} labelled rows of {shown} are of images that are not stored, and are passed over: knnvote add "
            "takes them"
        )
    return stored
