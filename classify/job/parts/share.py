"""An output folder that several parts of one job write to at once, wherever they run.

No part relies on what another host may not see: not on locks, not on process numbers, not on clocks. What is unfinished
lies in a folder of its part; a part removes it when all its files are done, and whoever finds all files of the job done
removes what is left of any: what is written after that has been done by someone else.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from knnvote.classify.job.folder import (
    LOCK,
    Claim,
    next_record,
    refuse_links,
    refuse_one_place,
    refuse_other_folder,
)
from knnvote.classify.job.record import (
    ENDED,
    JOB,
    RECORDS,
    JobRecord,
    end_records,
    read_failures,
    read_job_record,
    to_content,
    to_json,
)
from knnvote.classify.job.work import Outcome, Task, Work
from knnvote.data.conditional import check_store, put_if_new, put_if_same
from knnvote.data.errors import KnnvoteError
from knnvote.data.files import VanishedError, is_unfinished, share_lock
from knnvote.data.input_file import InputFile
from knnvote.data.locations import Location

from .left import PartRecord, Rest
from .part import JobPart
from .plan import PARTS, Plan, read_plan, settle_plan
from .ranges import RANGES, remove_files, remove_tree

_ATTEMPTS, _PATIENT = 20, 10
_PAUSE = 0.05  # seconds


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a part of a job does in the folder of all.

    Attributes:
        part: which one.
        plan: whose turn each file is.
        work: of the job, as this part does it.
        every: all files of the job.
        tasks: the files of this part, and the ranges.
        again: writes this job's inputs into its record, where another part may have replaced it.
    """

    part: JobPart
    plan: Plan
    work: Work
    every: Sequence[Task]
    tasks: Sequence[Task]
    again: Callable[[], None]

    def end(self, outcomes: Sequence[Outcome], failed: dict[str, str]) -> Rest:
        """Write down that this part has ended and, if no other has anything left, end the job.

        Args:
            outcomes: of its tasks.
            failed: path and reason of those that failed.
        """
        out, scratch = self.work.out, _scratch(self.work)
        files = [
            task.source.relative
            for task, outcome in zip(self.tasks, outcomes, strict=True)
            if outcome.failure is not None
        ]
        current = self._current(scratch)
        if current is not None:
            record = PartRecord(has_ended=True, failed=failed, files=[*dict.fromkeys(files)])
            record.write(out, self.part, self.plan, scratch)
            self.again()
        if out.is_local and not failed:  # what is unfinished is of an earlier run, or of another one at the same files
            remove_tree(out / self.work.scratch)
        rest = Rest.of(out, current or self.plan)
        if self._current(scratch) is None:
            rest = replace(rest, left=[])
            clear(out)
        elif not rest.left:
            output = next((task.target for task in self.every if task.target.is_file), None)
            with suppress(VanishedError):  # another part ends the job at this moment
                end_records(out, rest.failed, output)
            clear(out)
        return rest

    def _current(self, scratch: Path) -> Plan | None:
        """The plan of the job, made anew where it is lost or damaged; None where the job has ended."""
        plan = read_plan(self.work.out)
        if plan is None and not self._has_ended():
            return settle_plan(self.work.out, self.every, self.work.made_from, self.part.parts, scratch)
        return plan

    def _has_ended(self) -> bool:
        """Whether another run has ended a job that has no plan any more, of this part at the same moment.

        Then its records lie where those of jobs lie that have ended, unless there is no output; and what is not there
        has failed.
        """
        out = self.work.out
        failed = read_failures(out)
        are_moved = (out / ENDED).is_file and not (out / RECORDS / JOB).is_file
        if not are_moved and (not failed or any(task.target.is_file for task in self.every)):
            return False
        of_failed = {task.source.relative for task in self.every if task.source.shown in failed}
        return all(of_failed.issuperset(left.files) for left in Rest.of(out, self.plan).left)


@contextmanager
def shared(
    work: Work,
    part: JobPart,
    every: Sequence[Task],
    own: JobRecord,
    why_not: Callable[[dict[str, Any]], str | None],
) -> Iterator[Share]:
    """Take part in a job.

    Args:
        work: of the job.
        part: which part.
        every: all files of the job.
        own: the job's record, without inputs yet.
        why_not: why the job may not replace the outputs of one that was made otherwise; None where it may.

    Raises:
        KnnvoteError: the folder is not a job's output folder, or another job's, or a run of the whole job holds it.
    """
    out, inputs = work.out, [task.source for task in every]
    check_store(out)
    refuse_other_folder(out, inputs)
    refuse_links(out, inputs)
    work = replace(work, scratch=f"{RECORDS}/{PARTS}/{part.name}", is_shared=True)
    scratch = _scratch(work)
    refusal = f"another job is writing to {out}, or a run of all its parts: wait for it, or give another folder"
    try:
        with share_lock(Path(out.path, RECORDS, LOCK), refusal) if out.is_local else nullcontext():
            refuse_one_place(out, inputs)

            take = partial(_take, own, inputs, out, scratch, why_not)
            take()
            Claim(out, work.made_from, is_locked=False).check()
            plan = settle_plan(out, every, work.made_from, part.parts, scratch)
            PartRecord().write(out, part, plan, scratch)
            yield Share(part=part, plan=plan, work=work, every=every, tasks=plan.tasks(part, every), again=take)
    finally:
        remove_empty(out)


def _scratch(work: Work) -> Path:
    return Path(work.out.path) / work.scratch


def _take(
    own: JobRecord,
    inputs: Sequence[InputFile],
    out: Location,
    scratch: Path,
    why_not: Callable[[dict[str, Any]], str | None],
) -> None:
    """Write down whose the folder is, and what its inputs are, unless a part has.

    Raises:
        KnnvoteError: it is another job's.
    """
    file = out / RECORDS / JOB
    for attempt in range(_ATTEMPTS):
        is_there, tag = file.is_file, file.tag()
        if attempt < _PATIENT and file.read_if_there() == b"":  # it is being made, on a disk without links
            time.sleep(_PAUSE)
            continue
        before = read_job_record(out)
        record = next_record(out, before, own, inputs, why_not)
        if record == before:
            return
        content = to_json(to_content(record))
        if put_if_same(file, content, tag, scratch=scratch) if is_there else put_if_new(file, content, scratch=scratch):
            return
    raise KnnvoteError(f"{file} changes whenever it is read: run the same command again when no other job starts")


def clear(out: Location) -> None:
    """Remove what parts of a job that has ended left among its records."""
    for name in (PARTS, RANGES):
        remove_tree(out / RECORDS / name)
    records = out / RECORDS
    if out.is_local and records.is_folder:
        with suppress(OSError):  # it is gone
            remove_files(Path(records.path), [name for name in os.listdir(records.path) if is_unfinished(name)])  # noqa: PTH208


def remove_empty(out: Location) -> None:
    """Remove the folder of records if nothing is in it."""
    if out.is_local:
        with suppress(OSError):
            Path(out.path, RECORDS).rmdir()
