"""Labelled images to an index folder: every kind, metric and label, the same bytes every time."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sets import FAISS_METRICS
from repeats import spread

from knnvote.data.codecs.grey import GRAYSCALE_FORMULA
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.files import hold_lock
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.sample import digits, split_digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.fields import CODES
from knnvote.indexer.folder.facts import installed_version
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.manifest import read_manifest
from knnvote.indexer.training import TrainingOptions

IMAGES, LABELS = (array[:200] for array in digits())
FLOATS = IMAGES / 7
KINDS = {
    "exact": {"kind": "exact"},
    "adaptive": {"kind": "adaptive"},
    "hnsw": {"kind": "hnsw"},
    "factory": {"kind": "factory", "factory": "PCA8,Flat"},
}


def options(kind, **more):
    return IndexOptions(**{"threads": 1, **KINDS[kind], **more})


def stable_files(folder):
    """Every file but the timing, which is kept apart because it differs."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("timing-")}


@pytest.mark.parametrize("kind", KINDS)
@spread(("metric", FAISS_METRICS), ("images", [IMAGES, FLOATS]))
def test_the_same_input_options_seed_and_threads_give_the_same_bytes(tmp_path, kind, metric, images):
    for name in ("a", "b"):
        index_arrays(images, LABELS, tmp_path / name, options=options(kind, metric=metric, seed=3))
        assert verify_folder(tmp_path / name) == []
    first, second = stable_files(tmp_path / "a"), stable_files(tmp_path / "b")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_two_threads_give_the_same_bytes_every_time_from_files_too(tmp_path, digits_folder, kind):
    inputs = find_inputs([str(digits_folder / "train.parquet")])
    for name in ("a", "b"):
        index_files(inputs, tmp_path / name, options=options(kind, threads=2))
    assert stable_files(tmp_path / "a") == stable_files(tmp_path / "b")


