import gzip
import io
import json
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import hypothesis.extra.numpy as st_numpy
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.data.convert import survey as module
from knnvote.data.convert.convert import convert
from knnvote.data.errors import KnnvoteError, OptionError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 4, 4)).astype(np.uint8)
LABELS = RNG.integers(0, 10, 12).astype(np.uint8)
IDX_CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, IDX_CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(path, array):
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_csv(path, frame, **options):
    frame.to_csv(path, index=False, **options)
    return path


def wide_frame():
    pixels = pd.DataFrame(IMAGES.reshape(12, 16), columns=[f"pixel{i}" for i in range(16)])
    return pd.concat([pd.Series(LABELS, name="label"), pixels], axis=1)


def read(path):
    """The images and labels (None without such a column) of a Parquet file."""
    table = pq.read_table(path)
    images = table.column("image").combine_chunks().to_numpy_ndarray()
    return images, table.column("label").to_pylist() if "label" in table.column_names else None


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.parquet"


def refusal(sources, out, kind=KnnvoteError, **keys):
    """The message of the refusal: one line, which names the source, and nothing is written."""
    with pytest.raises(kind) as told:
        convert(sources, out, **keys)
    assert "\n" not in str(told.value)
    assert str(sources[0]) in str(told.value)
    assert not out.exists()
    assert not list(out.parent.glob("*.tmp"))
    assert not list(out.parent.glob(".*"))
    return str(told.value)


# IDX


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_idx_of_every_type_and_shape_comes_out_bit_by_bit(data):
    dtype = np.dtype(data.draw(st.sampled_from(sorted(IDX_CODES))))
    shape = data.draw(st_numpy.array_shapes(min_dims=2, max_dims=4, max_side=5))
    images = data.draw(st_numpy.arrays(dtype, shape))
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "images"), Path(folder, "out.parquet")
        source.write_bytes(idx_bytes(images))
        assert convert([source], out) == len(images)
        found, labels = read(out)
    assert_same(found, images)
    assert labels is None


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("turned", [False, True], ids=["images first", "labels first"])
def test_idx_images_and_labels_in_either_order_plain_or_gzipped_give_one_table(tmp_path, out, suffix, turned):
    sources = [
        write_idx(tmp_path / f"train-images-idx3-ubyte{suffix}", IMAGES),
        write_idx(tmp_path / f"train-labels-idx1-ubyte{suffix}", LABELS),
    ]
    assert convert(sources[::-1] if turned else sources, out) == 12
    images, labels = read(out)
    assert_same(images, IMAGES)
    assert labels == LABELS.tolist()
    assert pq.read_schema(out).field("label").type == pa.uint8()


def test_gzip_is_told_by_content_and_not_by_name(tmp_path, out):
    (tmp_path / "images").write_bytes(gzip.compress(idx_bytes(IMAGES)))
    convert([tmp_path / "images"], out)
    assert_same(read(out)[0], IMAGES)
    (tmp_path / "plain.gz").write_bytes(idx_bytes(IMAGES[:5]))
    convert([tmp_path / "plain.gz"], out, overwrite=True)
    assert_same(read(out)[0], IMAGES[:5])


def test_idx_of_no_images_gives_parquet_of_no_rows(tmp_path, out):
    assert convert([write_idx(tmp_path / "images", IMAGES[:0])], out) == 0
    assert pq.read_table(out).num_rows == 0


def test_idx_float_labels_are_kept_for_regression(tmp_path, out):
    values = np.linspace(0, 1, 12)
    convert([write_idx(tmp_path / "images", IMAGES), write_idx(tmp_path / "values", values)], out)
    assert read(out)[1] == values.tolist()


def test_idx_counts_that_differ_are_told_with_both_files(tmp_path, out):
    sources = [write_idx(tmp_path / "images", IMAGES), write_idx(tmp_path / "labels", LABELS[:9])]
    message = refusal(sources, out)
    assert "12 images but 9 labels" in message
    assert str(sources[1]) in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (idx_bytes(IMAGES)[:-5], "holds 203 bytes (unpacked), expected 208 for shape (12, 4, 4) of uint8"),
        (idx_bytes(IMAGES) + b"?", "holds more than 208 bytes (unpacked), expected 208 for shape (12, 4, 4) of uint8"),
        (idx_bytes(IMAGES)[:10], "holds 10 bytes (unpacked), expected at least 16 for the header"),
        (
            idx_bytes(IMAGES)[:3],
            r"begins with b'\x00\x00\x08': expected an IDX file's 0, 0, its type (0x8, 0x9",
        ),
        (
            b"\0\0\x07\x03" + bytes(100),
            r"begins with b'\x00\x00\x07\x03': expected an IDX file's 0, 0, its type",
        ),
        (b"\0\0\x08\x00", "and a rank of 1 or more"),
        (b"\0\0\x08\xff" + bytes(4 * 255), "cannot read"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "holds 16 bytes (unpacked)"),
    ],
    ids=["truncated", "too long", "short header", "three bytes", "type 7", "rank 0", "rank 255", "huge"],
)
def test_damaged_idx_is_told_with_what_was_found_and_expected(tmp_path, out, content, expected):
    (tmp_path / "images").write_bytes(content)
    message = refusal([tmp_path / "images"], out)
    assert expected in message
    assert "get or export it again" in message


def test_idx_labels_alone_are_refused_with_their_shape(tmp_path, out):
    message = refusal([write_idx(tmp_path / "labels", LABELS)], out)
    assert "no images among" in message
    assert "labels (12,) uint8: expected an array of rank 2 or more" in message


