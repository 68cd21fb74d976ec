"""Files that an enemy, or a failing disk, made: told in one line, in bounded memory, and never a crash."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.recognition import recognise_images
from knnvote.indexer.labels import class_names

_SMALLER = 8  # times: values than those that would fill memory, and what may be held of them
# Run in a process of its own, which has read nothing yet.
_MEASURE = f"""
import itertools, sys
from pathlib import Path
from knnvote.data.containers import parquet
from knnvote.data.inputs import find_inputs

parquet.BATCH_BYTES //= {_SMALLER}

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10

before = peak()
(source,) = find_inputs(sys.argv[1:])
rows = []
with source.open_rows() as file:
    rows.append(file.head().num_rows)
    for batch in itertools.islice(file.batches(["image"], 2048), 3):
        rows.append(batch.num_rows)
print(peak() - before, max(rows))
raise SystemExit
"""


@pytest.mark.parametrize(("first", "cases"), [(0, 8), pytest.param(8, 192, marks=pytest.mark.long)])
def test_mutated_and_hostile_files_end_in_an_answer_or_a_word(first, cases):
    fuzz = Path(__file__).parents[1] / "tools" / "fuzz_files.py"
    command = [sys.executable, fuzz, "--first", f"{first}", "--cases", f"{cases}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _long_lists(rows, values):
    offsets = np.arange(rows + 1, dtype=np.int32) * values
    return pa.ListArray.from_arrays(offsets, pa.array(np.zeros(rows * values, np.uint8)))


def _repeated(rows, size):
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([bytes(size)]))


_SIZE = (20 << 20) // _SMALLER


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    "image",
    [
        pytest.param(lambda: _long_lists(20, 1_000_000 // _SMALLER), id="lists of many values"),
        pytest.param(lambda: pa.array([bytes(_SIZE)] * 20), id="large binary"),
        pytest.param(lambda: _repeated(2048, _SIZE), id="a dictionary whose large value is every row"),
        pytest.param(
            lambda: pa.StructArray.from_arrays([_repeated(2048, _SIZE), pa.nulls(2048)], ["bytes", "path"]),
            id="the same in a struct",
        ),
    ],
)
def test_memory_stays_bounded_where_a_small_file_holds_large_rows(forks, tmp_path, image):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": image()}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < (1 << 20) // _SMALLER
    done = forks.run([path], before=_MEASURE)
    assert done.code == 0, done.stderr
    grown, most_rows = map(int, done.stdout.split())
    assert grown < (600 << 20) // _SMALLER + (32 << 20)  # which reading takes anyway
    assert most_rows <= 12


def test_ordinary_rows_are_read_as_many_at_a_time_as_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    images = pa.array([rng.bytes(784) for _ in range(6000)])
    paths = pa.array([f"{'folder' * 30}/{i}.png" for i in range(6000)])
    pq.write_table(pa.table({"image": images, "path": paths}), tmp_path / "x.parquet")
    (source,) = find_inputs([str(tmp_path / "x.parquet")])
    with source.open_rows() as file:
        batches = file.batches(["image", "path"], 2048)
        assert [batch.num_rows for batch in batches] == [2048, 2048, 1904]


def test_a_footer_that_claims_rows_of_terabytes_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": pa.array([[1, 2]] * 777)}), path)
    file = path.read_bytes()
    told, lie = b"\xa4\x18", b"\x80\x80\x80\x80\x80\x40"  # the column's 1554 values, and 2**40, as Thrift writes them
    start = len(file) - 8 - int.from_bytes(file[-8:-4], "little")
    assert told in file[start:]
    footer = file[start:-8].replace(told, lie)
    path.write_bytes(file[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    (source,) = find_inputs([str(path)])
    with (
        source.open_rows() as opened,
        pytest.raises(ImageFileError, match=r"x\.parquet: a row may take [\d,]+ bytes"),
    ):
        opened.head()


def test_an_error_is_one_printable_line_whatever_names_it_quotes():
    assert str(KnnvoteError("no column 'a\n\x1b[2J\ud800ä'")) == r"no column 'a\n\x1b[2J\ud800ä'"


def test_class_names_of_half_a_character_or_of_endless_brackets_stop_nothing():
    def schema(metadata):
        return pa.schema([("label", pa.int8())], {"huggingface": metadata})

    halves = json.dumps({"info": {"features": {"label": {"names": ["\ud800", "b"]}}}})
    assert class_names(schema(halves), "label") == ["?", "b"]
    assert class_names(schema("[" * 100_000), "label") is None


def test_a_file_of_no_rows_with_a_permuted_tensor_has_an_empty_head(tmp_path):
    schema = pa.schema([("image", pa.fixed_shape_tensor(pa.uint8(), (2, 3), permutation=[1, 0]))])
    pq.write_table(pa.Table.from_batches([], schema), tmp_path / "x.parquet")
    (source,) = find_inputs([str(tmp_path / "x.parquet")])
    with source.open_rows() as file:
        head = file.head()
    assert (head.num_rows, head.schema.names) == (0, ["image"])
    assert recognise_images(head, ImageOptions()).shape == (3, 2)
