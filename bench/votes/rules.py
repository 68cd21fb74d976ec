"""Votes over the nearest by cosine similarity, each as its own library or paper has it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.classify.weighting import Softmax, read_weighting
from knnvote.indexer.index import Index


@dataclass(frozen=True)
class Stored:
    """What is stored.

    Attributes:
        index: of metric cosine, whose labels are the codes.
        x: (n, d) float32 vectors of length 1.
        codes: (n,) int32 class of each, from 0.
    """

    index: Index
    x: NDArray[np.float32]
    codes: NDArray[np.int32]

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.index.classes)


class Vote(ABC):
    """A vote of k neighbours."""

    @abstractmethod
    def predict(self, xq: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class (nq,) of each of xq (nq, d), which have length 1."""

    @abstractmethod
    def shares(self, xq: NDArray[np.float32]) -> NDArray[np.float64]:
        """Each class's share of the vote, (nq, classes)."""


class Knnvote(Vote):
    """Ours."""

    def __init__(self, stored: Stored, rule: Rule) -> None:
        """Open the index with a rule."""
        self._classify = Classifier(stored.index, rule)

    def predict(self, xq: NDArray[np.float32]) -> NDArray[np.int64]:
        """With all else that an answer has."""
        best: NDArray[np.int64] = self._classify.answer(xq.astype(np.float64), {}).best.to_numpy().astype(np.int64)
        return best

    def shares(self, xq: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `predict_proba` of scikit-learn has them."""
        return self._classify.answer(xq.astype(np.float64), {}).probabilities()


class ScikitLearn(Vote):
    """KNeighborsClassifier with one thread; softmax is a callable of distances, as it has no such weights."""

    def __init__(self, stored: Stored, rule: Rule) -> None:
        """Fit it by brute force, which alone takes cosine."""
        weights: Any = rule.weights
        if isinstance(read_weighting(rule.stored_weights), Softmax):
            weights = partial(_softmax_weights, temperature=_temperature(rule))
        self._model = KNeighborsClassifier(rule.k, weights=weights, metric="cosine", algorithm="brute", n_jobs=1)
        self._model.fit(stored.x, stored.codes)

    def predict(self, xq: NDArray[np.float32]) -> NDArray[np.int64]:
        """The mode of the neighbours' classes, weighted."""
        found: NDArray[np.int64] = self._model.predict(xq).astype(np.int64)
        return found

    def shares(self, xq: NDArray[np.float32]) -> NDArray[np.float64]:
        """Its `predict_proba`."""
        shares: NDArray[np.float64] = self._model.predict_proba(xq)
        return shares


def _temperature(rule: Rule) -> float:
    weighting = read_weighting(rule.stored_weights)
    if not isinstance(weighting, Softmax) or weighting.temperature is None:
        raise ValueError(rule.weights)
    return weighting.temperature


def _softmax_weights(D: NDArray[np.floating[Any]], *, temperature: float) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp(-D.astype(np.float64) / temperature)
    return weights


class Faissknn(Vote):
    """The rule of faissknn 0.4.2, FaissKNNClassifier with metric cosine, without the torch that it loads.

    FAISS's flat index of inner products finds the neighbours, each has one vote, and the first class with the most
    wins (github.com/isaaccorley/faissknn, faissknn/knn.py).
    """

    def __init__(self, stored: Stored, rule: Rule) -> None:
        """Add the vectors."""
        self._codes, self._k, self._n_classes = stored.codes, rule.k, stored.n_classes
        self._index = faiss.IndexFlatIP(stored.x.shape[1])
        self._index.add(stored.x)

    def predict(self, xq: NDArray[np.float32]) -> NDArray[np.int64]:
        """The first class with the most votes."""
        first: NDArray[np.int64] = self._votes(xq).argmax(axis=1)
        return first

    def shares(self, xq: NDArray[np.float32]) -> NDArray[np.float64]:
        """Votes over k."""
        return self._votes(xq) / self._k

    def _votes(self, xq: NDArray[np.float32]) -> NDArray[np.int64]:
        _, I = self._index.search(xq, self._k)
        votes = np.zeros((len(xq), self._n_classes), dtype=np.int64)
        np.add.at(votes, (np.arange(len(xq))[:, None], self._codes[I]), 1)
        return votes


class Dinov2(Vote):
    """The rule of DINOv2's eval/knn.py in NumPy: all similarities, the k best, their softmax at T added by class."""

    def __init__(self, stored: Stored, rule: Rule) -> None:
        """Keep the vectors."""
        self._x, self._codes, self._k, self._n_classes = stored.x, stored.codes, rule.k, stored.n_classes
        self._temperature = _temperature(rule)

    def predict(self, xq: NDArray[np.float32]) -> NDArray[np.int64]:
        """The first class with the largest share."""
        first: NDArray[np.int64] = self.shares(xq).argmax(axis=1)
        return first

    def shares(self, xq: NDArray[np.float32]) -> NDArray[np.float64]:
        """In float32, as there, but for the sums."""
        similarity = xq @ self._x.T
        I = np.argpartition(-similarity, self._k - 1, axis=1)[:, : self._k]
        weights = np.exp(np.take_along_axis(similarity, I, axis=1) / self._temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        shares = np.zeros((len(xq), self._n_classes))
        np.add.at(shares, (np.arange(len(xq))[:, None], self._codes[I]), weights)
        return shares


@dataclass(frozen=True)
class Contender:
    """A vote as it takes part: who votes, by which rule."""

    name: str
    make: Callable[[Stored, Rule], Vote]
    rule: Rule


def contenders(k: int, temperature: float) -> list[Contender]:
    """All votes of k neighbours; that of faissknn first, which others are set beside."""
    uniform = Rule(k=k, ties="first-class")
    softmax = replace(uniform, weights=f"softmax[{temperature!r}]")
    return [
        Contender("faissknn", Faissknn, uniform),
        *_of_both(uniform),
        Contender("knnvote, ties nearest", Knnvote, replace(uniform, ties="nearest")),
        *_of_both(replace(uniform, weights="distance")),
        *_of_both(softmax),
        Contender("DINOv2", Dinov2, softmax),
    ]


def _of_both(rule: Rule) -> list[Contender]:
    return [Contender("knnvote", Knnvote, rule), Contender("scikit-learn", ScikitLearn, rule)]
