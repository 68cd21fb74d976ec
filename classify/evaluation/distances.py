"""How far is too far: what share of known images and of unknown ones each limit of the distance refuses.

Known are stored images, each left out, or test images of the stored classes; unknown such as are of none of them. The
limits are those that `distance_limit` finds for several shares: quantiles of the known images' distances to their
nearest neighbours.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.search.distance_limit import (
    FALSE_ALARMS,
    MANY_COPIES,
    MAX_IMAGES,
    check_share,
    conformal_quantile,
    nearest_distances,
    shown_limit,
)
from knnvote.classify.search.kinds import SEARCHERS
from knnvote.classify.search.left_out import check_left_out
from knnvote.classify.search.search import find
from knnvote.classify.vote import Rule
from knnvote.data.errors import OptionError, check_instance, param, plain
from knnvote.data.inputs import Inputs, find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.progress import stage
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.records.distance import least_images
from knnvote.indexer.rungs import Interval
from knnvote.indexer.threads import limit_threads

from .testset import TestSet, none_is_new, read_test_set

_SHARES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # of known images


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What is refused where the nearest neighbour is farther than a limit, as ``max_distance`` has it.

    Attributes:
        limit: of the distance.
        known: the share of known images.
        unknown: of unknown ones; None where there are none.
    """

    limit: float
    known: Interval
    unknown: Interval | None


@dataclass(frozen=True, kw_only=True)
class DistanceChoice:
    """What `choose_distance` found.

    Attributes:
        false_alarms: the share of known images that the chosen limit is to refuse.
        known: images of the stored classes.
        unknown: images of none of them.
        left_out: whether the known are stored images, each left out, and no test images.
        with_copies: how many of them have an exact copy stored, which makes limits too narrow; 0 for test images.
        unlabelled: test images without a label, of which nothing is known: they are left aside.
        bad_images: rows of tests and of unknown ones that are no images, by reason.
        stored: likewise, images that equal a stored one: these find it, at whatever limit, and are left aside.
        chosen: the limit and what it refuses.
        limits: what several refuse, the least first.
    """

    false_alarms: float
    known: int
    unknown: int
    left_out: bool
    with_copies: int
    unlabelled: int
    bad_images: dict[str, int]
    chosen: Refused
    limits: list[Refused]
    stored: int = 0

    def __repr__(self) -> str:
        """What was chosen."""
        refuses = f"{self.chosen.known.value:.1%} of {self.known:,} known images"
        if self.chosen.unknown is not None:
            refuses += f" and {self.chosen.unknown.value:.1%} of {self.unknown:,} unknown"
        return f"<DistanceChoice {self.chosen.limit:g} for false alarms {self.false_alarms:g}: refuses {refuses}>"

    @property
    def has_many_copies(self) -> bool:
        """Whether so many have a copy that limits are narrower than they say by much."""
        return self.with_copies >= MANY_COPIES * self.known

    def to_json(self) -> dict[str, Any]:
        """As one object."""
        return asdict(self)


