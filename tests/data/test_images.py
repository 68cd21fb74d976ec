"""Images in every layout that users meet, and the types of their numbers."""

import io
import json
import math
import pickle
from itertools import permutations

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.datasets import load_digits

from knnvote.data.codec import decode as decode_bytes
from knnvote.data.errors import ImageFileError, KnnvoteError, param
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.layouts import encoded
from knnvote.data.layouts.encoded import Encoded
from knnvote.data.reading import open_images
from knnvote.data.recognition import recognise_images
from knnvote.data.vectors import common_type, convert_queries, ends, smallest_type

N, H, W = 7, 4, 4
IMAGES = np.random.default_rng(1).integers(0, 256, (N, H, W), np.uint8)
FLAT = IMAGES.reshape(N, H * W)
UINT8 = pa.uint8()
RED = np.array([255, 0, 0], np.uint8)


def png(pixels, form="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def nested(images, kind=UINT8):
    """Lists of lists whose lengths vary by type."""
    return pa.array(images.tolist(), pa.list_(pa.list_(kind)))


def tensor(images, permutation=None):
    stored = images if permutation is None else images.transpose(0, *(axis + 1 for axis in permutation))
    kind = pa.fixed_shape_tensor(
        pa.from_numpy_dtype(images.dtype),
        stored.shape[1:],
        permutation=None if permutation is None else np.argsort(permutation).tolist(),
    )
    values = pa.array(np.ascontiguousarray(stored).ravel())
    lists = pa.FixedSizeListArray.from_arrays(values, int(np.prod(stored.shape[1:])))
    return pa.ExtensionArray.from_storage(kind, lists)


LAYOUTS = {
    "struct of bytes and path": lambda: pa.array([{"bytes": png(i), "path": None} for i in IMAGES]),
    "PNG": lambda: pa.array([png(i) for i in IMAGES]),
    "PNG in large binary": lambda: pa.array([png(i) for i in IMAGES], pa.large_binary()),
    "PNG in a binary view": lambda: pa.array([png(i) for i in IMAGES], pa.binary_view()),
    "PNG in a dictionary": lambda: pa.array([png(i) for i in IMAGES]).dictionary_encode(),
    "raw": lambda: pa.array([i.tobytes() for i in IMAGES]),
    "raw in large binary": lambda: pa.array([i.tobytes() for i in IMAGES], pa.large_binary()),
    "raw in a binary view": lambda: pa.array([i.tobytes() for i in IMAGES], pa.binary_view()),
    "raw in fixed-size binary": lambda: pa.array([i.tobytes() for i in IMAGES], pa.binary(H * W)),
    "tensor": lambda: tensor(IMAGES),
    "tensor of a channel last": lambda: tensor(IMAGES[..., None]),
    "tensor of a channel first": lambda: tensor(IMAGES[:, None]),
    "permuted tensor": lambda: tensor(IMAGES, [1, 0]),
    "fixed-size list": lambda: pa.array(FLAT.tolist(), pa.list_(UINT8, H * W)),
    "list": lambda: pa.array(FLAT.tolist(), pa.list_(UINT8)),
    "large list": lambda: pa.array(FLAT.tolist(), pa.large_list(UINT8)),
    "list view": lambda: pa.array(FLAT.tolist(), pa.list_view(UINT8)),
    "lists of lists": lambda: nested(IMAGES),
    "large lists of lists": lambda: pa.array(IMAGES.tolist(), pa.large_list(pa.list_(UINT8))),
    "fixed-size lists of lists": lambda: pa.array(IMAGES.tolist(), pa.list_(pa.list_(UINT8, W), H)),
    "lists of fixed-size lists": lambda: pa.array(IMAGES.tolist(), pa.list_(pa.list_(UINT8, W))),
    "lists of lists of one channel": lambda: pa.array(IMAGES[..., None].tolist(), pa.list_(pa.list_(pa.list_(UINT8)))),
}
NOT_IN_PARQUET = {"list view"}


@pytest.fixture(params=LAYOUTS)
def table(request):
    return pa.table({"label": np.arange(N), "picture": LAYOUTS[request.param]()})


def recognise(table, *, expected=None, preferred=None, **options):
    return recognise_images(table.slice(0, 64), ImageOptions(**options), expected=expected, preferred=preferred)


def decode(table, **options):
    return recognise(table, **options).decode(table)


def assert_images(table, images=IMAGES, **options):
    layout = recognise(table, **options)
    vectors, bad = layout.decode(table)
    assert layout.shape == images.shape[1:]
    assert bad == {}
    assert vectors.flags.c_contiguous
    assert vectors.dtype == images.dtype
    np.testing.assert_array_equal(vectors, images.reshape(len(images), -1))


def through_parquet(table, folder, **options):
    pq.write_table(table, folder / "images.parquet", **options)
    return pq.read_table(folder / "images.parquet")


# Layouts


@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - NOT_IN_PARQUET))
def test_each_layout_gives_its_pixels_from_parquet(name, tmp_path):
    column = LAYOUTS[name]()
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.binary())
    assert_images(through_parquet(pa.table({"label": np.arange(N), "picture": column}), tmp_path))


def test_a_dictionary_read_from_parquet_gives_its_images(tmp_path):
    pq.write_table(pa.table({"picture": LAYOUTS["PNG"]()}), tmp_path / "images.parquet")
    table = pq.read_table(tmp_path / "images.parquet", read_dictionary=["picture"])
    assert pa.types.is_dictionary(table.schema.field("picture").type)
    assert_images(table)


