"""How far stored images are from their nearest others, and where the neighbours of one image lie among them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .figures import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 40
_STORED, _NEAREST = "#5B9BC8", "#CC6677"  # on which lines of black and of white are seen


def draw_nearness(distances: NDArray[np.float64], neighbors: Sequence[float]) -> "Figure":
    """A histogram of the stored images' distances, and an image's neighbours as lines: thick the nearest, else dotted.

    Args:
        distances: (m,) of stored images to their nearest others.
        neighbors: distances of the image's neighbours, the nearest first.
    """
    figure = new_figure(4.8, 1.8)
    axes = figure.subplots()
    axes.hist(distances, bins=_BINS, color=_STORED)
    for distance in neighbors[1:]:
        axes.axvline(distance, color=INK, linewidth=1, linestyle=":")
    axes.axvline(neighbors[0], color=_NEAREST, linewidth=2.5)
    axes.set(xlabel="distance", ylabel="images")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
