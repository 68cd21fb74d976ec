"""What a path holds, before any work: an index folder, a job's output folder, or images."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from classify.job import RECORDS
from classify.receipt import Counts, read_receipt
from data.errors import ImageFileError, KnnvoteError
from data.files import InputFile, find_inputs
from data.layout import ImageOptions, Layout, recognise_images
from data.parquet import open_parquet, read_head
from indexer.labels import recognise_label
from indexer.manifest import fingerprint, folder_bytes, is_index_folder, read_manifest, read_timing


def inspect_path(path: str) -> dict[str, Any]:
    """Facts about a path, with ``type`` saying which of the three it is: ``index``, ``job`` or ``images``.

    Raises:
        KnnvoteError: it does not exist, or is none of the three.
    """
    folder = Path(path)
    if is_index_folder(folder):
        manifest = read_manifest(folder)
        timing = read_timing(folder, manifest)
        return {
            "type": "index",
            "path": path,
            "bytes": folder_bytes(manifest),
            "fingerprint": fingerprint(manifest),
            **manifest,
            "timing": timing,
        }
    if (folder / RECORDS / "job.json").is_file():
        return {"type": "job", "path": path, **_inspect_job(folder)}
    return {"type": "images", "path": path, "files": _inspect_images(find_inputs([path]))}


def _inspect_job(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORDS / "job.json").read_bytes())
        failures = folder / RECORDS / "failures.json"
        failed = json.loads(failures.read_bytes()) if failures.exists() else {}
    except (OSError, ValueError) as error:
        raise KnnvoteError(
            f"{folder}: the job's record is damaged ({error}); run the job again into another folder"
        ) from error
    counts, files = Counts(), 0
    for file in sorted(folder.rglob("*")):
        receipt = read_receipt(file) if file.is_file() and RECORDS not in file.parts else None
        if receipt is not None:
            counts += receipt.counts
            files += 1
    return {**record, "files": files, **asdict(counts), "failures": failed}


def _inspect_images(inputs: Sequence[InputFile]) -> list[dict[str, Any]]:
    return [{"path": source.shown, **_inspect_file(source)} for source in inputs]


def _inspect_file(source: InputFile) -> dict[str, Any]:
    try:
        with open_parquet(source) as file:
            head = read_head(source, file)
            layout = recognise_images(head, ImageOptions())
            label = _label_column(head.schema, layout)
            return {"rows": file.metadata.num_rows, "images": layout.describe(), "label_column": label}
    except ImageFileError as error:
        return {"error": str(error)}


def _label_column(schema: pa.Schema, layout: Layout) -> str | None:
    """The column that `knnvote index` would take for the labels, if any."""
    try:
        return recognise_label(schema, layout.columns, None, None)
    except ImageFileError:
        return None
