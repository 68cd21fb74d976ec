"""Whitening within classes: what it computes, against plain NumPy, and whose bits depend on the image alone."""

import numpy as np
import pytest

from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.steps.chain import parse_steps

RNG = np.random.default_rng(3)
Y = RNG.integers(0, 5, 400)
_MIXED = (RNG.normal(0, 30, (5, 12))[Y] + RNG.normal(0, 20, (400, 12))) @ RNG.normal(0, 0.4, (12, 12))
DATA = {
    "bytes": np.clip(_MIXED + 128, 0, 255).astype(np.uint8),
    "signed bytes": np.clip(_MIXED, -128, 127).astype(np.int8),
    "floats": (_MIXED * 1e-9).astype(np.float32),
    "doubles": _MIXED * 1e200 + 1e201,
}


def fitted(x, classes, rows=70):
    def blocks():
        return (x[start : start + rows] for start in range(0, len(x), rows))

    return parse_steps("whitened").fitted(blocks, x.shape[1:], classes)


def plain(x, classes, most=128):
    """As the definition says, not rounded, in float64."""
    x = x.astype(np.float64) / np.abs(x.astype(np.float64)).max()
    within = np.mean([np.outer(r, r) for r in x - np.array([x[classes == c].mean(axis=0) for c in classes])], axis=0)
    w, V = np.linalg.eigh(within)
    V = V * np.sign(V[np.abs(V).argmax(axis=0), np.arange(len(w))])
    z = (x - x.mean(axis=0)) @ (V / np.sqrt(w + w.mean()))
    z = z[:, np.argsort(-z.std(axis=0))[:most]]
    return np.clip(z * 127 / (4.5 * z.std(axis=0).max()), -127, 127)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("most", [128, 5])
def test_it_is_whitened_within_classes(name, most, monkeypatch):
    monkeypatch.setattr("knnvote.data.steps.whitened.MOST", most)
    x = DATA[name]
    steps = fitted(x, Y)
    vectors, bad = steps(x, (12,))
    assert (vectors.shape, vectors.dtype, bad) == ((400, min(12, most)), np.int8, {})
    assert np.abs(vectors - plain(x, Y, most)).max() < 1
    assert np.array_equal(fitted(x, Y, rows=33).state, steps.state)
    assert np.array_equal(fitted(x, np.array(list("abcde"))[Y], rows=400).state, steps.state)
    again = parse_steps("whitened").with_state(steps.state, (12,))
    assert np.array_equal(again(x, (12,))[0], vectors)
    with pytest.raises(ValueError, match="have no state of"):
        parse_steps("whitened").with_state(steps.state[:-1], (12,))


@pytest.mark.parametrize("name", DATA)
def test_a_vector_is_of_its_image_alone(name):
    x = DATA[name]
    steps = fitted(x, Y)
    whole = steps(x, (12,))[0]
    assert np.array_equal(np.concatenate([steps(row[None], (12,))[0] for row in x[:50]]), whole[:50])
    assert np.array_equal(steps(np.asfortranarray(x.astype(np.float64))[::-1], (12,))[0], whole[::-1])
    far = steps(x[:2].astype(np.float64) * 1e90, (12,))[0]  # cut off, not carried over
    assert np.abs(far.astype(int)).max() <= 127


def test_sums_of_bytes_are_exact_in_float32_to_the_largest_number_of_them():
    state = fitted(RNG.choice(np.array([0, 255], np.uint8), (800, 40)), np.arange(800) % 3).state
    K = state[2:-80].reshape(40, 40)
    assert np.array_equal(K, np.rint(K))
    assert 2**23 < np.abs(K).sum(axis=1).max() * 255 < 2**24


def test_classes_that_do_not_vary_and_images_that_are_all_one():
    x = RNG.integers(0, 255, (3, 4)).astype(np.uint8)
    copies, classes = np.tile(x, (30, 1)), np.arange(90) % 3
    assert len(np.unique(fitted(copies, classes)(copies, (4,))[0], axis=0)) == 3
    one = np.tile(x[:1], (90, 1))
    assert not fitted(one, classes)(one, (4,))[0].any()
    of_one_class = fitted(DATA["bytes"], np.zeros(400, int))(DATA["bytes"], (12,))[0]
    assert np.abs(of_one_class - plain(DATA["bytes"], np.zeros(400, int))).max() < 1
    zeros = np.zeros((60, 3), np.float32)
    assert not fitted(zeros, classes[:60])(zeros, (3,))[0].any()


def test_what_it_cannot_be_fitted_to_is_refused():
    with pytest.raises(KnnvoteError) as few:
        fitted(DATA["bytes"][:239], Y[:239])
    assert str(few.value) == (
        "steps: whitened needs 240 images, 20 for each of 12 numbers that it gets, and there are 239: leave it out, or "
        "have more images; of large pictures gradients before it makes fewer numbers"
    )
    assert fitted(DATA["bytes"][:240], Y[:240]).state.size == 2 + 12 * 12 + 2 * 12
    with pytest.raises(OptionError, match="steps: whitened needs classes, and these are numbers: leave it out"):
        fitted(DATA["bytes"], None)
    with pytest.raises(OptionError, match="steps: whitened takes at most 2,048 numbers, and gets 2,116: put gradients"):
        parse_steps("blur whitened").output((46, 46))
    assert parse_steps("gradients whitened").output((46, 46)) == (128,)
