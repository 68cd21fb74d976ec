"""The page of ``knnvote suspects``: stored images whose label is likely wrong, beside what contradicts it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knnvote.classify.evaluation.suspects import Suspect, Suspects
from knnvote.classify.weighting import told_class_weight
from knnvote.data.errors import as_recorded, param, spelled
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.shown.thumbnails import Thumbnail, stored_thumbnail

from .facts import index_facts
from .page import Frame, Tile, write_page
from .voters import Voter, show_voters


@dataclass(frozen=True, kw_only=True)
class ShownSuspect:
    """A suspect with its picture, and those of its neighbours and of equal images with another label."""

    suspect: Suspect
    picture: Thumbnail
    neighbors: list[Voter]
    equal: list[Voter]


def write_suspects(path: Path, found: Suspects, index: Index, top: int, frame: Frame | None = None) -> None:
    """Write the page of the first suspects that `find_suspects` found in an index.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    name = partial(show_class, names=found.class_names)
    shown = [
        ShownSuspect(
            suspect=suspect,
            picture=stored_thumbnail(
                index.manifest, index.images[suspect.row], f"the image stored as {name(suspect.label)}"
            ),
            neighbors=show_voters(index, suspect.neighbors),
            equal=show_voters(index, suspect.equal),
        )
        for suspect in found.cases[:top]
    ]
    write_page(
        path,
        "suspects.html.j2",
        title=f"Suspects of {index.path}",
        frame=frame,
        tiles=_tiles(found, top),
        made=[index_facts(index)],
        index=index,
        found=found,
        weighed=None if found.class_weight is None else told_class_weight(found.class_weight),
        shown=shown,
        name=name,
    )


def _tiles(found: Suspects, top: int) -> list[Tile]:
    """How many labels are likely wrong, how many are suspect, and how far the list has to be read."""
    tiles, errors = [], found.label_errors
    if errors is not None:
        share = f"{errors.low:,.0f} to {errors.high:,.0f} of {found.images:,}, if labels went wrong at random"
        tiles.append(Tile("labels wrong, if at random", f"{errors.value:,.0f}", share))
    loses = f"{found.losing_the_vote / found.images:.2%}: their neighbours say another label"
    tiles.append(Tile("suspects", f"{found.losing_the_vote:,}", loses))
    if errors is not None and errors.first and errors.hold is not None:
        held = f"would hold {errors.hold:,.0f} of these"
        if errors.first > top:
            held += spelled(f"; {param('top')} {errors.first} shows them here", as_recorded)
        tiles.append(Tile("look at the first", f"{errors.first:,}", held))
    if found.with_equal:
        tiles.append(Tile("contradicted by an equal image", f"{found.with_equal:,}", "of each pair one is wrong"))
    if found.reviewed:
        tiles.append(Tile("reviewed", f"{found.reviewed:,}", "are left out"))
    return tiles
