"""What a classifier says of images, as arrays and as Arrow tables."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import OptionError, check, is_whole, param
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.metric import METRICS

from .notebook.answered import CLASSES, ROWS, answer_html
from .notebook.frame import data_frame
from .search.kinds import SEARCHERS
from .vote import Rule, class_shares, ranked

if TYPE_CHECKING:
    from pandas import DataFrame

_MOST_IN_LISTS = 2**31 - 1  # values, whose places are int32

OK, ABSTAINED, BAD_IMAGE = "ok", "abstained", "bad_image"


@dataclass(frozen=True)
class Answer:
    """What a classifier says of nq images.

    Attributes:
        index: that answered.
        rule: by which it answered.
        prediction: (nq,) Arrow array of the labels' type (float64 for regression); null unless the status is ok.
        confidence: (nq,) float64, the winner's share of the vote; NaN for bad images and for regression.
        best: (nq,) Arrow array of the same type, what the prediction is or would be where the classifier abstains; null
            for bad images.
        second: (nq,) Arrow array of the same type, the class with the next most votes; null where all neighbours are of
            one class, for bad images and for regression.
        margin: (nq,) float64, by how much the winner's share of the vote is more than the second's; NaN for bad images
            and for regression.
        D: (nq, k) float64 distances of the neighbours in the index's metric, ascending; NaN for bad images.
        I: (nq, k) int64 rows of the neighbours in the index; -1 for bad images.
        status: (nq,) strings ``ok``, ``abstained`` or ``bad_image``.
        reason: (nq,) strings, None where the status is ok.
        rung: (nq,) int8, which rung of an adaptive index settled the neighbours, from 1; 0 for bad images; None for
            other kinds.
        again: gives the answer that promises confidences too, where this one promises labels alone and that takes
            another search; None elsewhere.

    Example:
        >>> from knnvote import Classifier
        >>> classify = Classifier.open("digits.knn")
        >>> answer = classify(classify.index.vectors[:3])
        >>> answer.prediction.to_pylist(), answer.status.tolist()
        ([2, 8, 9], ['ok', 'ok', 'ok'])
        >>> answer.D.shape, answer.I[:, 0].tolist()
        ((3, 5), [0, 1, 2])
        >>> answer.to_table(neighbors=True).column_names
        ['prediction', 'confidence', 'distance', 'best', 'second', 'margin', 'status', 'reason', 'neighbors']
        >>> answer.top(5)["top"].to_pylist()
        [[2], [8], [9]]
        >>> len(answer), answer
        (3, <Answer to 3 images by digits.knn: 3 ok>)
    """

    index: Index
    rule: Rule
    prediction: pa.Array
    confidence: NDArray[np.float64]
    best: pa.Array
    second: pa.Array
    margin: NDArray[np.float64]
    D: NDArray[np.float64]
    I: NDArray[np.int64]
    status: NDArray[np.object_]
    reason: NDArray[np.object_]
    rung: NDArray[np.int8] | None = None
    again: Callable[[], "Answer"] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        """How many images it is of."""
        return len(self.status)

    def __repr__(self) -> str:
        """How many images there are of each status."""
        found = Counter(self.status.tolist())
        counts = ", ".join(f"{found[status]:,} {status}" for status in (OK, ABSTAINED, BAD_IMAGE) if found[status])
        images = "image" if len(self) == 1 else "images"
        return f"<Answer to {len(self):,} {images} by {self.index.path}{counts and ': '}{counts}>"

    def _repr_html_(self) -> str:
        """The first images with their labels, votes and neighbours, for a notebook."""
        first = self._first(ROWS)
        answers = first.to_table(top=None if self.index.is_regression else CLASSES).to_pylist()
        return answer_html(repr(self)[1:-1], self.index, answers, first.D, first.I, n=len(self))

    def _first(self, n: int) -> "Answer":
        """The answer to the first n images as it is, without another search."""
        names = ("prediction", "confidence", "best", "second", "margin", "D", "I", "status", "reason")
        cut: dict[str, Any] = {name: getattr(self, name)[:n] for name in names}
        return replace(self, **cut, rung=None if self.rung is None else self.rung[:n], again=None)

    @cached_property
    def is_image(self) -> NDArray[np.bool_]:
        """(nq,) whether the image could be read."""
        good: NDArray[np.bool_] = self.status != BAD_IMAGE
        return good

    @property
    def is_stored(self) -> NDArray[np.bool_]:
        """(nq,) whether the nearest stored image is equal, by the distance; not so of bad images."""
        return METRICS[self.index.metric].are_equal(self.D[:, 0])

    @cached_property
    def of_confidences(self) -> "Answer":
        """The answer whose confidences are promised: this one, or what another search gives."""
        return self if self.again is None else self.again()

    def probabilities(self) -> NDArray[np.float64]:
        """Each class's share of the vote, (nq, classes) in class order; NaN for bad images.

        They are those of `of_confidences`.

        Raises:
            OptionError: the index is one for regression.
        """
        if self.index.is_regression:
            raise OptionError(f"{self.index.path} was built for regression, which has no classes to give shares to")
        D, I = self.of_confidences.D[self.is_image], self.of_confidences.I[self.is_image]
        shares = np.full((len(self.I), len(self.index.classes)), np.nan)
        shares[self.is_image] = class_shares(
            self.index.class_codes[I], D, shares.shape[1], self.rule.weights, self.rule.factors(self.index, I)
        )
        return shares

    def neighbors(self) -> pa.Array:
        """(nq,) lists of the k voters, nearest first; null for bad images.

        They are structs of row, id, label and distance, and weight where the index has one for each image.

        Raises:
            OptionError: they are 2^31 or more, which no column of Arrow's lists holds.
        """
        k = self.I.shape[1]
        self._check_lists(k, "neighbours")
        rows = self.I[self.is_image].ravel()
        values = [
            pa.array(rows),
            self.index.ids.take(pa.array(rows)),
            self.index.labels.take(pa.array(rows)),
            pa.array(self.D[self.is_image].ravel()),
        ]
        if (weights := self.index.sample_weight) is not None:
            values.append(pa.array(weights[rows]))
        voters = pa.StructArray.from_arrays(values, fields=_voter_fields(self.index))
        offsets = np.concatenate([[0], np.cumsum(self.is_image * k)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), voters, mask=pa.array(~self.is_image))

    def top(self, n: int) -> pa.Table:
        """The n best classes of each image and their shares of the vote: those of `of_confidences`.

        They are ordered by share, equal ones as the rule's ties go, so that the first is `best` and the next `second`.
        Classes that none of the k neighbours has are left out, so that there may be fewer.

        Args:
            n: how many, at least 1.

        Returns:
            (nq,) rows with the columns ``top``, lists of labels, ``top_share``, lists of float64, and where classes
            have names ``top_name``, lists of strings; null for bad images.

        Raises:
            OptionError: the index is one for regression, n is no such number, or they are more than lists hold.
        """
        check_top(n, "n")
        _refuse_regression(self.index, "top")
        one = self.of_confidences
        I, D = one.I[self.is_image], one.D[self.is_image]
        classes, shares = ranked(self.index.class_codes[I], D, self.rule, n, self.rule.factors(self.index, I))
        self._check_lists(classes.shape[1], "classes")
        is_class = classes >= 0
        lengths = np.zeros(len(self.I), np.int64)
        lengths[self.is_image] = is_class.sum(axis=1)
        offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
        places, labels = pa.array(classes[is_class]), self.index.classes
        columns = {"top": labels.take(places), "top_share": pa.array(shares[is_class])}
        names = self.index.manifest.class_names
        if names is not None:
            columns["top_name"] = pa.array([show_class(label, names) for label in labels.to_pylist()]).take(places)
        mask = pa.array(~self.is_image)
        return pa.table({name: pa.ListArray.from_arrays(offsets, of, mask=mask) for name, of in columns.items()})

    def _check_lists(self, each: int, what: str) -> None:
        """Refuse lists of so many values for each image that one column does not hold them."""
        if each * int(self.is_image.sum()) > _MOST_IN_LISTS:
            raise OptionError(
                f"{each:,} {what} of {len(self.I):,} images are more than a column of lists holds: "
                f"give {param('batch_size')} {_MOST_IN_LISTS // each:,} at most, or as many images at a time"
            )

    def to_table(
        self, *, prefix: str = "", neighbors: bool = False, probabilities: bool = False, top: int | None = None
    ) -> pa.Table:
        """A row for each image, with the columns of `answer_schema`; what is unknown is null, never NaN.

        Args:
            prefix: before the name of each column.
            neighbors: add each voter's row, id, label and distance, and of an adaptive index the rung that found them.
            probabilities: add the share of each class; all columns are then those of `of_confidences`.
            top: add so many of the best classes and their shares, likewise.

        Raises:
            OptionError: the index is one for regression, and probabilities or top were asked for.
        """
        asked: dict[str, Any] = {"prefix": prefix, "neighbors": neighbors, "probabilities": probabilities, "top": top}
        if (probabilities or top) and self.again is not None:
            return self.of_confidences.to_table(**asked)
        schema = answer_schema(self.index, **asked)
        missing = ~self.is_image
        columns = [
            self.prediction,
            pa.array(self.confidence, from_pandas=True),
            pa.array(self.D[:, 0], mask=missing),
            self.best,
            self.second,
            pa.array(self.margin, from_pandas=True),
            pa.array(self.status, pa.string()),
            pa.array(self.reason, pa.string()),
        ]
        if neighbors:
            columns.append(self.neighbors())
            if SEARCHERS[self.index.kind].has_rungs:
                rung = np.zeros(len(missing), np.int8) if self.rung is None else self.rung
                columns.append(pa.array(rung, mask=rung == 0))
        if probabilities:
            shares = [pa.array(np.ascontiguousarray(share), mask=missing) for share in self.probabilities().T]
            columns.append(pa.StructArray.from_arrays(shares, names=_class_names(self.index), mask=pa.array(missing)))
        if top is not None:
            best = self.top(top)
            columns += [best["top"].combine_chunks(), best["top_share"].combine_chunks()]
        return pa.Table.from_arrays(columns, schema=schema)

    def to_pandas(self, **asked: Any) -> "DataFrame":
        """`to_table` as a pandas DataFrame; labels that are whole numbers stay so, where some are missing too.

        Args:
            asked: as `to_table` has it.

        Raises:
            KnnvoteError: pandas is not installed.
            OptionError: as of `to_table`.
        """
        return data_frame(self.to_table(**asked))


def check_top(top: int, name: str = "top") -> None:
    """Refuse what is no number of best classes.

    Raises:
        OptionError: naming it.
    """
    check(name, top, is_whole(top) and top >= 1, "give a whole number of at least 1")


def _refuse_regression(index: Index, name: str) -> None:
    """Refuse a parameter that asks for classes where there are none."""
    if index.is_regression:
        raise OptionError(f"{index.path} was built for regression, which has no classes: leave out {param(name)}")


def answer_schema(
    index: Index,
    *,
    prefix: str = "",
    neighbors: bool = False,
    probabilities: bool = False,
    top: int | None = None,
) -> pa.Schema:
    """The columns of `Answer.to_table`, in order.

    Raises:
        OptionError: probabilities or top of a regression were asked for.
    """
    for name, is_asked in (("probabilities", probabilities), ("top", top is not None)):
        if is_asked:
            _refuse_regression(index, name)
    label = index.labels.type
    fields = [
        ("prediction", label),
        ("confidence", pa.float64()),
        ("distance", pa.float64()),
        ("best", label),
        ("second", label),
        ("margin", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
    if neighbors:
        fields.append(("neighbors", pa.list_(pa.struct(_voter_fields(index)))))
        if SEARCHERS[index.kind].has_rungs:
            fields.append(("rung", pa.int8()))
    if probabilities:
        fields.append(("probabilities", pa.struct([(name, pa.float64()) for name in _class_names(index)])))
    if top is not None:
        check_top(top)
        fields += [("top", pa.list_(label)), ("top_share", pa.list_(pa.float64()))]
    return pa.schema([(prefix + name, kind) for name, kind in fields])


def _voter_fields(index: Index) -> list[pa.Field]:
    """What is told of a neighbour that voted."""
    fields = [("row", pa.int64()), ("id", pa.string()), ("label", index.labels.type), ("distance", pa.float64())]
    weight = [] if index.manifest.sample_weight is None else [("weight", pa.float64())]
    return [pa.field(name, kind) for name, kind in (*fields, *weight)]


def _class_names(index: Index) -> list[str]:
    return [str(name) for name in index.classes.to_pylist()]


_IF_ANY = ("weight", "kept")


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A stored image: its row in the index, its id, label, distance in the index's metric, and weight if it has one.

    What the index keeps of it for people to read is there by the names of the columns.
    """

    row: int
    id: str
    label: Any
    distance: float
    weight: float | None = None
    kept: dict[str, str | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """As an object, without a weight or what is kept where there is none."""
        return {name: value for name, value in vars(self).items() if name not in _IF_ANY or value is not None}


def neighbors_of(
    index: Index, rows: Sequence[int] | NDArray[np.int64], distances: Sequence[float] | NDArray[np.float64]
) -> list[Neighbor]:
    """Stored images by their rows, with the distances that go with them."""
    places = np.asarray(rows, np.int64)
    ids, labels = (values.take(places).to_pylist() for values in (index.ids, index.labels))
    own = index.sample_weight
    weights = [None] * len(places) if own is None else own[places].tolist()
    kept = [None] * len(places) if index.kept is None else index.kept.take(pa.array(places)).to_pylist()
    return [
        Neighbor(row=int(row), id=name, label=label, distance=float(distance), weight=weight, kept=texts)
        for row, name, label, distance, weight, texts in zip(places, ids, labels, distances, weights, kept, strict=True)
    ]
