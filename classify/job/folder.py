"""The output folder of a job: which file goes where, and that nothing but this job writes there."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs as pafs

from knnvote.data.errors import KnnvoteError, param
from knnvote.data.files import hold_lock, is_unfinished
from knnvote.data.input_file import InputFile
from knnvote.data.locations import Location
from knnvote.indexer.manifest import MANIFEST

from .receipt import read_receipt
from .record import (
    ENDED,
    RECORDS,
    JobRecord,
    has_records,
    read_job_record,
    record_tag,
    remove_records,
    write_job_record,
)
from .work import Task

LOCK = "lock"
# What desktops and notebooks leave in any folder that they show.
_LEFT_BY_DESKTOPS = re.compile(
    r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.ipynb_checkpoints", re.IGNORECASE | re.DOTALL
)


def plan_outputs(inputs: Sequence[InputFile], out: Location) -> list[Task]:
    """The output file of each input.

    Raises:
        KnnvoteError: two inputs would have one output, or an output would lie among the inputs or outside `out`.
    """
    tasks: list[Task] = []
    by_name: dict[PurePosixPath, InputFile] = {}
    real_out = _real(out)
    for source in inputs:
        name = PurePosixPath(source.relative)
        target = out / str(name)
        if name.is_absolute() or ".." in name.parts or not name.parts or not _is_output(name):
            raise KnnvoteError(
                f"{source} has no place of its own below {out}: name it, or a folder above it, otherwise"
            )
        other = by_name.setdefault(name, source)
        if other is not source:
            raise KnnvoteError(
                f"{other} and {source} would both be written to {target}: "
                "classify them into two output folders, or name a folder above both"
            )
        is_near = source.filesystem == out.filesystem
        if is_near and source.root is not None and PurePosixPath(real_out).is_relative_to(source.root):
            raise KnnvoteError(
                f"the output folder {out} lies inside the input {source.root}: give {param('out')} elsewhere"
            )
        if is_near and _real(target) == _real(source):
            raise KnnvoteError(f"{target} is the input itself: give another {param('out')}")
        tasks.append(Task(source, target))
    for name, source in by_name.items():
        for folder in by_name.keys() & set(name.parents):
            raise KnnvoteError(
                f"{by_name[folder]} and {source} would be a file and a folder named {out / str(folder)}: "
                "classify them into two output folders"
            )
    return tasks


def _real(location: Location) -> str:
    """The path that links lead to."""
    return str(Path(location.path).resolve()) if location.is_local else location.path


@contextmanager
def claimed(
    out: Location,
    own: JobRecord,
    inputs: Sequence[InputFile],
    why_not: Callable[[dict[str, Any]], str | None],
) -> Iterator[None]:
    """Hold the output folder for this job alone.

    Args:
        out: the folder.
        own: the job's record, without inputs yet.
        inputs: of the job.
        why_not: why the job may not replace the outputs of one that was made otherwise; None where it may.

    Raises:
        KnnvoteError: it is not a job's output folder, was made by a job that is not to be replaced, or is in use.
    """
    refuse_other_folder(out, inputs)
    refuse_links(out, inputs)
    try:
        with _locked(out):
            refuse_one_place(out, inputs)
            record = _take(out, own, inputs, why_not)
            Claim(out, own.made_from, is_locked=out.is_local).check()
            try:
                yield
            finally:
                with suppress(KnnvoteError):  # what stands in the way has been told
                    # Nothing was written that another job could mix with.
                    if not output_files(out) and read_job_record(out) == record:
                        remove_records(out)
    finally:
        if out.is_local:
            with suppress(OSError):  # only an empty folder goes
                Path(out.path, RECORDS).rmdir()


def refuse_taken(
    out: Location,
    made_from: dict[str, Any],
    inputs: Sequence[InputFile],
    why_not: Callable[[dict[str, Any]], str | None],
) -> None:
    """Refuse what a job of these inputs would refuse of its output folder, as `claimed` does; nothing is written.

    Raises:
        KnnvoteError: it is not a job's output folder, or was made by a job that is not to be replaced.
    """
    refuse_other_folder(out, inputs)
    refuse_links(out, inputs)
    record = read_job_record(out)
    if record is not None:
        _refuse_other_unless(out, record, made_from, inputs, why_not)


def refuse_other_folder(out: Location, inputs: Sequence[InputFile]) -> None:
    """Refuse what is neither a job's output folder, by its records or by an output, nor an empty one."""
    if out.is_file or (out.is_local and os.path.lexists(out.path) and not out.is_folder):
        raise KnnvoteError(f"{out} is not a folder: give {param('out')} a folder, or a path where nothing is")
    if (out / MANIFEST).is_file:
        raise KnnvoteError(f"{out} is an index folder: give {param('out')} a folder of its own")
    if not out.is_folder or has_records(out) or all(map(_is_left_by_desktop, out.below(recursive=False))):
        return
    if not any(read_receipt(out / source.relative) for source in inputs):
        raise KnnvoteError(f"{out} holds files that knnvote did not make: give {param('out')} a new or empty folder")


def refuse_links(out: Location, inputs: Sequence[InputFile]) -> None:
    """Refuse links within the folder, which a stranger may have made: what goes through one goes elsewhere."""
    if out.is_local:
        folders = {RECORDS, *(str(folder) for source in inputs for folder in PurePosixPath(source.relative).parents)}
        for folder in sorted(folders - {"."}):
            if Path(out.path, folder).is_symlink():
                raise KnnvoteError(
                    f"{out / folder} is a link, and what is written there would go elsewhere: "
                    f"remove it, or give another {param('out')}"
                )


