"""Work that may end its process, done in a process of its own: FAISS aborts on some inputs, and parses unsafely.

The worker answers with one line of JSON on what was its stdout; whatever C libraries print goes to stderr.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from knnvote.data.errors import KnnvoteError

_GIB = 1 << 30
_BASE = 3 * _GIB  # address space of the libraries, and of small data; more of it is reserved than used
_SECONDS = 120  # of each processor
_PER_PROCESSOR = _GIB // 4  # stacks, arenas and buffers of its threads


def run_apart(module: str, *arguments: str, memory: int, seconds: float) -> list[str]:
    """Run a module that calls `answer` in a process of its own.

    Args:
        module: one of ours.
        arguments: of the work.
        memory: bytes that it may take beside what every process may.
        seconds: of one processor that it may take beside what every process may.

    Returns:
        Lines that libraries wrote to stderr.

    Raises:
        KnnvoteError: in the worker's own words, or saying how it ended.
    """
    # -P: a foreign data.py in the working folder does not stand for ours.
    command = [sys.executable, "-P", "-m", module, str(memory), str(int(seconds)), *arguments]
    done = subprocess.run(  # noqa: S603  # our own interpreter and module
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    talk = done.stderr.splitlines()
    try:
        refusal = json.loads(done.stdout)["refusal"]
    except ValueError:
        raise KnnvoteError(_describe_end(done.returncode, talk)) from None
    if refusal is not None:
        raise KnnvoteError(refusal)
    if done.returncode:
        raise KnnvoteError(_describe_end(done.returncode, talk))
    return talk


def _describe_end(code: int, talk: list[str]) -> str:
    """Why a process ended without an answer."""
    if code == -signal.SIGKILL:
        return "its process was killed, as the system does when memory runs out"
    if code == -signal.SIGXCPU:
        return "it gave no answer in many times the time that data of this size take"
    if code < 0:
        return f"its process was stopped by signal {signal.Signals(-code).name}"
    return f"its process gave no answer{f': {talk[-1]}' if talk else ''}"


def answer(work: Callable[..., None]) -> None:
    """Be such a worker: do the work with the arguments and within the memory of `run_apart`, and answer."""
    memory, seconds, *arguments = sys.argv[1:]
    limit_resources(int(memory), int(seconds))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as reply:
        os.dup2(2, 1)
        json.dump({"refusal": refusal(work, *arguments)}, reply)


def refusal(work: Callable[..., None], *arguments: str) -> str | None:
    """Do the work, and say why it could not be done; None if it was."""
    try:
        work(*arguments)
    except KnnvoteError as error:
        return error.marked
    except MemoryError:
        return "it takes more memory than data of this size should"
    return None


def limit_resources(memory: int, seconds: int) -> None:
    """Bound what this process may take, and keep its end, however it comes, from filling a disk."""
    processors = os.cpu_count() or 1
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _BASE + _PER_PROCESSOR * processors + memory)
    _limit(resource.RLIMIT_CPU, (_SECONDS + seconds) * processors)


def _limit(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    with suppress(ValueError):  # macOS does not limit memory
        if hard == resource.RLIM_INFINITY or limit < hard:  # a lower one of the user's own stands
            resource.setrlimit(kind, (limit, hard))
