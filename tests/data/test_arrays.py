"""Arrays of NumPy's files: read where they lie, whatever their order, type and container, or refused with a word."""

import gzip
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.data.containers import arrays as container
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.tables import image_table

RNG = np.random.default_rng(0)
VECTORS, LABELS = RNG.normal(size=(30, 6)).astype(np.float32), np.arange(30) % 3


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table_of(*arguments, batch_size=7, span=None):
    """All rows of one input, or some of them."""
    (source,) = find_inputs(list(arguments))
    with source.open_rows() as rows:
        return pa.Table.from_batches(rows.batches(rows.schema.names, batch_size, span), rows.schema)


def numbers(table):
    return table["image"].combine_chunks().to_numpy_ndarray()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    n=st.integers(0, 12),
    kind=st.sampled_from(["u1", "<i2", ">i4", "<f2", ">f4", "<f8", "?", ">u8"]),
    is_fortran=st.booleans(),
    data=st.data(),
)
def test_rows_are_those_that_numpy_loads(tmp_path_factory, shape, n, kind, is_fortran, data):
    folder = tmp_path_factory.mktemp("x")
    values = RNG.integers(0, 2 if kind == "?" else 100, (n, *shape)).astype(kind)
    np.save(folder / "x.npy", np.asfortranarray(values) if is_fortran else values)
    first, last = sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))
    batch = data.draw(st.integers(1, 13))
    loaded = np.load(folder / "x.npy")
    expected = loaded.astype(np.uint8) if kind == "?" else loaded.astype(loaded.dtype.newbyteorder("="))
    if shape == [1]:  # of which neither axis says that it is an image
        return
    found = numbers(table_of(folder / "x.npy", batch_size=batch, span=range(first, last)))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected[first:last])
    (source,) = find_inputs(folder / "x.npy")
    wanted = np.flatnonzero(RNG.random(n) < 0.4)
    with source.open_rows() as rows:
        taken = [*rows.take(wanted, ["image"], batch)]
    assert [row for chosen, _ in taken for row in chosen.tolist()] == wanted.tolist()
    for chosen, table in taken:
        np.testing.assert_array_equal(numbers(table), expected[chosen])


def gzipped(path):
    np.save("plain.npy", VECTORS)
    Path(path).write_bytes(gzip.compress(Path("plain.npy").read_bytes()))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda path: np.savez(path, x=VECTORS, y=LABELS), "x.npz"),
        (lambda path: np.savez_compressed(path, emb=np.asfortranarray(VECTORS), names=LABELS.astype("U1")), "x.npz"),
        (gzipped, "x.npy.gz"),
    ],
)
def test_what_is_packed_is_unpacked_once_while_it_stays(write, name, monkeypatch):
    write(name)
    monkeypatch.setattr(container, "_MOST_UNPACKED", 1)
    unpacked, unpack = [], container.StoredArray.unpacked
    monkeypatch.setattr(container.StoredArray, "unpacked", lambda array: unpacked.append(array.name) or unpack(array))
    for _ in range(2):
        found = table_of(name)
        np.testing.assert_array_equal(numbers(found), VECTORS)
    assert len(unpacked) == 1
    assert found.schema.names[1:] == ([] if name.endswith(".gz") else ["label"])
    np.savez("other.npz", x=VECTORS * 2)  # in whose place the first is removed
    np.testing.assert_array_equal(numbers(table_of("other.npz")), VECTORS * 2)
    np.testing.assert_array_equal(numbers(table_of(name)), VECTORS)
    assert len(unpacked) == 3


def test_what_cannot_be_unpacked_to_its_end_leaves_no_file(monkeypatch):
    np.savez_compressed("x.npz", x=VECTORS)
    before = {*container.made_folder().iterdir()}
    monkeypatch.setattr(container.StoredArray, "unpacked", lambda _: nullcontext(io.BytesIO(b"short")))
    with pytest.raises(ImageFileError, match=r"holds 5 bytes \(unpacked\)"):
        table_of("x.npz")
    assert {*container.made_folder().iterdir()} == before


def test_threads_that_want_one_array_unpack_it_once(monkeypatch):
    np.savez_compressed("x.npz", x=VECTORS)
    unpacked, unpack = [], container.StoredArray.unpacked
    monkeypatch.setattr(
        container.StoredArray, "unpacked", lambda array: (unpacked.append(1), time.sleep(0.02), unpack(array))[2]
    )
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(table_of, ["x.npz"] * 4):
            np.testing.assert_array_equal(numbers(found), VECTORS)
    assert len(unpacked) == 1


