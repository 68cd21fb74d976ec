"""Whether an answer is given: it is withheld where a rule abstains, and where there is no image."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .answer import ABSTAINED, BAD_IMAGE, OK
from .vote import Rule


class Decision(NamedTuple):
    """What is said of nq images whose vote is known: as in `Answer`."""

    prediction: pa.Array
    status: NDArray[np.object_]
    reason: NDArray[np.object_]


def least_confidences(rule: Rule, best: pa.Array) -> NDArray[np.float64] | None:
    """The least (nq,) with which each answer is given; None where all are.

    Args:
        rule: as `Rule.of_index` gives it.
        best: (nq,) what the vote gave; null for bad rows.
    """
    if rule.min_confidence is None:
        return None
    least = np.full(len(best), rule.min_confidence, np.float64)
    if rule.min_confidence_by_class is not None:
        labels, own = zip(*rule.min_confidence_by_class, strict=True)
        places = pc.index_in(best, value_set=pa.array(labels, best.type)).fill_null(-1).to_numpy()
        least = np.where(places >= 0, np.array(own)[places], least)
    return least


def decide(
    rule: Rule, best: pa.Array, distance: NDArray[np.float64], confidence: NDArray[np.float64], bad: dict[int, str]
) -> Decision:
    """Give answers, or withhold them.

    Args:
        rule: that says when to abstain.
        best: (nq,) what the vote gave.
        distance: (nq,) to the nearest neighbour; NaN for bad rows.
        confidence: (nq,) of the vote; NaN for bad rows and for regression.
        bad: rows that are no image, each with the reason.
    """
    status, reason = np.full(len(best), OK, dtype=object), np.full(len(best), None, dtype=object)
    least = least_confidences(rule, best)
    if least is not None:
        for unsure in np.flatnonzero(confidence < least):
            status[unsure], reason[unsure] = ABSTAINED, f"confidence below {least[unsure]:g}"
    if rule.limit is not None:
        far = distance > rule.limit
        status[far], reason[far] = ABSTAINED, f"nearest neighbour farther than {rule.limit:g}"
    status[list(bad)], reason[list(bad)] = BAD_IMAGE, list(bad.values())
    prediction = pc.if_else(pa.array(status == OK, pa.bool_()), best, pa.scalar(None, best.type))
    return Decision(prediction, status, reason)
