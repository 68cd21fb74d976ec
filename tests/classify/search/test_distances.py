"""Final distances: the true ones, to the last bit, whatever is computed beside them."""

import tracemalloc

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.indexer.codes.steps import distances
from knnvote.indexer.metric import METRICS

TYPES = (np.uint8, np.uint16, np.int8, np.float16, np.float32, np.float64)

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
HALVES = HALVES[np.isfinite(HALVES)]  # all of them, subnormal ones too


def vectors(rng, n, d, dtype):
    """Vectors of full range, none of them zero."""
    if dtype in (np.uint8, np.uint16, np.int8):
        low = np.iinfo(dtype).min or 1
        return np.where((x := rng.integers(low, np.iinfo(dtype).max, (n, d), dtype, endpoint=True)) == 0, dtype(1), x)
    if dtype == np.float16:
        return rng.choice(np.setdiff1d(HALVES, [0]), (n, d))
    return (rng.normal(size=(n, d)) + 1e6).astype(dtype)


def black_and_white(rng, n, d=784):
    """Images whose squared distances pass 2^24, where float32 no longer counts by ones."""
    return rng.choice(np.array([0, 1, 254, 255], np.uint8), (n, d))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("d", [1, 9, 784])
def test_distances_are_those_of_brute_force(metric, dtype, d):
    rng = np.random.default_rng(d)
    x, xq = vectors(rng, 40, d, dtype), vectors(rng, 11, d, dtype)
    I = rng.integers(0, len(x), (len(xq), 25))
    expected = np.take_along_axis(brute_force.distances(xq, x, metric), I, axis=1)
    assert np.array_equal(distances(xq, x, I, METRICS[metric]), expected)


@pytest.mark.parametrize(("low", "high"), [(1, 2**32), (2**32 - 40, 2**32)])
@pytest.mark.parametrize("metric", METRICS)
def test_distances_of_32_bits_are_those_of_exact_sums_but_for_the_rounding_of_one(metric, low, high):
    rng = np.random.default_rng(6)
    x, xq = rng.integers(low, high, (40, 100), np.uint32), rng.integers(low, high, (7, 100), np.uint32)
    expected = brute_force.distances(xq, x, metric)
    D = distances(xq, x, np.broadcast_to(np.arange(40), (7, 40)), METRICS[metric])
    if metric == "l1" or (metric == "l2" and high - low == 40):  # sums stay below 2^53
        assert np.array_equal(D, expected)
    np.testing.assert_allclose(D, expected, rtol=1e-14, atol=1e-14 if metric == "cosine" else 0)


@pytest.mark.parametrize("draw", [black_and_white, lambda rng, n: vectors(rng, n, 784, np.uint8)])
def test_squared_distances_of_bytes_are_exact_beyond_what_float32_counts(draw):
    rng = np.random.default_rng(0)
    x, xq = draw(rng, 200), draw(rng, 30)
    xq[:10] = np.where(x[:10] < 128, 255, 0)  # as far away as an image can be
    xq[10:20] = x[10:20]
    I = np.broadcast_to(np.arange(len(x)), (len(xq), len(x)))
    expected = brute_force.distances(xq, x, "l2")
    large = expected >= 2**24
    assert large.any()
    assert not large.all()
    assert (expected[large] != expected[large].astype(np.float32)).any()
    assert np.array_equal(distances(xq, x, I, METRICS["l2"]), expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [*TYPES, np.uint32])
def test_a_distance_has_the_same_bits_alone_and_among_others(metric, dtype):
    rng = np.random.default_rng(3)
    high = 2**32 - 1
    draw = vectors if dtype != np.uint32 else lambda rng, n, d, kind: rng.integers(1, high, (n, d), kind)
    x, xq = draw(rng, 300, 784, dtype), draw(rng, 40, 784, dtype)
    I = rng.integers(0, len(x), (len(xq), 20))
    together = distances(xq, x, I, METRICS[metric])
    for rows, columns in ((1, 20), (7, 20), (40, 1), (13, 7), (1, 1)):
        apart = np.empty_like(together)
        for i in range(0, len(xq), rows):
            for j in range(0, 20, columns):
                part = np.s_[i : i + rows, j : j + columns]
                apart[part] = distances(xq[i : i + rows], x, I[part], METRICS[metric])
        assert np.array_equal(apart, together), (rows, columns)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", TYPES)
