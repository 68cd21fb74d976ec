"""Projections to codes of 8 bits: the same bits in every batch, and bounds that hold however far out a vector lies."""

import importlib
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repeats import spread

from knnvote.indexer.codes.projection import Coded, Projection, fit_projection
from knnvote.indexer.metric import METRICS
from knnvote.indexer.threads import limit_threads

LARGEST = {"bytes": 255, "uint16": 65_535}


def images(rng, n, d):
    """Bytes with a few strong directions, as pictures have."""
    strokes = rng.normal(size=(12, d)) * 60
    return np.clip(rng.normal(size=(n, 12)) @ strokes + 90, 0, 255).astype(np.uint8)


def floats(scale, *, offset=0.0):
    return (np.random.default_rng(2).normal(size=(300, 12)) + offset) * scale


@pytest.fixture(scope="module")
def pictures():
    return images(np.random.default_rng(0), 900, 784)


def assert_same(found, expected):
    for name, a, b in zip(Coded._fields, found, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name


def at(coded, rows):
    return Coded(*(values[rows] for values in coded))


def encode_in_batches(projection, x, size):
    parts = [projection.encode(x[start : start + size]) for start in range(0, len(x), size)]
    return Coded(*map(np.concatenate, zip(*parts, strict=True)))


# The same bits


@spread(("threads", [1, 2]), ("kind", ["bytes", "bytes as floats", "floats", "cosine", "far"]))
def test_codes_have_the_same_bits_in_every_batch_and_at_every_place(pictures, kind, threads):
    x = METRICS["cosine" if kind == "cosine" else "l2"].space(pictures)
    if kind == "floats":
        x = x * 0.1 + 1e6
    projection = fit_projection(x, 64, largest=None if kind in ("floats", "cosine") else 255)
    if kind == "bytes":
        x = pictures
    elif kind == "far":
        x = x * 1e5 / 3
    expected = projection.encode(x)
    with limit_threads(threads):
        for size in (1, 7, 163, 164):
            assert_same(encode_in_batches(projection, x[:250], size), at(expected, np.s_[:250]))
        for rows in (np.roll(np.arange(len(x)), 1), np.roll(np.arange(len(x)), 500), np.arange(len(x))[::-1]):
            assert_same(projection.encode(x[rows]), at(expected, rows))
        assert_same(projection.encode(np.asfortranarray(x)), expected)
        assert_same(projection.encode(x[::3]), at(expected, np.s_[::3]))


@pytest.mark.parametrize("scale", [1, 0.1, 1e100])
def test_codes_are_those_of_whole_number_arithmetic(pictures, scale):
    x = pictures[:200] * np.float64(scale)
    projection = fit_projection(x, 64, largest=255 if scale == 1 else None)
    unit = 2.0**-30 * 2.0 ** np.ceil(np.log2(np.abs(projection.axes).max()))
    axes = (projection.axes / unit).astype(np.int64)
    assert np.array_equal(axes * unit, projection.axes)
    steps = np.rint((x - projection.centre) / projection.grid).astype(np.int64)
    assert np.array_equal(projection.encode(x).codes, np.rint((steps @ axes.T) * unit).clip(-127, 127))


@pytest.mark.parametrize("exponent", [-400, -100, 100, 400])
def test_the_scale_of_floats_changes_nothing(exponent):
    x, factor = floats(1, offset=10), 2.0**exponent
    expected = fit_projection(x, 8, largest=None)
    scaled = fit_projection(x * factor, 8, largest=None)
    assert_same(scaled.encode(x * factor), expected.encode(x))
    assert scaled.unit * factor == expected.unit


# Bounds


def assert_bounds_hold(projection, x):
    """|u - v| >= |(a_u, rest_u) - (a_v, rest_v)| - rounding_u - rounding_v of all pairs."""
    codes, norm, rest, rounding = projection.encode(x)
    assert codes.dtype == np.int8
    assert np.abs(codes.astype(np.int64)).max() <= 127
    points = np.column_stack([codes, rest])
    np.testing.assert_allclose(norm, np.square(points).sum(axis=1), rtol=1e-14)
    seen = np.sqrt(np.square(points[:, None] - points).sum(axis=2))
    apart = x[:, None] - x
    largest = np.abs(apart).max(axis=2)  # against overflow of squares, and what they lose
    lengths = np.sqrt(np.square(apart / np.where(largest > 0, largest, 1)[..., None]).sum(axis=2))
    with np.errstate(over="ignore"):  # farther apart than float64 says
        true = lengths * projection._stretch * (largest / projection.grid)
    assert (seen - rounding[:, None] - rounding <= true * (1 + 1e-12)).all()


@settings(max_examples=75, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 40),
    d=st.integers(1, 20),
    p=st.integers(1, 20),
    kind=st.sampled_from(["bytes", "uint16", "floats", "few values", "constant", "one huge component"]),
    scale=st.sampled_from([1e-200, 1e-3, 1.0, 1e6, 1e100]),
    offset=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_bounds_of_anything_hold_and_are_the_same_alone(seed, n, d, p, kind, scale, offset):
    rng = np.random.default_rng(seed)
    if kind in LARGEST:
        x = rng.integers(0, LARGEST[kind] + 1, (n, d)).astype(np.float64)
    else:
        values = {"few values": rng.integers(0, 2, (n, d)), "constant": np.full((n, d), 0.1)}
        x = (values.get(kind, rng.normal(size=(n, d))) + offset) * scale
    projection = fit_projection(x, min(p, d), largest=LARGEST.get(kind))
    far = rng.choice([-1e149, 1e149, 0], (2, d))
    xq = np.vstack([x, x * 3, x[:1] + scale * 1e20, np.zeros((1, d)), far, far * (1 + 1e-9)])
    if kind == "one huge component":
        xq[rng.integers(len(xq), size=3), rng.integers(d)] *= 1e9
    assert_bounds_hold(projection, xq)
    assert_same(encode_in_batches(projection, xq, 1), projection.encode(xq))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), sign=st.sampled_from([-1, 1]), spread=st.sampled_from([2, 60, 400]))
