"""What many tests share: the digits, indexes of them, and the command itself."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from knnvote.cli import main as cli
from knnvote.data.inputs import find_inputs
from knnvote.data.sample import write_digits
from knnvote.indexer.build import IndexOptions, index_files

_COMMAND = [sys.executable, "-c", "from knnvote.cli.main import main; main()"]


@dataclass(frozen=True)
class Result:
    """How a command ended and what it wrote."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Index folders known to the tests are not the user's own, in this process and those that it starts."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.parquet and test.parquet of scikit-learn's digits. Tests only read it."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return folder


@pytest.fixture(scope="session")
def exact_index(digits_folder: Path) -> Path:
    """An exact index folder of the digits. Tests only read it."""
    return _index_digits(digits_folder, IndexOptions(kind="exact"))


@pytest.fixture(scope="session")
def adaptive_index(digits_folder: Path) -> Path:
    """An adaptive index folder of the digits. Tests only read it."""
    return _index_digits(digits_folder, IndexOptions(kind="adaptive"))


def _index_digits(folder: Path, options: IndexOptions) -> Path:
    out = folder / f"{options.kind}.knn"
    index_files(find_inputs([str(folder / "train.parquet")]), out, options=options)
    return out


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Run the real command in a process of its own, in the test's folder: run("inspect", path)."""

    def run_command(*arguments: object, env: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            [*_COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run_command


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The same in this process, which is faster: exit code, stdout and stderr, with what C libraries write there."""
    monkeypatch.chdir(tmp_path)

    def invoke_command(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["knnvote", *map(str, arguments)])
        capfd.readouterr()
        code = cli._run()
        written = capfd.readouterr()
        return Result(code, written.out, written.err)

    return invoke_command
