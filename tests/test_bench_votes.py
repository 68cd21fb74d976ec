"""Votes side by side, and what thresholds refuse: the figures that are no times."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from knnvote.classify.vote import Rule
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index


@pytest.fixture(autouse=True)
def _find_bench(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).resolve().parents[1])])  # no part of the wheel


def embeddings(n, classes=6, d=32, seed=0):
    """Vectors of length 1 and their classes, each about an axis of its own."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n, dtype=np.int32) % classes
    vectors = np.eye(d)[codes] + 0.1 * rng.normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), codes


@pytest.fixture
def stored(tmp_path):
    from bench.votes.rules import Stored

    x, codes = embeddings(150)
    index_arrays(x, codes, tmp_path / "x.knn", options=IndexOptions(metric="cosine"))
    return Stored(open_index(tmp_path / "x.knn"), x, codes)


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.long), 30])
def test_all_votes_of_one_rule_are_the_same(stored, k):
    from bench.votes.rules import contenders

    xq, _ = embeddings(60, seed=1)
    ours = {}
    made = [(contender, contender.make(stored, contender.rule)) for contender in contenders(k, 0.07)]
    for contender, vote in made:
        if contender.name.startswith("knnvote"):
            ours[contender.rule] = vote
    assert [contender.name for contender, _ in made] == [
        *("faissknn", "knnvote", "scikit-learn", "knnvote, ties nearest"),
        *("knnvote", "scikit-learn", "knnvote", "scikit-learn", "DINOv2"),
    ]
    for contender, vote in made:
        same = ours[contender.rule]
        np.testing.assert_allclose(vote.shares(xq), same.shares(xq), atol=1e-4, err_msg=contender.name)
        np.testing.assert_array_equal(vote.predict(xq), same.predict(xq), contender.name)


def test_rows_out_of_scope_that_lie_far_are_refused_by_distance(stored, tmp_path):
    from bench.problem import Problem
    from bench.votes.scope import LIMITS, Limits, draws

    xq, truth = embeddings(60, seed=1)
    problem = Problem(stored.x, stored.codes, xq.astype(np.float64), truth, (32,))
    rules = [Rule(k=5), Rule(k=10, weights="softmax[0.07]")]
    (first, second), (other, _) = draws(problem, rules, left_out=2, seeds=2, folder=tmp_path)
    assert first.by_distance == second.by_distance == other.by_distance == 1
    assert first.accuracy == 1
    assert first.refusals.keys() == {*LIMITS}
    nothing, far = (first.refusals[limits] for limits in (Limits(), Limits(false_alarms=0.05)))
    assert (nothing.refused, nothing.answered, nothing.right) == (0, 1, 1)
    assert nothing.right_of_all == pytest.approx(4 / 6)
    assert (far.refused, far.right_of_all) == (1, 1)
    assert 0.8 < far.answered < 1


def run(folder, train, test, *options):
    from bench.votes.__main__ import main

    for name, (vectors, labels) in {"train": train, "test": test}.items():
        pq.write_table(pa.table({"embedding": list(vectors), "label": labels}), folder / f"{name}.parquet")
    return CliRunner().invoke(main, [str(folder / "train.parquet"), str(folder / "test.parquet"), *options])


def test_each_vote_has_a_row_and_each_limit_one_for_each_rule(tmp_path):
    from bench.votes.scope import LIMITS

    few = ("--k", "5", "--turns", "1", "--left-out", "2", "--seeds", "1")
    done = run(tmp_path, embeddings(240), embeddings(60, seed=1), *few)
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[2:6] for line in lines if line[:2] == ["faissknn", "uniform"]] == [["1.0000", "1.0000", "1.0000", "0"]]
    assert sum(line[:1] == ["scikit-learn"] for line in lines) == 3
    for weights in ("uniform", "softmax[0.07]"):
        assert sum(line[:2] == ["5", weights] for line in lines) == 1 + len(LIMITS)


def test_vectors_of_other_lengths_and_rows_without_labels_are_refused(tmp_path):
    vectors, codes = embeddings(60)
    done = run(tmp_path, (3 * vectors, codes), (vectors, codes))
    assert (done.exit_code, "divide each by its length" in done.output) == (1, True)
    done = run(tmp_path, (vectors, codes), (vectors, [None] * 60))
    assert (done.exit_code, "without a label" in done.output) == (1, True)
    done = run(tmp_path, (vectors, codes), (vectors, codes), "--turns", "1", "--k", "1", "--left-out", "5")
    assert (done.exit_code, "leave out 4 at most" in done.output) == (1, True)
