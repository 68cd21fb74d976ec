"""Agreement with exact search against speed, as a picture."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from knnvote.classify.evaluation.comparison import IndexReport

from .figures import MARKERS, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito's colours those that show on white and on black, and a grey that does.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
_DECADE = 10
_LINE = 0.18  # inches, of the legend


def draw_agreement(reports: Sequence[IndexReport]) -> "Figure":
    """A marker for each index and the 95% interval of its agreement, named below; narrow enough for a phone."""
    figure = new_figure(4.2, 3.0 + _LINE * len(reports))
    axes = figure.subplots()
    for place, (report, name) in enumerate(zip(reports, _names(reports), strict=True)):
        agreement = report.agreement
        error = [[agreement.value - agreement.low], [agreement.high - agreement.value]]
        colour, marker = _COLOURS[place % len(_COLOURS)], MARKERS[place % len(MARKERS)]
        at = (report.relative_speed, agreement.value)
        axes.errorbar(*at, yerr=error, fmt=marker, color=colour, capsize=3, label=name)
    speeds = [report.relative_speed for report in reports]
    _scale(axes, max(speeds) / min(speeds))
    axes.set_xlabel("speed, times that of FAISS's flat index")
    axes.set_ylabel("agreement with exact search")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _names(reports: Sequence[IndexReport]) -> list[str]:
    """The last part of each path, or the whole of all where it does not tell them apart."""
    names = [PurePath(report.path).name for report in reports]
    if len(set(names)) < len(names):
        names = [report.path for report in reports]
    return [plain(name) for name in names]


def _scale(axes: "Axes", ratio: float) -> None:
    """Speeds that lie over a decade apart on a logarithmic axis, numbered at 1, 2 and 5 of each if there is room."""
    if ratio > _DECADE:
        axes.set_xscale("log", subs=(2, 5) if ratio < _DECADE**2 else ())
        axes.tick_params(which="both", length=3.5, pad=3.5)
        for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            set_formatter(lambda value, _place: f"{value:g}")
