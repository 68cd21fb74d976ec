"""The tables of ``choose-k`` and ``suspects``, with what is told below them."""

import shlex
from pathlib import Path

from knnvote.classify.choosing.choose_k import Choice
from knnvote.classify.choosing.choose_steps import StepChoice
from knnvote.classify.choosing.scores import Score
from knnvote.classify.evaluation.suspects import Suspect, Suspects
from knnvote.classify.weighting import told_class_weight
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.text import counted, printable
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class

from .rebuild import index_command, print_index_command
from .table import Name, add_row, kept_name, new_table, print_line, print_table, print_text

_SUSPECT_TEXT = ("label", "neighbours say", "equal image", "equal vector")
_BESIDE_FILES = 20  # suspects in a table, where a list or page has more
_WHOLE_ID = 24  # characters: ids of no more are not shortened, so that other commands can be given them


def print_choice(choice: Choice, index: Index) -> None:
    """The table of ``choose-k`` on stdout, a row for each k, below it the best, and the commands that go on with it."""
    measure = choice.measure.replace("_", " ")
    weighed = "" if choice.class_weight is None else f", {told_class_weight(choice.class_weight)}"
    print_line(f"{told_left_out(choice)}, {choice.search} search{weighed}")
    print_line(f"{measure} by k and weights")
    table = new_table("", "k", *choice.weights)
    digits = len(str(choice.scores[-1].k))
    for first in range(0, len(choice.scores), len(choice.weights)):
        scores = choice.scores[first : first + len(choice.weights)]
        add_row(table, f"{scores[0].k:{digits}}", *(_show_value(choice, score.value) for score in scores))
    if left_out := print_table(table):
        print_text(f"no room for {', '.join(left_out)}: --json has all, and so have wider terminals")
    print_text(f"best: {_show_score(choice, choice.best)}")
    smallest, largest = choice.smallest_within_one_standard_error, choice.largest_within_one_standard_error
    print_text(f"smallest k within one standard error of it: {_show_score(choice, smallest)}")
    print_text(f"largest k within one standard error of it: {_show_score(choice, largest)}")
    if choice.best_balanced is not None:
        print_text(f"best balanced accuracy: {_show_score(choice, choice.best_balanced)}")
    if choice.with_copies:
        print_line(
            f"{choice.with_copies:,} of the {choice.images:,} {choice.noun}s have an exact copy among the others, "
            f"which flatters the {measure}"
        )
    for note in choice.notes:
        print_text(spelled(note, as_typed))
    _print_commands(choice, index)


def _print_commands(choice: Choice, index: Index) -> None:
    """What classifies with the best, and what builds an index for it, where this one was not made for it."""
    best, own, asked, manifest = choice.best, index.vote, str(index.path), index.manifest
    vote = ["--k", str(best.k), "--weights", best.weights]
    weighed = "none" if choice.class_weight is None else choice.class_weight
    if choice.class_weight != own.class_weight:
        vote += ["--class-weight", weighed if isinstance(weighed, str) else "FILE"]
    is_own = (best.k, best.weights, choice.class_weight) == (own.k, own.weights, own.class_weight)
    print_text("to classify with the best, for which the index was made:" if is_own else "to classify with the best:")
    print_line(
        f"knnvote classify {shlex.join([asked])} IMAGES... {shlex.join(['--out', 'DIR', *(vote * (not is_own))])}"
    )
    if not is_own:
        steps = manifest.steps.split(" ") if manifest.images else ()
        command = index_command(
            asked, manifest, steps=steps, k=best.k, weights=best.weights, class_weight=choice.class_weight
        )
        print_index_command("to build an index for it", command, manifest)


def told_left_out(found: Choice | StepChoice | Suspects) -> str:
    """What was left out of what is stored."""
    by_group = "" if found.groups is None else f" with its group, of {found.groups:,}"
    return f"{counted(found.images, found.noun)}, each left out in turn{by_group}"


def _show_score(choice: Choice, score: Score) -> str:
    value, error = _show_value(choice, score.value), _show_value(choice, score.standard_error)
    balanced = "" if score.balanced_accuracy is None else f", balanced {score.balanced_accuracy:.4f}"
    measure = choice.measure.replace("_", " ")
    return f"k = {score.k}, {score.weights}: {measure} {value}, standard error {error}{balanced}"


def _show_value(choice: Choice, value: float) -> str:
    return f"{value:.4f}" if choice.measure == "accuracy" else f"{value:.5g}"


def print_suspects(found: Suspects, top: int, csv: Path | None = None, page: Path | None = None) -> None:
    """The first suspects on stdout, most suspicious first, of equal images one, and below them what there is to say.

    Few of them where a list or page was written, which have the others.
    """
    weighed = "" if found.class_weight is None else f", {told_class_weight(found.class_weight)}"
    print_line(f"{told_left_out(found)}, {found.search} search, k = {found.k}{weighed}")
    cases = found.cases
    is_written = csv is not None or page is not None
    shown = cases[: min(top, _BESIDE_FILES) if is_written else top]
    if shown:
        rows = [_suspect_cells(suspect, found.class_names, f"equal {found.noun}") for suspect in shown]
        give_way = () if all(len(suspect.id) <= _WHOLE_ID for suspect in shown) else ("id",)
        headers, read = (header for header, _ in rows[0]), [*map(printable, shown[0].kept or ())]
        table = new_table("", "rank", *headers, text=(*_SUSPECT_TEXT, *give_way), read=read)
        digits = len(str(len(shown)))
        for rank, row in enumerate(rows, 1):
            add_row(table, f"{rank:{digits}}", *(cell for _, cell in row))
        print_table(table)
    for line in found.told():
        print_line(line)
    if len(cases) > len(shown):
        lists = "--csv and --json list all" if csv is None else f"{csv} has all, by their rank"
        more = "--top shows more, " if csv is None else ""
        if page is not None and len(shown) < top:
            more = f"{page} has the first {min(top, len(cases)):,}, "
        print_line(f"{len(cases) - len(shown):,} more are not shown: {more}{lists}")


def _suspect_cells(suspect: Suspect, names: list[str] | None, equal: str) -> list[tuple[str, str | Name]]:
    """Its cells with their headers; of what is kept for people to read the first column, beside what contradicts it."""
    label, say = (Name(show_class(of, names)) for of in (suspect.label, suspect.neighbors_say))
    told: list[tuple[str, str | Name]] = [("label", label), ("neighbours say", say)]
    against = ("votes against", f"{suspect.against:.0%}")
    if suspect.kept is None:
        told.insert(1, against)
    else:
        column = next(iter(suspect.kept))
        told = [(printable(column), kept_name(suspect.kept, column)), *told, against]
    return [
        ("id", Name(suspect.id)),
        *told,
        ("their share", f"{suspect.share:.0%}"),
        ("nearest distance", f"{suspect.neighbors[0].distance:.4g}"),
        (equal, Name(", ".join(f"{one.id}: {show_class(one.label, names)}" for one in suspect.equal))),
    ]
