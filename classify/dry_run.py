"""What a command would do and take, measured on its first rows; nothing is written."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.data.errors import ImageFileError, KnnvoteError, as_recorded
from knnvote.data.inputs import Inputs, find_inputs, refuse_splits
from knnvote.data.locations import Location, local_path
from knnvote.data.reading import Part, open_images, rows_within_budget
from knnvote.data.recognition import recognise_images
from knnvote.data.steps.chain import steps_of
from knnvote.indexer.build import IndexOptions, Tune, build_in_memory, check_destination
from knnvote.indexer.folder.write import bytes_to_write
from knnvote.indexer.groups.record import GROUP
from knnvote.indexer.index import Index
from knnvote.indexer.threads import limit_threads
from knnvote.indexer.training import TrainingOptions, TrainingSet, read_training_set

from .classifier import Classifier
from .job.again.follows import check_only, follows, why_not_replace
from .job.folder import plan_outputs, refuse_taken
from .job.output import with_source
from .job.parts.part import JobPart
from .job.parts.plan import Plan
from .job.parts.ranges import is_range_done
from .job.work import JobOptions, Task, Work
from .job.worker import decoded_queries, plan_columns, receipt_of

_BATCHES = 4
_BATCH = 4096
Seconds = tuple[float, float]  # at least and at most, as far as the rows that were measured tell


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a command would do.

    Attributes:
        out: where it would write.
        files: that it would read; of a job those that are not done.
        done: files of a job that are done.
        decided: files of a job whose outputs follow from those that are there, without a search.
        rows: of these files, or of the part of them that is taken.
        measured: rows that were read and decoded, and searched or indexed, to tell the rest.
        steps: seconds of each step.
        bytes: about so many that it would write.
        failed: why the measured files cannot be read.
    """

    out: str
    files: int
    done: int
    decided: int
    rows: int
    measured: int
    steps: dict[str, Seconds]
    bytes: int
    failed: list[str]

    def to_json(self) -> dict[str, Any]:
        """The object of a dry run as JSON."""
        steps = {name: {"low": round(low, 3), "high": round(high, 3)} for name, (low, high) in self.steps.items()}
        return {**vars(self), "steps": steps}


def dry_index(
    inputs: Inputs,
    out: Path | str,
    training: TrainingOptions,
    options: IndexOptions,
    tune: Tune | None,
    *,
    tell: Callable[[str], None],
) -> DryRun:
    """What `index_files` would do with the same arguments, but for the first rows nothing is read.

    Raises:
        KnnvoteError: it would refuse the arguments or one of the first rows, or the first rows are too few to build of.
    """
    sources, path = find_inputs(inputs), local_path(out)
    refuse_splits(sources)
    check_destination(path, overwrite=options.overwrite)
    chosen = Part(limit=training.limit, sample=training.sample, seed=options.seed).of(sources)
    sizes = [source.count_rows() for source in sources] if chosen is None else [*map(len, chosen)]
    first = next((source for source, size in zip(sources, sizes, strict=True) if size), sources[0])
    with open_images(first, partial(recognise_images, options=training.images)) as images:
        most = _BATCHES * rows_within_budget(images.layout.d, _BATCH)
        if images.layout.shape:
            most = max(most, steps_of(training.steps).least_images(images.layout.shape))
    few = replace(training, limit=max(1, min(most, sum(sizes))), sample=None)
    clock = _Clock()
    examples = read_training_set(sources, few, metric=options.metric, progress=clock, tell=tell)
    # The first rows may all be of one group, with which all would be left out.
    kept = [name for name in examples.provenance.column_names if name != GROUP]
    examples = replace(examples, provenance=examples.provenance.select(kept))
    build, size = _measure_build(examples, path, options, tune, sum(sizes) / clock.rows)
    return DryRun(
        out=str(path),
        files=sum(size > 0 for size in sizes),
        done=0,
        decided=0,
        rows=sum(sizes),
        measured=clock.rows,
        steps={"read": clock.seconds_of(sum(sizes)), "build": build},
        bytes=size,
        failed=[],
    )


