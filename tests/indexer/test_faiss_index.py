"""FAISS indexes: what each kind builds, holds and gives back from its file."""

import gc

import faiss
import numpy as np
import pytest
from made_sets import FAISS_METRICS

from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.sample import digits
from knnvote.indexer.codes.inverted_file import InvertedFile
from knnvote.indexer.faiss_index import build_faiss, held_vectors, read_faiss, write_faiss
from knnvote.indexer.metric import METRICS
from knnvote.indexer.threads import limit_threads

RNG = np.random.default_rng(5)
UINT8 = digits()[0].reshape(-1, 64)[:300]
VECTORS = {
    "uint8": UINT8,
    "uint16": UINT8.astype(np.uint16) * 4000,
    "uint32": UINT8.astype(np.uint32) * 200_000_000,
    "float32": RNG.normal(size=(300, 12)).astype(np.float32),
    "float64": RNG.normal(size=(300, 12)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def build(x, kind="exact", metric="l2", factory=None, seed=0):
    return build_faiss(x, kind=kind, metric=metric, factory=factory, seed=seed)


@pytest.mark.parametrize("dtype", VECTORS)
def test_vectors_that_are_scanned_are_held_where_faiss_holds_them_without_loss(dtype):
    x = VECTORS[dtype]
    held = held_vectors(build(x, metric="l1").index, x.dtype)
    if dtype in ("uint8", "float32"):
        assert held.dtype == x.dtype
        assert np.array_equal(held, x)
    else:
        assert held is None


@pytest.mark.parametrize("kind", ["exact", "adaptive"])
def test_vectors_that_have_codes_need_no_faiss_index(kind):
    built = build(UINT8, kind)
    assert (built.index, built.factory, built.inverted_file.table.n) == (None, "", 300)


def test_an_exact_index_of_a_type_that_faiss_lacks_is_none():
    assert build(VECTORS["float64"], metric="l1").index is None
    assert build(VECTORS["float64"], metric="l1").factory == ""
    assert held_vectors(None, np.dtype(np.float64)) is None


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
def test_every_byte_comes_back_as_it_was(value):
    x = np.full((3, 8), value, np.uint8)
    x[1] = np.arange(8) + 248
    for kind, metric in (("exact", "l1"), ("hnsw", "l2")):
        assert np.array_equal(held_vectors(build(x, kind, metric).index, x.dtype), x)


def test_hnsw_over_bytes_holds_them_and_over_floats_holds_them_centred():
    assert np.array_equal(held_vectors(build(UINT8, "hnsw").index, UINT8.dtype), UINT8)
    centred = build(VECTORS["float32"], "hnsw")
    assert centred.search.is_centred is True
    assert held_vectors(centred.index, np.dtype(np.float32)) is None


def test_held_vectors_outlive_every_other_reference_to_their_index():
    x = RNG.integers(0, 256, (3000, 64)).astype(np.uint8)
    held = held_vectors(build(x, metric="l1").index, x.dtype)
    gc.collect()
    np.zeros_like(x)  # would take the place of what was freed
    assert np.array_equal(held, x)


def test_vectors_of_another_type_are_not_taken_for_those_held():
    assert held_vectors(build(VECTORS["float32"], metric="l1").index, np.dtype(np.float64)) is None
    assert held_vectors(build(UINT8, metric="l1").index, np.dtype(np.float32)) is None


@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
@pytest.mark.parametrize("metric", FAISS_METRICS)
@pytest.mark.parametrize("dtype", VECTORS)
def test_an_index_comes_back_from_its_file_as_it_was(tmp_path, kind, metric, dtype):
    x = VECTORS[dtype]
    built = build(x, kind, metric)
    if built.index is None:
        assert built.inverted_file is not None or dtype not in ("uint8", "float32")
        return
    write_faiss(built.index, tmp_path / "a")
    opened = read_faiss(tmp_path / "a")
    assert (opened.ntotal, opened.d) == x.shape
    assert opened.metric_type == (faiss.METRIC_L1 if metric == "l1" and kind == "hnsw" else faiss.METRIC_L2)
    queries = METRICS[metric].space(x[:20]).astype(np.float32)
    for before, after in zip(built.index.search(queries, 5), opened.search(queries, 5), strict=True):
        assert np.array_equal(before, after)
    write_faiss(opened, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("metric", FAISS_METRICS)
@pytest.mark.parametrize("dtype", VECTORS)
def test_the_projection_of_an_opened_adaptive_index_is_the_one_its_vectors_went_through(tmp_path, metric, dtype):
    x = VECTORS[dtype]
    built = build(x, "adaptive", metric)
    np.savez(tmp_path / "arrays.npz", **built.inverted_file.to_arrays())
    with np.load(tmp_path / "arrays.npz") as arrays:
        opened = InvertedFile.from_arrays(dict(arrays), built.search.grid, *x.shape)
    coded = opened.projection.encode(METRICS[metric].projectable(x))
    rows = opened.table.field("row")
    assert sorted(rows) == list(range(len(x)))
    assert np.array_equal(opened.table.codes, coded.codes[rows])
    assert np.array_equal(opened.table.field("rest"), coded.rest[rows].astype(np.float32))
    assert (opened.table.field("rounding") > coded.rounding[rows]).all()
    assert opened.ends[-1] == len(x)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
def test_a_handful_of_images_is_enough(n, kind, capfd):
    built = build(UINT8[:n], kind)
    if kind == "adaptive":
        assert built.inverted_file.table.n == n
    else:
        assert built.index.ntotal == n
        assert np.array_equal(held_vectors(built.index, UINT8.dtype), UINT8[:n])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
@pytest.mark.parametrize("x", [np.zeros((50, 9), np.uint8), np.full((50, 3), 7.25), np.ones((50, 1), np.float32)])
def test_images_that_are_all_the_same_can_be_indexed(kind, x):
    built = build(x, kind)
    assert built.index is None or built.index.ntotal == len(x)


def test_another_seed_gives_another_adaptive_index():
    lists = [build(UINT8, "adaptive", seed=seed).inverted_file.centroids.tiles for seed in (0, 0, 1)]
    assert lists[0].tobytes() == lists[1].tobytes() != lists[2].tobytes()


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "PCA8,Flat", "HNSW8"])
@pytest.mark.parametrize("metric", FAISS_METRICS)
def test_a_factory_string_gives_that_index(factory, metric):
    x = VECTORS["float32"]
    built = build(x, "factory", metric, factory)
    assert built.factory == factory
    assert (built.index.ntotal, built.index.d) == x.shape


@pytest.mark.parametrize("factory", ["nonsense", "PCA999,Flat", "IVF100000,Flat", "IDMap,Flat"])
def test_a_factory_string_that_cannot_be_built_is_refused_with_the_string_and_another_way(factory):
    with pytest.raises(
        OptionError, match=rf"^FAISS cannot build factory '{factory}' over 300 vectors of 64 dimensions with metric l2"
    ):
        build(UINT8, "factory", factory=factory)


def test_threads_are_given_back_after_a_factory_string_fails():
    before = faiss.omp_get_max_threads()
    with pytest.raises(OptionError):
        build(UINT8, "factory", factory="nonsense")
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize("content", [b"", b"IxF", b"no index at all" * 100])
def test_a_file_that_is_no_index_is_refused_by_name(tmp_path, content):
    (tmp_path / "index").write_bytes(content)
    with pytest.raises(KnnvoteError, match=r"FAISS cannot read .*index: ."):
        read_faiss(tmp_path / "index")


def test_an_index_that_cannot_be_written_is_told_by_path(tmp_path):
    with pytest.raises(KnnvoteError, match=r"cannot write .*gone/index: "):
        write_faiss(build(UINT8, metric="l1").index, tmp_path / "gone" / "index")


@pytest.mark.parametrize(("factory", "metric"), [("SQ8", "l1"), ("IVF0,Flat", "l2")])
def test_an_index_that_faiss_builds_but_cannot_search_is_refused(factory, metric):
    x = np.random.default_rng(0).integers(0, 256, (300, 12)).astype(np.uint8)
    with pytest.raises(OptionError, match=f"FAISS cannot build factory {factory!r} over 300 vectors"):
        build_faiss(x, kind="factory", metric=metric, factory=factory, seed=0)


def test_an_hnsw_index_that_loses_what_it_stores_says_so():
    rng = np.random.default_rng(0)
    x = np.vstack([np.zeros((2000, 16), np.uint8), rng.integers(0, 256, (500, 16), np.uint8)])
    with pytest.warns(
        UserWarning, match=r"HNSW32,SQ8_direct finds only \d+% of 1\d\d unlike .* kind adaptive or exact"
    ):
        build(x, "hnsw")
    for kind in ("adaptive", "exact"):  # as it says; a warning would be an error
        build(x, kind)
    build(x[1999:], "hnsw")
