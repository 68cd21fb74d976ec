"""Images as small pictures within a page or a notebook."""

import base64
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from knnvote.indexer.manifest import Manifest

SIDE, SMALL = 96, 48  # pixels of a side, at most, of what a card is of and of what stands beside it


@dataclass(frozen=True)
class Thumbnail:
    """A picture in HTML.

    Attributes:
        source: a ``data:`` URI of a PNG; empty for what is no picture, as an embedding.
        told: what it shows, for those who do not see it.
        is_colour: it is in colour, so that no ink makes its negative of it.
    """

    source: str
    told: str
    is_colour: bool = False


def as_seen(pixels: NDArray[np.generic], shades: tuple[float, float]) -> NDArray[np.uint8]:
    """An image (height, width), or (height, width, 3), as a screen shows it, from 0, black, to 255, white.

    Args:
        pixels: of the image.
        shades: their values that are black and white, of each colour alike; those beyond are cut off there.
    """
    low, high = shades
    share = (pixels.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def thumbnail(pixels: NDArray[np.generic], shades: tuple[float, float], told: str, side: int = SIDE) -> Thumbnail:
    """An image (height, width), or (height, width, 3), as any viewer shows it, and smaller where it is large.

    Args:
        pixels: of the image.
        shades: the values of black and white, as of `as_seen`.
        told: what it shows.
        side: pixels of height and width, at most, so that a page of many stays one that a browser opens gladly.
    """
    seen = as_seen(pixels, shades)
    if max(seen.shape) > side:
        small = Image.fromarray(seen)
        small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
        seen = np.asarray(small)
    png: Any = imagecodecs.png_encode(np.ascontiguousarray(seen))
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return Thumbnail(source, told, is_colour=seen.ndim == 3)


def stored_thumbnail(manifest: Manifest, image: NDArray[np.generic], told: str, side: int = SIDE) -> Thumbnail:
    """An image (pixels,) such as an index stores, from 0, or the least stored pixel if that is less, to the greatest.

    Where it is no picture, there is none.
    """
    if not manifest.has_pictures:
        return Thumbnail("", told)
    low, high = manifest.image_range
    return thumbnail(image.reshape(manifest.shape), (min(0.0, low), high), told, side)
