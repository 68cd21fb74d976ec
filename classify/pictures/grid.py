"""Images with their labels: a grid of them, or a row for each wrong one with the neighbours that outvoted the truth."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE
from knnvote.classify.job.selection import ShownImage
from knnvote.classify.names import Ink
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.indexer.shown.thumbnails import as_seen

from .figures import INK, WRONG, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_CELLS = 20  # along a side: the layout of more takes long
_MOST_VOTERS = 15  # of a row
_CELL = 1.25  # inches, of an image and the space around it
_LINE = 0.17  # inches, of a title
_CHARACTER = 0.085  # inches, likewise
_FRAME = 2.5
_CROSS = "✗ "  # before what is wrong


def check_grid(grid: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a grid.

    Raises:
        OptionError: these are not two numbers that a picture has room for.
    """
    if len(grid) != 2 or max(grid) > _MOST_CELLS:
        raise OptionError(
            f"{param('grid')} is {'x'.join(map(str, grid))}: give rows and columns, "
            f"at most {_MOST_CELLS} each, such as 2x5"
        )
    return grid[0], grid[1]


def draw_grid(images: Sequence[ShownImage], columns: int, *, ink: Ink = "light") -> "Figure":
    """Images in rows of so many, each below its label, or below prediction and truth where a job answered.

    Raises:
        KnnvoteError: there are none.
    """
    if not images:
        raise KnnvoteError("the files hold no rows: there is no image to show")
    columns = min(columns, len(images))
    titles = [_title(image) for image in images]
    figure, cells = _cells(-(-len(images) // columns), columns, images[0].pixels, titles)
    shades = _range(image.pixels for image in images)
    for axes, image, title in zip(cells, images, titles, strict=False):
        _draw(axes, image.pixels, shades, title, is_marked=image.is_wrong, ink=ink)
    for axes in cells[len(images) :]:
        axes.remove()
    return figure


def draw_errors(images: Sequence[ShownImage], *, ink: Ink = "light") -> "Figure":
    """A row for each image with an answer: itself, then the nearest of its voters, with label and distance."""
    rule = Rule() if images[0].answer is None else images[0].answer.rule
    shown = min(rule.k, _MOST_VOTERS)
    cells: list[tuple[NDArray[Any] | None, str, bool]] = []
    for image in images:
        cells += [(image.pixels, _title(image), False), *_voters(image, shown)]
    figure, all_axes = _cells(len(images), shown + 1, images[0].pixels, [title for _, title, _ in cells])
    shades = _range(pixels for pixels, _, _ in cells)
    for axes, (pixels, title, is_marked) in zip(all_axes, cells, strict=True):
        _draw(axes, pixels, shades, title, is_marked=is_marked, ink=ink)
    nearest = f"the nearest {shown} of {rule.k} neighbours" if shown < rule.k else f"its {shown} nearest neighbours"
    figure.suptitle(
        f"Left, an image with a wrong prediction; right, {nearest}\nwith label and distance; "
        f"{_CROSS}and a frame: voted for the wrong label",
        fontsize=9,
        color=INK,
    )
    return figure


def _voters(image: ShownImage, shown: int) -> Iterator[tuple[NDArray[Any] | None, str, bool]]:
    """Pixels, title and whether it voted for the wrong label, of the nearest voters of an image."""
    answer = image.answer
    if answer is None or image.pixels is None:
        return
    rows = answer.I[0, :shown]
    labels = answer.index.labels.take(pa.array(rows)).to_pylist()
    for row, label, distance in zip(rows, labels, answer.D[0], strict=False):
        outvotes = label == image.prediction
        pixels = answer.index.picture(row, image.pixels.shape)
        yield pixels, f"{_CROSS if outvotes else ''}{plain(label)}\n{distance:.4g}", outvotes


def _title(image: ShownImage) -> str:
    """What stands above an image: its label, else its name; of a job's answer the prediction, and the truth below."""
    row = image.name
    if image.status is None:
        told = row if image.truth is None else plain(image.truth)
        return told if image.pixels is not None else f"unreadable\n{told}"
    said = {ABSTAINED: "abstained", BAD_IMAGE: "bad image"}.get(image.status, plain(image.prediction))
    return f"{_CROSS if image.is_wrong else ''}{said}\n{row if image.truth is None else f'truth {plain(image.truth)}'}"


def _cells(rows: int, columns: int, pixels: NDArray[Any] | None, titles: Sequence[str]) -> "tuple[Figure, Any]":
    """A figure with room for so many images below their titles, and its axes (rows * columns,)."""
    height, width = (1, 1) if pixels is None else pixels.shape[:2]
    ratio = min(4.0, max(0.25, height / width))
    lines = [title.split("\n") for title in titles]
    wide = max(_CELL, _CHARACTER * max(len(line) for each in lines for line in each))
    tall = _CELL * ratio + _LINE * max(map(len, lines))
    figure = new_figure(max(columns * wide, 3.0), rows * tall + 0.1)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _range(pictures: Iterable[NDArray[Any] | None]) -> tuple[float, float]:
    """The pixels that are black and white in all pictures alike: 0, or the least if that is less, and the greatest."""
    held = [picture for picture in pictures if picture is not None]
    low = min((float(np.min(picture)) for picture in held), default=0.0)
    high = max((float(np.max(picture)) for picture in held), default=0.0)
    low = min(0.0, low)
    return low, high if high > low else low + 1


def _draw(
    axes: "Axes", pixels: NDArray[Any] | None, shades: tuple[float, float], title: str, *, is_marked: bool, ink: Ink
) -> None:
    """One image as any viewer shows it, white where its pixels are greatest, or if it is grey as dark ink on paper.

    A marked one is in a thick frame.
    """
    axes.set_title(title, fontsize=9, color=WRONG if is_marked else INK, parse_math=False)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=WRONG if is_marked else "#bbbbbb", linewidth=_FRAME if is_marked else 0.6)
    if pixels is None:
        axes.set_aspect(1)
        axes.text(0.5, 0.5, "?", transform=axes.transAxes, ha="center", va="center", fontsize=16, color=INK)
    else:
        drawn = pixels if pixels.ndim == 2 else as_seen(pixels, shades)  # which has colours of its own
        axes.imshow(
            drawn, cmap="gray" if ink == "light" else "gray_r", interpolation="nearest", vmin=shades[0], vmax=shades[1]
        )
