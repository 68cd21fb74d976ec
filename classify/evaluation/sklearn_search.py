"""scikit-learn's own searches over the stored images of an index, to be compared with ours."""

import pickle
import time
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.answer import Answer
from knnvote.classify.classifier import Classifier
from knnvote.indexer.metric import METRICS

Algorithm = Literal["brute", "kd_tree", "ball_tree"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


class _Size:
    """A file that only counts the bytes that are written to it."""

    total = 0

    def write(self, data: bytes | memoryview) -> int:
        written = memoryview(data).nbytes
        self.total += written
        return written


class SklearnSearch:
    """`sklearn.neighbors.NearestNeighbors` in the place of an index's search; the vote is the same.

    Attributes:
        classifier: over the index whose images it searches.
        kind: the algorithm.
        is_exact: whether its answers are those of our exact search.
        path: what it is called.
        bytes: that it takes on a disk, pickled.
        build_seconds: of fitting.
    """

    def __init__(self, classifier: Classifier, algorithm: Algorithm) -> None:
        """Fit it, which builds a tree where the algorithm has one."""
        from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  # slow to import, and only this needs it

        index = classifier.index
        metric = METRICS[index.metric]
        x = metric.space(index.vectors[:])
        start = time.perf_counter()
        self._fitted = NearestNeighbors(
            n_neighbors=classifier.rule.k,
            algorithm=algorithm,
            metric=metric.sklearn,
        ).fit(x)
        self.build_seconds = time.perf_counter() - start
        self.classifier = classifier
        self.kind: str = algorithm
        self.is_exact = False  # its distances are rounded
        self.path = f"scikit-learn {algorithm}"
        size = _Size()
        pickle.Pickler(size, protocol=5).dump(self._fitted)
        self.bytes = size.total

    def answer(self, xq: NDArray[np.generic]) -> Answer:
        """Search and vote for queries (nq, d)."""
        metric = METRICS[self.classifier.index.metric]
        D, I = self._fitted.kneighbors(metric.space(xq))
        return self.classifier.answer_neighbors(metric.from_sklearn(D), I)
