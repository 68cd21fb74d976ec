"""The tables of ``choose-threshold``, of confidences and of distances."""

import math
from collections.abc import Sequence

from knnvote.classify.evaluation.coverage import Coverage
from knnvote.classify.evaluation.distances import DistanceChoice
from knnvote.classify.evaluation.threshold import Threshold
from knnvote.classify.interval import trials_to_show
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.layout import noun
from knnvote.data.text import counted
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.rungs import Interval

from .table import Name, add_row, new_table, print_line, print_table, print_text, short_name

_STEPS_SHOWN = 12
_CLASSES_SHOWN = 12
_CLASSES_NAMED = 5
_FEW = 30  # answers, of which an accuracy says little


def print_threshold(found: Threshold, index: Index) -> None:
    """What thresholds accept, which was chosen, and what it accepts of each class."""
    names, things = index.manifest.class_names, f"{noun(index.shape)}s"
    by_group = "" if found.groups is None else f" with its group, of {found.groups:,}"
    drawn = f", drawn of {index.n:,}" if found.images < index.n else ""
    asked = f"stored {things}{drawn}, each left out{by_group}" if found.left_out else f"labelled {things}"
    print_line(f"{found.images:,} {asked}")
    table = new_table("", "min-confidence", "accepted", "share", "right", "95% interval", "balanced")
    for step in _some(found.steps, found.chosen):
        mark = " *" if step == found.chosen else ""
        add_row(table, f"{step.threshold:.2f}{mark}", *_accepted(step), f"{step.balanced_accuracy:.4f}")
    print_table(table)
    if found.target_accuracy is None:
        print_line("a --target-accuracy chooses one of them")
    elif found.chosen is None:
        print_line(spelled(found.why_none, as_typed))
    else:
        print_text(
            f"* --min-confidence {found.chosen.threshold:g} is the lowest that is shown to reach "
            f"{found.target_accuracy:g}. Not all are tested: from the top down, one for every 5% of the answers"
        )
    if found.with_copies:
        print_text(
            f"{found.with_copies:,} of the {things} have an exact copy among the others, which flatters all of this"
        )
    if found.of_one_group is not None:
        print_line(found.of_one_group)
    _print_left_out(found)
    _print_classes(found, names)


def print_distances(found: DistanceChoice) -> None:
    """What limits of the distance refuse of known images and of unknown ones, and which was chosen."""
    asked = "stored images, each left out" if found.left_out else "test images of stored classes"
    print_line(f"{found.known:,} {asked}{f', and {found.unknown:,} of none' if found.unknown else ''}")
    of_unknown = ("unknown refused", "95% interval") if found.unknown else ()
    table = new_table("", "max-distance", "known refused", "95% interval", *of_unknown)
    for step in reversed(found.limits):
        mark = " *" if step == found.chosen else ""
        unknown = () if step.unknown is None else _share(step.unknown)
        add_row(table, f"{step.limit:g}{mark}", *_share(step.known), *unknown)
    print_table(table)
    print_line(f"* --max-distance {found.chosen.limit:g} lets about {found.false_alarms:.4g} of known images abstain")
    if found.has_many_copies:
        print_line(
            f"{found.with_copies:,} of the images have an exact copy among the others, which makes limits too narrow"
        )
    if found.unlabelled:
        print_line(f"{found.unlabelled:,} more have no label, and are left aside: nothing tells what they are")
    _print_left_out(found)


def _print_left_out(found: Threshold | DistanceChoice) -> None:
    if found.stored:
        print_text(
            f"left out: {counted(found.stored, 'image')} equal to a stored one, whose answer says nothing of new ones"
        )
    for reason, rows in found.bad_images.items():
        print_text(f"left out: {counted(rows, 'row')} ({reason})")


def _share(share: Interval) -> list[str]:
    return [f"{share.value:.1%}", f"{share.low:.1%}-{share.high:.1%}"]


def _some(steps: Sequence[Coverage], chosen: Coverage | None) -> list[Coverage]:
    """The chosen one, and others evenly among all, the highest threshold first."""
    stride = math.ceil(len(steps) / _STEPS_SHOWN)
    return [step for place, step in enumerate(reversed(steps)) if place % stride == 0 or step == chosen]


def _accepted(step: Coverage) -> list[str]:
    return [f"{step.images:,}", f"{step.coverage:.1%}", *_right(step)]


def _right(step: Coverage) -> list[str]:
    accuracy = step.accuracy
    return [f"{accuracy.value:.4f}", f"{accuracy.low:.4f}-{accuracy.high:.4f}"]


def _print_classes(found: Threshold, names: list[str] | None) -> None:
    """The classes of whose answers the fewest are right, at the threshold."""
    told = [(of_class, of_class.accepted) for of_class in found.classes if of_class.accepted is not None]
    told.sort(key=lambda of_class: of_class[1].accuracy.value)
    if not told:
        return
    shown = told[:_CLASSES_SHOWN]
    answers = "all answers" if found.chosen is None else f"answers at {found.chosen.threshold:g}"
    title = f"{answers} by their class" + (", the least right first" if told[len(shown) :] else "")
    print_line("")
    print_line(title)
    table = new_table("", "class", "answers", "accepted", "right", "95% interval", "", text=("",))
    for of_class, accepted in shown:
        few = "too few to tell" if accepted.images < _FEW else ""
        name = Name(show_class(of_class.label, names))
        add_row(table, name, f"{of_class.answers:,}", f"{accepted.images:,}", *_right(accepted), few)
    print_table(table)
    _print_more(len(told))
    if found.target_accuracy is not None:
        _print_own(found, found.target_accuracy, names)


def _print_more(classes: int) -> None:
    if classes > _CLASSES_SHOWN:
        print_line(f"{classes - _CLASSES_SHOWN:,} more classes are not shown: --json has all")


def _print_own(found: Threshold, target_accuracy: float, names: list[str] | None) -> None:
    """From which confidence a class alone is shown to reach the target and what that accepts, or why none is."""
    needed = trials_to_show(target_accuracy)
    takes = f"for which {target_accuracy:g} takes {needed:,} answers at least"
    told = [of_class for of_class in found.classes if of_class.answers]
    if not any(of_class.own for of_class in told):
        print_text(f"for a class alone a least confidence is chosen likewise, {takes}")
        return
    own = [(of_class, of_class.own) for of_class in told if of_class.own is not None]
    own.sort(key=lambda of_class: of_class[1].accuracy.value)
    print_line("")
    print_text(f"of a class alone from a least confidence of its own (--by-class), chosen likewise, {takes}")
    table = new_table("", "class", "min-confidence", "accepted", "share", "right", "95% interval")
    for of_class, accepted in own[:_CLASSES_SHOWN]:
        add_row(table, Name(show_class(of_class.label, names)), f"{accepted.threshold:.2f}", *_accepted(accepted))
    print_table(table)
    _print_more(len(own))
    without = [of_class for of_class in told if of_class.own is None]
    small = [show_class(of_class.label, names) for of_class in without if of_class.answers < needed]
    unsure = [show_class(of_class.label, names) for of_class in without if of_class.answers >= needed]
    for why, some in (("answers to tell", small), ("right ones", unsure)):
        if some:
            more = f" and {len(some) - _CLASSES_NAMED:,} more" if some[_CLASSES_NAMED:] else ""
            shown = ", ".join(map(short_name, some[:_CLASSES_NAMED]))
            have = "1 class has" if len(some) == 1 else f"{len(some):,} classes have"
            print_text(f"{have} that of all, with too few {why}: {shown}{more}")
