"""Weightings: texts that stand for them and come back, weights that need no farther neighbour, and how one is added."""

from dataclasses import dataclass

import numpy as np
import pytest
from made_sets import build, clusters

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.choose_k import TRIED, choose_k
from knnvote.classify.vote import Rule, vote
from knnvote.classify.weighting import WEIGHTINGS, Weighting, is_weighting, read_weighting
from knnvote.data.errors import OptionError
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.names import WEIGHTS


@dataclass(frozen=True)
class Softmax(Weighting):
    """exp(-distance / temperature), relative to the nearest."""

    temperature: float
    name = "softmax"
    of_neighbors = "weighted by exp(-distance / temperature)"
    has_settings = True

    @classmethod
    def read(cls, settings):
        temperature = float(settings)
        if not temperature > 0:
            raise ValueError(settings)
        return cls(temperature)

    @property
    def text(self):
        return f"{self.name}[{self.temperature:g}]"

    def __call__(self, D):
        return np.exp((D[:, :1] - D) / self.temperature)


@pytest.fixture
def softmax(monkeypatch):
    monkeypatch.setitem(WEIGHTINGS, "softmax", Softmax)
    monkeypatch.setitem(WEIGHTS, "softmax", "exp(-distance / temperature)")


def distances(nq=50, k=9):
    D = np.sort(np.random.default_rng(0).integers(0, 5, (nq, k)) / 3, axis=1)
    assert (D[:, 0] == 0).any()
    assert (D[:, 0] > 0).any()
    return D


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_is_its_text_and_has_words(name):
    weighting = read_weighting(name)
    assert weighting == WEIGHTINGS[name]()
    assert weighting.text == weighting.name == name
    assert weighting.of_neighbors


@pytest.mark.parametrize(
    "text", ["", "Uniform", "uniform[", "uniform]", "uniform[]", "uniform[2]", "[uniform]", "x[2]"]
)
def test_a_text_that_stands_for_none_is_refused_with_all_names(text):
    assert not is_weighting(text)
    for made in (Rule, Tuning):
        with pytest.raises(OptionError) as told:
            made(weights=text)
        assert str(told.value) == f"weights is {text!r}: give one of uniform, distance"


@pytest.mark.parametrize("value", [None, 3, ["uniform"], {"uniform": 1}])
def test_what_is_no_text_stands_for_no_weighting(value):
    assert not is_weighting(value)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_positive_or_zero_and_never_all_zero(name):
    w = read_weighting(name)(distances())
    assert (w >= 0).all()
    assert (w.sum(axis=1) > 0).all()
    assert read_weighting(name)(distances()[:0]).shape == (0, 9)


@pytest.mark.parametrize("name", [name for name, weighting in WEIGHTINGS.items() if weighting.is_stepwise])
def test_stepwise_weights_of_the_first_neighbours_are_those_that_they_have_alone(name):
    D, weighting = distances(), read_weighting(name)
    for k in range(1, D.shape[1] + 1):
        assert np.array_equal(weighting(D[:, :k]), weighting(D)[:, :k])


@pytest.mark.usefixtures("softmax")
@pytest.mark.parametrize(
    "text", ["softmax", "softmax[]", "softmax[x]", "softmax[-1]", "softmax[0.07", "softmax[0.07]]"]
)
def test_a_weighting_with_a_setting_refuses_what_is_none(text):
    assert not is_weighting(text)


@pytest.mark.usefixtures("softmax")
def test_a_weighting_with_a_setting_votes_is_tuned_for_and_stored_by_its_text(tmp_path):
    data = clusters("uint8", n=1200, nq=40, d=20)
    index = build(tmp_path / "x.knn", data.x, data.y, tune=Tuning(weights="softmax[7]", target_agreement=0.9))
    assert index.tuned.weights == "softmax[7]"
    assert read_weighting("softmax[7]").text == "softmax[7]"
    answer = Classifier(index, Rule(weights="softmax[7]"))(data.xq)
    w = np.exp((answer.D[:, :1] - answer.D) / 7)
    shares = np.stack([(w * (data.y[answer.I] == code)).sum(axis=1) for code in range(10)], axis=1)
    assert np.allclose(answer.probabilities(), shares / w.sum(axis=1, keepdims=True))
    winner, confidence = vote(data.y[answer.I].astype(np.int32), answer.D, Rule(weights="softmax[7]"))
    assert np.allclose(confidence, (shares / w.sum(axis=1, keepdims=True)).max(axis=1))
    assert np.array_equal(shares[np.arange(40), winner], shares.max(axis=1))
    assert answer.prediction.to_pylist() == winner.tolist()


def test_every_k_is_tried_with_each_weighting_that_its_name_alone_tells(exact_index):
    assert TRIED == ("uniform", "distance")
    assert tuple(choose_k(open_index(exact_index), max_k=2).weights) == TRIED
