"""What a path holds, before any work: an index folder, a job's output folder, or images."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from knnvote.data.errors import ImageFileError, as_recorded
from knnvote.data.inputs import InputFile, find_inputs
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.locations import locate
from knnvote.data.recognition import recognise_images
from knnvote.indexer.codes.library import kernel_name
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.labels import recognise_label, refuse_beside_folders
from knnvote.indexer.manifest import is_index_folder, read_manifest

from .job.finished import FinishedJob
from .job.record import read_job_record
from .job.sums import sum_up


def inspect_path(path: str) -> dict[str, Any]:
    """Facts about a path, with ``type`` saying which of the three it is: ``index``, ``job`` or ``images``.

    Raises:
        KnnvoteError: it does not exist, or is none of the three.
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
    return {"type": "images", "path": location.shown, "files": _inspect_images(find_inputs([path]))}


def _inspect_images(inputs: Sequence[InputFile]) -> list[dict[str, Any]]:
    return [{"path": source.shown, **_inspect_file(source)} for source in inputs]


def _inspect_file(source: InputFile) -> dict[str, Any]:
    try:
        with source.open_rows() as rows:
            head = rows.telling_head()
            layout = recognise_images(head, ImageOptions())
            label = _label_column(head.schema, layout, source)
            return {"rows": rows.num_rows, "images": layout.describe(), "label_column": label}
    except ImageFileError as error:
        return {"error": error.told(as_recorded)}


def _label_column(schema: pa.Schema, layout: Layout, source: InputFile) -> str | None:
    """The column that `knnvote index` would take for the labels, if any."""
    try:
        found = recognise_label(schema, layout.columns, None, None)
        refuse_beside_folders(found, source.relative)
    except ImageFileError:
        return None
    return found
