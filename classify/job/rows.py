"""Rows of a job's outputs by the names that people have for them: file and row, a row number, or a kept id."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.containers.tar import TAR_KEY
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.indexer.building.provenance import read_ids

from .finished import FinishedJob

USUAL_IDS = ("id", "__key__", "file")  # names of columns that tell rows apart, the surest first
_BATCH = 1 << 16


@dataclass(frozen=True, order=True)
class Place:
    """A row of a job's outputs: the file by its path relative to the folder, and the row in it, from 0."""

    file: str
    row: int

    def __str__(self) -> str:
        """As it is typed, and as the id of a stored image that has no other."""
        return f"{self.file}#{self.row}"


def find_rows(job: FinishedJob, names: Sequence[str], id_column: str | None = None) -> list[Place]:
    """The rows that are meant, in the order of their names.

    Args:
        job: whose outputs they are of.
        names: each ``FILE#ROW``, an id, or where the job has one output and no column of ids a row number.
        id_column: an input's column that the job kept; by default the only one of a usual name, as `kept_ids` has it.

    Raises:
        KnnvoteError: a name is of no row, or of several.
        OptionError: the column is in no output.
    """
    if not job.receipts:
        raise KnnvoteError(f"{job.out} holds no finished output of its job: classify into it first")
    column = kept_ids(job, id_column)
    places = {name: _by_place(job, name, column) for name in names}
    wanted = [name for name, place in places.items() if place is None]
    found: dict[str, list[Place]] = {name: [] for name in wanted}
    if wanted and column is not None:
        for name, place in _by_id(job, wanted, column):
            found[name].append(place)
    for name, of_name in found.items():
        if len(of_name) != 1:
            raise _not_one(job, name, column, of_name)
    return [places[name] or found[name][0] for name in names]


def kept_ids(job: FinishedJob, asked: str | None, usual: Sequence[str | None] = USUAL_IDS) -> str | None:
    """The column by which rows of the outputs are named: that asked for, the job's own, or the first usual one kept.

    It need not be in all of them.

    Raises:
        OptionError: no output has the one that was asked for.
    """
    wanted = [name for name in (asked, job.record.id_column, *usual) if name is not None]
    names: dict[str, None] = {}  # of columns, in their order
    for file in job.receipts:
        if not wanted or wanted[0] in names:
            break
        with ParquetRows.open(job.out / file) as rows:
            names |= dict.fromkeys(rows.schema.names)
    if asked is not None and asked not in names:
        raise OptionError(f"{job.out} keeps no column {asked!r} for {param('id_column')}: it has {', '.join(names)}")
    kept = [name for name in names if name == asked or name not in job.record.output.of_source]
    return next((name for name in wanted if name in kept), None)


def read_kept_ids(job: FinishedJob, places: Sequence[Place], column: str | None) -> dict[Place, str]:
    """The ids of some rows as a column has them; none of a row that has none.

    Raises:
        KnnvoteError: they cannot be read.
    """
    found: dict[Place, str] = {}
    for file in dict.fromkeys(place.file for place in places):
        rows = np.unique([place.row for place in places if place.file == file])
        with ParquetRows.open(job.out / file) as output:
            if column is None or column not in output.schema.names:
                continue
            for numbers, table in output.take(rows, [column], _BATCH):
                ids = read_ids(job.out / file, output.checked(table, column), column).to_pylist()
                found |= {Place(file, row): text for row, text in zip(numbers.tolist(), ids, strict=True) if text}
    return found


def wanted_in(file: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Names of rows, by what a column of ids says of them in one file: a key of a tar file may stand behind its name.

    Args:
        file: that is made of one of images, relative to the folder of outputs.
        names: that are wanted.
    """
    shard, found = file.removesuffix(".parquet") + TAR_KEY, defaultdict[str, list[str]](list)
    for name in names:
        found[name.removeprefix(shard)].append(name)
    return found


def _by_place(job: FinishedJob, name: str, column: str | None) -> Place | None:
    """The row that a name says by its file and row; None for what may be an id.

    Raises:
        KnnvoteError: the file has no such row.
    """
    file, mark, number = name.rpartition("#")
    if file in job.left_out:
        raise KnnvoteError(f"{job.out / file} is not of this job, or was changed: knnvote verify {job.out} says why")
    if not mark and column is None and len(job.receipts) == 1:
        file = next(iter(job.receipts))
    if file not in job.receipts or not (number.isascii() and number.isdecimal()):
        return None
    rows = job.receipts[file].counts.rows
    if int(number) >= rows:
        raise KnnvoteError(f"{job.out / file} has {rows:,} rows, which count from 0, and no row {number}")
    return Place(file, int(number))


def _by_id(job: FinishedJob, wanted: Sequence[str], column: str) -> Iterator[tuple[str, Place]]:
    """Every row whose id is wanted, with it: outputs are read batch by batch."""
    for file in job.receipts:
        with ParquetRows.open(job.out / file) as rows:
            if column not in rows.schema.names:
                continue
            first, names = 0, wanted_in(file, wanted)
            values = pa.array(names, pa.string())
            for batch in rows.batches([column], _BATCH):
                ids = read_ids(job.out / file, rows.checked(batch, column), column)
                for row in np.flatnonzero(pc.is_in(ids, value_set=values).to_numpy(zero_copy_only=False)).tolist():
                    yield from ((name, Place(file, first + row)) for name in names[ids[row].as_py()])
                first += len(ids)


def _not_one(job: FinishedJob, name: str, column: str | None, found: Sequence[Place]) -> KnnvoteError:
    """That a name is of no row, or of several, with one that is."""
    if found:
        return KnnvoteError(
            f"{name!r} in column {column!r} is the id of {len(found):,} rows of {job.out}: give one as "
            f"{found[0]} or {found[1]}"
        )
    first = Place(next(iter(job.receipts)), 0)
    why = f"has {name!r} in column {column!r}" if column else f"is {name!r}, and {job.out} keeps no column of ids"
    id_ = read_kept_ids(job, [first], column).get(first)
    return KnnvoteError(
        f"no row of {job.out} {why}: give file and row, such as {first}, an id{f', such as {id_}' if id_ else ''}, or "
        f"{param('id_column')} for its column"
    )
