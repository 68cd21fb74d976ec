"""The Python API: an opened index called with arrays and Arrow tables."""

import io

import brute_force
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sets import FAISS_METRICS
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from weightings import WEIGHTS

from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError
from knnvote.data.sample import drawn_one, split_digits
from knnvote.data.tables import image_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.metric import METRICS


@pytest.fixture(scope="module")
def digits():
    return split_digits()


@pytest.fixture(scope="module")
def classifier(exact_index):
    return Classifier.open(exact_index)


def without_ties(digits):
    """The test images whose fifth neighbour is nearer than the sixth: any five nearest are then the same five."""
    queries = digits.test_images.reshape(-1, 64).astype(int)
    D = np.sort(((queries[:, None] - digits.train_images.reshape(1, -1, 64).astype(int)) ** 2).sum(axis=2), axis=1)
    kept = digits.test_images[D[:, 4] < D[:, 5]]
    assert len(kept) > 350
    return kept


def test_labels_distances_and_probabilities_are_those_of_scikit_learn(digits, exact_index):
    classifier = Classifier.open(exact_index, Rule(ties="first-class"))
    images = without_ties(digits)
    answer = classifier(images)
    flat = digits.train_images.reshape(-1, 64).astype(float)
    queries = images.reshape(-1, 64).astype(float)
    theirs = KNeighborsClassifier(5, algorithm="brute").fit(flat, digits.train_labels)
    assert answer.prediction.to_pylist() == theirs.predict(queries).tolist()
    assert np.allclose(answer.probabilities(), theirs.predict_proba(queries))
    assert np.allclose(answer.D, theirs.kneighbors(queries)[0])
    assert np.array_equal(answer.confidence, answer.probabilities().max(axis=1))
    assert set(answer.status) == {"ok"}
    assert set(answer.reason) == {None}


def test_one_image_is_answered_as_one_row(classifier):
    answer = classifier(drawn_one())
    assert answer.prediction.to_pylist() == [1]
    assert answer.D.shape == answer.I.shape == (1, 5)


def test_one_image_may_be_flat(classifier):
    flat, shaped = classifier(drawn_one().ravel()), classifier(drawn_one())
    assert flat.prediction.to_pylist() == shaped.prediction.to_pylist() == [1]
    assert np.array_equal(flat.D, shaped.D)


def test_a_record_batch_is_answered_as_the_table(classifier):
    table = image_table(drawn_one()[None])
    assert classifier(table.to_batches()[0]).prediction.to_pylist() == classifier(table).prediction.to_pylist() == [1]


def test_float64_zeros_are_taken_where_uint8_is_stored(classifier):
    image = np.zeros((8, 8))
    image[1:7, 4] = image[2, 3] = 16
    assert image.dtype == np.float64
    assert classifier(image).I.tolist() == classifier(drawn_one()).I.tolist()


@pytest.mark.parametrize("dtype", ["u1", "i2", "i8", "u8", "f2", "f4", "f8"])
def test_queries_of_every_type_and_flat_ones_give_the_same_bits(digits, classifier, dtype):
    images = digits.test_images[:20]
    expected = classifier(images)
    for queries in (images.astype(dtype), images.astype(dtype).reshape(20, 64)):
        answer = classifier(queries)
        assert answer.D.tobytes() == expected.D.tobytes()
        assert answer.I.tobytes() == expected.I.tobytes()


def test_an_arrow_table_of_any_layout_gives_the_answers_of_the_array(digits, classifier):
    images = digits.test_images[:20]
    expected = classifier(images)
    raw = pa.table({"picture": [image.tobytes() for image in images], "name": [str(i) for i in range(20)]})
    lists = pa.table({"pixels": images.reshape(20, 64).tolist()})
    for table in (image_table(images), raw, lists):
        assert classifier(table).I.tolist() == expected.I.tolist()


