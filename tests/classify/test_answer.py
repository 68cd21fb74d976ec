"""Answers as Arrow tables."""

from dataclasses import replace

import numpy as np
import pytest

from knnvote.classify.answer import answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.errors import OptionError
from knnvote.indexer.build import IndexOptions, index_arrays

IMAGES = (np.arange(6 * 4, dtype=np.uint8) * 10).reshape(6, 2, 2)
EVERYTHING = {"neighbors": True, "probabilities": True}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer") / "x.knn"
    index_arrays(IMAGES, np.array(["b", "a", "b", "a", "c", "c"]), folder)
    return Classifier.open(folder, Rule(k=3))


@pytest.fixture
def adaptive(tmp_path):
    index_arrays(IMAGES, list("aabbcc"), tmp_path / "x.knn", options=IndexOptions(kind="adaptive"))
    return Classifier.open(tmp_path / "x.knn", Rule(k=2))


def some_bad():
    images = IMAGES.astype(float)
    images[2, 0, 0] = np.nan
    return images


def test_columns_are_in_the_order_that_is_documented(classifier):
    assert answer_schema(classifier.index).names == [
        "prediction",
        "confidence",
        "distance",
        "best",
        "second",
        "margin",
        "status",
        "reason",
    ]
    assert answer_schema(classifier.index, **EVERYTHING).names[8:] == ["neighbors", "probabilities"]
    assert classifier(IMAGES).to_table().schema == answer_schema(classifier.index)


def test_a_prefix_stands_before_every_added_column(classifier):
    schema = answer_schema(classifier.index, prefix="knn_", **EVERYTHING)
    assert all(name.startswith("knn_") for name in schema.names)
    assert len(schema) == 10
    assert classifier(IMAGES).to_table(prefix="knn_", **EVERYTHING).schema == schema


def test_values_are_those_of_the_answer(classifier):
    answer = classifier(IMAGES)
    table = answer.to_table(**EVERYTHING)
    assert table["prediction"].to_pylist() == answer.prediction.to_pylist()
    assert table["confidence"].to_pylist() == answer.confidence.tolist()
    assert table["distance"].to_pylist() == answer.D[:, 0].tolist()
    assert table["status"].to_pylist() == ["ok"] * 6
    assert table["neighbors"].combine_chunks() == answer.neighbors()
    assert [list(shares.values()) for shares in table["probabilities"].to_pylist()] == answer.probabilities().tolist()


def test_values_have_the_types_of_their_fields_even_where_every_image_is_bad(classifier):
    for images in (IMAGES, IMAGES[:0], np.full((2, 2, 2), np.nan)):
        table = classifier(images).to_table(**EVERYTHING)
        table.validate(full=True)
        assert table.schema == answer_schema(classifier.index, **EVERYTHING)
        assert table.num_rows == len(images)


def test_what_is_unknown_is_null_and_never_nan(classifier):
    table = classifier(some_bad()).to_table(**EVERYTHING)
    bad = table.to_pylist()[2]
    assert bad.pop("status") == "bad_image"
    assert bad.pop("reason") == "pixel 0 is NaN"
    assert set(bad.values()) == {None}
    for name in table.column_names:
        unanimous = classifier(some_bad()).margin == 1
        nulls = {"reason": 5, "status": 0, "second": 1 + unanimous.sum()}
        assert table[name].null_count == nulls.get(name, 1)


def test_probabilities_carry_the_names_of_the_classes_and_sum_to_one(classifier):
    shares = classifier(IMAGES).to_table(**EVERYTHING)["probabilities"].to_pylist()
    assert list(shares[0]) == ["a", "b", "c"]
    assert np.allclose([sum(share.values()) for share in shares], 1)


def test_probabilities_of_a_regression_are_refused(tmp_path):
    index_arrays(IMAGES, np.arange(6.0), tmp_path / "r.knn", is_regression=True)
    classifier = Classifier.open(tmp_path / "r.knn")
    with pytest.raises(OptionError, match=r"leave out probabilities$"):
        answer_schema(classifier.index, probabilities=True)
    with pytest.raises(OptionError, match=r"leave out probabilities$"):
        classifier(IMAGES).to_table(probabilities=True)


def test_beside_the_neighbours_of_an_adaptive_index_stands_the_rung_that_settled_them_null_for_bad_images(adaptive):
    assert answer_schema(adaptive.index, **EVERYTHING).names[8:] == ["neighbors", "rung", "probabilities"]
    assert "rung" not in answer_schema(adaptive.index, probabilities=True).names
    assert answer_schema(adaptive.index, neighbors=True, prefix="knn_").names[-1] == "knn_rung"
    images = some_bad()
    for asked, expected in ((images, [1, 1, None, 1, 1, 1]), (images[:0], []), (images[2:3], [None])):
        table = adaptive(asked).to_table(**EVERYTHING)
        table.validate(full=True)
        assert table["rung"].to_pylist() == expected


def test_neighbours_that_no_rung_found_have_none(adaptive):
    answer = adaptive(IMAGES)
    voted = adaptive.answer_neighbors(answer.D, answer.I)
    table, expected = (one.to_table(**EVERYTHING) for one in (voted, answer))
    assert table["rung"].null_count == 6
    assert table.drop_columns(["rung"]) == expected.drop_columns(["rung"])


def test_more_neighbours_than_a_column_of_lists_holds_are_refused_before_any_is_looked_up(classifier):
    answer = classifier(IMAGES)
    huge = replace(answer, I=np.broadcast_to(np.int64(0), (6, 2**29)))  # no memory
    with pytest.raises(OptionError, match=r"^536,870,912 neighbours of 6 images are .*give batch_size 3 at most"):
        huge.neighbors()
    assert len(answer.neighbors()) == 6
