"""What ``report`` says of a job whose true labels are known."""

from typing import Any

from knnvote.classify.judgement.job import JobAccuracy, JudgedJob
from knnvote.classify.judgement.numbers import JobErrors
from knnvote.data.text import counted
from knnvote.indexer.rungs import Interval

from .table import print_text


def print_unfinished(facts: dict[str, Any]) -> None:
    """That inputs have no output, of which what follows tells nothing; nothing where all have one."""
    done, inputs = facts["files"], facts["inputs"]
    if done < inputs:
        print_text(
            f"{inputs - done:,} of {counted(inputs, 'input')} {'has' if inputs - done == 1 else 'have'} no output: "
            f"this is of the other{'s' if done > 1 else ''}, until the same job is run again"
        )


def print_judged(judged: JudgedJob) -> None:
    """How good a job is, and what of it was not judged, on stdout."""
    if isinstance(judged.accuracy, JobErrors):
        _print_errors(judged.accuracy)
    elif judged.accuracy is not None:
        _print_accuracy(judged.accuracy)
    if judged.stored:
        print_text(
            f"{counted(judged.stored, 'row')} with a true label equal a stored image: these answer for themselves, and "
            "are not judged"
        )


def _print_accuracy(found: JobAccuracy) -> None:
    """How good the answers are."""
    print_text(
        f"{found.rows:,} rows with a true label: the best guess is right for {_show(found.accuracy)}, "
        f"balanced accuracy {found.judgement.balanced_accuracy:.4f}"
    )
    share = found.accepted / found.rows
    if found.accuracy_of_accepted is None:
        print_text("none of them is accepted")
    else:
        print_text(
            f"{found.accepted:,} of them ({share:.2%}) are accepted: the label is right for "
            f"{_show(found.accuracy_of_accepted)}, balanced accuracy {found.balanced_accuracy_of_accepted:.4f}"
        )


def _print_errors(found: JobErrors) -> None:
    """How good the numbers of a regression are."""
    r2 = "" if found.r2 is None else f"R² {found.r2:.4f}, "
    print_text(f"{found.rows:,} rows with a true number: {r2}mean absolute error {found.mean_absolute_error:.4g}")
    if found.accepted < found.rows:
        share, error = found.accepted / found.rows, found.mean_absolute_error_of_accepted
        of_accepted = "" if error is None else f": mean absolute error {error:.4g}"
        print_text(f"{found.accepted:,} of them ({share:.2%}) are accepted{of_accepted}")


def _show(share: Interval) -> str:
    return f"{share.value:.4f} (95% interval {share.low:.4f}-{share.high:.4f})"
