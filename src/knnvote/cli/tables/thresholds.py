"""The tables of ``choose-threshold``."""

import math
from collections.abc import Sequence

from knnvote.classify.evaluation.coverage import Coverage
from knnvote.classify.evaluation.threshold import ClassCoverage, Threshold
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.indexer.labels import show_class

from .table import Name, add_row, new_table, print_line, print_table

_STEPS_SHOWN = 12
_CLASSES_SHOWN = 12
_LEVEL = 0.025  # of each test
_FEW = 30  # answers, of which an accuracy says little


def print_threshold(found: Threshold, names: list[str] | None) -> None:
    """What thresholds accept, which was chosen, and what it accepts of each class."""
    asked = "stored images, each left out" if found.left_out else "labelled images"
    by_group = "" if found.groups is None else f" with its group, of {found.groups:,}"
    print_line(f"{found.images:,} {asked}{by_group}")
    table = new_table("", "min-confidence", "accepted", "share", "right", "95% interval")
    for step in _some(found.steps, found.chosen):
        mark = " *" if step == found.chosen else ""
        add_row(table, f"{step.threshold:.2f}{mark}", *_accepted(step))
    print_table(table)
    if found.target_accuracy is None:
        print_line("a --target-accuracy chooses one of them")
    elif found.chosen is None:
        print_line(spelled(found.why_none, as_typed))
    else:
        print_line(
            f"* --min-confidence {found.chosen.threshold:g} is the least that is shown to reach "
            f"{found.target_accuracy:g} of those tested, each a twentieth of the answers further"
        )
    if found.with_copies:
        print_line(
            f"{found.with_copies:,} of the images have an exact copy among the others, which flatters all of this"
        )
    if found.of_one_group is not None:
        print_line(found.of_one_group)
    _print_classes(found, names)


def _some(steps: Sequence[Coverage], chosen: Coverage | None) -> list[Coverage]:
    """The chosen one, and others evenly among all, the highest threshold first."""
    stride = math.ceil(len(steps) / _STEPS_SHOWN)
    return [step for place, step in enumerate(reversed(steps)) if place % stride == 0 or step == chosen]


def _accepted(step: Coverage) -> list[str]:
    accuracy = step.accuracy
    return [
        f"{step.images:,}",
        f"{step.coverage:.1%}",
        f"{accuracy.value:.4f}",
        f"{accuracy.low:.4f}-{accuracy.high:.4f}",
    ]


def _print_classes(found: Threshold, names: list[str] | None) -> None:
    """The classes of whose answers the fewest are right, at the threshold."""
    told = [found_class for found_class in found.classes if found_class.accepted is not None]
    told.sort(key=lambda of_class: of_class.accepted.accuracy.value if of_class.accepted else 1)
    if not told:
        return
    shown = told[:_CLASSES_SHOWN]
    threshold = (found.chosen or found.steps[0]).threshold
    title = f"answers at {threshold:g} by their class" + (", the least right first" if told[len(shown) :] else "")
    print_line("")
    print_line(title)
    own = ("its own",) if any(of_class.own_threshold is not None for of_class in shown) else ()
    table = new_table("", "class", "answers", "accepted", "right", "95% interval", *own, "", text=("",))
    for of_class in shown:
        name = Name(show_class(of_class.label, names))
        add_row(table, name, f"{of_class.answers:,}", *_of_class(of_class, bool(own)))
    print_table(table)
    if found.target_accuracy is not None:
        needed = math.ceil(math.log(_LEVEL) / math.log(found.target_accuracy))
        print_line(
            f"{'its own: for' if own else 'for'} a class alone a least confidence is chosen likewise, "
            f"for which {found.target_accuracy:g} takes {needed:,} answers at least"
        )
    if told[len(shown) :]:
        print_line(f"{len(told) - len(shown):,} more classes are not shown: --json has all")


def _of_class(of_class: ClassCoverage, has_own: bool) -> list[str]:
    accepted = of_class.accepted
    if accepted is None:
        return ["0"]
    accuracy, own = accepted.accuracy, of_class.own_threshold
    return [
        f"{accepted.images:,}",
        f"{accuracy.value:.4f}",
        f"{accuracy.low:.4f}-{accuracy.high:.4f}",
        *(["none" if own is None else f"{own:.2f}"] if has_own else []),
        "too few to tell" if accepted.images < _FEW else "",
    ]
