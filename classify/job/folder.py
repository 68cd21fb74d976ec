"""The output folder of a job: which file goes where, whose it is, and the records beside the outputs."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any

from pyarrow import fs as pafs

from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.files import atomic_write, hold_lock
from knnvote.data.inputs import InputFile
from knnvote.data.layout import ImageOptions, StoredImages
from knnvote.data.locations import Location, locate
from knnvote.indexer.manifest import MANIFEST

RECORDS = "_knnvote"
JOB = "job.json"
_FAILURES = "failures.json"
# What JSON has for the options that are used again, as far as they do not check it themselves.
_OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "k": (int,),
    "min_confidence": (int, float, NoneType),
    "max_distance": (int, float, NoneType),
    "image_column": (str, NoneType),
    "grayscale": (bool,),
    "prefix": (str,),
}


@dataclass(frozen=True)
class JobRecord:
    """Whose an output folder is.

    Attributes:
        index: fingerprint of the index.
        options: everything that shapes the answers.
        stored_images: what the index says of its images, without which inputs are not recognised as the job did.
        inputs: by the relative path of each output file, the address of its input.
    """

    index: str
    options: dict[str, Any]
    stored_images: StoredImages
    inputs: dict[str, str]

    @property
    def rule(self) -> Rule:
        """How the job's neighbours voted."""
        return Rule(**{field.name: self.options[field.name] for field in fields(Rule)})

    @property
    def image_options(self) -> ImageOptions:
        """What the user said about the images."""
        shape = self.options["shape"]
        return ImageOptions(
            image_column=self.options["image_column"],
            shape=None if shape is None else _to_shape(shape),
            grayscale=self.options["grayscale"],
        )

    @property
    def prefix(self) -> str:
        """Before the names of the columns that the job added."""
        prefix: str = self.options["prefix"]
        return prefix

    def input(self, name: str) -> InputFile | None:
        """The input of an output's relative path, if it is known and still there."""
        if name not in self.inputs:
            return None
        location = locate(self.inputs[name])
        return InputFile(location.filesystem, location.path, location.shown, name, 0) if location.is_file else None


def plan_outputs(inputs: Sequence[InputFile], out: Location) -> list[tuple[InputFile, Location]]:
    """The output file of each input.

    Raises:
        KnnvoteError: two inputs would have one output, or an output would lie among the inputs or outside `out`.
    """
    targets: list[tuple[InputFile, Location]] = []
    by_name: dict[PurePosixPath, InputFile] = {}
    for source in inputs:
        name = PurePosixPath(source.relative)
        target = out / str(name)
        if name.is_absolute() or ".." in name.parts or name.parts[:1] in ((), (RECORDS,)):
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
        if is_near and source.root is not None and PurePosixPath(_real(out)).is_relative_to(source.root):
            raise KnnvoteError(
                f"the output folder {out} lies inside the input {source.root}: give {param('out')} elsewhere"
            )
        if is_near and _real(target) == _real(source):
            raise KnnvoteError(f"{target} is the input itself: give another {param('out')}")
        targets.append((source, target))
    for name, source in by_name.items():
        for folder in by_name.keys() & set(name.parents):
            raise KnnvoteError(
                f"{by_name[folder]} and {source} would be a file and a folder named {out / str(folder)}: "
                "classify them into two output folders"
            )
    return targets


def _real(location: Location) -> str:
    """The path that links lead to."""
    return str(Path(location.path).resolve()) if location.is_local else location.path


@contextmanager
def claimed(
    out: Location, made_from: dict[str, Any], inputs: Sequence[InputFile], *, stored_images: StoredImages
) -> Iterator[None]:
    """Hold the output folder for this job alone.

    Raises:
        KnnvoteError: it is not a job's output folder, was made by another job, or is in use.
    """
    records = out / RECORDS
    if out.is_file or (out.is_local and os.path.lexists(out.path) and not out.is_folder):
        raise KnnvoteError(f"{out} is not a folder: give {param('out')} a folder, or a path where nothing is")
    if (out / MANIFEST).is_file:
        raise KnnvoteError(f"{out} is an index folder: give {param('out')} a folder of its own")
    if out.is_folder and not records.is_folder and out.below(recursive=False):
        raise KnnvoteError(f"{out} holds files that knnvote did not make: give {param('out')} a new or empty folder")
    with _locked(records):
        for name in records.below(recursive=False) if records.is_folder else ():
            if name.endswith(".tmp"):  # what a killed job left
                (records / name).remove()
        before = read_job_record(out)
        if before is not None:
            _refuse_other_job(out, before, made_from)
        known = {} if before is None else before.inputs
        for source in inputs:
            _refuse_replacing(out, known.get(source.relative), source)
        addresses = known | {source.relative: source.address for source in inputs}
        now = JobRecord(**made_from, stored_images=stored_images, inputs=addresses)
        if now != before:
            _write_json(records / JOB, asdict(now))
        check_claim(out, made_from)
        try:
            yield
        finally:
            with suppress(KnnvoteError):  # what stands in the way has been told
                # Nothing was written that another job could mix with.
                if [*out.below(recursive=False)] == [RECORDS] and read_job_record(out) == now:
                    (records / JOB).remove()
                    (records / _FAILURES).remove()


