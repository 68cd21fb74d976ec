"""How images lie in the columns of a Parquet file, recognised from its schema and first rows."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .codec import CodecError, decode, is_encoded
from .columns import (
    fixed_shape,
    innermost,
    is_binary,
    is_float,
    is_list,
    is_number,
    logical_shape,
    read_column,
    unfold_lists,
)
from .errors import ImageFileError, param

Kind = Literal["encoded", "raw", "tensor", "list", "wide"]
Shape = tuple[int, ...]

_FEWEST_WIDE_COLUMNS = 4
_LISTED_COLUMNS = 12
_ACCEPTED = "PNG, JPEG or raw pixels in a binary column, lists or tensors of numbers, or one numeric column a pixel"
_TITLES = {
    "encoded": "PNG or JPEG",
    "raw": "raw pixels",
    "tensor": "tensors",
    "list": "lists of numbers",
    "wide": "one column a pixel",
}


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What the user says about the images; all else is recognised.

    Attributes:
        image_column: the image column, or the common prefix of the columns of a wide layout.
        shape: of one image.
        grayscale: convert colour images instead of refusing them.
    """

    image_column: str | None = None
    shape: Shape | None = None
    grayscale: bool = False


@dataclass(frozen=True, kw_only=True)
class StoredImages:
    """What an index says of its images, by which others are recognised where the user says nothing.

    Attributes:
        shape: of one image.
        column: the image column's name when the index was built, taken where several could be meant.
        grayscale: colour images were converted.
    """

    shape: Shape
    column: str | None
    grayscale: bool

    def recognise(self, head: pa.Table, options: ImageOptions) -> "Layout":
        """How a table whose first rows these are holds its images.

        Raises:
            ImageFileError: it holds none, or of another shape than the index's.
        """
        options = replace(options, grayscale=options.grayscale or self.grayscale)
        return recognise_images(head, options, expected=self.shape, preferred=self.column)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the images of a file are and how they are held.

    Attributes:
        kind: how they are held.
        name: the image column, or the common prefix of the columns of a wide layout.
        columns: the columns to read; more than one only for a wide layout, in the order of the pixels.
        shape: of one image, e.g. (28, 28); (d,) for a flat vector; () if nothing tells, as in an empty file.
        grayscale: whether colour images are converted.
        held_shape: the shape as the file holds it where that is another, e.g. (784,) or (28, 28, 1).
    """

    kind: Kind
    name: str
    columns: tuple[str, ...]
    shape: Shape
    grayscale: bool
    held_shape: Shape = ()

    @property
    def d(self) -> int:
        """Numbers in one image."""
        return math.prod(self.shape) if self.shape else 0

    def describe(self) -> str:
        """One line for people, e.g. ``PNG or JPEG, 28 x 28, in column 'image'``."""
        where = f"column {self.name!r}"
        if self.kind == "wide":
            where = f"columns {self.columns[0]!r} to {self.columns[-1]!r}"
        return f"{_TITLES[self.kind]}, {show_shape(self.shape)}, in {where}"


@dataclass(frozen=True)
class _Candidate:
    """A column, or columns, that can hold images; a binary one is encoded until its bytes are seen."""

    kind: Kind
    name: str
    columns: tuple[str, ...]
    declared: bool = False  # Hugging Face metadata say that it is an image.
    grid: Shape = ()  # of a wide layout


def recognise_images(
    head: pa.Table,
    options: ImageOptions,
    *,
    expected: Shape | None = None,
    preferred: str | None = None,
) -> Layout:
    """Find the images of a file and their shape.

    Args:
        head: the first rows of the file, 64 at most, with all its columns; it may have none.
        options: what the user says.
        expected: the shape of the images that an index stores. A flat image of as many numbers adopts it.
        preferred: the image column's name when the index was built, taken where several could be meant.

    Raises:
        ImageFileError: no image column or several, images of another shape or of a shape that nothing tells.
    """
    candidate = _choose(_candidates(head.schema), head.schema, options.image_column, preferred)
    column = read_column(head, candidate.columns[0])
    kind = candidate.kind
    if kind == "encoded" and not candidate.declared and not _is_encoded(column):
        kind = "raw"
    shapes, reason = _measure(kind, candidate, column, head.schema, grayscale=options.grayscale)
    if reason and not shapes and not (expected or options.shape):
        raise ImageFileError(
            f"none of the first {len(column)} rows of column {candidate.name!r} is a readable image: "
            f"{reason}; name another column with {param('image_column')}, "
            f"or pass {param('shape')} to go on past such rows"
        )
    flat_as_square = kind == "wide" or not is_float(innermost(column.type))
    shape, held = _settle(shapes, options.shape, expected, flat_as_square=flat_as_square)
    if kind == "raw" and len(shape) == 1 and not (expected or options.shape):
        raise ImageFileError(
            f"column {candidate.name!r} holds {shape[0]} bytes a row: neither PNG or JPEG nor the pixels of "
            f"a square image; give {param('shape')}, or name another column with {param('image_column')}"
        )
    return Layout(
        kind=kind,
        name=candidate.name,
        columns=candidate.columns,
        shape=shape,
        grayscale=options.grayscale,
        held_shape=() if held == shape else held,
    )


def compatible(one: Shape, other: Shape) -> bool:
    """Whether two shapes are equal, or are of as many numbers with one of them flat."""
    return one == other or (math.prod(one) == math.prod(other) and 1 in (len(one), len(other)))


def show_shape(shape: Sequence[int]) -> str:
    """A shape for people: ``28 x 28``, or ``64 values`` if it is flat."""
    if not shape:
        return "shape unknown"
    return " x ".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} values"


def _candidates(schema: pa.Schema) -> list[_Candidate]:
    declared = _declared_images(schema)
    found = [
        _Candidate(kind, field.name, (field.name,), declared=field.name in declared or _is_image_struct(field.type))
        for field in schema
        if (kind := _kind_of(field.type)) is not None
    ]
    return found + list(_wide_candidates([field.name for field in schema if is_number(field.type)]))


def _kind_of(kind: pa.DataType) -> Kind | None:
    if isinstance(kind, pa.FixedShapeTensorType):
        return "tensor" if is_number(kind.value_type) and all(kind.shape) else None
    if pa.types.is_fixed_size_binary(kind):
        return "raw" if kind.byte_width else None
    if _is_image_struct(kind) or is_binary(kind):
        return "encoded"
    return "list" if is_list(kind) and is_number(innermost(kind)) and all(fixed_shape(kind)) else None


def _is_image_struct(kind: pa.DataType) -> bool:
    """The struct in which Hugging Face data sets hold an image."""
    if not pa.types.is_struct(kind):
        return False
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    return "path" in fields and "bytes" in fields and is_binary(fields["bytes"])


def _declared_images(schema: pa.Schema) -> set[str]:
    """The columns that Hugging Face metadata call images; metadata that make no sense declare none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return set()


