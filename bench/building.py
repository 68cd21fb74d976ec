"""What it costs to build an index of many pictures: `python -m bench.building 1000000 10000000`.

For each number so many pictures of 28 x 28 bytes are made, by shifting and scaling those of a Parquet file or else the
digits, and written as Parquet files. The command then builds an index of them, while the memory is watched that is its
own and no file's (`RssAnon`), which the system cannot take back. Linux alone.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.ndimage import zoom

from knnvote.data.sample import digits
from knnvote.data.text import show_bytes
from knnvote.indexer.training import TrainingOptions, read_training_set

from .growth import distorted
from .load import COMMAND
from .table import new_table, print_table

_SIDE = 28
_FILE = 100_000  # pictures in each
_ALIKE = 64  # pictures distorted alike
_SHIFT, _SCALE = 2.0, (0.9, 1.1)
_PAUSE = 0.05  # seconds between looks at the memory


@dataclass(frozen=True)
class Built:
    """What a build took.

    Attributes:
        seconds: by the clock.
        processor: seconds of processors.
        anonymous: bytes of memory at most that are no file's.
        size: bytes of the folder.
    """

    seconds: float
    processor: float
    anonymous: int
    size: int


@click.command()
@click.argument("numbers", nargs=-1, type=int, required=True)
@click.option("--images", help="Parquet of labelled 28 x 28 pictures; else the digits.")
@click.option("--kind", default="adaptive", show_default=True, help="Of the index.")
@click.option("--folder", type=click.Path(path_type=Path), help="To work in; a temporary one otherwise.")
@click.option("--seed", default=0, show_default=True)
def main(numbers: tuple[int, ...], images: str | None, kind: str, folder: Path | None, seed: int) -> None:
    """Build an index of each of some numbers of pictures, and print a table."""
    pictures, labels = _pictures(images)
    table = new_table("", "pictures", "seconds", "processor", "of a million", "anonymous memory", "folder", left=0)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for n in numbers:
            source = Path(name) / str(n)
            click.echo(f"making {n:,} pictures", err=True)
            write_pictures(source, pictures, labels, n, seed)
            click.echo("building", err=True)
            built = build(source, Path(name) / f"{n}.knn", kind)
            millions = n / 1e6
            table.add_row(
                *(f"{n:,}", f"{built.seconds:.0f} s", f"{built.processor:.0f} s"),
                *(f"{built.processor / millions:.0f} s", show_bytes(built.anonymous), show_bytes(built.size)),
            )
    print_table(table)


def _pictures(path: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (m, 28, 28) with their labels (m,)."""
    if path is None:
        images, labels = digits()
        large = zoom(images.astype(np.float32) * 255 / 16, (1, _SIDE / 8, _SIDE / 8), order=1)
        return np.rint(large).clip(0, 255).astype(np.uint8), np.asarray(labels)
    from knnvote.data.inputs import find_inputs  # as the command finds them

    found = read_training_set(find_inputs(path), TrainingOptions())
    return found.vectors.astype(np.uint8).reshape(-1, _SIDE, _SIDE), found.provenance["label"].to_numpy()


def write_pictures(folder: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64], n: int, seed: int) -> None:
    """Write n pictures made of some (m, 28, 28), in random order, as Parquet files; fewer are the beginning of more."""
    folder.mkdir(parents=True)
    Parallel(n_jobs=-1)(
        delayed(_write_file)(folder / f"{number:05}.parquet", pictures, labels, min(_FILE, n - start), [seed, number])
        for number, start in enumerate(range(0, n, _FILE))
    )


def _write_file(path: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64], n: int, seed: list[int]) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(pictures), size=n)
    made = np.concatenate([*_distorted(pictures[rows], rng)])
    table = pa.table({"image": [picture.tobytes() for picture in made], "label": labels[rows]})
    pq.write_table(table, path, row_group_size=_FILE // 10)


def _distorted(pictures: NDArray[np.uint8], rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(pictures), _ALIKE):
        shift = rng.uniform(-_SHIFT, _SHIFT, size=2)
        yield distorted(pictures[start : start + _ALIKE], rng.uniform(*_SCALE), shift)


def build(source: Path, out: Path, kind: str) -> Built:
    """Build an index of a folder of files with the command, and watch it."""
    command = [sys.executable, "-c", COMMAND, "index", str(source), "--out", str(out), "--kind", kind]
    start, most = time.perf_counter(), 0
    process = subprocess.Popen(command)
    while True:
        number, status, used = os.wait4(process.pid, os.WNOHANG)  # what this child used, and no other that has ended
        if number:
            break
        most = max(most, _anonymous(process.pid))
        time.sleep(_PAUSE)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{' '.join(command[3:])} ended with {process.returncode}")
    size = sum(file.stat().st_size for file in out.rglob("*"))
    return Built(seconds, used.ru_utime + used.ru_stime, most, size)


def _anonymous(number: int) -> int:
    """Bytes of a process that are no file's; 0 once it has ended."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
    return 0


if __name__ == "__main__":
    main()
