"""What `convert` takes, taken as it is: the same rows, labels and questions."""

import gzip
import json
import re
import shlex
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from knnvote.data.containers import converted
from knnvote.data.errors import ImageFileError, Note
from knnvote.data.folders.endings import has_rows, parquet_name
from knnvote.data.inputs import find_inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 5, 4), np.uint8)
LABELS = (np.arange(40) % 7 + 300).astype(">i2")


def idx(array, code):
    return struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(name):
    flat = PIXELS.reshape(40, 20)
    if name.startswith("images"):
        Path(name).write_bytes(idx(PIXELS, 8))
        Path("labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS, 11)))
    elif ".csv" in name:
        header = ",".join(["label", *(f"pixel{i}" for i in range(20))])
        rows = "\n".join(
            [header, *(",".join(map(str, [label, *row])) for label, row in zip(LABELS, flat, strict=True))]
        )
        Path(name).write_bytes(gzip.compress(rows.encode()) if name.endswith(".gz") else rows.encode())
    elif name.endswith(".npz"):
        np.savez(name, x=PIXELS, y=LABELS)
    else:
        rows = [{"label": int(label), "image": image.tolist()} for label, image in zip(LABELS, PIXELS, strict=True)]
        Path(name).write_text("\n".join(map(json.dumps, rows)))
    return [name, "labels-idx1-ubyte.gz"] if name.startswith("images") else [name]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "rows.csv", "rows.csv.gz", "both.npz", "rows.jsonl"])
def test_it_gives_the_index_and_the_answers_that_it_gives_when_it_is_converted_first(invoke, name):
    sources, made = write(name), parquet_name(name)
    assert invoke("convert", *sources, made).code == 0
    for out, inputs in (("direct", sources), ("first", [made])):
        assert invoke("index", *inputs, "--out", f"{out}.knn").code == 0
        assert invoke("classify", f"{out}.knn", *inputs, "--out", out, "--k", "3", "--neighbors").code == 0
        assert invoke("verify", out).code == 0
    stored = [pq.read_table(Path(f"{out}.knn", "labels-1.parquet")).to_pylist() for out in ("direct", "first")]
    assert stored[0] == stored[1]
    assert stored[0][9]["id"] == f"{made}#9"
    assert pq.read_table(f"direct/{made}").equals(pq.read_table(f"first/{made}"))
    assert json.loads(invoke("inspect", "direct.knn", "--json").stdout)["classes"] == list(range(300, 307))


def test_labels_lie_before_or_after_the_images_that_are_as_many(here):
    images, labels = write("images-idx3-ubyte")
    Path("few-idx3-ubyte").write_bytes(idx(PIXELS[:9], 8))
    Path("few-idx1-ubyte").write_bytes(idx(LABELS[:9], 11))
    for arguments in (
        [images, labels, "few-idx3-ubyte", "few-idx1-ubyte"],
        [labels, images, "few-idx1-ubyte", "few-idx3-ubyte"],
        [images, labels, "few-idx1-ubyte", "few-idx3-ubyte"],
    ):
        inputs = find_inputs(arguments)
        assert [(source.shown, source.beside.shown) for source in inputs] == [
            (images, labels),
            ("few-idx3-ubyte", "few-idx1-ubyte"),
        ]
    alone = find_inputs([images, "few-idx1-ubyte"])
    assert [source.beside for source in alone] == [None, None]
    with pytest.raises(ImageFileError, match="no images among few-idx1-ubyte"), alone[1].open_rows():
        pass
    assert here.is_dir()


def test_a_job_is_done_again_where_labels_beside_changed(invoke):
    images, labels = write("images-idx3-ubyte")
    assert invoke("index", images, labels, "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", images, labels, "--out", "out").code == 0
    assert json.loads(invoke("classify", "x.knn", images, labels, "--out", "out", "--json").stdout)["files"]["skipped"]
    Path(labels).write_bytes(gzip.compress(idx(LABELS[::-1], 11)))
    assert "was changed since" in invoke("verify", "out").stderr
    done = invoke("classify", "x.knn", images, labels, "--out", "out", "--json")
    assert json.loads(done.stdout)["files"] == {"written": 1, "skipped": 0, "failed": 0}
    assert pq.read_table("out/images-idx3-ubyte.parquet")["label"].to_pylist() == LABELS[::-1].tolist()


def test_what_convert_asks_is_asked_and_its_command_that_is_told_works(invoke):
    rows = "\n".join(",".join(map(str, [i % 3, *row, i % 4])) for i, row in enumerate(PIXELS.reshape(40, 20)))
    Path("bare.csv").write_text(rows)
    done = invoke("index", "bare.csv", "--out", "x.knn")
    assert (done.code, "bare.csv has no header that tells which of its 22 columns is the label" in done.stderr) == (
        1,
        True,
    )
    command = re.search(r"; give such options to (knnvote convert \S+ \S+), and bare.parquet here", done.stderr)[1]
    assert invoke(*shlex.split(command)[1:], "--label-column", "1").code == 0
    assert invoke("index", "bare.parquet", "--out", "x.knn").code == 0


@pytest.mark.usefixtures("here")
def test_options_that_a_note_names_are_followed_by_the_command_that_has_them():
    np.savez("more.npz", x=PIXELS, y=LABELS, extra=np.arange(7))
    (source,) = find_inputs("more.npz")
    told = (
        "--labels-key name what is taken; give such options to knnvote convert more.npz more.parquet, and more.parquet"
    )
    with pytest.warns(Note, match=told), source.open_rows() as rows:
        assert rows.num_rows == len(PIXELS)


def test_a_file_is_converted_once_while_it_stays_and_again_when_it_changed(here, monkeypatch):
    times, convert = [], converted.convert
    monkeypatch.setattr(converted, "convert", lambda *given, **named: times.append(given) or convert(*given, **named))
    write("rows.csv")
    (source,) = find_inputs("rows.csv")
    for _ in range(2):
        with source.open_rows() as rows:
            assert rows.num_rows == source.count_rows() == 40
    assert len(times) == 1
    Path("rows.csv").write_text("label,pixel0,pixel1\n1,2,3\n")
    assert source.count_rows() == 1
    with pytest.raises(ImageFileError, match=r"^rows\.csv changed while it was read"), source.open_rows():
        write("rows.csv")
    assert [path.name for path in here.iterdir()] == ["rows.csv"]


def test_names_tell_what_is_converted():
    taken = ("a.csv", "A.CSV.GZ", "t10k-images-idx3-ubyte", "x.idx1-ubyte.gz", "x.idx", "b.npz", "c.jsonl")
    assert all(map(has_rows, taken))
    assert not any(map(has_rows, ("a.parquet", "a.txt", "notes", "csv", "a.csv.bak", "idx")))
    assert [parquet_name(name) for name in ("a/b.csv.gz", "x.npz", "i-idx3-ubyte.gz")] == [
        "a/b.parquet",
        "x.parquet",
        "i-idx3-ubyte.parquet",
    ]
