"""Stored vectors and queries as small pictures within a page."""

import base64
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from indexer.store import Index


@dataclass(frozen=True)
class Thumbnail:
    """A picture in a page.

    Attributes:
        source: a ``data:`` URI of a PNG; empty for what is no picture, as an embedding.
        told: what it shows, for those who do not see it.
    """

    source: str
    told: str


def thumbnail(index: Index, vector: NDArray[np.generic], told: str) -> Thumbnail:
    """One vector (d,) of an index's images as a grey picture, black where its pixels are greatest."""
    if len(index.shape) != 2:
        return Thumbnail("", told)
    png: Any = imagecodecs.png_encode(_grey(vector, *index.manifest["range"]).reshape(index.shape))
    return Thumbnail("data:image/png;base64," + base64.b64encode(png).decode(), told)


def _grey(vector: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Pixels from 0, or low if that is less, to high as 255 to 0; a query may go beyond, and is cut off there."""
    low = min(0.0, low)
    share = (vector.astype(np.float64) - low) / ((high - low) or 1.0)
    grey: NDArray[np.uint8] = np.rint(255 * (1 - np.clip(share, 0, 1))).astype(np.uint8)
    return grey
