"""Equal images with unlike labels: of each pair one label is certainly wrong."""

from collections import Counter, defaultdict
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from knnvote.classify.search.left_out import BLOCK
from knnvote.indexer.index import Index


class Equal(NamedTuple):
    """What is equal to a stored image: the first that is, be it itself, and the first with each other label."""

    first: int
    others: list[int]


def equal_images(index: Index) -> dict[int, Equal]:
    """The contested rows, with what is equal to them.

    Of equal rows all are contested but those with the label that most have, if it is one.
    """
    first: dict[bytes, int] = {}
    members = defaultdict(list)  # of groups of several, by their first row
    for start in range(0, index.n, BLOCK):
        block = np.ascontiguousarray(index.images[start : start + BLOCK] + 0)  # -0.0 becomes 0.0, which it equals
        for row, vector in enumerate(block, start):
            group = first.setdefault(blake2b(vector, digest_size=16).digest(), row)
            if group != row:
                members[group].append(row)
    contested = {}
    for group, others in members.items():
        rows = [group, *others]
        codes = index.class_codes[rows].tolist()
        (top, most), *rivals = Counter(codes).most_common(2)
        if rivals:
            firsts = dict(zip(reversed(codes), reversed(rows), strict=True))
            is_sole = rivals[0][1] < most
            for row, code in zip(rows, codes, strict=True):
                if not (is_sole and code == top):
                    contested[row] = Equal(group, [firsts[other] for other in sorted(firsts) if other != code])
    return contested
