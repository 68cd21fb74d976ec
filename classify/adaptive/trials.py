"""Trials: what single rungs answer to stored images, each with itself and its exact copies left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.search.blocks import in_blocks
from knnvote.classify.search.candidates import probe, project
from knnvote.classify.search.distances import candidate_distances, nearest
from knnvote.classify.search.ladder import agrees
from knnvote.classify.search.search import exact_search
from knnvote.classify.vote import Rule, mean_target, vote
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.rungs import Rung

Answers = Literal["label", "confidence"]
ANSWERS: tuple[Answers, ...] = get_args(Answers)
_SPARE = 4  # neighbours searched beyond those needed: a query that has more copies than these is not asked


@dataclass(frozen=True)
class Queries:
    """Stored images to ask, and what exact search answers without them.

    Attributes:
        index: an adaptive index.
        rule: k and weights.
        tolerance: of a regression: labels no farther apart than this agree; None for classes.
        xq: (nq, d) queries.
        label: (nq,) a class's place in class order, or a mean.
        confidence: (nq,) the winner's share of the vote; 1 for a regression.
    """

    index: Index
    rule: Rule
    tolerance: float | None
    xq: NDArray[np.generic]
    label: NDArray[np.float64]
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """What every rung did with every query.

    Attributes:
        place: of each rung in what follows.
        sure: (s, nq) whether the rung settles the query.
        right: (s, nq) whether its answer is exact search's: as a label, and as a label with its confidence.
    """

    place: dict[Rung, int]
    sure: NDArray[np.bool_]
    right: dict[Answers, NDArray[np.bool_]]


def ask(index: Index, rows: NDArray[np.int64], rule: Rule, tolerance: float | None) -> Queries:
    """Exact search for stored images, leaving aside those that have many copies."""
    m = min(index.n, rule.k + _SPARE)
    xq = index.vectors[rows]
    D, I = exact_search(index, xq, m)
    asked = np.flatnonzero((D == 0).sum(axis=1) <= m - rule.k)
    label, confidence = _answers(index, *_leave_out(D[asked], I[asked], rule.k), rule)
    return Queries(index, rule, tolerance, xq[asked], label, confidence)


def try_rungs(queries: Queries, firsts: Sequence[Rung], others: Sequence[Rung]) -> Trials:
    """Rungs that stand first in a ladder on every query; the others on those alone that some first rung passes on.

    Of what these would do with the rest, sure and right say yes: it matters to no ladder that has such a first rung.
    """
    rungs = [*firsts, *others]
    tried = Trials(
        place={rung: place for place, rung in enumerate(rungs)},
        sure=np.ones((len(rungs), len(queries.xq)), dtype=bool),
        right={answers: np.ones((len(rungs), len(queries.xq)), dtype=bool) for answers in ANSWERS},
    )
    _try_group(queries, firsts, np.arange(len(queries.xq)), tried)
    _try_group(queries, others, np.flatnonzero(~tried.sure.all(axis=0)), tried)
    return tried


def _try_group(queries: Queries, rungs: Sequence[Rung], rows: NDArray[np.int64], tried: Trials) -> None:
    """Fill in what rungs do with some queries."""
    for nprobe in dict.fromkeys(rung.nprobe for rung in rungs if rung.nprobe is not None):
        group = [rung for rung in rungs if rung.nprobe == nprobe]
        sure, label, confidence = _try_probing(queries, rows, nprobe, group)
        is_right = label == queries.label[rows]
        if queries.tolerance is not None:
            is_right = np.abs(label - queries.label[rows]) <= queries.tolerance
        cells = np.ix_(np.array([tried.place[rung] for rung in group]), rows)
        tried.sure[cells] = sure
        tried.right["label"][cells] = is_right
        tried.right["confidence"][cells] = is_right & (confidence == queries.confidence[rows])


def _try_probing(
    queries: Queries, rows: NDArray[np.int64], nprobe: int, rungs: list[Rung]
) -> tuple[NDArray[np.float64], ...]:
    """Rungs of one nprobe, from one probing: whether they are sure, their labels and confidences, each (s, rows)."""
    index, rule = queries.index, queries.rule
    counts = [rung.candidates(rule.k, index.n) for rung in rungs]

    def try_block(xq: NDArray[np.generic]) -> tuple[NDArray[np.float64]]:
        D, I = _leave_out(*probe(index, project(index, xq), max(counts) + _SPARE, nprobe), max(counts))
        agreed = {m: agrees(index, I[:, :m], queries.tolerance) for m in set(counts)}
        if queries.tolerance is None and all(rung.confidence is None for rung in rungs):
            # Only what the sure ones answer matters, and that is the one label of their candidates.
            label = _answers(index, np.ones((len(xq), rule.k)), I[:, : rule.k], rule)[0]
            answers = dict.fromkeys(counts, (label, np.ones(len(xq))))
        else:
            D = candidate_distances(xq, index.vectors, I, METRICS[index.metric])
            answers = {m: _nearest_answers(index, D[:, :m], I[:, :m], rule) for m in set(counts)}
        tried = [(_is_sure(rung, agreed[m], *answers[m]), *answers[m]) for rung, m in zip(rungs, counts, strict=True)]
        return (np.array(tried, dtype=np.float64).transpose(2, 1, 0),)

    (found,) = in_blocks(try_block, queries.xq[rows])
    return tuple(found.transpose(1, 2, 0))


def _is_sure(
    rung: Rung, agreed: NDArray[np.bool_], label: NDArray[np.float64], confidence: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether a rung settles queries whose candidates agree or not, and that get these answers."""
    if rung.confidence is None:
        return agreed
    return (confidence >= rung.confidence) & (~np.isnan(label) | (rung.confidence == 0))


def _nearest_answers(
    index: Index, D: NDArray[np.float64], I: NDArray[np.int64], rule: Rule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    near_D, near_I = nearest(D, I, rule.k)
    return _answers(index, METRICS[index.metric].final(near_D), near_I, rule)


def _leave_out(D: NDArray[Any], I: NDArray[np.int64], m: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The first m of each query's neighbours (nq, more) that are not the query itself or a copy of it; -1 for none.

    What is as near as these by its projection alone is left out with them: that flatters no search.
    """
    places = np.argsort(D == 0, axis=1, kind="stable")[:, :m]
    D, I = np.take_along_axis(D, places, axis=1), np.take_along_axis(I, places, axis=1)
    return D, np.where(D == 0, -1, I)


def _answers(
    index: Index, D: NDArray[np.float64], I: NDArray[np.int64], rule: Rule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Label (nq,), a class's place or a mean, and confidence (nq,); NaN labels where there are fewer than k."""
    lacking = np.flatnonzero((I < 0).any(axis=1))
    D = D.copy()
    D[lacking] = 1
    if index.is_regression:
        label, confidence = mean_target(index.targets[I], D, rule.weights), np.ones(len(I))
    else:
        codes, confidence = vote(index.class_codes[I], D, rule)
        label = codes.astype(np.float64)
    label[lacking] = np.nan
    return label, confidence
