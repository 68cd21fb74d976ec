"""Writing an index folder: in generations, committed by its manifest.

A folder holds ``manifest.json`` and the files it names, each with the generation in its name. Replacing the manifest
is the one step that commits; what an interrupted writer left is removed by the next.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import atomic_write, make_folder, sync
from knnvote.data.locations import describe_os_error, hash_stream
from knnvote.data.progress import stage
from knnvote.indexer.building.work import Work, slices_of
from knnvote.indexer.faiss_index import holds, write_faiss
from knnvote.indexer.fields import wrong_fields
from knnvote.indexer.index import Index, Timing
from knnvote.indexer.leftovers import WORK
from knnvote.indexer.manifest import FORMAT, MANIFEST, Manifest, StoredFile, read_manifest
from knnvote.indexer.sealed import seal, write_sealed

from .generations import next_generation, remove_leftovers, remove_others, timing_name
from .known import describe_files, remember

_ROW_GROUP = 1 << 20  # rows of the labels' file


def write_folder(folder: Path, index: Index, timing: Timing, work: Work | None = None) -> None:
    """Write an index as a new generation of the folder, and commit it.

    Args:
        folder: made if need be; its lock the caller holds.
        index: in memory, or in files of its work.
        timing: of its build. Seconds are kept apart, because the same input gives the same bytes of all the rest.
        work: of its build, whose files become the index's where they are what that needs.

    Raises:
        KnnvoteError: it cannot be written; what the folder held before is untouched.
    """
    with new_generation(folder) as generation, stage("writing"):
        _write_generation(folder, generation, index, timing, work or Work())


@contextmanager
def new_generation(folder: Path) -> Iterator[int]:
    """A generation of a folder, whose files are written within and committed by `commit`; else they are removed again.

    Raises:
        KnnvoteError: they cannot be written; what the folder held before is untouched.
    """
    try:
        make_folder(folder)
        try:
            yield next_generation(folder)
        except BaseException:
            remove_leftovers(folder)
            raise
        remember(folder, describe_files(folder, read_manifest(folder)))
    except OSError as error:
        raise KnnvoteError(f"cannot write {folder}: {describe_os_error(error)}") from error


def _write_generation(folder: Path, generation: int, index: Index, timing: Timing, work: Work) -> None:
    files: dict[str, Path] = {}
    if index.inverted_file is None and index.faiss_index is not None:
        files["index"] = folder / f"index-{generation}.faiss"
        write_faiss(index.faiss_index, files["index"])
        sync(files["index"])
    if index.inverted_file is None and not holds(index.faiss_index, index.vectors):
        files["vectors"] = folder / f"vectors-{generation}.npy"
        _write_array(files["vectors"], index.vectors)
    if index.inverted_file is not None:
        files["vectors"] = folder / f"vectors-{generation}.raw"
        if not work.give(index.vectors, files["vectors"]):
            _write_raw(files["vectors"], index.vectors)
        for role, array in index.inverted_file.to_arrays().items():
            files[role] = folder / f"{role}-{generation}.npy"
            if not work.give(array, files[role]):
                _write_array(files[role], array)
    files["labels"] = write_labels(folder, generation, index.provenance(*index.columns))
    stored = {role: describe_file(path) for role, path in files.items()}
    commit(folder, replace(index.manifest, generation=generation, files=stored), timing)


def write_labels(folder: Path, generation: int, rows: pa.Table) -> Path:
    """Write the label, id, file and row of each vector, and its weight if it has one; the file."""
    path = folder / f"labels-{generation}.parquet"
    with atomic_write(path) as stream:
        _write_rows(rows, stream)
    return path


def commit(folder: Path, manifest: Manifest, timing: Timing) -> None:
    """Commit a generation whose files are written: its manifest takes the older one's place, whose files then go.

    Raises:
        KnnvoteError: it could not be read back; nothing is committed.
    """
    timing_file = folder / timing_name(manifest.generation)
    write_sealed(timing_file, timing.to_json())
    factory = "" if "codes" in manifest.files else manifest.factory  # an older folder has one beside codes
    record = replace(manifest, factory=factory, format=FORMAT).to_json()
    if wrong := wrong_fields(json.loads(seal(record))):  # what could not be read back must not take the old one's place
        raise KnnvoteError(f"cannot write {folder}: its manifest would have unusable {', '.join(wrong)}")
    write_sealed(folder / MANIFEST, record)
    remove_others(folder, {*(file.name for file in manifest.files.values()), timing_file.name})
    shutil.rmtree(folder / WORK, ignore_errors=True)  # of this build, or of an unfinished one before it


def bytes_to_write(index: Index) -> int:
    """Bytes of the files that hold an index in memory, but its manifest; nothing is written."""
    if index.inverted_file is not None:
        size = index.vectors.nbytes + sum(array.nbytes for array in index.inverted_file.to_arrays().values())
    else:
        size = 0 if index.faiss_index is None else int(faiss.serialize_index(index.faiss_index).nbytes)
        size += 0 if holds(index.faiss_index, index.vectors) else index.vectors.nbytes
    labels = pa.BufferOutputStream()
    _write_rows(index.provenance(*index.columns), labels)
    return size + int(labels.tell())


def _write_rows(rows: pa.Table, sink: Any) -> None:
    """A table in row groups, each in memory by itself."""
    with pq.ParquetWriter(sink, rows.schema, compression="zstd") as writer:
        for start in range(0, len(rows), _ROW_GROUP):
            writer.write_table(rows.slice(start, _ROW_GROUP).combine_chunks(), row_group_size=_ROW_GROUP)


def _write_array(path: Path, array: NDArray[Any]) -> None:
    with atomic_write(path) as stream:
        np.save(stream, array, allow_pickle=False)


def _write_raw(path: Path, vectors: NDArray[Any]) -> None:
    """Vectors (n, d) row after row, and nothing else."""
    with atomic_write(path) as stream:
        for rows in slices_of(vectors):
            stream.write(np.ascontiguousarray(rows).data)


def describe_file(path: Path) -> StoredFile:
    """What the manifest says of a file."""
    with path.open("rb") as stream:
        return StoredFile(path.name, path.stat().st_size, hash_stream(stream))
