"""What a request asks for beside its images: the options of a job, as parameters of the query."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.work import JobOptions
from knnvote.data.errors import OptionError
from knnvote.data.layout import ImageOptions

_SHAPE = re.compile(r"[1-9]\d{0,5}(?:x[1-9]\d{0,5}){0,3}")


def as_query(name: str) -> str:
    """A parameter as a request gives it: ``grayscale=true``, ``image_column``."""
    return name.replace("=True", "=true")


def asked_of(query: Iterable[tuple[str, str]]) -> JobOptions:
    """The options that parameters of a query give.

    Args:
        query: names and values, as they came.

    Raises:
        OptionError: there is no such parameter, it has no such value, or is given twice.
    """
    images: dict[str, Any] = {}
    output: dict[str, Any] = {}
    keep: list[str] = []
    for name, value in query:
        if name == "keep":
            keep.append(value)
            continue
        of, read = (images, _IMAGES[name]) if name in _IMAGES else (output, _OUTPUT.get(name))
        if read is None:
            known = ", ".join(sorted([*_IMAGES, *_OUTPUT, "keep"]))
            raise OptionError(f"there is no parameter {name!r}: give some of {known}, or none")
        if name in of:
            raise OptionError(f"{name} is given twice: give it once")
        of[name] = read(name, value)
    return JobOptions(images=ImageOptions(**images), output=OutputOptions(**output, keep=tuple(keep) or None))


def _flag(name: str, value: str) -> bool:
    if value not in {"true", "false"}:
        raise OptionError(f"{name} is {value!r}: give true or false")
    return value == "true"


def _count(name: str, value: str) -> int:
    if not (value.isdecimal() and value.isascii() and len(value) < 10):
        raise OptionError(f"{name} is {value!r}: give a whole number of at least 1")
    return int(value)


def _text(_name: str, value: str) -> str:
    return value


def _shape(name: str, value: str) -> tuple[int, ...]:
    if not _SHAPE.fullmatch(value):
        raise OptionError(f"{name} is {value!r}: give height and width, such as 28x28")
    return tuple(map(int, value.split("x")))


_Read = Callable[[str, str], Any]
_IMAGES: dict[str, _Read] = {"image_column": _text, "shape": _shape, "grayscale": _flag, "background": _text}
_OUTPUT: dict[str, _Read] = {"neighbors": _flag, "probabilities": _flag, "top": _count, "prefix": _text}
