"""Pictures blurred a little, so that strokes a pixel apart are near each other."""

from dataclasses import dataclass

import numpy as np

from knnvote.data.vectors import Numbers

from .picture import PictureFilter, widened


@dataclass(frozen=True)
class Blur(PictureFilter):
    """Each pixel with its neighbours, weighted 1 2 1 down and across; beyond the edge its pixels go on."""

    name = "blur"
    weighs = False

    def _made(self, pictures: Numbers) -> Numbers:
        wide = np.pad(widened(pictures), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        tall = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
        total: Numbers = tall[:, :, :-2] + 2 * tall[:, :, 1:-1] + tall[:, :, 2:]
        mean: Numbers = (total + 8) // 16 if pictures.dtype.kind == "u" else total / 16
        return mean
