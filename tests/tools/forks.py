"""The command in forks of one process that has imported everything, and how such a fork kills itself at any change."""

import builtins
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

import trials

import knnvote
from knnvote.classify.evaluation import compare
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


@dataclass
class Started:
    """A command that runs in a fork.

    Attributes:
        forks: that started it.
        pid: its process.
        kept: where its stdout, its stderr and a mark for each change are.
    """

    forks: "Forks"
    pid: int
    kept: Path

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended: nobody has waited for it yet."""
        os.kill(self.pid, number)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._state() != "Z"

    def is_at_work(self) -> bool:
        """Whether it has neither ended nor been stopped."""
        return self._state() not in "TZ"

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def told(self) -> str:
        """What it has said on stdout so far."""
        return (self.kept / "stdout").read_text()

    def finish(self) -> tuple[Done, int]:
        """Wait till it ends: how, and changes."""
        code = self.forks.request(wait=self.pid)
        stdout, stderr, changes = (
            (self.kept / name).read_text(errors="replace") for name in ("stdout", "stderr", "changes")
        )
        shutil.rmtree(self.kept)
        return Done(code, stdout, stderr), len(changes)


def just_before(path: Path, do: str, *, nth: int = 1) -> str:
    """Python that does something just before a command opens, names or makes what lies there for the nth time.

    Args:
        path: what path, or what its own begins with.
        do: lines of Python.
        nth: which time; nothing is done at the others.
    """
    return f"""
import os, signal, sys
seen = []
def audit(event, arguments):
    is_use = event in ("open", "os.mkdir", "os.rename", "os.link")
    if is_use and any(str(part).startswith({str(path)!r}) for part in arguments):
        seen.append(event)
        if len(seen) == {nth}:
            {do}
sys.addaudithook(audit)
"""


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

    def run(self, arguments: Sequence[object], **more: Any) -> Done:
        """A command, undisturbed, as `run_process` would run it; `start` says what else may be given."""
        return self.start(arguments, **more).finish()[0]

    def start(
        self,
        arguments: Sequence[object],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        before: str = "",
    ) -> Started:
        """The same, and it runs on.

        Args:
            arguments: of the command.
            cwd: the folder at work; None for that of this process.
            env: what its environment has more.
            before: Python that its process runs first.
        """
        return self._start(arguments, cwd=str(cwd or Path.cwd()), env={**os.environ, **(env or {})}, before=before)

    def kill(self, arguments: Sequence[str], folder: Path, at: int) -> tuple[Done, int]:
        """A command that kills itself just before it changes `folder` for the at-th time; how it ended, and changes."""
        return self._start(arguments, folder=str(folder), at=at).finish()

    def request(self, **what: Any) -> int:
        """What that process says to a request: the number of a process that it started, or how one ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def _start(self, arguments: Sequence[object], **more: Any) -> Started:
        kept = Path(tempfile.mkdtemp())
        pid = self.request(arguments=[*map(str, arguments)], kept=str(kept), **more)
        return Started(self, pid, kept)


def serve() -> None:
    """Fork for each command that a line of stdin gives, or wait for one; its number or its exit code on stdout."""
    for name in imported_modules():
        import_module(name)
    if trials.ADDRESS in os.environ:
        apart.subprocess = trials.stand_in()  # type: ignore[attr-defined]
    os.fsync = lambda _descriptor: None  # nothing of a test outlives the machine
    compare._LEAST_SECONDS, compare._TURNS = 0.0, 1  # no test compares speeds
    gc.freeze()  # forks copy fewer pages

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            told = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            for name in ("stdout", "stderr", "changes"):
                Path(request["kept"], name).touch()
            told = os.fork()
            if told == 0:
                _run_forked(request)
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()


def imported_modules() -> list[str]:
    """All of knnvote, and what it imports when it draws pages and pictures, or PyArrow does when it needs it.

    But for the service, whose extra need not be installed, and which no command needs that ends.
    """
    ours = [module.name for module in walk_packages(knnvote.__path__, "knnvote.") if module.name != "knnvote.__main__"]
    return ["jinja2", "matplotlib.figure", "pandas", *(name for name in ours if ".serve." not in name)]


def _run_forked(request: dict[str, Any]) -> None:
    from knnvote.cli.main import main  # imported before, but by the process that forks alone

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(Path(request["kept"], name), os.O_WRONLY), descriptor)
    changes = os.open(Path(request["kept"], "changes"), os.O_WRONLY)
    signal.alarm(200)  # one that hangs is ended
    sys.argv = ["knnvote", *request["arguments"]]
    code: Any = 1
    try:
        exec(request.get("before", ""), {})  # noqa: S102  # a test's own
        if "cwd" in request:
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            tempfile.tempdir = None  # which a process finds once: it may be another by this environment
        if "folder" in request:
            working.SLICE_ROWS = SLICE  # so that a small build has something to go on from
            _kill_at_change(request["folder"], request["at"], changes)
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  # whatever it is, a process that ends of it prints it
        traceback.print_exc()
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # a command that cannot write to one puts it away
            stream.flush()
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
