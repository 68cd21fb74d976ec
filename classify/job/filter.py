"""Which rows of files of images are meant, by what a job answered or by the files' own columns."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.classify.names import SORTS, STATUSES
from knnvote.data.columns import is_number
from knnvote.data.errors import ImageFileError, OptionError, check_one_of, param
from knnvote.data.rows import RowFile
from knnvote.data.text import describe_error
from knnvote.indexer.building.provenance import read_ids

from .rows import USUAL_IDS, wanted_in

_COMPARISON = re.compile(r"\s*(?P<column>.+?)\s*(?P<sign><=|>=|!=|==|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_BATCH = 1 << 16


@dataclass(frozen=True, kw_only=True)
class RowFilter:
    """What rows have to be to be meant, and which of these come first.

    Attributes:
        ids: any of these, each ``FILE#ROW`` or what a column of ids says.
        id_column: that column; by default the first of a usual name.
        where: comparisons of a column with a value, such as ``confidence < 0.8``, of which all have to hold.
        label: the class, by its label or name: the best guess of a job, else the file's own.
        status: what the job made of it, ``ok``, ``abstained`` or ``bad_image``.
        sort: one of `SORTS` by which rows come first; by default they stay as they are.
        sample: so many of the rows, drawn at random.
        seed: of that.
    """

    ids: tuple[str, ...] = ()
    id_column: str | None = None
    where: tuple[str, ...] = ()
    label: str | None = None
    status: str | None = None
    sort: str | None = None
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the comparisons and the names."""
        for name, names in (("status", STATUSES), ("sort", SORTS)):
            if getattr(self, name) is not None:
                check_one_of(name, getattr(self, name), names)
        for text in self.where:
            if _COMPARISON.fullmatch(text) is None:
                raise OptionError(
                    f"{param('where')} is {text!r}: give a column, one of {' '.join(_SIGNS)}, and a value, "
                    "such as 'confidence < 0.8'"
                )

    @property
    def takes_all(self) -> bool:
        """Whether every row is meant, in the order of the files."""
        return not (self.ids or self.where or self.sort or self.sample) and self.label is self.status is None

    def check_job(self, has_job: bool) -> None:
        """Refuse what only a job's answers tell, where there are none.

        Raises:
            OptionError: naming it.
        """
        for name in ("status", "sort"):
            if getattr(self, name) is not None and not has_job:
                raise OptionError(f"{param(name)} is of a job's answers: give its outputs as {param('predictions')}")


