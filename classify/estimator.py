"""scikit-learn estimators over knnvote's own search: for pipelines, cross-validation and grid search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from knnvote.data.columns import is_string
from knnvote.data.errors import KnnvoteError
from knnvote.indexer.index import Index, Timing
from knnvote.indexer.labels import label_array
from knnvote.indexer.names import ClassWeight, Ties
from knnvote.indexer.rungs import class_weight_to_json

from .base import KNNVoteBase
from .notebook.weight_function import AnyWeights
from .parameters import (
    array_like,
    check_to_answer,
    check_to_fit,
    classes_of,
    own_names,
    rule_of_metric,
    stored_class_weight,
    with_weight,
)
from .vote import Rule, class_shares, mean_target, vote


class KNNVoteClassifier(ClassifierMixin, KNNVoteBase):  # type: ignore[misc]  # scikit-learn ships no types
    """Classification by the vote of the nearest neighbours, as a scikit-learn estimator.

    Args:
        n_neighbors: that vote.
        weights: ``uniform`` or None, ``distance`` for 1 / distance, ``softmax[T]`` for exp(-distance / T), or a
            function of distances (nq, k), as `Rule` has it; with one, kind is exact, and the estimator is not saved.
        metric: ``l2``, ``cosine`` or ``l1``; or scikit-learn's ``euclidean``, ``manhattan`` or ``minkowski``.
        p: power of ``minkowski``, 1 or 2; of other metrics nothing.
        steps: between a row and its vector, in this order, as ``("centred", "unit")``: `TrainingOptions` has more. What
            `open` makes has those of its index.
        kind: of search: ``exact``, or ``adaptive``, which is tuned for n_neighbors and weights while it is fitted. What
            `open` makes has the kind of its index, which may be another one; it answers, and cannot be fitted again.
        ties: of classes with equal votes ``first-class`` takes the first in order, as scikit-learn does: `predict` is
            then where `predict_proba` is largest; of adaptive search nearly always, for it finds neighbours for a label
            by another ladder of rungs than for a confidence, where tuning says that this is faster. ``nearest``, the
            default of ``knnvote classify``, takes the one with the smaller summed distance.
        class_weight: what the votes of each class are multiplied by: ``balanced`` for n / (classes * rows of the
            class), a dict of weights by class, 1 for those that it does not name, or None for nothing.
        target_agreement: with exact search, that the lower end of the 95% interval must reach in tuning.
        random_state: of what is random in building an index.
        n_jobs: threads; None for one, -1 for as many as there are processors.

    Attributes:
        classes_: (c,) distinct labels, sorted.
        n_features_in_: columns of X.
        feature_names_in_: (d,) their names, where X was a table whose columns have strings as names.
        n_samples_fit_: rows that are stored.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from knnvote import KNNVoteClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> fitted = KNNVoteClassifier(n_neighbors=3).fit(X[:1000], y[:1000])
        >>> fitted.predict(X[1000:1005]).tolist()
        [1, 4, 0, 5, 3]
        >>> round(fitted.score(X[1000:], y[1000:]), 3)
        0.965
    """

    _is_regression = False

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        weights: AnyWeights = "uniform",
        metric: str = "l2",
        p: float = 2,
        steps: Sequence[str] = (),
        kind: Literal["exact", "adaptive"] = "exact",
        ties: Ties = "first-class",
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        target_agreement: float = 0.999,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        """Set parameters, which `fit` and `predict` check."""
        super().__init__(
            n_neighbors,
            weights=weights,
            metric=metric,
            p=p,
            steps=steps,
            kind=kind,
            target_agreement=target_agreement,
            random_state=random_state,
            n_jobs=n_jobs,
        )
        self.ties = ties
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Build the index of labelled rows.

        Args:
            X: (n, d) finite numbers.
            y: (n,) classes of any type that can be sorted.
            sample_weight: (n,) what the vote of each row is multiplied by; None for all alike. A row of weight 0 is not
                stored, as if it were not there; one of weight 2 has two votes, and is one neighbour still.

        Raises:
            ValueError: X, y or sample_weight is not such.
            ParameterError: a parameter cannot be used.
            KnnvoteError: a row cannot be used.
        """
        check_to_fit(self.get_params())
        rows, labels = validate_data(self, array_like(X, "X"), array_like(y, "y"), copy=True)
        classes_of(labels)
        check_classification_targets(labels)
        rows, labels, weights = with_weight(rows, labels, sample_weight)
        self.classes_, codes = classes_of(labels)
        self._has_own_labels = _is_storable(labels)
        return self._fit(rows, labels if self._has_own_labels else codes, weights, self._class_weight())

    def predict(self, X: ArrayLike | None) -> NDArray[Any]:
        """The class (nq,) of each row of X (nq, d); of each stored row, by the others, for None."""
        check_is_fitted(self)
        rule = self._rule()
        D, I = self._neighbors(X, rule.k, "label", rule)
        with own_names():
            winner, _ = vote(self._index.class_codes[I], D, rule, rule.factors(self._index, I))
        classes: NDArray[Any] = self.classes_[winner]
        return classes

    def predict_proba(self, X: ArrayLike | None) -> NDArray[np.float64]:
        """Each class's share of the vote (nq, c) for rows of X (nq, d); of each stored row, by the others, for None."""
        check_is_fitted(self)
        rule = self._rule()
        D, I = self._neighbors(X, rule.k, "confidence", rule)
        factors = rule.factors(self._index, I)
        with own_names():
            return class_shares(self._index.class_codes[I], D, len(self.classes_), rule.weights, factors)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the fitted index as an index folder, which every knnvote command takes.

        Args:
            path: the folder to make.
            overwrite: replace an index folder that is there.

        Raises:
            KnnvoteError: classes are of a type that no index folder holds, or the folder cannot be written.
        """
        check_is_fitted(self)
        if not self._has_own_labels:
            raise KnnvoteError(
                f"classes of type {self.classes_.dtype} ({self.classes_[0]!r}, ...) have no place in an index folder: "
                "fit integers, strings or booleans"
            )
        super().save(path, overwrite=overwrite)

    def _take(self, index: Index, timing: Timing) -> None:
        super()._take(index, timing)
        if not hasattr(self, "classes_"):  # it was opened, not fitted
            classes = index.classes
            values = classes.to_pylist() if pa.types.is_string(classes.type) else classes.to_numpy(zero_copy_only=False)
            self.classes_, self._has_own_labels = np.array(values), True

    def _rule(self) -> Rule:
        asked = {"n_neighbors": self.n_neighbors, "weights": self.weights, "ties": self.ties}
        check_to_answer({**asked, "n_jobs": self.n_jobs})
        own = self._class_weight()
        rule = Rule(k=int(self.n_neighbors), weights=self.weights, ties=self.ties, class_weight=own)
        return rule_of_metric(rule, self._index.metric)

    def _class_weight(self) -> ClassWeight:
        """What votes are multiplied by, with labels as the index has them."""
        labels = self.classes_.tolist() if self._has_own_labels else range(len(self.classes_))
        return stored_class_weight(self.class_weight, dict(zip(self.classes_.tolist(), labels, strict=True)))

    def _recorded(self) -> dict[str, Any]:
        own = self._class_weight()
        return {} if own == self._index.vote.class_weight else class_weight_to_json(own) or {"class_weight": "none"}


class KNNVoteRegressor(RegressorMixin, KNNVoteBase):  # type: ignore[misc]  # scikit-learn ships no types
    """Regression by the mean of the nearest neighbours' targets, as a scikit-learn estimator.

    Args:
        n_neighbors: that are averaged.
        weights: ``uniform`` or None, ``distance`` for 1 / distance, ``softmax[T]`` for exp(-distance / T), or a
            function of distances (nq, k), as `Rule` has it; with one, kind is exact, and the estimator is not saved.
        metric: ``l2``, ``cosine`` or ``l1``; or scikit-learn's ``euclidean``, ``manhattan`` or ``minkowski``.
        p: power of ``minkowski``, 1 or 2; of other metrics nothing.
        steps: between a row and its vector, in this order, as ``("centred", "unit")``: `TrainingOptions` has more. What
            `open` makes has those of its index.
        kind: of search: ``exact``, or ``adaptive``, which is tuned for n_neighbors and weights while it is fitted. What
            `open` makes has the kind of its index, which may be another one; it answers, and cannot be fitted again.
        target_agreement: with exact search, that the lower end of the 95% interval must reach in tuning.
        random_state: of what is random in building an index.
        n_jobs: threads; None for one, -1 for as many as there are processors.

    Attributes:
        n_features_in_: columns of X.
        feature_names_in_: (d,) their names, where X was a table whose columns have strings as names.
        n_samples_fit_: rows that are stored.

    Example:
        >>> from knnvote import KNNVoteRegressor
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 10.0, 20.0, 30.0]
        >>> KNNVoteRegressor(n_neighbors=2).fit(X, y).predict([[1.4]]).tolist()
        [15.0]
    """

    _is_regression = True

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Build the index of rows with their targets.

        Args:
            X: (n, d) finite numbers.
            y: (n,) finite numbers.
            sample_weight: (n,) what each row counts in a mean, as `KNNVoteClassifier.fit` has it.

        Raises:
            ValueError: X, y or sample_weight is not such.
            ParameterError: a parameter cannot be used.
            KnnvoteError: a row cannot be used.
        """
        check_to_fit(self.get_params())
        rows, targets = validate_data(self, array_like(X, "X"), array_like(y, "y"), copy=True, y_numeric=True)
        return self._fit(*with_weight(rows, targets, sample_weight))

    def predict(self, X: ArrayLike | None) -> NDArray[np.float64]:
        """The mean target (nq,) for each row of X (nq, d); for each stored row, of the others, for None."""
        check_is_fitted(self)
        rule = self._rule()
        D, I = self._neighbors(X, rule.k, "label", rule)
        with own_names():
            return mean_target(self._index.targets[I], D, rule.weights, rule.factors(self._index, I))

    def _rule(self) -> Rule:
        check_to_answer({"n_neighbors": self.n_neighbors, "weights": self.weights, "n_jobs": self.n_jobs})
        return rule_of_metric(Rule(k=int(self.n_neighbors), weights=self.weights), self._index.metric)


def _is_storable(labels: NDArray[Any]) -> bool:
    """Whether an index folder holds labels of this type as they are."""
    try:
        given = pa.array(labels)
        stored = label_array(given, is_regression=False)
        return bool(stored.null_count == 0 and (stored.type == given.type or is_string(given.type)))
    except (pa.ArrowException, KnnvoteError, ValueError, TypeError, OverflowError):
        return False