def test_each_layout_gives_its_pixels_from_any_slice(table):
    layout = recognise(table)
    for start in range(N):
        for batch in (*table.slice(start, 3).to_batches(), table.slice(start, 3)):
            vectors, bad = layout.decode(batch)
            assert bad == {}
            np.testing.assert_array_equal(vectors, FLAT[start : start + 3])


def test_each_layout_gives_its_pixels_from_several_chunks(table):
    assert_images(pa.concat_tables([table.slice(0, 2), table.slice(2)]))


def test_each_layout_reports_a_null_row_alone(table):
    column = table["picture"].combine_chunks()
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    rows = [None if i == 2 else row for i, row in enumerate(storage.to_pylist())]
    with_null = pa.array(rows, storage.type)
    if isinstance(column, pa.ExtensionArray):
        with_null = pa.ExtensionArray.from_storage(column.type, with_null)
    for start in (0, 1, 2):
        vectors, bad = recognise(table).decode(pa.table({"picture": with_null}).slice(start))
        assert bad == {2 - start: "null image"}
        expected = FLAT.copy()
        expected[2] = 0
        np.testing.assert_array_equal(vectors, expected[start:])


def test_each_layout_of_no_rows_is_recognised_for_an_index(table):
    empty = table.slice(0, 0)
    layout = recognise(empty, expected=(H, W))
    vectors, bad = layout.decode(empty)
    assert layout.shape == (H, W)
    assert vectors.shape == (0, H * W)
    assert bad == {}


def test_each_layout_of_no_rows_is_recognised_without_an_index(table):
    layout = recognise(table.slice(0, 0))
    assert layout.shape in {(), (H, W)}
    assert layout.decode(table.slice(0, 0))[0].shape == (0, layout.d)


def test_a_table_without_chunks_gives_no_vectors(table):
    layout = recognise(table)
    without = pa.table([pa.chunked_array([], type=f.type) for f in table.schema], schema=table.schema)
    assert layout.decode(without)[0].shape == (0, H * W)


def test_each_layout_of_another_shape_fails_as_a_file(table):
    with pytest.raises(ImageFileError, match=r"^images are (4 x 4|16 values), the index stores 28 x 28: "):
        recognise(table, expected=(28, 28))


def test_each_layout_takes_a_shape_of_as_many_pixels(table):
    layout = recognise(table, shape=(2, 8))
    assert layout.shape == (2, 8)
    np.testing.assert_array_equal(layout.decode(table)[0], FLAT)


def test_each_layout_refuses_a_shape_of_other_pixels(table):
    with pytest.raises(ImageFileError, match=r"^images are (4 x 4|16 values), shape says 5 x 5: "):
        recognise(table, shape=(5, 5))


def test_each_layout_suits_a_flat_index_of_as_many_numbers(table):
    layout = recognise(table, expected=(H * W,))
    np.testing.assert_array_equal(layout.decode(table)[0], FLAT)


# Vectors of Spark's machine learning

VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)


def dense(values):
    return {"type": 1, "values": [*values]}


def sparse(values):
    at = np.flatnonzero(values)
    return {"type": 0, "size": len(values), "indices": at.tolist(), "values": values[at].tolist()}


def test_dense_and_sparse_vectors_of_spark_are_read_from_any_slice(tmp_path):
    """Its assembler writes each row in the form that is smaller."""
    x = np.where(FLAT > 99, FLAT / 4, 0)
    x[3] = 0
    column = pa.array([sparse(row) if i % 2 else dense(row) for i, row in enumerate(x)], VECTOR)
    table = through_parquet(pa.table({"features": column, "label": np.arange(N)}), tmp_path)
    layout = recognise(table)
    assert layout.describe() == "vectors of Spark, 16 values, in column 'features'"
    for start in range(N):
        vectors, bad = layout.decode(table.slice(start, 3))
        assert bad == {}
        np.testing.assert_array_equal(vectors, x[start : start + 3])
    assert recognise(table, expected=(4, 4)).shape == (4, 4)
    assert recognise(table.slice(0, 0)).decode(table.slice(0, 0))[0].shape == (0, 0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "null vector"),
        (dense([1.0, 2]), "2 values, expected 3"),
        (dense([1.0, math.nan, 3]), "value 1 is NaN"),
        (dense([1.0, None, 3]), "value 1 is NaN"),
        (sparse(np.array([1.0, 0, 0, 4])), "4 values, expected 3"),
        ({"type": 0, "size": 3, "indices": [0, 3], "values": [1.0, 2]}, "damaged vector"),
        ({"type": 0, "size": 3, "indices": [1, -1], "values": [1.0, 2]}, "damaged vector"),
        ({"type": 0, "size": 3, "indices": [1, 1], "values": [1.0, 2]}, "damaged vector"),
        ({"type": 0, "size": 3, "indices": [1], "values": [1.0, 2]}, "damaged vector"),
        ({"type": 0, "size": 3, "indices": [1, None], "values": [1.0, 2]}, "damaged vector"),
        ({"type": 1, "size": 3, "values": [1.0, 2]}, "damaged vector"),
        ({"type": 7, "size": 3, "values": [1.0, 2, 3]}, "damaged vector"),
    ],
)
def test_a_vector_that_makes_no_sense_is_a_bad_row(row, reason):
    good = np.array([0.0, 5, 6])
    table = pa.table({"features": pa.array([dense(good), row, sparse(good)], VECTOR)})
    vectors, bad = decode(table)
    assert bad == {1: reason}
    np.testing.assert_array_equal(vectors, [good, [0, 0, 0], good])


