"""Lists of `review`, of which any rows may be of stored images."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.indexer.building.provenance import ids_as_stored


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
