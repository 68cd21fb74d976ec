"""Answers as Arrow tables."""

import functools
import json
import operator
from dataclasses import replace

import numpy as np
import pytest
from repeats import spread
from weightings import WEIGHTS

from knnvote.classify.answer import answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.errors import OptionError
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays, index_files

IMAGES = (np.arange(6 * 4, dtype=np.uint8) * 10).reshape(6, 2, 2)
EVERYTHING = {"neighbors": True, "probabilities": True, "top": 2}


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
    assert answer_schema(classifier.index, **EVERYTHING).names[8:] == ["neighbors", "probabilities", "top", "top_share"]
    assert classifier(IMAGES).to_table().schema == answer_schema(classifier.index)


def test_a_prefix_stands_before_every_added_column(classifier):
    schema = answer_schema(classifier.index, prefix="knn_", **EVERYTHING)
    assert all(name.startswith("knn_") for name in schema.names)
    assert len(schema) == 12
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
    assert bad.pop("reason") == "value 0 is NaN"
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
    for ask in (lambda: answer_schema(classifier.index, top=3), lambda: classifier(IMAGES).top(3)):
        with pytest.raises(OptionError, match=r"r\.knn was built for regression, .*: leave out top$"):
            ask()


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", True])
def test_no_such_number_of_best_classes_is_refused(classifier, n):
    asks = {"top": lambda: answer_schema(classifier.index, top=n), "n": lambda: classifier(IMAGES).top(n)}
    for name, ask in asks.items():
        with pytest.raises(OptionError, match=rf"^{name} is {n!r}: give a whole number of at least 1$"):
            ask()


@pytest.mark.parametrize("ties", ["nearest", "first-class"])
@spread(("weights", WEIGHTS), ("k", [4, 12, 1]))
def test_the_best_classes_are_all_that_have_votes_by_share_and_then_as_ties_go(tmp_path, weights, ties, k):
    rng = np.random.default_rng(7)
    x, xq = rng.integers(0, 4, (60, 3), np.uint8), rng.integers(0, 4, (40, 3), np.uint8)  # many ties and copies
    index_arrays(x, rng.integers(0, 7, 60) * 3, tmp_path / "x.knn")
    answer = Classifier.open(tmp_path / "x.knn", Rule(k=k, weights=weights, ties=ties))(xq)
    classes = answer.index.classes.to_pylist()
    for n in (1, 3, 7, 99):
        found = answer.top(n).to_pylist()
        for row, told in enumerate(found):
            labels, D = answer.index.labels.take(answer.I[row]).to_pylist(), answer.D[row].tolist()
            shares = dict(zip(classes, answer.probabilities()[row].tolist(), strict=True))
            far = {label: added(d for d, other in zip(D, labels, strict=True) if other == label) for label in labels}
            order = [(-shares[c], far[c] if ties == "nearest" else 0, c) for c in far]
            expected = [c for *_, c in sorted(order)][:n]
            assert told == {"top": expected, "top_share": [shares[label] for label in expected]}
        assert [told["top"][0] for told in found] == answer.best.to_pylist()
        assert [told["top_share"][0] for told in found] == answer.confidence.tolist()
        if n > 1:
            assert [told["top"][1] if told["top"][1:] else None for told in found] == answer.second.to_pylist()


def added(values):
    return functools.reduce(operator.add, values, 0.0)


def test_the_best_classes_of_bad_images_are_null_and_classes_with_names_have_them(tmp_path):
    names = {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog", "hen"]}}}
    metadata = {"huggingface": json.dumps({"info": names})}
    table = image_table(IMAGES, np.array([0, 1, 0, 1, 2, 2])).replace_schema_metadata(metadata)
    write_table(table, tmp_path / "x.parquet")
    index_files(str(tmp_path / "x.parquet"), tmp_path / "x.knn")
    answer = Classifier.open(tmp_path / "x.knn", Rule(k=3))(some_bad())
    found = answer.top(2)
    assert found.column_names == ["top", "top_share", "top_name"]
    assert [told["top"] is None for told in found.to_pylist()] == [row == 2 for row in range(6)]
    assert found["top_name"].to_pylist()[:3] == [["0 (cat)", "1 (dog)"], ["0 (cat)", "1 (dog)"], None]
    assert answer.top(2).select(["top", "top_share"]).equals(answer.to_table(top=2).select(["top", "top_share"]))


def test_beside_the_neighbours_of_an_adaptive_index_stands_the_rung_that_settled_them_null_for_bad_images(adaptive):
    assert answer_schema(adaptive.index, **EVERYTHING).names[8:] == [
        *("neighbors", "rung", "probabilities", "top", "top_share")
    ]
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
    with pytest.raises(OptionError, match=r"^536,870,912 classes of 6 images are .*give batch_size 3 at most"):
        huge._check_lists(2**29, "classes")  # ranking so many would take the memory
