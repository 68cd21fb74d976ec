"""The rows of a job whose look pays most: near copies once, and written down for a person to label."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE, Answer, Neighbor, neighbors_of
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.rows import Place, kept_ids, read_kept_ids
from knnvote.classify.vote import Rule
from knnvote.data.columns import is_string
from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.errors import KnnvoteError, param
from knnvote.data.input_file import InputFile
from knnvote.data.reading import DecodedRows, open_images

from .copies import Listed
from .doubt import ANSWERS, KINDS, Doubts, find_doubts
from .ids import ids_to_add
from .seen import is_as_written

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
        neighbors: that voted, where the classifier is given and answers as the job wrote.
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
        rule: of the job.
        stored: rows left out, as they equal a stored image.
        abstained: how many of these did.
        copies: rows left out, as one that is listed before stands for them.
        notes: what is to be known of neighbours and answers that are kept of earlier jobs, with parameters marked.
        unread: outputs whose input is gone or was changed: their rows are listed without a look at their images.
        class_names: names of integer labels, where the classifier was given and its index has them.
        written: when the job's last output was written, in UTC; None where that is not known.
    """

    out: str
    rows: list[Doubtful]
    kinds: list[tuple[str, int, int]]
    rule: Rule
    stored: int
    abstained: int
    copies: int
    notes: list[str]
    unread: list[str]
    class_names: list[str] | None
    written: datetime | None

    @property
    def told_of_stored(self) -> str:
        """How many rows were left out as they are stored, with parameters marked; empty for none."""
        if not self.stored:
            return ""
        abstained = f"; {self.abstained:,} of them abstain" if self.abstained else ""
        if abstained and self.rule.k > 1 and self.rule.weights != "distance":
            abstained += f", as a stored image has one vote of {self.rule.k}: {param('weights')} distance has it decide"
        return f"{self.stored:,} that equal a stored image{abstained}"

    @property
    def told_of_copies(self) -> str:
        """How many rows were left out as others stand for them; empty for none."""
        return f"{self.copies:,} that equal a listed row, or nearly copy one" if self.copies else ""

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


@dataclass(frozen=True, kw_only=True)
class _Answered:
    """A row's image as a vector (d,), and what the index answers to it now: best label and neighbours, by distance."""

    vector: NDArray[np.generic]
    best: Any
    rows: NDArray[np.int64]
    distances: NDArray[np.float64]
    is_stored: bool

    def is_written(self, row: Mapping[str, Any]) -> bool:
        """Whether that is what the job wrote of the row, so that these neighbours are those that voted."""
        now = {"best": self.best, "distance": float(self.distances[0])}
        return all(is_as_written(name, row[name], value) for name, value in now.items())


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What a row's input tells of it.

    Attributes:
        id: that it has by nature, as a folder of images has paths; None where it has none.
        digest: of its pixels; None of an image that cannot be read or is not there.
        pixels: of a picture, where they are kept.
        answer: to its image, where the classifier is given.
    """

    id: str | None = None
    digest: bytes | None = None
    pixels: NDArray[Any] | None = None
    answer: _Answered | None = None

    @property
    def near(self) -> tuple[int, NDArray[np.generic]] | None:
        """The row of the nearest stored image and the vector, where there are."""
        return None if self.answer is None else (int(self.answer.rows[0]), self.answer.vector)


_NOTHING = _Look()


@dataclass(frozen=True)
class _Chosen:
    """The rows that are listed, and how many were left out as copies of these or as stored."""

    rows: list[tuple[Place, dict[str, Any], _Look]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def review(
    job: FinishedJob, classifier: Classifier | None, *, top: int, id_column: str | None = None, pixels: bool = False
) -> Review:
    """Choose the rows of a job that a person should look at.

    All outputs are read batch by batch, then the images of as many rows as are chosen, and of more where some are left
    out. Those that equal a stored image are; rows with equal pixels count once and, where the classifier is given, near
    copies, as `Listed` has them.

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
    index = None if classifier is None else classifier.index
    column = kept_ids(job, id_column, (None if index is None else index.manifest.id_column,))
    doubts = find_doubts(job, _SPARE * top)
    inputs: dict[str, InputFile | None] = {}
    chosen = _choose(job, doubts, inputs, classifier, top=top, pixels=pixels)
    ids, texts = _kept(job, [place for place, *_ in chosen.rows], column)
    rows = []
    for place, row, look in chosen.rows:
        id_ = ids.get(place) or look.id or str(place)
        answer = {name: row[name] for name in ANSWERS}
        named = Doubtful(place=place, id=id_, texts=texts[place], pixels=look.pixels, **answer)
        rows.append(replace(named, neighbors=_voters(classifier, row, look)))
    otherwise = sum(
        look.answer is not None and not row.neighbors for row, (*_, look) in zip(rows, chosen.rows, strict=True)
    )
    listed = Counter(row["kind"] for _, row, _ in chosen.rows)
    return Review(
        out=job.out.shown,
        rows=rows,
        kinds=[(name, listed[kind], doubts.rows[kind]) for kind, name in enumerate(KINDS)],
        rule=job.record.rule,
        stored=doubts.stored.total() + chosen.left_out["stored"],
        abstained=doubts.stored[ABSTAINED],
        copies=chosen.left_out["copies"],
        notes=[*job.kept_told, *_told_otherwise(otherwise)],
        unread=[file for file, source in inputs.items() if source is None],
        class_names=None if index is None else index.manifest.class_names,
        written=job.written,
    )


