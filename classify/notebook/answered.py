"""An answer as a notebook shows it: the first images, each with its label, its vote and the neighbours that gave it."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.shown.parts import bar, card, cards, faint, frame, show_label, table
from knnvote.indexer.shown.thumbnails import SMALL, stored_thumbnail

ROWS, CLASSES = 5, 3  # that are shown
_NEIGHBORS = 10  # of an image, likewise


def answer_html(
    title: str, index: Index, answers: Sequence[dict[str, Any]], D: NDArray[np.float64], I: NDArray[np.int64], *, n: int
) -> str:
    """An answer as HTML.

    Args:
        title: what it is.
        index: that answered.
        answers: to the first of them, as rows of `Answer.to_table` with ``top`` where there are classes.
        D: (m, k) distances of the neighbours of these.
        I: (m, k) their rows in the index; -1 for bad images.
        n: images that it is of, m of them and more.
    """
    rows = [
        (faint(f"{place}"), _verdict(index, answer), _voters(index, answer["best"], *found))
        for place, (answer, *found) in enumerate(zip(answers, D, I, strict=True))
    ]
    more = n - len(rows)
    told = f"and {more:,} more: to_table() has them all; to see some, ask the classifier for these alone"
    return frame(title, [table(rows), faint(told) if more else ""])


def _verdict(index: Index, answer: dict[str, Any]) -> str:
    """The label, or why there is none, and the best classes with their shares of the vote."""
    manifest, best = index.manifest, answer["best"]
    if best is None:
        return f"<strong>bad image</strong><br>{faint(escape(answer['reason']))}"
    lines = [f'<strong style="font-size:1.2em">{show_label(best, manifest)}</strong>']
    if answer["prediction"] is None:
        lines = [f"<strong>abstained</strong>: {escape(answer['reason'])}", f"best guess {lines[0]}"]
    if not index.is_regression:
        for label, share in zip(answer["top"], answer["top_share"], strict=True):
            lines.append(bar(share) + faint(f"{share:.0%} {show_label(label, manifest)}"))
    return "<br>".join(lines)


def _voters(index: Index, best: Any, D: NDArray[np.float64], I: NDArray[np.int64]) -> str:
    """The neighbours of an image, nearest first, those for the best label in bold; of a bad one none."""
    if I[0] < 0:
        return ""
    manifest, own, several = index.manifest, index.sample_weight, []
    for row, distance in zip(I[:_NEIGHBORS].tolist(), D[:_NEIGHBORS].tolist(), strict=True):
        label = index.labels[row].as_py()
        told = f"a stored {show_class(label, manifest.class_names)}"
        drawn = stored_thumbnail(manifest, index.images[row], told, SMALL)
        shown = show_label(label, manifest)
        if not index.is_regression and label == best:
            shown = f"<strong>{shown}</strong>"
        near = f"at {distance:.4g}" + ("" if own is None else f", weight {own[row]:g}")
        several.append(card(drawn, shown, near if drawn.source else f"{near}, row {row}"))
    more = len(I) - len(several)
    return cards(several, has_pictures=manifest.has_pictures) + (faint(f"and {more:,} more neighbours") if more else "")
