"""Kill a command at every change that it makes to its folder, and prove that nothing is lost.

``python tests/tools/kill.py`` kills real processes with SIGKILL, through strace, at every call of the system by which a
command changes its folder, and at random moments besides. It takes some minutes a task; ``--task`` takes one,
``--every 5`` each fifth call. The suite takes `forks.Forks`, which needs no strace: a process that kills itself.

After each kill what is there must be whole, and the same command must complete with what an undisturbed run makes.
The command line alone is used, so that a new command is one more line in `tasks`.
"""

import argparse
import contextlib
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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from forks import SLICE, Done, Forks, Run, run_process

RECORDS = "_knnvote"
ENDED = ".knnvote.parquet"
WRITES = ("write", "pwrite64", "writev", "pwritev", "ftruncate", "truncate", "fallocate", "copy_file_range")
SYNCS = ("fsync", "fdatasync")
NAMES = (
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
    *("openat", "mkdir", "mkdirat", "rmdir"),
)
_OLDER = b"older"
# The command, building in slices so small that there is something to go on from.
_SLICED = (
    "import knnvote.indexer.building.work as working; from knnvote.cli.main import main; "
    f"working.SLICE_ROWS = {SLICE}; main()"
)
_STEADY = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}  # so that calls can be counted


def run_command(arguments: Sequence[str]) -> Done:
    """The real command in a process of its own."""
    return run_process(arguments, env=_STEADY)


def succeed(run: Run, arguments: Sequence[str]) -> str:
    """Run a command that must succeed; its stdout."""
    done = run(arguments)
    assert done.code == 0, f"{' '.join(arguments)}: exit {done.code}: {done.stderr}"
    return done.stdout


def names(folder: Path) -> set[str]:
    """Every file and folder below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@dataclass(kw_only=True)
class Task:
    """A command that is killed, and what must be true afterwards.

    Attributes:
        name: of the task.
        arguments: of the command, without its output.
        out: option that names the output; an empty one for a command whose first argument it is.
        before: the folder that it starts from; None for a fresh one.
    """

    name: str
    arguments: tuple[str, ...]
    before: Path | None = None
    out: tuple[str, ...] = ("--out",)
    undisturbed: Path = field(init=False)

    def command(self, out: Path) -> list[str]:
        """The command that writes to this folder."""
        verb, *rest = self.arguments
        return [verb, *rest, *self.out, str(out)] if self.out else [verb, str(out), *rest]

    def start(self, out: Path) -> None:
        """The folder as it is before the command runs."""
        shutil.rmtree(out, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(self.before, out)

    def run_undisturbed(self, folder: Path, run: Run) -> None:
        """What the command makes when nothing happens to it."""
        self.undisturbed = folder
        self.start(folder)
        succeed(run, self.command(folder))

    def check(self, out: Path, run: Run) -> None:
        """What a kill left is whole, and the same command completes it.

        Raises:
            AssertionError: something was lost, doubled or left behind.
        """
        raise NotImplementedError


@dataclass(kw_only=True)
class JobTask(Task):
    """A batch job: each of its files is whole by itself."""

    def check(self, out: Path, run: Run) -> None:
        after, before = outputs(self.undisturbed), outputs(self.before) if self.before else {}
        found = outputs(out)
        strays = {name for name in names(out) if Path(name).parts[0] not in (RECORDS, ENDED)} - names(self.undisturbed)
        assert not strays, f"strays: {strays}"
        torn = {name for name in found if found[name] not in (after[name], before.get(name))}
        assert not torn, f"not whole: {torn}"
        assert before.keys() <= found.keys(), "an older output is gone"
        finished = {name for name in found if found[name] == after[name]}
        stats = {name: identity(out / name) for name in finished}
        record = json.loads(succeed(run, self.command(out)))
        assert record["files"] == {"written": len(after) - len(finished), "skipped": len(finished), "failed": 0}
        assert record["rows"] == sum(pq.read_metadata(self.undisturbed / name).num_rows for name in after)
        assert {name: identity(out / name) for name in finished} == stats, "a finished file was made again"
        assert outputs(out) == after, "outputs differ from an undisturbed run's"
        assert names(out) == names(self.undisturbed), f"left over: {names(out) ^ names(self.undisturbed)}"


@dataclass(kw_only=True)
class IndexTask(Task):
    """A writer of an index folder: the folder is whole, old or new.

    Attributes:
        repeat: what runs where the killed command had already committed and is refused; None for the same again.
    """

    repeat: tuple[str, ...] | None = None

    def check(self, out: Path, run: Run) -> None:
        after, before = index_state(self.undisturbed), index_state(self.before) if self.before else None
        found = index_state(out)
        assert found in (before, after), "neither the old index nor the new one"
        if found is not None:
            succeed(run, ["verify", str(out)])  # every byte is as the manifest says, which is one of the two
        again = self
        if found == after and self.repeat is not None:
            assert run(self.command(out)).code == 1
            assert index_state(out) == after, "a refused command changed the index"
            again = replace(self, arguments=self.repeat)
        succeed(run, again.command(out))
        succeed(run, ["verify", str(out)])
        assert index_state(out) == after, "the index differs from an undisturbed run's"
        assert generation_names(out) == generation_names(self.undisturbed), f"left over: {names(out)}"
        if found == before:
            assert index_bytes(out) == index_bytes(self.undisturbed), f"not an undisturbed run's bytes: {names(out)}"


@dataclass(kw_only=True)
class FileTask(Task):
    """A writer of a single file beside others: it is whole, old or new.

    Attributes:
        file: its name.
        varies: whether speeds stand in it, which differ from run to run.
        is_new: whether it is never written over another.
    """

    file: str
    varies: bool = False
    is_new: bool = False

    def command(self, out: Path) -> list[str]:
        return super().command(out / self.file)

    def start(self, out: Path) -> None:
        super().start(out)
        out.mkdir()
        if not self.is_new:
            (out / self.file).write_bytes(_OLDER)

    def check(self, out: Path, run: Run) -> None:
        strays = [name for name in names(out) if not re.fullmatch(rf"(\.{self.file}\.\d+\.tmp|{self.file})", name)]
        assert not strays, f"strays: {strays}"
        assert self.is_whole(out, _OLDER), "neither the old file nor the new one"
        if self.is_new:
            (out / self.file).unlink(missing_ok=True)
        succeed(run, self.command(out))
        assert self.is_whole(out), "the file differs from an undisturbed run's"

    def is_whole(self, out: Path, older: bytes | None = None) -> bool:
        """Whether the file is the one that an undisturbed run makes, or the older one, or not there yet."""
        if self.is_new and not (out / self.file).exists():
            return older is not None
        found, after = (Path(folder, self.file).read_bytes() for folder in (out, self.undisturbed))
        return found in (after, older) or (self.varies and found.endswith(after[-100:]))


def outputs(folder: Path) -> dict[str, str]:
    """Each output file's hash, by its path."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and file.relative_to(folder).parts[0] not in (RECORDS, ENDED)
    }


