"""Finding inputs, and writing files that appear whole or not at all."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import locations
from data.errors import KnnvoteError
from data.files import atomic_write, hold_lock
from data.inputs import find_inputs
from data.locations import describe_os_error


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with files in folders."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/b.parquet",
        "in/a.parquet",
        "in/deep/er/c.parquet",
        "in/notes.txt",
        "in/.hidden.parquet",
        "in/_knnvote/d.parquet",
        "in/.git/e.parquet",
        "in/deep/_tmp.parquet",
        "other/z.parquet",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def relative(*arguments):
    return [file.relative for file in find_inputs([str(argument) for argument in arguments])]


def test_a_folder_gives_every_visible_parquet_file_below_it_in_order(here):
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]
    found = find_inputs(["in"])
    assert [file.shown for file in found] == ["in/a.parquet", "in/b.parquet", "in/deep/er/c.parquet"]
    assert [file.size for file in found] == [len("in/a.parquet"), len("in/b.parquet"), len("in/deep/er/c.parquet")]
    assert {file.root for file in found} == {str(here / "in")}


def test_a_folder_below_a_hidden_one_is_searched_when_it_is_named(here):
    assert relative("in/.git") == ["e.parquet"]
    assert relative(here / "in" / "_knnvote") == ["d.parquet"]


def test_a_file_is_taken_whatever_its_name(here):
    (file,) = find_inputs(["in/notes.txt"])
    assert (file.relative, file.shown, file.root, file.is_local) == ("notes.txt", "in/notes.txt", None, True)
    with file.open() as stream:
        assert stream.read() == b"in/notes.txt"
    assert file.describe() == {
        "path": "notes.txt",
        "size": len(b"in/notes.txt"),
        "sha256": hashlib.sha256(b"in/notes.txt").hexdigest(),
    }
    assert relative("in/.hidden.parquet") == [".hidden.parquet"]
    assert here.is_dir()


@pytest.mark.usefixtures("here")
def test_a_trailing_slash_changes_nothing():
    assert [file.shown for file in find_inputs(["in/"])] == [file.shown for file in find_inputs(["in"])]


@pytest.mark.usefixtures("here")
def test_a_glob_gives_paths_relative_to_what_stands_before_it():
    assert relative("in/*.parquet") == ["a.parquet", "b.parquet"]
    assert relative("in/deep/**/c.parquet") == ["er/c.parquet"]
    assert relative("*/z.parquet") == ["other/z.parquet"]
    assert relative("i?/[ab].parquet") == ["in/a.parquet", "in/b.parquet"]


@pytest.mark.usefixtures("here")
def test_a_glob_that_matches_folders_searches_them():
    assert relative("oth*") == ["other/z.parquet"]
    assert relative("in/de*") == ["deep/er/c.parquet"]


def test_a_path_with_glob_characters_that_exists_is_itself(here):
    (here / "odd[1]").mkdir()
    (here / "odd[1]" / "x*.parquet").write_bytes(b"")
    (here / "odd1").mkdir()
    (here / "odd1" / "wrong.parquet").write_bytes(b"")
    assert relative("odd[1]") == ["x*.parquet"]
    assert relative("odd[1]/x*.parquet") == ["x*.parquet"]


def test_a_file_uri_gives_the_same_files_as_the_path(here):
    assert relative(f"file://{here}/in") == relative("in")
    assert relative(f"file://{here}/in/") == relative("in")
    (file,) = find_inputs([f"file://{here}/in/a.parquet"])
    assert (file.relative, file.shown, file.is_local) == ("a.parquet", f"file://{here}/in/a.parquet", True)


def test_a_uri_may_hold_a_space(here):
    (here / "a b").mkdir()
    (here / "a b" / "x.parquet").write_bytes(b"")
    assert relative(f"file://{here}/a%20b") == ["x.parquet"]


@pytest.mark.parametrize(
    "again",
    [
        "in/a.parquet",
        "./in/a.parquet",
        "in//a.parquet",
        "in/deep/../a.parquet",
        "{here}/in/a.parquet",
        "in",
        "in/a*.parquet",
        "file://{here}/in/a.parquet",
        "linked/a.parquet",
    ],
)
def test_a_file_named_twice_is_taken_once(here, again):
    (here / "linked").symlink_to("in")
    assert relative("in/a.parquet", again.format(here=here)).count("a.parquet") == 1


def test_a_link_to_a_file_is_a_file_of_its_own(here):
    (here / "in" / "link.parquet").symlink_to("a.parquet")
    assert relative("in/a.parquet", "in/link.parquet") == ["a.parquet", "link.parquet"]


@pytest.mark.usefixtures("here")
def test_arguments_keep_their_order():
    assert relative("other", "in/b.parquet", "in") == ["z.parquet", "b.parquet", "a.parquet", "deep/er/c.parquet"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gone.parquet", r"^gone\.parquet does not exist: give the path of a Parquet file, a folder or a glob$"),
        ("in/gone", r"^in/gone does not exist"),
        ("empty", r"^empty is a folder without any \*\.parquet file"),
        ("in/*.csv", r"^no file matches in/\*\.csv: give"),
        ("nowhere/*.parquet", r"^no file matches nowhere/\*\.parquet"),
        ("gopher://host/x", r"^cannot open gopher://host/x: "),
        ("file:///nowhere/x.parquet", r"^file:///nowhere/x\.parquet does not exist"),
    ],
)
def test_what_is_not_there_is_named(here, argument, message):
    (here / "empty").mkdir()
    with pytest.raises(KnnvoteError, match=message):
        find_inputs(["in", argument])


def test_a_file_that_vanished_is_named(here):
    (file,) = find_inputs(["in/a.parquet"])
    (here / "in" / "a.parquet").unlink()
    with pytest.raises(KnnvoteError, match=r"^cannot read in/a\.parquet: "):
        file.open()
    with pytest.raises(KnnvoteError, match=r"^cannot read in/a\.parquet: "):
        file.describe()


def test_reasons_come_without_errno_or_path():
    assert describe_os_error(OSError(errno.ENOSPC, "No space left on device", "/x")) == "No space left on device"
    assert describe_os_error(OSError("Failed to open.\nDetail: none")) == "Failed to open."


def test_a_written_file_is_whole_and_alone(tmp_path):
    target = tmp_path / "new" / "folder" / "x.bin"
    with atomic_write(target) as stream:
        stream.write(b"content")
        assert not target.exists()
    assert target.read_bytes() == b"content"
    assert list(target.parent.iterdir()) == [target]


@given(old=st.binary(max_size=50) | st.none(), new=st.binary(max_size=50), fails=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_file_is_the_old_or_the_new_one_never_a_mix(tmp_path_factory, old, new, fails):
    folder = tmp_path_factory.mktemp("mix")
    target = folder / "x"
    if old is not None:
        target.write_bytes(old)
    with suppress(ZeroDivisionError), atomic_write(target) as stream:
        stream.write(new)
        _ = 1 / (0 if fails else 1)
    left = old if fails else new
    assert [path.read_bytes() for path in folder.iterdir()] == ([] if left is None else [left])


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_body_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "x"
    target.write_bytes(b"old")

    def write():
        with atomic_write(target) as stream:
            stream.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open"])
def test_a_disk_that_fails_leaves_the_old_file_and_is_told(tmp_path, monkeypatch, step):
    target = tmp_path / "x"
    target.write_bytes(b"old")

    def fail(*_args, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    def write():
        with atomic_write(target) as stream:
            stream.write(b"new")

    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        message = rf"^cannot write {target}: No space left on device; mend that and run the same command again$"
        with pytest.raises(KnnvoteError, match=message):
            write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_within_the_body_is_told(tmp_path):
    def write():
        with atomic_write(tmp_path / "x"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(KnnvoteError, match="No space left on device"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    def write():
        with atomic_write(tmp_path / "file" / "x") as stream:
            stream.write(b"new")

    with pytest.raises(KnnvoteError, match=r"cannot write .*file/x: "):
        write()


def test_a_scratch_folder_keeps_the_unfinished_file_out_of_the_targets(tmp_path):
    with atomic_write(tmp_path / "out" / "x", scratch=tmp_path / "scratch") as stream:
        stream.write(b"new")
        assert not (tmp_path / "out").exists()
        assert len(list((tmp_path / "scratch").iterdir())) == 1
    assert (tmp_path / "out" / "x").read_bytes() == b"new"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_written_file_is_on_the_disk_before_it_has_its_name_and_its_folder_after(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (steps.append("sync"), fsync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (steps.append("rename"), replace(path, target))[1])
    with atomic_write(tmp_path / "x") as stream:
        stream.write(b"new")
    assert steps == ["sync", "rename", "sync"]


def test_a_second_holder_of_a_lock_is_refused_until_the_first_is_done(tmp_path):
    def hold():
        with hold_lock(tmp_path / "jobs" / "lock", "in use: wait"):
            return True

    with hold_lock(tmp_path / "jobs" / "lock", "in use"), pytest.raises(KnnvoteError, match=r"^in use: wait$"):
        hold()
    assert hold()


def test_a_lock_is_free_after_its_holder_failed(tmp_path):
    def fail():
        with hold_lock(tmp_path / "lock", "in use"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with hold_lock(tmp_path / "lock", "in use"):
        pass


def test_a_lock_is_free_after_its_holder_was_killed(tmp_path):
    code = (
        "import sys, time, pathlib\nfrom data.files import hold_lock\n"
        "with hold_lock(pathlib.Path(sys.argv[1]), 'in use'):\n  print('held', flush=True)\n  time.sleep(60)"
    )
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(KnnvoteError, match="in use"), hold_lock(lock, "in use"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with hold_lock(lock, "in use"):
        pass


def test_a_lock_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KnnvoteError, match=r"cannot write .*file/lock"), hold_lock(tmp_path / "file" / "lock", "x"):
        pass


def test_a_hash_does_not_depend_on_how_a_file_is_cut(tmp_path, monkeypatch):
    content = bytes(range(256)) * 20
    (tmp_path / "x").write_bytes(content)
    monkeypatch.setattr(locations, "_CHUNK", 7)
    with (tmp_path / "x").open("rb") as stream:
        assert locations.hash_stream(stream) == hashlib.sha256(content).hexdigest()


def test_an_index_folder_among_the_inputs_is_passed_over(here):
    (here / "in" / "x.knn").mkdir()
    (here / "in" / "x.knn" / "manifest.json").write_text("{}")
    (here / "in" / "x.knn" / "labels-1.parquet").write_bytes(b"")
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]


def test_outputs_of_a_job_among_the_inputs_are_passed_over(here):
    (here / "in" / "out" / "_knnvote").mkdir(parents=True)
    (here / "in" / "out" / "_knnvote" / "job.json").write_text("{}")
    (here / "in" / "out" / "deep").mkdir()
    for name in ("a", "deep/b"):
        (here / "in" / "out" / f"{name}.parquet").write_bytes(b"")
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]
    with pytest.raises(KnnvoteError, match="without any"):
        find_inputs(["in/out"])


def test_a_manifest_of_somebody_else_hides_nothing(here):
    (here / "in" / "manifest.json").write_text("{}")
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]
