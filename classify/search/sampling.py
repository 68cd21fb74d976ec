"""Which of many images stand for all."""

import numpy as np
from numpy.typing import NDArray


def sample_rows(n: int, size: int) -> NDArray[np.int64]:
    """So many of n rows, ascending; all if there are no more. The same ones each time.

    They are drawn at random, because files have periods: of images stored in turn by class, every tenth is of one.
    """
    if size >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, size, replace=False))
