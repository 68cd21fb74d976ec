"""What ``diff`` says: which rows of two jobs have another answer, and how good each job is."""

from collections.abc import Sequence

from knnvote.classify.judgement.changes import Change, JobDiff
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.text import counted
from knnvote.indexer.labels import show_class

from .table import Name, add_row, new_table, print_line, print_table, print_text, short_name

_SHOWN = 10


def print_diff(diff: JobDiff) -> None:
    """What `diff_jobs` found, on stdout."""
    made = "; ".join(spelled(words, as_typed) for words in diff.differences)
    first, second = short_name(diff.first), short_name(diff.second)
    print_text(f"{first} and then {second}: {made or 'the same index and options'}")
    for words in diff.kept:
        print_text(f"note: {spelled(words, as_typed)}")
    share = diff.changed / diff.rows if diff.rows else 0
    print_text(f"{diff.changed:,} of {diff.rows:,} rows have another answer ({share:.2%})")
    for names, why in ((diff.only_one, "one alone has them"), (diff.other_input, "their inputs had other contents")):
        if names:
            print_text(f"note: {len(names):,} outputs are left out, the first {names[0]}: {why}")
    _print_changes("label before", diff.labels, is_judged=diff.judged is not None)
    _print_changes("status before", diff.statuses, is_judged=diff.judged is not None)
    _print_judged(diff)
    if diff.stored:
        print_text(
            f"{counted(diff.stored, 'row')} with a true label equal an image that either index stores: these answer "
            "for themselves, and are not judged"
        )
    if diff.note is not None:
        print_text(f"note: no row is judged: {spelled(diff.note, as_typed)}")


def _print_changes(header: str, changes: Sequence[Change], *, is_judged: bool) -> None:
    if not changes:
        return
    print_line("")
    judged = ("better", "worse") if is_judged else ()
    table = new_table("", header, "now", "rows", *judged, "the first", text=("now", "the first"))
    table.columns[1].justify = table.columns[-1].justify = "left"
    for change in changes[:_SHOWN]:
        counts = (change.rows, change.better, change.worse)[: 1 + len(judged)]
        labels = (Name(show_class(value, None)) for value in (change.before, change.now))
        add_row(table, *labels, *(f"{count:,}" for count in counts), Name(change.shown_first[0]))
    print_table(table)
    if len(changes) > _SHOWN:
        print_line(f"and {len(changes) - _SHOWN:,} more: --json lists all")


def _print_judged(diff: JobDiff) -> None:
    """How good the jobs are, and whether they differ by more than chance."""
    accuracies = diff.accuracies
    if diff.judged is None or accuracies is None:
        return
    print_line("")
    table = new_table("", "job", "right of all", "95% interval", "balanced", "answered", "right of these", "balanced")
    for path, judged in zip((diff.first, diff.second), diff.judged, strict=True):
        accuracy, of_answered = judged.accuracy, judged.accuracy_of_answered
        balanced = judged.balanced_accuracy_of_answered
        add_row(
            table,
            Name(path),
            f"{accuracy.value:.4f}",
            f"{accuracy.low:.4f}-{accuracy.high:.4f}",
            f"{judged.balanced_accuracy:.4f}",
            f"{judged.answered / judged.labelled:.2%}",
            "" if of_answered is None else f"{of_answered.value:.4f}",
            "" if balanced is None else f"{balanced:.4f}",
        )
    print_table(table)
    print_text(accuracies.told(short_name))
