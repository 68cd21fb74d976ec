"""Names that are typed and stored, without what they stand for: they are imported in no time, for ``--help``."""

from typing import Literal, get_args

Kind = Literal["exact", "adaptive", "hnsw", "factory"]
MetricName = Literal["l2", "cosine", "l1"]
KINDS: tuple[Kind, ...] = get_args(Kind)
METRICS: tuple[MetricName, ...] = get_args(MetricName)
