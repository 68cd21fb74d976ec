"""Arrays that become an index or come to one: ids, progress, and what is refused."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from growing import IMAGES, KINDS, LABELS, NEW, OLD

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, Note, OptionError
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.arrays import labelled
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.grow import add_arrays, compact, relabel_ids, remove_ids

TYPES = {
    "uint8": lambda images: images,
    "uint16": lambda images: images.astype(np.uint16) * 1000,
    "int8": lambda images: images.astype(np.int8) - np.int8(8),
    "float32": lambda images: images.astype(np.float32) + np.float32(0.5),
    "float64": lambda images: images / 7,
}


@pytest.fixture
def stored(tmp_path):
    """An index of the old images."""
    index_arrays(IMAGES[OLD], LABELS[OLD], tmp_path / "x.knn")
    return tmp_path / "x.knn"


def state(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    "ids",
    [
        [f"é{row}" for row in range(160)],
        np.array([f"é{row}" for row in range(160)]),
        pa.array([f"é{row}" for row in range(160)], pa.large_string()),
        pd.Series([f"é{row}" for row in range(160)]),
        pl.Series([f"é{row}" for row in range(160)]),
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_images_are_known_by_the_ids_that_they_are_given(tmp_path, ids):
    index_arrays(IMAGES, LABELS, tmp_path / "x.knn", ids=ids)
    index = open_index(tmp_path / "x.knn")
    assert index.ids.to_pylist() == [f"é{row}" for row in range(160)]
    answer = Classifier(index, Rule(k=1))(IMAGES[5:7])
    assert [voters[0]["id"] for voters in answer.neighbors().to_pylist()] == ["é5", "é6"]
    assert relabel_ids(tmp_path / "x.knn", ["é5"], [(int(LABELS[5]) + 1) % 10]) == 1
    assert remove_ids(tmp_path / "x.knn", ["é6"]) == 1
    assert verify_folder(tmp_path / "x.knn") == []


def test_whole_numbers_are_ids_and_a_missing_one_is_the_row(tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x.knn", ids=np.arange(160) + 1000)
    assert open_index(tmp_path / "x.knn").ids[-1].as_py() == "1159"
    assert relabel_ids(tmp_path / "x.knn", 1159, int(LABELS[-1] + 1) % 10) == 1
    assert remove_ids(tmp_path / "x.knn", np.array([1159, 1000])) == remove_ids(tmp_path / "x.knn", 1001) + 1 == 2
    index_arrays(IMAGES[:3], LABELS[:3], tmp_path / "y.knn", ids=["a", None, "c"])
    assert open_index(tmp_path / "y.knn").ids.to_pylist() == ["a", "array#1", "c"]


def test_ids_change_nothing_else(tmp_path):
    for name, ids in (("x.knn", None), ("y.knn", [f"array#{row}" for row in range(160)])):
        index_arrays(IMAGES, LABELS, tmp_path / name, ids=ids)
    assert open_index(tmp_path / "x.knn").fingerprint == open_index(tmp_path / "y.knn").fingerprint


def test_an_id_that_is_the_name_of_a_file_tells_no_file(tmp_path):
    x = np.array([[0], [0], [9], [9]], np.uint8)
    index_arrays(x, ["a", "b", "a", "a"], tmp_path / "x.knn", ids=["a.png", "b.png", "s.tar#c.png", "d"])
    index = open_index(tmp_path / "x.knn")
    assert index.places(np.arange(4)).to_pylist() == [{"file": "array", "row": row} for row in range(4)]
    first = find_suspects(index, k=1).suspects[0]
    assert (first.id, first.file, first.file_row) in {("a.png", "array", 0), ("b.png", "array", 1)}


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (["a"], "^ids is 1: give one text or whole number for each of the 160 images$"),
        (np.arange(160) / 2, "^ids are of type double: give one text"),
        ([["a"]] * 160, r"^ids are of type list<.*>: give one text"),
        (np.array([["a"]] * 160), r"^ids cannot be used \(they have shape \(160, 1\)\): give one text"),
        (["a", 1] * 80, r"^ids cannot be used \(.*\): give one text"),
    ],
    ids=["one", "fractions", "lists", "two axes", "mixed"],
)
def test_ids_that_are_none_are_refused(tmp_path, stored, ids, told):
    before = state(stored)
    with pytest.raises(OptionError, match=told):
        index_arrays(IMAGES, LABELS, tmp_path / "new.knn", ids=ids)
    with pytest.raises(OptionError, match=told):
        add_arrays(stored, IMAGES, LABELS, ids=ids)
    assert not (tmp_path / "new.knn").exists()
    assert state(stored) == before


def test_progress_is_told_all_rows_block_by_block(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(labelled, "_BLOCK", 64)
    for call in (
        lambda seen: index_arrays(IMAGES, LABELS, tmp_path / "new.knn", progress=seen.append),
        lambda seen: add_arrays(stored, IMAGES, LABELS, progress=seen.append),
    ):
        seen = []
        call(seen)
        assert seen == [64, 64, 32]
    with pytest.raises(KnnvoteError, match=r"^image 130 cannot be stored: not finite; leave it out$"):
        index_arrays(np.where(np.arange(160)[:, None] == 130, np.nan, 1.0), LABELS, tmp_path / "bad.knn")


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        *((kind, "uint8", "uint8") for kind in KINDS),
        *(("exact", *pair) for pair in (("uint8", "uint16"), ("uint8", "int8"), ("float32", "float64"))),
    ],
)
def test_an_index_that_arrays_came_to_is_one_of_all_when_it_is_compacted(tmp_path, kind, old, new):
    options = IndexOptions(**KINDS[kind], threads=1)
    one, other = TYPES[old](IMAGES[OLD]), TYPES[new](IMAGES[NEW])
    index_arrays(one, LABELS[OLD], tmp_path / "x.knn", options=options)
    assert add_arrays(tmp_path / "x.knn", other, LABELS[NEW], threads=1, tell=lambda _: None) == 60
    index = open_index(tmp_path / "x.knn")
    assert verify_folder(tmp_path / "x.knn") == []
    assert index.ids.to_pylist() == [f"array#{row}" for row in range(160)]
    assert np.array_equal(index.vectors, np.concatenate([one, other]).reshape(160, 64))
    compact(tmp_path / "x.knn", threads=1)
    if old == new or (one.dtype.kind == other.dtype.kind == "u"):
        index_arrays(np.concatenate([one, other]), LABELS, tmp_path / "fresh.knn", options=options)
        assert open_index(tmp_path / "x.knn").fingerprint == open_index(tmp_path / "fresh.knn").fingerprint


def test_rows_count_on_where_none_have_ids_and_after_some_went(stored):
    add_arrays(stored, IMAGES[100:102], LABELS[100:102], ids=["a", "b"])
    add_arrays(stored, IMAGES[102:104].reshape(2, 64), LABELS[102:104])  # flat ones too
    assert open_index(stored).ids[-4:].to_pylist() == ["a", "b", "array#102", "array#103"]
    remove_ids(stored, ["array#5", "b"])
    add_arrays(stored, IMAGES[104:105], LABELS[104:105])
    assert open_index(stored).ids[-2:].to_pylist() == ["array#103", "array#104"]


def test_arrays_come_to_an_index_of_files(tmp_path):
    write_table(image_table(IMAGES[OLD], LABELS[OLD]), tmp_path / "old.parquet")
    index_files(tmp_path / "old.parquet", tmp_path / "x.knn")
    assert add_arrays(tmp_path / "x.knn", IMAGES[NEW].tolist(), LABELS[NEW].tolist()) == 60
    index = open_index(tmp_path / "x.knn")
    assert index.ids[99].as_py() == "old.parquet#99"
    assert index.ids[100].as_py() == "array#0"
    assert index.places(np.array([99, 100])).to_pylist() == [
        {"file": "old.parquet", "row": 99},
        {"file": "array", "row": 0},
    ]
    assert Classifier(index, Rule(k=1))(IMAGES).prediction.to_pylist() == LABELS.tolist()


def test_an_index_that_was_tuned_asks_for_its_tuning_where_that_is_due(tmp_path):
    options = IndexOptions(kind="adaptive")
    index_arrays(IMAGES[OLD], LABELS[OLD], tmp_path / "x.knn", options=options, tune=Tuning(k=1))
    with pytest.raises(KnnvoteError, match=r"was tuned, and has to be tuned again: pass tuning=knnvote.Tuning"):
        add_arrays(tmp_path / "x.knn", IMAGES[NEW], LABELS[NEW])
    assert add_arrays(tmp_path / "x.knn", IMAGES[NEW], LABELS[NEW], tuning=Tuning) == 60
    assert open_index(tmp_path / "x.knn").tuned.k == 1


def test_columns_of_a_table_are_taken_by_name_in_any_order(tmp_path):
    names = [f"ink {place}" for place in range(64)]
    old, new = (pd.DataFrame(IMAGES[rows].reshape(-1, 64), columns=names) for rows in (OLD, NEW))
    index_arrays(old, LABELS[OLD], tmp_path / "x.knn")
    assert add_arrays(tmp_path / "x.knn", new[names[::-1]], LABELS[NEW]) == 60
    assert add_arrays(tmp_path / "x.knn", pl.from_pandas(new[:1]), LABELS[NEW][:1]) == 1
    assert np.array_equal(open_index(tmp_path / "x.knn").vectors[:160], IMAGES.reshape(-1, 64))
    with pytest.raises(KnnvoteError, match="the table has no one column 'ink 3', and the index has 64 columns of that"):
        add_arrays(tmp_path / "x.knn", new.drop(columns="ink 3"), LABELS[NEW])


REFUSED = {
    "another shape": ((IMAGES[NEW][:, :7], LABELS[NEW]), r"^images are 7 x 8, and the index stores 8 x 8: give such$"),
    "one axis": (
        (IMAGES[0].ravel(), LABELS[:64]),
        r"^images are shape unknown, and the index stores 8 x 8: give such$",
    ),
    "fewer labels": ((IMAGES[NEW], LABELS[:3]), r"^images of shape \(60, 8, 8\) and 3 labels: expected"),
    "another kind of label": ((IMAGES[NEW], ["a"] * 60), "^labels are string, and those stored int64: give all"),
    "no label": ((IMAGES[NEW], [None] * 60), "labels .*: "),
    "no number": ((np.full((60, 8, 8), np.nan), LABELS[NEW]), "^image 0 cannot be stored: not finite; leave it out$"),
    "no labels at all": ((IMAGES[NEW], None), "^labels is None: give one label for each image, as a list or an array$"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_changes(stored, name):
    given, told = REFUSED[name]
    before = state(stored)
    with pytest.raises(KnnvoteError, match=told):
        add_arrays(stored, *given)
    assert state(stored) == before


def test_ids_that_are_stored_are_refused(stored):
    before = state(stored)
    told = r"x\.knn stores 1 of the 2 ids already, the first 'array#7'; nothing was added: .* or give other ids$"
    with pytest.raises(KnnvoteError, match=told):
        add_arrays(stored, IMAGES[NEW][:2], LABELS[NEW][:2], ids=["new", "array#7"])
    assert state(stored) == before


def test_labels_without_a_name_are_refused_where_classes_have_names(tmp_path):
    names = {"features": {"label": {"_type": "ClassLabel", "names": [f"digit {label}" for label in range(10)]}}}
    table = image_table(IMAGES, LABELS).replace_schema_metadata({"huggingface": json.dumps({"info": names})})
    write_table(table, tmp_path / "x.parquet")
    index_files(tmp_path / "x.parquet", tmp_path / "x.knn")
    with pytest.raises(
        KnnvoteError, match=r"^image 1 cannot be stored: label 10 has no name: 10 classes have one; mend"
    ):
        add_arrays(tmp_path / "x.knn", IMAGES[:2], [9, 10])
    assert add_arrays(tmp_path / "x.knn", IMAGES[:2] ^ 1, [9, 0]) == 2


def test_new_classes_and_another_scale_are_told(stored):
    said = []
    add_arrays(stored, IMAGES[NEW], LABELS[NEW] + 100, tell=said.append)
    assert said == ["10 new classes: " + ", ".join(map(str, range(100, 110)))]
    with pytest.warns(Note, match=r"^images of the arrays range from 0 to 1, and those of the index from 0 to 1"):
        add_arrays(stored, IMAGES[NEW] / 16, LABELS[NEW])
    assert np.array_equal(open_index(stored).vectors[-60:], (IMAGES[NEW] / 16).reshape(60, 64))


def test_images_that_come_get_the_steps_and_groups_of_the_index(tmp_path):
    groups = np.arange(160) % 7
    index_arrays(IMAGES[OLD], LABELS[OLD], tmp_path / "x.knn", steps=("centred", "unit"), groups=groups[OLD])
    steps, told = open_index(tmp_path / "x.knn").steps, "have groups: give groups, None in the place of an image"
    with pytest.raises(OptionError, match=told):
        add_arrays(tmp_path / "x.knn", IMAGES[NEW], LABELS[NEW])
    assert add_arrays(tmp_path / "x.knn", IMAGES[NEW], LABELS[NEW], groups=groups[NEW], tell=lambda _: None) == 60
    index = open_index(tmp_path / "x.knn")
    assert np.array_equal(index.vectors, steps(IMAGES.reshape(160, 64), (8, 8))[0])
    assert index.provenance("group")["group"].to_pylist() == [str(group) for group in groups]
    assert verify_folder(tmp_path / "x.knn") == []
    index_arrays(IMAGES[OLD], LABELS[OLD], tmp_path / "y.knn")
    with pytest.raises(OptionError, match=r"has no groups, .* add without groups, or build an index of all with them"):
        add_arrays(tmp_path / "y.knn", IMAGES[NEW], LABELS[NEW], groups=groups[NEW])


def test_groups_and_weights_come_with_arrays_side_by_side(tmp_path):
    groups, weights = [f"p{row // 8}" for row in range(160)], np.random.default_rng(3).choice([0.5, 2], 160)
    beside = {"groups": groups[:100], "sample_weight": weights[OLD]}
    index_arrays(IMAGES[OLD], LABELS[OLD], tmp_path / "x.knn", **beside)
    for given, told in (
        ({"groups": groups[100:]}, "has a weight: give sample_weight, one an image"),
        ({"sample_weight": weights[NEW]}, "have groups: give groups, None in the place"),
    ):
        with pytest.raises(OptionError, match=told):
            add_arrays(tmp_path / "x.knn", IMAGES[NEW], LABELS[NEW], **given)
    assert (
        add_arrays(tmp_path / "x.knn", IMAGES[NEW], LABELS[NEW], groups=groups[100:], sample_weight=weights[NEW]) == 60
    )
    index = open_index(tmp_path / "x.knn")
    assert index.provenance().column_names == ["label", "id", "file", "row", "group", "weight"]
    assert index.provenance("group")["group"].to_pylist() == groups
    assert index.sample_weight.tolist() == weights.tolist()
    assert verify_folder(tmp_path / "x.knn") == []


def test_weights_are_refused_where_the_stored_images_have_none(stored):
    with pytest.raises(OptionError, match="have no weights: leave out sample_weight, or build an index of all"):
        add_arrays(stored, IMAGES[NEW], LABELS[NEW], sample_weight=np.ones(60))