def test_two_files_of_images_are_refused_with_both_shapes(tmp_path, out):
    sources = [write_idx(tmp_path / "a", IMAGES), write_idx(tmp_path / "b", IMAGES[:3])]
    message = refusal(sources, out)
    assert "a (12, 4, 4) uint8" in message
    assert "b (3, 4, 4) uint8" in message
    assert "give one file of images and one of labels" in message


def test_no_more_of_a_file_is_read_than_its_header_claims(tmp_path, out):
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx_bytes(IMAGES) + bytes(1 << 23)))
    np.savez_compressed(tmp_path / "a.npz", x=IMAGES, big=np.zeros((2, 1 << 22), np.uint8))
    tracemalloc.start()
    refusal([tmp_path / "images.gz"], out)
    convert([tmp_path / "a.npz"], out, images_key="x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22


# NPZ and NPY


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.astype(np.int64),
        LABELS > 4,
        LABELS.astype(str),
        LABELS.astype("S"),
        LABELS.astype(">i4"),
    ],
    ids=["uint8", "int64", "bool", "str", "bytes", "big-endian"],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_one_array_of_images_and_one_of_labels_needs_no_keys(tmp_path, out, labels, save):
    save(tmp_path / "set.npz", X=IMAGES, y=labels, seed=np.array(7), classes=np.array(["a", "b"]), t=LABELS / 3)
    assert convert([tmp_path / "set.npz"], out) == 12
    images, found = read(out)
    assert_same(images, IMAGES)
    assert found == (labels.astype(str) if labels.dtype.kind == "S" else labels).tolist()


def test_arrays_of_an_npz_that_are_left_out_are_told(tmp_path, out):
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS / 3)
    notes = []
    convert([tmp_path / "set.npz"], out, tell=notes.append)
    assert notes[0].startswith("left out y (12,) float64;")
    convert([tmp_path / "set.npz"], out, overwrite=True, labels_key="y")
    assert read(out)[1] == (LABELS / 3).tolist()


def test_npz_without_labels_gives_images_alone(tmp_path, out):
    np.savez(tmp_path / "set.npz", images=IMAGES / 255)
    convert([tmp_path / "set.npz"], out)
    images, labels = read(out)
    assert_same(images, IMAGES / 255)
    assert labels is None


def keras_npz(folder):
    path = folder / "mnist.npz"
    np.savez(path, x_train=IMAGES[:8], y_train=LABELS[:8], x_test=IMAGES[8:], y_test=LABELS[8:])
    return path


@pytest.mark.parametrize("labels_key", ["y_test", None])
def test_keras_mnist_npz_is_taken_apart_by_keys(tmp_path, out, labels_key):
    assert convert([keras_npz(tmp_path)], out, images_key="x_test", labels_key=labels_key) == 4
    images, labels = read(out)
    assert_same(images, IMAGES[8:])
    assert labels == LABELS[8:].tolist()


def test_keras_mnist_npz_without_keys_is_refused_with_its_arrays_and_the_options(tmp_path, out):
    message = refusal([keras_npz(tmp_path)], out)
    assert "x_train (8, 4, 4) uint8, y_train (8,) uint8, x_test (4, 4, 4) uint8, y_test (4,) uint8" in message
    assert "name the right ones with images_key and labels_key, or give" in message


def test_npz_with_several_labels_is_refused_until_one_is_named(tmp_path, out):
    np.savez(tmp_path / "set.npz", x=IMAGES, fine=LABELS, coarse=LABELS // 5, split=np.arange(3))
    message = refusal([tmp_path / "set.npz"], out)
    assert "could be the labels" in message
    assert "fine (12,) uint8, coarse (12,) uint8" in message
    convert([tmp_path / "set.npz"], out, labels_key="coarse")
    assert read(out)[1] == (LABELS // 5).tolist()


def test_labels_of_one_column_as_in_keras_cifar_are_taken_when_named(tmp_path, out):
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS.reshape(-1, 1))
    convert([tmp_path / "set.npz"], out, images_key="x", labels_key="y")
    assert read(out)[1] == LABELS.tolist()


@pytest.mark.parametrize(("key", "role"), [("images_key", "images_key among"), ("labels_key", "labels_key among")])
def test_a_key_that_is_not_there_is_a_usage_error_that_lists_the_arrays(tmp_path, out, key, role):
    keys = {"images_key": "x_test", "labels_key": "y_test", key: "z"}
    message = refusal([keras_npz(tmp_path)], out, OptionError, **keys)
    assert f"no array z for {role}" in message
    assert "y_train (8,) uint8" in message


def test_named_labels_of_another_number_are_refused_with_both_numbers(tmp_path, out):
    message = refusal([keras_npz(tmp_path)], out, images_key="x_test", labels_key="y_train")
    assert "4 images but 8 labels" in message


@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES.astype(">f4"), np.asfortranarray(IMAGES), IMAGES.astype(np.float16)],
    ids=["uint8", "big-endian", "Fortran order", "float16"],
)
def test_npy_gives_the_images_in_the_machines_byte_order(tmp_path, out, images):
    np.save(tmp_path / "images.npy", images)
    convert([tmp_path / "images.npy"], out)
    assert_same(read(out)[0], np.ascontiguousarray(images, images.dtype.newbyteorder("=")))


