"""Lines of progress, where stderr is a file and not a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from knnvote.data.progress import Advance, Total

_SECONDS = 30.0  # from one line to the next, at least


class ProgressLines:
    """Says what is being done in a line at most every 30 s, and so nothing of work that ends sooner."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count seconds."""
        self._say = say
        self._clock = clock
        self._first = self._last = clock()

    @contextmanager
    def __call__(self, name: str, total: Total, unit: str) -> Iterator[Advance]:
        """Say how a stage goes; as a `Watch`."""
        done, shown, since = 0, 0, self._clock()
        if self._is_show_time(since):
            self._say(f"{name}, {_show_time(since - self._first)} after the beginning")

        def advance(more: int) -> None:
            nonlocal done, shown, since
            done += more
            now = self._clock()
            if self._is_show_time(now):
                speed = (done - shown) / (now - since)  # of late: what a job finds done already took no time
                self._say(progress_line(name, done, total() if callable(total) else total, unit, speed))
                shown, since = done, now

        yield advance

    def _is_show_time(self, now: float) -> bool:
        """Whether a line is due, which then counts as said."""
        is_due = now - self._last >= _SECONDS
        if is_due:
            self._last = now
        return is_due


def progress_line(name: str, done: int, total: int | None, unit: str, speed: float) -> str:
    """How far a stage is.

    Args:
        name: of the stage.
        done: how many units.
        total: how many there are; None where that is not known.
        unit: what is counted.
        speed: units a second.
    """
    if not total:
        return f"{name}: {done:,} {unit}, {show_rate(speed)} {unit}/s"
    left = f", {_show_time((total - done) / speed)} left" if speed else ""
    return f"{name}: {done:,} of {total:,} {unit}, {done / total:.0%}, {show_rate(speed)} {unit}/s{left}"


def show_rate(speed: float) -> str:
    """Units a second, with two digits at least."""
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _show_time(seconds: float) -> str:
    """In hours and minutes, or minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
