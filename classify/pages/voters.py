"""Stored images that speak of another one, with their pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from knnvote.classify.answer import Neighbor
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.shown.thumbnails import SMALL, Thumbnail, stored_thumbnail


@dataclass(frozen=True, kw_only=True)
class Voter:
    """A neighbour that voted, with its picture."""

    neighbor: Neighbor
    picture: Thumbnail


def show_voters(index: Index, neighbors: Sequence[Neighbor]) -> list[Voter]:
    """Neighbours with the pictures of their images."""
    names = index.manifest.class_names
    return [
        Voter(
            neighbor=neighbor,
            picture=stored_thumbnail(
                index.manifest, index.images[neighbor.row], f"a stored {show_class(neighbor.label, names)}", SMALL
            ),
        )
        for neighbor in neighbors
    ]
