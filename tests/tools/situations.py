"""Situations whose truth is known, put through index and classify: `python tests/tools/situations.py --draws 2000`.

Each draws images, labels, a layout, other columns, their order, writers and a split into files at random. What is
stored has to be what was drawn, and each answer that of brute force; anything else has to be refused in one line. A
wrong answer without a word is a silent fault, told by its seed: `--only SEED` shows that one draw.
"""

import argparse
import io
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import brute_force
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.run import run_job
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.layout import ImageOptions
from knnvote.data.sample import digits
from knnvote.indexer.build import index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.training import TrainingOptions

_DIGITS, _CLASSES = digits()


# What is drawn


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How images lie in columns: by name, those of a table; and what the user has to say of them."""

    columns: Callable[[np.ndarray], dict[str, Any]]
    takes: str  # kinds of numbers that it holds
    shape: tuple[int, ...] | None = None


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _lists(images: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.array(images.reshape(len(images), -1).tolist(), kind)


def _wide(name: str) -> Callable[[np.ndarray], dict[str, Any]]:
    """A column a pixel, whose names have the number, or the row and column, of the pixel."""
    return lambda images: {
        name.format(i=i, one=i + 1, row=i // images.shape[-1], column=i % images.shape[-1]): values
        for i, values in enumerate(images.reshape(len(images), -1).T)
    }


LAYOUTS = {
    "tensor": Layout(columns=lambda x: {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(x)}, takes="uf"),
    "list": Layout(columns=lambda x: {"image": _lists(x, pa.list_(pa.from_numpy_dtype(x.dtype)))}, takes="uf"),
    "large list": Layout(columns=lambda x: {"v": _lists(x, pa.large_list(pa.from_numpy_dtype(x.dtype)))}, takes="uf"),
    "fixed list": Layout(columns=lambda x: {"x": _lists(x, pa.list_(pa.from_numpy_dtype(x.dtype), 64))}, takes="uf"),
    "lists of lists": Layout(columns=lambda x: {"image": pa.array(x.tolist())}, takes="uf"),
    "PNG": Layout(columns=lambda x: {"image": [_png(image) for image in x]}, takes="u"),
    "PNG in a struct": Layout(
        columns=lambda x: {"image": [{"bytes": _png(image), "path": None} for image in x]}, takes="u"
    ),
    "bytes": Layout(columns=lambda x: {"image": [image.tobytes() for image in x]}, takes="u", shape=(8, 8)),
    "pixel0": Layout(columns=_wide("pixel{i}"), takes="uf"),
    "numbers": Layout(columns=_wide("{i}"), takes="uf"),
    "V1": Layout(columns=_wide("V{one}"), takes="uf"),
    "p_0_0": Layout(columns=_wide("p_{row}_{column}"), takes="uf"),
}

LABELS: dict[str, Callable[[np.ndarray], Any]] = {
    "int64": lambda codes: pa.array(codes, pa.int64()),
    "int8": lambda codes: pa.array(codes, pa.int8()),
    "uint32": lambda codes: pa.array(codes, pa.uint32()),
    "whole floats": lambda codes: pa.array(codes, pa.float64()),
    "text": lambda codes: pa.array([f"class {code}" for code in codes]),
    "text of digits": lambda codes: pa.array([f"0{code}" for code in codes]),
    "categories": lambda codes: pa.array([f"c{code}" for code in codes]).dictionary_encode(),
    "truth": lambda codes: pa.array(codes % 2 == 0),
    "decimals": lambda codes: pa.array([Decimal(int(code)) for code in codes], pa.decimal128(5, 0)),
    "bytes": lambda codes: pa.array([f"b{code}".encode() for code in codes]),
}

OTHERS: dict[str, Callable[[int], Any]] = {
    "id": lambda n: pa.array(range(7000, 7000 + n)),
    "name": lambda n: pa.array([f"row {i}" for i in range(n)]),
    "score": lambda n: pa.array(np.linspace(0, 1, n)),
    "taken": lambda n: pa.array(np.arange(n) * 10**6, pa.timestamp("us")),
    "tags": lambda n: pa.array([[f"t{i % 3}", "u"] for i in range(n)]),
    "nothing": pa.nulls,
    "box": lambda n: pa.array([[i, i + 1, 4, 5] for i in range(n)]),
    "hash": lambda n: pa.array([bytes([i % 256] * 20) for i in range(n)]),
    "set": lambda n: pa.array(["train"] * n),
}


# Who writes the files


def _by_pyarrow(table: pa.Table, path: Path, rng: np.random.Generator) -> None:
    pq.write_table(table, path, row_group_size=int(rng.integers(5, 200)), use_dictionary=bool(rng.integers(2)))


def _by_pandas(table: pa.Table, path: Path, rng: np.random.Generator) -> None:
    frame = table.to_pandas()
    if rng.integers(2):
        frame.index = frame.index[::-1]
    frame.to_parquet(path)


def _by_polars(table: pa.Table, path: Path, rng: np.random.Generator) -> None:
    import polars as pl

    pl.from_arrow(table).write_parquet(path, row_group_size=int(rng.integers(5, 200)))


def _by_duckdb(table: pa.Table, path: Path, _rng: np.random.Generator) -> None:
    import duckdb

    duckdb.from_arrow(table).write_parquet(str(path))


def _by_fastparquet(table: pa.Table, path: Path, _rng: np.random.Generator) -> None:
    import fastparquet

    fastparquet.write(str(path), table.to_pandas())


def _by_spark(table: pa.Table, path: Path, _rng: np.random.Generator) -> None:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    # Spark takes no unsigned numbers from Arrow, and reads them from files.
    given, folder = path.with_suffix(".given"), path.with_suffix(".spark")
    pq.write_table(table, given)
    spark.read.parquet(str(given)).coalesce(1).write.parquet(str(folder))
    (part,) = folder.glob("part-*.parquet")
    part.rename(path)


WRITERS = {
    "pyarrow": _by_pyarrow,
    "pandas": _by_pandas,
    "polars": _by_polars,
    "duckdb": _by_duckdb,
    "fastparquet": _by_fastparquet,
    "pyspark": _by_spark,
}


# One draw


@dataclass(frozen=True, kw_only=True)
class Situation:
    """One draw: what the files hold, and what is said of them."""

    seed: int
    layout: str
    label: str
    label_name: str
    others: list[str]
    writers: list[str]
    images: ImageOptions
    training: TrainingOptions
    x: np.ndarray
    codes: np.ndarray
    xq: np.ndarray
    has_label_in_tests: bool
    is_bad: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        said = f"image column {self.images.image_column}, label column {self.training.label_column}"
        return (
            f"{self.layout} of {self.x.dtype}, label {self.label_name!r} of {self.label}, beside {self.others}, "
            f"by {self.writers}, {said}, labels in tests: {self.has_label_in_tests}"
        )


def draw(seed: int, writers: list[str]) -> Situation:
    """The situation of a seed."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice([*LAYOUTS]))
    layout = LAYOUTS[name]
    rows = rng.permutation(len(_DIGITS))[: (n := int(rng.integers(30, 90))) + 25]
    images = _DIGITS[rows].astype(np.uint8)
    if "f" in layout.takes and rng.integers(2):
        images = (images + rng.normal(size=images.shape) / 4).astype(np.float32)
    numbered = {"V1": "V65", "numbers": "64"}.get(name)
    label_name = str(rng.choice(["label", "y", "animal", "Class", *([numbered] * 2 if numbered else [])]))
    others = [str(other) for other in rng.choice([*OTHERS], int(rng.integers(0, 4)), replace=False)]
    is_named = label_name == numbered or bool(rng.integers(2))
    image_names = [*layout.columns(images[:1])]
    has_one_name = len(image_names) == 1
    return Situation(
        seed=seed,
        layout=name,
        label=str(rng.choice([*LABELS])),
        label_name=label_name,
        others=others,
        writers=[str(rng.choice(writers)) for _ in range(3)],
        images=ImageOptions(
            image_column=image_names[0] if has_one_name and rng.integers(2) else None, shape=layout.shape
        ),
        training=TrainingOptions(label_column=label_name if is_named else None),
        x=images[:n],
        codes=_CLASSES[rows[:n]],
        xq=images[n:],
        has_label_in_tests=bool(rng.integers(2)),
        is_bad=(rng.random(25) < 0.1) & has_one_name & bool(rng.integers(2)),
    )


