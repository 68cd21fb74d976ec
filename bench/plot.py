"""Agreement against speed, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knnvote.data.files import atomic_write

from .contenders import FLAT
from .measure import Result

# Okabe and Ito's colours, which colour-blind people can tell apart; the marker tells those apart that share one.
_STYLES = {
    "IndexFlatL2": ("#000000", "s"),
    "brute": ("#999999", "o"),
    "kd_tree": ("#999999", "v"),
    "ball_tree": ("#999999", "^"),
    "sklearnex": ("#999999", "D"),
    "hnswlib": ("#E69F00", "o"),
    "usearch": ("#CC79A7", "v"),
    "pynndescent": ("#009E73", "^"),
    "faiss-hnsw": ("#56B4E9", "s"),
    "knnvote-exact": ("#0072B2", "*"),
    "knnvote-exact-cosine": ("#0072B2", "P"),
    "knnvote-adaptive": ("#D55E00", "*"),
}
_STAR = 14


def plot(results: Sequence[Result], folder: Path, title: str) -> list[Path]:
    """Write agreement-speed.png and .svg: speed relative to IndexFlatL2, disagreement growing downwards."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), dpi=100, layout="constrained")
    floor = 0.5 / max(result.quality.images for result in results)
    for name in dict.fromkeys(result.contender for result in results):
        mine = sorted((result for result in results if result.contender == name), key=lambda result: result.ratio)
        colour, marker = _STYLES[name]
        axes.plot(
            [result.ratio for result in mine],
            [max(floor, 1 - result.quality.agreement) for result in mine],
            color=colour,
            marker=marker,
            markersize=_STAR if marker == "*" else 7,
            zorder=3 if name == FLAT else 2,
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel="speed relative to IndexFlatL2", title=title)
    axes.set_ylabel("agreement with exact search")
    _agreement_ticks(axes, floor)
    _speed_ticks(axes)
    axes.grid(visible=True, color="#dddddd")
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False)
    paths = [folder / f"agreement-speed.{kind}" for kind in ("png", "svg")]
    for path in paths:
        with atomic_write(path) as stream:
            figure.savefig(stream, format=path.suffix[1:])
    plt.close(figure)
    return paths


def _agreement_ticks(axes: Any, floor: float) -> None:
    """Agreements in place of disagreements; what no test image disagreed on stands at the top, as 1."""
    axes.minorticks_off()
    worst = axes.get_ylim()[1]
    ticks = [tick for decade in range(7) for tick in (2 * 10.0**-decade, 5 * 10.0**-decade, 10.0**-decade)]
    ticks = sorted(tick for tick in ticks if 1.5 * floor < tick <= max(worst, 2 * floor))
    axes.set_yticks([floor, *ticks], ["1", *(f"{1 - tick:.6g}" for tick in ticks)])
    axes.set_ylim(1.3 * max([floor, *ticks, worst]), floor / 1.5)


def _speed_ticks(axes: Any) -> None:
    """Plain numbers, not powers of ten."""
    low, high = axes.get_xlim()
    ticks = [step * 10.0**power for power in range(-3, 5) for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g} x" for tick in ticks])
