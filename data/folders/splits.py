"""Splits of a data set, told by names as the Hub tells them."""

import re
from collections import defaultdict
from collections.abc import Iterable

_WORDS = {
    "train": ("train", "training", "trainset"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "testset", "eval", "evaluation", "holdout", "t10k"),
}
_SPLIT = {word: split for split, words in _WORDS.items() for word in words}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_SPLIT, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)


def splits_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The splits that files belong to, and what they are found by.

    Args:
        names: of files, relative to one folder.

    Returns:
        By split the globs, relative to the folder, of its files: mostly one.
    """
    heads: dict[str, set[str]] = defaultdict(set)
    members: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if found := _WORD.search(name):
            split = _SPLIT[found[1].lower()]
            heads[split].add(name[: found.end()])
            members[split].append(name)
    others = {split: [name for other in members if other != split for name in members[other]] for split in heads}
    return {split: _globs(found, others[split]) for split, found in sorted(heads.items())}


def _globs(heads: set[str], others: list[str]) -> list[str]:
    """By what the names of a split begin with; where they differ, by its words, if no other split's files have them."""
    words = {_WORD.findall(head)[-1] for head in heads}
    if len(heads) == 1 or any(word in name for word in words for name in others):
        return [f"{head}*" for head in sorted(heads)]
    return [f"**/*{word}*" for word in sorted(words) if not any(other in word for other in words - {word})]
