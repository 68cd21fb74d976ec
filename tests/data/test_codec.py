"""PNG and JPEG decoding."""

import gc
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from knnvote.data.codec import decode, decode_into, header_shape, is_encoded
from knnvote.data.errors import CodecError, param

GREY = (np.arange(48, dtype=np.uint8) * 5).reshape(6, 8)
COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def encode(pixels, mode=None, *, form="PNG", **options):
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def by_formula(pixels):
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def claim(png, height, width):
    """The PNG with another size in its header, which has a valid checksum."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_grey_pixels_come_back_whatever_the_mode_and_format(mode, form):
    if (mode, form) == ("P", "JPEG2000"):
        return  # which has none
    lossless = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(form, {})
    image = encode(GREY, mode, form=form, **lossless)
    np.testing.assert_allclose(decode(image), GREY, atol=2 if form == "AVIF" else 0)
    assert header_shape(image) == GREY.shape


# What is behind transparent pixels, where the ink is in them alone


def in_palette(alpha):
    """A PNG all black, whose palette has as many colours as alphas."""
    image = Image.frombytes("P", alpha.shape[::-1], alpha.tobytes())
    image.putpalette(bytes(768))
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=bytes(range(256)))
    return stream.getvalue()


def in_front(alpha, *colours, deep=False):
    import imagecodecs

    channels = [np.full_like(alpha, colour) for colour in colours]
    return imagecodecs.png_encode(np.stack([*channels, alpha], axis=-1).astype(np.uint16 if deep else np.uint8))


TRANSPARENT = {
    "LA": in_front(GREY, 0),
    "RGBA": in_front(GREY, 0, 0, 0),
    "palette": in_palette(GREY),
    "16 bits": in_front(GREY * 257.0, 0, deep=True),
}


@pytest.mark.parametrize("image", TRANSPARENT.values(), ids=TRANSPARENT)
def test_ink_that_is_in_alpha_alone_is_refused_or_seen_on_the_background_that_is_given(image):
    with pytest.raises(CodecError, match=r"transparent pixels .*pass .*background"):
        decode(image)
    step = 257 if image is TRANSPARENT["16 bits"] else 1
    np.testing.assert_array_equal(decode(image, background="white"), (255 - GREY.astype(int)) * step)
    assert not decode(image, background="black").any()


def test_a_pixel_half_transparent_is_seen_half_before_colour_becomes_grey():
    image = in_front(np.array([[51]]), 200, 100, 0)
    assert decode(image, grayscale=True, background="black") == by_formula(np.array([[[40, 20, 0]]]))


def test_one_grey_of_a_png_may_be_transparent():
    image = encode(GREY, transparency=5)
    with pytest.raises(CodecError, match=r"LA, 6 x 8\), and nothing tells"):
        decode_into(image, np.zeros(GREY.shape, np.uint8))
    np.testing.assert_array_equal(decode(image, background="white"), np.where(GREY == 5, 255, GREY))


# Images taken with the camera turned


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_viewers_turn_it(form, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = encode(GREY, form=form, exif=exif)
    with Image.open(io.BytesIO(image)) as opened:
        seen = np.asarray(ImageOps.exif_transpose(opened).convert("L"))
    place = np.zeros(seen.shape, np.uint8)
    np.testing.assert_array_equal(decode_into(image, place), seen)
    assert header_shape(image) == seen.shape


@pytest.mark.parametrize("value", [0, 9])
def test_an_orientation_that_means_nothing_turns_nothing(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    np.testing.assert_array_equal(decode(encode(GREY, exif=exif)), GREY)


def test_damaged_exif_turns_nothing():
    image = encode(GREY, form="JPEG", exif=b"Exif\0\0MM\0*\0\0\0")
    assert decode(image).shape == GREY.shape


# Other formats


def test_moving_pictures_are_refused():
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(CodecError, match=r"^GIF image of 2 frames"):
        decode(stream.getvalue())
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    for read in (decode, lambda data: decode_into(data, np.empty(GREY.shape, np.uint8))):
        with pytest.raises(CodecError, match=r"^PNG image that moves"):
            read(stream.getvalue())


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"\xff\x0a" + bytes(9), "JPEG XL"), (b"\0\0\0\x18ftypheic", "HEIF"), (encode(GREY, form="TIFF"), "TIFF")],
)
def test_formats_that_are_not_read_are_named(data, name):
    assert is_encoded(data)
    with pytest.raises(CodecError, match=f"^not PNG, JPEG.* but {name}: write it as PNG$"):
        decode(data)


@pytest.mark.parametrize("form", ["WEBP", "GIF", "BMP", "JPEG2000", "AVIF"])
def test_any_format_cut_short_is_refused_in_one_line_the_same_each_time(form):
    data = encode(COLOUR[..., 0], form=form)
    for length in (20, len(data) // 2, len(data) - 9):
        told = set()
        for _ in range(2):
            with pytest.raises(CodecError) as error:
                decode(data[:length])
            told.add(str(error.value))
        assert len(told) == 1
        assert "\n" not in told.pop()


def test_a_bmp_that_claims_a_huge_size_is_refused_before_it_is_decoded():
    data = bytearray(encode(GREY, form="BMP"))
    data[18:26] = struct.pack("<ii", 9000, 9000)
    with pytest.raises(CodecError, match="claims 9000 x 9000 pixels"):
        decode(bytes(data))


def test_black_and_white_is_0_and_255():
    np.testing.assert_array_equal(decode(encode(GREY > 99)), np.where(GREY > 99, 255, 0))


def test_16_bits_stay_16_bits():
    deep = GREY.astype(np.uint16) * 257
    image = decode(encode(deep))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, deep)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_is_refused_by_name_and_the_option_told(mode):
    with pytest.raises(CodecError) as error:
        decode(encode(COLOUR, mode))
    told = f"colour image ({mode}, 6 x 8): pass {param('grayscale=True')} to convert it"
    assert str(error.value) == told  # each face spells it


def test_colour_is_converted_by_the_stated_formula():
    np.testing.assert_array_equal(decode(encode(COLOUR), grayscale=True), by_formula(COLOUR))


def test_16_bit_colour_is_converted_without_overflow():
    import imagecodecs

    deep = np.full((2, 2, 3), 65535, np.uint16)
    deep[0, 0] = [1, 40000, 65535]
    image = decode(imagecodecs.png_encode(deep), grayscale=True)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, by_formula(deep))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_gives_the_grey_pixels_that_pillow_gives(mode):
    data = encode(GREY, mode, form="JPEG")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("L")))


def test_progressive_jpeg_is_read():
    assert decode(encode(GREY, form="JPEG", progressive=True)).shape == (6, 8)


def test_cmyk_is_refused_by_name():
    with pytest.raises(CodecError, match=r"^CMYK image \(JPEG, 6 x 8\)"):
        decode(encode(COLOUR, "CMYK", form="JPEG"), grayscale=True)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_cut_short_anywhere_in_its_pixels_is_refused(form):
    data = encode(COLOUR[..., 0], form=form)
    end = len(data) - (16 if form == "PNG" else 1)  # a PNG's last 12 bytes hold no pixels
    for length in range(3, end):
        with pytest.raises(CodecError) as error:
            decode(data[:length])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("position", range(41, 60, 3))
def test_a_flipped_byte_in_a_png_is_refused(position):
    data = bytearray(encode(COLOUR[..., 0]))
    data[position] ^= 0xFF
    with pytest.raises(CodecError, match=r"^cannot decode PNG: "):
        decode(bytes(data))


@pytest.mark.parametrize("data", [b"", b"GIF80a", b"\0" * 64])
def test_other_bytes_are_called_so(data):
    with pytest.raises(CodecError, match=r"^not PNG, JPEG.* or AVIF, but \d+ bytes that begin with"):
        decode(data)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA"])
def test_damaged_images_use_nothing_up(mode):
    """An extension that gives back None once too often ends Python before 3.12, after some thousand times."""
    damaged = encode(GREY, mode)[:-20]
    gc.collect()  # whose time would else come meanwhile
    before = sys.getrefcount(None)
    for _ in range(400):
        with pytest.raises(CodecError):
            decode(damaged)
    assert sys.getrefcount(None) - before > -200


def test_a_png_that_claims_a_huge_size_is_refused_before_it_is_decoded():
    with pytest.raises(CodecError, match="claims 60000 x 60000 pixels"):
        decode(claim(encode(GREY), 60000, 60000))


def test_a_jpeg_that_claims_a_huge_size_is_refused_before_it_is_decoded():
    data = bytearray(encode(GREY, form="JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (60000).to_bytes(2, "big") * 2
    with pytest.raises(CodecError, match="claims 60000 x 60000 pixels"):
        decode(bytes(data))


def test_a_grey_png_is_decoded_into_the_array_given():
    out = np.zeros((6, 8), np.uint8)
    assert decode_into(encode(GREY), out) is out
    np.testing.assert_array_equal(out, GREY)


@pytest.mark.parametrize(
    "data",
    [encode(GREY.astype(np.uint16)), encode(GREY, "RGB"), encode(GREY.T.copy()), encode(GREY, form="JPEG")],
)
def test_an_image_that_does_not_fit_the_array_comes_back_as_another(data):
    out = np.zeros((6, 8), np.uint8)
    image = decode_into(data, out)
    assert image is not out
    np.testing.assert_array_equal(image, decode(data))


def test_what_libpng_warns_of_is_not_printed():
    """A chunk of text whose checksum is wrong, which libpng passes over."""
    data = encode(np.arange(16, dtype=np.uint8).reshape(4, 4))
    at = data.index(b"IDAT") - 4
    data = data[:at] + (4).to_bytes(4, "big") + b"tEXt" + b"abcd" + bytes(4) + data[at:]
    code = "import sys; from knnvote.data.codec import decode; print(decode(sys.stdin.buffer.read()).tolist())"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(np.arange(16).reshape(4, 4).tolist())
    assert done.stderr == b""


@pytest.mark.parametrize("channels", [0, 2, 5, 255])
def test_a_jpeg_that_claims_channels_that_none_has_is_refused_before_memory_is_given_to_it(channels):
    data = encode(GREY, form="JPEG")
    at = data.index(b"\xff\xc0") + 5  # height, width and channels of the frame
    with pytest.raises(CodecError, match=f"of {channels} channels: only 1 and 3 are read"):
        decode(data[:at] + b"\xff\xff\xff\xff" + bytes([channels]) + data[at + 5 :])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_header_tells_the_shape_of_what_can_be_decoded(form, mode):
    image = encode(np.zeros((5, 9), np.uint8), mode, form=form)
    assert header_shape(image) == decode(image).shape == (5, 9)


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + bytes(60), b"\xff\xd8\xff"]
)
def test_what_has_no_header_tells_no_shape(data):
    assert header_shape(data) is None


@pytest.mark.parametrize("place", range(8, 16))
def test_a_png_of_a_damaged_header_has_one_reason_however_often_it_is_read(place):
    damaged = bytearray(encode(np.zeros((5, 9), np.uint8)))
    damaged[place] ^= 0x80
    reasons = set()
    for _ in range(3):
        with pytest.raises(CodecError) as told:
            decode(bytes(damaged))
        reasons.add(str(told.value))
    assert len(reasons) == 1
    assert "codec can't decode" not in reasons.pop()
