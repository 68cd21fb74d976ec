"""An index and inputs of a job in the working folder, whoever does it."""

from pathlib import Path

import numpy as np

from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)


def write_inputs() -> Classifier:
    """Write two files with a bad row each, one that fails and one without rows; give the index that is to answer."""
    index_arrays(IMAGES[:30], np.arange(30) % 3, Path("x.knn"))
    images = IMAGES.astype(float)
    images[35], images[52] = np.nan, 0.5
    for name, rows in {"a": slice(30, 40), "b/c": slice(40, 60), "b/none": slice(0)}.items():
        write_table(image_table(images[rows]), Path(f"in/{name}.parquet"))
    Path("in/b/broken.parquet").write_bytes(b"PAR1")
    return Classifier.open("x.knn", Rule(min_confidence=0.5))
