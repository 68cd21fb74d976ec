"""Columns of an output file: what the input had but the image, then what the classifier says."""

import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.answer import check_top
from knnvote.classify.search.ladder import Promise
from knnvote.data.errors import ImageFileError, KnnvoteError, check, param, warn
from knnvote.data.locations import Location
from knnvote.data.text import describe_error

COLUMNS = 2  # of an answer: 1, which has no number in its receipt, was without best, second and margin
ROW_GROUP = 16_384  # more would show in the job's memory
_GROUP_BYTES = 1 << 27  # of the answers of a row group
_VOTER_BYTES = 100  # of a neighbour in an answer, with an id of usual length
_TOP_BYTES = 32  # of a class with its share
_MANY_CLASSES = 1000
SOURCE = ("file", "row")
_ANSWERS = (  # columns of an answer, of which some are there where they were asked for
    *("prediction", "confidence", "distance", "best", "second", "margin", "status", "reason"),
    *("neighbors", "rung", "probabilities", "top", "top_share"),
)


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What an output file holds.

    Attributes:
        neighbors: add each voter's row, id, label and distance, and the rung of an adaptive index that settled them.
        probabilities: add the share of each class.
        top: add so many of the best classes and their shares, as lists.
        source: add the file and row that each row is of, as ``FILE#ROW`` names it.
        keep: only these of the input's columns; None for all.
        prefix: before the name of each column that knnvote adds.
        id_column: of the input's columns the one that names its rows, which is kept whatever `keep` names.

    Example:
        >>> import pyarrow.parquet as pq
        >>> from knnvote import Classifier, JobOptions, OutputOptions, run_job
        >>> output = OutputOptions(neighbors=True, keep=("label",), prefix="knn_")
        >>> summary = run_job(Classifier.open("digits.knn"), "digits/test.parquet", "out", JobOptions(output=output))
        >>> pq.read_table("out/test.parquet", columns=["label", "knn_prediction"]).slice(0, 2).to_pylist()
        [{'label': 2, 'knn_prediction': 2}, {'label': 8, 'knn_prediction': 8}]
    """

    neighbors: bool = False
    probabilities: bool = False
    keep: tuple[str, ...] | None = None
    prefix: str = ""
    id_column: str | None = None
    top: int | None = None
    source: bool = False

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: naming the value.
        """
        if self.top is not None:
            check_top(self.top)
        are_names = self.keep is None or not isinstance(self.keep, str)
        check("keep", self.keep, are_names, "give names of columns, as keep=('label',) does")

    @property
    def promise(self) -> Promise:
        """What is asked of the search: shares of classes are as good as the confidences."""
        return "confidence" if self.probabilities or self.top else "label"

    @property
    def of_answers(self) -> dict[str, Any]:
        """What is asked of the answers, as `answer_schema` and `Answer.to_table` take it."""
        return {name: getattr(self, name) for name in ("prefix", "neighbors", "probabilities", "top")}

    @property
    def of_source(self) -> dict[str, pa.DataType]:
        """The columns of the file and row, as an output has them before the answers; none where they are not added."""
        kinds = zip(SOURCE, (pa.string(), pa.int64()), strict=True) if self.source else ()
        return {self.prefix + name: kind for name, kind in kinds}

    @property
    def added(self) -> frozenset[str]:
        """Names of all columns that knnvote may have added."""
        return frozenset((*self.of_source, *(self.prefix + name for name in _ANSWERS)))


def kept_columns(
    schema: pa.Schema,
    image_columns: Sequence[str],
    added: pa.Schema,
    options: OutputOptions,
    of_folders: Sequence[str] = (),
) -> list[str]:
    """The input's columns that go into the output.

    Args:
        schema: of the input.
        image_columns: of it, which do not go.
        added: knnvote's own columns.
        options: what is kept, and how those are named.
        of_folders: columns that the names of the input's folders, which are the output's too, stand for.

    Raises:
        ImageFileError: a column to keep does not exist, or one has a name that another has or that knnvote's own
        columns need.
    """
    of_images = frozenset(image_columns)
    others = [name for name in schema.names if name not in of_images]
    ids = () if options.id_column is None else (options.id_column,)
    wanted = [*((name, "keep") for name in options.keep or ()), *((name, "id_column") for name in ids)]
    for name, option in wanted:
        if name not in others:
            there = f"columns beside the image: {', '.join(others)}" if others else "there is none beside the image"
            raise ImageFileError(f"no column {name!r} for {param(option)}; {there}")
    if options.keep is not None:
        others = [name for name in others if name in (*options.keep, *ids)]
    times = Counter(schema.names)
    repeated = sorted(name for name in {*image_columns, *others} if times[name] > 1)
    if repeated:
        raise ImageFileError(
            f"the input has several columns {repeated[0]!r}: rename them, or leave them out with {param('keep')}"
        )
    # DuckDB, Spark and others take names that differ in case alone for one.
    by_name: dict[str, str] = {}
    for name in others:
        if (other := by_name.setdefault(name.casefold(), name)) != name:
            raise ImageFileError(
                f"the input has columns {other!r} and {name!r}, which many readers take for one: "
                f"rename one, or leave it out with {param('keep')}"
            )
    _refuse_clash(by_name, {name.casefold(): name for name in of_folders}, added, options)
    return others


