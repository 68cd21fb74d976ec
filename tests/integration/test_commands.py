"""The real command in a real process: signals, limits of the machine, terminals, and the examples of its own help."""

import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forks import just_before
from mounts import Mounts
from records import ENDED
from repeats import spread
from terminals import Terminal

from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

SCRIPT = Path(sysconfig.get_path("scripts")) / "knnvote"
MAIN = "from knnvote.cli.main import main; main()"
FILES = 40
ROWS = 100  # of each file
EXAMPLES = (
    "sample",
    "index",
    "classify",
    "compare",
    "show",
    "map",
    "suspects",
    "explain",
    "review",
    "report",
    "diff",
    "inspect",
    "verify",
    "add",
    "remove",
    "relabel",
    "compact",
    "convert",
)


def python(code, *arguments):
    """A command line of this interpreter."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def finish(command, cwd, **environment):
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


def outputs(folder):
    """Each output file's hash, by its path."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not {"_knnvote", ENDED} & {*file.parts}
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory, run_apart):
    """An index, a folder of many files, and what an undisturbed job makes of it. Tests only read them."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 5, 1700)
    images = np.clip(labels[:, None, None] * 40 + rng.integers(-80, 80, (1700, 8, 8)), 0, 255).astype(np.uint8)
    index_arrays(images[:500], labels[:500], folder / "x.knn")
    for i in range(FILES):
        rows = rng.permutation(1200)[:ROWS] + 500
        write_table(image_table(images[rows], labels[rows]), folder / "in" / f"{i % 3}" / f"{i:02}.parquet")
    done = run_apart(["classify", "x.knn", "in", "--out", "undisturbed"], cwd=folder)
    assert done.code == 0, done.stderr
    assert len(outputs(folder / "undisturbed")) == FILES
    return folder


def classify(work, out, *options, images="in"):
    """A job of one thread: two wait for each other where other tests keep the processors busy."""
    return ["classify", work / "x.knn", work / images, "--out", out, "--threads", "1", *options]


# Interruption


def start_and_interrupt(forks, work, out, number):
    """Have a job in its midst send itself a signal; how it ended."""
    # A shell's background jobs ignore SIGINT and hand that on: the default is what a person at a terminal has.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    interrupt = just_before(out / "0" / "09.parquet", f"os.kill(os.getpid(), {int(number)})")  # the fourth
    done = forks.run(classify(work, out), before=code + interrupt)
    assert done.stdout == ""
    return done


def check_rerun(work, out, run_apart):
    """Finished files are whole, nothing strays, and the same command completes with the bytes of a quiet run."""
    undisturbed = outputs(work / "undisturbed")
    before = outputs(out)
    assert 3 <= len(before) < FILES
    assert before.items() <= undisturbed.items()
    done = run_apart(classify(work, out, "--json"), cwd=out.parent)
    assert done.code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["files"] == {"written": FILES - len(before), "skipped": len(before), "failed": 0}
    assert record["rows"] == FILES * ROWS
    assert outputs(out) == undisturbed
    assert not list(out.rglob("*.tmp"))


@pytest.mark.long
def test_what_a_library_makes_of_an_interruption_and_a_second_signal_change_nothing(work, forks):
    code = """
import os, signal
import knnvote.classify.pictures.figures as figures

def interrupted():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ImportError("no module of this name") from error

figures.check_plot_extra = interrupted
"""
    assert forks.run(["map", "x.knn"], cwd=work, before=code) == (130, "", "interrupted\n")


@spread(
    ("number", [signal.SIGINT, signal.SIGTERM]),
    ("module", ["knnvote.cli", "click.core", "knnvote.cli.main", "logging", "knnvote.data.errors", "numpy", "pyarrow"]),
)
def test_a_command_that_is_interrupted_while_it_is_imported_ends_as_quietly(work, module, number):
    code = f"""
import os, runpy, sys

class Signal:
    def find_spec(self, name, _path, _target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(number)})

