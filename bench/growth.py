"""How cost grows with the number of stored images: copies of images shifted and scaled, and a fitted exponent."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from knnvote.classify.search.sampling import sample_rows

from .measure import Choice, Result, Talk, measure
from .problem import Problem, exact_neighbors

_SHIFT = 2.0  # pixels at most, in each direction
_SCALE = (0.9, 1.1)
_BLOCK = 64  # copies distorted alike
_QUERIES = 1024


def grow(
    problem: Problem,
    sizes: Sequence[int],
    chosen: Sequence[Choice],
    *,
    k: int,
    turns: int,
    seconds: float,
    seed: int = 0,
    talk: Talk,
) -> list[Result]:
    """Measure contenders over stored sets of several sizes, on a sample of the test images."""
    results: list[Result] = []
    rows = sample_rows(len(problem.xq), _QUERIES)
    sample = replace(problem, xq=problem.xq[rows], truth=problem.truth[rows])
    for n in sizes:
        talk(f"making {n:,} images")
        stored = resized(sample, n, seed)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            stored.save(Path(folder))
            exact = exact_neighbors(stored, k)
            results += measure(stored, exact, chosen, Path(folder), k=k, turns=turns, seconds=seconds, talk=talk)
    return results


def resized(problem: Problem, n: int, seed: int) -> Problem:
    """The same problem with n stored images.

    They are in an order drawn at random: first the images themselves, then copies of all, then more copies of all. A
    smaller set is the beginning of a larger one.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(problem.x))
    rows = order[np.arange(n) % len(order)]
    x = problem.x[rows]
    copies = x[len(order) :]
    side = min(2, len(problem.shape))
    for start in range(0, len(copies), _BLOCK):
        scale, shift = rng.uniform(*_SCALE), rng.uniform(-_SHIFT, _SHIFT, size=side)
        block = copies[start : start + _BLOCK]
        block[:] = distorted(block.reshape(-1, *problem.shape), scale, shift).reshape(block.shape)
    return replace(problem, x=x, codes=problem.codes[rows])


def distorted(images: NDArray[Any], scale: float, shift: NDArray[np.float64]) -> NDArray[Any]:
    """Images (m, *shape) scaled about their centre and shifted by pixels along the first one or two axes of shape."""
    m = len(shift)
    centre = (np.array(images.shape[1 : 1 + m]) - 1) / 2
    matrix, offset = np.ones(images.ndim), np.zeros(images.ndim)
    matrix[1 : 1 + m] = 1 / scale
    offset[1 : 1 + m] = centre - (centre + shift) / scale
    floats = affine_transform(images.astype(np.float32), matrix, offset=offset, order=1)
    if images.dtype.kind == "u":
        floats = np.rint(floats).clip(0, np.iinfo(images.dtype).max)
    made: NDArray[Any] = floats.astype(images.dtype)
    return made


def exponents(results: Sequence[Result]) -> dict[str, float]:
    """The power of n with which each contender's cost a test image grows: the slope of least squares in log-log."""
    found = {}
    for name in dict.fromkeys(result.contender for result in results):
        mine = [result for result in results if result.contender == name]
        if len({result.n for result in mine}) > 1:
            n, cost = [result.n for result in mine], [1 / result.queries_per_second for result in mine]
            found[name] = float(np.polyfit(np.log(n), np.log(cost), 1)[0])
    return found
