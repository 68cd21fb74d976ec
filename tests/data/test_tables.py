import os

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.data.errors import KnnvoteError
from knnvote.data.tables import image_table, write_table

IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([7, 1, 7])


def pixels(table, column="image"):
    return table.column(column).combine_chunks().to_numpy_ndarray()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(4,), (2, 2), (2, 2, 3)])
def test_images_of_every_number_type_keep_their_type_shape_and_bits(tmp_path, dtype, shape):
    images = np.random.default_rng(0).integers(0, 100, (5, *shape)).astype(dtype)
    write_table(image_table(images), tmp_path / "images.parquet")
    read = pq.read_table(tmp_path / "images.parquet")
    assert read.schema.field("image").type == pa.fixed_shape_tensor(pa.from_numpy_dtype(images.dtype), shape)
    assert pixels(read).dtype == images.dtype
    assert np.array_equal(pixels(read), images)


def test_nan_and_infinity_stay_values_and_do_not_become_null():
    images = np.array([[np.nan, np.inf]], np.float32)
    assert np.array_equal(pixels(image_table(images)), images, equal_nan=True)
    assert image_table(images).column("image").combine_chunks().storage.flatten().null_count == 0


def test_contiguous_images_are_not_copied():
    assert np.shares_memory(image_table(IMAGES).column("image").chunk(0).to_numpy_ndarray(), IMAGES)


@pytest.mark.parametrize(
    "images",
    [IMAGES.transpose(0, 2, 1), np.asfortranarray(IMAGES), IMAGES[::2], IMAGES.astype(">i4")],
    ids=["transposed", "Fortran order", "strided", "big-endian"],
)
def test_images_laid_out_otherwise_give_the_same_values(images):
    assert np.array_equal(pixels(image_table(images)), images)


def test_boolean_masks_become_zeros_and_ones():
    table = image_table(IMAGES > 5)
    assert pixels(table).dtype == np.uint8
    assert np.array_equal(pixels(table), (IMAGES > 5).astype(np.uint8))


def test_no_images_give_a_table_of_no_rows_with_the_type_of_images(tmp_path):
    write_table(image_table(IMAGES[:0], LABELS[:0]), tmp_path / "none.parquet")
    read = pq.read_table(tmp_path / "none.parquet")
    assert read.num_rows == 0
    assert read.schema.field("image").type.shape == [2, 4]


def test_columns_are_image_and_label_unless_named():
    assert image_table(IMAGES).column_names == ["image"]
    assert image_table(IMAGES, LABELS).column_names == ["image", "label"]
    assert image_table(IMAGES, LABELS, image_column="x", label_column="y").column_names == ["x", "y"]


@pytest.mark.parametrize(
    ("labels", "expected", "kind"),
    [
        (LABELS, [7, 1, 7], pa.int64()),
        (LABELS.astype(">u2"), [7, 1, 7], pa.uint16()),
        (LABELS > 1, [True, False, True], pa.bool_()),
        (LABELS / 2, [3.5, 0.5, 3.5], pa.float64()),
        (np.array(["cat", "å", ""]), ["cat", "å", ""], pa.string()),
        (np.array(["cat", "å", ""], object), ["cat", "å", ""], pa.string()),
        (np.array([b"cat", "å".encode(), b""]), ["cat", "å", ""], pa.string()),
        (pa.array(["a", None, "b"]), ["a", None, "b"], pa.string()),
    ],
    ids=["int", "big-endian", "bool", "float", "str", "object", "bytes", "arrow"],
)
def test_labels_keep_their_values_and_type(labels, expected, kind):
    column = image_table(IMAGES, labels).column("label")
    assert column.to_pylist() == expected
    assert column.type == kind


@pytest.mark.parametrize("shape", [(3,), (3, 0), (3, 0, 8), ()])
def test_images_without_pixels_are_refused_with_their_shape(shape):
    with pytest.raises(KnnvoteError, match="have no pixels: expected") as told:
        image_table(np.zeros(shape))
    assert str(shape) in str(told.value)


@pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]", "O", "g"])
def test_images_that_are_not_numbers_are_refused_with_their_type(dtype):
    with pytest.raises(KnnvoteError, match="convert them to integers or floats") as told:
        image_table(np.zeros((3, 2), dtype))
    assert str(np.dtype(dtype)) in str(told.value)


def test_labels_of_another_number_are_refused_with_both_numbers():
    with pytest.raises(KnnvoteError, match="3 images but 2 labels: give one label for each image"):
        image_table(IMAGES, LABELS[:2])


@pytest.mark.parametrize(
    "labels",
    [np.zeros((3, 2)), np.zeros(3, "c8"), np.array([1, "a", 2], object), np.array([b"\xff"] * 3)],
    ids=["two columns", "complex", "mixed", "not UTF-8"],
)
def test_labels_that_arrow_cannot_hold_are_refused_with_their_type(labels):
    with pytest.raises(KnnvoteError, match="give one integer, string or boolean for each image") as told:
        image_table(IMAGES, labels)
    assert str(labels.dtype) in str(told.value)


def test_parquet_has_zstd_everywhere_and_a_dictionary_for_labels_alone(tmp_path):
    write_table(image_table(IMAGES, LABELS), tmp_path / "images.parquet")
    group = pq.read_metadata(tmp_path / "images.parquet").row_group(0)
    image, label = group.column(0), group.column(1)
    assert (image.compression, label.compression) == ("ZSTD", "ZSTD")
    assert not image.has_dictionary_page
    assert label.has_dictionary_page


def test_writing_makes_the_folder_and_leaves_only_the_file(tmp_path):
    write_table(image_table(IMAGES), tmp_path / "new" / "images.parquet")
    assert os.listdir(tmp_path / "new") == ["images.parquet"]  # noqa: PTH208


def test_pandas_polars_and_duckdb_read_the_pixels_and_labels(tmp_path):
    path = tmp_path / "images.parquet"
    write_table(image_table(IMAGES, LABELS), path)
    flat = IMAGES.reshape(3, -1).tolist()

    frame = pd.read_parquet(path)
    assert [np.ravel(image).tolist() for image in frame["image"]] == flat
    assert frame["label"].tolist() == LABELS.tolist()

    with duckdb.connect() as connection:
        rows = connection.execute("select image, label from read_parquet(?)", [str(path)]).fetchall()
    assert [list(image) for image, _ in rows] == flat
    assert [label for _, label in rows] == LABELS.tolist()

    columns = pl.read_parquet(path)
    assert [np.ravel(image).tolist() for image in columns["image"].to_list()] == flat
    assert columns["label"].to_list() == LABELS.tolist()