def test_bounds_hold_where_every_component_lies_in_the_middle_of_two_codes(seed, sign, spread):
    rng = np.random.default_rng(seed)
    hadamard = np.kron([[1, 1], [1, -1]], [[1, 1], [1, sign]])[:, rng.permutation(4)]
    projection = Projection(centre=np.zeros(8), grid=1.0, axes=np.hstack([hadamard, np.zeros((4, 4))]) / 2)
    x = rng.integers(-spread, spread + 1, (30, 8)).astype(np.float64)
    x[:, 0] += (x[:, :4].sum(axis=1) + 1) % 2  # an odd sum: all four components are halves
    assert_bounds_hold(projection, np.vstack([x, x + rng.integers(-1, 2, x.shape) * 2]))


@pytest.mark.parametrize("outlier", [1e10, 1e40, 1e149])
def test_vectors_among_outliers_on_both_sides_keep_codes_that_float32_holds(outlier):
    x = np.random.default_rng(7).normal(size=(5000, 3))
    x[5] *= outlier
    x[6] = -x[5]
    projection = fit_projection(x, 2, largest=None)
    assert projection.encode(x).rest.max() < np.finfo(np.float32).max
    assert_bounds_hold(projection, x[:40])


@pytest.mark.parametrize("offset", [0, 1e6])
def test_codes_use_most_of_their_range_and_keep_what_is_near_near(offset):
    x = floats(1, offset=offset)
    codes, _, rest, rounding = fit_projection(x, 12, largest=None).encode(x)
    assert np.abs(codes.astype(np.int64)).max() > 120
    assert rest.max() < 0.5  # all axes see everything but what their own steps take off
    assert np.median(rounding) < np.sqrt(12) / 2
    true = np.sqrt(np.square(x - x[0]).sum(axis=1))
    seen = np.sqrt(np.square(codes.astype(np.float64) - codes[0]).sum(axis=1))
    order = np.argsort(true)
    ratios = seen[order][1:] / true[order][1:]
    assert ratios.max() / ratios.min() < 1.05
    assert all(near <= far * 1.05 for near, far in pairwise(seen[order]))


def test_a_bound_of_all_components_is_nearly_the_distance():
    x = floats(1)
    projection = fit_projection(x, 12, largest=None)
    y, squares = projection.components(x)
    np.testing.assert_allclose(np.square(y).sum(axis=1), squares, rtol=1e-4)  # steps of the axes turn them a little
    bounds, true = (np.sqrt(np.square(v[:, None] - v).sum(axis=2)) for v in (y, x * projection.unit))
    np.testing.assert_allclose(bounds, true, rtol=1e-4, atol=1e-3)


# 8-bit pixels as they are


