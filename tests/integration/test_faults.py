"""Faults of disks, inputs and machines while the command runs: each is told, and nothing finished is lost."""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import kill
import pyarrow.parquet as pq
import pytest
from forks import just_before
from mounts import Mounts
from repeats import every_other

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process that has imported much forks well on Linux")
FILES = 6
ROWS = 3000  # of an input that changes while it is read
CARRY_ON = "; mend that and run the same command again"


@pytest.fixture(scope="module")
def work(forks, tmp_path_factory):
    """An index, inputs, and what an undisturbed job makes of them. Tests only read them."""
    folder = tmp_path_factory.mktemp("work")
    kill.write_images(folder / "train.parquet", 300, 0)
    for i in range(FILES):
        kill.write_images(folder / "in" / str(i % 2) / f"{i}.parquet", 100 + i, i)
    kill.succeed(forks.run, ["index", str(folder / "train.parquet"), "--out", str(folder / "x.knn")])
    kill.succeed(forks.run, classify(folder, folder / "undisturbed"))
    return folder


@pytest.fixture
def inputs(work, tmp_path):
    """Inputs that a test may harm."""
    return shutil.copytree(work / "in", tmp_path / "in")


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system."""
    memory = Path("/dev/shm")  # noqa: S108  # a file system, not a name to guess
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


# What a process does for which permissions are to count, as they do not for root: it lays down the capabilities
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, numbers 1 and 2, as capset(2) has it.
_BOUND = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
head, held = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(head, held) == 0
for i in (0, 1):  # effective and permitted
    held[i] &= ~0b110
assert libc.capset(head, held) == 0
"""


@pytest.fixture
def bound(forks, tmp_path):
    """Python for a process in which permissions are to count."""
    (tmp_path / "closed").mkdir(0o555)
    attempt = f"{_BOUND}\nopen({str(tmp_path / 'closed' / 'file')!r}, 'w')\nraise SystemExit"
    if "PermissionError" not in forks.run([], before=attempt).stderr:
        pytest.skip("permissions do not count here")
    return _BOUND


@pytest.fixture
def mounts(tmp_path):
    """A namespace in which the folder `disk` of the test's may become a file system."""
    (tmp_path / "disk").mkdir()
    try:
        made = Mounts(tmp_path)
    except OSError:
        pytest.skip("no file system can be mounted here")
    yield made
    made.close()


def classify(work, out, *options, images=None):
    return ["classify", str(work / "x.knn"), str(images or work / "in"), "--out", str(out), "--threads", "1", *options]


def check_told(done, *told, code=1):
    """One message, that names what it is about, and no traceback."""
    assert done.code == code, done.stderr
    assert "Traceback" not in done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "failed: "))]
    assert len(messages) == 1, done.stderr
    for part in told:
        assert str(part) in messages[0]


def check_completed(forks, work, out, arguments, *, skipped=None):
    """The rerun after mending completes, with the bytes of an undisturbed run."""
    record = json.loads(kill.succeed(forks.run, [*arguments, "--json"]))
    assert kill.outputs(out) == kill.outputs(work / "undisturbed")
    assert sum(record["files"].values()) == FILES
    assert skipped is None or record["files"]["skipped"] == skipped
    assert kill.names(out) == kill.names(work / "undisturbed")


def check_alone(forks, work, tmp_path, inputs, harmed, told):
    """One input is at fault: it alone fails, and once it is as it was the job completes."""
    out = tmp_path / "out"
    done = forks.run(classify(work, out, images=inputs))
    check_told(done, harmed, told, code=3)
    expected = kill.outputs(work / "undisturbed")
    name = str(harmed.relative_to(inputs))
    assert kill.outputs(out) == {key: value for key, value in expected.items() if key != name}
    harmed.unlink(missing_ok=True)
    shutil.copy(work / "in" / name, harmed)
    check_completed(forks, work, out, classify(work, out, images=inputs), skipped=FILES - 1)


