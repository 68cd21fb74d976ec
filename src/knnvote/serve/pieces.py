"""Pieces of requests, answered together: decoded, searched and voted on as one batch, as in a job."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.job.output import OutputOptions
from knnvote.classify.scale import Scale
from knnvote.data.errors import as_recorded, spelled_reasons
from knnvote.data.layout import Layout
from knnvote.data.reading import decode_rows, rows_within_budget
from knnvote.data.vectors import FEW

from .served import Served

MOST_ROWS = 2048  # of a piece, and of all that are answered together


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows of a request.

    Attributes:
        served: what answers.
        images: the columns of the images alone.
        layout: of the images.
        output: what is asked of the answers.
        is_measured: whether the request has so many images that their scale says something.
    """

    served: Served
    images: pa.Table
    layout: Layout
    output: OutputOptions
    is_measured: bool

    @property
    def rows(self) -> int:
        """Images."""
        return len(self.images)

    def is_answered_with(self, other: "Piece") -> bool:
        """Whether both can be one batch."""
        return self.served is other.served and self.output == other.output


@dataclass(frozen=True)
class Answered:
    """What is known of a piece.

    Attributes:
        table: the columns of its answers.
        scale: of its images, if that is measured.
    """

    table: pa.Table
    scale: Scale


def cut(served: Served, table: pa.Table, layout: Layout, output: OutputOptions) -> Iterator[Piece]:
    """The images of a table in pieces of so many that memory holds them decoded."""
    # What is kept and how columns are named is of the whole.
    of_answers = OutputOptions(neighbors=output.neighbors, probabilities=output.probabilities, top=output.top)
    images = table.select(list(dict.fromkeys(layout.columns)))
    rows = rows_within_budget(layout.d, MOST_ROWS)
    for start in range(0, len(table), rows):
        yield Piece(served, images.slice(start, rows), layout, of_answers, len(table) >= FEW)


def answer(pieces: Sequence[Piece]) -> list[Answered]:
    """The answers to each piece; all can be one batch.

    Where a batch begins and ends changes no bit of an answer.
    """
    served, output = pieces[0].served, pieces[0].output
    classifier = served.asked(output.promise)
    scales: list[Scale] = []
    queries, bad, first = [], {}, 0
    for (layout, _), group in groupby(pieces, key=lambda piece: (piece.layout, piece.images.schema)):
        alike = [*group]
        rows = decode_rows(pa.concat_tables([piece.images for piece in alike]), layout)
        xq, reasons = classifier.queries(rows)
        queries.append(xq)
        scales += _scales(alike, rows.pixels, reasons)
        bad.update({first + row: reason for row, reason in reasons.items()})
        first += len(xq)
    xq = queries[0] if len(queries) == 1 else np.concatenate(queries)
    found = classifier.answer(xq, spelled_reasons(bad, as_recorded)).to_table(**output.of_answers)
    answered, start = [], 0
    for piece, scale in zip(pieces, scales, strict=True):
        answered.append(Answered(found.slice(start, piece.rows), scale))
        start += piece.rows
    return answered


def _scales(pieces: Sequence[Piece], pixels: NDArray[np.generic], bad: Iterable[int]) -> Iterator[Scale]:
    """That of each piece, by the pixels (n, pixels) of all but for bad rows; nothing where it is not measured."""
    start = 0
    for piece in pieces:
        stop = start + piece.rows
        own_bad = [row - start for row in bad if start <= row < stop]
        yield Scale.of(piece.served.index, pixels[start:stop], own_bad) if piece.is_measured else Scale()
        start = stop
