"""Keys of a table of labels: each once, and how spreadsheets change them."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.errors import ImageFileError, warn


def once(shown: str, keys: pa.Array, labels: pa.Array) -> pa.Array:
    """The places of each key: of the first that has a label, or else of the first. Rows without both are none.

    Raises:
        ImageFileError: one has two labels.
    """
    places, values = np.arange(len(keys)), labels.to_pylist()
    has_label = labels.is_valid().to_numpy(zero_copy_only=False)
    first: dict[str, int] = {}
    texts = keys.to_pylist()
    for place in places[has_label].tolist():
        key = texts[place]
        before = first.setdefault(key, place)
        if values[before] != values[place]:
            raise ImageFileError(
                f"{shown}: {key!r} has two labels, {values[before]} and {values[place]}: leave in the right one"
            )
    if repeated := int(has_label.sum()) - len(first):
        warn(f"{shown}: {repeated:,} of {len(keys):,} rows repeat a key with the same label")
    for place in places[~has_label].tolist():
        if texts[place] is not None:  # else a row of empty cells, as spreadsheets leave them
            first.setdefault(texts[place], place)
    return pa.array(sorted(first.values()), pa.int64())


def kept_once(shown: str, name: str, keys: pa.Array, values: pa.Array, kept: pa.Array) -> pa.Array:
    """The values (m,) of a column at the places that are kept, of which each key is at one.

    Raises:
        ImageFileError: a key has two.
    """
    of_keys = values.take(kept)
    known = dict(zip(keys.take(kept).to_pylist(), of_keys.to_pylist(), strict=True))
    for key, value in zip(keys.to_pylist(), values.to_pylist(), strict=True):
        if value is not None and known.get(key, value) != value:
            raise ImageFileError(
                f"{shown}: {key!r} has two values in column {name!r}, {known[key]} and {value}: leave in the right one"
            )
    return of_keys


def lost_zeros(given: str, known: pa.Array) -> str | None:
    """What to give where an id lacks the zeros before a number that one of the known ids (n,) has; None without any."""
    if not re.fullmatch(r"[1-9][0-9]*", given):
        return None
    meant = known.filter(pc.and_(pc.equal(pc.utf8_ltrim(known, "0"), given), pc.not_equal(known, given)))
    if not len(meant):
        return None
    return (
        f"give {meant[0].as_py()!r} for {given!r}, and so on, for a spreadsheet took the ids for numbers and left out "
        "their zeros: their column needs the format of text when a list is opened there"
    )
