"""What steps that need rows and columns have in common: what images they take, and how pixels are weighed and mixed."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import param
from knnvote.data.layout import Shape, show_shape
from knnvote.data.vectors import Numbers, Reasons

from .step import ImagesError, Step

PART = 256  # of the way from one pixel to the next: what places between pixels are rounded to
INVERT = "invert such images"
_MOST_CHANNELS = 4
_BLOCK = 1 << 17  # numbers at a time, which stay in the cache until they are done
_MOST_ROWS = 2048  # up to which moments of bytes are exact
_EXACT_BITS = 53  # of whole numbers that float64 holds
_LARGEST = float(np.finfo(np.float32).max)
_WIDER = {1: np.uint16, 2: np.uint32, 4: np.uint64}  # where sums of 256 numbers have room, by bytes


class PictureStep(Step):
    """A step that needs rows and columns."""

    weighs = True

    def output(self, shape: Shape) -> Shape:
        """The same, of rows and columns, perhaps with channels.

        Raises:
            ImagesError: there are none, or too many to be weighed.
        """
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] > _MOST_CHANNELS):
            raise ImagesError(
                f"{self} needs rows and columns, with up to {_MOST_CHANNELS} channels after them, and gets "
                f"{show_shape(shape)}",
                f"put it before what makes vectors of pictures, say with {param('shape')} how flat images are to be "
                f"read, give arrays (n, rows, columns), or leave {self} out",
            )
        if self.weighs and max(shape) > _MOST_ROWS:
            raise ImagesError(
                f"{self} takes pictures of at most {_MOST_ROWS} x {_MOST_ROWS}, and images are {show_shape(shape)}",
                f"scale them, or leave {self} out",
            )
        return shape

    def unusable_rows(self, images: Numbers, shape: Shape) -> Reasons:
        """Those of values that float32 does not hold, and where 0 must be the background, that have another."""
        bad = self._out_of_range(images) if images.dtype.kind != "u" else {}
        if not self.weighs:
            return bad
        why = f"its corners are bright and its middle is dark, and {self} takes 0 for the background: {INVERT}"
        light = [
            start + row for start, block in _blocks(images) for row in _on_light(self._pictures(block, shape)).tolist()
        ]
        return dict.fromkeys(light, why) | bad

    @staticmethod
    def _pictures(images: Numbers, shape: Shape) -> Numbers:
        """Images (n, pixels) as (n, rows, columns, channels)."""
        return images.reshape(len(images), *shape[:2], -1)

    def _out_of_range(self, images: Numbers) -> Reasons:
        low, high = (ends.astype(np.float64) for ends in (images.min(axis=1), images.max(axis=1)))
        beyond = np.flatnonzero((high > _LARGEST) | (low < -_LARGEST)).tolist()
        bad = dict.fromkeys(beyond, f"a value beyond {_LARGEST:g}, which float32 does not hold")
        if self.weighs:
            below = np.flatnonzero(low < 0).tolist()
            bad |= dict.fromkeys(below, f"a value below 0, and {self} takes 0 for the background")
        return bad


class PictureFilter(PictureStep):
    """A step that makes a picture of a picture: the same shape, and of unsigned numbers the same type.

    These are computed in whole numbers and rounded to the nearest, half up; all others in float64, term by term in one
    order, and rounded to float32 once. Both are the same bits on any machine.
    """

    def __call__(self, images: Numbers, shape: Shape) -> Numbers:
        """(n, pixels) of the same type where that is unsigned, else float32."""
        is_whole = images.dtype.kind == "u" and images.dtype.itemsize in _WIDER
        least = 0 if self.weighs else -_LARGEST
        made: Numbers = np.empty(images.shape, images.dtype if is_whole else np.float32)
        for start, block in _blocks(images):
            values = block if is_whole else np.clip(block.astype(np.float64), least, _LARGEST)
            made[start : start + len(block)] = self._made(self._pictures(values, shape)).reshape(len(block), -1)
        return made

    @abstractmethod
    def _made(self, pictures: Numbers) -> Numbers:
        """What it makes of pictures (b, rows, columns, channels) of unsigned numbers or float64: the same of others."""


def _blocks(images: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Images (n, pixels) a few at a time, each with the number of the first."""
    size = max(1, _BLOCK // images.shape[1])
    return ((start, images[start : start + size]) for start in range(0, len(images), size))


def _on_light(pictures: Numbers) -> NDArray[np.intp]:
    """Which of pictures (n, rows, columns, channels) seem dark on light, by all four corners."""
    corners = pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    rows = np.flatnonzero(corners.max(axis=2).min(axis=1) > 0)  # of most sets none
    if not len(rows) or min(pictures.shape[1:3]) == 1:  # a line has no corners
        return rows[:0]
    masses = mass(pictures[rows])
    darkest = masses[:, [0, 0, -1, -1], [0, -1, 0, -1]].min(axis=1)
    is_light = (darkest > masses.mean(axis=(1, 2))) & (darkest > masses.max(axis=(1, 2)) / 2)
    found: NDArray[np.intp] = rows[is_light]
    return found


def widened(numbers: Numbers) -> Numbers:
    """The same in a type where sums of 256 of them have room."""
    return numbers.astype(_WIDER[numbers.dtype.itemsize]) if numbers.dtype.kind == "u" else numbers


def mixed(one: Numbers, other: Numbers, part: NDArray[np.intp]) -> Numbers:
    """Numbers (m, w) between two others of one type, in each row at a part (m,), of `PART`, of the way to the other."""
    far: NDArray[Any] = part[:, None]
    if one.dtype.kind != "u":
        between: Numbers = (one * (PART - far) + other * far) / PART
        return between
    far = far.astype(_WIDER[one.dtype.itemsize])
    total: Numbers = one * (PART - far)
    total += other * far
    total += PART // 2
    total //= PART
    return total.astype(one.dtype)


def mass(pictures: Numbers) -> NDArray[np.float64]:
    """What pixels weigh: whole numbers, whose sums and moments float64 holds, so that no order of adding counts.

    Args:
        pictures: (b, rows, columns, channels) of numbers from 0 up.

    Returns:
        (b, rows, columns) the sum of the channels; where that is no whole number, or too large, times a power of two
        and rounded up, so that what is not 0 weighs something.
    """
    total: NDArray[np.float64] = pictures[..., 0].astype(np.float64)
    for channel in range(1, pictures.shape[3]):
        total += pictures[..., channel]
    if pictures.dtype.itemsize == 1:
        return total
    rows, columns = total.shape[1:]
    bits = _EXACT_BITS - (rows * columns * max(rows, columns) ** 2).bit_length()
    exponent = np.frexp(total.max(axis=(1, 2), keepdims=True))[1] - bits
    if pictures.dtype.kind == "u":
        exponent = np.maximum(exponent, 0)
    scaled: NDArray[np.float64] = np.ceil(np.ldexp(total, -exponent))
    return scaled
