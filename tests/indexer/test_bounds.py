"""Exact search by lower bounds: brute force by result, whatever the data, and a plain scan where bounds cannot help."""

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.classify.search import bounded
from knnvote.classify.search.search import search
from knnvote.data.vectors import convert_queries
from knnvote.indexer import faiss_index
from knnvote.indexer.bounds import Bounds, bound_points, bound_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.metric import METRICS
from knnvote.indexer.projection import fit_projection
from knnvote.indexer.threads import limit_threads

TYPES = [np.uint8, np.uint16, np.float32, np.float64]


@pytest.fixture(autouse=True)
def bounds_for_few_vectors(monkeypatch):
    """Bounds are otherwise for thousands of vectors of many pixels."""
    monkeypatch.setattr(faiss_index, "BOUNDS_FROM", 2)
    monkeypatch.setattr(faiss_index, "_PRINCIPAL_COMPONENTS", 4)


def structured(rng, n, d, dtype, *, offset=0.0, scale=1.0, groups=5):
    """Vectors around a few centres, with duplicates, so that bounds rule out much and distances tie."""
    centres = rng.integers(0, 200, (groups, d))
    x = centres[rng.integers(0, groups, n)] + rng.integers(0, 12, (n, d))
    x[rng.integers(0, n, n // 4)] = x[rng.integers(0, n, n // 4)]
    x[:, 0] = 7
    return (x * scale + offset).astype(dtype) if np.issubdtype(dtype, np.floating) else x.astype(dtype)


def build(path, x, metric="l2"):
    index_arrays(x, np.arange(len(x)), path, options=IndexOptions(metric=metric, threads=1, overwrite=True))
    return open_index(path)


def assert_is_brute_force(index, x, xq, k):
    queries, bad = convert_queries(xq, index.vectors.dtype)
    assert not bad
    D, I = search(index, queries, k)
    expected_D, expected_I = brute_force.neighbors(xq, x, k, index.metric)
    assert np.array_equal(I, expected_I)
    assert np.array_equal(D, expected_D)


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(TYPES),
    metric=st.sampled_from(["l2", "cosine"]),
    offset=st.sampled_from([0.0, 1e6]),
    scale=st.sampled_from([1e-30, 1 / 7, 1.0, 1e30]),
    k=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_search_by_bounds_is_brute_force(tmp_path_factory, seed, dtype, metric, offset, scale, k):
    rng = np.random.default_rng(seed)
    x = structured(rng, 300, 12, dtype, offset=offset, scale=scale)
    xq = np.concatenate([structured(rng, 20, 12, dtype, offset=offset, scale=scale), x[:5]])
    index = build(tmp_path_factory.mktemp("bounds") / "x.knn", x, metric)
    assert index.bounds is not None
    assert_is_brute_force(index, x, xq, k)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("n", "k"), [(8, 8), (60, 60), (60, 59), (200, 200)])
def test_search_by_bounds_for_as_many_neighbours_as_there_are_is_brute_force(tmp_path, metric, dtype, n, k):
    rng = np.random.default_rng(8)
    x = structured(rng, n, 12, dtype, groups=3)
    index = build(tmp_path / "x.knn", x, metric)
    assert index.bounds is not None
    assert_is_brute_force(index, x, np.concatenate([x[:6], structured(rng, 10, 12, dtype)]), k)


def test_bounds_rule_out_most_vectors_and_a_plain_scan_is_not_asked(tmp_path, monkeypatch):
    x = structured(np.random.default_rng(0), 5000, 40, np.uint8, groups=100)
    index = build(tmp_path / "x.knn", x)
    monkeypatch.setattr(bounded, "exact", lambda *_: pytest.fail("a plain scan"))
    assert_is_brute_force(index, x, x[:600], 5)


@pytest.mark.parametrize("most", [1, 30])
def test_queries_of_too_many_survivors_are_scanned(tmp_path, monkeypatch, most):
    monkeypatch.setattr(bounded, "_MOST_SURVIVORS", most)
    rng = np.random.default_rng(1)
    x = structured(rng, 400, 12, np.uint8)
    assert_is_brute_force(build(tmp_path / "x.knn", x), x, x[::3], 5)


def test_data_without_structure_are_scanned_after_the_first_block(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (600, 64)).astype(np.uint8)
    index = build(tmp_path / "x.knn", x)
    asked = []
    scan = bounded.exact
    monkeypatch.setattr(bounded, "exact", lambda xq, *rest: asked.append(len(xq)) or scan(xq, *rest))
    monkeypatch.setattr(bounded, "_BOUND_BLOCK", 16)
    xq = rng.integers(0, 256, (50, 64)).astype(np.uint8)
    assert_is_brute_force(index, x, xq, 5)
    assert asked == [50]


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-3, 1.0, 1e4]), p=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_no_vector_within_t_is_ruled_out(seed, scale, p):
    rng = np.random.default_rng(seed)
    x = METRICS["l2"].space(rng.normal(size=(200, 8)) * scale + 5)
    xq = METRICS["l2"].space(rng.normal(size=(10, 8)) * scale + 5)
    projection = fit_projection(x, p, largest=None)
    squared = ((x[None] - xq[:, None]) ** 2).sum(axis=2)
    t = np.sort(squared, axis=1)[:, 4]
    columns, counts, given_up = Bounds(projection, bound_table(x, METRICS["l2"], projection)).survivors(
        xq, t, 200, len(x)
    )
    assert not given_up.any()
    ends = np.cumsum(counts)
    for query, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        assert set(np.flatnonzero(squared[query] <= t[query])) <= set(columns[start:end])


