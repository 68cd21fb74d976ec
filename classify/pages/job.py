"""The page of ``knnvote report``: a finished job without labels, and its rows to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from knnvote.classify.job.report import Bin, JobReport, ReportedRow
from knnvote.classify.judgement.job import JobAccuracy, JudgedJob
from knnvote.classify.judgement.numbers import JobErrors
from knnvote.classify.weighting import read_weighting
from knnvote.data.errors import as_recorded, spelled
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.rungs import Interval
from knnvote.indexer.shown.thumbnails import Thumbnail, thumbnail

from .charts import Histogram, draw_histogram, share_axis
from .facts import Fact, index_facts
from .page import Frame, Tile, write_page
from .voters import Voter, show_voters

_CONFUSIONS = 20


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """A row with its picture, which has no source where there is none, and those of its neighbours."""

    row: ReportedRow
    picture: Thumbnail
    voters: list[Voter]


def write_job(
    path: Path,
    report: JobReport,
    index: Index | None,
    judged: JudgedJob | None = None,
    frame: Frame | None = None,
) -> None:
    """Write the page of what `report_job` found, and of what `judge_job` did.

    Raises:
        KnnvoteError: the page cannot be written.
    """
    rows = [*report.least_confident, *report.farthest]
    names = None if index is None else index.manifest.class_names
    found = None if judged is None else judged.accuracy
    accuracy = found if isinstance(found, JobAccuracy) else None
    errors = found if isinstance(found, JobErrors) else None
    write_page(
        path,
        "job.html.j2",
        title=f"Report of {report.facts['path']}",
        frame=frame,
        tiles=_tiles(report, accuracy, errors),
        made=_made(report, index),
        confidence=_histogram(report.confidence, report.rule.min_confidence, "least confidence", least=1.0),
        distance=_histogram(report.distance, report.rule.limit, "farthest distance"),
        classes_axis=None if accuracy is None else share_axis(row.accuracy for row in accuracy.judgement.classes),
        report=report,
        kept=[spelled(words, as_recorded) for words in report.kept],
        stored=0 if judged is None else judged.stored,
        note=None if judged is None or judged.note is None else spelled(judged.note, as_recorded),
        accuracy=accuracy,
        errors=errors,
        error_spread=None if errors is None else _histogram(errors.spread, None, ""),
        confusions=[] if accuracy is None else accuracy.judgement.commonest_confusions[:_CONFUSIONS],
        facts=report.facts,
        rule=rule_sentence(report, index),
        has_pictures=not rows or bool(report.unread) or any(row.pixels is not None for row in rows),
        least_confident=_show(report.least_confident, index),
        farthest=_show(report.farthest, index),
        name=partial(show_class, names=names),
    )


def _tiles(report: JobReport, accuracy: JobAccuracy | None, errors: JobErrors | None) -> list[Tile]:
    """How many rows have a label, how good they are where that is known, and what has none."""
    facts = report.facts
    rows = max(facts["rows"], 1)
    tiles = [Tile("labelled", f"{facts['ok'] / rows:.1%}", f"{facts['ok']:,} of {facts['rows']:,} rows")]
    if accuracy is not None:
        if accuracy.accuracy_of_accepted is not None:
            balanced = accuracy.balanced_accuracy_of_accepted
            tiles.append(_accuracy_tile("right of the labelled", accuracy.accuracy_of_accepted, balanced))
        balanced = accuracy.judgement.balanced_accuracy
        tiles.append(_accuracy_tile("right of all, by the best guess", accuracy.accuracy, balanced))
    if errors is not None:
        r2 = "" if errors.r2 is None else f"R² {errors.r2:.4f}"
        tiles.append(Tile("mean absolute error", f"{errors.mean_absolute_error:.4g}", r2))
    tiles.append(Tile("abstained", f"{facts['abstained']:,}", f"{facts['abstained'] / rows:.1%} of the rows"))
    tone = "bad" if facts["bad_image"] else ""
    tiles.append(Tile("bad images", f"{facts['bad_image']:,}", f"{facts['bad_image'] / rows:.1%} of the rows", tone))
    if facts["kept"]:
        kept = sum(job["rows"] for job in facts["kept"])
        tiles.append(Tile("kept of earlier jobs", f"{kept:,}", f"of {facts['ok']:,} labels"))
    if facts["files"] < facts["inputs"]:
        missing = facts["inputs"] - facts["files"]
        tiles.append(Tile("inputs without an output", f"{missing:,}", f"of {facts['inputs']:,}", "bad"))
    return tiles


def _accuracy_tile(what: str, interval: Interval, balanced: float | None) -> Tile:
    told = f"95% interval {interval.low:.2%} to {interval.high:.2%}"
    return Tile(what, f"{interval.value:.2%}", told if balanced is None else f"{told}; balanced {balanced:.2%}")


def _made(report: JobReport, index: Index | None) -> list[Fact]:
    facts = report.facts
    job = Fact("job", f"{facts['path']}: {facts['rows']:,} rows", report.written)
    return [job, Fact("index", f"fingerprint {facts['index'][:12]}") if index is None else index_facts(index)]


def _histogram(bins: Sequence[Bin], limit: float | None, what: str, *, least: float = 0.0) -> Histogram | None:
    """The rows by a value, with the job's threshold among them; None where no row has a value."""
    marks = [] if limit is None else [(limit, f"{what} {limit:g}")]
    return draw_histogram([(each.low, each.high, each.rows) for each in bins], marks, least=least) if bins else None


def rule_sentence(report: JobReport, index: Index | None = None) -> str:
    """How neighbours became answers, in one plain sentence."""
    rule = report.rule
    voters = f"{rule.k} neighbours {read_weighting(rule.stored_weights).of_neighbors}"
    told = "The nearest neighbour answers" if rule.k == 1 else voters
    if rule.class_weight is not None:
        told += ", by class " + ("so that all count the same" if rule.class_weight == "balanced" else "too")
    if index is not None and index.sample_weight is not None and rule.k > 1:
        told += ", but for the weight of each image"
    if report.confidence and rule.k > 1:
        winner = "the nearer class" if rule.ties == "nearest" else "the first in class order"
        told += f"; of equal votes {winner} wins"
    limits = []
    if rule.min_confidence is not None:
        own = "" if rule.min_confidence_by_class is None else ", or that of its class"
        limits.append(f"the confidence is below {rule.min_confidence:g}{own}")
    if rule.limit is not None:
        limits.append(f"the nearest neighbour is farther than {rule.limit:g}")
    return f"{told}; abstains where {' or '.join(limits)}." if limits else f"{told}; never abstains."


def _show(rows: Sequence[ReportedRow], index: Index | None) -> list[ShownRow]:
    held = [row.pixels for row in rows if row.pixels is not None]
    low = min((float(np.min(pixels)) for pixels in held), default=0.0)
    high = max((float(np.max(pixels)) for pixels in held), default=0.0)
    shown = []
    for row in rows:
        told = f"the image of row {row.row} of {row.file}"
        picture = Thumbnail("", told) if row.pixels is None else thumbnail(row.pixels, (min(0.0, low), high), told)
        voters = [] if index is None else show_voters(index, row.neighbors)
        shown.append(ShownRow(row=row, picture=picture, voters=voters))
    return shown