def test_two_npy_files_are_images_and_labels_and_may_be_gzipped(tmp_path, out):
    np.save(tmp_path / "X.npy", IMAGES)
    with gzip.open(tmp_path / "y.npy.gz", "wb") as stream:
        np.save(stream, LABELS)
    convert([tmp_path / "y.npy.gz", tmp_path / "X.npy"], out)
    images, labels = read(out)
    assert_same(images, IMAGES)
    assert labels == LABELS.tolist()


def test_two_npz_files_of_images_are_refused_and_neither_is_lost(tmp_path, out):
    sources = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for source in sources:
        np.savez(source, x=IMAGES)
    assert "several arrays could be the images" in refusal(sources, out)


def test_images_and_labels_in_two_npz_files_may_have_one_name(tmp_path, out):
    np.savez(tmp_path / "images.npz", IMAGES)
    np.savez(tmp_path / "labels.npz", LABELS.reshape(-1, 1))
    convert([tmp_path / "labels.npz", tmp_path / "images.npz"], out)
    assert_same(read(out)[0], IMAGES)
    assert read(out)[1] == LABELS.tolist()


def test_keys_that_name_single_numbers_are_refused(tmp_path, out):
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS, seed=np.array(7))
    assert "images of shape () have no pixels" in refusal([tmp_path / "set.npz"], out, images_key="seed")
    assert "shape () cannot be used" in refusal([tmp_path / "set.npz"], out, labels_key="seed")


def test_pickled_arrays_are_refused_with_what_to_do(tmp_path, out):
    np.save(tmp_path / "a.npy", np.array([{}], object))
    np.savez(tmp_path / "b.npz", x=IMAGES, y=np.array(["a", 1] * 6, object))
    for name in ("a.npy", "b.npz"):
        assert "are Python objects that are pickled, which are not read" in refusal([tmp_path / name], out)


def test_pickled_arrays_beside_the_named_ones_do_no_harm(tmp_path, out):
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS, meta=np.array([{}], object))
    assert convert([tmp_path / "set.npz"], out, images_key="x", labels_key="y") == 12


def test_images_of_text_are_refused_with_file_and_type(tmp_path, out):
    np.savez(tmp_path / "set.npz", x=IMAGES.astype(str))
    assert "images of type <U3 cannot be used" in refusal([tmp_path / "set.npz"], out)


def test_a_zip_of_other_things_is_refused(tmp_path, out):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip file of readme.txt, and not NPZ: unzip it" in refusal([tmp_path / "set.zip"], out)


def test_npy_that_promises_more_than_memory_is_refused(tmp_path, out):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**56, 8)})
    (tmp_path / "huge.npy").write_bytes(header.getvalue())
    assert "cannot read" in refusal([tmp_path / "huge.npy"], out)


# CSV


@pytest.mark.parametrize("name", ["digits.csv", "digits.csv.gz"])
def test_csv_keeps_its_columns_names_and_values(tmp_path, out, name):
    frame = wide_frame().assign(source="å", weight=0.5)
    assert convert([write_csv(tmp_path / name, frame)], out) == 12
    assert pq.read_table(out).to_pydict() == frame.to_dict("list")


def headerless(path, label, pixels, *, is_last, **options):
    """A CSV file without header of labels and pixels, and the columns that it shall become."""
    pixels = np.asarray(pixels)
    columns = [pixels, np.reshape(label, (-1, 1))] if is_last else [np.reshape(label, (-1, 1)), pixels]
    names = [f"pixel{i}" for i in range(pixels.shape[1])]
    names.insert(len(names) if is_last else 0, "label")
    frame = pd.DataFrame(np.hstack(columns), columns=names)
    return write_csv(path, frame, header=False, **options), frame.to_dict("list")


CLASSES = np.arange(40) % 5
FIRST, LAST = np.zeros((2, 40, 16), int)  # pixels of which those at the other end than the label are empty
FIRST[:, :-1] = LAST[:, 1:] = RNG.integers(0, 17, (40, 15))


@pytest.mark.parametrize("is_last", [False, True], ids=["as mnist_train.csv", "as UCI's optdigits"])
def test_csv_without_header_is_read_where_one_end_alone_can_be_the_label_and_told(tmp_path, out, is_last):
    source, expected = headerless(tmp_path / "a.csv", CLASSES, LAST if is_last else FIRST, is_last=is_last)
    notes = []
    assert convert([source], out, tell=notes.append) == 40
    assert pq.read_table(out).to_pydict() == expected
    (note,) = notes
    assert f"column {17 if is_last else 1} is taken as the label, 5 numbers from 0 to 4" in str(KnnvoteError(note))


@pytest.mark.parametrize(
    ("label", "pixels"),
    [
        (CLASSES, FIRST[:, ::-1] % 3),  # both ends may be classes
        (CLASSES * 0, LAST * 0 + np.eye(40, 16, -1, int)),  # one class, and a pixel that is hardly ever set
        (CLASSES, FIRST[:, :15]),  # 15 pixels
        (np.arange(40), FIRST),  # numbers of rows
        (CLASSES / 2, FIRST),
        (CLASSES % 2, FIRST),
    ],
    ids=["two classes", "one class", "no square", "row numbers", "fractions", "bits"],
)
def test_csv_without_header_asks_for_the_label_where_it_may_be_another_column(tmp_path, out, label, pixels):
    source, expected = headerless(tmp_path / "a.csv", label, pixels, is_last=False)
    width = pixels.shape[1] + 1
    message = refusal([source], out)
    assert f"pass label_column 1, {width} or the number of another, or 0 if none is" in message
    convert([source], out, label_column=1)
    assert pq.read_table(out).to_pydict() == expected
    convert([source], out, label_column=width, overwrite=True)
    assert pq.read_table(out).column_names[-1] == "label"
    convert([source], out, label_column=0, overwrite=True)
    first, *pixels = pq.read_table(out).column_names
    assert first == ("column1" if label[-1] == 39 else "pixel0")  # what numbers the rows is no pixel
    assert pixels[-1] == f"pixel{len(pixels) - (first == 'column1')}"


