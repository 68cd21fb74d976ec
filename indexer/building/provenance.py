"""Where each stored row comes from: its label, id, file and row; and how ids tell rows apart."""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.columns import is_string
from knnvote.data.containers.joined import with_prefix
from knnvote.data.containers.keys import lost_zeros
from knnvote.data.containers.tar import TAR_KEY
from knnvote.data.errors import KnnvoteError, OptionError, is_whole, param
from knnvote.data.locations import Location
from knnvote.data.tables import values_of, why_no_column
from knnvote.indexer.groups.record import GROUP
from knnvote.indexer.records.kept import stored_as
from knnvote.indexer.records.weights import WEIGHT

ARRAY = "array"  # the file of rows that came from none
_WHOLE = r"^([+-]?\d+)[.,]0{1,2}$"  # three zeros may be thousands
_GROUPED = r"^[+-]?\d{1,3}([.,' \x{a0}\x{202f}]\d{3})+$"


def read_ids(source: Location, ids: pa.Array, id_column: str, prefix: str = "") -> pa.Array:
    """Ids of a column of a file as strings, behind a prefix.

    Raises:
        KnnvoteError: they cannot be written so.
    """
    try:
        return with_prefix(prefix, ids.cast(pa.string()))
    except pa.ArrowException as error:
        raise KnnvoteError(
            f"{source.shown}, column {id_column!r}: ids of type {ids.type} cannot be written as text: "
            f"name another with {param('id_column')}"
        ) from error


def id_array(
    ids: Any, name: str = "ids", expected: str = "give texts or whole numbers, one or several"
) -> pa.Array | pa.ChunkedArray:
    """Ids that Python gives as strings.

    Args:
        ids: texts or whole numbers, one or several.
        name: of the parameter.
        expected: what to give instead of what is none.

    Raises:
        OptionError: they are none.
    """
    several = [ids] if isinstance(ids, str) or is_whole(ids) else values_of(ids, name)
    try:
        given = several if isinstance(several, pa.ChunkedArray) else pa.array(several)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise OptionError(f"{param(name)} cannot be used ({why_no_column(several, error)}): {expected}") from error
    if not (is_string(given.type) or pa.types.is_integer(given.type) or pa.types.is_null(given.type)):
        raise OptionError(f"{param(name)} are of type {given.type}: {expected}")
    return given.cast(pa.string())


def provenance_table(
    labels: pa.Array,
    ids: pa.Array | None,
    file: str,
    rows: NDArray[np.int64],
    *,
    groups: pa.Array | None = None,
    weights: NDArray[np.float64] | None = None,
    kept: Mapping[str, pa.Array] = MappingProxyType({}),
) -> pa.Table:
    """Columns label, id (string, ``file#row`` where none is given), file, row (int64); group, weight, kept if given."""
    row_numbers = pa.array(rows, pa.int64())
    files = pa.array([file] * len(rows), pa.string())
    if ids is None or ids.null_count:
        default = pc.binary_join_element_wise(files, row_numbers.cast(pa.string()), "#")
        ids = default if ids is None else pc.coalesce(ids, default)
    found = {"label": labels, "id": ids, "file": files, "row": row_numbers}
    found |= {} if groups is None else {GROUP: groups}
    found |= {} if weights is None else {WEIGHT: pa.array(weights, pa.float64())}
    found |= {stored_as(name): values for name, values in kept.items()}
    return pa.table(found)


def distinct_ids(provenance: pa.Table, first: int) -> pa.Table:
    """The same, where rows from the first on whose ids are alike, as keys in shards may be, have ``file#id``."""
    new = provenance.slice(first)
    alike = _repeated(new["id"])
    if not len(alike):
        return provenance
    return pa.concat_tables([provenance.slice(0, first), with_files(new, alike)]).combine_chunks()


def with_files(provenance: pa.Table, alike: pa.Array) -> pa.Table:
    """The same, where the ids that are among those alike are ``file#id``."""
    ids = provenance["id"]
    named = pc.binary_join_element_wise(provenance["file"], ids, "#")
    renamed = pc.if_else(pc.is_in(ids, value_set=alike), named, ids)
    return provenance.set_column(provenance.schema.get_field_index("id"), "id", renamed)


def alike_ids(pieces: Sequence[pa.ChunkedArray]) -> pa.Array:
    """The ids that stand more than once in pieces of a long column; 8 bytes of each are held."""
    hashes = [
        np.array([blake2b(text.encode(), digest_size=8).digest() for text in ids.to_pylist()], "S8").view(np.uint64)
        for ids in pieces
    ]
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    again = values[counts > 1]
    found = [ids.filter(pa.array(np.isin(hashed, again))) for ids, hashed in zip(pieces, hashes, strict=True)]
    return _repeated(pa.chunked_array([chunk for ids in found for chunk in ids.chunks], pa.string()))


