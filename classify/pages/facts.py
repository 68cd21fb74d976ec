"""What a page was made from, as its head and foot tell it: the same words for the same files, on any day."""

from dataclasses import dataclass
from datetime import datetime

from knnvote.indexer.index import Index

_DIGITS = 12  # of a fingerprint


@dataclass(frozen=True)
class Fact:
    """One thing that a page was made from.

    Attributes:
        what: it is.
        told: where it is, and what it holds.
        written: when it was last written, in UTC; None where that is not known, or means nothing.
    """

    what: str
    told: str
    written: datetime | None = None


def index_facts(index: Index) -> Fact:
    """An index: where it is, what it holds, and the fingerprint of that."""
    manifest = index.manifest
    held = f"{index.n:,} {'image' if index.n == 1 else 'images'}"
    steps = f", steps {index.steps}" if index.steps else ""
    data = manifest.data_sha256[:_DIGITS]
    return Fact("index", f"{index.path}: {held}{steps}, {index.kind}, {index.metric}, data {data}", index.written)


def last_written(facts: list[Fact]) -> datetime | None:
    """The date of what a page tells: when the last of what it was made from was written."""
    return max((fact.written for fact in facts if fact.written is not None), default=None)
