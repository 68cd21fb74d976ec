"""Steps that need rows and columns, against plain code that takes one image at a time and computes in fractions."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from knnvote.data.errors import OptionError
from knnvote.data.steps import picture
from knnvote.data.steps.chain import parse_steps

STEPS = ["centre", "deskew", "blur"]
SHAPES = [(8, 8), (5, 9), (7, 1), (1, 6), (5, 4, 2)]
HALF = Fraction(1, 2)


def pictures(shape, dtype=np.uint8):
    """One of each kind: blank, a pixel, lines, full, faint, strokes in a corner and all over, noise."""
    rng = np.random.default_rng(3)
    made = np.zeros((12, *shape), np.uint8)
    made[1, shape[0] // 2, 0] = 200
    made[2, shape[0] - 1] = 90
    made[3, :, shape[1] // 2] = 255
    made[4] = 255
    made[5, 0, 0] = made[5, -1, -1] = 1
    strokes = rng.integers(0, 256, (6, *shape)) * (
        rng.random((6, *shape)) < np.linspace(0.2, 1, 6).reshape(6, *[1] * len(shape))
    )
    made[6:] = strokes
    made[7, shape[0] // 2 + 1 :] = 0
    made[8:, 0, 0] = 0  # a dark corner
    return made if dtype == np.uint8 else made / dtype(3)


def rounded(value, dtype):
    return floor(value + HALF) if dtype.kind == "u" else value


def values(image):
    """{(row, column, channel): value} of one image, and its three sides."""
    image = image.reshape(*image.shape[:2], -1)
    exact = int if image.dtype.kind == "u" else Fraction
    return {place: exact(value.item()) for place, value in np.ndenumerate(image)}, image.shape


def blurred(image):
    pixels, (rows, columns, _) = values(image)
    weights = {-1: 1, 0: 2, 1: 1}
    return {
        (y, x, c): rounded(
            Fraction(
                sum(
                    a * b * pixels[min(max(y + i, 0), rows - 1), min(max(x + j, 0), columns - 1), c]
                    for i, a in weights.items()
                    for j, b in weights.items()
                )
            )
            / 16,
            image.dtype,
        )
        for y, x, c in pixels
    }


def between(pixels, place, other, part, dtype):
    one, two = (Fraction(pixels.get(at, 0)) for at in (place, other))
    return rounded((one * (256 - part) + two * part) / 256, dtype)


def deskewed(image):
    pixels, _ = values(image)
    total = sum(pixels.values())
    if not total:
        return pixels
    cy, cx = (Fraction(sum(place[axis] * v for place, v in pixels.items())) / total for axis in (0, 1))
    covariance = sum((y - cy) * (x - cx) * v for (y, x, _), v in pixels.items())
    variance = sum((y - cy) ** 2 * v for (y, _, _), v in pixels.items())
    made = {}
    for y, x, c in pixels:
        shift = floor((covariance / variance if variance else 0) * (y - cy) * 256 + HALF)
        left = x + shift // 256
        made[y, x, c] = between(pixels, (y, left, c), (y, left + 1, c), shift % 256, image.dtype)
    return made


def centred(image):
    pixels, sides = values(image)
    total = sum(pixels.values())
    if not total:
        return pixels
    seen = [place for place, v in pixels.items() if v]
    first = [min(place[axis] for place in seen) for axis in (0, 1)]
    length = [max(place[axis] for place in seen) - first[axis] + 1 for axis in (0, 1)]
    mass = [sum((place[axis] + HALF) * v for place, v in pixels.items()) / total for axis in (0, 1)]
    scale = max(Fraction(28 * length[axis], 20 * sides[axis]) for axis in (0, 1))
    for axis in (0, 1):
        start = floor(sides[axis] // 2 + 1 - (mass[axis] - first[axis]) / scale)
        start = min(max(start, 0), floor(sides[axis] - length[axis] / scale))
        made = {}
        for place in pixels:
            within = (place[axis] + HALF - start) * scale
            made[place] = 0
            if 0 < within < length[axis]:
                source = floor((first[axis] + min(max(within - HALF, 0), length[axis] - 1)) * 256 + HALF)
                one, other = ((*place[:axis], source // 256 + i, *place[axis + 1 :]) for i in (0, 1))
                made[place] = between(pixels, one, other, source % 256, image.dtype)
        pixels = made
    return pixels


PLAIN = {"centre": centred, "deskew": deskewed, "blur": blurred}


def done(text, images):
    vectors, bad = parse_steps(text)(images.reshape(len(images), -1), images.shape[1:])
    assert not bad
    return vectors


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*((shape, np.uint8) for shape in SHAPES), ((5, 9), np.float32), ((4, 3, 3), np.float32)],
    ids=str,
)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_makes_what_plain_code_makes_of_one_image_at_a_time(step, shape, dtype):
    images = pictures(shape, dtype)
    made = done(step, images)
    assert made.dtype == dtype
    expected = np.array([[float(v) for v in PLAIN[step](image).values()] for image in images])
    if dtype == np.float32:
        np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-5)
    else:
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("step", STEPS)
def test_a_picture_is_made_alone_and_of_its_values_alone(step, monkeypatch):
    """Whatever stands beside it, and however wide the type is."""
    images = pictures((5, 9))
    made = done(step, images)
    monkeypatch.setattr(picture, "_BLOCK", 100)
    np.testing.assert_array_equal(np.concatenate([done(step, images[i : i + 1]) for i in range(12)]), made)
    for dtype in (np.uint16, np.uint32):
        np.testing.assert_array_equal(done(step, images.astype(dtype)), made)
    for dtype in (np.int16, np.float16, np.float32):
        np.testing.assert_array_equal(done(step, images.astype(dtype)), done(step, images.astype(np.float64)))


def test_a_slanted_stroke_is_upright_after_deskew_and_an_upright_one_as_it_was():
    image = np.zeros((1, 20, 20), np.uint8)
    image[0, range(4, 16), range(15, 3, -1)] = 255
    upright = done("deskew", image).reshape(20, 20)
    columns = upright.sum(axis=0, dtype=int)
    assert (columns > 0).sum() <= 2
    np.testing.assert_array_equal(done("deskew", upright[None]).reshape(20, 20), upright)


def test_centre_makes_the_same_of_a_stroke_wherever_it_was_and_of_what_is_so_itself():
    rng = np.random.default_rng(5)
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, :20, :16] = rng.integers(1, 256, (20, 16))
    images[1, 8:, 11:27] = images[0, :20, :16]
    made = done("centre", images).reshape(images.shape)
    np.testing.assert_array_equal(made[0], made[1])
    for axis in (0, 1):
        weights = made[0].sum(axis=axis, dtype=float)
        assert 13.5 <= np.average(np.arange(28), weights=weights) < 14.5
        assert (weights > 0).sum() == (16, 20)[axis]
    np.testing.assert_array_equal(done("centre", made).reshape(images.shape), made)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", [(64,), (3, 8, 8), (2, 3, 4, 4)], ids=str)
def test_images_without_rows_and_columns_are_refused(step, shape):
    with pytest.raises(OptionError, match=rf"^steps: {step} needs rows and columns, .* say with shape how flat images"):
        parse_steps(step).d(shape)


def test_pictures_whose_moments_have_no_room_are_refused():
    with pytest.raises(
        OptionError, match=r"^steps: deskew takes pictures of at most 2048 x 2048, and images are 9 x 20"
    ):
        parse_steps("blur deskew").d((9, 2049))
    assert parse_steps("blur").d((9, 2049)) == 9 * 2049


def test_images_of_which_nothing_sensible_comes_are_bad():
    images = np.zeros((4, 5, 6))
    images[0, 2:4] = 1
    images[1] = 1 - images[0]
    images[2, 3, 3] = -1
    images[3, 3, 3] = 1e39
    flat = images.reshape(4, 30)
    light, beyond = (
        "its corners are bright and its middle is dark",
        "a value beyond 3.40282e+38, which float32 does not hold",
    )
    for step in ("deskew", "centre"):
        assert parse_steps(step)(flat, (5, 6))[1] == {
            1: f"{light}, and {step} takes 0 for the background: invert such images",
            2: f"a value below 0, and {step} takes 0 for the background",
            3: beyond,
        }
        assert [*parse_steps(step)(255 * flat[:2].astype(np.uint8), (5, 6))[1]] == [1]
    vectors, bad = parse_steps("blur")(flat, (5, 6))
    assert bad == {3: beyond}
    assert vectors[2].min() == -0.25
