"""Files of images, open: recognised by their first rows, then read and decoded a few rows at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .columns import check_text
from .containers.images import FILE, IMAGE
from .convert.texts import lists_in_text
from .errors import ImageFileError, OptionError, check, is_whole, param
from .folders.globs import is_glob
from .input_file import InputFile
from .inputs import labels_among_told
from .layout import Layout, Shape, is_picture
from .layouts.encoded import is_image_struct, refuse_paths
from .layouts.sizes import invert_command, resize_command, sizes_told
from .progress import log
from .rows import RowFile
from .steps.picture import INVERT
from .vectors import Numbers, Reasons

_NAMES = 1 << 16  # of files, at a time
_BUDGET = 1 << 24  # pixels of a batch: as float64, the widest form they pass through, 128 MiB


@dataclass(frozen=True, kw_only=True)
class DecodedRows:
    """Rows of a table, their images decoded once.

    Attributes:
        numbers: (n,) their numbers in the file, or in the table, from 0.
        table: (n rows) the columns that were read.
        pixels: (n, pixels of an image) in the source's own type, zeros where the image is bad.
        bad: why an image cannot be used, by its place among these rows.
        shape: of one image.
    """

    numbers: NDArray[np.int64]
    table: pa.RecordBatch | pa.Table
    pixels: Numbers
    bad: Reasons
    shape: Shape

    def picture(self, place: int) -> Numbers | None:
        """The image (height, width), or (height, width, 3), at a place among these rows; None of what is no picture."""
        return self.pixels[place].reshape(self.shape) if place not in self.bad and is_picture(self.shape) else None


def decode_rows(
    table: pa.RecordBatch | pa.Table, layout: Layout, numbers: NDArray[np.int64] | None = None
) -> DecodedRows:
    """Decode the images that a table holds in a known layout; without numbers its rows count from 0."""
    pixels, bad = layout.decode(table)
    numbers = np.arange(len(pixels)) if numbers is None else numbers
    return DecodedRows(numbers=numbers, table=table, pixels=pixels, bad=bad, shape=layout.shape)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some of the rows of several files: the first ones of all, or some of all, drawn at random.

    Attributes:
        limit: so many rows at most, the first of all files together.
        sample: so many rows at most, in the order in which the files have them.
        seed: of the drawing.

    Raises:
        OptionError: both are given, or one is less than 1.
    """

    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what was given."""
        for name, value in (("limit", self.limit), ("sample", self.sample)):
            check(name, value, value is None or (is_whole(value) and value > 0), "give a number of rows, 1 at least")
        if self.limit is not None and self.sample is not None:
            raise OptionError(f"{param('limit')} and {param('sample')} both say how many rows to take: give one")

    def of(self, sources: Sequence[InputFile]) -> list[NDArray[np.int64]] | None:
        """The rows of each file, ascending; None where they are all there are."""
        asked = self.limit or self.sample
        sizes = [source.count_rows() for source in sources] if asked else []
        rows = sum(sizes)
        if asked is None or asked >= rows:
            return None
        chosen = np.arange(asked)
        if self.sample is not None:
            chosen = np.sort(np.random.default_rng(self.seed).choice(rows, asked, replace=False))
        ends = np.cumsum(sizes)
        pieces = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
        return [piece - (end - size) for piece, end, size in zip(pieces, ends, sizes, strict=True)]


def files_with_rows(
    inputs: Sequence[InputFile], chosen: Sequence[NDArray[np.int64]] | None
) -> Iterator[tuple[InputFile, NDArray[np.int64] | None]]:
    """Each file with the rows of it that are taken, None for all; a file of which none are is left out."""
    if chosen is None:
        yield from ((source, None) for source in inputs)
    else:
        yield from ((source, rows) for source, rows in zip(inputs, chosen, strict=True) if len(rows))


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """A file of images, open.

    Attributes:
        source: the file.
        rows: what it holds.
        schema: of all its columns.
        layout: of its images.
    """

    source: InputFile
    rows: RowFile
    schema: pa.Schema
    layout: Layout

    @classmethod
    def recognised(cls, source: InputFile, rows: RowFile, recognise: Callable[[pa.Table], Layout]) -> "ImageFile":
        """An open file of rows as one of images; as `open_images`."""
        head = rows.telling_head()
        with source.content_told(), told_of_rows(source, head):
            try:
                layout = recognise(head)
            except ImageFileError:
                structs = [field.name for field in head.schema if is_image_struct(field.type)]
                if len(structs) == 1:
                    refuse_paths(head, structs, source.shown)
                raise
            refuse_paths(head, layout.columns, source.shown)
        log.info("%s: %s rows, %s", source.shown, f"{rows.num_rows:,}", layout.describe())
        return cls(source=source, rows=rows, schema=head.schema, layout=layout)

    def how_to_mend(self, reason: str) -> str:
        """What mends all in the folder of one that is bad for its size, or that is dark on light; else nothing."""
        folder, shape = _folder_of(self.source), self.layout.shape
        is_inverse = reason.endswith(INVERT)
        if folder is None or not (is_inverse or (len(shape) == 2 and reason.startswith("image is "))):
            return ""
        names = [name for batch in self.rows.batches([FILE], _NAMES) for name in batch[FILE].to_pylist()]
        if is_inverse:
            return f", as {invert_command(folder, names)} does of all, in the folder inverted"
        command = resize_command(folder, names, shape, grey=self.layout.grayscale)
        return f", as {command} does of all, in the folder resized"

    @property
    def no_labels(self) -> tuple[str, ...]:
        """The columns that hold the images, and by which rows are known."""
        own = self.rows.id_column
        return self.layout.columns if own is None else (*self.layout.columns, own)

    @property
    def num_rows(self) -> int:
        """Rows that the file says it holds."""
        return self.rows.num_rows

    def read(self, columns: Sequence[str] = (), *, batch_size: int, span: range | None = None) -> Iterator[DecodedRows]:
        """Rows in order: their images, and some other columns.

        Args:
            columns: that are read too; each once, however often it is named.
            batch_size: rows at a time, at most; fewer where they are large.
            span: the rows that are read; None for all.

        Raises:
            ImageFileError: rows cannot be read, or are not all there.
        """
        wanted, first = list(dict.fromkeys([*self.layout.columns, *columns])), span.start if span else 0
        for batch in self.rows.batches(wanted, rows_within_budget(self.layout.d, batch_size), span):
            yield decode_rows(batch, self.layout, np.arange(first, first + batch.num_rows))
            first += batch.num_rows

    def column(self, rows: DecodedRows, name: str) -> pa.Array | pa.ChunkedArray:
        """(n,) one of the columns that were read with some rows.

        Raises:
            ImageFileError: it holds text that is none.
        """
        column = rows.table.column(name)
        with self.source.content_told():
            check_text(column, name)
        return column

    def take(self, wanted: NDArray[np.int64], columns: Sequence[str] = (), *, batch_size: int) -> Iterator[DecodedRows]:
        """The images of some rows, and some other columns.

        Args:
            wanted: (m,) rows from 0, ascending; batches behind the last are not read.
            columns: that are read too; each once, however often it is named.
            batch_size: rows read at a time, at most; fewer where they are large.

        Raises:
            ImageFileError: rows cannot be read.
        """
        names, size = (
            list(dict.fromkeys([*self.layout.columns, *columns])),
            rows_within_budget(self.layout.d, batch_size),
        )
        for numbers, table in self.rows.take(wanted, names, size):
            yield decode_rows(table, self.layout, numbers)


def _folder_of(source: InputFile) -> str | None:
    """The folder that was named and gave a folder of images, or that itself; None of what is none of this machine."""
    if not source.is_image_folder or not source.is_local:
        return None
    named = source.found_by
    return source.shown if named is None or is_glob(named) else named


@contextmanager
def told_of_rows(source: InputFile, head: pa.Table) -> Iterator[None]:
    """Where images cannot be recognised, tell also that they are of several sizes, or vectors as text: all at once.

    Args:
        source: a file.
        head: its first rows.
    """
    try:
        yield
    except ImageFileError as error:
        if source.names_rows:
            names = head[FILE].to_pylist() if FILE in head.schema.names else []
            told = sizes_told(head[IMAGE].to_pylist(), names, _folder_of(source))
        else:
            told = None if source.is_converted else lists_in_text(head, source.shown)
        if told is None:
            raise
        raise ImageFileError(f"{error.marked}; {told}") from error


@contextmanager
def open_images(source: InputFile, recognise: Callable[[pa.Table], Layout]) -> Iterator[ImageFile]:
    """Open a file of images, and see that it stays as it is while it is read.

    Args:
        source: the file.
        recognise: tells the layout from the first rows, a table of 64 at most with all columns.

    Raises:
        ImageFileError: it cannot be read or does not stay, or what `recognise` says of it, told with its name.
    """
    with source.open_rows() as rows:
        yield ImageFile.recognised(source, rows, recognise)


@contextmanager
def open_one_of(
    inputs: Sequence[InputFile], source: InputFile, recognise: Callable[[pa.Table], Layout]
) -> Iterator[ImageFile]:
    """Open one of several files of images, as `open_images`; one of labels of another is told with what takes it.

    Raises:
        ImageFileError: as of `open_images`.
    """
    with ExitStack() as opened:
        with labels_among_told(source, inputs):
            images = opened.enter_context(open_images(source, recognise))
        yield images


def rows_within_budget(d: int, rows: int) -> int:
    """How many images of d pixels to hold at a time: `rows` of them, or fewer where they are large."""
    return max(1, min(rows, _BUDGET // max(1, d)))
