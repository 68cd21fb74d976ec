"""Why an image was given its label: the vote, the neighbours, and how typical their distances are."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.answer import OK, Answer, Neighbor, neighbors_of
from knnvote.classify.classifier import Classifier
from knnvote.classify.search.distance_limit import nearest_distances
from knnvote.classify.search.left_out import most_left
from knnvote.classify.vote import class_shares
from knnvote.indexer.index import Index

MOST_LEFT_OUT = 2000  # stored images: a share of them is then known within 0.02


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What one class got: its share of the vote, and how many neighbours gave it."""

    label: Any
    share: float
    neighbors: int


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """An image, its answer and what it rests on.

    Attributes:
        name: what the image is called: ``file#row``, or its path.
        answer: of the one image.
        pixels: (height, width), or (height, width, 3), of it; None where it cannot be read, or is no picture.
        kept: the other columns of its row, as a job kept them, or the index of a stored image; empty for others.
        id: of those, the one that names the row; None where none does.
        row: of the index, where it is a stored image, which is left out of its own vote; None for others.
    """

    name: str
    answer: Answer
    pixels: NDArray[Any] | None
    kept: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    row: int | None = None

    @property
    def stored_label(self) -> Any:
        """The label with which it is stored; None where it is not."""
        return None if self.row is None else self.answer.index.labels[self.row].as_py()

    @property
    def status(self) -> str:
        """``ok``, ``abstained`` or ``bad_image``."""
        return str(self.answer.status[0])

    @property
    def reason(self) -> str | None:
        """Why the status is not ok; None where it is."""
        return None if self.status == OK else str(self.answer.reason[0])

    @property
    def best(self) -> Any:
        """The label, or what it would be where the classifier abstains; None for a bad image."""
        return self.answer.best[0].as_py()

    @cached_property
    def neighbors(self) -> list[Neighbor]:
        """The stored images that voted, nearest first; none for a bad image."""
        answer = self.answer
        return neighbors_of(answer.index, answer.I[0], answer.D[0]) if answer.is_image[0] else []

    @cached_property
    def votes(self) -> list[Vote]:
        """By class, the best first and then by their shares; none for a bad image and for regression."""
        answer = self.answer
        if not self.neighbors or answer.index.is_regression:
            return []
        index, rule = answer.index, answer.rule
        codes, labels = index.class_codes[answer.I], index.classes
        (shares,) = class_shares(codes, answer.D, len(labels), rule.weights, rule.factors(index, answer.I))
        votes = [
            Vote(label=labels[code].as_py(), share=float(shares[code]), neighbors=int((codes == code).sum()))
            for code in np.unique(codes).tolist()
        ]
        return sorted(votes, key=lambda vote: (vote.label != self.best, -vote.share))


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """Some explanations, and what is near in their index.

    Attributes:
        index: that answered.
        shown: of each image that was asked for.
        distances: (m,) of stored images to their nearest others; empty where there are none but itself, or its group.
    """

    index: Index
    shown: list[Explanation]
    distances: NDArray[np.float64]

    def nearer_than(self, distance: float) -> float:
        """The share of the stored images that are farther than so far from their nearest other."""
        return float(np.mean(self.distances > distance))

    def farther_than(self, distance: float) -> float:
        """The share of those that are less far from it."""
        return float(np.mean(self.distances < distance))

    def to_json(self) -> dict[str, Any]:
        """For programs: an object for each image."""
        return {"index": str(self.index.path), "images": [self._to_json(one) for one in self.shown]}

    def _to_json(self, one: Explanation) -> dict[str, Any]:
        row = one.answer.to_table().to_pylist()[0]
        nearest = one.neighbors[0].distance if one.neighbors and len(self.distances) else None
        return {
            "name": one.name,
            "id": one.id,
            **row,
            "stored": None if one.row is None else {"row": one.row, "label": one.stored_label},
            "votes": [vars(vote) for vote in one.votes],
            "neighbors": [neighbor.to_json() for neighbor in one.neighbors],
            "nearer_than": None if nearest is None else self.nearer_than(nearest),
            "left_out": len(self.distances),
            "kept": {name: _in_json(value) for name, value in one.kept.items()},
        }


def _in_json(value: Any) -> Any:
    """A value of a column as JSON has it, or as text."""
    is_plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else str(value)


def gather(
    classifier: Classifier,
    shown: Sequence[Explanation],
    *,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Explanations:
    """Explanations with what is near in the classifier's index: its images are left out one at a time, 2,000 at most.

    Args:
        classifier: that answered.
        shown: its answers.
        threads: of the search.
        progress: called with the number of images after each block.
    """
    index, distances = classifier.index, np.empty(0)
    if most_left(index) and any(one.neighbors for one in shown):
        found = nearest_distances(index, classifier.rule, most=MOST_LEFT_OUT, threads=threads, progress=progress)
        distances = found.distances
    return Explanations(index=index, shown=[*shown], distances=distances)
