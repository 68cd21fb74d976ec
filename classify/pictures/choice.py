"""Leave-one-out accuracy against the number of neighbours, as a picture."""

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from knnvote.classify.choosing.choose_k import Choice
from knnvote.classify.choosing.scores import Score
from knnvote.indexer.names import Weights, base_name

from .figures import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour, marker and line of each weighting.
_STYLES = (("#332288", "o", "-"), ("#CC6677", "s", "--"), ("#117733", "^", ":"), ("#DDAA33", "v", "-."))


def drawn_weights(choice: Choice) -> list[Weights]:
    """The weightings in their order, of those that differ in their settings the one that does best at some k."""
    best: dict[str, Score] = {}
    for score in choice.by_quality():
        best.setdefault(base_name(score.weights), score)
    return [weights for weights in choice.weights if best[base_name(weights)].weights == weights]


def draw_choice(choice: Choice) -> "Figure":
    """Accuracy, or mean squared error, of every k and weighting in bands of one standard error to either side.

    Of weightings that differ in their settings alone the best is drawn.

    The best is marked, and the smallest and the largest k within one standard error of it.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for weights, (colour, marker, line) in zip(drawn_weights(choice), cycle(_STYLES), strict=False):
        scores = [score for score in choice.scores if score.weights == weights]
        k, value, error = (np.array([getattr(s, name) for s in scores]) for name in ("k", "value", "standard_error"))
        told = f"{weights}, ± one standard error"
        axes.plot(k, value, color=colour, marker=marker, linestyle=line, markersize=4, label=told)
        axes.fill_between(k, value - error, value + error, color=colour, alpha=0.15, linewidth=0)
    best = choice.best
    axes.plot(best.k, best.value, "*", color=INK, markersize=15, label=f"best: {_shown(best)}", zorder=4)
    for name, score, marker in (
        ("smallest", choice.smallest_within_one_standard_error, "o"),
        ("largest", choice.largest_within_one_standard_error, "D"),
    ):
        axes.plot(
            score.k,
            score.value,
            marker,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.5,
            markersize=15,
            label=f"{name} k within one\nstandard error of it: {_shown(score)}",
            zorder=4,
        )
    measure = choice.measure.replace("_", " ")
    if choice.measure == "accuracy":
        _number_as_shares(axes)
    axes.set(xlabel="k, neighbours that vote", ylabel=f"{measure}, leaving one out")
    axes.locator_params(axis="x", integer=True)
    axes.set_title(f"{choice.images:,} images, each left out in turn, {choice.search} search", fontsize=11)
    axes.grid(visible=True, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _number_as_shares(axes: "Axes") -> None:
    """No number beyond 0 to 1, though the axis has room around these."""
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if max(low, 0) <= round(tick, 9) <= min(high, 1)])


def _shown(score: Score) -> str:
    return f"k = {score.k}, {score.weights}"
