"""The page of ``knnvote suspects``: stored images whose label is likely wrong, beside what contradicts it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knnvote.classify.evaluation.suspects import Suspect, Suspects
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class

from .page import write_page
from .thumbnails import Thumbnail, index_thumbnail
from .voters import Voter, show_voters


@dataclass(frozen=True, kw_only=True)
class ShownSuspect:
    """A suspect with its picture, and those of its neighbours and of equal images with another label."""

    suspect: Suspect
    picture: Thumbnail
    neighbors: list[Voter]
    equal: list[Voter]


def write_suspects(path: Path, found: Suspects, index: Index, top: int) -> None:
    """Write the page of the first suspects that `find_suspects` found in an index.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    name = partial(show_class, names=found.class_names)
    shown = [
        ShownSuspect(
            suspect=suspect,
            picture=index_thumbnail(index, index.vectors[suspect.row], f"the image stored as {name(suspect.label)}"),
            neighbors=show_voters(index, suspect.neighbors),
            equal=show_voters(index, suspect.equal),
        )
        for suspect in found.cases[:top]
    ]
    write_page(path, "suspects.html.j2", index=index, found=found, shown=shown, name=name)
