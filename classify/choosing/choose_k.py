"""How many neighbours to ask, and how their votes count: the best of the estimates of every k and weighting."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from knnvote.classify.evaluation.near_copies import NearCopies, near_copies_stored
from knnvote.classify.search.left_out import check_left_out, count_groups, told_of_classes
from knnvote.classify.vote import Rule
from knnvote.data.layout import noun
from knnvote.data.text import counted
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.names import ClassWeight, Weights
from knnvote.indexer.rungs import class_weight_to_json
from knnvote.indexer.threads import limit_threads

from .scores import MAX_K, Score, check_targets, loss, measure, measure_of


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `choose_k` found.

    Attributes:
        images: that were left out, one at a time: all that the index stores.
        search: kind of the index, exact or approximate, that found the neighbours.
        measure: ``accuracy``, where more is better, or ``mean_squared_error``, where less is.
        with_copies: images with an exact copy among the others, which make the accuracy flattering.
        scores: by k, then in the order of `weights_to_try`.
        class_weight: what the votes of classes were multiplied by, as `Rule` has it.
        groups: that were left out, each with its images; None where the index has none.
        near_copies: what near copies decide of the vote that the index was made for; None where too few images tell.
        notes: what is to be known of the figures, in words; parameters are marked.
        noun: what they are, image or vector.
    """

    images: int
    search: str
    measure: str
    with_copies: int
    scores: list[Score]
    class_weight: ClassWeight = None
    groups: int | None = None
    near_copies: NearCopies | None = None
    notes: tuple[str, ...] = ()
    noun: str = "image"

    def __repr__(self) -> str:
        """The best of them."""
        best, measure = self.best, self.measure.replace("_", " ")
        tried = f"{len(self.scores):,} tried on {counted(self.images, self.noun)}"
        return f"<Choice k {best.k}, {best.weights}: {measure} {best.value:.4g}; {tried}>"

    @property
    def weights(self) -> list[Weights]:
        """The weightings that were tried."""
        return list(dict.fromkeys(score.weights for score in self.scores))

    @property
    def best(self) -> Score:
        """The best value; among equal ones the smaller k, then uniform weights."""
        return self.by_quality()[0]

    @property
    def best_balanced(self) -> Score | None:
        """The best balanced accuracy, of equal ones likewise; None for regression."""
        return max(self.scores, key=lambda score: score.balanced_accuracy or 0) if self.measure == "accuracy" else None

    def by_quality(self) -> list[Score]:
        """All from the best down; equal ones by k, then in the order of the weightings, as scores come."""
        return sorted(self.scores, key=self._loss)

    @property
    def smallest_within_one_standard_error(self) -> Score:
        """The smallest k whose value is within one standard error of the best; of its weightings the better.

        The cheapest vote that comes so near the best by this measure, and no simpler model: the fewer neighbours, the
        more does an answer depend on each.
        """
        return min(self._within_one_standard_error(), key=lambda score: (score.k, self._loss(score)))

    @property
    def largest_within_one_standard_error(self) -> Score:
        """The largest such k; of its weightings the better.

        The smoothest vote, and so the simplest model, as the one-standard-error rule of Breiman, Friedman, Olshen and
        Stone chooses it (Classification and Regression Trees, 1984, section 3.4.3). It may be the most that were tried.
        """
        return min(self._within_one_standard_error(), key=lambda score: (-score.k, self._loss(score)))

    def _within_one_standard_error(self) -> list[Score]:
        limit = self._loss(self.best) + self.best.standard_error
        return [score for score in self.scores if self._loss(score) <= limit]

    def to_json(self) -> dict[str, Any]:
        """The object of ``choose-k`` as JSON."""
        return {
            "images": self.images,
            "search": self.search,
            "with_copies": self.with_copies,
            "groups": self.groups,
            "near_copies": None if self.near_copies is None else asdict(self.near_copies),
            **class_weight_to_json(self.class_weight),
            "results": [self._score_to_json(score) for score in self.scores],
            "best": self._score_to_json(self.best),
            **({} if self.best_balanced is None else {"best_balanced": self._score_to_json(self.best_balanced)}),
            "smallest_within_one_standard_error": self._score_to_json(self.smallest_within_one_standard_error),
            "largest_within_one_standard_error": self._score_to_json(self.largest_within_one_standard_error),
        }

    def _loss(self, score: Score) -> float:
        return loss(score, self.measure)

    def _score_to_json(self, score: Score) -> dict[str, Any]:
        return {
            "k": score.k,
            "weights": score.weights,
            self.measure: score.value,
            "standard_error": score.standard_error,
            **({} if score.balanced_accuracy is None else {"balanced_accuracy": score.balanced_accuracy}),
        }


def choose_k(
    index: Index,
    *,
    max_k: int | None = None,
    class_weight: Any = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Choice:
    """Leave-one-out accuracy, for regression the mean squared error, of every k from 1 to max_k and each weighting.

    Of weights with a temperature a range is tried: about 0.07 for cosine, else about how much farther than the nearest
    its ten neighbours usually lie. Ties of votes go to the nearer class, as `vote` has it by default.

    Args:
        index: an opened index of any kind.
        max_k: the most neighbours to try; by default `MAX_K`, or n - 1 where that is less.
        class_weight: of the vote, as `Rule` has it; by default that of the index.
        threads: of the search.
        progress: called with the number of rows after each block.

    Raises:
        KnnvoteError: the index holds one image or one group, or targets too far apart to square.
        OptionError: max_k is more than there are neighbours, or less than 1, or class_weight is none of the index.

    Example:
        >>> from knnvote import choose_k, open_index
        >>> choice = choose_k(open_index("digits.knn"), max_k=10)
        >>> choice.best.k, choice.best.weights, round(choice.best.value, 4)
        (4, 'uniform', 0.9889)
    """
    check_index(index)
    max_k = check_left_out(index, "max_k", max_k, MAX_K)
    check_targets(index)
    rule = Rule.of(index, class_weight=class_weight)
    with limit_threads(threads):
        measured = measure(index, max_k, rule.class_weight, progress=progress)
        near_copies = near_copies_stored(index, rule)
    return Choice(
        images=index.n,
        search=index.kind,
        measure=measure_of(index),
        with_copies=measured.with_copies,
        scores=measured.scores,
        class_weight=rule.class_weight,
        groups=count_groups(index),
        near_copies=near_copies,
        notes=tuple(notes_of_left_out(index, near_copies)),
        noun=noun(index.shape),
    )


def notes_of_left_out(index: Index, near_copies: NearCopies | None) -> Iterator[str]:
    """What is to be known of what left-out images show, in words; parameters are marked."""
    if of_classes := told_of_classes(index):
        yield of_classes
    if near_copies is not None and (of_copies := near_copies.told_of_stored(index)):
        yield of_copies
