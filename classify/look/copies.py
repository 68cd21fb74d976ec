"""Which rows equal one that is listed before them, or nearly: to look at both would pay once."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.classifier import Classifier
from knnvote.classify.search.distance_limit import nearest_distances
from knnvote.classify.search.left_out import most_left
from knnvote.indexer.metric import METRICS

_NEAR = 1 / 4  # of the distance that is common between neighbours
_ASKED = 256  # stored images, which tell that


@dataclass
class Listed:
    """What rows are listed, by their images.

    A near copy of one has the same nearest stored image, and is nearer to it than a quarter of the distance at which
    stored images have their nearest other in the median. That they lie far from all that is stored makes them none: so
    do all of a new class, each by itself.

    Attributes:
        classifier: of the job; None where equal images alone are found.
        digests: of the pixels of each.
        vectors: of each, by the row of its nearest stored image.
    """

    classifier: Classifier | None
    digests: set[bytes] = field(default_factory=set)
    vectors: dict[int, list[NDArray[np.generic]]] = field(default_factory=lambda: defaultdict(list))

    def takes(self, digest: bytes, near: tuple[int, NDArray[np.generic]] | None) -> bool:
        """List a row, unless one like it is.

        Args:
            digest: of its pixels.
            near: the row of the stored image that is nearest to its own, and the vector (d,) of this; None where
                nothing is known of them.
        """
        if digest in self.digests or (near is not None and self._has_copy(*near)):
            return False
        self.digests.add(digest)
        if near is not None:
            nearest, vector = near
            self.vectors[nearest].append(vector)
        return True

    def _has_copy(self, nearest: int, vector: NDArray[np.generic]) -> bool:
        others = self.vectors.get(nearest)
        if self.classifier is None or not others:
            return False
        metric = METRICS[self.classifier.index.metric]
        distances = metric.final(metric.reduced(vector[None], np.stack(others)[None]))
        return bool(metric.to_sklearn(distances).min() <= self._within)

    @cached_property
    def _within(self) -> float:
        """How near a near copy is, as lengths grow; 0 where no other image is stored that tells."""
        if self.classifier is None or not most_left(self.classifier.index):
            return 0.0
        index, rule = self.classifier.index, self.classifier.rule
        found = nearest_distances(index, rule, most=_ASKED)
        return _NEAR * float(np.median(METRICS[index.metric].to_sklearn(found.distances)))
