"""What classifies one file after the other, in this process or in any other that is given the same plain values."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE, OK, Answer, answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.scale import Scale
from knnvote.classify.search.blocks import LEAST_BLOCK
from knnvote.data.errors import ImageFileError, KnnvoteError, as_recorded, memory_ran_out, param, spelled_reasons
from knnvote.data.files import atomic_write
from knnvote.data.folders.partitions import partition_keys
from knnvote.data.locations import Location
from knnvote.data.reading import DecodedRows, ImageFile, open_images
from knnvote.data.rows import RowFile, schema_metadata_without_images

from .again import decided_again, follows
from .folder import Claim
from .output import ROW_GROUP, in_one_piece, kept_columns, row_groups, rows_in_group
from .pipeline import Stages, map_ahead, open_stages, prefetch
from .receipt import KEY, Counts, Receipt, read_receipt, seal
from .record import RECORDS
from .work import JobOptions, Outcome, Task, Work


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Does files of a job, one at a time.

    Attributes:
        work: what they have in common.
        classifier: the index, opened, the rule, and what the output asks of the search.
        stages: threads that read and search while this one writes.
        claim: that the output folder is this job's.
    """

    work: Work
    classifier: Classifier
    stages: Stages
    claim: Claim

    @classmethod
    @contextmanager
    def open(cls, work: Work, classifier: Classifier | None = None) -> Iterator["Worker"]:
        """Start the threads, and open the index where it is not open in this process already.

        Raises:
            KnnvoteError: the index cannot be opened, or is another one than when the job began.
        """
        classifier = replace(classifier or _open_classifier(work), promise=work.options.output.promise)
        with open_stages(work.threads) as stages:
            yield cls(work=work, classifier=classifier, stages=stages, claim=Claim(work.out, work.made_from))

    def classify_file(self, task: Task, progress: Callable[[int], None] = lambda _rows: None) -> Outcome:
        """Make the output of one input, whole or not at all, unless an earlier run has made it.

        Args:
            task: the input, and where its output goes.
            progress: told the rows of each batch, or of a file that was done.

        Raises:
            KnnvoteError: the output cannot be written, memory ran out, or the folder is another job's now: this ends
                the whole job.
        """
        source, seen = task.source, _Seen(progress)
        try:
            receipt = receipt_of(task)
            if receipt is not None and receipt.made_from == self.work.made_from:
                progress(receipt.counts.rows)
                return Outcome(source=source.shown, counts=receipt.counts, was_done=True)
            does_follow = receipt is not None and follows(self.classifier, self.work.made_from, task.target, receipt)
            earlier = task.target if does_follow else None
            self._write_file(task, seen, earlier)
        except ImageFileError as error:  # of the input alone: other files may go well
            return Outcome(source=source.shown, bad_example=seen.bad_example, failure=error.marked)
        except MemoryError as error:  # which the next file would hardly escape
            advice = f"give a smaller {param('batch_size')} than {self.work.batch_size:,} or fewer {param('threads')}"
            raise KnnvoteError(
                f"{source.shown}: {memory_ran_out(advice)}; what is done stays, and the same job goes on after it"
            ) from error
        return Outcome(
            source=source.shown,
            counts=seen.counts,
            was_decided=earlier is not None,
            bad_example=seen.bad_example,
            scale=seen.scale,
        )

    def _write_file(self, task: Task, seen: "_Seen", earlier: Location | None) -> None:
        out = self.work.out
        scratch = Path(out.path) / RECORDS if out.is_local else None
        recognise = partial(self.classifier.recognise, options=self.work.options.images)
        with atomic_write(task.target, scratch=scratch) as stream:
            with open_images(task.source, recognise) as images:
                receipt = self._write_answers(images, task.source.describe(), stream, seen, earlier)
            seal(stream, receipt)
            self.claim.check()

    def _write_answers(
        self, images: ImageFile, described: dict[str, Any], stream: BinaryIO, seen: "_Seen", earlier: Location | None
    ) -> bytes:
        """Write the answers to a file's rows, and its receipt, which is not sealed yet; returns that."""
        options = self.work.options
        columns, schema = plan_columns(self.classifier, images, options)
        k, classes = self.classifier.rule.k, len(self.classifier.index.classes)
        kept_rows = images.rows.rows_to_hold(columns, ROW_GROUP)
        rows = rows_in_group(kept_rows, options.output, k=k, classes=classes)
        if earlier is None:
            arrays = self._searched(images, columns, rows, seen)
        else:
            arrays = self._decided(images, columns, earlier, seen)
        tables = (pa.Table.from_arrays(batch, schema=schema) for batch in arrays)
        try:
            with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
                for group in row_groups(tables, schema, rows):
                    with images.source.content_told():
                        joined = in_one_piece(group)
                    writer.write_table(joined)
                receipt = Receipt(**self.work.made_from, input=described, counts=seen.counts).to_json()
                writer.add_key_value_metadata({KEY: receipt})
        except Exception:
            self.stages.drain()
            raise
        return receipt

    def _answered(
        self, images: ImageFile, columns: list[str], rows: int
    ) -> Iterator[tuple[pa.RecordBatch, Answer, Scale]]:
        """The rows of a file, so many at most at a time, with their answers and their scale."""
        # By map, which unlike a generator holds nothing of a batch that it has given on.
        batches = images.read(columns, batch_size=min(self.work.batch_size, rows))
        queries = map(partial(decoded_queries, self.classifier), batches)
        answer = partial(_answer, self.classifier)
        if images.num_rows <= LEAST_BLOCK:  # to hand so few to another thread and back costs more than it saves
            return map(answer, queries)
        decoded = prefetch(queries, self.stages.reading)
        return map_ahead(answer, decoded, self.stages.searching, self.stages.searches)

    def _searched(self, images: ImageFile, columns: list[str], rows: int, seen: "_Seen") -> Iterator[list[pa.Array]]:
        """Kept columns and answers, so many rows at most at a time."""
        for batch, answer, scale in self._answered(images, columns, rows):
            seen.add(answer.status, answer.reason, images.rows, scale)
            kept = [batch.column(batch.schema.get_field_index(name)) for name in columns]
            yield [*kept, *answer.to_table(**self.work.options.output.of_answers).columns]
            seen.progress(batch.num_rows)

    def _decided(
        self, images: ImageFile, columns: Sequence[str], earlier: Location, seen: "_Seen"
    ) -> Iterator[list[pa.Array]]:
        """The same where they follow from an earlier output."""
        added = answer_schema(self.classifier.index, **self.work.options.output.of_answers)
        for arrays, decision in decided_again(images, columns, earlier, added, self.classifier.rule):
            seen.add(decision.status, decision.reason, images.rows)
            yield arrays
            seen.progress(len(decision.status))


