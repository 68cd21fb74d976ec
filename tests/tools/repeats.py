"""Cases of a test that prove once more what others of them show: they are `long`."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def repeats(cases: Iterable[Any], shows: Callable[[Any], bool]) -> list[Any]:
    """Cases of a parameter, or of several; those are long that do not show anything of their own."""
    return [case if shows(case) else _long(case if isinstance(case, tuple) else (case,)) for case in cases]


def every_other(cases: Iterable[Any]) -> list[Any]:
    """Cases that are all of one kind: every other one is long."""
    return [case if place % 2 == 0 else _long((case,)) for place, case in enumerate(cases)]


def spread(*parameters: tuple[str, Iterable[Any]], indirect: Sequence[str] = ()) -> pytest.MarkDecorator:
    """A test by every combination of parameters: `spread(("kind", KINDS), ("metric", METRICS))`.

    Each value of each parameter is in one that is not long, with another one of the others as far as there are some.
    """
    names = ", ".join(name for name, _ in parameters)
    cases = []
    for combined in itertools.product(*(enumerate(values) for _, values in parameters)):
        values = [
            value if "," in name else (value,) for (name, _), (_, value) in zip(parameters, combined, strict=True)
        ]
        cases.append(([place for place, _ in combined], tuple(itertools.chain(*values))))
    sizes = [1 + max(places) for places in zip(*(places for places, _ in cases), strict=True)]
    shown = [case if _is_spread(places, sizes) else _long(case) for places, case in cases]
    return pytest.mark.parametrize(names.split(", "), shown, indirect=list(indirect))


def _is_spread(places: Sequence[int], sizes: Sequence[int]) -> bool:
    farthest = places[sizes.index(max(sizes))]
    return all(place == farthest % size for place, size in zip(places, sizes, strict=True))


def _long(case: tuple[Any, ...]) -> Any:
    return pytest.param(*case, marks=pytest.mark.long)
