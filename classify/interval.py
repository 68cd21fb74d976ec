"""A measured share and how sure it is."""

from dataclasses import dataclass

from scipy.special import betaincinv


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A share with its exact 95% interval (Clopper and Pearson 1934)."""

    value: float
    low: float
    high: float


def share_interval(successes: int, trials: int) -> Interval:
    """A share and its interval, of at least one trial."""
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, 0.025)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 0.975)) if failures else 1.0
    return Interval(value=successes / trials, low=low, high=high)
