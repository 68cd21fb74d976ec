"""The hot steps: every variant of the kernel, and NumPy, gives what a few lines of plain NumPy say, to the bit."""

from contextlib import contextmanager

import numpy as np
import pytest
from brute_force import _in_turn as in_turn
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.indexer.codes import library, plain, steps
from knnvote.indexer.codes.projection import Coded, Projection, fit_projection
from knnvote.indexer.codes.table import pack, records
from knnvote.indexer.metric import METRICS

VARIANTS = [*library._usable(), library.NONE]
TYPES = ["u1", "u2", "u4", "f4", "f8"]
DIMENSIONS = st.integers(1, 100) | st.sampled_from([128, 784])


@contextmanager
def by(variant):
    """NumPy takes a few values at a time, as it does of large tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.ENVIRONMENT, variant)
        for name, value in (("_CHUNK_VALUES", 300), ("_KEYS", 150), ("_ROWS", 37)):
            patch.setattr(plain, name, value)
        yield


def assert_same(found, expected, what):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), what
    assert found.tobytes() == expected.tobytes(), what


def vectors(rng, n, d, dtype):
    """Some of few values, of which distances tie, and none of cosine zero."""
    if dtype in ("f4", "f8"):
        x = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-6, 7) + rng.choice([0, 1e3])
    else:
        x = rng.integers(1, np.iinfo(dtype).max if rng.random() < 0.5 else 4, (n, d), endpoint=True)
    return x.astype(dtype)


def true_distances(xq, x, metric):
    """(nq, n): l2 squared."""
    if metric == "cosine" and xq.dtype.kind == x.dtype.kind == "u":
        a, b = xq.astype(np.float64)[:, None], x.astype(np.float64)
        return np.maximum(1 - in_turn(a * b) / np.sqrt(in_turn(a**2) * in_turn(b**2)), 0)
    a, b = xq.astype(np.float64)[:, None], x.astype(np.float64)
    if metric == "cosine":
        a, b = (v * (1 / np.sqrt(in_turn(v**2))[..., None]) for v in (a, b))
        return in_turn((a - b) ** 2) / 2
    return in_turn(np.abs(a - b)) if metric == "l1" else in_turn((a - b) ** 2)


def at_odd_address(x):
    """The same, where a mapped file may have it."""
    moved = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(TYPES),
    of_queries=st.sampled_from([None, "f8"]),
    metric=st.sampled_from(sorted(METRICS)),
    d=DIMENSIONS,
    n=st.integers(1, 40),
    nq=st.sampled_from([0, 1, 3, 4, 5]),
    m=st.integers(1, 20),
)
def test_distances_are_summed_in_the_one_order(seed, dtype, of_queries, metric, d, n, nq, m):
    rng = np.random.default_rng(seed)
    x, xq = vectors(rng, n, d, dtype), vectors(rng, nq, d, dtype).astype(of_queries or dtype)
    I = rng.integers(-1, n, (nq, m))
    expected = np.where(I < 0, np.inf, np.take_along_axis(true_distances(xq, x, metric), I, axis=1))
    for variant in VARIANTS:
        with by(variant):
            for stored in (x, at_odd_address(x), np.asfortranarray(x)):
                assert_same(steps.distances(xq, stored, I, METRICS[metric]), expected, variant)
            assert_same(
                steps.distances(np.asfortranarray(xq), x, I[:, ::-1], METRICS[metric])[:, ::-1].copy(),
                expected,
                variant,
            )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("d", [16_383, 16_384, 16_385, 70_000])
def test_squared_distances_of_bytes_pass_what_32_bits_count(variant, d):
    x = np.vstack([np.zeros(d), np.full(d, 255), np.arange(d) % 2 * 255]).astype(np.uint8)
    I = np.tile(np.arange(3), (3, 1))
    half = d // 2
    apart = np.array([[0, d, half], [d, 0, d - half], [half, d - half, 0]]) * 255.0**2
    with by(variant):
        assert_same(steps.distances(x, x, I, METRICS["l2"]), apart, variant)
        assert_same(steps.distances(x, x, I, METRICS["l1"]), apart / 255, variant)


# Nearest by codes


def random_codes(rng, n, p, *, few):
    """Codes as far out as they can be, or of few values, so that keys tie, and lengths up to what a table holds."""
    codes = (rng.integers(-1, 2, (n, p)) if few else rng.choice([-127, 127, *range(-127, 128)], (n, p))).astype(np.int8)
    rest = rng.choice([0.0, 1.5, 40_000.0], n)
    return Coded(codes, np.square(codes.astype(np.float64)).sum(axis=1) + rest**2, rest, np.zeros(n))


def true_nearest(table, codes, m, places):
    """By key, then by row, of each query's own places in the table."""
    found = np.full((len(codes), m), -1)
    for i, (query, own) in enumerate(zip(codes.astype(np.int64), places, strict=True)):
        rows = table.field("row")[own].astype(np.int64)
        keys = table.field("norm")[own].astype(np.int64) - 2 * table.codes[own].astype(np.int64) @ query
        nearest = rows[np.lexsort((rows, keys))][:m]
        found[i, : len(nearest)] = nearest
    return found


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 200) | st.just(1000),
    p=st.sampled_from([4, 8, 12, 60, 64, 100, 128, 512, 1024]),
    nq=st.sampled_from([0, 1, 3, 4, 5]),
    m=st.integers(1, 12) | st.integers(1, 230) | st.sampled_from([96, 97]),
    few=st.booleans(),
)
def test_the_nearest_by_codes_are_those_of_least_keys(seed, n, p, nq, m, few):
    rng = np.random.default_rng(seed)
    table = pack(records(random_codes(rng, n, p, few=few)), rng.permutation(n))
    codes = random_codes(rng, nq, p, few=few).codes
    ends = np.sort(rng.integers(0, n + 1, rng.integers(1, 20)))  # some are empty
    ends[-1] = n
    lists = rng.permuted(np.tile(np.arange(len(ends)), (nq, 1)), axis=1)[:, : rng.integers(1, len(ends) + 1)]
    probed = [np.concatenate([np.arange(0 if i == 0 else ends[i - 1], ends[i]) for i in own]) for own in lists]
    for variant in VARIANTS:
        with by(variant):
            expected = true_nearest(table, codes, m, [np.arange(n)] * nq)
            assert_same(steps.nearest(table, codes, m), expected, variant)
            expected = true_nearest(table, codes, m, probed)
            assert_same(steps.nearest(table, codes, m, lists, ends), expected, variant)


