"""What outputs and ``--json`` hold is what docs/commands.md says that they do: every entry, and of that type."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays

TEXT = (Path(__file__).parents[1] / "docs/commands.md").read_text()
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 3, 300)
IMAGES = np.clip(LABELS[:, None, None] * 60 + RNG.integers(-90, 90, (300, 4, 4)), 0, 255).astype(float)
SHARE = {"value", "low", "high"}
TYPES = {
    "text": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in {int, float},
    "label": lambda value: isinstance(value, bool | int | str),
    "share": lambda value: isinstance(value, dict) and value.keys() == SHARE,
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
    "any": lambda _value: True,
}


def table_after(words):
    """The rows of the first table after some words: what stands in code in the first cell, and the second cell."""
    table = re.search(r"^\|.*?(?=\n\n|\Z)", TEXT[TEXT.index(words) :], re.MULTILINE | re.DOTALL)[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [(name, kind) for first, kind, *_ in cells for name in re.findall(r"`([^`]+)`", first)]


def entries(value, place=()):
    """Every entry of an object with its place in it, lists' as []; what is empty, or a share, has none below it."""
    yield place, value
    if isinstance(value, dict) and value.keys() != SHARE:
        for name, inner in value.items():
            yield from entries(inner, (*place, name))
    if isinstance(value, list):
        for inner in value:
            yield from entries(inner, (*place, "[]"))


def fits(name, place):
    """Whether a name of a table is that of a place in an object."""
    return len(name) == len(place) and all(part in {"*", at} for part, at in zip(name, place, strict=True))


def check(record, words):
    """Hold an object against a table; the names of the table whose entries it has, and all of them."""
    told = {tuple(name.replace("[]", ".[]").split(".")): kind for name, kind in table_after(words)}
    above = {name[:end] for name in told for end in range(len(name))}
    seen = set()
    for place, value in entries(record):
        name = next((name for name in told if fits(name, place)), None)
        if name is not None:
            assert any(TYPES[kind](value) for kind in told[name].split(" or ")), (place, value)
            seen.add(name)
        elif told.get((place[0], "*") if place else None) != "any":  # below which nothing is told
            assert any(fits(name, place) for name in above), f"{place} is not told"
    return seen, set(told)


@pytest.fixture
def jobs(tmp_path, monkeypatch, invoke):
    """Two jobs that differ in labels and statuses, with a bad image and an input that fails."""
    monkeypatch.chdir(tmp_path)
    images = IMAGES.copy()
    images[150, 0, 0] = np.nan
    index_arrays(IMAGES[:100], LABELS[:100], Path("x.knn"))
    for name, rows in (("a", slice(100, 200)), ("b", slice(200, 300))):
        table = image_table(images[rows], LABELS[rows])
        write_table(table.append_column("id", pa.array(range(len(table)))), Path(f"in/{name}.parquet"))
    Path("in/broken.parquet").write_bytes(b"PAR1")
    ran = [
        invoke("classify", "x.knn", "in", "--out", "one", "--k", "1", "--json"),
        invoke("classify", "x.knn", "in", "--out", "other", "--min-confidence", "0.7", "--json"),
    ]
    assert [done.code for done in ran] == [3, 3]
    return [json.loads(done.stdout) for done in ran]


def test_the_json_of_classify_and_of_a_job_that_is_inspected_is_as_told(jobs, invoke):
    seen, told = check(jobs[0], "What `classify` prints")
    of_parts = {name for name in told if name[0] in {"part", "parts"} and len(name) > 1}
    assert seen == told - of_parts
    again = invoke("classify", "x.knn", "in", "--out", "other", "--min-confidence", "0.9", "--json")
    assert check(json.loads(again.stdout), "What `classify` prints")[0] == told - of_parts
    only = ("--min-confidence", "0.9", "--k", "3", "--only", "abstained")
    assert invoke("classify", "x.knn", "in", "--out", "other", *only).code == 3
    Path("other/stray.parquet").write_bytes(b"PAR1")
    seen, told = check(json.loads(invoke("inspect", "other", "--json").stdout), "What `inspect` prints of a job")
    assert seen == {name for name in told if name[0] != "parts" or len(name) == 1}


