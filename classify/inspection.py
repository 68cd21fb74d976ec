"""What a path holds, before any work: an index folder, a job's output folder, or images."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.errors import ImageFileError, as_recorded
from knnvote.data.inputs import InputFile, find_inputs
from knnvote.data.layout import ImageOptions, Layout, recognise_images
from knnvote.data.locations import Location, locate
from knnvote.data.parquet import open_parquet, read_head
from knnvote.indexer.labels import recognise_label
from knnvote.indexer.manifest import fingerprint, folder_bytes, is_index_folder, read_manifest, read_timing

from .classifier import ABSTAINED, BAD_IMAGE
from .job.finished import Job
from .job.folder import read_failures, read_job_record
from .job.output import count_values, read_answers
from .job.receipt import Counts

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
        return {"type": "job", "path": location.shown, **inspect_job(Job(out=location, record=record))}
    return {"type": "images", "path": location.shown, "files": _inspect_images(find_inputs([path]))}


class _Reasons:
    """How often each reason is told; those that differ in numbers alone are one, with N for each that differs."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, ...]] = Counter()
        self._numbers: dict[tuple[str, ...], list[str]] = {}

    def add(self, reason: str, rows: int) -> None:
        """Count a reason."""
        words, numbers = tuple(_NUMBER.split(reason)), _NUMBER.findall(reason)
        self._rows[words] += rows
        known = self._numbers.setdefault(words, numbers)
        self._numbers[words] = [old if old == new else "N" for old, new in zip(known, numbers, strict=True)]

    def most_common(self) -> dict[str, int]:
        """The reasons with their rows, the commonest first."""
        told: Counter[str] = Counter()
        for words, rows in self._rows.items():
            told["".join(map("".join, zip(words, [*self._numbers[words], ""], strict=True)))] += rows
        return dict(told.most_common())


def inspect_job(job: Job) -> dict[str, Any]:
    """Sums over all outputs of a job: rows by status, by label, and by the reason for having none."""
    counts, record = Counts(), job.record
    labels: Counter[Any] = Counter()
    reasons = {ABSTAINED: _Reasons(), BAD_IMAGE: _Reasons()}
    for name, receipt in job.receipts.items():
        counts += receipt.counts
        _tally(job.out / name, record.prefix, labels, reasons)
    return {
        "index": record.index,
        "options": record.options,
        "files": len(job.receipts),
        "inputs": len(record.inputs.keys() | job.receipts.keys()),
        "left_out": job.left_out,
        **asdict(counts),
        "labels": dict(sorted(labels.items())),
        "abstained_because": reasons[ABSTAINED].most_common(),
        "bad_because": reasons[BAD_IMAGE].most_common(),
        "failures": read_failures(job.out),
    }


def _tally(output: Location, prefix: str, labels: Counter[Any], reasons: dict[str, _Reasons]) -> None:
    """Count the labels of an output file (of a regression, none) and, by status, its reasons."""
    for prediction, status, reason in read_answers(output, prefix, "prediction", "status", "reason"):
        if not pa.types.is_floating(prediction.type):
            labels.update(count_values(prediction.drop_null()))
        for name, counted in reasons.items():
            for text, times in count_values(reason.filter(pc.equal(status, name))).items():
                counted.add(str(text), times)


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
        return {"error": error.told(as_recorded)}


def _label_column(schema: pa.Schema, layout: Layout) -> str | None:
    """The column that `knnvote index` would take for the labels, if any."""
    try:
        return recognise_label(schema, layout.columns, None, None)
    except ImageFileError:
        return None
