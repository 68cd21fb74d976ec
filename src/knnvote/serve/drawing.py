"""Drawings and dropped pictures as the stored pictures are: their size, place, paper and ink, as those were made."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from knnvote.data.errors import KnnvoteError
from knnvote.data.vectors import Numbers
from knnvote.indexer.index import Index

_SAMPLE = 500  # stored pictures, from which it is measured
_INKED = 0.2  # share of the darkest ink, from which a pixel belongs to what is drawn
_PAPER = 0.1  # of the range: how far a pixel of paper is from its usual value
_MOSTLY_PAPER = 0.6  # of the pixels of a border
_WHITES = (1.0, 16.0, 255.0, 65535.0)  # what stored pictures have for white
_LARGEST = 512  # pixels of a side that are looked at; what is larger is made smaller first


@dataclass(frozen=True)
class Drawings:
    """How the pictures of an index are made.

    Attributes:
        shape: height and width.
        dtype: of stored pixels.
        paper: the value of empty pixels, or of black in photographs.
        ink: the value of what is drawn on them, at its strongest, or of white.
        side: the longer side of what is drawn, in pixels; None where pictures fill their frame, as photographs do.
        centre: where the middle of what is drawn lies, from the upper left corner, in pixels down and to the right.
        is_of_mass: whether that is its centre of mass, as in MNIST, or the middle of its box.
        pen: the width of a stroke in pixels.
    """

    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    paper: float
    ink: float
    side: float | None
    centre: tuple[float, float]
    is_of_mass: bool
    pen: float

    @classmethod
    def of(cls, index: Index) -> "Drawings | None":
        """Measured from some of the stored pictures; None where they are none, or in colour, which nobody draws."""
        if len(index.shape) != 2:
            return None
        rows = np.unique(np.linspace(0, index.n - 1, min(index.n, _SAMPLE)).astype(np.int64))
        pictures = index.images[rows].reshape(-1, *index.shape).astype(np.float64)
        border = _border(pictures)
        low, high = index.image_range
        paper = float(np.median(border))
        ink = high if high - paper >= paper - low else low
        share = np.clip((pictures - paper) / ((ink - paper) or 1.0), 0, 1)
        height, width = pictures.shape[1:]
        made = (height, width), index.images.dtype
        inked = [picture for picture in share if picture.max() >= _INKED]
        if not inked or np.mean(np.abs(border - paper) <= _PAPER * (high - low)) < _MOSTLY_PAPER:
            ends = min(0.0, low), next((white for white in _WHITES if high <= white), high)
            return cls(*made, *ends, None, (height / 2, width / 2), is_of_mass=False, pen=max(height, width) / 12)
        boxes = np.array([_box(picture) for picture in inked])
        middles = (boxes[:, ::2] + boxes[:, 1::2]) / 2
        masses = np.array([_centre_of_mass(picture) for picture in inked])
        is_of_mass = bool(masses.var(axis=0).sum() < middles.var(axis=0).sum())
        down, right = (masses if is_of_mass else middles).mean(axis=0).tolist()
        side = float(np.median(np.maximum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2])))
        pen = float(np.median([_stroke(picture) for picture in inked]))
        return cls(*made, paper, ink, side, (down, right), is_of_mass=is_of_mass, pen=min(pen, side))

    def fit(self, picture: Numbers) -> NDArray[np.generic]:
        """A picture as a stored one: what is drawn on its paper, of their size and at their place, in their values.

        One of their shape stays at its place and of its size, and one of their values too as it is.

        Args:
            picture: (any height, any width) uint8 or uint16; its paper is what its border is of, lighter or darker
                than what is drawn.

        Returns:
            (height, width) in the stored type.

        Raises:
            KnnvoteError: all its pixels are the same.
        """
        if self._is_as_stored(picture):
            return picture
        share = self._shares(picture)
        if share.shape != self.shape:
            share = self._framed(share)
        values = self.paper + np.clip(share, 0, 1) * (self.ink - self.paper)
        return (np.rint(values) if self.dtype.kind in "iu" else values).astype(self.dtype)

    def _is_as_stored(self, picture: Numbers) -> bool:
        paper, width = float(np.median(_border(picture[None]))), abs(self.ink - self.paper)
        return (
            (picture.shape, picture.dtype) == (self.shape, self.dtype)
            and picture.max() <= max(self.paper, self.ink)
            and (self.side is None or abs(paper - self.paper) <= _PAPER * width)
        )

    def _shares(self, picture: Numbers) -> NDArray[np.float64]:
        """How much ink each pixel has, or of a photograph how much light, from 0 to 1."""
        smaller = _smaller(picture)
        return smaller / np.iinfo(picture.dtype).max if self.side is None else _share_of_ink(smaller)

    def _framed(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """The part of it that fills the frame of a stored picture, with what lies around it as paper."""
        height, width = self.shape
        if self.side is None:
            scale = min(height / share.shape[0], width / share.shape[1])
            down, right = share.shape[0] / 2, share.shape[1] / 2
        else:
            top, bottom, left, right_end = _box(share)
            share = share[top:bottom, left:right_end]
            scale = self.side / max(share.shape)
            down, right = _centre_of_mass(share) if self.is_of_mass else (share.shape[0] / 2, share.shape[1] / 2)
        top, left = down - self.centre[0] / scale, right - self.centre[1] / scale
        window = np.array([left, top, left + width / scale, top + height / scale])
        before = np.maximum(np.ceil(-window[:2]), 0).astype(int)  # what lies outside is paper
        after = np.maximum(np.ceil(window[2:] - share.shape[::-1]), 0).astype(int)
        padded = np.pad(share, ((before[1], after[1]), (before[0], after[0])))
        window += np.tile(before, 2)
        how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
        framed = Image.fromarray(padded.astype(np.float32)).resize((width, height), how, box=tuple(window.tolist()))
        return np.asarray(framed, np.float64)


def _border(pictures: Numbers) -> Numbers:
    """The outermost pixels of pictures (n, height, width)."""
    sides = pictures[:, 0], pictures[:, -1], pictures[:, :, 0], pictures[:, :, -1]
    return np.concatenate([side.ravel() for side in sides])


def _smaller(picture: Numbers) -> NDArray[np.float64]:
    image = Image.fromarray(picture.astype(np.float32))
    if max(picture.shape) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(image, np.float64)


def _share_of_ink(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much each pixel differs from the paper, from 0 to 1 where it does the most."""
    ink = np.abs(picture - np.median(_border(picture[None])))
    if not ink.max():
        raise KnnvoteError("nothing is drawn: all pixels are the same")
    share: NDArray[np.float64] = ink / ink.max()
    return share


def _box(share: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Where what is drawn begins and ends: rows, then columns."""
    inked = share >= _INKED
    rows, columns = (np.flatnonzero(inked.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _centre_of_mass(share: NDArray[np.float64]) -> tuple[float, float]:
    total = share.sum()
    down, right = ((share.sum(axis=axis) * (np.arange(share.shape[1 - axis]) + 0.5)).sum() for axis in (1, 0))
    return float(down / total), float(right / total)


def _stroke(share: NDArray[np.float64]) -> float:
    """About the width of a stroke: twice the area over the length of both edges.

    Steps along rows and columns count a slanted edge longer than it is, by 4 / pi in the mean of all slants.
    """
    padded = np.pad(share, 1)
    steps = sum(float(np.abs(np.diff(padded, axis=axis)).sum()) for axis in (0, 1))
    return float(2 * share.sum() / (steps * np.pi / 4))
