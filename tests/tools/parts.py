"""Parts of a job in namespaces of their own, at once, twice and killed at random, prove to leave what one run leaves.

``python tests/tools/parts.py`` takes some minutes: ``--kills 50`` so many parts are killed with SIGKILL, over a folder
and, with ``--store``, over the S3 server of the tests. Each part is the first process of a process namespace, so that
all have the number 1, and over a folder has a network of its own, in which there is nobody else.
"""

import argparse
import ctypes
import gc
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import kill
import pyarrow as pa
import pyarrow.parquet as pq
from forks import imported_modules
from object_store import BUCKET, ObjectStore, serve

RANGE_ROWS, ROW_GROUP = 512, 200  # so that a file of few rows has ranges
NEW_PIDS, NEW_NETWORK = 0x20000000, 0x40000000  # as unshare(2) has them
CLASSIFY = ("classify", "x.knn", "in", "--out")
DEATH_SIGNAL = 1  # as prctl(2) has it
RECORDS = ("_knnvote", ".knnvote.parquet")


def why_no_namespaces() -> str | None:
    """Why processes get no namespaces here, if they do not."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    done = subprocess.run(
        [sys.executable, "-c", f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({NEW_PIDS | NEW_NETWORK}))"],
        check=False,
    )
    return None if done.returncode == 0 else "unshare is refused: it takes the rights of root"


@dataclass(frozen=True)
class Running:
    """A command that runs in namespaces of its own.

    Attributes:
        nursery: that started it.
        keeper: the process that waits for it, with which it ends; nobody else gets its number before it is asked for.
        told: the file with what it tells.
    """

    nursery: "Nursery"
    keeper: int
    told: Path

    def kill(self) -> None:
        """End it, whatever it is at."""
        os.kill(self.keeper, signal.SIGKILL)

    def wait(self) -> tuple[int, str]:
        """How it ended, and what it told."""
        return self.nursery.ask({"wait": self.keeper}), self.told.read_text()


class Nursery:
    """A process that has imported everything and run nothing, and forks commands into namespaces of their own."""

    def __init__(self, folder: Path) -> None:
        """Start it; what commands tell goes into the folder."""
        self.folder, self.started = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Nursery":
        """Itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End it."""
        self._process.communicate()

    def ask(self, request: dict[str, Any]) -> Any:
        """Have it do something."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, cwd: Path, arguments: Sequence[str], *, flags: int, env: Mapping[str, str]) -> Running:
        """A command in a folder."""
        self.started += 1
        told = self.folder / f"told-{self.started}"
        told.touch()  # one that is killed before it tells has told nothing
        request = {
            "arguments": [*arguments, "--quiet", "--threads", "1"],
            "cwd": str(cwd),
            "flags": flags,
            "env": {**env},
            "told": str(told),
        }
        return Running(self, self.ask(request), told)


def tend() -> None:
    """Fork and wait as lines of stdin ask for."""
    for name in imported_modules():
        import_module(name)
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = abs(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]))
        else:
            ours, theirs = os.pipe()
            answer = os.fork()
            if answer == 0:
                _keep(request, theirs)
            os.close(theirs)
            assert os.read(ours, 1)
            os.close(ours)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _keep(request: dict[str, Any], tell: int) -> NoReturn:
    """Run a command as the first process of its namespaces, and end as it ends."""
    libc = ctypes.CDLL(None)
    if libc.unshare(request["flags"]):
        os._exit(1)
    child = os.fork()
    if child:
        os.close(tell)
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)  # when the keeper ends
    os.write(tell, b"1")
    os.close(tell)
    assert (os.getpid() == 1) == bool(request["flags"])
    code: Any = 1
    try:
        code = _run(request)
    finally:
        os._exit(code)


