"""How far the numbers of a regression's job are from the true ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.job.report import Bin, spread

# Of some rows (n,): the true numbers, those that were answered, and whether they were accepted.
Numbers = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class JobErrors:
    """A job's numbers against the true ones, in the labels' unit.

    Attributes:
        rows: that are images and have a true number.
        mean_absolute_error: of the answers, also where the job abstained.
        r2: share of the variance of the true numbers that they explain; None where these are all equal.
        accepted: of these rows, those with a prediction.
        mean_absolute_error_of_accepted: of their predictions; None where there are none.
        spread: how many rows by the answer less the true number, ascending.
    """

    rows: int
    mean_absolute_error: float
    r2: float | None
    accepted: int
    mean_absolute_error_of_accepted: float | None
    spread: list[Bin]


def judge_numbers(read: Callable[[], Iterator[Numbers]]) -> JobErrors | None:
    """Judge numbers that are read batch by batch, three times; None where there are none.

    Sums are of what the true numbers differ by from the first, so that they keep their digits far from 0.
    """
    rows = accepted = 0
    absolute = of_accepted = squared = total = total_squared = 0.0
    origin: float | None = None
    for truth, found, is_accepted in read():
        if len(truth):
            origin = float(truth[0]) if origin is None else origin
            errors, moved = found - truth, truth - origin
            rows += len(truth)
            accepted += int(is_accepted.sum())
            absolute += float(np.abs(errors).sum())
            of_accepted += float(np.abs(errors[is_accepted]).sum())
            squared += float(np.square(errors).sum())
            total += float(moved.sum())
            total_squared += float(np.square(moved).sum())
    if not rows:
        return None
    around_mean = total_squared - total * total / rows
    return JobErrors(
        rows=rows,
        mean_absolute_error=absolute / rows,
        r2=1 - squared / around_mean if around_mean > 0 else None,
        accepted=accepted,
        mean_absolute_error_of_accepted=of_accepted / accepted if accepted else None,
        spread=spread(lambda: (found - truth for truth, found, _ in read())),
    )
