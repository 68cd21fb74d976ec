"""A job again with other options: what follows from the outputs that are there, and why the rest must be done anew.

Or what of it is wanted anew: a job that is told to answer only the rows that abstained keeps the others as they stand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE, answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.decision import Decision, decide
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.locations import Location
from knnvote.data.reading import ImageFile
from knnvote.data.text import describe_error

from .output import in_step, read_answers
from .receipt import Kept, Receipt, is_sealed, read_receipt
from .record import differences
from .work import Task, Work

_LIMITS = ("min_confidence", "min_confidence_by_class", "max_distance")
# What another value of an option changes; of those that are not here, the columns of the outputs.
_CHANGES = {
    **dict.fromkeys(("k", "weights", "ties", "class_weight"), "with other votes any row may be answered otherwise"),
    **dict.fromkeys(("image_column", "shape", "grayscale", "background"), "any image may be read otherwise"),
    "only": "of its answers some are of earlier jobs",
}
_OF_ONLY = {*(field.name for field in fields(Rule)), "only"}  # what may be otherwise where answers are kept
_BATCH = 16_384


class ChangedError(KnnvoteError):
    """An output was replaced by another run while a job read what it keeps of it: what is there now decides."""


def why_all_anew(classifier: Classifier, made_from: dict[str, Any], earlier: dict[str, Any]) -> str | None:
    """Why a job's answers do not follow from those of an earlier one; None where they do, without a search.

    Args:
        classifier: the job's, with what its outputs ask of the search.
        made_from: what all receipts of the job share.
        earlier: what those of the earlier job do.
    """
    if (why := _why_other_votes(made_from, earlier)) is not None:
        return why
    try:
        limits = {"min_confidence_by_class": None, **earlier["options"]}  # for which jobs of before had no word
        rule = replace(classifier.rule, **{name: limits[name] for name in _LIMITS})
    except (OptionError, KeyError):
        return "its receipts are damaged"
    return None if classifier.finds_the_same(rule) else f"{classifier.index.path} is searched otherwise for that"


def _why_other_votes(made_from: dict[str, Any], earlier: dict[str, Any]) -> str | None:
    """Why a job's votes, or what its outputs hold of them, are not those of an earlier one; None where they are."""
    if made_from["index"] != earlier["index"]:
        return "another index may answer any row otherwise"
    options, before = made_from["options"], earlier["options"]
    for name in {**options, **before}:
        if options.get(name) != before.get(name) and name not in _LIMITS:
            return _CHANGES.get(name, "all outputs get other columns")
    return None


def may_follow(made_from: dict[str, Any], output: Location, size: int) -> bool:
    """Whether answers of a job most likely follow from an output that is there, as its receipt alone tells.

    Args:
        made_from: what all receipts of the job share.
        output: that may be there.
        size: bytes of the input.
    """
    receipt = read_receipt(output)
    if receipt is None or receipt.input.get("size") != size:
        return False
    why = _why_other_votes if made_from["options"].get("only") is None else _why_none_kept
    return why(made_from, receipt.made_from) is None


def why_not_replace(classifier: Classifier, work: Work, *, overwrite: bool) -> Callable[[dict[str, Any]], str | None]:
    """What tells, of what all receipts of an earlier job share, why a job may not replace its outputs."""
    if overwrite:
        return lambda _earlier: None
    if work.options.only is not None:
        return partial(_why_none_kept, work.made_from)
    return partial(why_all_anew, replace(classifier, promise=work.options.output.promise), work.made_from)


def follows(classifier: Classifier, work: Work, output: Location, receipt: Receipt) -> bool:
    """Whether a job's answers, or those that it keeps, follow from an output that another one made of the same input.

    Args:
        classifier: the job's, with what its outputs ask of the search.
        work: the job.
        output: that the other job made.
        receipt: of that.
    """
    return why_not_replace(classifier, work, overwrite=False)(receipt.made_from) is None and is_sealed(output, receipt)


