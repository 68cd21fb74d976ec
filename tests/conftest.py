"""What many tests share: the digits, indexes of them, and the command itself."""

import os

# Workers of pytest share the processors: threads of theirs that wait for each other shall not spin meanwhile, and what
# is computed to compare with has one. What is tested has those that it asks for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # the least: an idle thread spins for 2 ** 4 cycles, not 2 ** 26

# Each worker has a processor of its own, and what takes as many threads as there are processors takes one: more would
# wait for each other. Tests of threads ask for some.
if hasattr(os, "sched_setaffinity") and (worker := os.environ.get("PYTEST_XDIST_WORKER")):
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[int(worker.removeprefix("gw")) % len(processors)]})

import gc
import itertools
import re
import sys

# What is compiled is kept, as it is where the package is installed: hundreds of commands are started.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis  # noqa: F401  # before what is imported is frozen: it asks the collector who holds an object
import pytest
import trials
from forks import Done, Forks, run_process
from trials import Trials

from knnvote.classify.evaluation import compare
from knnvote.cli import main as cli
from knnvote.data.inputs import find_inputs
from knnvote.data.sample import write_digits
from knnvote.indexer import apart
from knnvote.indexer.build import IndexOptions, index_files

_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Several workers (``pytest -n 2``) keep a file's tests together, and so what these share, till one is idle."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays till the end: nothing of it is looked through for garbage, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's own, which looks through the folders of all tests before for the number of the next."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    path = tmp_path_factory.getbasetemp() / f"{name}-{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Index folders known to the tests are not the user's own, in this process and those that it starts."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patched.delenv("COLUMNS", raising=False)  # for which tables are cut; pytest's workers have it
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Nothing of a test outlives the machine. Processes that tests start wait as users' do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_steady_speeds() -> Iterator[None]:
    """No test compares speeds, which `compare` measures for seconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compare, "_LEAST_SECONDS", 0.0)
        patched.setattr(compare, "_TURNS", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _forked_trials(_own_cache: None) -> Iterator[None]:
    """What may end a process is tried in a fork, which starts at once; so by processes that tests fork. On Linux."""
    if sys.platform != "linux":
        yield
        return
    server = Trials()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(apart, "subprocess", trials.stand_in())
        yield
    server.close()


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


@pytest.fixture(scope="session")
def forks(_forked_trials: None) -> Iterator[Forks]:
    """The command in forks, each a process of its own that need not import everything again. On Linux alone."""
    started = Forks()
    yield started
    started.close()


@pytest.fixture(scope="session")
def run_apart(request: pytest.FixtureRequest) -> Callable[..., Done]:
    """Run the command in another process: run_apart(["inspect", path], cwd=folder)."""
    return request.getfixturevalue("forks").run if sys.platform == "linux" else run_process


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The same in this process, which is faster: exit code, stdout and stderr, with what C libraries write there."""
    monkeypatch.chdir(tmp_path)

    def invoke_command(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["knnvote", *map(str, arguments)])
        capfd.readouterr()
        code = cli._run()
        written = capfd.readouterr()
        return Done(code, written.out, written.err)

    return invoke_command
