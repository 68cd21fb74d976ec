"""Indexes with codes: exact search is brute force, whatever the data and whichever variant of the kernel searches."""

from dataclasses import replace

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote import Tuning
from knnvote.classify.search.ladder import PROMISES
from knnvote.classify.search.search import find, search
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.vectors import convert_queries
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.codes import inverted_file, library, plain
from knnvote.indexer.codes.inverted_file import InvertedFile
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.metric import METRICS
from knnvote.indexer.rungs import EXACT
from knnvote.indexer.threads import limit_threads
from knnvote.indexer.trial.codes import _check_lists

TYPES = [np.uint8, np.uint16, np.float32, np.float64]


@pytest.fixture(autouse=True, params=["principal", "plain"])
def codes_for_any_vectors(monkeypatch, request):
    """Whatever they would cost."""
    first = request.param == "principal"
    choose = lambda _x, projections, *_: projections[0].first(4) if first else projections[-1]  # noqa: E731  # of a line
    monkeypatch.setattr(inverted_file, "choose_components", choose)


def structured(rng, n, d, dtype, *, offset=0.0, scale=1.0, groups=5):
    """Vectors around a few centres, with duplicates, so that bounds rule out much and distances tie."""
    centres = rng.integers(0, 200, (groups, d))
    x = centres[rng.integers(0, groups, n)] + rng.integers(0, 12, (n, d))
    x[rng.integers(0, n, n // 4)] = x[rng.integers(0, n, n // 4)]
    x[:, 0] = 7
    return (x * scale + offset).astype(dtype) if np.issubdtype(dtype, np.floating) else x.astype(dtype)


def build(path, x, metric="l2", **options):
    index_arrays(x, np.arange(len(x)), path, options=IndexOptions(metric=metric, threads=1, **options))
    index = open_index(path)
    assert index.inverted_file is not None
    return index


def invert(x):
    rows = np.arange(len(x))
    projection, pays = inverted_file.fit_codes(x, rows, METRICS["l2"], 0)
    assert pays
    return inverted_file.build_inverted_file(x, projection, rows, METRICS["l2"], 0)


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
@settings(max_examples=20, deadline=None)
def test_search_by_codes_is_brute_force(tmp_path_factory, seed, dtype, metric, offset, scale, k):
    rng = np.random.default_rng(seed)
    x = structured(rng, 300, 12, dtype, offset=offset, scale=scale)
    xq = np.concatenate([structured(rng, 20, 12, dtype, offset=offset, scale=scale), x[:5]])
    assert_is_brute_force(build(tmp_path_factory.mktemp("codes") / "x.knn", x, metric), x, xq, k)


# Each type with each size, and each metric with each of both.
OF_ALL = [
    (("l2", "cosine")[(i + j) % 2], dtype, *sizes)
    for i, dtype in enumerate(TYPES)
    for j, sizes in enumerate([(1, 1), (8, 8), (60, 59), (200, 200)])
]


@pytest.mark.parametrize(("metric", "dtype", "n", "k"), OF_ALL)
def test_search_by_codes_for_as_many_neighbours_as_there_are_is_brute_force(tmp_path, metric, dtype, n, k):
    rng = np.random.default_rng(8)
    x = structured(rng, n, 12, dtype, groups=3)
    index = build(tmp_path / "x.knn", x, metric)
    assert_is_brute_force(index, x, np.concatenate([x[:6], structured(rng, 10, 12, dtype)]), k)


@pytest.mark.parametrize(
    ("x_scale", "xq_scale", "outlier"),
    [
        (1, 1e30, 1),
        (1, 1e140, 1),
        (1e-150, 1e-150, 1),
        (1e-163, 1e-163, 1),
        (1e-200, 1e-20, 1),
        (1e140, 1e140, 1),
        (1, 1, 1e40),
        (1, 1, 1e140),
        (1e-160, 1e-160, 1e300),
    ],
)
@pytest.mark.parametrize(
    "at", [-1, pytest.param(5, marks=pytest.mark.long)]
)  # among those that axes are fitted to, and among the others
def test_queries_and_images_at_any_distance_are_brute_force_and_the_index_is_sound(
    tmp_path, x_scale, xq_scale, outlier, at
):
    x = np.random.default_rng(7).normal(size=(300, 12)) * x_scale
    x[at] *= outlier
    xq = np.concatenate([x[:40], x[:3] * (xq_scale / x_scale)])
    index = build(tmp_path / "x.knn", x)
    assert not list(verify_folder(index.path))
    assert_is_brute_force(index, x, xq, 5)


@pytest.mark.parametrize("codes_for_any_vectors", ["principal"], indirect=True)  # it chooses its own
def test_most_vectors_are_ruled_out(tmp_path, monkeypatch):
    monkeypatch.setattr(inverted_file, "choose_components", lambda _x, projections, *_: projections[0].first(32))
    x = structured(np.random.default_rng(0), 3000, 40, np.uint8, groups=100)
    index = build(tmp_path / "x.knn", x)
    settled, distances = [], plain.distances
    monkeypatch.setattr(plain, "distances", lambda xq, x, I, metric: settled.append(I) or distances(xq, x, I, metric))
    monkeypatch.setenv(library.ENVIRONMENT, library.NONE)
    assert_is_brute_force(index, x, x[:300], 5)
    assert sum((I >= 0).sum() for I in settled) < 0.03 * 300 * 3000


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.long), 2])
def test_search_by_codes_has_the_same_bits_in_every_batch_and_on_every_number_of_threads(tmp_path, threads):
    x = structured(np.random.default_rng(6), 900, 40, np.float32, offset=1e6, scale=1 / 7, groups=30)
    index = build(tmp_path / "x.knn", x)
    xq, _ = convert_queries(x[:330], index.vectors.dtype)
    expected_D, expected_I = brute_force.neighbors(x[:330], x, 5, "l2")
    for batch in (1, 7, 163, 5000):
        with limit_threads(threads):
            parts = [search(index, xq[start : start + batch], 5) for start in range(0, len(xq), batch)]
        assert np.array_equal(np.concatenate([D for D, _ in parts]), expected_D), batch
        assert np.array_equal(np.concatenate([I for _, I in parts]), expected_I), batch


