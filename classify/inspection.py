"""What a path holds, before any work: an index folder, a job's output folder, or images."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from knnvote.data.errors import ImageFileError, as_recorded
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import distinctly_named, tell_unused_labels
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import locate
from knnvote.data.recognition import recognise_images
from knnvote.indexer.codes.library import kernel_name
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.labels import recognise_label, refuse_beside_folders
from knnvote.indexer.manifest import is_index_folder, read_manifest

from .check import check_images
from .job.finished import FinishedJob
from .job.record import read_job_record
from .job.sums import sum_up


def inspect_made(path: str) -> dict[str, Any] | None:
    """Facts about an index folder or a job's output folder; None where a path is neither.

    Raises:
        KnnvoteError: what it holds is damaged.
    """
    location = locate(path)
    if is_index_folder(location):
        manifest = read_manifest(location)
        timing = read_timing(location, manifest.generation)
        return {
            "type": "index",
            "path": location.shown,
            "bytes": manifest.folder_bytes,
            "fingerprint": manifest.fingerprint,
            **manifest.to_json(),
            "checksum": manifest.checksum,
            "timing": timing.to_json(),
            "kernel": kernel_name(),
        }
    record = read_job_record(location)
    if record is not None:
        return {"type": "job", "path": location.shown, **sum_up(FinishedJob(out=location, record=record))}
    return None


def inspect_images(
    paths: Sequence[str],
    inputs: Sequence[InputFile],
    *,
    images: ImageOptions | None = None,
    label_column: str | None = None,
    quick: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
) -> dict[str, Any]:
    """Facts about files of images.

    Args:
        paths: that were named.
        inputs: the files found there.
        images: what the user says about the images.
        label_column: where labels are, if the guess fails.
        quick: look at the first rows alone; else all are read and checked.
        progress: told the rows of each batch.
    """
    options, inputs = images or ImageOptions(), distinctly_named(inputs, set(), has_ids=False)
    files = [{"path": source.shown, **_inspect_file(source, options, label_column)} for source in inputs]
    facts: dict[str, Any] = {"type": "images", "path": " ".join(locate(path).shown for path in paths), "files": files}
    read = [place for place, file in enumerate(files) if "error" not in file]
    if quick or not read:
        return {**facts, "check": None}
    labels = [files[place]["label_column"] for place in read]
    check = check_images([inputs[place] for place in read], labels, options, progress=progress)
    tell_unused_labels(inputs)
    for place, error in check.failed.items():
        files[read[place]]["error"] = error
    return {**facts, "check": check.to_json()}


def _inspect_file(source: InputFile, options: ImageOptions, label_column: str | None) -> dict[str, Any]:
    try:
        with source.open_rows() as rows:
            head = rows.telling_head()
            layout = recognise_images(head, options)
            own = (*layout.columns, *((rows.id_column,) if rows.id_column else ()))
            label, why_none = _label_column(head.schema, own, source, label_column or source.joined_label)
            facts = {"rows": rows.num_rows, "images": layout.describe(), "label_column": label}
            return facts if why_none is None else {**facts, "no_label": why_none}
    except ImageFileError as error:
        return {"error": error.told(as_recorded)}


def _label_column(
    schema: pa.Schema, no_labels: Sequence[str], source: InputFile, named: str | None
) -> tuple[str | None, str | None]:
    """The column that `knnvote index` would take for the labels, or else why it would take none.

    Raises:
        ImageFileError: the one that is named is not there.
    """
    try:
        found = recognise_label(schema, no_labels, named, None)
        if named is None:
            refuse_beside_folders(found, source.relative)
    except ImageFileError as error:
        if named is not None:
            raise
        return None, error.told(as_recorded)
    return found, None
