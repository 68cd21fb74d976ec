"""Names that options of rows and pictures take, in a module that costs nothing to import."""

from typing import Literal, get_args

Ink = Literal["light", "dark"]
INKS: tuple[Ink, ...] = get_args(Ink)  # the greatest values of a picture are light, as any viewer has them, or dark
STATUSES = ("ok", "abstained", "bad_image")
SORTS = ("confidence", "margin", "distance")  # the more doubtful rows first: the farthest, of the others the least