def test_the_command_that_asks_for_the_label_names_options_that_work(tmp_path, invoke):
    source, expected = headerless(tmp_path / "a.csv", CLASSES, FIRST % 3, is_last=True)
    asked = invoke("convert", source, "out.parquet")
    assert asked.code == 1
    assert asked.stderr.count("\n") == 1
    (option,) = re.findall(r"pass (--label-column) 1, 17 or the number", asked.stderr)
    assert invoke("convert", source, "out.parquet", option, "17").code == 0
    assert pq.read_table("out.parquet").to_pydict() == expected
    assert invoke("convert", source, "out.parquet", "--overwrite", option, 18).code == 2
    assert "taken as the label" not in invoke("convert", source, "out.parquet", "--overwrite", option, 17).stderr


def test_labels_of_a_csv_without_header_keep_zeros_before_them_and_may_be_missing(tmp_path, out):
    source, _ = headerless(tmp_path / "a.csv", CLASSES, LAST, is_last=True)
    source.write_text("".join(f"{line[:-1]}0{line[-1]},\n" for line in source.read_text().splitlines()))
    assert "pass label_column 1, 17 or" in refusal([source], out)
    convert([source], out, label_column=17)
    assert read_labels(out) == [f"0{label}" for label in CLASSES]
    convert([source], out, label_column=18, overwrite=True)
    assert read_labels(out) == [None] * 40


def test_csv_without_header_may_have_text_for_labels_and_loses_no_row(tmp_path, out):
    source, _ = headerless(tmp_path / "a.csv", CLASSES, FIRST, is_last=True)
    rows = source.read_text().splitlines()
    source.write_text("".join(f"{row[:-1]}{letter}\n" for row, letter in zip(rows, "abcde" * 8, strict=True)))
    assert "the last text: pass" in refusal([source], out)
    assert convert([source], out, label_column=17) == 40
    assert read_labels(out) == list("abcde" * 8)


def read_labels(path):
    return pq.read_table(path).column("label").to_pylist()


def test_a_label_column_is_refused_where_a_header_or_a_key_names_it(tmp_path, out):
    source = write_csv(tmp_path / "a.csv", wide_frame())
    assert "has a header, which names its columns" in refusal([source], out, OptionError, label_column=1)
    assert "name their array with labels_key" in refusal(
        [write_idx(tmp_path / "images", IMAGES)], out, OptionError, label_column=1
    )


def test_csv_without_header_may_hold_scaled_pixels_a_byte_order_mark_and_windows_line_ends(tmp_path, out):
    source, expected = headerless(
        tmp_path / "a.csv", CLASSES, FIRST / 16, is_last=False, encoding="utf-8-sig", lineterminator="\r\n"
    )
    assert convert([source], out, label_column=1) == 40
    assert pq.read_table(out).to_pydict() == expected
    assert pq.read_schema(out).field("label").type == pa.int64()


def test_a_first_column_that_looks_like_ids_is_told(tmp_path, out):
    ids = RNG.permutation(9000)[:40].reshape(-1, 1)
    source, _ = headerless(tmp_path / "a.csv", CLASSES, np.hstack([ids, FIRST]), is_last=True)
    notes = []
    convert([source], out, label_column=18, tell=notes.append)
    assert "another number in each row or nearly so, as ids do, and is taken as 'pixel0'" in notes[0]


def test_a_line_that_only_counts_the_columns_is_left_out_and_told(tmp_path, out):
    source, expected = headerless(tmp_path / "a.csv", CLASSES, FIRST, is_last=False)
    source.write_text(",".join(map(str, range(17))) + "\n" + source.read_text())
    notes = []
    assert convert([source], out, label_column=1, tell=notes.append) == 40
    assert pq.read_table(out).to_pydict() == expected
    assert "only counts its columns" in notes[0]


def test_a_row_that_a_program_took_for_a_header_is_refused(tmp_path, out):
    rows = "5,0,0.1,0.2,0.3\n5,0,0,0,0\n"
    (tmp_path / "a.csv").write_text(rows)
    assert "it holds numbers such as 0.1: leave it out, as tail -n +2 does" in refusal([tmp_path / "a.csv"], out)
    table, _ = converted(out, tmp_path / "a.csv", rows.partition("\n")[2], label_column=1)
    assert table["label"] == [5]


def test_csv_of_many_blocks_is_streamed_in_order(tmp_path, out, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 200)
    source = write_csv(tmp_path / "a.csv.gz", wide_frame())
    assert convert([source], out) == 12
    assert pq.read_metadata(out).num_row_groups > 2
    assert pq.read_table(out).to_pydict() == wide_frame().to_dict("list")


def test_csv_whose_later_rows_change_a_columns_type_keeps_every_value(tmp_path, out, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 16)
    rows = [*["0,,1"] * 20, "0.5,cat,2"]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,c", *rows]))
    assert convert([tmp_path / "a.csv"], out) == 21
    table = pq.read_table(out)
    assert table.column("a").to_pylist() == [0.0] * 20 + [0.5]
    assert table.column("b")[20].as_py() == "cat"
    assert table.column("c").to_pylist() == [1] * 20 + [2]


