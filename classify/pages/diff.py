"""The page of ``knnvote diff``: the rows of two jobs that have another answer."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.judgement.changes import JobDiff
from knnvote.data.errors import as_recorded, spelled
from knnvote.indexer.labels import show_class

from .charts import share_axis
from .facts import Fact
from .page import Frame, Tile, write_page


def write_diff(path: Path, diff: JobDiff, jobs: Sequence[FinishedJob], frame: Frame | None = None) -> None:
    """Write the page of what `diff_jobs` found of two jobs.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    write_page(
        path,
        "diff.html.j2",
        title=f"What changed from {diff.first} to {diff.second}",
        frame=frame,
        tiles=_tiles(diff),
        made=[Fact(what, job.out.shown, job.written) for what, job in zip(("before", "now"), jobs, strict=True)],
        accuracy_axis=None if diff.judged is None else share_axis(judged.accuracy for judged in diff.judged),
        diff=diff,
        differences=[spelled(words, as_recorded) for words in diff.differences],
        kept=[spelled(words, as_recorded) for words in diff.kept],
        note=None if diff.note is None else spelled(diff.note, as_recorded),
        name=partial(show_class, names=None),
    )


def _tiles(diff: JobDiff) -> list[Tile]:
    """Whether the second job is better, and how many rows changed."""
    share = f"{diff.changed / diff.rows:.2%} of {diff.rows:,}" if diff.rows else ""
    tiles = [Tile("rows with another answer", f"{diff.changed:,}", share)]
    accuracies = diff.accuracies
    if diff.judged is None or accuracies is None:
        return tiles
    before, now = (judged.accuracy.value for judged in diff.judged)
    told = "more than chance" if accuracies.is_more_than_chance else "no more than chance would give"
    tone = ("good" if now > before else "bad") if accuracies.is_more_than_chance else ""
    return [
        Tile("right of all, now", f"{now:.2%}", f"{100 * (now - before):+.2f} points: {told}", tone),
        Tile("right of all, before", f"{before:.2%}"),
        Tile("better", f"{accuracies.only_name:,}", f"rows that only {diff.second} has right"),
        Tile("worse", f"{accuracies.only_other:,}", f"rows that only {diff.first} has right"),
        *tiles,
    ]
