import copy
import pickle
import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brute_force import neighbors
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sets import clusters
from repeats import spread
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
from knnvote.classify.search.search import find
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.names import TIES

X, Y = load_digits(return_X_y=True)
TRAIN, TEST = np.s_[:1400], np.s_[1400:]
KINDS, METRICS = ("exact", "adaptive"), ("l2", "cosine", "l1")
SKLEARN_METRIC = {"l2": "euclidean", "cosine": "cosine", "l1": "manhattan"}
BOTH = pytest.mark.parametrize("estimator", [KNNVoteClassifier(), KNNVoteRegressor()], ids=["classifier", "regressor"])


def without_ties(k, metric="euclidean"):
    """Digits of the test part whose k-th neighbour is nearer than the one after it."""
    D, _ = KNeighborsClassifier(metric=metric, algorithm="brute").fit(X[TRAIN], Y[TRAIN]).kneighbors(X[TEST], k + 1)
    return X[TEST][(np.diff(D, axis=1) > 1e-9).all(axis=1)]


@spread(("kind", KINDS), ("made", [KNNVoteClassifier, KNNVoteRegressor]))
def test_scikit_learn_finds_an_estimator_that_does_what_it_expects(made, kind):
    # A row of weight w is one of the k neighbours, and w copies of it are w of them: of no such vote are both the same.
    unlike = {f"check_sample_weight_equivalence_on_{form}_data": "a vote of k" for form in ("dense", "sparse")}
    checked = check_estimator(made(kind=kind), expected_failed_checks=unlike, on_skip=None, on_fail=None)
    failed = [(check["check_name"], check["exception"]) for check in checked if check["status"] == "failed"]
    skipped = {check["check_name"] for check in checked if check["status"] == "skipped"}
    assert not failed
    assert skipped <= {"check_array_api_input"}  # which is for arrays of other libraries
    assert len(checked) > 40


@pytest.mark.parametrize("metric", METRICS)
@spread(("weights", ["uniform", "distance"]), ("k", [1, 4, 5]))
def test_answers_are_those_of_scikit_learn(k, metric, weights):
    xq = without_ties(k, SKLEARN_METRIC[metric])
    assert len(xq) > 150
    theirs = partial(KNeighborsClassifier, k, weights=weights, metric=SKLEARN_METRIC[metric], algorithm="brute")
    expected = theirs().fit(X[TRAIN], Y[TRAIN])
    found = KNNVoteClassifier(k, weights=weights, metric=metric).fit(X[TRAIN], Y[TRAIN])
    for mine, other in zip(found.kneighbors(xq), expected.kneighbors(xq), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.predict(xq), expected.predict(xq))
    np.testing.assert_allclose(found.predict_proba(xq), expected.predict_proba(xq), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_means_are_those_of_scikit_learn(weights):
    xq, targets = without_ties(5), X[:, 20] + Y / 7
    expected = KNeighborsRegressor(5, weights=weights, algorithm="brute").fit(X[TRAIN], targets[TRAIN])
    found = KNNVoteRegressor(5, weights=weights).fit(X[TRAIN], targets[TRAIN])
    np.testing.assert_allclose(found.predict(xq), expected.predict(xq), rtol=1e-9)
    assert found.score(xq, found.predict(xq)) == 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.bool_])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_those_of_brute_force(kind, metric, dtype):
    x = (np.random.default_rng(0).normal(size=(300, 12)) * 40 + 100).clip(1, 250).astype(dtype)
    x[:, 0] = 1
    found = KNNVoteClassifier(kind=kind, metric=metric).fit(x[:250], np.arange(250) % 3)
    stored = found._index.vectors.dtype
    as_stored = stored if stored.kind == "u" else np.float64
    D, I = found.kneighbors(x[250:])
    expected_D, expected_I = neighbors(x[250:].astype(as_stored), x[:250].astype(as_stored), 5, metric)
    np.testing.assert_array_equal(I, expected_I)
    np.testing.assert_allclose(D, expected_D, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.* of another scale")  # as they are meant to be
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), metric=st.sampled_from(METRICS), far=st.sampled_from([0.1, 300.0, 1e6]))
def test_queries_that_the_stored_type_does_not_hold_get_their_true_neighbours(seed, metric, far):
    rng = np.random.default_rng(seed)
    x, xq = rng.integers(1, 200, (60, 5)), rng.normal(size=(9, 5)) * far
    xq[::2] = np.rint(xq[::2])
    xq[0] = x[0]
    found = KNNVoteClassifier(metric=metric).fit(x, np.arange(60) % 2)
    assert found._index.vectors.dtype == np.uint8
    D, I = found.kneighbors(xq[np.any(xq != 0, axis=1)])
    expected_D, _ = neighbors(xq[np.any(xq != 0, axis=1)], x.astype(np.float64), 5, metric)
    np.testing.assert_allclose(D, expected_D, rtol=1e-9, atol=1e-9)
    assert I.min() >= 0


