"""The page of ``knnvote serve``, on which one draws, and what it shows of an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from knnvote.classify.answer import Neighbor
from knnvote.classify.classifier import Classifier
from knnvote.data.layout import show_shape
from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class

from .facts import Fact, index_facts
from .links import Link
from .page import render_page
from .voters import show_voters


@dataclass(frozen=True, kw_only=True)
class DrawnAnswer:
    """The answer to one drawing.

    Attributes:
        label: that it got; None where the classifier abstains.
        best: what it is or would be.
        reason: why there is no label.
        shares: the best classes, each with its share of the vote; none of a regression.
        seen: the drawing as the classifier saw it, a ``data:`` URI.
        neighbors: that voted, as a job's output holds them.
    """

    label: Any
    best: Any
    reason: str | None
    shares: Sequence[tuple[Any, float]]
    seen: str
    neighbors: Sequence[dict[str, Any]]

    def to_json(self, index: Index) -> dict[str, Any]:
        """As the page takes it: labels as people read them, and pictures."""
        names = index.manifest.class_names
        shown = self._shown(self.best, index)
        voters = show_voters(index, [Neighbor(**neighbor) for neighbor in self.neighbors])
        told = shown if self.label is not None else f"no label: {self.reason}; the best guess is {shown}"
        if self.label is not None and self.shares:
            told += f", with {self.shares[0][1]:.0%} of the vote"
        return {
            "label": shown if self.label is not None else None,
            "best": shown,
            "told": told,
            "shares": [{"label": show_class(label, names), "share": share} for label, share in self.shares],
            "seen": self.seen,
            "neighbors": [
                {
                    "label": self._shown(voter.neighbor.label, index),
                    "distance": f"{voter.neighbor.distance:.4g}",
                    "id": voter.neighbor.id,
                    "picture": voter.picture.source,
                    "told": voter.picture.told,
                }
                for voter in voters
            ],
        }

    @staticmethod
    def _shown(label: Any, index: Index) -> str:
        return f"{label:.6g}" if index.is_regression else show_class(label, index.manifest.class_names)


def drawing_title(*, can_draw: bool) -> str:
    """The title of the page of a service, by whether something can be drawn for it."""
    return "What is this?" if can_draw else "Classify vectors"


def render_drawing(
    classifier: Classifier, *, name: str, pen: float | None, is_framed: bool, links: Sequence[Link] = ()
) -> str:
    """The page of a service.

    Args:
        classifier: that answers.
        name: by which the service knows the index.
        pen: the width of a stroke, as a share of the longer side of what is drawn; None where nothing can be drawn.
        is_framed: stored pictures fill their frame, so that drawings stay as large as they are, and where they are.
        links: to other pages, itself among them.
    """
    index, rule = classifier.index, classifier.rule
    voters = "1 neighbour votes" if rule.k == 1 else f"{rule.k} neighbours vote, {rule.weights}"
    return render_page(
        "drawing.html.j2",
        title=drawing_title(can_draw=pen is not None),
        links=links,
        scripts=("page.js", "address.js", *(() if pen is None else ("drawing.js",))),
        tiles=[],
        made=[index_facts(index), Fact("vote", voters)],
        index=index,
        name=name,
        pen=pen,
        is_framed=is_framed,
        shape=show_shape(index.shape),
        sides=index.shape,
    )
