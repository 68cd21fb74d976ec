"""The page of ``knnvote diff``: the rows of two jobs that have another answer."""

from functools import partial
from pathlib import Path

from knnvote.classify.judgement.diff import JobDiff
from knnvote.data.errors import as_recorded, spelled
from knnvote.indexer.labels import show_class

from .page import write_page


def write_diff(path: Path, diff: JobDiff) -> None:
    """Write the page of what `diff_jobs` found.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    write_page(
        path,
        "diff.html.j2",
        diff=diff,
        differences=[spelled(words, as_recorded) for words in diff.differences],
        note=None if diff.note is None else spelled(diff.note, as_recorded),
        name=partial(show_class, names=None),
    )
