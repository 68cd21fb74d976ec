"""The command in forks of one process that has imported everything, and how such a fork kills itself at any change."""

import builtins
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str]], Done]


class Forks:
    """A process that has imported everything and run nothing; each command is a fork of it, which starts at once."""

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def run(self, arguments: Sequence[str]) -> Done:
        """A command, undisturbed."""
        return self.kill(arguments, None, 0)[0]

    def kill(self, arguments: Sequence[str], folder: Path | None, at: int) -> tuple[Done, int]:
        """A command that kills itself just before it changes `folder` for the at-th time; how it ended, and changes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as kept:
            request = {"arguments": [*arguments], "folder": str(folder) if folder else None, "at": at, "kept": kept}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            told, changes = (Path(kept, name).read_text() for name in ("stderr", "changes"))
            return Done(code, Path(kept, "stdout").read_text(), told), len(changes)


def serve() -> None:
    """Fork and run each command that a line of stdin gives; its exit code on stdout."""
    import jinja2  # noqa: F401  # pages do
    import matplotlib.figure  # noqa: F401  # pictures do
    import pandas as pd  # noqa: F401  # PyArrow does

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run_forked(request)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def _run_forked(request: dict[str, Any]) -> None:
    from knnvote.cli.main import main

    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(Path(request["kept"], name), os.O_WRONLY | os.O_CREAT), descriptor)
    changes = os.open(Path(request["kept"], "changes"), os.O_WRONLY | os.O_CREAT)
    if request["folder"]:
        _kill_at_change(request["folder"], request["at"], changes)
    sys.argv = ["knnvote", *request["arguments"]]
    code: Any = 1
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def _kill_at_change(folder: str, at: int, changes: int) -> None:
    """Have this process kill itself just before the at-th change of a folder, and count the ones before."""
    count = 0

    def change(path: Any) -> None:
        nonlocal count
        if not str(path).startswith(folder):
            return
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(changes, b".")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if is_write or event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}:
            change(arguments[0])

    class Watched(io.FileIO):
        def write(self, data: Any) -> int:
            change(self.name)
            return super().write(data)

    plain, sync = io.open, os.fsync

    def watched_open(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return io.BufferedWriter(Watched(path, "w")) if mode == "wb" else plain(path, mode, *rest, **named)

    def watched_sync(descriptor: int) -> None:
        change(folder)  # all that is synced lies there
        sync(descriptor)

    sys.addaudithook(audit)
    io.open = builtins.open = watched_open  # type: ignore[assignment]
    os.fsync = watched_sync  # type: ignore[assignment]


if __name__ == "__main__":
    serve()