def test_a_sparse_vector_that_says_it_is_endless_takes_no_memory():
    endless = {"type": 0, "size": 2**31 - 1, "indices": [], "values": []}
    with pytest.raises(ImageFileError, match="null, empty or longer than 16,777,216"):
        recognise(pa.table({"features": pa.array([endless], VECTOR)}))


@pytest.mark.parametrize("options", [{}, {"image_column": "image"}])
def test_images_that_spark_has_decoded_are_told_with_what_writes_them_as_they_are(options):
    spark = {"origin": "file:/a.png", "height": 4, "width": 4, "nChannels": 1, "mode": 0, "data": bytes(16)}
    with pytest.raises(ImageFileError, match=r"column 'image', which are not read: spark.read.format\('binaryFile'\)"):
        recognise(pa.table({"image": [spark], "label": [1]}), **options)
    as_files = {"path": ["a.png"], "modificationTime": [0], "length": [9], "content": [png(IMAGES[0])], "label": [1]}
    assert_images(pa.table(as_files), IMAGES[:1])


# Who writes them


def test_pandas_rows_of_arrays_are_read(tmp_path):
    pd.DataFrame({"image": list(FLAT), "label": 1}).to_parquet(tmp_path / "images.parquet")
    assert_images(pq.read_table(tmp_path / "images.parquet"))


def test_pandas_rows_of_nested_lists_are_read(tmp_path):
    pd.DataFrame({"image": IMAGES.tolist()}).to_parquet(tmp_path / "images.parquet")
    assert_images(pq.read_table(tmp_path / "images.parquet"), IMAGES.astype(np.int64))


@pytest.mark.parametrize("images", [IMAGES, FLAT, IMAGES.astype(np.int32)])
def test_polars_arrays_are_read(tmp_path, images):
    pl.DataFrame({"image": images}).write_parquet(tmp_path / "images.parquet")
    assert_images(pq.read_table(tmp_path / "images.parquet"), images.reshape(N, H, W))


def test_polars_binary_is_read(tmp_path):
    pl.DataFrame({"image": [png(i) for i in IMAGES]}).write_parquet(tmp_path / "images.parquet")
    assert_images(pq.read_table(tmp_path / "images.parquet"))


def test_duckdb_arrays_are_read(tmp_path):
    path = tmp_path / "images.parquet"
    duckdb.sql(f"copy (select {FLAT[0].tolist()}::utinyint[16] as image) to '{path}'")
    assert_images(pq.read_table(path), IMAGES[:1])


def test_scikit_learns_digits_as_a_frame_are_read(tmp_path):
    digits = load_digits(as_frame=True)
    digits.frame.to_parquet(tmp_path / "digits.parquet")
    layout = recognise(table := pq.read_table(tmp_path / "digits.parquet"))
    assert (layout.name, layout.shape) == ("pixel_", (8, 8))
    assert layout.describe() == "one column a pixel, 8 x 8, in columns 'pixel_0_0' to 'pixel_7_7'"
    np.testing.assert_array_equal(layout.decode(table)[0], digits.data)


