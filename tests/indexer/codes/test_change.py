"""An inverted file with vectors more or fewer holds what one packed at once would."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.indexer.codes import change
from knnvote.indexer.codes.inverted_file import InvertedFile
from knnvote.indexer.codes.projection import Projection
from knnvote.indexer.codes.steps import nearest
from knnvote.indexer.codes.table import pack, records
from knnvote.indexer.metric import METRICS

P = 8
PROJECTION = Projection(centre=np.zeros(P), grid=1.0, axes=np.eye(P))


def inverted(x, rows, centroids):
    """Vectors in the order of their rows, in lists around centroids as a build puts them."""
    coded = PROJECTION.encode(x)
    list_of = nearest(centroids, coded.codes, 1)[:, 0]
    order = np.argsort(list_of, kind="stable")
    ends = np.cumsum(np.bincount(list_of, minlength=centroids.n)).astype(np.int64)
    return InvertedFile(PROJECTION, pack(records(coded)[order], rows[order]), centroids, ends)


def vectors(rng, n):
    return rng.integers(-3, 4, (n, P)) + rng.random((n, P)).round(1)


def same(changed, expected):
    tiles = np.concatenate([*changed.tiles])
    return (
        changed.n == expected.table.n
        and tiles.tobytes() == expected.table.tiles.tobytes()
        and changed.ends.dtype == np.int64
        and np.array_equal(changed.ends, expected.ends)
    )


@pytest.mark.parametrize("block", [1, 7, 16, 1000])
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_with_vectors_added_or_left_out_it_is_the_one_of_all_that_there_are(block, data):
    n, m, nlist = (data.draw(st.integers(1, most)) for most in (60, 40, 6))  # some lists are empty
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, centroids = vectors(rng, n + m), pack(records(PROJECTION.encode(vectors(rng, nlist))), np.arange(nlist))
    both, first = np.arange(n + m), np.arange(n)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=n + m, max_size=n + m)))
    kept[data.draw(st.integers(0, n + m - 1))] = True
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(change, "_BLOCK", block)
        old, whole = inverted(x[:n], first, centroids), inverted(x, both, centroids)
        assert same(change.with_added(old, x[n:], METRICS["l2"]), whole)
        assert same(change.without(whole, kept), inverted(x[kept], np.arange(kept.sum()), centroids))


@pytest.mark.parametrize(("start", "stop"), [(0, 33), (0, 1), (5, 20), (16, 32), (31, 33), (33, 33)])
def test_a_part_of_a_table_is_what_was_packed(start, stop):
    stored, rows = records(PROJECTION.encode(vectors(np.random.default_rng(0), 33))), np.arange(33)[::-1]
    part = pack(stored, rows).part(start, stop)
    assert (part[0].tobytes(), part[1].tolist()) == (stored[start:stop].tobytes(), rows[start:stop].tolist())
