"""Where Ray is not, or no more, that is told in a moment, and of its own minute of silence nothing is seen."""

import socket
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from knnvote.classify.cluster import connection
from knnvote.classify.cluster.connection import connected
from knnvote.data.errors import KnnvoteError, Note

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'knnvote[ray]'")


@pytest.fixture(autouse=True)
def _apart(monkeypatch):
    """This process is of no cluster, and sees none that runs on this machine; where it joins one, that is told."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray._private.services, "find_gcs_addresses", frozenset)


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(connection, "_ANSWER", 2)


@pytest.fixture
def joined(monkeypatch):
    """Addresses at which Ray was joined, which is not done."""
    at = []
    monkeypatch.setattr(ray, "init", lambda address, **_: at.append(address))
    return at


@pytest.fixture
def record(tmp_path, monkeypatch):
    """What records an address as ray start does."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return (tmp_path / "ray/ray_current_cluster").write_text


@contextmanager
def _web_server():
    class Absent(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("", 0), Absent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def _mute():
    with socket.create_server(("", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _nobody():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("server", [_web_server, _mute])
def test_what_is_not_ray_is_told(server, capfd):
    with server() as address, pytest.raises(KnnvoteError) as told, connected(address):
        pass
    assert str(told.value) == (
        f"what listens at {address} is not Ray, or a Ray that hangs: ray start --head starts one and tells its address"
    )
    assert capfd.readouterr() == ("", "")


def test_auto_tells_the_address_of_a_cluster_of_before_or_that_there_is_none(record, monkeypatch):
    with pytest.raises(KnnvoteError, match=r"^no Ray runs on this machine: ray start --head"), connected("auto"):
        pass
    address = _nobody()
    record(address + "\n")
    told = rf"^Ray does not answer at {address} \(Connection refused\): ray start --head"
    with pytest.raises(KnnvoteError, match=told), connected("auto"):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(KnnvoteError, match=told), connected(None):
        pass


@pytest.mark.parametrize("recorded", [None, "", "nonsense", "127.0.0.1:99999"])
def test_without_an_address_one_is_started_where_none_is_or_the_last_is_dead(recorded, record, joined):
    if recorded is not None:
        record(recorded)
    if recorded:
        with pytest.warns(
            Note, match=rf"^Ray does not answer at {recorded} \(.*\), where the last one of this machine"
        ):
            _join()
    else:
        _join()
    assert joined == ["local"]


@pytest.mark.usefixtures("brief")
def test_without_an_address_one_is_started_where_the_last_hangs(record, joined):
    with _mute() as address:
        record(address)
        with pytest.warns(Note, match=f"^what listens at {address} is not Ray, or a Ray that hangs, where the last"):
            _join()
    assert joined == ["local"]


def _join():
    with connected(None):
        pass


def test_a_token_that_is_asked_for_is_told_where_ray_does_not_find_it(record, joined, monkeypatch):
    refused = subprocess.CompletedProcess(
        [], 1, b"", b"ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken"
    )
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    with _mute() as address:
        told = f"^Ray at {address} asks for its token: set RAY_AUTH_MODE=token"
        with pytest.raises(KnnvoteError, match=told), connected(address):
            pass
        record(address)
        _join()
    assert joined == [None]
