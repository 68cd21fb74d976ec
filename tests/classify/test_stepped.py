"""Indexes with steps under every command that asks them, and what pages show of them: the images, not the vectors."""

import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.look.seen import explain_images
from knnvote.classify.look.words import outvoted
from knnvote.classify.parameters import ParameterError, RowError
from knnvote.classify.scale import Scale
from knnvote.classify.vote import Rule
from knnvote.data.layout import ImageOptions
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.shown.thumbnails import thumbnail

IMAGES, LABELS = (array[:300] for array in digits())
STORED, ASKED = slice(0, 200), slice(200, 300)
STEPS = ("centred", "unit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An index with steps of images whose 20 first labels are wrong, and a file of others."""
    path = tmp_path_factory.mktemp("stepped")
    labels = np.concatenate([(LABELS[:20] + 1) % 10, LABELS[20:200]])
    index_arrays(IMAGES[STORED], labels, path / "x.knn", steps=STEPS, options=IndexOptions(threads=1))
    write_table(image_table(IMAGES[ASKED], LABELS[ASKED]), path / "test.parquet")
    return path


def already_stepped(folder, path):
    """An index without steps of the vectors that steps made."""
    index = open_index(folder / "x.knn")
    index_arrays(index.vectors, index.labels.to_numpy(), path / "y.knn", options=IndexOptions(threads=1))
    return open_index(path / "y.knn")


def pictures(page):
    return set(re.findall(r'src="(data:image/png;base64,[^"]+)"', page.read_text()))


KNOWN = {thumbnail(image, (0, 16), "").source for image in IMAGES}


def test_left_out_images_tell_the_same_as_of_an_index_of_their_vectors(folder, tmp_path):
    index, other = open_index(folder / "x.knn"), already_stepped(folder, tmp_path)
    found, expected = (choose_k(one, max_k=7) for one in (index, other))
    assert found.scores == expected.scores
    suspects, others = (find_suspects(one, k=5).suspects for one in (index, other))
    assert [(one.row, one.share) for one in suspects] == [(one.row, one.share) for one in others]
    assert len(suspects) > 10


def test_compare_asks_by_the_steps_of_each_index(folder, tmp_path):
    index_arrays(IMAGES[STORED], LABELS[STORED], tmp_path / "plain.knn", options=IndexOptions(threads=1))
    indexes = [open_index(folder / "x.knn"), open_index(tmp_path / "plain.knn")]
    found = compare(str(folder / "test.parquet"), indexes, Rule(k=3), algorithms=("brute",), threads=1)
    for report, index in zip(found.indexes, indexes, strict=False):
        right = Classifier(index, Rule(k=3))(IMAGES[ASKED]).prediction.to_numpy() == LABELS[ASKED]
        assert report.accuracy == right.mean()
    assert found.indexes[2].agreement.value > 0.97  # scikit-learn's search of the vectors


@pytest.mark.parametrize(
    "command",
    [
        ("suspects", "x.knn", "--k", "5"),
        ("compare", "test.parquet", "--index", "x.knn"),
        ("explain", "x.knn", "test.parquet#3"),
    ],
    ids=lambda command: command[0],
)
def test_pages_show_the_images(command, folder, invoke, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    done = invoke(*command, "--report", tmp_path / "page.html")
    assert done.code == 0, done.stderr
    shown = pictures(tmp_path / "page.html")
    assert len(shown) > 3
    assert shown <= KNOWN


def test_a_job_is_reported_and_drawn_with_the_images(folder, invoke, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    assert invoke("classify", "x.knn", "test.parquet", "--out", tmp_path / "out").code == 0
    done = invoke("report", tmp_path / "out", "--index", "x.knn", "--out", tmp_path / "page.html")
    assert done.code == 0, done.stderr
    shown = pictures(tmp_path / "page.html")
    assert len(shown) > 3
    assert shown <= KNOWN
    drawn = ("show", "test.parquet", "--predictions", tmp_path / "out", "--errors", "--index", "x.knn")
    done = invoke(*drawn, "--out", tmp_path / "errors.png")
    assert done.code == 0, done.stderr


def test_inspect_and_index_tell_the_steps(folder, invoke, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    done = invoke("inspect", "x.knn")
    assert "steps" in done.stdout
    assert "centred unit, to vectors of 64 float32" in done.stdout
    assert "200 of 8 x 8, uint8 from 0 to 16" in done.stdout
    built = invoke("index", "test.parquet", "--out", tmp_path / "y.knn", "--step", "unit")
    assert ": 100 images of 8 x 8, steps unit, exact, " in built.stderr
    refused = invoke("index", "test.parquet", "--out", tmp_path / "z.knn", "--step", "pixels", "--step", "unit")
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr == "error: --step is pixels for no step at all: leave it out beside others\n"
    unknown = invoke("index", "test.parquet", "--out", tmp_path / "z.knn", "--step", "unit[2]")
    assert unknown.stderr == (
        "error: --step: 'unit[2]' is no step between image and vector: give some of pixels, centre, deskew, blur, "
        "gradients, centred, whitened, unit\n"
    )


def test_a_brighter_copy_is_no_exact_one_where_steps_forget_brightness(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = np.array([[4.0, 0.0], [4.0, 1.0], [4.0, 2.0], [4.0, 3.0]])
    index_arrays(stored, [7, 1, 1, 1], tmp_path / "x.knn", steps=("unit",))
    write_table(image_table(np.array([[8.0, 0.0]]), [1]), tmp_path / "q.parquet")
    (one,) = explain_images(Classifier.open("x.knn", Rule(k=4)), ["q.parquet#0"], ImageOptions())
    assert outvoted(one, None) == "an image at distance 0 is stored, labelled 7; the vote of 4 says 1"
    assert find_suspects(open_index("x.knn"), k=2).with_equal == 0


@pytest.mark.parametrize(
    ("steps", "metric", "is_told"),
    [((), "l2", True), (("unit",), "l2", False), (STEPS, "l2", True), (("centred",), "cosine", True)],
)
def test_images_of_another_scale_are_told_where_it_counts(tmp_path, steps, metric, is_told):
    index_arrays(IMAGES[STORED], LABELS[STORED], tmp_path / "x.knn", steps=steps, options=IndexOptions(metric=metric))
    index, brighter = open_index(tmp_path / "x.knn"), IMAGES[ASKED].reshape(100, 64) * np.uint8(15)
    told = Scale.of(index, brighter).unlike(index)
    assert (told is not None) == is_told
    if told:
        assert "the images range from 0 to 240, the stored ones from 0 to 16" in told


X, Y = IMAGES.reshape(300, 64).astype(np.float64), LABELS


def pipeline(estimator):
    return make_pipeline(StandardScaler(with_std=False), Normalizer(), estimator)


def test_estimators_answer_as_a_pipeline_of_scikit_learn(tmp_path):
    mine = KNNVoteClassifier(3, steps=STEPS).fit(X[STORED], Y[STORED])
    theirs = pipeline(KNeighborsClassifier(3, algorithm="brute")).fit(X[STORED], Y[STORED])
    np.testing.assert_array_equal(mine.predict(X[ASKED]), theirs.predict(X[ASKED]))
    fractions = X[ASKED] + 1 / 3  # which the stored type does not hold
    np.testing.assert_array_equal(mine.predict(fractions), theirs.predict(fractions))
    targets = Y / 7
    regressor = KNNVoteRegressor(3, steps=["centred", "unit"]).fit(X[STORED], targets[STORED])
    expected = pipeline(KNeighborsRegressor(3, algorithm="brute")).fit(X[STORED], targets[STORED])
    np.testing.assert_allclose(regressor.predict(X[ASKED]), expected.predict(X[ASKED]), rtol=1e-9)
    mine.save(tmp_path / "x.knn")
    opened = KNNVoteClassifier.open(tmp_path / "x.knn")
    assert (opened.steps, opened.n_features_in_) == (STEPS, 64)
    np.testing.assert_array_equal(opened.predict(X[ASKED]), mine.predict(X[ASKED]))
    answer = Classifier.open(tmp_path / "x.knn", Rule(k=3))(IMAGES[ASKED])
    np.testing.assert_array_equal(answer.I, mine.kneighbors(X[ASKED])[1])
    np.testing.assert_array_equal(answer.D, mine.kneighbors(X[ASKED])[0])
    assert clone(opened).fit(X[STORED], Y[STORED]).steps == STEPS


def test_estimators_refuse_what_has_no_vector_by_its_row():
    with pytest.raises(ParameterError, match=r"^steps: 'sharp' is no step between image and vector: give some of pix"):
        KNNVoteClassifier(steps=("sharp",)).fit(X, Y)
    blank = X.copy()
    blank[5] = 0
    with pytest.raises(RowError, match="row 5 of X cannot be compared: every value is zero, which has no length"):
        KNNVoteClassifier(steps=("unit",)).fit(blank, Y)
    with pytest.raises(RowError, match="row 5 of X cannot be compared: every value is zero, which has no length"):
        KNNVoteClassifier(steps=("unit",)).fit(X, Y).predict(blank)