def choose_distance(
    index: Index,
    rule: Rule | None = None,
    false_alarms: float = FALSE_ALARMS,
    *,
    tests: Inputs | None = None,
    unknown: Inputs | None = None,
    images: ImageOptions | None = None,
    label_column: str | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> DistanceChoice:
    """The ``max_distance`` that a share of known images exceed, and what this and others refuse.

    Args:
        index: an opened index of any kind.
        rule: of the vote: its k may shape what an approximate index finds; by default that of the index.
        false_alarms: the share, from 0.0001, below 1.
        tests: labelled images in files of any kind: those with a label that a stored image has are known, the others
            unknown, but for those that equal a stored image; by default stored images are known, each left out.
        unknown: images in files of any kind that are of none of the classes.
        images: overrides of how files are recognised.
        label_column: of the labels of tests; by default as the index was built.
        threads: of the search.
        progress: called with the number of stored images after each block.

    Raises:
        OptionError: the share is out of range, or too small for so few known images.
        KnnvoteError: a file does not fit the index, or each of its images equals a stored one.

    Example:
        >>> from knnvote import choose_distance, open_index
        >>> found = choose_distance(open_index("digits.knn"), false_alarms=0.05, tests="digits/test.parquet")
        >>> found.chosen.limit, round(found.chosen.known.value, 3), found.unknown
        (24.2488, 0.047, 0)
    """
    check_index(index)
    check_share(false_alarms)
    images = images or ImageOptions()
    check_instance("images", images, ImageOptions)
    rule = (rule or Rule.of(index)).accepting(None)
    with limit_threads(threads):
        found = _left_out(index, rule, progress) if tests is None else _tests(index, rule, tests, images, label_column)
        if unknown is not None:
            found = _with_unknown(found, index, *_distances(index, rule, unknown, images, has_labels=False))
    return _choose(found, false_alarms)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Distances (m,) of known and unknown images to their nearest neighbours; the rest as `DistanceChoice` has it."""

    known: NDArray[np.float64]
    unknown: NDArray[np.float64]
    left_out: bool
    with_copies: int = 0
    unlabelled: int = 0
    bad_images: dict[str, int] = field(default_factory=dict)
    stored: int = 0


def _choose(found: _Found, false_alarms: float) -> DistanceChoice:
    """What limits refuse of images whose distances to their nearest neighbours are these."""
    known, unknown = found.known, found.unknown
    if len(known) < least_images(false_alarms):
        but = f", without {found.stored:,} that are stored" if found.stored else ""
        raise OptionError(
            f"{param('false_alarms')} {false_alarms} needs {least_images(false_alarms):,} known images, and these are "
            f"{len(known):,}{but}: give more, or allow more false alarms"
        )
    limits = {
        share: shown_limit(conformal_quantile(known, share))
        for share in sorted({*_SHARES, false_alarms})
        if len(known) >= least_images(share)
    }
    steps = {limit: _refused(limit, known, unknown) for limit in sorted(limits.values())}
    return DistanceChoice(
        false_alarms=plain(false_alarms),
        known=len(known),
        unknown=len(unknown),
        chosen=steps[limits[false_alarms]],
        limits=[*steps.values()],
        left_out=found.left_out,
        with_copies=found.with_copies,
        unlabelled=found.unlabelled,
        bad_images=found.bad_images,
        stored=found.stored,
    )


def _refused(limit: float, known: NDArray[np.float64], unknown: NDArray[np.float64]) -> Refused:
    shares = [share_interval(int((limit < D).sum()), len(D)) if len(D) else None for D in (known, unknown)]
    if shares[0] is None:
        raise ValueError(limit)
    return Refused(limit=limit, known=shares[0], unknown=shares[1])


def _left_out(index: Index, rule: Rule, progress: Callable[[int], None]) -> _Found:
    check_left_out(index, "k", None, 1)
    found = nearest_distances(index, rule, most=MAX_IMAGES, progress=progress)
    return _Found(known=found.distances, unknown=np.empty(0), left_out=True, with_copies=found.with_copies)


def _tests(index: Index, rule: Rule, tests: Inputs, images: ImageOptions, label_column: str | None) -> _Found:
    D, read = _distances(index, rule, tests, images, label_column=label_column)
    truth, labels = read.truth, set(index.classes.to_pylist())
    is_labelled = np.array([label is not None for label in truth])
    if not is_labelled.any():
        raise OptionError(f"no test image has a label: name their column with {param('label_column')}")
    is_stored = METRICS[index.metric].are_equal(D)
    if not (is_labelled & ~is_stored).any():
        raise none_is_new(index, int(is_labelled.sum()))
    is_known = np.array([label in labels for label in truth]) | index.is_regression
    return _Found(
        known=D[is_labelled & is_known & ~is_stored],
        unknown=D[is_labelled & ~is_known & ~is_stored],
        left_out=False,
        unlabelled=int((~is_labelled).sum()),
        bad_images=read.bad,
        stored=int((is_labelled & is_stored).sum()),
    )


def _with_unknown(found: _Found, index: Index, D: NDArray[np.float64], read: TestSet) -> _Found:
    """The same with images of none of the classes, at distances D."""
    is_stored = METRICS[index.metric].are_equal(D)
    if is_stored.all():
        raise OptionError(
            f"each of the {len(D):,} images of {param('unknown')} equals one that {index.path} stores, and so is "
            f"known: give others, or leave out {param('unknown')}"
        )
    return replace(
        found,
        unknown=np.append(found.unknown, D[~is_stored]),
        bad_images=dict(Counter(found.bad_images) + Counter(read.bad)),
        stored=found.stored + int(is_stored.sum()),
    )


def _distances(
    index: Index,
    rule: Rule,
    inputs: Inputs,
    images: ImageOptions,
    *,
    label_column: str | None = None,
    has_labels: bool = True,
) -> tuple[NDArray[np.float64], TestSet]:
    """How far images of files are from their nearest neighbours, as a job finds it, and these images."""
    classifier = Classifier(index, rule)
    found = read_test_set(find_inputs(inputs), classifier, images, label_column, has_labels=has_labels)
    with stage("searching"):
        return find(index, found.xq, rule, SEARCHERS[index.kind].far_by).D[:, 0], found
