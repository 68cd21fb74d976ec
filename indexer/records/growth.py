"""How an index has changed since it was built, and since what it promises was measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from knnvote.data.text import counted

_FIFTHS = 5  # of the images on which a promise was measured: when one of them came or went, it is measured again
_TWICE = 2  # as many images as it was built of, or half as many: then axes and lists may be of other images than these


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What came to an index and went since it was built, whose axes and lists are those of the images of then.

    Attributes:
        built: images that it was built of.
        added: images that came since.
        removed: images that went since.
        measured: images that it had when what it promises was measured last.
        changed: images that came or went since that.
    """

    built: int
    added: int = 0
    removed: int = 0
    measured: int
    changed: int = 0

    @classmethod
    def of(cls, n: int) -> "Growth":
        """Of an index as it was built of n images."""
        return cls(built=n, measured=n)

    def after(self, *, added: int = 0, removed: int = 0) -> "Growth":
        """When so many more came or went."""
        changed = self.changed + added + removed
        return replace(self, added=self.added + added, removed=self.removed + removed, changed=changed)

    def measured_now(self) -> "Growth":
        """When what it promises was measured on what it has."""
        return replace(self, measured=self.built + self.added - self.removed, changed=0)

    @property
    def again_at(self) -> int:
        """Images that come or go until what it promises is measured again."""
        return -(-self.measured // _FIFTHS)

    @property
    def is_due(self) -> bool:
        """Whether what it promises is to be measured again."""
        return self.changed >= self.again_at

    @property
    def is_outgrown(self) -> bool:
        """Whether to build it again would pay: it has images that are not those of its axes and lists."""
        return self.added >= (_TWICE - 1) * self.built or _TWICE * self.removed >= self.built

    @property
    def told(self) -> str:
        """What came and went, in words."""
        return f"built of {self.built:,} images, since then {self.added:,} added and {self.removed:,} removed"

    @property
    def measured_on(self) -> str:
        """On what its promise was measured, in words."""
        return (
            f"measured on {self.measured:,} images; since then {self.changed:,} came or went, and it is measured again "
            f"when {self.again_at:,} have"
        )


def lost_told(growth: Growth | None, relabelled_from: Sequence[str]) -> str | None:
    """What images and labels came to an index since it was built, that another in its place will not have; if any."""
    told = []
    if growth is not None:
        counts = {"added": growth.added, "removed": growth.removed}
        told = [f"{counted(count, 'image')} {change}" for change, count in counts.items() if count]
    if relabelled_from:
        told.append("labels changed")
    if not told:
        return None
    return (
        f"{' and '.join(told)} since it was built: another one of the same files has nothing of that, nor of labels "
        "changed before, until knnvote relabel, add and remove are run again with their lists"
    )
