"""Labelled images as they are read: vectors and where each came from, gathered slice by slice."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.vectors import CommonType
from knnvote.indexer.manifest import Source

from .provenance import alike_ids, distinct_ids, with_files
from .work import Growing, Work, slices_of

_READING = "reading"  # the fact that says how far it came


@dataclass(kw_only=True)
class FilePart:
    """What one file gave, or an index that files are added to.

    Attributes:
        name: as users know it.
        shape: of one image.
        image_column: where it holds its images; None where it is no file.
        label_column: where it holds the labels.
        label_type: of the labels; None before the first.
        has_ids: its rows are known by a column of their own.
        n: its vectors.
        skipped: rows left out as bad.
        common: type of its own vectors.
    """

    name: str
    shape: tuple[int, ...]
    image_column: str | None
    label_column: str | None
    label_type: pa.DataType | None = None
    has_ids: bool = False
    n: int = 0
    skipped: int = 0
    common: CommonType = field(default_factory=CommonType)

    def to_json(self) -> dict[str, Any]:
        """As a fact of the work."""
        common = {"names": sorted(self.common.names), "fit_int8": self.common.fit_int8}
        label_type = None if self.label_type is None else str(self.label_type)
        return {**vars(self), "shape": list(self.shape), "label_type": label_type, "common": common}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "FilePart":
        """What `to_json` gave."""
        common = CommonType(set(record["common"]["names"]), record["common"]["fit_int8"])
        label_type = None if record["label_type"] is None else pa.type_for_alias(record["label_type"])
        return cls(**{**record, "shape": tuple(record["shape"]), "label_type": label_type, "common": common})


class Gathered:
    """Rows of files in their order, and how far the reading came.

    Attributes:
        parts: what each file gave that has rows.
        sources: each file that was read to its end.
        names: of the classes, as far as files gave any.
        files: that were read to their end.
        rows: that were read of the next one.
    """

    def __init__(self, work: Work) -> None:
        """Go on from what was kept."""
        kept = work.facts.get(_READING, {})
        self._work = work
        self.parts = [FilePart.from_json(part) for part in kept.get("parts", [])]
        self.sources = [Source(**source) for source in kept.get("sources", [])]
        self.names: list[str] | None = kept.get("names")
        self.files: int = kept.get("files", 0)
        self.rows: int = kept.get("rows", 0)
        self._common = CommonType(set(kept.get("types", [])), kept.get("fit_int8", True))
        self._before: NDArray[Any] | None = None
        self._blocks: list[NDArray[Any]] = []
        self._tables: list[pa.Table] = []
        self._slices: int = kept.get("slices", 0)
        self._vectors = None if not kept else self._growing(np.dtype(kept["dtype"]), kept["d"])

    def begin(self, part: FilePart, vectors: NDArray[Any], table: pa.Table) -> None:
        """Begin with what an index holds, whose vectors (n, d) stay there: their type alone counts.

        Args:
            part: that it is.
            vectors: of it.
            table: columns label, id, file, row.
        """
        self.parts.append(part)
        part.common.add(vectors)
        self._common.add(vectors)
        part.n, part.label_type = len(vectors), table.schema.field("label").type
        self._before = vectors
        self._tables.append(table)

    def add(self, vectors: NDArray[Any], table: pa.Table, *, rows: int = 0, skipped: int = 0) -> None:
        """Take vectors (m, d) and provenance (m rows) of the last part, and keep them if there is a slice of them.

        Args:
            vectors: in the type that they need.
            table: columns label, id, file, row.
            rows: of the file that they are what is good of.
            skipped: of these that are told of as left out.

        Raises:
            KnnvoteError: they cannot be written.
        """
        part = self.parts[-1]
        part.common.add(vectors)
        self._common.add(vectors)
        part.n += len(vectors)
        part.skipped += skipped
        part.label_type = part.label_type or table.schema.field("label").type
        self.rows += rows
        self._blocks.append(vectors)
        self._tables.append(table)
        held = sum(block.nbytes for block in self._blocks) + sum(table.nbytes for table in self._tables)
        if self._work.is_full(sum(map(len, self._blocks)), held):
            self._keep()

    def end_file(self, source: Source) -> None:
        """Say that a file was read to its end."""
        self.sources.append(source)
        self.files, self.rows = self.files + 1, 0

    def finish(self, *, are_ids_named: bool, first: int) -> tuple[NDArray[Any], pa.Table]:
        """Vectors (m, d) but those it began with, in a type that holds all without loss; provenance of all.

        They are mapped where they are kept.

        Args:
            are_ids_named: they are of a column that was named, and stay as they are; others are distinct.
            first: row from which on they are.

        Raises:
            KnnvoteError: the last slice cannot be written.
        """
        if self._work.is_kept:
            self._keep()
        if self._vectors is not None:
            has_ids = not are_ids_named and any(part.has_ids for part in self.parts)
            tables = self._distinct_tables() if has_ids else self._kept_tables()
            return self._vectors.array(), pa.concat_tables(tables, promote_options="permissive")
        vectors = np.concatenate(self._blocks, dtype=self._common.dtype)
        table = pa.concat_tables(self._tables, promote_options="permissive").combine_chunks()
        self._blocks, self._tables = [], []
        return vectors, table if are_ids_named else distinct_ids(table, first)

    def by_file(self, vectors: NDArray[Any]) -> dict[str, tuple[NDArray[Any], np.dtype[Any]]]:
        """Of vectors (m, d), which `finish` gave, those of each file, and the type that they alone need."""
        found, files = {}, self.parts
        if self._before is not None:
            first, *files = files
            found[first.name] = (self._before, first.common.dtype)
        for part, end in zip(files, np.cumsum([part.n for part in files]).tolist(), strict=True):
            found[part.name] = (vectors[end - part.n : end], part.common.dtype)
        return found

    def _growing(self, dtype: np.dtype[Any], d: int) -> Growing:
        return self._work.growing(f"vectors.{dtype.name}", dtype, (d,))

    def _keep(self) -> None:
        vectors = self._vectors
        if self._blocks:
            dtype, d = self._common.dtype, self._blocks[0].shape[1]
            if vectors is None or vectors.dtype != dtype:
                vectors = self._widened(vectors, self._growing(dtype, d))
            for block in self._blocks:
                vectors.append(block)
            table = pa.concat_tables(self._tables, promote_options="permissive").combine_chunks()
            self._work.write_table(_slice(self._slices), table)
            self._slices += 1
            self._vectors, self._blocks, self._tables = vectors, [], []
        facts = None if vectors is None else self._facts(vectors)
        if facts != self._work.facts.get(_READING):
            self._work.keep(**{_READING: facts})

    def _widened(self, before: Growing | None, after: Growing) -> Growing:
        """Vectors that were kept, if any, in the type that they need beside later ones, slice by slice."""
        if before is not None:
            for rows in slices_of(before.array()):
                after.append(rows)
                after.write()
            self._work.drop(f"vectors.{before.dtype.name}")
        return after

    def _facts(self, vectors: Growing) -> dict[str, Any]:
        return {
            "files": self.files,
            "rows": self.rows,
            "parts": [part.to_json() for part in self.parts],
            "sources": [source.to_json() for source in self.sources],
            "names": self.names,
            "slices": self._slices,
            "types": sorted(self._common.names),
            "fit_int8": self._common.fit_int8,
            "dtype": vectors.dtype.name,
            "d": vectors.width[0],
        }

    def _kept_tables(self) -> Iterator[pa.Table]:
        return (self._work.read_table(_slice(place)) for place in range(self._slices))

    def _distinct_tables(self) -> Iterator[pa.Table]:
        """The provenance slice by slice, with distinct ids: in files of their own where some were alike."""
        alike = alike_ids([table["id"] for table in self._kept_tables()])
        for place, table in enumerate(self._kept_tables()):
            name = f"distinct-{_slice(place)}"
            if len(alike):
                self._work.write_table(name, with_files(table, alike))
            yield self._work.read_table(name) if len(alike) else table


def _slice(place: int) -> str:
    return f"rows-{place}.arrow"
