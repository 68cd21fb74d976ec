"""Paths and URIs, and reasons of the system in one line."""

import errno
import hashlib
import pickle

import pytest

from knnvote.data import locations
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import describe_os_error, locate


@pytest.mark.parametrize(
    "uri",
    [
        "s5://USER:SECRET@host/x",
        "s3://USER:SEC/RET@bucket/x?no=SECRET",
        "s3://USER:%zz@b",
        "s3://USER:SE?CRET@bucket/x",
        "s5://USER:SE'CRET@bucket/x",
        "s3://USER:SE CRET@bucket/x?no=1",
        "s3://USER:SE\udcffCRET@bucket/x",
    ],
)
def test_a_uri_that_cannot_be_opened_is_told_without_what_gives_access(uri):
    with pytest.raises(KnnvoteError, match=r"^cannot open '?s") as error:
        locate(uri)
    assert not any(part in str(error.value) for part in ("USER", "SE", "CRET", "%zz"))


def test_a_location_is_shown_without_what_gives_access():
    location = locate("s3://user:secret@bucket/a b/?region=us-east-1")
    assert (location.shown, location.path, location.is_local) == ("s3://bucket/a b", "bucket/a b", False)
    assert (location / "x/y").shown == "s3://bucket/a b/x/y"


def test_what_is_pickled_leads_to_the_same_place_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)
    (source,) = find_inputs(["a.parquet"])
    pickled = pickle.dumps([source, locate(".")])
    monkeypatch.chdir("/")
    again, folder = pickle.loads(pickled)  # noqa: S301  # our own bytes
    assert (again.read(), again.shown, again.relative, again.size) == (b"content", "a.parquet", "a.parquet", 7)
    assert (folder / "a.parquet").read() == b"content"
    stored = locate("s3://user:secret@bucket/a b/?region=us-east-1&endpoint_override=localhost:9")
    assert pickle.loads(pickle.dumps(stored)) == stored  # noqa: S301  # our own bytes


def test_files_and_folders_are_told_apart_listed_read_and_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_bytes(b"content")
    (tmp_path / "a").write_bytes(b"")
    folder = locate(tmp_path)
    assert [*folder.below()] == ["a", "deep", "deep/b"]
    assert [*folder.below(recursive=False)] == ["a", "deep"]
    assert (folder.is_folder, folder.is_file) == (True, False)
    assert ((folder / "a").is_file, (folder / "c").is_file) == (True, False)
    assert (folder / "deep/b").read() == b"content"
    (folder / "a").remove()
    (folder / "a").remove()
    assert [*folder.below(recursive=False)] == ["deep"]
    with pytest.raises(KnnvoteError, match=r"^cannot read .*/a: No such file"):
        (folder / "a").read()


def test_reasons_come_without_errno_or_path():
    assert describe_os_error(OSError(errno.ENOSPC, "No space left on device", "/x")) == "No space left on device"
    assert describe_os_error(OSError("Failed to open.\nDetail: none")) == "Failed to open."


def test_a_hash_does_not_depend_on_how_a_file_is_cut(tmp_path, monkeypatch):
    content = bytes(range(256)) * 20
    (tmp_path / "x").write_bytes(content)
    monkeypatch.setattr(locations, "CHUNK", 7)
    with (tmp_path / "x").open("rb") as stream:
        assert locations.hash_stream(stream) == hashlib.sha256(content).hexdigest()


def test_an_address_leads_back_to_where_it_is_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("a b#c").address == str(tmp_path / "a b#c")
    location = locate("s3://user:secret@bucket/a%23b%20c%25?region=us-east-1")
    assert (location.path, location.address) == ("bucket/a#b c%", "s3://bucket/a%23b%20c%25")


def test_a_path_that_the_file_system_does_not_take_is_told():
    with pytest.raises(KnnvoteError, match=r"^cannot read s3://bucket//x: "):
        locate("s3://bucket//x?region=us-east-1").info()


def test_an_empty_path_is_not_the_folder_at_work():
    with pytest.raises(KnnvoteError, match="an empty path is given"):
        locate("")