def test_no_more_is_read_than_is_asked_for(monkeypatch):
    np.save("x.npy", np.arange(30 << 16, dtype=np.uint8).reshape(30, 1 << 16))
    monkeypatch.setattr(container, "BATCH_BYTES", 1 << 17)
    read, of_file = [], container.ArrayRows._bytes
    monkeypatch.setattr(
        container.ArrayRows, "_bytes", lambda rows, first, count: read.append(count) or of_file(rows, first, count)
    )
    (source,) = find_inputs("x.npy")
    with source.open_rows() as rows:
        assert rows.num_rows == source.count_rows() == 30
        assert read == []
        assert [batch.num_rows for batch in rows.batches(["image"], 1000, range(25, 30))] == [2, 2, 1]
        assert read == [1 << 17, 1 << 17, 1 << 16]
        assert [chosen.tolist() for chosen, _ in rows.take(np.array([0, 1, 29]), ["image"], 1000)] == [[0, 1], [29]]


def save(value, name="x.npy"):
    np.save(name, value, allow_pickle=True)


def cut(by):
    save(VECTORS)
    content = Path("x.npy").read_bytes()
    Path("x.npy").write_bytes(content[:by] if by < 0 else content + content[-by:])


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda: save(np.float64(3)), r"no images among x\.npy \(\) float64: expected an array of rank 2 or more"),
        (lambda: save(VECTORS[:, 0]), r"no images among x\.npy \(30,\) float32: .*such as \(n, d\)"),
        (lambda: save(VECTORS[:, :0]), r"x\.npy: images of shape \(0, 0\) have no pixels"),
        (lambda: save(VECTORS.astype(complex)), r"x\.npy: images of type complex128 cannot be used: convert them"),
        (lambda: save(VECTORS.astype(str)), r"x\.npy: images of type <U32 cannot be used"),
        (lambda: cut(-5), r"x\.npy holds 843 bytes \(unpacked\), expected 848 for shape \(30, 6\) of float32"),
        (lambda: cut(9), r"x\.npy holds more than the 848 bytes of its array \(30, 6\) of float32, as where several"),
        (lambda: Path("x.npy").write_bytes(b""), r"cannot read x\.npy: No data left in file"),
        (lambda: Path("x.npy").write_bytes(b"\x93NUMPY\x01\x00\x05\x00{junk"), r"cannot read x\.npy: .*damaged"),
        (lambda: VECTORS.dump("x.npy"), r"cannot read x\.npy: it is a pickle, .* makes x\.new\.npz of it"),
        (
            lambda: np.savez("x.npz", a=VECTORS, b=VECTORS),
            r"several arrays could be the images.*knnvote convert x\.npz",
        ),
    ],
)
def test_what_is_no_array_of_images_is_refused_in_a_line(write, told):
    write()
    with pytest.raises(ImageFileError, match=told) as error:
        table_of(next(map(str, Path().glob("x.*"))))
    assert "\n" not in str(error.value)


def test_an_archive_that_is_damaged_is_told_when_it_is_read():
    np.savez("x.npz", x=VECTORS)
    content = bytearray(Path("x.npz").read_bytes())
    content[300] ^= 1
    Path("x.npz").write_bytes(content)
    with pytest.raises(ImageFileError, match=r"cannot read x\.npz: Bad CRC-32"):
        table_of("x.npz")


RECORDS = np.zeros(4, [("vector", ">f4", (3,)), ("label", "U4")])
RECORDS["vector"], RECORDS["label"] = np.arange(12).reshape(4, 3), ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda: save(np.array([*VECTORS, None], object)[:-1]), VECTORS),
        (lambda: save(np.array({"x": VECTORS, "y": LABELS})), VECTORS),
        (lambda: np.savez("x.npz", x=VECTORS.astype(object)), VECTORS),
        (lambda: np.savez("x.npz", x=VECTORS, y=np.array(["a", "b", "c"] * 10, object)), VECTORS),
        (lambda: save(RECORDS), RECORDS["vector"]),
    ],
)
def test_objects_and_records_are_refused_with_python_that_makes_arrays_of_them(write, expected):
    write()
    with pytest.raises(ImageFileError, match=r"pickled|records with fields vector, label") as error:
        table_of(next(map(str, Path().glob("x.*"))))
    code, made = re.search(r'python -c "(.*)" makes (\S+) of it', str(error.value)).groups()
    exec(code, {})  # noqa: S102  # of this test's own making
    found = pq.read_table(made)["vector"].to_pylist() if made.endswith(".parquet") else numbers(table_of(made))
    np.testing.assert_array_equal(found, expected)


def test_an_array_gives_the_index_and_the_answers_of_the_same_table(invoke):
    odd = VECTORS.copy()
    odd[4, 2] = np.nan
    for folder in ("a", "t"):
        Path(folder).mkdir()
    np.save("a/x.npy", np.asfortranarray(VECTORS.astype(">f8")))
    np.save("a/y.npy", LABELS)
    np.save("a/q.npy", odd)
    pq.write_table(image_table(VECTORS, LABELS), "t/x.parquet")
    pq.write_table(image_table(odd), "t/q.parquet")
    for folder, train, test in (("a", ("a/x.npy", "a/y.npy"), "a/q.npy"), ("t", ("t/x.parquet",), "t/q.parquet")):
        assert invoke("index", *train, "--out", f"{folder}.knn").code == 0
        done = invoke("classify", f"{folder}.knn", test, "--out", f"{folder}-out", "--k", "3", "--neighbors")
        assert f"{test}, row 4: value 2 is NaN" in done.stderr
    one, other = (pq.read_table(f"{folder}-out/q.parquet") for folder in "at")
    assert one.equals(other)
    assert one["status"].to_pylist()[3:6] == ["ok", "bad_image", "ok"]
    assert one["neighbors"][0].as_py()[0]["id"] == "x.parquet#0"
    names = sorted(path.name for path in Path("a.knn").iterdir() if path.name not in {"manifest.json", "timing-1.json"})
    for name in names:
        assert Path("a.knn", name).read_bytes() == Path("t.knn", name).read_bytes(), name
    assert "labels-1.parquet" in names