def converted(out, source, content, **options):
    """What a text file becomes, and the notes on it."""
    source.write_text(content)
    notes = []
    convert([source], out, overwrite=True, tell=lambda note: notes.append(str(KnnvoteError(note))), **options)
    return pq.read_table(out).to_pydict(), notes


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["000123", "000124"], ["000123", "000124"]),
        (['"8"', '"9"'], ["8", "9"]),
        (["9007199254740993", "2"], [2**53 + 1, 2]),
        (["12345678901234567890", "2"], ["12345678901234567890", "2"]),
        (["9007199254740993", "0.5"], ["9007199254740993", "0.5"]),
        (["0x1F", "2"], ["0x1F", "2"]),
        (["1.e3", "3.000e+00"], [1000, 3]),
        (["1e5", "2"], ["1e5", "2"]),
        (["9007199254740993.0", "2"], ["9007199254740993.0", "2"]),
        (["1.1", "1.10"], ["1.1", "1.10"]),
        (["1.50", "2.25"], [1.5, 2.25]),
        (["1", "1.0"], [1, 1]),
        (["0.00", "-0.00"], [0, 0]),
        (["1.5", "2.0"], [1.5, 2.0]),
        ([" 7", "+8 "], [7, 8]),
        (["", "NaN"], [None, None]),
        (["", "7"], [None, 7]),
        (["NA", "x"], ["NA", "x"]),
        (['""', "x"], ["", "x"]),
        (["True", "false"], [True, False]),
        (["0 255 13 1", '"[1, 2, 3, 4]"'], [[0, 255, 13, 1], [1, 2, 3, 4]]),
        (["0.5 1 1 1", "[[1 2]\n [3 4]]"], [[0.5, 1, 1, 1], [1, 2, 3, 4]]),
        (["1 2 3 4", "1 2 3 ... 4"], ["1 2 3 4", "1 2 3 ... 4"]),
        (["1 2 3 4", "3 4 5"], ["1 2 3 4", "3 4 5"]),
    ],
    ids=lambda cells: "|".join(map(str, cells)),
)
@pytest.mark.parametrize("block", [1 << 20, 16], ids=["one block", "many"])
def test_cells_of_csv_become_numbers_where_that_keeps_every_digit(tmp_path, out, monkeypatch, block, cells, values):
    monkeypatch.setattr(module, "BLOCK", max(block, 2 * max(map(len, cells))))
    rows = [f'{i},"{cell}"' if "\n" in cell else f"{i},{cell}" for i, cell in enumerate(cells)]
    table, _ = converted(out, tmp_path / "a.csv", "\n".join(["n,x", *rows]))
    assert table == {"n": [0, 1], "x": values}
    assert [type(value) for value in table["x"]] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("label\tpixel0\tpixel1\n1\t0.5\t3\n", {}),
        ("label;pixel0;pixel1\n1;0,5;3\n", {}),
        ("1;0,5;3\n", {"label_column": 1}),
        ("1 5e-1 3\n", {"label_column": 1}),
        ("# made by hand\n# label,pixel0,pixel1\n1,0.5,3\n", {}),
        ("sep=;\nlabel;pixel0;pixel1\n1;.5;3\n", {}),
        ("\n label , pixel0,pixel1,\n\n1, 0.5,3,\n\n", {}),
        ("1,0.5,3,\n", {"label_column": 1}),
    ],
    ids=["tabs", "semicolons", "no header", "spaces", "comments", "Excel's", "empty lines and cells", "commas at ends"],
)
def test_text_of_other_habits_is_read_as_csv_is(tmp_path, out, content, options):
    table, _ = converted(out, tmp_path / "a.csv", content, **options)
    assert table == {"label": [1], "pixel0": [0.5], "pixel1": [3]}


def test_a_thousands_point_beside_a_decimal_comma_is_no_fraction(tmp_path, out):
    table, _ = converted(out, tmp_path / "a.csv", "label;price\n1;1.234\n2;0,5\n")
    assert table["price"] == ["1.234", "0,5"]


def test_whole_fractions_become_integers_of_all_pixels_or_none_and_are_told(tmp_path, out):
    names = "label,pixel0,pixel1,pixel2,pixel3\n"
    table, notes = converted(out, tmp_path / "a.csv", f"{names}3.0,1.0,2,0.0,4e0\n")
    assert notes == [
        "numbers written with a point are all whole, and became integers, in label, pixel0, pixel2 and 1 more"
    ]
    assert {type(value) for (value,) in table.values()} == {int}
    table, notes = converted(out, tmp_path / "a.csv", f"{names}3.0,1.0,2,0.5,4e0\n")
    assert "integers, in label" in notes[0]
    assert [type(value) for (value,) in table.values()] == [int, float, int, float, float]


PIXELS = "label,pixel0,pixel1,pixel2,pixel3"


def test_a_header_that_stands_again_is_left_out_and_told_by_line(tmp_path, out):
    table, notes = converted(out, tmp_path / "a.csv", f"{PIXELS}\n1,0,0,0,0\n\n{PIXELS}\n2,1,1,1,1\n")
    assert table["label"] == [1, 2]
    assert "the header stands again in line 4 of" in notes[0]


