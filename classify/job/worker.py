"""What classifies one file after the other, in this process or in any other that is given the same plain values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE, OK, Answer, answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.scale import Scale
from knnvote.classify.search.blocks import LEAST_BLOCK
from knnvote.data.errors import ImageFileError, KnnvoteError, as_recorded, memory_ran_out, param, spelled_reasons
from knnvote.data.files import VanishedError, atomic_write
from knnvote.data.folders.partitions import partition_keys
from knnvote.data.locations import Location
from knnvote.data.reading import DecodedRows, ImageFile, open_images
from knnvote.data.rows import RowFile, schema_metadata_without_images

from .again.decided import answered_again
from .again.follows import follows
from .again.kept import ChangedError, abstained_rows, kept_from, of_unchanged, refuse_changed, with_kept
from .folder import Claim
from .output import ROW_GROUP, check_written, in_one_piece, kept_columns, row_groups, rows_in_group, with_source
from .parts.ranges import Ranges, write_range
from .pipeline import Stages, map_ahead, open_stages, prefetch
from .receipt import Counts, Kept, Receipt, read_receipt, write_sealed
from .work import JobOptions, Outcome, Piece, Task, Work

_ATTEMPTS = 10


@dataclass
class _Last:
    """The input of the last range: to hash a large one for each of its ranges would take as long as they do."""

    state: tuple[str, tuple[object, ...]] | None = None
    described: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Does files of a job, one at a time.

    Attributes:
        work: what they have in common.
        classifier: the index, opened, the rule, and what the output asks of the search.
        stages: threads that read and search while this one writes.
        claim: that the output folder is this job's.
        last: the input of the last range.
    """

    work: Work
    classifier: Classifier
    stages: Stages
    claim: Claim
    last: _Last = field(default_factory=_Last)

    @classmethod
    @contextmanager
    def open(cls, work: Work, classifier: Classifier | None = None) -> Iterator["Worker"]:
        """Start the threads, and open the index where it is not open in this process already.

        Raises:
            KnnvoteError: the index cannot be opened, or is another one than when the job began.
        """
        classifier = replace(classifier or _open_classifier(work), promise=work.options.output.promise)
        with open_stages(work.threads) as stages:
            claim = Claim(work.out, work.made_from, is_locked=work.out.is_local and not work.is_shared)
            yield cls(work=work, classifier=classifier, stages=stages, claim=claim)

    def classify_file(
        self, task: Task, progress: Callable[[int], None] = lambda _rows: None, *, is_anew: bool = False
    ) -> Outcome:
        """Make the output of one input, whole or not at all, unless an earlier run has made it.

        Of a range of its rows the answers are made; where they are the last of the file, so is the output.

        Args:
            task: the input, or the range of it, and where its output goes.
            progress: told the rows of each batch, or of what was done.
            is_anew: make it even so: a worker of this run that died may have made it, and nobody heard of it. Where
                answers are kept, which nothing else holds, it is left and told as made.

        Raises:
            KnnvoteError: the output cannot be written, memory ran out, or the folder is another job's now: this ends
                the whole job.
        """
        for _ in range(_ATTEMPTS):
            # Who ended the job meanwhile removed what was unfinished, or another run replaced the output: most likely
            # all is done, as is found now.
            with suppress(VanishedError, ChangedError):
                return self._classify_once(task, progress, is_anew=is_anew)
        return self._classify_once(task, progress, is_anew=is_anew)

    def _classify_once(self, task: Task, progress: Callable[[int], None], *, is_anew: bool) -> Outcome:
        source, seen = task.source, _Seen(progress)
        try:
            does_keep = self.work.options.only is not None and task.piece is None
            receipt = None if is_anew and not does_keep else receipt_of(task, self._described)
            if receipt is not None and receipt.made_from == self.work.made_from:
                return replace(self._was_done(task, receipt, progress), was_done=not is_anew)
            does_follow = receipt is not None and follows(self.classifier, self.work, task.target, receipt)
            if receipt is not None and not does_follow:  # another run may have made it since the receipt was read
                refuse_changed(task.target, receipt)
            if does_follow or task.piece is None:
                self._write_file(task, seen, receipt if does_follow else None)
            else:
                return self._do_range(task, task.piece, seen, is_anew=is_anew)
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
            was_decided=does_follow and self.work.options.only is None,
            bad_example=seen.bad_example,
            scale=seen.scale,
            stored=seen.stored,
        )

    def _was_done(self, task: Task, receipt: Receipt, progress: Callable[[int], None]) -> Outcome:
        """What is to be told of a file that is done; if ranges were asked for, of all by the first."""
        if task.piece is not None:
            Ranges(self.work.out, task).remove()
            progress(task.piece.rows(receipt.counts.rows))
            if task.piece.number:
                return Outcome(source=task.source.shown, was_done=True, is_range=True)
        else:
            progress(receipt.counts.rows)
        return Outcome(source=task.source.shown, counts=receipt.counts, was_done=True)

    def _do_range(self, task: Task, piece: Piece, seen: "_Seen", *, is_anew: bool) -> Outcome:
        """Answer a range, unless that is done, and make the output if no other is left."""
        ranges, described = Ranges(self.work.out, task), self._described(task)
        counts = None if is_anew else ranges.done(piece, self.work.made_from, described)
        if counts is None:
            self._write_file(task, seen, None)
        else:
            seen.progress(counts.rows)
        is_whole = self._join(task, ranges)
        return Outcome(
            source=task.source.shown,
            counts=seen.counts if counts is None else counts,
            was_done=counts is not None and not is_whole,
            is_range=not is_whole,
            bad_example=seen.bad_example,
            scale=seen.scale,
            stored=seen.stored,
        )

    def _join(self, task: Task, ranges: Ranges) -> bool:
        """Make the output of a file whose ranges are all done; whether it is there now.

        Others may do so at the same time: all make the same bytes of the same ranges, which the first removes.
        """
        described = self._described(task)
        counts = ranges.all_done(self.work.made_from, described)
        try:
            if counts is not None:
                receipt = Receipt(**self.work.made_from, input=described, counts=counts)
                with self._writing(task.target) as stream:
                    write_sealed(stream, ranges.schema(), ranges.groups(), lambda: receipt)
        except KnnvoteError:
            if not self._is_done(task):
                raise
        is_whole = counts is not None or self._is_done(task)
        if is_whole:
            ranges.remove()
        return is_whole

    def _is_done(self, task: Task) -> bool:
        receipt = receipt_of(task, self._described)
        return receipt is not None and receipt.made_from == self.work.made_from

    def _described(self, task: Task) -> dict[str, Any]:
        """What tells an input's content from any other; of a range it is known if the one before was of the same."""
        source = task.source
        if task.piece is None:
            return source.describe()
        state = source.place, source.state()
        if self.last.state != state:
            self.last.described, self.last.state = source.describe(), state
        return self.last.described

    @contextmanager
    def _writing(self, target: Location) -> Iterator[BinaryIO]:
        """A file of the output folder, as long as that is this job's."""
        out = self.work.out
        with atomic_write(target, scratch=Path(out.path) / self.work.scratch if out.is_local else None) as stream:
            yield stream
            self.claim.check()

    def _write_file(self, task: Task, seen: "_Seen", earlier: Receipt | None) -> None:
        """Write the answers to a file's rows, or to those of a range of it, and the receipt."""
        options, recognise = self.work.options, partial(self.classifier.recognise, options=self.work.options.images)
        piece = task.piece if earlier is None else None
        target = task.target if piece is None else Ranges(self.work.out, task).file(piece)
        with self._writing(target) as stream, open_images(task.source, recognise) as images:
            columns, schema = plan_columns(self.classifier, images, options)
            k, classes = self.classifier.rule.k, len(self.classifier.index.classes)
            kept_rows = images.rows.rows_to_hold(columns, ROW_GROUP)
            rows = rows_in_group(kept_rows, options.output, k=k, classes=classes)
            kept: tuple[Kept, ...] = ()
            span = None if piece is None else piece.span(images.num_rows, rows)
            if earlier is None:
                arrays = self._searched(images, columns, rows, span, seen)
            elif options.only is None:
                again = self._again(images, columns, (task.target, earlier), seen)
                arrays = of_unchanged(again, task.target, earlier)
            else:
                kept = kept_from(earlier, self.work.made_from)
                arrays = of_unchanged(self._kept(images, columns, task.target, seen), task.target, earlier)
            if options.output.source:
                arrays = with_source(arrays, task.source.relative, len(columns), span.start if span else 0)
            tables = (pa.Table.from_arrays(batch, schema=schema) for batch in arrays)
            groups, described = _joined(images, row_groups(tables, schema, rows)), self._described(task)

            def receipt() -> Receipt:
                return Receipt(**self.work.made_from, input=described, counts=seen.counts, kept=kept)

            try:
                if piece is None:
                    write_sealed(stream, schema, groups, receipt)
                else:
                    write_range(stream, schema, groups, receipt, piece)
            except Exception:
                self.stages.drain()
                raise

    def _answered(
        self, images: ImageFile, columns: list[str], rows: int, span: range | None
    ) -> Iterator[tuple[pa.RecordBatch, Answer, Scale]]:
        """The rows of a file, or some of them, so many at most at a time, with their answers and their scale."""
        # By map, which unlike a generator holds nothing of a batch that it has given on.
        batches = images.read(columns, batch_size=min(self.work.batch_size, rows), span=span)
        queries = map(partial(decoded_queries, self.classifier), batches)
        answer = partial(_answer, self.classifier)
        if images.num_rows <= LEAST_BLOCK:  # to hand so few to another thread and back costs more than it saves
            return map(answer, queries)
        decoded = prefetch(queries, self.stages.reading)
        return map_ahead(answer, decoded, self.stages.searching, self.stages.searches)

    def _searched(
        self, images: ImageFile, columns: list[str], rows: int, span: range | None, seen: "_Seen"
    ) -> Iterator[list[pa.Array]]:
        """Kept columns and answers, so many rows at most at a time."""
        seen.first = span.start if span else 0
        for batch, answer, scale in self._answered(images, columns, rows, span):
            seen.add(answer.status, answer.reason, images.rows, scale)
            seen.stored += int(np.count_nonzero(answer.is_stored))
            kept = [batch.column(batch.schema.get_field_index(name)) for name in columns]
            yield [*kept, *answer.to_table(**self.work.options.output.of_answers).columns]
            seen.progress(batch.num_rows)

    def _kept(
        self, images: ImageFile, columns: Sequence[str], earlier: Location, seen: "_Seen"
    ) -> Iterator[list[pa.Array]]:
        """The same of an earlier output whose rows that abstained alone are searched."""
        of_answers = self.work.options.output.of_answers
        wanted = abstained_rows(earlier, self.work.options.output.prefix)

        def answered() -> Iterator[pa.Table]:
            # Read in this thread, as the other columns are: no container is read by two at once.
            queries = map(
                partial(decoded_queries, self.classifier), images.take(wanted, batch_size=self.work.batch_size)
            )
            answers = map_ahead(partial(_answer, self.classifier), queries, self.stages.searching, self.stages.searches)
            for _, answer, scale in answers:
                seen.scale += scale
                seen.stored += int(np.count_nonzero(answer.is_stored))
                yield answer.to_table(**of_answers)

        added = answer_schema(self.classifier.index, **of_answers)
        for arrays, status, reason in with_kept(images, columns, earlier, added, answered()):
            seen.add(status, reason, images.rows)
            yield arrays
            seen.progress(len(status))

    def _again(
        self, images: ImageFile, columns: Sequence[str], earlier: tuple[Location, Receipt], seen: "_Seen"
    ) -> Iterator[list[pa.Array]]:
        """The same where they follow from an earlier output."""
        for arrays, status, reason in answered_again(self.classifier, self.work, images, columns, earlier):
            seen.add(status, reason, images.rows)
            yield arrays
            seen.progress(len(status))