# Inputs


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def overwrite_middle(path):
    """Bytes of the second of three row groups are overwritten, footer and the rest are whole."""
    pq.write_table(pq.read_table(path), path, row_group_size=40, compression="zstd")
    chunk = pq.read_metadata(path).row_group(1).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    with path.open("r+b") as stream:
        stream.seek(start + chunk.total_compressed_size // 4)
        stream.write(bytes(range(256)) * (chunk.total_compressed_size // 512))


def name_an_unknown_codec(path):
    """The footer says LZO, which PyArrow cannot read, of the images."""
    content = path.read_bytes()
    assert content.count(b"\x18\x05image\x15\x02") == 1
    path.write_bytes(content.replace(b"\x18\x05image\x15\x02", b"\x18\x05image\x15\x06"))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (truncate, "cannot read"),
        (overwrite_middle, "cannot read"),
        (name_an_unknown_codec, "LZO"),
        (empty, "cannot read"),
    ],
    ids=["truncated", "corrupt row group", "codec", "empty"],
)
def test_a_damaged_input_fails_alone(forks, work, inputs, tmp_path, harm, told):
    harm(inputs / "1" / "3.parquet")
    check_alone(forks, work, tmp_path, inputs, inputs / "1" / "3.parquet", told)


def test_training_images_that_are_damaged_are_refused_by_name(forks, work, tmp_path):
    for number, harm in enumerate((truncate, overwrite_middle, name_an_unknown_codec)):
        train = tmp_path / f"{number}.parquet"
        shutil.copy(work / "train.parquet", train)
        harm(train)
        check_told(forks.run(["index", str(train), "--out", str(tmp_path / "x.knn")]), train, "cannot read")
        assert not (tmp_path / "x.knn").exists()


def test_an_input_that_is_deleted_after_it_was_listed_fails_alone(forks, work, inputs, tmp_path):
    out, gone = tmp_path / "out", inputs / "1" / "5.parquet"
    arguments = classify(work, out, images=inputs)
    done = forks.run(arguments, before=just_before(out / "0" / "0.parquet", f"os.unlink({str(gone)!r})"))
    check_told(done, gone, "cannot read", code=3)
    assert len(kill.outputs(out)) == FILES - 1
    shutil.copy(work / "in" / "1" / "5.parquet", gone)
    check_completed(forks, work, out, arguments, skipped=FILES - 1)


def is_reading(out):
    """Whether a job has begun with a file."""
    records = out / kill.RECORDS
    return (records / "job.json").exists() and any(records.glob(".*.tmp"))


def shrink(path):
    os.truncate(path, 5000)


def change_in_place(path):
    newer = path.with_name("newer")
    kill.write_images(newer, ROWS, 9)
    path.write_bytes(newer.read_bytes())
    newer.unlink()


def change_to_another(path):
    kill.write_images(path.with_name("newer"), ROWS, 9)
    path.with_name("newer").rename(path)


@pytest.mark.parametrize("harm", [shrink, pytest.param(change_in_place, marks=pytest.mark.long), change_to_another])
def test_an_input_that_changes_while_it_is_read_is_classified_as_it_is_in_the_end(forks, work, tmp_path, harm):
    source, out, fresh = tmp_path / "in" / "a.parquet", tmp_path / "out", tmp_path / "fresh"
    kill.write_images(source, ROWS, 8)
    original = source.read_bytes()
    arguments = classify(work, out, "--batch-size", "16", images=source)
    job = forks.start(arguments)
    while not is_reading(out) and job.is_running():
        time.sleep(0.001)
    job.signal(signal.SIGSTOP)
    harm(source)
    job.signal(signal.SIGCONT)
    done, _ = job.finish()
    if done.code:
        check_told(done, source)
        assert kill.outputs(out) == {}
    if harm is shrink:
        source.write_bytes(original)
    kill.succeed(forks.run, arguments)
    kill.succeed(forks.run, classify(work, fresh, images=source))
    assert kill.outputs(out) == kill.outputs(fresh)


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines.parquet",
        "tab\t 'quote\" $HOME.parquet",
        "n" * 247 + ".parquet",
        "é" * 123 + ".parquet",
    ],
    ids=["newline", "quotes", "255 bytes", "254 bytes of UTF-8"],
)
def test_an_input_of_any_name_is_classified(forks, work, inputs, tmp_path, name):
    out = tmp_path / "out"
    shutil.copy(work / "in" / "0" / "0.parquet", inputs / name)
    kill.succeed(forks.run, classify(work, out, images=inputs))
    assert (out / name).exists()
    assert len(kill.outputs(out)) == FILES + 1


