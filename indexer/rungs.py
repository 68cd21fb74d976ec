"""Rungs: settings of an adaptive index's search, from cheap to careful; what tuning found of them and of the vote."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from .names import ClassWeight, NumbersByClass, Ties, Weights
from .records.distance import KeptDistance


@dataclass(frozen=True)
class Rung:
    """How far one search looks, and which queries it settles.

    Attributes:
        nprobe: lists of the inverted file that are searched; None for exact search.
        candidates_per_neighbor: stored vectors whose distances are settled, for each of the k neighbours.
        confidence: it settles a query whose winner has at least this share of the vote, so 0 settles all; None where
            all candidates must have one label.
    """

    nprobe: int | None = None
    candidates_per_neighbor: int | None = None
    confidence: float | None = 0.0

    def __post_init__(self) -> None:
        """Refuse what no search can do.

        Raises:
            ValueError: naming the value.
        """
        for value in (self.nprobe, self.candidates_per_neighbor):
            if value is not None and (not isinstance(value, int) or value < 1):
                message = f"{value!r} is no number of lists or candidates"
                raise ValueError(message)
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            message = f"{self.confidence!r} is no share of a vote"
            raise ValueError(message)

    def candidates(self, k: int, n: int) -> int:
        """How many stored vectors to settle, of n."""
        return min(n, k * (self.candidates_per_neighbor or n))

    def to_json(self) -> dict[str, float | None]:
        """As it stands in the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Rung":
        """What `to_json` gave; other entries are left aside."""
        return cls(record["nprobe"], record["candidates_per_neighbor"], record["confidence"])


EXACT = Rung()
Ladder = tuple[Rung, ...]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A share with its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Interval":
        """What `asdict` gave; other entries are left aside."""
        return cls(**{name: record[name] for name in ("value", "low", "high")})


@dataclass(frozen=True)
class MeasuredRung:
    """What a rung did in the test of its ladder.

    Attributes:
        rung: that was tested.
        settled: share of the queries that it settled.
        agreement: share of these that got exact search's answer; None where it settled none.
    """

    rung: Rung
    settled: float
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class MeasuredLadder:
    """Rungs that tuning kept for one kind of answers.

    Attributes:
        rungs: from cheap to careful; the last settles all that are left.
        agreement: with exact search, of all queries.
        reached: whether any rungs were shown to reach the target; exact search alone stands where none were.
        shown: where none were, the agreement of those with the highest lower end, or where none were tested that of
            images that all agree; None where there is neither, or an older version tuned.
    """

    rungs: tuple[MeasuredRung, ...]
    agreement: Interval
    reached: bool
    shown: Interval | None = None

    def __post_init__(self) -> None:
        """Refuse rungs that leave queries without an answer.

        Raises:
            ValueError: the last does not settle all that are left.
        """
        if not self.rungs or self.rungs[-1].rung.confidence != 0:
            message = "the last rung must settle all that is left"
            raise ValueError(message)

    @property
    def ladder(self) -> Ladder:
        """The rungs alone."""
        return tuple(measured.rung for measured in self.rungs)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        rungs = [
            {**measured.rung.to_json(), "settled": measured.settled, "agreement": measured.agreement}
            for measured in self.rungs
        ]
        shown = {} if self.shown is None else {"shown": asdict(self.shown)}
        return {"rungs": rungs, "agreement": asdict(self.agreement), "reached": self.reached, **shown}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "MeasuredLadder":
        """What `to_json` gave."""
        rungs = [MeasuredRung(Rung.from_json(rung), rung["settled"], rung["agreement"]) for rung in record["rungs"]]
        agreement, shown = Interval.from_json(record["agreement"]), record.get("shown")
        return cls(
            rungs=tuple(rungs),
            agreement=agreement,
            reached=record["reached"],
            shown=None if shown is None else Interval.from_json(shown),
        )


def class_weight_to_json(class_weight: ClassWeight) -> dict[str, Any]:
    """The entry ``class_weight`` of a record; none where classes have no weights."""
    if class_weight is None:
        return {}
    return {"class_weight": class_weight if class_weight == "balanced" else [list(pair) for pair in class_weight]}


def class_weight_from_json(record: dict[str, Any]) -> ClassWeight:
    """What `class_weight_to_json` gave, among other entries."""
    found = record.get("class_weight")
    return tuple((label, weight) for label, weight in found) if isinstance(found, list) else found


