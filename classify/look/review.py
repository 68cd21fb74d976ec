"""The rows of a job whose look pays most: near copies once, and written down for a person to label."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE, Answer, Neighbor, neighbors_of
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.rows import Place, kept_ids
from knnvote.data.columns import is_string
from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.errors import KnnvoteError
from knnvote.data.input_file import InputFile
from knnvote.data.reading import DecodedRows, open_images
from knnvote.indexer.building.provenance import read_ids

from .doubt import ANSWERS, KINDS, find_doubts

LIST_COLUMNS = ("id", "file", "row", "best", "second", "confidence", "margin", "distance", "why", "label")
_SPARE = 4  # times the rows asked for: of each kind so many are looked at, as copies are left out
_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Doubtful:
    """A row to look at.

    Attributes:
        place: file and row.
        id: that it has when it is added to an index: ``file#row``, or what a column of ids says.
        best: the label that it got or would have got; None for a bad image.
        second: the label with the next most votes; None where all agree.
        confidence: the winner's share of the vote; None for bad images and for regression.
        margin: by how much that is more than the second's; None likewise.
        distance: to the nearest stored image; None for bad images.
        status: ``ok``, ``abstained`` or ``bad_image``.
        reason: why not ok.
        texts: what columns of text have of it that the job kept, beside its id.
        pixels: (height, width), or (height, width, 3), where they were asked for and can be read.
        neighbors: that voted, where the classifier is given.
    """

    place: Place
    id: str
    best: Any
    second: Any
    confidence: float | None
    margin: float | None
    distance: float | None
    status: str
    reason: str | None
    texts: Mapping[str, str]
    pixels: NDArray[Any] | None = None
    neighbors: Sequence[Neighbor] = ()

    @property
    def why(self) -> str:
        """Why to look at it, in a few words."""
        if self.status == BAD_IMAGE:
            return f"bad image: {self.reason}"
        if self.status == ABSTAINED:
            return f"abstained: {self.reason}"
        if self.margin is not None and self.margin < 1:
            return "close vote"
        return "among the farthest"


@dataclass(frozen=True, kw_only=True)
class Review:
    """What `review` found.

    Attributes:
        out: the job's folder.
        rows: to look at, in the order in which they pay.
        kinds: for each kind of doubt its name, the rows of it that are listed, and those that the job has.
        copies: rows left out, as one that is listed before stands for them.
        unread: outputs whose input is gone or was changed: their rows are listed without a look at their images.
        class_names: names of integer labels, where the classifier was given and its index has them.
        written: when the job's last output was written, in UTC; None where that is not known.
    """

    out: str
    rows: list[Doubtful]
    kinds: list[tuple[str, int, int]]
    copies: int
    unread: list[str]
    class_names: list[str] | None
    written: datetime | None

    def to_table(self) -> pa.Table:
        """The list to be filled in: labels by their names where classes have some, and none in ``label`` yet."""
        columns: dict[str, Any] = {
            "id": [row.id for row in self.rows],
            "file": [row.place.file for row in self.rows],
            "row": [row.place.row for row in self.rows],
        }
        for name in ("best", "second"):
            columns[name] = [self._named(getattr(row, name)) for row in self.rows]
        for name in ("confidence", "margin", "distance"):
            columns[name] = [_rounded(getattr(row, name)) for row in self.rows]
        for name in dict.fromkeys(name for row in self.rows for name in row.texts):
            columns[name] = [row.texts.get(name) for row in self.rows]
        return pa.table({**columns, "why": [row.why for row in self.rows], "label": pa.nulls(len(self.rows))})

    def _named(self, label: Any) -> Any:
        names = self.class_names or []
        return names[label] if isinstance(label, int) and 0 <= label < len(names) else label


@dataclass(frozen=True)
class _Look:
    """What a row's image tells: by what rows are like it, and what is shown of it."""

    like: tuple[object, ...] = ()
    pixels: NDArray[Any] | None = None
    neighbors: Sequence[Neighbor] = ()


def review(
    job: FinishedJob, classifier: Classifier | None, *, top: int, id_column: str | None = None, pixels: bool = False
) -> Review:
    """Choose the rows of a job that a person should look at.

    All outputs are read batch by batch, then the images of four times as many rows as are chosen. Rows with equal
    pixels count once and, where the classifier is given, rows that have the same neighbours in the same order.

    Args:
        job: that has run.
        classifier: of the job: finds the neighbours.
        top: rows, at most.
        id_column: an input's column of ids that the job kept; by default the index's own, if it was kept.
        pixels: keep those of the images that are chosen.

    Raises:
        KnnvoteError: an output or an input cannot be read, or the job has none.
    """
    if not job.receipts:
        raise KnnvoteError(f"{job.out} holds no finished output of its job: classify into it first")
    own = None if classifier is None else classifier.index.manifest.id_column
    column = kept_ids(job, id_column, (own,))
    doubts = find_doubts(job, _SPARE * top)
    candidates = [(Place(row.pop("file"), row.pop("row")), row) for row in doubts.in_turn()]
    files = dict.fromkeys(place.file for place, _ in candidates)
    inputs = {file: job.unchanged_input(file) for file in files}
    looked = _look(job, inputs, [place for place, _ in candidates], classifier, keep=False)
    first, copies = _first_of_copies([looked[place].like if place in looked else () for place, _ in candidates], top)
    chosen = [candidates[i] for i in first]
    looked = _look(job, inputs, [place for place, _ in chosen], classifier, keep=True) if pixels else looked
    ids, texts = _kept(job, inputs, [place for place, _ in chosen], column)
    rows = []
    for place, row in chosen:
        look = looked.get(place, _Look())
        answer = {name: row[name] for name in ANSWERS}
        named = Doubtful(place=place, id=ids[place], texts=texts[place], **answer)
        rows.append(replace(named, pixels=look.pixels, neighbors=look.neighbors))
    listed = Counter(row["kind"] for _, row in chosen)
    return Review(
        out=job.out.shown,
        rows=rows,
        kinds=[(name, listed[kind], doubts.rows[kind]) for kind, name in enumerate(KINDS)],
        copies=copies,
        unread=[file for file, source in inputs.items() if source is None],
        class_names=None if classifier is None else classifier.index.manifest.class_names,
        written=job.written,
    )