def test_a_hugging_face_column_is_encoded_even_if_its_first_rows_are_broken():
    features = {"picture": {"_type": "Image"}, "label": {"_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"picture": [b"x" * 16] * 3}).replace_schema_metadata(metadata)
    layout = recognise(table, expected=(H, W))
    assert isinstance(layout, Encoded)
    assert all(reason.startswith("not PNG, JPEG") for reason in layout.decode(table)[1].values())


@pytest.mark.parametrize("metadata", ["", "[]", "{", '{"info": null}', '{"info": {"features": {"picture": 1}}}'])
def test_broken_hugging_face_metadata_do_no_harm(metadata):
    table = pa.table({"picture": LAYOUTS["raw"]()}).replace_schema_metadata({"huggingface": metadata})
    assert_images(table)


# Wide layouts


def wide(names, images=FLAT):
    return pa.table([pa.array(column) for column in images.T], names=names)


@pytest.mark.parametrize(
    "names",
    [
        [f"pixel{i}" for i in range(16)],
        [f"pixel{i + 1}" for i in range(16)],
        [f"pixel{i:03}" for i in range(16)],
        [f"px_{i}" for i in range(16)],
        [f"{i}" for i in range(16)],
        [f"pixel_{i // 4}_{i % 4}" for i in range(16)],
        [f"{i // 4 + 1}x{i % 4 + 1}" for i in range(16)],
        [f"image_2_{i}" for i in range(16)],
    ],
)
def test_one_column_a_pixel_is_read_in_the_order_of_the_numbers(tmp_path, names):
    order = np.random.default_rng(2).permutation(16)
    table = through_parquet(wide(names).select([names[i] for i in order]), tmp_path)
    assert_images(table.append_column("label", pa.array(np.arange(N))))


def test_a_grid_of_columns_tells_a_shape_that_is_not_square():
    table = wide([f"p{i // 8}_{i % 8}" for i in range(16)])
    assert recognise(table).shape == (2, 8)


def test_columns_that_are_no_square_stay_flat():
    assert recognise(wide([f"p{i}" for i in range(6)], FLAT[:, :6])).shape == (6,)


@pytest.mark.parametrize("names", ["a0 a1 a2 a4", "a1 a01 a2 a3", "a7 a8 a9 a10", "a0 b1 c2 d3"])
def test_columns_without_consecutive_numbers_are_no_image(names):
    with pytest.raises(ImageFileError, match=r"^no image column"):
        recognise(wide(names.split(), FLAT[:, :4]))


def test_wide_columns_of_several_types_take_the_type_that_holds_all():
    table = pa.table({"p0": pa.array([1], UINT8), "p1": [-300], "p2": [0.5], "p3": [True]})
    vectors, bad = decode(table)
    assert vectors.dtype == np.float64
    np.testing.assert_array_equal(vectors, [[1, -300, 0.5, 1]])
    assert bad == {}


def test_wide_rows_with_null_and_nan_are_bad():
    table = pa.table({"p0": [1, 2, None], "p1": [1.0, np.nan, 1.0], "p2": [1, 2, None], "p3": [1, 2, 3]})
    for start in (0, 1):
        vectors, bad = recognise(table).decode(table.slice(start))
        assert bad == {1 - start: "value 1 is NaN", 2 - start: "null value at 0"}
        np.testing.assert_array_equal(vectors[:, 3], [1, 0, 0][start:])


# Encoded images


def test_a_jpeg_column_is_read():
    image = np.full((8, 8), 77, np.uint8)
    assert_images(pa.table({"image": [png(image, "JPEG")] * 2}), np.stack([image] * 2))


def test_bad_encoded_rows_are_told_one_by_one():
    data = png(IMAGES[0])
    rows = [
        data,
        None,
        data[:50],
        png(np.zeros((3, 5), np.uint8)),
        b"hello",
        png(np.tile(RED, (4, 4, 1))),
    ]
    vectors, bad = decode(pa.table({"image": pa.array(rows, pa.binary())}))
    assert bad == {
        1: "null image",
        2: "cannot decode PNG: png_read_data_fn input stream too small",
        3: "image is 3 x 5, expected 4 x 4",
        4: "not PNG, JPEG, WebP, GIF, BMP, JPEG 2000 or AVIF, but 5 bytes that begin with 68 65 6c 6c 6f",
        5: f"colour image (RGB, 4 x 4): pass {param('grayscale=True')} to convert it",
    }
    np.testing.assert_array_equal(vectors, [FLAT[0], *np.zeros((5, 16))])


def test_images_of_one_claimed_shape_are_measured_by_the_first_that_can_be_read(monkeypatch):
    whole = png(IMAGES[0])
    decoded = []

    def counting(data, **options):
        decoded.append(data)
        return decode_bytes(data, **options)

    monkeypatch.setattr(encoded, "decode", counting)
    rows = [whole[:-20], None, *[whole] * 60]
    assert recognise(pa.table({"picture": rows})).shape == (H, W)
    assert decoded == [*rows[:1], whole]


def test_images_of_several_shapes_have_the_commonest_that_can_be_read():
    small, large = png(IMAGES[0]), png(np.zeros((9, 9), np.uint8))
    rows = [large[:-20]] * 5 + [large] + [small] * 3
    assert recognise(pa.table({"picture": rows})).shape == (H, W)


def test_an_image_that_breaks_off_leaves_nothing_of_itself():
    big = np.random.default_rng(3).integers(1, 256, (64, 64), np.uint8)
    data = png(big)
    vectors, bad = decode(pa.table({"image": [data, data[: len(data) // 2]]}))
    assert list(bad) == [1]
    assert not vectors[1].any()


def test_colour_is_converted_if_asked():
    table = pa.table({"image": [png(np.tile(RED, (4, 4, 1)))]})
    vectors, bad = decode(table, grayscale=True)
    assert bad == {}
    assert (vectors == 76).all()


def test_a_file_all_in_colour_fails_and_names_the_option():
    table = pa.table({"image": [png(np.tile(RED, (4, 4, 1)))] * 3})
    with pytest.raises(ImageFileError, match=r"first 3 rows of column 'image'.*pass grayscale=True to convert it;"):
        recognise(table)


def test_16_bit_images_and_a_mixture_come_out_as_16_bits():
    deep = IMAGES.astype(np.uint16) * 257
    assert_images(pa.table({"image": [png(i) for i in deep]}), deep)
    vectors, _ = decode(pa.table({"image": [png(IMAGES[0]), png(deep[1])]}))
    assert vectors.dtype == np.uint16
    np.testing.assert_array_equal(vectors, [FLAT[0], deep[1].ravel()])


def test_first_rows_of_null_say_nothing_but_the_index_or_the_user_does():
    table = pa.table({"image": [None, png(IMAGES[0])]})
    with pytest.raises(ImageFileError, match=r"first 1 rows of column 'image'.*null image; .* pass shape to go on"):
        recognise_images(table.slice(0, 1), ImageOptions())
    for options, expected in ((ImageOptions(), (H, W)), (ImageOptions(shape=(H, W)), None)):
        layout = recognise_images(table.slice(0, 1), options, expected=expected)
        vectors, bad = layout.decode(table)
        assert bad == {0: "null image"}
        np.testing.assert_array_equal(vectors[1], FLAT[0])


# Lists and raw pixels


def test_rows_of_the_wrong_length_are_told_with_both_lengths():
    raw = pa.table({"image": [b"\1bcd", b"abc", b"", b"efgh"]})
    vectors, bad = decode(raw)
    assert bad == {1: "3 bytes, expected 4", 2: "0 bytes, expected 4"}
    np.testing.assert_array_equal(vectors[3], list(b"efgh"))
    lists = pa.table({"image": [[1, 2, 3, 4], [1, 2, 3], [], None, [5, 6, 7, 8]]})
    for start in (0, 1):
        vectors, bad = recognise(lists).decode(lists.slice(start))
        assert bad == {
            1 - start: "3 values, expected 4",
            2 - start: "0 values, expected 4",
            3 - start: "null image",
        }
        np.testing.assert_array_equal(vectors[-1], [5, 6, 7, 8])


def test_ragged_rows_of_lists_of_lists_are_bad_even_if_their_number_of_pixels_fits():
    rows = [
        [[1, 2], [3, 4]],
        [[1, 2, 3], [4]],
        [[1, 2]],
        [[1, 2], None],
        [None, [1, 2, 3, 4]],
        None,
        [[5, 6], [7, 8]],
    ]
    vectors, bad = decode(pa.table({"image": rows}))
    assert bad == {
        1: "a row of 3 pixels, expected 2",
        2: "1 rows of pixels, expected 2",
        3: "null row of pixels",
        4: "null row of pixels",
        5: "null image",
    }
    np.testing.assert_array_equal(vectors[[0, 6]], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert not vectors[1:6].any()


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 3), pa.list_(pa.float16(), 3)])
def test_pixels_that_are_null_or_not_finite_make_their_row_bad(kind):
    rows = [[1, 2, 3], [1, None, 3], [1, 2, float("nan")], [float("-inf"), 2, 3], [4, 5, 6]]
    table = pa.table({"image": pa.array(rows, kind)})
    for start in (0, 1):
        vectors, bad = recognise(table).decode(table.slice(start))
        assert bad == {
            1 - start: "null value at 1",
            2 - start: "value 2 is NaN",
            3 - start: "value 0 is infinite",
        }
        assert vectors.dtype == kind.value_type.to_pandas_dtype()
        np.testing.assert_array_equal(vectors[-1], [4, 5, 6])
        assert not vectors[1 - start : 4 - start].any()


def test_a_null_pixel_in_integers_and_tensors_is_placed_as_users_see_it():
    kind = pa.fixed_shape_tensor(UINT8, (2, 3), permutation=[1, 0])
    storage = pa.array([[1, 2, 3, 4, None, 6], None, [1, 2, 3, 4, 5, 6]], kind.storage_type)
    table = pa.table({"image": pa.ExtensionArray.from_storage(kind, storage)})
    layout = recognise(table)
    assert layout.shape == (3, 2)
    for start in (0, 1):
        vectors, bad = layout.decode(table.slice(start))
        assert bad == {k: v for k, v in ((0 - start, "null value at 3"), (1 - start, "null image")) if k >= 0}
        np.testing.assert_array_equal(vectors[-1], [1, 4, 2, 5, 3, 6])


def test_what_lies_under_null_rows_is_not_read():
    values = pa.array([1, 2, 9, 9, 3, 4])
    mask = pa.array([False, True, False])
    fixed = pa.FixedSizeListArray.from_arrays(values, 2, mask=mask)
    varying = pa.ListArray.from_arrays(pa.array([0, 2, 4, 6], pa.int32()), values, mask=mask)
    for column in (fixed, varying):
        for start in (0, 1):
            table = pa.table({"image": column}).slice(start)
            vectors, bad = recognise(table).decode(table)
            assert bad == {1 - start: "null vector"}
            np.testing.assert_array_equal(vectors, [[1, 2], [0, 0], [3, 4]][start:])


def test_booleans_are_0_and_1():
    assert_images(pa.table({"image": (FLAT > 99).tolist()}), (IMAGES > 99).astype(np.uint8))


def test_a_float_list_is_a_vector_and_an_integer_list_a_square():
    assert recognise(pa.table({"v": [[0.5] * 16]})).shape == (16,)
    assert recognise(pa.table({"v": tensor(FLAT.astype(np.float32))})).shape == (16,)
    assert recognise(pa.table({"v": [[5] * 16]})).shape == (4, 4)
    assert recognise(pa.table({"v": [[5] * 15]})).shape == (15,)


def test_a_flat_row_adopts_the_shape_that_the_index_stores():
    for rows in ([[0.5] * 16], [[5] * 16], [b"x" * 16]):
        assert recognise(pa.table({"v": rows}), expected=(2, 8)).shape == (2, 8)


def test_two_real_shapes_of_as_many_pixels_do_not_fit():
    with pytest.raises(ImageFileError, match=r"^images are 4 x 4, the index stores 2 x 8"):
        recognise(pa.table({"v": nested(IMAGES)}), expected=(2, 8))


def test_the_shape_asked_for_must_be_that_of_the_index():
    with pytest.raises(ImageFileError, match=r"^shape says 4 x 4, the index stores 2 x 8"):
        recognise(pa.table({"v": [[5] * 16]}), expected=(2, 8), shape=(4, 4))


def test_raw_pixels_of_no_square_need_a_shape():
    table = pa.table({"v": [b"x" * 15]})
    with pytest.raises(
        ImageFileError, match=r"15 bytes a row.*: pass shape HxW if they are pixels, .* with image_column, or write"
    ):
        recognise(table)
    assert recognise(table, shape=(3, 5)).shape == (3, 5)


DIGITS = load_digits().images
BYTES = {
    "64 numbers of float32": DIGITS.astype("<f4"),
    "64 numbers of int32": -DIGITS.astype("<i4"),
    "128 numbers of 16 bits": DIGITS[:64].reshape(32, 128).astype("<i2"),
    "8 numbers of float64": np.random.default_rng(0).normal(size=(64, 8)),
    "pickles": [pickle.dumps(bytes(48)).ljust(63, b"}") + b"."] * 5,
    "text": [f"{i:064x}".encode() for i in range(9)],
}


@pytest.mark.parametrize(("told", "rows"), BYTES.items(), ids=BYTES)
def test_bytes_that_are_more_likely_something_else_are_pixels_only_if_the_user_says_so(told, rows):
    column = [row if isinstance(row, bytes) else row.tobytes() for row in rows[:64]]
    side = math.isqrt(len(column[0]))
    assert side**2 == len(column[0])
    table = pa.table({"image": column})
    with pytest.raises(ImageFileError, match=f"look like .*{told}.*pass shape {side}x{side} if they are pixels"):
        recognise(table, image_column="image")
    assert recognise(table, shape=(side, side)).title == "raw pixels"
    assert recognise(table, expected=(side, side)).title == "raw pixels"


def test_digits_of_bytes_are_pixels_in_a_column_of_a_usual_name_or_one_that_is_named():
    rows = [image.astype(np.uint8).tobytes() for image in DIGITS[:64]]
    assert recognise(pa.table({"pixels": rows})).shape == (8, 8)
    other = pa.table({"sha512": rows})
    assert recognise(other, image_column="sha512").shape == (8, 8)
    with pytest.raises(ImageFileError, match=r"'sha512' holds 64 bytes a row, which may be anything: pass shape 8x8"):
        recognise(other)


LIKE_JPEG = b"\xff\xd8\xff" + bytes(range(13))


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        ([LIKE_JPEG, *LAYOUTS["raw"]().to_pylist()], "raw pixels"),
        ([LIKE_JPEG, None, b"", b"ragged", *LAYOUTS["raw"]().to_pylist()], "raw pixels"),
        ([LIKE_JPEG, LIKE_JPEG], "encoded"),
        ([png(IMAGES[0]), *[b"404 Not found...", b"503"] * 3], "encoded"),
        ([png(IMAGES[0]), b"x" * 16], "encoded"),
        ([None, b""], "encoded"),
    ],
)
def test_what_bytes_are_is_told_by_all_the_first_rows(rows, title):
    assert recognise(pa.table({"image": pa.array(rows, pa.binary())}), expected=(H, W)).title == title


@pytest.mark.parametrize(
    "name", ["raw", "raw in large binary", "PNG in a dictionary", "struct of bytes and path", "list"]
)
def test_first_rows_of_null_leave_it_to_those_behind_them(tmp_path, name):
    column = LAYOUTS[name]()
    nulls = pa.nulls(70, column.type)
    kept = pa.chunked_array([nulls, column], column.type)
    pq.write_table(pa.table({"image": kept}), tmp_path / "x.parquet", row_group_size=40)
    (source,) = find_inputs(tmp_path / "x.parquet")
    with open_images(source, lambda head: recognise_images(head, ImageOptions())) as images:
        assert images.layout.shape == (H, W)
        rows = list(images.read(batch_size=1000))
    np.testing.assert_array_equal(np.concatenate([batch.pixels for batch in rows])[70:], FLAT)


def test_first_vectors_of_null_leave_it_to_those_behind_them(tmp_path):
    column = pa.array([*[None] * 70, dense([1.0, 2]), sparse(np.array([0.0, 3]))], VECTOR)
    pq.write_table(pa.table({"features": column}), tmp_path / "x.parquet")
    (source,) = find_inputs(tmp_path / "x.parquet")
    with open_images(source, lambda head: recognise_images(head, ImageOptions())) as images:
        (rows,) = images.read(batch_size=1000)
    np.testing.assert_array_equal(rows.pixels[70:], [[1, 2], [0, 3]])


def test_a_first_row_of_another_length_does_not_fail_the_file():
    table = pa.table({"v": [[1, 2], [1, 2, 3, 4], [5, 6, 7, 8]]})
    assert list(decode(table)[1]) == [0]
    assert list(decode(table, expected=(2,))[1]) == [1, 2]


def test_a_file_of_null_rows_fails_unless_the_index_tells_the_shape():
    table = pa.table({"v": pa.array([None, None], pa.list_(pa.list_(UINT8)))})
    with pytest.raises(ImageFileError, match="null, empty or ragged"):
        recognise(table)
    assert decode(table, expected=(2, 2))[1] == {0: "null image", 1: "null image"}


def test_pixels_are_views_of_arrows_memory_where_they_can_be():
    for name in ("raw", "raw in fixed-size binary", "fixed-size list", "list", "tensor", "lists of lists"):
        table = pa.table({"image": LAYOUTS[name]()}).slice(1)
        vectors = decode(table)[0]
        assert np.shares_memory(vectors, decode(table)[0]), name
        assert not vectors.flags.writeable, name


def test_a_layout_is_described_in_one_line():
    table = pa.table({"image": LAYOUTS["PNG"]()})
    assert recognise(table).describe() == "encoded, 4 x 4, in column 'image'"
    table = pa.table({"v": [[0.5, 1.5]]})
    assert recognise(table).describe() == "lists of numbers, 2 values, in column 'v'"


NUMBERS = st.sampled_from([np.dtype(t) for t in ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]])


@settings(deadline=None)
@given(
    data=st.data(),
    dtype=NUMBERS,
    n=st.integers(1, 5),
    shape=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    start=st.integers(0, 4),
)
def test_any_numbers_come_back_from_every_list_layout_and_slice(data, dtype, n, shape, start):
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    images = data.draw(hnp.arrays(dtype, (n, *shape), elements=hnp.from_dtype(dtype, **finite)))
    kind = pa.from_numpy_dtype(dtype)
    (h, w), d = shape, shape[0] * shape[1]
    flat = images.reshape(n, d)
    for rows, arrow in [
        (flat, pa.list_(kind, d)),
        (flat, pa.list_(kind)),
        (flat, pa.large_list(kind)),
        (flat, pa.list_view(kind)),
        (images, pa.list_(pa.list_(kind))),
        (images, pa.list_(pa.list_(kind, w), h)),
        (images, pa.large_list(pa.list_(kind, w))),
    ]:
        table = pa.table({"v": pa.array(rows.tolist(), arrow)})
        vectors, bad = recognise(table).decode(table.slice(start))
        assert bad == {}
        assert vectors.dtype == dtype
        np.testing.assert_array_equal(vectors, flat[start:])


@settings(deadline=None)
@given(
    rows=st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=4), max_size=12),
    start=st.integers(0, 12),
    kind=st.sampled_from([pa.list_(UINT8), pa.large_list(pa.int64()), pa.list_view(pa.float64())]),
)
def test_any_mixture_of_good_and_bad_rows_keeps_the_good_ones(rows, start, kind):
    table = pa.table({"v": pa.array([*rows, [1, 2, 3]], kind)})
    layout = recognise_images(table.slice(len(rows)), ImageOptions())
    vectors, bad = layout.decode(table.slice(start))
    for at, row in enumerate([*rows, [1, 2, 3]][start:]):
        good = row is not None and len(row) == 3 and None not in row
        assert (at not in bad) == good
        assert vectors[at].tolist() == (row if good else [0, 0, 0])


