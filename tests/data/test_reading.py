"""Files of images: opened, watched, recognised, read and decoded; a container and a layout are a class and a row."""

import io
import re
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.classify.classifier import Classifier
from knnvote.data import recognition
from knnvote.data.columns import read_column
from knnvote.data.errors import ImageFileError
from knnvote.data.input_file import CONTAINERS
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions, Layout, commonest
from knnvote.data.reading import decode_rows, open_images
from knnvote.data.recognition import recognise_images
from knnvote.data.rows import RowFile
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_files

IMAGES = np.random.default_rng(0).integers(0, 256, (90, 3, 5), np.uint8)
LABELS = np.arange(90) % 4
recognise = partial(recognise_images, options=ImageOptions())


@pytest.fixture
def source(tmp_path):
    write_table(image_table(IMAGES, LABELS), tmp_path / "x.parquet")
    (source,) = find_inputs([str(tmp_path / "x.parquet")])
    return source


def grow(path):
    with path.open("ab") as stream:
        stream.write(b"more")


@pytest.mark.parametrize("batch_size", [1, 7, 90, 1000])
def test_every_row_is_decoded_once_with_its_number_and_what_was_asked_for_beside(source, batch_size):
    with open_images(source, recognise) as images:
        assert (images.num_rows, images.schema.names) == (90, ["image", "label"])
        rows = list(images.read(["label", "label"], batch_size=batch_size))
    assert max(len(part.numbers) for part in rows) <= batch_size
    np.testing.assert_array_equal(np.concatenate([part.numbers for part in rows]), np.arange(90))
    np.testing.assert_array_equal(np.concatenate([part.pixels for part in rows]), IMAGES.reshape(90, 15))
    assert [label for part in rows for label in part.table["label"].to_pylist()] == LABELS.tolist()
    assert all(part.bad == {} for part in rows)


@given(wanted=st.sets(st.integers(0, 89)).map(sorted), batch_size=st.integers(1, 100))
@settings(max_examples=30, deadline=None)
def test_some_rows_are_those_asked_for(tmp_path_factory, wanted, batch_size):
    path = tmp_path_factory.mktemp("some") / "x.parquet"
    write_table(image_table(IMAGES, LABELS), path)
    (source,) = find_inputs([str(path)])
    with open_images(source, recognise) as images:
        rows = list(images.take(np.array(wanted, np.int64), batch_size=batch_size))
    assert [number for part in rows for number in part.numbers.tolist()] == wanted
    shown = [part.picture(place) for part in rows for place in range(len(part.numbers))]
    assert len(shown) == len(wanted)
    for number, picture in zip(wanted, shown, strict=True):
        np.testing.assert_array_equal(picture, IMAGES[number])


def test_what_is_bad_or_flat_has_no_picture():
    table = pa.table({"image": pa.array([[1, 2, 3, 4], None], pa.list_(pa.uint8()))})
    rows = decode_rows(table, recognise(table))
    np.testing.assert_array_equal(rows.picture(0), [[1, 2], [3, 4]])
    assert (rows.picture(1), rows.bad) == (None, {1: "null image"})
    flat = pa.table({"image": pa.array([[1.5, 2.0, 3.0, 4.0]])})
    assert decode_rows(flat, recognise(flat)).picture(0) is None


def test_what_is_wrong_with_a_files_images_is_told_with_its_name(tmp_path):
    write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "x.parquet")
    (source,) = find_inputs([str(tmp_path / "x.parquet")])
    with (
        pytest.raises(ImageFileError, match=r"/x\.parquet: no image column \(PNG"),
        open_images(source, recognise),
    ):
        pass


def test_a_file_that_changes_while_its_images_are_read_is_told(source, tmp_path):
    message = r"x\.parquet changed while it was read"
    with pytest.raises(ImageFileError, match=message), open_images(source, recognise) as images:  # noqa: PT012
        for _ in images.read(batch_size=30):
            grow(tmp_path / "x.parquet")


