"""The handwritten digits that scikit-learn ships: 8 x 8 pixels from 0 to 16, ten classes, no download."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .tables import image_table, write_new_table


class Split(NamedTuple):
    """Images (n, 8, 8) uint8 and labels (n,) int64, to learn from and to test on."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All digits: images (1797, 8, 8) uint8 and labels (1797,) int64, each time the caller's own."""
    images, labels = _loaded()
    return images.copy(), labels.copy()


@cache
def _loaded() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """They are read from text, which takes some hundredths of a second."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second or more to import

    sample: Any = load_digits()
    return sample.images.astype(np.uint8), sample.target.astype(np.int64)


def split_digits() -> Split:
    """The digits, shuffled and split into 1347 to learn from and 450 to test on, the same way every time."""
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - takes a second or more to import

    images, labels = digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, random_state=0
    )
    return Split(train_images, train_labels, test_images, test_labels)


def write_digits(folder: Path) -> tuple[Path, Path]:
    """Write the split digits to ``train.parquet`` and ``test.parquet`` in folder, and return the two paths.

    Raises:
        KnnvoteError: they cannot be written, or would replace other files.
    """
    split = split_digits()
    train, test = folder / "train.parquet", folder / "test.parquet"
    write_new_table(image_table(split.train_images, split.train_labels), train)
    write_new_table(image_table(split.test_images, split.test_labels), test)
    return train, test


def drawn_one() -> NDArray[np.uint8]:
    """A one drawn by hand, (8, 8) uint8 with ink at 16: a query that is in no data set."""
    image = np.zeros((8, 8), np.uint8)
    image[1:7, 4] = 16
    image[2, 3] = 16
    return image
