"""What is stored, read through once: its range, and a hash that tells it from anything else."""

import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.vectors import ends
from knnvote.indexer.records.weights import WEIGHT

from .work import slices_of


def range_of(images: NDArray[np.generic]) -> tuple[float, float]:
    """The least and the greatest number of images (n, pixels), which may be mapped."""
    least, greatest = zip(*map(ends, slices_of(images)), strict=True)
    return min(least), max(greatest)


def read_through(
    vectors: NDArray[np.generic], labels: pa.Array, weights: pa.Array | None
) -> tuple[tuple[float, float], str]:
    """The least and the greatest number of vectors (n, d), and a SHA-256 of these with their labels and weights (n,).

    It is the same whatever the kind of index: indexes that share it can share exact results. Vectors that are mapped
    are read once.
    """
    digest = hashlib.sha256(repr((vectors.dtype.str, vectors.shape)).encode())
    least, greatest = [], []
    for rows in slices_of(vectors):
        digest.update(np.ascontiguousarray(rows).data)
        low, high = ends(rows)
        least.append(low)
        greatest.append(high)
    columns = {"label": labels} if weights is None else {"label": labels, WEIGHT: weights}
    batch = pa.RecordBatch.from_pydict(columns)
    with pa.ipc.new_stream(pa.PythonFile(_Digested(digest), "w"), batch.schema) as writer:
        writer.write_batch(batch)
    return (min(least), max(greatest)), digest.hexdigest()


def sha256(text: str) -> str:
    """Of a text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class _Digested(io.RawIOBase):
    """A file that is hashed and kept nowhere."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)
