"""Rungs: what a manifest records of them is what is read back."""

import json

import pytest

from knnvote.indexer.rungs import EXACT, Rung, Tuned

RUNGS = [EXACT, Rung(1, 2, None), Rung(8, 3, 0.75), Rung(64, 8, 0.0)]


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_is_read_back_from_json_as_it_was(rung):
    assert Rung.from_json(json.loads(json.dumps(rung.to_json()))) == rung


def test_exact_search_is_the_rung_that_settles_all_and_looks_at_everything():
    assert EXACT.nprobe is None
    assert EXACT.confidence == 0
    assert EXACT.candidates(5, 1000) == 1000


@pytest.mark.parametrize(("k", "n", "candidates"), [(5, 1000, 15), (1, 1000, 3), (5, 12, 12), (5, 15, 15)])
def test_a_rung_settles_so_many_candidates_for_each_neighbour_but_no_more_than_there_are(k, n, candidates):
    assert Rung(8, 3, 0.0).candidates(k, n) == candidates


def test_what_tuning_recorded_is_read_back_as_it_was():
    def entry(*rungs):
        rungs = [{**rung.to_json(), "settled": 0.5, "agreement": None} for rung in rungs]
        return {"rungs": rungs, "agreement": {"value": 1.0, "low": 0.9, "high": 1.0}, "reached": True}

    record = {"k": 7, "weights": "distance", "target_agreement": 0.99, "tolerance": 0.25, "queries": 12}
    record |= {"label": entry(*RUNGS), "confidence": entry(EXACT) | {"shown": {"value": 1.0, "low": 0.9, "high": 1.0}}}
    tuned = Tuned.from_json(json.loads(json.dumps(record)))
    assert (tuned.k, tuned.weights, tuned.tolerance) == (7, "distance", 0.25)
    assert tuned.label.ladder == tuple(RUNGS)
    assert tuned.confidence.ladder == (EXACT,)
    assert tuned.to_json() == record