def test_stored_rows_are_no_neighbours_of_themselves():
    x = np.repeat(np.arange(10.0), 2)[:, None]
    found = KNNVoteClassifier(1).fit(x, np.arange(20) % 2)
    D, I = found.kneighbors()
    np.testing.assert_array_equal(I[:, 0], np.arange(20) ^ 1)
    assert not D.any()
    np.testing.assert_array_equal(found.predict(None), (np.arange(20) ^ 1) % 2)
    with pytest.raises(ValueError, match="from 1 to 19"):
        found.kneighbors(n_neighbors=20)


def test_stored_rows_have_the_neighbours_that_scikit_learn_finds():
    expected = KNeighborsClassifier(3, algorithm="brute").fit(X, Y)
    found = KNNVoteClassifier(3).fit(X, Y)
    np.testing.assert_allclose(found.kneighbors()[0], expected.kneighbors()[0], rtol=1e-9)


def test_it_stands_in_a_pipeline_a_grid_search_and_a_cross_validation():
    pipeline = make_pipeline(StandardScaler(), KNNVoteClassifier())
    names = ("knnvoteclassifier__n_neighbors", "knnvoteclassifier__weights")
    grid = GridSearchCV(pipeline, dict(zip(names, ([1, 3, 30], ["uniform", "distance"]), strict=True)), cv=3)
    grid.fit(X[TRAIN], Y[TRAIN])
    theirs = make_pipeline(StandardScaler(), KNeighborsClassifier())
    names = ("kneighborsclassifier__n_neighbors", "kneighborsclassifier__weights")
    expected = GridSearchCV(theirs, dict(zip(names, ([1, 3, 30], ["uniform", "distance"]), strict=True)), cv=3)
    expected.fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_allclose(grid.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], atol=2e-3)
    assert grid.score(X[TEST], Y[TEST]) > 0.93
    assert cross_val_score(KNNVoteClassifier(3), X, Y, cv=3).mean() > 0.96


@spread(("kind", KINDS), ("dtype", [np.uint8, np.float64]))
def test_a_pickled_or_copied_one_answers_the_same(kind, dtype):
    data = clusters(dtype)
    fitted = KNNVoteClassifier(kind=kind, target_agreement=0.9).fit(data.x, data.y)
    expected = fitted.predict_proba(data.xq)
    others = [pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)]  # noqa: S301  # our own bytes
    del fitted
    for other in others:
        np.testing.assert_array_equal(other.predict_proba(data.xq), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_vectors_that_faiss_holds_are_pickled_once(dtype):
    fitted = KNNVoteClassifier().fit(np.ones((2000, 100), dtype=dtype), np.arange(2000) % 2)
    assert len(pickle.dumps(fitted)) < 1.5 * 2000 * 100 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_what_was_fitted_stays_when_the_array_is_changed(dtype):
    x = X.astype(dtype)
    fitted = KNNVoteClassifier(1).fit(x, Y)
    x[:] = 0
    np.testing.assert_array_equal(fitted.predict(X), Y)


@BOTH
def test_a_clone_is_not_fitted(estimator):
    unfitted = clone(clone(estimator).fit(X, Y))
    for ask in (unfitted.predict, unfitted.kneighbors):
        with pytest.raises(NotFittedError):
            ask(X)
    with pytest.raises(NotFittedError):
        unfitted.save("never.knn")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *(("exact", np.uint8), ("adaptive", np.float32)),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("exact", np.float64), ("adaptive", np.uint8))),
    ],
)
def test_a_saved_one_is_an_index_folder_and_opens_with_equal_answers(tmp_path, invoke, kind, dtype):
    data = clusters(dtype)
    names = np.array([f"class {label}" for label in data.y])
    fitted = KNNVoteClassifier(kind=kind, target_agreement=0.9).fit(data.x, names)
    fitted.save(tmp_path / "saved.knn")
    opened = KNNVoteClassifier.open(tmp_path / "saved.knn", n_neighbors=5)
    assert (opened.kind, opened.metric) == (kind, "l2")
    for ask in ("predict", "predict_proba", "kneighbors"):
        np.testing.assert_array_equal(getattr(opened, ask)(data.xq), getattr(fitted, ask)(data.xq))
    answer = Classifier.open(tmp_path / "saved.knn", Rule(ties="first-class"))(data.xq)
    assert answer.prediction.to_pylist() == opened.predict(data.xq).tolist()
    assert invoke("verify", tmp_path / "saved.knn").code == 0
    assert invoke("inspect", tmp_path / "saved.knn").code == 0
    pickle.loads(pickle.dumps(opened)).save(tmp_path / "again.knn")  # noqa: S301  # our own bytes
    again = KNNVoteClassifier.open(tmp_path / "again.knn")
    np.testing.assert_array_equal(again.predict(data.xq), opened.predict(data.xq))


