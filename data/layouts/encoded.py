"""Encoded images in a column of bytes, alone or in the struct in which Hugging Face data sets hold an image."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa

from knnvote.data.codec import decode, decode_into, header_shape, is_encoded
from knnvote.data.columns import is_binary, read_column
from knnvote.data.errors import CodecError, ImageFileError
from knnvote.data.folders.endings import python_table
from knnvote.data.layout import Candidate, FirstRows, Layout, Measured, Shape, commonest, compatible, show_shape
from knnvote.data.text import python_command
from knnvote.data.vectors import Numbers, Reasons

_SPARK_IMAGE = ["origin", "height", "width", "nChannels", "mode", "data"]


class Encoded(Layout):
    """An encoded image a row."""

    title: ClassVar[str] = "encoded"

    @classmethod
    def candidates(cls, schema: pa.Schema) -> Iterable[Candidate]:
        """Columns of bytes of any length, and structs of bytes and path."""
        return cls._columns_of(
            schema, lambda kind: is_image_struct(kind) or (is_binary(kind) and not pa.types.is_fixed_size_binary(kind))
        )

    @classmethod
    def fits(cls, first: FirstRows) -> bool:
        """Whether metadata say so, or the rows begin as such do; rows that say nothing are taken for such.

        Raw pixels may begin as an encoded image by chance, and an encoded image may be damaged: where rows differ,
        they are raw if most begin as none and have one length, that of the index's images if there is an index.
        """
        if is_image_struct(first.type) or first.candidate.name in _declared_images(first.schema):
            return True
        rows = [data for data in first.column.to_pylist() if data]
        encoded = [data for data in rows if is_encoded(data)]
        if len(encoded) in {0, len(rows)}:
            return len(encoded) == len(rows)
        lengths = Counter(map(len, rows))
        of_raw = lengths.most_common(1)[0][1] if first.pixels is None else lengths[first.pixels]
        return 2 * len(encoded) > len(rows) or 2 * of_raw <= len(rows)

    @classmethod
    def measure(cls, first: FirstRows) -> Measured:
        """The shapes of rows that can be decoded; those that claim the same are of it if one is."""
        rows, options = first.column.to_pylist(), first.options
        claimed = {header_shape(data) for data in rows if data is not None}
        is_one = len(claimed) == 1 and None not in claimed
        shapes: list[Shape] = []
        reasons: list[str] = []
        for data in rows:
            if data is None:
                reasons.append("null image")
                continue
            try:
                shapes.append(decode(data, grayscale=options.grayscale, background=options.background).shape)
            except CodecError as error:
                reasons.append(str(error))
                continue
            if is_one:
                break
        return commonest(shapes), (reasons or [""])[0]

    def decode(self, batch: pa.RecordBatch | pa.Table) -> tuple[Numbers, Reasons]:
        """(n, d) uint8, or uint16 where an image has 16 bits."""
        column = read_column(batch, self.name)
        vectors = np.zeros((len(column), self.d), np.uint8)
        places = vectors.reshape(len(column), *(self.held_shape or self.shape)) if self.d else vectors
        deep: dict[int, Numbers] = {}
        bad: Reasons = {}
        for row, data in enumerate(column.to_pylist()):
            place = places[row]
            try:
                image = self._decode_one(data, place)
            except CodecError as error:
                place[...] = 0
                bad[row] = str(error)
                continue
            if image.dtype == np.uint16:
                deep[row] = image
            elif image is not place:
                vectors[row] = image.ravel()
        if not deep:
            return vectors, bad
        wider = vectors.astype(np.uint16)
        for row, image in deep.items():
            wider[row] = image.ravel()
        return wider, bad

    def _decode_one(self, data: bytes | None, place: Numbers) -> Numbers:
        """The image, of the shape of its place or as many pixels if that is flat; the place itself if it can."""
        if data is None:
            raise CodecError("null image")
        image = decode_into(data, place, grayscale=self.grayscale, background=self.background)
        if not compatible(image.shape, place.shape):
            raise CodecError(f"image is {show_shape(image.shape)}, expected {show_shape(place.shape)}")
        return image


def refuse_paths(head: pa.Table, columns: Iterable[str], shown: str) -> None:
    """Refuse rows that name files of images and do not hold them, as Hugging Face data sets that are not embedded.

    Args:
        head: the first rows of a file.
        columns: that may be its images.
        shown: the file.

    Raises:
        ImageFileError: they do, naming what puts the files into their place.
    """
    wanted = set(columns)
    for place, field in enumerate(head.schema):
        if field.name not in wanted or not is_image_struct(field.type):
            continue
        rows = head.column(place).to_pylist()
        named = [row["path"] for row in rows if row is not None and row["path"]]
        if named and not any(row is not None and row["bytes"] for row in rows):
            made = f"{shown.removesuffix('.parquet')}.new.parquet"
            code = (
                f"import pyarrow as pa, pyarrow.parquet as pq; t = {python_table(shown)}; "
                f"f = t.schema.field({place}); "
                "embed = lambda row: row and row['path'] and {**row, 'bytes': open(row['path'], 'rb').read()} or None; "
                f"new = pa.array(map(embed, t.column({place}).to_pylist()), f.type); "
                f"pq.write_table(t.set_column({place}, f, new), {made!r})"
            )
            raise ImageFileError(
                f"column {field.name!r} names files, such as {named[0]!r}, and does not hold them: "
                f"where these lie, {python_command(code)} makes {made}, which does"
            )


def is_image_struct(kind: pa.DataType) -> bool:
    """The struct in which Hugging Face data sets hold an image."""
    if not pa.types.is_struct(kind):
        return False
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    return "path" in fields and "bytes" in fields and is_binary(fields["bytes"])


def decoded_by_spark(schema: pa.Schema) -> str | None:
    """What is to be done where Spark's image source has decoded the images; None where it has not."""
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.names == _SPARK_IMAGE:
            return (
                f"Spark's image source has decoded the images of column {field.name!r}, which are not read: "
                "spark.read.format('binaryFile').load(FOLDER).write.parquet('images') writes them as their files "
                "hold them, which are"
            )
    return None


def _declared_images(schema: pa.Schema) -> set[str]:
    """The columns that Hugging Face metadata call images; metadata that make no sense declare none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return set()
