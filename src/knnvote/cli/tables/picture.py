"""Pictures in a terminal: two pixels in each character, the upper one in its colour and the lower one behind it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.style import Style
from rich.text import Text

from knnvote.indexer.shown.thumbnails import as_seen

_HALF = "▀"
_LEAST_WIDTH = 40


def shows_pictures(console: Console) -> bool:
    """Whether a console has the colours, the characters and the room for pictures."""
    is_able = console.is_terminal and console.color_system not in (None, "standard") and not console.legacy_windows
    return is_able and console.encoding.startswith("utf") and console.width >= _LEAST_WIDTH


def half_blocks(pixels: NDArray[Any], shades: tuple[float, float], width: int) -> Text:
    """A picture (height, width), or (height, width, 3), of at most so many characters a line.

    Args:
        pixels: of the picture.
        shades: the values of black and white, as of `as_seen`.
        width: that it has; a small picture is enlarged by a whole number.
    """
    wide = pixels.shape[1]
    sides = max(1, width // wide) * wide if wide <= width else width
    tall = max(1, round(pixels.shape[0] * sides / wide))
    image = np.asarray(Image.fromarray(as_seen(pixels, shades)).resize((sides, tall), Image.Resampling.BOX))
    text = Text(no_wrap=True, end="")
    for top in range(0, tall, 2):
        for column in range(sides):
            below = _colour(image[top + 1, column]) if top + 1 < tall else None
            text.append(_HALF, Style(color=_colour(image[top, column]), bgcolor=below))
        if top + 2 < tall:
            text.append("\n")
    return text


def _colour(pixel: NDArray[np.uint8]) -> str:
    """Of a pixel () in grey or (3,) in colour."""
    return "#" + "".join(f"{part:02x}" for part in np.broadcast_to(pixel, 3).tolist())
