"""Names that are typed and stored, without what they stand for: they are imported in no time, for ``--help``."""

from typing import Literal, get_args

MetricName = Literal["l2", "cosine", "l1"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
