"""The page of ``knnvote compare --report``: what approximate search costs, in words, figures and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classify.classifier import Answer, Classifier
from classify.compare import Comparison, Flip, IndexReport, exact_answer, read_test_images
from classify.pages.page import inline_svg, write_page
from classify.pages.thumbnails import Thumbnail, index_thumbnail
from classify.pictures.agreement import draw_agreement
from classify.vote import Rule
from data.inputs import InputFile
from data.layout import ImageOptions
from indexer.store import Index
from indexer.threads import limit_threads

_VERDICTS = ("for the worse", "for the better", "wrong either way")
_MOST_FLIPS = 500  # of one index are shown: a page of more is none that a browser opens gladly
_MOST_CLASSES = 60  # of a matrix: no screen shows more


@dataclass(frozen=True, kw_only=True)
class Voter:
    """A neighbour that voted.

    Attributes:
        picture: of the stored image.
        label: that it votes for.
        distance: from the image that is classified, in the index's metric.
        id: of the stored image.
        is_shared: whether the other search found it too.
    """

    picture: Thumbnail
    label: Any
    distance: float
    id: str
    is_shared: bool


@dataclass(frozen=True, kw_only=True)
class ShownFlip:
    """A label that differs from exact search's, with the neighbours that each search found."""

    flip: Flip
    picture: Thumbnail
    voters: list[Voter]
    exact_voters: list[Voter]

    @property
    def verdict(self) -> str:
        """Whether the approximate search was worse, better or wrong otherwise, if the truth is known."""
        return _verdict(self.flip)


def write_comparison(
    path: Path,
    comparison: Comparison,
    inputs: Sequence[InputFile],
    indexes: Sequence[Index],
    rule: Rule,
    *,
    images: ImageOptions | None = None,
    label_column: str | None = None,
    threads: int | None = None,
) -> None:
    """Write the page of what `compare` found with the same arguments.

    Raises:
        KnnvoteError: an input cannot be read any more, or the page cannot be written.
    """
    shown: list[tuple[IndexReport, list[ShownFlip]]] = []
    with limit_threads(threads):
        for report, index in zip(comparison.indexes, indexes, strict=False):  # searches of no index follow
            flips = report.flips[:_MOST_FLIPS]
            classifier = Classifier(index, rule)
            asked = _show_flips(flips, inputs, classifier, images or ImageOptions(), label_column) if flips else []
            shown.append((report, asked))
    shown += [(report, []) for report in comparison.indexes[len(indexes) :]]
    write_page(
        path,
        "comparison.html.j2",
        comparison=comparison,
        rule=rule,
        files=[source.shown for source in inputs],
        summary=[summary_sentence(report) for report in comparison.indexes],
        chart=inline_svg(draw_agreement(comparison.indexes)),
        shown=shown,
        most_flips=_MOST_FLIPS,
        most_classes=_MOST_CLASSES,
    )


def summary_sentence(report: IndexReport) -> str:
    """What one index costs and buys, in one plain sentence."""
    speed = report.relative_speed
    pace = f"{speed:.3g} times as fast as" if speed >= 1 else f"{1 / speed:.3g} times as slow as"
    sentence = f"{report.path} ({report.kind}) is {pace} FAISS's flat index"
    if report.kind == "exact":
        return f"{sentence}; its labels are exact search's own."
    if not report.flips:
        return f"{sentence}; none of {report.judged:,} labels differs from exact search."
    verdicts = [_verdict(flip) for flip in report.flips]
    told = [f"{verdicts.count(verdict):,} of them {verdict}" for verdict in _VERDICTS if verdict in verdicts]
    differ = "label of" if len(report.flips) == 1 else "labels of"
    verb = "differs" if len(report.flips) == 1 else "differ"
    return (
        f"{sentence}; {len(report.flips):,} {differ} {report.judged:,} {verb} from exact search"
        f"{''.join(f', {words}' for words in told)}."
    )


def _verdict(flip: Flip) -> str:
    if flip.truth is None:
        return ""
    if flip.exact == flip.truth:
        return _VERDICTS[0]
    return _VERDICTS[1] if flip.label == flip.truth else _VERDICTS[2]


def _show_flips(
    flips: Sequence[Flip],
    inputs: Sequence[InputFile],
    classifier: Classifier,
    images: ImageOptions,
    label_column: str | None,
) -> list[ShownFlip]:
    """Ask again for what differed: the answers are the same, and only they need their neighbours kept."""
    tests = read_test_images(inputs, classifier, images, label_column)
    xq = tests.xq[np.searchsorted(tests.rows, [flip.row for flip in flips])]
    answer, exact = classifier.answer(xq, {}), exact_answer(classifier, xq)
    return [
        ShownFlip(
            flip=flip,
            picture=index_thumbnail(classifier.index, xq[i], f"the image of row {flip.row}"),
            voters=_voters(answer, i, exact.I[i]),
            exact_voters=_voters(exact, i, answer.I[i]),
        )
        for i, flip in enumerate(flips)
    ]


def _voters(answer: Answer, i: int, others: NDArray[np.int64]) -> list[Voter]:
    index = answer.index
    rows = answer.I[i]
    labels, ids = index.labels.take(rows).to_pylist(), index.ids.take(rows).to_pylist()
    return [
        Voter(
            picture=index_thumbnail(index, index.vectors[row], f"a stored {label}"),
            label=label,
            distance=float(distance),
            id=name,
            is_shared=bool(row in others),
        )
        for row, label, name, distance in zip(rows, labels, ids, answer.D[i], strict=True)
    ]
