from math import comb

import numpy as np
import pytest

from knnvote.classify.evaluation.mcnemar import mcnemar


def compared(ours, theirs, both=5):
    """Two searches that are right alone on so many images."""
    right = np.repeat([True, False, True, False], [ours, theirs, both, 2])
    other = np.repeat([False, True, True, False], [ours, theirs, both, 2])
    return mcnemar("b", "a", right, other)


@pytest.mark.parametrize(("ours", "theirs"), [(12, 3), (3, 12), (0, 5), (0, 6), (7, 7), (400, 300)])
def test_p_is_that_of_as_unequal_tosses_of_a_coin(ours, theirs):
    found, n = compared(ours, theirs), ours + theirs
    tail = sum(comb(n, i) for i in range(min(ours, theirs) + 1)) / 2**n
    assert (found.only_name, found.only_other) == (ours, theirs)
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert found.is_more_than_chance == (found.p < 0.05)


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (12, 3, "b is right on 12 images where a is wrong, a on 3 where b is wrong: more than chance (p = 0.035)"),
        (
            1,
            0,
            "b is right on 1 image where a is wrong, a on 0 where b is wrong: no more than chance would give (p = 1)",
        ),
        (0, 99, "b is right on 0 images where a is wrong, a on 99 where b is wrong: more than chance (p < 0.0001)"),
        (0, 0, "b and a are right on the same images"),
    ],
)
def test_it_is_told_in_plain_words(ours, theirs, told):
    assert compared(ours, theirs).told() == told