@pytest.mark.parametrize("cell", ["abc", "1 2 3 4", '"1,234"', "0x1G"])
def test_a_cell_among_pixels_that_is_no_number_is_told_by_line_and_column(tmp_path, out, cell):
    (tmp_path / "a.csv").write_text(f"{PIXELS}\n1,0,0,0,0\n\n2,1,007,1,1\n3,1,1,{cell},1\n")
    shown = cell.strip('"')
    assert f"a.csv, line 5: '{shown}' in column 'pixel2', where a number was expected" in refusal(
        [tmp_path / "a.csv"], out
    )


def test_a_column_that_is_text_for_one_cell_is_told_by_line(tmp_path, out):
    rows = "".join(f"{i},0,0,0,0\n" for i in range(20))
    table, notes = converted(out, tmp_path / "a.csv", f"{PIXELS}\n{rows}?,0,0,0,0\n")
    assert table["label"] == [*map(str, range(20)), "?"]
    assert notes == ["column 'label' is text: line 22 holds '?', and 20 of its 21 cells are numbers"]


def test_text_of_json_lines_that_is_lists_becomes_lists_where_no_others_are_images(tmp_path, out):
    table, notes = converted(out, tmp_path / "a.jsonl", '{"x": "[1, 2, 3, 4]"}\n{"x": "5 6 7 8"}\n')
    assert table == {"x": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    assert notes == ["the text of column 'x' is lists of numbers, and became flat ones"]
    table, notes = converted(out, tmp_path / "b.jsonl", '{"x": "1 2 3 4", "y": [1, 2]}\n')
    assert (table, notes) == ({"x": ["1 2 3 4"], "y": [[1, 2]]}, [])


def test_a_list_too_short_among_others_is_told_by_its_place(tmp_path, out):
    lists = ["1 2 3 4"] * 20 + ["1 2 3"]
    _, notes = converted(
        out, tmp_path / "a.csv", "\n".join(["i,x", *(f"{i},{cells}" for i, cells in enumerate(lists))])
    )
    assert notes == ["column 'x' is text: line 22 holds '1 2 3', and 20 of its 21 cells are numbers"]
    _, notes = converted(out, tmp_path / "a.jsonl", "\n".join(json.dumps({"x": cells}) for cells in lists))
    assert notes == ["column 'x' is text: row 20 holds '1 2 3', and 20 of 21 are lists of numbers"]


def test_rows_that_begin_as_comments_do_are_told(tmp_path, out):
    table, notes = converted(out, tmp_path / "a.csv", "#a,5,2\n#b,6,2\nc,7,2\n", label_column=1)
    told = f"2 line(s) above the rows of {tmp_path / 'a.csv'} begin with # and are left out"
    assert (table["label"], notes) == (["c"], [told])
    table, notes = converted(out, tmp_path / "b.csv", "# label,pixel0,pixel1\nc,7,2\n")
    assert (table["label"], notes) == (["c"], [])


def test_hexadecimal_digits_that_would_become_a_negative_number_are_told(tmp_path, out):
    path = tmp_path / "a.csv"
    path.write_text("label,pixel0,pixel1,pixel2,pixel3\n7,0x1F,2,3,4\n8,1,0x8fffffffffffffff,3,4\n")
    assert "line 3: '0x8fffffffffffffff' in column 'pixel1', where a number was" in refusal([path], out)


def test_labels_of_other_text_and_the_same_number_stay_apart(tmp_path, out):
    table, notes = converted(out, tmp_path / "a.csv", "label,pixel0,pixel1\n1.1,0.5,0.50\n1.10,7,7\n")
    assert table == {"label": ["1.1", "1.10"], "pixel0": [0.5, 7], "pixel1": [0.5, 7]}
    assert notes == ["column 'label' is text: '1.1' and '1.10' in it are one number"]
    table, _ = converted(out, tmp_path / "b.csv", "5,0,2.1\n6,0,2.10\n", label_column=3)
    assert table["label"] == ["2.1", "2.10"]
    np.save(tmp_path / "images.npy", IMAGES[:2])
    (tmp_path / "labels.txt").write_text("1.1\n1.10\n")
    convert([tmp_path / "images.npy", tmp_path / "labels.txt"], out, overwrite=True)
    assert pq.read_table(out)["label"].to_pylist() == ["1.1", "1.10"]


def test_lists_beside_a_column_a_pixel_stay_text(tmp_path, out):
    table, _ = converted(out, tmp_path / "a.csv", f"{PIXELS},box\n1,0,0,0,0,1 2 3 4\n")
    assert table["box"] == ["1 2 3 4"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\r1,2\r", "as old Macs had it: end them as Unix does"),
        (",0,1,2,3\n0,5,0,0,0\n", "the first column of"),
    ],
)
def test_what_needs_another_program_first_is_refused_with_what_it_should_do(tmp_path, out, content, expected):
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert expected in refusal([tmp_path / "a.csv"], out)


# JSON lines


