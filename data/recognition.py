"""Which layout the images of a file have, told by its schema and first rows."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from .codecs.names import Background
from .columns import is_number, is_usual_label, read_column
from .errors import ImageFileError, param
from .layout import Candidate, FirstRows, ImageOptions, Layout, Shape, compatible, noun, show_shape
from .layouts.encoded import Encoded, decoded_by_spark
from .layouts.lists import Lists, Tensors
from .layouts.raw import Raw
from .layouts.vectors import Vectors
from .layouts.wide import Wide

# Of those that could have the same column, the first that fits its rows is taken, and the last whatever they are.
LAYOUTS: tuple[type[Layout], ...] = (Encoded, Raw, Tensors, Lists, Vectors, Wide)

_LISTED_COLUMNS = 12
_ACCEPTED = (
    "PNG, JPEG, other encoded images or raw pixels in a binary column, lists, tensors or vectors of numbers, "
    "or one numeric column a pixel"
)


@dataclass(frozen=True, kw_only=True)
class StoredImages:
    """What an index says of its images, by which others are recognised where the user says nothing.

    Attributes:
        shape: of one image.
        column: the image column's name when the index was built, taken where several could be meant.
        grayscale: colour images were converted.
        others: columns of labels and ids that are numbered as those of the pixels are, and so could be taken for some.
        background: on which transparent pixels were laid.
        feature_names: of each value of a vector, where they came from a table with a column a value: tables are then
            taken by these names.
    """

    shape: Shape
    column: str | None
    grayscale: bool
    others: tuple[str, ...] = ()
    background: Background | None = None
    feature_names: tuple[str, ...] | None = None

    def recognise(self, head: pa.Table, options: ImageOptions) -> Layout:
        """How a table whose first rows these are holds its images.

        Raises:
            ImageFileError: it holds none, or of another shape than the index's.
        """
        options = replace(
            options,
            grayscale=options.grayscale or self.grayscale,
            background=options.background or self.background,
        )
        return recognise_images(
            head,
            options,
            expected=self.shape,
            preferred=self.column,
            others=self.others,
            feature_names=self.feature_names,
        )


def numbered_like(image_column: str | None, columns: Iterable[str | None]) -> tuple[str, ...]:
    """Those of some columns that are named as the pixels of a wide layout are: their prefix and a number."""
    if image_column is None:
        return ()
    return tuple(
        name for name in columns if name and name.startswith(image_column) and name[len(image_column) :].isdecimal()
    )


def recognise_images(
    head: pa.Table,
    options: ImageOptions,
    *,
    expected: Shape | None = None,
    preferred: str | None = None,
    others: Collection[str] = (),
    feature_names: Sequence[str] | None = None,
) -> Layout:
    """Find the images of a file and their shape.

    Args:
        head: the first rows of the file, 64 at most, with all its columns; it may have none.
        options: what the user says.
        expected: the shape of the images that an index stores. A flat image of as many numbers adopts it.
        preferred: the image column's name when the index was built, taken where several could be meant.
        others: columns that hold labels or ids, whether the file has them or not.
        feature_names: of the columns when the index was built, where each was a value of a vector: they are taken by
            name, in that order.

    Raises:
        ImageFileError: no image column or several, images of another shape or of a shape that nothing tells; or
            columns that are values, of other names than the index's.
    """
    if feature_names is not None and options.image_column is None and {*feature_names} & {*head.schema.names}:
        return _by_feature_names(head.schema, feature_names, expected or (len(feature_names),))
    candidates = _candidates(head.schema)
    if others:
        candidates = _candidates_beside(head.schema, others, math.prod(expected or ()))
    shape_known = options.shape or expected
    first = _choose(candidates, head, options, preferred, math.prod(shape_known) if shape_known else None)
    candidate, layout = first.candidate, first.candidate.layout
    if feature_names is not None and layout is Wide:
        return _by_feature_names(head.schema, feature_names, expected or (len(feature_names),))
    shapes, reason = layout.measure(first)
    if reason and not shapes and not shape_known:
        raise _unreadable(first, reason)
    shape, held = _settle(shapes, options.shape, expected, flat_as_square=layout.takes_squares(first))
    doubt = None if shape_known else layout.doubt(first, shape)
    if doubt:
        raise ImageFileError(doubt)
    return layout(
        name=candidate.name,
        columns=candidate.columns,
        shape=shape,
        grayscale=options.grayscale,
        background=options.background,
        held_shape=() if held == shape else held,
    )


def _unreadable(first: FirstRows, reason: str) -> ImageFileError:
    return ImageFileError(
        f"none of the first {len(first.column)} rows of column {first.candidate.name!r} can be read: "
        f"{reason}; name another column with {param('image_column')}, "
        f"or pass {param('shape')} to go on past such rows"
    )


def _by_feature_names(schema: pa.Schema, names: Sequence[str], shape: Shape) -> Layout:
    """The columns that an index's values came from."""
    absent = [name for name in names if schema.names.count(name) != 1 or not is_number(schema.field(name).type)]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ImageFileError(
            f"the index was built of columns {names[0]!r} to {names[-1]!r}, and there is no one column of numbers "
            f"{absent[0]!r}{more} here; the columns are {_list_columns(schema)}: rename them, or give arrays"
        )
    return Wide(name=names[0], columns=tuple(names), shape=shape, grayscale=False)


