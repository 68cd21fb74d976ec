"""A job as plain values, for whoever does its files: they go to another process or machine as they are."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from knnvote.classify.classifier import Classifier
from knnvote.classify.scale import Scale
from knnvote.classify.vote import Rule
from knnvote.data.input_file import InputFile
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import Location
from knnvote.indexer.folder.open import OpenedIndex

from .output import COLUMNS, OutputOptions
from .receipt import Counts

BATCH_SIZE = 2048


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What shapes the answers of a job, beside index and rule.

    Attributes:
        images: overrides of how images are recognised.
        output: what output files hold.

    Example:
        >>> from knnvote import Classifier, JobOptions, OutputOptions, run_job
        >>> options = JobOptions(output=OutputOptions(probabilities=True))
        >>> run_job(Classifier.open("digits.knn"), "digits/test.parquet", "predictions", options).counts.ok
        450
    """

    images: ImageOptions = field(default_factory=ImageOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class Task:
    """One file of a job.

    Attributes:
        source: the input.
        target: the output file that is made of it.
    """

    source: InputFile
    target: Location


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
    """

    index: str
    fingerprint: str
    rule: Rule
    options: JobOptions
    out: Location
    threads: int | None
    batch_size: int

    @classmethod
    def of(
        cls, classifier: Classifier, options: JobOptions, out: Location, *, threads: int | None, batch_size: int
    ) -> "Work":
        """That of an opened classifier.

        Raises:
            KnnvoteError: its index is in memory alone.
        """
        index = classifier.index
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
        for name in ("background", "top", "class_weight", "min_confidence_by_class"):
            if shaping[name] is None:  # which jobs of before had no word for: they go on
                del shaping[name]
        record: dict[str, Any] = json.loads(json.dumps({"index": self.fingerprint, "options": shaping}))
        return record


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file.

    Attributes:
        source: the input, as users know it.
        counts: rows of its output by status; none if it failed.
        was_done: an earlier run had made the output from the same input.
        was_decided: it follows from an earlier job's output, without a search.
        bad_example: its first bad image, by file, row and reason, if it was read and has one.
        scale: of the images of its output, if this run made it.
        failure: why there is no output, with the parameters in it marked; None if there is one.
    """

    source: str
    counts: Counts = field(default_factory=Counts)
    was_done: bool = False
    was_decided: bool = False
    bad_example: str | None = None
    scale: Scale = field(default_factory=Scale)
    failure: str | None = None
