"""What ``compare`` says: how good each index is, what it loses beside exact search, and how fast it is."""

from functools import partial

from knnvote.classify.evaluation.accuracy import Judgement
from knnvote.classify.evaluation.comparison import Comparison, IndexReport
from knnvote.classify.evaluation.coverage import Coverage
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.text import show_bytes, show_duration, show_speed
from knnvote.indexer.labels import show_class
from knnvote.indexer.rungs import Interval

from .table import Name, add_row, new_table, print_line, print_table, print_text, short_name

_FLIPS_SHOWN = 10
_CLASSES_SHOWN = 5
_CONFUSIONS_SHOWN = 5
_INTERVAL = "95% interval"


def print_comparison(comparison: Comparison) -> None:
    """What `compare` found, on stdout."""
    asked = f"{comparison.queries:,} images"
    if comparison.told_votes is None:
        asked += f", k = {comparison.k}{'' if comparison.weights == 'uniform' else f', {comparison.weights}'}"
    else:
        print_text(spelled(comparison.told_votes, as_typed))
    if comparison.unlabelled == comparison.queries:
        print_line(asked)
    elif comparison.is_regression:
        _print_numbers(comparison, asked)
    else:
        _print_accuracies(comparison, asked)
    _print_agreement(comparison)
    _print_speed(comparison)
    for report in comparison.indexes:
        if report.judged < comparison.queries:
            print_text(f"{report.path}: asked for a random sample of {report.judged:,} of the images, as it is slow")
        _print_flips(report, comparison.class_names)
    for note in comparison.notes:
        print_text(spelled(note, as_typed))


def _print_accuracies(comparison: Comparison, asked: str) -> None:
    """How many labels are right, and what is wrong with the first index's."""
    has_top = any(report.top5_accuracy is not None for report in comparison.indexes)
    table = new_table("", asked, "accuracy", _INTERVAL, "balanced", *(["top-5"] if has_top else []), "wrong", "of")
    for report in comparison.indexes:
        if report.accuracy_interval is not None and report.judgement is not None:
            images = sum(of_class.images for of_class in report.judgement.classes)
            wrong = images - round(report.accuracy_interval.value * images)
            others = [f"{report.judgement.balanced_accuracy:.4f}"]
            if has_top:
                others.append("" if report.top5_accuracy is None else f"{report.top5_accuracy.value:.4f}")
            add_row(
                table, Name(report.path), *_show_share(report.accuracy_interval), *others, f"{wrong:,}", f"{images:,}"
            )
    print_table(table)
    print_text(comparison.told_of_accuracies)
    for difference in comparison.differences:
        print_text(difference.told(short_name))
    first = comparison.indexes[0]
    if len(comparison.indexes) > 1:
        print_line("")
        print_text(f"of {short_name(first.path)}, as --json and --report have of all:")
    if first.judgement is not None:
        _print_classes(first.judgement, comparison.class_names)
        _print_confusions(first.judgement, comparison.class_names)
    _print_coverage(first.coverage)


def _print_classes(judgement: Judgement, names: list[str] | None) -> None:
    worst = judgement.worst_classes
    if not worst:
        return
    print_line("")
    table = new_table("", "worst classes", "accuracy", _INTERVAL, "wrong", "of")
    for of_class in worst[:_CLASSES_SHOWN]:
        wrong = of_class.images - round(of_class.accuracy.value * of_class.images)
        cells = (*_show_share(of_class.accuracy), f"{wrong:,}", f"{of_class.images:,}")
        add_row(table, Name(show_class(of_class.label, names)), *cells)
    print_table(table)


def _print_confusions(judgement: Judgement, names: list[str] | None) -> None:
    commonest = judgement.commonest_confusions
    if not commonest:
        return
    print_line("")
    show = partial(show_class, names=names)
    table = new_table("", "commonest confusions", "taken for", "images", "of the class", text=("taken for",))
    table.columns[1].justify = "left"
    for pair, share in commonest[:_CONFUSIONS_SHOWN]:
        add_row(table, Name(show(pair.truth)), Name(show(pair.label)), f"{pair.images:,}", f"{share:.1%}")
    print_table(table)


def _print_coverage(coverage: list[Coverage]) -> None:
    print_line("")
    table = new_table("", as_typed("min_confidence"), "labelled", "accuracy", _INTERVAL, "balanced", "wrong")
    table.columns[0].no_wrap = True
    for accepted in coverage:
        wrong = accepted.images - round(accepted.accuracy.value * accepted.images)
        shown = (f"{accepted.coverage:.2%}", *_show_share(accepted.accuracy), f"{accepted.balanced_accuracy:.4f}")
        add_row(table, f"{accepted.threshold:.2f}", *shown, f"{wrong:,}")
    print_table(table)


def _print_numbers(comparison: Comparison, asked: str) -> None:
    """How near the numbers of a regression are."""
    table = new_table("", asked, "R²", "mean absolute error")
    for report in comparison.indexes:
        if report.mean_absolute_error is not None:
            r2 = "" if report.accuracy is None else f"{report.accuracy:.4f}"
            add_row(table, Name(report.path), r2, f"{report.mean_absolute_error:.4g}")
    print_table(table)


def _print_agreement(comparison: Comparison) -> None:
    print_line("")
    table = new_table("", "beside exact search", "kind", "agreement", _INTERVAL, "recall", "p5", "min")
    for report in comparison.indexes:
        recall = report.recall
        shares = (*_show_share(report.agreement), f"{recall.mean:.4f}", f"{recall.p5:.2f}", f"{recall.min:.2f}")
        add_row(table, Name(report.path), report.kind, *shares)
    print_table(table)


def _print_flips(report: IndexReport, names: list[str] | None) -> None:
    if report.flips:
        apart = "" if report.tolerance is None else f" by more than {report.tolerance:.4g}"
        print_text(f"{report.path}: {len(report.flips):,} labels differ from exact search{apart}:")
    for flip in report.flips[:_FLIPS_SHOWN]:
        label, exact, true = (show_class(value, names) for value in (flip.label, flip.exact, flip.truth))
        truth = "" if flip.truth is None else f", true label {true}"
        print_text(f"  {flip.name}: {label}, exact search says {exact}{truth}")
    if len(report.flips) > _FLIPS_SHOWN:
        print_line(f"  and {len(report.flips) - _FLIPS_SHOWN:,} more: --json lists all")


def _print_speed(comparison: Comparison) -> None:
    print_line("")
    threads = "1 thread" if comparison.threads == 1 else f"{comparison.threads} threads"
    table = new_table("", f"on {threads}", "images", "a million", "IndexFlatL2", "size", "build")
    for report in comparison.indexes:
        add_row(
            table,
            Name(report.path),
            f"{report.images_per_second:,.0f} /s",
            show_duration(report.hours_per_million * 3600),
            show_speed(report.relative_speed),
            show_bytes(report.bytes),
            f"{report.build_seconds:.1f} s",
        )
    print_table(table)


def _show_share(share: Interval) -> tuple[str, str]:
    return f"{share.value:.4f}", f"{share.low:.4f}-{share.high:.4f}"