@pytest.mark.usefixtures("jobs")
def test_the_json_of_a_part_and_of_a_job_that_is_done_in_parts_is_as_told(invoke):
    done = invoke("classify", "x.knn", "in", "--out", "parts", "--part", "1/2", "--json")
    seen, told = check(json.loads(done.stdout), "What `classify` prints")
    assert seen >= {name for name in told if name[0] == "part"}
    seen, told = check(json.loads(invoke("inspect", "parts", "--json").stdout), "What `inspect` prints of a job")
    assert seen >= {name for name in told if name[0] == "parts"}


@pytest.mark.usefixtures("jobs")
def test_the_json_of_diff_is_as_told(invoke):
    Path("one/b.parquet").unlink()
    for out, options in (("one", ("--k", "1")), ("other", ("--min-confidence", "0.7"))):
        write_table(image_table(IMAGES[: 20 + len(out)]), Path("in/c.parquet"))
        assert invoke("classify", "x.knn", "in", "--out", out, *options).code == 3
    only = ("--min-confidence", "0.7", "--only", "abstained", "--k", "3")
    assert invoke("classify", "x.knn", "in", "--out", "other", *only).code == 3
    Path("other/b.parquet").unlink()
    seen, told = check(json.loads(invoke("diff", "one", "other", "--json").stdout), "What `diff` prints")
    assert seen == told
    found = json.loads(invoke("diff", "one", "one", "--json").stdout)
    assert check(found, "What `diff` prints")[0] < told  # nothing changed


@pytest.mark.parametrize("labels", [LABELS[:60], LABELS[:60] / 2])
def test_the_json_of_choose_step_is_as_told(tmp_path, invoke, labels):
    images, is_number = IMAGES[:60].copy(), labels.dtype.kind == "f"
    images[3] = 0
    index_arrays(images, labels, tmp_path / "x.knn", is_regression=is_number, groups=np.arange(60) // 2)
    more = () if is_number else ("--class-weight", "balanced")
    done = invoke("choose-step", "x.knn", "--max-k", "4", "--json", *more)
    seen, told = check(json.loads(done.stdout), "What `choose-step` prints")
    of_numbers = {name for name in told if "mean_squared_error" in name}
    of_classes = {name for name in told if name[-1] in {"accuracy", "class_weight"} or name[2:3] == ("difference",)}
    of_classes.discard(("results", "[]", "difference"))
    assert seen == told - (of_classes if is_number else of_numbers)


@pytest.mark.parametrize(
    ("kind", "labels"), [("exact", LABELS), ("adaptive", LABELS.astype(str)), ("exact", LABELS / 2)]
)
def test_an_output_has_the_columns_and_types_that_are_told(tmp_path, monkeypatch, invoke, kind, labels):
    monkeypatch.chdir(tmp_path)
    is_number = labels.dtype.kind == "f"
    index_arrays(IMAGES[:100], labels[:100], Path("x.knn"), options=IndexOptions(kind=kind), is_regression=is_number)
    write_table(image_table(IMAGES[100:]), Path("in.parquet"))
    more = () if is_number else ("--probabilities", "--top", "5")
    assert invoke("classify", "x.knn", "in.parquet", "--out", "out", "--source", "--neighbors", *more).code == 0
    schema = pq.read_schema("out/in.parquet")
    label = pa.array(labels).type
    types = {
        "of the labels": lambda found: found == label,
        "double": pa.types.is_float64,
        "string": pa.types.is_string,
        "int8": pa.types.is_int8,
        "int64": pa.types.is_int64,
        "struct": lambda found: all(pa.types.is_float64(field.type) for field in found),
        "list of the labels": lambda found: found == pa.list_(label),
        "list of doubles": lambda found: found == pa.list_(pa.float64()),
        "list of structs": lambda found: (
            [(field.name, str(field.type)) for field in found.value_type]
            == [("row", "int64"), ("id", "string"), ("label", str(label)), ("distance", "double")]
        ),
    }
    told = dict(table_after("All columns of the input but the image, then"))
    left_out = {
        *([] if kind == "adaptive" else ["rung"]),
        *(["probabilities", "top", "top_share"] if is_number else []),
    }
    assert schema.names == [name for name in told if name not in left_out]
    for field in schema:
        assert types[told[field.name]](field.type), field
