"""What is no Parquet, or holds no images but names them, is told with a command that makes images of it."""

import gzip
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from PIL import Image

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


def test_images_that_are_named_and_not_held_are_told_with_what_embeds_them(invoke):
    rows = []
    for label in range(70):
        Image.fromarray(np.full((4, 4), label, np.uint8)).save(f"{label}.png")
        rows.append({"image": {"bytes": None, "path": f"{label}.png"}, "label": label})
    table = pa.Table.from_pylist(rows)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(table.set_column(0, "image", table["image"].cast(kind)), "x.parquet")
    done = invoke("index", "x.parquet", "--out", "x.knn")
    assert "column 'image' names files, such as '0.png', and does not hold them" in done.stderr, (
        "beyond the first 64 rows too"
    )
    run_told(done.stderr)
    assert invoke("index", "x.new.parquet", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "x.parquet", "--out", "out").code == 1
    stored = io.BytesIO(pq.read_table("x.new.parquet")["image"][3].as_py()["bytes"])
    assert np.asarray(Image.open(stored))[0, 0] == 3
