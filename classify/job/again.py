"""A job again with other options: what follows from the outputs that are there, and why the rest must be done anew."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.answer import BAD_IMAGE
from knnvote.classify.classifier import Classifier
from knnvote.classify.decision import Decision, decide
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.locations import Location
from knnvote.data.reading import ImageFile
from knnvote.data.text import describe_error

from .output import in_step
from .receipt import Receipt, is_sealed
from .work import Work

_LIMITS = ("min_confidence", "min_confidence_by_class", "max_distance")
# What another value of an option changes; of those that are not here, the columns of the outputs.
_CHANGES = {
    **dict.fromkeys(("k", "weights", "ties", "class_weight"), "with other votes any row may be answered otherwise"),
    **dict.fromkeys(("image_column", "shape", "grayscale", "background"), "any image may be read otherwise"),
}
_BATCH = 16_384


def why_all_anew(classifier: Classifier, made_from: dict[str, Any], earlier: dict[str, Any]) -> str | None:
    """Why a job's answers do not follow from those of an earlier one; None where they do, without a search.

    Args:
        classifier: the job's, with what its outputs ask of the search.
        made_from: what all receipts of the job share.
        earlier: what those of the earlier job do.
    """
    if made_from["index"] != earlier["index"]:
        return "another index may answer any row otherwise"
    options, before = made_from["options"], earlier["options"]
    for name in {**options, **before}:
        if options.get(name) != before.get(name) and name not in _LIMITS:
            return _CHANGES.get(name, "all outputs get other columns")
    try:
        limits = {"min_confidence_by_class": None, **before}  # for which jobs of before had no word
        rule = replace(classifier.rule, **{name: limits[name] for name in _LIMITS})
    except (OptionError, KeyError):
        return "its receipts are damaged"
    return None if classifier.finds_the_same(rule) else f"{classifier.index.path} is searched otherwise for that"


def why_not_replace(classifier: Classifier, work: Work, *, overwrite: bool) -> Callable[[dict[str, Any]], str | None]:
    """What tells, of what all receipts of an earlier job share, why a job may not replace its outputs."""
    asked = replace(classifier, promise=work.options.output.promise)
    return (lambda _earlier: None) if overwrite else partial(why_all_anew, asked, work.made_from)


def follows(classifier: Classifier, made_from: dict[str, Any], output: Location, receipt: Receipt) -> bool:
    """Whether a job's answers follow from an output that another one made of the same input, whose receipt it is."""
    return why_all_anew(classifier, made_from, receipt.made_from) is None and is_sealed(output, receipt)


def decided_again(
    images: ImageFile, columns: Sequence[str], earlier: Location, added: pa.Schema, rule: Rule
) -> Iterator[tuple[list[pa.Array], Decision]]:
    """The rows of an output as a job would write them whose votes are those of the output that is there.

    The input's own columns are read from the input, as any job does, so that the bytes are those of a job anew.

    Args:
        images: the input, open.
        columns: of it that go on.
        earlier: the output that was made of it.
        added: the columns that follow.
        rule: that says when to abstain.

    Yields:
        All columns of some rows, and what was decided of them.

    Raises:
        KnnvoteError: the output cannot be read.
    """
    answers = _read_added(earlier, added)
    if not columns:
        pairs: Iterator[tuple[list[pa.Array], list[pa.Array]]] = (([], batch) for batch in answers)
    else:
        kept = ([batch[name] for name in columns] for batch in images.rows.batches(columns, _BATCH))
        pairs = in_step(kept, answers, (images.source, earlier))
    for of_input, batch in pairs:
        values = dict(zip(_names(added), batch, strict=True))
        decision = _decide(rule, values)
        values |= {
            "prediction": decision.prediction,
            "status": pa.array(decision.status, pa.string()),
            "reason": pa.array(decision.reason, pa.string()),
        }
        yield [*of_input, *values.values()], decision


def _names(added: pa.Schema) -> list[str]:
    """The added columns without their prefix, which is before that of the first, the prediction."""
    prefix = added.names[0].removesuffix("prediction")
    return [name.removeprefix(prefix) for name in added.names]


def _read_added(output: Location, added: pa.Schema) -> Iterator[list[pa.Array]]:
    try:
        with output.open() as stream:
            for batch in pq.ParquetFile(stream, pre_buffer=False).iter_batches(_BATCH, columns=added.names):
                yield [batch[field.name].cast(field.type) for field in added]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise KnnvoteError(f"cannot read {output}: {describe_error(error)}; remove it and run the job again") from error


def _decide(rule: Rule, values: dict[str, pa.Array]) -> Decision:
    status = values["status"].to_numpy(zero_copy_only=False)
    bad = {int(row): values["reason"][row].as_py() for row in np.flatnonzero(status == BAD_IMAGE)}
    distance, confidence = (
        values[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("distance", "confidence")
    )
    return decide(rule, values["best"], distance, confidence, bad)
