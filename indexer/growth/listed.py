"""Lists of `review`, of which any rows may be of stored images."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.errors import KnnvoteError
from knnvote.data.text import counted
from knnvote.indexer.building.provenance import ids_as_stored, spoiled_told


def of_stored(fixes: pa.Table, ids: pa.Array, shown: str, tell: Callable[[str], None]) -> pa.Table:
    """Of a list of `review` the rows of images that an index stores; those of others that are filled in are told.

    Args:
        fixes: the list's columns id, string, and value, null where it is empty.
        ids: (n,) of the stored images.
        shown: the list, as users know it.
        tell: told how many labels are of others.

    Raises:
        KnnvoteError: these are ids of stored ones as a spreadsheet spoils them, or several stored images have one.
    """
    given = ids_as_stored(fixes["id"].combine_chunks(), ids, lambda _told: None)  # which is told when they are used
    is_stored = pc.is_in(given, value_set=ids)
    others = given.filter(pc.and_not(fixes["value"].is_valid().combine_chunks(), is_stored))
    if len(others):
        if (spoiled := spoiled_told(others, ids)) is not None:
            raise KnnvoteError(f"{shown} has ids that are not stored, the first {others[0].as_py()!r}: {spoiled}")
        tell(
            f"{counted(len(others), 'labelled row')} of {shown} {'is' if len(others) == 1 else 'are'} of images that "
            "are not stored, and passed over: knnvote add takes them"
        )
    return fixes.filter(is_stored)
