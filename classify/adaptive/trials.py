"""Trials: what single rungs answer to stored images, each left out together with its exact copies.

What finds a copy of itself flatters every search, where copies were stored by mistake. But of a source that gives
some images again and again, a new one has copies in store. So an image with more than a few copies is asked twice,
the other time with itself alone left out, and a ladder has to be right both times. Where an index has groups, with an
image its group is left out each time: that of a new one is not in store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.search.blocks import in_blocks
from knnvote.classify.search.candidates import encode
from knnvote.classify.search.ladder import agrees
from knnvote.classify.search.left_out import most_left, neighbors_left_out
from knnvote.classify.vote import Rule, mean_target, vote
from knnvote.data.progress import Advance, stage
from knnvote.indexer.codes.plain import least
from knnvote.indexer.codes.steps import distances
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.rungs import Rung

Answers = Literal["label", "confidence"]
ANSWERS: tuple[Answers, ...] = get_args(Answers)
# Neighbours searched beyond those needed. An image and its copies are few up to the first number; up to the second all
# are left out, and beyond it itself alone: nobody stores an image so often by mistake.
_FEW, _MANY = 4, 64
_ROOMS = 4 ** np.arange(32)  # images that a group may have: those of groups in between are asked together
_PROPOSED = 1 << 22  # candidates at a time


@dataclass(frozen=True)
class Queries:
    """Stored images to ask, and what exact search answers without them.

    Attributes:
        index: an adaptive index.
        rule: k and weights.
        tolerance: of a regression: labels no farther apart than this agree; None for classes.
        rows: (nq,) of the index.
        image: (nq,) which of the images that were to be asked; twice for one that has many copies.
        copies: (images,) a number for each of these that its copies among them share.
        is_alone: (nq,) whether it is left out without its copies.
        spare: (nq,) neighbours to search beyond those needed.
        room: (nq,) candidates to propose beyond these, for those of the same group; 0 without groups.
        label: (nq,) a class's place in class order, or a mean.
        confidence: (nq,) the winner's share of the vote; 1 for a regression.
    """

    index: Index
    rule: Rule
    tolerance: float | None
    rows: NDArray[np.int64]
    image: NDArray[np.int64]
    copies: NDArray[np.int64]
    is_alone: NDArray[np.bool_]
    spare: NDArray[np.int64]
    room: NDArray[np.int64]
    label: NDArray[np.float64]
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """What every rung did with every query.

    Attributes:
        image: (nq,) of each query, as `Queries` has it.
        copies: (images,), as `Queries` has it.
        place: of each rung in what follows.
        sure: (s, nq) whether the rung settles the query.
        right: (s, nq) whether its answer is exact search's: as a label, and as a label with its confidence.
    """

    image: NDArray[np.int64]
    copies: NDArray[np.int64]
    place: dict[Rung, int]
    sure: NDArray[np.bool_]
    right: dict[Answers, NDArray[np.bool_]]


def ask(index: Index, rows: NDArray[np.int64], rule: Rule, tolerance: float | None) -> Queries:
    """Exact search for stored images, of an index that leaves k neighbours of each."""
    D, I, is_whole = _with_copies(index, rows, rule.k, _FEW)
    has_few, has_many = np.flatnonzero(is_whole), np.flatnonzero(~is_whole)
    many_D, many_I, is_whole = _with_copies(index, rows[has_many], rule.k, _MANY)
    parts = (
        (has_few, D[has_few], I[has_few], False, _FEW),
        (has_many, D[has_many], I[has_many], True, _FEW),
        (has_many[is_whole], many_D[is_whole], many_I[is_whole], False, _MANY),
    )
    room = _room_of_groups(index)[rows]
    asked = []
    for image, near_D, near_I, is_alone, spare in parts:
        left_out = _leave_out(near_D, near_I, rule.k, rows[image], is_alone=is_alone)
        same = (np.full(len(image), value) for value in (is_alone, spare))
        asked.append((rows[image], image, *same, room[image], *_answers(index, *left_out, rule)))
    of_queries, image, *rest = map(np.concatenate, zip(*asked, strict=True))
    return Queries(index, rule, tolerance, of_queries, image, copy_groups(index, rows), *rest)


def copy_groups(index: Index, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each of some stored images (m,), which those that are equal share."""
    vectors = np.ascontiguousarray(index.vectors[rows])
    whole = vectors.view(np.dtype((np.void, vectors.dtype.itemsize * index.d)))[:, 0]
    groups: NDArray[np.int64] = np.unique(whole, return_inverse=True)[1]
    return groups


