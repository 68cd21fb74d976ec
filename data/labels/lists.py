"""Lists for a person to fill in, as `suspects` and `review` write them: by which columns they are known."""

import shlex
from collections.abc import Sequence

from knnvote.data.errors import KnnvoteError, param
from knnvote.data.input_file import InputFile

FIX = "fix"  # a column to be filled in by who looks: the right label, be it the present one
LABEL = "label"
_OF_REVIEW = ("why", LABEL)
_TO_FILL_IN = ((FIX,), _OF_REVIEW)  # columns that tell such lists, the last of which is to be filled in


def told_to_fill_in(names: Sequence[str]) -> tuple[str, ...]:
    """The columns that tell that a file of some columns is a list to be filled in, if it is."""
    return next((told for told in _TO_FILL_IN if {*told} <= {*names}), ())


def is_of_review(names: Sequence[str]) -> bool:
    """Whether a file of some columns is a list of `review`, of rows of which any, few or none are stored."""
    return told_to_fill_in(names) == _OF_REVIEW


def refuse_fixes(inputs: Sequence[InputFile]) -> None:
    """Refuse lists to be filled in as tables of labels, where the labels that are to be mended would be read of them.

    Raises:
        KnnvoteError: naming what takes the column that is filled in.
    """
    for table in dict.fromkeys(source.labels for source in inputs):
        if table is not None and table.label_column == LABEL and FIX in table.header:
            shown = shlex.quote(table.shown)
            raise KnnvoteError(
                f"{table.shown} has a column {FIX!r} beside {LABEL!r}, as lists to be filled in have, whose labels "
                f"are those to be mended: knnvote relabel X.knn {shown} mends an index of the images; "
                f"{param('label_column')} {FIX} takes the labels of that column alone"
            )
