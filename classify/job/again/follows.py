"""A job again with other options: what follows from the outputs that are there, and why the rest must be done anew.

Or what of it is wanted anew: a job that is told to answer only the rows that abstained keeps the others as they stand.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.answer import answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.receipt import Receipt, is_sealed, read_receipt
from knnvote.classify.job.work import Task, Work
from knnvote.classify.search.kinds import SEARCHERS
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.locations import Location

_LIMITS = ("min_confidence", "min_confidence_by_class", "max_distance")
_VOTES = ("k", "weights", "ties", "class_weight")
# What another value of an option changes; of those that are not here, the columns of the outputs.
_CHANGES = {
    **dict.fromkeys(_VOTES, "with other votes any row may be answered otherwise"),
    **dict.fromkeys(("image_column", "shape", "grayscale", "background"), "any image may be read otherwise"),
    "only": "of its answers some are of earlier jobs",
}
_OF_ONLY = {*(field.name for field in fields(Rule)), "only"}  # what may be otherwise where answers are kept


def why_all_anew(classifier: Classifier, made_from: dict[str, Any], earlier: dict[str, Any]) -> str | None:
    """Why a job's answers do not follow from those of an earlier one; None where they do, without a search.

    Args:
        classifier: the job's, with what its outputs ask of the search.
        made_from: what all receipts of the job share.
        earlier: what those of the earlier job do.
    """
    if earlier["index"] not in (made_from["index"], *classifier.index.manifest.relabelled_from):
        return "another index may answer any row otherwise"
    if (why := _why_other(made_from, earlier, (*_LIMITS, *_VOTES))) is not None:
        return why
    if not is_same_vote(made_from, earlier):
        return _why_no_vote(classifier, made_from, earlier)
    try:
        limits = {"min_confidence_by_class": None, **earlier["options"]}  # for which jobs of before had no word
        rule = replace(classifier.rule, **{name: limits[name] for name in _LIMITS})
    except (OptionError, KeyError):
        return "its receipts are damaged"
    return None if classifier.finds_the_same(rule) else f"{classifier.index.path} is searched otherwise for that"


def is_same_vote(made_from: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Whether every row has the same vote in two jobs, which may abstain otherwise."""
    return made_from["index"] == earlier["index"] and _why_other(made_from, earlier, _LIMITS) is None


def _why_other(made_from: dict[str, Any], earlier: dict[str, Any], but: Sequence[str]) -> str | None:
    """What the first option changes that differs between two jobs, but for some; None where none does."""
    options, before = made_from["options"], earlier["options"]
    for name in {**options, **before}:
        if options.get(name) != before.get(name) and name not in but:
            return _CHANGES.get(name, "all outputs get other columns")
    return None


def _why_no_vote(classifier: Classifier, made_from: dict[str, Any], earlier: dict[str, Any]) -> str | None:
    """Why the neighbours in outputs of an earlier job cannot vote again; None where they can."""
    index, options, before = classifier.index, made_from["options"], earlier["options"]
    other = "votes" if made_from["index"] == earlier["index"] else "labels"
    why = f"with other {other} any row may be answered otherwise"
    if not options["neighbors"]:
        return f"{why}, and outputs without {param('neighbors')} do not tell which"
    if not _holds_voters(options, before):
        return f"{why}, and outputs with {before.get('k')} neighbours do not tell who votes now"
    if not SEARCHERS[index.kind].finds_first(before["k"], options["k"]):
        return f"{why}, for {index.path} may find other neighbours then"
    return None


def _holds_voters(options: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether outputs hold at least as many neighbours as are to vote."""
    return type(before.get("k")) is int and before["k"] >= options["k"]


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
    earlier, options = receipt.made_from, made_from["options"]
    if options.get("only") is not None:
        return _why_none_kept(made_from, earlier) is None
    if made_from["index"] != earlier["index"] or _why_other(made_from, earlier, (*_LIMITS, *_VOTES)) is not None:
        return False
    return is_same_vote(made_from, earlier) or (options["neighbors"] and _holds_voters(options, earlier["options"]))


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
