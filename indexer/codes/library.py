"""The compiled kernel: found beside its source, and the widest instructions chosen that the processor has."""

import ctypes
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from knnvote.data.errors import KnnvoteError

ENVIRONMENT = "KNNVOTE_KERNEL"
NONE = "numpy"
_LIBRARY = Path(__file__).with_name("kernel.compiled")
_SOURCE = Path(__file__).with_name("kernel.cpp")
_VARIANTS = ("avx512", "avx2", "plain")

_ADDRESS, _COUNT, _NUMBER, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double
_VECTORS = (_ADDRESS, _COUNT, _NUMBER, _NUMBER)  # x, d, metric, type
_ARGUMENTS = {
    "distances": (_ADDRESS, _ADDRESS, _COUNT, *_VECTORS, _ADDRESS, _COUNT, _ADDRESS),
    "nearest": (_ADDRESS, _COUNT, _COUNT, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _COUNT, _ADDRESS, _ADDRESS),
    "scan": (
        *(_ADDRESS, _COUNT, _COUNT, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _REAL, _REAL, _REAL),
        *(_ADDRESS, _ADDRESS, _COUNT, *_VECTORS, _COUNT, _ADDRESS, _ADDRESS, _ADDRESS),
    ),
}


class Kernel(NamedTuple):
    """The functions of `kernel.cpp` for one set of instructions, which take addresses and numbers.

    Attributes:
        name: of the set.
        distances: of candidates.
        nearest: by codes.
        scan: of all that a bound does not rule out.
    """

    name: str
    distances: Callable[..., None]
    nearest: Callable[..., None]
    scan: Callable[..., None]


def kernel() -> Kernel | None:
    """What is at work; None where NumPy is.

    Raises:
        KnnvoteError: the environment names a set of instructions that is not there.
    """
    return _choose(os.environ.get(ENVIRONMENT, ""))


def kernel_name() -> str:
    """What is at work, in a word."""
    chosen = kernel()
    return NONE if chosen is None else chosen.name


def describe_kernel() -> str:
    """What is at work and, where that is not compiled, why and what to do."""
    if kernel() is not None:
        return kernel_name()
    if _usable():
        return f"{NONE} (as {ENVIRONMENT} says)"
    return f"{NONE} (not compiled for this machine: install a C++ compiler, such as g++, and knnvote again)"


@cache
def _choose(wanted: str) -> Kernel | None:
    usable = _usable()
    if wanted in ("", *usable):
        name = wanted or next(iter(usable), NONE)
    elif wanted == NONE:
        name = NONE
    else:
        raise KnnvoteError(
            f"{ENVIRONMENT} is {wanted!r}, which is not at hand here: give one of {', '.join((*usable, NONE))}, "
            "or unset it"
        )
    return usable.get(name)


@cache
def _usable() -> dict[str, Kernel]:
    """Sets of instructions that were compiled and that the processor has, the widest first."""
    try:
        library = ctypes.CDLL(str(_LIBRARY))
        mark = ctypes.c_char_p.in_dll(library, "knnvote_mark").value
        expected = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16].encode()
    except (OSError, ValueError):  # it was not compiled, or for another machine
        return {}
    if mark != expected:
        return {}  # of a source that was changed since: its functions may take other arguments
    return {name: _functions(library, name) for name in _VARIANTS if _runs(library, name)}


def _runs(library: Any, name: str) -> bool:
    try:
        return bool(getattr(library, f"runs_{name}")())
    except AttributeError:
        return False


def _functions(library: Any, name: str) -> Kernel:
    functions = []
    for function, arguments in _ARGUMENTS.items():
        found = getattr(library, f"{function}_{name}")
        found.argtypes, found.errcheck = arguments, _check_memory
        functions.append(found)
    return Kernel(name, *functions)


def _check_memory(was_enough: int, *_call: Any) -> None:
    if not was_enough:
        raise MemoryError("the kernel of the search found no memory for its queries")
