"""Commands in forks whose stderr is a terminal."""

import os
import pty
import select
from pathlib import Path

from forks import Forks


class Terminal:
    """A command whose stderr is a terminal.

    Attributes:
        job: the command.
        sent: what the terminal was sent so far.
    """

    def __init__(
        self, forks: Forks, arguments: list[str], *, columns: int = 80, cwd: Path | None = None, before: str = ""
    ) -> None:
        """Start the command in a terminal of so many columns, after some Python."""
        self._terminal, self._stderr = pty.openpty()
        name = os.ttyname(self._stderr)
        attach = (
            f"import os, sys\nos.dup2(os.open({name!r}, os.O_RDWR | os.O_NOCTTY), 2)\n"
            "sys.stderr = sys.__stderr__ = open(2, 'w', buffering=1, errors='backslashreplace', closefd=False)\n"
        )
        env = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
        self.job = forks.start(arguments, cwd=cwd, env=env, before=attach + before)
        self.sent = ""

    def read_until(self, text: str) -> None:
        """Read till the terminal was sent a text, or the command has ended."""
        has_ended = False
        while text not in self.sent and not has_ended:
            has_ended = not self.job.is_running()
            self._read()

    def end(self) -> tuple[int, str, str]:
        """The exit code, stdout, and what the terminal was sent."""
        while self.job.is_running():
            self._read()
        self._read()
        done, _ = self.job.finish()
        for descriptor in (self._terminal, self._stderr):
            os.close(descriptor)
        return done.code, done.stdout, self.sent

    def _read(self) -> None:
        while select.select([self._terminal], [], [], 0.01)[0]:
            self.sent += os.read(self._terminal, 65536).decode()
