"""Which steps between image and vector an index is best built with, as its own images tell, each left out in turn.

For each chain of steps vectors are made of the stored images, as a build makes them, and the neighbours of some of
these among the others are found by exact search. Each chain is judged by its own best k and weights.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.evaluation.mcnemar import Difference, mcnemar
from knnvote.classify.evaluation.near_copies import NearCopies, near_copies_stored
from knnvote.classify.interval import share_interval
from knnvote.classify.search.left_out import check_left_out, count_groups
from knnvote.classify.search.sampling import sample_rows
from knnvote.classify.vote import Rule
from knnvote.data.errors import check, is_whole, spelled
from knnvote.data.layout import Shape, noun
from knnvote.data.progress import stage
from knnvote.data.steps.chain import Steps
from knnvote.data.steps.names import PIXELS
from knnvote.data.steps.step import FitError
from knnvote.data.text import counted
from knnvote.indexer.build import IndexOptions, build_in_memory
from knnvote.indexer.building.stepped import NoVectorError, unusable_images
from knnvote.indexer.building.work import Work
from knnvote.indexer.growth.stored import training_set
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import ClassWeight, MetricName
from knnvote.indexer.rungs import Interval, class_weight_of_classes, class_weight_to_json
from knnvote.indexer.threads import limit_threads
from knnvote.indexer.training import TrainingSet, with_vectors

from .chains import read_chains, usual_chains
from .choose_k import notes_of_left_out
from .scores import MAX_K, Score, check_targets, loss, measure, measure_of

MAX_IMAGES = 60_000  # that answer
_ASKED = 10_000  # of these, left out: the interval of an accuracy of 0.99 is then 0.004 wide
_TIMED = 1000  # of these, for what the steps take
_LEAST_SECONDS = 0.005  # of processor time: below it the clock's own steps show


@dataclass(frozen=True, kw_only=True)
class StepScore(Score):
    """How one chain of steps does, with the k and weights that are best for it.

    Attributes:
        steps: as `TrainingOptions` takes them; ``("pixels",)`` for none.
        d: numbers that a vector has.
        accuracy_interval: of the accuracy; None for regression.
        with_copies: images with an exact copy among the others, as vectors.
        microseconds: that the steps took for an image, on one processor.
        difference: in accuracy from the best, by the images on which only one is right; None of the best itself, and
            for regression.
    """

    steps: tuple[str, ...]
    d: int
    accuracy_interval: Interval | None
    with_copies: int
    microseconds: float = field(compare=False)
    difference: Difference | None = None

    @property
    def count(self) -> int:
        """Of the steps."""
        return sum(step != PIXELS for step in self.steps)

    def to_json(self, measure: str) -> dict[str, Any]:
        """As one object, its value by the name of what is measured."""
        record = asdict(self)
        first = {"steps": record.pop("steps"), "d": record.pop("d")}
        return {**first, **{measure if name == "value" else name: value for name, value in record.items()}}


@dataclass(frozen=True, kw_only=True)
class StepChoice:
    """What `choose_steps` found.

    Attributes:
        images: that were left out, one at a time.
        among: images that answered, these among them: all that the index stores, or some drawn at random.
        stored: that the index stores.
        metric: of the distances, that of the index.
        measure: ``accuracy``, where more is better, or ``mean_squared_error``, where less is.
        results: of each chain, from the best down; of equal ones the shorter first, then as they were given.
        left_out: chains that make no vector of some image, or need more images, each with the reason; parameters are
            marked.
        class_weight: what the votes of classes were multiplied by, as `Rule` has it.
        groups: that were left out, each with its images; None where the index has none.
        near_copies: what near copies decide of the vote that the index was made for; None where too few images tell.
        notes: what is to be known of the figures, in words; parameters are marked.
        noun: what they are, image or vector.
    """

    images: int
    among: int
    stored: int
    metric: MetricName
    measure: str
    results: list[StepScore]
    left_out: dict[str, str]
    class_weight: ClassWeight = None
    groups: int | None = None
    near_copies: NearCopies | None = None
    notes: tuple[str, ...] = ()
    noun: str = "image"

    def __repr__(self) -> str:
        """The best of them."""
        best, measure = self.best, self.measure.replace("_", " ")
        told = f"{' '.join(best.steps)}, k {best.k}, {best.weights}: {measure} {best.value:.4g}"
        return f"<StepChoice {told}; {len(self.results):,} tried on {counted(self.images, self.noun)}>"

    @property
    def best(self) -> StepScore:
        """The chain of the best value; of equal ones the first."""
        return self.results[0]

    @property
    def cheaper(self) -> StepScore | None:
        """Of the chains of fewer steps that take less time, and that chance may part from the best: the shortest."""
        best = self.best
        alike = [one for one in self.results if one.difference is not None and not one.difference.is_more_than_chance]
        cheaper = [one for one in alike if one.count < best.count and one.microseconds < best.microseconds]
        return min(cheaper, key=lambda one: one.count, default=None)

    def to_json(self) -> dict[str, Any]:
        """The object of ``choose-step`` as JSON."""
        return {
            "images": self.images,
            "among": self.among,
            "stored": self.stored,
            "metric": self.metric,
            "groups": self.groups,
            "near_copies": None if self.near_copies is None else asdict(self.near_copies),
            **class_weight_to_json(self.class_weight),
            "results": [result.to_json(self.measure) for result in self.results],
            "best": self.best.to_json(self.measure),
            "left_out": {steps: spelled(why_not, str) for steps, why_not in self.left_out.items()},
        }


def choose_steps(
    index: Index,
    chains: Sequence[str] | None = None,
    *,
    max_k: int | None = None,
    sample: int | None = None,
    class_weight: Any = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> StepChoice:
    """Leave-one-out accuracy, for regression the mean squared error, of chains of steps between image and vector.

    Each chain is told with the k and the weights that do best after it, as `choose_k` finds them for an exact index
    that is built with these steps in the same metric. At most 10,000 images are left out.

    Args:
        index: an opened index of any kind, with steps of its own or without.
        chains: texts of steps in their order, such as ``centred unit``, or ``pixels`` for none; by default its own,
            none, each step alone and some together, of those that take its images and change neighbours.
        max_k: the most neighbours to try; by default 30, or all others of fewer images.
        sample: so many stored images, drawn at random, stand for all; by default `MAX_IMAGES` at most.
        class_weight: of the vote, as `Rule` has it; by default that of the index.
        threads: of the search.
        progress: called with the number of left-out images after each block.

    Raises:
        KnnvoteError: as `choose_k`, or each chain makes no vector of some image.
        OptionError: likewise, or there are no such steps, or they do not take such images.

    Example:
        >>> from knnvote import choose_steps, open_index
        >>> found = choose_steps(open_index("digits.knn"), ["pixels", "unit"], max_k=10)
        >>> found.best.steps, found.best.k, found.best.weights, round(found.best.value, 4)
        (('unit',), 3, 'softmax[0.05]', 0.9896)
    """
    check_index(index)
    check_left_out(index, "max_k", max_k, MAX_K)
    check("sample", sample, sample is None or (is_whole(sample) and sample > 1), "give a whole number of at least 2")
    check_targets(index)
    rule = Rule.of(index, class_weight=class_weight)
    tried = usual_chains(index) if chains is None else read_chains(index, chains)
    part = _draw(index, sample or MAX_IMAGES)
    with limit_threads(threads):
        return _compare(index, part, tried, rule, max_k=max_k, progress=progress)


def _draw(index: Index, size: int) -> TrainingSet:
    """So many of the stored images, all if there are no more, as those of an index that is yet to be built."""
    stored, rows = training_set(index), sample_rows(index.n, size)
    if len(rows) == index.n:
        return replace(stored, vectors=index.images, images=None, steps=Steps())
    provenance = stored.provenance.take(pa.array(rows))
    return replace(stored, vectors=index.images[rows], images=None, steps=Steps(), provenance=provenance)


def _with_vectors(part: TrainingSet, steps: Steps, metric: MetricName) -> TrainingSet:
    """The same images with the vectors that steps make of them, fitted to all of them.

    Raises:
        FitError: they cannot be fitted to them.
        NoVectorError: they make none of an image.
    """
    if steps:
        return with_vectors(part, steps, metric, None, Work())
    for row, reason in unusable_images(part.vectors, part.shape, steps, METRICS[metric]).items():
        raise NoVectorError(part.provenance.slice(row, 1), reason, steps)
    return part


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """How one chain does, whether each image is right (m,) with its best k and weights, and how many groups there are.

    Of regression no image is right or wrong.
    """

    steps: Steps
    score: StepScore
    loss: float
    right: NDArray[np.bool_] | None
    groups: int | None


def _compare(
    index: Index,
    part: TrainingSet,
    chains: Sequence[Steps],
    rule: Rule,
    *,
    max_k: int | None,
    progress: Callable[[int], None],
) -> StepChoice:
    """Try each chain on a part of the stored images.

    Raises:
        KnnvoteError: none makes a vector of every image.
    """
    found, left_out, refusal = [], {}, None
    with stage("comparing steps", len(chains), "chains") as advance:
        for steps in chains:
            try:
                stepped = _with_vectors(part, steps, index.metric)
            except (NoVectorError, FitError) as error:
                left_out[str(steps)] = error.why_not
                refusal = error
            else:
                found.append(_try(index, stepped, rule, max_k, progress))
            advance(1)
    if refusal is not None and not found:
        raise refusal
    near_copies = near_copies_stored(index, rule)
    found.sort(key=lambda tried: (tried.loss, len(tried.steps.each)))
    return StepChoice(
        images=min(len(part.vectors), _ASKED),
        among=len(part.vectors),
        stored=index.n,
        metric=index.metric,
        measure=measure_of(index),
        results=_differences(found),
        left_out=left_out,
        class_weight=rule.class_weight,
        groups=found[0].groups,
        near_copies=near_copies,
        notes=(*notes_of_left_out(index, near_copies), *_notes(found[0].steps)),
        noun=noun(index.shape),
    )


def _notes(best: Steps) -> Iterator[str]:
    for step in best.each:
        if step.needs_classes:
            yield (
                f"{step} was fitted to the images that are left out too, which favours it a little where neighbours "
                "are often wrong: have compare judge it by test images"
            )


def _try(index: Index, stepped: TrainingSet, rule: Rule, max_k: int | None, progress: Callable[[int], None]) -> _Tried:
    """Leave out images of an index with the vectors that steps made of them."""
    options = IndexOptions(metric=index.metric)
    built, _ = build_in_memory(stepped, index.path, options, None, start=time.perf_counter())
    k = check_left_out(built, "max_k", max_k, MAX_K)
    class_weight = class_weight_of_classes(rule.class_weight, frozenset(built.manifest.classes))
    asked = sample_rows(built.n, _ASKED)
    measured = measure(built, k, class_weight, rows=asked, keep_right=True, progress=progress)
    best = min(measured.scores, key=lambda score: loss(score, measure_of(built)))
    right = None
    if measured.right:
        right = measured.right[best.weights][:, best.k - 1]
    score = StepScore(
        **vars(best),
        steps=tuple(str(stepped.steps).split()),
        d=built.d,
        accuracy_interval=None if right is None else share_interval(int(right.sum()), len(right)),
        with_copies=measured.with_copies,
        microseconds=_time(stepped.steps, built.images[:_TIMED], built.shape),
    )
    return _Tried(
        steps=stepped.steps, score=score, loss=loss(best, measure_of(built)), right=right, groups=count_groups(built)
    )


def _time(steps: Steps, images: NDArray[np.generic], shape: Shape) -> float:
    """Microseconds of one processor that steps take for an image of some (n, pixels)."""
    calls, start = 0, time.process_time()
    while steps and (calls == 0 or time.process_time() - start < _LEAST_SECONDS):
        steps(images, shape)
        calls += 1
    return (time.process_time() - start) * 1e6 / (calls * len(images)) if calls else 0.0


def _differences(found: Sequence[_Tried]) -> list[StepScore]:
    """Each with its difference from the best, which is the first."""
    best, *others = found
    return [best.score, *(replace(other.score, difference=_difference(other, best)) for other in others)]


def _difference(one: _Tried, best: _Tried) -> Difference | None:
    if one.right is None or best.right is None:
        return None
    return mcnemar(" ".join(one.score.steps), " ".join(best.score.steps), one.right, best.right)
