"""What a path holds, before any work: an index folder, a job's output folder, or images."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from classify.classifier import ABSTAINED, BAD_IMAGE
from classify.job_folder import JobRecord, output_files, read_failures, read_job_record
from classify.output import count_values, read_answers
from classify.receipt import Counts, read_receipt
from data.errors import ImageFileError
from data.inputs import InputFile, find_inputs
from data.layout import ImageOptions, Layout, recognise_images
from data.locations import Location, locate
from data.parquet import open_parquet, read_head
from indexer.labels import recognise_label
from indexer.manifest import fingerprint, folder_bytes, is_index_folder, read_manifest, read_timing

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")


def inspect_path(path: str) -> dict[str, Any]:
    """Facts about a path, with ``type`` saying which of the three it is: ``index``, ``job`` or ``images``.

    Raises:
        KnnvoteError: it does not exist, or is none of the three.
    """
    location = locate(path)
    if is_index_folder(location):
        manifest = read_manifest(location)
        timing = read_timing(location, manifest)
        return {
            "type": "index",
            "path": location.shown,
            "bytes": folder_bytes(manifest),
            "fingerprint": fingerprint(manifest),
            **manifest,
            "timing": timing,
        }
    record = read_job_record(location)
    if record is not None:
        return {"type": "job", "path": location.shown, **inspect_job(location, record)}
    return {"type": "images", "path": location.shown, "files": _inspect_images(find_inputs([path]))}


def inspect_job(out: Location, record: JobRecord) -> dict[str, Any]:
    """Sums over all output files of a job: rows by status, by label, and by the reason for having none."""
    counts, files = Counts(), 0
    labels: Counter[Any] = Counter()
    reasons: dict[str, Counter[str]] = {ABSTAINED: Counter(), BAD_IMAGE: Counter()}
    for output in output_files(out).values():
        receipt = read_receipt(output)
        if receipt is not None:
            counts += receipt.counts
            files += 1
            _tally(output, record.prefix, labels, reasons)
    return {
        "index": record.index,
        "options": record.options,
        "files": files,
        **asdict(counts),
        "labels": dict(sorted(labels.items())),
        "abstained_because": dict(reasons[ABSTAINED].most_common()),
        "bad_because": dict(reasons[BAD_IMAGE].most_common()),
        "failures": read_failures(out),
    }


def _tally(output: Location, prefix: str, labels: Counter[Any], reasons: dict[str, Counter[str]]) -> None:
    """Count the labels of an output file (of a regression, none) and, by status, its reasons with N for each number."""
    for prediction, status, reason in read_answers(output, prefix, "prediction", "status", "reason"):
        if not pa.types.is_floating(prediction.type):
            labels.update(count_values(prediction.drop_null()))
        for name, counted in reasons.items():
            for text, times in count_values(reason.filter(pc.equal(status, name))).items():
                counted[_NUMBER.sub("N", str(text))] += times


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