def check_claim(out: Location, made_from: dict[str, Any]) -> None:
    """See that the output folder is still this job's: an object store has no lock to keep another one away.

    Raises:
        KnnvoteError: another job that started at the same moment has taken it.
    """
    if not out.is_local:
        record = read_job_record(out)
        if record is None:
            raise KnnvoteError(f"{out} is no longer this job's, its record is gone: run the same command again")
        _refuse_other_job(out, record, made_from)


def _refuse_replacing(out: Location, before: str | None, source: InputFile) -> None:
    """Refuse to replace the output of one input by that of another."""
    if before not in (None, source.address) and locate(before).is_file:
        raise KnnvoteError(
            f"{out / source.relative} is the output of {before}, and {source} would replace it: "
            f"give another {param('out')}"
        )


def _locked(records: Location) -> AbstractContextManager[None]:
    if not records.is_local:
        return nullcontext()
    out = Path(records.path).parent
    return hold_lock(
        Path(records.path) / "lock", f"another job is writing to {out}: wait for it, or give another {param('out')}"
    )


def read_job_record(out: Location) -> JobRecord | None:
    """Whose an output folder is, if it is a job's.

    Raises:
        KnnvoteError: the record is damaged.
    """
    file = out / RECORDS / JOB
    raw = _read_json(file)
    if raw is None:
        return None
    try:
        return _to_record(raw)
    except (OptionError, ValueError, LookupError, TypeError) as error:
        raise damaged(file) from error


def damaged(file: Location) -> KnnvoteError:
    """The error of a record that is not as it was written."""
    return KnnvoteError(f"{file} is damaged: remove it and run the job again, which keeps the files that fit")


def _to_record(raw: Any) -> JobRecord:
    """A job's record from JSON.

    Raises:
        OptionError, ValueError, LookupError, TypeError: it is none that a job writes.
    """
    stored = StoredImages(**{**raw["stored_images"], "shape": _to_shape(raw["stored_images"]["shape"])})
    record = JobRecord(raw["index"], dict(raw["options"]), stored, dict(raw["inputs"]))
    wrong = [name for name, types in _OPTION_TYPES.items() if type(record.options[name]) not in types]
    texts = (record.index, stored.column or "", *record.inputs.values())
    if wrong or type(stored.grayscale) is not bool or not all(isinstance(text, str) for text in texts):
        raise TypeError
    _ = record.rule, record.image_options  # which say what is wrong with them
    return record


def _to_shape(sides: Any) -> tuple[int, ...]:
    if not isinstance(sides, list) or not sides or not all(type(side) is int and side > 0 for side in sides):
        raise TypeError
    return tuple(sides)


def output_files(out: Location) -> dict[str, Location]:
    """The files of an output folder but the job's records, by their path relative to it."""
    return {
        name: out / name
        for name, entry in out.below().items()
        if entry.type == pafs.FileType.File and PurePosixPath(name).parts[0] != RECORDS
    }


def read_failures(out: Location) -> dict[str, str]:
    """The reason of each input that failed when the job last ran.

    Raises:
        KnnvoteError: the record is damaged.
    """
    record = out / RECORDS / _FAILURES
    failed = _read_json(record) or {}
    if not isinstance(failed, dict):
        raise damaged(record)
    return failed


def record_failures(out: Location, failed: dict[str, str]) -> None:
    """Write down the reason of each input that failed, or that none did."""
    record = out / RECORDS / _FAILURES
    if failed:
        _write_json(record, failed)
    else:
        record.remove()


def _read_json(file: Location) -> Any:
    """What a file of this folder holds, None without one."""
    if not file.is_file:
        return None
    try:
        return json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise damaged(file) from error


def _write_json(file: Location, content: Any) -> None:
    with atomic_write(file) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False).encode())


def _refuse_other_job(out: Location, before: JobRecord, now: dict[str, Any]) -> None:
    differences = [
        f"{param(name)} was {_shown(before.options.get(name))} and is {_shown(value)}"
        for name, value in now["options"].items()
        if before.options.get(name) != value
    ]
    if before.index != now["index"]:
        differences.insert(0, f"the index was {before.index[:12]}... and is {now['index'][:12]}...")
    if differences:
        raise KnnvoteError(
            f"{out} was made by another job: {'; '.join(differences)}; give another {param('out')}, or remove it"
        )


def _shown(value: Any) -> str:
    if value in (None, False, "", True):
        return "given" if value is True else "not given"
    return json.dumps(value, ensure_ascii=False)
