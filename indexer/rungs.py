"""Rungs: settings of an adaptive index's search, from cheap to careful, as its manifest records them."""

from dataclasses import asdict, dataclass
from typing import Any


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


EXACT = Rung()


@dataclass(frozen=True)
class Tuned:
    """What tuning found: rungs for one k and weighting.

    Attributes:
        k: neighbours that vote.
        weights: of the vote.
        tolerance: of a regression: answers no farther apart than this agree; None for classes.
        for_label: rungs whose labels agree with exact search's as often as promised.
        for_confidence: rungs whose labels and confidences do.
    """

    k: int
    weights: str
    tolerance: float | None
    for_label: tuple[Rung, ...]
    for_confidence: tuple[Rung, ...]


def read_rung(record: dict[str, Any]) -> Rung:
    """What `Rung.to_json` wrote."""
    return Rung(record["nprobe"], record["candidates_per_neighbor"], record["confidence"])


def read_tuned(record: dict[str, Any]) -> Tuned:
    """The entry ``tuned`` of a manifest's search settings.

    Raises:
        ValueError: of some rungs the last does not settle all that is left; KeyError, TypeError: an entry is missing.
    """
    for_label, for_confidence = (tuple(map(read_rung, record[name]["rungs"])) for name in ("label", "confidence"))
    for rungs in (for_label, for_confidence):
        if not rungs or rungs[-1].confidence != 0:
            message = "the last rung must settle all that is left"
            raise ValueError(message)
    return Tuned(
        k=record["k"],
        weights=record["weights"],
        tolerance=record["tolerance"],
        for_label=for_label,
        for_confidence=for_confidence,
    )
