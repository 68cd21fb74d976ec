"""PNG and JPEG images to grey pixels, in bounded memory whatever the bytes claim."""

import logging
import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .errors import param
from .text import describe_error

GRAYSCALE_FORMULA = "(19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R BT.601 luma)"
MAX_PIXELS = 1 << 26
_CONVERTED = 1 << 20  # pixels converted to grey at a time

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = b"IHDR"
_JPEG = b"\xff\xd8\xff"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"
# Start-of-frame markers; 0xC4, 0xC8 and 0xCC among them mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

# libpng warns of what it reads all the same; a program that wants to see it can ask for it.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())


class CodecError(Exception):
    """One image cannot be read; the text is the reason, in one line."""


def is_encoded(data: bytes) -> bool:
    """Whether the bytes begin as a PNG or a JPEG does."""
    return data.startswith((_PNG, _JPEG))


def header_shape(data: bytes) -> tuple[int, int] | None:
    """Height and width by the header, those of the image if it can be decoded; None without a header."""
    try:
        if data.startswith(_PNG) and data[12:16] == _PNG_HEADER:
            return _png_size(data)
        if data.startswith(_JPEG):
            _, height, width, _ = _jpeg_frame(data)
            return height, width
    except CodecError:
        pass
    return None


def decode(data: bytes, *, grayscale: bool = False) -> NDArray[Any]:
    """Decode a PNG or JPEG to grey pixels.

    PNG modes 1 (as 0 and 255), L, LA (alpha dropped), I;16 and P are read, and JPEG of one or three channels.
    A colour image whose channels are equal is grey.

    Args:
        data: the encoded image.
        grayscale: convert other colour by GRAYSCALE_FORMULA; without it, colour is refused.

    Returns:
        (H, W) uint8, or uint16 for a PNG of 16 bits.

    Raises:
        CodecError: neither PNG nor JPEG, cut short, corrupt, in colour, or of more than MAX_PIXELS pixels.
    """
    if data.startswith(_PNG):
        return _grey(_decode_png(data), grayscale=grayscale)
    if data.startswith(_JPEG):
        return _grey(_decode_jpeg(data), grayscale=grayscale)
    start = data[:8].hex(" ") or "nothing"
    raise CodecError(f"neither PNG nor JPEG: {len(data)} bytes that begin with {start}")


def decode_into(data: bytes, out: NDArray[Any], *, grayscale: bool = False) -> NDArray[Any]:
    """Decode as decode() does, straight into ``out`` where the image is a grey PNG of its shape and type.

    Args:
        data: the encoded image.
        out: (H, W) uint8, C-contiguous; its content is undefined after an error.
        grayscale: as for decode().

    Returns:
        ``out`` itself, or a new array where the image needs one (another shape or type, colour, JPEG).

    Raises:
        CodecError: as decode().
    """
    if data.startswith(_PNG):
        try:
            imagecodecs.png_decode(data, out=out)
        except ValueError:
            pass  # It is of another shape, type or number of channels; told before anything is decoded.
        except imagecodecs.PngError as error:
            raise CodecError(f"cannot decode PNG: {describe_error(error)}") from error
        else:
            return out
    return decode(data, grayscale=grayscale)


def _decode_png(data: bytes) -> NDArray[Any]:
    """(H, W) or (H, W, channels), uint8 or uint16."""
    _check_size("PNG", *_png_size(data))
    try:
        image: NDArray[Any] = imagecodecs.png_decode(data)
    except UnicodeDecodeError as error:  # of the decoder's reason, which is lost by then: its bytes differ each time
        raise CodecError("cannot decode PNG: it is damaged") from error
    except (imagecodecs.PngError, ValueError) as error:
        raise CodecError(f"cannot decode PNG: {describe_error(error)}") from error
    return image


def _png_size(data: bytes) -> tuple[int, int]:
    """Height and width that a PNG's header claims."""
    if len(data) < 24:
        raise CodecError(f"cannot decode PNG: {len(data)} bytes are too few for its header")
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _decode_jpeg(data: bytes) -> NDArray[Any]:
    """(H, W) or (H, W, 3) uint8."""
    bits, height, width, channels = _jpeg_frame(data)
    if bits != 8:
        raise CodecError(f"JPEG image of {bits} bits a channel: only 8 are read")
    if channels == 4:
        raise CodecError(f"CMYK image (JPEG, {height} x {width}): convert it to grey or RGB first")
    if channels not in (1, 3):
        raise CodecError(f"JPEG image of {channels} channels: only 1 and 3 are read")
    _check_size("JPEG", height, width)
    # Coded pixels never hold a marker, so one must follow the last scan. libjpeg would fill up with grey.
    if data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise CodecError("cannot decode JPEG: cut short, it has no end marker")
    # An array of the size just checked: the library refuses an image that turns out to be of another.
    out = np.empty((height, width) if channels == 1 else (height, width, channels), np.uint8)
    try:
        imagecodecs.jpeg8_decode(data, out=out)
    except (imagecodecs.Jpeg8Error, ValueError) as error:
        raise CodecError(f"cannot decode JPEG: {describe_error(error)}") from error
    return out


def _jpeg_frame(data: bytes) -> tuple[int, int, int, int]:
    """Bits, height, width and channels that a JPEG's frame header claims."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            return bits, height, width, channels
        # 0xFF before a marker is padding; every segment before the frame tells its length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise CodecError("cannot decode JPEG: it has no frame header")


def _check_size(kind: str, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise CodecError(f"{kind} image claims {height} x {width} pixels: at most {MAX_PIXELS} are read")


def _grey(image: NDArray[Any], *, grayscale: bool) -> NDArray[Any]:
    """One channel of one (H, W), two (with alpha), three or four (with alpha) channels."""
    if image.ndim == 2:
        return image
    height, width, channels = image.shape
    red = image[..., 0]
    if channels == 2:
        return red
    green, blue = image[..., 1], image[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    if not grayscale:
        mode = "RGB" if channels == 3 else "RGBA"
        raise CodecError(f"colour image ({mode}, {height} x {width}): pass {param('grayscale=True')} to convert it")
    grey = np.empty((height, width), image.dtype)
    rows = max(1, _CONVERTED // width)
    for start in range(0, height, rows):
        red, green, blue = (image[start : start + rows, :, channel].astype(np.uint32) for channel in range(3))
        # 65535 * 65536 + 32768 is below 2**32.
        grey[start : start + rows] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return grey
