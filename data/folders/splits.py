"""Splits of a data set, told by names as the Hub tells them."""

import re
from collections import defaultdict
from collections.abc import Iterable

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT = {word: split for split, words in _WORDS.items() for word in words}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_SPLIT, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """The splits that files belong to, and what they are found by.

    Args:
        names: of files, relative to one folder.

    Returns:
        By split a glob, relative to the folder, of its files.
    """
    heads: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if found := _WORD.search(name):
            heads[_SPLIT[found[1].lower()]].add(name[: found.end()])
    return {split: f"{_common(found)}*" for split, found in sorted(heads.items())}


def _common(heads: set[str]) -> str:
    """What the names of a split begin with; where they differ, the shortest of its words, anywhere below."""
    if len(heads) == 1:
        return next(iter(heads))
    words = sorted((_WORD.findall(head)[-1] for head in heads), key=len)
    return f"**/*{words[0]}"
