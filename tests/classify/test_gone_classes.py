"""Weights and thresholds of classes whose last image goes: the index forgets them, tells it, and stays usable."""

import json
from pathlib import Path

import numpy as np
import pytest
from repeats import every_other, spread

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import add_files, relabel_ids, remove_ids
from knnvote.indexer.sealed import seal

RNG = np.random.default_rng(4)
LABELS = np.repeat([0, 3, 7], [300, 60, 240])
CENTRES = np.array([[0, 0], [6, 0], [0, 6]])[np.searchsorted([0, 3, 7], LABELS)]
X = (CENTRES + RNG.normal(size=(600, 2))).astype(np.float32)
XQ = (CENTRES[::10] + RNG.normal(size=(60, 2))).astype(np.float32)
KINDS = ["exact", "adaptive", "hnsw"]
OWN = {"class_weight": {3: 20, 7: 2}}
BY_CLASS = {"target_accuracy": 0.8, "by_class": True}


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_table(image_table(XQ.reshape(-1, 1, 2), LABELS[::10]), Path("new.parquet"))
    write_table(image_table(XQ[30:31].reshape(-1, 1, 2), np.array([3])), Path("more.parquet"))


def _made(kind, **tuning):
    index_arrays(X, LABELS, Path("x.knn"), options=IndexOptions(kind=kind), tune=Tuning(**tuning))
    index = open_index("x.knn")
    return index, [index.ids[int(row)].as_py() for row in np.flatnonzero(LABELS == 3)]


def _remove(ids, tell):
    assert remove_ids("x.knn", ids, tuning=Tuning, tell=tell) == 60


def _relabel(ids, tell):
    assert relabel_ids("x.knn", ids, [7] * 60, tuning=Tuning, tell=tell) == 60


def _all_commands_work(invoke):
    """Every command takes the index as it is, when it grew again, when it was built afresh, and with another label."""
    for number, change in enumerate(([], ["add", "more.parquet"], ["compact"])):
        if change:
            done = invoke(change[0], "x.knn", *change[1:])
            assert done.code == 0, done.stderr
        for command in (
            ["classify", "x.knn", "new.parquet", "--out", f"out{number}"],
            ["choose-k", "x.knn", "--max-k", 3],
            ["choose-threshold", "x.knn"],
        ):
            done = invoke(*command)
            assert done.code == 0, done.stderr
    seven = open_index("x.knn").ids[599 - 60].as_py()  # one of the images of 7
    assert relabel_ids("x.knn", seven, 0, tuning=Tuning, tell=lambda _note: None) in {0, 1}
    assert invoke("classify", "x.knn", "new.parquet", "--out", "last").code == 0


@spread(("change", [_remove, _relabel]), ("kind", KINDS))
def test_weights_of_a_class_without_images_are_forgotten(kind, change, invoke):
    index, ids = _made(kind, **OWN)
    assert index.vote.class_weight == ((3, 20.0), (7, 2.0))
    told = []
    change(ids, told.append)
    assert told[-1] == "x.knn has no image now of 3: their class weights are forgotten"
    after = open_index("x.knn")
    assert after.vote.class_weight == Rule.of(after).class_weight == ((7, 2.0),)
    stored = after.manifest.search.tuned if kind == "adaptive" else after.manifest.vote
    assert stored.class_weight == ((7, 2.0),)
    expected = Classifier(after, Rule(class_weight={7: 2}))(XQ)
    assert Classifier(after)(XQ).best.equals(expected.best)
    _all_commands_work(invoke)
    assert open_index("x.knn").vote.class_weight == ((7, 2.0),)  # and are not known again when images of 3 are added


@pytest.mark.parametrize("kind", every_other(KINDS))
def test_without_any_class_that_was_weighted_none_is(kind, invoke):
    _, ids = _made(kind, class_weight={3: 20})
    done = invoke("remove", "x.knn", *ids)
    assert (done.code, "x.knn has no image now of 3: their class weights are forgotten" in done.stderr) == (0, True)
    assert open_index("x.knn").vote.class_weight is Rule.of(open_index("x.knn")).class_weight is None
    _all_commands_work(invoke)


@spread(("change", [_relabel, _remove]), ("kind", KINDS))
def test_thresholds_of_a_class_without_images_are_forgotten(kind, change, invoke):
    index, ids = _made(kind, **BY_CLASS)
    before = index.vote.acceptance
    assert dict(before.min_confidence_by_class).keys() == {0, 3, 7}
    told = []
    change(ids, told.append)
    assert told[-1] == "x.knn has no image now of 3: their thresholds by class are forgotten"
    after = open_index("x.knn").manifest.vote.acceptance
    assert [one.label for one in after.by_class] == [0, 7]
    if (kind, change) == ("adaptive", _remove):  # too few went for all to be chosen anew
        assert after.min_confidence_by_class == tuple(pair for pair in before.min_confidence_by_class if pair[0] != 3)
    if change is _remove:
        _all_commands_work(invoke)


def test_nothing_is_told_where_nothing_is_forgotten():
    for tuning in ({}, {"class_weight": "balanced"}, {"class_weight": {7: 2}}):
        _, ids = _made("adaptive", **tuning)
        told = []
        _remove(ids, told.append)
        assert told == []
        assert open_index("x.knn").vote.class_weight == Tuning(**tuning).class_weight
        Path("x.knn").rename(f"{len(tuning)}{tuning.get('class_weight')}.knn")


@pytest.mark.parametrize(("kind", "tuning"), [("exact", OWN), ("adaptive", OWN | BY_CLASS), ("hnsw", BY_CLASS)])
def test_an_index_that_an_earlier_version_left_with_them_can_be_used(kind, tuning, invoke):
    _, ids = _made(kind, **tuning)
    stale = json.loads(Path("x.knn/manifest.json").read_text())
    _remove(ids, lambda _note: None)
    record = json.loads(Path("x.knn/manifest.json").read_text())
    record |= {"vote": stale["vote"]} if "vote" in stale else {}
    if kind == "adaptive":
        record["search"]["tuned"] = stale["search"]["tuned"]
    Path("x.knn/manifest.json").write_bytes(seal(record))
    opened = open_index("x.knn")
    assert opened.vote.class_weight == (((7, 2.0),) if "class_weight" in tuning else None)
    assert Rule.of(opened).of_index(opened) == Rule.of(opened)
    _all_commands_work(invoke)


def test_when_it_grows_again_the_class_counts_as_any_other():
    _, ids = _made("exact", **OWN)
    _remove(ids, lambda _note: None)
    add_files("x.knn", "more.parquet", tuning=Tuning, tell=lambda _note: None)
    index = open_index("x.knn")
    assert index.manifest.classes == (0, 3, 7)
    assert (index.class_weights(Rule.of(index).class_weight) * 4).tolist() == [1, 1, 2]
