"""Stored images among what is explained: the others answer for them, as for those that are left out to measure."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.classify.answer import Answer
from knnvote.classify.classifier import Classifier
from knnvote.classify.search.left_out import check_left_out, neighbors_left_out
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.building.provenance import ids_as_stored
from knnvote.indexer.index import Index

ROW_OF_FILE = re.compile(r"(.+)#(\d+)", re.ASCII | re.DOTALL)


def find_stored(index: Index, name: str) -> int | None:
    """The row of an index that has an id, or came from ``FILE#ROW``; None where there is none.

    Raises:
        KnnvoteError: several have the id.
    """
    (id_,) = ids_as_stored(pa.array([name]), index.ids, lambda _note: None)
    rows = np.flatnonzero(pc.equal(index.ids, id_).to_numpy(zero_copy_only=False))
    if len(rows) > 1:
        one, other = (f"{place['file']}#{place['row']}" for place in index.places(rows[:2]).to_pylist())
        raise KnnvoteError(
            f"{name!r} is the id of {len(rows):,} images of {index.path}: give one by its file and row, as {one} or "
            f"{other}"
        )
    parts = ROW_OF_FILE.fullmatch(name)
    if len(rows) or parts is None:
        return int(rows[0]) if len(rows) else None
    return row_from(index, parts[1], int(parts[2]))


def row_from(index: Index, file: str, row: int) -> int | None:
    """The row of an index that came from a row of a file, by the name that it has there; None where none did."""
    places = index.provenance("file", "row")
    is_one = pc.and_(pc.equal(places["file"], file), pc.equal(places["row"], row))
    place = int(pc.index(is_one, True).as_py())
    return None if place < 0 else place


def answer_left_out(classifier: Classifier, row: int) -> Answer:
    """What the other stored images, but those of its group, say of one that is stored.

    Raises:
        KnnvoteError: they are fewer than vote.
    """
    index, k = classifier.index, classifier.rule.k
    check_left_out(index, "k", k, k)
    D, I = neighbors_left_out(index, np.array([row]), k)
    return classifier.answer_neighbors(D, I)
