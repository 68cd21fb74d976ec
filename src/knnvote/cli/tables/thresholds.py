"""The tables of ``choose-threshold``, of confidences and of distances."""

import math
from collections.abc import Sequence

from knnvote.classify.evaluation.coverage import Coverage
from knnvote.classify.evaluation.distances import DistanceChoice
from knnvote.classify.evaluation.threshold import Threshold
from knnvote.classify.interval import trials_to_show
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.text import counted
from knnvote.indexer.labels import show_class
from knnvote.indexer.rungs import Interval

from .inspection import CLASSES_SHOWN, told_more_classes
from .table import Name, add_row, new_table, print_line, print_table, print_text

_STEPS_SHOWN = 12
_FEW = 30  # answers, of which an accuracy says little


def print_threshold(found: Threshold, names: list[str] | None) -> None:
    """What thresholds accept, which was chosen, and what it accepts of each class."""
    asked = "stored images, each left out" if found.left_out else "labelled images"
    by_group = "" if found.groups is None else f" with its group, of {found.groups:,}"
    print_line(f"{found.images:,} {asked}{by_group}")
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
        print_line(
            f"* --min-confidence {found.chosen.threshold:g} is the lowest that is shown to reach "
            f"{found.target_accuracy:g}. Not all are tested: from the top down, one for every 5% of the answers"
        )
    if found.with_copies:
        print_line(
            f"{found.with_copies:,} of the images have an exact copy among the others, which flatters all of this"
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
    shown = told[:CLASSES_SHOWN]
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
    if found.target_accuracy is not None:
        _print_own(found, found.target_accuracy, names)
    if told[len(shown) :]:
        print_line(f"{len(told) - len(shown):,} more classes are not shown: --json has all")


def _print_own(found: Threshold, target_accuracy: float, names: list[str] | None) -> None:
    """From which confidence a class alone is shown to reach the target and what that accepts, or why none is."""
    needed = trials_to_show(target_accuracy)
    takes = f"for which {target_accuracy:g} takes {needed:,} answers at least"
    told = [of_class for of_class in found.classes if of_class.answers]
    if not any(of_class.own for of_class in told):
        print_line(f"for a class alone a least confidence is chosen likewise, {takes}")
        return
    told.sort(key=lambda of_class: of_class.own.accuracy.value if of_class.own else 2)  # those without come last
    own = [of_class for of_class in told if of_class.own is not None] if len(told) > CLASSES_SHOWN else told
    print_line("")
    print_line(f"of a class alone from a least confidence of its own (--by-class), chosen likewise, {takes}")
    table = new_table("", "class", "min-confidence", "accepted", "share", "right", "95% interval", "", text=("",))
    for of_class in own[:CLASSES_SHOWN]:
        name = Name(show_class(of_class.label, names))
        if of_class.own is not None:
            add_row(table, name, f"{of_class.own.threshold:.2f}", *_accepted(of_class.own), "")
        else:
            why = "too few answers to tell" if of_class.answers < needed else "too few are right"
            add_row(table, name, "that of all", "", "", "", "", why)
    print_table(table)
    if len(told) > CLASSES_SHOWN:
        print_line(told_more_classes(max(len(own) - CLASSES_SHOWN, 0), len(told) - len(own)))