@pytest.mark.parametrize("named", [False, True], ids=["in a folder", "named"])
def test_a_name_that_is_not_utf8_is_told(forks, work, inputs, tmp_path, named):
    path = inputs / os.fsdecode(b"latin-\xe9.parquet")
    shutil.copy(work / "in" / "0" / "0.parquet", path)
    done = forks.run(classify(work, tmp_path / "out", images=path if named else inputs))
    check_told(done, "latin-", "UTF-8")


def test_a_pipe_among_the_inputs_is_not_waited_for(forks, work, inputs, tmp_path):
    os.mkfifo(inputs / "pipe.parquet")
    done = forks.run(classify(work, tmp_path / "out", images=inputs))
    check_told(done, "pipe.parquet", "regular file", code=3)
    assert len(kill.outputs(tmp_path / "out")) == FILES


def test_a_pipe_that_is_named_as_input_is_refused(forks, work, tmp_path):
    os.mkfifo(tmp_path / "pipe.parquet")
    arguments = classify(work, tmp_path / "out", images=tmp_path / "pipe.parquet")
    check_told(forks.run(arguments), "pipe.parquet")


def test_a_link_to_nothing_among_the_inputs_fails_alone(forks, work, inputs, tmp_path):
    broken = inputs / "1" / "3.parquet"
    broken.unlink()
    broken.symlink_to("nowhere")
    check_alone(forks, work, tmp_path, inputs, broken, "cannot read")


def test_an_input_without_rights_fails_alone(forks, work, inputs, tmp_path, bound):
    out, closed = tmp_path / "out", inputs / "1" / "3.parquet"
    closed.chmod(0)
    arguments = classify(work, out, images=inputs)
    check_told(forks.run(arguments, before=bound), closed, "Permission denied", code=3)
    closed.chmod(0o644)
    check_completed(forks, work, out, arguments, skipped=FILES - 1)


def test_a_folder_of_inputs_without_rights_is_told_before_any_work(forks, work, inputs, tmp_path, bound):
    (inputs / "1").chmod(0)
    done = forks.run(classify(work, tmp_path / "out", images=inputs), before=bound)
    (inputs / "1").chmod(0o755)
    check_told(done, inputs / "1", "Permission denied")
    assert not (tmp_path / "out").exists()


def test_times_of_inputs_and_a_clock_that_jumps_change_nothing(forks, work, inputs, tmp_path):
    for i, path in enumerate(sorted(inputs.rglob("*.parquet"))):
        os.utime(path, (0, 0) if i % 2 else (2**33, 2**33))
    jumps = "import itertools, time; jumps = itertools.cycle([0, 2**31, 1e9, -5]); time.time = lambda: next(jumps)"
    arguments = classify(work, tmp_path / "out", images=inputs)
    done = forks.run(arguments, before=jumps)
    assert done.code == 0, done.stderr
    check_completed(forks, work, tmp_path / "out", arguments, skipped=FILES)


# Outputs


def a_file(path):
    path.write_text("mine")


def a_dangling_link(path):
    path.symlink_to("nowhere")


