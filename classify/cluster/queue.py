"""Which files go to a worker next, and what becomes of those that a dead worker had; it knows nothing of Ray."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ATTEMPTS = 3
_MOST_FILES = 64  # of a group: a call costs about a millisecond, as much as a few rows
_MOST_BYTES = 1 << 23


@dataclass(frozen=True)
class Group:
    """Files that go to a worker in one call.

    Attributes:
        places: of the files among those of the job.
        is_alone: it is one file that may have ended a worker, and this one has nothing else.
    """

    places: tuple[int, ...]
    is_alone: bool = False


class Queue:
    """The files of a job that are still to be done.

    Small files go in groups. What a dead worker had is tried again file by file, each by a worker that has nothing
    else, so that a file is blamed for no other's fault: only such attempts are counted.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        """Begin with files of so many bytes."""
        self._sizes = sizes
        self._fresh = deque(range(len(sizes)))
        self._suspects: deque[int] = deque()
        self._attempts: Counter[int] = Counter()

    def take(self, workers: int, *, is_idle: bool) -> Group | None:
        """The next files for a worker; None where there are none for it now.

        Args:
            workers: among whom the rest is to be shared.
            is_idle: it has nothing to do; else what it gets waits until it has.
        """
        if self._suspects:
            return Group((self._suspects.popleft(),), is_alone=True) if is_idle else None
        share = math.ceil(len(self._fresh) / (2 * workers))
        if not share or (share == 1 and not is_idle):  # the last files go to who is free first
            return None
        places = [self._fresh.popleft()]
        held = self._sizes[places[0]]
        while len(places) < min(share, _MOST_FILES) and (held := held + self._sizes[self._fresh[0]]) <= _MOST_BYTES:
            places.append(self._fresh.popleft())
        return Group(tuple(places))

    def lose(self, groups: Iterable[Group]) -> list[int]:
        """Take back what a dead worker had; those files are returned that it was the last attempt at."""
        given_up = []
        for group in groups:
            for place in group.places:
                self._attempts[place] += group.is_alone
                if self._attempts[place] == ATTEMPTS:
                    given_up.append(place)
                else:
                    self._suspects.append(place)
        return given_up

    def was_lost(self, place: int) -> bool:
        """Whether a worker died that had this file."""
        return place in self._attempts