def fit_fast(sample, p, *, largest=255, seed=0):
    """`fit_projection` without the eigenvectors of thousands of rows and columns: some p orthonormal axes near them."""

    def few_axes(centred, p):
        start = np.random.default_rng(seed).normal(size=(centred.shape[1], p))
        return np.linalg.qr(centred.T @ (centred @ start) + 1e-3 * start)[0].T

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("knnvote.indexer.codes.projection._principal_axes", few_axes)
        return fit_projection(sample.astype(np.float64), p, largest=largest)


def bytes_of(rng, kind, n, d):
    return {
        "random": lambda: rng.integers(0, 256, (n, d)),
        "narrow": lambda: rng.integers(100, 103, (n, d)),
        "extreme": lambda: rng.choice([0, 255], (n, d)),
        "constant": lambda: np.full((n, d), rng.choice([0, 9, 255])),
        "structured": lambda: images(rng, n, d),
    }[kind]().astype(np.uint8)


def signs_of(projection):
    """Pixels that lie as far along each axis as pixels can."""
    return np.vstack([np.where(projection.axes > 0, 255, 0), np.where(projection.axes > 0, 0, 255)]).astype(np.uint8)


KINDS = ["random", "narrow", "extreme", "constant", "structured"]
SIZES = [1, 2, 7, 63, 256, 257, 300, 784]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    d=st.sampled_from(SIZES) | st.integers(1, 900) | st.sampled_from([3072, 3700, 4097]),
    p=st.sampled_from([1, 5, 64]),
    fitted=st.sampled_from(KINDS),
    asked=st.sampled_from(KINDS),
    batch=st.integers(1, 40),
)
def test_pixels_of_8_bits_have_the_codes_of_the_same_pixels_as_floats_to_the_bit(seed, d, p, fitted, asked, batch):
    rng = np.random.default_rng(seed)
    projection = fit_fast(bytes_of(rng, fitted, 20, d), min(p, d, 16 if d > 900 else p), seed=seed)
    xq = np.vstack([bytes_of(rng, asked, 12, d), signs_of(projection)[:40], np.full((1, d), 255, np.uint8)])
    expected = projection.encode(xq.astype(np.float64))
    assert_same(projection.encode(xq), expected)
    assert_same(encode_in_batches(projection, xq, batch), expected)


@pytest.mark.parametrize(("d", "is_fast"), [(1, True), (784, True), (3072, True), (9000, False)])
def test_float32_is_used_for_8_bit_pixels_as_long_as_it_rounds_no_sum(d, is_fast):
    sample = images(np.random.default_rng(4), 30, d)
    projection = fit_fast(sample, min(16, d))
    assert projection._fits_float32 == is_fast
    assert_same(projection.encode(sample), projection.encode(sample.astype(np.float64)))


def test_float32_is_not_used_for_16_bit_pixels_or_floats(pictures):
    x = pictures[:100, :200].astype(np.float64)
    assert not fit_projection(x * 257, 64, largest=65_535)._fits_float32
    assert not fit_projection(x * 0.1, 64, largest=None)._fits_float32
    assert fit_projection(x, 64, largest=255)._fits_float32


@pytest.mark.parametrize("d", [784, 3072])
def test_coarse_axes_still_point_where_fine_ones_do(d):
    sample = images(np.random.default_rng(5), 40, d)
    coarse, fine = fit_fast(sample, 8), fit_fast(sample, 8, largest=None)
    pairs = zip(coarse.axes, fine.axes, strict=True)
    assert min(a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs) > np.cos(1 / 50)


@pytest.mark.parametrize("values", ["pictures", "floats", "all equal"])
def test_few_images_of_many_pixels_are_projected_without_a_covariance(values):
    rng = np.random.default_rng(0)
    x = images(rng, 45, 64 * 64) if values != "all equal" else np.full((45, 64 * 64), 7, np.uint8)
    x = x + 0.5 if values == "floats" else x.astype(np.float64)
    largest = None if values == "floats" else 255
    importlib.import_module("sklearn.utils.extmath")  # not what is measured
    tracemalloc.start()
    with limit_threads(1):
        projection = fit_projection(x, 64, largest=largest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * x.nbytes  # the covariance alone has ninety times that
    assert projection.axes.shape == (48, 64 * 64)  # an axis for each row that they are fitted to, and what fills up
    lengths = np.linalg.eigvalsh(projection.axes @ projection.axes.T)[3:]
    assert lengths[-1] / lengths[0] < 1 + 1e-3
    assert_bounds_hold(projection, np.vstack([x[:8], 255 - x[:3]]))
    with limit_threads(2):
        assert fit_projection(x, 64, largest=largest).axes.tobytes() == projection.axes.tobytes()
