"""How sure is sure enough: the least confidence at which so many of the accepted answers are right as is wanted.

Thresholds are tested from the surest down, each accepting a twentieth of the answers more: is the lower end of the
95% interval of the accepted answers' accuracy at the target? The last to pass before the second failure is chosen. As
the sequence is fixed by confidences alone, each test at level 0.025, a threshold whose accuracy is below the target is
chosen with probability 0.05 at most, however many are tried (fixed-sequence testing, as of Angelopoulos, Bates, Candes,
Jordan and Lei 2021, Learn then Test). What accepts too few answers to show the target even if all were right is passed
over. Answers are taken as independent, and new images as drawn like these. Stored images are asked by the most careful
search of an index: of an approximate one the answers of a job agree with these as often as was measured.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.search.left_out import count_groups, leave_out, most_left, told_left, told_of_classes
from knnvote.classify.search.sampling import sample_rows
from knnvote.classify.vote import Rule, vote
from knnvote.data.errors import OptionError, check, check_instance, is_number, param
from knnvote.data.inputs import Inputs, find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.progress import stage
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.rungs import Acceptance, ClassAcceptance
from knnvote.indexer.threads import limit_threads

from .coverage import Coverage, as_typed, cover
from .testset import none_is_new, read_test_set

MAX_IMAGES = 10_000  # left out: the interval of an accuracy of 0.99 is then 0.004 wide
_MANY_COPIES = 0.05  # of the images
_STEP = 0.05  # of the answers
_FAILURES = 2
_BLOCK = 2048


@dataclass(frozen=True, kw_only=True)
class JudgedAnswers:
    """Answers whose truth is known.

    Attributes:
        confidence: (n,) float64.
        winner: (n,) int32, the class that won as its place in class order.
        right: (n,) whether it is the true one.
        truth: (n,) a number from 0 for each true label.
        with_copies: stored images among them that have an exact copy stored; 0 for test images.
        left_out: whether they are stored images, each left out.
        groups: as `Threshold` has it.
        of_one_group: likewise.
        bad_images: likewise.
        stored: likewise.
    """

    confidence: NDArray[np.float64]
    winner: NDArray[np.int32]
    right: NDArray[np.bool_]
    truth: NDArray[np.int32]
    with_copies: int
    left_out: bool
    groups: int | None = None
    of_one_group: str | None = None
    bad_images: dict[str, int] = field(default_factory=dict)
    stored: int = 0


@dataclass(frozen=True, kw_only=True)
class ClassCoverage:
    """What is accepted of the answers that name a class.

    Attributes:
        label: the class.
        answers: that name it, accepted or not.
        accepted: of these; None where no answer names it or none is accepted.
        own_threshold: the least that is shown to reach the target for the class alone; None where none is, or no
            target was given.
        own: what that accepts of the answers that name it; None likewise.
    """

    label: Any
    answers: int
    accepted: Coverage | None
    own_threshold: float | None
    own: Coverage | None = None


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What `choose_threshold` found.

    Attributes:
        target_accuracy: that was asked for; None where it was not.
        images: whose answers were judged.
        left_out: whether they are stored images, each left out, and no test images.
        with_copies: how many have an exact copy stored, which flatters; 0 for test images.
        chosen: the threshold and what it gives; None where none is shown to reach the target, or no target was given.
        steps: what every threshold gives, the lowest first.
        classes: of the chosen threshold, or where there is none of the least, in class order.
        groups: that were left out, each with its images; None for test images, and where the index has none.
        of_one_group: what is to be told of classes whose images are all of one group; None of none.
        bad_images: test rows that are no images, by reason.
        stored: labelled test images that equal a stored one: these answer for themselves, and were not judged.
    """

    target_accuracy: float | None
    images: int
    left_out: bool
    with_copies: int
    chosen: Coverage | None
    steps: list[Coverage]
    classes: list[ClassCoverage]
    groups: int | None = None
    of_one_group: str | None = None
    bad_images: dict[str, int] = field(default_factory=dict)
    stored: int = 0

    def __repr__(self) -> str:
        """What was chosen, or that nothing was."""
        target = "no target" if self.target_accuracy is None else f"target accuracy {self.target_accuracy:g}"
        if self.chosen is None:
            return f"<Threshold: none for {target} of {self.images:,} images; {len(self.steps):,} steps>"
        accepts = f"accepts {self.chosen.coverage:.1%} of {self.images:,} images"
        return f"<Threshold {self.chosen.threshold:g} for {target}: {accepts}>"

    @property
    def within_reach(self) -> float:
        """The highest target, in thousandths, that a threshold is shown to reach."""
        targets = sorted({math.floor(step.accuracy.low * 1000) / 1000 for step in self.steps})
        return next((target for target in reversed(targets) if _last_to_pass(self.steps, target)), 0.0)

    @property
    def has_many_copies(self) -> bool:
        """Whether so many have a copy that the accuracy is flattered by much."""
        return self.with_copies >= _MANY_COPIES * self.images

    @property
    def best_within_reach(self) -> Coverage:
        """What reaches the highest target."""
        return _last_to_pass(self.steps, self.within_reach) or self.steps[-1]

    @property
    def acceptance(self) -> Acceptance | None:
        """What an index keeps of it; None without a target."""
        if self.target_accuracy is None:
            return None
        best = self.chosen or self.best_within_reach
        return Acceptance(
            target_accuracy=self.target_accuracy,
            min_confidence=None if self.chosen is None else self.chosen.threshold,
            coverage=best.coverage,
            accuracy=best.accuracy,
            images=self.images,
            balanced_accuracy=best.balanced_accuracy,
        )

    @property
    def acceptance_by_class(self) -> Acceptance | None:
        """The same with a least confidence for each class of which enough answers show one."""
        if self.acceptance is None or self.chosen is None:
            return self.acceptance
        return replace(self.acceptance, by_class=tuple(_accept_class(of_class) for of_class in self.classes))

    @property
    def why_none(self) -> str:
        """What to be told, and done, where no threshold is shown to reach the target."""
        within_reach, best = self.within_reach, self.best_within_reach
        less = f"{param('target_accuracy')} {within_reach:g} or less, or " if within_reach else ""
        return (
            f"{param('target_accuracy')} {self.target_accuracy:g} is not reached: of the {self.images:,} images the "
            f"{best.images:,} with confidence {best.threshold:g} or more are {best.accuracy.value:.4f} right, of "
            f"a 95% interval from {best.accuracy.low:.4f}; give {less}another {param('k')} (knnvote choose-k) or "
            "weights, or mend labels (knnvote suspects)"
        )

    def to_json(self) -> dict[str, Any]:
        """As one object."""
        return asdict(self)


