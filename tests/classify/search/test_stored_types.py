"""Exact search of float16 and int8: brute force's neighbours to the last bit, with every variant of the kernel."""

from pathlib import Path

import brute_force
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knnvote.classify.search.search import exact_search, search
from knnvote.indexer.arrays.labelled import training_set_from_arrays
from knnvote.indexer.build import IndexOptions, build_in_memory
from knnvote.indexer.codes import plain, steps
from knnvote.indexer.codes.library import ENVIRONMENT, NONE, _usable
from knnvote.indexer.metric import METRICS

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
HALVES = HALVES[np.isfinite(HALVES)]
SUBNORMAL = HALVES[np.abs(HALVES) < np.finfo(np.float16).smallest_normal]
VARIANTS = [*_usable(), NONE]
EXTREMES = {
    np.float16: np.float16([65504, -65504, 65472, 0, 6e-8, -6e-8, 1, 1.001]),
    np.int8: np.int8([-128, 127, 126, -1, 0, 1]),
}


def built(x, **options):
    examples = training_set_from_arrays(x, np.arange(len(x)) % 3, metric=options.get("metric", "l2"))
    return build_in_memory(examples, Path("x"), IndexOptions(**options), None, start=0)[0]


def usable(x):
    """Rows of zeros get a direction, for cosine."""
    x[~x.any(axis=1), 0] = 1
    return x


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_float16_is_read_as_it_is_at_every_place_of_a_vector(variant, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, variant)
    x = np.resize(HALVES, (-(-len(HALVES) // 77), 77))
    D = steps.distances(np.zeros((1, 77)), x, np.arange(len(x))[None], METRICS["l1"])[0]
    assert np.array_equal(D, plain.distances(np.zeros((1, 77)), x, np.arange(len(x))[None], METRICS["l1"])[0])
    D = steps.distances(np.zeros((1, 1)), HALVES[:, None], np.arange(len(HALVES))[None], METRICS["l1"])[0]
    assert np.array_equal(D, np.abs(HALVES.astype(np.float64)))


@st.composite
def rough(draw, dtype):
    """Vectors with extreme values, ties, duplicates, constant columns and steps of a grid, and queries near and far."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(20, 200)), draw(st.sampled_from([1, 3, 16, 33, 70]))
    if draw(st.booleans()):
        x = rng.choice(EXTREMES[dtype], (n, d))
    elif dtype == np.int8:
        x = rng.integers(-128, 128, (n, d)).astype(np.int8)
    else:
        x = rng.choice(draw(st.sampled_from([HALVES, SUBNORMAL])), (n, d))
    if draw(st.booleans()):  # halves of steps of 8 bits, where codes are rounded
        x = (np.round(x / np.abs(x).max().astype(np.float64) * 127) / 2).astype(dtype)
    if draw(st.booleans()):
        x[:, rng.random(d) < 0.5] = draw(st.sampled_from([*EXTREMES[dtype]]))
    if draw(st.booleans()):
        x = x[rng.integers(0, max(1, n // 8), n)]
    floats = x[:9].astype(np.float64)
    x, floats = usable(x), usable(floats)
    return x, np.vstack([floats, floats * 1.0001, -floats, floats[::-1] + 0.3, floats[:1] * 1e9])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", EXTREMES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_exact_search_with_codes_and_without_is_brute_force(monkeypatch, dtype, metric, data):
    x, xq = data.draw(rough(dtype))
    xq[~xq.any(axis=1), 0] = 1
    k = min(data.draw(st.integers(1, 9)), len(x))
    expected_D, expected_I = brute_force.neighbors(xq, x, k, metric)
    for kind in ("exact", "adaptive"):
        index = built(x, kind=kind, metric=metric, threads=1)
        for variant in VARIANTS:
            monkeypatch.setenv(ENVIRONMENT, variant)
            D, I = exact_search(index, xq, k)
            assert np.array_equal(I, expected_I)
            assert np.array_equal(D, expected_D)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", EXTREMES)
def test_embeddings_of_thousands_are_searched_exactly_with_every_variant(monkeypatch, dtype, metric):
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(8, 96)) * 20
    x = (middles[rng.integers(0, 8, 4200)] + rng.normal(size=(4200, 96)) * 6).astype(dtype)
    xq = (middles[:5] + rng.normal(size=(5, 96)) * 6).astype(dtype).astype(np.float64)
    index = built(x, metric=metric)
    assert index.vectors.dtype == dtype
    assert (index.inverted_file is None) == (metric == "l1")
    expected_D, expected_I = brute_force.neighbors(xq, x, 7, metric)
    for variant in VARIANTS:
        monkeypatch.setenv(ENVIRONMENT, variant)
        D, I = search(index, xq, 7)
        assert np.array_equal(I, expected_I)
        assert np.array_equal(D, expected_D)
