"""Weightings, a class each: how much each neighbour's vote counts.

To add one takes a class, its row in `WEIGHTINGS`, and its name in `names` with its words for the help. One with a
setting is stored and typed with it in brackets, such as ``name[0.07]``: it reads it in `read` and tells it in `text`.
"""

import csv
import math
import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, check, is_number, param, plain
from knnvote.data.locations import locate
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.names import ClassWeight, MetricName, NumbersByClass, Weights

_WEIGHTS = (1e-9, 1e9)  # of classes
_SHOWN = 3  # classes of which weights are shown
_NEAREST = 1e-300
_TEMPERATURE = 0.07  # of similarities
_OF_SIMILARITIES = (0.02, 0.05, _TEMPERATURE, 0.1, 0.2)  # that are tried
_FARTHEST = 708.0  # exp(-x) of more would leave the normal numbers of float64
# Of fdlibm's e_exp.c: 1 / ln 2; ln 2 in two parts, of which multiples of the first are exact; and the polynomial.
_PER_LN_2, _LN_2, _REST_OF_LN_2 = 1.44269504088896338700e00, 6.93147180369123816490e-01, 1.90821492927058770002e-10
_POLYNOMIAL = (
    *(4.13813679705723846039e-08, -1.65339022054652515390e-06, 6.61375632143793436117e-05),
    *(-2.77777777770155933842e-03, 1.66666666666666019037e-01),
)
_TEXT = re.compile(r"([^\[\]]+)(?:\[([^\[\]]+)\])?")  # a name, and its settings


@dataclass(frozen=True)
class Weighting(ABC):
    """How much each neighbour's vote counts.

    Attributes:
        name: as it is typed and stored, before its settings.
        form: as it is told to be given.
        is_stepwise: a neighbour's weight depends on no farther one, so that the first ones have the weights that they
            would have alone.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    is_stepwise: ClassVar[bool] = True

    @classmethod
    def read(cls, settings: str) -> Self:
        """The weighting that has these settings, which stand in brackets after its name; none of one without.

        Raises:
            ValueError: there is no such.
        """
        if settings:
            raise ValueError(settings)
        return cls()

    @property
    def text(self) -> Weights:
        """As it is typed and stored: `read_weighting` reads it."""
        return self.name

    @property
    @abstractmethod
    def of_neighbors(self) -> str:
        """How a sentence says it of several neighbours."""

    def of_metric(self, metric: MetricName) -> Self:  # noqa: ARG002  # of one with settings they may depend on it
        """The same with all of its settings, where distances are of that metric.

        Raises:
            OptionError: one is missing that the metric does not tell.
        """
        return self

    @classmethod
    def to_try(cls, metric: MetricName, spread: float) -> tuple[Weights, ...]:  # noqa: ARG003  # likewise
        """Those that are worth a comparison.

        Args:
            metric: of the distances.
            spread: by how much neighbours usually lie farther than the nearest; 0 where they do not.
        """
        return (cls.name,)

    @abstractmethod
    def __call__(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each neighbour's weight (nq, k) from distances D (nq, k), ascending."""


