"""Whether what lies on disk is as it was written: an index folder, or the outputs of a job."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from classify.classifier import ABSTAINED, BAD_IMAGE, OK
from classify.job_folder import RECORDS, JobRecord, output_files, read_job_record
from classify.output import count_values, read_answers
from classify.receipt import Counts, is_sealed, read_receipt
from data.errors import KnnvoteError
from data.inputs import InputFile
from data.locations import Location, locate
from indexer.cache import local_folder
from indexer.manifest import MANIFEST, is_index_folder
from indexer.store import verify_folder


@dataclass(frozen=True)
class Verification:
    """What a check found.

    Attributes:
        summary: what was found to be right, in a few words.
        problems: one line for each thing that is wrong, none if all is well.
        gone: inputs of a job that are no longer there to be compared.
    """

    summary: str
    problems: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def verify_path(path: str) -> Verification:
    """Check every byte of an index folder or of a job's outputs.

    Raises:
        KnnvoteError: it is neither, or cannot be read.
    """
    out = locate(path)
    if is_index_folder(out):
        return Verification("every byte is as it was written", verify_folder(local_folder(path)))
    record = read_job_record(out)
    if record is None:
        raise KnnvoteError(
            f"{path} is neither an index folder, with a {MANIFEST}, nor the output folder of a job, with a {RECORDS}/: "
            "give one of these"
        )
    return _verify_job(out, record)


def _verify_job(out: Location, record: JobRecord) -> Verification:
    outputs = output_files(out)
    problems: list[str] = []
    for name, where in record.inputs.items():
        if name in outputs:
            problems += _problems_of(outputs[name], name, where, record)
        else:
            problems.append(f"{out / name} is missing: {where} failed or was not classified yet; run the job again")
    foreign = outputs.keys() - record.inputs.keys()
    problems += [f"{outputs[name]} is foreign: this job has no input of that name" for name in sorted(foreign)]
    gone = [where for where in record.inputs.values() if not locate(where).is_file]
    return Verification(f"{len(outputs):,} files are as they were written", problems, gone)


def _problems_of(output: Location, name: str, where: str, record: JobRecord) -> Iterator[str]:
    """What is wrong with one output file, or with its input since."""
    receipt = read_receipt(output)
    if receipt is None:
        yield f"{output} is damaged, or was not made by this job: it has no receipt; run the job again"
    elif (receipt.index, receipt.options) != (record.index, record.options):
        yield f"{output} was made with another index or other options: run the job again"
    else:
        try:
            if not is_sealed(output, receipt):
                yield f"{output} was changed: its SHA-256 differs from its receipt's; remove it and run the job again"
            elif _count(output, record.prefix) != receipt.counts:
                yield f"{output} does not hold the rows that its receipt tells: remove it and run the job again"
            source = locate(where)
            if source.is_file and _describe(source, name) != receipt.input:
                yield f"{source} was changed since {output} was made from it: run the job again"
        except KnnvoteError as error:
            yield str(error)


def _count(output: Location, prefix: str) -> Counts:
    statuses: Counter[str] = Counter()
    for (status,) in read_answers(output, prefix, "status"):
        statuses.update(count_values(status))
    return Counts(rows=statuses.total(), **{status: statuses[status] for status in (OK, ABSTAINED, BAD_IMAGE)})


def _describe(source: Location, name: str) -> dict[str, Any]:
    return InputFile(source.filesystem, source.path, source.shown, name, 0).describe()