def encoded(pixels, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def test_the_bytes_of_images_are_answered_as_their_pixels(digits, classifier):
    images = digits.test_images[:20]
    expected, answer = classifier(images), classifier([encoded(image) for image in images])
    assert answer.I.tolist() == expected.I.tolist()
    assert answer.D.tobytes() == expected.D.tobytes()
    assert classifier(encoded(images[3])).I.tolist() == expected.I[3:4].tolist()
    jpeg = encoded(images[0], "JPEG", quality=100)
    assert classifier(jpeg).D.tolist() == classifier(np.asarray(Image.open(io.BytesIO(jpeg)))).D.tolist()


def test_the_bytes_of_images_are_answered_by_an_index_of_flat_ones(digits, tmp_path):
    flat = digits.train_images.reshape(-1, 64).astype(np.float32)
    index_arrays(flat, digits.train_labels, tmp_path / "flat.knn")
    classifier = Classifier.open(tmp_path / "flat.knn")
    images = digits.test_images[:5]
    assert classifier.index.shape == (64,)
    assert classifier([encoded(image) for image in images]).I.tolist() == classifier(images.reshape(5, 64)).I.tolist()


def test_bytes_that_are_no_such_image_are_bad_each_by_itself_even_if_all_are(digits, classifier):
    image = digits.test_images[0]
    bad = [image.tobytes(), b"", encoded(image)[:40], encoded(image[:7]), encoded(np.dstack([image, image, image + 1]))]
    reasons = ["not PNG, JPEG", "not PNG, JPEG", "cannot decode PNG", "image is 7 x 8", "colour image"]
    answer = classifier([*bad, encoded(image)])
    assert answer.status.tolist() == ["bad_image"] * 5 + ["ok"]
    alone = classifier(bad)
    assert alone.status.tolist() == ["bad_image"] * 5
    for told in (answer.reason[:5], alone.reason):
        assert all(reason.startswith(start) for reason, start in zip(told, reasons, strict=True))
    assert classifier(image.tobytes()).status.tolist() == ["bad_image"]


def test_no_images_give_an_answer_of_no_rows(classifier):
    answer = classifier(np.zeros((0, 8, 8), np.uint8))
    assert len(answer.prediction) == 0
    assert answer.prediction.type == pa.int64()
    assert answer.D.shape == answer.I.shape == (0, 5)
    assert answer.probabilities().shape == (0, 10)
    assert len(answer.neighbors()) == 0


@pytest.mark.parametrize("shape", [(3, 7, 7), (3, 63), (7, 7), (2, 8, 8, 3)])
def test_another_shape_is_refused_with_both_shapes(classifier, shape):
    with pytest.raises(ImageFileError, match=r"the index stores 8 x 8"):
        classifier(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("images", [np.zeros(63), np.float64(3), [1, 2, 3]])
def test_what_is_no_batch_of_images_is_refused(classifier, images):
    with pytest.raises(KnnvoteError, match=r"images have shape .*give \(n, \.\.\.\) images of \(8, 8\)"):
        classifier(images)


def test_words_are_refused(classifier):
    with pytest.raises(KnnvoteError, match="integers or floats"):
        classifier(np.full((2, 8, 8), "x"))


def test_a_bad_image_among_good_ones_is_told_with_its_reason_and_leaves_the_others_as_they_are(digits, classifier):
    images = digits.test_images[:5].astype(float)
    expected = classifier(images)
    images[1, 0, 0], images[3, 2, 2] = np.nan, 0.5
    answer = classifier(images)
    assert answer.status.tolist() == ["ok", "bad_image", "ok", "bad_image", "ok"]
    assert answer.reason[1] == "value 0 is NaN"
    assert answer.reason[3].startswith("value 0.5 is not a whole number from 0 to 255")
    assert answer.prediction.to_pylist()[1::2] == [None, None]
    assert answer.prediction.to_pylist()[::2] == expected.prediction.to_pylist()[::2]
    assert (answer.I[1::2] == -1).all()
    assert np.isnan(answer.D[1::2]).all()
    assert np.isnan(answer.probabilities()[1::2]).all()
    assert answer.D[::2].tobytes() == expected.D[::2].tobytes()
    assert [voters is None for voters in answer.neighbors().to_pylist()] == [False, True, False, True, False]


def test_neighbors_name_row_id_label_and_distance_nearest_first(digits, classifier):
    answer = classifier(digits.test_images[:3])
    for row, voters in enumerate(answer.neighbors().to_pylist()):
        assert [voter["row"] for voter in voters] == answer.I[row].tolist()
        assert [voter["distance"] for voter in voters] == answer.D[row].tolist()
        assert [voter["label"] for voter in voters] == digits.train_labels[answer.I[row]].tolist()
        assert [voter["id"] for voter in voters] == [f"train.parquet#{i}" for i in answer.I[row]]


def test_min_confidence_and_max_distance_abstain_and_say_why(digits, exact_index):
    everything = Classifier.open(exact_index)(digits.test_images)
    unsure = Classifier.open(exact_index, Rule(min_confidence=1.0))(digits.test_images)
    wanted = everything.confidence < 1
    assert wanted.any()
    assert (unsure.status == np.where(wanted, "abstained", "ok")).all()
    assert set(unsure.reason[wanted]) == {"confidence below 1"}
    assert np.array_equal(unsure.confidence, everything.confidence)
    limit = float(np.median(everything.D[:, 0]))
    far = Classifier.open(exact_index, Rule(max_distance=limit))(digits.test_images)
    wanted = everything.D[:, 0] > limit
    assert (far.status == np.where(wanted, "abstained", "ok")).all()
    assert [label is None for label in far.prediction.to_pylist()] == wanted.tolist()


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_regression_averages_and_has_no_confidence(tmp_path, digits, weights):
    targets = digits.train_images.mean(axis=(1, 2))
    index_arrays(digits.train_images, targets, tmp_path / "mean.knn", is_regression=True)
    classifier = Classifier.open(tmp_path / "mean.knn", Rule(weights=weights))
    images = without_ties(digits)
    answer = classifier(images)
    theirs = KNeighborsRegressor(5, weights=weights, algorithm="brute")
    theirs.fit(digits.train_images.reshape(-1, 64).astype(float), targets)
    assert np.allclose(answer.prediction.to_numpy(), theirs.predict(images.reshape(-1, 64).astype(float)))
    assert np.isnan(answer.confidence).all()
    with pytest.raises(OptionError, match="regression"):
        answer.probabilities()
    with pytest.raises(OptionError, match="leave out min_confidence"):
        Classifier(classifier.index, Rule(min_confidence=0.5))


@pytest.mark.parametrize("labels", [["no", "yes", "no", "yes"], [True, False, True, True], [7, -3, 7, 1]])
def test_predictions_have_the_type_of_the_labels(tmp_path, labels):
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2) * 10
    index_arrays(images, np.array(labels), tmp_path / "x.knn")
    answer = Classifier.open(tmp_path / "x.knn", Rule(k=1))(images)
    assert answer.prediction.to_pylist() == labels
    assert answer.prediction.type == pa.array(labels).type


def test_an_index_built_from_files_and_one_from_arrays_answer_alike(tmp_path, digits, classifier):
    index_arrays(digits.train_images, digits.train_labels, tmp_path / "arrays.knn")
    answer = Classifier.open(tmp_path / "arrays.knn")(digits.test_images)
    assert answer.D.tobytes() == classifier(digits.test_images).D.tobytes()


def test_more_neighbours_than_images_are_refused(exact_index):
    with pytest.raises(OptionError, match=r"k is 1348, and .* holds 1,347 images: give k from 1 to 1347"):
        Classifier.open(exact_index, Rule(k=1348))


def test_a_folder_that_is_no_index_is_refused(tmp_path):
    with pytest.raises(KnnvoteError, match="is not an index folder"):
        Classifier.open(tmp_path)
    with pytest.raises(KnnvoteError, match="does not exist"):
        Classifier.open(tmp_path / "nothing.knn")


def test_classifying_the_table_of_a_file_equals_classifying_its_pixels(digits, classifier, digits_folder):
    table = pq.read_table(digits_folder / "test.parquet")
    assert classifier(table).I.tolist() == classifier(digits.test_images).I.tolist()


@pytest.mark.parametrize("metric", FAISS_METRICS)
@pytest.mark.parametrize("kind", ["exact", "adaptive"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_of_a_single_class_every_answer_is_that_class(tmp_path, metric, kind, weights):
    rng = np.random.default_rng(1)
    x = rng.integers(1, 256, (80, 9), np.uint8)
    index_arrays(x, ["cat"] * 80, tmp_path / "x.knn", options=IndexOptions(kind=kind, metric=metric))
    answer = Classifier.open(tmp_path / "x.knn", Rule(weights=weights))(rng.integers(1, 256, (30, 9), np.uint8))
    assert answer.prediction.to_pylist() == ["cat"] * 30
    assert (answer.confidence == 1).all()
    assert (answer.probabilities() == 1).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 80])
def test_where_every_class_has_one_row_the_nearest_row_is_the_answer(tmp_path, metric, k):
    rng = np.random.default_rng(2)
    x, xq = rng.integers(1, 256, (80, 9), np.uint8), rng.integers(1, 256, (30, 9), np.uint8)
    index_arrays(x, rng.permutation(80), tmp_path / "x.knn", options=IndexOptions(metric=metric))
    classifier = Classifier.open(tmp_path / "x.knn", Rule(k=k))
    answer = classifier(xq)
    D, I = brute_force.neighbors(xq, x, k, metric)
    assert np.array_equal(answer.I, I)
    assert np.array_equal(answer.D, D)
    assert (D[:, 0] < D[:, 1] if k > 1 else D[:, 0] > 0).all()
    assert answer.prediction.to_pylist() == classifier.index.labels.take(pa.array(I[:, 0])).to_pylist()
    assert np.allclose(answer.confidence, 1 / k)