def refuse_one_place(out: Location, inputs: Sequence[InputFile]) -> None:
    """Refuse outputs whose names are one to the disk; the lock, asked for in capitals, tells whether it ignores case.

    Raises:
        KnnvoteError: two have one place.
    """
    lock = Path(out.path, RECORDS, LOCK)
    if not out.is_local or not (capitals := lock.with_name(LOCK.upper())).exists() or not capitals.samefile(lock):
        return
    places: dict[str, InputFile] = {}
    for source in inputs:
        other = places.setdefault(unicodedata.normalize("NFC", source.relative).casefold(), source)
        if other is not source:
            raise KnnvoteError(
                f"{other} and {source} would both be written to {out / source.relative}, for its disk ignores case: "
                "classify them into two output folders"
            )


def _locked(out: Location) -> AbstractContextManager[None]:
    if not out.is_local:
        return nullcontext()
    path = Path(out.path)
    return hold_lock(
        path / RECORDS / LOCK, f"another job is writing to {path}: wait for it, or give another {param('out')}"
    )


def _take(
    out: Location,
    own: JobRecord,
    inputs: Sequence[InputFile],
    why_not: Callable[[dict[str, Any]], str | None],
) -> JobRecord:
    """Clear away what a killed job left, and write down whose the folder is and what its inputs are."""
    clear_unfinished(out)
    before = read_job_record(out)
    record = next_record(out, before, own, inputs, why_not)
    if record != before:
        write_job_record(out, record)
    return record


def next_record(
    out: Location,
    before: JobRecord | None,
    own: JobRecord,
    inputs: Sequence[InputFile],
    why_not: Callable[[dict[str, Any]], str | None],
) -> JobRecord:
    """What is to be written down of a job, whose own record has no inputs yet, in place of what stands there.

    Raises:
        KnnvoteError: the folder is another job's that is not to be replaced.
    """
    if before is not None:
        _refuse_other_unless(out, before, own.made_from, inputs, why_not)
    known = {} if before is None else before.inputs
    addresses = known | {source.relative: source.address for source in inputs}
    return replace(own, inputs=addresses)


def clear_unfinished(out: Location) -> None:
    """Remove what processes that were killed had not finished."""
    records = out / RECORDS
    for name in records.below(recursive=False) if records.is_folder else ():
        if is_unfinished(name):
            (records / name).remove()


@dataclass
class Claim:
    """That an output folder is this job's: what no lock keeps another one away from.

    Attributes:
        out: the folder.
        made_from: what its record says of the job.
        is_locked: a lock does.
        seen: the tag of the record that was read last: while it stays, so does the record.
    """

    out: Location
    made_from: dict[str, Any]
    is_locked: bool
    seen: str | None = None

    def check(self) -> None:
        """See that it still is.

        Raises:
            KnnvoteError: another job that started at the same moment has taken it.
        """
        if self.is_locked:
            return
        tag = record_tag(self.out)
        if tag is not None and tag == self.seen:
            return
        record = read_job_record(self.out)
        if record is None:
            raise KnnvoteError(f"{self.out} is no longer this job's, its record is gone: run the same command again")
        _refuse_other_job(self.out, record, self.made_from)
        self.seen = tag


def _refuse_other_job(out: Location, before: JobRecord, made_from: dict[str, Any]) -> None:
    if differences := before.differences(made_from):
        raise KnnvoteError(f"{_made_by_another(out, differences)}; give another {param('out')}, or remove it")


def _refuse_other_unless(
    out: Location,
    before: JobRecord,
    made_from: dict[str, Any],
    inputs: Sequence[InputFile],
    why_not: Callable[[dict[str, Any]], str | None],
) -> None:
    """Refuse to replace outputs of other inputs, and the folder of another job unless all its outputs may be."""
    for source in inputs:
        _refuse_replacing(out, before.inputs.get(source.relative), source)
    if differences := before.differences(made_from):
        _refuse_leaving(out, before, inputs)
        if (why := why_not(before.made_from)) is not None:
            raise KnnvoteError(
                f"{_made_by_another(out, differences)}; {why}: pass {param('overwrite=True')} to make all its outputs "
                f"anew, or give another {param('out')}"
            )


def _made_by_another(out: Location, differences: Sequence[str]) -> str:
    return f"{out} was made by another job: {'; '.join(differences)}"


def _refuse_leaving(out: Location, before: JobRecord, inputs: Sequence[InputFile]) -> None:
    """Refuse to replace some outputs of another job and leave those of inputs that are not given."""
    given = {source.relative for source in inputs}
    left = [name for name in before.inputs if name not in given and (out / name).is_file]
    if left:
        raise KnnvoteError(
            f"{out / left[0]} would stay as another job made it, for its input {before.inputs[left[0]]} is not given"
            f"{f', nor are {len(left) - 1:,} others' if left[1:] else ''}: give all inputs of the folder, or another "
            f"{param('out')}"
        )


def _refuse_replacing(out: Location, before: str | None, source: InputFile) -> None:
    """Refuse to replace the output of one input by that of another."""
    if before not in (None, source.address) and InputFile.again(before, source.relative) is not None:
        raise KnnvoteError(
            f"{out / source.relative} is the output of {before}, and {source} would replace it: "
            f"give another {param('out')}"
        )


def output_files(out: Location) -> dict[str, Location]:
    """The files of an output folder but the job's records and what desktops left, by their path relative to it."""
    return {
        name: out / name
        for name, entry in out.below().items()
        if entry.type == pafs.FileType.File and _is_output(PurePosixPath(name))
    }


def _is_output(name: PurePosixPath) -> bool:
    """Whether a path below an output folder may be that of an output."""
    return name.parts[0] not in (RECORDS, ENDED) and not any(map(_is_left_by_desktop, name.parts))


def _is_left_by_desktop(name: str) -> bool:
    return _LEFT_BY_DESKTOPS.fullmatch(name) is not None
