"""A column of groups, as files and arrays have them."""

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.columns import is_float
from knnvote.data.errors import KnnvoteError


def read_groups(groups: pa.Array, where: str) -> pa.Array:
    """Groups as strings without white space around them; null where there is none, which NaN and blank texts say too.

    Whole numbers are the same groups whether a file has them as integers or, beside missing ones, as floats.

    Args:
        groups: (n,) of any type.
        where: they stand, in words.

    Raises:
        KnnvoteError: they are fractions, lists or the like, which name nothing.
    """
    if pa.types.is_dictionary(groups.type):
        groups = groups.cast(groups.type.value_type)
    kind = groups.type
    try:
        if is_float(kind):
            numbers = groups.cast(pa.float64())
            groups = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers).cast(pa.int64())
        texts = pc.utf8_trim_whitespace(groups.cast(pa.string()))
    except pa.ArrowException as error:
        raise KnnvoteError(f"{where}: values of type {kind} name no groups: give whole numbers or texts") from error
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
