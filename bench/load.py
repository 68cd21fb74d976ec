"""Memory of the batch job: `python -m bench.load`, over files of many rows and of row groups of every size.

Each file is classified by the whole command in a process of its own, whose peak memory the system tells. Of a file of
many row groups, what PyArrow needs for the footer alone is told beside it. Then two jobs share one index.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.data.text import show_bytes
from knnvote.indexer.build import index_arrays

from .table import new_table, print_table

D = 64
STORED = 20_000
_BLOCK = 100_000
COMMAND = "from knnvote.cli.main import main; main()"
_FOOTER = "import sys, pyarrow.parquet as pq; pq.ParquetFile(sys.argv[1])"
# A small process between, whose only child is the command: a fork of this one would count as the command's peak.
_MEASURE = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True); "
    "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.stdout)"
)


@dataclass(frozen=True)
class Load:
    """A file to classify.

    Attributes:
        rows: of the whole file.
        group: rows in each row group.
    """

    rows: int
    group: int


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Of the largest files.")
@click.option("--longest", default=10_000_000, show_default=True, help="Of one file more; 0 for none.")
def main(rows: int, longest: int) -> None:
    """Measure the memory of the batch job, and print a table."""
    loads = [Load(n, 100_000) for n in (rows // 100, rows // 10, rows)]
    loads += [Load(rows, rows), Load(rows, 10), *([Load(longest, 100_000)] if longest else [])]
    table = new_table("", "rows", "in a row group", "peak", "footer alone", "rows out", "seconds", left=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = np.random.default_rng(0).integers(0, 256, (STORED, D), dtype=np.uint8)
        index_arrays(stored, np.arange(STORED) % 10, folder / "x.knn")
        file, out = folder / "in.parquet", folder / "out"
        for number, load in enumerate(loads):
            _write(file, load)
            start = time.perf_counter()
            peak, told = _measure(COMMAND, "classify", folder / "x.knn", file, "--out", f"{out}-{number}", "--json")
            seconds = time.perf_counter() - start
            footer, _ = _measure(_FOOTER, file)
            rows_out = pq.read_metadata(f"{out}-{number}/in.parquet").num_rows
            if not rows_out == load.rows == json.loads(told)["rows"]:
                raise SystemExit(f"{load.rows:,} rows in and {rows_out:,} out")
            shown = (show_bytes(peak), show_bytes(footer), f"{rows_out:,}", f"{seconds:.1f}")
            table.add_row(f"{load.rows:,}", f"{load.group:,}", *shown)
            (out.parent / f"{out.name}-{number}" / "in.parquet").unlink()
        print_table(table)
        _share(folder)


def _write(file: Path, load: Load) -> None:
    """Raw pixels, written a block at a time where a row group allows it."""
    schema = pa.schema([("image", pa.binary(D)), ("n", pa.int64())])
    block = max(_BLOCK, load.group)
    with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, load.rows, block):
            count = min(block, load.rows - first)
            pixels = np.random.default_rng(first).integers(0, 256, count * D, dtype=np.uint8)
            images = pa.FixedSizeBinaryArray.from_buffers(pa.binary(D), count, [None, pa.py_buffer(pixels)])
            columns = [images, pa.array(np.arange(first, first + count))]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=load.group)


def _measure(code: str, *arguments: object) -> tuple[int, str]:
    """Peak memory in bytes of a Python program in a process of its own, and its stdout."""
    command = [sys.executable, "-c", _MEASURE, sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    returncode, kilobytes, told = done.stdout.split(" ", 2)
    if returncode != "0":
        raise SystemExit(done.stderr)
    return int(kilobytes) * 1024, told


def _share(folder: Path) -> None:
    """Two processes that search one large index: what each maps of it, and what both take of it together."""
    stored = np.random.default_rng(1).integers(0, 256, (STORED, 1024), dtype=np.uint8)
    index_arrays(stored, np.arange(STORED) % 10, folder / "large.knn")
    code = (
        "import sys; from knnvote.classify.classifier import Classifier; c = Classifier.open(sys.argv[1]); "
        "c(c.index.vectors[:100]); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder / "large.knn")]
    jobs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for job in jobs:
        job.stdout.readline()  # type: ignore[union-attr]  # a pipe, as asked
    mapped = [_mapped(job.pid, "large.knn") for job in jobs]
    for job in jobs:
        job.communicate()
    size = sum(file.stat().st_size for file in (folder / "large.knn").iterdir())
    resident, shares = (sum(pair) for pair in zip(*mapped, strict=True))
    print(
        f"an index of {show_bytes(size)} open in two processes: each has {show_bytes(resident // 2)} of it in memory, "
        f"both together {show_bytes(shares)}"
    )


def _mapped(pid: int, name: str) -> tuple[int, int]:
    """Bytes of a process that files below a folder of this name are mapped to: resident, and its share of those."""
    resident, share, is_named = 0, 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        key, *values = line.split()
        if not key.endswith(":"):
            is_named = f"{os.sep}{name}{os.sep}" in line
        elif is_named and key == "Rss:":
            resident += int(values[0]) * 1024
        elif is_named and key == "Pss:":
            share += int(values[0]) * 1024
    return resident, share


if __name__ == "__main__":
    main(prog_name="python -m bench.load")