def check_written(schema: pa.Schema, columns: Sequence[str]) -> None:
    """Refuse columns to keep that are of a type of Arrow's own, which Parquet does not hold.

    Raises:
        ImageFileError: naming one.
    """
    kept = [schema.field(name) for name in columns]
    if _is_written(kept):
        return
    for field in kept:
        if not _is_written([field]):
            raise ImageFileError(
                f"the column {field.name!r} is {field.type}, which Parquet does not hold: leave it out with "
                f"{param('keep')}"
            )


def _is_written(fields: Sequence[pa.Field]) -> bool:
    """Whether Parquet holds columns of these types."""
    if any(pa.types.is_dictionary(field.type) and field.type.value_type.num_fields for field in fields):
        return False
    try:
        pq.write_table(pa.Table.from_batches([], pa.schema(fields)), pa.BufferOutputStream())
    except pa.ArrowException:
        return False
    return True


def _refuse_clash(
    kept: Mapping[str, str], of_folders: Mapping[str, str], added: pa.Schema, options: OutputOptions
) -> None:
    """Refuse columns, by their names without case, that are named as knnvote's own.

    Readers take what the names of folders say before what is in a file.
    """
    names = {name.casefold() for name in added.names}
    taken, of_folder = (sorted(columns.keys() & names) for columns in (kept, of_folders))
    prefix = _free_prefix({*kept, *of_folders}, added, options)
    otherwise = f"pass {param('prefix')} {prefix} to name knnvote's columns otherwise"
    if of_folder:
        raise ImageFileError(
            f"the name of its folder stands for a column {of_folders[of_folder[0]]!r} already, "
            f"which readers take before the output's own: {otherwise}"
        )
    if taken:
        raise ImageFileError(
            f"the input has a column {kept[taken[0]]!r} already: {otherwise}, or leave it out with {param('keep')}"
        )


def _free_prefix(kept: Container[str], added: pa.Schema, options: OutputOptions) -> str:
    """A prefix with which no column that is added has the name of one that is kept."""
    names = [name.removeprefix(options.prefix).casefold() for name in added.names]
    prefixes = ("knn_" * times for times in itertools.count(1))
    return next(prefix for prefix in prefixes if not any(prefix + name in kept for name in names))


def tell_of_shares(added: pa.Schema) -> None:
    """Tell of classes so many that no reader likes them as fields, or whose names some readers take for one."""
    for field in added:
        if field.type.num_fields > _MANY_CLASSES:
            warn(
                f"the column {field.name!r} has a field for each of {field.type.num_fields:,} classes, which makes "
                f"files large and readers slow: {param('top')} 5 in place of {param('probabilities')} tells the best "
                "five and their shares"
            )
        names: dict[str, str] = {}
        for name in field.type.names if pa.types.is_struct(field.type) else ():
            if (other := names.setdefault(name.casefold(), name)) != name:
                warn(
                    f"classes {other!r} and {name!r} of the column {field.name!r} differ in case alone: Spark reads it "
                    "where spark.sql.caseSensitive is true, and DuckDB names one otherwise"
                )
                break


def with_source(arrays: Iterable[list[pa.Array]], file: str, place: int, first: int) -> Iterator[list[pa.Array]]:
    """Columns of some rows at a time with the file and row of each, from the first on, put in at a place."""
    for columns in arrays:
        n = len(columns[-1])
        source = [pa.repeat(file, n), pa.array(np.arange(first, first + n))]
        yield [*columns[:place], *source, *columns[place:]]
        first += n


