"""Labelled images on which searches are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from classify.classifier import Classifier
from data.errors import ImageFileError, KnnvoteError
from data.inputs import InputFile
from data.layout import ImageOptions, Layout
from data.parquet import open_parquet, read_batches, read_head, rows_within_budget
from indexer.labels import find_label
from indexer.store import Index

_BATCH = 4096


@dataclass(frozen=True)
class TestSet:
    """Test images as one index takes them.

    Attributes:
        xq: (nq, d) queries.
        truth: (nq,) true labels, if there are any; None for an image without one.
        rows: (nq,) place of each among all rows of the inputs.
        bad: rows that could not be read, by reason.
    """

    xq: NDArray[np.generic]
    truth: list[Any] | None
    rows: NDArray[np.int64]
    bad: dict[str, int]

    def sample(self, size: int) -> "TestSet":
        """So many of the images, evenly spread; all if there are no more."""
        nq = len(self.xq)
        places = np.linspace(0, nq - 1, min(nq, size)).astype(int)
        truth = None if self.truth is None else [self.truth[place] for place in places]
        return TestSet(self.xq[places], truth, self.rows[places], self.bad)


def read_test_set(
    inputs: Sequence[InputFile], classifier: Classifier, images: ImageOptions, label_column: str | None
) -> TestSet:
    """All readable images of the inputs as queries, with their labels if every file has them.

    Raises:
        KnnvoteError: a file does not fit the index, or no image is left.
    """
    blocks: list[NDArray[np.generic]] = []
    labels: list[Any] = []
    numbers: list[NDArray[np.int64]] = []
    reasons: dict[str, int] = {}
    first = 0
    for source in inputs:
        with open_parquet(source) as file:
            head = read_head(source, file)
            try:
                layout = classifier.recognise(head, images)
            except ImageFileError as error:
                raise ImageFileError(f"{source.shown}: {error}") from error
            label = _label_column(source, head.schema, layout, classifier.index, label_column)
            columns = [*layout.columns, *([label] if label else [])]
            for batch in read_batches(source, file, columns=columns, batch_size=rows_within_budget(layout.d, _BATCH)):
                xq, bad = classifier.vectors(batch, layout)
                good = np.setdiff1d(np.arange(len(xq)), list(bad))
                blocks.append(xq[good])
                numbers.append(first + good)
                if label:
                    found = batch.column(batch.schema.get_field_index(label)).take(good)
                    labels += _true_labels(source, label, found, classifier.index)
                for reason in bad.values():
                    reasons[reason] = reasons.get(reason, 0) + 1
                first += len(xq)
    if not sum(map(len, blocks)):
        raise KnnvoteError(f"no readable image in {', '.join(source.shown for source in inputs)} to compare on")
    truth = labels if len(labels) == sum(map(len, blocks)) else None
    return TestSet(np.concatenate(blocks), truth, np.concatenate(numbers), reasons)


def _label_column(source: InputFile, schema: pa.Schema, layout: Layout, index: Index, named: str | None) -> str | None:
    """The column of true labels, if there is one; its labels must be of the index's kind."""
    if named is not None and named not in schema.names:
        raise ImageFileError(
            f"{source.shown}: no column {named!r} for --label-column; there are {', '.join(schema.names)}"
        )
    found = find_label(schema, layout.columns, named or index.manifest["label_column"])
    if found is None:
        return None
    kind = schema.field(found).type
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    if not (pt.is_null(kind) or _fits(kind, index)):
        raise ImageFileError(
            f"{source.shown}: labels in column {found!r} are {kind}, those of {index.path} {index.labels.type}: "
            "name the right column with --label-column"
        )
    return found


def _fits(kind: pa.DataType, index: Index) -> bool:
    """Whether labels of a type can be equal to those of an index, or near them."""
    if index.is_regression or pt.is_integer(index.labels.type):
        return bool(pt.is_integer(kind) or pt.is_floating(kind))  # pandas turns integers with nulls into floats
    if pt.is_boolean(index.labels.type):
        return bool(pt.is_boolean(kind))
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _true_labels(source: InputFile, name: str, column: pa.Array, index: Index) -> list[Any]:
    """Labels (n,) of a column as Python values; None where there is none, as NaN says too."""
    column = column.dictionary_decode() if pt.is_dictionary(column.type) else column
    if not pt.is_floating(column.type):
        return list(column.to_pylist())
    column = column.cast(pa.float64())
    if pc.any(pc.is_inf(column)).as_py():
        raise ImageFileError(f"{source.shown}: labels in column {name!r} hold infinity: give finite numbers or nulls")
    labels = pc.if_else(pc.is_nan(column), None, column).to_pylist()
    if index.is_regression:
        return list(labels)
    return [int(label) if label is not None and label.is_integer() else label for label in labels]
