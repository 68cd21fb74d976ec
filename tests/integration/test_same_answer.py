"""The same index, images and options give the same answer to the last bit, whatever the batch size or thread count.

FAISS alone does not: it takes one way for few queries and another (BLAS) for many, and these round differently.
"""

from dataclasses import dataclass
from functools import cache

import brute_force
import numpy as np
import pytest
from made_sets import candidates
from repeats import repeats
from weightings import WEIGHTS

from knnvote.classify.classifier import Classifier
from knnvote.classify.search.candidates import encode
from knnvote.classify.search.search import search
from knnvote.classify.vote import Rule
from knnvote.data.sample import digits, split_digits
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.threads import limit_threads

K = 5
JUDGED = 250  # queries of each data that are set beside brute force
BATCH_SIZES = {1: {1: 12, 7: 35, 163: 330, 164: 330, 5000: 5000}, 2: {1: 4, 7: 21, 163: 330}}
"""Of each number of threads, and how many of the queries are asked in each; all at once are with two threads."""
KINDS = {
    "exact": {"kind": "exact"},
    "adaptive": {"kind": "adaptive"},
    "hnsw": {"kind": "hnsw"},
    "IVF16,Flat": {"kind": "factory", "factory": "IVF16,Flat"},
    "PCA8,Flat": {"kind": "factory", "factory": "PCA8,Flat"},
}


@dataclass(frozen=True)
class Data:
    """x (n, d) with labels (n,), and queries xq (nq, d)."""

    x: np.ndarray
    labels: np.ndarray
    xq: np.ndarray


def _digits():
    """Pixels from 0 to 16, which tie often; 5,000 queries: the test digits, all digits, and some with noise."""
    rng = np.random.default_rng(0)
    split = split_digits()
    everything = digits()[0].reshape(-1, 64)
    noisy = everything[rng.integers(0, len(everything), 2753)] ^ (rng.random((2753, 64)) < 0.1).astype(np.uint8)
    xq = np.vstack([split.test_images.reshape(-1, 64), everything, noisy])
    return Data(split.train_images.reshape(-1, 64), split.train_labels, xq)


def _pictures():
    """28 x 28 bytes, random and structured, with squared distances beyond 2^24."""
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.choice(np.array([0, 255], np.uint8), (350, 7, 7)), np.ones((4, 4), np.uint8))
    x = np.vstack([blocks.reshape(350, 784), rng.integers(0, 256, (350, 784), np.uint8)])
    x[600:] = x[:100]
    xq = np.vstack([255 - x[:120], x[300:400] ^ 1, rng.integers(0, 256, (110, 784), np.uint8)])
    return Data(x, np.arange(700) % 4, xq)


def _offset(dtype):
    """Floats around 1e6, of which float32 alone tells little."""
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(900, 48)) + 1e6).astype(dtype)
    x[800:] = x[:100]
    xq = np.vstack([x[:100].astype(np.float64), rng.normal(size=(210, 48)) + 1e6, rng.normal(size=(20, 48))])
    return Data(x, np.arange(900) % 7, xq)


def _uint16():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2**16, (800, 30), np.uint16)
    x[700:] = x[:100]
    return Data(x, np.arange(800) % 5, np.vstack([x[:60], rng.integers(0, 2**16, (270, 30), np.uint16)]))


DATA = {
    "digits": _digits,
    "pictures": _pictures,
    "uint16": _uint16,
    "float32 at 1e6": lambda: _offset(np.float32),
    "float64 at 1e6": lambda: _offset(np.float64),
}


@pytest.fixture(scope="module")
def data():
    return {name: make() for name, make in DATA.items()}


@pytest.fixture(scope="module")
def true_distances(data):
    """Brute force's distances (JUDGED, n) of the first queries of some data, computed once for each metric."""
    return cache(lambda name, metric: brute_force.distances(data[name].xq[:JUDGED], data[name].x, metric))


@pytest.fixture(scope="module")
def open_as(data, tmp_path_factory):
    """An index of some data, each kind and metric built once."""
    folder, opened = tmp_path_factory.mktemp("indexes"), {}

    def open_or_build(name, kind, metric="l2"):
        path = folder / f"{name} {kind} {metric}.knn"
        if path not in opened:
            options = IndexOptions(**KINDS[kind], metric=metric)
            index_arrays(data[name].x, data[name].labels, path, options=options)
            opened[path] = open_index(path)
        return opened[path]

    return open_or_build


def in_batches(compute, queries):
    """What compute(xq) gives of each batch size and thread count, beside the expected: (found, rows, how)."""
    for threads, sizes in BATCH_SIZES.items():
        with limit_threads(threads):
            for size, asked in sizes.items():
                xq = queries[:asked]
                for start in range(0, len(xq), size):
                    rows = slice(start, min(start + size, len(xq)))
                    yield compute(xq[rows]), rows, f"{threads} threads, batches of {size}, from {start}"


COMBINATIONS = [
    *((name, kind, "l2") for name in DATA for kind in KINDS),
    *((name, "exact", metric) for name in DATA for metric in ("cosine", "l1")),
    *(("digits", kind, metric) for kind in ("adaptive", "hnsw") for metric in ("cosine", "l1")),
    *(("float64 at 1e6", "adaptive", metric) for metric in ("cosine", "l1")),
]


