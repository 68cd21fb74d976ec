"""The page of ``knnvote review``: a card for each row to look at, in the order of the file to fill in."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from knnvote.classify.look.review import Doubtful, Review
from knnvote.data.errors import as_recorded, spelled
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.shown.thumbnails import Thumbnail, thumbnail

from .facts import Fact, index_facts
from .page import Frame, Tile, write_page
from .voters import Voter, show_voters


@dataclass(frozen=True, kw_only=True)
class Card:
    """A row with its picture and those of its neighbours."""

    row: Doubtful
    picture: Thumbnail
    voters: list[Voter]


def write_review_page(path: Path, found: Review, index: Index | None, csv: Path, frame: Frame | None = None) -> None:
    """Write the page of what `review` found with pixels.

    Args:
        path: of the page.
        found: the rows.
        index: of the job, whose images the neighbours are; None where it was not given.
        csv: the file to fill in.
        frame: what else the page is told.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    held = [row.pixels for row in found.rows if row.pixels is not None]
    low = min((float(np.min(pixels)) for pixels in held), default=0.0)
    shades = min(0.0, low), max((float(np.max(pixels)) for pixels in held), default=0.0)
    cards = []
    for row in found.rows:
        told = f"the image {row.place}"
        picture = Thumbnail("", told) if row.pixels is None else thumbnail(row.pixels, shades, told)
        voters = [] if index is None else show_voters(index, row.neighbors)
        cards.append(Card(row=row, picture=picture, voters=voters))
    write_page(
        path,
        "review.html.j2",
        title=f"{len(cards):,} rows of {found.out} to look at",
        frame=frame,
        tiles=[
            Tile("rows to look at", f"{len(cards):,}", f"of {sum(rows for *_, rows in found.kinds):,} in the job"),
            *(Tile(kind, f"{listed:,}", f"of {rows:,} in the job") for kind, listed, rows in found.kinds if rows),
        ],
        made=[Fact("job", found.out, found.written), *([] if index is None else [index_facts(index)])],
        found=found,
        left_out=[spelled(told, as_recorded) for told in (found.told_of_stored, found.told_of_copies) if told],
        notes=[spelled(words, as_recorded) for words in found.notes],
        cards=cards,
        csv=csv,
        has_pictures=bool(held) or not found.rows,
        name=partial(show_class, names=None if index is None else index.manifest.class_names),
    )
