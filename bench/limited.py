"""An index larger than memory: `python -m bench.limited INDEX IMAGES --share 0.33`.

The whole command `knnvote classify` runs with all memory, the index read from disk and then at hand, and in a cgroup
whose memory, with the pages of files that are mapped in it, holds a share of the index beside what the process itself
needs. Linux alone has these, and making one takes rights; without them the reason is told.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

from knnvote.data.text import show_bytes

from .table import new_table, print_legend, print_table

_LEGEND = (
    "limit: the share of the index, the most anonymous memory that the first run took, and 16 MB for page tables and "
    "files that are written; faults: pages waited for while they were read from the disk; read: from the disk, by "
    "this process; anonymous: the most of the process's "
    "own memory. Before each run but that with the index at hand its pages are dropped from the system's cache, so "
    "that the cgroup pays for what it reads. Pages of libraries that others read before are nobody's anew."
)
_MOUNTS = Path("/proc/self/mountinfo")
_ROOM = 16 << 20  # for page tables, files that are written, and what anonymous memory grew by between two looks
_SAMPLED = 0.01  # seconds between looks at the process
# Becomes the command once it is in the group, so that all its memory is of the group.
_JOIN = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"
_COMMAND = "from knnvote.cli.main import main; main()"


class _Names(NamedTuple):
    """What a version of cgroups calls its files.

    Attributes:
        limit: of bytes.
        without_swap: files to fill so that memory is not swapped, and with what; some systems lack them.
        events: where kills are counted.
    """

    limit: str
    without_swap: tuple[tuple[str, str], ...]
    events: str


_V1 = _Names("memory.limit_in_bytes", (("memory.swappiness", "0"),), "memory.oom_control")
_V2 = _Names("memory.max", (("memory.swap.max", "0"),), "memory.events")


@dataclass(frozen=True)
class Group:
    """A cgroup of this program's own.

    Attributes:
        folder: of its files.
        names: of these.
    """

    folder: Path
    names: _Names

    def limit(self, size: int) -> None:
        """Let it hold so many bytes at most, pages of files among them."""
        (self.folder / self.names.limit).write_text(str(size))
        for name, value in self.names.without_swap:
            if (self.folder / name).exists():
                (self.folder / name).write_text(value)

    @property
    def kills(self) -> int:
        """Processes of it that were killed because memory ran out."""
        lines = (self.folder / self.names.events).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextmanager
def open_group() -> Iterator[Group]:
    """Make a cgroup, and remove it.

    Raises:
        click.ClickException: none can be made, with the reason.
    """
    mounted = _mounted()
    if mounted is None:
        raise click.ClickException(f"no cgroup that limits memory is mounted here ({_MOUNTS}): Linux has them")
    root, names = mounted
    group = Group(root / f"knnvote-bench-{os.getpid()}", names)
    try:
        group.folder.mkdir()
        if not (group.folder / names.limit).exists():
            group.folder.rmdir()
            raise click.ClickException(
                f"{root} gives its groups no limit of memory: echo +memory > {root}/cgroup.subtree_control"
            )
    except OSError as error:
        raise click.ClickException(f"cannot make {error.filename}: {error.strerror}; run this as root") from error
    try:
        yield group
    finally:
        group.folder.rmdir()


def _mounted() -> tuple[Path, _Names] | None:
    """Where the cgroups that limit memory are mounted: of version 1, which knows memory alone, before version 2."""
    found = {}
    for line in _MOUNTS.read_text().splitlines() if _MOUNTS.is_file() else []:
        fields, _, source = line.partition(" - ")
        kind, _, options = source.split(maxsplit=2)
        if kind == "cgroup" and "memory" in options.split(","):
            found[1] = (Path(fields.split()[4]), _V1)
        if kind == "cgroup2":
            found[2] = (Path(fields.split()[4]), _V2)
    return found.get(1, found.get(2))


@dataclass(frozen=True)
class Run:
    """What a run of the command took.

    Attributes:
        rows_per_second: as the command tells it.
        faults: that waited for a disk.
        read: bytes from the disk.
        anonymous: bytes of its own memory at most.
        kills: by the system, of memory that ran out.
        answers: SHA-256 of its output files; None if it failed.
        told: its last words.
    """

    rows_per_second: float
    faults: int
    read: int
    anonymous: int
    kills: int
    answers: str | None
    told: str


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("images")
@click.option("--share", type=click.FloatRange(0, 1), default=0.33, show_default=True, help="Of the index's bytes.")
@click.option("--batch-size", type=int, help="Of the command.")
@click.option("--threads", type=int, help="Of the command.")
def main(index: Path, images: str, share: float, **options: int | None) -> None:
    """Classify IMAGES with all memory and with less than INDEX takes, and print a table."""
    if not index.is_dir():
        raise click.UsageError(f"{index} is no index folder: give one that knnvote index made")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which removes the group, too
    files = [file for file in index.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    given = [text for name, value in options.items() if value for text in (f"--{name.replace('_', '-')}", str(value))]
    table = new_table("", "memory", "limit", "rows/s", "beside", "faults", "read", "anonymous", "killed", left=1)
    with open_group() as group:
        from_disk = _run(group, index, images, given, cold=files)
        at_hand = _run(group, index, images, given)
        limit = int(share * size) + from_disk.anonymous + _ROOM
        group.limit(limit)
        limited = _run(group, index, images, given, cold=files)
    for name, most, run in (
        ("all, index from disk", "", from_disk),
        ("all, index at hand", "", at_hand),
        (f"{share:.0%} of the index", show_bytes(limit), limited),
    ):
        if run.answers != at_hand.answers or run.answers is None:
            raise click.ClickException(f"{name}: {run.told or 'other answers'} ({run.kills} killed)")
        speed, beside = f"{run.rows_per_second:,.0f}", f"{run.rows_per_second / at_hand.rows_per_second:.2f} x"
        sizes = f"{run.faults:,}", show_bytes(run.read), show_bytes(run.anonymous), str(run.kills)
        table.add_row(name, most, speed, beside, *sizes)
    print(f"an index of {show_bytes(size)}; all answers are the same")
    print_table(table)
    print_legend(_LEGEND)


def _run(group: Group, index: Path, images: str, given: Sequence[str], cold: Sequence[Path] = ()) -> Run:
    """The command in a process of the group, after files were dropped from the system's cache."""
    for file in cold:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    kills = group.kills
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        work = ["classify", str(index), images, "--out", out, "--json", *given]
        command = [sys.executable, "-c", _JOIN, str(group.folder / "cgroup.procs")]
        process = subprocess.Popen(
            [*command, sys.executable, "-c", _COMMAND, *work], stdout=said, stderr=told, cwd=Path(__file__).parents[1]
        )
        anonymous, pid = 0, 0
        try:
            while not pid:
                anonymous = max(anonymous, _anonymous(process.pid))
                time.sleep(_SAMPLED)
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        finally:  # interrupted, it leaves nothing in the group
            if not pid:
                process.kill()
                process.wait()
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0), said.seek(0)
        words, result = told.read().decode().strip().splitlines(), said.read()
        is_done = process.returncode == 0
        return Run(
            rows_per_second=json.loads(result)["rows_per_second"] if is_done else 0.0,
            faults=usage.ru_majflt,
            read=usage.ru_inblock * 512,
            anonymous=anonymous,
            kills=group.kills - kills,
            answers=_hash(Path(out)) if is_done else None,
            told=words[-1] if words and not is_done else "",
        )


def _anonymous(pid: int) -> int:
    """Bytes of a process's own memory; none of one that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def _hash(out: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(out.rglob("*.parquet")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main(prog_name="python -m bench.limited")