def test_a_rebuilt_index_has_the_fingerprint_of_its_generation_alone(tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x")
    first = read_manifest(tmp_path / "x")
    index_arrays(IMAGES, LABELS, tmp_path / "x", options=IndexOptions(overwrite=True))
    second = read_manifest(tmp_path / "x")
    assert (first.generation, second.generation) == (1, 2)
    assert first.data_sha256 == second.data_sha256


@pytest.mark.parametrize(("kind", "metric"), [("exact", "l1"), ("hnsw", "l2")])
def test_bytes_are_stored_once_within_the_faiss_index_where_there_is_one(tmp_path, kind, metric):
    index_arrays(IMAGES, LABELS, tmp_path / "x", options=options(kind, metric=metric))
    assert sorted(read_manifest(tmp_path / "x").files) == ["index", "labels"]
    index = open_index(tmp_path / "x")
    assert index.vectors.dtype == np.uint8
    assert np.array_equal(index.vectors, IMAGES.reshape(200, 64))


@pytest.mark.parametrize("kind", KINDS)
def test_what_faiss_cannot_hold_is_stored_beside_it_without_loss(tmp_path, kind):
    index_arrays(FLOATS, LABELS, tmp_path / "x", options=options(kind))
    files = read_manifest(tmp_path / "x").files
    others = {"exact": CODES, "adaptive": CODES}.get(kind, ["index"])
    assert sorted(files) == sorted([*others, "labels", "vectors"])
    file = tmp_path / "x" / files["vectors"].name
    if kind in ("exact", "adaptive"):  # which have codes
        vectors = np.memmap(file, np.float64, "r", shape=(200, 64))
    else:
        vectors = np.load(file, allow_pickle=False)
    assert vectors.dtype == np.float64
    assert np.array_equal(vectors, FLOATS.reshape(200, 64))
    assert np.array_equal(open_index(tmp_path / "x").vectors, vectors)


@pytest.mark.parametrize("kind", KINDS)
@spread(
    ("dtype", [np.uint8, np.uint16, np.uint32, np.int8, np.float16, np.float32, np.float64]), ("metric", FAISS_METRICS)
)
def test_vectors_of_every_type_come_back_bit_by_bit(tmp_path, dtype, metric, kind):
    images = IMAGES[:40].astype(dtype) * dtype(3.7 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max // 16)
    images = -images if dtype == np.int8 else images
    index_arrays(images, LABELS[:40], tmp_path / "x", options=options(kind, metric=metric))
    index = open_index(tmp_path / "x")
    assert index.vectors.dtype == dtype
    assert index.vectors.tobytes() == images.tobytes()
    assert (index.kind, index.metric, index.manifest.dtype) == (kind, metric, np.dtype(dtype).name)


@pytest.mark.parametrize(
    ("labels", "label_type"),
    [
        (LABELS, "int64"),
        (LABELS.astype(np.uint8), "uint8"),
        (LABELS == 3, "bool"),
        (LABELS.astype(str), "string"),
        (-LABELS, "int64"),
    ],
)
def test_labels_of_every_type_come_back_with_their_classes_in_order(tmp_path, labels, label_type):
    index_arrays(IMAGES, labels, tmp_path / "x")
    index = open_index(tmp_path / "x")
    assert str(index.labels.type) == index.manifest.label_type == label_type
    assert index.labels.to_pylist() == labels.tolist()
    assert index.classes.to_pylist() == sorted(set(labels.tolist()))


def test_pandas_categories_become_the_strings_they_stand_for(tmp_path):
    kinds = pd.Categorical.from_codes(LABELS % 3, ["zebra", "cat", "emu"])
    frame = pd.DataFrame({"image": [image.tobytes() for image in IMAGES], "kind": kinds})
    frame.to_parquet(tmp_path / "a.parquet")
    index_files(find_inputs([str(tmp_path / "a.parquet")]), tmp_path / "x")
    index = open_index(tmp_path / "x")
    assert index.classes.to_pylist() == ["cat", "emu", "zebra"]
    assert index.labels.to_pylist() == list(kinds)


def test_hugging_face_class_names_go_into_the_manifest(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"names": ["even", "odd"], "_type": "ClassLabel"}}
    table = image_table(IMAGES, LABELS % 2)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    index_files(find_inputs([str(tmp_path / "a.parquet")]), tmp_path / "x")
    assert read_manifest(tmp_path / "x").class_names == ["even", "odd"]


def test_a_regression_has_targets_and_no_classes(tmp_path):
    write_table(image_table(IMAGES, LABELS / 3), tmp_path / "a.parquet")
    inputs = find_inputs([str(tmp_path / "a.parquet")])
    with pytest.raises(KnnvoteError, match="labels of type double are numbers to be averaged: pass is_regression=True"):
        index_files(inputs, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    index_files(inputs, tmp_path / "x", training=TrainingOptions(is_regression=True))
    index = open_index(tmp_path / "x")
    assert index.manifest.is_regression
    assert index.targets.tolist() == (LABELS / 3).tolist()
    assert index.manifest.classes == ()


def test_the_manifest_says_what_the_index_was_made_of_and_how(exact_index, digits_folder):
    manifest = read_manifest(exact_index)
    facts = {
        "format": 3,
        "generation": 1,
        "kind": "exact",
        "factory": "",
        "metric": "l2",
        "n": 1347,
        "d": 64,
        "shape": [8, 8],
        "dtype": "uint8",
        "vector": {"step": "pixels", "grayscale": None},
        "task": "classification",
        "classes": list(range(10)),
        "label_type": "int64",
        "image_column": "image",
        "label_column": "label",
        "id_column": None,
        "skipped": 0,
        "seed": 0,
    }
    assert {key: manifest.to_json()[key] for key in facts} == facts
    (source,) = manifest.sources
    assert source.path == "train.parquet"
    assert source.size == (digits_folder / "train.parquet").stat().st_size
    assert {"knnvote", "faiss-cpu", "numpy", "pyarrow"} <= manifest.versions.keys()
    assert "unknown" not in manifest.versions.values()
    assert read_timing(exact_index, manifest.generation).build_seconds > 0


def test_every_row_can_be_traced_to_its_source(exact_index, digits_folder):
    stored = pq.read_table(exact_index / "labels-1.parquet")
    train = pq.read_table(digits_folder / "train.parquet")
    assert stored["file"].unique().to_pylist() == ["train.parquet"]
    rows = stored["row"]
    assert train["label"].take(rows).to_pylist() == stored["label"].to_pylist()
    pixels = train["image"].take(rows).combine_chunks().to_numpy_ndarray().reshape(-1, 64)
    assert np.array_equal(open_index(exact_index).vectors, pixels)


def test_arrays_and_files_give_the_same_stored_data(tmp_path, exact_index):
    split = split_digits()
    index_arrays(split.train_images, split.train_labels, tmp_path / "x")
    assert read_manifest(tmp_path / "x").data_sha256 == read_manifest(exact_index).data_sha256


def test_other_data_have_another_hash_whatever_the_kind(tmp_path):
    hashes = {}
    for name, images, labels in [
        ("plain", IMAGES, LABELS),
        ("other image", IMAGES ^ (np.arange(200) == 7)[:, None, None], LABELS),
        ("other label", IMAGES, LABELS + (np.arange(200) == 7)),
        ("other type", IMAGES.astype(np.float32), LABELS),
    ]:
        index_arrays(images, labels, tmp_path / name)
        hashes[name] = read_manifest(tmp_path / name).data_sha256
    assert len(set(hashes.values())) == 4
    index_arrays(IMAGES, LABELS, tmp_path / "adaptive", options=options("adaptive"))
    assert read_manifest(tmp_path / "adaptive").data_sha256 == hashes["plain"]


def test_grayscale_is_kept_with_its_formula(tmp_path):
    write_table(image_table(IMAGES, LABELS), tmp_path / "a.parquet")
    training = TrainingOptions(images=ImageOptions(grayscale=True))
    index_files(find_inputs([str(tmp_path / "a.parquet")]), tmp_path / "x", training=training)
    assert read_manifest(tmp_path / "x").grayscale == GRAYSCALE_FORMULA


def test_skipped_rows_are_counted(tmp_path):
    labels = pa.array([None if row < 5 else row for row in LABELS.tolist()])
    write_table(image_table(IMAGES, labels), tmp_path / "a.parquet")
    training = TrainingOptions(skip_bad=True)
    index_files(find_inputs([str(tmp_path / "a.parquet")]), tmp_path / "x", training=training)
    manifest = read_manifest(tmp_path / "x")
    assert (manifest.skipped, manifest.n) == (labels.null_count, 200 - labels.null_count)


def test_an_index_that_exists_is_replaced_only_when_told_to(tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x")
    before = stable_files(tmp_path / "x")
    with pytest.raises(KnnvoteError, match=r"/x exists: pass options=IndexOptions\(overwrite=True\) to"):
        index_arrays(IMAGES[:9], LABELS[:9], tmp_path / "x")
    assert stable_files(tmp_path / "x") == before
    index_arrays(IMAGES[:9], LABELS[:9], tmp_path / "x", options=IndexOptions(overwrite=True))
    assert open_index(tmp_path / "x").n == 9


@pytest.mark.parametrize(
    "name", ["x.csv", "vectors.npy", "train-1.npy", "my.faiss", "labels-old.csv", "a.tmp", "sub/x"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_things_is_never_written_into(tmp_path, name, overwrite):
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(KnnvoteError, match=r"/data exists and is not an index folder: give a new path, such as"):
        index_arrays(IMAGES, LABELS, tmp_path / "data", options=IndexOptions(overwrite=overwrite))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


def test_a_build_is_refused_where_another_is_at_work(tmp_path):
    out = tmp_path / "x.knn"
    with hold_lock(out / "lock", "held"), pytest.raises(KnnvoteError, match="another build is writing to"):
        index_arrays(IMAGES, LABELS, out)
    index_arrays(IMAGES, LABELS, out)
    assert not (out / "lock").exists()


def test_a_build_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(KnnvoteError):
        index_arrays(IMAGES, LABELS[:3], tmp_path / "x.knn")
    assert not (tmp_path / "x.knn").exists()


def test_a_file_is_never_replaced_by_a_folder(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(KnnvoteError, match="exists and is not an index folder"):
        index_arrays(IMAGES, LABELS, tmp_path / "x", options=IndexOptions(overwrite=True))
    with pytest.raises(KnnvoteError, match=r"cannot write .*/x/y\.knn/lock: "):
        index_arrays(IMAGES, LABELS, tmp_path / "x" / "y.knn")
    assert (tmp_path / "x").read_text() == "mine"


def test_an_empty_folder_and_missing_parents_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new" / "deep"):
        index_arrays(IMAGES, LABELS, path)
        assert verify_folder(path) == []


def test_nothing_is_written_if_the_input_or_the_factory_string_will_not_do(tmp_path):
    with pytest.raises(KnnvoteError):
        index_arrays(IMAGES, LABELS[1:], tmp_path / "x")
    with pytest.raises(OptionError, match=r"^FAISS cannot build factory 'nonsense'"):
        index_arrays(IMAGES, LABELS, tmp_path / "x", options=IndexOptions(kind="factory", factory="nonsense"))
    assert list(tmp_path.iterdir()) == []


def test_the_destination_is_checked_before_any_image_is_read(tmp_path, exact_index):
    (tmp_path / "broken.parquet").write_bytes(b"")
    with pytest.raises(KnnvoteError, match=r"pass options=IndexOptions\(overwrite=True\)"):
        index_files(find_inputs([str(tmp_path / "broken.parquet")]), exact_index)


def test_a_library_whose_version_is_not_known_does_not_stop_a_build():
    assert installed_version("numpy") == np.__version__
    assert installed_version("a library that is not here") == "unknown"


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "exakt"}, {"metric": "L2"}, {"seed": -1}, {"seed": 2**31}, {"kind": "factory"}, {"factory": "Flat"}],
)
def test_an_option_without_a_meaning_is_refused_by_name(wrong):
    with pytest.raises(OptionError, match=f"{next(iter(wrong))}"):
        IndexOptions(**wrong)