@dataclass
class _Seen:
    """What a file at work has shown so far.

    Attributes:
        progress: told the rows of each batch.
        first: the row that it begins with.
        counts: rows by status.
        bad_example: its first bad image, by file, row and reason.
        scale: of its images.
        stored: rows that equal their nearest stored image.
    """

    progress: Callable[[int], None]
    first: int = 0
    counts: Counts = field(default_factory=Counts)
    bad_example: str | None = None
    scale: Scale = field(default_factory=Scale)
    stored: int = 0

    def add(
        self, status: NDArray[np.object_], reason: NDArray[np.object_], rows: RowFile, scale: Scale | None = None
    ) -> None:
        """Take the next batch into account."""
        bad = np.flatnonzero(status == BAD_IMAGE)
        if len(bad) and self.bad_example is None:
            self.bad_example = f"{rows.row_name(self.first + self.counts.rows + int(bad[0]))}: {reason[bad[0]]}"
        self.counts += _count(status)
        self.scale += scale or Scale()


def _joined(images: ImageFile, groups: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The row groups of an output, each column of them in one piece."""
    for group in groups:
        with images.source.content_told():
            joined = in_one_piece(group)
        yield joined


def _open_classifier(work: Work) -> Classifier:
    classifier = Classifier.open(work.index, work.rule)
    if classifier.index.fingerprint != work.fingerprint:
        raise KnnvoteError(f"{work.index} is another index than when the job began: run the same command again")
    return classifier


def plan_columns(classifier: Classifier, images: ImageFile, options: JobOptions) -> tuple[list[str], pa.Schema]:
    """Which columns beside the images go on, and what the output looks like."""
    answers = answer_schema(classifier.index, **options.output.of_answers)
    added = pa.schema([*options.output.of_source.items(), *answers])
    with images.source.content_told():
        of_folders = partition_keys(images.source.relative)
        of_others = (*images.layout.columns, *images.rows.of_folders)
        columns = kept_columns(images.schema, of_others, added, options.output, of_folders)
        check_written(images.schema, columns)
    schema = pa.schema([*(images.schema.field(name) for name in columns), *added], images.schema.metadata)
    return columns, schema_metadata_without_images(schema)


def decoded_queries(classifier: Classifier, rows: DecodedRows) -> tuple[pa.RecordBatch, Any, dict[int, str], Scale]:
    """Rows as queries: the columns that were read, (n, d) queries, reasons of bad rows as recorded, and the scale."""
    xq, bad = classifier.queries(rows)
    return rows.table, xq, spelled_reasons(bad, as_recorded), Scale.of(classifier.index, rows.pixels, bad)


def _answer(
    classifier: Classifier, decoded: tuple[pa.RecordBatch, Any, dict[int, str], Scale]
) -> tuple[pa.RecordBatch, Answer, Scale]:
    batch, xq, bad, scale = decoded
    return batch, classifier.answer(xq, bad), scale


def _count(status: NDArray[np.object_]) -> Counts:
    return Counts(
        rows=len(status), **{name: int(np.count_nonzero(status == name)) for name in (OK, ABSTAINED, BAD_IMAGE)}
    )


def receipt_of(
    task: Task, describe: Callable[[Task], dict[str, Any]] = lambda task: task.source.describe()
) -> Receipt | None:
    """The receipt of an output that was made from this input as it is, by whatever job, if there is one."""
    receipt = read_receipt(task.target)
    if receipt is None or receipt.input.get("size") != task.source.size or receipt.input != describe(task):
        return None
    return receipt
