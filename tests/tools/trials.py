"""Trials in forks of one process that has imported what they need, for tests that start hundreds of them.

What `indexer.apart` starts is a new interpreter, which imports NumPy, FAISS and PyArrow first. These forks do the same
work, end as they end, and are bounded as they are. tests/indexer/test_trust.py starts the real ones, as users do.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import SimpleNamespace
from typing import Any

from knnvote import indexer

ADDRESS = "KNNVOTE_TESTS_TRIALS"  # in the environment: the socket


class Trials:
    """That process."""

    def __init__(self) -> None:
        """Start it, and tell this process and those that it starts where it listens."""
        self._folder = tempfile.TemporaryDirectory()
        os.environ[ADDRESS] = str(Path(self._folder.name) / "socket")
        self._process = subprocess.Popen([sys.executable, "-P", __file__], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def close(self) -> None:
        """End it."""
        del os.environ[ADDRESS]
        self._process.terminate()
        self._process.communicate()
        self._folder.cleanup()


def stand_in() -> Any:
    """What stands for the module `subprocess` where `indexer.apart` starts a trial."""
    return SimpleNamespace(run=_run, DEVNULL=subprocess.DEVNULL)


def _run(command: Sequence[str], **_options: Any) -> subprocess.CompletedProcess[str]:
    module, *arguments = command[command.index("-m") + 1 :]
    with tempfile.TemporaryDirectory() as kept, socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[ADDRESS])
        request = {
            "module": module,
            "arguments": arguments,
            "kept": kept,
            "cwd": str(Path.cwd()),
            "env": {**os.environ},
        }
        with server.makefile("rw") as stream:
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            code = int(stream.readline())
        stdout, stderr = (Path(kept, name).read_text(errors="replace") for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(command, code, stdout, stderr)


def serve() -> None:
    """Do the work of each client in a fork, which a fork of its own waits for."""
    for module in walk_packages(indexer.__path__, "knnvote.indexer."):
        import_module(module.name)
    gc.freeze()  # forks copy fewer pages
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ[ADDRESS])
    listener.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _wait_for_fork(client)
        client.close()


def _wait_for_fork(client: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with client.makefile("rw") as stream:
        request = json.loads(stream.readline())
        child = os.fork()
        if child == 0:
            _run_forked(request)
        stream.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
    os._exit(0)


def _run_forked(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(Path(request["kept"], name), os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = [request["module"], *request["arguments"]]
    del sys.modules[request["module"]]  # it is run, not imported
    code: Any = 0
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  # whatever it is, a process that ends of it prints it
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
