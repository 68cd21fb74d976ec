"""Whether images are of the stored ones' scale and ink: nothing is ever changed, what is off answers all the same."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.data.layout import Shape, noun
from knnvote.data.vectors import FEW, TOO_MANY, ends, far_beyond, is_narrow
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

from .search.sampling import sample_rows

_MOST = 0.75  # of pictures are of one kind of ink, where also
_NONE = 0.01  # of them, at most, are of the other
_ASKED = 2000  # stored pictures at most
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class Ink:
    """Pictures by what their four corners are beside the rest, which adds up.

    Attributes:
        rows: pictures, be they of either kind or of none.
        light: those whose corners are all darker than their mean, and nearer to their least number.
        dark: those whose corners are all brighter, and nearer to their greatest.
    """

    rows: int = 0
    light: int = 0
    dark: int = 0

    @classmethod
    def of(cls, images: NDArray[np.generic], shape: Shape) -> "Ink":
        """That of images (n, pixels) of a shape; nothing of what are no pictures."""
        is_picture = len(shape) == 2 or (len(shape) == 3 and shape[2] <= _MOST_CHANNELS)
        if not len(images) or not is_picture or min(shape[:2]) < 3:
            return cls()
        corners = images.reshape(len(images), *shape)[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(len(images), -1)
        # Of bytes in a type that is fast to add up, and has room for any picture that is decoded.
        mean = images.sum(axis=1, dtype=np.uint32 if images.dtype == np.uint8 else np.float64) / images.shape[1]
        middle = (images.max(axis=1).astype(np.float64) + images.min(axis=1)) / 2
        is_light = corners.max(axis=1) < np.minimum(mean, middle)
        is_dark = corners.min(axis=1) > np.maximum(mean, middle)
        return cls(len(images), int(is_light.sum()), int(is_dark.sum()))

    def __add__(self, other: "Ink") -> "Ink":
        """That of both."""
        return Ink(self.rows + other.rows, self.light + other.light, self.dark + other.dark)

    def unlike(self, index: Index) -> str | None:
        """What is to be told where nearly all pictures are of the opposite ink to nearly all stored ones.

        Returns:
            A line for people; None where there is nothing to tell.
        """
        is_light, is_dark = self.kinds
        if self.rows < FEW or not (is_light or is_dark):
            return None
        stored = index.images
        if Ink.of(stored[sample_rows(len(stored), _ASKED)], index.shape).kinds != (is_dark, is_light):
            return None
        asked, before = ("light on dark", "dark on light") if is_light else ("dark on light", "light on dark")
        return (
            f"{max(self.light, self.dark):,} of {self.rows:,} images are {asked}, by their corners, and the stored "
            f"ones {before}, so that like ones are far apart: give the inverse of either, such as 255 less each pixel"
        )

    @property
    def kinds(self) -> tuple[bool, bool]:
        """Whether they are light on dark, and whether they are dark on light."""
        pairs = ((self.light, self.dark), (self.dark, self.light))
        is_light, is_dark = (some > _MOST * self.rows and others <= _NONE * self.rows for some, others in pairs)
        return is_light, is_dark


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The range and the ink of images to answer, which add up: the same for all however they are split.

    Attributes:
        rows: images.
        beyond: those with a number far beyond all stored ones.
        low: their least number.
        high: their greatest.
        ink: of theirs; that alone where no distance depends on their scale.
    """

    rows: int = 0
    beyond: int = 0
    low: float = math.inf
    high: float = -math.inf
    ink: Ink = field(default_factory=Ink)

    @classmethod
    def of(cls, index: Index, images: NDArray[np.generic], bad: Any = ()) -> "Scale":
        """That of images (nq, pixels) for an index, but for bad rows."""
        good: NDArray[Any] = np.delete(images, list(bad), axis=0) if bad else images
        ink = Ink.of(good, index.shape)
        if not good.size or not index.steps.depends_on_scale(METRICS[index.metric].keeps_values):
            return cls(ink=ink)
        (low, high), (least, greatest) = index.image_range, ends(good)
        return cls(
            rows=len(good),
            beyond=int(np.count_nonzero(far_beyond(good, low, high))),
            low=float(least),
            high=float(greatest),
            ink=ink,
        )

    def __add__(self, other: "Scale") -> "Scale":
        """That of both."""
        return Scale(
            rows=self.rows + other.rows,
            beyond=self.beyond + other.beyond,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            ink=self.ink + other.ink,
        )

    def unlike(self, index: Index) -> str | None:
        """What is to be told where many images lie far beyond what is stored, or all within a small part of it.

        Of images of the stored scale, it is what there is to tell of their ink.

        Args:
            index: that answers them.

        Returns:
            A line for people; None where there is nothing to tell.
        """
        off = self.beyond
        if self.rows < FEW:
            return self.ink.unlike(index)
        if off <= TOO_MANY * self.rows:
            if not is_narrow(self.low, self.high, index.images):
                return self.ink.unlike(index)
            off = self.rows
        things = f"{noun(index.shape)}s"
        low, high = index.image_range
        return (
            f"{off:,} of {self.rows:,} {things} are of another scale than the stored ones: the {things} range from "
            f"{self.low:g} to {self.high:g}, the stored ones from {low:g} to {high:g}, and nothing is rescaled; give "
            f"{things} of the stored scale, or an index of {things} of theirs"
        )