@dataclass(frozen=True)
class Uniform(Weighting):
    """One vote each."""

    name = form = "uniform"

    @property
    def of_neighbors(self) -> str:
        """As votes are."""
        return "of equal weight"

    def __call__(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ones."""
        return np.ones_like(D)


@dataclass(frozen=True)
class Distance(Weighting):
    """1 / distance; neighbours at distance zero then outvote all others.

    Distances ascend, so there is a zero among the first ones or nowhere.
    """

    name = form = "distance"

    @property
    def of_neighbors(self) -> str:
        """With the formula."""
        return "weighted by 1 / distance"

    def __call__(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse distances; of a row that has zeros, ones for these and zeros for the rest."""
        is_zero = D == 0
        has_zero = is_zero.any(axis=1, keepdims=True)
        # Neighbours nearer than this count as if they were there: the sum of their inverses stays finite.
        inverse = 1 / np.maximum(D, _NEAREST)
        return np.where(has_zero, is_zero.astype(np.float64), inverse)


@dataclass(frozen=True)
class Softmax(Weighting):
    """exp(-distance / T) relative to the nearest neighbour, so that nothing overflows; shares of the vote are the same.

    A cosine distance is 1 - similarity: exp(similarity / T) gives these shares too. So do Wu, Xiong, Yu and Lin weigh
    votes (2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination, section 3.4), with T 0.07,
    and DINO and DINOv2 after them (eval_knn.py, eval/knn.py).

    Attributes:
        temperature: T, in the unit of the distances; None where none was given.
    """

    temperature: float | None = None
    name = "softmax"
    form = "softmax[T] with a temperature T above 0"

    @classmethod
    def read(cls, settings: str) -> Self:
        """A finite number above 0, or nothing."""
        if not settings:
            return cls()
        temperature = float(settings)
        if not 0 < temperature < math.inf:
            raise ValueError(settings)
        return cls(temperature)

    @property
    def text(self) -> Weights:
        """With the temperature as it can be typed."""
        if self.temperature is None:
            return self.name
        short = f"{self.temperature:g}"
        return f"{self.name}[{short if float(short) == self.temperature else repr(self.temperature)}]"

    @property
    def of_neighbors(self) -> str:
        """With the formula."""
        return f"weighted by exp(-distance / {self.temperature or 'T':g})"

    def of_metric(self, metric: MetricName) -> Self:
        """For cosine with the temperature of the field, where none was given."""
        if self.temperature is not None:
            return self
        if metric != "cosine":
            raise OptionError(
                f"{param('weights')} is {self.name!r}, and only similarities have a usual temperature: of metric "
                f"{metric} give one in the unit of its distances, as in softmax[T]; knnvote choose-k X.knn tells the "
                "accuracy with several; embeddings are mostly indexed by metric cosine, which needs none"
            )
        return type(self)(_TEMPERATURE)

    @classmethod
    def to_try(cls, metric: MetricName, spread: float) -> tuple[Weights, ...]:
        """Temperatures about that of the field; of other metrics about the spread, rounded to 1, 2 or 5."""
        temperatures = _OF_SIMILARITIES if metric == "cosine" else _about(spread) if spread > 0 else ()
        return tuple(cls(temperature).text for temperature in temperatures)

    def __call__(self, D: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 for the nearest, and less for others.

        Raises:
            ValueError: no temperature was given, nor told by a metric.
        """
        if self.temperature is None:
            raise ValueError(self.text)
        with np.errstate(over="ignore"):
            return exp_of_minus((D - D[:, :1]) / self.temperature)


def _about(spread: float) -> list[float]:
    """Five numbers about one, of which it is nearest to the third: 1, 2 or 5 times powers of ten."""
    nearest = round(3 * math.log10(spread))
    return [float(f"{(1, 2, 5)[place % 3]}e{place // 3}") for place in range(nearest - 2, nearest + 3)]


def exp_of_minus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(-x) of numbers from 0 on, infinity too: the same bits on every machine, within 1 ulp; 0 beyond 708.

    By the method of fdlibm's e_exp.c (Sun Microsystems 1993): -x is k ln 2 + r with r at most half of ln 2 to either
    side, whose exponential is a rational function of a polynomial. Each step is one operation of IEEE 754 by element,
    which no library and no processor rounds otherwise, as they do exp.
    """
    near = np.minimum(x, _FARTHEST)
    k = np.rint(near * -_PER_LN_2)
    high, low = -near - k * _LN_2, k * _REST_OF_LN_2
    r = high - low
    square = r * r
    polynomial = np.full_like(r, _POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        polynomial = polynomial * square + coefficient
    c = r - square * polynomial
    of_r = 1 - ((low - (r * c) / (2 - c)) - high)
    power = ((k.astype(np.int64) + 1023) << 52).view(np.float64)  # 2^k, from its bits
    result: NDArray[np.float64] = np.where(x > _FARTHEST, 0.0, of_r * power)
    return result


WEIGHTINGS: dict[str, type[Weighting]] = {weighting.name: weighting for weighting in (Uniform, Distance, Softmax)}


def read_weighting(text: Weights) -> Weighting:
    """The weighting that a text stands for.

    Raises:
        ValueError: none.
    """
    parts = _TEXT.fullmatch(text)
    if parts is None or parts[1] not in WEIGHTINGS:
        raise ValueError(text)
    return WEIGHTINGS[parts[1]].read(parts[2] or "")


def check_weights(weights: object) -> None:
    """Refuse what stands for no weighting.

    Raises:
        OptionError: naming it.
    """
    forms = ", ".join(weighting.form for weighting in WEIGHTINGS.values())
    why = ", for no function is stored or tuned for" if callable(weights) else ""
    check("weights", weights, is_weighting(weights), f"give one of {forms}{why}")


def weights_of_metric(weights: Weights, metric: MetricName) -> Weights:
    """The text of a weighting with all its settings, where distances are of that metric.

    Raises:
        OptionError: it stands for no weighting, or lacks a setting that the metric does not tell.
    """
    check_weights(weights)
    return read_weighting(weights).of_metric(metric).text


def plain_class_weight(given: Any) -> ClassWeight:
    """Class weights as `Rule` keeps them, of a mapping or of pairs of labels and weights too.

    Raises:
        OptionError: they are none.
    """
    if given is None or (isinstance(given, str) and given in {"none", "balanced"}):
        return None if given in {None, "none"} else "balanced"
    expected = "give balanced, none, or weights from 1e-9 to 1e9 by label, each once"
    return numbers_by_class("class_weight", given, _WEIGHTS, expected)


def numbers_by_class(name: str, given: Any, limits: tuple[float, float], expected: str) -> NumbersByClass:
    """Numbers of some classes as pairs of a label and a float, of a mapping or of pairs.

    Args:
        name: of the parameter.
        given: what it was given.
        limits: the least and the largest of the numbers.
        expected: what to give instead.

    Raises:
        OptionError: they are none.
    """
    check(name, given, isinstance(given, Mapping | list | tuple), expected)
    pairs = list(given.items() if isinstance(given, Mapping) else given)
    check(name, given, all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs), expected)
    found = tuple((plain(label), plain(number)) for label, number in pairs)
    are_numbers = all(is_number(number) and limits[0] <= number <= limits[1] for _, number in found)
    are_labels = all(isinstance(label, bool | int | str) for label, _ in found)
    is_each_once = are_labels and len(dict(found)) == len(found) > 0
    check(name, given, are_numbers and is_each_once, expected)
    return tuple((label, float(number)) for label, number in found)


def class_weight_of(index: Index, class_weight: ClassWeight) -> ClassWeight:
    """Class weights with the labels of an index, as `numbers_of_index` has them.

    Raises:
        OptionError: as there, or the index has no classes.
    """
    if class_weight is not None and index.is_regression:
        raise OptionError(
            f"{index.path} was built for regression, which has no classes: leave out {param('class_weight')}"
        )
    if class_weight is None or class_weight == "balanced":
        return class_weight
    return numbers_of_index(index, "class_weight", class_weight)


def numbers_of_index(index: Index, name: str, numbers: NumbersByClass) -> NumbersByClass:
    """Numbers of classes with the labels of an index, in their order.

    Text stands for a label, for the name of one, or for both as they are shown, such as ``7 (cat)``.

    Raises:
        OptionError: they name a class that no stored image has, or twice the same, or by a text that is the name of
            one and the label of another.
    """
    names, classes = index.manifest.class_names, index.manifest.classes
    known: dict[Any, set[Any]] = defaultdict(set)  # as text: the label, its name, and both as they are shown
    for label in classes:
        is_named = isinstance(label, int) and 0 <= label < len(names or [])
        for text in (label, str(label), show_class(label, names), *([names[label]] if names and is_named else [])):
            known[text].add(label)
    for text, meant in ((label, known[label]) for label, _ in numbers if label in known):
        if len(meant) > 1:
            one, other = (show_class(label, names) for label in sorted(meant)[:2])
            raise OptionError(
                f"{param(name)} names the class {text!r}, which may be {one} or {other} of {index.path}: "
                f"say {one!r} or {other!r}"
            )
    unknown = [label for label, _ in numbers if label not in known]
    if unknown:
        few = ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
        raise OptionError(
            f"{param(name)} names the class {unknown[0]!r}, which no image of {index.path} has: name some of {few}"
        )
    found = {next(iter(known[label])): number for label, number in numbers}
    check(name, numbers, len(found) == len(numbers), "name each class once")
    return tuple((label, found[label]) for label in classes if label in found)


def read_class_weights(path: str) -> ClassWeight:
    """Class weights from a CSV file with the columns ``class`` and ``weight``.

    Raises:
        KnnvoteError: it cannot be read, or is none.
    """
    try:
        rows = csv.DictReader(locate(path).read().decode("utf-8-sig").splitlines(), strict=True)
        columns = rows.fieldnames or ()
        if not {"class", "weight"} <= {*columns}:
            raise KnnvoteError(
                f"{path} has the columns {', '.join(columns) or 'none'}: give a CSV file with the columns class and "
                "weight"
            )
        pairs = [(row["class"], float(row["weight"])) for row in rows]
    except (UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        raise KnnvoteError(f"{path} is no CSV file of class and weight ({error}): give a number in each row") from error
    for label, weight in pairs:
        if not _WEIGHTS[0] <= weight <= _WEIGHTS[1]:
            raise KnnvoteError(f"{path} gives class {label} the weight {weight:g}: give one from 1e-9 to 1e9")
    labels = [label for label, _ in pairs]
    if twice := [label for label, times in Counter(labels).items() if times > 1]:
        raise KnnvoteError(f"{path} names the class {twice[0]} more than once: give each one weight")
    if not pairs:
        raise KnnvoteError(f"{path} has no row: give a class and its weight in each")
    return plain_class_weight(pairs)


def told_class_weight(class_weight: ClassWeight) -> str:
    """What votes of classes are multiplied by, in words."""
    if class_weight is None or class_weight == "balanced":
        return f"class weight {class_weight or 'none'}"
    shown = [f"{label} {weight:g}" for label, weight in class_weight[:_SHOWN]]
    return f"class weight of {', '.join([*shown, *(['...'] if len(class_weight) > len(shown) else [])])}"


def is_weighting(text: object) -> bool:
    """Whether something is a text that stands for a weighting."""
    try:
        return isinstance(text, str) and bool(read_weighting(text))
    except ValueError:
        return False
