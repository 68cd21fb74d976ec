"""One of several parts of a job, each done by a command of its own."""

import re
from dataclasses import dataclass

from knnvote.data.errors import check, is_whole, plain

_MOST = 100_000
_WRITTEN = re.compile(r"(\d{1,18})/(\d{1,18})")
_EXPECTED = (
    "parts count from 1, of 16 from 1/16 to 16/16: where numbers begin at 0, as those of Kubernetes do, give "
    "$((JOB_COMPLETION_INDEX+1))/16"
)


@dataclass(frozen=True, kw_only=True)
class JobPart:
    """A part of a job.

    Attributes:
        number: from 1.
        parts: how many parts the job has.

    Raises:
        OptionError: there is no such part.
    """

    number: int
    parts: int

    def __post_init__(self) -> None:
        """Check what was given."""
        for name in ("number", "parts"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        are_numbers = is_whole(self.number) and is_whole(self.parts)
        check("part", str(self), are_numbers, f"give I/N, two whole numbers: {_EXPECTED}")
        check("part", str(self), self.parts <= _MOST, f"a job has {_MOST:,} parts at most")
        check("part", str(self), self.number <= self.parts, f"{self.number} is more than {self.parts}; {_EXPECTED}")
        check("part", str(self), self.number >= 1, f"{self.number} is less than 1; {_EXPECTED}")

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.number}/{self.parts}"

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.number}-of-{self.parts}"

    @classmethod
    def read(cls, text: str) -> "JobPart":
        """A part as it is typed, such as ``3/16``.

        Raises:
            OptionError: it is none.
        """
        written = _WRITTEN.fullmatch(text)
        check("part", text, written is not None, f"give I/N; {_EXPECTED}")
        assert written is not None  # noqa: S101  # as was checked
        return cls(number=int(written[1]), parts=int(written[2]))

    @classmethod
    def of(cls, given: "tuple[int, int] | JobPart") -> "JobPart":
        """A part as Python gives it: its number and how many there are.

        Raises:
            OptionError: it is none.
        """
        if isinstance(given, JobPart):
            return given
        check("part", given, isinstance(given, tuple) and len(given) == 2, "give number and parts, such as (3, 16)")
        return cls(number=given[0], parts=given[1])
