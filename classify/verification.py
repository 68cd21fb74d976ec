"""Whether what lies on disk is as it was written: an index folder, or the outputs of a job."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from knnvote.data.errors import KnnvoteError, as_recorded, spelled
from knnvote.data.input_file import InputFile
from knnvote.data.locations import Location, locate
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.leftovers import refuse_unfinished
from knnvote.indexer.manifest import MANIFEST, is_index_folder

from .answer import ABSTAINED, BAD_IMAGE, OK
from .job.finished import FinishedJob
from .job.folder import output_files
from .job.output import count_values, read_answers
from .job.parts.left import Rest
from .job.parts.plan import read_plan
from .job.receipt import Counts, is_sealed, read_receipt
from .job.record import ENDED, JobRecord, read_job_record


@dataclass(frozen=True)
class Verification:
    """What a check found.

    Attributes:
        shown: what was checked, as users know it.
        summary: what was found to be right, in a few words.
        problems: one line for each thing that is wrong, none if all is well.
        gone: inputs of a job that are no longer there to be compared.
        kept: a sentence, with parameters marked, for each earlier job of whose answers this one keeps some.
    """

    shown: str
    summary: str
    problems: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def verify_path(path: str) -> Verification:
    """Check every byte of an index folder or of a job's outputs.

    Raises:
        KnnvoteError: it is neither, or cannot be read.
    """
    out = locate(path)
    if is_index_folder(out):
        return Verification(out.shown, "every byte is as it was written", verify_folder(out))
    record = read_job_record(out)
    if record is None:
        refuse_unfinished(path)
    if record is None and not out.is_folder:
        raise KnnvoteError(f"{out} does not exist, or is a file: give an index folder or the output folder of a job")
    if record is None:
        raise KnnvoteError(
            f"{out} is neither an index folder, which has a {MANIFEST}, nor the output folder of a job, "
            f"which has an {ENDED}: give one of these"
        )
    return _verify_job(out, record)


def _verify_job(out: Location, record: JobRecord) -> Verification:
    outputs = output_files(out)
    plan = read_plan(out)
    left = [] if plan is None else Rest.of(out, plan).left
    of_parts = {name for of_part in left for name in of_part.files}
    found = Verification(
        out.shown,
        "1 file is as it was written" if len(outputs) == 1 else f"{len(outputs):,} files are as they were written",
    )
    for name in sorted(outputs.keys() | record.inputs.keys()):
        try:
            source = record.input(name)
            if name in record.inputs and source is None:
                found.gone.append(record.inputs[name])
            if name in outputs:
                found.problems.extend(_problems_of(outputs[name], name, source, record))
            elif source is not None and name not in of_parts:
                found.problems.append(
                    f"{out / name} is missing: {source} failed or was not classified yet; run the job again"
                )
        except KnnvoteError as error:
            found.problems.append(error.told(as_recorded))
    if not found.problems:
        found.kept.extend(FinishedJob(out=out, record=record).kept_told)
    found.problems.extend(
        spelled(f"{out} is not whole: {of_part}; {of_part.remedy}, or the whole job", as_recorded) for of_part in left
    )
    return found


def _problems_of(output: Location, name: str, source: InputFile | None, record: JobRecord) -> Iterator[str]:
    """What is wrong with one output file, or with its input since."""
    receipt = read_receipt(output)
    if receipt is None and name not in record.inputs:
        yield f"{output} is foreign: this job has no input of that name"
    elif receipt is None:
        yield f"{output} is damaged, or was not made by this job: it has no receipt; run the job again"
    elif receipt.made_from != record.made_from:
        yield f"{output} was made with another index or other options: run the job again"
    elif receipt.input.get("path") != name:
        yield f"{output} was made from another input, {receipt.input.get('path')}: remove it and run the job again"
    elif not is_sealed(output, receipt):
        yield f"{output} was changed: its SHA-256 differs from its receipt's; remove it and run the job again"
    elif _count(output, record.prefix) != receipt.counts:
        yield f"{output} does not hold the rows that its receipt tells: remove it and run the job again"
    elif source is not None and source.describe() != receipt.input:
        yield f"{source} was changed since {output} was made from it: run the job again"


def _count(output: Location, prefix: str) -> Counts:
    statuses: Counter[str] = Counter()
    for (status,) in read_answers(output, prefix, "status"):
        statuses.update(count_values(status))
    return Counts(rows=statuses.total(), **{status: statuses[status] for status in (OK, ABSTAINED, BAD_IMAGE)})
