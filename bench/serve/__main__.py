"""What a service costs beside the bare search: `python -m bench.serve INDEX IMAGES`.

The real command serves the index in a process of its own; this one asks it, over one connection and over many at a
time, with one image a request as PNG and as JSON, and with thousands as an Arrow stream. Both share the machine's
processors, so that the client's own work slows the service. Beside it stands the search alone, in this process with
all threads: of one image at a time, and of all at once.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import click
import imagecodecs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.table import new_table, print_legend, print_table
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.testset import read_test_set
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.tables import image_table
from knnvote.indexer.threads import limit_threads

from .client import Load, ask_all, request

_LEGEND = (
    "median, p99: milliseconds from a request to its whole answer; images/s of all connections together, by wall "
    "time; resident: the memory of the service after it"
)
_COMMAND = "from knnvote.cli.main import main; main()"
_MANY = 4096  # images of an Arrow stream
_ALONE = 500  # searches of one image
ARROW, JSON, PNG = "application/vnd.apache.arrow.stream", "application/json", "image/png"


@click.command()
@click.argument("index")
@click.argument("images")
@click.option("--requests", type=int, default=10_000, show_default=True, help="Of one image, over many connections.")
@click.option("--connections", type=int, default=64, show_default=True, help="At a time.")
def main(index: str, images: str, requests: int, connections: int) -> None:
    """Measure throughput and latency of a service, and print a table."""
    classifier = Classifier.open(index)
    xq = read_test_set(find_inputs([images]), classifier, ImageOptions(), None).xq[:_MANY]
    shaped = xq.reshape(len(xq), *classifier.index.shape)
    headers = ("connections", "requests", "images", "images/s", "median", "p99", "errors", "resident")
    table = new_table(f"{index}: {classifier.index.n:,} stored images", "asked by", *headers, left=1)
    for name, count, seconds in _bare(classifier, xq):
        table.add_row(name, "", "", f"{count:,}", f"{count / seconds:,.0f}", f"{1000 * seconds:.2f}", "", "", "")
    with _service(index) as (place, process):
        for name, bodies, kind in _bodies(shaped):
            sent = [request(place, "/classify", body, kind) for body in bodies]
            is_many = kind == ARROW
            asyncio.run(ask_all(place, sent, 20, 4))  # so that what is done once is done
            for times, at_once in ((100, 1), (100, 4)) if is_many else ((requests // 10, 1), (requests, connections)):
                load = asyncio.run(ask_all(place, sent, times, at_once))
                table.add_row(*_row(name, load, at_once, len(shaped) if is_many else 1, process.pid))
    print_table(table)
    print_legend(_LEGEND)


def _bare(classifier: Classifier, xq: NDArray[np.generic]) -> Iterator[tuple[str, int, float]]:
    """The search and the vote alone: what, images, and seconds of one such call."""
    with limit_threads(None):
        classifier.answer(xq[:1], {}).to_table()
        start = perf_counter()
        for row in range(_ALONE):
            classifier.answer(xq[row % len(xq)][None], {}).to_table()
        yield "search alone, one image", 1, (perf_counter() - start) / _ALONE
        start = perf_counter()
        for _ in range(3):
            classifier.answer(xq, {}).to_table()
        yield "search alone, all at once", len(xq), (perf_counter() - start) / 3


def _bodies(images: NDArray[np.generic]) -> Iterator[tuple[str, list[bytes], str]]:
    """Ways to send images: what it is called, bodies, and their type."""
    if images.ndim == 3 and images.dtype == np.uint8:
        yield "PNG", [bytes(imagecodecs.png_encode(np.ascontiguousarray(image))) for image in images[:500]], PNG
    yield "JSON", [json.dumps({"images": [image.tolist()]}).encode() for image in images[:500]], JSON
    sink = pa.BufferOutputStream()
    found = image_table(images)
    with pa.ipc.new_stream(sink, found.schema) as writer:
        writer.write_table(found)
    yield "Arrow", [bytes(sink.getvalue())], ARROW


@contextmanager
def _service(index: str) -> Iterator[tuple[tuple[str, int], "subprocess.Popen[bytes]"]]:
    """The command at work: where it answers, and its process."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        with told.open("wb") as stream:
            command = [sys.executable, "-c", _COMMAND, "serve", index, "--port", "0"]
            process = subprocess.Popen(command, stderr=stream)
        try:
            while not (found := re.search(r"http://([\d.]+):(\d+)/", told.read_text())):
                if process.poll() is not None:
                    raise click.ClickException(told.read_text().strip())
            yield (found[1], int(found[2])), process
        finally:
            process.terminate()
            process.wait()


def _row(name: str, load: Load, connections: int, images: int, pid: int) -> list[str]:
    rate = images * len(load.waits) / load.seconds
    resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return [
        name,
        f"{connections}",
        f"{len(load.waits):,}",
        f"{images:,}",
        f"{rate:,.0f}",
        f"{1000 * load.wait(50):.2f}",
        f"{1000 * load.wait(99):.2f}",
        f"{load.errors or 0}",
        f"{int(resident[1]) / 1000:,.0f} MB" if resident else "",
    ]


if __name__ == "__main__":
    main(prog_name="python -m bench.serve")
