"""What many images cost: `python -m bench.scale TRAIN.parquet TEST.parquet` measures at three sizes, and extrapolates.

The images of TRAIN, shifted and scaled as often as it takes, are stored in adaptive indexes of three sizes; those of
TEST, likewise, are classified by jobs of three sizes, as one part and as two at once. What the smaller two say of the
third stands beside what it took, and what the simulation says of two parts beside what they took. From all three
follows what far more images would cost, on machines whose figures are given.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.growth import resized
from bench.job import measure
from bench.problem import Problem, read_problem
from bench.table import new_table, print_table
from knnvote.classify.job.work import RANGE_ROWS
from knnvote.data.text import show_bytes

from .simulation import Cluster, Costs, simulate

_TURNS = 3
_FILES = 8  # of each job
_COMMAND = (sys.executable, "-c", "from knnvote.cli.main import main; main()")
_HOT = ("axes", "codes", "lists", "ends")  # roles of an index's files that every search goes through
_OUTPUT = 40  # bytes written of an image, about
_LOCAL = 1e9  # bytes a second of a disk of this machine, about: parts here hardly wait for it
_NETWORK, _STORE = 1.25e9, 10e9  # bytes a second of a machine with 10 Gbit/s, and of the store that all share
_STORED, _IMAGES = 100_000_000, 1_000_000_000  # that are asked about
_CLUSTERS = ((1, 16), (1, 64), (4, 32), (16, 32), (64, 32))  # machines, and cores of each


@dataclass(frozen=True)
class Stored:
    """An index of made images.

    Attributes:
        n: images.
        build: processor seconds that building took, reading and tuning included.
        hot: bytes that every search goes through.
        cold: bytes of vectors and labels, of which it reads a few.
        start: processor seconds of a job of no images.
        image: further seconds of each image of a job with one search thread.
    """

    n: int
    build: float
    hot: int
    cold: int
    start: float
    image: float


@click.command()
@click.argument("train")
@click.argument("test")
@click.option("--sizes", default="100000,400000,1600000", show_default=True, help="Numbers of stored images.")
@click.option("--rows", default="40000,160000,640000", show_default=True, help="Images of each job.")
def main(train: str, test: str, sizes: str, rows: str) -> None:
    """Measure what stored and classified images cost at three sizes, and print what far more would."""
    counts = [int(size) for size in sizes.split(",")]
    jobs = [int(size) for size in rows.split(",")]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        problem = read_problem(train, test, folder)
        to_classify = [_write(folder / f"images-{m}", _queries(problem, m)) for m in jobs]
        found = []
        for n in counts:
            found.append(_store(folder, problem, n, to_classify, jobs))
            if n != counts[-1]:
                shutil.rmtree(folder / f"{n}.knn")
        _print_stored(found)
        _print_parts(found[-1], folder / f"{counts[-1]}.knn", to_classify, jobs, problem.x.shape[1])
    _print_plan(found, problem.x.shape[1])


def _queries(problem: Problem, m: int) -> tuple[NDArray[np.generic], None]:
    swapped = Problem(problem.xq, problem.truth, problem.x, problem.codes, problem.shape)
    return resized(swapped, m, seed=1).x, None


def _write(folder: Path, images: tuple[NDArray[np.generic], NDArray[np.int32] | None]) -> Path:
    """Images (n, d) as raw pixels in files of equal size, with their labels (n,) if there are any."""
    folder.mkdir()
    x, labels = images
    bounds = np.linspace(0, len(x), _FILES + 1).astype(int)
    for number, (start, end) in enumerate(pairwise(bounds)):
        block = np.ascontiguousarray(x[start:end])
        size = block.itemsize * block.shape[1]
        pixels = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(block), [None, pa.py_buffer(block)])
        columns = {"image": pixels} if labels is None else {"image": pixels, "label": labels[start:end]}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    return folder


def _knnvote(*arguments: object) -> None:
    subprocess.run([*_COMMAND, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _store(folder: Path, problem: Problem, n: int, to_classify: Sequence[Path], jobs: Sequence[int]) -> Stored:
    made = resized(problem, n, seed=0)
    train, index = _write(folder / f"train-{n}", (made.x, made.codes)), folder / f"{n}.knn"
    del made
    build, _ = measure(lambda: _knnvote("index", train, "--kind", "adaptive", "--out", index))
    shutil.rmtree(train)
    sizes = {file.name.split("-")[0]: file.stat().st_size for file in index.iterdir()}
    hot = sum(sizes[role] for role in _HOT)
    seconds = [
        statistics.median(measure(_job(folder, index, images))[0] for _ in range(_TURNS)) for images in to_classify
    ]
    image, start = np.polyfit(jobs, seconds, 1)
    return Stored(n, build, hot, sum(sizes.values()) - hot, float(start), float(image))


def _job(folder: Path, index: Path, images: Path, *part: str) -> Callable[[], None]:
    out = folder / "out"

    def run() -> None:
        if not part:
            shutil.rmtree(out, ignore_errors=True)
        _knnvote("classify", index, images, "--out", out, "--threads", 1, *part)

    return run


def _power(found: Sequence[Stored], cost: Callable[[Stored], float]) -> Callable[[float], float]:
    """A cost as a power of n, by least squares of logarithms."""
    slope, first = np.polyfit(np.log([one.n for one in found]), np.log([cost(one) for one in found]), 1)
    return lambda n: float(np.exp(first + slope * np.log(n)))


def _line(found: Sequence[Stored], cost: Callable[[Stored], float]) -> Callable[[float], float]:
    """A cost of each of n as that of one more and a share of what all have once, by least squares of the whole."""
    each, once = np.polyfit([one.n for one in found], [one.n * cost(one) for one in found], 1)
    return lambda n: float(each + once / n)


_Fit = Callable[[Sequence[Stored], Callable[[Stored], float]], Callable[[float], float]]
_MEASURED: dict[str, tuple[Callable[[Stored], float], str, _Fit]] = {
    "build, us a stored image": (lambda one: 1e6 * one.build / one.n, ",.1f", _line),
    "hot bytes a stored image": (lambda one: one.hot / one.n, ",.1f", _power),
    "other bytes a stored image": (lambda one: one.cold / one.n, ",.1f", _power),
    "start of a job, s": (lambda one: one.start, ".2f", _power),
    "job, us an image": (lambda one: 1e6 * one.image, ",.1f", _power),
}


def _print_stored(found: Sequence[Stored]) -> None:
    """What was measured at each size, and what the others say of the last."""
    headers = [f"{one.n:,} stored" for one in found]
    table = new_table("processor time, one search thread", "", *headers, f"{found[-1].n:,}, foretold", left=1)
    for name, (cost, form, fit) in _MEASURED.items():
        foretold = fit(found[:-1], cost)(found[-1].n)
        table.add_row(name, *(format(cost(one), form) for one in found), format(foretold, form))
    print_table(table)


def _print_parts(stored: Stored, index: Path, to_classify: Sequence[Path], jobs: Sequence[int], d: int) -> None:
    """Two parts at once, as simulated and as they went."""
    table = new_table("two parts at once, seconds until both ended", "images", "simulated", "measured", left=0)
    costs = Costs(start=stored.start, unit=0.0, image=stored.image, image_bytes=d + _OUTPUT, index_bytes=0)
    cluster = Cluster(machines=1, processes=2, network=_LOCAL, store=_LOCAL)
    for images, m in zip(to_classify, jobs, strict=True):
        half = [m // _FILES] * (_FILES // 2)
        simulated = simulate([half, half], costs, cluster)
        taken = [measure(_both(index, images))[1] for _ in range(_TURNS)]
        table.add_row(f"{m:,}", f"{simulated.seconds:.2f}", f"{statistics.median(taken):.2f}")
    print_table(table)


def _both(index: Path, images: Path) -> Callable[[], None]:
    out = images.with_name("parts")

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        command = [*_COMMAND, "classify", str(index), str(images), "--out", str(out), "--threads", "1", "--part"]
        parts = [subprocess.Popen([*command, f"{part}/2"], stderr=subprocess.DEVNULL) for part in (1, 2)]
        for part in parts:
            part.wait()

    return run


def _print_plan(found: Sequence[Stored], d: int) -> None:
    """What far more images cost, on machines of several kinds."""
    stored, images = _STORED, _IMAGES
    cost = {name: fit(found, of)(stored) for name, (of, _, fit) in _MEASURED.items()}
    hot, cold = (stored * cost[f"{kind} bytes a stored image"] for kind in ("hot", "other"))
    build = stored * cost["build, us a stored image"] / 1e6 / 3600
    print(
        f"\n{stored:,} stored: {show_bytes(int(hot))} hot and {show_bytes(int(cold))} else, "
        f"built in {build:,.1f} hours of a core"
    )
    costs = Costs(
        start=cost["start of a job, s"],
        unit=0.05,
        image=cost["job, us an image"] / 1e6,
        image_bytes=d + _OUTPUT,
        index_bytes=hot + cold,
    )
    whole = [RANGE_ROWS] * (images // RANGE_ROWS)
    headers = ("machines", "cores each", "hours", "the index there after", "computing", "images/s", "network a machine")
    table = new_table(f"{images:,} images to classify with them, simulated", *headers, left=0)
    for machines, processes in _CLUSTERS:
        cluster = Cluster(machines=machines, processes=processes, network=_NETWORK, store=_STORE)
        ends = np.linspace(0, len(whole), cluster.parts + 1).round().astype(int)
        parts = [whole[start:end] for start, end in pairwise(ends)]
        done = simulate(parts, costs, cluster)
        table.add_row(
            f"{machines}",
            f"{processes}",
            f"{done.seconds / 3600:.2f}",
            f"{done.fetching:,.0f} s",
            f"{done.computing:.0%}",
            f"{images / done.seconds:,.0f}",
            show_bytes(int(costs.index_bytes + images * costs.image_bytes / machines)),
        )
    print_table(table)


if __name__ == "__main__":
    main(prog_name="python -m bench.scale")