@pytest.mark.parametrize("ties", TIES)
def test_a_tuned_one_is_opened_as_it_was_saved(tmp_path, ties):
    data = clusters("uint8", n=1500, d=200)
    fitted = KNNVoteClassifier(n_neighbors=3, kind="adaptive", weights="distance", ties=ties, target_agreement=0.9).fit(
        data.x, data.y
    )
    fitted.save(tmp_path / "x.knn")
    opened = KNNVoteClassifier.open(tmp_path / "x.knn")
    names = ("n_neighbors", "weights", "ties", "target_agreement", "kind", "metric")
    assert [opened.get_params()[name] for name in names] == [fitted.get_params()[name] for name in names]
    assert np.array_equal(opened.predict(data.xq), fitted.predict(data.xq))
    assert KNNVoteClassifier.open(tmp_path / "x.knn", n_neighbors=7).n_neighbors == 7


def test_a_saved_one_is_the_index_that_index_arrays_builds(tmp_path):
    index_arrays(X, Y, tmp_path / "built.knn", tune=Tuning(ties="first-class"))
    KNNVoteClassifier().fit(X, Y).save(tmp_path / "saved.knn")
    files = [
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir() if not file.name.startswith("timing")}
        for name in ("built.knn", "saved.knn")
    ]
    assert files[0] == files[1]


def test_a_saved_regressor_opens_with_equal_answers_and_not_as_a_classifier(tmp_path):
    fitted = KNNVoteRegressor(3, weights="distance").fit(X[TRAIN], Y[TRAIN] / 3)
    fitted.save(tmp_path / "saved.knn")
    opened = KNNVoteRegressor.open(tmp_path / "saved.knn", n_neighbors=3, weights="distance")
    np.testing.assert_array_equal(opened.predict(X[TEST]), fitted.predict(X[TEST]))
    with pytest.raises(KnnvoteError, match="open it with KNNVoteRegressor"):
        KNNVoteClassifier.open(tmp_path / "saved.knn")
    KNNVoteClassifier().fit(X, Y).save(tmp_path / "classes.knn")
    with pytest.raises(TypeError, match="metric"):
        KNNVoteClassifier.open(tmp_path / "classes.knn", metric="l1")
    with pytest.raises(KnnvoteError, match="open it with KNNVoteClassifier"):
        KNNVoteRegressor.open(tmp_path / "classes.knn")


def test_a_folder_that_is_there_is_replaced_only_when_told(tmp_path):
    fitted = KNNVoteClassifier().fit(X, Y)
    fitted.save(tmp_path / "saved.knn")
    with pytest.raises(KnnvoteError, match=r"saved.knn exists: .*overwrite=True.* or give another path"):
        fitted.save(tmp_path / "saved.knn")
    KNNVoteClassifier.open(tmp_path / "saved.knn").save(tmp_path / "saved.knn", overwrite=True)
    opened = KNNVoteClassifier.open(tmp_path / "saved.knn")
    np.testing.assert_array_equal(opened.predict(X[TEST]), fitted.predict(X[TEST]))