def _run(request: dict[str, Any]) -> Any:
    from knnvote.classify.job import work, worker
    from knnvote.cli.main import main

    work.RANGE_ROWS, worker.ROW_GROUP = RANGE_ROWS, ROW_GROUP
    told = os.open(request["told"], os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(told, 1)
    os.dup2(told, 2)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    sys.argv = ["knnvote", *request["arguments"]]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


def write_job(folder: Path, nursery: Nursery, *, rows: int = 4000, files: int = 4) -> None:
    """An index, and inputs of which one has several ranges, and what one run makes of them."""
    kill.write_images(folder / "train.parquet", 300, 0)
    kill.write_images(folder / "in" / "big.parquet", rows, 1)
    for number in range(files):
        kill.write_images(folder / "in" / f"{number % 2}" / f"{number}.parquet", 100 + 10 * number, 2 + number)
    for arguments in (["index", "train.parquet", "--out", "x.knn"], [*CLASSIFY, "whole"]):
        code, told = nursery.start(folder, arguments, flags=0, env={}).wait()
        assert code == 0, told


@dataclass(kw_only=True)
class Place:
    """Where parts write to.

    Attributes:
        folder: with the inputs.
        nursery: that starts them.
        store: that holds the outputs; None for the folder.
        ends: how parts ended.
    """

    folder: Path
    nursery: Nursery
    store: ObjectStore | None = None
    ends: Counter[str] = field(default_factory=Counter)

    def start(self, part: str) -> Running:
        """A part, in namespaces of its own; over a store it needs the network that leads there."""
        out, flags, env = "out", NEW_PIDS | NEW_NETWORK, {}
        if self.store is not None:
            out, flags, env = f"s3://{BUCKET}/out", NEW_PIDS, self.store.environment
        return self.nursery.start(self.folder, [*CLASSIFY, out, "--part", part], flags=flags, env=env)

    def clear(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        if self.store is not None:
            for key in self.store.objects("out"):
                self.store.client.delete_object(Bucket=BUCKET, Key=key)

    def written(self) -> dict[str, bytes]:
        """Every file of the output folder, and of its records."""
        if self.store is not None:
            found = self.store.objects("out/")
            return {key.removeprefix("out/"): content for key, content in found.items() if not key.endswith("/")}
        return contents(self.folder / "out")

    def kill_some(self, rng: random.Random, parts: int, kills: int, seconds: float) -> None:
        """Start parts at once, one of them twice, and kill so many at random moments of so many seconds."""
        numbers = [*range(1, parts + 1), rng.randint(1, parts)]
        begun, moments = time.monotonic(), sorted(rng.uniform(0, seconds) for _ in range(kills))
        running = [self.start(f"{number}/{parts}") for number in numbers]
        for victim, moment in zip(rng.sample(running, kills), moments, strict=True):
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            victim.kill()
        for code, told in [process.wait() for process in running]:
            self.ends["killed" if code == signal.SIGKILL else f"exit {code}"] += 1
            assert code in {0, signal.SIGKILL}, told

    def finish(self, parts: int) -> None:
        """Run every part to its end."""
        for code, told in [self.start(f"{number}/{parts}").wait() for number in range(1, parts + 1)]:
            assert code == 0, told

    def check(self) -> None:
        """What is there is what one run leaves, and nothing else."""
        expected, found = contents(self.folder / "whole"), self.written()
        assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
        assert outputs(found) == outputs(expected)
        records = [
            {name: read[name] for name in (b"job.json", b"failures.json") if name in read}
            for read in (pq.read_metadata(pa.BufferReader(files[RECORDS[1]])).metadata for files in (found, expected))
        ]
        assert records[0] == records[1]

    def check_outputs(self) -> None:
        """Every output that is there is one that an undisturbed run makes."""
        assert outputs(self.written()).items() <= outputs(contents(self.folder / "whole")).items()


def contents(folder: Path) -> dict[str, bytes]:
    """Each file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def outputs(files: Mapping[str, bytes]) -> dict[str, str]:
    """The outputs among files, by their hashes."""
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if not re.match("|".join(map(re.escape, RECORDS)), name)
    }


def prove(place: Place, *, kills: int, parts: int, seed: int, at_once: int = 2) -> Counter[str]:
    """Kill so many parts, some in each turn, which begins anew, and check after each."""
    rng = random.Random(seed)  # noqa: S311  # moments are no secrets
    begun = time.monotonic()
    place.finish(1)
    seconds = time.monotonic() - begun  # in which parts at once have more to do than one alone
    place.check()
    while place.ends["killed"] < kills:
        place.clear()
        for _ in range(2):  # what a kill left is met by others that are killed
            place.kill_some(rng, parts, at_once, seconds)
            place.check_outputs()
        place.finish(parts)
        place.check()
    return place.ends


def main() -> None:
    """Kill parts over a folder, or over a store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of parts")
    parser.add_argument("--parts", type=int, default=3, help="of the job")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--store", action="store_true", help="over the S3 server, not over a folder")
    parser.add_argument("--nursery", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.nursery:
        tend()
        return
    assert (why := why_no_namespaces()) is None, why
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        nursery = held.enter_context(Nursery(folder))
        write_job(folder, nursery)
        place = Place(folder=folder, nursery=nursery, store=held.enter_context(serve()) if given.store else None)
        begun = time.monotonic()
        ends = prove(place, kills=given.kills, parts=given.parts, seed=given.seed)
        where = "the S3 server" if given.store else "a folder"
        kill.tell(f"over {where}: {dict(ends)}, {time.monotonic() - begun:.0f} s, as one run each time")


if __name__ == "__main__":
    main()
