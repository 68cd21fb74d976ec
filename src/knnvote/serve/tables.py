"""Images of a request as a table, and answers as JSON or Arrow: nothing that a client says is trusted."""

import json
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from knnvote.classify.answer import answer_schema
from knnvote.classify.job.output import OutputOptions, kept_columns
from knnvote.classify.job.work import JobOptions
from knnvote.classify.scale import Scale
from knnvote.data.codec import header_shape
from knnvote.data.codecs.pillow import MAX_PIXELS
from knnvote.data.columns import is_binary, read_column
from knnvote.data.errors import KnnvoteError
from knnvote.data.layout import Layout, Shape
from knnvote.data.layouts.encoded import is_image_struct
from knnvote.data.rows import schema_metadata_without_images
from knnvote.data.text import describe_error

from .pieces import Answered
from .served import ENCODED, Served

MOST_ROWS = 100_000  # of a request
_MOST_VALUES = 10_000_000  # of neighbours and classes in the answers to one
_OF_NEIGHBOR = 4  # row, id, label and distance
_OF_TOP = 2  # class and share
_HEAD = 64  # rows, by which images are recognised
_COMPRESSED = "its buffers are compressed: write it without, as pyarrow.ipc does unless told"


def encoded_table(images: list[bytes]) -> pa.Table:
    """Encoded images, one a row."""
    return pa.table({ENCODED: pa.array(images, pa.large_binary())})


def json_table(body: bytes, shape: Shape) -> pa.Table:
    """Images that stand in JSON as lists of numbers: several, or one of the index's shape or flat.

    Args:
        body: a list, or an object with it as `images`.
        shape: of an image.

    Raises:
        KnnvoteError: it is no JSON, or holds anything else or too many images.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KnnvoteError(f"the body is no JSON: {describe_error(error)}") from error
    if isinstance(found, dict):
        if found.keys() != {"images"}:
            raise KnnvoteError("the body is a JSON object: give it images and nothing else, as a list of lists")
        found = found["images"]
    if not isinstance(found, list):
        raise KnnvoteError("the body holds no images: give a list of lists of numbers, as images or alone")
    images = [found] if _is_one(found, shape) else found
    check_rows(len(images))
    try:
        return pa.table({ENCODED: pa.array(images)})
    except (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise KnnvoteError(
            f"the images are no lists of numbers of one depth: {describe_error(error)}; give each its rows of numbers"
        ) from error


def _is_one(found: list[Any], shape: Shape) -> bool:
    """Whether a list is a single image, of a shape or flat."""
    sides: list[int] = []
    inner: Any = found
    while isinstance(inner, list) and len(sides) <= len(shape):
        sides.append(len(inner))
        inner = inner[0] if inner else None
    d = 1
    for side in shape:
        d *= side
    return tuple(sides) in {tuple(shape), (d,)} and not isinstance(inner, list)


def arrow_table(body: bytes) -> pa.Table:
    """The rows of an Arrow IPC stream.

    Raises:
        KnnvoteError: it is none, is damaged or compressed, or holds too many rows.
    """
    if body.startswith(b"ARROW1"):
        raise KnnvoteError("the body is a file of Arrow: write a stream, as pyarrow.ipc.new_stream does")
    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(body) as reader:
            _check_names(reader.schema)
            batches = []
            rows = 0
            for batch in reader:
                rows += batch.num_rows
                check_rows(rows)
                batch.validate(full=True)  # its offsets lead anywhere, for all that is known
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, OSError, ValueError, struct.error, EOFError, MemoryError) as error:
        raise KnnvoteError(f"the body is no Arrow stream: {describe_error(error)}") from error


def _check_names(fields: Iterable[pa.Field]) -> None:
    """See that columns and what lies in them have names of text.

    Raises:
        UnicodeDecodeError: one has not.
    """
    for field in fields:
        field.name  # noqa: B018  # it is decoded when it is asked for
        _check_names(field.type.field(place) for place in range(field.type.num_fields))


def check_rows(rows: int) -> None:
    """Refuse a request of too many images.

    Raises:
        KnnvoteError: naming how many there may be.
    """
    if rows > MOST_ROWS:
        raise KnnvoteError(f"a request may hold {MOST_ROWS:,} images at most: send more in several")


def check_answers(served: Served, rows: int, output: OutputOptions) -> None:
    """Refuse to be asked for more than memory holds.

    Raises:
        KnnvoteError: naming how much there may be.
    """
    classes = len(served.index.classes)
    each = (
        _OF_NEIGHBOR * served.classifier.rule.k * output.neighbors
        + classes * output.probabilities
        + _OF_TOP * min(output.top or 0, served.classifier.rule.k, classes)
    )
    if rows * each > _MOST_VALUES:
        raise KnnvoteError(
            f"the answers to {rows:,} images would hold {rows * each:,} values of neighbours and classes: "
            f"{_MOST_VALUES:,} may be asked for at a time"
        )


def _refuse_compressed(body: bytes) -> None:
    """A few compressed bytes may claim any size, for which memory is taken when they are read."""
    messages = pa.ipc.MessageReader.open_stream(body)
    with suppress(StopIteration):
        while message := messages.read_next_message():
            if message.type in {"record batch", "dictionary"} and _is_compressed(message.metadata.to_pybytes()):
                raise KnnvoteError(f"the Arrow stream cannot be read: {_COMPRESSED}")


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message's flatbuffer has the field `compression` in its record batch.

    Message is version, header_type, header, ...; RecordBatch is length, nodes, buffers, compression, ...;
    DictionaryBatch is id, data (a RecordBatch), ...
    """
    message = struct.unpack_from("<I", metadata)[0]
    batch = _table_in(metadata, message, 2)
    kind = _field(metadata, message, 1)
    if batch is not None and kind is not None and metadata[kind] == 2:
        batch = _table_in(metadata, batch, 1)
    return batch is not None and _field(metadata, batch, 3) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table lies; None where the table lacks it."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, fields)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", data, fields + place)[0] if place + 2 <= size else 0
    return table + offset if offset else None