LABELS = {
    "integers": Y - 3,
    "bytes": Y.astype(np.uint8),
    "booleans": Y > 4,
    "strings": Y.astype(str),
    "objects": np.array([f"é{label}" for label in Y], dtype=object),
    "floats": Y.astype(float),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_keep_their_type_and_are_saved_where_an_index_folder_holds_it(tmp_path, name):
    labels = LABELS[name]
    fitted = KNNVoteClassifier(1).fit(X, labels)
    assert fitted.predict(X[:50]).dtype == labels.dtype
    np.testing.assert_array_equal(fitted.predict(X[:50]), labels[:50])
    np.testing.assert_array_equal(fitted.classes_, np.unique(labels))
    if name == "floats":
        with pytest.raises(KnnvoteError, match="have no place in an index folder"):
            fitted.save(tmp_path / "x.knn")
        assert not (tmp_path / "x.knn").exists()
    else:
        fitted.save(tmp_path / "x.knn")
        np.testing.assert_array_equal(
            KNNVoteClassifier.open(tmp_path / "x.knn", n_neighbors=1).classes_, fitted.classes_
        )


def test_an_estimator_opened_and_then_fitted_has_the_classes_that_it_was_fitted_to(tmp_path):
    KNNVoteClassifier().fit(X, Y).save(tmp_path / "x.knn")
    opened = KNNVoteClassifier.open(tmp_path / "x.knn", n_neighbors=1).fit(X, Y.astype(str))
    np.testing.assert_array_equal(opened.predict(X[:9]), Y[:9].astype(str))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("n_neighbors", 0, "give a whole number"),
        ("n_neighbors", 2.5, "give a whole number"),
        ("n_neighbors", "5", "give a whole number"),
        ("n_neighbors", None, "give a whole number"),
        ("weights", "none", "give one of uniform, distance"),
        ("weights", np.ones(3), "give one of uniform, distance"),
        ("metric", "l3", "give one of l2, cosine, l1"),
        ("kind", "fast", "give one of exact, adaptive "),
        ("kind", "hnsw", "give one of exact, adaptive "),
        ("target_agreement", 2.0, "give a share"),
        ("target_agreement", "1", "give a share"),
        ("random_state", -1, "give a whole number"),
        ("n_jobs", 0, "give a number of threads"),
        ("n_jobs", "2", "give a number of threads"),
    ],
)
@BOTH
def test_a_parameter_without_a_meaning_is_refused_by_fit_in_its_own_name(estimator, name, value, told):
    with pytest.raises(OptionError) as refused:
        clone(estimator).set_params(**{name: value}).fit(X, Y)
    assert str(refused.value).startswith(f"{name} is {value!r}: {told}")
    assert "--" not in str(refused.value)
    assert isinstance(refused.value, ValueError)  # as scikit-learn's own error is, and
    assert isinstance(refused.value, TypeError)


def test_a_parameter_that_is_changed_later_is_refused_by_predict():
    fitted = KNNVoteClassifier().fit(X, Y)
    for name, value in {"n_neighbors": 2.5, "weights": "none", "ties": "none", "n_jobs": 0}.items():
        with pytest.raises(OptionError, match=f"^{name} is "):
            copy.deepcopy(fitted).set_params(**{name: value}).predict(X)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_numpy_are_taken_as_a_grid_search_gives_them(tmp_path, kind):
    fitted = KNNVoteClassifier(np.int64(3), kind=kind, target_agreement=np.float32(1), n_jobs=np.int64(1)).fit(X, Y)
    fitted.save(tmp_path / "x.knn")
    np.testing.assert_array_equal(fitted.predict(X), KNNVoteClassifier(3).fit(X, Y).predict(X))
    assert fitted.kneighbors(X[:2], np.int64(2), return_distance=False).shape == (2, 2)


@pytest.mark.parametrize("options", [IndexOptions(kind="hnsw"), IndexOptions(kind="factory", factory="PCA8,Flat")])
def test_an_index_of_another_kind_is_opened_and_answers_and_cannot_be_fitted_again(tmp_path, options):
    index_arrays(X, Y, tmp_path / "x.knn", options=options)
    opened = KNNVoteClassifier.open(tmp_path / "x.knn", n_neighbors=3)
    assert opened.score(X, Y) > 0.95
    opened.save(tmp_path / "again.knn")
    with pytest.raises(OptionError, match=f"kind is '{options.kind}': .* can be opened, not fitted"):
        clone(opened).fit(X, Y)
    assert clone(opened).set_params(kind="exact").fit(X, Y).score(X, Y) > 0.95


def test_more_neighbours_than_rows_and_what_is_no_number_are_errors_of_scikit_learn():
    found = KNNVoteClassifier(11).fit(X[:10], Y[:10])
    with pytest.raises(ValueError, match="n_samples_fit = 10"):
        found.predict(X)
    with pytest.raises(TypeError, match="whole number"):
        found.kneighbors(X, n_neighbors=2.5)
    with pytest.raises(ValueError, match="NaN"):
        found.fit(np.full((3, 2), np.nan), [0, 1, 1])