def _look(
    job: FinishedJob,
    inputs: Mapping[str, InputFile | None],
    places: Sequence[Place],
    classifier: Classifier | None,
    *,
    keep: bool,
) -> dict[Place, _Look]:
    """What the images of some rows tell, as far as their inputs are there; `keep` their pixels and neighbours."""
    found: dict[Place, _Look] = {}
    for file, source in inputs.items():
        rows = np.unique([place.row for place in places if place.file == file]).astype(np.int64)
        if source is None or not len(rows):
            continue
        with open_images(source, job.recognise) as images:
            for decoded in images.take(rows, batch_size=_BATCH):
                answer = None if classifier is None else classifier.answer(*classifier.queries(decoded))
                for i, row in enumerate(decoded.numbers.tolist()):
                    found[Place(file, row)] = _look_at(decoded, answer, i, keep=keep)
    return found


def _look_at(decoded: DecodedRows, answer: Answer | None, i: int, *, keep: bool) -> _Look:
    """What one of some decoded images tells; a bad one is like no other."""
    if i in decoded.bad:
        return _Look()
    like: list[object] = [hashlib.sha256(decoded.pixels[i].tobytes()).digest()]
    if answer is not None and answer.is_image[i]:
        like.append(tuple(answer.I[i].tolist()))
    if not keep:
        return _Look(like=tuple(like))
    neighbors = [] if answer is None else neighbors_of(answer.index, answer.I[i], answer.D[i])
    return _Look(like=tuple(like), pixels=decoded.picture(i), neighbors=neighbors)


def _first_of_copies(likes: Sequence[tuple[object, ...]], most: int) -> tuple[list[int], int]:
    """Places of the first rows that are like none before them, by anything that tells, and how many others were met."""
    first: list[int] = []
    seen: set[object] = set()
    copies = 0
    for place, like in enumerate(likes):
        if len(first) == most:
            break
        if seen.isdisjoint(like):
            first.append(place)
            seen.update(like)
        else:
            copies += 1
    return first, copies


def _kept(
    job: FinishedJob, inputs: Mapping[str, InputFile | None], places: Sequence[Place], column: str | None
) -> tuple[dict[Place, str], dict[Place, dict[str, str]]]:
    """Of some rows the ids, of a column or of that which the input itself has ids in, else ``file#row``; and texts."""
    ids = {place: str(place) for place in places}
    texts: dict[Place, dict[str, str]] = {place: {} for place in places}
    for file in dict.fromkeys(place.file for place in places):
        rows = np.unique([place.row for place in places if place.file == file])
        named, prefix = (column, "") if column else _own_ids(inputs[file])
        with ParquetRows.open(job.out / file) as output:
            named = named if named in output.schema.names else None
            columns = _text_columns(output.schema, job.record.output, named)
            for numbers, table in output.take(rows, [*columns, *([named] if named else [])], _BATCH):
                of_rows = [Place(file, row) for row in numbers.tolist()]
                if named:
                    found = read_ids(job.out / file, output.checked(table, named), named, prefix).to_pylist()
                    ids.update({place: text for place, text in zip(of_rows, found, strict=True) if text})
                for name in columns:
                    for place, text in zip(of_rows, output.checked(table, name).to_pylist(), strict=True):
                        texts[place] |= {} if text is None else {name: text}
    return ids, texts


def _text_columns(schema: pa.Schema, options: OutputOptions, id_column: str | None) -> list[str]:
    """The kept columns of text: what a person reads of rows that are no pictures."""
    others = {*LIST_COLUMNS, *options.added, id_column}
    return [field.name for field in schema if is_string(field.type) and field.name not in others]


def _own_ids(source: InputFile | None) -> tuple[str | None, str]:
    """The column of ids that an input has by its nature, as a folder of images has paths, and what stands before."""
    if source is None:
        return None, ""
    with source.open_rows() as rows:
        return rows.id_column, rows.id_prefix


def _rounded(number: float | None) -> float | None:
    """A number with the six digits that a person reads."""
    return None if number is None else float(f"{number:.6g}")
