"""Streaming Parquet files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.errors import ImageFileError
from knnvote.data.inputs import find_inputs
from knnvote.data.reading import rows_within_budget
from knnvote.data.rows import HEAD_ROWS, schema_metadata_without_images

TABLE = pa.table({"x": np.arange(1000), "y": [f"row {i}" for i in range(1000)], "z": np.arange(1000) / 7})


def write(path, table=TABLE, **options):
    pq.write_table(table, path, **options)
    (source,) = find_inputs([str(path)])
    return source


@given(row_group=st.integers(1, 1200), batch_size=st.integers(1, 1200))
@settings(max_examples=30, deadline=None)
def test_batches_hold_every_row_once_and_in_order_whatever_the_row_groups(tmp_path_factory, row_group, batch_size):
    source = write(tmp_path_factory.mktemp("groups") / "x.parquet", row_group_size=row_group)
    with source.open_rows() as file:
        batches = list(file.batches(["y", "x"], batch_size))
    assert max(batch.num_rows for batch in batches) <= batch_size
    assert pa.Table.from_batches(batches).select(["x", "y"]).equals(TABLE.select(["x", "y"]))


def test_the_schema_is_made_once_a_file_however_many_columns_it_has(tmp_path, monkeypatch):
    """To make it costs its columns: for each of them anew, their square."""
    source = write(tmp_path / "x.parquet", pa.table({f"p{i}": np.zeros(3, np.uint8) for i in range(300)}))
    made, of_file = [], pq.ParquetFile.schema_arrow
    monkeypatch.setattr(pq.ParquetFile, "schema_arrow", property(lambda file: made.append(1) or of_file.fget(file)))
    with source.open_rows() as file:
        head = file.head()
        assert sum(batch.num_rows for batch in file.batches(head.column_names, 2)) == 3
    assert len(made) < 5


def test_the_head_is_the_first_rows_of_every_column(tmp_path):
    source = write(tmp_path / "x.parquet", row_group_size=10)
    with source.open_rows() as file:
        head = file.head()
    assert head.equals(TABLE.slice(0, head.num_rows))
    assert 0 < head.num_rows <= HEAD_ROWS


def test_a_file_of_no_rows_has_an_empty_head_with_its_columns_and_no_batches(tmp_path):
    source = write(tmp_path / "x.parquet", TABLE.slice(0, 0))
    with source.open_rows() as file:
        assert file.head().schema.equals(TABLE.schema)
        assert file.head().num_rows == 0
        assert sum(batch.num_rows for batch in file.batches(["x"], 10)) == 0
    assert source.count_rows() == 0


def test_rows_are_counted_from_the_footer(tmp_path):
    assert write(tmp_path / "x.parquet").count_rows() == 1000


def test_a_file_that_is_gone_or_is_no_parquet_counts_as_no_rows_until_its_turn_comes(tmp_path):
    gone = write(tmp_path / "gone.parquet")
    (tmp_path / "gone.parquet").unlink()
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    (text,) = find_inputs([str(tmp_path / "text.parquet")])
    assert (gone.count_rows(), text.count_rows()) == (0, 0)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,label\n1,2\n", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_not_parquet_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    (source,) = find_inputs([str(tmp_path / "x.parquet")])
    with pytest.raises(ImageFileError, match=r"^cannot read .*/x\.parquet as Parquet: "), source.open_rows():
        pass


@pytest.mark.parametrize("share", [0.25, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path, share):
    source = write(tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageFileError, match=r"^cannot read .*/x\.parquet as Parquet: "), source.open_rows():
        pass


def test_a_file_damaged_in_its_middle_is_refused_by_name_when_the_damage_is_read(tmp_path):
    source = write(tmp_path / "x.parquet", compression="zstd", use_dictionary=False)
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    content[40:400] = b"\xff" * 360
    (tmp_path / "x.parquet").write_bytes(content)
    with source.open_rows() as file:
        assert file.num_rows == 1000
        with pytest.raises(ImageFileError, match=r"^cannot read .*/x\.parquet as Parquet: "):
            list(file.batches(["x"], 100))
        with pytest.raises(ImageFileError, match=r"^cannot read .*/x\.parquet as Parquet: "):
            file.head()


def test_metadata_of_columns_that_go_away_goes_with_them():
    schema = pa.schema({"x": pa.int64()}, metadata={"huggingface": "{}", "pandas": "{}", "mine": "kept"})
    assert schema_metadata_without_images(schema).metadata == {b"mine": b"kept"}
    assert not schema_metadata_without_images(pa.schema({"x": pa.int64()}, metadata={"pandas": "{}"})).metadata
    assert not schema_metadata_without_images(pa.schema({"x": pa.int64()})).metadata


@pytest.mark.parametrize(("rows", "times"), [(HEAD_ROWS, 1), (HEAD_ROWS + 1, 2)])
def test_a_file_that_is_all_head_is_read_once(tmp_path, monkeypatch, rows, times):
    source = write(tmp_path / "x.parquet", TABLE.slice(0, rows), row_group_size=50)
    read, of_rows = [], ParquetRows._read
    monkeypatch.setattr(ParquetRows, "_read", lambda *given: read.append(1) or of_rows(*given))
    with source.open_rows() as file:
        file.head()
        batches = list(file.batches(["z", "x"], 1000))
        assert len(read) == times
        assert pa.Table.from_batches(batches).select(["x", "z"]).equals(TABLE.slice(0, rows).select(["x", "z"]))
        assert [batch.num_rows for batch in file.batches(["x"], 25)][:2] == [25, 25]


def test_a_name_that_two_columns_have_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    source = write(tmp_path / "x.parquet", table)
    with source.open_rows() as file, pytest.raises(ImageFileError, match=r"x\.parquet has 2 columns named 'x'"):
        list(file.batches(["x"], 10))


@pytest.mark.parametrize(("d", "rows"), [(64, 4096), (784, 4096), (800 * 800, 26), (10**9, 1), (0, 4096)])
def test_fewer_of_large_images_are_held_at_a_time(d, rows):
    assert rows_within_budget(d, 4096) == rows


def test_a_footer_that_tells_other_rows_than_there_are_is_told_and_none_is_lost_without_a_word(tmp_path):
    path = tmp_path / "x.parquet"
    write(path, pa.table({"n": range(77)}))
    content = path.read_bytes()
    # The footer's number of rows, a zigzag varint between the headers of two fields.
    told, changed = (b"\x16" + bytes([2 * n & 0x7F | 0x80, 1]) + b"\x19" for n in (77, 78))
    assert content.count(told) == 1
    path.write_bytes(content.replace(told, changed))
    (source,) = find_inputs([str(path)])
    with (
        source.open_rows() as file,
        pytest.raises(ImageFileError, match="holds 77 rows, and its footer says 78"),
    ):
        list(file.batches(["n"], 10))


def test_lists_of_categories_over_row_groups_are_read_a_group_at_a_time(tmp_path):
    """PyArrow does not join dictionaries within lists: each row group has its own."""
    words = pa.array([[f"w{i % 7}", f"v{i}"] for i in range(90)], pa.list_(pa.dictionary(pa.int32(), pa.string())))
    pq.write_table(pa.table({"tags": words}), tmp_path / "x.parquet", row_group_size=25)
    with find_inputs(tmp_path / "x.parquet")[0].open_rows() as rows:
        assert rows.head()["tags"].to_pylist() == words.to_pylist()[:25]
        assert [row for batch in rows.batches(["tags"], 60) for row in batch["tags"].to_pylist()] == words.to_pylist()
