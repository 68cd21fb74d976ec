"""Whose turn each file, and each range of a large file, is: the same for all parts of a job."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from knnvote.classify.job.again.follows import may_follow
from knnvote.classify.job.record import RECORDS, to_json
from knnvote.classify.job.work import Piece, Task
from knnvote.data.conditional import put_if_new, put_if_same
from knnvote.data.errors import KnnvoteError
from knnvote.data.input_file import InputFile
from knnvote.data.locations import Location

from .part import JobPart

PARTS = "parts"  # the folder among the records
_PLAN = "plan.json"
_ROW_BYTES = 1 << 10  # of a row in a file whose rows would have to be read to be counted
_AT_ONCE = 16  # files that are asked for their rows: a store takes its time for each
_ATTEMPTS = 20


@dataclass(frozen=True)
class Plan:
    """Whose turn it is.

    Attributes:
        made_from: what all files of the job share, as its record has it.
        parts: how many parts there are.
        turns: by the relative path of each output, the numbers of the parts that do its ranges, in their order.
    """

    made_from: dict[str, Any]
    parts: int
    turns: dict[str, list[int]]

    @classmethod
    def of(cls, tasks: Sequence[Task], made_from: dict[str, Any], parts: int) -> "Plan":
        """Deal out files and ranges in their order, so that parts have as equal numbers of rows as these allow."""
        with ThreadPoolExecutor(_AT_ONCE) as asking:
            weights = [*asking.map(partial(_weights, made_from), tasks)]
        total, before = sum(map(sum, weights)), 0
        turns: dict[str, list[int]] = {}
        for task, of_pieces in zip(tasks, weights, strict=True):
            turns[task.source.relative] = numbers = []
            for weight in of_pieces:
                numbers.append((2 * before + weight) * parts // (2 * total) + 1)  # where its middle lies
                before += weight
        return cls(made_from, parts, turns)

    @classmethod
    def known(cls, out: Location, tasks: Sequence[Task], made_from: dict[str, Any], parts: int) -> "Plan":
        """That of the output folder, if it is of this job; else one as `of` makes it."""
        return _fitting(out, tasks, made_from, parts) or cls.of(tasks, made_from, parts)

    def tasks(self, part: JobPart, tasks: Sequence[Task]) -> list[Task]:
        """Those of a part, of the whole files of the job."""
        found = []
        for task in tasks:
            turns = self.turns[task.source.relative]
            for number, turn in enumerate(turns):
                if turn == part.number:
                    found.append(replace(task, piece=Piece(number, len(turns))) if len(turns) > 1 else task)
        return found

    @cached_property
    def content(self) -> bytes:
        """As it is written down."""
        return to_json({**self.made_from, "parts": self.parts, "turns": self.turns})

    @cached_property
    def mark(self) -> str:
        """What tells it from any other."""
        return hashlib.sha256(self.content).hexdigest()


def _weights(made_from: dict[str, Any], task: Task) -> list[int]:
    """How much work each range of a file is, or all of it: where it follows from an output, that is made at once."""
    rows = _rows(task.source)
    pieces = task.cut(rows) if task.source.has_ranges else [task]
    if len(pieces) > 1 and may_follow(made_from, task.target, task.source.size):
        pieces = [task]
    return [1 + (rows if task.piece is None else task.piece.rows(rows)) for task in pieces]


def _rows(source: InputFile) -> int:
    return source.count_rows() if source.has_ranges else source.size // _ROW_BYTES


def folder_of_parts(out: Location) -> Location:
    """Where parts keep what they tell each other."""
    return out / RECORDS / PARTS


def read_plan(out: Location) -> Plan | None:
    """The plan of a job that is done in parts; None where there is none, or a damaged one."""
    raw = (folder_of_parts(out) / _PLAN).read_if_there()
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        record = json.loads(raw or b"")
        turns = {str(name): [_to_number(turn) for turn in numbers] for name, numbers in record["turns"].items()}
        made_from = {"index": str(record["index"]), "options": dict(record["options"])}
        plan = Plan(made_from, _to_number(record["parts"]), turns)
        if all(numbers and max(numbers) <= plan.parts for numbers in turns.values()):
            return plan
    return None


def _to_number(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise TypeError
    return value


def settle_plan(out: Location, tasks: Sequence[Task], made_from: dict[str, Any], parts: int, scratch: Path) -> Plan:
    """The plan of the job, which whoever comes first makes: inputs may be asked for their rows only once."""
    file = folder_of_parts(out) / _PLAN
    made = None
    for _ in range(_ATTEMPTS):
        is_there, tag = file.is_file, file.tag()
        if (plan := _fitting(out, tasks, made_from, parts)) is not None:
            return plan
        made = made or Plan.of(tasks, made_from, parts)
        if is_there:  # of other inputs, of as many parts as are no longer asked for, or damaged
            put_if_same(file, made.content, tag, scratch=scratch)
        else:
            put_if_new(file, made.content, scratch=scratch)
    raise KnnvoteError(f"{file} changes whenever it is read: give all parts the same inputs and options")


def _fitting(out: Location, tasks: Sequence[Task], made_from: dict[str, Any], parts: int) -> Plan | None:
    """The plan in an output folder, if it is of these files and of so many parts."""
    plan, names = read_plan(out), {task.source.relative for task in tasks}
    does_fit = plan is not None and (plan.made_from, plan.parts, {*plan.turns}) == (made_from, parts, names)
    return plan if does_fit else None
