"""Suspects: stored images whose label is likely wrong, because their neighbours or an equal image contradict it.

Each stored image is classified by the others, as Wilson's edited nearest neighbours does (IEEE Transactions on
Systems, Man, and Cybernetics 2, 1972): where its own label loses the vote it is suspect. Nothing is removed: suspects
are ranked for a person to look at, after Brodley and Friedl (Journal of Artificial Intelligence Research 11, 1999).
Confident learning (Northcutt, Jiang and Chuang, same journal 70, 2021) is a relative, with a model's probabilities.

The order is that of the share of the vote against the label; among equal shares the image comes first that is far from
its own label relative to how near it is to another. On MNIST's 60,000 training images with 600 labels changed at random
(mean of three draws), the first 600 hold 88% of the changed ones with 20 neighbours (average precision 0.93), 83% with
10 (0.89) and 73% with 5 (0.81); by the share alone it is 77%, 70% and 59%, by the relative distance alone 75%, 67% and
54%. Votes weighted by 1 / distance rank no better.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.answer import Neighbor, neighbors_of
from knnvote.classify.vote import Rule, vote
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.threads import limit_threads

from .left_out import BLOCK, LeftOut, check_left_out, leave_out

DEFAULT_K = 20


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A stored image whose label is contradicted.

    Attributes:
        row: of the index.
        id: of the image.
        file: that it came from.
        file_row: its row there.
        label: that is stored.
        neighbors_say: the label that wins the vote of its neighbours.
        share: of the vote that this label has.
        against: share of the vote that other labels than its own have.
        relative_distance: own / (own + other) from 0 to 1, of the distances to the nearest neighbour with its own label
            (where there is none, to the farthest neighbour) and with another; 0.5 where all are 0.
        neighbors: the k that vote, nearest first.
        equal: for each other label that an equal image has, the first such image.
    """

    row: int
    id: str
    file: str
    file_row: int
    label: Any
    neighbors_say: Any
    share: float
    against: float
    relative_distance: float
    neighbors: tuple[Neighbor, ...]
    equal: tuple[Neighbor, ...]


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What `find_suspects` found.

    Attributes:
        images: that the index stores.
        search: kind of the index, exact or approximate, that found the neighbours.
        k: neighbours that vote.
        losing_the_vote: suspects whose neighbours say another label.
        with_equal: suspects with an equal image of another label: of each pair one is certainly wrong.
        class_names: names of integer labels, where the index has them.
        suspects: most suspicious first; those with an equal image of another label before all others. Each is described
            when it is asked for: there may be a million of them.
    """

    images: int
    search: str
    k: int
    losing_the_vote: int
    with_equal: int
    class_names: list[str] | None
    suspects: Sequence[Suspect]

    def to_json(self) -> dict[str, Any]:
        """The object of ``suspects`` as JSON."""
        return {**vars(self), "suspects": [asdict(suspect) for suspect in self.suspects[:]]}


@dataclass(frozen=True)
class _Votes:
    """Of m stored images: rows (m,), neighbours D and I (m, k), winning class (m,) and its share, and what ranks."""

    rows: NDArray[np.int64]
    D: NDArray[np.float64]
    I: NDArray[np.int64]
    winner: NDArray[np.int32]
    share: NDArray[np.float64]
    against: NDArray[np.float64]
    relative_distance: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence["_Votes"]) -> "_Votes":
        return cls(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))

    def take(self, places: NDArray[Any]) -> "_Votes":
        return _Votes(*(values[places] for values in vars(self).values()))


def find_suspects(
    index: Index,
    *,
    k: int | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Suspects:
    """Stored images whose label loses the vote of their neighbours, or has a rival on an equal image.

    Votes are uniform, and ties go to the nearer class. Of equal images with different labels all are suspects but those
    with the label that most of them have. A class of fewer images than k / 2 may lose every vote: give a smaller k.

    Args:
        index: an opened index of classes, of any kind.
        k: neighbours that vote; by default `DEFAULT_K`, or n - 1 where that is less.
        threads: of the search.
        progress: called with the number of rows after each block.

    Raises:
        KnnvoteError: the index is for regression, or holds one image.
        OptionError: k is not from 1 to n - 1.

    Example:
        >>> from knnvote import find_suspects, open_index
        >>> first = find_suspects(open_index("digits.knn")).suspects[0]
        >>> first.id, first.label, first.neighbors_say, first.against
        ('train.parquet#380', 9, 5, 0.95)
    """
    check_index(index)
    k = _check_k(index, k)
    equal = _equal_images(index)
    is_contested = np.isin(np.arange(index.n), [*equal])
    found = []
    with limit_threads(threads):
        for part in leave_out(index, k, progress=progress):
            votes = _count_votes(index, part)
            found.append(votes.take((votes.winner != index.class_codes[part.rows]) | is_contested[part.rows]))
    votes = _Votes.joined(found)
    order = np.lexsort((votes.rows, -votes.relative_distance, -votes.against, ~is_contested[votes.rows]))
    return Suspects(
        images=index.n,
        search=index.kind,
        k=k,
        losing_the_vote=int((votes.winner != index.class_codes[votes.rows]).sum()),
        with_equal=len(equal),
        class_names=index.manifest.class_names,
        suspects=_Described(index, votes.take(order), equal),
    )


def _check_k(index: Index, k: int | None) -> int:
    if index.is_regression:
        raise KnnvoteError(
            f"{index.path} was built for regression, whose labels no vote contradicts: give an index of classes"
        )
    return check_left_out(index, "k", k, DEFAULT_K)


def _equal_images(index: Index) -> dict[int, list[int]]:
    """For each contested row the first equal row of each other label.

    Of equal rows all are contested but those with the label that most have, if it is one.
    """
    first: dict[bytes, int] = {}
    members = defaultdict(list)  # of groups of several, by their first row
    for start in range(0, index.n, BLOCK):
        block = np.ascontiguousarray(index.vectors[start : start + BLOCK] + 0)  # -0.0 becomes 0.0, which it equals
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
                    contested[row] = [firsts[other] for other in sorted(firsts) if other != code]
    return contested


def _count_votes(index: Index, part: LeftOut) -> _Votes:
    rows, D, I = part
    codes = index.class_codes[I]
    is_own = codes == index.class_codes[rows, None]
    winner, share = vote(codes, D, Rule(k=D.shape[1]))
    farthest = D[:, -1]
    own = np.where(is_own, D, farthest[:, None]).min(axis=1)
    other = np.where(is_own, farthest[:, None], D).min(axis=1)
    total = own + other
    relative = np.divide(own, total, out=np.full_like(total, 0.5), where=total > 0)
    return _Votes(rows, D, I, winner, share, (~is_own).mean(axis=1), relative)


@dataclass(frozen=True, eq=False, repr=False)
class _Described(Sequence[Suspect]):
    """Suspects of an index in the order of their votes, described when they are asked for."""

    of: Index
    votes: _Votes
    equal: dict[int, list[int]]

    def __repr__(self) -> str:
        return f"<{len(self)} suspects>"

    def __len__(self) -> int:
        return len(self.votes.rows)

    @overload
    def __getitem__(self, place: int) -> Suspect: ...
    @overload
    def __getitem__(self, place: slice) -> list[Suspect]: ...
    def __getitem__(self, place: int | slice) -> Suspect | list[Suspect]:
        rows = np.arange(len(self))[place]
        found = _describe(self.of, self.votes.take(np.atleast_1d(rows)), self.equal)
        return found if isinstance(place, slice) else found[0]


def _describe(index: Index, votes: _Votes, equal: dict[int, list[int]]) -> list[Suspect]:
    places = index.provenance("file", "row").take(votes.rows).to_pydict()
    says = index.classes.take(votes.winner).to_pylist()
    suspects = []
    for i, row in enumerate(votes.rows.tolist()):
        itself, *neighbors = neighbors_of(index, [row, *votes.I[i].tolist()], [0.0, *votes.D[i].tolist()])
        equals = equal.get(row, [])
        suspects.append(
            Suspect(
                row=row,
                id=itself.id,
                file=places["file"][i],
                file_row=places["row"][i],
                label=itself.label,
                neighbors_say=says[i],
                share=float(votes.share[i]),
                against=float(votes.against[i]),
                relative_distance=float(votes.relative_distance[i]),
                neighbors=tuple(neighbors),
                equal=tuple(neighbors_of(index, equals, [0.0] * len(equals))),
            )
        )
    return suspects
