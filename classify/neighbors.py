"""Stored images that speak of another one, as records for people and programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.index import Index


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A stored image: its row in the index, its id, label, and distance in the index's metric."""

    row: int
    id: str
    label: Any
    distance: float


def neighbors_of(
    index: Index, rows: Sequence[int] | NDArray[np.int64], distances: Sequence[float] | NDArray[np.float64]
) -> list[Neighbor]:
    """Stored images by their rows, with the distances that go with them."""
    places = np.asarray(rows, np.int64)
    ids, labels = (values.take(places).to_pylist() for values in (index.ids, index.labels))
    return [
        Neighbor(row=int(row), id=name, label=label, distance=float(distance))
        for row, name, label, distance in zip(places, ids, labels, distances, strict=True)
    ]
