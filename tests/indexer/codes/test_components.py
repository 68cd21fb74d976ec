"""How many components are coded: what a sample says pays, and none where a plain scan is cheaper."""

import numpy as np
import pytest

from knnvote.indexer.codes import components, library
from knnvote.indexer.codes.components import choose_components
from knnvote.indexer.codes.projection import fit_projection, plain_projection
from knnvote.indexer.metric import METRICS

L2 = METRICS["l2"]


def strokes(rng, n, d):
    """Vectors with a few strong directions."""
    return rng.normal(size=(n, 12)) @ rng.normal(size=(12, d)) * 60 + rng.normal(size=(n, d))


def choose(x, fitted=None):
    fitted = x if fitted is None else fitted
    projections = fit_projection(fitted, x.shape[1], largest=None), plain_projection(fitted, largest=None)
    return choose_components(x, projections, L2, 0)


def test_few_components_pay_for_vectors_of_few_directions_and_every_pixel_for_those_of_all(monkeypatch):
    rng = np.random.default_rng(0)
    x = strokes(rng, 3000, 200)
    found = choose(x)
    assert found.p in (16, 32)
    assert not found.is_plain
    of_all = choose(rng.normal(size=(3000, 200)))
    assert of_all.is_plain
    assert of_all.p == 200
    for variant in (*library._usable(), library.NONE):
        monkeypatch.setenv(library.ENVIRONMENT, variant)
        assert np.array_equal(choose(x).axes, found.axes), variant


def test_no_components_pay_where_one_vector_is_so_far_out_that_codes_tell_no_others_apart():
    x = np.random.default_rng(0).normal(size=(3000, 20))
    x[:30] *= 1e6
    assert choose(x) is None


@pytest.mark.parametrize("choices", [[4], [4, 8, 20]])
def test_the_share_that_is_not_ruled_out_is_that_of_all_pairs(choices):
    rng = np.random.default_rng(1)
    xq, x = strokes(rng, 7, 20), strokes(rng, 90, 20)
    projection = fit_projection(x, 20, largest=None)
    t = np.sqrt(((xq[:, None] - x) ** 2).sum(axis=2)).min(axis=1) * 1.5
    found, tau = components._shares_not_ruled_out(xq, x, t, projection, choices), t * projection.unit
    for p, share in zip(choices, found, strict=True):
        points = []
        for v in (xq, x):
            y, squares = projection.components(v)
            rest = np.sqrt((squares - (y[:, :p] ** 2).sum(axis=1)).clip(0))
            points.append(np.column_stack([y[:, :p], rest]))
        bounds = np.sqrt(((points[0][:, None] - points[1]) ** 2).sum(axis=2)) - np.sqrt(p / 3)  # of two roundings
        assert share == pytest.approx((bounds <= tau[:, None]).mean())
    assert found[0] < 0.9


def test_a_vector_infinitely_many_units_away_from_those_that_axes_were_fitted_to_is_no_matter():
    x = strokes(np.random.default_rng(2), 50, 3) * 1e-200
    x[5] = 1e149
    assert choose(x, np.delete(x, 5, axis=0)) is None
