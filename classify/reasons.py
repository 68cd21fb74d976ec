"""Reasons of rows, counted: those that differ in numbers alone are one."""

import re
from collections import Counter
from typing import NamedTuple

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")


class Place(NamedTuple):
    """A row of a file, as users know both."""

    file: str
    row: int

    def __str__(self) -> str:
        """As messages have it."""
        return f"{self.file}, row {self.row}"


class ReasonCounts:
    """How often each reason is told; those that differ in numbers alone are one, with N for each that differs."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._rows: Counter[tuple[str, ...]] = Counter()
        self._numbers: dict[tuple[str, ...], list[str]] = {}
        self._first: dict[tuple[str, ...], tuple[Place, str]] = {}

    def add(self, reason: str, rows: int = 1, first: Place | None = None) -> None:
        """Count a reason, and where it is met first if that is to be known."""
        met = None if first is None else (first, reason)
        self._add(tuple(_NUMBER.split(reason)), _NUMBER.findall(reason), rows, met)

    def _add(self, words: tuple[str, ...], numbers: list[str], rows: int, first: tuple[Place, str] | None) -> None:
        self._rows[words] += rows
        known = self._numbers.setdefault(words, numbers)
        self._numbers[words] = [old if old == new else "N" for old, new in zip(known, numbers, strict=True)]
        if first is not None:
            self._first.setdefault(words, first)

    def __iadd__(self, other: "ReasonCounts") -> "ReasonCounts":
        """Count what another has counted, behind what is counted here."""
        for words, rows in other._rows.items():
            self._add(words, other._numbers[words], rows, other._first.get(words))
        return self

    def most_common(self) -> dict[str, int]:
        """The reasons with their rows, the commonest first."""
        told: Counter[str] = Counter()
        for words, rows in self._rows.items():
            told[self._told(words)] += rows
        return dict(told.most_common())

    def first(self) -> dict[str, tuple[Place, str]]:
        """Where each reason was met first, and the reason there."""
        found: dict[str, tuple[Place, str]] = {}
        for words, met in self._first.items():
            found.setdefault(self._told(words), met)
        return found

    def _told(self, words: tuple[str, ...]) -> str:
        return "".join(map("".join, zip(words, [*self._numbers[words], ""], strict=True)))
