"""Labelled images read from files or taken from arrays, each row checked and its origin kept."""

import hashlib
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from knnvote.data.errors import ImageFileError, KnnvoteError, spelled
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.tables import image_table
from knnvote.indexer.arrays.labelled import training_set_from_arrays
from knnvote.indexer.training import TrainingOptions, read_training_set

N = 12
IMAGES = np.random.default_rng(3).integers(0, 256, (N, 4, 4), np.uint8)
LABELS = np.arange(N) % 3


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def raw(images=IMAGES):
    return pa.array([image.tobytes() for image in images])


def read(folder, *tables, metric="l2", **options):
    """The training set of tables, each written to a file: a.parquet, b.parquet and so on."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{letter}.parquet" for letter in "abcdef"[: len(tables)]]
    for table, path in zip(tables, paths, strict=True):
        pq.write_table(table, path)
    return read_training_set(find_inputs([str(path) for path in paths]), TrainingOptions(**options), metric=metric)


def test_every_row_is_stored_with_its_label_id_file_and_row(tmp_path):
    examples = read(tmp_path, image_table(IMAGES[:5], LABELS[:5]), image_table(IMAGES[5:], LABELS[5:]))
    assert np.array_equal(examples.vectors, IMAGES.reshape(N, 16))
    assert examples.vectors.dtype == np.uint8
    assert examples.provenance.column_names == ["label", "id", "file", "row"]
    assert examples.provenance["label"].to_pylist() == LABELS.tolist()
    assert examples.provenance["file"].to_pylist() == ["a.parquet"] * 5 + ["b.parquet"] * 7
    assert examples.provenance["row"].to_pylist() == [*range(5), *range(7)]
    assert examples.provenance["id"].to_pylist()[4:6] == ["a.parquet#4", "b.parquet#0"]
    assert (examples.shape, examples.label_column, examples.image_column) == ((4, 4), "label", "image")


PIXELS = np.random.default_rng(4).integers(0, 256, (40, 4, 4))


@pytest.mark.parametrize(
    ("one", "other", "is_told"),
    [
        (PIXELS, PIXELS / 255, True),
        (PIXELS[:5] / 255, PIXELS, True),
        (PIXELS / 255, PIXELS / 127.5 - 1, True),
        (PIXELS, PIXELS[:5] // 20, False),  # of a few that are whole numbers too, all may be faint
        (PIXELS, PIXELS / 1.5, False),
        (PIXELS, 0 * PIXELS, False),
        (PIXELS, PIXELS + 1000 * (np.arange(16) == 0).reshape(4, 4), False),  # numbers of unlike meanings
    ],
)
def test_files_of_two_scales_are_told_once_with_both_ranges(tmp_path, one, other, is_told):
    tables = [image_table(images, np.arange(len(images)) % 3) for images in (one, other, one[:4])]
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        read(tmp_path, *tables)
    assert len(notes) == is_told
    for images in (one, other):
        assert all(f"from {images.min():g} to {images.max():g}" in str(note.message) for note in notes)


def test_files_and_links_that_hold_the_same_are_told_of_once(tmp_path):
    read(tmp_path, *(image_table(images, LABELS) for images in (IMAGES, IMAGES[::-1])))
    (tmp_path / "c.parquet").symlink_to("a.parquet")
    (tmp_path / "d.parquet").hardlink_to(tmp_path / "b.parquet")
    told = "2 of 4 files hold the same bytes as another, c.parquet those of a.parquet: "
    with pytest.warns(UserWarning, match=told) as notes:
        read_training_set(find_inputs(tmp_path), TrainingOptions())
    assert len(notes) == 1


def test_images_that_are_all_equal_are_told(tmp_path):
    with pytest.warns(
        UserWarning, match="all 12 images are equal, .* column 'image' holds the images; image_column names"
    ):
        read(tmp_path, image_table(IMAGES[:1].repeat(N, axis=0), LABELS))
    read(tmp_path, image_table(IMAGES[[0, *range(1, N - 1), 0]], LABELS))


def test_where_distances_depend_on_no_scale_none_is_told(tmp_path):
    read(tmp_path, *(image_table(images, np.arange(40) % 3) for images in (PIXELS, PIXELS / 255)), metric="cosine")


@pytest.mark.filterwarnings("ignore:column .* looks like an id")
def test_rows_are_numbered_through_batches_and_row_groups(tmp_path):
    n = 9000
    table = image_table(np.arange(n, dtype=np.uint16)[:, None].repeat(2, axis=1), np.arange(n))
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=777)
    examples = read_training_set(find_inputs([str(tmp_path)]), TrainingOptions())
    assert examples.provenance["row"].to_pylist() == list(range(n))
    assert examples.vectors[:, 0].tolist() == list(range(n)) == examples.provenance["label"].to_pylist()


def test_each_source_is_kept_with_its_size_and_hash(tmp_path):
    table = image_table(IMAGES, LABELS)
    (source,) = read(tmp_path, table).sources
    content = (tmp_path / "a.parquet").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert source.to_json() == {"path": "a.parquet", "size": len(content), "sha256": sha256, "dtype": "uint8"}


def test_an_input_given_twice_is_stored_once(tmp_path):
    read(tmp_path, image_table(IMAGES, LABELS))
    inputs = find_inputs([str(tmp_path / "a.parquet"), str(tmp_path), f"file://{tmp_path}/a.parquet"])
    assert len(read_training_set(inputs, TrainingOptions()).vectors) == N


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (pa.array(LABELS), pa.int64()),
        (pa.array([f"class {label}" for label in LABELS]), pa.string()),
        (pa.array((LABELS == 1).tolist()), pa.bool_()),
        (pa.array(pd.Series([f"class {label}" for label in LABELS], dtype="category")), pa.string()),
    ],
)
def test_labels_keep_their_type_and_values(tmp_path, labels, kind):
    found = read(tmp_path, pa.table({"image": raw(), "label": labels})).provenance["label"]
    assert found.type == kind
    assert found.to_pylist() == labels.to_pylist()


def test_a_pandas_frame_of_categories_is_read_as_it_was_written(tmp_path):
    kinds = pd.Categorical.from_codes(LABELS, list("xyz"))
    frame = pd.DataFrame({"image": [image.tobytes() for image in IMAGES], "kind": kinds})
    frame.iloc[::-1].to_parquet(tmp_path / "a.parquet")  # keeps its index as a column
    examples = read_training_set(find_inputs([str(tmp_path)]), TrainingOptions())
    assert examples.label_column == "kind"
    assert examples.provenance["label"].to_pylist() == ["xyz"[label] for label in LABELS[::-1]]


def test_labels_of_a_regression_are_float64(tmp_path):
    targets = LABELS / 3
    found = read(tmp_path, image_table(IMAGES, targets), is_regression=True).provenance["label"]
    assert found.type == pa.float64()
    assert found.to_pylist() == targets.tolist()


def hugging_face(names, labels=LABELS):
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    images = pa.array([{"bytes": png(image), "path": None} for image in IMAGES])
    return pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)


def test_hugging_face_class_names_are_kept(tmp_path):
    examples = read(tmp_path, hugging_face(["cat", "dog", "emu"]))
    assert examples.class_names == ["cat", "dog", "emu"]
    assert np.array_equal(examples.vectors, IMAGES.reshape(N, 16))


def test_files_whose_numbers_name_other_classes_are_refused_and_not_mixed(tmp_path):
    with pytest.raises(ImageFileError, match=r"b\.parquet: class names are dog, cat, emu, and cat, dog, emu in what"):
        read(tmp_path, hugging_face(["cat", "dog", "emu"]), hugging_face(["dog", "cat", "emu"]))
    plain = image_table(IMAGES, LABELS)
    assert read(tmp_path / "one", plain, hugging_face(["a", "b", "c"])).class_names == ["a", "b", "c"]
    assert read(tmp_path / "two", hugging_face(["a", "b", "c"]), plain).class_names == ["a", "b", "c"]


@pytest.mark.parametrize(("odd", "reason"), [(-1, r"no label \(-1\)"), (3, "label 3 has no name: 3 classes have one")])
def test_a_number_that_names_no_class_is_no_label_where_classes_have_names(tmp_path, odd, reason):
    labels = LABELS.copy()
    labels[5] = odd
    with pytest.raises(KnnvoteError, match=rf"a\.parquet, row 5: {reason}; mend it, or pass skip_bad=True"):
        read(tmp_path, hugging_face(["cat", "dog", "emu"], labels))
    left = read(tmp_path, hugging_face(["cat", "dog", "emu"], labels), skip_bad=True)
    assert (left.skipped, left.provenance["label"].to_pylist()) == (1, np.delete(labels, 5).tolist())
    assert odd in read(tmp_path, image_table(IMAGES, labels)).provenance["label"].to_pylist(), "without names it may be"


def test_whole_numbers_held_as_floats_are_classes_and_that_is_told(tmp_path):
    for part in "ab":
        pq.write_table(image_table(IMAGES, LABELS.astype(float)), tmp_path / f"{part}.parquet")
    notes = []
    found = read_training_set(find_inputs([str(tmp_path)]), TrainingOptions(), tell=notes.append)
    assert found.provenance["label"].to_pylist() == 2 * LABELS.tolist()
    assert found.provenance["label"].type == pa.int64()
    note, copies = notes
    assert "1 of 2 files hold the same bytes as another" in copies
    assert spelled(note, str).endswith(
        "a.parquet: labels in column 'label' are double, and all are whole: they are classes; "
        "to average them, give is_regression=True"
    )


@pytest.mark.parametrize("ids", [[f"id {i}" for i in range(N)], list(range(100, 100 + N))])
def test_ids_come_from_the_id_column_as_strings(tmp_path, ids):
    table = pa.table({"image": raw(), "label": LABELS, "key": ids})
    assert read(tmp_path, table, id_column="key").provenance["id"].to_pylist() == [str(value) for value in ids]


def test_a_row_without_an_id_is_named_by_file_and_row(tmp_path):
    table = pa.table({"image": raw(), "animal": LABELS, "key": ["k0", None, "k2"] + [None] * (N - 3)})
    found = read(tmp_path, table, id_column="key").provenance["id"].to_pylist()
    assert found[:4] == ["k0", "a.parquet#1", "k2", "a.parquet#3"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("gone", r"a\.parquet: no column 'gone' for id_column; there are image, label, box"),
        ("box", r"a\.parquet, column 'box': ids of type list<.*> cannot be written as text: name another"),
        ("image", r"a\.parquet, column 'image': ids of type binary cannot be written as text"),
    ],
)
def test_an_id_column_that_cannot_be_is_refused_by_name(tmp_path, column, message):
    table = pa.table({"image": raw(), "label": LABELS, "box": [[1]] * N})
    with pytest.raises(KnnvoteError, match=message):
        read(tmp_path, table, id_column=column, images=ImageOptions(image_column="image"))


def with_bad(values, kind=None):
    """A table whose row 2 holds the first bad value and row 7 the second, in the image column."""
    column = [[float(pixel) for pixel in image.ravel()] for image in IMAGES]
    if kind == "binary":
        column = [png(image) for image in IMAGES]
    column[2], column[7] = values
    return pa.table({"image": column, "label": LABELS})


NAN = [float("nan")] * 16
BAD = {
    "null images": (lambda: with_bad([None, None]), "null vector"),
    "ragged images": (lambda: with_bad([[1.0] * 15, [1.0] * 17]), "15 values, expected 16"),
    "NaN": (lambda: with_bad([NAN, NAN]), "value 0 is NaN"),
    "undecodable PNG": (lambda: with_bad([png(IMAGES[2])[:50], b"\x89PNG"], "binary"), ""),
    "null PNG": (lambda: with_bad([None, b""], "binary"), "null image"),
    "images of another size": (lambda: with_bad([png(np.zeros((5, 5), np.uint8)), None], "binary"), "image is 5 x 5"),
    "null labels": (
        lambda: pa.table({"image": raw(), "label": [None if i in (2, 7) else i for i in range(N)]}),
        "no label",
    ),
    "blank labels": (
        lambda: pa.table({"image": raw(), "label": [{2: "", 7: " \t"}.get(i, "a") for i in range(N)]}),
        "no label",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_naming_file_and_row_or_left_out_and_counted(tmp_path, name):
    make, reason = BAD[name]
    with pytest.raises(KnnvoteError, match=rf"/b\.parquet, row 2: {reason}.*; mend it, or pass skip_bad=True to leave"):
        read(tmp_path, make().take([0, 1, 3]), make())
    examples = read(tmp_path, make().take([0, 1, 3]), make(), skip_bad=True)
    assert examples.skipped == 2
    kept = [i for i in range(N) if i not in (2, 7)]
    assert examples.provenance["row"].to_pylist() == [0, 1, 2, *kept]
    assert np.array_equal(examples.vectors, IMAGES.reshape(N, 16)[[0, 1, 3, *kept]])


def test_a_null_category_is_a_missing_label(tmp_path):
    labels = pa.array(["a", None, "b", "a", "", "b"] * 2).dictionary_encode()
    examples = read(tmp_path, pa.table({"image": raw(), "label": labels}), skip_bad=True)
    assert examples.skipped == 4
    assert examples.provenance["label"].to_pylist() == ["a", "b"] * 4


def test_a_missing_target_is_a_bad_row(tmp_path):
    table = image_table(IMAGES, np.where(LABELS == 1, np.nan, 1.5))
    with pytest.raises(KnnvoteError, match="row 1: no label"):
        read(tmp_path, table, is_regression=True)
    assert read(tmp_path, table, is_regression=True, skip_bad=True).skipped == 4


def test_an_infinite_target_is_a_bad_row(tmp_path):
    table = image_table(IMAGES, np.where(LABELS == 1, np.inf, 1.5))
    with pytest.raises(KnnvoteError, match="row 1: infinite label"):
        read(tmp_path, table, is_regression=True)
    assert read(tmp_path, table, is_regression=True, skip_bad=True).skipped == 4


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    paths = [str(tmp_path / name) for name in ("a/x.parquet", "b/x.parquet", "y.parquet")]
    for shift, path in enumerate(map(Path, paths)):
        path.parent.mkdir(exist_ok=True)
        pq.write_table(image_table(IMAGES, np.roll(LABELS, shift)), path)
    examples = read_training_set(find_inputs(paths), TrainingOptions())
    assert len(set(examples.provenance["id"].to_pylist())) == 3 * len(IMAGES)
    assert examples.provenance["file"].unique().to_pylist() == [*paths[:2], "y.parquet"]


def test_an_all_zero_image_is_a_bad_row_for_cosine_alone(tmp_path):
    images = IMAGES.copy()
    images[3] = 0
    table = image_table(images, LABELS)
    assert read(tmp_path, table).skipped == 0
    with pytest.raises(KnnvoteError, match="row 3: every value is zero, and cosine distance needs a direction"):
        read(tmp_path, table, metric="cosine")
    assert read(tmp_path, table, metric="cosine", skip_bad=True).skipped == 1


def test_a_value_whose_square_overflows_is_a_bad_row(tmp_path):
    images = IMAGES.astype(np.float64)
    images[3, 0, 0] = 1e200
    with pytest.raises(KnnvoteError, match=r"row 3: a value beyond 1e\+150: squared distances would overflow"):
        read(tmp_path, image_table(images, LABELS))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_empty_file_among_others_adds_nothing(tmp_path, position):
    tables = [image_table(IMAGES[:6], LABELS[:6]), image_table(IMAGES[6:], LABELS[6:])]
    tables.insert(position, tables[0].slice(0, 0))
    examples = read(tmp_path, *tables)
    assert np.array_equal(examples.vectors, IMAGES.reshape(N, 16))
    assert len(examples.sources) == 3


def test_files_without_a_row_are_refused(tmp_path):
    empty = image_table(IMAGES, LABELS).slice(0, 0)
    with pytest.raises(KnnvoteError, match=r"a\.parquet, .*b\.parquet: no labelled image in 2 file\(s\); an index"):
        read(tmp_path, empty, empty)


def test_files_of_bad_rows_alone_are_refused(tmp_path):
    table = pa.table({"image": raw(), "label": pa.array([None] * N, pa.int64())})
    with pytest.raises(KnnvoteError, match=r"no labelled image in 1 file\(s\), 12 bad rows left out"):
        read(tmp_path, table, skip_bad=True)


def test_files_of_other_shapes_are_refused_by_name(tmp_path):
    with pytest.raises(ImageFileError, match=r"b\.parquet: images are 5 x 5, the index stores 4 x 4"):
        read(tmp_path, image_table(IMAGES, LABELS), image_table(np.zeros((3, 5, 5), np.uint8), LABELS[:3]))


def test_files_of_other_layouts_are_read_together(tmp_path):
    tables = [
        image_table(IMAGES, LABELS),
        pa.table({"picture": [png(image) for image in IMAGES], "class": LABELS}),
        pa.table({"image": raw(), "label": LABELS}),
    ]
    examples = read(tmp_path, *tables)
    assert np.array_equal(examples.vectors, np.tile(IMAGES.reshape(N, 16), (3, 1)))


@pytest.mark.filterwarnings("ignore:column .* looks like an id")
@pytest.mark.filterwarnings("ignore:.*all are whole")
@pytest.mark.parametrize(
    ("one", "other", "both"),
    [(np.int32, np.int64, pa.int64()), (np.uint8, np.int8, pa.int16()), (np.int64, np.float64, pa.int64())],
)
def test_labels_of_two_widths_are_stored_in_the_type_that_holds_both(tmp_path, one, other, both):
    for place, dtypes in enumerate(((one, other), (other, one))):
        tables = (image_table(IMAGES, LABELS.astype(dtype)) for dtype in dtypes)
        labels = read(tmp_path / f"{place}", *tables).provenance["label"]
        assert (labels.type, labels.to_pylist()) == (both, [*LABELS.tolist()] * 2)


def test_files_of_other_label_types_are_refused(tmp_path):
    with pytest.raises(
        KnnvoteError, match=r"b\.parquet, column 'label': labels are string, and int64 in what comes before"
    ):
        read(tmp_path, image_table(IMAGES, LABELS), image_table(IMAGES, LABELS.astype(str)))


@pytest.mark.filterwarnings("ignore:images of .* all are stored as")
@pytest.mark.parametrize(
    ("dtypes", "stored"),
    [
        ([np.int64], np.uint8),
        ([np.uint8, np.uint16], np.uint16),
        ([np.uint8, np.float32], np.float32),
        ([np.uint32, np.float32], np.float64),
        ([np.float64], np.float64),
    ],
)
def test_vectors_of_all_files_have_the_smallest_type_that_holds_them(tmp_path, dtypes, stored):
    images = []
    for dtype in dtypes:
        values = IMAGES.astype(dtype)
        values[0, 0, 0] = min(np.iinfo(dtype).max, 2**32 - 1) if dtype in (np.uint16, np.uint32) else 3
        values[0, 0, 1] = 1 / 3 if dtype in (np.float32, np.float64) else 3
        images.append(values)
    examples = read(tmp_path, *(image_table(values, LABELS) for values in images))
    assert examples.vectors.dtype == stored
    assert np.array_equal(examples.vectors, np.concatenate(images).reshape(-1, 16))


def test_a_number_that_no_type_holds_is_refused_with_the_file(tmp_path):
    images = IMAGES.astype(np.int64)
    images[0, 0, 0] = 2**60 + 1
    with pytest.raises(KnnvoteError, match=r"a\.parquet: value 1152921504606846977 is beyond 2\*\*53"):
        read(tmp_path, image_table(images, LABELS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array(LABELS / 2), r"a\.parquet, column 'label': labels of type double are numbers to be averaged: pass"),
        (pa.array([b"\xff"] * N), r"a\.parquet, column 'label': labels of type binary are bytes that are not text"),
        (pa.array([[1]] * N), r"a\.parquet: several columns could be the image: 'image', 'label'"),
    ],
)
def test_labels_of_a_type_that_cannot_be_are_refused_by_file(tmp_path, labels, message):
    with pytest.raises(KnnvoteError, match=message):
        read(tmp_path, pa.table({"image": raw(), "label": labels}))


def test_a_file_without_images_or_labels_is_refused_by_name(tmp_path):
    with pytest.raises(ImageFileError, match=r"/a\.parquet: no image column"):
        read(tmp_path, pa.table({"label": LABELS}))
    with pytest.raises(ImageFileError, match=r"/a\.parquet: no label column beside the images"):
        read(tmp_path, pa.table({"image": raw()}))


def test_progress_counts_every_row(tmp_path):
    pq.write_table(image_table(IMAGES, LABELS), tmp_path / "a.parquet", row_group_size=5)
    told = []
    read_training_set(find_inputs([str(tmp_path)]), TrainingOptions(), progress=told.append)
    assert sum(told) == N


def test_arrays_are_taken_as_files_are(tmp_path):
    from_file, from_arrays = read(tmp_path, image_table(IMAGES, LABELS)), training_set_from_arrays(IMAGES, LABELS)
    assert np.array_equal(from_file.vectors, from_arrays.vectors)
    assert from_file.vectors.dtype == from_arrays.vectors.dtype
    assert from_file.provenance["label"].equals(from_arrays.provenance["label"])
    assert from_file.shape == from_arrays.shape
    assert from_arrays.provenance["id"].to_pylist()[:2] == ["array#0", "array#1"]


@pytest.mark.parametrize("labels", [["a", "b"] * 6, [True, False] * 6, LABELS.tolist(), LABELS.astype(np.uint8)])
def test_labels_of_arrays_may_be_lists(labels):
    assert training_set_from_arrays(IMAGES, labels).provenance["label"].to_pylist() == list(labels)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[1:], r"images of shape \(12, 4, 4\) and 11 labels: expected \(n, ...\) with one label"),
        (IMAGES[:0], [], "n at least 1"),
        (LABELS, LABELS, r"images of shape \(12,\)"),
        (IMAGES.astype(complex), LABELS, "images of type complex128 cannot be used: convert them to integers"),
        (IMAGES.astype(object), LABELS, "images of type object cannot be used"),
        (np.zeros((N, 0)), LABELS, r"images have shape \(12, 0\): expected one number or more an image"),
        (np.where(IMAGES[4, 1, 1] == IMAGES, np.nan, IMAGES), LABELS, "cannot be stored: not finite; leave it out"),
        (IMAGES, [None, *LABELS[1:].tolist()], "1 labels are missing: leave those images out"),
        (IMAGES, [None] * N, "labels of type null cannot be used"),
        (IMAGES, [1, "a"] * 6, r"labels cannot be used \(.*\): give one integer, string or boolean an image"),
        (IMAGES, np.zeros((N, 2)), "labels cannot be used"),
        (IMAGES, [2**70] * N, "labels cannot be used"),
        (IMAGES, LABELS / 2, "numbers to be averaged"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(KnnvoteError, match=message):
        training_set_from_arrays(images, labels)


def test_an_array_with_an_all_zero_image_is_refused_for_cosine():
    with pytest.raises(KnnvoteError, match="image 5 cannot be stored: every value is zero"):
        training_set_from_arrays(np.where(np.arange(N)[:, None] == 5, 0, 1), LABELS, metric="cosine")


def test_a_guessed_column_that_is_other_in_most_images_is_refused_and_taken_when_it_is_named(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (24, 4, 4), np.uint8)
    serial = image_table(images, np.arange(24)).rename_columns(["image", "serial"])
    anew = (serial, serial.slice(0, 12))  # numbered anew in each file
    for place, (tables, n) in enumerate((((serial,), 24), (anew, 36))):
        message = rf"column 'serial' has 24 values in {n} rows: it looks like an id; .*label_column"
        with pytest.raises(KnnvoteError, match=message):
            read(tmp_path / f"a{place}", *tables)
    told = r"^column '{}' has 24 values in 24 rows: it looks like an id; label_column names another column$"
    with pytest.warns(UserWarning, match=told.format("serial")):
        assert read(tmp_path / "b", serial, label_column="serial").label_column == "serial"
    with pytest.warns(UserWarning, match=told.format("label")):  # as it is called
        assert read(tmp_path / "c", image_table(images, np.arange(24))).label_column == "label"
    assert read(tmp_path / "f", image_table(images, np.arange(24) // 2)).label_column == "label"
    assert read(tmp_path / "g", image_table(images, np.arange(24) / 7), is_regression=True).label_column == "label"
    assert read(tmp_path / "d", serial.slice(0, 12)).label_column == "serial"
    assert read(tmp_path / "e", serial.slice(0, 12).rename_columns(["image", "Label"])).label_column == "Label"


@pytest.mark.parametrize("name", ["camera", "class"])
def test_what_is_added_has_the_index_s_own_label_column_or_names_another(tmp_path, name):
    """Five hundred images became a class "Canon"."""
    stored = read(tmp_path / "a", image_table(IMAGES, LABELS))
    other = pa.table({"image": image_table(IMAGES)["image"], name: pa.array([7] * N)})
    pq.write_table(other, tmp_path / "b.parquet")
    added = find_inputs([str(tmp_path / "b.parquet")])
    with pytest.raises(ImageFileError, match=rf"no column 'label', from which .* there are image, {name}: name the"):
        read_training_set(added, TrainingOptions(), stored=stored)
    with pytest.warns(UserWarning, match="^1 new class: 7$"):
        found = read_training_set(added, TrainingOptions(label_column=name), stored=stored)
    assert found.provenance["label"].to_pylist() == [*LABELS.tolist(), *[7] * N]


def test_in_one_go_a_file_may_have_its_labels_in_another_usual_column_and_no_other(tmp_path):
    first, images = image_table(IMAGES, LABELS), image_table(IMAGES)["image"]
    usual = pa.table({"image": images, "class": pa.array(LABELS)})
    assert len(read(tmp_path / "a", first, usual).vectors) == 2 * N
    with pytest.raises(ImageFileError, match="no column 'label'"):
        read(tmp_path / "b", first, pa.table({"image": images, "camera": pa.array(LABELS)}))


def test_a_few_classes_of_which_each_file_has_one_image_each_are_labels(tmp_path):
    species = [f"s{i}" for i in range(10)]
    shards = [
        image_table(images[:10], species).rename_columns(["image", "species"]) for images in (IMAGES, 255 - IMAGES)
    ]
    assert read(tmp_path, *shards).label_column == "species"


def test_bytes_in_a_column_that_labels_have_are_labels_and_no_image(tmp_path):
    labels = pa.array([f"d{label}" for label in LABELS]).cast(pa.binary())
    found = read(tmp_path, pa.table({"image": raw(), "label": labels}))
    assert (found.image_column, found.provenance["label"].to_pylist()) == ("image", [f"d{label}" for label in LABELS])
    behind_ids = pa.table(
        {"key": [f"k{i}" for i in range(N)], "label": labels, "image": IMAGES.reshape(N, 16).tolist()}
    )
    assert read(tmp_path, behind_ids, id_column="key").image_column == "image"
