"""The batch job: Parquet files of images in, one Parquet file of predictions out for each.

An output file appears whole or not at all, and its footer is its receipt; a rerun of the same job therefore does
only what is not done. All else that a job writes lies under ``_knnvote/`` in the output folder.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.classifier import ABSTAINED, BAD_IMAGE, OK, Answer, Classifier
from knnvote.data.errors import ImageFileError, as_recorded, spelled_reasons
from knnvote.data.files import atomic_write
from knnvote.data.inputs import InputFile
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.locations import Location, locate
from knnvote.data.parquet import (
    open_parquet,
    read_batches,
    read_head,
    rows_within_budget,
    schema_metadata_without_images,
)
from knnvote.indexer.threads import available_processors, limit_threads

from .folder import RECORDS, check_claim, claimed, plan_outputs, record_failures
from .output import OutputOptions, answer_columns, answer_fields, kept_columns, row_groups
from .pipeline import map_ahead, prefetch
from .receipt import Counts, Receipt, read_receipt, seal

BATCH_SIZE = 2048


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What shapes the answers of a job, beside index and rule.

    Attributes:
        images: overrides of how images are recognised.
        output: what output files hold.
    """

    images: ImageOptions = field(default_factory=ImageOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a job did.

    Attributes:
        counts: rows of all output files by status, those of skipped files included.
        written: files made in this run.
        skipped: files that an earlier run had made from the same input.
        failed: path and reason of each file that could not be classified, as it is recorded in the output folder.
        seconds: wall time of this run.
        new_rows: rows classified in this run.
        bad_example: the first bad image of this run, by file, row and reason.
    """

    counts: Counts
    written: int
    skipped: int
    failed: dict[str, str]
    seconds: float
    new_rows: int
    bad_example: str | None

    def to_json(self) -> dict[str, Any]:
        """The object of ``classify`` as JSON."""
        return {
            **asdict(self.counts),
            "files": {"written": self.written, "skipped": self.skipped, "failed": len(self.failed)},
            "failures": self.failed,
            "bad_example": self.bad_example,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.new_rows / self.seconds, 1) if self.seconds else 0.0,
        }


def run_job(
    classifier: Classifier,
    inputs: Sequence[InputFile],
    out: Location | Path,
    options: JobOptions,
    *,
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    fail_fast: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
    tell_done: Callable[[int, int], None] = lambda _done, _files: None,
) -> Summary:
    """Classify files; one that fails is noted and the others go on.

    Args:
        classifier: an opened index with its rule.
        inputs: Parquet files.
        out: the output folder, on this machine or an object store; made if need be.
        options: what shapes the answers.
        threads: of the search; None for as many as there are processors.
        batch_size: rows searched at a time; it changes speed and memory, never an answer.
        fail_fast: stop at the first file that fails.
        progress: told the rows of each batch, and of each skipped file.
        tell_done: told after each file how many are done, and how many there are.

    Raises:
        KnnvoteError: the output folder is another job's or in use, two inputs have one output, or the output cannot
        be written.
        OptionError: an option does not fit the index.
    """
    start = time.perf_counter()
    out = locate(out)
    answer_fields(classifier.index, options.output)
    targets = plan_outputs(inputs, out)
    made_from = _made_from(classifier, options)
    counts, new_rows, written, skipped = Counts(), 0, 0, 0
    failed: dict[str, str] = {}
    bad_examples: list[str] = []
    claim = claimed(out, made_from, inputs, stored_images=classifier.stored_images)
    with claim, _stages(threads) as stages:
        job = Job(
            classifier=classifier,
            options=options,
            out=out,
            made_from=made_from,
            stages=stages,
            batch_size=batch_size,
            progress=progress,
            tell_bad=bad_examples.append,
        )
        tell_done(0, len(targets))
        for source, target in targets:
            try:
                done = _finished(source, target, made_from)
                if done is not None:
                    skipped += 1
                    progress(done.rows)
                else:
                    done = classify_file(job, source, target)
                    written += 1
                    new_rows += done.rows
                counts += done
            except ImageFileError as error:
                if fail_fast:
                    raise
                failed[source.shown] = error.told(as_recorded)
            tell_done(written + skipped, len(targets))
        record_failures(out, failed)
    return Summary(
        counts=counts,
        written=written,
        skipped=skipped,
        failed=failed,
        seconds=time.perf_counter() - start,
        new_rows=new_rows,
        bad_example=bad_examples[0] if bad_examples else None,
    )


@dataclass(frozen=True)
class Stages:
    """The threads of a job beside its own, which writes.

    Attributes:
        reading: one thread that reads and decodes.
        searching: threads that search and vote, each a batch of its own: that needs no waiting for each other.
        searches: how many these are.
    """

    reading: Executor
    searching: Executor
    searches: int

    def drain(self) -> None:
        """Wait until nothing is being read, so that files can be closed."""
        self.reading.submit(lambda: None).result()


@contextmanager
def _stages(threads: int | None) -> Iterator[Stages]:
    count = threads or available_processors()
    reading = ThreadPoolExecutor(1, thread_name_prefix="reading")
    # FAISS takes its number of threads from the thread that calls it, BLAS from the process.
    searching = ThreadPoolExecutor(count, "searching", faiss.omp_set_num_threads, (1,))
    with limit_threads(1):
        try:
            yield Stages(reading, searching, count)
        finally:  # an interrupted job does not wait for the batch at work
            for stage in (reading, searching):
                stage.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all files of a job have in common.

    Attributes:
        classifier: an opened index with its rule.
        options: what shapes the answers.
        out: the output folder.
        made_from: the part of every receipt that all files share.
        stages: threads that read and search.
        batch_size: rows searched at a time.
        progress: told the rows of each batch.
        tell_bad: told the first bad image of each file.
    """

    classifier: Classifier
    options: JobOptions
    out: Location
    made_from: dict[str, Any]
    stages: Stages
    batch_size: int
    progress: Callable[[int], None]
    tell_bad: Callable[[str], None]


def classify_file(job: Job, source: InputFile, target: Location) -> Counts:
    """Classify one file into one file that appears whole or not at all.

    Raises:
        ImageFileError: the input as a whole does not fit, or changes while it is read.
        KnnvoteError: the output cannot be written.
    """
    scratch = Path(job.out.path) / RECORDS if job.out.is_local else None
    with atomic_write(target, scratch=scratch) as stream, source.steady():
        described = source.describe()
        with open_parquet(source) as file:
            counts = _write_answers(job, source, file, described, stream)
        seal(stream)
        check_claim(job.out, job.made_from)
    return counts


def _write_answers(
    job: Job, source: InputFile, file: pq.ParquetFile, described: dict[str, Any], stream: BinaryIO
) -> Counts:
    """Write the answers to a file's rows, and its receipt, which is not sealed yet."""
    layout, columns, schema = _plan(job.classifier, source, file, job.options)
    rows = rows_within_budget(layout.d, job.batch_size)
    batches = read_batches(source, file, columns=[*layout.columns, *columns], batch_size=rows)
    decoded = prefetch(_decoded(job.classifier, layout, batches), job.stages.reading)
    answered = map_ahead(partial(_answer, job.classifier), decoded, job.stages.searching, job.stages.searches)
    counts = Counts()

    def tables() -> Iterator[pa.Table]:
        nonlocal counts
        for batch, answer in answered:
            bad = np.flatnonzero(answer.status == BAD_IMAGE)
            if len(bad) and not counts.bad_image:
                job.tell_bad(f"{source}, row {counts.rows + bad[0]}: {answer.reason[bad[0]]}")
            counts += _count(answer)
            kept = [batch.column(batch.schema.get_field_index(name)) for name in columns]
            yield pa.Table.from_arrays([*kept, *answer_columns(answer, job.options.output)], schema=schema)
            job.progress(batch.num_rows)

    try:
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for group in row_groups(tables(), schema):
                writer.write_table(group)
            writer.add_key_value_metadata(Receipt(**job.made_from, input=described, counts=counts).to_metadata())
    except Exception:
        job.stages.drain()
        raise
    return counts


def _plan(
    classifier: Classifier, source: InputFile, file: pq.ParquetFile, options: JobOptions
) -> tuple[Layout, list[str], pa.Schema]:
    """How the file holds its images, which other columns go on, and what the output looks like."""
    head = read_head(source, file)
    fields = answer_fields(classifier.index, options.output)
    try:
        layout = classifier.recognise(head, options.images)
        columns = kept_columns(head.schema, layout.columns, fields, options.output)
    except ImageFileError as error:
        raise ImageFileError(f"{source.shown}: {error.marked}") from error
    schema = pa.schema([*(head.schema.field(name) for name in columns), *fields], head.schema.metadata)
    return layout, columns, schema_metadata_without_images(schema)


def _decoded(
    classifier: Classifier, layout: Layout, batches: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, Any, dict[int, str]]]:
    for batch in batches:
        xq, bad = classifier.vectors(batch, layout)
        yield batch, xq, spelled_reasons(bad, as_recorded)


def _answer(
    classifier: Classifier, decoded: tuple[pa.RecordBatch, Any, dict[int, str]]
) -> tuple[pa.RecordBatch, Answer]:
    batch, xq, bad = decoded
    return batch, classifier.answer(xq, bad)


def _count(answer: Answer) -> Counts:
    by_status = {status: int(np.count_nonzero(answer.status == status)) for status in (OK, ABSTAINED, BAD_IMAGE)}
    return Counts(rows=len(answer.status), **by_status)


def _finished(source: InputFile, target: Location, made_from: dict[str, Any]) -> Counts | None:
    """Counts of an output file that was made from this input by this job, if there is one."""
    receipt = read_receipt(target)
    if receipt is None or {"index": receipt.index, "options": receipt.options} != made_from:
        return None
    if receipt.input.get("size") != source.size or receipt.input != source.describe():
        return None
    return receipt.counts


def _made_from(classifier: Classifier, options: JobOptions) -> dict[str, Any]:
    """The part of every receipt that all files of a job share; as JSON gives it back."""
    shaping = {**asdict(classifier.rule), **asdict(options.images), **asdict(options.output)}
    record: dict[str, Any] = json.loads(json.dumps({"index": classifier.index.fingerprint, "options": shaping}))
    return record
