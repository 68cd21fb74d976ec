"""Search: brute force's neighbours and distances to the last bit, on data that makes floats and ties difficult."""

from unittest import mock

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sets import FAISS_METRICS, candidates
from repeats import spread

from knnvote.classify.estimator import KNNVoteClassifier
from knnvote.classify.search import scan
from knnvote.classify.search.scan import exact
from knnvote.classify.search.search import exact_search, search
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.indexer import faiss_index
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.threads import limit_threads

TYPES = (np.uint8, np.uint16, np.int8, np.float16, np.float32, np.float64)


@pytest.fixture
def build(tmp_path):
    def build_index(x, **options):
        index_arrays(x, np.arange(len(x)) % 3, tmp_path / "i.knn", options=IndexOptions(**options, overwrite=True))
        return open_index(tmp_path / "i.knn")

    return build_index


def assert_exact(xq, x, k, metric):
    """As few stored vectors are searched, and as many are."""
    expected_D, expected_I = brute_force.neighbors(xq, x, k, metric)
    for group in (scan._GROUP, 10**9):
        with mock.patch.object(scan, "_GROUP", group):
            D, I = exact(xq, x, k, METRICS[metric])
        assert np.array_equal(I, expected_I)
        assert np.array_equal(METRICS[metric].final(D), expected_D)


def usable(x):
    """Cosine needs a direction: rows of zeros get one."""
    x = x.copy()
    x[~x.any(axis=1), 0] = 1
    return x


