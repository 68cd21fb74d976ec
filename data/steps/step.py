"""What every step between an image and its vector is: a name, perhaps with settings, which an index holds as text."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.layout import Shape
from knnvote.data.vectors import Numbers, Reasons


class FitError(KnnvoteError):
    """A step cannot be fitted to these images; `why_not` is the reason alone, without what to do."""

    def __init__(self, why_not: str, do: str) -> None:
        """Keep the reason, marked."""
        self.why_not = why_not
        super().__init__(f"{param('steps')}: {why_not}: {do}")


class ImagesError(OptionError):
    """A step takes no images of such a shape, or such as come to it; `why_not` is the reason alone."""

    def __init__(self, why_not: str, do: str) -> None:
        """Keep the reason, marked."""
        self.why_not = why_not
        super().__init__(f"{param('steps')}: {why_not}: {do}")


class Step(ABC):
    """What makes numbers of the numbers of images, the stored ones and the queries alike; `str` gives its text.

    Steps are frozen, and equal where their texts are. What one gives depends on the values of an image alone, and on
    whether their type is unsigned, which it is of queries where it is of stored images: not on how wide it is, nor on
    the images beside it.

    Attributes:
        name: as it is typed and stored.
        depends_on_scale: whether multiples of an image get unlike vectors: None where what follows tells.
        needs_classes: whether it is fitted to labels too, which must be classes.
        weighs: whether pixels count by their values, 0 being the background.
        makes_negative: whether what it makes has values below 0 where its images have none.
    """

    name: ClassVar[str]
    depends_on_scale: ClassVar[bool | None] = None
    needs_classes: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    makes_negative: ClassVar[bool] = False

    def __str__(self) -> str:
        """Its name alone, where it has no settings."""
        return self.name

    @classmethod
    def read(cls, settings: str) -> Self:  # noqa: ARG003 - most have none
        """The step with the settings that stand in brackets after its name; without brackets they are empty.

        Raises:
            ValueError: there is no such.
        """
        return cls()

    def check_classes(self, *, is_regression: bool) -> None:
        """Refuse labels that are numbers to be averaged where it needs classes.

        Raises:
            OptionError: naming the step.
        """
        if self.needs_classes and is_regression:
            raise OptionError(f"{param('steps')}: {self} needs classes, and these are numbers: leave it out")

    def output(self, shape: Shape) -> Shape:
        """Shape of what it makes of an image of a shape.

        Raises:
            OptionError: it makes nothing of such.
        """
        return shape

    def least_images(self, shape: Shape) -> int:  # noqa: ARG002 - of most one is enough
        """Without how many stored images of a shape it cannot be fitted."""
        return 1

    def unusable_rows(self, images: Numbers, shape: Shape) -> Reasons:  # noqa: ARG002 - most take all
        """Rows of images (n, pixels) of a shape of which it makes nothing, each with the reason."""
        return {}

    @abstractmethod
    def __call__(self, images: Numbers, shape: Shape) -> Numbers:
        """What it makes of images.

        Args:
            images: (n, pixels) of any number type; a row that is no image is zero.
            shape: of one image.

        Returns:
            (n, numbers of its output) of a type that an index stores; of unusable rows anything.
        """


@dataclass(frozen=True)
class FittedStep(Step):
    """One that depends on the stored images too, from which it is fitted once.

    Attributes:
        state: (m,) what it was fitted to; None before.
    """

    state: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    @property
    def fitted(self) -> NDArray[np.float64]:
        """(m,) what it was fitted to."""
        if self.state is None:
            raise TypeError(f"the step {self} is not fitted")
        return self.state

    @abstractmethod
    def size(self, shape: Shape) -> int:
        """Numbers of its state for images of a shape."""

    @abstractmethod
    def fit(
        self, blocks: Callable[[], Iterable[Numbers]], shape: Shape, classes: NDArray[np.integer] | None
    ) -> NDArray[np.float64]:
        """Its state (m,), by stored images.

        Args:
            blocks: gives the images (n, pixels), however often it is called, in blocks that depend on nothing else.
            shape: of one image.
            classes: (n,) codes of their labels; None where these are numbers to be averaged.

        Raises:
            FitError: it cannot be fitted to them.
            OptionError: likewise, and to no others that have such labels.
        """
