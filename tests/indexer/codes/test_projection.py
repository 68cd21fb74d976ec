"""Projections: whole numbers with the same bits in every batch, however far out a query lies."""

import tracemalloc
from itertools import pairwise

import faiss
import numpy as np
import pytest
from brute_force import neighbors
from hypothesis import given, settings
from hypothesis import strategies as st
from knnvote.indexer.projection import fit_projection

from knnvote.classify.estimator import KNNVoteClassifier
from knnvote.classify.search.search import search
from knnvote.indexer.faiss_index import base_ivf, build_faiss, read_faiss, training_rows, write_faiss
from knnvote.indexer.metric import METRICS
from knnvote.indexer.threads import limit_threads


def images(rng, n, d):
    """Bytes with a few strong directions, as pictures have."""
    strokes = rng.normal(size=(12, d)) * 60
    return np.clip(rng.normal(size=(n, 12)) @ strokes + 90, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures():
    return images(np.random.default_rng(0), 900, 784)


@pytest.fixture(scope="module")
def projection(pictures):
    return fit_projection(pictures.astype(np.float64), 64, largest=255)


def assert_whole_and_short(projected):
    assert projected.dtype == np.float32
    assert np.array_equal(projected, np.rint(projected))
    assert (np.square(projected.astype(np.float64)).sum(axis=1) < 2**22).all()


def test_projections_are_whole_numbers_of_length_below_2_to_the_11(projection, pictures):
    assert_whole_and_short(projection(pictures.astype(np.float64)))


@pytest.mark.parametrize("size", [256, 65_535, 1e9, 1e38, 1e150])
def test_queries_far_outside_are_projected_to_whole_numbers_of_length_below_2_to_the_11(projection, size):
    rng = np.random.default_rng(1)
    far = np.vstack([rng.choice([-size, 0, size], (50, 784)), np.full((1, 784), size), projection.axes[:3] * size])
    assert_whole_and_short(projection(far))


def test_squared_distances_between_projections_are_exact_in_float32(projection, pictures):
    far = projection(1e6 * projection.axes[:2])
    pair = np.vstack([far, -far, projection(pictures[:40].astype(np.float64))])
    squared = np.square(pair.astype(np.int64)[:, None] - pair.astype(np.int64)).sum(axis=2)
    assert squared.max() > 2**23  # far ones on opposite sides use most of the room
    assert squared.max() < 2**24
    for xq in (pair, np.tile(pair, (30, 1))):  # one way through FAISS for few queries, another for many
        D, I = faiss.knn(xq, pair, len(pair))
        assert np.array_equal(D, np.take_along_axis(np.tile(squared, (len(xq) // len(pair), 1)), I, axis=1))


@pytest.mark.parametrize("scale", [1, 0.1, 1e100])
def test_projections_are_those_of_whole_number_arithmetic(pictures, scale):
    x = pictures * np.float64(scale)
    projection = fit_projection(x, 64, largest=255 if scale == 1 else None)
    unit = 2.0 ** np.floor(np.log2(np.abs(projection.axes[projection.axes != 0]).min()))
    axes = (projection.axes / unit).astype(np.int64)
    assert np.array_equal(axes * unit, projection.axes)
    steps = np.rint((x - projection.centre) / projection.grid).astype(np.int64)
    assert np.array_equal(projection(x), np.rint((steps @ axes.T) * unit))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["bytes", "floats", "cosine", "far"])
def test_a_projection_has_the_same_bits_in_every_batch_and_at_every_place(pictures, kind, threads):
    x = METRICS["cosine" if kind == "cosine" else "l2"].space(pictures)
    if kind == "floats":
        x = x * 0.1 + 1e6
    projection = fit_projection(x, 64, largest=255 if kind in ("bytes", "far") else None)
    if kind == "far":
        x = x * 1e5 / 3
    reference = projection(x)
    with limit_threads(threads):
        for size in (1, 7, 163, 164):
            part = x[:250]
            found = np.concatenate([projection(part[i : i + size]) for i in range(0, len(part), size)])
            assert np.array_equal(found, reference[:250]), size
        for shift in (1, 3, 500):
            assert np.array_equal(projection(np.roll(x, shift, axis=0)), np.roll(reference, shift, axis=0)), shift
        assert np.array_equal(projection(x[::-1]), reference[::-1])
        assert np.array_equal(projection(np.asfortranarray(x)), reference)


def floats(scale, *, offset=0.0, dtype=np.float64):
    return ((np.random.default_rng(2).normal(size=(300, 12)) + offset) * scale).astype(dtype)


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(images(np.random.default_rng(3), 300, 64), id="bytes"),
        pytest.param(images(np.random.default_rng(3), 300, 64).astype(np.uint16) * 257, id="uint16"),
        pytest.param(floats(1), id="floats"),
        pytest.param(floats(1, offset=1e6), id="large offset"),
        pytest.param(floats(1e-3, offset=1e9), id="larger offset"),
        pytest.param(floats(1e100), id="1e100"),
        pytest.param(floats(1e-100), id="1e-100"),
        pytest.param(floats(3e37, dtype=np.float32), id="largest of float32"),
        pytest.param(floats(1e-38, dtype=np.float32), id="smallest of float32"),
        pytest.param(np.full((40, 3), 0.1), id="all equal"),
        pytest.param(np.full((40, 3), 1e100), id="all equal and large"),
        pytest.param(np.zeros((40, 3)), id="zeros"),
        pytest.param(floats(1)[:, :1], id="one dimension"),
        pytest.param(floats(1)[:1], id="one vector"),
        pytest.param(floats(1) * np.repeat([1, 0, 1e-60], 4), id="constant and tiny columns"),
    ],
)
def test_an_index_file_gives_back_the_projection_that_its_vectors_went_through(tmp_path, x):
    built = build_faiss(x, kind="adaptive", metric="l2", factory=None, seed=0)
    write_faiss(built.index, tmp_path / "index")
    opened = read_faiss(tmp_path / "index")
    ivf, projection = base_ivf(opened, built.search.grid)
    largest = {"uint8": 255, "uint16": 65_535}.get(x.dtype.name)
    sample = x[np.sort(training_rows(len(x), 0))]
    fitted = fit_projection(METRICS["l2"].space(sample), min(64, x.shape[1]), largest=largest)
    assert (projection.grid, projection.centre.tolist()) == (fitted.grid, fitted.centre.tolist())
    assert np.array_equal(projection.axes, fitted.axes)
    projected = projection(METRICS["l2"].space(x))
    assert_whole_and_short(projected)
    D, _ = ivf.search(projected, 1, params=faiss.SearchParametersIVF(nprobe=ivf.nlist))
    assert not D.any()  # each vector stands in the file where its projection is


def test_a_query_infinitely_many_steps_away_is_projected_too():
    x = floats(1e-200)
    projected = fit_projection(x, 12, largest=None)(np.vstack([np.full((1, 12), 1e149), np.full((1, 12), -1e149)]))
    assert_whole_and_short(projected)
    assert projected.any(axis=1).all()


@pytest.mark.parametrize("exponent", [-400, -100, 100, 400])
def test_the_scale_of_floats_changes_nothing(exponent):
    x, factor = floats(1, offset=10), 2.0**exponent
    expected = fit_projection(x, 8, largest=None)(x)
    assert np.array_equal(fit_projection(x * factor, 8, largest=None)(x * factor), expected)


@pytest.mark.parametrize("offset", [0, 1e6])
def test_projections_use_most_of_their_room_and_keep_what_is_near_near(offset):
    x = floats(1, offset=offset)
    projected = fit_projection(x, 12, largest=None)(x).astype(np.float64)
    assert np.sqrt(np.square(projected).sum(axis=1)).max() > 700
    true = np.sqrt(np.square(x - x[0]).sum(axis=1))
    seen = np.sqrt(np.square(projected - projected[0]).sum(axis=1))
    order = np.argsort(true)
    ratios = seen[order][1:] / true[order][1:]
    assert ratios.max() / ratios.min() < 1.05
    assert all(near <= far * 1.05 for near, far in pairwise(seen[order]))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 40),
    d=st.integers(1, 20),
    p=st.integers(1, 20),
    kind=st.sampled_from(["bytes", "uint16", "floats", "few values"]),
    scale=st.sampled_from([1e-200, 1e-3, 1.0, 1e6, 1e100]),
    offset=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_projections_of_anything_are_whole_short_and_the_same_alone(seed, n, d, p, kind, scale, offset):
    rng = np.random.default_rng(seed)
    if kind in ("bytes", "uint16"):
        x = rng.integers(0, 256 if kind == "bytes" else 65_536, (n, d)).astype(np.float64)
    else:
        x = (rng.normal(size=(n, d)) if kind == "floats" else rng.integers(0, 2, (n, d))) + offset
        x = x * scale
    projection = fit_projection(x, min(p, d), largest={"bytes": 255, "uint16": 65_535}.get(kind))
    xq = np.vstack([x, x * 3, x[:1] + scale * 1e20, np.zeros((1, d))])
    projected = projection(xq)
    assert_whole_and_short(projected)
    assert np.array_equal(np.vstack([projection(row[None]) for row in xq]), projected)


# 8-bit pixels as they are


def fit_fast(sample, p, *, largest=255, seed=0):
    """`fit_projection` without the eigenvectors of thousands of rows and columns: some p orthonormal axes near them."""

    def few_axes(covariance):
        start = np.random.default_rng(seed).normal(size=(len(covariance), p))
        return None, np.linalg.qr(covariance @ start + 1e-3 * start)[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.linalg, "eigh", few_axes)
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


SMALL_D, LARGE_D = [1, 2, 7, 63, 300, 784], [3072, 3700, 4096, 4097, 5000]
KINDS = ["random", "narrow", "extreme", "constant", "structured"]


def assert_bytes_are_projected_like_floats(seed, d, p, fitted, asked, batch):
    rng = np.random.default_rng(seed)
    projection = fit_fast(bytes_of(rng, fitted, 20, d), min(p, d), seed=seed)
    xq = np.vstack([bytes_of(rng, asked, 12, d), signs_of(projection), np.full((1, d), 255, np.uint8)])
    expected = projection(xq.astype(np.float64))
    assert_whole_and_short(expected)
    assert np.array_equal(projection(xq), expected)
    parts = [projection(xq[start : start + batch]) for start in range(0, len(xq), batch)]
    assert np.array_equal(np.concatenate(parts), expected)
    assert np.array_equal(projection(xq[::-1]), expected[::-1])
    assert np.array_equal(projection(np.asfortranarray(xq)), expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    d=st.sampled_from(SMALL_D) | st.integers(1, 900),
    p=st.sampled_from([1, 5, 64]),
    fitted=st.sampled_from(KINDS),
    asked=st.sampled_from(KINDS),
    batch=st.integers(1, 40),
)
def test_pixels_of_8_bits_are_projected_to_the_bits_of_the_same_pixels_as_floats(seed, d, p, fitted, asked, batch):
    assert_bytes_are_projected_like_floats(seed, d, p, fitted, asked, batch)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    d=st.sampled_from(LARGE_D),
    fitted=st.sampled_from(KINDS),
    asked=st.sampled_from(KINDS),
    batch=st.integers(1, 40),
)
def test_large_images_of_8_bits_are_projected_to_the_bits_of_the_same_pixels_as_floats(seed, d, fitted, asked, batch):
    assert_bytes_are_projected_like_floats(seed, d, 16, fitted, asked, batch)


