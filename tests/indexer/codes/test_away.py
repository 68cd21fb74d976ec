"""Stored vectors that lie on a disk and not in memory: the same answers, and many read at once."""

import mmap
import os
import resource
import sys

import numpy as np
import pytest
from repeats import spread

from knnvote.indexer.codes import library, steps
from knnvote.indexer.codes.projection import fit_projection
from knnvote.indexer.codes.table import pack, records
from knnvote.indexer.metric import METRICS

VARIANTS = list(library._usable())
N, D, K = 2048, 1024, 5  # of float32: a page each

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a thread's faults")


def faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("away") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(N, D)).astype(np.float32))
    return path


@pytest.fixture
def away(file):
    """Opens the vectors mapped, none of them in memory."""

    def open_dropped():
        for _ in range(10):  # what was only just written or read may stay
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            x, before = np.load(file, mmap_mode="r"), faults()
            x.base.madvise(mmap.MADV_RANDOM)  # nothing beside what is asked for is read
            x[:: N // 8, 0].sum()
            if faults() - before >= 4:
                return x
            del x
        return pytest.skip("here files stay in memory")

    return open_dropped


@pytest.fixture
def queries(file):
    return np.load(file)[:: N // 8] + np.float32(0.5)


@spread(("variant", VARIANTS), ("metric", sorted(METRICS)))
def test_distances_of_vectors_away_are_those_of_vectors_in_memory(variant, metric, file, away, queries, monkeypatch):
    monkeypatch.setenv(library.ENVIRONMENT, variant)
    I = np.random.default_rng(1).integers(-1, N, (len(queries), 700))
    expected = steps.distances(queries, np.load(file), I, METRICS[metric])
    assert steps.distances(queries, away(), I, METRICS[metric]).tobytes() == expected.tobytes()


@spread(("variant", VARIANTS), ("nq, found", [(1, 0), (8, 100)]))
def test_a_scan_of_vectors_away_finds_what_it_finds_in_memory(variant, nq, found, file, away, queries, monkeypatch):
    monkeypatch.setenv(library.ENVIRONMENT, variant)
    x, metric = np.load(file), METRICS["l2"]
    projection = fit_projection(metric.space(x[:512]), 16, largest=None)
    table, coded = pack(records(projection.encode(x)), np.arange(N)), projection.encode(queries[:nq])
    first = np.random.default_rng(1).permutation(N)[: found * nq].reshape(nq, found)
    for stored in (x, away()):
        D, I = steps.scan(table, coded, first, queries[:nq], stored, k=K, metric=metric, unit=projection.unit)
        if stored is x:
            expected = D.tobytes(), I.tobytes()
    assert (D.tobytes(), I.tobytes()) == expected
    assert np.array_equal(I[:, 0], np.arange(0, N, N // 8)[:nq])


@pytest.mark.skipif(not VARIANTS, reason="there is no compiled kernel here")
def test_vectors_away_are_not_waited_for_one_by_one(away, queries):
    x, I = away(), np.random.default_rng(1).permutation(N).reshape(len(queries), -1)
    before = faults()
    steps.distances(queries, x, I, METRICS["l2"])
    assert faults() - before < N // 8