sys.modules.pop("logging", None)
sys.meta_path.insert(0, Signal())
sys.argv = ["knnvote", "inspect", "x.knn"]
runpy.run_module("knnvote", run_name="__main__", alter_sys=True)
"""
    done = finish([sys.executable, "-c", code], work)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_so_does_one_that_is_interrupted_before_its_first_step_and_while_it_tells_an_error(work):
    code = """
import os, signal, sys
from knnvote.__main__ import main
from knnvote.cli import main as cli

def interrupted(*_):
    os.kill(os.getpid(), signal.SIGINT)

setattr(cli, sys.argv[1], interrupted)
sys.argv = ["knnvote", "inspect", "none.knn"]
main()
"""
    for step in ("_call", "talk_error"):
        done = finish([sys.executable, "-c", code, step], work)
        assert (done.returncode, done.stdout) == (130, ""), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_says_so_exits_with_130_and_is_completed_by_the_same_command(work, tmp_path, forks, number):
    done = start_and_interrupt(forks, work, tmp_path / "out", number)
    assert done.code == 130
    told = r"interrupted: (\d+) of 40 files are done and kept; run the same command again to go on\n"
    assert int(re.fullmatch(told, done.stderr)[1]) >= len(outputs(tmp_path / "out")) - 1
    assert not list((tmp_path / "out").rglob("*.tmp"))
    check_rerun(work, tmp_path / "out", forks.run)


def test_a_killed_job_leaves_only_whole_files_and_is_completed_by_the_same_command(work, tmp_path, forks):
    done = start_and_interrupt(forks, work, tmp_path / "out", signal.SIGKILL)
    assert (done.code, done.stderr) == (-signal.SIGKILL, "")
    check_rerun(work, tmp_path / "out", forks.run)


def test_a_second_job_into_the_same_output_is_refused_while_the_first_runs(work, tmp_path, forks):
    command = classify(work, tmp_path / "out", images="in/0")
    stop = just_before(tmp_path / "out" / "03.parquet", "os.kill(os.getpid(), signal.SIGSTOP)")
    first = forks.start(command, before=stop)  # it keeps its lock, however long the other takes to start
    while first.is_at_work():
        time.sleep(0.002)
    assert first.is_running()
    second = forks.run(command)
    first.signal(signal.SIGCONT)
    assert first.finish()[0].code == 0
    assert second.code == 1
    assert "another job is writing to" in second.stderr
    assert outputs(tmp_path / "out").keys() == outputs(work / "undisturbed" / "0").keys()


# The machine's limits


def test_a_file_that_may_not_grow_is_told_and_leaves_no_part_of_itself(work, tmp_path, forks):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))"
    done = forks.run(classify(work, tmp_path / "out", "--neighbors"), before=limit)
    assert done.code == 1
    assert re.fullmatch(r"error: cannot write .*00\.parquet: File too large; mend that and run .*again\n", done.stderr)
    assert outputs(tmp_path / "out") == {}
    assert not list(tmp_path.rglob("*.tmp"))
    for out in ("out", "quiet"):
        assert forks.run(classify(work, tmp_path / out, "--neighbors")).code == 0
    assert outputs(tmp_path / "out") == outputs(tmp_path / "quiet")


def test_a_disk_that_fills_up_is_told_and_the_job_carries_on_once_there_is_room(work, tmp_path, forks):
    """On a small disk of memory, mounted in a namespace of this test's own."""
    (tmp_path / "disk").mkdir()
    try:
        mounts = Mounts(tmp_path)
    except OSError:
        pytest.skip("no file system can be mounted here")
    mounts.do("mount -t tmpfs -o size=100k tmpfs disk")
    command = classify(work, "disk/out", "--neighbors", "--json")
    done = forks.run(command, cwd=tmp_path, before=mounts.join)
    assert done.code == 1
    told = r"error: cannot write .*\.parquet: No space left on device; mend that and run .*\n"
    assert re.fullmatch(told, done.stderr)
    mounts.do("cp -r disk/out full; mount -o remount,size=100m disk")
    again = forks.run(command, cwd=tmp_path, before=mounts.join)
    mounts.do("cp -r disk/out done")
    mounts.close()
    assert forks.run(classify(work, tmp_path / "quiet", "--neighbors")).code == 0
    full = outputs(tmp_path / "full")
    assert 0 < len(full) < FILES
    assert full.items() <= outputs(tmp_path / "quiet").items()
    assert not list((tmp_path / "full").rglob("*.tmp"))
    assert json.loads(again.stdout)["files"]["skipped"] == len(full)
    assert outputs(tmp_path / "done") == outputs(tmp_path / "quiet")


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is told in other units, or not at all")
def test_memory_is_the_same_for_20_000_and_120_000_rows_in_one_row_group(tmp_path):
    rng = np.random.default_rng(3)
    index_arrays(rng.integers(0, 256, (6, 28, 28), dtype=np.uint8), np.arange(6) % 3, tmp_path / "x.knn")
    peak = {}
    for n in (20_000, 120_000):
        pixels = pa.py_buffer(rng.integers(0, 256, n * 784, dtype=np.uint8))
        images = pa.FixedSizeBinaryArray.from_buffers(pa.binary(784), n, [None, pixels])
        table = pa.table({"image": images, "n": np.arange(n)})
        pq.write_table(table, tmp_path / f"{n}.parquet", row_group_size=n, compression="none", use_dictionary=False)
        del pixels, images, table
        # In a small process between, whose only child is the command: a fork of this one would count as its peak.
        measure = (
            "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
            "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        command = [SCRIPT, "classify", "x.knn", f"{n}.parquet", "--out", f"out-{n}", "--threads", "1"]
        done = finish(python(measure, *command), tmp_path)
        code, kilobytes = done.stdout.split()
        assert code == "0", done.stderr
        peak[n] = int(kilobytes) // 1024
    # The larger file holds 78 MB more of pixels, in one row group.
    assert abs(peak[120_000] - peak[20_000]) < 40  # what allocators keep differs by 20 or so


# The command line


def test_help_answers_without_the_slow_libraries():
    slow = "{'sklearn', 'pyarrow', 'faiss', 'numpy', 'scipy', 'rich'}"
    for arguments in (["--help"], ["classify", "--help"], ["demo", "-h"], ["--version"]):
        code = f"import atexit, sys; atexit.register(lambda: print(sorted({slow} & set(sys.modules)), file=sys.stderr))"
        done = finish(python(f"{code}; {MAIN}", *arguments), None)
        assert done.returncode == 0
        assert done.stdout
        assert done.stderr == "[]\n"


def example(forks, command):
    done = forks.run([command, "--help"], env={"COLUMNS": "80"})
    assert done.code == 0
    (line,) = re.findall(rf"Example:\n\s+(knnvote {command}\b.*)$", done.stdout, re.MULTILINE)
    return line


@pytest.mark.long
def test_the_examples_of_the_help_run_one_after_the_other_in_a_fresh_folder(tmp_path, forks):
    told = forks.run(["--help"]).stdout
    run_elsewhere = ["demo", "serve"]  # as docs/commands.md shows it; which goes on until it is stopped
    assert sorted([*EXAMPLES, *run_elsewhere]) == sorted(
        re.findall(r"^  (\w+) ", told.split("Get images:")[1], re.MULTILINE)
    )
    with gzip.open(tmp_path / "images-idx3-ubyte.gz", "wb") as stream:
        stream.write(struct.pack(">HBBIII", 0, 8, 3, 5, 4, 4) + bytes(range(80)))
    with gzip.open(tmp_path / "labels-idx1-ubyte.gz", "wb") as stream:
        stream.write(struct.pack(">HBBI", 0, 8, 1, 5) + bytes(range(5)))
    for command in EXAMPLES:
        program, *arguments = shlex.split(example(forks, command))
        assert program == "knnvote"
        if command == "diff":  # of a job and another
            shutil.copytree(tmp_path / "predictions", tmp_path / "others")
        done = forks.run(arguments, cwd=tmp_path)
        assert done.code == 0, f"{command}: {done.stderr}"
        assert "Traceback" not in done.stderr
        # What a command is asked for is data on stdout; that work was done is talk on stderr.
        is_data = command in {"sample", "compare", "suspects", "report", "diff", "explain", "inspect"}
        assert bool(done.stdout) == is_data, command
        assert bool(done.stderr) != is_data or command in {"suspects", "report"}, command
    assert pq.read_metadata(tmp_path / "predictions" / "test.parquet").num_rows == 450
    assert pq.read_metadata(tmp_path / "images.parquet").num_rows == 5


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inspect", "x.knn"], 0),
        (["inspect", "nothing"], 1),
        (["classify", "x.knn", "in", "--out", "o", "--k", "0"], 2),
    ],
)
def test_the_process_exits_with_the_documented_code(work, arguments, code):
    done = finish([SCRIPT, *arguments], work)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)
    assert bool(done.stderr) == (code != 0)
    assert "Traceback" not in done.stderr


