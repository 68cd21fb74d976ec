"""Makes sets of labelled vectors that differ in kind, as Parquet files: `python -m bench.made FOLDER`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.data.sample import split_digits

Labelled = tuple[NDArray[Any], NDArray[Any]]  # (n, d) vectors and (n,) labels
_SEED = 0


def _embeddings(rng: np.random.Generator, n: int) -> Labelled:
    """Unit vectors of 384 numbers as sentences have them: 150 classes of ten topics each, and a long tail of axes."""
    d, classes, topics = 384, 150, 10
    spread = 1 / np.arange(1, d + 1) ** 0.5
    turned = np.linalg.qr(rng.normal(size=(d, d)))[0]
    centres = rng.normal(size=(classes, 1, d)) * spread + 0.7 * rng.normal(size=(classes, topics, d)) * spread
    labels, topic = rng.integers(classes, size=n), rng.integers(topics, size=n)
    vectors = (centres[labels, topic] + 0.8 * rng.normal(size=(n, d)) * spread) @ turned
    vectors /= np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return vectors.astype(np.float32), labels


def _noise(rng: np.random.Generator, n: int) -> Labelled:
    """Uniform floats without any structure; ten classes by the sum of a few."""
    vectors = rng.random((n, 128), dtype=np.float32)
    return vectors, np.digitize(vectors[:, :8].sum(axis=1), np.linspace(2.5, 5.5, 9))


def _double(rng: np.random.Generator, n: int) -> Labelled:
    """Float64 in clusters of unequal spread, far from zero."""
    d, clusters = 96, 200
    centres = rng.normal(size=(clusters, d)) * 3 / np.arange(1, d + 1) ** 0.3
    which = rng.integers(clusters, size=n)
    return 1000 + centres[which] + rng.normal(size=(n, d)) * (0.5 + (which % 5)[:, None] / 5), which % 20


def _uint16(rng: np.random.Generator, n: int) -> Labelled:
    """Pictures of 16 x 16 pixels of 16 bits: a few smooth strokes of each class, moved and lit at random."""
    side, classes = 16, 12
    axis = np.arange(side)
    ways = rng.uniform(3, 13, size=(classes, 4, 3))
    labels = rng.integers(classes, size=n)
    pictures = np.zeros((n, side, side))
    for stroke in range(4):
        x, y, width = (ways[labels, stroke, i][:, None, None] + rng.normal(scale=0.5, size=(n, 1, 1)) for i in range(3))
        distance = (axis[:, None] - x) ** 2 + (axis - y) ** 2
        pictures += np.exp(-distance / (1 + width))
    pictures *= rng.uniform(0.6, 1.0, size=(n, 1, 1))
    pictures += rng.normal(scale=0.02, size=pictures.shape)
    return np.rint(pictures * 20_000 + 2000).clip(0, 65_535).astype(np.uint16).reshape(n, -1), labels


_MADE: dict[str, tuple[Callable[[np.random.Generator, int], Labelled], int]] = {
    "embeddings": (_embeddings, 100_000),
    "noise": (_noise, 20_000),
    "double": (_double, 20_000),
    "uint16": (_uint16, 30_000),
}
_TEST_IMAGES = 4096


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write FOLDER/NAME/train.parquet and test.parquet for each set: digits, embeddings, noise, double, uint16.

    Example: python -m bench.made sets && python -m bench sets/noise/train.parquet sets/noise/test.parquet
    """
    digits = split_digits()
    flat = (images.reshape(len(images), -1) for images in (digits.train_images, digits.test_images))
    for part, images, labels in zip(("train", "test"), flat, (digits.train_labels, digits.test_labels), strict=True):
        _write(folder / "digits" / f"{part}.parquet", images, labels)
    for name, (make, n) in _MADE.items():
        vectors, labels = make(np.random.default_rng(_SEED), n + _TEST_IMAGES)
        _write(folder / name / "train.parquet", vectors[:n], labels[:n])
        _write(folder / name / "test.parquet", vectors[n:], labels[n:])


def _write(path: Path, vectors: NDArray[Any], labels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    pq.write_table(pa.table({"embedding": lists, "label": labels}), path)
    click.echo(f"{path}: {len(vectors):,} of {vectors.shape[1]} {vectors.dtype}")


if __name__ == "__main__":
    main(prog_name="python -m bench.made")
