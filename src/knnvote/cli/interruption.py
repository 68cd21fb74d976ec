"""Ctrl-C and SIGTERM end the process cleanly, and soon, whatever a library is at."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

_PATIENCE = 1.5  # seconds from a signal to the end of the process
_CLEAR_LINE = b"\r\x1b[2K\x1b[?25h"  # of a bar, which hides the cursor too
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_has_come = threading.Event()
_is_over = threading.Event()


class Interrupted(BaseException):
    """By Ctrl-C or SIGTERM; click has words of its own for KeyboardInterrupt."""


@dataclass
class _Words:
    """What to say when the command is interrupted."""

    told: str = "interrupted"

    def of_job(self, done: int, files: int) -> None:
        """Of a job at work."""
        self.told = f"interrupted: {done:,} of {files:,} files are done and kept; run the same command again to go on"

    def of_build(self) -> None:
        """Of an index that is being built."""
        self.told = (
            "interrupted: an index is there as a whole or not at all; run the same command again, which goes on with "
            "what a long build has kept"
        )

    def of_index(self) -> None:
        """Of an index that is being written."""
        self.told = "interrupted: an index is changed as a whole or not at all; run the same command again"


words = _Words()


def was_interrupted() -> bool:
    """Whether a signal has come; of the `Interrupted` that it raised, a library may have made another error."""
    return _has_come.is_set()


def leave_threads() -> None:
    """Have the process end without waiting for its threads: nobody is there for what they still do."""
    _is_over.set()


def leaves_threads() -> bool:
    """Whether the process is to end so."""
    return _is_over.is_set()


def _interrupt(_number: int, _frame: object) -> NoReturn:
    _has_come.set()
    for number in _SIGNALS:  # a second one must not break what the first has begun
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted


def heed_signals(end: Callable[[], NoReturn]) -> None:
    """Raise `Interrupted` at a signal, and call `end` a little later if the process is still there.

    Python sees a signal only between two of its own steps, and a library's call may take minutes. So a thread that is
    woken at once waits a little, and then ends the process itself: whatever is being written is not yet in its place.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        woken, wake = os.pipe()
    except OSError:  # without it, Python sees a signal when it can; what is wrong will be told
        return
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def wait() -> None:
        while os.read(woken, 1)[0] not in _SIGNALS:
            pass
        time.sleep(_PATIENCE)
        terminal = sys.__stderr__  # for which a bar may stand
        if terminal is not None and terminal.isatty():
            os.write(terminal.fileno(), _CLEAR_LINE)
        end()

    threading.Thread(target=wait, daemon=True).start()
