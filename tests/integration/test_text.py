"""Text that is not UTF-8 where labels or ids are: told in a line that names file and column, by every command."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.data.tables import image_table


@pytest.fixture
def folder(tmp_path, invoke):
    """Files as a writer makes them that does not look at its text: this one does not either."""
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    ends = pa.py_buffer(np.arange(41, dtype=np.int32))
    latin = pa.StringArray.from_buffers(40, ends, pa.py_buffer(b"\xe9\xe8" * 20))
    table, words = image_table(images, np.arange(40) % 3), pa.array([str(i) for i in range(40)])
    pq.write_table(table.append_column("id", words), tmp_path / "good.parquet")
    pq.write_table(table.append_column("id", latin), tmp_path / "id.parquet")
    pq.write_table(pa.table({"image": table["image"], "label": latin}), tmp_path / "label.parquet")
    done = invoke("index", "good.parquet", "--label-column", "label", "--id-column", "id", "--out", "x.knn")
    assert done.code == 0, done.stderr
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("index", "label.parquet", "--out", "y.knn"),
        ("index", "id.parquet", "--label-column", "label", "--id-column", "id", "--out", "y.knn"),
        ("add", "x.knn", "id.parquet", "--id-column", "id"),
        ("remove", "x.knn", "--ids", "id.parquet"),
        ("compare", "label.parquet", "--index", "x.knn"),
        ("show", "label.parquet"),
    ],
)
def test_it_is_told_by_file_and_column(invoke, arguments):
    done = invoke(*arguments)
    name = next(argument for argument in arguments if argument.endswith(".parquet"))
    column = name.removesuffix(".parquet")
    assert done.code == 1
    assert done.stderr.startswith(f"error: {name}: the column '{column}' holds text that is not UTF-8"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("folder")
def test_where_it_is_but_kept_it_goes_on_as_it_is(invoke):
    done = invoke("classify", "x.knn", "id.parquet", "--out", "out")
    assert done.code == 0, done.stderr
    found, given = (pq.read_table(path, columns=["id"])["id"] for path in ("out/id.parquet", "id.parquet"))
    assert found.cast(pa.binary()).equals(given.cast(pa.binary()))
