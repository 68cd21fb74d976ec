"""What the parts of a job have left: of those that did not run, or were cut off."""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from knnvote.classify.job.receipt import read_receipt
from knnvote.classify.job.record import RECORDS, to_json
from knnvote.classify.job.work import Piece
from knnvote.data.conditional import put_whole
from knnvote.data.errors import param
from knnvote.data.locations import Location

from .part import JobPart
from .plan import PARTS, Plan, folder_of_parts
from .ranges import RANGES, file_name

_AT_ONCE = 16  # receipts that are read: a store takes its time for each
STATES = {
    "not run": "has not been run",
    "not ended": "is at work or was cut off",
    "ended": "has ended, and its outputs are gone or not joined",
}


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """What a part tells of its last run.

    Attributes:
        has_ended: it did, and did all of its files but those that failed.
        failed: path and reason of each that failed.
        files: the relative paths of these.
    """

    has_ended: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def write(self, out: Location, part: JobPart, plan: Plan, scratch: Path) -> None:
        """Write it down, as said of a plan."""
        put_whole(_place(out, part), to_json({"plan": plan.mark, **vars(self)}), scratch=scratch)


def _place(out: Location, part: JobPart) -> Location:
    return folder_of_parts(out) / f"{part.name}.json"


def read_part_record(out: Location, part: JobPart, plan: Plan) -> PartRecord | None:
    """What a part of this plan tells; None of one that did not run."""
    raw = _place(out, part).read_if_there()
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        record = json.loads(raw or b"")
        if record["plan"] == plan.mark:
            failed = {str(source): str(reason) for source, reason in record["failed"].items()}
            files = [str(name) for name in record["files"]]
            return PartRecord(has_ended=record["has_ended"] is True, failed=failed, files=files)
    return None


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a part has left.

    Attributes:
        part: the part.
        state: ``not run``, ``not ended`` or ``ended``, as it tells itself.
        files: the relative paths of files that it has to do, or some rows of.
    """

    part: JobPart
    state: str
    files: list[str]

    def __str__(self) -> str:
        """In words for people."""
        files = f"{len(self.files):,} file{'s' if self.files[1:] else ''}"
        return f"part {self.part} {STATES[self.state]}: {files}, first {self.files[0]}"

    @property
    def remedy(self) -> str:
        """What to do."""
        return f"run it with {param('part')} {self.part}"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"part": str(self.part), "state": self.state, "files": len(self.files), "first": self.files[0]}


@dataclass(frozen=True, kw_only=True)
class Rest:
    """How far the parts of a job are.

    Attributes:
        plan: whose turn each file is.
        left: what parts have left, in their order.
        records: what those tell that ran.
    """

    plan: Plan
    left: list[Left]
    records: Mapping[int, PartRecord]

    @property
    def failed(self) -> dict[str, str]:
        """Path and reason of each file that failed, in whatever part."""
        return {source: reason for record in self.records.values() for source, reason in record.failed.items()}

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"parts": self.plan.parts, "left": [left.to_json() for left in self.left]}

    @classmethod
    def of(cls, out: Location, plan: Plan) -> "Rest":
        """See how far they are, by the names of what is there and, of parts that have not ended, the receipts.

        Raises:
            KnnvoteError: the folder cannot be listed or read.
        """
        names = {name for name, entry in out.below().items() if entry.type == pafs.FileType.File}
        records = _read_records(out, plan, names)
        unsure = {  # whose output may be another job's, which is to be replaced
            name
            for name, turns in plan.turns.items()
            if any(turn not in records or not records[turn].has_ended for turn in turns)
        }
        left = _left(plan, names - _foreign(out, plan, unsure & names), records)
        return cls(plan=plan, left=left, records=records)


def _read_records(out: Location, plan: Plan, names: Iterable[str]) -> dict[int, PartRecord]:
    found, names = {}, {*names}
    for number in range(1, plan.parts + 1):
        part = JobPart(number=number, parts=plan.parts)
        if f"{RECORDS}/{PARTS}/{part.name}.json" in names:
            record = read_part_record(out, part, plan)
            if record is not None:
                found[number] = record
    return found


def _foreign(out: Location, plan: Plan, names: Iterable[str]) -> set[str]:
    """Which outputs are not of this job."""

    def is_foreign(name: str) -> bool:
        receipt = read_receipt(out / name)
        return receipt is None or receipt.made_from != plan.made_from

    names = [*names]
    with ThreadPoolExecutor(_AT_ONCE) as asking:
        return {name for name, foreign in zip(names, asking.map(is_foreign, names), strict=True) if foreign}


def _left(plan: Plan, names: set[str], records: Mapping[int, PartRecord]) -> list[Left]:
    failed = {name for record in records.values() for name in record.files}
    files: dict[int, list[str]] = {}
    for name, turns in plan.turns.items():
        if name in names or name in failed:
            continue
        missing = {turn for number, turn in enumerate(turns) if not _is_range_there(name, number, turns, names)}
        for turn in missing or {*turns}:  # where all ranges are there, some are of the input as it was
            files.setdefault(turn, []).append(name)
    left = []
    for turn, of_turn in sorted(files.items()):
        record = records.get(turn)
        state = "not run" if record is None else "ended" if record.has_ended else "not ended"
        left.append(Left(part=JobPart(number=turn, parts=plan.parts), state=state, files=of_turn))
    return left


def _is_range_there(name: str, number: int, turns: list[int], names: set[str]) -> bool:
    file = f"{RECORDS}/{RANGES}/{name}/{file_name(Piece(number, len(turns)))}"
    return len(turns) > 1 and file in names