@pytest.mark.parametrize("threads", [1, 2])
def test_pixels_of_8_bits_have_the_same_projection_in_every_batch_and_at_every_place(pictures, threads):
    projection = fit_fast(pictures // 8 + 100, 64)
    xq = np.vstack([pictures[:400], signs_of(projection), 255 - pictures[:100]])
    reference = projection(xq.astype(np.float64))
    assert (np.square(reference.astype(np.float64)).sum(axis=1) > 0.99**2 * 2047**2).any()  # some were shortened
    with limit_threads(threads):
        for size in (1, 7, 163, 164, len(xq)):
            found = np.concatenate([projection(xq[i : i + size]) for i in range(0, len(xq), size)])
            assert np.array_equal(found, reference), size
        for shift in (1, 3, 500):
            assert np.array_equal(projection(np.roll(xq, shift, axis=0)), np.roll(reference, shift, axis=0)), shift


@pytest.mark.parametrize(("d", "is_fast"), [(1, True), (784, True), (3072, True), (4097, False)])
def test_float32_is_used_for_8_bit_pixels_up_to_about_3_700_of_them(monkeypatch, d, is_fast):
    sample = images(np.random.default_rng(4), 30, d)
    projection = fit_fast(sample, min(16, d))
    assert projection._fits_float32 == is_fast
    expected = projection(sample.astype(np.float64))
    in_float64, original = [], type(projection)._project
    monkeypatch.setattr(type(projection), "_project", lambda self, x: in_float64.append(len(x)) or original(self, x))
    assert np.array_equal(projection(sample), expected)
    assert sum(in_float64) == (0 if is_fast else 30)  # none of these lies so far out that it must be shortened


def test_float32_is_not_used_for_16_bit_pixels_or_floats(pictures):
    x = pictures.astype(np.float64)
    assert not fit_projection(x * 257, 64, largest=65_535)._fits_float32
    assert not fit_projection(x * 0.1, 64, largest=None)._fits_float32
    assert fit_projection(x, 64, largest=255)._fits_float32


@pytest.mark.parametrize("d", [784, 3072])
def test_coarse_axes_still_point_where_fine_ones_do(d):
    sample = images(np.random.default_rng(5), 40, d)
    coarse, fine = fit_fast(sample, 8), fit_fast(sample, 8, largest=None)
    pairs = zip(coarse.axes, fine.axes, strict=True)
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs]
    assert min(cosines) > np.cos(1 / 50)