# Which column


def test_another_column_of_the_images_name_is_refused():
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array([[1, 2, 3, 4]])], names=["x", "x"])
    with pytest.raises(ImageFileError, match="several columns are named 'x': write the file with each name once"):
        recognise(table)


def test_no_image_column_lists_the_columns_and_their_types():
    with pytest.raises(
        ImageFileError, match=r"no image column.* label \(int64\), name \(string\): name one with image_column$"
    ):
        recognise(pa.table({"label": [1], "name": ["a"]}))


def test_several_image_columns_are_named_and_one_can_be_chosen():
    table = pa.table({"left": [[1, 2, 3, 4]], "right": [[5, 6, 7, 8, 9]]})
    with pytest.raises(ImageFileError, match=r"'left', 'right'; name one with image_column$"):
        recognise(table)
    assert recognise(table, image_column="right").name == "right"
    assert recognise(table, preferred="right").name == "right"
    assert recognise(table, preferred="right", image_column="left").name == "left"


def test_the_name_that_the_index_knows_is_no_must():
    assert recognise(pa.table({"left": [[1, 2, 3, 4]]}), preferred="right").name == "left"


def test_a_wide_layout_is_chosen_by_its_prefix():
    table = wide([f"pixel{i}" for i in range(16)]).append_column("embedding", pa.array([[0.5]] * N))
    assert recognise(table, image_column="pixel").shape == (4, 4)


