"""Class weights of the estimator: those of a rule, given as scikit-learn's classifiers take them, fitted and saved."""

import json

import numpy as np
import pytest
from repeats import spread
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import remove_ids
from knnvote.indexer.sealed import seal

RNG = np.random.default_rng(6)
CODES = np.repeat([0, 1, 2], [200, 40, 10])
X = (RNG.normal(size=(250, 3)) + np.array([0, 1.2, 2.0])[CODES, None]).astype(np.float32)
XQ = (RNG.normal(size=(80, 3)) + 1).astype(np.float32)
GIVEN = [None, "balanced", {1: 3, 2: 20}, {0: 0.25}]


def _plain(given):
    """(nq, 3) shares of the weighed vote of 5, counted plainly, of neighbours as scikit-learn finds them."""
    of_class = np.ones(3)
    if given == "balanced":
        of_class = 250 / (3 * np.bincount(CODES))
    elif given:
        of_class[list(given)] = list(given.values())
    I = KNeighborsClassifier(5, algorithm="brute").fit(X, CODES).kneighbors(XQ, return_distance=False)
    votes = np.array([[of_class[c] * (row == c).sum() for c in range(3)] for row in CODES[I]])
    return votes / votes.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("given", GIVEN)
@spread(
    ("kind", ["exact", "adaptive"]),
    ("classes", [[3, 5, 7], ["cat", "dog", "hen"], [4.0, 5.0, 6.0], [-1, 2**40, 2**41]]),
)
def test_votes_are_multiplied_by_class_of_whatever_type(kind, given, classes):
    classes = np.array(classes)
    own = {classes[c]: weight for c, weight in given.items()} if isinstance(given, dict) else given
    model = KNNVoteClassifier(kind=kind, class_weight=own).fit(X, classes[CODES])
    shares = _plain(given)
    assert np.allclose(model.predict_proba(XQ), shares)
    clear = np.sort(shares, axis=1)[:, -1] > np.sort(shares, axis=1)[:, -2] + 1e-9
    assert clear.sum() > 40
    assert model.predict(XQ)[clear].tolist() == classes[shares.argmax(axis=1)][clear].tolist()
    assert clone(model).class_weight == own
    other = model.set_params(class_weight=None).predict_proba(XQ)
    assert np.allclose(other, _plain(None))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("even", "class_weight is 'even': give balanced"),
        (3, "class_weight is 3: give balanced, a dict of weights by class, or None"),
        ({0: -1}, "class_weight is .*: give balanced"),
        ({0: 2, 9: 2}, "class_weight is {0: 2, 9: 2}: name some of the classes 0, 1, 2"),
        ({"0": 2}, "class_weight is {'0': 2}: name some of the classes 0, 1, 2"),
    ],
)
def test_what_is_no_class_weight_is_refused_as_scikit_learn_does(given, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        KNNVoteClassifier(class_weight=given).fit(X, CODES)


def test_weights_may_name_a_class_that_a_fold_lacks_and_grids_search_them():
    is_few = CODES < 2
    model = KNNVoteClassifier(class_weight={0: 1, 1: 4, 2: 9}).fit(X[is_few], CODES[is_few])
    again = KNNVoteClassifier(class_weight={1: 4}).fit(X[is_few], CODES[is_few])
    assert np.array_equal(model.predict_proba(XQ), again.predict_proba(XQ))
    scores = cross_val_score(KNNVoteClassifier(class_weight={}), X, CODES, cv=3)
    assert np.array_equal(scores, cross_val_score(KNNVoteClassifier(), X, CODES, cv=3))
    grid = GridSearchCV(KNNVoteClassifier(), {"class_weight": GIVEN}, scoring="balanced_accuracy", cv=3).fit(X, CODES)
    assert grid.best_params_["class_weight"] is not None


@pytest.mark.parametrize("given", GIVEN)
@spread(("kind", ["exact", "adaptive"]), ("fitted", GIVEN))
def test_a_saved_one_opens_with_them_and_the_index_has_those_of_its_fit(tmp_path, kind, fitted, given):
    model = KNNVoteClassifier(kind=kind, class_weight=fitted).fit(X, CODES).set_params(class_weight=given)
    model.save(tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    assert Rule.of(index).class_weight == Tuning(class_weight=fitted).class_weight
    assert ("class_weight" in index.manifest.estimator) == (fitted != given)
    opened = KNNVoteClassifier.open(tmp_path / "x.knn")
    assert opened.class_weight == given
    assert np.array_equal(opened.predict_proba(XQ), model.predict_proba(XQ))
    assert KNNVoteClassifier.open(tmp_path / "x.knn", class_weight={1: 7}).class_weight == {1: 7}
    opened.save(tmp_path / "again.knn")
    assert open_index(tmp_path / "again.knn").manifest.estimator == index.manifest.estimator


def test_one_opened_of_an_index_has_its_weights_also_when_their_class_went(tmp_path):
    index_arrays(X, CODES, tmp_path / "x.knn", tune=Tuning(class_weight={1: 3, 2: 20}))
    index = open_index(tmp_path / "x.knn")
    opened = KNNVoteClassifier.open(tmp_path / "x.knn")
    assert opened.class_weight == {1: 3, 2: 20}
    assert np.array_equal(opened.predict_proba(XQ), Classifier(index)(XQ).probabilities())
    opened.set_params(class_weight={2: 5}).save(tmp_path / "saved.knn")
    for name, left in (("x", {1: 3}), ("saved", None)):
        folder = tmp_path / f"{name}.knn"
        remove_ids(folder, [index.ids[row].as_py() for row in range(240, 250)], tuning=Tuning, tell=lambda _note: None)
        after = KNNVoteClassifier.open(folder)
        assert after.class_weight == left
        assert after.predict_proba(XQ).shape == (80, 2)


def test_a_record_of_weights_that_are_none_or_of_a_regression_is_refused(tmp_path):
    x, y = load_digits(return_X_y=True)
    for made, wrong in ((KNNVoteClassifier, "even"), (KNNVoteClassifier, [[0, 0]]), (KNNVoteRegressor, "balanced")):
        made().fit(x[:50], y[:50]).save(tmp_path / "x.knn", overwrite=True)
        record = json.loads((tmp_path / "x.knn/manifest.json").read_text()) | {"estimator": {"class_weight": wrong}}
        (tmp_path / "x.knn/manifest.json").write_bytes(seal(record))
        with pytest.raises(KnnvoteError, match="estimator"):
            made.open(tmp_path / "x.knn")
