"""Made sets of images, thousands of many pixels, on which an adaptive index uses its rungs instead of exact search."""

from dataclasses import dataclass, replace

import numpy as np

from knnvote.classify.search.candidates import encode, propose, propose_by
from knnvote.classify.vote import Rule
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.metric import METRICS, FaissMetric
from knnvote.indexer.rungs import EXACT, Interval, MeasuredLadder, MeasuredRung, Rung, Tuned

FAISS_METRICS = [name for name, metric in METRICS.items() if isinstance(metric, FaissMetric)]  # of every kind of index
CHEAP, SURE, LAST = Rung(1, 2, None), Rung(2, 2, 0.75), Rung(8, 4, 0.0)
LADDERS = {
    "cheap, sure, last": (CHEAP, SURE, LAST),
    "cheap, sure, exact": (CHEAP, SURE, EXACT),
    "cheap, exact": (Rung(4, 3, None), EXACT),
    "exact": (EXACT,),
}


def candidates(index, xq, k):
    """What an approximate index proposes for each query when it is searched with care: (nq, m) rows; -1 for none."""
    return (
        propose_by(index, encode(index, xq).codes, index.careful(k), k)
        if index.kind == "adaptive"
        else propose(index, xq, k)
    )


@dataclass(frozen=True)
class Made:
    """Stored vectors x (n, d) with labels y (n,), and others xq (nq, d) of the same kind."""

    x: np.ndarray
    y: np.ndarray
    xq: np.ndarray


def clusters(dtype, *, n=4500, nq=300, d=160, classes=10, seed=0):
    """Classes that overlap: of most images all near ones have one label, of some not."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n + nq)
    centres, strokes = rng.integers(40, 200, (classes, d)), rng.normal(size=(20, d)) * 20
    x = centres[y] + rng.normal(size=(n + nq, 20)) @ strokes + rng.normal(size=(n + nq, d)) * 4
    if np.dtype(dtype).kind == "u":
        x = np.clip(x, 1, 255)
    x = x.astype(dtype)
    return Made(x[:n], y[:n], x[n:])


def sparse_binary(*, n, nq, seed):
    """16 x 16 images of 0 and 255: a few strokes of each class, thickened and thinned at random."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n + nq)
    ink = rng.random((10, 16, 16)) < 0.12
    x = ink[y] ^ (rng.random((n + nq, 16, 16)) < 0.25)
    return Made((x[:n] * 255).astype(np.uint8).reshape(n, -1), y[:n], (x[n:] * 255).astype(np.uint8).reshape(nq, -1))


def noisy_embeddings(*, n, nq, seed):
    """Float vectors of 128 dimensions and length 1, of which every fifth has a label drawn at random."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 20, n + nq)
    x = rng.normal(size=(20, 128))[y] + rng.normal(size=(n + nq, 16)) @ rng.normal(size=(16, 128)) * 0.5
    x += rng.normal(size=x.shape) * 0.05
    y = np.where(rng.random(n + nq) < 0.2, rng.integers(0, 20, n + nq), y)
    x = (x / np.sqrt(np.square(x).sum(axis=1, keepdims=True))).astype(np.float32)
    return Made(x[:n], y[:n], x[n:].astype(np.float64))


def many_classes(*, n, nq, seed):
    """Bytes of 144 pixels, 100 classes, of which the rarest have about ten images."""
    rng = np.random.default_rng(seed)
    size = np.geomspace(1, 18, 100)
    y = np.append(np.repeat(np.arange(100), 10), rng.choice(100, n + nq - 1000, p=size / size.sum()))
    y = rng.permutation(y)
    strokes = rng.normal(size=(12, 144)) * 6
    x = rng.integers(60, 180, (100, 144))[y] * 0.5 + 60 + rng.normal(size=(n + nq, 12)) @ strokes
    x = np.clip(x + rng.normal(size=x.shape) * 3, 0, 255).astype(np.uint8)
    return Made(x[:n], y[:n], x[n:])


def frequent(*, n, nq, seed=0):
    """Bytes of 100 pixels: half are easy, half one of n / 30 images that come again, with labels at random."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n + nq)
    centres = rng.integers(40, 200, (10, 100))
    x = centres[y] + rng.normal(size=(n + nq, 100)) * 4
    again = rng.random(n + nq) < 0.5
    images = centres[rng.integers(0, 10, n // 30)] * 0.9 + rng.integers(40, 200, (n // 30, 100)) * 0.1
    x[again] = images[rng.integers(0, n // 30, again.sum())]
    y = np.where(again, rng.integers(0, 10, n + nq), y)
    x = np.clip(x, 0, 255).astype(np.uint8)
    return Made(x[:n], y[:n], x[n:])


def things(*, n, nq, seed=0):
    """Float vectors of 128 dimensions: n / 5 things, each drawn with noise and given one of two labels of its own."""
    rng = np.random.default_rng(seed)
    what = rng.integers(0, n // 5, n + nq)
    x = rng.normal(size=(n // 5, 128))[what] + rng.normal(size=(n + nq, 128)) * 0.4
    y = (what + rng.integers(0, 2, n + nq)) % 4
    x = x.astype(np.float32)
    return Made(x[:n], y[:n], x[n:].astype(np.float64))


def build(path, x, y, *, tune=None, is_regression=False, groups=None, **options):
    """An adaptive index, opened."""
    options = IndexOptions(kind="adaptive", **options)
    index_arrays(x, y, path, groups=groups, is_regression=is_regression, options=options, tune=tune)
    return open_index(path)


def with_rungs(path, rungs, rule=None, *, for_confidence=None, tolerance=None):
    """An index opened as if tuning for a rule had found these rungs."""
    rule = rule or Rule()
    index = open_index(path)
    tuned = Tuned(
        k=rule.k,
        weights=rule.weights,
        ties=rule.ties,
        target_agreement=0.9,
        tolerance=tolerance,
        queries=1,
        label=measured(rungs),
        confidence=measured(for_confidence or rungs),
    )
    search = replace(index.manifest.search, tuned=tuned)
    return replace(index, manifest=replace(index.manifest, search=search))


def measured(rungs):
    """Rungs as if a test had found no fault with them."""
    agreement = Interval(value=1.0, low=0.9, high=1.0)
    return MeasuredLadder(
        rungs=tuple(MeasuredRung(rung, 0.5, None) for rung in rungs), agreement=agreement, reached=True
    )