def test_json_lines_keep_lists_digits_dates_and_whole_numbers(tmp_path, out):
    first = '{"image": [[1, 2], [3, 4]], "label": 1.0, "id": "007"}'
    second = '{"image": [[0, 0], [0, 0]], "day": "2024-01-01"}'
    table, notes = converted(out, tmp_path / "a.jsonl", f"\ufeff{first}\n\n{second}")
    assert table == {
        "image": [[[1, 2], [3, 4]], [[0, 0], [0, 0]]],
        "label": [1, None],
        "id": ["007", None],
        "day": [None, "2024-01-01"],
    }
    assert type(table["label"][0]) is int
    assert "became integers, in label" in notes[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"label": 1}]', "is a JSON array, and JSON lines are read, one object a line: jq -c '.[]'"),
        ('{"label": {"0": 1, "1": 2}}', "is JSON of columns"),
        ('{"id": 12345678901234567890}', "column 'id' holds numbers beyond 2**53, which lose digits"),
        ("{}", "holds JSON objects without any value"),
        ('{"a": "\udcff"}', "save it as UTF-8"),
        (
            '{"a": 1}\n{"a": "x"}',
            "column 'a' holds numbers in some rows and strings in others: jq -c '(.\"a\" | values) |= tostring' ",
        ),
        (
            '{"a": [1]}\n{"a": "x"}',
            "column 'a' holds arrays in some rows and strings in others: write values of one kind",
        ),
    ],
    ids=["array", "columns", "digits", "nothing", "not UTF-8", "types", "lists and texts"],
)
def test_json_of_another_form_is_refused_in_one_line(tmp_path, out, content, expected):
    (tmp_path / "a.json").write_bytes(content.encode(errors="surrogateescape"))
    assert expected in refusal([tmp_path / "a.json"], out)


def test_csv_of_a_header_alone_gives_parquet_of_no_rows(tmp_path, out):
    (tmp_path / "a.csv").write_text("label,pixel0\n")
    assert convert([tmp_path / "a.csv"], out) == 0
    assert pq.read_table(out).column_names == ["label", "pixel0"]
    assert pq.read_table(out).num_rows == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty, or holds only comments"),
        (b"a,b\n1,2\n\n1,2,3\n", "line 4: 3 columns, where 2 were expected"),
        (b"a,b;c\n1,2;3\n", "holds ',' and ';', which may separate columns: separate them by commas"),
        (b" 1  2\n", "more than one space or tab between or beside them: separate them by commas, as awk"),
        (b"hello\nworld\n", "as CSV it has one column"),
        (b"a,b,a\n1,2,3\n", "several columns named 'a'"),
        ("label,größe\n1,2\n".encode("latin-1"), "if it is text, save it as UTF-8"),
        ("label,pixel0\n1,2\n".encode("utf-16"), "is text in UTF-16: save it as UTF-8"),
        (b"PAR1" + bytes(9), "is Parquet already: it needs no conversion"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"begins with b'\x89PNG'"),
    ],
    ids=[
        "empty",
        "ragged",
        "commas and semicolons",
        "spaces",
        "text",
        "doubled name",
        "latin-1",
        "utf-16",
        "Parquet",
        "PNG",
    ],
)
def test_what_is_no_csv_is_refused_in_one_line(tmp_path, out, content, expected):
    (tmp_path / "a.csv").write_bytes(content)
    assert expected in refusal([tmp_path / "a.csv"], out)


def test_ragged_row_far_into_a_csv_leaves_no_file(tmp_path, out, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 64)
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 500 + "1\n")
    assert "line 502: 1 columns, where 2 were expected" in refusal([tmp_path / "a.csv"], out)


def test_a_gzipped_csv_cut_off_in_the_middle_is_blamed_on_the_source(tmp_path, out, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4096)
    text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in RNG.integers(0, 10**6, (20000, 2)))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode())[:-2000])
    assert f"cannot read {tmp_path / 'a.csv.gz'}: Compressed file ended" in refusal([tmp_path / "a.csv.gz"], out)


def test_csv_with_keys_or_beside_another_file_is_a_usage_error(tmp_path, out):
    source = write_csv(tmp_path / "a.csv", wide_frame())
    assert "convert it on its own or" in refusal([source, source], out, OptionError)
    for keys in ({"images_key": "x"}, {"labels_key": "y"}):
        assert "convert it without images_key and labels_key" in refusal([source], out, OptionError, **keys)


@pytest.mark.parametrize(
    ("labels", "header"), [(LABELS, None), (LABELS, "label"), (np.array(["cat", "dog"] * 6), "label")]
)
def test_labels_beside_images_may_stand_in_text_of_one_column(tmp_path, out, labels, header):
    np.save(tmp_path / "X.npy", IMAGES)
    pd.Series(labels).to_csv(tmp_path / "y.csv", index=False, header=[header] if header else False)
    convert([tmp_path / "y.csv", tmp_path / "X.npy"], out)
    assert_same(read(out)[0], IMAGES)
    assert list(map(str, read(out)[1])) == labels.astype(str).tolist()


def test_labels_in_text_of_another_number_or_with_gaps_are_refused(tmp_path, out):
    np.save(tmp_path / "X.npy", IMAGES)
    (tmp_path / "y.csv").write_text("cat\n" * 11)
    assert "12 images but 11 labels" in refusal([tmp_path / "y.csv", tmp_path / "X.npy"], out)
    (tmp_path / "y.csv").write_text("1\nNA\n" * 6)
    assert "6 of 12 labels are missing" in refusal([tmp_path / "y.csv", tmp_path / "X.npy"], out)


# Any format


def whole_files():
    npz, npy = io.BytesIO(), io.BytesIO()
    np.savez_compressed(npz, x=IMAGES, y=LABELS)
    np.save(npy, IMAGES)
    idx = idx_bytes(IMAGES)
    return {"npz": npz.getvalue(), "npy": npy.getvalue(), "idx": idx, "idx.gz": gzip.compress(idx)}


@pytest.mark.parametrize("kind", sorted(whole_files()))
def test_a_file_cut_off_anywhere_is_refused_and_never_a_traceback(tmp_path, out, kind):
    content = whole_files()[kind]
    for length in range(0, len(content), 3):
        (tmp_path / "images").write_bytes(content[:length])
        refusal([tmp_path / "images"], out)


