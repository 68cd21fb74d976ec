"""Parameters of the estimators: checked when they are used, as scikit-learn has it, and told by their own names."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from knnvote.data.errors import OptionError
from knnvote.indexer.build import MAX_SEED
from knnvote.indexer.names import METRICS, WEIGHTS

from .vote import TIES
from .weighting import is_weighting

Check = tuple[Callable[[Any], bool], str]


class ParameterError(OptionError, ValueError, TypeError):
    """A parameter's value cannot be used; of the types that scikit-learn's own error for this has."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float | np.floating)


def _one_of(*values: str, hint: str = "") -> Check:
    return lambda value: isinstance(value, str) and value in values, f"give one of {', '.join(values)}{hint}"


_OF_ANSWERS: dict[str, Check] = {
    "n_neighbors": (lambda k: _is_whole(k) and k >= 1, "give a whole number of at least 1"),
    "weights": (is_weighting, f"give one of {', '.join(WEIGHTS)}"),
    "ties": _one_of(*TIES),
    "n_jobs": (
        lambda jobs: jobs is None or (_is_whole(jobs) and jobs != 0),
        "give a number of threads, -1 for as many as there are processors, or None for one",
    ),
}
_ALL: dict[str, Check] = {
    **_OF_ANSWERS,
    "metric": _one_of(*METRICS),
    "kind": _one_of("exact", "adaptive", hint=" (an index of another kind can be opened, not fitted)"),
    "target_agreement": (
        lambda share: _is_number(share) and 0 < share <= 1,
        "give a share above 0, at most 1",
    ),
    "random_state": (  # what is no whole number is checked where it is asked for a seed
        lambda state: not _is_whole(state) or 0 <= state <= MAX_SEED,
        f"give a whole number from 0 to {MAX_SEED}, a RandomState or None",
    ),
}


def check_to_fit(parameters: Mapping[str, Any]) -> None:
    """Refuse what no index can be built with, or asked with.

    Raises:
        ParameterError: naming parameter and value.
    """
    _check(parameters, _ALL)


def check_to_answer(parameters: Mapping[str, Any]) -> None:
    """Refuse what an index cannot be asked with, of whatever kind it is.

    Raises:
        ParameterError: naming parameter and value.
    """
    _check(parameters, _OF_ANSWERS)


def _check(parameters: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for name, (holds, expected) in checks.items():
        if name in parameters and not holds(parameters[name]):
            raise ParameterError(f"{name} is {parameters[name]!r}: {expected}")