def _voters(classifier: Classifier | None, row: Mapping[str, Any], look: _Look) -> Sequence[Neighbor]:
    """The neighbours that voted for a row, where they are known."""
    if classifier is None or look.answer is None or not look.answer.is_written(row):
        return ()
    return neighbors_of(classifier.index, look.answer.rows, look.answer.distances)


def _told_otherwise(rows: int) -> list[str]:
    """That so many listed rows have no neighbours; nothing for none."""
    told = "the index answers them otherwise now, and who voted then is not known"
    return [f"{rows:,} listed rows are without neighbours: {told}"] if rows else []


def _choose(
    job: FinishedJob,
    doubts: Doubts,
    inputs: dict[str, InputFile | None],
    classifier: Classifier | None,
    *,
    top: int,
    pixels: bool,
) -> _Chosen:
    """The first rows of which none is stored or like one before; each image is decoded and searched once.

    Args:
        job: that has run.
        doubts: found in its outputs.
        inputs: takes the input of each file that was looked for; None where it is gone or was changed.
        classifier: of the job.
        top: rows, at most.
        pixels: keep them.
    """
    candidates = [(Place(row.pop("file"), row.pop("row")), row) for row in doubts.in_turn()]
    chosen, listed = _Chosen(), Listed(classifier)
    for start in range(0, len(candidates), top):
        some = candidates[start : start + top]
        for file in dict.fromkeys(place.file for place, _ in some):
            if file not in inputs:
                inputs[file] = job.unchanged_input(file)
        looked = _look(job, inputs, [place for place, _ in some], classifier, pixels=pixels)
        for place, row in some:
            look = looked.get(place, _NOTHING)
            if look.answer is not None and look.answer.is_stored:  # since the answer that a job kept
                chosen.left_out["stored"] += 1
            elif look.digest is not None and not listed.takes(look.digest, look.near):
                chosen.left_out["copies"] += 1
            else:
                chosen.rows.append((place, row, look))
            if len(chosen.rows) == top:
                return chosen
    return chosen


def _look(
    job: FinishedJob,
    inputs: Mapping[str, InputFile | None],
    places: Sequence[Place],
    classifier: Classifier | None,
    *,
    pixels: bool,
) -> dict[Place, _Look]:
    """What the inputs of some rows tell, as far as they are there."""
    found: dict[Place, _Look] = {}
    for file in dict.fromkeys(place.file for place in places):
        source = inputs[file]
        if source is None:
            continue
        rows = np.unique([place.row for place in places if place.file == file]).astype(np.int64)
        with open_images(source, job.recognise) as images:
            ids = ids_to_add(job, file, images.rows, rows)
            for decoded in images.take(rows, batch_size=_BATCH):
                looks = _look_at(job, decoded, classifier, pixels=pixels)
                for row, look in zip(decoded.numbers.tolist(), looks, strict=True):
                    found[Place(file, row)] = replace(look, id=ids.get(row))
    return found


def _look_at(job: FinishedJob, decoded: DecodedRows, classifier: Classifier | None, *, pixels: bool) -> Iterator[_Look]:
    """What each of some decoded images tells; a bad one nothing."""
    answers: list[_Answered | None] = [None] * len(decoded.numbers)
    if classifier is not None:
        xq, bad = classifier.queries(decoded)
        answers = _answered(job, xq, classifier.answer(xq, bad))
    for i, answer in enumerate(answers):
        yield (
            _NOTHING
            if i in decoded.bad
            else _Look(
                digest=hashlib.sha256(decoded.pixels[i].tobytes()).digest(),
                pixels=decoded.picture(i) if pixels else None,
                answer=answer,
            )
        )


def _answered(job: FinishedJob, xq: NDArray[np.generic], answer: Answer) -> list[_Answered | None]:
    """Of each image (nq, d) what is answered now, as the job would; None of one that cannot be."""
    best = (answer.of_confidences if job.record.promise == "confidence" else answer).best.to_pylist()
    return [
        _Answered(vector=xq[i], best=best[i], rows=answer.I[i], distances=answer.D[i], is_stored=bool(is_stored))
        if answer.is_image[i]
        else None
        for i, is_stored in enumerate(answer.is_stored)
    ]


def _kept(
    job: FinishedJob, places: Sequence[Place], column: str | None
) -> tuple[dict[Place, str], dict[Place, dict[str, str]]]:
    """What outputs keep of some rows: ids of a column, as far as they have any, and texts."""
    texts: dict[Place, dict[str, str]] = {place: {} for place in places}
    for file in dict.fromkeys(place.file for place in places):
        rows = np.unique([place.row for place in places if place.file == file])
        with ParquetRows.open(job.out / file) as output:
            columns = _text_columns(output.schema, job.record.output, column)
            for numbers, table in output.take(rows, columns, _BATCH):
                for name in columns:
                    for row, text in zip(numbers.tolist(), output.checked(table, name).to_pylist(), strict=True):
                        texts[Place(file, row)] |= {} if text is None else {name: text}
    return read_kept_ids(job, places, column), texts


def _text_columns(schema: pa.Schema, options: OutputOptions, id_column: str | None) -> list[str]:
    """The kept columns of text: what a person reads of rows that are no pictures."""
    others = {*LIST_COLUMNS, *options.added, id_column}
    return [field.name for field in schema if is_string(field.type) and field.name not in others]


def _rounded(number: float | None) -> float | None:
    """A number with the six digits that a person reads."""
    return None if number is None else float(f"{number:.6g}")
