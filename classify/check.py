"""A check of labelled images before any work: classes, bad rows, exact copies, and rows of one part among another's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, as_recorded, spelled
from knnvote.data.folders.splits import split_by_name
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import count_rows
from knnvote.data.layout import ImageOptions
from knnvote.data.progress import stage
from knnvote.data.reading import DecodedRows, ImageFile, open_images
from knnvote.data.recognition import recognise_images
from knnvote.data.rows import RowFile
from knnvote.data.vectors import Numbers, Reasons, convert_queries
from knnvote.indexer.building.doubts import look_like_ids
from knnvote.indexer.labels import class_names, label_array, show_class, told_alike, unusable_labels

from .reasons import Place, ReasonCounts

_BATCH = 4096
_DIGEST = 16  # bytes: of a billion images no two unlike ones are likely to share one
_NO_LABEL = -1
_OTHERS = "other files"
Pair = tuple[Place, Place]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Images of one part that are among those of a part before it.

    Attributes:
        part: whose rows they are.
        among: the part before it.
        rows: of `part` that equal one of `among`.
        first: of them, behind the row of `among` that it equals.
    """

    part: str
    among: str
    rows: int
    first: Pair


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Rows that equal one before them, pixel by pixel.

    Attributes:
        rows: how many.
        first: of them, behind the row that it equals; None where there are none.
    """

    rows: int
    first: Pair | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a check of all rows found.

    Attributes:
        rows: of the files that can be read.
        readable: images among them.
        classes: rows by label, in the order of labels; numbers to be averaged are counted alike.
        names: of classes that are numbers, where the files give them.
        look_like_ids: whether nearly each row of a file has a label of its own.
        unlabelled: rows of readable images without a label, and the first of them.
        bad: rows that `knnvote index` would refuse for another reason.
        copies: rows that equal one before them.
        unlike: those of them whose label is another than that of the first row that they equal.
        parts: splits, or else arguments, whose images are compared.
        shared: rows of one part among another's, of each two parts that share any.
        failed: why a file cannot be read to its end, by its place among the inputs.
    """

    rows: int
    readable: int
    classes: dict[Any, int]
    names: list[str] | None
    look_like_ids: bool
    unlabelled: tuple[int, Place | None]
    bad: ReasonCounts
    copies: Copies
    unlike: Copies
    parts: list[str]
    shared: list[Shared]
    failed: dict[int, str]

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers to be averaged."""
        return any(isinstance(label, float) for label in self.classes)

    def to_json(self) -> dict[str, Any]:
        """The entry ``check`` of ``inspect`` as JSON."""
        unlabelled, first = self.unlabelled
        met = self.bad.first()
        return {
            "rows": self.rows,
            "images": self.readable,
            "task": "regression" if self.is_regression else "classification",
            "classes": [
                {"label": label, "shown": show_class(label, self.names), "rows": rows}
                for label, rows in self.classes.items()
            ],
            "labels_look_like_ids": self.look_like_ids,
            "labels_alike": None if self.look_like_ids else told_alike(self.classes),
            "unlabelled": {"rows": unlabelled, "first": _told(first)},
            "bad": [
                {"reason": reason, "rows": rows, "first": _told(met[reason][0]), "first_reason": met[reason][1]}
                for reason, rows in self.bad.most_common().items()
            ],
            "copies": {"rows": self.copies.rows, "first": _told_pair(self.copies.first)},
            "unlike_copies": {"rows": self.unlike.rows, "first": _told_pair(self.unlike.first)},
            "parts": self.parts,
            "shared": [
                {"part": shared.part, "among": shared.among, "rows": shared.rows, "first": _told_pair(shared.first)}
                for shared in self.shared
            ],
        }


def _told(place: Place | None) -> dict[str, Any] | None:
    return None if place is None else place._asdict()


def _told_pair(pair: Pair | None) -> list[dict[str, Any]] | None:
    return None if pair is None else [place._asdict() for place in pair]


def check_images(
    inputs: Sequence[InputFile],
    labels: Sequence[str | None],
    options: ImageOptions,
    *,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Check:
    """Read all rows of files of images, and check them. Memory grows by some 100 bytes a row.

    Args:
        inputs: the files.
        labels: the label column of each, if it has one.
        options: what the user says about the images.
        progress: told the rows of each batch.
    """
    found, failed = _Rows(), {}
    with stage("checking", partial(count_rows, inputs), progress=progress) as advance:
        for place, (source, column) in enumerate(zip(inputs, labels, strict=True)):
            of_file = _Rows(codes=found.codes)
            try:
                with open_images(source, partial(recognise_images, options=options)) as images:
                    of_file.read(images, place, column, advance)
            except KnnvoteError as error:
                failed[place] = error.told(as_recorded)
                continue
            found.add(of_file)
    return found.check(inputs, failed)


@dataclass(kw_only=True)
class _Rows:
    """What is kept of rows: those of readable images by their digest, and counts of the others.

    Attributes:
        codes: number of each label.
        digests: in pieces (m, 16) uint8.
        labels: in pieces (m,) int32 codes; -1 for none.
        files: in pieces (m,) int32 places among the inputs.
        numbers: in pieces (m,) int64 rows of their files.
        rows: readable or not.
        unlabelled: of readable images.
        first_unlabelled: the first of these.
        bad: reasons of rows that cannot be stored.
        names: of classes.
    """

    codes: dict[Any, int] = field(default_factory=dict)
    digests: list[NDArray[np.uint8]] = field(default_factory=list)
    labels: list[NDArray[np.int32]] = field(default_factory=list)
    files: list[NDArray[np.int32]] = field(default_factory=list)
    numbers: list[NDArray[np.int64]] = field(default_factory=list)
    rows: int = 0
    unlabelled: int = 0
    first_unlabelled: Place | None = None
    bad: ReasonCounts = field(default_factory=ReasonCounts)
    names: list[str] | None = None

    def read(self, images: ImageFile, place: int, column: str | None, progress: Callable[[int], None]) -> None:
        """Take all rows of a file."""
        self.names = None if column is None else class_names(images.schema, column)
        for rows in images.read([] if column is None else [column], batch_size=_BATCH):
            bad = rows.bad | _beyond_floats(rows.pixels)
            codes = np.full(len(rows.numbers), _NO_LABEL, np.int32)
            if column is not None:
                labels = images.column(rows, column)
                bad_labels = unusable_labels(labels, self.names)
                usable = np.setdiff1d(np.arange(len(codes)), list(bad_labels))
                codes[usable] = self._codes_of(images, column, labels.take(usable))
                bad = {row: reason for row, reason in bad_labels.items() if not _is_missing(reason)} | bad
            self._take(images.rows, place, rows, codes, bad)
            progress(len(codes))

    def _codes_of(self, images: ImageFile, column: str, labels: pa.Array) -> NDArray[np.int32]:
        """(m,) the number of each label."""
        try:
            values = _as_labels(labels)
        except KnnvoteError as error:
            raise KnnvoteError(f"{images.source.shown}, column {column!r}: {error.marked}") from error
        encoded = values.dictionary_encode()
        known = [self.codes.setdefault(value, len(self.codes)) for value in encoded.dictionary.to_pylist()]
        codes: NDArray[np.int32] = np.array(known, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]
        return codes

    def _take(self, held: RowFile, place: int, rows: DecodedRows, codes: NDArray[np.int32], bad: Reasons) -> None:
        good = np.setdiff1d(np.arange(len(codes)), list(bad))
        for row in sorted(bad):
            self.bad.add(spelled(bad[row], as_recorded), first=Place(*held.place(int(rows.numbers[row]))))
        self.rows += len(codes)
        missing = good[codes[good] == _NO_LABEL]
        if len(missing) and self.first_unlabelled is None:
            self.first_unlabelled = Place(*held.place(int(rows.numbers[missing[0]])))
        self.unlabelled += len(missing)
        self.digests.append(digests(rows.pixels[good]))
        self.labels.append(codes[good])
        self.files.append(np.full(len(good), place, np.int32))
        self.numbers.append(rows.numbers[good])

    def add(self, other: "_Rows") -> None:
        """Take what was read of a file to its end."""
        self.digests += other.digests
        self.labels += other.labels
        self.files += other.files
        self.numbers += other.numbers
        self.rows += other.rows
        self.unlabelled += other.unlabelled
        self.first_unlabelled = self.first_unlabelled or other.first_unlabelled
        self.bad += other.bad
        self.names = self.names or other.names

    def check(self, inputs: Sequence[InputFile], failed: dict[int, str]) -> Check:
        """All that is to be told of the rows."""
        same = first_equal(np.concatenate([np.zeros((0, _DIGEST), np.uint8), *self.digests]))
        codes, files, numbers = (
            np.concatenate([np.zeros(0, np.int32), *pieces]) for pieces in (self.labels, self.files, self.numbers)
        )

        def pair(first: int, row: int) -> Pair:
            places = (inputs[files[place]].places_of([int(numbers[place])]) for place in (first, row))
            (one,), (other,) = places
            return Place(*one), Place(*other)

        values = list(self.codes)
        counts = np.bincount(codes[codes != _NO_LABEL], minlength=len(values))
        classes = {values[code]: int(counts[code]) for code in np.flatnonzero(counts)}
        names, part_of = parts_of(inputs)
        return Check(
            rows=self.rows,
            readable=len(same),
            classes=dict(sorted(classes.items(), key=lambda of: (isinstance(of[0], str), of[0]))),
            names=self.names,
            look_like_ids=_look_like_ids(codes, files),
            unlabelled=(self.unlabelled, self.first_unlabelled),
            bad=self.bad,
            copies=_copies(same, np.arange(len(same)), pair),
            unlike=_unlike(same, codes, pair),
            parts=names,
            shared=_shared(same, part_of[files], names, pair),
            failed=failed,
        )


def _look_like_ids(codes: NDArray[np.int32], files: NDArray[np.int32]) -> bool:
    is_labelled = codes != _NO_LABEL
    within_files = np.unique(np.stack([files, codes], axis=1)[is_labelled], axis=0)
    values = len(np.unique(codes[is_labelled]))
    return look_like_ids(values, len(within_files), int(is_labelled.sum()))


def _is_missing(reason: str) -> bool:
    return reason.startswith("no label")


def _beyond_floats(pixels: Numbers) -> Reasons:
    """Rows with whole numbers that no float holds, and so no index."""
    if pixels.dtype.kind not in "iu" or pixels.dtype.itemsize < 8:
        return {}
    return convert_queries(pixels, np.dtype(np.float64))[1]


def _as_labels(labels: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Labels as an index stores them, of classes or else, where they are fractions, of a regression."""
    if isinstance(labels, pa.ChunkedArray):
        labels = labels.combine_chunks()
    try:
        return label_array(labels, is_regression=False)
    except KnnvoteError:
        if not pt.is_floating(labels.type):
            raise
        return label_array(labels, is_regression=True)


