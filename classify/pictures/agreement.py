"""Agreement with exact search against speed, as a picture."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from classify.compare import IndexReport
from classify.pictures.figures import INK, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINT = "#0072b2"  # of Okabe and Ito's colours; it shows on white and on black
_DECADE = 10


def draw_agreement(reports: Sequence[IndexReport]) -> "Figure":
    """Each index with its name, and the 95% interval of its agreement; narrow enough for a phone."""
    figure = new_figure(4.2, 3.0)
    axes = figure.subplots()
    for report in reports:
        speed, agreement = report.relative_speed, report.agreement
        error = [[agreement.value - agreement.low], [agreement.high - agreement.value]]
        axes.errorbar(speed, agreement.value, yerr=error, fmt="o", color=_POINT, capsize=3)
        name = plain(PurePath(report.path).name)
        at = (speed, agreement.value)
        axes.annotate(name, at, (6, 5), textcoords="offset points", fontsize=8, color=INK, parse_math=False)
    speeds = [report.relative_speed for report in reports]
    if max(speeds) > _DECADE * min(speeds):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
    axes.set_xlabel("speed, times that of FAISS's flat index")
    axes.set_ylabel("agreement with exact search")
    axes.margins(x=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