def _wide_candidates(names: list[str]) -> Iterator[_Candidate]:
    """Groups of columns with a common prefix and consecutive numbers, or the two numbers of a grid."""
    used: set[str] = set()
    for prefix, group in _by_prefix(names, r"(.*?)(\d+)[_x](\d+)"):
        height, width = (len({key[axis] for key in group}) for axis in (0, 1))
        if min(height, width) > 1 and _counts_up(group, width):
            used.update(group.values())
            yield _wide(prefix, group, (height, width))
    for prefix, group in _by_prefix([name for name in names if name not in used], r"(.*?)(\d+)"):
        if _counts_up(group, len(group)):
            yield _wide(prefix, group, (len(group),))


def _by_prefix(names: list[str], pattern: str) -> Iterator[tuple[str, dict[Shape, str]]]:
    """For each prefix its columns by number; a prefix with two columns of one number is none."""
    groups: dict[str, list[tuple[Shape, str]]] = {}
    for name in names:
        if match := re.fullmatch(pattern, name, flags=re.ASCII):
            prefix, *numbers = match.groups()
            groups.setdefault(prefix, []).append((tuple(map(int, numbers)), name))
    for prefix, pairs in groups.items():
        group = dict(sorted(pairs))
        if len(group) == len(pairs) >= _FEWEST_WIDE_COLUMNS:
            yield prefix, group


