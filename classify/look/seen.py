"""Images as they are now, with their answers: rows of a job, seen to be answered as it wrote, and images of files."""

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import Answer, answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.rows import Place, find_rows, kept_ids
from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.containers.tar import TAR_ENDINGS
from knnvote.data.errors import ImageFileError, KnnvoteError, as_recorded, is_number, param, spelled_reasons
from knnvote.data.folders.endings import has_rows
from knnvote.data.folders.globs import is_glob
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import count_rows, find_inputs
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.locations import locate
from knnvote.data.reading import DecodedRows, decode_rows, open_images

from .explain import Explanation
from .stored import ROW_OF_FILE, answer_left_out, find_stored, row_from

_BATCH = 2048
_SAME = ("prediction", "best", "second", "status")
_CLOSE = ("confidence", "distance", "margin")  # machines may round floats otherwise


def explain_rows(
    job: FinishedJob, classifier: Classifier, names: Sequence[str], id_column: str | None = None
) -> list[Explanation]:
    """Rows of a job, asked again.

    Args:
        job: that answered them.
        classifier: that it answered with, as ``job.classifier`` opens it.
        names: of the rows, as `find_rows` takes them.
        id_column: as there.

    Raises:
        KnnvoteError: a name is of no row, an input is gone or was changed, or the answer is another one now.
    """
    places = find_rows(job, names, id_column)
    column = kept_ids(job, id_column)
    added = _added(job, classifier)
    found: dict[Place, Explanation] = {}
    for file in sorted({place.file for place in places}):
        rows = np.unique([place.row for place in places if place.file == file])
        written = _written(job, file, rows, added)
        source = _input(job, file)
        for row, explanation in _see(source, rows, classifier, job.recognise):
            place = Place(file, row)
            _check_same(job, place, explanation.answer, written[row])
            kept = {name: value for name, value in written[row].items() if name not in added}
            id_ = None if column is None or kept.get(column) is None else str(kept[column])
            name = id_ if id_ is not None and source.is_image_folder else str(place)
            found[place] = replace(explanation, name=name, kept=kept, id=id_)
    return [found[place] for place in places]


def explain_images(classifier: Classifier, names: Sequence[str], options: ImageOptions) -> list[Explanation]:
    """Images of files that are each one PNG, JPEG or the like, of rows of other files, ``FILE#ROW``, and stored ones.

    These are named by their ids, or by the file and row that they came from, and left out of their own vote.

    Args:
        classifier: that answers them.
        names: of the images.
        options: what the user says of them.

    Raises:
        KnnvoteError: a file cannot be read, holds no such row, or several of which none is named; or there is neither a
            file nor a stored image of a name, or several such images.
    """
    return [_with_kept(_explain_image(classifier, name, options)) for name in names]


def _with_kept(one: Explanation) -> Explanation:
    """The same with what the index keeps for people to read, of a stored image."""
    kept = one.answer.index.kept
    return one if one.row is None or kept is None else replace(one, kept=kept.slice(one.row, 1).to_pylist()[0])


def _explain_image(classifier: Classifier, name: str, options: ImageOptions) -> Explanation:
    if not (_is_there(name) or is_glob(name)):
        return _explain_stored(classifier, name)
    file, row = _meant(name)
    if row is None:
        table = pa.table({"image": pa.array([locate(file).read()], pa.large_binary())})
        # By no row at all: bytes are then taken for an encoded image of the index's shape, and one that is none is bad.
        layout = classifier.recognise(table[:0], replace(options, image_column="image"))
        (explanation,) = _explain(classifier, decode_rows(table, layout))
        return replace(explanation, name=name)
    inputs = find_inputs(file)
    if len(inputs) != 1:
        raise KnnvoteError(f"{file} holds {len(inputs):,} files: give one, such as {inputs[0]}#{row}")
    recognise = partial(classifier.recognise, options=options)
    stored = row_from(classifier.index, inputs[0].relative, row)
    with open_images(inputs[0], recognise) as images:
        for decoded in images.take(np.array([row]), batch_size=_BATCH):
            (explanation,) = _explain(classifier, decoded, stored)
            return replace(explanation, name=name)
    raise KnnvoteError(f"{inputs[0]} has no row {row}: it has {inputs[0].count_rows():,}, which count from 0")


def _explain_stored(classifier: Classifier, name: str) -> Explanation:
    """A stored image by its id, or the file and row that it came from.

    Raises:
        KnnvoteError: there is none, or there are several.
    """
    index = classifier.index
    row = find_stored(index, name)
    if row is None:
        raise KnnvoteError(
            f"{name} does not exist, and {index.path} stores no image with this id: give the path of a file, FILE#ROW "
            f"of one with several rows, or an id such as {index.ids[0]}"
        )
    return Explanation(name=name, answer=answer_left_out(classifier, row), pixels=index.picture(row), row=row)


def _is_there(name: str) -> bool:
    """Whether there is a file or folder of a name, or of what stands before its row."""
    parts, place = ROW_OF_FILE.fullmatch(name), locate(name)
    places = [place] if parts is None else [place, locate(parts[1])]
    return any(place.is_file or place.is_folder for place in places)