def test_no_vector_within_t_is_ruled_out_where_float32_rounds_by_more_than_t():
    rng = np.random.default_rng(0)
    corners = rng.choice([-1000, 1000], size=(10, 8))
    x = METRICS["l2"].space(rng.normal(size=(200, 8)) * 1e-3 + corners[np.arange(200) % 10])
    projection = fit_projection(x, 8, largest=None)
    squared = ((x[None] - x[:, None]) ** 2).sum(axis=2)
    t = np.sort(squared, axis=1)[:, 4]
    bounds = Bounds(projection, bound_table(x, METRICS["l2"], projection))
    columns, counts, given_up = bounds.survivors(x, t, 200, len(x))
    assert not given_up.any()
    kept = np.zeros((200, 200), dtype=np.bool_)
    kept[np.repeat(np.arange(200), counts), columns] = True
    assert kept[squared <= t[:, None]].all()
    assert (counts < 50).all()  # other corners are ruled out


def test_a_bound_of_all_components_is_the_distance():
    rng = np.random.default_rng(3)
    x = METRICS["l2"].space(rng.integers(0, 256, (50, 6)))
    points = bound_points(x, fit_projection(x, 6, largest=255))[:, :-1].astype(np.float64)
    bounds = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    distances = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    assert np.allclose(bounds, distances, rtol=1e-3, atol=1e-2)  # steps of the axes turn them a little
    assert (bounds <= distances * (1 + 1e-5) + 1e-2).all()


def test_one_flipped_byte_of_the_bounds_is_found(tmp_path):
    index = build(tmp_path / "x.knn", structured(np.random.default_rng(4), 100, 12, np.uint8))
    path = index.path / index.manifest.files["bounds"].name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert [problem for problem in verify_folder(index.path) if "bounds-1.npy was changed" in problem]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    x = structured(np.random.default_rng(5), 300, 12, np.uint8)
    first, second = build(tmp_path / "a.knn", x), build(tmp_path / "b.knn", x)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 7, 163, 164, 5000])
def test_bounds_give_the_same_bits_in_every_batch_and_on_every_number_of_threads(tmp_path, batch, threads):
    x = structured(np.random.default_rng(6), 900, 40, np.float32, offset=1e6, scale=1 / 7, groups=30)
    index = build(tmp_path / "x.knn", x)
    xq, _ = convert_queries(x[:330], index.vectors.dtype)
    expected_D, expected_I = brute_force.neighbors(x[:330], x, 5, "l2")
    with limit_threads(threads):
        parts = [search(index, xq[start : start + batch], 5) for start in range(0, len(xq), batch)]
    assert np.array_equal(np.concatenate([D for D, _ in parts]), expected_D)
    assert np.array_equal(np.concatenate([I for _, I in parts]), expected_I)


@pytest.mark.parametrize(
    ("x_scale", "xq_scale", "outlier"),
    [
        (1, 1e30, 1),
        (1, 1e140, 1),
        (1e-150, 1e-150, 1),
        (1e-163, 1e-163, 1),
        (1e140, 1e140, 1),
        (1, 1, 1e40),
        (1, 1, 1e140),
    ],
)
def test_queries_and_images_at_any_distance_are_brute_force_and_do_not_change_the_others(
    tmp_path, x_scale, xq_scale, outlier
):
    x = np.random.default_rng(7).normal(size=(300, 12)) * x_scale
    x[-1] *= outlier
    xq = np.concatenate([x[:40], x[:3] * (xq_scale / x_scale)])
    assert_is_brute_force(build(tmp_path / "x.knn", x), x, xq, 5)
