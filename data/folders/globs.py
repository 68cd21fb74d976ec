"""Globs: what has wildcards, and which paths match."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

_CHARACTERS = frozenset("*?[")


def is_glob(text: str) -> bool:
    """Whether there are wildcards in it."""
    return not _CHARACTERS.isdisjoint(text)


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a glob, part by part, in which ** stands for any number of parts."""
    if not parts or not pattern:
        return not parts and not pattern
    if pattern[0] == "**" and matches(parts, pattern[1:]):
        return True
    is_hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    rest = pattern if pattern[0] == "**" else pattern[1:]
    return not is_hidden and fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], rest)