def test_rows_without_a_direction_are_refused_by_their_number():
    with pytest.raises(ValueError, match=r"row 1 of X .*every value is zero"):
        KNNVoteClassifier(metric="cosine").fit([[1.0, 2.0], [0.0, 0.0]], [0, 1])
    found = KNNVoteClassifier(1, metric="cosine").fit([[1.0, 2.0], [2.0, 1.0]], [0, 1])
    with pytest.raises(ValueError, match=r"row 1 of X .*every value is zero"):
        found.predict([[1.0, 1.0], [0.0, 0.0]])


def test_answers_do_not_depend_on_threads():
    data = clusters(np.float64)
    expected = KNNVoteClassifier(n_jobs=1).fit(data.x, data.y).kneighbors(data.xq)
    for mine, other in zip(KNNVoteClassifier(n_jobs=-1).fit(data.x, data.y).kneighbors(data.xq), expected, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_adaptive_search_is_tuned_for_its_parameters():
    data = clusters(np.uint8)
    fitted = KNNVoteClassifier(3, weights="distance", kind="adaptive", target_agreement=0.9).fit(data.x, data.y)
    tuned = fitted._index.tuned
    assert (tuned.k, tuned.weights) == (3, "distance")
    exact = KNNVoteClassifier(3, weights="distance").fit(data.x, data.y).predict(data.xq)
    assert (fitted.predict(data.xq) == exact).mean() >= 0.9


def test_a_random_state_that_is_no_number_gives_a_seed():
    state = np.random.RandomState(3)
    found = KNNVoteClassifier(random_state=state).fit(X, Y)._index.manifest.seed
    assert found == np.random.RandomState(3).randint(2**31 - 1)


def test_fractional_queries_of_whole_vectors_are_searched_as_others_are_without_a_copy_of_all():
    data = clusters("uint8")
    halves = data.xq[:30] + 0.5
    exact = KNNVoteClassifier().fit(data.x, data.y)
    adaptive = KNNVoteClassifier(kind="adaptive", target_agreement=0.9).fit(data.x, data.y)
    tracemalloc.start()
    D, I = exact.kneighbors(halves)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < data.x.astype(np.float64).nbytes
    expected_D, expected_I = neighbors(halves, data.x.astype(np.float64), 5, "l2")
    np.testing.assert_array_equal(I, expected_I)
    np.testing.assert_allclose(D, expected_D, rtol=1e-12)
    assert find(adaptive._index, halves, Rule(), "label").rung.min() < len(adaptive._index.tuned.label.ladder)
    mixed = np.where(np.arange(30)[:, None] % 2, halves, data.xq[:30])
    alone = [adaptive.predict_proba(row[None])[0] for row in mixed]
    np.testing.assert_array_equal(adaptive.predict_proba(mixed), alone)


FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}
NAMES = [f"ink {place}" for place in np.random.default_rng(3).permutation(64)]  # whose numbers are not their places


def frame(kind, x, names=NAMES, order=None):
    columns = {name: x[:, place] for place, name in enumerate(names)}
    return FRAMES[kind]({name: columns[name] for name in order or names})


@pytest.mark.parametrize("kind", FRAMES)
def test_columns_of_a_frame_are_known_by_name_also_after_it_was_saved(tmp_path, invoke, kind):
    fitted = KNNVoteClassifier(3).fit(frame(kind, X[TRAIN]), Y[TRAIN])
    fitted.save(tmp_path / "x.knn")
    other = frame(kind, X[TEST], order=sorted(NAMES))
    expected = fitted.predict(frame(kind, X[TEST]))
    for estimator in (fitted, KNNVoteClassifier.open(tmp_path / "x.knn")):
        assert estimator.feature_names_in_.tolist() == NAMES
        np.testing.assert_array_equal(estimator.predict(frame(kind, X[TEST])), expected)
        with pytest.raises(ValueError, match="same order as they were in fit"):
            estimator.predict(other)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            estimator.predict(X[TEST])
    classify = Classifier.open(tmp_path / "x.knn", Rule(k=3, ties="first-class"))
    for table in (other, other[sorted(NAMES)] if kind == "pandas" else other, X[TEST]):
        assert classify(table).prediction.to_pylist() == expected.tolist()
    with pytest.raises(KnnvoteError, match=r"no one column of numbers 'ink \d+' and 63 more here.*rename them"):
        classify(frame(kind, X[TEST], [f"p{place}" for place in range(64)]))
    table = pa.table({"label": Y[TEST], **{name: other[name] for name in sorted(NAMES)}})
    pq.write_table(table, tmp_path / "test.parquet")
    assert invoke("classify", "x.knn", "test.parquet", "--out", "job", "--k", 3, "--ties", "first-class").code == 0
    assert pq.read_table(tmp_path / "job" / "test.parquet")["prediction"].to_pylist() == expected.tolist()
    assert invoke("verify", "job").code == invoke("report", "job").code == 0
    assert invoke("add", "x.knn", "test.parquet").code == 0
    opened = KNNVoteClassifier.open(tmp_path / "x.knn")
    assert (opened.n_neighbors, opened.feature_names_in_.tolist()) == (3, NAMES)
    np.testing.assert_array_equal(opened._index.vectors[1400:], X[TEST])


