"""The errors that users see: each names the path or value, what was expected, and what to do."""


class KnnvoteError(Exception):
    """Something about the data or the machine stands in the way (exit code 1)."""


class OptionError(KnnvoteError):
    """An option's value cannot be used (exit code 2)."""


class ImageFileError(KnnvoteError):
    """A whole file of images does not fit: no image column, another shape, not Parquet."""
