"""What Prometheus is told, in its text format."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from .served import Current

CONTENT_TYPE: str = CONTENT_TYPE_LATEST
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counts and times of one service.

    Attributes:
        waiting: pieces of requests that wait for a search.
        held: bytes of bodies that are being read or answered.
    """

    def __init__(self, current: Current) -> None:
        """Nothing is counted yet."""
        self._registry: Any = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # memory, processor seconds, open files
        self._requests = self._made(Counter, "requests", "Requests answered.", ("route", "method", "code"))
        self._seconds = self._made(
            Histogram, "request_seconds", "From a request's head to its answer.", ("route",), buckets=_SECONDS
        )
        self._rows = self._made(Counter, "rows", "Images answered, by status.", ("status",))
        self._batches = self._made(Histogram, "batch_rows", "Images searched together.", buckets=_ROWS)
        self._search = self._made(
            Histogram, "batch_seconds", "To decode, search and vote on a batch.", buckets=_SECONDS
        )
        self.waiting = self._made(Gauge, "waiting", "Pieces of requests that wait for a search.")
        self.held = self._made(Gauge, "held_bytes", "Bytes of bodies that are read or answered.")
        images = self._made(Gauge, "index_images", "Stored images.")
        images.set_function(lambda: current.served.index.n)
        generation = self._made(Gauge, "index_generation", "Of the index that answers.")
        generation.set_function(lambda: current.served.index.manifest.generation)
        failures = self._made(Gauge, "index_failures", "Newer generations that could not be opened.")
        failures.set_function(lambda: current.failures)

    def _made(self, kind: Any, name: str, told: str, labels: tuple[str, ...] = (), **more: Any) -> Any:
        return kind(f"knnvote_{name}", told, labels, registry=self._registry, **more)

    def saw_request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count a request, by the route that answered it."""
        self._requests.labels(route, method, code).inc()
        self._seconds.labels(route).observe(seconds)

    def saw_batch(self, rows: int, seconds: float) -> None:
        """Count a search."""
        self._batches.observe(rows)
        self._search.observe(seconds)

    def saw_rows(self, status: pa.ChunkedArray) -> None:
        """Count the images of a request by their status."""
        for pair in pc.value_counts(status).to_pylist():
            self._rows.labels(pair["values"]).inc(pair["counts"])

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        text: bytes = generate_latest(self._registry)
        return text
