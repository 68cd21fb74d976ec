"""Decoded channels to one of grey."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import CodecError, param

GRAYSCALE_FORMULA = "(19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R BT.601 luma)"
_CONVERTED = 1 << 20  # pixels converted at a time
_MODES = {2: "LA", 3: "RGB", 4: "RGBA"}


def to_grey(image: NDArray[Any], *, grayscale: bool, background: str | None) -> NDArray[Any]:
    """One channel of one (H, W), two (with alpha), three or four (with alpha).

    Args:
        image: (H, W) or (H, W, channels) uint8 or uint16.
        grayscale: convert colour by GRAYSCALE_FORMULA; without it, only equal channels are grey.
        background: ``white`` or ``black``, what shows through where alpha is not the greatest; None if nothing says.

    Raises:
        CodecError: it is in colour, or shows what is behind it, and the option that tells what to do is not given.
    """
    if image.ndim == 2:
        return image
    mode = f"{_MODES[image.shape[2]]}, {image.shape[0]} x {image.shape[1]}"
    if image.shape[2] in (2, 4):
        image = _in_front_of(background, image, mode)
    red = image[..., 0]
    if all(np.array_equal(red, image[..., channel]) for channel in range(1, image.shape[2])):
        return red
    if not grayscale:
        raise CodecError(f"colour image ({mode}): pass {param('grayscale=True')} to convert it")
    grey = np.empty(red.shape, image.dtype)
    for rows in _blocks(red):
        red, green, blue = (image[rows, :, channel].astype(np.uint32) for channel in range(3))
        # 65535 * 65536 + 32768 is below 2**32.
        grey[rows] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return grey


def _in_front_of(background: str | None, image: NDArray[Any], mode: str) -> NDArray[Any]:
    """The colours (H, W, channels - 1) as they are seen, alpha being the last channel."""
    colours, alpha, opaque = image[..., :-1], image[..., -1], np.iinfo(image.dtype).max
    if (alpha == opaque).all():
        return colours
    if background is None:
        raise CodecError(
            f"image with transparent pixels ({mode}), and nothing tells what shows through them: "
            f"pass {param('background')} white or black"
        )
    behind = opaque if background == "white" else 0
    seen = np.empty(colours.shape, image.dtype)
    for rows in _blocks(alpha):
        share = alpha[rows, :, None].astype(np.uint32)
        # A mean of 65535 at most, times 65535, and half of that are below 2**32.
        seen[rows] = (colours[rows] * share + (opaque - share) * behind + opaque // 2) // opaque
    return seen


def _blocks(channel: NDArray[Any]) -> Iterator[slice]:
    """Rows of an image that are converted at a time."""
    height, width = channel.shape
    rows = max(1, _CONVERTED // width)
    return (slice(start, start + rows) for start in range(0, height, rows))
