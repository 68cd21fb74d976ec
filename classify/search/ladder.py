"""Search in rungs: a cheap one for all queries, a careful one for those that it leaves in doubt.

When all candidates of a cheap search have one label, looking farther hardly ever changes the vote; nor does it when
most of the k neighbours of a more careful search have. So each rung settles the queries of which it is sure, a reject
option (Hellman 1970, The Nearest Neighbor Classification Rule with a Reject Option), and rejected ones go on to the
next, a cascade (Viola and Jones 2001). The last settles all that are left. For a regression a rung is sure when the
labels of all candidates lie within a tolerance of each other, as any mean of any of them then does. That a query lies
too far from all stored vectors, only exact search says. `tune` chooses the rungs.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.notebook.weight_function import told_weights
from knnvote.classify.vote import Rule, vote
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import ClassWeight
from knnvote.indexer.rungs import Rung, Tuned

from .bounded import exact_block, settle_or_scan
from .candidates import encode, propose_by
from .distances import settle

# What is asked of a search: that its labels, or with them the confidences, agree with exact search's as often as an
# adaptive index was tuned for; as many of the true neighbours as the kind finds; or all of them.
Promise = Literal["label", "confidence", "careful", "exact"]
PROMISES: tuple[Promise, ...] = get_args(Promise)

_TOLERANCE = 0.05  # of a regression, in standard deviations of the stored labels
_ROUNDING = 8  # in steps of float64 at the largest label


def rungs_for(index: Index, rule: Rule, promise: Promise) -> tuple[Rung, ...]:
    """The rungs that an adaptive index was tuned to for such a rule and promise, else its most careful one alone."""
    tuned = index.tuned
    if promise == "careful" or tuned is None or not _was_for(tuned, rule, index):
        return (index.careful(rule.k),)
    return (tuned.label if promise == "label" else tuned.confidence).ladder


def why_untuned(index: Index, rule: Rule) -> str | None:
    """Why nothing was measured for the answers of an adaptive index under a rule; None where it was."""
    tuned = index.tuned
    if tuned is None:
        return f"{index.path} was not tuned: its most careful rung searches, and no agreement was measured for it"
    if not _was_for(tuned, rule, index):
        before, asked = (f"k {one.k} and {told_weights(one.weights)}" for one in (tuned, rule))
        if before == asked and tuned.class_weight != rule.class_weight:
            before, asked = (f"{before} with {_told(one.class_weight)}" for one in (tuned, rule))
        elif before == asked:
            before, asked = f"{before} with ties {tuned.ties}", f"ties {rule.ties}"
        return (
            f"{index.path} was tuned for {before}: for {asked} its most careful rung searches, "
            "and no agreement was measured for that"
        )
    return None


def _was_for(tuned: Tuned, rule: Rule, index: Index) -> bool:
    """Whether what was tuned for is this rule. One neighbour, or a mean, has no ties."""
    has_ties = rule.k > 1 and not index.is_regression
    is_same = (tuned.k, tuned.weights, tuned.class_weight) == (rule.k, rule.weights, rule.class_weight)
    return is_same and (tuned.ties == rule.ties or not has_ties)


def _told(class_weight: ClassWeight) -> str:
    if class_weight is None:
        return "equal class weights"
    return "balanced class weights" if class_weight == "balanced" else "class weights of its own"


def climb(
    index: Index, xq: NDArray[np.generic], rule: Rule, rungs: tuple[Rung, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int8]]:
    """The k nearest stored vectors of each query of a block, as far as rungs find them.

    Args:
        index: an adaptive index.
        xq: (nq, d) queries in the index's type, or in float64.
        rule: of the vote: its k and weights, and how far is too far.
        rungs: from cheap to careful; the last settles all that are left.

    Returns:
        D (nq, k) as `distances` has it, I (nq, k), and (nq,) which rung settled the query, from 1.
    """
    D, I = np.empty((len(xq), rule.k)), np.empty((len(xq), rule.k), dtype=np.int64)
    settled_by = np.empty(len(xq), dtype=np.int8)
    rows = np.arange(len(xq))
    codes = encode(index, xq).codes if rungs[0].nprobe is not None else np.empty((len(xq), 0), dtype=np.int8)
    for number, rung in enumerate(rungs, 1):
        if not len(rows):
            break
        sure, found_D, found_I = _search_rung(index, xq[rows], codes[rows], rung, rule)
        if number < len(rungs):
            near = _is_near(found_D, rule, index)
            sure, found_D, found_I = sure[near], found_D[near], found_I[near]
        settled = rows[sure]
        D[settled], I[settled], settled_by[settled] = found_D, found_I, number
        rows = np.delete(rows, sure)
    far = np.flatnonzero(~_is_near(D, rule, index))
    if len(far) and rungs[-1].nprobe is not None:
        D[far], I[far] = exact_block(index, xq[far], rule.k)
    return D, I, settled_by


def _is_near(D: NDArray[np.float64], rule: Rule, index: Index) -> NDArray[np.bool_]:
    """Whether the nearest of each query's neighbours (nq, k) is near enough for an answer."""
    if rule.limit is None:
        return np.ones(len(D), dtype=np.bool_)
    near: NDArray[np.bool_] = METRICS[index.metric].final(D[:, 0]) <= rule.limit
    return near


def _search_rung(
    index: Index, xq: NDArray[np.generic], codes: NDArray[np.int8], rung: Rung, rule: Rule
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Which queries a rung settles (s,), and the k nearest of those: D as `distances` has it and I (s, k)."""
    k, everything, metric = rule.k, np.arange(len(xq)), METRICS[index.metric]
    if rung.nprobe is None:
        return everything, *exact_block(index, xq, k)
    proposed = propose_by(index, codes, rung, k)
    if rung.confidence is None:
        sure = np.flatnonzero(agrees(index, proposed, index.tuned.tolerance if index.tuned else None))
        return sure, *settle(xq[sure], index.vectors, proposed[sure], k, metric)
    if rung.confidence == 0:
        return everything, *settle_or_scan(index, xq, proposed, k)
    D, I = settle(xq, index.vectors, proposed, k, metric)
    full = np.flatnonzero(I[:, -1] >= 0)
    voters = I[full]
    confidence = vote(index.class_codes[voters], metric.final(D[full]), rule, rule.factors(index, voters))[1]
    sure = full[confidence >= rung.confidence]
    return sure, D[sure], I[sure]


def agrees(index: Index, I: NDArray[np.int64], tolerance: float | None) -> NDArray[np.bool_]:
    """Whether the candidates I (nq, m) of each query have one label, or for a regression one within a tolerance."""
    is_full = I[:, -1] >= 0
    if tolerance is not None:
        near: NDArray[np.bool_] = np.ptp(index.targets[I], axis=1) <= tolerance
        return is_full & near
    codes = index.class_codes[I]
    same: NDArray[np.bool_] = (codes == codes[:, :1]).all(axis=1)
    return is_full & same


def answer_tolerance(index: Index) -> float | None:
    """How far apart two answers of a regression agree, in the unit of its labels; None for classes."""
    if not index.is_regression:
        return None
    rounding = _ROUNDING * np.spacing(np.abs(index.targets).max())  # of a mean; labels may all be equal
    return float(max(_TOLERANCE * index.targets.std(), rounding))