@st.composite
def few_values(draw):
    """Vectors and queries of any type that tie often: few values, duplicates, constant columns, one dimension."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(TYPES))
    n, nq, d = draw(st.integers(1, 120)), draw(st.integers(1, 30)), draw(st.sampled_from([1, 2, 3, 8, 64]))
    values = draw(st.sampled_from([1, 2, 3, 17, 256]))
    low = draw(st.sampled_from([0, 0, 1, 200]))
    x, xq = rng.integers(low, low + values, (n, d)), rng.integers(low, low + values, (nq, d))
    if draw(st.booleans()):
        x[:, rng.random(d) < 0.5] = low
    if draw(st.booleans()):
        x = x[rng.integers(0, max(1, n // 10), n)]
    if dtype == np.int8:
        x, xq = x - low - 128, xq - low - 128
    limit = 255 if dtype == np.uint8 else 65_535
    return usable(np.minimum(x, limit).astype(dtype)), usable(np.minimum(xq, limit).astype(dtype))


@settings(max_examples=75, deadline=None)
@given(data=few_values(), metric=st.sampled_from([*METRICS]), k=st.integers(1, 40))
def test_exact_search_is_brute_force_where_values_tie(data, metric, k):
    x, xq = data
    assert_exact(xq, x, min(k, len(x)), metric)


@st.composite
def rough_floats(draw):
    """Floats with offsets, scales, duplicates, near duplicates, constant columns, and queries near, equal and far."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(1, 120)), draw(st.sampled_from([1, 2, 7, 64]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    offset = draw(st.sampled_from([0.0, 1.0, 1e6, -1e6]))
    scales = [1e-15, 1.0, 1e15] if dtype == np.float32 else [1e-170, 1e-161, 1e-100, 1.0, 1e100]
    scale = draw(st.sampled_from(scales))
    x = rng.normal(size=(n, d)) + offset
    if draw(st.booleans()):
        x[:, rng.random(d) < 0.5] = offset
    if draw(st.booleans()):
        x = x[rng.integers(0, max(1, n // 8), n)]
    if draw(st.booleans()):
        x *= 1 + rng.choice([-1, 0, 1], x.shape) * 2.0**-50  # neighbours that float32 cannot tell apart
    x = (x * scale).astype(dtype)
    near = (rng.normal(size=(9, d)) + offset) * scale
    far = rng.normal(size=(3, d)) * scale * draw(st.sampled_from([1.0, 1e12, 1e20, 1e22, 1e24, 1e40]))
    return x, np.vstack([near, x[:9].astype(np.float64), far])


@settings(max_examples=75, deadline=None)
@given(data=rough_floats(), metric=st.sampled_from(["l2", "l1"]), k=st.integers(1, 20))
def test_exact_search_is_brute_force_whatever_the_offset_and_scale_of_floats(data, metric, k):
    x, xq = data
    assert_exact(xq, x, min(k, len(x)), metric)


@settings(max_examples=30, deadline=None)
@given(data=rough_floats(), k=st.integers(1, 20))
def test_exact_cosine_search_of_floats_is_brute_force(data, k):
    x, xq = data
    if np.abs(xq[:9]).max() < 1e-90:  # so small that squares underflow: refused as bad images
        x, xq = x * 1e100, xq * 1e100
    x, xq = usable(x), usable(xq)
    assert_exact(xq, x, min(k, len(x)), "cosine")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_that_differ_in_brightness_alone_tie_by_row_under_cosine(dtype):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        base = rng.integers(1, 60, rng.integers(2, 12))
        x = np.outer(rng.integers(1, 5 if dtype == np.uint8 else 1000, 300), base).astype(dtype)
        assert_exact(np.stack([base, 2 * base]).astype(dtype), x, 5, "cosine")


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_far_out_changes_no_neighbour_of_the_others_in_its_batch(metric):
    rng = np.random.default_rng(0)
    for exponent in (15, 18, 20, 21, 22, 23, 24, 30, 100, 149):
        x, xq = rng.normal(size=(300, 8)), rng.normal(size=(20, 8))
        assert_exact(np.vstack([xq, np.full((1, 8), 10.0**exponent)]), x, 5, metric)


@pytest.mark.parametrize("exponent", range(154, 166))
def test_floats_so_small_that_squares_are_lost_tie_by_row(exponent):
    rng = np.random.default_rng(exponent)
    for _ in range(10):
        x, xq = rng.normal(size=(300, 2)) * 10.0**-exponent, rng.normal(size=(20, 2)) * 10.0**-exponent
        assert_exact(xq, x, 5, "l2")


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, 1e100, -1e-300])
@pytest.mark.parametrize("metric", METRICS)
def test_vectors_that_are_all_equal_are_found_in_the_order_of_their_rows(value, metric):
    if metric == "cosine" and abs(value) < 1e-150:
        value = -0.3
    x = np.full((200, 3), value)
    D, I = exact(x[:2], x, 7, METRICS[metric])
    assert np.array_equal(I, np.tile(np.arange(7), (2, 1)))
    assert (D == 0).all()
    _, I = exact(np.vstack([x[:2], 2 * x[:2]]), x, 7, METRICS[metric])
    assert np.array_equal(I, np.tile(np.arange(7), (4, 1)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", TYPES)
def test_of_thousands_of_equal_vectors_in_any_order_the_lowest_rows_are_found(metric, dtype):
    rng = np.random.default_rng(7)
    image = rng.integers(1, 9, 16)
    others = rng.integers(20, 200, (3000, 16))
    x = np.vstack([np.tile(image, (3000, 1)), others])[rng.permutation(6000)].astype(dtype)
    xq = np.stack([image, image + rng.integers(0, 2, 16), others[0]]).astype(dtype)
    rows = np.flatnonzero((x == image.astype(dtype)).all(axis=1))[:9]
    _, I = exact(xq, x, 9, METRICS[metric])
    assert np.array_equal(I[0], rows)
    assert_exact(xq, x, 9, metric)


def test_ties_at_a_distance_are_settled_by_row_however_many_there_are():
    """Every stored vector is as far from the query as every other, and no two are equal."""
    x = np.eye(400, dtype=np.uint8)[np.random.default_rng(1).permutation(400)]
    _, I = exact(np.zeros((3, 400), np.uint8), x, 6, METRICS["l2"])
    assert np.array_equal(I, np.tile(np.arange(6), (3, 1)))


@pytest.mark.parametrize("metric", METRICS)
def test_images_of_32_bits_have_the_neighbours_of_exact_sums(build, metric):
    rng = np.random.default_rng(9)
    x, xq = rng.integers(1, 2**32, (300, 6), np.uint32), rng.integers(1, 2**32, (40, 6), np.uint32)
    D, I = search(build(x, metric=metric), xq, 5)
    expected_D, expected_I = brute_force.neighbors(xq, x, 5, metric)
    assert np.array_equal(I, expected_I)
    np.testing.assert_allclose(D, expected_D, rtol=1e-14, atol=1e-14)


@spread(("metric", METRICS), ("dtype", TYPES))
def test_more_vectors_than_one_block_of_the_scan_are_all_searched(metric, dtype, monkeypatch):
    rng = np.random.default_rng(2)
    if dtype != np.uint8:
        monkeypatch.setattr(scan, "_SCAN_BLOCK", 1000)
    x = usable(rng.integers(0, 12, (scan._SCAN_BLOCK * 5 // 2, 3)).astype(dtype))
    assert_exact(usable(rng.integers(0, 12, (25, 3)).astype(dtype)), x, 5, metric)


def test_distances_of_bytes_equal_int64_where_float32_stops_counting():
    rng = np.random.default_rng(3)
    structured = np.kron(rng.choice(np.array([0, 1, 60], np.uint8), (150, 7, 7)), np.ones((4, 4), np.uint8))
    x = np.vstack([structured.reshape(150, 784), rng.integers(0, 61, (150, 784), np.uint8)])
    x[-40:] = x[:40] ^ np.eye(1, 784, 300, np.uint8)  # twins but for one pixel, which rounding would exchange
    xq = np.vstack([255 - x[:40], np.full((1, 784), 255, np.uint8), rng.integers(0, 256, (20, 784), np.uint8), x[-30:]])
    for k in (5, 300):
        D, I = exact(xq, x, k, METRICS["l2"])
        D64, I64 = brute_force.neighbors(xq, x, k, "l2")
        assert np.array_equal(I, I64)
        assert np.array_equal(np.sqrt(D), D64)
        assert (D[:41] > 2**24).all()
        assert (D.astype(np.float32) != D).any()


@pytest.mark.parametrize("size", [1, 5, 6, 22])
@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
def test_every_vector_is_a_neighbour_where_there_are_no_more_than_k(build, kind, size):
    x = np.random.default_rng(4).integers(0, 256, (size, 9), np.uint8)
    index = build(x, kind=kind)
    D, I = search(index, x[::-1], size)
    expected_D, expected_I = brute_force.neighbors(x[::-1], x, size, "l2")
    assert np.array_equal(I, expected_I)
    assert np.array_equal(D, expected_D)


SIZES = [(1, 1, 1), (2, 1, 2), (7, 1, 7), (90, 1, 4), (7, 3, 7), (6, 3, 5), (40, 130, 40)]
# Each metric with each size and each type.
SIZED = [
    (metric, TYPES[(i + j + more) % len(TYPES)], *sizes)
    for i, metric in enumerate(METRICS)
    for j, sizes in enumerate(SIZES)
    for more in (0, 3)
]


@pytest.mark.parametrize(("metric", "dtype", "n", "d", "k"), SIZED)
def test_exact_search_of_an_index_is_brute_force_for_all_there_are_and_for_one_dimension(build, metric, dtype, n, d, k):
    rng = np.random.default_rng(14)
    x, xq = rng.integers(1, 40, (n, d)).astype(dtype), rng.integers(1, 40, (20, d)).astype(dtype)
    xq[:1] = x[:1]
    D, I = search(build(x, metric=metric), xq if np.dtype(dtype).kind == "u" else xq.astype(np.float64), k)
    expected_D, expected_I = brute_force.neighbors(xq, x, k, metric)
    assert np.array_equal(I, expected_I)
    assert np.array_equal(D, expected_D)


@pytest.mark.parametrize("k", [-1, 0, 11])
@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
def test_k_below_one_or_beyond_what_is_stored_is_refused_with_both_numbers(build, kind, k):
    x = np.random.default_rng(5).integers(0, 256, (10, 4), np.uint8)
    with pytest.raises(OptionError, match=rf"k is {k}, and .*i\.knn holds 10 vectors: give k from 1 to 10"):
        search(build(x, kind=kind), x, k)


@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
def test_no_queries_have_no_neighbours(build, kind):
    x = np.random.default_rng(6).integers(0, 256, (30, 4), np.uint8)
    D, I = search(build(x, kind=kind), x[:0], 3)
    assert D.shape == I.shape == (0, 3)
    assert I.dtype == np.int64


@pytest.mark.parametrize(
    ("options", "k"), [({"kind": "factory", "factory": "IVF16,Flat"}, 90), ({"kind": "adaptive"}, 600)]
)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_where_an_approximate_index_has_too_few_candidates_the_neighbours_are_exact(build, options, k, metric):
    rng = np.random.default_rng(8)
    x, xq = rng.integers(0, 256, (640, 8), np.uint8), rng.integers(0, 256, (200, 8), np.uint8)
    index = build(x, metric=metric, **options)
    lacking = (candidates(index, xq, k) >= 0).sum(axis=1) < k
    assert lacking.any()
    D, I = search(index, xq, k)
    expected_D, expected_I = brute_force.neighbors(xq[lacking], x, k, metric)
    assert np.array_equal(I[lacking], expected_I)
    assert np.array_equal(D[lacking], expected_D)
    assert (I >= 0).all()


@pytest.mark.parametrize("kind", ["adaptive", "hnsw"])
def test_a_query_far_beyond_what_float32_holds_gets_neighbours_and_true_distances(build, kind):
    x = np.random.default_rng(9).normal(size=(300, 6))
    xq = np.vstack([x[:3] + 0.01, np.full((1, 6), 1e100), np.full((1, 6), -1e39)])
    D, I = search(build(x, kind=kind), xq, 4)
    expected = np.sqrt(np.take_along_axis(brute_force.distances(xq, x, "l2"), I, axis=1))
    assert np.array_equal(D, expected)
    assert I[:3, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_adaptive_search_finds_the_same_neighbours_at_any_scale(build, scale):
    x = np.random.default_rng(10).normal(size=(800, 12))
    xq = np.random.default_rng(11).normal(size=(200, 12))
    _, true = brute_force.neighbors(xq, x, 5, "l2")
    _, found = search(build(x * scale, kind="adaptive"), xq * scale, 5)
    _, plain = search(build(x, kind="adaptive"), xq, 5)
    recall, usual = ((found == true).mean(), (plain == true).mean())
    assert recall > usual - 0.05
    assert recall > 0.6


@pytest.mark.filterwarnings("ignore:HNSW.* finds only:UserWarning")  # of few unlike images, by FAISS 1.14
@pytest.mark.parametrize("kind", ["adaptive", "hnsw"])
@spread(("metric", FAISS_METRICS), ("shape", ["equal", "few", "one dimension", "constant columns"]))
def test_approximate_search_has_the_same_bits_in_every_batch_where_everything_ties(build, kind, metric, shape):
    rng = np.random.default_rng(12)
    x = {
        "equal": np.full((500, 4), 3, np.uint8),
        "few": rng.integers(1, 3, (500, 4), np.uint8),
        "one dimension": rng.integers(1, 9, (500, 1), np.uint8),
        "constant columns": rng.integers(1, 9, (500, 4), np.uint8) * np.array([1, 0, 0, 1], np.uint8),
    }[shape]
    xq = np.vstack([x[:150], x[:50] + 1])
    index = build(x, kind=kind, metric=metric)
    proposed, (D, I) = candidates(index, xq, 5), search(index, xq, 5)
    expected = np.take_along_axis(brute_force.distances(xq, x, metric), I, axis=1)
    assert np.array_equal(D, np.sqrt(expected) if metric == "l2" else expected)
    for threads in (1, 2):
        with limit_threads(threads):
            for size in (1, 7, 163, 164):
                for start in range(0, min(len(xq), 12 * size), size):
                    rows = slice(start, start + size)
                    assert np.array_equal(candidates(index, xq[rows], 5), proposed[rows])
                    found_D, found_I = search(index, xq[rows], 5)
                    assert np.array_equal(found_D, D[rows])
                    assert np.array_equal(found_I, I[rows])


# Exact search of each type by each metric; other kinds of each type, of which each meets each metric.
SEARCHES = [
    *((metric, "exact", dtype) for metric in METRICS for dtype in TYPES),
    *(
        (FAISS_METRICS[(i + j) % len(FAISS_METRICS)], kind, dtype)
        for i, kind in enumerate(("adaptive", "hnsw", "factory"))
        for j, dtype in enumerate(TYPES)
    ),
]


@pytest.mark.parametrize(("metric", "kind", "dtype"), SEARCHES)
def test_every_search_by_every_metric_is_brute_force_or_gives_true_distances(build, metric, kind, dtype):
    rng = np.random.default_rng(15)
    x = rng.integers(1, 200, (600, 20)).astype(dtype)
    xq = np.vstack([x[:30], rng.integers(1, 200, (70, 20)).astype(dtype)])
    index = build(x, kind=kind, metric=metric, factory="IVF4,Flat" if kind == "factory" else None)
    queries = xq if xq.dtype.kind == "u" else xq.astype(np.float64)
    everything = brute_force.distances(xq, x, metric)
    for find, is_exact in ((exact_search, True), (search, kind == "exact")):
        D, I = find(index, queries, 7)
        true = np.take_along_axis(everything, I, axis=1)
        assert np.array_equal(D, np.sqrt(true) if metric == "l2" else true)
        assert (np.diff(D) >= 0).all()
        assert (np.diff(I)[np.diff(D) == 0] > 0).all()
        if is_exact:
            assert np.array_equal(I, brute_force.neighbors(xq, x, 7, metric)[1])


def test_settled_neighbours_are_ordered_by_distance_then_by_row(build):
    x = np.random.default_rng(13).integers(0, 4, (900, 4), np.uint8)
    for kind in ("exact", "adaptive", "hnsw"):
        D, I = search(build(x, kind=kind), x[:200], 8)
        assert (np.diff(D) >= 0).all()
        assert (np.diff(I)[np.diff(D) == 0] > 0).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(TYPES),
    metric=st.sampled_from([*METRICS]),
    batches=st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_exact_search_has_the_same_bits_however_queries_are_divided(seed, dtype, metric, batches):
    rng = np.random.default_rng(seed)
    draw = rng.normal(size=(150, 20)) + 1e4 if np.dtype(dtype).kind == "f" else rng.integers(1, 256, (150, 20))
    x = draw.astype(dtype)
    xq = x[rng.integers(0, 150, sum(batches))] + rng.integers(0, 2, 20).astype(dtype)
    D, I = exact(xq, x, 5, METRICS[metric])
    start = 0
    for size in batches:
        part_D, part_I = exact(xq[start : start + size], x, 5, METRICS[metric])
        assert np.array_equal(part_D, D[start : start + size])
        assert np.array_equal(part_I, I[start : start + size])
        start += size


@spread(("levels", [3, 200, None]), ("metric", FAISS_METRICS))
def test_of_few_dimensions_a_tree_finds_what_brute_force_does_with_ties_in_the_order_of_rows(
    metric, levels, monkeypatch
):
    fit = faiss_index.fit_codes
    monkeypatch.setattr(faiss_index, "fit_codes", lambda *given: (fit(*given)[0], False))  # as where codes do not pay
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2140, 3)) if levels is None else rng.integers(1, levels + 1, (2140, 3), np.uint8)
    index = KNNVoteClassifier(metric=metric).fit(x[:2050], np.zeros(2050))._index
    xq = np.vstack([x[2050:-1], 1000 * x[-1:].astype(float)]) if levels is None else x[2050:]
    alone = [search(index, query[None], 7) for query in xq[:9]]
    assert "tree" not in vars(index)  # for so few queries it is not worth building
    D, I = search(index, xq, 7)
    assert "tree" in vars(index)
    alone += [search(index, query[None], 7) for query in xq[9:]]
    assert D.tobytes() == np.vstack([found for found, _ in alone]).tobytes()
    assert I.tobytes() == np.vstack([found for _, found in alone]).tobytes()
    expected_D, expected_I = brute_force.neighbors(xq, x[:2050], 7, metric)
    assert np.array_equal(I, expected_I)
    assert np.allclose(D, expected_D, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_what_float32_leaves_in_doubt_is_settled_after_one_more_look(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x = np.repeat(rng.integers(0, 256, (20, 40)).astype(dtype), 60, axis=0)[rng.permutation(1200)]
    monkeypatch.setattr(scan, "_GROUP", 10**9)  # as of many vectors, which are not all compared in one product
    monkeypatch.setattr(scan, "_SCAN_BLOCK", 500)
    looks = []
    monkeypatch.setattr(scan, "_scan", lambda *given, look=scan._scan: looks.append(given) or look(*given))
    D, I = exact(x[:50], x, 30, METRICS["l2"])
    assert len(looks) == 1
    for found, expected in zip((np.sqrt(D), I), brute_force.neighbors(x[:50], x, 30, "l2"), strict=True):
        assert np.array_equal(found, expected)


def test_rows_that_a_factory_makes_up_are_refused_before_they_are_read(build, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (300, 8), np.uint8)
    index = build(x, kind="factory", factory="Flat")
    made_up = lambda _self, queries, m: (None, np.full((len(queries), m), 300))  # noqa: E731  # one line
    monkeypatch.setattr(type(index.faiss_index), "search", made_up)
    with pytest.raises(KnnvoteError, match="finds rows that it does not have: build it again with another factory"):
        search(index, x[:3], 2)
