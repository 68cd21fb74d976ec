"""A measured share and how sure it is."""

import math

from scipy.special import betaincinv

from knnvote.indexer.rungs import Interval

_TAIL = 0.025  # beyond each end of an interval


def share_interval(successes: float, trials: float) -> Interval:
    """A share and its exact 95% interval (Clopper and Pearson 1934), of at least one trial.

    Trials that are not independent count for fewer, which need not be a whole number (Korn and Graubard 1998).
    """
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, _TAIL)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - _TAIL)) if failures else 1.0
    return Interval(value=successes / trials, low=low, high=high)


def trials_to_show(share: float) -> int:
    """The fewest trials that show a share above 0 and below 1: if all succeed, their interval begins there."""
    return math.ceil(math.log(_TAIL) / math.log(share))