def test_a_missing_candidate_is_infinitely_far(metric, dtype):
    rng = np.random.default_rng(4)
    x, xq = vectors(rng, 5, 6, dtype), vectors(rng, 2, 6, dtype)
    I = np.array([[0, -1, 2], [-1, -1, -1]])
    D = distances(xq, x, I, METRICS[metric])
    assert np.array_equal(np.isinf(D), I < 0)
    assert D[0, 2] == brute_force.distances(xq, x, metric)[0, 2]


@pytest.mark.parametrize("scale", [1e-160, 1e-30, 1e100, 1e150])
@pytest.mark.parametrize("metric", ["l2", "l1"])
def test_no_scale_of_floats_overflows(scale, metric):
    rng = np.random.default_rng(5)
    x, xq = rng.uniform(-1, 1, (20, 784)) * scale, rng.uniform(-1, 1, (4, 784)) * scale
    I = np.broadcast_to(np.arange(20), (4, 20))
    D = distances(xq, x, I, METRICS[metric])
    assert np.isfinite(D).all()
    assert np.array_equal(D, brute_force.distances(xq, x, metric))


def test_l2_is_reported_as_euclidean_distance_and_the_others_as_they_are():
    D = np.array([[4.0, 2.0]])
    assert METRICS["l2"].final(D).tolist() == [[2.0, np.sqrt(2.0)]]
    assert METRICS["l1"].final(D) is D
    assert METRICS["cosine"].final(D) is D


def test_parallel_images_have_cosine_distance_zero_and_never_less():
    base = np.arange(1, 20, dtype=np.uint8)
    x = np.outer(np.arange(1, 14, dtype=np.uint8), base)
    D = distances(base[None], x, np.arange(13)[None], METRICS["cosine"])
    assert (D >= 0).all()
    assert (D < 1e-15).all()


def test_one_query_against_all_stored_vectors_takes_little_memory():
    x = np.zeros((20_000, 784), np.uint8)
    I = np.arange(len(x))[None]
    tracemalloc.start()
    try:
        for metric in ("l2", "l1"):
            distances(np.ones((1, 784), np.uint8), x, I, METRICS[metric])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20  # as floats, all of them together would take 60 to 120 MB


def test_rows_without_a_place_in_the_space_are_named_with_the_reason():
    x = np.array([[1.0, 0], [0, 0], [1e-200, 0], [-1e151, 0], [1e-150, 1e150]])
    assert METRICS["l2"].unusable_rows(x[:3]) == {}
    assert list(METRICS["l1"].unusable_rows(x)) == [3]
    reasons = METRICS["cosine"].unusable_rows(x)
    assert sorted(reasons) == [1, 2, 3]
    assert "every value is zero" in reasons[1]
    assert "underflow" in reasons[2]
    assert "overflow" in reasons[3]
    assert list(METRICS["cosine"].unusable_rows(np.array([[0, 0], [0, 1]], np.uint8))) == [0]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(TYPES),
    metric=st.sampled_from([*METRICS]),
    n=st.integers(1, 30),
    nq=st.integers(1, 9),
    d=st.integers(1, 300),
)
def test_distances_of_any_shape_and_type_are_those_of_brute_force(seed, dtype, metric, n, nq, d):
    rng = np.random.default_rng(seed)
    x, xq = vectors(rng, n, d, dtype), vectors(rng, nq, d, dtype)
    xq[0] = x[0]
    I = np.broadcast_to(np.arange(n), (nq, n))
    D = distances(xq, x, I, METRICS[metric])
    assert np.array_equal(D, brute_force.distances(xq, x, metric))
    assert D[0, 0] < 1e-15
