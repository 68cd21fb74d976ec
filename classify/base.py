"""What the scikit-learn estimators share: an index in memory, and the search."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from knnvote.data.errors import KnnvoteError, check_one_of, stack_level
from knnvote.data.steps.chain import steps_of
from knnvote.data.vectors import convert_queries
from knnvote.indexer.arrays.labelled import training_set_from_arrays
from knnvote.indexer.build import MAX_SEED, IndexOptions, build_in_memory, write_index
from knnvote.indexer.building.stepped import unusable_images
from knnvote.indexer.codes.plain import Neighbors
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.index import Index, Timing, in_memory
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import ClassWeight
from knnvote.indexer.rungs import class_weight_from_json, class_weight_of_classes
from knnvote.indexer.threads import limit_threads

from .adaptive.tune import Tuning
from .notebook.weight_function import AnyWeights
from .parameters import (
    RULE_PARAMETERS,
    ParameterError,
    RowError,
    array_like,
    check_to_answer,
    metric_of,
    own_names,
    weights_to_store,
)
from .scale import Scale
from .search.ladder import Promise
from .search.left_out import leave_out
from .search.search import find
from .vote import Rule
from .weighting import plain_class_weight


class KNNVoteBase(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What classifier and regressor share: the index in memory, and the search."""

    _is_regression: bool

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        weights: AnyWeights = "uniform",
        metric: str = "l2",
        p: float = 2,
        steps: Sequence[str] = (),
        kind: Literal["exact", "adaptive"] = "exact",
        target_agreement: float = 0.999,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        """Set parameters, which `fit` and `predict` check."""
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.metric = metric
        self.p = p
        self.steps = steps
        self.kind = kind
        self.target_agreement = target_agreement
        self.random_state = random_state
        self.n_jobs = n_jobs

    @classmethod
    def open(cls, path: Path | str, **parameters: Any) -> Self:
        """A fitted estimator that answers from an index folder.

        Args:
            path: of the folder, or its URI on an object store.
            parameters: of the estimator but kind, metric and steps, which are the index's. Where nothing is given,
                n_neighbors, weights and ties are those of the estimator that saved it, else with target_agreement
                those that it was tuned for; and class_weight is that of the estimator, else that of the index.

        Raises:
            KnnvoteError: it is no index folder, is damaged, or was built for the other task.
            TypeError: kind, metric or steps are given.
        """
        index = open_index(path)
        if index.is_regression != cls._is_regression:
            name = "KNNVoteRegressor" if index.is_regression else "KNNVoteClassifier"
            raise KnnvoteError(f"{path} was built for {index.manifest.task}: open it with {name}")
        steps = tuple(map(str, index.steps.each))
        found: dict[str, Any] = {"kind": index.kind, "metric": index.metric, "steps": steps}
        own = {**_tuned_for(index), **index.manifest.estimator, **_class_weight_of(index)}
        estimator = cls(**{**own, **parameters}, **found)
        # In memory, so that a pickled one answers where the folder is not.
        estimator._take(in_memory(index), read_timing(index.path, index.manifest.generation))
        return estimator

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the fitted index as an index folder, which every knnvote command takes.

        Args:
            path: the folder to make.
            overwrite: replace an index folder that is there.

        Raises:
            ParameterError: weights are a function, which no folder holds.
            KnnvoteError: the folder cannot be written.
        """
        check_is_fitted(self)
        own = self.get_params()
        check_to_answer(own)
        opened = {**type(self)().get_params(), **_tuned_for(self._index)}  # what an estimator has that is told nothing
        own["weights"] = weights_to_store(self.weights)
        others = {name: own[name] for name in RULE_PARAMETERS if name in own and own[name] != opened[name]}
        if "n_neighbors" in others:
            others["n_neighbors"] = int(self.n_neighbors)
        others |= self._recorded()
        index = replace(self._index, manifest=replace(self._index.manifest, estimator=others))
        write_index(index, self._timing, Path(path), overwrite=overwrite)

    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Neighbors | NDArray[np.int64]:
        """The nearest stored rows of each query.

        An adaptive index searches with its most careful rung here, which finds more of the true neighbours than what
        settles a label.

        Args:
            X: (nq, d) queries; None for the stored rows, each of which is then no neighbour of itself.
            n_neighbors: of each; None for the estimator's own.
            return_distance: whether to return distances.

        Returns:
            Distances (nq, k) float64, ascending, and rows (nq, k) int64 of what was fitted; or the rows alone.
        """
        check_is_fitted(self)
        D, I = self._neighbors(X, self.n_neighbors if n_neighbors is None else n_neighbors, "careful")
        return (D, I) if return_distance else I

    def kneighbors_graph(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        mode: Literal["connectivity", "distance"] = "connectivity",
    ) -> csr_matrix:
        """The nearest stored rows of each query as a sparse matrix, as scikit-learn has it.

        Args:
            X: (nq, d) queries; None for the stored rows, each of which is then no neighbour of itself.
            n_neighbors: of each; None for the estimator's own.
            mode: ``connectivity`` for ones at the neighbours, ``distance`` for their distances.

        Returns:
            (nq, n_samples_fit_) float64 in CSR form, with n_neighbors entries in each row, nearest first.
        """
        with own_names():
            check_one_of("mode", mode, ("connectivity", "distance"))
        D, I = self.kneighbors(X, n_neighbors)
        values = D if mode == "distance" else np.ones_like(D)
        places = (values.ravel(), I.ravel(), np.arange(0, I.size + 1, I.shape[1]))
        return csr_matrix(places, shape=(len(I), self.n_samples_fit_))

    def _recorded(self) -> dict[str, Any]:
        """What a saved one answers by that only some estimators have, where it is not what its index was made for."""
        return {}

    def _fit(
        self,
        X: NDArray[Any],
        labels: Any,
        sample_weight: NDArray[np.float64] | None,
        class_weight: ClassWeight = None,
    ) -> Self:
        start = time.perf_counter()
        metric = metric_of(self.get_params())
        _check_rows(unusable_images(X, X.shape[1:], steps_of(self.steps), METRICS[metric]))
        options = IndexOptions(kind=self.kind, metric=metric, seed=self._seed(), threads=effective_n_jobs(self.n_jobs))
        tune = Tuning(
            k=int(self.n_neighbors),
            weights="uniform" if callable(self.weights) else weights_to_store(self.weights),  # which has no function
            ties=getattr(self, "ties", "nearest"),  # a mean has none
            class_weight=class_weight,
            target_agreement=float(self.target_agreement),
        )
        names = getattr(self, "feature_names_in_", None)
        examples = training_set_from_arrays(
            X,
            labels,
            sample_weight=sample_weight,
            metric=metric,
            steps=self.steps,
            is_regression=self._is_regression,
            feature_names=names,
        )
        self._take(*build_in_memory(examples, Path(type(self).__name__), options, tune, start=start))
        return self

    def _take(self, index: Index, timing: Timing) -> None:
        self._index, self._timing = index, timing
        self.n_features_in_ = index.images.shape[1]
        self.n_samples_fit_ = index.n
        if index.manifest.feature_names is not None:
            self.feature_names_in_ = np.array(index.manifest.feature_names, dtype=object)

    def _seed(self) -> int:
        """A whole number stands as it is, so that a saved index is the one that the command builds with that seed."""
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(MAX_SEED))

    def _neighbors(self, X: ArrayLike | None, k: int, promise: Promise, rule: Rule | None = None) -> Neighbors:
        """Distances and rows (nq, k) of the neighbours that vote by a rule, or of k."""
        index = self._index
        if X is None:
            k = self._check_k(k, index.n - 1, index.n)
            with limit_threads(effective_n_jobs(self.n_jobs)):
                _, *found = zip(*leave_out(index, k, by_group=False), strict=True)
            D, I = map(np.concatenate, found)
            return D, I
        xq = validate_data(self, array_like(X, "X"), reset=False)
        k = self._check_k(k, index.n, len(xq))
        _check_rows(unusable_images(xq, index.shape, index.steps, METRICS[index.metric]))
        unlike = Scale.of(index, xq).unlike(index)
        if unlike is not None:
            warnings.warn(unlike, stacklevel=stack_level())
        return self._search(xq, rule or Rule(k=k), promise)

    def _check_k(self, k: int, most: int, nq: int) -> int:
        check_to_answer({"n_neighbors": k, "n_jobs": self.n_jobs})
        if k > most:
            advice = f"give from 1 to {most}" if most else "one stored image has no neighbours but itself"
            raise ParameterError(
                f"n_neighbors is {k}: {advice}, as n_samples_fit = {self.n_samples_fit_}, n_samples = {nq}"
            )
        return int(k)

    def _search(self, xq: NDArray[Any], rule: Rule, promise: Promise) -> Neighbors:
        """Queries that the stored type does not hold are searched as float64, in the same way."""
        index = self._index
        images, other = convert_queries(xq, index.images.dtype)
        if index.images.dtype.kind != "u":
            _check_rows(other)
        D, I = np.empty((len(xq), rule.k)), np.empty((len(xq), rule.k), dtype=np.int64)
        fits = np.ones(len(xq), dtype=np.bool_)
        fits[list(other)] = False
        with limit_threads(effective_n_jobs(self.n_jobs)):
            if fits.any():
                D[fits], I[fits], _ = find(index, index.queries(images[fits])[0], rule, promise)
            if other:
                doubles = xq[~fits].astype(np.float64)
                D[~fits], I[~fits], _ = find(index, index.queries(doubles)[0], rule, promise)
        return D, I


def _check_rows(unusable: Mapping[int, str]) -> None:
    """Refuse the first of the rows that cannot be compared, if any, with its reason."""
    for row in sorted(unusable)[:1]:
        raise RowError(f"row {row} of X cannot be compared: {unusable[row]}; leave it out")


def _tuned_for(index: Index) -> dict[str, Any]:
    """The parameters of the estimator that an index was tuned for."""
    tuned = index.tuned
    if tuned is None:
        return {}
    found = {"n_neighbors": tuned.k, "weights": tuned.weights, "target_agreement": tuned.target_agreement}
    return found if index.is_regression else {**found, "ties": tuned.ties}


def _class_weight_of(index: Index) -> dict[str, Any]:
    """The class weights of the estimator that saved an index, else those that it was made for."""
    if index.is_regression:
        return {}
    own, estimator = index.vote.class_weight, index.manifest.estimator
    if "class_weight" in estimator:
        saved = plain_class_weight(class_weight_from_json(estimator))  # which may be none
        own = class_weight_of_classes(saved, frozenset(index.manifest.classes))
    return {"class_weight": dict(own) if isinstance(own, tuple) else own}
