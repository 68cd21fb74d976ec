"""What a page was made from, as its foot tells it: the same words for the same work, on any day."""

from knnvote.indexer.index import Index

_DIGITS = 12  # of a fingerprint


def index_facts(index: Index) -> tuple[str, str]:
    """An index: where it is, what it holds, and the fingerprint of that. No date of it is recorded."""
    manifest = index.manifest
    held = f"{index.n:,} {'image' if index.n == 1 else 'images'}"
    steps = f", steps {index.steps}" if index.steps else ""
    data = manifest.data_sha256[:_DIGITS]
    return "index", f"{index.path}: {held}{steps}, {index.kind}, {index.metric}, data {data}"
