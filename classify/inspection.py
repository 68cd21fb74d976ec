"""What a path holds, before any work: an index folder, a job's output folder, or images."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from knnvote.data.columns import is_float
from knnvote.data.errors import ImageFileError, KnnvoteError, as_recorded, param, warn
from knnvote.data.input_file import InputFile, tell_unused_labels
from knnvote.data.inputs import distinctly_named
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import locate
from knnvote.data.reading import told_of_rows
from knnvote.data.recognition import recognise_images
from knnvote.data.rows import RowFile
from knnvote.indexer.codes.library import kernel_name
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.labels import is_usual_name, kind_of_labels, recognise_label, refuse_beside_folders
from knnvote.indexer.leftovers import refuse_unfinished
from knnvote.indexer.manifest import is_index_folder, read_manifest

from .check import check_images
from .job.finished import FinishedJob
from .job.record import ENDED, read_job_record
from .job.sums import sum_up

_NAME_IT = f"{as_recorded('label_column')} names it if it is the label's"
_ROWS = 1 << 16  # of a column that may hold ids, at a time
_MOST_ROWS = 1 << 20  # of it, all of other values, that tell ids: no labels are like that


def is_made(path: str) -> bool:
    """Whether a path is an index folder or a job's output folder."""
    location = locate(path)
    return is_index_folder(location) or (location.is_folder and (location / ENDED).is_file)


def inspect_made(path: str) -> dict[str, Any] | None:
    """Facts about an index folder or a job's output folder; None where a path is neither.

    Raises:
        KnnvoteError: what it holds is damaged, the build of an index is unfinished, or it is an empty folder.
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
    refuse_unfinished(path)
    if location.is_folder and not location.below():
        raise KnnvoteError(
            f"{location} is an empty folder: give one with images; where a job left it so, no file could be "
            "classified: run it again, and it tells why of each"
        )
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
    if quick:
        _tell_read_whole(inputs)
    looked = [_inspect_file(source, options, label_column or source.joined_label, quick=quick) for source in inputs]
    files = _with_one_label(
        [{"path": source.shown, **facts} for source, (facts, _) in zip(inputs, looked, strict=True)],
        [kind for _, kind in looked],
    )
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


def _inspect_file(
    source: InputFile, options: ImageOptions, named: str | None, *, quick: bool
) -> tuple[dict[str, Any], str | None]:
    """Facts about a file and, where its label column is guessed by what is left over alone, the kind of its values."""
    try:
        with source.open_rows() as rows:
            head = rows.telling_head()
            with told_of_rows(source, head):
                layout = recognise_images(head, options)
            own = (*layout.columns, *((rows.id_column,) if rows.id_column else ()))
            label, why_none = _label_column(head.schema, own, source, named)
            is_guess = label is not None and named is None and not is_usual_name(label)
            if label is not None and is_guess and _are_ids(rows, head, label, quick=quick):
                label, why_none = None, (f"column {label!r} holds another value in each row, as ids do; {_NAME_IT}")
            facts = {"rows": rows.num_rows, "images": layout.describe(), "label_column": label}
            kind = kind_of_labels(head.schema.field(label).type) if label is not None and is_guess else None
            return (facts if why_none is None else {**facts, "no_label": why_none}), kind
    except ImageFileError as error:
        return {"error": error.told(as_recorded)}, None


def _tell_read_whole(inputs: Sequence[InputFile]) -> None:
    """Tell of files that have to be read to their end all the same, to know their columns and rows."""
    whole = [source for source in inputs if source.is_converted]
    if whole:
        more = f" and {len(whole) - 1:,} more" if whole[1:] else ""
        warn(
            f"{whole[0]}{more}: no Parquet, and so converted as a whole, and {param('quick=True')} spares the check "
            "of the images alone; knnvote convert makes Parquet of it once"
        )


def _are_ids(rows: RowFile, head: pa.Table, column: str, *, quick: bool) -> bool:
    """Whether no two rows, as far as it takes to know, have one value; fractions may be labels anyhow."""
    if is_float(head.schema.field(column).type):
        return False
    seen: set[Any] = set()
    for batch in [head] if quick else rows.batches([column], _ROWS):
        values = batch.column(column).to_pylist()
        before = len(seen)
        seen.update(values)
        if len(seen) < before + len(values):
            return False
        if len(seen) >= _MOST_ROWS:
            break
    return len(seen) > 1


def _with_one_label(files: Sequence[dict[str, Any]], kinds: Sequence[str | None]) -> list[dict[str, Any]]:
    """Facts about files, where guessed label columns are none if others have theirs by another name or of other kinds.

    Args:
        files: facts about each.
        kinds: of the values of guessed columns.
    """
    labelled = [(file, kind) for file, kind in zip(files, kinds, strict=True) if file.get("label_column") is not None]
    if not labelled:
        return [*files]
    first = next((file for file, kind in labelled if kind is None), labelled[0][0])
    column = first["label_column"]
    of_column = sorted({kind for file, kind in labelled if kind is not None and file["label_column"] == column})
    found = []
    for file, kind in zip(files, kinds, strict=True):
        why = None
        if kind is not None and file["label_column"] != column:
            why = f"no column {column!r}, which holds the labels of {first['path']}"
        elif kind is not None and len(of_column) > 1:
            why = f"column {column!r} holds {' in one file and '.join(of_column)} in another, as no labels do"
        found.append(file if why is None else {**file, "label_column": None, "no_label": f"{why}; {_NAME_IT}"})
    return found


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