def test_a_folder_with_a_foreign_data_module_can_be_worked_in(work, tmp_path):
    (tmp_path / "data.py").write_text("raise RuntimeError")
    assert finish([SCRIPT, "inspect", work / "x.knn"], tmp_path).returncode == 0


def test_progress_is_shown_on_a_terminal_and_only_there(work, tmp_path, forks):
    command = classify(work, tmp_path / "a", "--batch-size", "16", images="in/0")
    code, stdout, sent = Terminal(forks, command, columns=120).end()
    assert (code, stdout) == (0, "")
    assert re.search(r"classifying", sent)
    assert re.search(r"\d+%", sent)
    assert "elapsed" in sent
    assert "left" in sent
    assert "1,400 rows (1,400 ok" in sent
    done = forks.run(classify(work, tmp_path / "b"))
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_json_on_stdout_stays_clean_beside_progress_on_a_terminal(work, tmp_path, forks):
    code, stdout, sent = Terminal(forks, classify(work, tmp_path / "a", "--json"), columns=120).end()
    assert code == 0
    assert json.loads(stdout)["rows"] == FILES * ROWS
    assert "classifying" in sent


def test_a_reader_that_leaves_early_gets_no_traceback(work, forks):
    leave = "import os; read, write = os.pipe(); os.close(read); os.dup2(write, 1)"
    assert forks.run(["inspect", "x.knn", "--json"], cwd=work, before=leave) == (1, "", "")


