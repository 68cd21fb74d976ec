"""Encoded images to grey pixels as the eye sees them, in bounded memory whatever the bytes claim."""

import logging
import struct
from collections.abc import Iterable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .codecs.grey import to_grey
from .codecs.pillow import check_size, decode_by_pillow, exif_orientation, shape_by_pillow, turn, turned
from .errors import CodecError
from .text import describe_error

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = b"IHDR"
_PNG_EXIF = b"eXIf"
_PNG_MOVING = b"acTL"
_PNG_PIXELS = b"IDAT"
_PNG_CHANNELS = {0: (1, 2), 2: (3, 4), 3: (3, 4), 4: (2,), 6: (4,)}  # by colour type; a chunk may add alpha
_JPEG = b"\xff\xd8\xff"
_JPEG_EXIF = b"Exif\0\0"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"
# Start-of-frame markers; 0xC4, 0xC8 and 0xCC among them mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

# libpng warns of what it reads all the same; a program that wants to see it can ask for it.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())

# How other formats begin: some bytes, and more from a place on.
_OTHERS = (
    ("WebP", b"RIFF", 8, b"WEBP"),
    ("GIF", b"GIF87a", 0, b""),
    ("GIF", b"GIF89a", 0, b""),
    ("JPEG 2000", b"\0\0\0\x0cjP  ", 0, b""),
    ("JPEG 2000", b"\xff\x4f\xff\x51", 0, b""),
    ("AVIF", b"\0\0\0", 4, b"ftypavif"),
)
# These are known by name, so as to be told.
_UNREAD = (
    ("JPEG XL", b"\xff\x0a", 0, b""),
    ("JPEG XL", b"\0\0\0\x0cJXL ", 0, b""),
    ("TIFF", b"II*\0", 0, b""),
    ("TIFF", b"MM\0*", 0, b""),
    ("HEIF", b"\0\0\0", 4, b"ftyphei"),
    ("HEIF", b"\0\0\0", 4, b"ftypmif1"),
)
READ = "PNG, JPEG, WebP, GIF, BMP, JPEG 2000 or AVIF"


def is_encoded(data: bytes) -> bool:
    """Whether the bytes begin as an encoded image does."""
    return data.startswith((_PNG, _JPEG)) or bool(_other_format(data) or _named(data, _UNREAD))


def header_shape(data: bytes) -> tuple[int, int] | None:
    """Height and width by the header, those of the image if it can be decoded; None without a header."""
    try:
        if data.startswith(_PNG):
            return turned(_png_size(data), _orientation(data)) if data[12:16] == _PNG_HEADER else None
        if data.startswith(_JPEG):
            _, height, width, _ = _jpeg_frame(data)
            return turned((height, width), _orientation(data))
        kind = _other_format(data)
        return shape_by_pillow(data, kind) if kind else None
    except CodecError:
        return None


def decode(data: bytes, *, grayscale: bool = False, background: str | None = None) -> NDArray[Any]:
    """Decode an image to grey pixels, turned as EXIF says that it is seen.

    PNG modes 1 (as 0 and 255), L, LA, I;16, P, RGB and RGBA are read, JPEG of one or three channels, and what Pillow
    reads of WebP, GIF, BMP, JPEG 2000 and AVIF. A colour image whose channels are equal is grey.

    Args:
        data: the encoded image.
        grayscale: convert other colour by GRAYSCALE_FORMULA; without it, colour is refused.
        background: ``white`` or ``black``, on which transparent pixels are laid; without it, they are refused.

    Returns:
        (H, W) uint8, or uint16 for an image of 16 bits.

    Raises:
        CodecError: of no format that is read, cut short, corrupt, in colour, transparent, or of more than MAX_PIXELS
        pixels.
    """
    if data.startswith(_PNG):
        if 0 <= data.find(_PNG_MOVING) < data.find(_PNG_PIXELS):
            raise CodecError("PNG image that moves: write the picture that is meant as an image of its own")
        image = turn(_decode_png(data), _orientation(data))
    elif data.startswith(_JPEG):
        image = turn(_decode_jpeg(data), _orientation(data))
    elif kind := _other_format(data):
        image = decode_by_pillow(data, kind)
    else:
        start = data[:8].hex(" ") or "nothing"
        unread = _named(data, _UNREAD)
        found = f"{unread}: write it as PNG" if unread else f"{len(data)} bytes that begin with {start}"
        raise CodecError(f"not {READ}, but {found}")
    return to_grey(image, grayscale=grayscale, background=background)


def decode_into(
    data: bytes, out: NDArray[Any], *, grayscale: bool = False, background: str | None = None
) -> NDArray[Any]:
    """Decode as decode() does, straight into ``out`` where the image is a grey PNG of its shape and type.

    Args:
        data: the encoded image.
        out: (H, W) uint8, C-contiguous; its content is undefined after an error.
        grayscale: as for decode().
        background: as for decode().

    Returns:
        ``out`` itself, or a new array where the image needs one (another shape or type, colour, JPEG).

    Raises:
        CodecError: as decode().
    """
    if data.startswith(_PNG) and _PNG_EXIF not in data and _PNG_MOVING not in data:
        try:
            imagecodecs.png_decode(data, out=out)
        except ValueError:
            pass  # It is of another shape, type or number of channels; told before anything is decoded.
        except imagecodecs.PngError as error:
            raise CodecError(f"cannot decode PNG: {describe_error(error)}") from error
        else:
            return out
    return decode(data, grayscale=grayscale, background=background)


def _other_format(data: bytes) -> str | None:
    """The name of a format that Pillow decodes."""
    if data.startswith(b"BM") and int.from_bytes(data[2:6], "little") == len(data):  # two letters alone say little
        return "BMP"
    return _named(data, _OTHERS)


def _named(data: bytes, formats: Iterable[tuple[str, bytes, int, bytes]]) -> str | None:
    """The format that bytes begin as."""
    return next(
        (name for name, start, at, more in formats if data.startswith(start) and data.startswith(more, at)), None
    )


def _orientation(data: bytes) -> int:
    """EXIF's number, from 1 to 8; images without EXIF, as most are, cost a look."""
    return exif_orientation(data) if _JPEG_EXIF in data or _PNG_EXIF in data else 1


def _decode_png(data: bytes) -> NDArray[Any]:
    """(H, W) or (H, W, channels) uint8 or uint16."""
    height, width = _png_size(data)
    check_size("PNG", height, width)
    bits, colour = data[24:26]
    for channels in _PNG_CHANNELS.get(colour, ()):
        # An array is always given: without one, imagecodecs loses a reference to None with each damaged image, and
        # Python before 3.12 ends when none is left.
        shape = (height, width) if channels == 1 else (height, width, channels)
        out = np.empty(shape, np.uint16 if bits == 16 else np.uint8)
        try:
            image: NDArray[Any] = imagecodecs.png_decode(data, out=out)
        except UnicodeDecodeError:  # of the decoder's reason, which is lost by then: its bytes differ each time
            break
        except ValueError:
            continue  # it has other channels, told before anything is decoded
        except imagecodecs.PngError as error:
            raise CodecError(f"cannot decode PNG: {describe_error(error)}") from error
        return image
    raise CodecError("cannot decode PNG: it is damaged")


def _png_size(data: bytes) -> tuple[int, int]:
    """Height and width that a PNG's header claims."""
    if len(data) < 26:
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
    check_size("JPEG", height, width)
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
