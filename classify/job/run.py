"""The batch job: Parquet files of images in, one Parquet file of predictions out for each.

An output file appears whole or not at all, and its footer is its receipt; a rerun of the same job therefore does
only what is not done. All else that a job writes lies under ``_knnvote/`` in the output folder while it runs, and in
``.knnvote.parquet`` when it has ended.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from knnvote.classify.answer import answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.names import STATUSES
from knnvote.classify.scale import Scale
from knnvote.data.errors import ImageFileError, as_recorded, check, check_instance, is_whole, param
from knnvote.data.inputs import Inputs, find_inputs
from knnvote.data.locations import Location, locate
from knnvote.data.progress import Advance, stage
from knnvote.data.vectors import FEW
from knnvote.indexer.index import Index
from knnvote.indexer.threads import check_threads

from .again.follows import check_only, why_not_replace
from .engine import Engine, LocalEngine
from .folder import claimed, plan_outputs
from .output import tell_of_shares
from .parts.left import Left
from .parts.part import JobPart
from .parts.share import clear, shared
from .receipt import Counts
from .record import JobRecord, end_records
from .work import BATCH_SIZE, JobOptions, Outcome, Task, Work

_Do = Callable[[Work, Sequence[Task]], list[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is that is done in parts, when one of them has ended.

    Attributes:
        part: that has ended.
        left: what parts have left to do, in their order; none of a job that has ended.
    """

    part: JobPart
    left: list[Left]

    @property
    def told(self) -> str:
        """In words for people."""
        if not self.left:
            return "all parts of the job are done"
        others = len(self.left) - 1
        more = f"; and {others:,} other part{'s' if others > 1 else ''}" if others else ""
        return f"the job has more to do: {self.left[0]}{more}"

    def to_json(self) -> dict[str, Any]:
        """The object as JSON."""
        return {"part": str(self.part), "left": [left.to_json() for left in self.left]}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a job did.

    Attributes:
        counts: rows of all output files by status, those of skipped files included.
        written: files made in this run.
        decided: of these, files that follow from what an earlier job wrote, without a search.
        skipped: files that an earlier run had made from the same input.
        failed: path and reason of each file that could not be classified, as it is recorded in the output folder.
        ranges: of large files, ranges that are done while their files are not.
        part: how far the job is, where this run was one part of it.
        seconds: wall time of this run.
        new_rows: rows classified in this run.
        bad_example: the first bad image of this run, by file, row and reason.
        unlike_stored: what is to be told where most images of this run are of another scale than the stored ones.
        stored: rows classified in this run that equal their nearest stored image, which answers for them.
        empty: inputs that hold no row.

    Example:
        >>> from knnvote import Classifier, run_job
        >>> summary = run_job(Classifier.open("digits.knn"), "digits/test.parquet", "predictions")
        >>> summary.counts.rows, summary.counts.ok, summary.written, summary.failed
        (450, 450, 1, {})
        >>> run_job(Classifier.open("digits.knn"), "digits/test.parquet", "predictions").skipped
        1
    """

    counts: Counts
    written: int
    decided: int
    skipped: int
    failed: dict[str, str]
    ranges: int
    part: "Progress | None"
    seconds: float
    new_rows: int
    bad_example: str | None
    unlike_stored: str | None
    stored: int = 0
    empty: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        """What became of rows and files."""
        counts = ", ".join(f"{getattr(self.counts, status):,} {status}" for status in STATUSES)
        files = f"{self.written:,} written, {self.skipped:,} skipped, {len(self.failed):,} failed"
        return f"<Summary: {self.counts.rows:,} rows: {counts}; files: {files}; {self.seconds:.1f} s>"

    @property
    def has_no_answer(self) -> bool:
        """Whether there are rows, and all are bad images: abstention is an answer of the rule."""
        return self.counts.bad_image == self.counts.rows > 0

    @property
    def bad_share(self) -> float:
        """Bad images as a share of all rows; 0 where there are none."""
        return self.counts.bad_image / self.counts.rows if self.counts.rows else 0.0

    @property
    def told_of_stored(self) -> str | None:
        """What is to be told where most rows of this run equal a stored image; None where there is nothing."""
        if self.new_rows < FEW or 2 * self.stored <= self.new_rows:
            return None
        return (
            f"{self.stored:,} of {self.new_rows:,} rows equal a stored one, and find it: what these answers show says "
            "nothing of new ones"
        )

    def to_json(self) -> dict[str, Any]:
        """The object of ``classify`` as JSON."""
        return {
            **asdict(self.counts),
            "files": {"written": self.written, "skipped": self.skipped, "failed": len(self.failed)},
            "decided": self.decided,
            "failures": self.failed,
            "bad_example": self.bad_example,
            "unlike_stored": self.unlike_stored,
            "stored": self.stored,
            "part": None if self.part is None else {"ranges": self.ranges, **self.part.to_json()},
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.new_rows / self.seconds, 1) if self.seconds else 0.0,
        }


def run_job(
    classifier: Classifier,
    inputs: Inputs,
    out: Location | Path | str,
    options: JobOptions | None = None,
    *,
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    fail_fast: bool = False,
    overwrite: bool = False,
    part: tuple[int, int] | JobPart | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
    tell_done: Callable[[int, int], None] = lambda _done, _files: None,
    engine: Engine | None = None,
) -> Summary:
    """Classify files; one that fails is noted and the others go on.

    Args:
        classifier: an opened index with its rule.
        inputs: Parquet files, folders of them, globs or URIs: one or several.
        out: the output folder, on this machine or, by its URI, an object store; made if need be.
        options: what shapes the answers.
        threads: of the search; None for as many as there are processors.
        batch_size: rows searched at a time; it never changes an answer.
        fail_fast: stop at the first file that fails.
        overwrite: replace the outputs of a job with another index or options; what follows from them always does.
        part: do one of several parts alone, such as (3, 16), while others may do theirs.
        progress: told the rows of each batch, and of each skipped file.
        tell_done: told after each file how many are done, and how many there are.
        engine: that does the files; None for this process.

    Raises:
        KnnvoteError: the output folder is another job's or in use, two inputs have one output, or it cannot be written.
        OptionError: an option does not fit the index.

    Example:
        >>> from knnvote import Classifier, Rule, run_job
        >>> summary = run_job(Classifier.open("digits.knn", Rule(k=3)), "digits/*.parquet", "predictions")
        >>> summary.written, summary.counts.rows
        (2, 1797)
    """
    _check(classifier, options or JobOptions(), threads, batch_size)
    engine = engine or LocalEngine(classifier)
    of_part = None if part is None else _part_for(engine, part)
    start = time.perf_counter()
    work = Work.of(classifier, options or JobOptions(), locate(out), threads=threads, batch_size=batch_size)
    job = _Job.of(classifier, work, inputs, overwrite=overwrite)
    do = partial(_follow, engine, fail_fast=fail_fast, progress=progress, tell_done=tell_done)
    outcomes, how_far = (job.whole(do), None) if of_part is None else job.part(of_part, do)
    return _sum_up(classifier.index, outcomes, how_far, time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A job that is to be done.

    Attributes:
        work: what its files have in common.
        tasks: its files.
        own: its record, without inputs yet.
        why_not: why it may not replace the outputs of one that was made otherwise; None where it may.
    """

    work: Work
    tasks: Sequence[Task]
    own: JobRecord
    why_not: Callable[[dict[str, Any]], str | None]

    @classmethod
    def of(cls, classifier: Classifier, work: Work, inputs: Inputs, *, overwrite: bool) -> "_Job":
        """That of some inputs.

        Raises:
            KnnvoteError: two inputs have one output, or one that lies among them.
            OptionError: an option does not fit the index.
        """
        tell_of_shares(answer_schema(classifier.index, **work.options.output.of_answers))  # which refuses what does not
        tasks = plan_outputs(find_inputs(inputs), work.out)
        check_only(classifier, work, tasks, overwrite=overwrite)
        return cls(
            work=work,
            tasks=tasks,
            own=JobRecord.of(classifier, work.made_from),
            why_not=why_not_replace(classifier, work, overwrite=overwrite),
        )

    def whole(self, do: _Do) -> list[Outcome]:
        """Do all of it, in a folder that nobody else writes to."""
        out, sources = self.work.out, [task.source for task in self.tasks]
        with claimed(out, self.own, sources, self.why_not):
            outcomes = do(self.work, self.tasks)
            end_records(out, _failed(outcomes), next((task.target for task in self.tasks if task.target.is_file), None))
            clear(out)
        return outcomes

    def part(self, part: JobPart, do: _Do) -> tuple[list[Outcome], Progress]:
        """Do a part of it, while others may do theirs."""
        with shared(self.work, part, self.tasks, self.own, self.why_not) as share:
            outcomes = do(share.work, share.tasks)
            rest = share.end(outcomes, _failed(outcomes))
        return outcomes, Progress(part=part, left=rest.left)