def _counts_up(group: dict[Shape, str], width: int) -> bool:
    """Whether the numbers run through a whole grid of this width, from 0 or from 1."""
    first = min(group)
    wanted = [
        (i // width + first[0], i % width + first[-1]) if len(first) == 2 else (i + first[0],)
        for i in range(len(group))
    ]
    return max(first) <= 1 and list(group) == wanted


def _wide(prefix: str, group: dict[Shape, str], grid: Shape) -> _Candidate:
    return _Candidate("wide", prefix, tuple(group.values()), grid=grid)


def _choose(candidates: list[_Candidate], schema: pa.Schema, asked: str | None, preferred: str | None) -> _Candidate:
    by_name = {candidate.name: candidate for candidate in candidates}
    names = ", ".join(map(repr, by_name))
    if asked is not None and asked not in by_name:
        others = f"image columns here are {names}" if names else f"the columns are {_list_columns(schema)}"
        if asked in schema.names:
            kind = schema.field(schema.names.index(asked)).type
            raise ImageFileError(f"column {asked!r} is {kind}, which holds no image ({_ACCEPTED}); {others}")
        raise ImageFileError(f"there is no image column {asked!r}; {others}")
    if len(candidates) > len(by_name):
        raise ImageFileError(f"several image columns have one name among {names}: write the file with each name once")
    for name in (asked, preferred):
        if name in by_name:
            return by_name[name]
    if not candidates:
        raise ImageFileError(
            f"no image column ({_ACCEPTED}); the columns are {_list_columns(schema)}: "
            f"name one with {param('image_column')}"
        )
    if len(candidates) > 1:
        raise ImageFileError(f"several columns could be the image: {names}; name one with {param('image_column')}")
    return candidates[0]


def _list_columns(schema: pa.Schema) -> str:
    shown = [f"{field.name} ({field.type})" for field in list(schema)[:_LISTED_COLUMNS]]
    more = len(schema) - len(shown)
    return (", ".join(shown) + (f" and {more} more" if more else "")) or "none"


def _is_encoded(column: pa.Array) -> bool:
    """Whether any row begins as a PNG or JPEG does; rows that say nothing are taken for encoded."""
    rows = [data for data in column.to_pylist() if data is not None]
    return not rows or any(map(is_encoded, rows))


def _measure(
    kind: Kind, candidate: _Candidate, column: pa.Array, schema: pa.Schema, *, grayscale: bool
) -> tuple[list[Shape], str]:
    """Shapes of the images as held, from the schema or else from the rows, the commonest first.

    With none from rows that there are, the reason is that of the first row.
    """
    if kind == "wide":
        return [candidate.grid], ""
    if kind == "tensor":
        return [logical_shape(schema.field(candidate.name).type)], ""
    if pa.types.is_fixed_size_binary(column.type):
        return [(column.type.byte_width,)], ""
    if kind == "list" and (fixed := fixed_shape(column.type)):
        return [fixed], ""
    if kind == "encoded":
        return _measure_encoded(column, grayscale=grayscale)
    if kind == "raw":
        measured: list[Shape] = [(size,) for size in pc.binary_length(column).to_pylist() if size]
    else:
        measured = _measure_lists(column)
    return _commonest(measured), "" if measured or not len(column) else "every one is null, empty or ragged"


def _measure_encoded(column: pa.Array, *, grayscale: bool) -> tuple[list[Shape], str]:
    shapes: list[Shape] = []
    reasons: list[str] = []
    for data in column.to_pylist():
        if data is None:
            reasons.append("null image")
            continue
        try:
            shapes.append(decode(data, grayscale=grayscale).shape)
        except CodecError as error:
            reasons.append(str(error))
    return _commonest(shapes), (reasons or [""])[0]


def _measure_lists(column: pa.Array) -> list[Shape]:
    """The shape of each row whose lists are all there and as long as their neighbours."""
    levels, _, _ = unfold_lists(column)
    n = len(column)
    whole = np.ones(n, np.bool_)
    extents = []
    for level in levels:
        shortest, longest = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
        np.minimum.at(shortest, level.row, level.length)
        np.maximum.at(longest, level.row, level.length)
        whole &= (shortest == longest) & (longest > 0)
        extents.append(longest)
    return [tuple(map(int, row)) for row in np.stack(extents, axis=1)[whole]]


def _commonest(shapes: Iterable[Shape]) -> list[Shape]:
    return [shape for shape, _ in Counter(shapes).most_common()]


def _settle(
    measured: list[Shape], asked: Shape | None, expected: Shape | None, *, flat_as_square: bool
) -> tuple[Shape, Shape]:
    """The shape of the images and the shape as held."""
    if asked and expected and not compatible(asked, expected):
        raise ImageFileError(f"{param('shape')} says {show_shape(asked)}, the index stores {show_shape(expected)}")
    if not measured:
        shape = asked or expected or ()
        return shape, shape
    for held in measured:
        if asked and math.prod(held) == math.prod(asked):
            return asked, held
        if not asked and (not expected or compatible(_squeeze(held), expected)):
            return _name_shape(_squeeze(held), expected, flat_as_square=flat_as_square), held
    told = f"{param('shape')} says {show_shape(asked)}" if asked else f"the index stores {show_shape(expected or ())}"
    raise ImageFileError(
        f"images are {show_shape(_squeeze(measured[0]))}, {told}: "
        + ("give the shape they have" if asked else "they need an index of images of their shape")
    )


def _name_shape(found: Shape, expected: Shape | None, *, flat_as_square: bool) -> Shape:
    """The shape of a flat image: that of the index, else the square if there is one and it may be taken."""
    if len(found) > 1:
        return found
    if expected:
        return expected
    side = math.isqrt(found[0])
    return (side, side) if flat_as_square and side > 1 and side * side == found[0] else found


def _squeeze(shape: Shape) -> Shape:
    """Without channel axes of length 1 around two others."""
    while len(shape) > 2 and 1 in (shape[0], shape[-1]):
        shape = shape[:-1] if shape[-1] == 1 else shape[1:]
    return shape