def rows_in_group(kept_rows: int, options: OutputOptions, *, k: int, classes: int) -> int:
    """How many rows a row group has: ROW_GROUP, or fewer where what is kept or added is large.

    Args:
        kept_rows: as many rows of the kept columns as may be held.
        options: what the output holds.
        k: neighbours of a row.
        classes: of the index.
    """
    row_bytes = options.neighbors * k * _VOTER_BYTES + options.probabilities * classes * 8
    row_bytes += min(options.top or 0, k) * _TOP_BYTES
    return max(1, min(kept_rows, ROW_GROUP, _GROUP_BYTES // max(1, row_bytes)))


def row_groups(tables: Iterable[pa.Table], schema: pa.Schema, rows: int = ROW_GROUP) -> Iterator[pa.Table]:
    """The same rows in tables of so many, still in pieces."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= rows:
            joined = pa.concat_tables(held)
            full = len(joined) - len(joined) % rows
            for start in range(0, full, rows):
                yield joined.slice(start, rows)
            held = [joined.slice(full)]
    rest = pa.concat_tables(held) if held else pa.Table.from_batches([], schema)
    if len(rest):
        yield rest


def in_one_piece(table: pa.Table) -> pa.Table:
    """The same rows with each column in one piece, so that batches leave no trace in the file's bytes.

    Raises:
        ImageFileError: those of a column cannot be joined.
    """
    try:
        return table.combine_chunks()
    except (pa.ArrowException, MemoryError) as error:
        for name in table.column_names:
            try:
                table.select([name]).combine_chunks()
            except (pa.ArrowException, MemoryError):
                raise ImageFileError(
                    f"rows of the column {name!r} cannot be joined: {describe_error(error)}; "
                    f"leave it out with {param('keep')}"
                ) from error
        raise


_LABEL = pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_boolean
_TYPES: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "prediction": _LABEL,
    "confidence": (pa.types.is_floating,),
    "distance": (pa.types.is_floating,),
    "best": _LABEL,
    "second": _LABEL,
    "margin": (pa.types.is_floating,),
    "status": (pa.types.is_string,),
    "reason": (pa.types.is_string,),
}


def read_answers(output: Location, prefix: str, *names: str, kept: str | None = None) -> Iterator[list[pa.Array]]:
    """Columns that knnvote added to an output file, batch by batch, and last the one of its input named as `kept`.

    Raises:
        KnnvoteError: they cannot be read.
    """
    columns = [*(prefix + name for name in names), *([] if kept is None else [kept])]
    try:
        with output.open() as stream:
            for batch in pq.ParquetFile(stream, pre_buffer=False).iter_batches(columns=columns):
                answers = [batch[name] for name in columns]
                for name, answer in zip(names, answers, strict=False):
                    if not any(is_type(answer.type) for is_type in _TYPES[name]):
                        raise pa.ArrowTypeError(
                            f"its column {prefix + name} is of type {answer.type}, as no job writes it"
                        )
                for answer in answers:
                    answer.validate(full=True)  # text may be no UTF-8
                yield answers
    except (pa.ArrowException, OSError, KeyError) as error:
        raise KnnvoteError(f"cannot read {output}: {describe_error(error)}; run knnvote verify on its job") from error


def in_step(
    one: Iterator[list[pa.Array]], other: Iterator[list[pa.Array]], names: tuple[Location, Location]
) -> Iterator[tuple[list[pa.Array], list[pa.Array]]]:
    """Columns of two files of as many rows, which come in batches of other sizes, in batches of the same.

    Raises:
        KnnvoteError: one has more rows than the other.
    """
    held: list[list[pa.Array]] = [[], []]
    sources = (one, other)
    while True:
        for place, source in enumerate(sources):
            if not held[place] or not len(held[place][0]):
                held[place] = next(source, [])
        if not all(held):
            if any(held):
                raise KnnvoteError(
                    f"{names[0]} and {names[1]} do not hold as many rows: knnvote verify says what is not whole; "
                    "remove that and run the job again"
                )
            return
        n = min(len(columns[0]) for columns in held)
        yield tuple([column[:n] for column in columns] for columns in held)  # type: ignore[misc]  # two
        held = [[column[n:] for column in columns] for columns in held]


def count_values(values: pa.Array) -> dict[Any, int]:
    """How often each value stands in an array."""
    return {pair["values"]: pair["counts"] for pair in values.value_counts().to_pylist()}
