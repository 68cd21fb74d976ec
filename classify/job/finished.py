"""The outputs of a job that has run: whose they are, what was answered, and the classifier that answered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.classifier import Classifier
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.input_file import InputFile
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.locations import Location
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS

from .again.kept import join_kept, tell_kept
from .folder import output_files
from .output import read_answers
from .receipt import Kept, Receipt, read_receipt
from .record import ENDED, JobRecord, damaged, read_job_record


@dataclass(frozen=True, kw_only=True)
class FinishedJob:
    """The outputs of a job.

    Attributes:
        out: their folder.
        record: whose it is.
    """

    out: Location
    record: JobRecord

    @classmethod
    def open(cls, out: Location) -> "FinishedJob":
        """Read the record of an output folder.

        Raises:
            KnnvoteError: it is not the output folder of a job.
        """
        record = read_job_record(out)
        if record is None and not (out.is_folder or out.is_file):
            raise KnnvoteError(f"{out} does not exist: give what classify had as {param('out')}")
        if record is None:
            raise KnnvoteError(
                f"{out} is not the output folder of a job, which has an {ENDED}: "
                f"give what classify had as {param('out')}"
            )
        return cls(out=out, record=record)

    @property
    def receipts(self) -> dict[str, Receipt]:
        """Of the outputs that this job made, by their path relative to the folder.

        Raises:
            KnnvoteError: a file cannot be read.
        """
        return {name: receipt for name, receipt in self._files.items() if receipt is not None}

    @property
    def left_out(self) -> list[str]:
        """The other files of the folder, which are of another job, damaged or foreign: verify says which."""
        return [name for name, receipt in self._files.items() if receipt is None]

    @property
    def written(self) -> datetime | None:
        """When the last of its outputs was written, in UTC; None without one, or where that is not known."""
        found, outputs = self.out.below(), self.receipts
        return max((found[name].mtime for name in outputs if name in found and found[name].mtime), default=None)

    @property
    def kept(self) -> list[Kept]:
        """Of the rows that are ok, those that earlier jobs had answered and this one kept, by job."""
        return join_kept([kept for receipt in self.receipts.values() for kept in receipt.kept])

    @property
    def kept_told(self) -> list[str]:
        """A sentence for each of these jobs, with parameters marked."""
        ok = sum(receipt.counts.ok for receipt in self.receipts.values())
        return tell_kept(self.kept, self.record.made_from, ok)

    def equal_stored(self, distance: pa.Array) -> NDArray[np.bool_]:
        """Rows (n,) that equal a stored image, by their distances; not so where one is null."""
        D: NDArray[np.float64] = distance.to_numpy(zero_copy_only=False)
        return METRICS[self.record.metric].are_equal(D)

    @cached_property
    def _files(self) -> dict[str, Receipt | None]:
        return {name: self._receipt(name) for name in sorted(output_files(self.out))}

    def _receipt(self, name: str) -> Receipt | None:
        """The receipt of an output, if it is this job's and of the input of that name."""
        receipt = read_receipt(self.out / name)
        if receipt is None or (receipt.made_from, receipt.input.get("path")) != (self.record.made_from, name):
            return None
        return receipt

    def unchanged_input(self, name: str) -> InputFile | None:
        """The input that an output was made from, if it is there as it was."""
        source = self.record.input(name)
        return source if source is not None and source.describe() == self.receipts[name].input else None

    def recognise(self, head: pa.Table, given: ImageOptions | None = None) -> Layout:
        """How an input whose first rows these are holds its images: as the job found it, where nothing else is given.

        Raises:
            ImageFileError: it holds none, or of another shape than the index's.
        """
        options, given = self.record.image_options, given or ImageOptions()
        options = ImageOptions(
            image_column=given.image_column or options.image_column,
            shape=given.shape or options.shape,
            grayscale=given.grayscale or options.grayscale,
            background=given.background or options.background,
        )
        return self.record.stored_images.recognise(head, options)

    def classifier(self, index: Index) -> Classifier:
        """The classifier that answered, opened again.

        Raises:
            KnnvoteError: the job's index is another one, or the record is damaged.
        """
        if self.record.index != index.fingerprint:
            raise KnnvoteError(
                f"{self.out} was made with another index than {index.path}: its fingerprint is "
                f"{self.record.index[:12]}..., and that of the index {index.fingerprint[:12]}...; "
                f"give {param('index')} the one that classified, or classify again with {param('overwrite=True')}"
            )
        try:
            return Classifier(index, self.record.rule, promise=self.record.promise)
        except OptionError as error:  # of a rule that fits no job of this index
            raise damaged(self.out) from error

    def output(self, source: InputFile) -> Location:
        """The output that the job made of an input.

        Raises:
            KnnvoteError: there is none, or one of other content.
        """
        output, receipt = self.out / source.relative, self._receipt(source.relative)
        if receipt is None:
            raise KnnvoteError(f"{output} is not what this job made of {source}: classify it into {self.out} first")
        if receipt.input != source.describe():
            raise KnnvoteError(f"{output} was made of another content than {source} has now: classify it again")
        return output

    def answers(self, source: InputFile, rows: int | None) -> tuple[pa.Array, pa.Array]:
        """Prediction and status of an input's first rows, or of all.

        Raises:
            KnnvoteError: as `output`.
        """
        answers = read_answers(self.output(source), self.record.prefix, "prediction", "status")
        prediction, status = first_rows(answers, rows)
        return prediction, status

    def every_answer(self, *names: str) -> Iterator[pa.Table]:
        """Columns that the job added to all its outputs, batch by batch, and the file and row of each.

        Raises:
            KnnvoteError: they cannot be read, or are not all of one type.
        """
        types = None
        for file in self.receipts:
            first = 0
            for columns in read_answers(self.out / file, self.record.prefix, *names):
                types = types or [column.type for column in columns]
                if types != [column.type for column in columns]:
                    raise KnnvoteError(
                        f"{self.out / file} has answers of another type than the job's other files: "
                        "remove it and run the job again"
                    )
                n = len(columns[0])
                place = {"file": pa.repeat(file, n), "row": pa.array(np.arange(first, first + n))}
                yield pa.table({**place, **dict(zip(names, columns, strict=True))})
                first += n


def first_rows(batches: Iterable[list[pa.Array]], rows: int | None) -> list[pa.Array]:
    """The first rows of columns that come batch by batch; all of them for None."""
    kept: list[list[pa.Array]] = []
    left = rows
    for columns in batches:
        kept.append([column[:left] for column in columns])
        if left is not None:
            left -= len(kept[-1][0])
            if not left:
                break
    return [pa.concat_arrays(parts) for parts in zip(*kept, strict=True)]
