"""A command killed just before each change that it makes to its folder: nothing is lost, and it can be run again.

`kill.py`, run by itself, does the same to real processes with strace.
"""

import signal
import sys
from functools import cache

import kill
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process that has imported much forks well on Linux")


@pytest.fixture(scope="module")
def task(forks, tmp_path_factory):
    """A task by its name, run undisturbed once."""
    folder = tmp_path_factory.mktemp("kill")
    made = {task.name: task for task in kill.tasks(folder / "work", forks.run, files=2, rows=100)}

    @cache
    def get(name):
        made[name].run_undisturbed(folder / name, forks.run)
        return made[name]

    return get


# Each run of the tests kills two commands at a few of their changes, the long ones kill the rest: what commands have in
# common at every change in one of them, and at every third or later in others; `kill.py` kills all at each. Indexes are
# built in slices, so that the same command goes on with what was kept of them.
@pytest.mark.parametrize(
    ("name", "least", "first", "step"),
    [
        ("classify", 10, 6, 16),
        ("index", 10, 20, 40),
        *(
            pytest.param(name, least, 1, step, marks=pytest.mark.long)
            for name, least, step in (
                ("classify", 10, 1),
                ("classify-part", 10, 6),
                ("classify-changed", 10, 4),
                ("classify-again", 10, 3),
                ("index", 10, 9),
                ("index-overwrite", 10, 9),
                ("show", 4, 3),
                ("report", 4, 3),
                ("relabel", 10, 5),
                ("add", 20, 5),
                ("list", 4, 3),
                ("index-adaptive", 60, 24),
            )
        ),
    ],
)
def test_whatever_change_a_command_is_killed_at_nothing_is_lost_and_the_next_run_completes_it(
    forks, task, tmp_path, name, least, first, step
):
    killed, out = task(name), tmp_path / "out"
    killed.start(out)
    done, changes = forks.kill(killed.command(out), out, at=0)
    assert done.code == 0, done.stderr
    assert changes >= least
    for at in range(first, changes + 1, step):
        killed.start(out)
        done, before = forks.kill(killed.command(out), out, at=at)
        assert (done, before) == ((-signal.SIGKILL, "", ""), at - 1)
        killed.check(out, forks.run)


def leave_among_records(out):
    (out / kill.RECORDS).mkdir(exist_ok=True)
    (out / kill.RECORDS / "stray").touch()


@pytest.mark.long
def test_the_checks_find_what_is_lost_torn_or_left_behind(forks, task, tmp_path):
    """A check that finds nothing has to be one that would."""
    job, index, page = map(task, ("classify", "index", "report"))
    damages = {
        "strays": (job, lambda out: (out / "stray.tmp").touch()),
        "not whole": (job, lambda out: (out / "00.parquet").write_bytes(b"PAR1")),
        "left over": (job, leave_among_records),
        "neither the old index": (index, lambda out: (out / "manifest.json").write_text('{"files": {}}')),
        "was changed": (index, lambda out: (out / "labels-1.parquet").write_bytes(b"PAR1")),
        "strays: ": (page, lambda out: (out / "stray").touch()),
        "neither the old file": (page, lambda out: (out / "report.html").write_bytes(b"<!doctype html>")),
        "left over:": (index, lambda out: (out / "stray").touch()),
    }
    for told, (damaged, damage) in damages.items():
        out = tmp_path / "out"
        damaged.start(out)
        kill.succeed(forks.run, damaged.command(out))
        damage(out)
        with pytest.raises(AssertionError, match=told):
            damaged.check(out, forks.run)
