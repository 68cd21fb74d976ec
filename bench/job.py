"""What the batch job costs beside its bare search: `python -m bench.job INDEX TEST.parquet`.

The same images are classified as they are in the file (PNG, say) and as raw binary. For each, in turns: the whole
command in a process of its own, and search and vote alone in this one, over images that are decoded already. Everything
runs with one search thread. The command's start-up, taken as its time on a file of no rows, is left out of the ratios.
"""

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.work import BATCH_SIZE
from knnvote.data.layout import ImageOptions
from knnvote.indexer.threads import limit_threads

TURNS = 5


@click.command()
@click.argument("index")
@click.argument("file", metavar="TEST.parquet")
def main(index: str, file: str) -> None:
    """Measure what the batch job costs beside its bare search, and print a table."""
    classifier = Classifier.open(index)
    table = pq.read_table(file)
    layout = classifier.recognise(table.slice(0, 64), ImageOptions())
    vectors, _ = layout.decode(table)
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(vectors.shape[1]), len(vectors), [None, pa.py_buffer(vectors)]
    )
    with tempfile.TemporaryDirectory() as folder:
        raw, empty = Path(folder) / "raw.parquet", Path(folder) / "empty.parquet"
        pq.write_table(pa.table({"image": pixels.cast(pa.binary())}), raw)
        pq.write_table(table.slice(0, 0), empty)
        out = Path(folder) / "out"
        tasks: dict[str, Callable[[], object]] = {
            "search and vote alone": lambda: _answer(classifier, vectors),
            "decoding alone": lambda: layout.decode(table),
            "command, no rows": lambda: _command(index, empty, out),
            "command, as it is": lambda: _command(index, Path(file), out),
            "command, raw binary": lambda: _command(index, raw, out),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
        with limit_threads(1):
            for _ in range(TURNS):
                for name, task in tasks.items():
                    times[name].append(measure(task))
    _print(len(vectors), {name: (_median(seen, 0), _median(seen, 1)) for name, seen in times.items()})


def _answer(classifier: Classifier, vectors: object) -> None:
    for start in range(0, len(vectors), BATCH_SIZE):  # type: ignore[arg-type]  # an array
        classifier.answer(vectors[start : start + BATCH_SIZE], {})  # type: ignore[index]


def _command(index: str, file: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", "from knnvote.cli.main import main; main()", "classify", index, str(file)]
    subprocess.run([*command, "--out", str(out), "--threads", "1"], check=True, stderr=subprocess.DEVNULL)


def measure(task: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall seconds of a task, those of child processes too."""
    before, start = processor_seconds(), time.perf_counter()
    task()
    return processor_seconds() - before, time.perf_counter() - start


def processor_seconds() -> float:
    """That this process and its children have taken so far."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _median(seen: list[tuple[float, float]], which: int) -> float:
    return statistics.median(pair[which] for pair in seen)


def _print(rows: int, medians: dict[str, tuple[float, float]]) -> None:
    print(f"{rows:,} images, medians of {TURNS} turns")
    for name, (processor, wall) in medians.items():
        print(f"{name:<24} processor {processor:6.3f} s  wall {wall:6.3f} s")
    start_up, search, decoding = (
        medians[name][0] for name in ("command, no rows", "search and vote alone", "decoding alone")
    )
    raw = (medians["command, raw binary"][0] - start_up) / search
    as_it_is = (medians["command, as it is"][0] - start_up) / (search + decoding)
    print(f"raw binary: {raw:.2f} x search and vote; as it is: {as_it_is:.2f} x search, vote and decoding")


if __name__ == "__main__":
    main(prog_name="python -m bench.job")
