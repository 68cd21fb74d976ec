"""What Pillow reads: images that are neither PNG nor JPEG, and how a camera says that it was held."""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from knnvote.data.errors import CodecError
from knnvote.data.text import describe_error

MAX_PIXELS = 1 << 26
# As users and as Pillow call them.
_FORMATS = {
    "WebP": "WEBP",
    "GIF": "GIF",
    "BMP": "BMP",
    "JPEG 2000": "JPEG2000",
    "AVIF": "AVIF",
}
_CONVERTED = {"1": "L", "P": "RGB"}
_READ = ("L", "RGB", "RGBA", "I;16")
# By EXIF's number, how an image of rows and columns is turned to be seen as it was taken.
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image.swapaxes(0, 1), 2),
    8: np.rot90,
}
_FIRST_ON_ITS_SIDE = 5  # from this on, rows are columns
# What Pillow raises for damaged images; its warnings too, where they are errors.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    Image.DecompressionBombError,
    Warning,
)


def check_size(kind: str, height: int, width: int) -> None:
    """Refuse, before memory is given to it, an image of more than MAX_PIXELS pixels.

    Raises:
        CodecError: naming both sides.
    """
    if height * width > MAX_PIXELS:
        raise CodecError(f"{kind} image claims {height} x {width} pixels: at most {MAX_PIXELS} are read")


def decode_by_pillow(data: bytes, kind: str) -> NDArray[Any]:
    """Decode a still image, turned as it was taken.

    Args:
        data: the encoded image.
        kind: its format.

    Returns:
        (H, W) or (H, W, channels) uint8, or uint16.

    Raises:
        CodecError: of another format or mode than is read, moving, damaged, or of more than MAX_PIXELS pixels.
    """
    with _opened(data, kind) as image:
        frames = getattr(image, "n_frames", 1)
        if frames != 1:
            raise CodecError(f"{kind} image of {frames} frames: write the one that is meant as an image of its own")
        orientation = _orientation(image)
        mode = "RGBA" if image.has_transparency_data else _CONVERTED.get(image.mode, image.mode)
        if mode not in _READ:
            raise CodecError(f"{kind} image of mode {mode}: write it in 8 bits, grey or RGB")
        return turn(np.asarray(image if mode == image.mode else image.convert(mode)), orientation)


def shape_by_pillow(data: bytes, kind: str) -> tuple[int, int]:
    """Height and width by the header, as the image is seen.

    Raises:
        CodecError: as `decode_by_pillow`.
    """
    with _opened(data, kind) as image:
        return turned((image.height, image.width), _orientation(image))


def exif_orientation(data: bytes) -> int:
    """How the camera was held that took a PNG or JPEG, from 1 to 8; 1, upright, where nothing says so."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            check_size(image.format or "", image.height, image.width)
            return _orientation(image)
    except (CodecError, *_UNREADABLE):  # which viewers pass over too; damaged pixels are told by who decodes them
        return 1


def turn(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image (H, W, ...) as it is seen, by EXIF's number; a view."""
    return _TURNS[orientation](image) if orientation in _TURNS else image


def turned(shape: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The shape of an image as it is seen."""
    return (shape[1], shape[0]) if orientation >= _FIRST_ON_ITS_SIDE else shape


def _orientation(image: Any) -> int:
    """EXIF's number of an opened image, 1 where it has none that means something."""
    found = image.getexif().get(ExifTags.Base.Orientation)
    return found if isinstance(found, int) and found in _TURNS else 1


@contextmanager
def _opened(data: bytes, kind: str) -> Iterator[Any]:
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[kind]]) as image:
            check_size(kind, image.height, image.width)
            yield image
    except UnidentifiedImageError as error:  # whose text tells where in memory the image lies
        raise CodecError(f"cannot decode {kind}: its header is damaged") from error
    except _UNREADABLE as error:
        raise CodecError(f"cannot decode {kind}: {describe_error(error)}") from error