@pytest.mark.parametrize("values", ["pictures", "floats", "all equal"])
def test_few_images_of_many_pixels_are_indexed_without_a_covariance_and_are_found(values):
    rng = np.random.default_rng(0)
    x = images(rng, 90, 128 * 128) if values != "all equal" else np.full((90, 128 * 128), 7, np.uint8)
    x = x + 0.5 if values == "floats" else x
    tracemalloc.start()
    built = build_faiss(x, kind="adaptive", metric="l2", factory=None, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * x.size * 8  # the covariance alone has a hundred times that
    projection = base_ivf(built.index, built.search.grid)[1]
    lengths = np.linalg.eigvalsh(projection.axes @ projection.axes.T)
    assert lengths[-1] / lengths[0] < 1 + 1e-3
    assert projection(x[:1].astype(np.float64)).shape == (1, 45)  # an axis for each row that they are fitted to


def test_bounds_over_axes_that_no_covariance_gave_leave_exact_search_exact():
    x = images(np.random.default_rng(0), 4120, 1030)
    with limit_threads(1):
        index = KNNVoteClassifier().fit(x[:4100], np.zeros(4100))._index
        axes = fit_projection(x[:2050].astype(float), 64, largest=255).axes
    with limit_threads(2):
        assert fit_projection(x[:2050].astype(float), 64, largest=255).axes.tobytes() == axes.tobytes()
    assert index.bounds is not None
    for found, expected in zip(search(index, x[4100:], 5), neighbors(x[4100:], x[:4100], 5, "l2"), strict=True):
        np.testing.assert_array_equal(found, expected)
