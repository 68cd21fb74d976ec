"""What Ray costs beside the local engine, and what nodes add: `python -m bench.cluster INDEX TEST.parquet`.

The images of the file are repeated to one large file, to 64 files and to many of ten rows each. Every set is classified
by this process with one search thread, by Ray on one node of one processor, and by Ray on two, in turns; outputs are
compared byte for byte. Where the system allows it each node is held to a processor of its own, as is this process while
it does the work: a job of one search thread else reads and decodes on another. The time of a job of one file without
rows (to join, start the workers and open the index) is left out of the ratios. Processor time is that of this process
and all below it, where the nodes run too, as looked at ten times a second: of processes that end, a little is missed.
"""

import hashlib
import logging
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.classifier import Classifier
from knnvote.classify.cluster.engine import RayEngine
from knnvote.classify.job.run import run_job

TURNS = 3
_FILES = 64
_INTERVAL = 0.1  # seconds
_TICK = os.sysconf("SC_CLK_TCK")
_NODE = {"num_cpus": 1, "include_dashboard": False}
Cost = tuple[float, float]  # processor and wall seconds


@click.command()
@click.argument("index")
@click.argument("file", metavar="TEST.parquet")
@click.option("--rows", type=int, default=1_000_000, show_default=True, help="Images of the large set.")
@click.option("--small", type=int, default=10_000, show_default=True, help="Files of ten rows.")
@click.option("--turns", type=int, default=TURNS, show_default=True, help="Runs of each.")
def main(index: str, file: str, rows: int, small: int, turns: int) -> None:
    """Measure what Ray costs beside the local engine and what a second node adds, and print a table."""
    classifier = Classifier.open(index)
    with tempfile.TemporaryDirectory() as folder:
        sets = _make_sets(pq.read_table(file), Path(folder), rows, small)
        times: dict[tuple[str, str], list[Cost]] = defaultdict(list)
        left: dict[str, set[str]] = defaultdict(set)
        for by, nodes in {"1 node": 1, "2 nodes": 2}.items():
            with _cluster(nodes) as address:
                engines = {"local": None, by: RayEngine(address)} if nodes == 1 else {by: RayEngine(address)}
                for _ in range(turns):
                    for name, inputs in sets.items():
                        for who, engine in engines.items():
                            cost, digest = _run(classifier, inputs, Path(folder) / "out", engine)
                            times[name, who].append(cost)
                            left[name].add(digest)
    if different := [name for name, digests in left.items() if len(digests) > 1]:
        raise click.ClickException(f"engines left different bytes of {', '.join(different)}")
    _print({key: _median(seen) for key, seen in times.items()}, rows, small, turns)


def _make_sets(table: pa.Table, folder: Path, rows: int, small: int) -> dict[str, Path]:
    """Folders of the same images in files of several sizes, and one file of none."""
    images = pa.concat_tables([table] * (rows // len(table) + 1)).slice(0, rows)
    sets = {"nothing": [0], "one file": [rows], "64 files": [rows // _FILES] * _FILES, "ten rows each": [10] * small}
    for name, sizes in sets.items():
        (folder / name).mkdir()
        for number, size in enumerate(sizes):
            start = number * size % (rows - size + 1)
            pq.write_table(images.slice(start, size), folder / name / f"{number:05}.parquet", row_group_size=16_384)
    return {name: folder / name for name in sets}


@contextmanager
def _cluster(count: int) -> Iterator[str]:
    """The address of a cluster of so many nodes of one processor."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")  # as the local engine has it
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        from ray.cluster_utils import Cluster
    except ImportError as error:
        raise click.ClickException("this needs Ray: pip install 'knnvote[ray]'") from error
    with _held_to(0):
        cluster: Any = Cluster(initialize_head=True, head_node_args=_NODE)
    try:
        for number in range(1, count):
            with _held_to(number):
                cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


@contextmanager
def _held_to(number: int) -> Iterator[None]:
    """This process, and those that it starts, have one of the processors."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(processors)[number % len(processors)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


def _run(classifier: Classifier, inputs: Path, out: Path, engine: RayEngine | None) -> tuple[Cost, str]:
    """What a job costs, and a digest of what it leaves."""
    shutil.rmtree(out, ignore_errors=True)
    with _Meter() as meter:
        start = time.perf_counter()
        with _held_to(0) if engine is None else nullcontext():
            run_job(classifier, inputs, out, threads=1, engine=engine)
        wall = time.perf_counter() - start
    digest = hashlib.sha256()
    for path in sorted(out.rglob("*.parquet")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return (meter.seconds, wall), digest.hexdigest()


class _Meter:
    """Processor seconds of this process and all that are below it at some time, whatever becomes of them."""

    def __enter__(self) -> "_Meter":
        """Begin."""
        self._seen: dict[int, int] = {}
        self._first = _ticks()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End."""
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            is_over = self._is_over.wait(_INTERVAL)
            self._seen |= _ticks()
            if is_over:
                return

    @property
    def seconds(self) -> float:
        """Between begin and end."""
        return sum(ticks - self._first.get(pid, 0) for pid, ticks in self._seen.items()) / _TICK


def _ticks() -> dict[int, int]:
    """Of this process and of all below it, by their numbers."""
    found: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        found[int(path.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while more := {pid for pid, (parent, _) in found.items() if parent in ours} - ours:
        ours |= more
    return {pid: found[pid][1] for pid in ours}


def _median(seen: list[Cost]) -> Cost:
    return statistics.median(cost[0] for cost in seen), statistics.median(cost[1] for cost in seen)


def _print(medians: dict[tuple[str, str], Cost], rows: int, small: int, turns: int) -> None:
    print(f"{rows:,} images, and {small:,} files of ten; medians of {turns} turns")
    for (name, by), (processor, wall) in medians.items():
        print(f"{name:<14} {by:<8} processor {processor:8.2f} s  wall {wall:8.2f} s")

    def less_start(name: str, by: str, which: int) -> float:
        return medians[name, by][which] - medians["nothing", by][which]

    for name in ("one file", "64 files", "ten rows each"):
        share = 1 - less_start(name, "local", 0) / less_start(name, "1 node", 0)
        slower = less_start(name, "1 node", 1) / less_start(name, "local", 1)
        faster = less_start(name, "1 node", 1) / less_start(name, "2 nodes", 1)
        print(
            f"{name}: Ray's own share {share:.1%} of processor time, wall {slower:.2f} x local; 2 nodes {faster:.2f} x"
        )
    for by in ("local", "1 node", "2 nodes"):
        print(f"a file of ten rows, {by}: {less_start('ten rows each', by, 1) / small * 1e3:.2f} ms")


if __name__ == "__main__":
    main(prog_name="python -m bench.cluster")