def test_a_column_asked_for_that_is_not_there_or_no_image_is_refused():
    table = pa.table({"image": [[1, 2, 3, 4]], "label": [1]})
    with pytest.raises(ImageFileError, match=r"no image column 'img'; image columns here are 'image'"):
        recognise(table, image_column="img")
    with pytest.raises(ImageFileError, match=r"column 'label' is int64, which holds no image"):
        recognise(table, image_column="label")


@pytest.mark.parametrize(
    "column",
    [pa.array([["a"]]), pa.array([{"x": 1}]), pa.array([[]], pa.list_(UINT8, 0)), pa.array(["abcd"])],
)
def test_other_types_are_no_image(column):
    with pytest.raises(ImageFileError, match=r"^no image column"):
        recognise(pa.table({"v": column}))


# Types of numbers


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], "u1"),
        ([0, 256], "u2"),
        ([65536], "u4"),
        ([2**32], "f4"),
        ([2**32 + 1], "f8"),
        ([-128, 127], "i1"),
        ([-1, 128], "f4"),
        ([-129, 0], "f4"),
        ([-(2**24) - 1], "f8"),
        ([True, False], "u1"),
        ([0.5, 16.0], "f4"),
        ([0.1], "f8"),
        ([1e300], "f8"),
        ([], "f4"),
        (np.float16([0.1, -65504, 6e-8]), "f2"),
        (np.float16([0.1]).astype(">f2"), "f2"),
        (np.float32([1, 0.5]), "f4"),
        (np.float64([1, 0.5]), "f4"),
    ],
)
def test_numbers_are_kept_in_the_smallest_type_that_loses_nothing(values, dtype):
    vectors = np.array([values])
    small = smallest_type(vectors)
    assert small.dtype == dtype
    np.testing.assert_array_equal(small, vectors)


