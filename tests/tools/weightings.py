"""Weightings that the tests try, and what scikit-learn is told for them."""

import numpy as np

from knnvote.classify.weighting import WEIGHTINGS

WEIGHTS = ("uniform", "distance", "softmax[0.5]")
assert [text.partition("[")[0] for text in WEIGHTS] == list(WEIGHTINGS)


def temperature(weights):
    """Of a softmax as it is typed."""
    return float(weights.removeprefix("softmax[").removesuffix("]"))


def in_sklearn(weights):
    """The same weights as scikit-learn takes them: a name, or a function of distances (nq, k)."""
    if not weights.startswith("softmax"):
        return weights
    return lambda D: np.exp((D.min(axis=1, keepdims=True) - D) / temperature(weights))
