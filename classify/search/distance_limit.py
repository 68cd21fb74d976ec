"""How far is too far: a limit of the distance to the nearest neighbour, from the stored images' own distances.

An image of another kind than the stored ones lies far from all of them, and how far those lie from each other says what
far is. Each stored image is left out and its nearest neighbour among the others found; the limit is the quantile of
these distances that a new image of the same kind exceeds with a stated probability: conformal prediction (Vovk,
Gammerman and Shafer 2005, Algorithmic Learning in a Random World) with the distance to the nearest neighbour as the
measure of nonconformity, as for anomalies by Laxhammar and Falkman (2015, Inductive Conformal Anomaly Detection for
Sequential Detection of Anomalous Sub-trajectories). Leaving one out at a time stands for their split into stored and
calibrating images, so that none is lost to the index; the rate is then not proven but measured by the tests.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Context

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.vote import Rule, is_auto
from knnvote.data.errors import OptionError, check, check_instance, is_number, param, plain, warn
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.records.distance import KeptDistance, as_written, least_images
from knnvote.indexer.threads import limit_threads

from .kinds import SEARCHERS
from .left_out import check_left_out, leave_out, most_left
from .sampling import sample_rows

FALSE_ALARMS = 0.01
MAX_IMAGES = 10_000  # left out: the rate is then within 0.002 of 0.01
_LEAST_FALSE_ALARMS = 1 / MAX_IMAGES
MANY_COPIES = 0.05  # of the images
_SIX_DIGITS = Context(prec=6, rounding=ROUND_CEILING)
_BLOCK = 2048
_BLOCK_PIXELS = 1 << 26


@dataclass(frozen=True, kw_only=True)
class DistanceLimit:
    """What `distance_limit` found.

    Attributes:
        limit: in the index's metric, of six digits; farther is too far.
        false_alarms: the share of new images of the stored kind that are about to be found too far.
        images: stored ones that were left out, one at a time.
        with_copies: how many of these have an exact copy among the others, which makes the limit too narrow.
    """

    limit: float
    false_alarms: float
    images: int
    with_copies: int

    @property
    def has_many_copies(self) -> bool:
        """Whether so many have a copy that the limit is narrower than it says by much."""
        return self.with_copies >= MANY_COPIES * self.images


@dataclass(frozen=True, kw_only=True)
class NearestDistances:
    """How far stored images are from the nearest of the others, each left out in turn.

    Attributes:
        distances: (m,) float64 in the index's metric, in the order of the rows.
        with_copies: how many of the m images have an exact copy among the others.
    """

    distances: NDArray[np.float64] = field(repr=False)
    with_copies: int


def distance_limit(
    index: Index,
    rule: Rule,
    *,
    false_alarms: float = FALSE_ALARMS,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> DistanceLimit:
    """The ``max_distance`` that a stated share of images of the stored kind exceed.

    The nearest neighbour is the one that the job compares with the limit: for an adaptive index that of exact search,
    by which alone it finds an image too far; for one of FAISS's approximate indexes the one that its search finds.
    More than `MAX_IMAGES` stored images are represented by so many of them, drawn at random. The share is kept on
    average for new images that are drawn like the stored ones, each by itself; where stored images have near copies,
    more are found too far.

    Args:
        index: an opened index of any kind.
        rule: of the vote: its k may shape what an approximate index finds.
        false_alarms: the share, from 0.0001, below 1.
        threads: of the search; the limit is the same for any number.
        progress: called with the number of images after each block.

    Raises:
        OptionError: the share is out of range, or too small for so few stored images.

    Example:
        >>> from knnvote import Classifier, Rule, distance_limit, open_index
        >>> index = open_index("digits.knn")
        >>> found = distance_limit(index, Rule(), false_alarms=0.01)
        >>> round(found.limit, 2), found.images
        (27.29, 1347)
        >>> classify = Classifier(index, Rule(max_distance=found.limit))
    """
    check_index(index)
    check_instance("rule", rule, Rule)
    _check_false_alarms(index, false_alarms)
    check_left_out(index, "k", None, 1)
    found = nearest_distances(index, rule, most=MAX_IMAGES, threads=threads, progress=progress)
    return DistanceLimit(
        limit=shown_limit(conformal_quantile(found.distances, false_alarms)),
        false_alarms=plain(false_alarms),
        images=len(found.distances),
        with_copies=found.with_copies,
    )


def with_limit(index: Index, rule: Rule) -> Rule:
    """The rule, with the number that ``auto`` stands for; it is told if copies make that too narrow.

    Raises:
        OptionError: there are too few images to find one.
    """
    if not is_auto(rule.max_distance):
        return rule
    return replace(rule, max_distance=_found(index, rule, FALSE_ALARMS).limit)


def kept_distance(index: Index, rule: Rule, false_alarms: float) -> KeptDistance | None:
    """What an index keeps of a rule's ``max_distance``; it is told if copies make what is found too narrow.

    Raises:
        OptionError: there are too few images to find one, or no distance of the metric is as great.
    """
    if is_auto(rule.max_distance):
        found = _found(index, rule, false_alarms)
        return KeptDistance(limit=found.limit, false_alarms=false_alarms, images=found.images)
    limit = rule.of_metric(index.metric).limit
    return None if limit is None else KeptDistance(limit=limit)


def _found(index: Index, rule: Rule, false_alarms: float) -> DistanceLimit:
    found = distance_limit(index, rule, false_alarms=false_alarms)
    if found.has_many_copies:
        warn(
            f"{param('max_distance')} is {found.limit:g}, and {found.with_copies:,} of the {found.images:,} stored "
            "images from which it was found have an exact copy stored, so it is too narrow"
        )
    return found


def nearest_distances(
    index: Index,
    rule: Rule,
    *,
    most: int,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> NearestDistances:
    """How far each stored image is from the nearest other, as the job's search finds it.

    Args:
        index: of two images at least, or two groups.
        rule: of the vote: its k may shape what an approximate index finds.
        most: images that are left out; of more so many stand for all, drawn at random.
        threads: of the search; the distances are the same for any number.
        progress: called with the number of images after each block.
    """
    rows = sample_rows(index.n, most)
    promise = SEARCHERS[index.kind].far_by
    k = 1 if promise == "exact" else min(rule.k, most_left(index))
    distances, with_copies = [], 0
    block = max(1, min(_BLOCK, _BLOCK_PIXELS // index.d))
    with limit_threads(threads):
        for part in leave_out(index, k, rows=rows, block=block, promise=promise, progress=progress):
            distances.append(part.D[:, 0])
            with_copies += part.count_copies(index)
    return NearestDistances(distances=np.concatenate(distances), with_copies=with_copies)


def conformal_quantile(scores: NDArray[np.float64], alpha: float) -> float:
    """The ceil((m + 1)(1 - alpha))-th smallest of m scores, which one more of their kind exceeds with at most alpha.

    Raises:
        ValueError: alpha is so small that this is beyond the last of them.
    """
    rank = math.ceil((len(scores) + 1) * (1 - as_written(alpha)))
    if rank > len(scores):
        raise ValueError(f"{len(scores)} scores are too few for alpha {alpha}")
    return float(np.partition(scores, rank - 1)[rank - 1])


def shown_limit(distance: float) -> float:
    """The least number of six digits that is not below a distance: what is shown of it is all of it."""
    return float(_SIX_DIGITS.create_decimal_from_float(distance))


def check_share(false_alarms: float) -> None:
    """Refuse false alarms that are no share of images.

    Raises:
        OptionError: naming it.
    """
    is_share = is_number(false_alarms) and _LEAST_FALSE_ALARMS <= false_alarms < 1
    check("false_alarms", false_alarms, is_share, f"give a share of images from {_LEAST_FALSE_ALARMS:g}, below 1")


def _check_false_alarms(index: Index, false_alarms: float) -> None:
    """Refuse a share of images that so few stored ones do not tell.

    Raises:
        OptionError: with what to do.
    """
    check_share(false_alarms)
    needed = least_images(false_alarms)
    if index.n < needed:
        raise OptionError(
            f"{param('distance_limit')} at {param('false_alarms')} {false_alarms} needs {needed:,} stored images, "
            f"and {index.path} holds {index.n:,}: index more images, allow more false alarms, "
            f"or give {param('max_distance')} a number"
        )
