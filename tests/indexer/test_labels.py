"""Which column holds the labels, and what types they may have."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.indexer.labels import (
    class_names,
    find_label,
    label_array,
    like_known,
    recognise_label,
    told_alike,
    true_labels,
)

IMAGE = pa.binary()


def schema(**columns):
    return pa.schema({"image": IMAGE, **columns})


def recognise(found, *, label_column=None, id_column=None):
    return recognise_label(found, ["image"], label_column, id_column)


@pytest.mark.parametrize("name", ["label", "Label", "LABELS", "class", "target", "y", "digit", "category"])
def test_a_usual_name_is_taken_among_other_columns(name):
    assert recognise(schema(id=pa.int64(), **{name: pa.string()}, split=pa.string(), score=pa.float64())) == name


@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(),
        pa.uint64(),
        pa.bool_(),
        pa.float32(),
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.int64()),
    ],
)
def test_the_only_column_left_that_could_be_a_label_is_taken(kind):
    assert recognise(schema(animal=kind, taken=pa.timestamp("s"), box=pa.list_(pa.int32()))) == "animal"


def test_the_id_column_and_a_pandas_index_are_not_left():
    found = schema(key=pa.string(), animal=pa.string(), __index_level_0__=pa.int64())
    assert recognise(found, id_column="key") == "animal"


def test_the_columns_of_a_wide_layout_are_not_left():
    found = pa.schema({"pixel0": pa.uint8(), "pixel1": pa.uint8(), "animal": pa.string()})
    assert recognise_label(found, ["pixel0", "pixel1"], None, None) == "animal"


def test_the_named_column_is_taken_whatever_the_names():
    assert recognise(schema(label=pa.int64(), animal=pa.string()), label_column="animal") == "animal"


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"animal": pa.string(), "size": pa.int64(), "box": pa.list_(pa.int8())},
            {},
            r"several columns could be the label: animal \(string\), size \(int64\); name one with label_column$",
        ),
        ({"label": pa.string(), "class": pa.int8(), "animal": pa.string()}, {}, r"the label: label .*, class \(int8"),
        ({}, {}, r"beside the images; there are no other columns; give labels in a file of their own with labels$"),
        (
            {"box": pa.list_(pa.int8())},
            {},
            r"\(list<.*; name one with label_column, or give labels in a file of their ",
        ),
        ({"label": pa.int64()}, {"label_column": "lable"}, r"no column 'lable' for label_column; there are image"),
    ],
)
def test_a_guess_that_fails_names_the_columns_and_the_option(columns, options, message):
    with pytest.raises(ImageFileError, match=message):
        recognise(schema(**columns), **options)


def test_two_columns_of_one_name_are_refused_and_not_mixed_up():
    twice = pa.schema([("image", IMAGE), ("label", pa.int64()), ("label", pa.int64())])
    with pytest.raises(ImageFileError, match=r"several columns could be the label: label \(int64\), label \(int64\)"):
        recognise(twice)
    with pytest.raises(ImageFileError, match="several columns are named 'label'"):
        recognise(twice, label_column="label")


def test_a_message_lists_no_more_columns_than_a_person_reads():
    with pytest.raises(ImageFileError) as refused:
        recognise(schema(**{f"x{i}": pa.int64() for i in range(500)}))
    assert "x11 (int64), ..." in str(refused.value)
    assert "x12" not in str(refused.value)


def test_test_images_may_have_labels_or_none():
    assert find_label(schema(label=pa.int64(), animal=pa.string()), ["image"], "animal") == "animal"
    assert find_label(schema(label=pa.int64()), ["image"], "animal") == "label"
    assert find_label(schema(label=pa.int64()), ["image"], "image") == "label"
    assert find_label(schema(), ["image"], None) is None
    assert find_label(schema(row_id=pa.int64()), ["image"], None) is None, "the only other column need not be the truth"
    assert find_label(schema(a=pa.int64(), b=pa.int64()), ["image"], None) is None


def hugging_face(feature):
    return {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}


def test_hugging_face_class_names_are_read():
    feature = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    assert class_names(schema(label=pa.int64()).with_metadata(hugging_face(feature)), "label") == ["cat", "dog"]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"huggingface": "not json"},
        {"huggingface": "[]"},
        {"huggingface": b"\xff"},
        {"huggingface": "{}"},
        hugging_face({"dtype": "int64", "_type": "Value"}),
        hugging_face({"names": 3}),
        hugging_face(None),
    ],
)
def test_metadata_without_class_names_give_none(metadata):
    assert class_names(schema(label=pa.int64()).with_metadata(metadata), "label") is None


@pytest.mark.parametrize(
    ("given", "kind", "values"),
    [
        (pa.array([1, 2], pa.int8()), pa.int8(), [1, 2]),
        (pa.array([2**64 - 1], pa.uint64()), pa.uint64(), [2**64 - 1]),
        (pa.array([True, False]), pa.bool_(), [True, False]),
        (pa.array(["cat", "dög"]), pa.string(), ["cat", "dög"]),
        (pa.array(["cat"], pa.large_string()), pa.string(), ["cat"]),
        (pa.array(["cat"], pa.string_view()), pa.string(), ["cat"]),
        (pa.array(["cat", "dog", "cat"]).dictionary_encode(), pa.string(), ["cat", "dog", "cat"]),
        (pa.array(["a", "b"], pa.large_string()).dictionary_encode(), pa.string(), ["a", "b"]),
        (pa.array(pd.Series(["x", "y", "x"], dtype="category")), pa.string(), ["x", "y", "x"]),
        (pa.array(pd.Series([7, 9, 7], dtype="category")), pa.int64(), [7, 9, 7]),
        (pa.array([b"cat", b"d\xc3\xb6g"]), pa.string(), ["cat", "dög"]),
        (pa.array([b"ab", b"cd"], pa.binary(2)), pa.string(), ["ab", "cd"]),
        (pa.array([1.0, None, -3.0]), pa.int64(), [1, None, -3]),
        (pa.array([1.0, np.nan], pa.float32()), pa.int64(), [1, None]),
        (pa.array([Decimal("7"), Decimal("12")]), pa.int64(), [7, 12]),
        (pa.array([Decimal("7.00"), None]), pa.int64(), [7, None]),
        (pl.Series(["x", "y"], dtype=pl.Categorical).to_arrow(), pa.string(), ["x", "y"]),
        (pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"])).to_arrow(), pa.string(), ["x", "y"]),
    ],
)
def test_integers_strings_and_booleans_keep_their_values_however_they_are_encoded(given, kind, values):
    labels = label_array(given, is_regression=False)
    assert labels.type == kind
    assert labels.to_pylist() == values


@pytest.mark.parametrize("given", [pa.array([1, 2], pa.int16()), pa.array([1, 2], pa.float32()), pa.array([1.0, 2.0])])
def test_regression_takes_numbers_as_float64(given):
    labels = label_array(given, is_regression=True)
    assert labels.type == pa.float64()
    assert labels.to_pylist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "is_regression", "message"),
    [
        (pa.array([1.5]), False, "labels of type double are numbers to be averaged: pass is_regression=True"),
        (pa.array([b"\xff"]), False, "labels of type binary are bytes that are not text in UTF-8: give integers"),
        (pa.array([Decimal("1.5")]), False, "labels of type double are numbers to be averaged"),
        (pa.array([[1]]), False, "labels of type list.* cannot be used"),
        (pa.array([None]), False, "labels of type null cannot be used"),
        (pa.array(["x"]), True, "labels of type string cannot be averaged: is_regression=True needs numbers"),
        (pa.array([True]), True, "labels of type bool cannot be averaged"),
        (pa.array([1.0, np.inf]), True, "a label is NaN or infinite"),
        (pa.array([1.0, np.nan]), True, "a label is NaN or infinite"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_with_the_way_out(given, is_regression, message):
    with pytest.raises(KnnvoteError, match=message):
        label_array(given, is_regression=is_regression)


@pytest.mark.parametrize(
    ("label", "known", "told"),
    [
        ("declined_card_paymnet", ["declined_card_payment", "top_up"], " (like 'declined_card_payment')"),
        ("b", ["A", "B"], " (like 'B')"),
        ("digit 8", ["digit 7"], ""),
        ("Q", ["O"], ""),
        (8, [7], ""),
        ("owl", [1, 2], ""),
    ],
)
def test_a_new_class_that_may_be_mistyped_is_told_with_the_one_it_is_like(label, known, told):
    assert like_known(label, known) == told


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["cat", "cat ", "dog"], "'cat' and 'cat '"),
        (["top up", "top\u00a0up", "top  up"], r"'top  up' and 'top up' and 'top\xa0up'"),
        (["eel", "e\u200bel", "\ufeffeel"], r"'eel' and 'e\u200bel' and '\ufeffeel'"),
        (["caf\u00e9", "cafe\u0301"], r"'cafe\u0301' and 'café'"),
        (["", " ", *"aAbB", "a ", "b ", "A ", "B "], "'' and ' ', 'a' and 'a ', 'A' and 'A ', ..."),
    ],
)
def test_labels_that_look_the_same_are_told_as_they_are(labels, shown):
    assert f"and in nothing else: {shown}; each is a class of its own" in told_alike(labels)


def test_labels_that_are_seen_to_be_unlike_are_no_matter_of_talk():
    assert told_alike(["a", "A", "a b", "ab", "naïve", "naive", 1, 2, True]) is None


def test_blank_text_and_nan_are_no_true_labels():
    texts = pa.array(["a", "", " ", None])
    for column in (texts, texts.dictionary_encode(), texts.cast(pa.large_binary())):
        assert true_labels(column, pa.string())[:2] == ["a", None]
    assert true_labels(texts, pa.int64(), known=["b", "a"]) == [1, None, None, None]
    assert true_labels(pa.array(np.array([1, np.nan], np.float16)), pa.int64()) == [1, None]
