"""Names that are typed and stored, without what they stand for: a command's help is told without more."""

from typing import Literal, get_args

Kind = Literal["exact", "adaptive", "hnsw", "factory"]
MetricName = Literal["l2", "cosine", "l1"]
Weights = str  # a name of `WEIGHTS`, with its settings in brackets where it has any
NumbersByClass = tuple[tuple[bool | int | str, float], ...]  # of labels
# What votes of a class are multiplied by: one number for each of some classes, or so that all classes count the same.
ClassWeight = Literal["balanced"] | NumbersByClass | None
Ties = Literal["nearest", "first-class"]
Task = Literal["classification", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
TIES: tuple[Ties, ...] = get_args(Ties)
TASKS: tuple[Task, ...] = get_args(Task)
# And what a vote counts.
WEIGHTS = {"uniform": "one vote each", "distance": "1 / distance", "softmax": "exp(-distance / T) as softmax[T]"}


def base_name(text: str) -> str:
    """What stands before the settings in a text such as ``name[0.07]``."""
    return text.partition("[")[0]