def shows_its_own(case):
    """Whether it is one of two of its kind and metric, each with other data; of kinds that FAISS searches, of one."""
    name, kind, metric = case
    others = [other for other, *rest in COMBINATIONS if rest == [kind, metric]]
    place = list(KINDS).index(kind) + ("l2", "cosine", "l1").index(metric)
    return (others.index(name) - place) % len(others) < (2 if kind in {"exact", "adaptive"} else 1)


@pytest.mark.parametrize(("name", "kind", "metric"), repeats(COMBINATIONS, shows_its_own))
def test_labels_neighbours_and_distances_are_the_same_in_every_batch(data, open_as, name, kind, metric):
    classifiers = [Classifier(open_as(name, kind, metric), Rule(k=K, weights=weights)) for weights in WEIGHTS]
    queries = data[name].xq[: None if metric == "l2" else 1000]  # that many are cut alike for every metric
    with limit_threads(2):
        whole = [classifier.answer(queries, {}) for classifier in classifiers]

    def answers(xq):
        first = classifiers[0].answer(xq, {})
        return first, *(classifier.answer_neighbors(first.D, first.I) for classifier in classifiers[1:])

    for found, rows, how in in_batches(answers, queries):
        for part, expected in zip(found, whole, strict=True):
            assert np.array_equal(part.I, expected.I[rows]), how
            assert np.array_equal(part.D, expected.D[rows]), how
            assert part.prediction.equals(expected.prediction[rows]), how
            assert np.array_equal(part.confidence, expected.confidence[rows]), how


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", DATA)
def test_exact_search_is_brute_force(data, open_as, true_distances, name, metric):
    D, I = search(open_as(name, "exact", metric), data[name].xq[:JUDGED], K)
    expected_D, expected_I = brute_force.nearest(true_distances(name, metric), K, metric)
    assert np.array_equal(I, expected_I)
    assert np.array_equal(D, expected_D)


@pytest.mark.parametrize(("name", "kind", "metric"), [case for case in COMBINATIONS if case[1] != "exact"])
def test_distances_of_approximate_search_are_those_of_brute_force_and_ties_are_in_order(
    data, open_as, true_distances, name, kind, metric
):
    D, I = search(open_as(name, kind, metric), data[name].xq[:JUDGED], K)
    expected = np.take_along_axis(true_distances(name, metric), I, axis=1)
    assert np.array_equal(D, np.sqrt(expected) if metric == "l2" else expected)
    assert (np.diff(D) >= 0).all()
    assert (np.diff(I)[np.diff(D) == 0] > 0).all()


@pytest.mark.parametrize(("name", "kind", "metric"), [case for case in COMBINATIONS if case[1] != "exact"])
def test_what_an_approximate_index_proposes_is_the_same_in_every_batch(data, open_as, name, kind, metric):
    """Labels can agree by luck while candidates differ."""
    index = open_as(name, kind, metric)
    with limit_threads(2):
        whole = candidates(index, data[name].xq, K)
    for found, rows, how in in_batches(lambda xq: candidates(index, xq, K), data[name].xq):
        assert np.array_equal(found, whole[rows]), how


ADAPTIVE = [(name, metric) for name, kind, metric in COMBINATIONS if kind == "adaptive"]


@pytest.mark.parametrize(("name", "metric"), ADAPTIVE)
def test_what_goes_into_adaptive_search_is_the_same_in_every_batch(data, open_as, name, metric):
    index = open_as(name, "adaptive", metric)
    with limit_threads(2):
        whole = encode(index, data[name].xq)
    for found, rows, how in in_batches(lambda xq: encode(index, xq), data[name].xq):
        for part, expected in zip(found, whole, strict=True):
            assert np.array_equal(part, expected[rows]), how


@pytest.mark.parametrize(("name", "metric"), ADAPTIVE)
def test_the_place_of_an_image_in_its_batch_changes_neither_its_codes_nor_its_candidates(data, open_as, name, metric):
    index = open_as(name, "adaptive", metric)
    xq = data[name].xq[:330]
    codes, proposed = encode(index, xq).codes, candidates(index, xq, K)
    rng = np.random.default_rng(4)
    for order in (np.roll(np.arange(len(xq)), 1), np.arange(len(xq))[::-1], *(rng.permutation(len(xq))[:300],) * 3):
        assert np.array_equal(encode(index, xq[order]).codes, codes[order])
        assert np.array_equal(candidates(index, xq[order], K), proposed[order])
    same = np.repeat(xq[:3], 170, axis=0)  # one image at every place
    assert np.array_equal(encode(index, same).codes, np.repeat(codes[:3], 170, axis=0))
    assert np.array_equal(candidates(index, same, K), np.repeat(proposed[:3], 170, axis=0))


def test_adaptive_search_finds_99_of_100_true_neighbours_of_the_digits(data, open_as):
    xq = data["digits"].xq[:450]
    _, found = search(open_as("digits", "adaptive"), xq, K)
    _, true = brute_force.neighbors(xq, data["digits"].x, K, "l2")
    recall = (found[:, :, None] == true[:, None, :]).any(axis=1).mean()
    assert recall >= 0.99


def test_the_pictures_are_as_hard_as_they_are_meant_to_be(data):
    """They reach squared distances that float32 rounds, and both digits and pictures have ties at the last place."""
    for name, hard in (("pictures", True), ("digits", False)):
        D, _ = brute_force.neighbors(data[name].xq[:250], data[name].x, K + 1, "l2")
        squared = brute_force.distances(data[name].xq[:20], data[name].x, "l2")
        assert (squared.max() > 2**24) == hard
        assert (D[:, K - 1] == D[:, K]).any()
