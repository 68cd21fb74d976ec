"""An Arrow table as a pandas DataFrame, where pandas is installed."""

from typing import TYPE_CHECKING

import pyarrow as pa

from knnvote.data.errors import KnnvoteError

if TYPE_CHECKING:
    from pandas import DataFrame

# Of Arrow's types pandas's own that have a missing value.
_NULLABLE = {"bool": "boolean", **{name.lower(): name for name in ("Int8", "Int16", "Int32", "Int64")}}
_NULLABLE |= {name.lower(): name for name in ("UInt8", "UInt16", "UInt32", "UInt64")}


def data_frame(table: pa.Table) -> "DataFrame":
    """The same rows and columns, of types that are the same whether or not a value is null: whole numbers stay so.

    Raises:
        KnnvoteError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415  # it need not be installed, and takes long to import
    except ImportError as error:
        raise KnnvoteError(
            "a DataFrame needs pandas, which is not installed: pip install pandas; to_table() gives the same without"
        ) from error
    nullable = {pa.type_for_alias(ours): pd.api.types.pandas_dtype(theirs) for ours, theirs in _NULLABLE.items()}
    frame: DataFrame = table.to_pandas(types_mapper=nullable.get)
    return frame