def test_a_table_of_arrays_keeps_its_names_and_what_is_no_table_of_numbers_is_refused(tmp_path):
    index_arrays(frame("polars", X), Y, tmp_path / "x.knn")
    answer = Classifier.open(tmp_path / "x.knn", Rule(k=1))(frame("arrow", X, order=sorted(NAMES)))
    assert answer.I[:, 0].tolist() == list(range(len(X)))
    assert Classifier.open(tmp_path / "x.knn")(pd.DataFrame(X[:2])).I[:, 0].tolist() == [0, 1]  # it has no names
    for wrong, told in (
        (pd.DataFrame({"a": ["x"] * len(X)}), "column 'a' is .*string: give a table"),
        (pa.table({"a": [None, *[1] * (len(X) - 1)]}), "image 0 cannot be stored: null value"),
        (frame("polars", X).lazy(), "a LazyFrame of polars cannot be read as a table .*give a pandas or Polars"),
    ):
        with pytest.raises(KnnvoteError, match=told):
            index_arrays(wrong, Y, tmp_path / "never.knn")


@pytest.mark.parametrize("kind", FRAMES)
def test_a_label_column_of_a_frame_is_no_pixel(exact_index, kind):
    names = [f"pixel_{place}" for place in range(64)]
    shuffled = frame(kind, np.column_stack([Y, X]), ["label", *names], [*names[::-1], "label"])
    classify = Classifier.open(exact_index)
    assert classify(shuffled).prediction.equals(classify(X).prediction)


@pytest.mark.parametrize("made", [KNNVoteClassifier, KNNVoteRegressor])
@pytest.mark.parametrize(("kind", "fitted_k"), [("exact", 3), ("adaptive", 3), ("adaptive", 5)])
def test_parameters_of_the_vote_are_those_that_were_saved(tmp_path, made, kind, fitted_k):
    ties = {"ties": "nearest"} if made is KNNVoteClassifier else {}
    fitted = made(fitted_k, kind=kind, weights="distance", target_agreement=0.9, **ties).fit(X, Y)
    fitted.set_params(n_neighbors=np.int64(3), weights="uniform").save(tmp_path / "x.knn")
    opened = made.open(tmp_path / "x.knn")
    assert (opened.n_neighbors, opened.weights, getattr(opened, "ties", None)) == (3, "uniform", ties.get("ties"))
    np.testing.assert_array_equal(opened.predict(X[::9] + 0.5), fitted.predict(X[::9] + 0.5))
    opened.set_params(n_neighbors=5).save(tmp_path / "again.knn")
    assert made.open(tmp_path / "again.knn").n_neighbors == 5
    assert made.open(tmp_path / "again.knn", n_neighbors=7).n_neighbors == 7


@pytest.mark.parametrize(
    ("metric", "p", "ours"),
    [("euclidean", 2, "l2"), ("manhattan", 2, "l1"), ("minkowski", 2, "l2"), ("minkowski", 1.0, "l1")],
)
def test_metrics_have_the_names_of_scikit_learn_too(metric, p, ours):
    fitted = KNNVoteClassifier(metric=metric, p=p).fit(X[:300], Y[:300])
    assert (clone(fitted).metric, clone(fitted).p) == (metric, p)
    theirs = KNeighborsClassifier(metric=metric, p=p).fit(X[:300], Y[:300])
    np.testing.assert_allclose(fitted.kneighbors(X[300:400])[0], theirs.kneighbors(X[300:400])[0])
    assert fitted._index.metric == ours
    with pytest.raises(OptionError, match=r"^p is 3: give 1 or 2"):
        KNNVoteClassifier(metric="minkowski", p=3).fit(X, Y)
