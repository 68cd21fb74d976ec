"""Receipts in the footers of output files."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.job.receipt import KEY, Counts, Receipt, is_sealed, read_receipt, seal
from knnvote.data.locations import locate

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
    write(tmp_path / "a.parquet", {KEY: RECEIPT.to_json()})
    assert read_receipt(locate(tmp_path / "a.parquet")) == RECEIPT


def test_a_change_of_any_byte_of_a_sealed_file_shows(tmp_path):
    path = tmp_path / "a.parquet"
    with path.open("w+b") as stream:
        schema = pa.schema([("x", pa.int64())], metadata={"mine": '{"seal": "' + "0" * 64 + '"}'})
        with pq.ParquetWriter(stream, schema) as writer:
            writer.write_table(pa.table({"x": [1, 2, 3, 4]}, schema=schema))
            writer.add_key_value_metadata({KEY: RECEIPT.to_json()})
        seal(stream, RECEIPT.to_json())
    whole = path.read_bytes()
    receipt = read_receipt(locate(path))
    assert receipt == replace(RECEIPT, seal=receipt.seal)
    assert is_sealed(locate(path), receipt)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        changed = read_receipt(locate(path))
        assert changed is None or not is_sealed(locate(path), changed), place


def test_a_seal_does_not_depend_on_how_the_file_is_cut_into_pieces(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    with path.open("w+b") as stream:
        write(stream, {KEY: RECEIPT.to_json()})
        seal(stream, RECEIPT.to_json())
    receipt = read_receipt(locate(path))
    for size in (1, 63, 64, 65, 1000):
        monkeypatch.setattr("knnvote.classify.job.receipt.CHUNK", size)
        assert is_sealed(locate(path), receipt)


def test_counts_add_up():
    assert Counts(4, 2, 1, 1) + Counts(10, 10) == Counts(14, 12, 1, 1)
    assert sum([Counts(1, 1), Counts(2, 0, 2)], Counts()) == Counts(3, 1, 2, 0)


@pytest.mark.parametrize(
    "metadata",
    [
        {"knnvote": "[" * 100_000},
        {"knnvote": '{"index": "", "options": {}, "input": 3, "counts": {}, "seal": ""}'},
        {"knnvote": '{"index": "", "options": {}, "input": {}, "counts": {"rows": []}, "seal": ""}'},
        {"knnvote": '{"index": "", "options": {}, "input": {}, "counts": [], "seal": ""}'},
        {},
        {"knnvote": "{"},
        {"knnvote": "[]"},
        {"knnvote": "{}"},
        {"knnvote": '{"index": "", "options": {}}'},
    ],
)
def test_a_file_without_a_whole_receipt_has_none(tmp_path, metadata):
    write(tmp_path / "a.parquet", metadata)
    assert read_receipt(locate(tmp_path / "a.parquet")) is None


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_not_parquet_has_none(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    assert read_receipt(locate(tmp_path / "a.parquet")) is None


def test_a_missing_file_has_none(tmp_path):
    assert read_receipt(locate(tmp_path / "nothing.parquet")) is None


def test_a_file_cut_short_has_none(tmp_path):
    write(tmp_path / "a.parquet", {KEY: RECEIPT.to_json()})
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:-1])
    assert read_receipt(locate(tmp_path / "a.parquet")) is None
