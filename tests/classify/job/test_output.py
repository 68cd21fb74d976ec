"""Columns of output files."""

import json

import numpy as np
import pyarrow as pa
import pytest

from knnvote.classify.answer import answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.output import (
    ROW_GROUP,
    OutputOptions,
    in_one_piece,
    kept_columns,
    row_groups,
    rows_in_group,
    tell_of_shares,
)
from knnvote.classify.vote import Rule
from knnvote.data.errors import ImageFileError
from knnvote.data.rows import schema_metadata_without_images
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index

IMAGES = (np.arange(6 * 4, dtype=np.uint8) * 10).reshape(6, 2, 2)
SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64()), ("name", pa.string()), ("other", pa.float32())])
EVERYTHING = OutputOptions(neighbors=True, probabilities=True, top=2)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("output") / "x.knn"
    index_arrays(IMAGES, np.array(["b", "a", "b", "a", "c", "c"]), folder)
    return Classifier.open(folder, Rule(k=3))


def test_all_columns_but_the_image_are_kept_in_their_order_and_keep_narrows_them(classifier):
    added = answer_schema(classifier.index)
    assert kept_columns(SCHEMA, ["image"], added, OutputOptions()) == ["label", "name", "other"]
    assert kept_columns(SCHEMA, ["image"], added, OutputOptions(keep=("other", "label"))) == ["label", "other"]


def test_a_column_to_keep_that_does_not_exist_is_refused_with_those_that_do(classifier):
    added = answer_schema(classifier.index)
    for name in ("nothing", "image"):
        with pytest.raises(ImageFileError, match=rf"no column '{name}' for keep; columns beside the image: label"):
            kept_columns(SCHEMA, ["image"], added, OutputOptions(keep=(name,)))


@pytest.mark.parametrize(
    "name",
    [
        *("prediction", "confidence", "distance", "best", "second", "margin", "status", "reason", "neighbors"),
        *("probabilities", "top", "top_share"),
    ],
)
def test_an_input_column_with_the_name_of_ours_is_refused_with_a_word_on_prefix(classifier, name):
    added = answer_schema(classifier.index, **EVERYTHING.of_answers)
    schema = SCHEMA.append(pa.field(name, pa.int64()))
    with pytest.raises(ImageFileError, match=rf"has a column '{name}' already: pass prefix knn_ to"):
        kept_columns(schema, ["image"], added, EVERYTHING)
    assert name not in kept_columns(schema, ["image"], added, OutputOptions(keep=("label",)))
    options = OutputOptions(neighbors=True, prefix="knn_")
    prefixed = answer_schema(classifier.index, **options.of_answers)
    assert name in kept_columns(schema, ["image"], prefixed, options)


def test_two_columns_of_one_name_are_refused_unless_left_out(classifier):
    added = answer_schema(classifier.index)
    schema = SCHEMA.append(pa.field("name", pa.int64()))
    with pytest.raises(ImageFileError, match="several columns 'name'"):
        kept_columns(schema, ["image"], added, OutputOptions())
    assert kept_columns(schema, ["image"], added, OutputOptions(keep=("label",))) == ["label"]


def test_columns_whose_names_differ_in_case_alone_are_refused_as_readers_take_them_for_one(classifier):
    added = answer_schema(classifier.index)
    schema = SCHEMA.append(pa.field("Label", pa.int64()))
    with pytest.raises(ImageFileError, match=r"columns 'label' and 'Label', which many readers .* with keep"):
        kept_columns(schema, ["image"], added, OutputOptions())
    assert kept_columns(schema, ["image"], added, OutputOptions(keep=("Label",))) == ["Label"]


def test_a_prefix_that_is_named_is_one_that_works(classifier):
    schema = pa.schema([pa.field(name, pa.int64()) for name in ("Prediction", "KNN_prediction")])
    for prefix in ("", "knn_"):
        added = answer_schema(classifier.index, prefix=prefix)
        with pytest.raises(ImageFileError, match=r"already: pass prefix knn_knn_ to name"):
            kept_columns(schema, [], added, OutputOptions(prefix=prefix))
    added = answer_schema(classifier.index, prefix="knn_knn_")
    assert kept_columns(schema, [], added, OutputOptions(prefix="knn_knn_")) == schema.names


def test_row_groups_do_not_tell_how_the_rows_came():
    table = pa.table({"x": np.arange(2 * ROW_GROUP + 5), "s": pa.array(["a", "b", None] * 50000)[: 2 * ROW_GROUP + 5]})

    def pieces(size):
        return (table.slice(start, size) for start in range(0, len(table), size))

    for size in (997, ROW_GROUP, ROW_GROUP + 1, len(table)):
        groups = list(map(in_one_piece, row_groups(pieces(size), table.schema)))
        assert [len(group) for group in groups] == [ROW_GROUP, ROW_GROUP, 5]
        assert all(column.num_chunks == 1 for group in groups for column in group.columns)
        assert pa.concat_tables(groups).equals(table)
    assert list(row_groups([], table.schema)) == []
    assert list(row_groups([table.slice(0, 0)], table.schema)) == []


@pytest.mark.parametrize(
    ("options", "k", "classes", "rows"),
    [
        ({}, 5, 10, ROW_GROUP),
        ({"neighbors": True, "probabilities": True}, 20, 100, ROW_GROUP),
        ({}, 5000, 50_000, ROW_GROUP),
        ({"neighbors": True}, 5000, 10, 268),
        ({"probabilities": True}, 5, 22_000, 762),
        ({"probabilities": True}, 5, 10**9, 1),
        ({"top": 5}, 5, 22_000, ROW_GROUP),
        ({"top": 5000}, 5000, 22_000, 838),
    ],
)
def test_a_row_group_has_fewer_rows_where_answers_are_large(options, k, classes, rows):
    assert rows_in_group(10**6, OutputOptions(**options), k=k, classes=classes) == rows
    assert rows_in_group(7, OutputOptions(**options), k=k, classes=classes) == min(7, rows)


def test_metadata_that_described_the_image_go_and_others_stay():
    schema = SCHEMA.with_metadata({"huggingface": json.dumps({}), "pandas": "{}", "mine": "kept"})
    assert schema_metadata_without_images(schema).metadata == {b"mine": b"kept"}
    assert not schema_metadata_without_images(SCHEMA.with_metadata({"pandas": "{}"})).metadata
    assert not schema_metadata_without_images(SCHEMA).metadata


def test_a_share_for_each_of_many_classes_is_told_to_be_too_much_and_top_is_not(tmp_path):
    x = np.arange(1001 * 2, dtype=np.uint16).reshape(-1, 2)
    index_arrays(x, np.arange(1001), tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    with pytest.warns(UserWarning, match=r"each of 1,001 classes, .*: top 5 in place of probabilities tells"):
        tell_of_shares(answer_schema(index, probabilities=True))
    tell_of_shares(answer_schema(index, top=5, neighbors=True))
    index_arrays(x[:1000], np.arange(1000), tmp_path / "y.knn")
    tell_of_shares(answer_schema(open_index(tmp_path / "y.knn"), probabilities=True))
