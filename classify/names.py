"""Names that options of rows take, in a module that costs nothing to import."""

STATUSES = ("ok", "abstained", "bad_image")
SORTS = ("confidence", "margin", "distance")  # the more doubtful rows first: the farthest, of the others the least