def ids_as_stored(ids: pa.Array, stored: pa.Array, tell: Callable[[str], None]) -> pa.Array:
    """Ids (m,) as the stored (n,) are written, where they are other than these but can be meant for one alone.

    Such are a key of a tar file, which only one of the stored ids ends with, and a whole number as programs write a
    column of numbers with gaps, 3144.0 for 3144.

    Args:
        ids: that are given.
        stored: those of an index.
        tell: told of numbers that were taken so.

    Raises:
        KnnvoteError: several stored images have the key.
    """
    is_stored = pc.is_in(ids, value_set=stored)
    of_shards = stored.filter(pc.match_substring(stored, TAR_KEY))
    keys = pc.replace_substring_regex(of_shards, f"^.*?{re.escape(TAR_KEY)}", "")
    given = pc.is_in(keys, value_set=ids.filter(pc.invert(is_stored)))
    counts = keys.filter(given).value_counts()
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(several):
        one, other = of_shards.filter(pc.equal(keys, several[0])).to_pylist()[:2]
        raise KnnvoteError(
            f"{len(several):,} of the ids are keys of several stored images, the first, {several[0].as_py()!r}, of "
            f"{one} and {other}: give these"
        )
    whole = pc.replace_substring_regex(ids, _WHOLE, r"\1")
    is_whole = pc.and_not(pc.and_(pc.not_equal(whole, ids), pc.is_in(whole, value_set=stored)), is_stored)
    if pc.any(is_whole).as_py():
        first, number = (of.filter(is_whole)[0].as_py() for of in (ids, whole))
        tell(
            f"ids written with a point are whole numbers, and became integers, as they are stored: "
            f"{is_whole.true_count:,} of {len(ids):,}, as {first} to {number}"
        )
    ids = pc.if_else(is_whole, whole, ids)
    return pc.if_else(is_stored, ids, pc.coalesce(of_shards.take(pc.index_in(ids, value_set=keys)), ids))


def repeated_told(ids: pa.Array | pa.ChunkedArray) -> str | None:
    """That of stored ids (n,) some are stored several times; None where none is."""
    repeated = _repeated(ids)
    if not len(repeated):
        return None
    first = repeated[0].as_py()
    times = pc.sum(pc.equal(ids, first)).as_py()
    of = "1 id is" if len(repeated) == 1 else f"{len(repeated):,} ids are"
    return f"{of} stored several times, {'the first, ' * (len(repeated) > 1)}{first!r}, {times:,} times"


def known_ids(ids: pa.Array, stored: pa.Array, path: Path, undone: str, tell: Callable[[str], None]) -> pa.Array:
    """Ids (m,) as `ids_as_stored` has them, each of which is stored.

    Args:
        ids: likewise.
        stored: likewise.
        path: of the index.
        undone: what was not done where one is not stored.
        tell: as of `ids_as_stored`.

    Raises:
        KnnvoteError: an id is not stored, or several stored images have the key that it is.
    """
    ids = ids_as_stored(ids, stored, tell)
    unknown = ids.filter(pc.invert(pc.is_in(ids, value_set=stored))).unique()
    if len(unknown):
        how = spoiled_told(unknown, stored) or (
            f"give ids as {param('Answer.neighbors')} shows them, and leave out those of other images"
        )
        raise KnnvoteError(
            f"{path} does not store {len(unknown):,} of the {len(ids.unique()):,} ids, the first "
            f"{unknown[0].as_py()!r}; {undone}: {how}"
        )
    return ids


def spoiled_told(unknown: pa.Array, stored: pa.Array) -> str | None:
    """What to give for ids (m,) that are not stored, where they are so but for what a spreadsheet does; else None."""
    return _separators_told(unknown, stored) or lost_zeros(unknown[0].as_py(), stored)


def _separators_told(unknown: pa.Array, stored: pa.Array) -> str | None:
    """Likewise, for separators of thousands alone."""
    bare = pc.replace_substring_regex(unknown, r"[.,' \x{a0}\x{202f}]", "")
    grouped = pc.match_substring_regex(unknown, _GROUPED)
    if not pc.all(pc.and_(grouped, pc.is_in(bare, value_set=stored))).as_py():
        return None
    return f"give whole numbers without separators of thousands, as {bare[0].as_py()} for {unknown[0].as_py()}"


def _repeated(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Those that stand more than once, each once."""
    counts = ids.value_counts()
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