def digests(pixels: Numbers) -> NDArray[np.uint8]:
    """(n, 16) a digest of each image (n, d), equal where all numbers are, of whatever type they are."""
    if pixels.dtype == np.uint8:
        rows = list(np.ascontiguousarray(pixels))
    else:
        with np.errstate(invalid="ignore"):
            narrow = pixels.astype(np.uint8)
        wide = pixels.astype(np.float64) + 0.0  # -0 is 0
        is_narrow = (narrow == pixels).all(axis=1)
        rows = [narrow[row] if is_narrow[row] else wide[row] for row in range(len(pixels))]
    joined = b"".join([blake2b(row, digest_size=_DIGEST).digest() for row in rows])
    return np.frombuffer(joined, np.uint8).reshape(len(pixels), _DIGEST)


def first_equal(of: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n,) for each digest (n, 16) the first row that has it too, which may be its own."""
    halves = np.ascontiguousarray(of).view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: equal ones stay in their order
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (halves[order[1:]] != halves[order[:-1]]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    return first


def _copies(first: NDArray[np.int64], rows: NDArray[np.int64], pair: Callable[[int, int], Pair]) -> Copies:
    """Those of some rows that are not the first of their kind."""
    again = np.flatnonzero(first != rows)
    return Copies(rows=len(again), first=pair(first[again[0]], rows[again[0]]) if len(again) else None)


def _unlike(same: NDArray[np.int64], codes: NDArray[np.int32], pair: Callable[[int, int], Pair]) -> Copies:
    """Rows with another label than the first labelled one that they equal."""
    labelled = np.flatnonzero(codes != _NO_LABEL)
    _, at, kind = np.unique(same[labelled], return_index=True, return_inverse=True)
    first = labelled[at][kind]
    is_like = codes[first] == codes[labelled]
    return _copies(np.where(is_like, labelled, first), labelled, pair)


def parts_of(inputs: Sequence[InputFile]) -> tuple[list[str], NDArray[np.int64]]:
    """What is compared with each other: the splits of the files, or else the arguments that gave them.

    Returns:
        The names of the parts, and (files,) to which each file belongs.
    """
    splits = split_by_name(source.without_classes for source in inputs)
    if len({*splits.values()}) > 1:
        of_files = [splits.get(source.without_classes, _OTHERS) for source in inputs]
        names = list(dict.fromkeys([*splits.values(), *of_files]))
    else:
        of_files = [source.found_by or source.shown for source in inputs]
        names = list(dict.fromkeys(of_files))
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers[name] for name in of_files], np.int64)


def _shared(
    same: NDArray[np.int64], parts: NDArray[np.int64], names: Sequence[str], pair: Callable[[int, int], Pair]
) -> list[Shared]:
    """Of each two parts the rows of the second that are among the first."""
    kinds = np.unique(np.stack([same, parts], axis=1), axis=0)[:, 0] if len(names) > 1 else same[:0]
    several = np.unique(kinds[1:][kinds[1:] == kinds[:-1]])
    rows = np.flatnonzero(np.isin(same, several))
    by_part = {part: rows[parts[rows] == part] for part in range(len(names))}
    found = []
    for before, part in combinations(range(len(names)), 2):
        again = by_part[part][np.isin(same[by_part[part]], same[by_part[before]])]
        if len(again):
            original = by_part[before][same[by_part[before]] == same[again[0]]][0]
            first = pair(original, again[0])
            found.append(Shared(part=names[part], among=names[before], rows=len(again), first=first))
    return found
