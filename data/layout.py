"""What every layout of images in the columns of a file is: how it is found, measured and decoded."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from .codecs.names import BACKGROUNDS, Background
from .errors import check_one_of
from .vectors import Numbers, Reasons

Shape = tuple[int, ...]
Measured = tuple[list[Shape], str]


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What the user says about the images; all else is recognised.

    Attributes:
        image_column: the image column, or the common prefix of the columns of a wide layout.
        shape: of one image.
        grayscale: convert colour images instead of refusing them.
        background: lay images with transparent pixels on ``white`` or ``black`` instead of refusing them.

    Raises:
        OptionError: of another background.

    Example:
        >>> from knnvote import ImageOptions, TrainingOptions, index_files
        >>> images = ImageOptions(image_column="image", grayscale=True)
        >>> index_files("digits/train.parquet", "grey.knn", training=TrainingOptions(images=images))
    """

    image_column: str | None = None
    shape: Shape | None = None
    grayscale: bool = False
    background: Background | None = None

    def __post_init__(self) -> None:
        """Check what is one of a few texts."""
        if self.background is not None:
            check_one_of("background", self.background, BACKGROUNDS)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A column, or several, that may hold images in a layout.

    Attributes:
        layout: that they would have.
        name: of the column, or the common prefix of several.
        columns: their names, in the order of the pixels.
        place: of the one column among all; None for several.
        shape: of an image, where the names of the columns tell it.
    """

    layout: "type[Layout]"
    name: str
    columns: tuple[str, ...]
    place: int | None = None
    shape: Shape = ()


@dataclass(frozen=True, kw_only=True)
class FirstRows:
    """What is known of a candidate when its images are measured.

    Attributes:
        candidate: the columns.
        column: (n,) the first rows, 64 at most, of the first of them, as `read_column` gives it.
        schema: of the file.
        options: what the user, or the index, says about the images.
        pixels: in an image, where the user or the index tells its shape.
    """

    candidate: Candidate
    column: pa.Array
    schema: pa.Schema
    options: ImageOptions
    pixels: int | None = None

    @property
    def type(self) -> pa.DataType:
        """The column's type as the file has it."""
        return self.schema.field(self.candidate.columns[0]).type


@dataclass(frozen=True, kw_only=True)
class Layout(ABC):
    """Where the images of a file are and how they are held.

    Attributes:
        name: the image column, or the common prefix of the columns of a wide layout.
        columns: the columns to read; more than one only for a wide layout, in the order of the pixels.
        shape: of one image, e.g. (28, 28); (d,) for a flat vector; () if nothing tells, as in an empty file.
        grayscale: whether colour images are converted.
        background: on which transparent pixels are laid.
        held_shape: the shape as the file holds it where that is another, e.g. (784,) or (28, 28, 1).
    """

    title: ClassVar[str]  # what people call it

    name: str
    columns: tuple[str, ...]
    shape: Shape
    grayscale: bool
    background: Background | None = None
    held_shape: Shape = ()

    @classmethod
    @abstractmethod
    def candidates(cls, schema: pa.Schema) -> Iterable[Candidate]:
        """The columns that this layout could have, by their types and names alone."""

    @classmethod
    def fits(cls, first: FirstRows) -> bool:  # noqa: ARG003 - where the type tells all, rows need no look
        """Whether rows are held so; asked where several layouts could have the same column."""
        return True

    @classmethod
    @abstractmethod
    def measure(cls, first: FirstRows) -> Measured:
        """Shapes of the images as held, from the schema or else from the rows, the commonest first.

        With none from rows that there are, the reason is that of the first row.
        """

    @classmethod
    def takes_squares(cls, first: FirstRows) -> bool:  # noqa: ARG003 - of most layouts, whatever the rows
        """Whether flat images of as many numbers as a square has are squares."""
        return True

    @classmethod
    def doubt(cls, first: FirstRows, shape: Shape) -> str | None:  # noqa: ARG003 - most layouts have none
        """Why images of a shape that nothing but the rows tells may be none."""
        return None

    @abstractmethod
    def decode(self, batch: pa.RecordBatch | pa.Table) -> tuple[Numbers, Reasons]:
        """Decode the images of a batch.

        Args:
            batch: rows of a file, with the layout's columns among others.

        Returns:
            (n, d) numbers, C-contiguous and perhaps read-only views of the batch, in the source's own type
            (booleans as uint8), zeros where the image is bad; and the reason for each bad row, by its number in the
            batch.
        """

    @property
    def d(self) -> int:
        """Numbers in one image."""
        return math.prod(self.shape) if self.shape else 0

    def describe(self) -> str:
        """One line for people, e.g. ``encoded, 28 x 28, in column 'image'``."""
        where = f"column {self.name!r}"
        if len(self.columns) > 1:
            where = f"columns {self.columns[0]!r} to {self.columns[-1]!r}"
        return f"{self.title}, {show_shape(self.shape)}, in {where}"

    @classmethod
    def _columns_of(cls, schema: pa.Schema, is_one: Callable[[pa.DataType], bool]) -> Iterator[Candidate]:
        """Each column of some types."""
        for place, field in enumerate(schema):
            if is_one(field.type):
                yield Candidate(layout=cls, name=field.name, columns=(field.name,), place=place)


def compatible(one: Shape, other: Shape) -> bool:
    """Whether two shapes are equal, or are of as many numbers with one of them flat."""
    return one == other or (math.prod(one) == math.prod(other) and 1 in (len(one), len(other)))


def show_shape(shape: Sequence[int]) -> str:
    """A shape for people: ``28 x 28``, or ``64 values`` if it is flat."""
    if not shape:
        return "shape unknown"
    return " x ".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} values"


def is_picture(shape: Sequence[int]) -> bool:
    """Whether it is seen as a picture: of rows and columns, in grey, or with red, green and blue of each pixel last."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)


def noun(shape: Sequence[int]) -> str:
    """What messages call one of a shape: an image or, where it is flat, a vector."""
    return "vector" if len(shape) == 1 else "image"


def commonest(shapes: Iterable[Shape]) -> list[Shape]:
    """Each shape once, the commonest first."""
    return [shape for shape, _ in Counter(shapes).most_common()]


def in_rows(values: Numbers, counts: Numbers, bad: Reasons, d: int) -> Numbers:
    """(n, d) of values that lie row by row, counts[i] in row i: a view, or a copy with bad rows zero."""
    if not bad:
        return values.reshape(len(counts), d)
    good = np.ones(len(counts), np.bool_)
    good[list(bad)] = False
    rows = np.zeros((len(counts), d), values.dtype)
    rows[good] = values[np.repeat(good, counts)].reshape(np.count_nonzero(good), d)
    return rows
