"""The command in forks of one process that has imported everything, and how such a fork kills itself at any change."""

import builtins
import gc
import io
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

import trials

import knnvote
from knnvote.indexer import apart
from knnvote.indexer.building import work as working


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str]], Done]
SLICE = 200  # rows, of a build that is killed
SCRIPT = Path(sysconfig.get_path("scripts")) / "knnvote"


def run_process(arguments: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """The real command in a process of its own, in a folder, with more in its environment."""
    done = subprocess.run(
        [SCRIPT, *arguments], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


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

    def run(self, arguments: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
        """A command, undisturbed, as `run_process` would run it."""
        return self._request(arguments, cwd=str(cwd or Path.cwd()), env={**os.environ, **(env or {})})[0]

    def kill(self, arguments: Sequence[str], folder: Path, at: int) -> tuple[Done, int]:
        """A command that kills itself just before it changes `folder` for the at-th time; how it ended, and changes."""
        return self._request(arguments, folder=str(folder), at=at)

    def _request(self, arguments: Sequence[str], **more: Any) -> tuple[Done, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as kept:
            self._process.stdin.write(json.dumps({"arguments": [*map(str, arguments)], "kept": kept, **more}) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            told, changes = (Path(kept, name).read_text() for name in ("stderr", "changes"))
            return Done(code, Path(kept, "stdout").read_text(), told), len(changes)


def serve() -> None:
    """Fork and run each command that a line of stdin gives; its exit code on stdout."""
    for name in imported_modules():
        import_module(name)
    if trials.ADDRESS in os.environ:
        apart.subprocess = trials.stand_in()  # type: ignore[attr-defined]
    gc.freeze()  # forks copy fewer pages

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run_forked(request)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def imported_modules() -> list[str]:
    """All of knnvote, and what it imports when it draws pages and pictures, or PyArrow does when it needs it.

    But for the service, whose extra need not be installed, and which no command needs that ends.
    """
    ours = [module.name for module in walk_packages(knnvote.__path__, "knnvote.") if module.name != "knnvote.__main__"]
    return ["jinja2", "matplotlib.figure", "pandas", *(name for name in ours if ".serve." not in name)]


def _run_forked(request: dict[str, Any]) -> None:
    from knnvote.cli.main import main  # imported before, but by the process that forks alone

    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(Path(request["kept"], name), os.O_WRONLY | os.O_CREAT), descriptor)
    changes = os.open(Path(request["kept"], "changes"), os.O_WRONLY | os.O_CREAT)
    if "cwd" in request:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
    if "folder" in request:
        working.SLICE_ROWS = SLICE  # so that a small build has something to go on from
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
        if mode == "r+b":
            return io.BufferedRandom(Watched(path, "r+"))
        return io.BufferedWriter(Watched(path, "w")) if mode == "wb" else plain(path, mode, *rest, **named)

    def watched_sync(descriptor: int) -> None:
        change(folder)  # all that is synced lies there
        sync(descriptor)

    sys.addaudithook(audit)
    io.open = builtins.open = watched_open  # type: ignore[assignment]
    os.fsync = watched_sync  # type: ignore[assignment]


if __name__ == "__main__":
    serve()