def test_no_rows_of_integers_are_the_smallest_type():
    assert smallest_type(np.zeros((0, 4), np.int64)).dtype == np.uint8


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1])
def test_integers_that_no_type_holds_are_refused(value):
    with pytest.raises(KnnvoteError, match=rf"^value {value} is beyond 2\*\*53"):
        smallest_type(np.array([[0, value]]))


@pytest.mark.parametrize(
    ("dtypes", "common"),
    [
        ("u1", "u1"),
        ("u1 u4", "u4"),
        ("u1 f4", "f4"),
        ("u2 f4", "f4"),
        ("u4 f4", "f8"),
        ("f4 f8 u1", "f8"),
        ("i1 u1", "f4"),
        ("i1 u1 u2", "f4"),
        ("i1 u4", "f8"),
        ("f2", "f2"),
        ("f2 u1", "f2"),
        ("f2 i1", "f2"),
        ("f2 i1 u1", "f4"),
        ("f2 u2", "f4"),
        ("f2 u4", "f8"),
        ("f2 f4", "f4"),
        ("f2 f8", "f8"),
    ],
)
def test_files_of_several_types_share_one_that_holds_all(dtypes, common):
    blocks = [_extremes(np.dtype(dtype)) for dtype in dtypes.split()]
    for order in permutations(blocks):
        assert common_type(order) == common
    np.testing.assert_array_equal(np.concatenate(blocks, dtype=common), np.concatenate(blocks, dtype=np.float64))


