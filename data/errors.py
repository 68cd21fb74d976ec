"""The errors that users see: each names the path or value, what was expected, and what to do.

Where a message speaks of a parameter, it has the parameter's name in Python, marked by `param`. Python shows the
name as it is; another face, such as the command line, says it in its own words.
"""

import re
import resource
import sys
import warnings
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from .text import printable, show_bytes

Spell = Callable[[str], str]

_BEGIN, _END = "\ufdd0", "\ufdd1"  # Unicode leaves these to programs: no text has them that means anything
_WITHIN = ("knnvote", "contextlib", "functools")  # whose frames are between what warns and who called
_MARKED = re.compile(f"{_BEGIN}(.*?){_END}")


def param(name: str) -> str:
    """A parameter in a message, for each face to spell.

    Args:
        name: as it is written in Python: ``label_column``, or ``skip_bad=True`` for what is given or not.
    """
    return f"{_BEGIN}{name}{_END}"


def spelled(text: str, spell: Spell) -> str:
    """A message with its parameters as a face spells them."""
    return _MARKED.sub(lambda marked: spell(marked[1]), text)


def spelled_reasons(reasons: Mapping[int, str], spell: Spell) -> dict[int, str]:
    """The reasons of rows, with their parameters as a face spells them."""
    return {row: spelled(reason, spell) for row, reason in reasons.items()}


class Note(UserWarning):
    """Something to be told in Python, with parameters as they are written there; `marked` is for other faces."""

    def __init__(self, marked: str) -> None:
        """Keep the text with its marks."""
        super().__init__(spelled(marked, str))
        self.marked = marked


def warn(note: str) -> None:
    """Tell something in Python."""
    warnings.warn(Note(note), stacklevel=stack_level())


def stack_level() -> int:
    """The ``stacklevel`` of a warning by which it shows the line that called the package, however deep it is told."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001  # as the warnings module itself walks
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _WITHIN:
        frame, level = frame.f_back, level + 1
    return level


def as_recorded(name: str) -> str:
    """A parameter as files and other records have it, an option of the command: of skip_bad=True the name, dashed.

    Equal work gives equal bytes, whichever face had it done, so that the command completes what Python has begun.
    """
    return f"--{name.removesuffix('=True').replace('_', '-')}"


class KnnvoteError(Exception):
    """Something about the data or the machine stands in the way (exit code 1).

    Example:
        >>> from knnvote import KnnvoteError, open_index
        >>> try:
        ...     open_index("digits")
        ... except KnnvoteError as error:
        ...     print(error)
        digits is not an index folder: it has no manifest.json; give one that knnvote index made
    """

    def __str__(self) -> str:
        """The message, with parameters as they are written in Python."""
        return self.told(str)

    def told(self, spell: Spell) -> str:
        """The message, with its parameters as a face spells them.

        It is one line that any terminal shows and any file takes: it may quote names from hostile files.
        """
        return printable(spelled(self.marked, spell))

    @property
    def marked(self) -> str:
        """The message with its parameters still marked, to be part of another message."""
        return super().__str__()


class OptionError(KnnvoteError):
    """An option's value cannot be used (exit code 2).

    Example:
        >>> from knnvote import OptionError, Rule
        >>> try:
        ...     Rule(weights="rank")
        ... except OptionError as error:
        ...     print(error)
        weights is 'rank': give one of uniform, distance, softmax[T] with a temperature T above 0
    """


class CodecError(Exception):
    """One image cannot be read; the text is the reason, in one line."""


class ImageFileError(KnnvoteError):
    """A whole file of images does not fit: no image column, another shape, not Parquet."""


def check(name: str, value: object, holds: bool, expected: str) -> None:
    """Refuse a parameter's value that has no meaning.

    Args:
        name: of the parameter.
        value: that it was given.
        holds: whether that can be used.
        expected: what to give instead.

    Raises:
        OptionError: naming parameter and value.
    """
    if not holds:
        raise OptionError(f"{param(name)} is {value!r}: {expected}")


def check_one_of(name: str, value: object, allowed: tuple[str, ...], hint: str = "") -> None:
    """Refuse any other text, and what is no text.

    Raises:
        OptionError: naming parameter and value.
    """
    check(name, value, isinstance(value, str) and value in allowed, f"give one of {', '.join(allowed)}{hint}")


def check_instance(name: str, value: object, kind: type) -> None:
    """Refuse what is no object of a class, such as a dict of options.

    Raises:
        OptionError: naming parameter and value.
    """
    check(name, value, isinstance(value, kind), f"give {kind.__name__}(...), or leave it out")


def memory_ran_out(advice: str) -> str:
    """What to say where it did: how much this process has held, and what helps."""
    unit = 1 if sys.platform == "darwin" else 1024
    held = show_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    return f"memory ran out ({held} were held at the most): {advice}, or run it where there is more memory"


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or NumPy; what is true or false is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A number of NumPy as Python's own, which FAISS and JSON take; any other as it is."""
    return getattr(value, "item", lambda: value)()


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python or NumPy; what is true or false is none."""
    return isinstance(value, Real) and not isinstance(value, bool)
