"""The page where one draws, and what it is answered."""

from typing import Any

import pyarrow as pa

from knnvote.classify.answer import BAD_IMAGE, OK
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.pages.drawing import DrawnAnswer, drawing_title, render_drawing
from knnvote.data.codec import decode
from knnvote.data.errors import CodecError, KnnvoteError
from knnvote.data.tables import image_table
from knnvote.data.vectors import Numbers
from knnvote.indexer.shown.thumbnails import SIDE, stored_thumbnail

from .pages import PageFolder
from .served import Served
from .tables import check_claimed

_TOP = 5  # classes whose share of the vote is shown


def drawn_pixels(served: Served, body: bytes, name: str) -> Numbers:
    """A drawing or a dropped picture as the index stores pictures, (height, width).

    Args:
        served: what answers.
        body: an encoded image.
        name: by which the index is asked for.

    Raises:
        KnnvoteError: the index stores none in grey; it cannot be read, or shows nothing.
    """
    if served.drawings is None:
        raise KnnvoteError(f"{name} stores no pictures in grey: send what it stores to /classify")
    check_claimed([body])
    try:
        picture = decode(body, grayscale=True, background="white")
    except CodecError as error:
        raise KnnvoteError(str(error)) from error
    return served.drawings.fit(picture)


def drawn_table(pixels: Numbers) -> pa.Table:
    """It as a request of one image."""
    return image_table(pixels[None])


def drawn_output(served: Served) -> OutputOptions:
    """What is asked of its answer."""
    return OutputOptions(neighbors=True, top=None if served.index.is_regression else _TOP)


def drawn_answer(served: Served, pixels: Numbers, answers: pa.Table) -> dict[str, Any]:
    """What the page shows of the answer to one drawing.

    Raises:
        KnnvoteError: the index could not use it.
    """
    (answer,) = answers.to_pylist()
    if answer["status"] == BAD_IMAGE:
        raise KnnvoteError(str(answer["reason"]))
    index = served.index
    seen = stored_thumbnail(index.manifest, pixels.ravel(), "the drawing as the classifier saw it", SIDE)
    shares = [*zip(answer.get("top") or (), answer.get("top_share") or (), strict=True)]
    return DrawnAnswer(
        label=answer["prediction"] if answer["status"] == OK else None,
        best=answer["best"],
        reason=answer["reason"],
        shares=shares,
        seen=seen.source,
        neighbors=answer["neighbors"],
    ).to_json(index)


def title_of(served: Served) -> str:
    """The title of the page."""
    return drawing_title(can_draw=served.drawings is not None)


def page(served: Served, name: str, pages: PageFolder | None) -> str:
    """The page as text, which leads to those that are served too."""
    drawings = served.drawings
    pen = None if drawings is None else drawings.pen / (drawings.side or max(drawings.shape))
    return render_drawing(
        served.classifier,
        name=name,
        pen=pen,
        is_framed=drawings is not None and drawings.side is None,
        links=() if pages is None else pages.links(title_of(served)),
    )
