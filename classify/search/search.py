"""K-neighbour search: codes or FAISS propose candidates, the stored vectors settle them.

D (nq, k) float64: distances in the index's metric, ascending. I (nq, k) int64: rows of the stored vectors; equal
distances are ordered by row. Both have the same bits for a query whatever the batch, the number of threads or the
place in the batch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.vote import Rule
from knnvote.data.errors import OptionError, param
from knnvote.data.layout import noun
from knnvote.data.text import counted
from knnvote.indexer.codes.plain import Neighbors
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

from .blocks import in_blocks
from .kinds import SEARCHERS
from .ladder import Promise


class Found(NamedTuple):
    """What was found for nq queries.

    Attributes:
        D: (nq, k) float64 distances, ascending.
        I: (nq, k) int64 rows of the stored vectors.
        rung: (nq,) int8, which rung settled the query, from 1; None of a kind without rungs.
    """

    D: NDArray[np.float64]
    I: NDArray[np.int64]
    rung: NDArray[np.int8] | None


def find(index: Index, xq: NDArray[np.generic], rule: Rule, promise: Promise) -> Found:
    """The neighbours that vote by a rule: the one door to every search.

    Args:
        index: in memory or opened.
        xq: (nq, d) queries in the index's type, or in float64.
        rule: of the vote: k neighbours are found; of an adaptive index the weights choose the rungs too, and an image
            that lies farther than max_distance is found so by exact search.
        promise: what agrees with exact search's: of an adaptive index the ``label``, or ``confidence`` and label, as
            often as it was tuned for; ``careful`` gives as many of the true neighbours as the kind finds, by an
            adaptive index's most careful rung; ``exact`` all of them, of any kind. A query for which an approximate
            index has fewer than k candidates is searched exactly.

    Raises:
        OptionError: k is not from 1 to n.
    """
    check_k(index, rule.k)
    searcher = SEARCHERS["exact" if promise == "exact" else index.kind]
    D, I, *rung = in_blocks(lambda queries: searcher.search(index, queries, rule, promise), xq)
    return Found(METRICS[index.metric].final(D), I, rung[0] if rung else None)


def search(index: Index, xq: NDArray[np.generic], k: int, promise: Promise = "careful") -> Neighbors:
    """The k nearest stored vectors of each query, for whatever they are to be: `find` without a rule.

    Returns:
        D (nq, k) float64 and I (nq, k) int64.

    Raises:
        OptionError: k is not from 1 to n.
    """
    check_k(index, k)
    D, I, _ = find(index, xq, Rule(k=k), promise)
    return D, I


def exact_search(index: Index, xq: NDArray[np.generic], k: int) -> Neighbors:
    """The k nearest stored vectors of each query, of any kind of index; arguments and results as of `search`."""
    return search(index, xq, k, "exact")


def is_exact(index: Index, k: int) -> bool:
    """Whether `search` finds the k nearest of all stored vectors."""
    return SEARCHERS[index.kind].is_exact(index, k)


def promises_differ(index: Index, rule: Rule) -> bool:
    """Whether an index promises labels by another search than their confidences."""
    return SEARCHERS[index.kind].promises_differ(index, rule)


def finds_the_same(index: Index, one: tuple[Rule, Promise], other: tuple[Rule, Promise]) -> bool:
    """Whether `find` gives every query the same, rungs too, by two rules that differ in when to abstain alone."""
    return SEARCHERS[index.kind].finds_the_same(index, one, other)


def why_no_promise(index: Index, rule: Rule) -> str | None:
    """Why nothing was measured for the answers of an index under a rule; None where it was, or need not be."""
    return SEARCHERS[index.kind].why_no_promise(index, rule)


def check_k(index: Index, k: int) -> None:
    """Refuse to look for more neighbours than there are, or for none.

    Raises:
        OptionError: k is not from 1 to n.
    """
    if not 1 <= k <= index.n:
        held = counted(index.n, noun(index.shape))
        raise OptionError(f"k is {k}, and {index.path} holds {held}: give {param('k')} from 1 to {index.n}")