def _extremes(dtype):
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([[limits.min, limits.max]], dtype)


def test_bytes_that_fit_int8_join_it_wherever_the_batch_with_negative_ones_begins():
    numbers = np.arange(127, -129, -1)[:, None]
    for cut in (1, 100, 128, 200):
        assert common_type([smallest_type(numbers[:cut]), smallest_type(numbers[cut:])]) == np.int8
    assert common_type([smallest_type(numbers[:5] + 1), smallest_type(numbers)]) == np.float32


@settings(deadline=None)
@given(data=st.data(), dtype=NUMBERS, stored=st.sampled_from([np.dtype(t) for t in ("u1", "u2", "u4")]))
def test_a_query_converts_exactly_if_its_pixels_are_whole_and_in_range(data, dtype, stored):
    highest = int(np.iinfo(stored).max)
    interesting = [0, 1, 16, 255, 256, 65535, 65536, 2**32 - 1, -1] + [0.5, 1e30] * (dtype.kind == "f")
    low, high = (None, None) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    fitting = [v for v in interesting if low is None or low <= v <= high]
    elements = hnp.from_dtype(dtype) | st.sampled_from(fitting).map(dtype.type)
    vectors = data.draw(hnp.arrays(dtype, (4, 2), elements=elements))
    converted, bad = convert_queries(vectors, stored)
    assert converted.dtype == stored
    for row, pixels in enumerate(vectors.tolist()):
        wrong = [place for place, v in enumerate(pixels) if not (0 <= v <= highest and v == int(v))]
        if wrong:
            value = vectors[row, wrong[0]]
            whole = f"a whole number from 0 to {highest}, as the index stores; knnvote never rescales"
            assert bad[row] == f"value {value!s} is not {whole}"
            assert converted[row].tolist() == [0, 0]
        else:
            assert row not in bad
            assert converted[row].tolist() == pixels


@settings(deadline=None)
@given(data=st.data(), dtype=NUMBERS)
def test_every_finite_query_that_float64_holds_converts_to_a_float_index(data, dtype):
    vectors = data.draw(hnp.arrays(dtype, (4, 2)))
    converted, bad = convert_queries(vectors, np.dtype(np.float32))
    assert converted.dtype == np.float64
    for row, pixels in enumerate(vectors.tolist()):
        good = all(abs(v) <= 2**53 if isinstance(v, int) else np.isfinite(v) for v in pixels)
        assert (row not in bad) == good
        assert converted[row].tolist() == (pixels if good else [0, 0])


def test_zeros_of_float64_are_a_query_to_an_index_of_bytes():
    converted, bad = convert_queries(np.zeros((1, 64)), np.dtype(np.uint8))
    assert converted.dtype == np.uint8
    assert bad == {}


def test_a_reason_shows_a_number_as_its_own_type_writes_it():
    _, bad = convert_queries(np.array([[0.1]], np.float32), np.dtype(np.uint8))
    assert bad[0].startswith("value 0.1 is not a whole number from 0 to 255")
    _, bad = convert_queries(np.array([[0, np.nan], [np.inf, 0]]), np.dtype(np.float32))
    assert bad == {0: "value 1 is NaN", 1: "value 0 is infinite"}


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.struct({"bytes": pa.binary_view(), "path": pa.string()})])
@pytest.mark.parametrize("blank", [0, 66])
def test_views_in_files_of_many_rows_are_read(tmp_path, kind, blank):
    images = [png(DIGITS[row].reshape(8, 8).astype(np.uint8)) for row in range(70)]
    column = pa.array([None] * blank + images, pa.binary_view())
    if pa.types.is_struct(kind):
        column = pa.StructArray.from_arrays([column, pa.nulls(len(column), pa.string())], fields=list(kind))
    pq.write_table(pa.table({"image": column}), tmp_path / "x.parquet")
    (source,) = find_inputs([str(tmp_path / "x.parquet")])
    with open_images(source, lambda head: recognise_images(head, ImageOptions())) as found:
        (rows,) = found.read(batch_size=200)
        assert [*rows.bad] == [*range(blank)]
        assert np.array_equal(rows.pixels[blank:], DIGITS[:70].reshape(70, 64))


@pytest.mark.parametrize("name", ["black and white", "bright on dark", "as wide as text"])
def test_pixels_of_few_values_are_pixels(name):
    rng = np.random.default_rng(3)
    images = {
        "black and white": (rng.random((40, 256)) < 0.2).astype(np.uint8) * 255,
        "bright on dark": np.where(rng.random((40, 256)) < 0.1, rng.integers(1, 256, (40, 256)), 0).astype(np.uint8),
        "as wide as text": rng.integers(32, 127, (40, 256), np.uint8),
    }[name]
    table = pa.table({"image": [row.tobytes() for row in images]})
    assert recognise(table).shape == (16, 16)


@settings(max_examples=40)
@given(
    st.data(),
    st.sampled_from([np.float16, np.float32, np.int8, np.uint16]),
    st.integers(1, 4),
    st.integers(1, 40),
)
def test_ends_are_the_least_and_the_greatest_number(data, dtype, n, d):
    whole = np.dtype(dtype).kind in "iu"
    elements = None if whole else st.floats(-1e4, 1e4, width=np.dtype(dtype).itemsize * 8)
    sign = data.draw(st.sampled_from([None, 1, -1]))
    x = data.draw(hnp.arrays(dtype, (n, d), elements=elements))
    if sign is not None and not whole:
        x = np.copysign(x, dtype(sign))
    assert ends(x) == (x.min(), x.max())
    assert ends(x[:, ::2]) == (x[:, ::2].min(), x[:, ::2].max())
