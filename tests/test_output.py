"""Columns of output files."""

import json

import numpy as np
import pyarrow as pa
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.output import (
    ROW_GROUP,
    OutputOptions,
    answer_columns,
    answer_fields,
    kept_columns,
    row_groups,
)
from knnvote.classify.vote import Rule
from knnvote.data.errors import ImageFileError, OptionError
from knnvote.data.parquet import schema_metadata_without_images
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.store import open_index

IMAGES = (np.arange(6 * 4, dtype=np.uint8) * 10).reshape(6, 2, 2)
SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64()), ("name", pa.string()), ("other", pa.float32())])
EVERYTHING = OutputOptions(neighbors=True, probabilities=True)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("output") / "x.knn"
    index_arrays(IMAGES, np.array(["b", "a", "b", "a", "c", "c"]), folder)
    return Classifier.open(folder, Rule(k=3))


def names(fields):
    return [field.name for field in fields]


def test_columns_are_in_the_order_that_is_documented(classifier):
    assert names(answer_fields(classifier.index, OutputOptions())) == [
        "prediction",
        "confidence",
        "distance",
        "status",
        "reason",
    ]
    assert names(answer_fields(classifier.index, EVERYTHING))[5:] == ["neighbors", "probabilities"]


def test_a_prefix_stands_before_every_added_column(classifier):
    options = OutputOptions(neighbors=True, probabilities=True, prefix="knn_")
    fields = answer_fields(classifier.index, options)
    assert all(field.name.startswith("knn_") for field in fields)
    assert len(fields) == 7


def test_values_have_the_types_of_their_fields_even_where_every_image_is_bad(classifier):
    for images in (IMAGES, IMAGES[:0], np.full((2, 2, 2), np.nan)):
        columns = answer_columns(classifier(images), EVERYTHING)
        fields = answer_fields(classifier.index, EVERYTHING)
        table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
        table.validate(full=True)
        assert table.num_rows == len(images)


def test_what_is_unknown_is_null_and_never_nan(classifier):
    images = IMAGES.astype(float)
    images[2, 0, 0] = np.nan
    table = pa.table(
        answer_columns(classifier(images), EVERYTHING), schema=pa.schema(answer_fields(classifier.index, EVERYTHING))
    )
    bad = table.to_pylist()[2]
    assert bad.pop("status") == "bad_image"
    assert bad.pop("reason") == "pixel 0 is NaN"
    assert set(bad.values()) == {None}
    for name in table.column_names:
        assert table[name].null_count == (5 if name == "reason" else 0 if name == "status" else 1)


def test_probabilities_carry_the_names_of_the_classes_and_sum_to_one(classifier):
    shares = answer_columns(classifier(IMAGES), EVERYTHING)[-1].to_pylist()
    assert list(shares[0]) == ["a", "b", "c"]
    assert np.allclose([sum(share.values()) for share in shares], 1)


def test_probabilities_of_a_regression_are_refused(tmp_path):
    index_arrays(IMAGES, np.arange(6.0), tmp_path / "r.knn", is_regression=True)
    with pytest.raises(OptionError, match="leave out probabilities"):
        answer_fields(open_index(tmp_path / "r.knn"), OutputOptions(probabilities=True))


def test_all_columns_but_the_image_are_kept_in_their_order_and_keep_narrows_them(classifier):
    fields = answer_fields(classifier.index, OutputOptions())
    assert kept_columns(SCHEMA, ["image"], fields, OutputOptions()) == ["label", "name", "other"]
    assert kept_columns(SCHEMA, ["image"], fields, OutputOptions(keep=("other", "label"))) == ["label", "other"]


def test_a_column_to_keep_that_does_not_exist_is_refused_with_those_that_do(classifier):
    fields = answer_fields(classifier.index, OutputOptions())
    for name in ("nothing", "image"):
        with pytest.raises(ImageFileError, match=rf"no column '{name}' for keep; beside the image there are label"):
            kept_columns(SCHEMA, ["image"], fields, OutputOptions(keep=(name,)))