def test_arrays_of_an_inverted_file_give_it_back_and_others_are_refused():
    x = structured(np.random.default_rng(0), 100, 12, np.uint8)
    built = invert(x)
    arrays, grid = built.to_arrays(), built.projection.grid
    again = InvertedFile.from_arrays(arrays, grid, 100, 12)
    codes = again.projection.encode(x).codes
    assert np.array_equal(again.table.codes, codes[again.table.field("row")])
    assert np.array_equal(again.probe(codes, 3, 2), built.probe(codes, 3, 2))
    wrong = [("axes", arrays["axes"][:, 1:]), ("codes", arrays["codes"][1:]), ("ends", arrays["ends"][16:])]
    for role, array in [*wrong, ("ends", arrays["ends"].astype(np.int32)), ("axes", arrays["axes"].astype(np.float32))]:
        with pytest.raises(ValueError, match="do not fit"):
            InvertedFile.from_arrays({**arrays, role: array}, grid, 100, 12)


@pytest.mark.parametrize("length", [0, 1e3, 1e200, np.nan])
def test_axes_that_no_vectors_have_are_refused_before_a_search(length):
    x = structured(np.random.default_rng(0), 100, 12, np.float64)
    built = invert(x)
    _check_lists(built)
    arrays = built.to_arrays()
    arrays["axes"][1:] *= length / np.abs(arrays["axes"][1:]).max()
    with pytest.raises(KnnvoteError, match="its axes are"):
        _check_lists(InvertedFile.from_arrays(arrays, built.projection.grid, 100, 12))


def test_codes_that_rule_out_what_was_found_are_refused_as_damaged(tmp_path):
    x = structured(np.random.default_rng(0), 100, 12, np.float64)
    index = build(tmp_path / "x.knn", x)
    arrays = {name: array.copy() for name, array in index.ivf.to_arrays().items()}
    arrays["codes"]["rest"] = 1e4
    arrays["codes"]["norm"] = 10**8
    other = InvertedFile.from_arrays(arrays, index.ivf.projection.grid, 100, 12)
    with pytest.raises(KnnvoteError, match=r"x\.knn is damaged: .* build it again"):
        search(replace(index, inverted_file=other), x[:5] + 0.5, 3)


@pytest.mark.parametrize("role", ["axes", "codes", "lists", "ends"])
def test_one_flipped_byte_of_the_codes_is_found(tmp_path, role):
    index = build(tmp_path / "x.knn", structured(np.random.default_rng(4), 100, 12, np.uint8))
    path = index.path / index.manifest.files[role].name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert [problem for problem in verify_folder(index.path) if f"{path.name} was changed" in problem]


@pytest.mark.parametrize("codes_for_any_vectors", ["principal"], indirect=True)  # it chooses its own
@pytest.mark.parametrize(
    ("kind", "dtype"), [("exact", np.float64), pytest.param("adaptive", np.uint8, marks=pytest.mark.long)]
)
def test_every_variant_builds_the_same_bytes_and_gives_the_same_answers(tmp_path, monkeypatch, kind, dtype):
    monkeypatch.setattr(inverted_file, "choose_components", lambda _x, projections, *_: projections[0].first(64))
    rng = np.random.default_rng(5)
    x = structured(rng, 3000, 300, dtype, groups=40)
    labels = (x[:, 3] > 90) + 2 * (x[:, 4] > 90)
    xq, _ = convert_queries(np.concatenate([structured(rng, 70, 300, dtype), x[:9]]), x.dtype)
    options, tune = IndexOptions(kind=kind, threads=1), Tuning(k=3, target_agreement=0.9)
    found = {}
    for variant in (*library._usable(), library.NONE):
        monkeypatch.setenv(library.ENVIRONMENT, variant)
        assert library.kernel_name() == variant
        index_arrays(x, labels, tmp_path / variant, options=options, tune=tune if kind == "adaptive" else None)
        index = open_index(tmp_path / variant)
        assert index.inverted_file is not None
        assert kind == "exact" or index.tuned.label.ladder != (EXACT,)
        answers = [find(index, xq, Rule(k=3), promise) for promise in PROMISES]
        found[variant] = index.fingerprint, *(None if a is None else a.tobytes() for answer in answers for a in answer)
    assert len(set(found.values())) == 1, [variant for variant in found if found[variant] != found[library.NONE]]
