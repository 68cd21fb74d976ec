"""The errors that users see: each names the path or value, what was expected, and what to do."""

from .text import printable


class KnnvoteError(Exception):
    """Something about the data or the machine stands in the way (exit code 1)."""

    def __str__(self) -> str:
        """The message on one line that any terminal shows and any file takes: it may quote names from hostile files."""
        return printable(super().__str__())


class OptionError(KnnvoteError):
    """An option's value cannot be used (exit code 2)."""


class ImageFileError(KnnvoteError):
    """A whole file of images does not fit: no image column, another shape, not Parquet."""