def _choose(
    every: list[list[Candidate]], head: pa.Table, options: ImageOptions, preferred: str | None, pixels: int | None
) -> FirstRows:
    """The image column, or columns, in the layout that fits the rows."""
    candidates = _choose_by_name(every, head.schema, options.image_column, preferred)
    name = candidates[0].columns[0]
    if head.schema.names.count(name) > 1:
        raise ImageFileError(f"several columns are named {name!r}: write the file with each name once")
    column = read_column(head, name)
    found = [
        FirstRows(candidate=candidate, column=column, schema=head.schema, options=options, pixels=pixels)
        for candidate in candidates
    ]
    return next((first for first in found[:-1] if first.candidate.layout.fits(first)), found[-1])


def _candidates(schema: pa.Schema) -> list[list[Candidate]]:
    """What may be images: columns one by one as the file has them, then groups of columns; each in all its layouts."""
    found: dict[tuple[int | None, str, tuple[str, ...]], list[Candidate]] = {}
    for layout in LAYOUTS:
        for candidate in layout.candidates(schema):
            found.setdefault((candidate.place, candidate.name, candidate.columns), []).append(candidate)
    return sorted(found.values(), key=lambda same: len(schema) if same[0].place is None else same[0].place)


def _candidates_beside(schema: pa.Schema, others: Collection[str], d: int) -> list[list[Candidate]]:
    """What may be images where some columns hold labels or ids, which may be numbered as the pixels are.

    A number that is missing among the pixels, as V1 is from V2 to V785, may be of such a column, even of one that this
    file has not. As many columns as an image has pixels are these, whatever they were when the index was built.
    """
    own = _candidates(pa.schema([field for field in schema if field.name not in others]))
    numbered = pa.schema(
        [*(field for field in schema if field.name not in others), *(pa.field(name, pa.int8()) for name in others)]
    )
    groups = {same[0].name: same for same in _candidates(schema) if len(same[0].columns) == d > 1}
    for same in (*own, *_candidates(numbered)):
        columns = tuple(name for name in same[0].columns if name not in others)
        if len(same[0].columns) > 1 and len(columns) > 1:
            shape = same[0].shape if columns == same[0].columns else (len(columns),)
            groups.setdefault(same[0].name, [replace(same[0], columns=columns, shape=shape)])
    return [*(same for same in own if len(same[0].columns) == 1), *groups.values()]


def _choose_by_name(
    candidates: list[list[Candidate]], schema: pa.Schema, asked: str | None, preferred: str | None
) -> list[Candidate]:
    pictures = [same for same in candidates if not (is_usual_label(same[0].name) and same[-1].layout is Raw)]
    candidates = pictures if len(pictures) == 1 and asked is None else candidates
    by_name = {same[0].name: same for same in candidates}
    if (not candidates or asked not in (None, *by_name)) and (told := decoded_by_spark(schema)):
        raise ImageFileError(told)
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
    things = f"{noun(asked or expected or ())}s"
    raise ImageFileError(
        f"{things} are {show_shape(_squeeze(measured[0]))}, {told}: "
        + ("give the shape they have" if asked else f"they need an index of {things} of their shape")
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
