"""How far the nearest neighbour of an answer may be, as an index keeps it."""

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any


def least_images(false_alarms: float) -> int:
    """How many distances tell the one that such a share exceed."""
    return max(2, math.ceil(1 / as_written(false_alarms)) - 1)


def as_written(share: float) -> Fraction:
    """A share as its decimals say, so that no rounding moves a rank: 100 (1 - 0.42) is 58, not a little more."""
    return Fraction(str(share))


@dataclass(frozen=True, kw_only=True)
class KeptDistance:
    """The distance to the nearest neighbour beyond which an index gives no answer unless told.

    Attributes:
        limit: in the index's metric.
        false_alarms: the share of images of the stored kind that about exceed it, by which it was found; None where it
            was given as a number.
        images: stored ones, each left out, by which it was found; None likewise.
    """

    limit: float
    false_alarms: float | None = None
    images: int | None = None

    @property
    def is_found(self) -> bool:
        """Whether stored images tell it."""
        return self.false_alarms is not None

    def can_be_found(self, n: int) -> bool:
        """Whether so many stored images tell it anew."""
        return self.false_alarms is not None and n >= least_images(self.false_alarms)

    @property
    def told(self) -> str:
        """What it does, in words."""
        told = f"abstains where the nearest neighbour is farther than {self.limit:g}"
        if self.false_alarms is None:
            return told
        return (
            f"{told}, as about {self.false_alarms:.4g} of images of the stored kind are: from {self.images:,} stored "
            "images, each left out"
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {name: value for name, value in asdict(self).items() if value is not None}
