"""What is no Parquet, or holds no images but names them, is told with a command that makes images of it."""

import gzip
import io
import pickle
import re
import shlex
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from knnvote.data.convert.saved import saved_arrays
from knnvote.data.inputs import find_inputs
from knnvote.data.tables import image_table

TABLE = image_table(np.arange(32, dtype=np.uint8).reshape(8, 2, 2), np.arange(8) % 2)
PLAIN = TABLE.set_column(0, "image", pa.array(TABLE["image"].combine_chunks().storage.to_pylist()))


def stream(path):
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


def packed(path):
    pq.write_table(TABLE, path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def run_told(message):
    """Run the command that a message names."""
    command = re.search(r"(?:python -c|gzip -dc) .*?(?= makes |$)", message.strip())[0]
    command = command.replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)  # noqa: S602  # of this test's own making


@pytest.mark.parametrize(
    "write",
    [
        lambda path: pa.feather.write_feather(TABLE, path),
        stream,
        lambda path: pa.orc.write_table(PLAIN, path),
        packed,
    ],
)
def test_rows_in_another_format_are_told_with_what_makes_parquet_of_them(invoke, write):
    name = "it's.parquet" if write is stream else "x.parquet"
    write(Path(name))
    done = invoke("index", name, "--out", "x.knn")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    run_told(done.stderr)
    assert invoke("index", name.replace(".parquet", ".new.parquet"), "--out", "x.knn").code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git -C sub lfs pull"),
        (b"\n<!DOCTYPE html><html>404</html>", "a page in HTML or XML"),
        (b"PK\x03\x04", "a zip archive: unzip sub/x.parquet"),
        (
            b"PK\x03\x04".ljust(30) + b"[Content_Types].xml",
            "a workbook of a spreadsheet: save it as CSV in UTF-8 there",
        ),
        (b"PAR1 and no more", "not downloaded or written to its end"),
        (b"PARE", "encrypted"),
        (b"something", "for IDX, CSV and NPZ files there is knnvote convert"),
    ],
)
def test_what_is_no_parquet_is_told_by_what_it_is(invoke, content, told):
    Path("sub").mkdir()
    Path("sub/x.parquet").write_bytes(content)
    done = invoke("index", "sub/x.parquet", "--out", "x.knn")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    assert told in done.stderr


VECTORS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
# Libraries that need not be installed, as far as what is told needs them.
TORCH = """
import pickle
def load(path, map_location, weights_only):
    assert (map_location, weights_only) == ("cpu", True)
    return pickle.load(open(path, "rb"))
def is_tensor(value):
    return False
"""
SAFETENSORS = """
import pickle
def load_file(path):
    return pickle.load(open(path, "rb"))
"""
H5PY = """
import pickle
def File(path):
    return {name: Found(value) for name, value in pickle.load(open(path, "rb")).items()}
class Found:
    def __init__(self, value):
        self.value, self.shape = value, value.shape
    def __getitem__(self, _place):
        return self.value
"""


@pytest.mark.parametrize("held", [VECTORS, {"x": VECTORS, "y": np.arange(12) % 3}, (VECTORS, np.arange(12) % 3)])
@pytest.mark.parametrize("name", ["x.pkl", "it's.pickle", "x.joblib", "without"])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_pickle_is_refused_with_python_that_makes_arrays_of_it(invoke, held, name):
    Path(name).write_bytes(pickle.dumps(held))
    done = invoke("index", name, "--out", "x.knn")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    assert "and to load one runs whatever it says; where you trust it, python -c" in done.stderr
    made = run_here(done.stderr)
    (source,) = find_inputs(made)
    with source.open_rows() as rows:
        assert rows.schema.names == (["image"] if held is VECTORS else ["image", "label"])
        assert rows.head()["image"].combine_chunks().to_numpy_ndarray().tolist() == VECTORS.tolist()
    assert invoke("convert", name, "x.parquet").stderr.endswith(done.stderr.removeprefix(f"error: cannot read {name}"))


def run_here(message):
    """Run the Python that a message names, in this process; the file that it makes."""
    words = shlex.split(re.search(r"python -c .*(?= makes )", message)[0])
    exec(words[2], {})  # noqa: S102  # of this test's own making
    return re.search(r" makes (.+?)( of it|, which|$)", message)[1]


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("x.pt", {"torch": TORCH}),
        ("x.pth", {"torch": TORCH}),
        ("x.safetensors", {"safetensors": "", "safetensors.numpy": SAFETENSORS}),
        ("x.h5", {"h5py": H5PY}),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_what_other_libraries_save_is_refused_with_python_that_makes_arrays_of_it(invoke, monkeypatch, name, modules):
    for module, code in modules.items():
        made = types.ModuleType(module)
        exec(code, vars(made))  # noqa: S102  # of this test's own making
        monkeypatch.setitem(sys.modules, module, made)
    labels = np.array([b"a", b"b"] * 6, object if name == "x.h5" else "S1")
    Path("in").mkdir()
    Path("in", name).write_bytes(pickle.dumps({"x": VECTORS, "y": labels}))
    done = invoke("index", "in", "--out", "x.knn")
    assert (done.code, f"without images: give one that holds some; in/{name} is not read: it is a" in done.stderr) == (
        1,
        True,
    )
    with find_inputs(run_here(done.stderr))[0].open_rows() as rows:
        assert rows.head()["label"].to_pylist() == ["a", "b"] * 6


def test_files_of_other_libraries_are_known_by_their_first_bytes_too():
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    for head, told in (
        (stored.getvalue(), "a file of PyTorch"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b'\x40\0\0\0\0\0\0\0{"x":', "a safetensors file"),
        (pickle.dumps(1), "a pickle"),
    ):
        assert f"it is {told}" in saved_arrays("model.bin", head)
    assert saved_arrays("x.parquet", b"PAR1") is None


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_images_that_are_named_and_not_held_are_told_with_what_embeds_them(invoke):
    rows = []
    for label in range(70):
        Image.fromarray(np.full((4, 4), label, np.uint8)).save(f"{label}.png")
        rows.append({"image": {"bytes": None, "path": f"{label}.png"}, "label": label})
    table = pa.Table.from_pylist(rows)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = table.set_column(0, "image", table["image"].cast(kind))
    pq.write_table(table, "x.parquet")
    done = invoke("index", "x.parquet", "--out", "x.knn")
    assert "column 'image' names files, such as '0.png', and does not hold them" in done.stderr, (
        "beyond the first 64 rows too"
    )
    run_told(done.stderr)
    assert invoke("index", "x.new.parquet", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "x.parquet", "--out", "out").code == 1
    stored = io.BytesIO(pq.read_table("x.new.parquet")["image"][3].as_py()["bytes"])
    assert np.asarray(Image.open(stored))[0, 0] == 3
    for new in (pa.ipc.new_file, pa.ipc.new_stream):
        with new("y.arrow", table.schema) as writer:
            writer.write_table(table)
        run_here(invoke("index", "y.arrow", "--out", "y.knn").stderr)
        assert pq.read_table("y.arrow.new.parquet").equals(pq.read_table("x.new.parquet"))
