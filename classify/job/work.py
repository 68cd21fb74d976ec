"""A job as plain values, for whoever does its files: they go to another process or machine as they are."""

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from knnvote.classify.classifier import Classifier
from knnvote.classify.scale import Scale
from knnvote.classify.vote import Rule
from knnvote.classify.weighting import check_weights
from knnvote.data.errors import check_instance, check_one_of
from knnvote.data.input_file import InputFile
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import Location
from knnvote.indexer.folder.open import OpenedIndex

from .output import COLUMNS, OutputOptions
from .receipt import Counts
from .record import RECORDS

BATCH_SIZE = 2048
RANGE_ROWS = 1 << 16  # a file of more is done in ranges where several do a job


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What shapes the answers of a job, beside index and rule.

    Attributes:
        images: overrides of how images are recognised.
        output: what output files hold.
        only: ``abstained`` to answer in outputs that are there the rows that abstained alone, and keep all others.

    Raises:
        OptionError: `only` is something else, or images or output are no such options.

    Example:
        >>> from knnvote import Classifier, JobOptions, OutputOptions, run_job
        >>> options = JobOptions(output=OutputOptions(probabilities=True))
        >>> run_job(Classifier.open("digits.knn"), "digits/test.parquet", "predictions", options).counts.ok
        450
    """

    images: ImageOptions = field(default_factory=ImageOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    only: Literal["abstained"] | None = None

    def __post_init__(self) -> None:
        """Check what was given."""
        check_instance("images", self.images, ImageOptions)
        check_instance("output", self.output, OutputOptions)
        if self.only is not None:
            check_one_of("only", self.only, ("abstained",))


@dataclass(frozen=True)
class Piece:
    """A range of the rows of a large file: of so many, each ends where a row group of the output does.

    Attributes:
        number: of the range, from 0.
        pieces: how many ranges the file has.
    """

    number: int
    pieces: int

    def span(self, rows: int, group: int) -> range:
        """The rows of it, of a file of so many, whose output has so many in a row group.

        Whatever the number of rows, those of all pieces are those of the file: one that has changed since it was cut
        has shorter ranges, or a longer last one.
        """
        first, last = (
            rows if edge == self.pieces else min(edge * RANGE_ROWS, rows) // group * group
            for edge in (self.number, self.number + 1)
        )
        return range(first, last)

    @property
    def told(self) -> list[int]:
        """What sets which rows it has."""
        return [self.number, self.pieces, RANGE_ROWS]

    def rows(self, rows: int) -> int:
        """About how many rows it has, of a file of so many."""
        return len(self.span(rows, 1))


@dataclass(frozen=True)
class Task:
    """One file of a job, or a range of its rows.

    Attributes:
        source: the input.
        target: the output file that is made of it.
        piece: the range; None for the whole file.
    """

    source: InputFile
    target: Location
    piece: Piece | None = None

    def cut(self, rows: int) -> "list[Task]":
        """A whole file of so many rows as its ranges, or as it is where one would hold it."""
        pieces = -(-rows // RANGE_ROWS)
        return [replace(self, piece=Piece(number, pieces)) for number in range(pieces)] if pieces > 1 else [self]

    def count_rows(self) -> int:
        """About how many rows it is of, as the input says."""
        rows = self.source.count_rows()
        return rows if self.piece is None else self.piece.rows(rows)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all files of a job have in common.

    Attributes:
        index: address of the index.
        fingerprint: of that index.
        rule: how neighbours vote.
        options: what shapes the answers.
        out: the output folder.
        threads: of the search; None for as many as there are processors where it runs.
        batch_size: rows searched at a time.
        scratch: path of the folder for what is unfinished, below the output folder.
        is_shared: the folder is not locked for one run alone, as others do parts of the job.
    """

    index: str
    fingerprint: str
    rule: Rule
    options: JobOptions
    out: Location
    threads: int | None
    batch_size: int
    scratch: str = RECORDS
    is_shared: bool = False

    @classmethod
    def of(
        cls, classifier: Classifier, options: JobOptions, out: Location, *, threads: int | None, batch_size: int
    ) -> "Work":
        """That of an opened classifier.

        Raises:
            KnnvoteError: its index is in memory alone.
            OptionError: its weights are a function, which no record of a job holds.
        """
        index = classifier.index
        check_weights(classifier.rule.weights)
        return cls(
            index=index.address if isinstance(index, OpenedIndex) else "",  # of one in memory, which is refused next
            fingerprint=index.fingerprint,
            rule=classifier.rule,
            options=options,
            out=out,
            threads=threads,
            batch_size=batch_size,
        )

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """The part of every receipt that all files of the job share; as JSON gives it back."""
        columns = {"columns": COLUMNS}
        shaping = {**columns, **asdict(self.rule), **asdict(self.options.images), **asdict(self.options.output)}
        for name in (
            "background",
            "id_column",
            "top",
            "class_weight",
            "min_confidence_by_class",
            "source",
        ):  # which jobs of before had no word for: they go on
            if shaping[name] is None or shaping[name] is False:
                del shaping[name]
        if self.options.only is not None:  # and this
            shaping["only"] = self.options.only
        record: dict[str, Any] = json.loads(json.dumps({"index": self.fingerprint, "options": shaping}))
        return record


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file, or of a range of its rows.

    Attributes:
        source: the input, as users know it.
        counts: rows of its output, or of the range, by status; none if it failed. Where a file is done whose range was
            asked for, its first range has those of all, and the others none.
        was_done: an earlier run, or another one at work, had made the output, or the answers to the range, from the
            same input.
        is_range: it is of a range, which is not the file's last to be done: that one has the output made, too.
        was_decided: it follows from an earlier job's output, without a search.
        bad_example: its first bad image, by file, row and reason, if it was read and has one.
        scale: of the images of its output, if this run made it.
        stored: rows of it that equal their nearest stored image, likewise.
        failure: why there is no output, with the parameters in it marked; None if there is one.
    """

    source: str
    counts: Counts = field(default_factory=Counts)
    was_done: bool = False
    is_range: bool = False
    was_decided: bool = False
    bad_example: str | None = None
    scale: Scale = field(default_factory=Scale)
    stored: int = 0
    failure: str | None = None
