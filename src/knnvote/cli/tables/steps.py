"""The table of ``choose-step``, and the command that builds an index with the best steps."""

from knnvote.classify.choosing.choose_steps import StepChoice, StepScore
from knnvote.classify.weighting import told_class_weight
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.steps.names import PIXELS
from knnvote.indexer.manifest import Manifest

from .evaluation import told_left_out
from .rebuild import index_command, print_index_command
from .table import add_row, new_table, print_line, print_table, print_text

_LEAST_P = 0.0001  # that is told as a number
_IN_DOUBT = (
    "p: how probable so great a difference from the best is by chance alone; from 0.05 on it is no more than chance "
    "would give"
)


def print_steps(found: StepChoice, asked: str, manifest: Manifest) -> None:
    """The table of ``choose-step`` on stdout, the best first, and below it what builds an index with that."""
    answered = f", {found.among:,} of the {found.stored:,} stored answer, drawn at random"
    if found.among == found.stored:
        answered = f", all {found.stored:,} stored answer" if found.images < found.stored else ""
    weighed = "" if found.class_weight is None else f", {told_class_weight(found.class_weight)}"
    print_line(f"{told_left_out(found)}{answered}, exact search by {found.metric}{weighed}")
    is_regression = found.measure != "accuracy"
    shown = ("mean squared error", "standard error") if is_regression else ("accuracy", "95% interval", "balanced", "p")
    table = new_table("", "steps", "best k", "weights", *shown, "numbers", "us an image")
    for result in found.results:
        told = _numbers(result) if is_regression else _shares(result)
        row = (f"{result.k}", result.weights, *told, f"{result.d:,}", f"{result.microseconds:,.1f}")
        add_row(table, " ".join(result.steps), *row)
    print_table(table)
    if len(found.results) > 1 and not is_regression:
        print_text(_IN_DOUBT)
    if found.best.with_copies:
        print_line(f"{found.best.with_copies:,} of the images have an exact copy among the others, which flatters all")
    for why_not in dict.fromkeys(found.left_out.values()):
        chains = ", ".join(chain for chain, reason in found.left_out.items() if reason == why_not)
        print_text(f"left out: {chains}: {spelled(why_not, as_typed)}")
    for note in found.notes:
        print_text(spelled(note, as_typed))
    if (cheaper := found.cheaper) is not None and cheaper.difference is not None:
        steps, of_best = (" ".join(one.steps) for one in (cheaper, found.best))
        print_text(
            f"{steps} may do as well as {of_best}: chance may be all that parts them (p = {cheaper.difference.p:.2g}), "
            f"and it takes {cheaper.microseconds:,.1f} us an image in place of {found.best.microseconds:,.1f}"
        )
    best = found.best
    chain = [step for step in best.steps if step != PIXELS]
    print_index_command(
        "to build an index with the best",
        index_command(asked, manifest, steps=chain, k=best.k, weights=best.weights, class_weight=found.class_weight),
        manifest,
    )


def _shares(result: StepScore) -> tuple[str, ...]:
    interval = result.accuracy_interval
    shown = "" if interval is None else f"{interval.low:.4f}-{interval.high:.4f}"
    balanced = "" if result.balanced_accuracy is None else f"{result.balanced_accuracy:.4f}"
    if result.difference is None:
        return f"{result.value:.4f}", shown, balanced, ""
    p = result.difference.p
    return f"{result.value:.4f}", shown, balanced, f"{p:.2g}" if p >= _LEAST_P else f"< {_LEAST_P}"


def _numbers(result: StepScore) -> tuple[str, ...]:
    return f"{result.value:.5g}", f"{result.standard_error:.5g}"
