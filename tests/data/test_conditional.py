"""Small files that several write at once: who is first makes them, and nobody replaces what was changed meanwhile."""

import sys
import threading
from urllib.parse import quote

import pytest
from object_store import BUCKET, KEY, SECRET, serve
from pyarrow import fs as pafs

from knnvote.data.conditional import check_store, put_if_new, put_if_same, put_whole
from knnvote.data.errors import KnnvoteError
from knnvote.data.files import VanishedError
from knnvote.data.locations import Location, locate


@pytest.fixture(scope="module")
def store():
    pytest.importorskip("obstore")
    with serve() as running:
        yield running


@pytest.fixture(params=["disk", "store", "access in the URI"])
def folder(request, tmp_path, store, monkeypatch):
    """A folder on a disk, or in a store to which the environment gives access, or its URI."""
    if request.param == "disk":
        return locate(tmp_path)
    store.fault = lambda _request: None
    if request.param == "store":
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        return locate(f"s3://{BUCKET}/plain")
    access = f"{KEY}:{quote(SECRET, safe='')}"
    return locate(f"s3://{access}@{BUCKET}/given?scheme=http&endpoint_override=127.0.0.1:{store.port}&region=us-east-1")


def test_what_is_new_is_made_and_what_is_there_stays(folder, tmp_path):
    file = folder / "of ü/new.json"
    assert put_if_new(file, b"first", scratch=tmp_path)
    assert not put_if_new(file, b"second", scratch=tmp_path)
    assert file.read() == b"first"


def test_of_many_who_make_it_at_once_one_does(folder, tmp_path):
    file, start, made = folder / "at once.json", threading.Barrier(8), []

    def make(number):
        start.wait()
        if put_if_new(file, str(number).encode(), scratch=tmp_path):
            made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in made] == [file.read()]


def test_what_was_replaced_meanwhile_is_not_replaced_in_a_store(folder, tmp_path):
    file = folder / "same.json"
    put_if_new(file, b"first", scratch=tmp_path)
    tag = file.tag()
    assert (tag is None) == file.is_local
    assert put_if_same(file, b"second", tag, scratch=tmp_path)
    assert put_if_same(file, b"third", tag, scratch=tmp_path) == file.is_local
    assert file.read() == (b"third" if file.is_local else b"second")
    assert (folder / "none.json").tag() is None


def test_what_was_removed_meanwhile_is_looked_for_again_in_a_store(folder, tmp_path):
    """Its tag is asked for when it was seen, and then it is not there any more."""
    file = folder / "gone.json"
    assert put_if_same(file, b"first", None, scratch=tmp_path) == file.is_local
    put_if_new(file, b"first", scratch=tmp_path)
    assert put_if_same(file, b"second", None, scratch=tmp_path) == file.is_local


def test_what_is_replaced_while_it_is_read_is_read_whole(store, folder, monkeypatch):
    if folder.is_local:
        pytest.skip("a file of a disk that is open stays as it is")
    file, left = folder / "read.json", [b"longer than before" * 100, b"short", b"the last"]
    key = file.path.removeprefix(f"{BUCKET}/")
    store.put(key, b"before")

    def replace(request):
        if request.startswith("GET") and key in request and left:
            store.put(key, left.pop(0))

    store.fault = replace
    assert file.read_if_there() == b"the last"
    monkeypatch.setattr("knnvote.data.locations._REPLACED", 1)
    left.extend(bytes([n]) * (n + 1) for n in range(20))
    with pytest.raises(KnnvoteError, match=r"cannot read .*read\.json: "):
        file.read_if_there()


def test_a_store_that_refuses_is_told_by_its_name_and_without_access(store, folder, tmp_path):
    if folder.is_local:
        pytest.skip("a disk has faults of its own")
    store.fault = lambda request: "forbid" if request.startswith("PUT") else None
    with pytest.raises(KnnvoteError, match=rf"^cannot write {folder}/x\.json: .*run the same command again$") as told:
        put_if_new(folder / "x.json", b"first", scratch=tmp_path)
    assert KEY not in str(told.value)
    assert SECRET not in str(told.value)


def test_without_obstore_one_line_tells_what_to_install(store, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(KnnvoteError, match=r"with obstore, which is not installed: pip install 'knnvote\[parts\]'$"):
        check_store(locate(f"s3://{BUCKET}/out"))
    check_store(locate("on a disk"))


def test_a_store_of_another_protocol_is_refused():
    with pytest.raises(KnnvoteError, match=r"cannot write to gs://x/out: of object stores those of the S3 protocol"):
        check_store(Location(pafs.GcsFileSystem(anonymous=True), "x/out", "gs://x/out"))


def test_what_is_removed_while_it_is_written_is_written_again(tmp_path, monkeypatch):
    rename, removed = type(tmp_path).replace, []

    def replace(path, target):
        if len(removed) < 3:
            removed.append(path)
            path.unlink()
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "replace", replace)
    put_whole(locate(tmp_path / "x"), b"new", scratch=tmp_path)
    assert (tmp_path / "x").read_bytes() == b"new"
    monkeypatch.setattr(type(tmp_path), "replace", lambda path, target: path.unlink() or rename(path, target))
    with pytest.raises(VanishedError):
        put_whole(locate(tmp_path / "x"), b"newer", scratch=tmp_path)