def _table(situation: Situation, images: np.ndarray, labels: Any, rng: np.random.Generator, bad: Any = ()) -> pa.Table:
    """Columns in an order of their own: pixels too, where each has a column."""
    columns = LAYOUTS[situation.layout].columns(images)
    if np.any(bad):
        ((name, column),) = columns.items()
        column = column if isinstance(column, pa.Array) else pa.array(column)
        columns = {name: column.take(pa.array(np.arange(len(images)), mask=np.asarray(bad)))}
    if labels is not None:
        columns[situation.label_name] = labels
    columns |= {name: OTHERS[name](len(images)) for name in situation.others}
    return pa.table({name: columns[name] for name in rng.permutation([*columns])})


def play(situation: Situation, folder: Path) -> str:
    """What comes of it: ``right``, ``refused: ...``, ``not written: ...``, or what is wrong.

    Raises:
        Exception: whatever is neither told nor right.
    """
    rng = np.random.default_rng([situation.seed, 1])
    labels = LABELS[situation.label](situation.codes)
    cut = int(rng.integers(1, len(situation.x)))
    files = [folder / "a.parquet", folder / "b.parquet", folder / "test.parquet"]
    truth = LABELS[situation.label](np.zeros(25, int)) if situation.has_label_in_tests else None
    tables = [
        _table(situation, situation.x[:cut], labels[:cut], rng),
        _table(situation, situation.x[cut:], labels[cut:], rng),
        _table(situation, situation.xq, truth, rng, situation.is_bad),
    ]
    for writer, table, file in zip(situation.writers, tables, files, strict=True):
        try:
            WRITERS[writer](table, file, rng)
        except Exception as error:  # noqa: BLE001 - of whatever library, which does not write such a table
            return f"not written: {writer}, {type(error).__name__}"
    try:
        return _play_files(situation, folder, labels, files)
    except KnnvoteError as error:
        told = str(error).replace(f"{folder}/", "")
        return f"refused: {told}" if "\n" not in told else f"refused in several lines: {told}"


