"""What is said of an explained image, in the terminal and on a page alike."""

from typing import Any

import numpy as np

from knnvote.classify.answer import BAD_IMAGE, OK
from knnvote.data.layout import noun, show_shape
from knnvote.indexer.labels import show_class
from knnvote.indexer.metric import METRICS

from .explain import Explanation, Explanations

_LONGEST = 60  # characters of a kept value


def verdict(one: Explanation, names: list[str] | None) -> str:
    """The answer: the label or why there is none, the best guess, and what stands against it."""
    if one.status == BAD_IMAGE:
        return f"bad image: {one.reason}"
    told = show_class(one.best, names)
    if one.status != OK:
        told = f"abstained: {one.reason}; the best guess is {told}"
    answer = one.answer
    if answer.index.is_regression:
        return told
    told += f", confidence {answer.confidence[0]:.4g}"
    second = answer.second[0].as_py()
    if second is None:
        return f"{told}: all neighbours agree"
    return f"{told}; second {show_class(second, names)}, margin {answer.margin[0]:.4g}"


def advice(one: Explanation) -> str:
    """What to do about an image that cannot be read; empty for others."""
    if one.status != BAD_IMAGE:
        return ""
    index = one.answer.index
    low, high = index.image_range
    return (
        f"what to do: put an image there as {index.path} stores them, {show_shape(index.shape)} from {low:g} to "
        f"{high:g}; then classify again, which does anew the files that changed"
    )


def left_out(one: Explanation, names: list[str] | None) -> str:
    """That it is stored itself, with which label, and does not vote on itself; empty for others."""
    if one.row is None:
        return ""
    index = one.answer.index
    group = "" if index.manifest.groups is None else " with its group"
    return (
        f"stored in {index.path}, labelled {show_class(one.stored_label, names)}, and left out{group} of its own vote"
    )


def outvoted(one: Explanation, names: list[str] | None) -> str:
    """That stored images equal to it have another label than the vote gave; empty where none has."""
    index = one.answer.index
    are_equal = METRICS[index.metric].are_equal(np.array([neighbor.distance for neighbor in one.neighbors]))
    equal = [neighbor.label for neighbor, is_equal in zip(one.neighbors, are_equal, strict=True) if is_equal]
    if not one.votes or not equal or one.best in equal:
        return ""
    is_one = len(equal) == 1
    is_same = index.metric != "cosine" and not index.steps  # by which brighter is the same too
    kind = f"exact {'copy' if is_one else 'copies'}" if is_same else f"image{'' if is_one else 's'} at distance 0"
    stored = f"an {kind} is" if is_one else f"{len(equal)} {kind} are"
    labels = " and ".join(show_class(label, names) for label in dict.fromkeys(equal))
    return f"{stored} stored, labelled {labels}; the vote of {one.answer.rule.k} says {show_class(one.best, names)}"


def nearness(found: Explanations, one: Explanation) -> str:
    """How near the nearest stored image is, beside how near stored images are to each other; empty for none."""
    if not one.neighbors:
        return ""
    told = f"nearest at {one.neighbors[0].distance:.4g}"
    if not len(found.distances):
        return told
    distance, stored = one.neighbors[0].distance, f"{len(found.distances):,} stored {noun(found.index.shape)}s"
    farther, nearer = found.nearer_than(distance), found.farther_than(distance)
    if nearer == 1:
        return f"{told}: farther than any of {stored} is from its nearest other"
    if nearer > farther:
        return f"{told}: farther than {int(100 * nearer)}% of {stored} are from their nearest other"
    return f"{told}: nearer than {int(100 * farther)}% of {stored} are to their nearest other"


def kept_values(one: Explanation) -> list[tuple[str, str]]:
    """The other columns of its row, each with its value, cut where it is long."""
    told: list[tuple[str, Any]] = [(name, str(value)) for name, value in one.kept.items() if value is not None]
    return [(name, text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…") for name, text in told]