def choose_threshold(
    index: Index,
    rule: Rule | None = None,
    target_accuracy: float | None = None,
    *,
    tests: Inputs | None = None,
    images: ImageOptions | None = None,
    label_column: str | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Threshold:
    """The least ``min_confidence`` at which so many of the accepted answers are right, and what others give.

    More than `MAX_IMAGES` stored images are represented by so many, drawn at random; near copies among them flatter.

    Args:
        index: an opened index of any kind.
        rule: of the vote; by default that of the index.
        target_accuracy: that the lower end of the accuracy's 95% interval must reach, above 0 and below 1; None to see
            what each threshold gives.
        tests: labelled images in files, of which those that are stored are not judged; by default stored ones left out.
        images: overrides of how these are recognised.
        label_column: of their labels; by default as the index was built.
        threads: of the search.
        progress: called with the number of stored images after each block.

    Raises:
        OptionError: the target is out of range, or the index one for regression.
        KnnvoteError: it holds one image, or no test image has a label, or each equals a stored one.

    Example:
        >>> from knnvote import choose_threshold, open_index
        >>> found = choose_threshold(open_index("digits.knn"), target_accuracy=0.99)
        >>> found.chosen.threshold, round(found.chosen.coverage, 3), round(found.chosen.accuracy.low, 4)
        (1.0, 0.918, 0.9929)
    """
    check_index(index)
    check_target_accuracy(target_accuracy)
    if index.is_regression:
        raise OptionError(
            f"{index.path} was built for regression, whose answers have no confidence: leave out "
            f"{param('target_accuracy')}"
        )
    classifier = Classifier(index, rule or Rule.of(index), promise="confidence")
    with limit_threads(threads):
        if tests is None:
            judged = _judge_left_out(classifier, progress)
        else:
            judged = _judge_tests(classifier, tests, images or ImageOptions(), label_column)
    return choose(judged, index.classes.to_pylist(), target_accuracy)


def check_target_accuracy(target_accuracy: float | None) -> None:
    """Refuse what no share of answers can be shown to be.

    Raises:
        OptionError: naming it.
    """
    is_share = target_accuracy is None or (is_number(target_accuracy) and 0 < target_accuracy < 1)
    check("target_accuracy", target_accuracy, is_share, "give a share above 0 and below 1")


def choose(judged: JudgedAnswers, classes: Sequence[Any], target_accuracy: float | None) -> Threshold:
    """The threshold for answers whose truth is known.

    Args:
        judged: n answers, one at least.
        classes: the labels, in class order.
        target_accuracy: as of `choose_threshold`.
    """
    steps = cover(judged.confidence, judged.right, as_typed(judged.confidence), judged.truth)
    chosen = None if target_accuracy is None else _last_to_pass(steps, target_accuracy)
    accepted = (chosen or steps[0]).threshold
    return Threshold(
        target_accuracy=target_accuracy,
        images=len(judged.right),
        left_out=judged.left_out,
        with_copies=judged.with_copies,
        chosen=chosen,
        steps=steps,
        classes=[_of_class(judged, code, label, accepted, target_accuracy) for code, label in enumerate(classes)],
        groups=judged.groups,
        of_one_group=judged.of_one_group,
        bad_images=judged.bad_images,
        stored=judged.stored,
    )


def _last_to_pass(steps: Sequence[Coverage], target_accuracy: float) -> Coverage | None:
    last, failures = None, 0
    for step in _in_turn(steps):
        if share_interval(step.images, step.images).low < target_accuracy:
            continue
        if step.accuracy.low >= target_accuracy:
            last = step
        elif (failures := failures + 1) == _FAILURES:
            break
    return last


def _in_turn(steps: Sequence[Coverage]) -> Iterator[Coverage]:
    """The thresholds that are tested, the surest first, down to the one that accepts all."""
    before = 0.0
    for step in reversed(steps):
        if round(step.coverage - before, 9) >= _STEP or step is steps[0]:
            before = step.coverage
            yield step


def _of_class(
    judged: JudgedAnswers, code: int, label: Any, threshold: float, target_accuracy: float | None
) -> ClassCoverage:
    named = judged.winner == code
    confidence, right = judged.confidence[named], judged.right[named]
    found = cover(confidence, right, np.array([threshold])) if named.any() else []
    steps = cover(confidence, right, as_typed(confidence)) if named.any() else []
    own = None if target_accuracy is None else _last_to_pass(steps, target_accuracy)
    return ClassCoverage(
        label=label,
        answers=int(named.sum()),
        accepted=found[0] if found else None,
        own_threshold=own.threshold if own else None,
        own=own,
    )


def _accept_class(of_class: ClassCoverage) -> ClassAcceptance:
    own = of_class.own
    return ClassAcceptance(
        label=of_class.label,
        answers=of_class.answers,
        min_confidence=None if own is None else own.threshold,
        coverage=None if own is None else own.coverage,
        accuracy=None if own is None else own.accuracy,
    )


def _judge_left_out(classifier: Classifier, progress: Callable[[int], None]) -> JudgedAnswers:
    index, rule = classifier.index, classifier.rule
    if rule.k > most_left(index):
        raise OptionError(
            f"{param('k')} is {rule.k:,}, and {told_left(index)}: give test images with labels, or a smaller "
            f"{param('k')}"
        )
    winners, confidences, truths, with_copies = [], [], [], 0
    rows = sample_rows(index.n, MAX_IMAGES)
    for part in leave_out(index, rule.k, rows=rows, block=_BLOCK, progress=progress):
        winner, confidence = vote(index.class_codes[part.I], part.D, rule, rule.factors(index, part.I))
        winners.append(winner)
        confidences.append(confidence)
        truths.append(index.class_codes[part.rows])
        with_copies += part.count_copies(index)
    winner, truth = np.concatenate(winners), np.concatenate(truths)
    return JudgedAnswers(
        confidence=np.concatenate(confidences),
        winner=winner,
        right=winner == truth,
        truth=truth,
        with_copies=with_copies,
        left_out=True,
        groups=count_groups(index),
        of_one_group=told_of_classes(index),
    )


def _judge_tests(
    classifier: Classifier, tests: Inputs, images: ImageOptions, label_column: str | None
) -> JudgedAnswers:
    check_instance("images", images, ImageOptions)
    found = read_test_set(find_inputs(tests), classifier, images, label_column)
    labelled = [place for place, label in enumerate(found.truth) if label is not None]
    known, truths = classifier.index.classes.to_pylist(), [found.truth[place] for place in labelled]
    places = {label: code for code, label in enumerate(dict.fromkeys([*known, *truths]))}  # those that it lacks last
    if not labelled:
        raise OptionError(f"no test image has a label: name their column with {param('label_column')}")
    with stage("searching"):
        answer = classifier.answer(found.xq[labelled], {})
    is_new = ~answer.is_stored
    if not is_new.any():
        raise none_is_new(classifier.index, len(labelled))
    winner = np.array([places[label] for label in answer.best.to_pylist()], np.int32)[is_new]
    truth = np.array([places[label] for label in truths], np.int32)[is_new]
    return JudgedAnswers(
        confidence=answer.confidence[is_new],
        winner=winner,
        right=winner == truth,
        truth=truth,
        with_copies=0,
        left_out=False,
        bad_images=found.bad,
        stored=int(np.count_nonzero(~is_new)),
    )
