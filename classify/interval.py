"""A measured share and how sure it is."""

from scipy.special import betaincinv

from knnvote.indexer.rungs import Interval


def share_interval(successes: float, trials: float) -> Interval:
    """A share and its exact 95% interval (Clopper and Pearson 1934), of at least one trial.

    Trials that are not independent count for fewer, which need not be a whole number (Korn and Graubard 1998).
    """
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, 0.025)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 0.975)) if failures else 1.0
    return Interval(value=successes / trials, low=low, high=high)