def _with_copies(
    index: Index, rows: NDArray[np.int64], k: int, spare: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Neighbours of stored images, without their groups; whether k stay of each without its copies too."""
    m = min(most_left(index), k + spare - 1)
    D, I = neighbors_left_out(index, rows, m, "exact")
    return D, I, (D == 0).sum(axis=1) <= m - k


def _room_of_groups(index: Index) -> NDArray[np.int64]:
    """(n,) for each stored image a number, of few, that its group has not more images than; 0 without groups."""
    if index.groups is None:
        return np.zeros(index.n, dtype=np.int64)
    rooms: NDArray[np.int64] = _ROOMS[np.searchsorted(_ROOMS, np.bincount(index.groups))]
    return rooms[index.groups]


def try_rungs(queries: Queries, firsts: Sequence[Rung], others: Sequence[Rung]) -> Trials:
    """Rungs that stand first in a ladder on every query; the others on those alone that some first rung passes on.

    Of what these would do with the rest, sure and right say yes: it matters to no ladder that has such a first rung.
    """
    rungs = [*firsts, *others]
    tried = Trials(
        image=queries.image,
        copies=queries.copies,
        place={rung: place for place, rung in enumerate(rungs)},
        sure=np.ones((len(rungs), len(queries.rows)), dtype=bool),
        right={answers: np.ones((len(rungs), len(queries.rows)), dtype=bool) for answers in ANSWERS},
    )
    with stage("tuning", sum(rung.nprobe is not None for rung in rungs), "rungs") as advance:
        _try_group(queries, firsts, np.arange(len(queries.rows)), tried, advance)
        _try_group(queries, others, np.flatnonzero(~tried.sure.all(axis=0)), tried, advance)
    return tried


def _try_group(
    queries: Queries, rungs: Sequence[Rung], asked: NDArray[np.int64], tried: Trials, advance: Advance
) -> None:
    """Fill in what rungs do with some queries."""
    nprobes = dict.fromkeys(rung.nprobe for rung in rungs if rung.nprobe is not None)
    for nprobe in nprobes:
        group = [rung for rung in rungs if rung.nprobe == nprobe]
        _try_nprobe(queries, nprobe, group, asked, tried)
        advance(len(group))


def _try_nprobe(queries: Queries, nprobe: int, group: list[Rung], asked: NDArray[np.int64], tried: Trials) -> None:
    """Fill in what rungs of one nprobe do with some queries."""
    kinds = np.stack([queries.is_alone, queries.spare, queries.room], axis=1)[asked]
    for kind in np.unique(kinds, axis=0):
        is_alone, spare, room = kind.tolist()
        alike = asked[(kinds == kind).all(axis=1)]
        tried_alike = _try_probing(queries, alike, nprobe, group, is_alone=bool(is_alone), spare=spare, room=room)
        sure, label, confidence = tried_alike
        is_right = label == queries.label[alike]
        if queries.tolerance is not None:
            is_right = np.abs(label - queries.label[alike]) <= queries.tolerance
        cells = np.ix_(np.array([tried.place[rung] for rung in group]), alike)
        tried.sure[cells] = sure
        tried.right["label"][cells] = is_right
        tried.right["confidence"][cells] = is_right & (confidence == queries.confidence[alike])


def _try_probing(
    queries: Queries,
    asked: NDArray[np.int64],
    nprobe: int,
    rungs: list[Rung],
    *,
    is_alone: bool,
    spare: int,
    room: int,
) -> tuple[NDArray[np.float64], ...]:
    """Rungs of one nprobe, from one probing: whether they are sure, their labels and confidences, each (s, asked).

    Queries are left out alike, so that which of them share a block changes nothing.
    """
    index, rule = queries.index, queries.rule
    counts, metric = [rung.candidates(rule.k, index.n) for rung in rungs], METRICS[index.metric]

    def try_block(block: NDArray[Any]) -> tuple[NDArray[np.float64]]:
        rows, m = queries.rows[block], max(counts)
        xq = index.vectors[rows]
        found = index.ivf.probe(encode(index, xq).codes, m + spare + room, nprobe)
        if index.groups is not None:
            found = _of_other_groups(index.groups, rows, found)[:, : m + spare]
        D, I = _leave_out(distances(xq, index.vectors, found, metric), found, m, rows, is_alone=is_alone)
        agreed = {m: agrees(index, I[:, :m], queries.tolerance) for m in set(counts)}
        if queries.tolerance is None and all(rung.confidence is None for rung in rungs):
            # Only what the sure ones answer matters, and that is the one label of their candidates.
            label = _answers(index, np.ones((len(xq), rule.k)), I[:, : rule.k], rule)[0]
            answers = dict.fromkeys(counts, (label, np.ones(len(xq))))
        else:
            answers = {m: _nearest_answers(index, D[:, :m], I[:, :m], rule) for m in set(counts)}
        tried = [(_is_sure(rung, agreed[m], *answers[m]), *answers[m]) for rung, m in zip(rungs, counts, strict=True)]
        return (np.array(tried, dtype=np.float64).transpose(2, 1, 0),)

    step = max(1, _PROPOSED // (max(counts) + spare + room))
    found = [in_blocks(try_block, asked[start : start + step])[0] for start in range(0, len(asked), step)]
    return tuple(np.concatenate(found).transpose(1, 2, 0))


def _of_other_groups(groups: NDArray[np.int64], rows: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """What was found (nq, m) for stored images, in its order but for those of their groups: -1 at the end for each."""
    left_out = (groups[rows, None] == groups[found]) | (found < 0)
    places = np.argsort(left_out, axis=1, kind="stable")
    left_out, found = (np.take_along_axis(array, places, axis=1) for array in (left_out, found))
    return np.where(left_out, -1, found)


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
    near_D, near_I = least(D, I, rule.k)
    return _answers(index, METRICS[index.metric].final(near_D), near_I, rule)


def _leave_out(
    D: NDArray[Any], I: NDArray[np.int64], m: int, rows: NDArray[np.int64], *, is_alone: bool
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The first m of each query's neighbours that are not the query itself or, if not alone, a copy; or -1."""
    left_out = rows[:, None] == I if is_alone else D == 0
    places = np.argsort(left_out, axis=1, kind="stable")[:, :m]
    D, I, left_out = (np.take_along_axis(array, places, axis=1) for array in (D, I, left_out))
    return np.where(left_out, np.inf, D), np.where(left_out, -1, I)


def _answers(
    index: Index, D: NDArray[np.float64], I: NDArray[np.int64], rule: Rule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Label (nq,), a class's place or a mean, and confidence (nq,); NaN labels where there are fewer than k."""
    lacking = np.flatnonzero((I < 0).any(axis=1))
    D = D.copy()
    D[lacking] = 1
    if index.is_regression:
        label = mean_target(index.targets[I], D, rule.weights, rule.factors(index, I))
        confidence = np.ones(len(I))
    else:
        codes, confidence = vote(index.class_codes[I], D, rule, rule.factors(index, I))
        label = codes.astype(np.float64)
    label[lacking] = np.nan
    return label, confidence
