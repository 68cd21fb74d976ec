"""Steps between an image and its vector: text to object and back, what each computes, and one after the other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.steps.chain import Steps, parse_steps, steps_of
from knnvote.data.steps.step import Step
from knnvote.data.steps.unit import Unit

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 24), np.uint8)
FLOATS = arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 70)), elements=st.floats(-100, 100, width=32))


def fitted(text, images, shape=None, rows=7):
    shape = shape or images.shape[1:]

    def blocks():
        return (images[i : i + rows] for i in range(0, len(images), rows))

    return parse_steps(text).fitted(blocks, shape, np.zeros(len(images), np.int32))


@pytest.mark.parametrize(
    "text", ["pixels", "centred", "unit", "centred unit", "unit whitened unit", "centre deskew blur blur"]
)
def test_steps_are_their_text(text):
    assert str(parse_steps(text)) == text
    assert parse_steps(text) == steps_of(text.split())
    assert bool(parse_steps(text)) == (text != "pixels")


@pytest.mark.parametrize(
    "text", ["", "pixel", "unit[]", "unit[8]", "unit]", "Unit", "unit ", "unit  unit", "pixels unit", "unit,centred"]
)
def test_what_is_no_step_is_refused(text):
    with pytest.raises(
        KnnvoteError, match="is no step between image and vector: give some of pixels, centre, deskew, bl"
    ):
        parse_steps(text)


def test_names_that_users_give():
    assert steps_of([]) == steps_of(["pixels"]) == steps_of("pixels") == Steps()
    assert steps_of("unit") == steps_of(("unit",)) == Steps((Unit(),))
    with pytest.raises(OptionError, match=r"^steps: 'whole' is no step between image and vector: give some of pixels"):
        steps_of(["centred", "whole"])
    with pytest.raises(OptionError, match=r"^steps is pixels for no step at all: leave it out beside others$"):
        steps_of(["pixels", "unit"])


def test_without_steps_images_are_the_vectors():
    vectors, bad = Steps()(IMAGES, (4, 6))
    assert vectors is IMAGES
    assert not bad
    assert (Steps().d((4, 6)), Steps().d((7,)), Steps().d(())) == (24, 7, 0)
    assert parse_steps("centred unit").d((4, 6)) == 24


@settings(max_examples=30)
@given(FLOATS)
def test_unit_divides_by_the_length(x):
    units, bad = parse_steps("unit")(x, x.shape[1:])
    assert units.dtype == np.float32
    assert [*bad] == np.flatnonzero(~x.any(axis=1)).tolist()
    doubles = x.astype(np.float64)
    expected = doubles / np.maximum(np.linalg.norm(doubles, axis=1, keepdims=True), 1e-300)
    np.testing.assert_allclose(units, expected, rtol=2**-23, atol=1e-40)


@pytest.mark.parametrize("scale", [2.0**-1000, 1e-320, 2.0**500, 1e300])
def test_a_length_is_found_where_squares_leave_the_range_of_floats(scale):
    x = np.array([[3, 4, 0]]) * scale
    units, bad = parse_steps("unit")(x, (3,))
    assert not bad
    np.testing.assert_allclose(units, [[0.6, 0.8, 0]], rtol=1e-3)


@settings(max_examples=30)
@given(FLOATS)
def test_centred_takes_the_mean_away(x):
    steps = fitted("centred", x)
    (step,) = steps.each
    exact = [math.fsum(column) / len(x) for column in x.T.astype(np.float64)]
    np.testing.assert_allclose(step.fitted, exact, rtol=1e-12, atol=1e-12 * np.abs(x).max(initial=0))
    vectors, bad = steps(x, x.shape[1:])
    np.testing.assert_array_equal(vectors, (x.astype(np.float64) - step.fitted).astype(np.float32))
    assert vectors.dtype == np.float32
    assert not bad


def test_the_mean_of_whole_numbers_is_exact():
    (step,) = fitted("centred", IMAGES).each
    np.testing.assert_array_equal(step.fitted, IMAGES.sum(axis=0, dtype=np.int64) / len(IMAGES))


@pytest.mark.parametrize("text", ["unit", "centred", "centred unit", "unit centred"])
@pytest.mark.parametrize("images", [IMAGES, RNG.normal(size=(60, 41)).astype(np.float32)], ids=["bytes", "floats"])
def test_a_vector_is_of_its_image_alone(text, images):
    """Whatever stands beside it in a batch, and in whatever type its values come."""
    shape = images.shape[1:]
    steps = fitted(text, images)
    whole, bad = steps(images, shape)
    assert not bad
    for size in (1, 2, 17, 59):
        parts = [steps(images[i : i + size], shape)[0] for i in range(0, len(images), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    for dtype in (np.float32, np.float64):
        assert steps(np.asfortranarray(images.astype(dtype)), shape)[0].tobytes() == whole.tobytes()
    rows = RNG.permutation(len(images))
    assert steps(images[rows], shape)[0].tobytes() == whole[rows].tobytes()


def test_steps_follow_each_other_and_each_is_fitted_to_what_it_gets():
    images = IMAGES.astype(np.float64)

    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)

    centred_first = unit(images - images.mean(axis=0))
    centred_last = unit(images) - unit(images).mean(axis=0)
    np.testing.assert_allclose(fitted("centred unit", IMAGES)(IMAGES, (24,))[0], centred_first, atol=1e-6)
    np.testing.assert_allclose(fitted("unit centred", IMAGES)(IMAGES, (24,))[0], centred_last, atol=1e-6)
    assert np.abs(centred_first - centred_last).max() > 0.1


def test_what_steps_were_fitted_to_is_numbers_that_fit_them_again():
    steps = fitted("centred unit centred", IMAGES, (4, 6))
    assert steps.state.shape == (48,)
    again = parse_steps("centred unit centred").with_state(steps.state, (4, 6))
    assert again(IMAGES, (4, 6))[0].tobytes() == steps(IMAGES, (4, 6))[0].tobytes()
    assert parse_steps("unit").state.shape == (0,)
    assert steps.fitted(lambda: pytest.fail("they are fitted"), (4, 6), None) is steps


@pytest.mark.parametrize(
    "state", [np.zeros(0), np.zeros(23), np.zeros(25), np.zeros(24, np.float32), np.full(24, np.nan)]
)
def test_numbers_that_no_step_was_fitted_to_are_refused(state):
    with pytest.raises(ValueError, match="have no state of"):
        parse_steps("centred unit").with_state(state, (24,))


def test_only_what_is_fitted_is_done_before_all_is():
    steps = parse_steps("unit centred unit")
    assert str(steps.before_fitting) == "unit"
    assert str(parse_steps("centred unit").before_fitting) == "pixels"
    assert fitted("unit centred unit", IMAGES).before_fitting == steps
    with pytest.raises(TypeError, match="the step centred is not fitted"):
        steps(IMAGES, (24,))


def test_a_value_that_is_too_large_after_a_step_makes_a_row_bad():
    x = np.array([[1e60, 0], [1, 2], [3e38, 0]])
    steps = parse_steps("centred").with_state(np.array([-1e38, 0.0]), (2,))
    vectors, bad = steps(x, (2,))
    assert bad == {
        0: "a value beyond 3.40282e+38, which float32 does not hold",
        2: "a value beyond what float32 holds, after the step centred",
    }
    np.testing.assert_array_equal(vectors, np.array([[0, 0], [1e38, 2], [0, 0]], np.float32))


def test_an_image_that_is_the_mean_has_no_length():
    _, bad = parse_steps("centred unit").with_state(np.array([1.0, 2.0]), (2,))(np.array([[1, 2], [1, 3]]), (2,))
    assert bad == {0: "every value is zero, which has no length"}


@pytest.mark.parametrize(
    ("text", "in_space", "depends"),
    [
        ("pixels", True, True),
        ("pixels", False, False),
        ("unit", True, False),
        ("centred", False, True),
        ("centred unit", True, True),
        ("unit centred", True, False),
    ],
)
def test_whether_brighter_images_get_other_vectors(text, in_space, depends):
    assert parse_steps(text).depends_on_scale(in_space) == depends
    if text != "pixels":
        steps, floats = fitted(text, IMAGES), IMAGES.astype(np.float64)
        assert np.array_equal(steps(floats * 2, (24,))[0], steps(floats, (24,))[0]) != depends


def test_no_images_have_no_vectors():
    assert parse_steps("unit")(np.zeros((0, 0)), (4, 6))[0].shape == (0, 24)


def test_each_step_says_what_it_is():
    for step in parse_steps("centre deskew blur centred unit").each:
        assert isinstance(step, Step)
        assert step == type(step).read("")
        assert step.output((4, 6)) == (4, 6)


@pytest.mark.parametrize("text", ["centred deskew", "centred blur centre"])
def test_what_takes_0_for_the_background_is_refused_behind_what_makes_values_below_0_in_words_of_their_order(text):
    last = text.split()[-1]
    with pytest.raises(OptionError, match=rf"{last} takes 0 for the background, and centred before it makes values be"):
        parse_steps(text).output((8, 8))
    assert parse_steps(f"{last} centred").output((8, 8)) == (8, 8)