def _why_none_kept(made_from: dict[str, Any], earlier: dict[str, Any]) -> str | None:
    """Why no answer of an earlier job can be kept beside those of a job; None where they can."""
    options, before = made_from["options"], earlier["options"]
    for name in {**options, **before}:
        if options.get(name) != before.get(name) and name not in _OF_ONLY:
            why = _CHANGES.get(name, "the answers that it keeps have other columns")
            return f"{why}, so leave out {param('only')}"
    return None


def check_only(classifier: Classifier, work: Work, tasks: Sequence[Task], *, overwrite: bool) -> None:
    """Refuse to answer only some rows of outputs that are not there, or that have other columns.

    Raises:
        OptionError: all are to be made anew.
        KnnvoteError: there are none, or they have other columns.
    """
    only = work.options.only
    if only is None:
        return
    if overwrite:
        raise OptionError(f"{param('only')} keeps answers, and {param('overwrite=True')} makes all anew: give one")
    receipts = ((task.target, read_receipt(task.target)) for task in tasks)
    output, receipt = next(((target, found) for target, found in receipts if found is not None), (work.out, None))
    if receipt is None:
        raise KnnvoteError(
            f"{work.out} holds no answers of these inputs, of which some could be kept: leave out {param('only')}"
        )
    if _why_none_kept(work.made_from, receipt.made_from) is not None:
        return  # which is told of the whole folder
    with output.open() as stream:
        before = pq.read_schema(stream)
    added = answer_schema(classifier.index, **work.options.output.of_answers)
    if before.names[-len(added) :] == added.names and before.types[-len(added) :] == added.types:
        return
    types = dict(zip(before.names, before.types, strict=True))
    name = next((field.name for field in added if types.get(field.name) != field.type), before.names[-1])
    raise KnnvoteError(
        f"{output} holds {_described(before, name)}, and {classifier.index.path} gives {_described(added, name)}: "
        f"leave out {param('only')}, and pass {param('overwrite=True')} to make all outputs anew"
    )


def _described(schema: pa.Schema, name: str) -> str:
    """A column with its type, of a struct only how much it holds."""
    if name not in schema.names:
        return f"no {name}"
    kind = schema.field(name).type
    return f"{name} of {f'{kind.num_fields:,} classes' if pa.types.is_struct(kind) else f'type {kind}'}"


def kept_from(earlier: Receipt, made_from: dict[str, Any]) -> tuple[Kept, ...]:
    """Of the rows that a job keeps of an output, those that it would not itself have answered so, by earlier job."""
    jobs = [*earlier.kept]
    own = earlier.counts.ok - sum(job.rows for job in jobs)
    jobs.append(Kept(earlier.index, _without_only(earlier.options), own))
    now = {**made_from, "options": _without_only(made_from["options"])}
    return tuple(job for job in join_kept(jobs) if job.rows and job.made_from != now)


def refuse_changed(output: Location, receipt: Receipt) -> None:
    """Refuse to go on with an output that is no longer the one of this receipt, whose seal tells it from any other.

    Raises:
        ChangedError: it was replaced, or is gone.
    """
    if read_receipt(output) != receipt:
        raise _changed(output)


def _changed(output: Location) -> ChangedError:
    return ChangedError(f"{output} was changed while it was read: run the job again")


def of_unchanged(arrays: Iterator[list[pa.Array]], output: Location, receipt: Receipt) -> Iterator[list[pa.Array]]:
    """What is made of an output, as long as nobody replaces it: it is read more than once.

    Raises:
        ChangedError: it is no longer the one of this receipt when all is read, or reading failed.
    """
    try:
        yield from arrays
    except KnnvoteError:
        refuse_changed(output, receipt)
        raise
    refuse_changed(output, receipt)


