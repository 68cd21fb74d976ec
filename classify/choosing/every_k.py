"""What a vote gives for every number of neighbours from 1 to k, each from the one before."""

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.vote import Factors, votes_of
from knnvote.indexer.names import Weights


def votes(
    codes: NDArray[np.int32], D: NDArray[np.float64], weights: Weights, factors: Factors = None
) -> NDArray[np.int32]:
    """What `vote` with ``ties="nearest"`` gives for every number of neighbours from 1 to k.

    Args:
        codes: (nq, k) class of each neighbour, as its place in class order.
        D: (nq, k) distances, ascending.
        weights: of the votes, stepwise ones.
        factors: as `vote` takes it.

    Returns:
        (nq, k) int32: in column j the winning class of the first j + 1 neighbours.
    """
    w = votes_of(D, weights, factors)
    places, classes = _number_classes(codes)
    queries = np.arange(len(codes))
    sums = np.zeros((places.max(initial=0) + 1, len(codes)))  # queries last: reductions over few classes are then fast
    distances = np.zeros_like(sums)
    winners = np.empty(codes.shape, dtype=np.int32)
    for j in range(codes.shape[1]):
        sums[places[:, j], queries] += w[:, j]
        distances[places[:, j], queries] += D[:, j]
        # A neighbour without weight makes its class lose a tie, and another than its own may win:
        # all classes are compared each time.
        nearest = np.where(sums == sums.max(axis=0), distances, np.inf).argmin(axis=0)
        winners[:, j] = classes[queries, nearest]
    return winners


def _number_classes(codes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Number the classes among each row's neighbours, in class order: at most k, however many classes there are.

    Returns:
        places (nq, k): each neighbour's class as numbered in its row; classes (nq, k): the code at each place.
    """
    order = np.argsort(codes, axis=1, kind="stable")
    ascending = np.take_along_axis(codes, order, axis=1)
    ranks = np.zeros(codes.shape, dtype=np.int64)
    ranks[:, 1:] = np.cumsum(ascending[:, 1:] != ascending[:, :-1], axis=1)
    places, classes = np.empty_like(ranks), np.zeros_like(codes)
    np.put_along_axis(places, order, ranks, axis=1)
    np.put_along_axis(classes, ranks, ascending, axis=1)
    return places, classes


def mean_targets(
    targets: NDArray[np.float64], D: NDArray[np.float64], weights: Weights, factors: Factors = None
) -> NDArray[np.float64]:
    """What `mean_target` gives for every number of neighbours from 1 to k: targets and distances (nq, k) -> (nq, k)."""
    w = votes_of(D, weights, factors)
    means: NDArray[np.float64] = np.cumsum(w * targets, axis=1) / np.cumsum(w, axis=1)
    return means
