"""Weightings, a class each: how much each neighbour's vote counts.

To add one takes a class, its row in `WEIGHTINGS`, and its name in `names` with its words for the help. One with a
setting is stored and typed with it in brackets, such as ``name[0.07]``: it reads it in `read` and tells it in `text`.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.names import Weights

_NEAREST = 1e-300
_TEXT = re.compile(r"([^\[\]]+)(?:\[([^\[\]]+)\])?")  # a name, and its settings


@dataclass(frozen=True)
class Weighting(ABC):
    """How much each neighbour's vote counts.

    Attributes:
        name: as it is typed and stored, before its settings.
        of_neighbors: how a sentence says it of several neighbours.
        is_stepwise: a neighbour's weight depends on no farther one, so that the first ones have the weights that they
            would have alone.
        has_settings: its name alone is not enough.
    """

    name: ClassVar[str]
    of_neighbors: ClassVar[str]
    is_stepwise: ClassVar[bool] = True
    has_settings: ClassVar[bool] = False

    @classmethod
    def read(cls, settings: str) -> Self:
        """The weighting that has these settings, which stand in brackets after its name; none of one without.

        Raises:
            ValueError: there is no such.
        """
        if settings:
            raise ValueError(settings)
        return cls()

    @property
    def text(self) -> Weights:
        """As it is typed and stored: `read_weighting` reads it."""
        return self.name

    @abstractmethod
    def __call__(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each neighbour's weight (nq, k) from distances D (nq, k), ascending."""


@dataclass(frozen=True)
class Uniform(Weighting):
    """One vote each."""

    name = "uniform"
    of_neighbors = "of equal weight"

    def __call__(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ones."""
        return np.ones_like(D)


@dataclass(frozen=True)
class Distance(Weighting):
    """1 / distance; neighbours at distance zero then outvote all others.

    Distances ascend, so there is a zero among the first ones or nowhere.
    """

    name = "distance"
    of_neighbors = "weighted by 1 / distance"

    def __call__(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse distances; of a row that has zeros, ones for these and zeros for the rest."""
        is_zero = D == 0
        has_zero = is_zero.any(axis=1, keepdims=True)
        # Neighbours nearer than this count as if they were there: the sum of their inverses stays finite.
        inverse = 1 / np.maximum(D, _NEAREST)
        return np.where(has_zero, is_zero.astype(np.float64), inverse)


WEIGHTINGS: dict[str, type[Weighting]] = {weighting.name: weighting for weighting in (Uniform, Distance)}


def read_weighting(text: Weights) -> Weighting:
    """The weighting that a text stands for.

    Raises:
        ValueError: none.
    """
    parts = _TEXT.fullmatch(text)
    if parts is None or parts[1] not in WEIGHTINGS:
        raise ValueError(text)
    return WEIGHTINGS[parts[1]].read(parts[2] or "")


def is_weighting(text: object) -> bool:
    """Whether something is a text that stands for a weighting."""
    try:
        return isinstance(text, str) and bool(read_weighting(text))
    except ValueError:
        return False
