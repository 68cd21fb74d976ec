"""The page of ``knnvote explain``: images, their answers, and the stored images that gave them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knnvote.classify.answer import OK
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.look.explain import Explanation, Explanations
from knnvote.classify.look.words import advice, kept_values, left_out, nearness, outvoted, verdict
from knnvote.indexer.labels import show_class
from knnvote.indexer.shown.thumbnails import Thumbnail, thumbnail

from .charts import Histogram, bin_values, draw_histogram
from .facts import Fact, index_facts
from .page import Frame, Tile, write_page
from .voters import Voter, show_voters

_BINS = 40


@dataclass(frozen=True, kw_only=True)
class ShownExplanation:
    """One image with what is said of it, its neighbours' pictures, and a figure of how near they are."""

    one: Explanation
    verdict: str
    advice: str
    left_out: str
    outvoted: str
    nearness: str
    kept: list[tuple[str, str]]
    picture: Thumbnail
    voters: list[Voter]
    figure: Histogram | None


def write_explanations(
    path: Path, found: Explanations, frame: Frame | None = None, *, job: FinishedJob | None = None
) -> None:
    """Write the page of some explanations, of rows of a job if there is one.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    names = found.index.manifest.class_names
    write_page(
        path,
        "explanation.html.j2",
        title=_title(found),
        frame=frame,
        tiles=_tiles(found),
        made=[*([] if job is None else [Fact("job", job.out.shown, job.written)]), index_facts(found.index)],
        index=found.index,
        shown=[_show(found, one) for one in found.shown],
        name=partial(show_class, names=names),
        left_out=len(found.distances),
    )


def _title(found: Explanations) -> str:
    if len(found.shown) > 1:
        return f"Why these {len(found.shown)} images got their answers"
    return f"Why {found.shown[0].name} got this answer"


def _tiles(found: Explanations) -> list[Tile]:
    """Of one image its answer, how sure it is, and how near what it rests on; several have that one by one."""
    (one, *others), names = found.shown, found.index.manifest.class_names
    if others or not one.neighbors:
        return []
    is_ok, answer = one.status == OK, one.answer
    tiles = [Tile("label" if is_ok else "no label; best guess", show_class(one.best, names), one.reason or "")]
    if one.votes:
        voted = one.votes[0].neighbors
        tiles.append(Tile("confidence", f"{answer.confidence[0]:.0%}", f"{voted} of {len(one.neighbors)} neighbours"))
        if len(one.votes) > 1:
            second = answer.second[0].as_py()
            tiles.append(Tile("second", show_class(second, names), f"margin {answer.margin[0]:.0%}"))
    nearest = one.neighbors[0]
    tiles.append(Tile("nearest stored image", f"{nearest.distance:.4g}", f"away: {nearest.id}"))
    return tiles


def _draw_nearness(found: Explanations, one: Explanation) -> Histogram:
    """How far stored images are from their nearest others, and where the neighbours lie among them."""
    marks = [(distance, f"neighbour at {distance:.4g}") for distance in one.answer.D[0].tolist()]
    marks[0] = (marks[0][0], f"the nearest neighbour here, at {marks[0][0]:.4g}")
    return draw_histogram(bin_values(found.distances, _BINS), marks)


def _show(found: Explanations, one: Explanation) -> ShownExplanation:
    index = found.index
    low, high = index.image_range
    told = f"the image {one.name}"
    has_figure = bool(one.neighbors) and len(found.distances) > 0
    return ShownExplanation(
        one=one,
        verdict=verdict(one, index.manifest.class_names),
        advice=advice(one),
        left_out=left_out(one, index.manifest.class_names),
        outvoted=outvoted(one, index.manifest.class_names),
        nearness=nearness(found, one),
        kept=kept_values(one),
        picture=Thumbnail("", told) if one.pixels is None else thumbnail(one.pixels, (min(0.0, low), high), told),
        voters=show_voters(index, one.neighbors),
        figure=_draw_nearness(found, one) if has_figure else None,
    )
