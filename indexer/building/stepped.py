"""Vectors that steps make of stored images, which are read by then: the steps are fitted to all of them before."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, param
from knnvote.data.layout import Shape
from knnvote.data.progress import stage
from knnvote.data.reading import rows_within_budget
from knnvote.data.steps.chain import Steps
from knnvote.data.vectors import Numbers, Reasons
from knnvote.indexer.metric import Metric
from knnvote.indexer.threads import limit_threads

from .work import Work

_BLOCK = 4096  # images at a time, at most; what is fitted to them is added up block by block


class NoVectorError(KnnvoteError):
    """Steps make no vector of an image; `why_not` is the image and the reason, whatever the steps."""

    def __init__(self, provenance: pa.Table, reason: str, steps: Steps) -> None:
        """Name the first image of a table of provenance."""
        name = provenance["id"][0].as_py()
        self.why_not = f"image {name}: {reason}"
        super().__init__(
            f"image {name} cannot be stored after the steps {steps}: {reason}; leave it out, or build without "
            f"these {param('steps')}"
        )


def unusable_images(images: Numbers, shape: Shape, steps: Steps, metric: Metric) -> Reasons:
    """Rows of images (n, pixels) that cannot be stored, each with the reason, as far as steps tell that are fitted.

    Raises:
        ImagesError: the steps take no images of such a shape, or not what those before them make.
    """
    known = steps.before_fitting
    steps.output(shape)
    vectors, bad = known(images, shape)
    if known == steps:
        return metric.unusable_rows(vectors) | bad
    return steps.each[len(known.each)].unusable_rows(vectors, known.output(shape)) | bad


def make_vectors(
    images: NDArray[np.generic],
    shape: Shape,
    steps: Steps,
    *,
    classes: NDArray[np.integer] | None,
    metric: Metric,
    provenance: pa.Table,
    work: Work,
) -> tuple[NDArray[np.generic], Steps]:
    """Vectors (n, d) of images, and the steps that made them, fitted to these images if they were not before.

    Args:
        images: (n, pixels) to store, which may be mapped.
        shape: of one image.
        steps: one at least.
        classes: (n,) codes of their labels; None where these are numbers to be averaged.
        metric: in whose space vectors must have a place.
        provenance: (n rows) column id of each image.
        work: keeps vectors slice by slice, with those that a killed build of the same made.

    Raises:
        FitError: a step cannot be fitted to these images.
        NoVectorError: a step makes no vector of an image.
    """

    def state() -> dict[str, NDArray[np.float64]]:
        with limit_threads(1):  # by which sums of floats depend on how many there are
            return {"state": steps.fitted(lambda: _blocks(images), shape, classes).state}

    made = work.once("steps", state)
    steps = steps.with_state(made["state"], shape)
    first, _ = steps(images[:1], shape)
    vectors = work.growing(f"stepped.{first.dtype.name}", first.dtype, first.shape[1:])
    with stage("making vectors", len(images)) as advance:
        start = len(vectors)
        advance(start)
        for block in _blocks(images, start):
            stepped, bad = steps(block, shape)
            bad = metric.unusable_rows(stepped) | bad
            for row in sorted(bad)[:1]:
                raise NoVectorError(provenance.slice(start + row, 1), bad[row], steps)
            vectors.append(stepped)
            start += len(block)
            advance(len(block))
            work.keep_more()
    return vectors.array(), steps


def _blocks(images: NDArray[np.generic], start: int = 0) -> Iterator[NDArray[np.generic]]:
    """Images from one on, as many at a time as the size of one tells alone."""
    size = rows_within_budget(images.shape[1], _BLOCK)
    return (images[at : at + size] for at in range(start, len(images), size))