def _play_files(situation: Situation, folder: Path, labels: pa.Array, files: list[Path]) -> str:
    training = TrainingOptions(images=situation.images, label_column=situation.training.label_column)
    index_files(files[:2], folder / "x.knn", training=training, tell=lambda _note: None)
    index = open_index(folder / "x.knn")
    x, xq = (images.reshape(len(images), -1) for images in (situation.x, situation.xq))
    if not np.array_equal(index.vectors, x):
        return "WRONG: stored vectors are not those drawn"
    if index.labels.to_pylist() != _expected(labels):
        return f"WRONG: stored labels are {index.labels.to_pylist()[:5]}, and {_expected(labels)[:5]} were drawn"
    summary = run_job(Classifier(index, Rule(k=1)), files[2], folder / "out")
    if summary.failed:
        return f"refused: {next(iter(summary.failed.values()))}"
    answers = pq.read_table(folder / "out" / "test.parquet")
    D, I = brute_force.neighbors(xq, x, 1, "l2")
    expected = [None if bad else _expected(labels)[row] for bad, row in zip(situation.is_bad, I[:, 0], strict=True)]
    if answers["prediction"].to_pylist() != expected:
        return f"WRONG: predictions are {answers['prediction'].to_pylist()[:9]}, and {expected[:9]} are right"
    near = np.where(situation.is_bad, 0, D[:, 0])
    if not np.array_equal(answers["distance"].fill_null(0).to_numpy(), near):
        return "WRONG: distances are not those of brute force"
    kept = [name for name in situation.others if name not in answers.column_names and name not in {"hash", "box"}]
    return f"WRONG: columns {kept} are lost" if kept else "right"


def _expected(labels: pa.Array) -> list[Any]:
    """Labels as they are stored."""
    if pa.types.is_floating(labels.type) or pa.types.is_decimal(labels.type):
        return [int(value) for value in labels.to_pylist()]
    return [value.decode() if isinstance(value, bytes) else value for value in labels.to_pylist()]


def outcome(seed: int, writers: list[str]) -> tuple[Situation, str]:
    """A situation, and what comes of it; an exception that is no refusal is wrong too."""
    situation = draw(seed, writers)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return situation, play(situation, Path(folder))
        except Exception:  # noqa: BLE001 - which is what is looked for
            return situation, f"WRONG: {traceback.format_exc()}"


def installed_writers() -> list[str]:
    """Those that are here."""
    return [name for name in WRITERS if find_spec(name) is not None]


def main() -> int:
    """Play draws, tell what is wrong, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument(
        "--writers", nargs="+", choices=[*WRITERS], default=installed_writers(), help="all that are here"
    )
    parser.add_argument("--refusals", action="store_true", help="tell them too")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.draws) if options.only is None else [options.only]
    counts: Counter[str] = Counter()
    for seed in seeds:
        situation, what = outcome(seed, options.writers)
        counts[what.split(":")[0]] += 1
        if what.startswith("WRONG") or options.only is not None or (options.refusals and what != "right"):
            print(f"seed {seed}: {situation}: {what}", flush=True)
    print(dict(counts))
    return int(any(name.startswith("WRONG") or "several lines" in name for name in counts))


if __name__ == "__main__":
    sys.exit(main())
