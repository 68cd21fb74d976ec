"""What exact search and rungs answer to a stored image that is left out with its copies, in plain NumPy."""

import faiss
import numpy as np

from knnvote.classify.vote import vote


def squared_distances(a, b):
    """Between rows of whole numbers, which float64 adds up without rounding."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T


class LeaveOneOut:
    """What exact search and rungs answer to a stored image that is left out with its copies, in plain NumPy."""

    def __init__(self, index, x, y, rule):
        ivf, projection = index.ivf
        self.y, self.rule = y, rule
        self.copies = np.unique(x, axis=0, return_inverse=True)[1].ravel()
        projected = projection(x)
        self.D, self.projected_D = squared_distances(x, x), squared_distances(projected, projected)
        self.D_to_lists = squared_distances(projected, faiss.downcast_index(ivf.quantizer).reconstruct_n(0, ivf.nlist))
        inverted = ivf.invlists
        self.lists = [
            faiss.rev_swig_ptr(inverted.get_ids(i), inverted.list_size(i)).copy() if inverted.list_size(i) else []
            for i in range(ivf.nlist)
        ]

    def answer(self, D, I):
        """Class and confidence."""
        winner, confidence = vote(self.y[I].astype(np.int32)[None], np.sqrt(D)[None], self.rule)
        return int(winner[0]), float(confidence[0])

    def nearest(self, row, candidates):
        D = self.D[row, candidates]
        order = np.lexsort((candidates, D))[: self.rule.k]
        return D[order], candidates[order]

    def others(self, row):
        return np.flatnonzero(self.copies != self.copies[row])

    def exact(self, row):
        return self.answer(*self.nearest(row, self.others(row)))

    def rung(self, row, rung):
        """Whether it is sure, and its answer; None where the order of equal projections would decide."""
        if rung.nprobe is None:
            return True, self.exact(row)
        to_lists = self.D_to_lists[row]
        places = np.argsort(to_lists, kind="stable")
        if len(places) > rung.nprobe and to_lists[places[rung.nprobe - 1]] == to_lists[places[rung.nprobe]]:
            return None
        held = np.concatenate([self.lists[place] for place in places[: rung.nprobe]]).astype(np.int64)
        held = held[self.copies[held] != self.copies[row]]
        near = self.projected_D[row, held]
        order, m = np.argsort(near, kind="stable"), rung.candidates_per_neighbor * self.rule.k
        if len(held) > m and near[order[m - 1]] == near[order[m]]:
            return None
        candidates = held[order[:m]]
        if rung.confidence is None:
            is_sure = len(candidates) == m and len(set(self.y[candidates])) == 1
            return is_sure, (int(self.y[candidates[0]]), None) if is_sure else None
        if len(candidates) < self.rule.k:
            return False, None
        label, confidence = self.answer(*self.nearest(row, candidates))
        return confidence >= rung.confidence, (label, confidence)
