"""An index as a notebook shows it: what it stores, how it is searched, what it promises, and some of its images."""

from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.layout import show_shape
from knnvote.data.text import counted
from knnvote.indexer.labels import show_class
from knnvote.indexer.manifest import AdaptiveSettings, Manifest
from knnvote.indexer.rungs import Acceptance, Tuned

from .parts import card, cards, faint, frame, show_label, table
from .thumbnails import SMALL, stored_thumbnail

_SHOWN = 12  # classes, each with an image; or images of a regression


def index_html(title: str, manifest: Manifest, labels: pa.Array, images: NDArray[np.generic]) -> str:
    """An index as HTML.

    Args:
        title: what it is.
        manifest: what is known of it.
        labels: (n,) Arrow array of its labels.
        images: (n, pixels) the stored images.
    """
    facts = table((name, escape(told)) for name, told in _facts(manifest, labels))
    if manifest.is_regression:
        examples = {row: "" for row in range(min(_SHOWN, manifest.n)) if manifest.has_pictures}
    else:
        examples = _of_classes(manifest, labels)
    shown = [_example(manifest, labels[row].as_py(), images[row], note) for row, note in examples.items()]
    more = len(manifest.classes) - len(shown)
    return frame(
        title,
        [
            facts,
            cards(shown, has_pictures=manifest.has_pictures),
            faint(f"and {more:,} more classes") if more > 0 else "",
        ],
    )


def _facts(manifest: Manifest, labels: pa.Array) -> Iterator[tuple[str, str]]:
    (low, high), dtype = manifest.image_range, manifest.images.get("dtype", manifest.dtype)
    yield "images", f"{manifest.n:,} of {show_shape(manifest.shape)}, {dtype} from {low:g} to {high:g}"
    if manifest.images:
        yield "vectors", f"{counted(manifest.d, 'dimension')}, {manifest.dtype}, by the steps {manifest.steps}"
    factory = f", FAISS {manifest.factory}" if manifest.kind == "factory" else ""
    yield "search", f"{manifest.kind}{factory}, by {manifest.metric}"
    if manifest.vote is not None:
        yield "vote", f"made for k {manifest.vote.k} and {manifest.vote.weights} weights"
    for promise in _promises(manifest):
        yield "promise", promise
    if manifest.growth is not None:
        yield "grown", manifest.growth.told
    if not manifest.is_regression:
        yield "classes", f"{len(manifest.classes):,}"
    else:
        ends = pc.min_max(labels).as_py()
        yield "labels", f"numbers from {ends['min']:g} to {ends['max']:g}"


def _promises(manifest: Manifest) -> Iterator[str]:
    """What was measured of its answers, and on what where that is not what it stores now."""
    growth = manifest.growth
    on = "" if growth is None or not growth.changed else f"; {growth.measured_on}"
    search, vote = manifest.search, manifest.vote
    if isinstance(search, AdaptiveSettings):
        yield "none was asked for: its most careful rung searches" if search.tuned is None else _tuned(search.tuned, on)
    if vote is not None and vote.acceptance is not None:
        yield f"{_accepted(vote.acceptance)}{on}"


def _tuned(tuned: Tuned, on: str) -> str:
    vote, found = f"k {tuned.k} and {tuned.weights} weights", tuned.label
    if not found.reached or not tuned.queries:
        return f"for {vote} exact search alone answers"
    same = "labels" if tuned.tolerance is None else f"answers, within {tuned.tolerance:.4g},"
    return (
        f"for {vote} {found.agreement.value:.4f} of the {same} are exact search's, of a 95% interval from "
        f"{found.agreement.low:.4f}: measured on {tuned.queries:,} stored images, each left out{on}"
    )


def _accepted(found: Acceptance) -> str:
    if found.min_confidence is None:
        return f"no answer is accepted unless told: accuracy {found.target_accuracy:g} was wanted, and is not reached"
    return (
        f"from confidence {found.min_confidence:g} on {found.accuracy.value:.4f} of the answers are right, of a 95% "
        f"interval from {found.accuracy.low:.4f}: {found.coverage:.1%} of {found.images:,} stored images, each left out"
    )


def _of_classes(manifest: Manifest, labels: pa.Array) -> dict[int, str]:
    """The first rows of the first classes, and how many images each has."""
    counts = {one["values"]: one["counts"] for one in pc.value_counts(labels).to_pylist()}
    shown = manifest.classes[:_SHOWN]
    rows = (pc.index(labels, pa.scalar(label, labels.type)).as_py() for label in shown)
    return {row: counted(counts[label], "image") for row, label in zip(rows, shown, strict=True)}


def _example(manifest: Manifest, label: Any, image: NDArray[np.generic], note: str) -> str:
    drawn = stored_thumbnail(manifest, image, f"a stored {show_class(label, manifest.class_names)}", SMALL)
    return card(drawn, f"<strong>{show_label(label, manifest)}</strong>", note)
