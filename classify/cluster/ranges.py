"""Files that are too large for one worker while others wait: cut into ranges of rows, and told of as one again."""

from collections.abc import Iterator, Sequence

from knnvote.classify.job.receipt import Counts
from knnvote.classify.job.work import Outcome, Task
from knnvote.classify.scale import Scale

_SHARES = 8  # of each worker: a file that is as large as one of these is cut


def cut_large(tasks: Sequence[Task], workers: int) -> list[Task]:
    """The same files, those cut that are a large part of the work, unless something is in their place already.

    What is in its place is most likely done; of files that are not large, none is opened to be counted.
    """
    least = sum(task.source.size for task in tasks) / (_SHARES * workers)
    cut: list[Task] = []
    for task in tasks:
        is_large = workers > 1 and task.source.size >= least and task.source.has_ranges
        cut += task.cut(task.count_rows()) if is_large and not task.target.is_file else [task]
    return cut


def size_of(unit: Task) -> int:
    """About how many bytes of input a file or range is of."""
    return unit.source.size // (unit.piece.pieces if unit.piece else 1)


class Gathering:
    """What became of files, told when all ranges of one have come back."""

    def __init__(self, units: Sequence[Task]) -> None:
        """Expect what becomes of these files and ranges."""
        self._units = units
        self._ranges: dict[str, dict[int, Outcome]] = {}

    def add(self, unit: int, outcome: Outcome) -> Iterator[Outcome]:
        """What became of the file that the unit of this place is of, if that is known now."""
        piece, name = self._units[unit].piece, self._units[unit].source.relative
        if piece is None:
            yield outcome
            return
        ranges = self._ranges.setdefault(name, {})
        ranges[piece.number] = outcome
        if len(ranges) == piece.pieces:
            yield _joined([self._ranges[name][number] for number in range(piece.pieces)])


def _joined(ranges: Sequence[Outcome]) -> Outcome:
    failed = next((outcome for outcome in ranges if outcome.failure is not None), None)
    return Outcome(
        source=ranges[0].source,
        counts=Counts() if failed else sum((outcome.counts for outcome in ranges), Counts()),
        was_done=not failed and all(outcome.was_done for outcome in ranges),
        bad_example=next((outcome.bad_example for outcome in ranges if outcome.bad_example is not None), None),
        scale=Scale() if failed else sum((outcome.scale for outcome in ranges), Scale()),
        stored=0 if failed else sum(outcome.stored for outcome in ranges),
        failure=failed.failure if failed else None,
    )
