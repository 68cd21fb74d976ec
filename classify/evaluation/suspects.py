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

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.classify.answer import Neighbor, neighbors_of
from knnvote.classify.search.left_out import check_left_out, count_groups, told_of_classes
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, warn
from knnvote.data.labels.lists import FIX
from knnvote.data.layout import noun
from knnvote.data.text import counted
from knnvote.indexer.building.provenance import id_array, ids_as_stored, spoiled_told
from knnvote.indexer.growth.fixes import LabelTexts
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.labels import show_class
from knnvote.indexer.names import ClassWeight
from knnvote.indexer.records.kept import listed_as
from knnvote.indexer.rungs import class_weight_to_json
from knnvote.indexer.threads import limit_threads

from .contradiction import Votes, find_contradicted
from .equal_images import Equal, equal_images
from .label_errors import LEAST_K, Evidence, LabelErrors, estimate

DEFAULT_K = 20
_LEAST_OF_RARE = 5


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
        kept: what the index keeps of it for people to read, by the names of the columns; None where it keeps none.
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
    kept: dict[str, str | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """As an object."""
        neighbors, equal = ([one.to_json() for one in of] for of in (self.neighbors, self.equal))
        found = {name: value for name, value in vars(self).items() if name != "kept" or value is not None}
        return {**found, "neighbors": neighbors, "equal": equal}


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What `find_suspects` found.

    Attributes:
        images: that the index stores.
        search: kind of the index, exact or approximate, that found the neighbours.
        k: neighbours that vote.
        losing_the_vote: suspects whose neighbours say another label.
        with_equal: suspects with an equal image of another label: of each pair one is certainly wrong.
        reviewed: images that would be suspects, had nobody looked at them.
        label_errors: how many labels are likely wrong; None where there are fewer than 10 neighbours or two classes.
        groups: that were left out, each with its images; None where the index has none.
        class_weight: what the votes of classes were multiplied by, as `Rule` has it.
        class_names: names of integer labels, where the index has them.
        suspects: most suspicious first; those with an equal image of another label before all others. Each is described
            when it is asked for: there may be a million of them.
    """

    images: int
    search: str
    k: int
    losing_the_vote: int
    with_equal: int
    reviewed: int
    label_errors: LabelErrors | None
    groups: int | None
    class_names: list[str] | None
    suspects: "_Described"
    class_weight: ClassWeight = None

    def __repr__(self) -> str:
        """How many there are."""
        found = (
            f"{self.losing_the_vote:,} lose the vote, {self.with_equal:,} have an equal {self.noun} of another label"
        )
        return f"<Suspects: {len(self.suspects):,} of {counted(self.images, self.noun)}: {found}>"

    @property
    def noun(self) -> str:
        """What the index stores, image or vector."""
        return noun(self.suspects.of.shape)

    @property
    def cases(self) -> Sequence[Suspect]:
        """The suspects, but of those that are equal images the first alone: it has the others' labels in `equal`."""
        return self.suspects.first_of_each_case()

    def to_json(self) -> dict[str, Any]:
        """The object of ``suspects`` as JSON."""
        found = {name: value for name, value in vars(self).items() if name != "class_weight"}
        errors = None if self.label_errors is None else asdict(self.label_errors)
        suspects = [suspect.to_json() for suspect in self.suspects[:]]
        return {**found, "label_errors": errors, "suspects": suspects, **class_weight_to_json(self.class_weight)}

    def to_table(self) -> pa.Table:
        """All suspects as a list to be filled in, equal images one below the other.

        Returns:
            Columns id; label and suggested, as text that `knnvote.relabel_ids` takes; fix, which is empty; what the
            index keeps for people to read, by names that are no others of these; share and against, of the vote;
            distance, of the nearest neighbour; equal, the images with other labels; file and row;
            rank, as the table and the page have it, which equal images share.
        """
        return self.suspects.to_table()

    def told(self) -> list[str]:
        """What there is to say of all in short, a sentence each."""
        share = self.losing_the_vote / self.images
        suspect = f"{self.losing_the_vote:,} of the {self.images:,} {self.noun}s ({share:.2%}) are suspect"
        lines = [f"{suspect}: their neighbours say another label"]
        if self.with_equal:
            lines.append(
                f"{self.with_equal:,} are contradicted by an equal {self.noun} with another label: these come first, "
                "equal ones as one"
            )
        if self.reviewed:
            lines.append(f"{self.reviewed:,} more were reviewed, and are left out")
        if (of_classes := told_of_classes(self.suspects.of)) is not None:
            lines.append(of_classes)
        if self.label_errors is not None:
            lines.append(self.label_errors.told(self.images))
            if (of_rare := self.suspects.told_of_rare_class(self.label_errors.first)) is not None:
                lines.append(of_rare)
        return lines


def find_suspects(
    index: Index,
    *,
    k: int | None = None,
    class_weight: Any = None,
    reviewed: str | int | Sequence[str] | Sequence[int] | pa.ChunkedArray = (),
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
    tell: Callable[[str], None] = warn,
) -> Suspects:
    """Stored images whose label loses the vote of their neighbours, or has a rival on an equal image.

    Votes are uniform, but for weights of classes and of images, and ties go to the nearer class. Of equal images with
    different labels all are suspects but those with the label that most of them have. A class of fewer images than
    k / 2 may lose every vote: give a smaller k.

    Args:
        index: an opened index of classes, of any kind.
        k: neighbours that vote; by default `DEFAULT_K`, or half of the mean number of images of a class if less.
        class_weight: of the vote, as `Rule` has it; by default that of the index.
        reviewed: ids, one or several, of images whose label a person has confirmed: they are no suspects.
        threads: of the search.
        progress: called with the number of rows after each block.
        tell: told of reviewed ids that are not stored.

    Raises:
        KnnvoteError: the index is for regression, or holds one image.
        OptionError: k is more than there are neighbours, or less than 1; or class_weight is none of the index.

    Example:
        >>> from knnvote import find_suspects, open_index
        >>> first = find_suspects(open_index("digits.knn")).suspects[0]
        >>> first.id, first.label, first.neighbors_say, first.against
        ('train.parquet#380', 9, 5, 0.95)
    """
    check_index(index)
    rule, equal = _rule(index, k, class_weight), equal_images(index)
    is_contested, is_reviewed = np.isin(np.arange(index.n), [*equal]), _find_reviewed(index, reviewed, tell)
    with limit_threads(threads):
        votes, evidence = find_contradicted(index, rule, is_contested, is_reviewed, progress)
    return _listed(_Described(index, votes, equal), rule, evidence, is_contested, is_reviewed)


def _listed(
    all_of: "_Described",
    rule: Rule,
    evidence: Evidence,
    is_contested: NDArray[np.bool_],
    is_reviewed: NDArray[np.bool_],
) -> Suspects:
    """Those of all suspects that were not reviewed, in their order, with what there is to say of them."""
    index, votes = all_of.of, all_of.votes
    listed = _rank(votes.take(~is_reviewed[votes.rows]), is_contested)
    return Suspects(
        images=index.n,
        search=index.kind,
        k=rule.k,
        losing_the_vote=int((listed.winner != index.class_codes[listed.rows]).sum()),
        with_equal=int(is_contested[listed.rows].sum()),
        reviewed=len(votes.rows) - len(listed.rows),
        label_errors=_estimate(index, evidence, listed, is_contested),
        groups=count_groups(index),
        class_names=index.manifest.class_names,
        suspects=_Described(index, listed, all_of.equal),
        class_weight=rule.class_weight,
    )


def _find_reviewed(
    index: Index, ids: str | int | Sequence[str] | Sequence[int] | pa.ChunkedArray, tell: Callable[[str], None]
) -> NDArray[np.bool_]:
    """(n,) whether a stored image has one of some ids."""
    given = pc.unique(id_array(ids, "reviewed"))
    if not len(given):
        return np.zeros(index.n, np.bool_)
    given = ids_as_stored(given, index.ids, tell)
    unknown = given.filter(pc.invert(pc.is_in(given, value_set=index.ids)))
    if len(unknown):
        why = spoiled_told(unknown, index.ids) or "they were removed, or are of another index"
        tell(f"{index.path} does not store {len(unknown):,} of the {len(given):,} ids that were reviewed: {why}")
    found: NDArray[np.bool_] = pc.is_in(index.ids, value_set=given).to_numpy(zero_copy_only=False)
    return found


def _estimate(index: Index, evidence: Evidence, votes: Votes, is_contested: NDArray[np.bool_]) -> LabelErrors | None:
    """How many labels are likely wrong, beside the votes of the suspects in their order."""
    if votes.D.shape[1] < LEAST_K or len(index.classes) < 2:
        return None
    return estimate(evidence, votes.against, votes.relative_distance, is_contested[votes.rows])


def _rank(votes: Votes, is_contested: NDArray[np.bool_]) -> Votes:
    """Votes with the most suspicious first."""
    is_settled = ~is_contested[votes.rows]
    return votes.take(np.lexsort((votes.rows, -votes.relative_distance, -votes.against, is_settled)))


def _rule(index: Index, k: int | None, class_weight: Any) -> Rule:
    """Of the votes that tell suspects."""
    if index.is_regression:
        raise KnnvoteError(
            f"{index.path} was built for regression, whose labels no vote contradicts: give an index of classes"
        )
    # All others of few images would outvote each: of equal classes its own is the smallest when it is left out.
    k = check_left_out(index, "k", k, min(DEFAULT_K, max(1, index.n // (2 * len(index.classes)))))
    return Rule(k=k, class_weight=Rule.of(index, class_weight=class_weight).class_weight)


@dataclass(frozen=True, eq=False, repr=False)
class _Described(Sequence[Suspect]):
    """Suspects of an index in the order of their votes, described when they are asked for."""

    of: Index
    votes: Votes
    equal: dict[int, Equal]

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

    def first_of_each_case(self) -> "_Described":
        """The first of those that are equal images, and all others, in their order."""
        firsts = np.unique(self._cases(), return_index=True)[1]
        return _Described(self.of, self.votes.take(np.sort(firsts)), self.equal)

    def to_table(self) -> pa.Table:
        """As `Suspects.to_table` has it."""
        _, firsts, cases = np.unique(self._cases(), return_index=True, return_inverse=True)
        order = np.argsort(firsts[cases], kind="stable")
        votes = self.votes.take(order)
        rank = np.unique(firsts[cases[order]], return_inverse=True)[1] + 1
        texts = pa.array(LabelTexts(self.of).written)
        places = self.of.places(votes.rows)
        rows = pa.array(votes.rows)
        columns = {
            "id": self.of.ids.take(rows),
            "label": texts.take(self.of.class_codes[votes.rows]),
            "suggested": texts.take(votes.winner),
            FIX: pa.nulls(len(votes.rows), pa.string()),
            "share": votes.share,
            "against": votes.against,
            "distance": votes.D[:, 0],
            "equal": pa.array([self._tell_equal(row, texts) for row in votes.rows.tolist()], pa.string()),
            "file": places["file"],
            "row": places["row"],
            "rank": rank,
        }
        return _with_kept(pa.table(columns), None if self.of.kept is None else self.of.kept.take(rows))

    def told_of_rare_class(self, first: int) -> str | None:
        """What is to be told where most of the first suspects have the label of one class that is rare."""
        counts = np.bincount(self.of.class_codes, minlength=len(self.of.classes))
        found = np.bincount(self.of.class_codes[self.votes.rows[:first]], minlength=len(counts))
        code = int(found.argmax())
        is_rare = 2 * counts[code] * len(counts) < self.of.n
        if found[code] < _LEAST_OF_RARE or 2 * found[code] <= first or not is_rare:
            return None
        label = show_class(self.of.classes[code].as_py(), self.of.manifest.class_names)
        return (
            f"{found[code]:,} of the first {first:,} suspects are of the {counts[code]:,} labelled {label}: those of a "
            "rare class are outvoted where it overlaps another, and need not be wrong"
        )

    def _cases(self) -> NDArray[np.int64]:
        """For each the first stored image that is equal to it, itself where none is contested."""
        rows = self.votes.rows.tolist()
        return np.array([self.equal[row].first if row in self.equal else row for row in rows], np.int64)

    def _tell_equal(self, row: int, texts: pa.Array) -> str | None:
        others = self.equal[row].others if row in self.equal else []
        told = [f"{self.of.ids[other].as_py()}: {texts[self.of.class_codes[other]].as_py()}" for other in others]
        return "; ".join(told) or None


def _with_kept(listed: pa.Table, kept: pa.Table | None) -> pa.Table:
    """A list with what an index keeps of its rows, beside the column that is to be filled in."""
    if kept is None:
        return listed
    place = listed.schema.get_field_index(FIX) + 1
    for name, called in reversed(listed_as(kept.column_names, listed.column_names).items()):
        listed = listed.add_column(place, called, kept[name])
    return listed


def _describe(index: Index, votes: Votes, equal: dict[int, Equal]) -> list[Suspect]:
    places = index.places(votes.rows).to_pydict()
    says = index.classes.take(votes.winner).to_pylist()
    suspects = []
    for i, row in enumerate(votes.rows.tolist()):
        itself, *neighbors = neighbors_of(index, [row, *votes.I[i].tolist()], [0.0, *votes.D[i].tolist()])
        equals = equal[row].others if row in equal else []
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
                kept=itself.kept,
            )
        )
    return suspects
