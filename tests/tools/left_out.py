"""What exact search and rungs answer to a stored image that is left out with its copies, in plain NumPy."""

import numpy as np

from knnvote.classify.search.candidates import encode
from knnvote.classify.vote import vote


def squared_distances(a, b):
    """Between rows of whole numbers, which float64 adds up without rounding."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T


def _keys(codes, table):
    """Of queries by their codes (nq, p) and what a table holds, by its rows (nq, n)."""
    products = (codes.astype(np.float64) @ table.codes.astype(np.float64).T).astype(np.int64)  # which it holds exactly
    keys = np.empty(products.shape, dtype=np.int64)
    keys[:, table.field("row")] = table.field("norm") - 2 * products
    return keys


class LeaveOneOut:
    """What exact search and rungs answer to a stored image that is left out with its copies, in plain NumPy."""

    def __init__(self, index, x, y, rule, groups=None):
        ivf = index.ivf
        self.y, self.rule = y, rule
        self.copies = np.unique(x, axis=0, return_inverse=True)[1].ravel()
        self.groups = np.arange(len(x)) if groups is None else groups
        codes = encode(index, x).codes
        self.D = squared_distances(x, x)
        self.keys, self.keys_of_lists = (_keys(codes, table) for table in (ivf.table, ivf.centroids))
        self.lists = np.split(ivf.table.field("row").astype(np.int64), ivf.ends[:-1])

    def answer(self, D, I):
        """Class and confidence."""
        winner, confidence = vote(self.y[I].astype(np.int32)[None], np.sqrt(D)[None], self.rule)
        return int(winner[0]), float(confidence[0])

    def nearest(self, row, candidates):
        D = self.D[row, candidates]
        order = np.lexsort((candidates, D))[: self.rule.k]
        return D[order], candidates[order]

    def others(self, row):
        return np.flatnonzero(self.is_other(row, np.arange(len(self.y))))

    def is_other(self, row, rows):
        return (self.copies[rows] != self.copies[row]) & (self.groups[rows] != self.groups[row])

    def exact(self, row):
        return self.answer(*self.nearest(row, self.others(row)))

    def rung(self, row, rung):
        """Whether it is sure, and its answer; None where it is not."""
        if rung.nprobe is None:
            return True, self.exact(row)
        places = np.argsort(self.keys_of_lists[row], kind="stable")
        held = np.concatenate([self.lists[place] for place in places[: rung.nprobe]])
        held = held[self.is_other(row, held)]
        m = rung.candidates_per_neighbor * self.rule.k
        candidates = held[np.lexsort((held, self.keys[row, held]))[:m]]
        if rung.confidence is None:
            is_sure = len(candidates) == m and len(set(self.y[candidates])) == 1
            return is_sure, (int(self.y[candidates[0]]), None) if is_sure else None
        if len(candidates) < self.rule.k:
            return False, None
        label, confidence = self.answer(*self.nearest(row, candidates))
        return confidence >= rung.confidence, (label, confidence)
