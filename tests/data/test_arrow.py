"""Arrow IPC files and streams: the rows of the same Parquet file, in whatever record batches, or told what is wrong."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from knnvote.data.containers import arrow as container
from knnvote.data.errors import ImageFileError
from knnvote.data.inputs import find_inputs

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(50, 6)).astype(np.float32)
FEATURES = {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}
TABLE = pa.table(
    {
        "emb": pa.array([*VECTORS], pa.list_(pa.float32())),
        "text": [f"text {row}" * (row % 4) for row in range(50)],
        "kind": pa.array([f"k{row % 5}" for row in range(50)]).dictionary_encode(),
        "label": pa.array(np.arange(50) % 3),
    }
).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, table=TABLE, *, rows=13, compression=None, new=None):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = new or (pa.ipc.new_stream if "stream" in path else pa.ipc.new_file)
    with pa.OSFile(path, "wb") as file, new(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)


FORMS = {
    "file.arrow": write,
    "stream.arrow": write,
    "one-stream.arrows": lambda path: write(path, rows=50),
    "zstd.arrow": lambda path: write(path, compression="zstd"),
    "lz4-stream.ipc": lambda path: write(path, compression="lz4"),
    "x.feather": lambda path: pa.feather.write_feather(TABLE, path),
}


def open_one(path):
    (source,) = find_inputs(path)
    return source.open_rows()


@pytest.mark.parametrize("name", FORMS)
def test_rows_are_those_of_the_table_whatever_is_read_of_them(name, monkeypatch):
    FORMS[name](name)
    monkeypatch.setattr(container, "_HELD", 100)  # so that memory is let go all the time
    (source,) = find_inputs(name)
    assert (source.relative, source.has_ranges) == (f"{name.partition('.')[0]}.parquet", True)
    with source.open_rows() as rows:
        assert rows.num_rows == source.count_rows() == 50
        assert rows.schema.equals(TABLE.schema, check_metadata=True)
        assert rows.head().equals(TABLE)
        for columns in (TABLE.column_names, ["label", "emb"], ["kind"]):
            every = pa.Table.from_batches(rows.batches(columns, 7))
            assert every.equals(TABLE.select(columns))
            for span in (range(10, 30), range(13, 26), range(49, 50), range(5, 5)):
                some = pa.Table.from_batches(rows.batches(columns, 7, span), every.schema)
                assert some.equals(TABLE.select(columns).slice(span.start, len(span)))
            wanted = np.array([0, 12, 13, 14, 40, 49])
            taken = [*rows.take(wanted, columns, 5)]
            assert np.concatenate([chosen for chosen, _ in taken]).tolist() == wanted.tolist()
            assert pa.concat_tables(table for _, table in taken).equals(TABLE.select(columns).take(pa.array(wanted)))
        assert [*rows.take(np.zeros(0, np.int64), columns, 5)] == []
        one, other = rows.batches(["label"], 3), rows.batches(["label"], 3, range(20, 50))
        assert [next(one)[0].to_pylist(), next(other)[0].to_pylist(), next(one)[0].to_pylist()] == [
            [0, 1, 2],
            [2, 0, 1],
            [0, 1, 2],
        ], "read side by side"


def test_large_rows_are_given_a_few_at_a_time(monkeypatch):
    write("x.arrow")
    monkeypatch.setattr(container, "BATCH_BYTES", 100)
    with open_one("x.arrow") as rows:
        assert {batch.num_rows for batch in rows.batches(["emb"], 50)} <= {1, 2, 3}
        assert rows.rows_to_hold(["label"], 50) == 50
        assert 1 <= rows.rows_to_hold(["text", "label"], 50) < 20


def test_rows_that_share_large_values_are_given_a_few_at_a_time(monkeypatch):
    long = b"x" * 1000
    columns = {
        "dictionary": pa.DictionaryArray.from_arrays(pa.array([0] * 50, pa.int8()), pa.array([long])),
        "view": pa.array([long] * 50, pa.binary_view()),
        "struct": pa.array(
            [{"bytes": long, "path": "x"}] * 50, pa.struct([("bytes", pa.binary_view()), ("path", "str")])
        ),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([50], pa.int32()), pa.array([long])),
        "list": pa.ListViewArray.from_arrays([0] * 50, [125] * 50, pa.array(range(125))),
    }
    write("x.arrow", pa.table(columns), rows=50)
    monkeypatch.setattr(container, "BATCH_BYTES", 5000)
    with open_one("x.arrow") as rows:
        for name in columns:
            batches = [*rows.batches([name], 50)]
            assert 1 <= max(batch.num_rows for batch in batches) <= 5, name
            assert sum(batch.num_rows for batch in batches) == 50
            assert rows.rows_to_hold([name], 50) <= 5


def test_dictionaries_that_are_replaced_within_a_stream_are_those_of_their_batch():
    schema = pa.schema([("kind", pa.dictionary(pa.int8(), pa.string()))])
    with pa.OSFile("x.arrow", "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for words in (["a", "b"], ["c", "a"]):
            kinds = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1], pa.int8()), pa.array(words))
            writer.write_batch(pa.RecordBatch.from_arrays([kinds], schema=schema))
    with open_one("x.arrow") as rows:
        for span in (range(6), range(2, 5)):
            found = pa.Table.from_batches(rows.batches(["kind"], 2, span))["kind"].to_pylist()
            assert found == ["a", "b", "b", "c", "a", "a"][span.start : span.stop]


def test_types_of_arrow_alone_are_those_that_parquet_has_or_refused_by_name(invoke):
    """As Polars writes text."""
    texts = [f"t{row}" for row in range(50)]
    table = TABLE.append_column("view", pa.array(texts, pa.string_view()))
    ends = pa.array(np.arange(10, 60, 10), pa.int32())
    runs = pa.RunEndEncodedArray.from_arrays(ends, ["a", "b", "a", "b", "a"])
    write("x.arrow", table.append_column("runs", runs))
    with open_one("x.arrow") as rows:
        assert rows.schema.types[-2:] == [pa.string(), pa.string()]
        found = pa.Table.from_batches(rows.batches(["view", "runs"], 7))
        assert found["view"].to_pylist() == texts
        assert found["runs"].to_pylist() == runs.to_pylist()
    given = ("x.arrow", "--image-column", "emb", "--label-column", "runs", "--sample", "20", "--out", "x.knn")
    assert invoke("index", *given).code == 0
    write("y.arrow", TABLE.append_column("span", pa.array([(1, 2, 3)] * 50, pa.month_day_nano_interval())))
    done = invoke("classify", "x.knn", "y.arrow", "--out", "out")
    assert "the column 'span' is month_day_nano_interval, which Parquet does not hold: leave it out with --keep" in (
        done.stderr
    )
    assert invoke("classify", "x.knn", "y.arrow", "--out", "out", "--keep", "text").code == 0


def damaged(name, change):
    write(name)
    Path(name).write_bytes(change(Path(name).read_bytes()))


def with_text(content):
    """With a byte of text that no UTF-8 has."""
    return content.replace(b"text 3text 3text 3", b"text 3\xff\xffxt 3text 3")


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("file.arrow", lambda content: content[:-9], "it was not downloaded or written to its end"),
        (
            "stream.arrow",
            lambda content: content[:-100],
            "cannot read stream.arrow as Arrow: Expected to be able",
        ),
        ("stream.arrow", lambda content: content * 2, "holds more behind the end of its stream, as streams put one"),
        ("file.arrow", lambda _: b"", "it is empty"),
        ("file.arrow", lambda _: b"something else", "it is neither an Arrow IPC file nor a stream"),
        ("file.arrow", lambda _: b"PAR1 and so on PAR1", "it is Parquet: rename it, so that its name ends in .parquet"),
        ("file.arrow", with_text, "file.arrow: the column 'text' holds text that is not UTF-8"),
    ],
)
def test_what_is_damaged_or_something_else_is_told_in_a_line(name, change, told):
    damaged(name, change)
    with pytest.raises(ImageFileError) as error, open_one(name) as rows:
        [*rows.batches(rows.schema.names, 20)]
    assert told in str(error.value)


def test_a_stream_without_an_end_mark_is_told_once():
    damaged("stream.arrow", lambda content: content[:-8])
    told = r"stream\.arrow has no end mark, as if it were not written to its end"
    with pytest.warns(UserWarning, match=told), open_one("stream.arrow") as rows:
        assert rows.num_rows == 50
    with open_one("stream.arrow") as rows:
        assert rows.num_rows == 50


def test_a_data_set_that_was_saved_gives_the_index_and_the_answers_of_its_table(invoke):
    for split in ("train", "test"):
        Path("set", split).mkdir(parents=True)
        write(f"set/{split}/data-00000-of-00001.arrow", new=pa.ipc.new_stream)
    Path("same/train").mkdir(parents=True)
    pq.write_table(TABLE, "same/train/data-00000-of-00001.parquet")
    assert "holds several splits, test and train" in invoke("index", "set", "--out", "x.knn").stderr
    for folder in ("set", "same"):
        assert invoke("index", f"{folder}/train", "--image-column", "emb", "--out", f"{folder}.knn").code == 0
        for times in range(2):
            given = (f"{folder}/train", "--out", f"{folder}-out", "--k", "3", "--neighbors", "--json")
            done = invoke("classify", f"{folder}.knn", *given)
            assert json.loads(done.stdout)["files"]["skipped"] == times
    one, other = (pq.read_table(f"{folder}-out/data-00000-of-00001.parquet") for folder in ("set", "same"))
    assert one.column_names == other.column_names
    assert one.to_pylist() == other.to_pylist()
    assert json.loads(invoke("inspect", "set.knn", "--json").stdout)["class_names"] == ["a", "b", "c"]
    assert Path("set.knn/labels-1.parquet").read_bytes() == Path("same.knn/labels-1.parquet").read_bytes()


def test_what_datasets_made_of_a_data_set_meanwhile_is_told_and_left_out():
    Path("set").mkdir()
    write("set/data-00000-of-00001.arrow")
    write("set/cache-0123456789abcdef.arrow")
    told = r"1 file\(s\) of a cache are left out, the first cache-0123456789abcdef\.arrow"
    with pytest.warns(UserWarning, match=told):
        assert [source.inner for source in find_inputs("set")] == ["data-00000-of-00001.arrow"]
    Path("set/data-00000-of-00001.arrow").unlink()
    assert [source.inner for source in find_inputs("set")] == ["cache-0123456789abcdef.arrow"]


def test_convert_says_that_arrow_needs_none(invoke):
    write("x.arrow")
    done = invoke("convert", "x.arrow", "x.parquet")
    assert (done.code, "x.arrow is Arrow, which every command reads as it is" in done.stderr) == (1, True)
