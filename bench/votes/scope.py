"""Out of scope: rows of classes that are not stored, which a threshold should refuse and rows of the others pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bench.problem import Problem
from knnvote.classify.answer import OK, Answer
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.search.distance_limit import distance_limit
from knnvote.classify.vote import Rule
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.index import Index


@dataclass(frozen=True)
class Limits:
    """Options of `knnvote classify` that have it abstain; None where one is not given."""

    target_accuracy: float | None = None
    by_class: bool = False
    false_alarms: float | None = None

    @property
    def shown(self) -> str:
        """As they are typed."""
        parts = []
        if self.target_accuracy is not None:
            parts.append(f"--target-accuracy {self.target_accuracy:g}{' --by-class' if self.by_class else ''}")
        if self.false_alarms is not None:
            parts.append(f"--max-distance auto --false-alarms {self.false_alarms:g}")
        return " ".join(parts) or "none"

    def of(self, index: Index, rule: Rule) -> Rule | None:
        """The rule with these; None where no threshold is shown to reach the target."""
        if self.target_accuracy is not None:
            found = choose_threshold(index, rule, self.target_accuracy)
            if found.chosen is None:
                return None
            rule = rule.accepting(found.acceptance_by_class if self.by_class else found.acceptance)
        if self.false_alarms is not None:
            limit = distance_limit(index, rule, false_alarms=self.false_alarms).limit
            rule = replace(rule, max_distance=limit)
        return rule


LIMITS = (
    Limits(),
    *(Limits(target_accuracy=target) for target in (0.9, 0.95, 0.98)),
    Limits(target_accuracy=0.95, by_class=True),
    *(Limits(false_alarms=share) for share in (0.01, 0.05, 0.1)),
    Limits(target_accuracy=0.95, false_alarms=0.05),
)


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """What limits make of test rows.

    Attributes:
        refused: share of the rows out of scope without an answer.
        answered: share of the rows in scope with one.
        right: share of these that is right.
        right_of_all: likewise of all rows with an answer, of which those out of scope are wrong.
    """

    refused: float
    answered: float
    right: float
    right_of_all: float


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One draw of the classes that are left out.

    Attributes:
        accuracy: of the rows in scope where all are answered.
        by_confidence: probability that a row in scope has a higher confidence than one out of scope (AUROC).
        by_distance: likewise that it has a nearer neighbour.
        refusals: by limits; None where no threshold is shown to reach the target.
    """

    accuracy: float
    by_confidence: float
    by_distance: float
    refusals: dict[Limits, Refusals | None]


def draws(problem: Problem, rules: Sequence[Rule], *, left_out: int, seeds: int, folder: Path) -> Iterator[list[Draw]]:
    """For each seed a draw for each rule: an index without some classes is asked for test rows of all.

    Args:
        problem: stored and test rows; test rows of classes that are not stored have no part.
        rules: of the vote.
        left_out: classes that are drawn to be out of scope.
        seeds: how many draws.
        folder: for the indexes.
    """
    known = problem.truth < problem.codes.max() + 1
    xq, truth = problem.xq[known], problem.truth[known]
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).choice(problem.codes.max() + 1, left_out, replace=False)
        keep, in_scope = ~np.isin(problem.codes, drawn), ~np.isin(truth, drawn)
        path = folder / f"without-{seed}.knn"
        index_arrays(problem.x[keep], problem.codes[keep], path, options=IndexOptions(metric="cosine", threads=1))
        index = open_index(path)
        yield [_draw(index, rule, xq, truth, in_scope) for rule in rules]


def _draw(
    index: Index, rule: Rule, xq: NDArray[np.generic], truth: NDArray[np.int32], in_scope: NDArray[np.bool_]
) -> Draw:
    answer = Classifier(index, rule).answer(xq, {})
    right = answer.best.to_numpy() == truth
    refusals = {}
    for limits in LIMITS:
        limited = limits.of(index, rule)
        refusals[limits] = None if limited is None else _refusals(index, limited, answer, right, in_scope)
    return Draw(
        accuracy=float(right[in_scope].mean()),
        by_confidence=float(roc_auc_score(in_scope, answer.confidence)),
        by_distance=float(roc_auc_score(in_scope, -answer.D[:, 0])),
        refusals=refusals,
    )


def _refusals(
    index: Index, rule: Rule, answer: Answer, right: NDArray[np.bool_], in_scope: NDArray[np.bool_]
) -> Refusals:
    """What a rule makes of neighbours that were found."""
    answered = Classifier(index, rule).answer_neighbors(answer.D, answer.I).status == OK
    return Refusals(
        refused=float((~answered[~in_scope]).mean()),
        answered=float(answered[in_scope].mean()),
        right=float(right[answered & in_scope].mean()),
        right_of_all=float(right[answered].mean()),
    )


def mean(found: Sequence[Refusals]) -> Refusals:
    """Of several draws."""
    names = ("refused", "answered", "right", "right_of_all")
    return Refusals(**{name: fmean(getattr(each, name) for each in found) for name in names})
