"""What an index promises, and on what that was measured, when it grew or shrank since."""

from knnvote.indexer.manifest import AdaptiveSettings, Manifest, SearchSettings
from knnvote.indexer.rungs import EXACT, Growth, VoteDefaults


def has_promise(manifest: Manifest) -> bool:
    """Whether it was measured how an index answers: rungs that were tuned, or a confidence that is accepted."""
    is_tuned = isinstance(manifest.search, AdaptiveSettings) and manifest.search.tuned is not None
    return is_tuned or (manifest.vote is not None and manifest.vote.acceptance is not None)


def measured_on(growth: Growth | None, search: SearchSettings, vote: VoteDefaults | None) -> str | None:
    """On what that was measured, in words; None where it was on all that the index has, or exact search needs none."""
    if growth is None or not growth.changed:
        return None
    tuned = search.tuned if isinstance(search, AdaptiveSettings) else None
    has_rungs = tuned is not None and any(found.ladder != (EXACT,) for found in (tuned.label, tuned.confidence))
    return growth.measured_on if has_rungs or (vote is not None and vote.acceptance is not None) else None
