"""Names that are typed and stored, without what they stand for: they are imported in no time, for ``--help``."""

from typing import Literal, get_args

Kind = Literal["exact", "adaptive", "hnsw", "factory"]
MetricName = Literal["l2", "cosine", "l1"]
Weights = str  # a name of `WEIGHTS`, with its settings in brackets where it has any
KINDS: tuple[Kind, ...] = get_args(Kind)
METRICS: tuple[MetricName, ...] = get_args(MetricName)
WEIGHTS = {"uniform": "one vote each", "distance": "1 / distance"}  # and what a vote counts


def base_name(text: str) -> str:
    """What stands before the settings in a text such as ``name[0.07]``."""
    return text.partition("[")[0]
