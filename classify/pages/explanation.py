"""The page of ``knnvote explain``: images, their answers, and the stored images that gave them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knnvote.classify.look.explain import Explanation, Explanations
from knnvote.classify.look.words import advice, kept_values, nearness, verdict
from knnvote.classify.pictures.nearness import draw_nearness
from knnvote.indexer.labels import show_class

from .page import inline_svg, write_page
from .thumbnails import Thumbnail, thumbnail
from .voters import Voter, show_voters


@dataclass(frozen=True, kw_only=True)
class ShownExplanation:
    """One image with what is said of it, its neighbours' pictures, and a figure of how near they are."""

    one: Explanation
    verdict: str
    advice: str
    nearness: str
    kept: list[tuple[str, str]]
    picture: Thumbnail
    voters: list[Voter]
    figure: str


def write_explanations(path: Path, found: Explanations) -> None:
    """Write the page of some explanations.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    names = found.index.manifest.class_names
    write_page(
        path,
        "explanation.html.j2",
        index=found.index,
        shown=[_show(found, one) for one in found.shown],
        name=partial(show_class, names=names),
        left_out=len(found.distances),
    )


def _show(found: Explanations, one: Explanation) -> ShownExplanation:
    index = found.index
    low, high = index.manifest.range
    told = f"the image {one.name}"
    has_figure = one.neighbors and len(found.distances)
    return ShownExplanation(
        one=one,
        verdict=verdict(one, index.manifest.class_names),
        advice=advice(one),
        nearness=nearness(found, one),
        kept=kept_values(one),
        picture=Thumbnail("", told) if one.pixels is None else thumbnail(one.pixels, (min(0.0, low), high), told),
        voters=show_voters(index, one.neighbors),
        figure=inline_svg(draw_nearness(found.distances, one.answer.D[0].tolist())) if has_figure else "",
    )