# Scans


def true_scan(D, k):
    """Of all distances (nq, n) the k least, by distance, then by row."""
    found_D, found_I = np.full((len(D), k), np.inf), np.full((len(D), k), -1)
    for i, own in enumerate(D):
        rows = np.lexsort((np.arange(len(own)), own))[:k]
        found_I[i, : len(rows)], found_D[i, : len(rows)] = rows, own[rows]
    return found_D, found_I


def assert_scans_are_true(x, xq, projection, metric, k, first, order):
    coded = projection.encode(METRICS[metric].projectable(x))
    table = pack(records(Coded(*(values[order] for values in coded))), order)
    queries = projection.encode(METRICS[metric].projectable(xq))
    expected = true_scan(true_distances(xq, x, metric), k)
    for variant in VARIANTS:
        with by(variant):
            found = steps.scan(table, queries, first, xq, x, k=k, metric=METRICS[metric], unit=projection.unit)
            for a, b in zip(found, expected, strict=True):
                assert_same(a, b, variant)


@settings(max_examples=37, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(TYPES),
    of_queries=st.sampled_from([None, "f8"]),
    metric=st.sampled_from(["l2", "cosine"]),
    d=st.integers(1, 100),
    p=st.sampled_from([1, 4, 30, 100]),
    n=st.integers(1, 200),
    nq=st.sampled_from([0, 1, 3, 4, 5]),
    k=st.integers(1, 12) | st.integers(1, 220),
    scale=st.sampled_from([1.0, 1e-200, 1e100]),
)
def test_a_scan_finds_the_nearest_whatever_it_begins_with(seed, dtype, of_queries, metric, d, p, n, nq, k, scale):
    rng = np.random.default_rng(seed)
    x = vectors(rng, n, d, dtype)
    x[rng.integers(0, n, n // 3)] = x[rng.integers(0, n, n // 3)]
    xq = np.vstack([vectors(rng, nq, d, dtype), x[:3]])[:nq].astype(of_queries or dtype)
    xq[1::2] = x[rng.integers(0, n, nq // 2)]
    if dtype == "f8" and metric == "l2":
        x, xq = x * scale, xq * scale
    if dtype == "f4" and metric == "l2":  # squares of some are below float32's range
        small = np.dtype(xq.dtype).type(rng.choice([1, 1e-20, 1e-22, 1e-23]))
        x, xq = (x * np.float32(small)), (xq * small)
    largest = {"u1": 255, "u2": 65_535}.get(dtype) if metric == "l2" else None
    projection = fit_projection(METRICS[metric].space(x), min(p, d), largest=largest)
    first = np.tile(np.arange(n), (nq, 1))[:, : rng.integers(0, n + 1)]
    if rng.random() < 0.5:  # the nearest themselves, and some others
        first = np.argsort(true_distances(xq, x, metric), axis=1, kind="stable")[:, : min(n, k + 3)]
    first = np.where(rng.random(first.shape) < rng.choice([0, 0.2]), -1, rng.permuted(first, axis=1))
    assert_scans_are_true(x, xq, projection, metric, k, first, rng.permutation(n))


@pytest.mark.parametrize(("p", "n", "k"), [(1024, 700, 5), (512, 333, 400), (8, 20_000, 3), (4, 3000, 150)])
def test_a_scan_of_several_blocks_finds_the_nearest(p, n, k):
    """One that is larger than the cache; more wait for their distance than it has room for."""
    rng = np.random.default_rng(p)
    x = rng.integers(0, 256, (n, p)).astype(np.uint8)
    projection = Projection(centre=np.full(p, 128.0), grid=1.0, axes=np.eye(p))
    first = rng.permuted(np.tile(np.arange(n), (6, 1)), axis=1)[:, : 2 * k]
    first[::2] = -1
    assert_scans_are_true(x, x[[3, 9, 9, 20, -1, 0]], projection, "l2", k, first, rng.permutation(n))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("of_queries", [1.0, 1e30, 1e140])
def test_a_scan_for_queries_at_any_distance_finds_the_nearest(dtype, of_queries):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 12)).astype(dtype)
    x[7] *= 1e30
    xq = x[:6].astype(np.float64) * of_queries
    projection = fit_projection(METRICS["l2"].space(x[100:]), 8, largest=None)
    first = np.tile(np.arange(40), (6, 1))
    assert_scans_are_true(x, xq, projection, "l2", 5, first, rng.permutation(300))


def test_what_the_kernel_does_not_know_numpy_computes():
    x = np.arange(12.0).reshape(4, 3).astype(">f4")
    I = np.array([[0, 3, -1]])
    assert np.array_equal(steps.distances(x[:1], x, I, METRICS["l2"]), [[0, 243, np.inf]])
