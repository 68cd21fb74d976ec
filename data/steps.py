"""Steps between an image and its vector: each is a name, perhaps with settings, which an index holds as text."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from .errors import KnnvoteError
from .layout import Shape
from .vectors import Numbers


class Step(ABC):
    """What makes vectors of images, the stored ones and the queries alike; `str` gives its text.

    Steps are frozen, and equal where their texts are.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, settings: str) -> Self:
        """The step with the settings that stand in brackets after its name; without brackets they are empty."""

    @abstractmethod
    def d(self, shape: Shape) -> int:
        """Dimensions of the vectors of images of a shape."""

    @abstractmethod
    def __call__(self, pixels: Numbers, shape: Shape) -> Numbers:
        """Vectors of images.

        Args:
            pixels: (n, *) of images, flat or of their shape; a row that is no image is zero.
            shape: of one image.

        Returns:
            (n, d) numbers.
        """

    def picture(self, vector: Numbers, shape: Shape) -> Numbers | None:  # noqa: ARG002 - most vectors are no picture
        """The image (height, width) of a shape that a vector (d,) shows; None if it shows none."""
        return None


@dataclass(frozen=True)
class Pixels(Step):
    """The pixels themselves, row by row."""

    name: ClassVar[str] = "pixels"

    def __str__(self) -> str:
        """Its name alone."""
        return self.name

    @classmethod
    def read(cls, settings: str) -> Self:  # noqa: ARG003 - it has none
        """The step."""
        return cls()

    def d(self, shape: Shape) -> int:
        """As many as pixels; none where the shape is not known."""
        return math.prod(shape) if shape else 0

    def __call__(self, pixels: Numbers, shape: Shape) -> Numbers:
        """(n, d) in the type of the pixels, a view where they are contiguous."""
        return pixels.reshape(len(pixels), self.d(shape))

    def picture(self, vector: Numbers, shape: Shape) -> Numbers | None:
        """The vector itself, if images have height and width alone."""
        return vector.reshape(shape) if len(shape) == 2 else None


_STEPS: dict[str, type[Step]] = {step.name: step for step in (Pixels,)}


def parse_step(text: str) -> Step:
    """The step that is stored as a text, such as ``pixels``.

    Raises:
        KnnvoteError: there is no such step.
    """
    name, _, settings = text.removesuffix("]").partition("[")
    step = _STEPS[name].read(settings) if name in _STEPS else None
    if step is None or str(step) != text:
        raise KnnvoteError(f"{text!r} is no step between image and vector: expected one of {', '.join(_STEPS)}")
    return step
