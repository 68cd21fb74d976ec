"""What contenders are measured on: stored and test images, with the answers of exact search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.testset import read_test_set
from knnvote.classify.search.blocks import in_blocks
from knnvote.classify.search.scan import exact
from knnvote.classify.vote import Rule, vote
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.indexer.build import IndexOptions, index_files
from knnvote.indexer.metric import L2

NO_LABEL = -1


@dataclass(frozen=True)
class Problem:
    """Stored and test images.

    Attributes:
        x: (n, d) stored images.
        codes: (n,) int32 class of each, as its place in class order.
        xq: (nq, d) test images in the type of `x`, or in float64 for floats.
        truth: (nq,) int32 true class of each; -1 without a label.
        shape: of one image.
    """

    x: NDArray[Any]
    codes: NDArray[np.int32]
    xq: NDArray[Any]
    truth: NDArray[np.int32]
    shape: tuple[int, ...]

    def save(self, folder: Path) -> None:
        """Hand the arrays over to other processes."""
        for name in ("x", "codes", "xq"):
            np.save(folder / f"{name}.npy", getattr(self, name))


@dataclass(frozen=True)
class Neighbors:
    """What a search answers: codes (nq,) int32 classes by vote, and I (nq, k) int64 rows of the neighbours."""

    codes: NDArray[np.int32]
    I: NDArray[np.int64]


def read_problem(train: str, test: str, folder: Path) -> Problem:
    """Read labelled images to store and test images, labelled or not, each by path.

    Raises:
        KnnvoteError: a file does not fit.
    """
    index_files(find_inputs([train]), folder / "train.knn", options=IndexOptions(kind="exact"))
    classifier = Classifier.open(folder / "train.knn", Rule(k=1))
    index = classifier.index
    tests = read_test_set(find_inputs([test]), classifier, ImageOptions(), None)
    classes = {label: code for code, label in enumerate(index.classes.to_pylist())}
    labels = [None] * len(tests.xq) if tests.truth is None else tests.truth
    truth = [NO_LABEL if label is None else classes.get(label, len(classes)) for label in labels]
    return Problem(np.array(index.vectors), index.class_codes, tests.xq, np.array(truth, dtype=np.int32), index.shape)


def exact_neighbors(problem: Problem, k: int) -> Neighbors:
    """What brute force answers to every test image."""
    D, I = in_blocks(lambda xq: exact(xq, problem.x, k, L2()), problem.xq)
    codes, _ = vote(problem.codes[I], L2().final(D), Rule(k=k))
    return Neighbors(codes, I)