def class_weight_of_classes(class_weight: ClassWeight, classes: Collection[Any]) -> ClassWeight:
    """Class weights without those of classes that are not among these, for no image is of them any more."""
    if class_weight is None or class_weight == "balanced":
        return class_weight
    return tuple((label, weight) for label, weight in class_weight if label in classes) or None


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What tuning found for one rule of the vote.

    Attributes:
        k: neighbours that vote.
        weights: of the vote.
        ties: what breaks ties of the vote; ``nearest`` where nothing is recorded.
        class_weight: what the votes of classes were multiplied by.
        target_agreement: that the lower end of the interval of agreement had to reach.
        tolerance: of a regression: answers no farther apart than this agree; None for classes.
        queries: stored images that tested the rungs; 0 where exact search alone stands without a test.
        label: rungs whose labels agree with exact search's as often as promised.
        confidence: rungs whose labels and confidences do.
    """

    k: int
    weights: Weights
    ties: Ties = "nearest"
    class_weight: ClassWeight = None
    target_agreement: float
    tolerance: float | None
    queries: int
    label: MeasuredLadder
    confidence: MeasuredLadder

    def to_json(self) -> dict[str, Any]:
        """The entry ``tuned`` of a manifest's search settings."""
        return {
            "k": self.k,
            "weights": self.weights,
            **({} if self.ties == "nearest" else {"ties": self.ties}),
            **class_weight_to_json(self.class_weight),
            "target_agreement": self.target_agreement,
            "tolerance": self.tolerance,
            "queries": self.queries,
            "label": self.label.to_json(),
            "confidence": self.confidence.to_json(),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Tuned":
        """What `to_json` gave.

        Raises:
            ValueError: a rung is none, or the last does not settle all that is left; KeyError, TypeError: an entry is
            missing.
        """
        return cls(
            k=record["k"],
            weights=record["weights"],
            ties=record.get("ties", "nearest"),
            class_weight=class_weight_from_json(record),
            target_agreement=record["target_agreement"],
            tolerance=record["tolerance"],
            queries=record["queries"],
            label=MeasuredLadder.from_json(record["label"]),
            confidence=MeasuredLadder.from_json(record["confidence"]),
        )


@dataclass(frozen=True, kw_only=True)
class ClassAcceptance:
    """The least confidence at which so many of the accepted answers that name a class are right.

    Attributes:
        label: the class.
        answers: of the judged images that name it, accepted or not.
        min_confidence: that was chosen; None where the answers are too few, or none is shown to reach the target.
        coverage: share of these answers that it accepts; None likewise.
        accuracy: of the accepted ones; None likewise.
    """

    label: bool | int | str
    answers: int
    min_confidence: float | None
    coverage: float | None
    accuracy: Interval | None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "ClassAcceptance":
        """What `dataclasses.asdict` gave."""
        accuracy = record["accuracy"]
        return cls(**{**record, "accuracy": None if accuracy is None else Interval(**accuracy)})


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """The least confidence at which so many of the accepted answers are right as was wanted.

    Attributes:
        target_accuracy: that the lower end of the interval of accuracy had to reach.
        min_confidence: that was chosen; None where none was shown to reach the target.
        coverage: share of the answers that it accepts, or that the one does which reaches most.
        accuracy: of these.
        images: stored ones, each left out, whose answers were judged.
        by_class: of each class what is accepted from a confidence of its own; none where all share the one.
        balanced_accuracy: the mean of such accuracies over the true labels; None of what an older version chose.
    """

    target_accuracy: float
    min_confidence: float | None
    coverage: float
    accuracy: Interval
    images: int
    by_class: tuple[ClassAcceptance, ...] = ()
    balanced_accuracy: float | None = None

    @property
    def min_confidence_by_class(self) -> NumbersByClass | None:
        """Of the classes that have one, as a rule takes it; None without any."""
        own = [(one.label, one.min_confidence) for one in self.by_class if one.min_confidence is not None]
        return tuple(own) or None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        record, optional = asdict(self), {"by_class", "balanced_accuracy"}
        return {name: value for name, value in record.items() if name not in optional or value not in ((), None)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Acceptance":
        """What `to_json` gave."""
        by_class = tuple(map(ClassAcceptance.from_json, record.get("by_class", ())))
        return cls(**{**record, "accuracy": Interval(**record["accuracy"]), "by_class": by_class})


@dataclass(frozen=True, kw_only=True)
class VoteDefaults:
    """The vote that an index was made for, which stands where nothing else is said.

    Attributes:
        k: neighbours that vote.
        weights: of the vote.
        ties: what breaks ties of the vote.
        class_weight: what the votes of classes are multiplied by.
        acceptance: the least confidence that is accepted; None where every answer is.
        max_distance: how far the nearest neighbour of an answer may be; None for any distance.
    """

    k: int = 5
    weights: Weights = "uniform"
    ties: Ties = "nearest"
    class_weight: ClassWeight = None
    acceptance: Acceptance | None = None
    max_distance: KeptDistance | None = None

    @property
    def is_measured(self) -> bool:
        """Whether stored images tell what is accepted, so that others would tell otherwise."""
        return self.acceptance is not None or (self.max_distance is not None and self.max_distance.is_found)

    def to_json(self) -> dict[str, Any]:
        """The entry ``vote`` of a manifest."""
        accepted = {} if self.acceptance is None else {"acceptance": self.acceptance.to_json()}
        limited = {} if self.max_distance is None else {"max_distance": self.max_distance.to_json()}
        weighed = class_weight_to_json(self.class_weight)
        return {"k": self.k, "weights": self.weights, "ties": self.ties, **weighed, **accepted, **limited}

    def of_classes(self, classes: Collection[Any]) -> "VoteDefaults":
        """The same without weights and confidences of classes that are not among these."""
        accepted, class_weight = self.acceptance, class_weight_of_classes(self.class_weight, classes)
        if accepted is not None:
            accepted = replace(accepted, by_class=tuple(one for one in accepted.by_class if one.label in classes))
        return replace(self, class_weight=class_weight, acceptance=accepted)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "VoteDefaults":
        """What `to_json` gave."""
        acceptance = Acceptance.from_json(record["acceptance"]) if "acceptance" in record else None
        max_distance = KeptDistance(**record["max_distance"]) if "max_distance" in record else None
        return cls(
            k=record["k"],
            weights=record["weights"],
            ties=record["ties"],
            class_weight=class_weight_from_json(record),
            acceptance=acceptance,
            max_distance=max_distance,
        )
