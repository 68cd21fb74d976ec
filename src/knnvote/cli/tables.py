"""Tables and progress for people, with rich; what they show comes from elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from knnvote.classify.evaluation.choose_k import Choice, Score
from knnvote.classify.evaluation.compare import Comparison, IndexReport
from knnvote.classify.evaluation.suspects import Suspect, Suspects
from knnvote.data.text import printable
from knnvote.indexer.labels import show_class
from knnvote.indexer.manifest import AdaptiveSettings, ProposingSettings, SearchSettings, search_from_json
from knnvote.indexer.rungs import MeasuredLadder, Tuned

_FLIPS_SHOWN = 10
_TALLIED = 20


class _RowsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


@contextmanager
def row_progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr: rows done, rows a second, time left. Yields what to call with each batch's rows."""
    columns = (
        TextColumn(label),
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        _RowsPerSecond(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda rows: bar.advance(task, rows)


def _print(table: Table) -> None:
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False, emoji=False)
    console.print(table)


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(printable, cells))


def _say(line: str) -> None:
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(printable(line))


def _table(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold")
    return table


def print_comparison(comparison: Comparison) -> None:
    """The table of ``compare`` on stdout, with each index's flips below it."""
    headers = (
        "index",
        "kind",
        "recall",
        "p5",
        "min",
        "agreement",
        "95% interval",
        "R²" if comparison.is_regression else "accuracy",
        "speed",
        "size",
        "build",
    )
    table = _table(f"{comparison.queries:,} images, k = {comparison.k}", *headers)
    for report in comparison.indexes:
        _add_row(table, *_comparison_row(report))
    _print(table)
    for report in comparison.indexes:
        if report.judged < comparison.queries:
            _say(f"{report.path}: asked for an even sample of {report.judged:,} of the images, as it is slow")
        _print_flips(report)
    for report in comparison.stored_in:
        _say(
            f"{report.path}: {report.stored:,} of the {report.judged:,} test images are stored in the index, "
            "and find themselves: accuracy on them says nothing"
        )
    for reason, rows in comparison.bad_images.items():
        _say(f"left out: {rows:,} rows ({reason})")


def _comparison_row(report: IndexReport) -> list[str]:
    agreement, recall = report.agreement, report.recall
    return [
        report.path,
        report.kind,
        f"{recall.mean:.4f}",
        f"{recall.p5:.2f}",
        f"{recall.min:.2f}",
        f"{agreement.value:.4f}",
        f"{agreement.low:.4f}-{agreement.high:.4f}",
        "" if report.accuracy is None else f"{report.accuracy:.4f}",
        show_speed(report.relative_speed),
        show_bytes(report.bytes),
        f"{report.build_seconds:.1f} s",
    ]


def show_speed(ratio: float) -> str:
    """Times the speed of something else; of what is much slower enough digits to tell how much."""
    return f"{ratio:.1f} x" if ratio >= 0.1 else f"{ratio:.2g} x"


def _print_flips(report: IndexReport) -> None:
    if report.flips:
        apart = "" if report.tolerance is None else f" by more than {report.tolerance:.4g}"
        _say(f"{report.path}: {len(report.flips):,} labels differ from exact search{apart}:")
    for flip in report.flips[:_FLIPS_SHOWN]:
        label, exact, true = (show_class(value, None) for value in (flip.label, flip.exact, flip.truth))
        truth = "" if flip.truth is None else f", true label {true}"
        _say(f"  row {flip.row}: {label}, exact search says {exact}{truth}")
    if len(report.flips) > _FLIPS_SHOWN:
        _say(f"  and {len(report.flips) - _FLIPS_SHOWN:,} more: --json lists all")


def print_choice(choice: Choice) -> None:
    """The table of ``choose-k`` on stdout, a row for each k, and below it the best, the smallest and the largest."""
    measure = choice.measure.replace("_", " ")
    _say(f"{choice.images:,} images, each left out in turn, {choice.search} search")
    columns = (f"{measure}, {weights}" for weights in choice.weights)
    table = _table("", "k", *columns)  # a title would wrap: it is narrow
    digits = len(str(choice.scores[-1].k))
    for first in range(0, len(choice.scores), len(choice.weights)):
        scores = choice.scores[first : first + len(choice.weights)]
        _add_row(table, f"{scores[0].k:{digits}}", *(_show_value(choice, score.value) for score in scores))
    _print(table)
    _say(f"best: {_show_score(choice, choice.best)}")
    smallest, largest = choice.smallest_within_one_standard_error, choice.largest_within_one_standard_error
    _say(f"smallest k within one standard error of it: {_show_score(choice, smallest)}")
    _say(f"largest k within one standard error of it: {_show_score(choice, largest)}")
    if choice.with_copies:
        _say(
            f"{choice.with_copies:,} of the {choice.images:,} images have an exact copy among the others, "
            f"which flatters the {measure}"
        )


def _show_score(choice: Choice, score: Score) -> str:
    value, error = _show_value(choice, score.value), _show_value(choice, score.standard_error)
    return f"k = {score.k}, {score.weights}: {choice.measure.replace('_', ' ')} {value}, standard error {error}"


def _show_value(choice: Choice, value: float) -> str:
    return f"{value:.4f}" if choice.measure == "accuracy" else f"{value:.5g}"


def print_suspects(found: Suspects, top: int) -> None:
    """The first suspects on stdout, most suspicious first, and below them how many there are."""
    _say(f"{found.images:,} images, each left out in turn, {found.search} search, k = {found.k}")
    shown = found.suspects[:top]
    if shown:
        headers = ("id", "label", "votes against", "neighbours say", "their share", "nearest distance", "equal image")
        table = _table("", "rank", *headers)
        digits = len(str(len(shown)))
        for rank, suspect in enumerate(shown, 1):
            _add_row(table, f"{rank:{digits}}", *_suspect_row(suspect, found.class_names))
        _print(table)
    _say(
        f"{found.losing_the_vote:,} of the {found.images:,} images ({found.losing_the_vote / found.images:.2%}) are "
        "suspect: their neighbours say another label"
    )
    if found.with_equal:
        _say(f"{found.with_equal:,} are contradicted by an equal image with another label: these come first")
    if len(found.suspects) > len(shown):
        _say(f"{len(found.suspects) - len(shown):,} more are not shown: --top shows more, --json lists all")


def _suspect_row(suspect: Suspect, names: list[str] | None) -> list[str]:
    return [
        suspect.id,
        show_class(suspect.label, names),
        f"{suspect.against:.0%}",
        show_class(suspect.neighbors_say, names),
        f"{suspect.share:.0%}",
        f"{suspect.neighbors[0].distance:.4g}",
        ", ".join(f"{equal.id}: {show_class(equal.label, names)}" for equal in suspect.equal),
    ]


def print_inspection(facts: dict[str, Any]) -> None:
    """What ``inspect`` found, on stdout."""
    if facts["type"] == "images":
        table = _table(facts["path"], "file", "rows", "images", "label column")
        for file in facts["files"]:
            if "error" in file:
                _add_row(table, file["path"], "", file["error"], "")
            else:
                _add_row(table, file["path"], f"{file['rows']:,}", file["images"], file["label_column"] or "none")
        _print(table)
        return
    table = Table(title=facts["path"], title_justify="left", box=None, show_header=False, pad_edge=False)
    rows = _index_rows(facts) if facts["type"] == "index" else _job_rows(facts)
    for name, value in rows:
        _add_row(table, name, value)
    _print(table)


def _index_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    shape = " x ".join(map(str, facts["shape"]))
    classes = [show_class(label, facts["class_names"]) for label in facts["classes"][:20]]
    more = [f"... {len(facts['classes'])} in all"] if len(facts["classes"]) > len(classes) else []
    low, high = facts["range"]
    bad = f"{facts['skipped']:,}"
    return [
        ("kind", f"{facts['kind']}, FAISS {facts['factory'] or 'not used'}, metric {facts['metric']}"),
        ("images", f"{facts['n']:,} of {shape}, {facts['dtype']} from {low:g} to {high:g}, {bad} bad rows left out"),
        ("labels", f"{facts['label_type']}, {facts['task']}{': ' if classes else ''}{', '.join(classes + more)}"),
        ("from", ", ".join(source["path"] for source in facts["sources"]) or "arrays"),
        ("columns", f"image {facts['image_column']}, label {facts['label_column']}"),
        ("search", "; ".join(_search_lines(facts))),
        ("size", f"{show_bytes(facts['bytes'])}, built in {facts['timing']['build_seconds']:.1f} s"),
        ("files", ", ".join(entry["name"] for entry in facts["files"].values())),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
        ("fingerprint", facts["fingerprint"]),
    ]


def _search_lines(facts: dict[str, Any]) -> list[str]:
    """How an index of any kind searches."""
    if facts["kind"] == "exact":
        return [
            "every stored image that a lower bound of its distance does not rule out"
            if "bounds" in facts["files"]
            else "every stored image"
        ]
    settings = search_from_json(facts["kind"], facts["search"])
    if isinstance(settings, ProposingSettings):
        return [f"{settings.candidates_per_neighbor} candidates for each neighbour"]
    return tuning_lines(settings)


def tuning_lines(settings: SearchSettings) -> list[str]:
    """What tuning found for an adaptive index, in words; nothing for other kinds."""
    if not isinstance(settings, AdaptiveSettings):
        return []
    tuned = settings.tuned
    if tuned is None:
        return ["not tuned: its most careful rung searches"]
    tuned_for = f"tuned for k {tuned.k} and {tuned.weights} weights"
    if not tuned.queries and tuned.label.reached:
        return [f"{tuned_for}: exact search alone, as it was asked for or is the fastest here"]
    lines = [f"{tuned_for} on {tuned.queries:,} stored images, each left out"]
    if tuned.tolerance is not None:
        return [*lines, f"answers within {tuned.tolerance:.4g} of exact search's: {_promise(tuned, tuned.label)}"]
    return [
        *lines,
        f"labels that are exact search's: {_promise(tuned, tuned.label)}",
        f"labels and confidences that are, for --min-confidence: {_promise(tuned, tuned.confidence)}",
    ]


def _promise(tuned: Tuned, found: MeasuredLadder) -> str:
    if not found.reached and not tuned.queries:
        return "all, by exact search alone: nearly all stored images have many copies, and cannot be asked"
    if not found.reached:
        return (
            f"all, by exact search alone: {tuned.queries:,} images do not show that rungs reach the target "
            f"{tuned.target_agreement:g}"
        )
    agreement = found.agreement
    settled = ", ".join(f"{measured.settled:.1%}" for measured in found.rungs)
    return f"{agreement.value:.4f}, of a 95% interval from {agreement.low:.4f}; rungs settle {settled}"


def _job_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    options = {name: value for name, value in facts["options"].items() if value not in (None, False, "")}
    return [
        ("files", f"{facts['files']:,} of {facts['inputs']:,} classified, {len(facts['failures']):,} failed"),
        (
            "rows",
            f"{facts['rows']:,}: {facts['ok']:,} ok, {facts['abstained']:,} abstained, {facts['bad_image']:,} bad",
        ),
        *_tally_rows("labels", facts["labels"]),
        *_tally_rows("abstained", facts["abstained_because"]),
        *_tally_rows("bad images", facts["bad_because"]),
        ("index", facts["index"]),
        ("options", ", ".join(f"{name} {value}" for name, value in options.items())),
        *([("left out", _left_out(facts["left_out"]))] if facts["left_out"] else []),
        *((f"failed: {path}", reason) for path, reason in facts["failures"].items()),
    ]


def _left_out(names: list[str]) -> str:
    files = "1 file that is" if len(names) == 1 else f"{len(names):,} files that are"
    return f"{files} not of this job, the first {names[0]}: knnvote verify says why"


def _tally_rows(title: str, counts: dict[Any, int]) -> list[tuple[str, str]]:
    """The commonest values with their counts in one row, if there are any."""
    shown = [f"{value}: {times:,}" for value, times in sorted(counts.items(), key=lambda pair: -pair[1])[:_TALLIED]]
    more = [f"... {len(counts):,} in all"] if len(counts) > len(shown) else []
    return [(title, "; ".join(shown + more))] if shown else []


def show_bytes(size: int) -> str:
    """A size for people, in decimal units."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
