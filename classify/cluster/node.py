"""What runs on a node: one actor, which opens the index once and does the files that it is given."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from pyarrow import fs as pafs

from knnvote.classify.job.record import read_job_record
from knnvote.classify.job.work import Outcome, Task, Work
from knnvote.classify.job.worker import Worker
from knnvote.data.errors import KnnvoteError, Note


@dataclass(frozen=True)
class Order:
    """One file to be done.

    Attributes:
        task: the file.
        is_anew: make its output, or tell it as made, even if it is there: a worker that died since may have made it.
    """

    task: Task
    is_anew: bool = False


@dataclass
class Report:
    """What became of what a node was asked for.

    Attributes:
        outcomes: of the files, in their order; fewer where an error ended it.
        unseen: places in these of files that failed and are not there, seen from this node.
        notes: what is to be told of them, with the parameters in it marked.
        error: that ends the whole job.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: KnnvoteError | None = None


class NodeWorker:
    """Does files on a node, once it has opened the index.

    Attributes:
        worker: what does them.
    """

    worker: Worker

    def __init__(self) -> None:
        """Open nothing yet."""
        self._opened = ExitStack()  # till the process ends

    def open(self, work: Work) -> Report:
        """Open the index, and see that the output folder is the one that the job holds."""
        report = Report()
        try:
            self.worker = self._opened.enter_context(Worker.open(work))
            _see_folder(work)
            self.worker.claim.check()
        except KnnvoteError as error:
            report.error = error
        return report

    def classify(self, orders: Sequence[Order]) -> Report:
        """Do some files, one after the other."""
        report = Report()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_rest, **_named: report.notes.append(_told(message))
            try:
                for place, order in enumerate(orders):
                    outcome = self.worker.classify_file(order.task, is_anew=order.is_anew)
                    if outcome.failure is not None and not _is_seen(order.task):
                        report.unseen.append(place)
                    report.outcomes.append(outcome)
            except KnnvoteError as error:
                report.error = error
        return report


def _see_folder(work: Work) -> None:
    if read_job_record(work.out) is None:
        raise KnnvoteError(f"{work.out} is not the output folder of the job there")


def _told(message: Warning | str) -> str:
    return message.marked if isinstance(message, Note) else str(message)


def _is_seen(task: Task) -> bool:
    try:
        return bool(task.source.info().type != pafs.FileType.NotFound)
    except KnnvoteError:
        return True  # what its failure tells is more