def _check(given: object, options: object, threads: int | None, batch_size: int) -> None:
    """Refuse what is no classifier, such as the path of an index, and what is none of its options."""
    call = f"Classifier.open({str(given)!r})" if isinstance(given, str | PurePath) else "Classifier.open(path)"
    check("classifier", given, isinstance(given, Classifier), f"give one, as {call} gives it")
    check_instance("options", options, JobOptions)
    check_threads(threads)
    check("batch_size", batch_size, is_whole(batch_size) and batch_size >= 1, "give a whole number of at least 1")


def _part_for(engine: Engine, given: tuple[int, int] | JobPart) -> JobPart:
    """A part as it was given, of an engine that does parts."""
    part = JobPart.of(given)
    expected = f"the engine spreads the files by itself: leave out {param('part')}"
    check("part", str(part), engine.does_parts, expected)
    return part


def _follow(
    engine: Engine,
    work: Work,
    tasks: Sequence[Task],
    *,
    fail_fast: bool,
    progress: Advance,
    tell_done: Callable[[int, int], None],
) -> list[Outcome]:
    """What became of each file, once all are done."""
    outcomes: list[Outcome] = []
    done = 0
    tell_done(done, len(tasks))
    rows = partial(_count_rows, tasks)
    with stage("classifying", rows, progress=progress) as advance, closing(engine.run(work, tasks, advance)) as doing:
        for outcome in doing:
            if outcome.failure is None:
                done += 1
            elif fail_fast:
                raise ImageFileError(outcome.failure)
            outcomes.append(outcome)
            tell_done(done, len(tasks))
    places = {task.source.shown: place for place, task in enumerate(tasks)}
    return sorted(outcomes, key=lambda outcome: places[outcome.source])


