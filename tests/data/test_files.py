"""Writing files that appear whole or not at all."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import VanishedError, atomic_write, hold_lock, share_lock


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


@pytest.mark.parametrize("error", [None, errno.EPERM, errno.EIO])
def test_a_new_file_is_never_put_over_one_that_was_made_meanwhile(tmp_path, monkeypatch, error):
    """On file systems without links (EPERM) too."""

    def fail(*_args):
        raise OSError(error, os.strerror(error))

    def write(target, meanwhile):
        with atomic_write(target, is_new=True) as stream:
            stream.write(b"new")
            if meanwhile:
                target.write_bytes(b"theirs")

    if error is not None:
        monkeypatch.setattr(Path, "hardlink_to", fail)
    if error == errno.EIO:
        with pytest.raises(KnnvoteError, match=r"^cannot write .*/x: Input/output error; mend that"):
            write(tmp_path / "x", meanwhile=False)
        assert list(tmp_path.iterdir()) == []
        return
    write(tmp_path / "x", meanwhile=False)
    with pytest.raises(KnnvoteError, match=r"/y was made by something else meanwhile, and stays: give a new name$"):
        write(tmp_path / "y", meanwhile=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"new", "y": b"theirs"}


def test_a_second_holder_of_a_lock_is_refused_until_the_first_is_done(tmp_path):
    def hold():
        with hold_lock(tmp_path / "jobs" / "lock", "in use: wait"):
            return True

    with hold_lock(tmp_path / "jobs" / "lock", "in use"), pytest.raises(KnnvoteError, match=r"^in use: wait$"):
        hold()
    assert hold()


def test_a_lock_whose_file_was_removed_before_it_was_locked_is_no_lock(tmp_path, monkeypatch):
    flock = fcntl.flock

    def lock_late(stream, how):
        (tmp_path / "lock").unlink()  # as its last holder does
        (tmp_path / "lock").touch()  # and as the next one, which now holds it
        flock(stream, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with pytest.raises(KnnvoteError, match="in use"), hold_lock(tmp_path / "lock", "in use"):
        pass
    assert (tmp_path / "lock").exists()


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
        "import sys, time, pathlib\nfrom knnvote.data.files import hold_lock\n"
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


def test_a_folder_that_may_not_be_written_is_told_with_what_helps(tmp_path, monkeypatch):
    def refuse(*_given):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(KnnvoteError, match="Read-only file system; give a path where"), hold_lock(tmp_path / "l", "x"):
        pass


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to("precious")
    with pytest.raises(KnnvoteError, match="lock: it is a link: remove it"), hold_lock(tmp_path / "lock", "in use"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_lock_that_is_a_file_of_another_name_too_is_not_emptied(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").hardlink_to(tmp_path / "precious")
    with hold_lock(tmp_path / "lock", "in use"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_shared_lock_is_held_by_several_and_keeps_away_who_wants_it_alone(tmp_path):
    lock = tmp_path / "jobs" / "lock"
    with share_lock(lock, "in use"):
        with share_lock(lock, "in use"), pytest.raises(KnnvoteError, match="alone"), hold_lock(lock, "not alone"):
            pass
        assert lock.exists()
        with pytest.raises(KnnvoteError, match="alone"), hold_lock(lock, "not alone"):
            pass
    assert not lock.exists()
    with hold_lock(lock, "not alone"), pytest.raises(KnnvoteError, match="in use"), share_lock(lock, "in use"):
        pass
    assert not lock.exists()


def test_a_shared_lock_that_was_removed_between_opening_and_locking_is_made_anew(tmp_path, monkeypatch):
    lock, flock, removed = tmp_path / "lock", fcntl.flock, []

    def lock_late(stream, how):
        if not removed:
            removed.append(lock.unlink())
        flock(stream, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with share_lock(lock, "in use"):
        assert lock.exists()
        with pytest.raises(KnnvoteError, match="alone"), hold_lock(lock, "not alone"):
            pass


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    mkdir, calls = Path.mkdir, []

    def raced(path, **named):
        calls.append(path)
        if len(calls) == 1:
            raise FileExistsError(errno.EEXIST, "File exists")
        mkdir(path, **named)

    monkeypatch.setattr(Path, "mkdir", raced)
    with atomic_write(tmp_path / "a/x") as stream:
        stream.write(b"new")
    assert (tmp_path / "a/x").read_bytes() == b"new"


def test_an_unfinished_file_is_not_written_through_a_link_of_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.randbits", lambda _bits: 7)
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".x.7.tmp").symlink_to("precious")

    def write():
        with atomic_write(tmp_path / "x") as stream:
            stream.write(b"new")

    with pytest.raises(KnnvoteError, match=r"cannot write .*x: File exists"):
        write()
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "x").exists()


def test_two_writers_with_one_process_number_do_not_meet(tmp_path):
    """As those of two hosts, or of two containers, may be."""
    target = tmp_path / "x"
    with atomic_write(target) as first, atomic_write(target) as second:
        assert len([*tmp_path.iterdir()]) == 2
        first.write(b"first")
        second.write(b"second")
    assert target.read_bytes() == b"first"
    assert [*tmp_path.iterdir()] == [target]


def test_an_unfinished_file_that_something_removes_is_told_and_the_older_target_stays(tmp_path):
    (tmp_path / "x").write_text("older")

    def write():
        with atomic_write(tmp_path / "x", scratch=tmp_path / "scratch") as stream:
            stream.write(b"new")
            shutil.rmtree(tmp_path / "scratch")

    with pytest.raises(VanishedError, match=r"x: .*scratch.*, which was to be it, was removed by"):
        write()
    assert (tmp_path / "x").read_text() == "older"


def test_a_folder_that_is_removed_while_a_file_is_written_to_it_is_made_again(tmp_path):
    with atomic_write(tmp_path / "a/b/x", scratch=tmp_path) as stream:
        stream.write(b"new")
        (tmp_path / "a/b").mkdir(parents=True)
        shutil.rmtree(tmp_path / "a")
    assert (tmp_path / "a/b/x").read_bytes() == b"new"
