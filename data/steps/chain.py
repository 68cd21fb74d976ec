"""Steps one after the other, as an index holds them: text to object and back, and the one place that applies them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.layout import Shape
from knnvote.data.vectors import Numbers, Reasons, zero_rows

from .blur import Blur
from .centre import Centre
from .centred import Centred
from .deskew import Deskew
from .gradients import Gradients
from .names import PIXELS, STEPS
from .step import FittedStep, ImagesError, Step
from .unit import Unit
from .whitened import Whitened

_STEPS: dict[str, type[Step]] = {step.name: step for step in (Centre, Deskew, Blur, Gradients, Centred, Whitened, Unit)}


@dataclass(frozen=True)
class Steps:
    """What makes vectors of images, the stored ones and the queries alike; `str` gives its text.

    Attributes:
        each: in the order in which they are done; none for the pixels themselves.
    """

    each: tuple[Step, ...] = ()

    def __str__(self) -> str:
        """Their texts."""
        return " ".join(map(str, self.each)) or PIXELS

    def __bool__(self) -> bool:
        """Whether there are any: else vectors are the images themselves."""
        return bool(self.each)

    def check_classes(self, *, is_regression: bool) -> None:
        """Refuse labels that are numbers to be averaged where a step needs classes.

        Raises:
            OptionError: naming the step.
        """
        for step in self.each:
            step.check_classes(is_regression=is_regression)

    def output(self, shape: Shape) -> Shape:
        """Shape of what they make of an image of a shape.

        Raises:
            ImagesError: they make nothing of such, or one nothing of what another makes.
        """
        negative = None
        for step in self.each:
            if step.weighs and negative is not None:
                raise ImagesError(
                    f"{step} takes 0 for the background, and {negative} before it makes values below 0",
                    f"put {step} before {negative}",
                )
            shape = step.output(shape)
            negative = step if step.makes_negative else negative
        return shape

    def least_images(self, shape: Shape) -> int:
        """Without how many stored images of a shape they cannot be fitted."""
        least = 1
        for step in self.each:
            least, shape = max(least, step.least_images(shape)), step.output(shape)
        return least

    def d(self, shape: Shape) -> int:
        """Dimensions of the vectors of images of a shape; 0 where that is not known."""
        return math.prod(self.output(shape)) if shape else 0

    def __call__(self, images: Numbers, shape: Shape) -> tuple[Numbers, Reasons]:
        """Vectors of images.

        Args:
            images: (n, pixels) numbers; a row that is no image is zero.
            shape: of one image.

        Returns:
            (n, d) vectors, and the reason for each row that has none, by its number.
        """
        if self and not len(images):
            return np.zeros((0, self.d(shape)), np.float32), {}
        vectors, bad = images, Reasons()
        for step in self.each:
            after = step.output(shape)  # which may refuse it
            bad = step.unusable_rows(vectors, shape) | bad
            with np.errstate(over="ignore"):
                vectors = step(vectors, shape)
            if vectors.dtype.kind == "f":
                lost = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
                beyond = dict.fromkeys(lost, f"a value beyond what {vectors.dtype} holds, after the step {step}")
                vectors, bad = zero_rows(vectors, beyond), beyond | bad
            shape = after
        return vectors, bad

    def of_blocks(self, blocks: Callable[[], Iterable[Numbers]], shape: Shape) -> Iterator[Numbers]:
        """Vectors of images block by block."""
        return (self(block, shape)[0] for block in blocks())

    @property
    def before_fitting(self) -> "Steps":
        """Those before the first that is yet to be fitted; all where none is."""
        places = (place for place, step in enumerate(self.each) if isinstance(step, FittedStep) and step.state is None)
        return Steps(self.each[: next(places, len(self.each))])

    def fitted(
        self, blocks: Callable[[], Iterable[Numbers]], shape: Shape, classes: NDArray[np.integer] | None
    ) -> "Steps":
        """The same, those fitted that are not yet.

        Args:
            blocks: gives the stored images (n, pixels), however often it is called, in blocks that depend on nothing
                else.
            shape: of one image.
            classes: (n,) codes of their labels; None where these are numbers to be averaged.

        Raises:
            KnnvoteError: a step cannot be fitted to them.
        """
        found = self
        while (before := found.before_fitting) != found:
            step, of_step = found.each[len(before.each)], before.output(shape)
            if isinstance(step, FittedStep):
                step = replace(step, state=step.fit(partial(before.of_blocks, blocks, shape), of_step, classes))
            found = Steps((*before.each, step, *found.each[len(before.each) + 1 :]))
        return found

    @property
    def state(self) -> NDArray[np.float64]:
        """(m,) what they were fitted to, one after the other; none where no step is fitted."""
        return np.concatenate([np.zeros(0), *(step.fitted for step in self.each if isinstance(step, FittedStep))])

    def with_state(self, state: NDArray[np.float64], shape: Shape) -> "Steps":
        """The same, fitted as those were that have this state (m,) for images of a shape.

        Raises:
            ValueError: it is no state of theirs.
        """
        each: list[Step] = []
        start = 0
        for step in self.each:
            if isinstance(step, FittedStep):
                end = start + step.size(shape)
                each.append(replace(step, state=state[start:end]))
                start = end
            else:
                each.append(step)
            shape = step.output(shape)
        if state.shape != (start,) or state.dtype != np.float64 or not np.isfinite(state).all():
            raise ValueError(f"steps {self} have no state of {state.size} numbers of type {state.dtype}")
        return Steps(tuple(each))

    def depends_on_scale(self, in_space: bool) -> bool:
        """Whether multiples of an image get unlike vectors.

        Args:
            in_space: whether multiples of a vector are unlike in the metric's space.
        """
        told = (step.depends_on_scale for step in self.each)
        return next((depends for depends in told if depends is not None), in_space)


def parse_steps(text: str) -> Steps:
    """The steps that are stored as a text, such as ``centred unit``; ``pixels`` for none.

    Raises:
        KnnvoteError: there are no such.
    """
    return Steps() if text == PIXELS else Steps(tuple(map(_parse, text.split(" "))))


def steps_of(texts: Sequence[str]) -> Steps:
    """The steps that a user names, in this order; none where nothing but ``pixels`` is named.

    Raises:
        OptionError: there are no such, or ``pixels`` stands beside others.
    """
    texts = [texts] if isinstance(texts, str) else [*texts]
    if PIXELS in texts and len(texts) > 1:
        raise OptionError(f"{param('steps')} is {PIXELS} for no step at all: leave it out beside others")
    try:
        return parse_steps(PIXELS) if texts in ([], [PIXELS]) else Steps(tuple(map(_parse, texts)))
    except KnnvoteError as error:
        raise OptionError(f"{param('steps')}: {error.marked}") from error


def _parse(text: str) -> Step:
    name, _, settings = text.removesuffix("]").partition("[")
    try:
        step = _STEPS[name].read(settings)
        if str(step) == text:
            return step
    except (KeyError, ValueError):
        pass
    raise KnnvoteError(f"{text!r} is no step between image and vector: give some of {', '.join(STEPS)}")
