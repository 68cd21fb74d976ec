"""How an index of each kind is searched: the one place where the search side tells kinds apart.

Each works on a block of queries and gives D as `candidate_distances` has it.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.vote import Rule
from knnvote.indexer.index import Index
from knnvote.indexer.names import Kind
from knnvote.indexer.rungs import EXACT

from .bounded import exact_block, settle_or_scan
from .candidates import probe, project, propose
from .distances import Neighbors
from .ladder import climb, rungs_for, why_untuned


class Searcher(ABC):
    """How indexes of a kind are searched.

    Attributes:
        is_always_exact: every search is by result brute force.
        has_rungs: answers tell which rung settled them.
        knows_far: whether an image lies too far from all stored ones is decided by exact search.
    """

    is_always_exact: ClassVar[bool] = False
    has_rungs: ClassVar[bool] = False
    knows_far: ClassVar[bool] = False

    @abstractmethod
    def careful(self, index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
        """As many of the true k nearest as the kind finds: D and I (nq, k)."""

    def answer(self, index: Index, xq: NDArray[np.generic], rule: Rule) -> tuple[NDArray[Any], ...]:
        """What answers under a rule: D and I (nq, k), and with rungs (nq,) int8, from 1."""
        return self.careful(index, xq, rule.k)

    def is_exact(self, index: Index, k: int) -> bool:  # noqa: ARG002  # of some kinds it depends on them
        """Whether `careful` finds the k nearest of all stored vectors."""
        return self.is_always_exact

    def why_no_promise(self, index: Index, rule: Rule) -> str | None:  # noqa: ARG002  # no promise, nothing missing
        """Why nothing was measured for the answers under a rule; None where it was, or need not be."""
        return None


class _Exact(Searcher):
    """By bounds, or by a scan of all stored vectors."""

    is_always_exact = True
    knows_far = True

    def careful(self, index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
        return exact_block(index, xq, k)


class _Approximate(Searcher):
    """Some stored vectors are candidates."""

    def careful(self, index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
        return settle_or_scan(index, xq, self.candidates(index, xq, k), k)

    @abstractmethod
    def candidates(self, index: Index, xq: NDArray[np.generic], k: int) -> NDArray[np.int64]:
        """Rows (nq, m) for each query, m at least k; -1 for none."""


class _Adaptive(_Approximate):
    """In rungs, of which the most careful one searches by itself."""

    has_rungs = True
    knows_far = True

    def is_exact(self, index: Index, k: int) -> bool:
        return index.careful(k) == EXACT

    def careful(self, index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
        return exact_block(index, xq, k) if self.is_exact(index, k) else super().careful(index, xq, k)

    def candidates(self, index: Index, xq: NDArray[np.generic], k: int) -> NDArray[np.int64]:
        rung = index.careful(k)
        return probe(index, project(index, xq), rung.candidates(k, index.n), rung.nprobe or index.ivf[0].nlist)[1]

    def answer(self, index: Index, xq: NDArray[np.generic], rule: Rule) -> tuple[NDArray[Any], ...]:
        return climb(index, xq, rule, rungs_for(index, rule))

    def why_no_promise(self, index: Index, rule: Rule) -> str | None:
        return None if self.is_exact(index, rule.k) else why_untuned(index, rule)


class _Proposing(_Approximate):
    """By a FAISS index of its own."""

    def candidates(self, index: Index, xq: NDArray[np.generic], k: int) -> NDArray[np.int64]:
        return propose(index, xq, k)


SEARCHERS: dict[Kind, Searcher] = {
    "exact": _Exact(),
    "adaptive": _Adaptive(),
    "hnsw": _Proposing(),
    "factory": _Proposing(),
}
