"""Some rows of a file, whatever its container: those that are asked for, and nothing of those before them."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from knnvote import join_labels
from knnvote.data.containers import images as image_container
from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.containers.tar import TarRows
from knnvote.data.inputs import find_inputs

ROWS = 60
PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, 5, 4), np.uint8)


def png(number):
    stream = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(path, **columns):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [row.tobytes() for row in PIXELS], **columns})
    pq.write_table(table, path, row_group_size=10)


def in_a_folder_of_its_label():
    write_parquet("in/label=3/x.parquet", n=pa.array(range(ROWS)))
    return find_inputs("in")


def with_a_table_of_labels():
    write_parquet("in/x.parquet", key=pa.array([f"k{number}" for number in range(ROWS)]))
    Path("labels.csv").write_text("\n".join(["key,label", *(f"k{number},{number % 7}" for number in range(ROWS))]))
    return join_labels("in", "labels.csv")


def with_a_table_of_numbers():
    write_parquet("in/x.parquet")
    rows = (f"x.parquet#{number},{number % 7}" for number in range(ROWS))
    Path("labels.csv").write_text("\n".join(["id,label", *rows]))
    return join_labels("in", "labels.csv")


def a_tar_file():
    with tarfile.open("x.tar", "w") as archive:
        for number in range(ROWS):
            for name, content in ((f"{number:03}.png", png(number)), (f"{number:03}.cls", b"%d" % (number % 7))):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return find_inputs("x.tar")


def image_files():
    Path("in").mkdir()
    for number in range(ROWS):
        Path(f"in/{number:03}.png").write_bytes(png(number))
    return find_inputs("in")


def image_files_with_a_table():
    image_files()
    Path("labels.csv").write_text("\n".join(["file,label", *(f"{n:03}.png,{n % 7}" for n in range(ROWS))]))
    return join_labels("in", "labels.csv")


MADE = [
    in_a_folder_of_its_label,
    with_a_table_of_labels,
    with_a_table_of_numbers,
    a_tar_file,
    image_files,
    image_files_with_a_table,
]


@pytest.fixture
def read(monkeypatch, tmp_path):
    """The rows whose images are read; of Parquet, those of the row groups."""
    monkeypatch.chdir(tmp_path)
    seen, group, contents, of_a_file = set(), ParquetRows._read, TarRows._contents, image_container._content

    def of_groups(rows, columns, size, of=None):
        groups = range(rows.file.metadata.num_row_groups) if of is None else of
        seen.update(row for number in groups for row in range(10 * number, 10 * number + 10))
        return group(rows, columns, size, of)

    def of_samples(rows, numbers):
        seen.update(numbers.tolist())
        return contents(rows, numbers)

    def of_files(file):
        seen.add(int(Path(file.path).stem))
        return of_a_file(file)

    monkeypatch.setattr(ParquetRows, "_read", of_groups)
    monkeypatch.setattr(TarRows, "_contents", of_samples)
    monkeypatch.setattr(image_container, "_content", of_files)
    return seen


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("span", [range(ROWS), range(30, 50), range(33, 34), range(37, ROWS), range(20, 20)])
def test_a_span_has_the_rows_of_all_and_reads_no_others(read, make, span):
    (source,) = make()
    with source.open_rows() as rows:
        for columns in (rows.schema.names, rows.schema.names[-1:], rows.schema.names[:1]):
            every = pa.Table.from_batches(rows.batches(columns, 7))
            read.clear()
            batches = [*rows.batches(columns, 7, span)]
            is_parquet = source.path.endswith(".parquet")  # of which row groups are read
            near = range(span.start // 10 * 10, -(-span.stop // 10) * 10) if is_parquet else span
            assert read <= {*near}, columns
            assert all(0 < batch.num_rows <= 7 for batch in batches)
            assert pa.Table.from_batches(batches, every.schema).equals(every.slice(span.start, len(span)))
