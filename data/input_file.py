"""One input, a file or a folder of images: described, opened as rows, and watched while it is read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from pyarrow import fs as pafs

from .containers.arrays import ArrayRows
from .containers.arrow import ArrowRows
from .containers.converted import ConvertedRows
from .containers.images import IMAGE_ENDINGS, ImageRows
from .containers.joined import FolderLabelRows, rows_with_labels
from .containers.label_table import Labels
from .containers.parquet import ParquetRows
from .containers.tar import TAR_ENDINGS, TarRows
from .errors import ImageFileError, KnnvoteError
from .folders.endings import ARROW_ENDINGS, NUMPY_ENDINGS, is_array, is_text
from .folders.globs import is_glob
from .folders.splits import is_split
from .locations import locate
from .rows import RowFile, RowSource

_AND = "\n"  # between the addresses of images and of their labels
# By the ending of a file's name, whatever its case.
CONTAINERS: dict[str, type[RowFile]] = {
    ".parquet": ParquetRows,
    **dict.fromkeys(ARROW_ENDINGS, ArrowRows),
    **dict.fromkeys(NUMPY_ENDINGS, ArrayRows),
    **dict.fromkeys(TAR_ENDINGS, TarRows),
    **dict.fromkeys(IMAGE_ENDINGS, ImageRows),
}


@dataclass(frozen=True)
class InputFile(RowSource):
    """One input: a file, or a folder whose image files are its rows.

    Attributes:
        relative: the path of what is made of it, relative to the argument that named it, with forward slashes.
        size: bytes, when it was found.
        root: the place of the folder that was named, if one was.
        found_by: the folder or glob that was named, if it was not the file itself.
        labels: of its rows, in a file of their own.
        container: how it holds rows; without it, as its name tells, else as Parquet.
    """

    relative: str
    size: int
    root: str | None = None
    found_by: str | None = None
    labels: Labels | None = field(default=None, kw_only=True)
    container: type[RowFile] | None = field(default=None, kw_only=True)

    @classmethod
    def again(cls, address: str, relative: str) -> "InputFile | None":
        """What was found before, by its address, if it is still there."""
        address, _, beside = address.partition(_AND)
        location, only = locate(address), None
        if location.info().type == pafs.FileType.NotFound and is_glob(PurePosixPath(location.path).name):
            only = PurePosixPath(location.path).name
            location = location.above
        kind = location.info().type
        if kind == pafs.FileType.NotFound or (only is not None and kind != pafs.FileType.Directory):
            return None
        return cls(
            location.filesystem,
            location.path,
            location.shown,
            relative,
            0,
            inner=_inner_of(relative, location.path),
            only=only,
            beside=locate(beside) if beside else None,
            container=ImageRows if kind == pafs.FileType.Directory else None,
        )

    @property
    def place(self) -> str:
        """As `Location.place`; what is meant of a folder is a place of its own."""
        return super().place if self.only is None else f"{super().place}/{self.only}"

    @property
    def address(self) -> str:
        """As `Location.address`, by which `again` finds it."""
        if self.beside is not None:
            return f"{super().address}{_AND}{self.beside.address}"
        return super().address if self.only is None or self.is_local else f"{super().address}/{quote(self.only)}"

    @property
    def without_classes(self) -> str:
        """`relative` less the names that tell labels, of which one may be a split's: what is left may tell a split."""
        *above, last = PurePosixPath(self.relative).parts
        if self.is_image_folder and self.told and is_split(PurePosixPath(self.inner).name):
            last = ""
        keys = tuple(f"{name}=" for name, _ in self.told)
        return "/".join(part for part in (*above, last) if not part.startswith(keys))

    @property
    def base(self) -> str:
        """What `inner` is relative to, with the slash between them if there is one."""
        return self.shown.removesuffix(self.inner)

    def describe(self) -> dict[str, Any]:
        """What tells this content from any other: relative path, size, and SHA-256 or the tag that its store gives it.

        Raises:
            ImageFileError: it cannot be read.
        """
        with self.errors_told():
            return {"path": self.relative, **self._container.mark(self)}

    @contextmanager
    def open_rows(self) -> Iterator[RowFile]:
        """Open as the container that its name tells, else as Parquet, and see that it stays as it is while it is read.

        Raises:
            ImageFileError: it is not of this container, or does not stay.
        """
        with self.steady(), self._container.open(self) as rows:
            if self.labels is not None:
                yield rows_with_labels(rows, self.labels, self.relative)
            elif self.told and not {name for name, _ in self.told} & {*rows.schema.names}:
                yield FolderLabelRows(rows.source, rows, *self.told[0])
            else:
                yield rows

    def count_rows(self) -> int:
        """Rows that it says it holds; 0 for a file that cannot be read, which is told when its turn comes."""
        try:
            with self._container.open(self) as rows:
                return rows.num_rows
        except KnnvoteError:
            return 0

    def places_of(self, numbers: Sequence[int]) -> list[tuple[str, int]]:
        """The file that each of some rows is in, as users know it, and the row there.

        Raises:
            ImageFileError: it cannot be read.
        """
        if not self.is_image_folder:
            return [(self.shown, number) for number in numbers]
        with self._container.open(self) as rows:
            return [rows.place(number) for number in numbers]

    @property
    def has_ranges(self) -> bool:
        """Its rows are counted, and some of them read, without reading all the others."""
        return self._container.has_ranges(self)

    @property
    def is_converted(self) -> bool:
        """It is read to its end before any row of it is known."""
        return self._container is ConvertedRows

    @property
    def is_numbered(self) -> bool:
        """Its rows have no columns but images and labels, and so are known by their numbers alone."""
        return self._container is ArrayRows

    @property
    def joined_label(self) -> str | None:
        """The column of labels that a file of their own puts beside its rows."""
        return None if self.labels is None else self.labels.label_column

    @property
    def names_rows(self) -> bool:
        """Ids of its rows begin with, or are, `inner`."""
        return self._container in {ImageRows, TarRows}

    @property
    def is_image_folder(self) -> bool:
        """It is a folder whose image files are its rows."""
        return self.container is ImageRows

    @property
    def _container(self) -> type[RowFile]:
        if self.container is not None:
            return self.container
        name = self.path.lower()
        other = ArrayRows if is_array(name) else ConvertedRows if is_text(name) else ParquetRows
        return next((found for ending, found in CONTAINERS.items() if name.endswith(ending)), other)

    @contextmanager
    def content_told(self) -> Iterator[None]:
        """Tell what is wrong with its content as said of this file."""
        try:
            yield
        except ImageFileError as error:
            raise ImageFileError(f"{self.shown}: {error.marked}") from error

    @contextmanager
    def steady(self) -> Iterator[None]:
        """See that it stays as it is while it is read.

        Raises:
            ImageFileError: it does not.
        """
        before = self.state()
        try:
            yield
        except ImageFileError as error:
            self._check_unchanged(before, error)
            raise
        self._check_unchanged(before, None)

    def _check_unchanged(self, before: tuple[object, ...], cause: Exception | None) -> None:
        if self.state() != before:
            raise ImageFileError(
                f"{self.shown} changed while it was read: run the same command again when nothing writes to it"
            ) from cause

    def state(self) -> tuple[object, ...]:
        """What no change of the content leaves as it is.

        Raises:
            ImageFileError: it cannot be read.
        """
        with self.errors_told():
            return self._container.state(self)

    @contextmanager
    def errors_told(self, verb: str = "read") -> Iterator[None]:
        """Tell an error of the file system as one of this file alone."""
        try:
            with super().errors_told(verb):
                yield
        except ImageFileError:
            raise
        except KnnvoteError as error:
            raise ImageFileError(error.marked) from error


def _inner_of(relative: str, path: str) -> str:
    """What `InputFile.inner` is of what something is made of, whose path relative to the argument is known."""
    ending = PurePosixPath(path).suffix
    return relative.removesuffix(".parquet") + ending if ending.lower() in TAR_ENDINGS else relative


def tell_unused_labels(inputs: Sequence[InputFile]) -> None:
    """Tell of labels in tables of which the rows, once they were read, have none."""
    for table in dict.fromkeys(source.labels for source in inputs):
        if table is not None:
            table.tell_unused()