def identity(path: Path) -> tuple[int, int]:
    """What changes when a file is written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def index_state(folder: Path) -> dict[str, str] | None:
    """The hash of every file that the manifest names; None where there is no manifest."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        return None
    return {role: entry["sha256"] for role, entry in json.loads(manifest.read_bytes())["files"].items()}


def index_bytes(folder: Path) -> dict[str, str]:
    """The hash of every file of an index folder by its name, but of the one that tells what the build took."""
    return {
        path.name: "" if path.name.startswith("timing-") else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }


def generation_names(folder: Path) -> list[str]:
    """Every name in an index folder, whatever its generation."""
    return sorted(re.sub(r"-\d+\.", "-N.", name) for name in names(folder))


def write_images(path: Path, n: int, seed: int) -> None:
    """A file of n labelled 8 x 8 images, with a column that numbers the rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, n)
    images = np.clip(labels[:, None] * 40 + rng.integers(-80, 80, (n, 64)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [row.tobytes() for row in images], "label": labels, "n": range(n)})
    pq.write_table(table, path, row_group_size=1000)


def tasks(work: Path, run: Run, *, files: int = 20, rows: int = 40_000) -> list[Task]:
    """Every command that is killed; the inputs are made in the folder `work`.

    Args:
        work: a folder for inputs.
        run: runs what has to be there before.
        files: inputs of the job.
        rows: of the first one, which is written in several pieces.
    """
    write_images(work / "train.parquet", 600, 0)
    write_images(work / "older.parquet", 500, 1)
    for i in range(files):
        path = Path(f"{i % 3}" if i % 3 else "", f"{i:02}.parquet")
        write_images(work / "in" / path, 100 + i if i else rows, i)
        write_images(work / "changed" / "in" / path, 100 + i if i else rows, i + i % 2)
    one = ("--threads", "1")  # more wait for each other where processors are busy
    index, older = ("index", str(work / "train.parquet"), *one), ("index", str(work / "older.parquet"), *one)
    adaptive = (*index, "--kind", "adaptive")
    add = ("add", str(work / "older.parquet"), *one)
    remove = ("remove", *(f"train.parquet#{row}" for row in range(100)), *one)
    succeed(run, [*index, "--out", str(work / "x.knn")])
    succeed(run, [*older, "--out", str(work / "older.knn")])
    succeed(run, ["classify", str(work / "x.knn"), str(work / "changed" / "in"), "--out", str(work / "stale")])
    shutil.rmtree(work / "changed")  # outputs of files that are still there are not replaced by those of others
    job = ("classify", str(work / "x.knn"), str(work / "in"), "--json", *one)
    succeed(run, [*job, "--out", str(work / "first")])
    x, train, of_older = str(work / "x.knn"), str(work / "train.parquet"), str(work / "older")
    succeed(run, ["classify", x, str(work / "older.parquet"), "--out", of_older])
    succeed(run, [*adaptive, "--out", str(work / "tuned.knn")])
    shutil.copytree(work / "x.knn", work / "grown.knn")
    succeed(run, [remove[0], str(work / "grown.knn"), *remove[1:]])
    fixes = str(work / "fixes.csv")
    Path(fixes).write_text("".join(f"{row}\n" for row in ("id,fix", *(f"train.parquet#{row},3" for row in range(50)))))
    with_k = str(work / "with-k")
    succeed(run, ["classify", x, str(work / "older.parquet"), "--out", with_k, "--k", "15"])
    compared = ("compare", str(work / "older.parquet"), "--index", x, *one)
    explained = ("explain", of_older, "7", "--index", x, *one)
    return [
        JobTask(name="classify", arguments=job),
        JobTask(name="classify-part", arguments=(*job, "--part", "1/1")),
        JobTask(name="classify-changed", arguments=job, before=work / "stale"),
        JobTask(name="classify-again", arguments=(*job, "--min-confidence", "0.7"), before=work / "first"),
        JobTask(name="classify-overwrite", arguments=(*job, "--k", "3", "--overwrite"), before=work / "first"),
        IndexTask(name="index", arguments=index, repeat=(*index, "--overwrite")),
        IndexTask(name="index-overwrite", arguments=(*index, "--overwrite"), before=work / "older.knn"),
        IndexTask(name="index-adaptive", arguments=adaptive, repeat=(*adaptive, "--overwrite")),
        # What was added or removed is refused when it is asked for again.
        IndexTask(name="add", arguments=add, before=work / "x.knn", out=(), repeat=("verify",)),
        IndexTask(name="remove", arguments=remove, before=work / "x.knn", out=(), repeat=("verify",)),
        IndexTask(name="add-adaptive", arguments=add, before=work / "tuned.knn", out=(), repeat=("verify",)),
        IndexTask(name="remove-adaptive", arguments=remove, before=work / "tuned.knn", out=(), repeat=("verify",)),
        # What was relabelled or compacted may be so again, and nothing is written.
        IndexTask(name="compact", arguments=("compact", *one), before=work / "grown.knn", out=()),
        IndexTask(name="relabel", arguments=("relabel", fixes, *one), before=work / "x.knn", out=()),
        IndexTask(name="relabel-adaptive", arguments=("relabel", fixes, *one), before=work / "tuned.knn", out=()),
        FileTask(name="show", arguments=("show", train), file="show.png"),
        FileTask(name="map", arguments=("map", x), file="map.png"),
        FileTask(name="choose-k", arguments=("choose-k", x, *one), out=("--plot",), file="choose-k.svg"),
        FileTask(name="suspects", arguments=("suspects", x, *one), out=("--report",), file="suspects.html"),
        FileTask(name="list", arguments=("suspects", x, *one), out=("--csv",), file="list.csv", is_new=True),
        FileTask(name="compare", arguments=compared, out=("--report",), file="compare.html", varies=True),
        FileTask(name="diff", arguments=("diff", of_older, with_k), out=("--report",), file="diff.html"),
        FileTask(name="review", arguments=("review", of_older, "--index", x), file="review.csv", is_new=True),
        FileTask(name="explain", arguments=explained, out=("--report",), file="explain.html"),
        FileTask(name="report", arguments=("report", of_older, "--index", x), file="report.html"),
    ]


def tell(what: object) -> None:
    """A line on stdout, at once."""
    print(what, flush=True)  # a script that reports


# Kills by strace, for as long as it takes


@dataclass(frozen=True)
class Call:
    """A call of the system that changes the folder: the ordinal-th of its name in its thread."""

    name: str
    ordinal: int
    thread: str
    text: str


def traced(task: Task, out: Path) -> list[Call]:
    """Run a task under strace; the calls by which it changes its folder."""
    log = out.with_suffix(".strace")
    kinds = (*WRITES, *SYNCS, *NAMES)
    done = strace(task.command(out), log, ["-y", "-e", f"trace={','.join(kinds)}"])
    assert done == 0, f"exit {done} under strace"
    ordinals: Counter[tuple[str, str]] = Counter()
    calls = []
    for line in log.read_text().splitlines():
        parts = re.match(r"(\d+) +(\w+)\((.*)", line)
        if parts is None:  # the second half of a call, a signal or an exit
            continue
        thread, name, text = parts.groups()
        ordinals[thread, name] += 1
        place = text if name in NAMES else text.split(",")[0]  # what is written is no place
        is_change = name != "openat" or re.search("O_WRONLY|O_RDWR|O_CREAT", text)
        if is_change and (
            str(out) in place or f"<{out.parent}>" in place
        ):  # the latter is synced when it gets the folder
            calls.append(Call(name, ordinals[thread, name], thread, text))
    return calls


def strace(arguments: Sequence[str], log: Path, options: Sequence[str]) -> int:
    """Run a command under strace; its exit code."""
    # Not --seccomp-bpf, which is faster: with it, strace sends no signals.
    command = ["strace", "-f", "-o", log, *options, sys.executable, "-c", _SLICED, *arguments]
    done = subprocess.run(command, env={**os.environ, **_STEADY}, capture_output=True, check=False)
    return done.returncode


def unsynced(calls: Sequence[Call]) -> list[str]:
    """Changes that a power cut could undo: what was not synced before it is named, or its folder after it was made."""

    def is_synced(path: Path, among: Sequence[Call]) -> bool:
        return any(call.name in SYNCS and f"<{path}>" in call.text for call in among)

    found = []
    for i, call in enumerate(calls):
        paths = [Path(path) for path in re.findall(r'"([^"]*)"', call.text)]
        if not re.match("rename|link|mkdir", call.name) or not call.text.endswith("= 0"):
            continue
        if len(paths) == 2 and not is_synced(paths[0], calls[:i]):
            found.append(f"{paths[1]} has its name before it is synced")
        if not is_synced(paths[-1].parent, calls[i:]):
            found.append(f"{paths[-1]} is made, and its folder not synced")
    return found


def kill_at_every_call(task: Task, folder: Path, run: Run, *, every: int) -> Counter[str]:
    """Kill a task at every change that it makes, one run a change, and check; kills by the name of the call."""
    out = folder / "out"
    task.start(out)
    calls = traced(task, out)
    for line in unsynced(calls):
        tell(f"{task.name}: {line}")
    kills: Counter[str] = Counter()
    for call in calls[::every]:
        task.start(out)
        log = folder / "kill.strace"
        inject = ["-y", "-e", f"trace={call.name}", "-e", f"inject={call.name}:signal=KILL:when={call.ordinal}"]
        code = strace(task.command(out), log, inject)
        lines = [line for line in log.read_text().splitlines() if "+++" not in line and "resumed" not in line]
        as_meant = code == -signal.SIGKILL and str(out) in lines[-1]
        kills[call.name if as_meant else f"{call.name}, elsewhere"] += 1
        report(task, out, run, f"at {call.name} {call.ordinal}: {call.text[:120]}", kills)
    return kills


def kill_at_random(task: Task, folder: Path, run: Run, *, moments: int, seed: int) -> Counter[str]:
    """Kill a task at random moments, and check."""
    out = folder / "out"
    rng = random.Random(seed)  # noqa: S311  # moments are no secrets
    task.start(out)
    start = time.monotonic()
    succeed(run_command, task.command(out))
    length = time.monotonic() - start
    kills: Counter[str] = Counter()
    for _ in range(moments):
        task.start(out)
        moment = rng.uniform(length / 2, length)  # the first half is the start of Python
        command = [sys.executable, "-c", _SLICED, *task.command(out)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            process.kill()
        kills["random" if process.returncode == -signal.SIGKILL else "random, too late"] += 1
        report(task, out, run, f"after {moment:.3f} s", kills)
    return kills


def report(task: Task, out: Path, run: Run, where: str, kills: Counter[str]) -> None:
    """Check a folder after a kill, and say so if it fails."""
    try:
        task.check(out, run)
    except AssertionError as error:
        kills["FAILED"] += 1
        tell(f"{task.name}: FAILED {where}: {error}")
        shutil.copytree(out, out.with_name(f"failed-{task.name}-{kills['FAILED']}"), dirs_exist_ok=True)


def main() -> None:
    """Kill every task, or the one that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", help="only this one")
    parser.add_argument("--every", type=int, default=1, help="kill at each so-many-th call")
    parser.add_argument("--moments", type=int, default=50, help="random moments besides")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--files", type=int, default=20, help="inputs of the job")
    parser.add_argument("--folder", type=Path, help="to work in; what failed is left there")
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp())).resolve()
    failed, run = 0, Forks().run  # the killed ones are processes of their own, what mends them are forks
    for task in tasks(folder / "work", run, files=given.files):
        if given.task not in (None, task.name):
            continue
        task.run_undisturbed(folder / f"undisturbed-{task.name}", run_command)
        start = time.monotonic()
        kills = kill_at_every_call(task, folder, run, every=given.every)
        kills += kill_at_random(task, folder, run, moments=given.moments, seed=given.seed)
        failed += kills["FAILED"]
        tell(f"{task.name}: {dict(kills)}, {time.monotonic() - start:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