def _table_in(data: bytes, table: int, number: int) -> int | None:
    """Where a table that is a field of another lies."""
    place = _field(data, table, number)
    return None if place is None else place + int(struct.unpack_from("<I", data, place)[0])


def recognise(served: Served, table: pa.Table, asked: JobOptions) -> Layout:
    """How a request's table holds its images, as a job tells it of a file.

    Raises:
        KnnvoteError: it does not; or its images claim more pixels than are decoded for one request, or are held so that
            a few bytes stand for many.
    """
    held: list[bytes | None] = []
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        if _is_indirect(kind):
            raise KnnvoteError(f"column {name!r} is {kind}, which is not taken here: write it as binary or as lists")
        if table.schema.names.count(name) == 1 and (is_binary(kind) or is_image_struct(kind)):
            held += read_column(table, name).to_pylist()
    check_claimed(held)
    return served.classifier.recognise(table.slice(0, _HEAD), asked.images)


def _is_indirect(kind: pa.DataType) -> bool:
    """Whether rows of images can share their bytes in such a column, so that a short stream stands for any length."""
    types = pa.types
    if types.is_dictionary(kind):
        return is_binary(kind)  # others are no images, and go back as they came
    shared = (types.is_binary_view, types.is_list_view, types.is_large_list_view, types.is_run_end_encoded)
    return any(test(kind) for test in shared) or any(
        types.is_dictionary(inner) or _is_indirect(inner)
        for inner in (kind.field(place).type for place in range(kind.num_fields))
    )


def check_claimed(images: Iterable[bytes | None]) -> None:
    """Refuse images that claim so many pixels by their headers that decoding them would keep all others waiting.

    Raises:
        KnnvoteError: naming how many there may be.
    """
    claimed = 0
    for image in images:
        height, width = (header_shape(image) if image is not None else None) or (0, 0)
        claimed += height * width
    if claimed > MAX_PIXELS:
        raise KnnvoteError(
            f"the images of the request claim {claimed:,} pixels: at most {MAX_PIXELS:,} are decoded for one"
        )


def joined(served: Served, table: pa.Table, layout: Layout, asked: JobOptions, answers: Sequence[Answered]) -> pa.Table:
    """What a job's output holds of these rows: the columns that are kept, and the answers.

    Raises:
        KnnvoteError: a column to keep is not there, or has a name that is taken.
    """
    added = answer_schema(served.index, **asked.output.of_answers)
    columns = kept_columns(table.schema, layout.columns, added, asked.output)
    schema = pa.schema([*(table.schema.field(name) for name in columns), *added], table.schema.metadata)
    own = pa.concat_tables([one.table for one in answers]) if answers else _without_prefix(added, asked).empty_table()
    return pa.Table.from_arrays(
        [*(table.column(name) for name in columns), *own.columns], schema=schema_metadata_without_images(schema)
    )


def _without_prefix(added: pa.Schema, asked: JobOptions) -> pa.Schema:
    prefix = len(asked.output.prefix)
    return pa.schema([field.with_name(field.name[prefix:]) for field in added])


def note_of(served: Served, answers: Sequence[Answered]) -> str | None:
    """What is to be told of the images of a request, as a job tells it: that they are of another scale."""
    return sum((one.scale for one in answers), Scale()).unlike(served.index)


def as_arrow(table: pa.Table, note: str | None) -> bytes:
    """A table as an Arrow IPC stream, whose metadata have the note."""
    if note is not None:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"knnvote.note": note.encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    written: bytes = sink.getvalue().to_pybytes()
    return written


def as_json(table: pa.Table, note: str | None) -> bytes:
    """A table as JSON: numbers with all their digits, null for what is unknown.

    Raises:
        KnnvoteError: a number is infinite.
    """
    found = {"answers": table.to_pylist(), **({} if note is None else {"note": note})}
    try:
        return json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise KnnvoteError("a distance is greater than JSON can say: send and ask for Arrow streams") from error