def identity(path):
    """What replacing or writing would change; reading changes the time of access."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize(
    ("verb", "make"),
    [
        ("classify", a_file),
        ("classify", os.mkfifo),
        ("classify", a_dangling_link),
        ("index", a_file),
        ("index", os.mkfifo),
        ("index", a_dangling_link),
    ],
)
def test_an_output_that_is_no_folder_is_refused_and_left_as_it_is(forks, work, tmp_path, verb, make):
    out = tmp_path / "out"
    make(out)
    before = identity(out)
    index = ["index", str(work / "train.parquet"), "--out", str(out)]
    refusal = "give --out" if verb == "classify" else "give a new path"
    check_told(forks.run(classify(work, out) if verb == "classify" else index), out, refusal)
    assert identity(out) == before


def test_an_output_file_whose_place_a_folder_takes_is_told_and_done_once_it_is_free(forks, work, tmp_path):
    out = tmp_path / "out"
    taken = out / "1" / "3.parquet"
    taken.mkdir(parents=True)
    (out / kill.RECORDS).mkdir()
    check_told(forks.run(classify(work, out)), taken, f"Is a directory{CARRY_ON}")
    taken.rmdir()
    check_completed(forks, work, out, classify(work, out))


def test_an_output_file_whose_place_a_pipe_takes_is_not_waited_for(forks, work, tmp_path):
    out = tmp_path / "out"
    (out / kill.RECORDS).mkdir(parents=True)
    (out / "1").mkdir()
    os.mkfifo(out / "1" / "3.parquet")
    forks.run(classify(work, out))


def test_an_output_on_another_file_system_than_inputs_and_working_folder(forks, work, elsewhere):
    kill.succeed(forks.run, classify(work, elsewhere / "out"))
    check_completed(forks, work, elsewhere / "out", classify(work, elsewhere / "out"), skipped=FILES)
    kill.succeed(forks.run, ["index", str(work / "train.parquet"), "--out", str(elsewhere / "y.knn")])
    assert kill.index_state(elsewhere / "y.knn") == kill.index_state(work / "x.knn")


def test_a_subfolder_of_the_output_on_another_file_system_is_told_and_done_once_it_is_a_folder(
    forks, work, tmp_path, elsewhere
):
    out = tmp_path / "out"
    (out / kill.RECORDS).mkdir(parents=True)
    (out / "1").symlink_to(elsewhere)
    check_told(forks.run(classify(work, out)), out / "1", "is a link")
    assert list(elsewhere.iterdir()) == []
    (out / "1").unlink()
    check_completed(forks, work, out, classify(work, out), skipped=0)


def test_a_folder_that_becomes_unwritable_midway_is_told_and_the_job_carries_on_once_it_is_mended(
    forks, work, tmp_path, bound
):
    out = tmp_path / "out"
    arguments = classify(work, out)
    close = just_before(out / "1" / "3.parquet", f"os.chmod({str(out / '1')!r}, 0o555)")
    done = forks.run(arguments, before=bound + close)
    (out / "1").chmod(0o755)
    check_told(done, out / "1", f"Permission denied{CARRY_ON}")
    finished = kill.outputs(out)
    assert finished.items() <= kill.outputs(work / "undisturbed").items()
    assert len(finished) == 4
    check_completed(forks, work, out, arguments, skipped=len(finished))


@pytest.mark.parametrize("rights", [0o000, 0o444, 0o555])
@pytest.mark.parametrize("verb", ["classify", "index"])
def test_a_folder_without_rights_is_told(forks, work, tmp_path, bound, verb, rights):
    out = tmp_path / "out"
    out.mkdir(rights)
    index = ["index", str(work / "train.parquet"), "--out", str(out)]
    done = forks.run(classify(work, out) if verb == "classify" else index, before=bound)
    out.chmod(0o755)
    check_told(done, out, "Permission denied")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("verb", ["classify", "index"])
def test_a_read_only_file_system_is_told(forks, work, tmp_path, mounts, verb):
    index = ["index", work / "train.parquet", "--out", "disk/out"]
    arguments = classify(work, "disk/out") if verb == "classify" else index
    mounts.do("mount -t tmpfs -o ro tmpfs disk")
    done = forks.run(arguments, cwd=tmp_path, before=mounts.join)
    check_told(done, "disk/out", "Read-only file system")


@pytest.mark.parametrize("kilobytes", [4, 24])
def test_a_disk_that_fills_up_leaves_the_index_as_it_was_and_the_next_build_completes(
    forks, work, tmp_path, mounts, kilobytes
):
    """Room for hardly any of the new files, and for the index file but not all others."""
    kill.write_images(tmp_path / "other.parquet", 200, 7)
    before, after = tmp_path / "before", tmp_path / "after"
    kill.succeed(forks.run, ["index", str(tmp_path / "other.parquet"), "--out", str(before)])
    build = ["index", work / "train.parquet", "--overwrite", "--out", "disk/x.knn"]
    mounts.do(f"""
        mount -t tmpfs -o size=100m tmpfs disk
        cp -r before disk/x.knn
        mount -o remount,size=$(($(du -sk disk | cut -f 1) + {kilobytes}))k disk
    """)
    done = forks.run(build, cwd=tmp_path, before=mounts.join)
    check_told(done, "disk/x.knn", "No space left")
    mounts.do("cp -r disk/x.knn full; mount -o remount,size=100m disk")
    assert kill.outputs(tmp_path / "full") == kill.outputs(before)
    done = forks.run(build, cwd=tmp_path, before=mounts.join)
    assert done.code == 0, done.stderr
    mounts.do("cp -r disk/x.knn after")
    assert kill.index_state(after) == kill.index_state(work / "x.knn")
    assert kill.generation_names(after) == kill.generation_names(work / "x.knn")
    kill.succeed(forks.run, ["verify", str(after)])


# The machine and other processes


@pytest.mark.parametrize("limit", every_other([4, 5, 6, 7, 8]))
def test_too_many_open_files_are_told_and_the_job_carries_on_once_it_may(forks, work, tmp_path, limit):
    out = tmp_path / "out"
    limits = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"
    done = forks.run(classify(work, out), before=f"import os, resource; os.closerange(3, 1000); {limits}")
    assert "Traceback" not in done.stderr
    if done.code:
        assert "Too many open files" in done.stderr
    assert kill.outputs(out).items() <= kill.outputs(work / "undisturbed").items()
    check_completed(forks, work, out, classify(work, out), skipped=len(kill.outputs(out)))


def test_a_lock_that_a_dead_process_left_holds_nobody_up(forks, work, tmp_path):
    out = tmp_path / "out"
    (out / kill.RECORDS).mkdir(parents=True)
    (out / kill.RECORDS / "lock").write_text("1")
    check_completed(forks, work, out, classify(work, out), skipped=0)
    shutil.copytree(work / "x.knn", tmp_path / "x.knn")
    (tmp_path / "x.knn" / "lock").write_text("1")
    kill.succeed(forks.run, ["index", str(work / "train.parquet"), "--overwrite", "--out", str(tmp_path / "x.knn")])
    assert kill.generation_names(tmp_path / "x.knn") == kill.generation_names(work / "x.knn")


@pytest.mark.parametrize("verb", ["classify", "index"])
def test_of_two_started_at_once_into_one_output_one_wins_and_the_other_says_so(forks, work, tmp_path, verb):
    rng = random.Random(0)  # noqa: S311  # delays are no secrets
    for _ in range(3):
        out = tmp_path / "out"
        index = ["index", str(work / "train.parquet"), "--threads", "1", "--out", str(out)]
        arguments = classify(work, out) if verb == "classify" else index
        early = forks.start(arguments)
        time.sleep(rng.uniform(0, 0.01))
        ended = [forks.run(arguments), early.finish()[0]]
        refused = [done for done in ended if done.code]
        assert len(refused) < 2, ended
        for done in refused:
            check_told(done, out)
        if verb == "classify":
            assert kill.outputs(out) == kill.outputs(work / "undisturbed")
            assert kill.names(out) == kill.names(work / "undisturbed")
        else:
            assert kill.index_state(out) == kill.index_state(work / "x.knn")
            assert kill.names(out) == kill.names(work / "x.knn")
        shutil.rmtree(out)
