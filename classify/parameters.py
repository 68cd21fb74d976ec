"""Parameters of the estimators: checked when they are used, as scikit-learn has it, and told by their own names."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from knnvote.data.errors import KnnvoteError, OptionError, check, check_one_of, is_whole
from knnvote.data.steps.chain import steps_of
from knnvote.data.tables import array_of, column_of, is_tensor, named_values, why_no_column
from knnvote.indexer.build import MAX_SEED
from knnvote.indexer.names import METRIC_NAMES, ClassWeight, MetricName, Weights
from knnvote.indexer.records.weights import unusable_weights

from .adaptive.tune import Tuning
from .notebook.weight_function import AnyWeights
from .vote import Rule
from .weighting import plain_class_weight

_OWN_NAMES = {"k": "n_neighbors"}
_RULE = {"n_neighbors": "k", "weights": "weights", "ties": "ties"}
RULE_PARAMETERS = tuple(_RULE)
# scikit-learn's names for a metric of ours; of minkowski the power tells.
_SKLEARN_METRICS: dict[str, MetricName] = {"euclidean": "l2", "manhattan": "l1", "cityblock": "l1"}
_MINKOWSKI: dict[float, MetricName] = {1: "l1", 2: "l2"}


class ParameterError(OptionError, ValueError, TypeError):
    """A parameter's value cannot be used; of the types that scikit-learn's own error for this has."""


class RowError(KnnvoteError, ValueError):
    """A row of X cannot be used; of the type that scikit-learn's own error for this has."""


def metric_of(parameters: Mapping[str, Any]) -> MetricName:
    """The metric that parameters of an estimator name, by our name or by scikit-learn's.

    Raises:
        ParameterError: there is no such metric here.
    """
    metric, power = parameters["metric"], parameters["p"]
    with own_names():
        if isinstance(metric, str) and metric == "minkowski":
            is_power = isinstance(power, Real) and power in _MINKOWSKI
            check("p", power, is_power, "give 1 or 2, whose minkowski distances are l1 and l2")
            return _MINKOWSKI[power]
        name = _SKLEARN_METRICS.get(metric, metric) if isinstance(metric, str) else metric
        hint = ", or scikit-learn's euclidean, manhattan, or minkowski with p 1 or 2"
        check_one_of("metric", name, METRIC_NAMES, hint)
        return cast("MetricName", name)


def check_to_fit(parameters: Mapping[str, Any]) -> None:
    """Refuse what no index can be built with, or asked with.

    Raises:
        ParameterError: naming parameter and value.
    """
    check_to_answer(parameters)
    rule_of_metric(Rule(weights=parameters["weights"]), metric_of(parameters))
    state = parameters["random_state"]
    with own_names():
        weights, is_tuned = parameters["weights"], parameters["kind"] == "adaptive"
        expected = "give kind='exact' with a function, for nothing is tuned for one"
        check("weights", weights, not (is_tuned and callable(weights)), expected)
        hint = " (an index of another kind can be opened, not fitted)"
        check_one_of("kind", parameters["kind"], ("exact", "adaptive"), hint)
        Tuning(target_agreement=parameters["target_agreement"])
        steps_of(parameters["steps"])
        is_state = not is_whole(state) or 0 <= state <= MAX_SEED  # what is no whole number is asked for a seed later
        check("random_state", state, is_state, f"give a whole number from 0 to {MAX_SEED}, a RandomState or None")


def check_to_answer(parameters: Mapping[str, Any]) -> None:
    """Refuse what an index cannot be asked with, of whatever kind it is.

    Raises:
        ParameterError: naming parameter and value.
    """
    jobs = parameters["n_jobs"]
    with own_names():
        Rule(**{_RULE[name]: value for name, value in parameters.items() if name in _RULE})
        is_count = jobs is None or (is_whole(jobs) and jobs != 0)
        expected = "give a number of threads, -1 for as many as there are processors, or None for one"
        check("n_jobs", jobs, is_count, expected)


def rule_of_metric(rule: Rule, metric: MetricName) -> Rule:
    """A rule with all that its weights need, where distances are of that metric.

    Raises:
        ParameterError: they lack a temperature that the metric does not tell.
    """
    with own_names():
        return rule.of_metric(metric)


def weights_to_store(given: AnyWeights) -> Weights:
    """The text of weights, as an index keeps what it is tuned for and what it answers by.

    Raises:
        ParameterError: they are a function.
    """
    with own_names():
        return Rule(weights=given).stored_weights


def array_like(given: Any, name: str) -> Any:
    """What scikit-learn takes for an array: of a tensor, rows in lists or a column of lists NumPy's; all else as it is.

    Raises:
        ParameterError: no array can share a tensor's memory, or rows are of unlike length.
        KnnvoteError: a row of a column cannot be used.
    """
    with own_names():
        if name == "X" and column_of(given) is not None:
            values, _ = named_values(given)
            return values.reshape(len(values), -1)
        is_rows = name == "X" and isinstance(given, list | tuple)
        return array_of(given, name) if is_rows or is_tensor(given) else given


def stored_class_weight(given: Any, labels: Mapping[Any, bool | int | str]) -> ClassWeight:
    """Class weights with labels as they are stored, in their order, of such as scikit-learn takes.

    Args:
        given: ``balanced``, a mapping of weights by class, or None.
        labels: how each class is stored, in class order.

    Raises:
        ParameterError: they are none, or name a class that there is not while others have no weight.
    """
    with own_names():
        if given is None or isinstance(given, str):
            return plain_class_weight(given)
        check("class_weight", given, isinstance(given, Mapping), "give balanced, a dict of weights by class, or None")
        pairs = [(stored, given[label]) for label, stored in labels.items() if label in given]
        # Of a fold that lacks a class the weights may name it, as in scikit-learn; else it was misspelt.
        is_known = len(pairs) in {len(given), len(labels)}
        check("class_weight", given, is_known, f"name some of the classes {', '.join(map(repr, [*labels][:5]))}")
        return plain_class_weight(pairs) if pairs else None


def classes_of(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The classes (c,) of rows, sorted, and the place of each row's among them (n,).

    Raises:
        RowError: they have no order, as texts and numbers have none.
    """
    try:
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise RowError(f"y cannot be used ({why_no_column(y, error)}): give classes of one type") from error
    return classes, codes


def with_weight(
    X: NDArray[Any], y: NDArray[Any], sample_weight: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
    """Rows X (n, d) with their y (n,) and weights (n,), but those of weight 0; None in place of no weights.

    Raises:
        RowError: they are no n finite numbers of at least 0, or all are 0.
    """
    if sample_weight is None:
        return X, y, None
    sample_weight = array_like(sample_weight, "sample_weight")
    try:
        weights = np.asarray(sample_weight, np.float64)
    except (TypeError, ValueError) as error:
        raise RowError(f"sample_weight is no array of numbers ({error}): give one a row of X") from error
    if weights.shape != (len(X),):
        raise RowError(f"sample_weight has shape {weights.shape}: give ({len(X)},), a number a row of X")
    there = np.flatnonzero(weights != 0)
    if not len(there):
        raise RowError("sample_weight is zero for every row of X: give some of them another")
    for place, reason in unusable_weights(weights[there]).items():
        raise RowError(f"row {there[place]} of X has {reason}: leave it out, or give another")
    return X[there], y[there], weights[there]


@contextmanager
def own_names() -> Iterator[None]:
    """Tell what is refused as parameters of an estimator."""
    try:
        yield
    except OptionError as error:
        raise ParameterError(error.told(lambda name: _OWN_NAMES.get(name, name))) from error