def test_a_job_of_arrays_goes_on_where_it_was_and_does_again_what_changed(invoke):
    np.save("x.npy", VECTORS)
    np.save("q.npy", VECTORS + 1)
    np.save("y.npy", LABELS)
    assert invoke("index", "x.npy", "y.npy", "--out", "x.knn").code == 0
    counts = []
    for value in (None, None, VECTORS[:3]):
        if value is not None:
            np.save("q.npy", value)
        done = invoke("classify", "x.knn", "x.npy", "q.npy", "--out", "out", "--k", "1", "--json")
        counts.append(json.loads(done.stdout)["files"])
    assert [count["written"] for count in counts] == [2, 0, 1]
    assert pq.read_table("out/q.parquet").num_rows == 3
    assert invoke("verify", "out").code == 0
    done = invoke("explain", "x.knn", "x.npy#7", "--k", "1")
    assert "x.npy#7" in done.stdout, done.stderr


def test_labels_of_a_stem_belong_to_its_vectors_in_a_folder_and_nothing_else_does():
    Path("in").mkdir()
    for name in "abc":
        np.save(f"in/{name}.npy", VECTORS)
    np.save("in/b-labels.npy", LABELS)  # next to a, which has as many rows
    np.save("in/c_labels.npy", LABELS)
    Path("in/notes.txt").write_text("x")
    found = find_inputs("in")
    assert [(source.shown, source.beside and source.beside.shown) for source in found] == [
        ("in/a.npy", None),
        ("in/b.npy", "in/b-labels.npy"),
        ("in/c.npy", "in/c_labels.npy"),
    ]
    assert [source.relative for source in found] == ["a.parquet", "b.parquet", "c.parquet"]
    np.save("in/c_labels.npy", LABELS[1:])
    with pytest.raises(ImageFileError, match=r"in/c\.npy: 30 images but 29 labels"):
        find_inputs("in")[2].describe() and table_of("in/c.npy", "in/c_labels.npy")
    np.save("in/b.label.npy", LABELS)
    with pytest.raises(
        KnnvoteError, match=r"in/b-labels\.npy and in/b\.label\.npy may both hold the labels of in/b\.npy"
    ):
        find_inputs("in")


def test_of_a_folder_of_several_kinds_the_first_is_taken_and_the_others_are_told():
    Path("in").mkdir()
    np.save("in/x.npy", VECTORS)
    assert [source.shown for source in find_inputs("in")] == ["in/x.npy"]
    with pa.OSFile("in/y.arrow", "wb") as file, pa.ipc.new_file(file, pa.schema([("a", pa.int8())])):
        pass
    with pytest.warns(UserWarning, match=r"beside Arrow files: x\.npy; to have them taken give 'in/\*\.npy'"):
        assert [source.shown for source in find_inputs("in")] == ["in/y.arrow"]
    pq.write_table(image_table(VECTORS, LABELS), "in/z.parquet")
    with pytest.warns(UserWarning, match=r"2 file\(s\) of images are left out beside Parquet files: y\.arrow, \.\.\."):
        assert [source.shown for source in find_inputs("in")] == ["in/z.parquet"]
    assert [source.shown for source in find_inputs("in/*.npy")] == ["in/x.npy"]


def test_where_labels_are_missing_a_file_beside_that_may_hold_them_is_told(invoke):
    Path("in").mkdir()
    np.save("in/x.npy", VECTORS)
    assert invoke("index", "in/x.npy", "--out", "x.knn").stderr.endswith(
        "give labels in a file of their own with --labels\n"
    )
    Path("in/x.csv").write_text("intent\n" + "\n".join(f"c{label}" for label in LABELS))
    for named, folder in (("in/x.npy", "in/x.csv"), ("in", "in")):
        done = invoke("index", named, "--out", "x.knn")
        assert (done.code, done.stderr.endswith(f"in/x.csv may hold labels: --labels {folder} takes them\n")) == (
            1,
            True,
        )
        assert invoke("index", named, "--labels", folder, "--out", "x.knn").code == 0
        assert invoke("inspect", "x.knn", "--json").stdout.count('"c0"') == 1
        Path("x.knn").rename(f"{named.replace('/', '-')}.knn")
