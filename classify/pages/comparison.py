"""The page of ``knnvote compare``: what approximate search costs, in words, figures and pictures."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from knnvote.classify.answer import neighbors_of
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.accuracy import ClassAccuracy, Judgement
from knnvote.classify.evaluation.compare import exact_answer, rules_of
from knnvote.classify.evaluation.comparison import Comparison, Flip, IndexReport
from knnvote.classify.evaluation.testset import TestSet, read_test_set
from knnvote.classify.pictures.agreement import draw_agreement
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, as_recorded, spelled
from knnvote.data.input_file import InputFile
from knnvote.data.layout import ImageOptions
from knnvote.data.reading import Part
from knnvote.data.text import show_bytes, show_duration, show_speed
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.shown.thumbnails import Thumbnail, stored_thumbnail
from knnvote.indexer.threads import limit_threads

from .charts import Axis, share_axis
from .confused import ConfusedPair, show_confused
from .facts import Fact, index_facts
from .page import Frame, Tile, inline_svg, write_page
from .voters import Voter, show_voters

_VERDICTS = ("for the worse", "for the better", "wrong either way")
_MOST_FLIPS = 100  # of one index are shown: a page of more is none that a browser opens gladly
_MOST_CLASSES = 60  # of a matrix: no screen shows more
_MOST_CONFUSIONS = 20
_MOST_TILES = 3  # of indexes


@dataclass(frozen=True, kw_only=True)
class ShownFlip:
    """A label that differs from exact search's.

    Attributes:
        flip: the labels.
        picture: of the image.
        voters: neighbours that the index's own search found.
        exact_voters: those that exact search found.
    """

    flip: Flip
    picture: Thumbnail
    voters: list[Voter]
    exact_voters: list[Voter]

    @property
    def shared(self) -> set[int]:
        """Rows that both searches found."""
        found, exact = ({voter.neighbor.row for voter in voters} for voters in (self.voters, self.exact_voters))
        return found & exact

    @property
    def verdict(self) -> str:
        """Whether the approximate search was worse, better or wrong otherwise, if the true class is known."""
        return _verdict(self.flip)


@dataclass(frozen=True, kw_only=True)
class ShownReport:
    """How one index, or another search over its images, does.

    Attributes:
        report: the figures.
        flips: labels that differ, as far as they are shown.
        matrix: of true labels by predicted ones; None without labels and where it is too large to be shown.
        confused: the commonest confusions, with pictures where images are some.
        name: how a label is shown.
    """

    report: IndexReport
    flips: list[ShownFlip]
    matrix: "Matrix | None"
    confused: list[ConfusedPair]
    name: Callable[[Any], str]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """`counts[i][j]` images of true label `labels[i]` are predicted to be `labels[j]`."""

    labels: list[Any]
    counts: list[list[int]]

    def shade(self, row: int, column: int) -> float:
        """How dark a count is drawn, from 0 to 1: rightly predicted ones among their class, wrong ones among such."""
        if row == column:
            return self.counts[row][column] / sum(self.counts[row])
        most = max(n for i, counts in enumerate(self.counts) for j, n in enumerate(counts) if i != j)
        return self.counts[row][column] / most


def write_comparison(
    path: Path,
    comparison: Comparison,
    inputs: Sequence[InputFile],
    indexes: Sequence[Index],
    rule: Rule | Sequence[Rule] | None,
    *,
    images: ImageOptions | None = None,
    label_column: str | None = None,
    threads: int | None = None,
    part: Part | None = None,
    frame: Frame | None = None,
) -> None:
    """Write the page of what `compare` found with the same arguments, in the frame that is given.

    Raises:
        KnnvoteError: an input cannot be read any more, or the page cannot be written.
    """
    shown: list[ShownReport] = []
    rules = rules_of(rule, indexes)
    with limit_threads(threads):
        for place, report in enumerate(comparison.indexes):
            is_own = place < len(indexes)  # searches of scikit-learn follow, over the images of the first index
            of = place if is_own else 0
            classifier = Classifier(indexes[of], rules[of])
            read = partial(read_test_set, inputs, classifier, images or ImageOptions(), label_column, part)
            shown.append(_show(report, classifier, read) if is_own else _show_figures(report, classifier))
    write_page(
        path,
        "comparison.html.j2",
        title=f"How good {_joined([report.path for report in comparison.indexes])} {_are(comparison)}",
        frame=frame,
        tiles=_tiles(comparison, shown[0].name),
        made=[*map(index_facts, indexes), _test_images(inputs)],
        comparison=comparison,
        told_votes=spelled(comparison.told_votes or "", as_recorded),
        files=[source.shown for source in inputs],
        summary=_summary(comparison),
        notes=[spelled(note, as_recorded) for note in comparison.notes],
        chart=inline_svg(draw_agreement(comparison.indexes)),
        shown=shown,
        axes=_axes(comparison),
        classes=_class_rows(comparison.indexes),
        has_pictures=all(index.has_pictures for index in indexes),
        show_bytes=show_bytes,
        show_speed=show_speed,
        show_duration=show_duration,
        most_flips=_MOST_FLIPS,
        most_confusions=_MOST_CONFUSIONS,
    )


def _test_images(inputs: Sequence[InputFile]) -> Fact:
    dates = [date for source in inputs if (date := source.written) is not None]
    return Fact("test images", ", ".join(source.shown for source in inputs), max(dates, default=None))


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _are(comparison: Comparison) -> str:
    return "is" if len(comparison.indexes) == 1 else "are"


def _tiles(comparison: Comparison, name: Callable[[Any], str]) -> list[Tile]:
    """How good each index is, what is hardest for the first, and what the others cost."""
    reports = comparison.indexes[:_MOST_TILES]
    tiles = [tile for report in reports if (tile := _accuracy_tile(report)) is not None]
    judgement = reports[0].judgement
    if judgement is not None and judgement.worst_classes:
        worst = judgement.worst_classes[0]
        note = f"{worst.accuracy.value:.2%} of its {worst.images:,} images are right"
        tiles.append(Tile("hardest class", name(worst.label), note))
        pair, _ = judgement.commonest_confusions[0]
        times = f"{pair.images:,} {'time' if pair.images == 1 else 'times'}"
        tiles.append(
            Tile("commonest confusion", f"{name(pair.truth)} → {name(pair.label)}", f"{times}, true → predicted")
        )
    for report in reports:
        if report.kind != "exact":
            low = f"at least {report.agreement.low:.2%} with 95% probability"
            tiles.append(Tile(f"same label as exact search, {report.path}", f"{report.agreement.value:.2%}", low))
    fastest = max(comparison.indexes, key=lambda report: report.images_per_second)
    note = f"a second, {fastest.path}; a million in {show_duration(fastest.hours_per_million * 3600)}"
    return [*tiles, Tile("images, the fastest", f"{fastest.images_per_second:,.0f}", note)]


def _accuracy_tile(report: IndexReport) -> Tile | None:
    interval = report.accuracy_interval
    if interval is not None:
        return Tile(
            f"accuracy, {report.path}",
            f"{interval.value:.2%}",
            f"95% interval {interval.low:.2%} to {interval.high:.2%}{_balanced(report)}",
        )
    if report.mean_absolute_error is None:
        return None
    r2 = "" if report.accuracy is None else f"R² {report.accuracy:.4f}"
    return Tile(f"mean absolute error, {report.path}", f"{report.mean_absolute_error:.4g}", r2)


def _balanced(report: IndexReport) -> str:
    return "" if report.judgement is None else f"; balanced {report.judgement.balanced_accuracy:.2%}"


def _axes(comparison: Comparison) -> dict[str, Axis]:
    """The axis of each figure, the same for all indexes."""
    reports = comparison.indexes
    judgements = [report.judgement for report in reports if report.judgement is not None]
    return {
        "accuracy": share_axis(report.accuracy_interval for report in reports if report.accuracy_interval),
        "agreement": share_axis(report.agreement for report in reports),
        "classes": share_axis(row.accuracy for judged in judgements for row in judged.classes),
        "coverage": share_axis(row.accuracy for report in reports for row in report.coverage),
        "confidence": share_axis(band.accuracy for judged in judgements for band in judged.confidence),
    }


def _class_rows(reports: Iterable[IndexReport]) -> list[tuple[Any, list[ClassAccuracy | None]]]:
    """For each true label how well each index with true labels does."""
    judged = [report.judgement for report in reports if report.judgement is not None]
    of_each = [{row.label: row for row in judgement.classes} for judgement in judged]
    labels = dict.fromkeys(label for of_labels in of_each for label in of_labels)
    return [(label, [of_labels.get(label) for of_labels in of_each]) for label in labels]


def _show(report: IndexReport, classifier: Classifier, read: Callable[[], TestSet]) -> ShownReport:
    """How an index does, with pictures of the images that tell most."""
    figures, flips = _show_figures(report, classifier), report.flips[:_MOST_FLIPS]
    has_confused = report.judgement is not None and report.judgement.commonest_confusions
    if not flips and not (has_confused and classifier.index.has_pictures):
        return figures
    tests = read()
    confused = []
    if report.judgement is not None and classifier.index.has_pictures:
        confused = show_confused(report.judgement, tests, classifier)
    return replace(figures, flips=_show_flips(flips, tests, classifier), confused=confused)


def _show_figures(report: IndexReport, classifier: Classifier) -> ShownReport:
    index = classifier.index
    name = partial(show_class, names=index.manifest.class_names)
    return ShownReport(report=report, flips=[], matrix=_matrix(report.judgement, index), confused=[], name=name)


def _matrix(judgement: Judgement | None, index: Index) -> Matrix | None:
    """Of the labels that occur, in class order, those that the index does not know last."""
    if judgement is None:
        return None
    images = {(pair.truth, pair.label): pair.images for pair in judgement.confusion}
    occur = {label for pair in images for label in pair}
    known = [label for label in index.classes.to_pylist() if label in occur]
    labels = list(dict.fromkeys([*known, *(true for true, _ in images)]))
    if len(labels) > _MOST_CLASSES:
        return None
    return Matrix(labels=labels, counts=[[images.get((true, label), 0) for label in labels] for true in labels])


def _summary(comparison: Comparison) -> list[str]:
    """How good the indexes are, whether they differ by more than chance, and what each costs and buys."""
    return [
        *filter(None, map(accuracy_sentence, comparison.indexes)),
        *(f"{difference.told()}." for difference in comparison.differences),
        *map(summary_sentence, comparison.indexes),
    ]


def accuracy_sentence(report: IndexReport) -> str:
    """How good one index is, in one plain sentence; empty where no image has a true label."""
    accuracy = report.accuracy_interval
    if accuracy is not None and report.judgement is not None:
        images = sum(of_class.images for of_class in report.judgement.classes)
        return (
            f"{report.path} is right on {round(accuracy.value * images):,} of {images:,} images: accuracy "
            f"{accuracy.value:.4f}, of a 95% interval from {accuracy.low:.4f} to {accuracy.high:.4f}; balanced, "
            f"the mean over the true labels, {report.judgement.balanced_accuracy:.4f}."
        )
    if report.mean_absolute_error is not None:
        r2 = "" if report.accuracy is None else f"R² {report.accuracy:.4f}, "
        return f"{report.path} has {r2}a mean absolute error of {report.mean_absolute_error:.4g}."
    return ""


def summary_sentence(report: IndexReport) -> str:
    """What one index costs and buys, in one plain sentence."""
    speed = report.relative_speed
    pace = f"{speed:.3g} times as fast as" if speed >= 1 else f"{1 / speed:.3g} times as slow as"
    sentence = f"{report.path} ({report.kind}) is {pace} FAISS's flat index"
    if report.kind == "exact":
        return f"{sentence}; its labels are exact search's own."
    n, judged = len(report.flips), f"{report.judged:,}"
    counted = {0: f"none of {judged} labels", 1: f"1 label of {judged}"}.get(n, f"{n:,} labels of {judged}")
    ending = "" if n > 1 else "s"
    if report.tolerance is not None:
        return f"{sentence}; {counted} lie{ending} over {report.tolerance:.4g} from exact search's."
    verdicts = [_verdict(flip) for flip in report.flips]
    told = [f", {verdicts.count(verdict):,} of them {verdict}" for verdict in _VERDICTS if verdict in verdicts]
    return f"{sentence}; {counted} differ{ending} from exact search{''.join(told)}."


def _verdict(flip: Flip) -> str:
    if flip.truth is None:
        return ""
    if flip.exact == flip.truth:
        return _VERDICTS[0]
    return _VERDICTS[1] if flip.label == flip.truth else _VERDICTS[2]


def _show_flips(flips: Sequence[Flip], tests: TestSet, classifier: Classifier) -> list[ShownFlip]:
    """Ask again for what differed: the answers are the same, and only they need their neighbours kept.

    Raises:
        KnnvoteError: they are not, for the images have changed.
    """
    if not flips:
        return []
    is_flip = np.isin(tests.rows, [flip.row for flip in flips])
    xq, images = tests.xq[is_flip], tests.images[is_flip]
    answer, exact = classifier.answer(xq, {}), exact_answer(classifier, xq)
    labels = [(flip.label, flip.exact) for flip in flips]
    if labels != [*zip(answer.prediction.to_pylist(), exact.prediction.to_pylist(), strict=True)]:
        raise KnnvoteError("the images changed since they were compared: run the same command again")
    index = classifier.index
    return [
        ShownFlip(
            flip=flip,
            picture=stored_thumbnail(index.manifest, images[i], f"the image of {flip.name}"),
            voters=show_voters(index, neighbors_of(index, answer.I[i], answer.D[i])),
            exact_voters=show_voters(index, neighbors_of(index, exact.I[i], exact.D[i])),
        )
        for i, flip in enumerate(flips)
    ]
