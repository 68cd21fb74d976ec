"""Splits of a data set, told by names as the Hub tells them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from posixpath import commonpath

_WORDS = {
    "train": ("train", "training", "trainset"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "testset", "eval", "evaluation", "holdout", "t10k"),
}
_SPLIT = {word: split for split, words in _WORDS.items() for word in words}
# Languages and countries are called so too: they tell splits only where all files have one.
_SHORT = {"tr": "train", "trn": "train", "te": "test", "tst": "test"}


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Words by themselves, or as a part of a name such as mnistTrain or trainImages."""
    found = sorted(words, key=len, reverse=True)
    alone, inside = "|".join(found), "|".join(word.capitalize() for word in found)
    return re.compile(
        rf"(?<![A-Za-z])(?i:{alone})(?![A-Za-z])|(?<=[a-z])(?:{inside})(?![a-z])|"
        rf"(?<![A-Za-z])(?:{alone}|{inside})(?=[A-Z][a-z])"
    )


_WORD, _ANY_WORD = _pattern(_SPLIT), _pattern([*_SPLIT, *_SHORT])


def splits_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The splits that files belong to, and what they are found by.

    Args:
        names: of files, relative to one folder.

    Returns:
        By split the globs, relative to the folder, of its files: mostly one.
    """
    names = list(names)
    members: dict[str, dict[str, re.Match[str]]] = defaultdict(dict)
    for name, word in _words_of(names).items():
        members[_split_of(word)][name] = word
    return {split: _globs(of, [name for name in names if name not in of]) for split, of in sorted(members.items())}


def split_by_name(names: Iterable[str]) -> dict[str, str]:
    """The split of each file that belongs to one; train comes before validation, and that before test.

    Args:
        names: of files, relative to one folder.
    """
    found = {name: _split_of(word) for name, word in _words_of(list(names)).items()}
    return dict(sorted(found.items(), key=lambda pair: list(_WORDS).index(pair[1])))


def _words_of(names: list[str]) -> dict[str, re.Match[str]]:
    """The word that tells the split of each file that belongs to one."""
    start = len(commonpath(names))  # folders above all of them tell none apart
    found = {name: word for name in names if (word := _ANY_WORD.search(name, start))}
    if len(found) < len(names):
        found = {name: word for name in names if (word := _WORD.search(name, start))}
    return found


def _split_of(word: re.Match[str]) -> str:
    return (_SPLIT | _SHORT)[word[0].lower()]


def _globs(members: Mapping[str, re.Match[str]], others: list[str]) -> list[str]:
    """By what the names of a split begin with; where they differ, by its words, if no other files have them."""
    heads = {name[: word.end()] for name, word in members.items()}
    words = {word[0] for word in members.values()}
    if len(heads) == 1 or any(word in name for word in words for name in others):
        return [f"{head}*" for head in sorted(heads)]
    return [f"**/*{word}*" for word in sorted(words) if not any(other in word for other in words - {word})]


def is_split(name: str) -> bool:
    """Whether a folder's whole name is that of a split."""
    return name.lower() in _SPLIT | _SHORT