@dataclass
class _Seen:
    """What a file at work has shown so far.

    Attributes:
        progress: told the rows of each batch.
        counts: rows by status.
        bad_example: its first bad image, by file, row and reason.
        scale: of its images.
    """

    progress: Callable[[int], None]
    counts: Counts = field(default_factory=Counts)
    bad_example: str | None = None
    scale: Scale = field(default_factory=Scale)

    def add(
        self, status: NDArray[np.object_], reason: NDArray[np.object_], rows: RowFile, scale: Scale | None = None
    ) -> None:
        """Take the next batch into account."""
        bad = np.flatnonzero(status == BAD_IMAGE)
        if len(bad) and self.bad_example is None:
            self.bad_example = f"{rows.row_name(self.counts.rows + int(bad[0]))}: {reason[bad[0]]}"
        self.counts += _count(status)
        self.scale += scale or Scale()


def _open_classifier(work: Work) -> Classifier:
    classifier = Classifier.open(work.index, work.rule)
    if classifier.index.fingerprint != work.fingerprint:
        raise KnnvoteError(f"{work.index} is another index than when the job began: run the same command again")
    return classifier


def plan_columns(classifier: Classifier, images: ImageFile, options: JobOptions) -> tuple[list[str], pa.Schema]:
    """Which columns beside the images go on, and what the output looks like."""
    added = answer_schema(classifier.index, **options.output.of_answers)
    with images.source.content_told():
        of_folders = partition_keys(images.source.relative)
        of_others = (*images.layout.columns, *images.rows.of_folders)
        columns = kept_columns(images.schema, of_others, added, options.output, of_folders)
    schema = pa.schema([*(images.schema.field(name) for name in columns), *added], images.schema.metadata)
    return columns, schema_metadata_without_images(schema)


def decoded_queries(classifier: Classifier, rows: DecodedRows) -> tuple[pa.RecordBatch, Any, dict[int, str], Scale]:
    """Rows as queries: the columns that were read, (n, d) queries, reasons of bad rows as recorded, and the scale."""
    xq, bad = classifier.queries(rows)
    return rows.table, xq, spelled_reasons(bad, as_recorded), Scale.of(classifier.index, xq, bad)


def _answer(
    classifier: Classifier, decoded: tuple[pa.RecordBatch, Any, dict[int, str], Scale]
) -> tuple[pa.RecordBatch, Answer, Scale]:
    batch, xq, bad, scale = decoded
    return batch, classifier.answer(xq, bad), scale


def _count(status: NDArray[np.object_]) -> Counts:
    return Counts(
        rows=len(status), **{name: int(np.count_nonzero(status == name)) for name in (OK, ABSTAINED, BAD_IMAGE)}
    )


def receipt_of(task: Task) -> Receipt | None:
    """The receipt of an output that was made from this input as it is, by whatever job, if there is one."""
    receipt = read_receipt(task.target)
    if receipt is None or receipt.input.get("size") != task.source.size or receipt.input != task.source.describe():
        return None
    return receipt
