"""Receipts in the footers of output files."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classify.receipt import Counts, Receipt, read_receipt

RECEIPT = Receipt(
    index="ab" * 32,
    options={"k": 5, "min_confidence": None, "keep": ["näme"]},
    input={"path": "a/b.parquet", "size": 12, "sha256": "cd" * 32},
    counts=Counts(rows=4, ok=2, abstained=1, bad_image=1),
)


def write(path, metadata):
    with pq.ParquetWriter(path, pa.schema([("x", pa.int64())])) as writer:
        writer.add_key_value_metadata(metadata)


def test_a_receipt_is_read_as_it_was_written(tmp_path):
    write(tmp_path / "a.parquet", RECEIPT.to_metadata())
    assert read_receipt(tmp_path / "a.parquet") == RECEIPT


def test_counts_add_up():
    assert Counts(4, 2, 1, 1) + Counts(10, 10) == Counts(14, 12, 1, 1)
    assert sum([Counts(1, 1), Counts(2, 0, 2)], Counts()) == Counts(3, 1, 2, 0)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"knnvote": "{"}, {"knnvote": "[]"}, {"knnvote": "{}"}, {"knnvote": '{"index": "", "options": {}}'}],
)
def test_a_file_without_a_whole_receipt_has_none(tmp_path, metadata):
    write(tmp_path / "a.parquet", metadata)
    assert read_receipt(tmp_path / "a.parquet") is None


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_not_parquet_has_none(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    assert read_receipt(tmp_path / "a.parquet") is None


def test_a_missing_file_has_none(tmp_path):
    assert read_receipt(tmp_path / "nothing.parquet") is None


def test_a_file_cut_short_has_none(tmp_path):
    write(tmp_path / "a.parquet", RECEIPT.to_metadata())
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:-1])
    assert read_receipt(tmp_path / "a.parquet") is None
