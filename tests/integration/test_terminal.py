"""On a real terminal: a bar that keeps to its line and is cleared whatever happens, and what a shell completes."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
from terminals import Terminal

from knnvote.indexer.build import index_arrays

SCRIPT = Path(sysconfig.get_path("scripts")) / "knnvote"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
# A command that shows a bar of 3 done and then {waits}.
WAITING = """
import ctypes, signal, sys, time
import click
from knnvote.cli import main
from knnvote.cli.command import Command
from knnvote.data.progress import stage

@click.command(cls=Command)
def wait():
    with stage({name!r}, {total}, "images") as advance:
        advance(3)
        print("ready", flush=True)
        {waits}

main.cli.add_command(wait)
"""
# As in a long call of a library: no step of Python in this thread, and another one has the signal.
BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}); ctypes.CDLL(None).sleep(30)"


def lines(sent):
    """What stood in the terminal's line, one after the other."""
    return [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", part) for part in re.split(r"\r|\n|\x1b\[2K", sent)]


def waiting(forks, waits, name="waiting", total=10, columns=80):
    before = WAITING.format(waits=waits, name=name, total=total)
    return Terminal(forks, ["wait"], columns=columns, before=before)


@pytest.mark.parametrize(
    "waits", ["signal.pause()", pytest.param(BLOCKED, marks=pytest.mark.long)], ids=["in Python", "in a library"]
)
def test_ctrl_c_clears_the_bar_and_leaves_the_terminal_as_it_was(forks, waits):
    shown = waiting(forks, waits)
    shown.read_until("30%")  # the bar is drawn again ten times a second
    assert shown.job.told() == "ready\n"
    shown.job.signal(signal.SIGINT)
    code, _, sent = shown.end()
    assert code == 130
    assert any("30%" in line for line in lines(sent))
    assert sent.rindex(SHOW) > sent.rindex(HIDE)
    last = sent[max(sent.rindex("\x1b[2K"), sent.rindex(HIDE)) :]
    assert "".join(lines(last)) == "interrupted"


@pytest.mark.parametrize("columns", [40, 80])
def test_a_bar_keeps_to_one_line_and_at_80_columns_tells_all(forks, columns):
    many = "advance(1_297_997); time.sleep(0.3); advance(1_300_000); time.sleep(0.3); raise SystemExit"
    code, _, sent = waiting(forks, many, name="reading test images", total=5_000_000, columns=columns).end()
    assert code == 0
    drawn = [line for line in lines(sent) if "52%" in line]
    assert drawn
    assert all(len(line) <= columns for line in drawn)
    if columns == 80:
        assert re.fullmatch(r"reading test images \S+ +52%, [\d,]+ images/s [\d:]+ elapsed [\d:]+ left *", drawn[-1])
    assert sent.count("\n") == sent.count("\x1b[1A") == 1  # from the line below, once it is cleared


def test_a_name_from_a_path_is_cut_so_that_the_rest_is_told(forks):
    code, _, sent = waiting(forks, "raise SystemExit", name="searching " + "/very/long/path" * 9, total=None).end()
    assert code == 0
    assert any(re.match(r"searching /very/\S+… ━+ +3 images 0:00:0\d elapsed", line) for line in lines(sent))


def test_what_goes_wrong_is_told_on_a_line_of_its_own_after_the_bar(forks):
    code, _, sent = waiting(forks, "from knnvote import KnnvoteError; raise KnnvoteError('no luck')").end()
    assert code == 1
    assert "error: no luck" in lines(sent)
    assert sent.rindex("error: no luck") > sent.rindex(SHOW)


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """The terminal of a bash that completes, in a folder with an index and a file."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    folder = tmp_path_factory.mktemp("bash")
    index_arrays(np.zeros((2, 2, 2), np.uint8), [0, 1], folder / "digits.knn")
    (folder / "pictures.parquet").write_text("")
    terminal, other = pty.openpty()
    env = {**os.environ, "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
    command = ["bash", "--norc", "--noprofile", "-i"]
    with subprocess.Popen(
        command, cwd=folder, env=env, stdin=other, stdout=other, stderr=other, start_new_session=True
    ) as shell:
        os.close(other)
        setup = 'bind "set enable-bracketed-paste off"; eval "$(_KNNVOTE_COMPLETE=bash_source knnvote)"; echo set-up\n'
        os.write(terminal, setup.encode())
        assert "\nset-up" in read_until(terminal, "\nset-up")
        yield terminal
        shell.kill()
    os.close(terminal)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("knnvote choose-t", "knnvote choose-threshold "),
        ("knnvote classify dig", "knnvote classify digits.knn/"),
        ("knnvote classify digits.knn pic", "knnvote classify digits.knn pictures.parquet "),
        ("knnvote index pictures.parquet --metric cos", "knnvote index pictures.parquet --metric cosine "),
        pytest.param("knnvote verify --qui", "knnvote verify --quiet ", marks=pytest.mark.long),
    ],
)
def test_bash_completes_commands_options_values_and_paths(bash, typed, completed):
    os.write(bash, f"\x15echo next\n{typed}\t".encode())  # what was typed before is taken back
    assert completed in read_until(bash, completed)


def read_until(terminal, text, seconds=60):
    """What a terminal shows until a text is there, or for some seconds."""
    shown, end = "", time.monotonic() + seconds
    while text not in shown.replace("\r", "") and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode().replace("\a", "")
    return shown.replace("\r", "")
