"""What an index promises, and on what that was measured, when it grew or shrank since."""

from collections.abc import Callable

import pyarrow as pa

from knnvote.indexer.index import Index
from knnvote.indexer.labels import show_class
from knnvote.indexer.manifest import AdaptiveSettings, Manifest, SearchSettings
from knnvote.indexer.records.growth import Growth
from knnvote.indexer.rungs import EXACT, VoteDefaults

_SHOWN = 5  # classes


def has_promise(manifest: Manifest) -> bool:
    """Whether it was measured how an index answers: rungs that were tuned, or what is accepted."""
    is_tuned = isinstance(manifest.search, AdaptiveSettings) and manifest.search.tuned is not None
    return is_tuned or (manifest.vote is not None and manifest.vote.is_measured)


def measured_on(growth: Growth | None, search: SearchSettings, vote: VoteDefaults | None) -> str | None:
    """On what that was measured, in words; None where it was on all that the index has, or exact search needs none."""
    if growth is None or not growth.changed:
        return None
    tuned = search.tuned if isinstance(search, AdaptiveSettings) else None
    has_rungs = tuned is not None and any(found.ladder != (EXACT,) for found in (tuned.label, tuned.confidence))
    return growth.measured_on if has_rungs or (vote is not None and vote.is_measured) else None


def tell_of_forgotten(index: Index, labels: pa.Array, tell: Callable[[str], None]) -> None:
    """Tell of weights and thresholds that an index had for classes which none of the labels (n,) it has now is of."""
    vote = index.vote
    weighed = () if vote.class_weight == "balanced" else vote.class_weight or ()
    thresholds = () if vote.acceptance is None else vote.acceptance.min_confidence_by_class or ()
    if not (weighed or thresholds):
        return
    classes = set(labels.unique().to_pylist())
    for what, numbers in (("class weights", weighed), ("thresholds by class", thresholds)):
        gone = [show_class(label, index.manifest.class_names) for label, _ in numbers if label not in classes]
        if gone:
            more = f" and {len(gone) - _SHOWN:,} more" if len(gone) > _SHOWN else ""
            tell(f"{index.path} has no image now of {', '.join(gone[:_SHOWN])}{more}: their {what} are forgotten")
