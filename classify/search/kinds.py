"""How an index of each kind is searched: the one place where the search side tells kinds apart.

Each works on a block of queries and gives D as `distances` has it.
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
from .candidates import propose
from .ladder import Promise, climb, rungs_for, why_untuned


class Searcher(ABC):
    """How indexes of a kind are searched.

    Attributes:
        is_always_exact: every search is by result brute force.
        has_rungs: answers tell which rung settled them.
        far_by: the search that decides whether an image lies too far from all stored ones.
    """

    is_always_exact: ClassVar[bool] = False
    has_rungs: ClassVar[bool] = False
    far_by: ClassVar[Promise] = "careful"

    @abstractmethod
    def search(self, index: Index, xq: NDArray[np.generic], rule: Rule, promise: Promise) -> tuple[NDArray[Any], ...]:
        """The neighbours that vote by a rule, as `find` promises them: D and I (nq, k), and with rungs (nq,) int8."""

    def is_exact(self, index: Index, k: int) -> bool:  # noqa: ARG002  # of some kinds it depends on them
        """Whether a careful search finds the k nearest of all stored vectors."""
        return self.is_always_exact

    def promises_differ(self, index: Index, rule: Rule) -> bool:  # noqa: ARG002  # of some kinds it depends on them
        """Whether labels are promised by another search than their confidences."""
        return False

    def finds_the_same(
        self,
        index: Index,  # noqa: ARG002  # of some kinds it depends on all
        one: tuple[Rule, Promise],  # noqa: ARG002
        other: tuple[Rule, Promise],  # noqa: ARG002
    ) -> bool:
        """Whether two rules that differ in when to abstain alone, each with what it asks, find the same."""
        return True

    def finds_first(self, more: int, k: int) -> bool:
        """Whether it finds as the k nearest the first of more that it found, however these voted."""
        return self.is_always_exact or more == k

    def why_no_promise(self, index: Index, rule: Rule) -> str | None:  # noqa: ARG002  # no promise, nothing missing
        """Why nothing was measured for the answers under a rule; None where it was, or need not be."""
        return None


class _Exact(Searcher):
    """By bounds, or by a scan of all stored vectors."""

    is_always_exact = True
    far_by = "exact"

    def search(
        self,
        index: Index,
        xq: NDArray[np.generic],
        rule: Rule,
        promise: Promise,  # noqa: ARG002  # it keeps all
    ) -> tuple[NDArray[Any], ...]:
        return exact_block(index, xq, rule.k)


class _Adaptive(Searcher):
    """In rungs."""

    has_rungs = True
    far_by = "exact"

    def search(self, index: Index, xq: NDArray[np.generic], rule: Rule, promise: Promise) -> tuple[NDArray[Any], ...]:
        return climb(index, xq, rule, rungs_for(index, rule, promise))

    def is_exact(self, index: Index, k: int) -> bool:
        return index.careful(k) == EXACT

    def finds_first(self, more: int, k: int) -> bool:  # noqa: ARG002  # which rung settles a query is for its votes
        return False

    def promises_differ(self, index: Index, rule: Rule) -> bool:
        return rungs_for(index, rule, "label") != rungs_for(index, rule, "confidence")

    def finds_the_same(self, index: Index, one: tuple[Rule, Promise], other: tuple[Rule, Promise]) -> bool:
        rungs = rungs_for(index, *one)
        # That an image is too far is asked of exact search, and whether it is may keep a rung from settling it.
        is_far_alike = rungs == (EXACT,) or one[0].max_distance == other[0].max_distance
        return rungs == rungs_for(index, *other) and is_far_alike

    def why_no_promise(self, index: Index, rule: Rule) -> str | None:
        return None if self.is_exact(index, rule.k) else why_untuned(index, rule)


class _Proposing(Searcher):
    """By candidates of a FAISS index of its own."""

    def search(
        self,
        index: Index,
        xq: NDArray[np.generic],
        rule: Rule,
        promise: Promise,  # noqa: ARG002  # it makes none
    ) -> tuple[NDArray[Any], ...]:
        return settle_or_scan(index, xq, propose(index, xq, rule.k), rule.k)


SEARCHERS: dict[Kind, Searcher] = {
    "exact": _Exact(),
    "adaptive": _Adaptive(),
    "hnsw": _Proposing(),
    "factory": _Proposing(),
}
