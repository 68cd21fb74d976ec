"""The index folder: written in generations, committed by its manifest, opened with checks, verified byte by byte.

A folder holds ``manifest.json`` and the files it names, each with the generation in its name. Replacing the manifest
is the one step that commits; what an interrupted writer left is removed by the next.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import atomic_write, make_folder, sync
from knnvote.data.locations import Location, describe_os_error, hash_stream, locate
from knnvote.indexer.apart import run_apart
from knnvote.indexer.bounds import Bounds
from knnvote.indexer.faiss_index import base_ivf, held_vectors, holds, read_faiss
from knnvote.indexer.manifest import (
    FORMAT,
    GENERATION_NAME,
    MANIFEST,
    fingerprint,
    folder_bytes,
    is_index_folder,
    last_generation,
    read_manifest,
    read_timing,
    timing_name,
    write_sealed,
)
from knnvote.indexer.names import MetricName
from knnvote.indexer.projection import Projection
from knnvote.indexer.rungs import EXACT, Rung, Tuned, read_rung, read_tuned

from .cache import local_folder
from .known import describe_files, is_known, remember

LOCK = "lock"
PROVENANCE = {"label": "", "id": "string", "file": "string", "row": "int64"}  # columns and types; the label's varies
_TRIAL_ROOM = 8  # bytes that opening a folder may take for each byte of it
_TRIAL_SECONDS = 1e-6  # of one processor that opening it may take for each byte: a hundred times what it does
_LEAST_CANDIDATES = 64
_UNFINISHED_NAME = re.compile(r"\.(manifest|(index|vectors|bounds|labels|timing)-\d+)\.[a-z]+\.\d+\.tmp")


@dataclass(frozen=True, eq=False)
class Index:
    """An opened index folder.

    Attributes:
        path: the folder.
        manifest: everything that is known of it, as in manifest.json.
        faiss_index: the FAISS index, mapped; None for exact search of types that FAISS cannot hold.
        vectors: (n, d) the stored vectors in their own type, mapped.
        labels: (n,) Arrow array of labels in their own type.
        provenance: file of label, id, source file and row of each vector, read when asked; None while it is built.
    """

    path: Path
    manifest: dict[str, Any]
    faiss_index: Any
    vectors: NDArray[np.generic]
    labels: pa.Array
    provenance: Any
    _bounds: NDArray[np.float32] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what it computed from the rest, and with its vectors once."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return _restored, ({**values, "vectors": None} if holds(self.faiss_index, self.vectors) else values,)

    @property
    def n(self) -> int:
        """Stored vectors."""
        return int(self.manifest["n"])

    @property
    def d(self) -> int:
        """Dimensions."""
        return int(self.manifest["d"])

    @property
    def kind(self) -> str:
        """``exact``, ``adaptive``, ``hnsw`` or ``factory``."""
        return str(self.manifest["kind"])

    @property
    def metric(self) -> MetricName:
        """``l2``, ``cosine`` or ``l1``."""
        metric: MetricName = self.manifest["metric"]
        return metric

    @property
    def is_regression(self) -> bool:
        """Labels are numbers to be averaged, not classes."""
        return bool(self.manifest["task"] == "regression")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return tuple(self.manifest["shape"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that can shape an answer; an index built again from the same input has the same."""
        return fingerprint(self.manifest)

    @cached_property
    def ivf(self) -> tuple[Any, Projection]:
        """The inverted file of an index that has one, and the projection that leads to it."""
        return base_ivf(self.faiss_index, self.manifest["search"]["grid"])

    def careful(self, k: int) -> Rung:
        """The rung that searches an adaptive index for k neighbours where no others were tuned.

        Exact search, if tuning found that nothing else does; otherwise the most careful one, with candidates to spare
        however few neighbours are wanted.
        """
        if self.tuned is not None and self.tuned.for_label == (EXACT,):
            return EXACT
        rung = read_rung(self.manifest["search"]["careful"])
        return replace(rung, candidates_per_neighbor=max(rung.candidates_per_neighbor or 1, -(-_LEAST_CANDIDATES // k)))

    def is_exact(self, k: int) -> bool:
        """Whether a plain search finds the k nearest of all stored vectors."""
        return self.kind == "exact" or (self.kind == "adaptive" and self.careful(k) == EXACT)

    @cached_property
    def tuned(self) -> Tuned | None:
        """The rungs of an adaptive index that was tuned."""
        record = self.manifest["search"].get("tuned")
        return None if record is None else read_tuned(record)

    @cached_property
    def bounds(self) -> Bounds | None:
        """Lower bounds of distances, where the index stores them."""
        return None if self._bounds is None else Bounds(self.ivf[1], self._bounds)

    @cached_property
    def classes(self) -> pa.Array:
        """The distinct labels, sorted; empty for regression."""
        return pa.array(self.manifest["classes"], self.labels.type)

    @cached_property
    def class_codes(self) -> NDArray[np.int32]:
        """(n,) each row's place in `classes`."""
        codes = self.labels.dictionary_encode()
        order = {value: place for place, value in enumerate(self.manifest["classes"])}
        places = np.array([order[value.as_py()] for value in codes.dictionary], dtype=np.int32)
        result: NDArray[np.int32] = places[codes.indices.to_numpy(zero_copy_only=False)]
        return result

    @cached_property
    def targets(self) -> NDArray[np.float64]:
        """(n,) labels of a regression as float64."""
        values: NDArray[np.float64] = self.labels.to_numpy(zero_copy_only=False).astype(np.float64)
        return values

    @cached_property
    def ids(self) -> pa.Array:
        """(n,) each row's id, a string."""
        return self.provenance.read(["id"])["id"].combine_chunks()


def _restored(values: dict[str, Any]) -> Index:
    """The index that was pickled as these values of its fields."""
    if values["vectors"] is None:
        values["vectors"] = held_vectors(values["faiss_index"], np.dtype(values["manifest"]["dtype"]))
    return Index(**values)


@dataclass(frozen=True)
class Content:
    """What an index folder is written from.

    Attributes:
        facts: manifest entries that the writer knows: kind, metric, n, d and so on.
        provenance: one row a stored vector, columns label, id, file, row.
        write_index: writes the FAISS index to a path; None where there is none.
        vectors: (n, d) stored in a file of their own; None where the FAISS index holds them without loss.
        timing: seconds by step. They are kept apart, because the same input gives the same bytes of all the rest.
        bounds: (n, p + 2) table of lower bounds; None where there is none.
    """

    facts: dict[str, Any]
    provenance: pa.Table
    write_index: Callable[[Path], None] | None
    vectors: NDArray[np.generic] | None
    timing: dict[str, float]
    bounds: NDArray[np.float32] | None = None


def write_folder(folder: Path, content: Content) -> None:
    """Write a new generation of the folder and commit it.

    Raises:
        KnnvoteError: it cannot be written; what the folder held before is untouched.
    """
    try:
        make_folder(folder)
        try:
            _write_generation(folder, content)
        except BaseException:
            remove_leftovers(folder)
            raise
        remember(folder, describe_files(folder, read_manifest(folder)))
    except OSError as error:
        raise KnnvoteError(f"cannot write {folder}: {describe_os_error(error)}") from error


def _write_generation(folder: Path, content: Content) -> None:
    generation = last_generation(folder) + 1
    files: dict[str, Path] = {}
    if content.write_index is not None:
        files["index"] = folder / f"index-{generation}.faiss"
        content.write_index(files["index"])
        sync(files["index"])
    if content.vectors is not None:
        files["vectors"] = folder / f"vectors-{generation}.npy"
        with atomic_write(files["vectors"]) as stream:
            np.save(stream, content.vectors, allow_pickle=False)
    if content.bounds is not None:
        files["bounds"] = folder / f"bounds-{generation}.npy"
        with atomic_write(files["bounds"]) as stream:
            np.save(stream, content.bounds, allow_pickle=False)
    files["labels"] = folder / f"labels-{generation}.parquet"
    with atomic_write(files["labels"]) as stream:
        pq.write_table(content.provenance, stream, compression="zstd")
    timing = folder / timing_name(generation)
    write_sealed(timing, content.timing)
    manifest = {
        "format": FORMAT,
        "generation": generation,
        **content.facts,
        "files": {role: _describe_file(path) for role, path in files.items()},
    }
    write_sealed(folder / MANIFEST, manifest)
    _remove_others(folder, {*(path.name for path in files.values()), timing.name})


def open_index(path: Path | str) -> Index:
    """Open an index folder, or the copy of one on an object store, after checking its manifest and its files' sizes.

    One that this user neither built nor checked before is checked first: every byte against the manifest, and its
    content in a process of its own, because FAISS trusts what it reads.

    Raises:
        KnnvoteError: it is no index folder, is of a newer format, is damaged, or is not one that knnvote writes.
    """
    folder = local_folder(path)
    manifest = read_manifest(folder)
    try:
        return _open_generation(folder, manifest)
    except KnnvoteError:
        newer = read_manifest(folder)
        if newer["generation"] == manifest["generation"]:
            raise
        return _open_generation(folder, newer)  # it was replaced while we opened it


def _open_generation(path: Path, manifest: dict[str, Any]) -> Index:
    for entry in manifest["files"].values():
        file = path / entry["name"]
        size = file.stat().st_size if file.is_file() else None
        if size != entry["size"]:
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise KnnvoteError(
                f"{file} {found}, and the manifest says {entry['size']:,}: the index is damaged; build it again"
            )
    if not is_known(path, manifest):
        problems = _check_content(path, manifest)
        if problems:
            raise KnnvoteError(f"{problems[0]}; build the index again, or get it again from where it came")
    try:
        return load_index(path, manifest)
    except KnnvoteError as error:  # a file that was well when it was checked
        raise KnnvoteError(f"{path} is damaged: {error}; run knnvote verify {path}") from error


def _check_content(path: Path, manifest: dict[str, Any]) -> list[str]:
    """Hash a folder's files and, if they are the manifest's, try them apart; remember it if all is well."""
    description = describe_files(path, manifest)
    problems = _changed_files(locate(path), manifest)
    if not problems:
        size = folder_bytes(manifest)
        try:
            run_apart(
                "knnvote.indexer.trial.folder",
                str(path.resolve()),
                memory=_TRIAL_ROOM * size,
                seconds=_TRIAL_SECONDS * size,
            )
        except KnnvoteError as error:
            return [f"{path} is not an index that knnvote writes: {error}"]
        remember(path, description)
    return problems


def load_index(path: Path, manifest: dict[str, Any]) -> Index:
    """Open the files of an index folder, which must be trusted.

    Raises:
        KnnvoteError: they do not hold what the manifest says.
    """
    dtype = np.dtype(manifest["dtype"])
    names = {role: path / entry["name"] for role, entry in manifest["files"].items()}
    try:
        faiss_index = read_faiss(names["index"]) if "index" in names else None
        vectors = _map_array(names["vectors"]) if "vectors" in names else held_vectors(faiss_index, dtype)
        bounds = _map_array(names["bounds"]) if "bounds" in names else None
        provenance = pq.ParquetFile(names["labels"])
        labels = provenance.read(["label"])["label"].combine_chunks()
    except (ValueError, KeyError, OSError, OverflowError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise KnnvoteError(f"its files cannot be read ({reason})") from error
    expected = (manifest["n"], manifest["d"])
    if vectors is None or vectors.shape != expected or vectors.dtype != dtype or len(labels) != expected[0]:
        raise KnnvoteError("it does not hold the vectors that its manifest describes")
    return Index(path, manifest, faiss_index, vectors, labels, provenance, bounds)


def _map_array(path: Path) -> NDArray[Any]:
    """A .npy file mapped: nothing is read but its header, and never more than the file holds."""
    try:
        with np.errstate(over="ignore"):  # of a shape that no file can hold, which is refused next
            array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (SyntaxError, TokenError) as error:  # of a header, which NumPy reads as Python
        raise ValueError(str(error)) from error
    return array


def verify_folder(index: Path | Location) -> list[str]:
    """Check every byte of an index folder; one line for each thing that is wrong, none if all is well.

    What is not known to be ours is also tried as `open_index` does; one on an object store is when it is opened.

    Raises:
        KnnvoteError: it is no index folder, or its manifest was changed.
    """
    folder = locate(index)
    manifest = read_manifest(folder)
    if folder.is_local and not is_known(Path(folder.path), manifest):
        problems = _check_content(Path(folder.path), manifest)
    else:
        problems = _changed_files(folder, manifest)
    try:
        read_timing(folder, manifest)
    except KnnvoteError as error:
        problems.append(str(error))
    return problems


def _changed_files(folder: Location, manifest: dict[str, Any]) -> list[str]:
    """A line for each file that is not the manifest's."""
    problems = []
    for entry in manifest["files"].values():
        file = folder / entry["name"]
        try:
            if not file.is_file:
                problems.append(f"{file} is missing")
                continue
            with file.open() as stream, file.errors_told():
                if hash_stream(stream) != entry["sha256"]:
                    problems.append(f"{file} was changed: its SHA-256 differs from the manifest's")
                elif stream.tell() != entry["size"]:
                    problems.append(f"{file} has {stream.tell():,} bytes, and the manifest says {entry['size']:,}")
        except KnnvoteError as error:
            problems.append(str(error))
    return problems


def _describe_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {"name": path.name, "size": path.stat().st_size, "sha256": hash_stream(stream)}


def is_leftover(name: str) -> bool:
    """Whether a file of this name is one that a writer of index folders made, finished or not."""
    return bool(GENERATION_NAME.fullmatch(name) or _UNFINISHED_NAME.fullmatch(name) or name == LOCK)


def remove_leftovers(folder: Path) -> None:
    """Remove what a writer that failed or was killed left, and keep what the manifest names, if there is one."""
    with suppress(KnnvoteError, OSError):
        kept: set[str] = set()
        if is_index_folder(folder):
            manifest = read_manifest(folder)
            kept = {entry["name"] for entry in manifest["files"].values()} | {timing_name(manifest["generation"])}
        _remove_others(folder, kept)


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove files of other generations: replaced ones, and what interrupted writers left."""
    for file in folder.iterdir():
        if is_leftover(file.name) and file.name not in {*kept, LOCK}:
            file.unlink(missing_ok=True)
