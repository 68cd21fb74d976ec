"""Who does the files of a job, and where: the seam for an engine beside the local one."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from knnvote.classify.classifier import Classifier

from .work import Outcome, Task, Work
from .worker import Worker


class Engine(Protocol):
    """Does the files of a job, wherever: a `Worker` makes each output from the work and the task alone.

    What comes before and after (which file goes where, whose the output folder is, the summary) is not its part.

    Attributes:
        does_parts: it does a part of a job as well, beside others in the same folder.
    """

    does_parts: ClassVar[bool]

    def run(self, work: Work, tasks: Sequence[Task], progress: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """What becomes of each file, as soon as it has, in any order; closed early where the job ends early.

        Args:
            work: what the files have in common.
            tasks: the files.
            progress: told in this process how many rows more are done, of each batch or of a file as a whole.

        Raises:
            KnnvoteError: what no other file would escape, such as a full disk.
        """
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Does one file after the other in this process, where reading, searching and writing overlap.

    Attributes:
        classifier: the work's index and rule, opened.
    """

    does_parts: ClassVar[bool] = True

    classifier: Classifier

    def run(self, work: Work, tasks: Sequence[Task], progress: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """What becomes of each file, as soon as it has."""
        with Worker.open(work, self.classifier) as worker:
            for task in tasks:
                yield worker.classify_file(task, progress)