def _sum_up(index: Index, outcomes: Sequence[Outcome], of_part: Progress | None, seconds: float) -> Summary:
    done = [outcome for outcome in outcomes if outcome.failure is None]
    new = [outcome for outcome in done if not outcome.was_done]
    written = [outcome for outcome in new if not outcome.is_range]
    return Summary(
        counts=sum((outcome.counts for outcome in outcomes), Counts()),
        written=len(written),
        decided=sum(outcome.was_decided for outcome in written),
        skipped=sum(outcome.was_done and not outcome.is_range for outcome in outcomes),
        failed=_failed(outcomes),
        ranges=sum(outcome.is_range and bool(outcome.counts.rows) for outcome in done),
        part=of_part,
        seconds=seconds,
        new_rows=sum(outcome.counts.rows for outcome in new),
        bad_example=next((outcome.bad_example for outcome in outcomes if outcome.bad_example is not None), None),
        unlike_stored=sum((outcome.scale for outcome in new), Scale()).unlike(index),
        stored=sum(outcome.stored for outcome in new),
        empty=[outcome.source for outcome in done if not outcome.counts.rows and not outcome.is_range],
    )


def _count_rows(tasks: Sequence[Task]) -> int:
    return sum(task.count_rows() for task in tasks)


def _failed(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The reason of each file that failed, as it is recorded."""
    failures = {outcome.source: outcome.failure for outcome in outcomes if outcome.failure is not None}
    return {source: ImageFileError(failure).told(as_recorded) for source, failure in failures.items()}