def test_class_names_in_letters_that_stdout_does_not_have_are_escaped(tmp_path, forks):
    images = np.arange(96, dtype=np.uint8).reshape(6, 4, 4)
    index_arrays(images, np.array(["猫", "ö", "é"] * 2), tmp_path / "x.knn")
    write_table(image_table(images, np.array(["猫", "ö", "é"] * 2)), tmp_path / "a.parquet")
    assert forks.run(["classify", "x.knn", "a.parquet", "--out", "out", "--k", "1"], cwd=tmp_path).code == 0
    done = finish([SCRIPT, "inspect", "out"], tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u732b: 2" in done.stdout
    latin = "import sys; sys.stdout.reconfigure(encoding='latin-1')"
    done = forks.run(["inspect", "out", "--json"], cwd=tmp_path, before=latin)
    assert json.loads(done.stdout)["labels"] == {"猫": 2, "ö": 2, "é": 2}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_stdout_that_takes_nothing_is_told_in_one_line(work, forks):
    full = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    done = forks.run(["inspect", "x.knn", "--json"], cwd=work, before=full)
    assert (done.code, done.stderr) == (1, "error: cannot write to stdout: No space left on device\n")


def test_work_in_a_folder_of_any_name(tmp_path, forks):
    folder = tmp_path / "naïve ☃ [x] 100% *"
    write_table(image_table(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.arange(4)), folder / "a b.parquet")
    assert forks.run(["index", folder, "--out", "ü.knn"], cwd=tmp_path).code == 0
    done = forks.run(["classify", "ü.knn", folder, "--out", "out", "--k", "1"], cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert pq.read_table(tmp_path / "out" / "a b.parquet")["prediction"].to_pylist() == [0, 1, 2, 3]
