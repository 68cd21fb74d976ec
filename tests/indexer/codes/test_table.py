"""The hot table: what is packed into tiles never makes a bound higher."""

import numpy as np
import pytest

from knnvote.indexer.codes.projection import Coded
from knnvote.indexer.codes.table import DELTA, MOST_NORM, pack, records


@pytest.mark.parametrize(("n", "p"), [(1, 4), (16, 8), (33, 64)])
def test_tiles_hold_every_vector_and_round_to_the_side_that_rules_out_less(n, p):
    rng = np.random.default_rng(n)
    codes = rng.integers(-127, 128, (n, p)).astype(np.int8)
    rest, rounding = rng.random(n) * 10.0 ** rng.integers(-3, 9, n), rng.random(n) * 10.0 ** rng.integers(-3, 15, n)
    norm = np.square(codes.astype(np.float64)).sum(axis=1) + rest**2
    rows = rng.permutation(n)
    table = pack(records(Coded(codes, norm, rest, rounding)), rows)
    assert table.p == p
    assert np.array_equal(table.codes, codes)
    assert np.array_equal(table.field("row"), rows)
    assert (table.tiles["row"].reshape(-1)[n:] == -1).all()
    held = {name: table.field(name).astype(np.float64) for name in ("norm", "rest", "rounding")}
    assert (held["norm"] <= norm).all()
    assert (held["norm"] > np.minimum(norm, MOST_NORM) - 1.001).all()
    assert (held["rounding"] > rounding * (1 + DELTA)).all()
    np.testing.assert_allclose(held["rounding"], rounding, rtol=2 * DELTA)
    np.testing.assert_allclose(held["rest"], rest, rtol=2.0**-23)


@pytest.mark.parametrize("rounding", [1e30, 1e140, np.inf])
def test_a_vector_that_codes_say_nothing_of_has_a_finite_rounding_by_which_it_is_never_ruled_out(rounding):
    coded = Coded(np.zeros((1, 4), np.int8), np.zeros(1), np.zeros(1), np.array([rounding]))
    table = pack(records(coded), np.zeros(1, np.int64))
    held = table.field("rounding")
    farthest = 127 * 2.0**20 * np.sqrt(1e6)  # a query's rest, in a million dimensions
    assert np.isfinite(np.square(held)).all()
    assert (np.square(held) > farthest**2).all()