@pytest.mark.parametrize("kind", sorted(whole_files()))
def test_a_file_with_a_changed_byte_gives_images_or_a_refusal_and_never_a_traceback(tmp_path, out, kind):
    content = whole_files()[kind]
    refused = 0
    for place in range(len(content)):
        changed = bytes([*content[:place], content[place] ^ 0x55, *content[place + 1 :]])
        (tmp_path / "images").write_bytes(changed)
        try:
            rows = convert([tmp_path / "images"], out, overwrite=True)
        except KnnvoteError as error:
            assert str(tmp_path / "images") in str(error)  # noqa: PT017
            refused += 1
        else:
            assert rows == pq.read_metadata(out).num_rows
    assert refused > 3


def test_a_source_that_is_not_there_or_a_folder_is_told_by_path(tmp_path, out):
    assert "No such file or directory; give the path of" in refusal([tmp_path / "none.npz"], out)
    (tmp_path / "folder").mkdir()
    assert "Is a directory; give the path of" in refusal([tmp_path / "folder"], out)


def test_nothing_to_convert_is_a_usage_error(out):
    with pytest.raises(OptionError, match="nothing to convert"):
        convert([], out)


def test_a_destination_that_is_no_parquet_file_is_a_usage_error(tmp_path):
    source = write_idx(tmp_path / "images", IMAGES)
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(OptionError, match=r"folder\.parquet is a folder: name a \.parquet file"):
        convert([source], tmp_path / "folder.parquet")
    with pytest.raises(OptionError, match=r"out\.csv is not a \.parquet file: name a \.parquet file"):
        convert([source], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_source_is_never_overwritten_even_by_another_name(tmp_path):
    source = write_idx(tmp_path / "images.parquet", IMAGES)
    (tmp_path / "link.parquet").symlink_to(source)
    for destination in (source, tmp_path / "link.parquet"):
        with pytest.raises(OptionError, match="both a source and the destination"):
            convert([source], destination)
    assert source.read_bytes() == idx_bytes(IMAGES)


def test_an_older_destination_is_replaced_by_success_and_kept_by_failure(tmp_path, out):
    convert([write_idx(tmp_path / "images", IMAGES)], out)
    before = out.read_bytes()
    with pytest.raises(KnnvoteError, match=f"^{out} exists: pass overwrite=True"):
        convert([tmp_path / "images"], out)
    (tmp_path / "bad").write_bytes(idx_bytes(IMAGES)[:-1])
    with pytest.raises(KnnvoteError):
        convert([tmp_path / "bad"], out, overwrite=True)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(KnnvoteError):
        convert([tmp_path / "bad.csv"], out, overwrite=True)
    assert out.read_bytes() == before
    assert convert([write_idx(tmp_path / "fewer", IMAGES[:5])], out, overwrite=True) == 5
    assert_same(read(out)[0], IMAGES[:5])


def test_the_same_sources_give_the_same_bytes(tmp_path):
    for source in (write_idx(tmp_path / "images", IMAGES), write_csv(tmp_path / "a.csv", wide_frame())):
        convert([source], tmp_path / "1.parquet", overwrite=True)
        convert([source], tmp_path / "2.parquet", overwrite=True)
        assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_pandas_polars_and_duckdb_open_what_was_converted(tmp_path, out):
    convert([write_idx(tmp_path / "images", IMAGES), write_idx(tmp_path / "labels", LABELS)], out)
    with duckdb.connect() as connection:
        rows = connection.execute("select image, label from read_parquet(?)", [str(out)]).fetchall()
    opened = {
        "pandas": list(pd.read_parquet(out).itertuples(index=False)),
        "polars": pl.read_parquet(out).rows(),
        "duckdb": rows,
    }
    for reader, pairs in opened.items():
        assert [np.ravel(image).tolist() for image, _ in pairs] == IMAGES.reshape(12, 16).tolist(), reader
        assert [label for _, label in pairs] == LABELS.tolist(), reader


def test_a_leading_tilde_is_the_home(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "x.csv").write_text("p0,p1,p2,p3,label\n1,2,3,4,0\n")
    done = invoke("convert", "~/x.csv", "~/x.parquet")
    assert (done.code, done.stderr) == (0, f"{tmp_path}/home/x.parquet: 1 row\n")
    assert not (tmp_path / "~").exists()


def test_the_first_of_labels_that_are_words_is_no_header(out, tmp_path):
    np.save(tmp_path / "X.npy", IMAGES)
    words = [f"w{i % 3}" for i in range(12)]
    for header in ("", "label\n"):
        (tmp_path / "y.txt").write_text(header + "\n".join(words) + "\n")
        convert([tmp_path / "X.npy", tmp_path / "y.txt"], out, overwrite=True)
        assert pq.read_table(out)["label"].to_pylist() == words


def test_commas_that_may_separate_thousands_are_asked_about(out, tmp_path):
    lines = ["label;p0;p1;p2;p3", *(f"{i % 3};1,000;{i};2,500;7" for i in range(5))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    assert "such as '1,000', whose comma may separate thousands or a fraction" in refusal([tmp_path / "x.csv"], out)
    (tmp_path / "x.csv").write_text("\n".join(lines).replace("7", "0,125"))
    convert([tmp_path / "x.csv"], out)
    assert pq.read_table(out)["p0"].to_pylist() == [1.0] * 5