def _measure_build(
    examples: TrainingSet, path: Path, options: IndexOptions, tune: Tune | None, times: float
) -> tuple[Seconds, int]:
    """Seconds and bytes of an index of so many times the rows.

    Half of the rows are built of too: at the least time grows by what the other half adds, at the most by the power of
    rows by which it grew. Where half are too few to build of, it grows by the rows.
    """
    n = -(-len(examples.vectors) // 2)
    images = None if examples.images is None else examples.images[:n]
    half = replace(examples, vectors=examples.vectors[:n], images=images, provenance=examples.provenance[:n])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is told of half of the rows says nothing of all
        try:
            for _ in range(2):  # the first loads libraries
                of_half, _ = _build(half, path, options, tune)
        except KnnvoteError:  # too few rows, as a factory may find
            of_half = math.inf
    with warnings.catch_warnings():
        if times > 1:
            warnings.simplefilter("ignore")
        of_all, index = _build(examples, path, options, tune)
    power = min(2.0, max(1.0, math.log2(of_all / of_half))) if of_half < math.inf else 1.0
    added = max(0.0, of_all - of_half) if of_half < math.inf else of_all / 2
    ends = of_all + 2 * (times - 1) * added, of_all * times**power
    return (min(ends), max(ends)), round(bytes_to_write(index) * times)


def _build(examples: TrainingSet, path: Path, options: IndexOptions, tune: Tune | None) -> tuple[float, Index]:
    """Seconds of a build, and the index."""
    start = time.perf_counter()
    index, _ = build_in_memory(examples, path, options, tune, start=start)
    return time.perf_counter() - start, index


def dry_job(
    classifier: Classifier,
    inputs: Inputs,
    out: Location,
    options: JobOptions,
    *,
    threads: int | None,
    batch_size: int,
    overwrite: bool = False,
    part: JobPart | None = None,
) -> DryRun:
    """What `run_job` would do with the same arguments, but for the first rows nothing is read.

    Raises:
        KnnvoteError: it would refuse the arguments.
    """
    sources = find_inputs(inputs)
    tasks = plan_outputs(sources, out)
    work = Work.of(classifier, options, out, threads=threads, batch_size=batch_size)
    check_only(classifier, work, tasks, overwrite=overwrite)
    refuse_taken(out, work.made_from, sources, why_not_replace(classifier, work, overwrite=overwrite))
    if part is not None:
        tasks = Plan.known(out, tasks, work.made_from, part.parts).tasks(part, tasks)
    classifier = replace(classifier, promise=options.output.promise)
    left, decided, done = _to_search(classifier, work, tasks)
    reading, answering, failed = _Clock(), _Clock(), []
    written = 0
    with limit_threads(threads):
        for task, _ in left:
            if len(reading.spans) > _BATCHES:
                break
            try:
                written += _measure_file(classifier, task, work, reading, answering)
            except ImageFileError as error:
                failed.append(error.told(as_recorded))
    rows = sum(searched for _, searched in left)
    written_rows = sum(task.count_rows() for task, _ in left)
    return DryRun(
        out=str(out),
        files=len(left),
        done=done,
        decided=decided,
        rows=rows,
        measured=reading.rows,
        steps={"read": reading.seconds_of(rows), "search": answering.seconds_of(rows)},
        bytes=round(written * written_rows / max(1, reading.rows)),
        failed=failed,
    )


def _to_search(classifier: Classifier, work: Work, tasks: list[Task]) -> tuple[list[tuple[Task, int]], int, int]:
    """The files of which rows have to be searched, with how many; how many follow from earlier outputs; and are done.

    Where a file is done or follows as a whole whose ranges were asked for, its first alone counts.
    """
    left: list[tuple[Task, int]] = []
    decided = done = 0
    for task in tasks:
        receipt, is_first = receipt_of(task), task.piece is None or not task.piece.number
        if receipt is not None and receipt.made_from == work.made_from:
            done += is_first
        elif task.piece is not None and is_range_done(work, task, task.piece):
            done += 1
        elif receipt is None or not follows(classifier, work, task.target, receipt):
            left.append((task, task.count_rows()))
        elif work.options.only is None:
            decided += is_first
        elif is_first:
            left.append((task, receipt.counts.abstained))
    return left, decided, done


def _measure_file(classifier: Classifier, task: Task, work: Work, reading: "_Clock", answering: "_Clock") -> int:
    """Answer the first batches of a file, and give the bytes of an output of them."""
    sink = pa.BufferOutputStream()
    with open_images(task.source, partial(classifier.recognise, options=work.options.images)) as images:
        columns, schema = plan_columns(classifier, images, work.options)
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            reading.start()
            for rows in images.read(columns, batch_size=work.batch_size):
                batch, xq, bad, _ = decoded_queries(classifier, rows)
                reading(batch.num_rows)
                answering.start()
                answer = classifier.answer(xq, bad)
                answering(batch.num_rows)
                kept = [batch.column(batch.schema.get_field_index(name)) for name in columns]
                added = answer.to_table(**work.options.output.of_answers)
                arrays = iter([[*kept, *added.columns]])
                if work.options.output.source:
                    first = reading.rows - batch.num_rows
                    arrays = with_source(arrays, task.source.relative, len(columns), first)
                writer.write_table(pa.Table.from_arrays(next(arrays), schema=schema))
                if len(reading.spans) > _BATCHES:
                    break
                reading.start()
    return int(sink.tell())


class _Clock:
    """Seconds of batches, each since the one before it or since it was started anew."""

    def __init__(self) -> None:
        self.rows = 0
        self.spans: list[tuple[int, float]] = []
        self.start()

    def start(self) -> None:
        """Begin to count."""
        self._last = time.perf_counter()

    def __call__(self, rows: int) -> None:
        """Take the end of a batch."""
        now = time.perf_counter()
        if rows:
            self.spans.append((rows, now - self._last))
        self.rows += rows
        self._last = now

    def seconds_of(self, rows: int) -> Seconds:
        """At the speeds of the fastest batch and the slowest; of several, not of the first, which loads libraries."""
        speeds = [seconds / size for size, seconds in self.spans[1:] or self.spans]
        return (rows * min(speeds), rows * max(speeds)) if speeds else (0.0, 0.0)