@dataclass(frozen=True, kw_only=True)
class FilteredFile:
    """A file of rows whose columns tell which are meant.

    Attributes:
        rows: the file: an output of a job, or where there is none the input itself.
        name: by which ``FILE#ROW`` names its rows.
        is_alone: it is the only one, so that a number names a row where no column has ids.
        prefix: of the columns that a job added.
        label: the column that has a row's class; None where there is none.
        class_names: of its integers, where these have names.
        own_ids: the column of ids that its job was told; None for the first of a usual name.
        of_source: columns of the file and row that a job added, which no usual name makes ids.
        classes: that were met where rows of a class were looked for, all that have a name among them.
    """

    rows: RowFile
    name: str
    is_alone: bool
    prefix: str
    label: str | None
    class_names: list[str] | None
    own_ids: str | None = None
    of_source: Container[str] = ()
    classes: set[str] = field(default_factory=set)

    def meant(self, wanted: RowFilter) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], set[str]]]:
        """Rows that are meant, batch by batch.

        Yields:
            Rows (m,), keys (m,) of which the smaller come first, and the wanted ids that were met.

        Raises:
            ImageFileError: a column is not there, or cannot be compared.
        """
        tests = self._tests(wanted)
        sort = None if wanted.sort is None else self.prefix + wanted.sort
        ids = self._id_column(wanted)
        columns = [*dict.fromkeys([*(name for name, _ in tests), *filter(None, [sort, ids])])]
        first = 0
        for batch in self._batches(columns):
            mask = np.ones(len(batch), np.bool_)
            for name, test in tests:
                mask &= _as_mask(test(batch[name]))
            met: set[str] = set()
            if wanted.ids:
                is_met, met = self._met(wanted.ids, None if ids is None else batch[ids], first, len(batch))
                mask &= is_met
            rows = np.flatnonzero(mask)
            keys = np.zeros(len(rows)) if sort is None else self._keys(wanted, batch[sort], rows)
            yield first + rows, keys, met
            first += len(batch)

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The columns as plain types; where none is asked for, tables of as many rows without any."""
        if not columns:
            for first in range(0, self.rows.num_rows, _BATCH):
                n = min(_BATCH, self.rows.num_rows - first)
                yield pa.table({"": pa.nulls(n)})
            return
        for name in columns:
            if name not in self.rows.schema.names:
                there = ", ".join(self.rows.schema.names)
                raise ImageFileError(f"{self.rows.source} has no column {name!r} to choose rows by: there are {there}")
        for batch in self.rows.batches(columns, _BATCH):
            yield pa.table({name: self.rows.checked(batch, name) for name in columns})

    def _tests(self, wanted: RowFilter) -> list[tuple[str, Callable[[pa.ChunkedArray], Any]]]:
        """Columns, each with what tells of its values whether a row may be meant."""
        tests: list[tuple[str, Callable[[pa.ChunkedArray], Any]]] = [
            (parts["column"], partial(self._compare, parts))
            for parts in map(_COMPARISON.fullmatch, wanted.where)
            if parts
        ]
        if wanted.status is not None:
            tests.append((self.prefix + "status", partial(pc.equal, wanted.status)))
        if wanted.label is not None:
            if self.label is None:
                raise ImageFileError(
                    f"{self.rows.source} has no labels to choose {wanted.label!r} by: name their column with "
                    f"{param('label_column')}"
                )
            names = self.class_names or []
            of_name = [str(names.index(wanted.label))] if wanted.label in names else []
            if wanted.label in map(str, range(len(names))):
                self.classes.add(wanted.label)
            labels = pa.array([wanted.label, *of_name])
            tests.append((self.label, partial(self._is_in, labels)))
        return tests

    def _compare(self, parts: re.Match[str], column: pa.ChunkedArray) -> Any:
        """Whether values are as a comparison has them.

        Raises:
            ImageFileError: they cannot be compared with its value.
        """
        try:
            value = pa.scalar(_unquoted(parts["value"])).cast(column.type)
            return _SIGNS[parts["sign"]](column, value)
        except pa.ArrowException as error:
            raise ImageFileError(
                f"{self.rows.source} has {column.type} in column {parts['column']!r}, which {parts['value']!r} in "
                f"{param('where')} is not to be compared with: {describe_error(error)}"
            ) from error

    def _is_in(self, labels: pa.Array, column: pa.ChunkedArray) -> Any:
        """Whether values are, as text, among some labels.

        Raises:
            ImageFileError: they cannot be written as text.
        """
        try:
            texts = column.cast(pa.string())
            self.classes.update(self.class_names or pc.unique(texts).drop_null().to_pylist())
            return pc.is_in(texts, value_set=labels)
        except pa.ArrowException as error:
            raise ImageFileError(
                f"{self.rows.source} has {column.type} in column {self.label!r}, and no labels"
            ) from error

    def _keys(self, wanted: RowFilter, column: pa.ChunkedArray, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(m,) of rows of a column: the smaller come first, and NaN, which stands for null, last.

        Raises:
            ImageFileError: it holds no numbers.
        """
        if not is_number(column.type):
            raise ImageFileError(f"{self.rows.source} has {column.type} as {wanted.sort}, and no numbers")
        values: NDArray[np.float64] = column.to_numpy()[rows].astype(np.float64)
        return -values if wanted.sort == "distance" else values

    def _id_column(self, wanted: RowFilter) -> str | None:
        names = [name for name in self.rows.schema.names if name not in self.of_source]
        if not wanted.ids:
            return None
        return wanted.id_column or next((name for name in (self.own_ids, *USUAL_IDS) if name in names), None)

    def _met(
        self, wanted: Sequence[str], ids: pa.ChunkedArray | None, first: int, n: int
    ) -> tuple[NDArray[np.bool_], set[str]]:
        """Which of n rows have an id that is wanted, and those ids."""
        mask, met = np.zeros(n, np.bool_), set()
        for name in wanted:
            file, mark, number = name.rpartition("#")
            is_place = file == self.name if mark else ids is None and self.is_alone
            if is_place and number.isascii() and number.isdecimal() and 0 <= int(number) - first < n:
                mask[int(number) - first] = True
                met.add(name)
        if ids is not None:
            texts = read_ids(self.rows.source, ids, "")
            names = wanted_in(self.name, wanted)
            is_met = pc.is_in(texts, value_set=pa.array(names, pa.string()))
            mask |= _as_mask(is_met)
            met.update(name for text in texts.filter(is_met).to_pylist() for name in names[text])
        return mask, met


_ROW = np.dtype([("file", np.int64), ("row", np.int64), ("key", np.float64), ("drawn", np.float64)])


class Chosen:
    """The rows to show of those that were found, and no more of them at any time.

    Attributes:
        total: rows that were found.
        met: ids that were.
    """

    def __init__(self, wanted: RowFilter, count: int) -> None:
        """None yet, and so many at most."""
        self._random = None if wanted.sample is None else np.random.default_rng(wanted.seed)
        self._count = min(count, wanted.sample or count)
        self._held = np.empty(0, _ROW)
        self.total = 0
        self.met: set[str] = set()

    @property
    def files(self) -> NDArray[np.int64]:
        """(m,) the place of each row's file among the inputs."""
        return self._held["file"]

    @property
    def rows(self) -> NDArray[np.int64]:
        """(m,) each row in its file, in the order in which they are shown."""
        return self._held["row"]

    def add(
        self, file: int, rows: NDArray[np.int64], keys: NDArray[np.float64] | None = None, met: Iterable[str] = ()
    ) -> None:
        """Rows of a file behind those before, the smaller keys first; a sample is drawn whatever the keys."""
        self.total += len(rows)
        self.met.update(met)
        more = np.zeros(len(rows), _ROW)
        more["file"], more["row"], more["key"] = file, rows, 0 if keys is None else keys
        more["drawn"] = 0 if self._random is None else self._random.random(len(rows))
        held = np.concatenate([self._held, more])
        held = held[np.lexsort([held["row"], held["file"], held["key"], held["drawn"]])][: self._count]
        self._held = held[np.lexsort([held["row"], held["file"], held["key"]])]


def _unquoted(value: str) -> str:
    """A value without the quotes around it, which are no part of it."""
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if is_quoted else value


def _as_mask(holds: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(n,) where it is true; what is unknown is not."""
    mask: NDArray[np.bool_] = pc.fill_null(holds, False).to_numpy()
    return mask