@pytest.mark.parametrize("name", ["prediction", "confidence", "distance", "status", "reason", "neighbors"])
def test_an_input_column_with_the_name_of_ours_is_refused_with_a_word_on_prefix(classifier, name):
    fields = answer_fields(classifier.index, EVERYTHING)
    schema = SCHEMA.append(pa.field(name, pa.int64()))
    with pytest.raises(ImageFileError, match=rf"has a column '{name}' already: pass prefix knn_ to"):
        kept_columns(schema, ["image"], fields, EVERYTHING)
    assert name not in kept_columns(schema, ["image"], fields, OutputOptions(keep=("label",)))
    prefixed = answer_fields(classifier.index, OutputOptions(neighbors=True, prefix="knn_"))
    assert name in kept_columns(schema, ["image"], prefixed, OutputOptions(neighbors=True, prefix="knn_"))


def test_two_columns_of_one_name_are_refused_unless_left_out(classifier):
    fields = answer_fields(classifier.index, OutputOptions())
    schema = SCHEMA.append(pa.field("name", pa.int64()))
    with pytest.raises(ImageFileError, match="several columns 'name'"):
        kept_columns(schema, ["image"], fields, OutputOptions())
    assert kept_columns(schema, ["image"], fields, OutputOptions(keep=("label",))) == ["label"]


def test_row_groups_do_not_tell_how_the_rows_came():
    table = pa.table({"x": np.arange(2 * ROW_GROUP + 5), "s": pa.array(["a", "b", None] * 50000)[: 2 * ROW_GROUP + 5]})

    def pieces(size):
        return (table.slice(start, size) for start in range(0, len(table), size))

    for size in (997, ROW_GROUP, ROW_GROUP + 1, len(table)):
        groups = list(row_groups(pieces(size), table.schema))
        assert [len(group) for group in groups] == [ROW_GROUP, ROW_GROUP, 5]
        assert all(column.num_chunks == 1 for group in groups for column in group.columns)
        assert pa.concat_tables(groups).equals(table)
    assert list(row_groups([], table.schema)) == []
    assert list(row_groups([table.slice(0, 0)], table.schema)) == []


def test_metadata_that_described_the_image_go_and_others_stay():
    schema = SCHEMA.with_metadata({"huggingface": json.dumps({}), "pandas": "{}", "mine": "kept"})
    assert schema_metadata_without_images(schema).metadata == {b"mine": b"kept"}
    assert not schema_metadata_without_images(SCHEMA.with_metadata({"pandas": "{}"})).metadata
    assert not schema_metadata_without_images(SCHEMA).metadata


def test_beside_the_neighbours_of_an_adaptive_index_stands_the_rung_that_settled_them_null_for_bad_images(tmp_path):
    index_arrays(IMAGES, list("aabbcc"), tmp_path / "x.knn", options=IndexOptions(kind="adaptive"))
    classifier = Classifier.open(tmp_path / "x.knn", Rule(k=2))
    assert names(answer_fields(classifier.index, EVERYTHING))[5:] == ["neighbors", "rung", "probabilities"]
    assert "rung" not in names(answer_fields(classifier.index, OutputOptions(probabilities=True)))
    prefixed = OutputOptions(neighbors=True, prefix="knn_")
    assert names(answer_fields(classifier.index, prefixed))[-1] == "knn_rung"
    images = IMAGES.astype(float)
    images[2, 0, 0] = np.nan
    for asked, expected in ((images, [1, 1, None, 1, 1, 1]), (images[:0], []), (images[2:3], [None])):
        fields = answer_fields(classifier.index, EVERYTHING)
        table = pa.Table.from_arrays(answer_columns(classifier(asked), EVERYTHING), schema=pa.schema(fields))
        table.validate(full=True)
        assert table["rung"].to_pylist() == expected
