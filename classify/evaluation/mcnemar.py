"""Whether two searches differ in accuracy by more than chance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.05  # as all intervals here are of 95%
_LEAST_P = 0.0001  # that is told as a number


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two searches on the same labelled images.

    Attributes:
        name: of the one: an index folder.
        other: of the other: an index folder, or exact search.
        only_name: images on which only the one is right.
        only_other: images on which only the other is.
        p: of McNemar's exact test: how probable it is that these numbers differ so much or more by chance.
    """

    name: str
    other: str
    only_name: int
    only_other: int
    p: float

    @property
    def is_more_than_chance(self) -> bool:
        """Whether chance alone would give it in fewer than 5% of all comparisons."""
        return self.p < _LEVEL

    def told(self, show: Callable[[str], str] = str) -> str:
        """In plain words.

        Args:
            show: how the names are shown.
        """
        name, other = show(self.name), show(self.other)
        if self.only_name == self.only_other == 0:
            return f"{name} and {other} are right on the same images"
        verdict = "more than chance" if self.is_more_than_chance else "no more than chance would give"
        p = f"p = {self.p:.2g}" if self.p >= _LEAST_P else f"p < {_LEAST_P}"
        images = "image" if self.only_name == 1 else "images"
        return (
            f"{name} is right on {self.only_name:,} {images} where {other} is wrong, "
            f"{other} on {self.only_other:,} where {name} is wrong: {verdict} ({p})"
        )


def mcnemar(name: str, other: str, right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> Difference:
    """Compare two searches on images (n,) on which each is right or not, as `difference` does."""
    return difference(name, other, int((right & ~other_right).sum()), int((other_right & ~right).sum()))


def difference(name: str, other: str, only_name: int, only_other: int) -> Difference:
    """Compare two by the images on which one alone is right, and as likely either by chance (McNemar 1947)."""
    from scipy.stats import binomtest  # noqa: PLC0415  # slow to import, and only this needs it

    p = float(binomtest(only_name, only_name + only_other).pvalue) if only_name + only_other else 1.0
    return Difference(name=name, other=other, only_name=only_name, only_other=only_other, p=p)
