"""How far the nearest neighbour of an answer may be, as an index keeps it."""

from dataclasses import asdict, dataclass
from typing import Any


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
