"""The commonest confusions of a comparison, with pictures of images that are confused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from knnvote.classify.answer import Neighbor, neighbors_of
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.accuracy import Confusion, Judgement
from knnvote.classify.evaluation.testset import TestSet
from knnvote.indexer.shown.thumbnails import Thumbnail, stored_thumbnail

from .voters import Voter, show_voters

_PAIRS = 6
_EACH = 4  # images of a pair
_ASKED = 1000  # images of a class, at most: finding some of many takes no second comparison


@dataclass(frozen=True, kw_only=True)
class Confused:
    """An image that is taken for what it is not: its name, and the nearest that misled."""

    name: str
    picture: Thumbnail
    misled: list[Voter]


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """A confusion, its share of the true class, and some of its images; none where they are no pictures."""

    pair: Confusion
    share: float
    images: list[Confused]


def show_confused(judgement: Judgement, tests: TestSet, classifier: Classifier) -> list[ConfusedPair]:
    """The commonest confusions, with images found by asking the first of each true class again."""
    pairs = judgement.commonest_confusions[:_PAIRS]
    found: dict[Any, list[Confused]] = {}
    for truth in dict.fromkeys(pair.truth for pair, _ in pairs):
        places = [place for place, true in enumerate(tests.truth) if true == truth][:_ASKED]
        wanted = [pair.label for pair, _ in pairs if pair.truth == truth]
        for label, confused in _ask(tests, classifier, places, wanted):
            found.setdefault((truth, label), []).append(confused)
    return [
        ConfusedPair(pair=pair, share=share, images=found.get((pair.truth, pair.label), [])) for pair, share in pairs
    ]


def _ask(
    tests: TestSet, classifier: Classifier, places: Sequence[int], wanted: Sequence[Any]
) -> list[tuple[Any, Confused]]:
    """Of some test images the first that get each of some labels."""
    answer, index = classifier.answer(tests.xq[np.array(places)], {}), classifier.index
    labels = answer.prediction.to_pylist()
    shown = []
    for label in wanted:
        for i in [i for i, predicted in enumerate(labels) if predicted == label][:_EACH]:
            place = places[i]
            (name,) = tests.names([int(tests.rows[place])])
            misled = _first_with(label, neighbors_of(index, answer.I[i], answer.D[i]))
            picture = stored_thumbnail(index.manifest, tests.images[place], f"the image of {name}")
            shown.append((label, Confused(name=name, picture=picture, misled=show_voters(index, misled))))
    return shown


def _first_with(label: Any, neighbors: Sequence[Neighbor]) -> list[Neighbor]:
    return [neighbor for neighbor in neighbors if neighbor.label == label][:1]