def join_kept(jobs: Sequence[Kept]) -> list[Kept]:
    """Rows kept of the same job together, in the order of their first."""
    found: list[Kept] = []
    for job in jobs:
        place = next((place for place, other in enumerate(found) if other.made_from == job.made_from), None)
        if place is None:
            found.append(job)
        else:
            found[place] = replace(job, rows=job.rows + found[place].rows)
    return found


def tell_kept(jobs: Sequence[Kept], made_from: dict[str, Any], ok: int) -> list[str]:
    """A sentence, with parameters marked, for each earlier job of whose answers a job keeps some.

    Args:
        jobs: those.
        made_from: what all receipts of the job share.
        ok: answers of the job, with those.
    """
    now = {**made_from, "options": _without_only(made_from["options"])}
    return [
        f"{job.rows:,} of {ok:,} answers are kept of an earlier job: {'; '.join(differences(job.made_from, now))}"
        for job in jobs
    ]


def _without_only(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "only"}


def abstained_rows(output: Location, prefix: str) -> NDArray[np.int64]:
    """The rows of an output that abstained, ascending."""
    found, first = [np.empty(0, np.int64)], 0
    for (status,) in read_answers(output, prefix, "status"):
        found.append(first + np.flatnonzero(status.to_numpy(zero_copy_only=False) == ABSTAINED))
        first += len(status)
    return np.concatenate(found)


def with_kept(
    images: ImageFile, columns: Sequence[str], earlier: Location, added: pa.Schema, fresh: Iterator[pa.Table]
) -> Iterator[tuple[list[pa.Array], NDArray[np.object_], NDArray[np.object_]]]:
    """The rows of an output as they stand, but for those that abstained.

    Args:
        images: the input, open.
        columns: of it that go on.
        earlier: the output that was made of it.
        added: the columns that follow.
        fresh: those columns of the rows that abstained, some rows at a time.

    Yields:
        All columns of some rows, their status, and the reasons.

    Raises:
        KnnvoteError: the output cannot be read.
        ChangedError: other rows of it abstained than there are answers for.
    """
    held = added.empty_table()
    status, reason = (_names(added).index(name) for name in ("status", "reason"))
    for of_input, batch in _beside_input(images, columns, earlier, added):
        wanted = np.flatnonzero(batch[status].to_numpy(zero_copy_only=False) == ABSTAINED)
        while len(held) < len(wanted):
            more = next(fresh, None)
            if more is None:
                raise _changed(earlier)
            held = pa.concat_tables([held, more])
        now, held = held[: len(wanted)], held[len(wanted) :]
        places = np.arange(len(batch[status]))
        places[wanted] = len(places) + np.arange(len(wanted))
        answers = [
            pa.concat_arrays([before, *column.chunks]).take(pa.array(places))
            for before, column in zip(batch, now.columns, strict=True)
        ]
        told = (answers[place].to_numpy(zero_copy_only=False) for place in (status, reason))
        yield [*of_input, *answers], *told
    if len(held) or next(fresh, None) is not None:
        raise _changed(earlier)


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
    for of_input, batch in _beside_input(images, columns, earlier, added):
        values = dict(zip(_names(added), batch, strict=True))
        decision = _decide(rule, values)
        values |= {
            "prediction": decision.prediction,
            "status": pa.array(decision.status, pa.string()),
            "reason": pa.array(decision.reason, pa.string()),
        }
        yield [*of_input, *values.values()], decision


def _beside_input(
    images: ImageFile, columns: Sequence[str], earlier: Location, added: pa.Schema
) -> Iterator[tuple[list[pa.Array], list[pa.Array]]]:
    """Some rows at a time, the columns of an input that go on, and what an output added to them."""
    answers = _read_added(earlier, added)
    if not columns:
        return (([], batch) for batch in answers)
    kept = ([batch[name] for name in columns] for batch in images.rows.batches(columns, _BATCH))
    return in_step(kept, answers, (images.source, earlier))


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
