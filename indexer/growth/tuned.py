"""What tunes the successor of an index: for what it was tuned itself."""

from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import Any

from knnvote.data.errors import check, param, warn
from knnvote.indexer.build import Tune
from knnvote.indexer.folder.facts import of_stored_classes
from knnvote.indexer.index import Index
from knnvote.indexer.records.distance import KeptDistance
from knnvote.indexer.rungs import class_weight_of_classes

Tuner = Callable[..., Tune]  # called with k, weights, ties and targets: `knnvote.Tuning`


def as_before(index: Index, tuning: Tuner | None) -> Tune:
    """What tunes its successor for all that an index was tuned for."""
    tuned, vote = index.tuned, index.vote
    if tuning is None or (tuned is None and not vote.is_measured):  # where nothing is measured
        return lambda successor: replace(
            successor, manifest=of_stored_classes(replace(successor.manifest, vote=index.manifest.vote))
        )
    expected = "give the class itself, which is called with what the index was made for: tuning=knnvote.Tuning"
    check("tuning", tuning, isinstance(tuning, type) or not is_dataclass(tuning), expected)
    targets: dict[str, Any] = {} if tuned is None else {"target_agreement": tuned.target_agreement}
    if vote.acceptance is not None:
        targets |= {"target_accuracy": vote.acceptance.target_accuracy, "by_class": bool(vote.acceptance.by_class)}

    def tune(successor: Index) -> Index:
        class_weight = class_weight_of_classes(vote.class_weight, frozenset(successor.manifest.classes))
        as_it_was = {"k": vote.k, "weights": vote.weights, "ties": vote.ties, "class_weight": class_weight}
        return tuning(**as_it_was, **targets, **_distance(vote.max_distance, successor))(successor)

    return tune


def _distance(kept: KeptDistance | None, successor: Index) -> dict[str, Any]:
    """What a successor is told of how far the nearest neighbour may be: to find it anew, or what it was."""
    if kept is None:
        return {}
    if kept.can_be_found(successor.n):
        return {"max_distance": "auto", "false_alarms": kept.false_alarms}
    if kept.is_found:
        warn(
            f"{successor.path} has {successor.n:,} images now, too few to find {param('max_distance')} anew: it stays "
            f"{kept.limit:g}"
        )
    return {"max_distance": kept.limit}