@dataclass(frozen=True)
class JsonLines(RowFile):
    """A container that knnvote does not read."""

    table: pa.Table

    @classmethod
    @contextmanager
    def open(cls, source):
        with source.open() as stream:
            yield cls(source, pyarrow.json.read_json(io.BytesIO(stream.read())))

    @property
    def schema(self):
        return self.table.schema

    @property
    def num_rows(self):
        return self.table.num_rows

    def head(self):
        return self.table[:64]

    def _batches(self, columns, batch_size):
        yield from self.table.select(columns).to_batches(batch_size)


def test_a_further_container_is_a_class_and_a_row_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setitem(CONTAINERS, ".lines", JsonLines)
    lines = [f'{{"image": {image.tolist()}, "label": {label}}}' for image, label in zip(IMAGES, LABELS, strict=True)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.lines").write_text("\n".join(lines))
    inputs = find_inputs([str(tmp_path / "in")])
    assert [(source.relative, source.count_rows()) for source in inputs] == [("x.lines", 90)]
    index_files(inputs, tmp_path / "x.knn")
    answer = Classifier.open(tmp_path / "x.knn")(IMAGES)
    assert answer.D[:, 0].max() == 0
    with open_images(inputs[0], recognise) as images:
        (rows,) = images.take(np.array([5, 77]), batch_size=1000)
    np.testing.assert_array_equal(rows.pixels, IMAGES[[5, 77]].reshape(2, 15))


class NumpyBytes(Layout):
    """A layout that knnvote does not read: what numpy.save wrote."""

    title = "NumPy's arrays"

    @classmethod
    def candidates(cls, schema):
        return cls._columns_of(schema, pa.types.is_binary)

    @classmethod
    def fits(cls, first):
        return any(data.startswith(b"\x93NUMPY") for data in first.column.to_pylist() if data is not None)

    @classmethod
    def measure(cls, first):
        return commonest(np.load(io.BytesIO(data)).shape for data in first.column.to_pylist()), ""

    def decode(self, batch):
        images = [np.load(io.BytesIO(data)).ravel() for data in read_column(batch, self.name).to_pylist()]
        return np.stack(images), {}


def saved(image):
    stream = io.BytesIO()
    np.save(stream, image)
    return stream.getvalue()


def test_a_further_layout_is_a_class_and_a_row_of_a_table(monkeypatch):
    monkeypatch.setattr(recognition, "LAYOUTS", (NumpyBytes, *recognition.LAYOUTS))
    table = pa.table({"label": LABELS, "image": [saved(image) for image in IMAGES]})
    layout = recognise(table.slice(0, 64))
    assert layout.describe() == "NumPy's arrays, 3 x 5, in column 'image'"
    np.testing.assert_array_equal(layout.decode(table)[0], IMAGES.reshape(90, 15))
    raw = pa.table({"image": [image.tobytes() for image in IMAGES]})  # which this layout could have by its type
    assert recognise(raw, options=ImageOptions(shape=(3, 5))).title == "raw pixels"


@pytest.mark.parametrize("written", [str, lambda row: str(row.tolist()), lambda row: " ".join(map(str, row))])
def test_vectors_that_are_text_are_told_with_the_command_that_makes_lists_of_them(tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(20, 9))
    texts = [None, *map(written, vectors[1:])]
    pq.write_table(
        pa.table({"id": [f"t{row}" for row in range(20)], "embedding": texts, "label": LABELS[:20]}), "x.parquet"
    )
    (source,) = find_inputs("x.parquet")
    told = r"no image column .*; column 'embedding' holds lists of numbers as text: python -c .* makes x\.new"
    with pytest.raises(ImageFileError, match=told) as error, open_images(source, recognise):
        pass
    command = shlex.split(re.search(r"python -c .*(?= makes x)", str(error.value))[0])
    exec(command[2], {})  # noqa: S102  # of this test's own making
    (source,) = find_inputs("x.new.parquet")
    with open_images(source, recognise) as images:
        (rows,) = images.read(batch_size=20)
    assert rows.bad == {0: "null vector"}
    np.testing.assert_allclose(rows.pixels[1:], vectors[1:], atol=1e-8)