def _meant(name: str) -> tuple[str, int | None]:
    """The file that is named, and the row of it; None for a file that is one image.

    Raises:
        KnnvoteError: it holds several rows, of which none is named.
    """
    parts, place = ROW_OF_FILE.fullmatch(name), locate(name)
    if parts is not None and not place.is_file:
        return parts[1], int(parts[2])
    path = place.path.lower()
    if place.is_file and not (has_rows(path) or path.endswith((".parquet", *TAR_ENDINGS))):
        return name, None
    inputs = find_inputs(name)
    if (rows := count_rows(inputs)) > 1:
        raise KnnvoteError(f"{name} holds {rows:,} rows: give the one to explain, such as {inputs[0]}#0")
    return name, 0


def _see(
    source: InputFile, rows: NDArray[np.int64], classifier: Classifier, recognise: Callable[[pa.Table], Layout]
) -> Iterator[tuple[int, Explanation]]:
    """Some rows of a file, ascending, each with its answer."""
    with open_images(source, recognise) as images:
        for decoded in images.take(rows, batch_size=_BATCH):
            yield from zip(decoded.numbers.tolist(), _explain(classifier, decoded), strict=True)


def _explain(classifier: Classifier, decoded: DecodedRows, stored: int | None = None) -> list[Explanation]:
    """Each of some rows by itself; their names are yet to be given.

    Args:
        classifier: that answers.
        decoded: the rows.
        stored: the row of the index that came from there. One that is the same still is left out of its own vote.
    """
    xq, bad = classifier.queries(decoded)
    reasons = spelled_reasons(bad, as_recorded)
    explanations = []
    for place in range(len(xq)):
        if stored is not None and place not in bad and np.array_equal(xq[place], classifier.index.vectors[stored]):
            left_out = answer_left_out(classifier, stored)
            explanations.append(Explanation(name="", answer=left_out, pixels=decoded.picture(place), row=stored))
            continue
        answer = classifier.answer(xq[place : place + 1], {0: reasons[place]} if place in bad else {})
        explanations.append(Explanation(name="", answer=answer, pixels=decoded.picture(place)))
    return explanations


def _input(job: FinishedJob, file: str) -> InputFile:
    """What an output was made from.

    Raises:
        KnnvoteError: it is gone, or was changed.
    """
    source = job.record.input(file)
    if source is None:
        raise KnnvoteError(
            f"{job.record.inputs.get(file, file)} is gone, from which {job.out / file} was made, and without it no "
            "row can be asked again: put it back"
        )
    if source.describe() != job.receipts[file].input:
        raise KnnvoteError(f"{job.out / file} was made of another content than {source} has now: classify it again")
    return source


def _added(job: FinishedJob, classifier: Classifier) -> set[str]:
    """The columns that a job added to those of its inputs."""
    output = job.record.output
    return {*answer_schema(classifier.index, **output.of_answers).names, *output.of_source}


def _written(job: FinishedJob, file: str, rows: NDArray[np.int64], added: set[str]) -> dict[int, dict[str, Any]]:
    """By row what stands in an output: what was kept, and the answers that are compared.

    Raises:
        KnnvoteError: it cannot be read, or has no such row.
    """
    compared = {job.record.prefix + name for name in (*_SAME, *_CLOSE)}
    found: dict[int, dict[str, Any]] = {}
    with ParquetRows.open(job.out / file) as output:
        columns = [name for name in output.schema.names if name in compared or name not in added]
        for numbers, table in output.take(rows, columns, _BATCH):
            plain = pa.table({name: output.checked(table, name) for name in columns})
            found.update(zip(numbers.tolist(), plain.to_pylist(), strict=True))
    if missing := [row for row in rows.tolist() if row not in found]:
        raise ImageFileError(f"{job.out / file} has no row {missing[0]}: run knnvote verify {job.out}")
    return found


def is_as_written(name: str, before: Any, value: Any) -> bool:
    """Whether a column of answers has now what a job wrote, but for how machines round."""
    if name in _CLOSE and is_number(before) and is_number(value):
        return math.isclose(before, value, rel_tol=1e-6, abs_tol=1e-9)
    return bool(before == value)


def _check_same(job: FinishedJob, place: Place, answer: Answer, written: dict[str, Any]) -> None:
    """See that a row is answered now as the job wrote; jobs of before wrote fewer columns.

    Raises:
        KnnvoteError: it is not.
    """
    prefix = job.record.prefix
    (now,) = (answer.of_confidences if job.record.promise == "confidence" else answer).to_table().to_pylist()
    for name in (*_SAME, *_CLOSE):
        if prefix + name not in written:
            continue
        before, value = written[prefix + name], now[name]
        is_same = is_as_written(name, before, value)
        if not is_same and job.kept:
            index, source = answer.index.path, f"{job.record.inputs[place.file]}#{place.row}"
            by_now = "abstains" if value is None and name == "prediction" else f"gives {name} {value}"
            again = shlex.join(["knnvote", "explain", str(index), source])
            raise KnnvoteError(
                f"{place} has {name} {before}, which may be kept of an earlier job, and {index} {by_now} now "
                f"({job.kept_told[0]}); {again} tells why, and {param('overwrite=True')} without {param('only')} "
                "classifies all again. Why the earlier job said so, only its index tells as it was then: add, remove "
                "and relabel change an index in its place"
            )
        if not is_same:
            raise KnnvoteError(
                f"{place} has {name} {value} now, and the job wrote {before}: this is another machine or version of "
                f"knnvote, or the output was changed; knnvote verify {job.out} tells"
            )
