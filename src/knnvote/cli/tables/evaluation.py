"""The tables of ``choose-k`` and ``suspects``, with what is told below them."""

from knnvote.classify.choosing.choose_k import Choice
from knnvote.classify.choosing.choose_steps import StepChoice
from knnvote.classify.choosing.scores import Score
from knnvote.classify.evaluation.suspects import Suspect, Suspects
from knnvote.classify.weighting import told_class_weight
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.text import counted, printable
from knnvote.indexer.labels import show_class

from .table import Name, add_row, kept_name, new_table, print_line, print_table, print_text

_SUSPECT_TEXT = ("label", "neighbours say", "equal image", "equal vector")
_WHOLE_ID = 24  # characters: ids of no more are not shortened, so that other commands can be given them


def print_choice(choice: Choice) -> None:
    """The table of ``choose-k`` on stdout, a row for each k, and below it the best, the smallest and the largest."""
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


def print_suspects(found: Suspects, top: int) -> None:
    """The first suspects on stdout, most suspicious first, of equal images one, and below them what there is to say."""
    weighed = "" if found.class_weight is None else f", {told_class_weight(found.class_weight)}"
    print_line(f"{told_left_out(found)}, {found.search} search, k = {found.k}{weighed}")
    cases = found.cases
    shown = cases[:top]
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
        print_line(f"{len(cases) - len(shown):,} more are not shown: --top shows more, --csv and --json list all")


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
