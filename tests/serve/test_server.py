"""The service on real sockets: idle and slow connections, signals, and the command."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("uvicorn", reason="serving needs the extra serve")

from services import ARROW, PNG, png, read_stream, running, service, stream

from knnvote import demo
from knnvote.cli.service.browser import open_in_browser
from knnvote.serve import server

IMAGE = png(np.full((8, 8), 9))
HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def place(exact_index):
    with running(service(exact_index)) as found:
        yield found.place


def classify(place, body=IMAGE):
    connection = http.client.HTTPConnection(*place, timeout=20)
    connection.request("POST", "/classify", body, {"Content-Type": PNG})
    reply = connection.getresponse()
    said = reply.status, reply.read()
    connection.close()
    return said


def test_one_connection_asks_again_and_again(place):
    connection = http.client.HTTPConnection(*place, timeout=20)
    for _ in range(3):
        connection.request("POST", "/classify", IMAGE, {"Content-Type": PNG})
        assert connection.getresponse().read() == classify(place)[1]
    connection.close()


def test_idle_and_half_connections_keep_nobody_waiting(place):
    idle = [socket.create_connection(place) for _ in range(100)]
    for half in idle[50:]:
        half.sendall(HEAD % 90 + b"12")
    assert classify(place)[0] == 200
    for connection in idle:
        connection.close()


def test_a_head_that_does_not_come_is_not_waited_for(exact_index, monkeypatch):
    monkeypatch.setattr(server, "_HEAD_SECONDS", 0.05)
    with running(service(exact_index)) as found:
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
            with socket.create_connection(found.place, timeout=20) as slow:
                slow.sendall(begun)
                assert slow.recv(100) == b""


def test_an_answer_that_is_not_taken_is_not_waited_for(exact_index, monkeypatch):
    monkeypatch.setattr(server, "_TAKE_SECONDS", 0.05)
    app, over = service(exact_index), threading.Event()

    async def large(scope, receive, send):
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50000000")]})
        await send({"type": "http.response.body", "body": bytes(50_000_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})  # which waits until that is taken, or never will be
        over.set()

    with running(large) as found, socket.create_connection(found.place, timeout=20) as lazy:
        lazy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert over.wait(20)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"no HTTP at all\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"4"),
        (HEAD % 99_999_999, b"413"),
        (
            b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4",
        ),
    ],
)
def test_what_is_no_request_is_refused(place, sent, status):
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(sent)
        assert connection.recv(100).split(b" ")[1].startswith(status)


def test_many_connections_at_a_time_are_all_answered(place, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # bench is no part of the wheel
    from bench.serve.client import ask_all, request

    load = asyncio.run(ask_all(place, [request(place, "/classify", IMAGE, PNG)], 300, 32))
    assert (len(load.waits), load.errors) == (300, {})
    assert load.wait(50) <= load.wait(99)
    refused = asyncio.run(ask_all(place, [request(place, "/classify", IMAGE, "text/csv")], 3, 2))
    assert refused.errors == {"415": 3}


def test_it_stops_though_a_body_never_ends_and_answers_what_is_at_work(exact_index):
    with running(service(exact_index)) as found:
        half = socket.create_connection(found.place)
        half.sendall(HEAD % 90 + b"12")
        assert classify(found.place)[0] == 200
        found.stop()
    told = half.recv(1000)  # one that has a whole request at work would be told so too
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b'"the service stops: ask again' in told
    half.close()


# The command


@pytest.fixture
def signalled(monkeypatch):
    """Where the command would say where it answers, it is asked there, and then told to stop."""
    said = []

    def ask(page):
        def then():
            address = urlsplit(page)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    said.append(classify((address.hostname, address.port))[0])
                    break
                except OSError:
                    time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=then).start()

    address_of = server.address_of

    def told(listening):
        ask(address_of(listening))
        return address_of(listening)

    monkeypatch.setattr(server, "address_of", told)
    return said


def test_the_command_answers_until_it_is_told_to_stop(exact_index, invoke, signalled):
    before = signal.getsignal(signal.SIGTERM)
    done = invoke("serve", exact_index, "--port", "0", "--threads", "1")
    assert (done.code, done.stdout, signalled) == (0, "", [200])
    first, last = done.stderr.splitlines()
    assert first.startswith("http://127.0.0.1:")
    assert first.endswith("/ answers: open it to draw; Ctrl-C stops it")
    assert last == "stopped"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def shown(monkeypatch):
    """What the browser was to show, on a machine with a desktop."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "get", lambda: None)
    found = []
    monkeypatch.setattr(webbrowser, "open", found.append)
    return found


def test_the_demo_goes_on_as_the_service_of_what_it_made(exact_index, invoke, signalled, shown, monkeypatch):
    monkeypatch.setattr(demo, "run_demo", lambda folder, _say: demo.DemoPaths(folder, (folder / "report.html",)))
    done = invoke("demo", exact_index.parent, "--serve", "--port", "0")
    assert (done.code, signalled) == (0, [200])
    assert done.stdout.splitlines()[1:3] == [
        f"All files are in {exact_index.parent}. Open in a browser:",
        f"  {exact_index.parent}/report.html",
    ]
    assert done.stderr.splitlines()[-1] == "stopped"
    (address,) = shown
    assert f"{address} answers: open it to draw; Ctrl-C stops it" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = invoke("demo", "new", "--serve", "--port", taken.getsockname()[1])
    assert (done.code, done.stdout, Path("new").exists()) == (1, "", False)
    assert "give another --port" in done.stderr
    done = invoke("demo", "new", "--no-open")
    assert (done.code, "--open is of --serve: give that too" in done.stderr) == (2, True)


def test_a_page_is_shown_where_there_is_a_desktop(shown, monkeypatch):
    assert open_in_browser("http://0.0.0.0:80/")
    assert open_in_browser("http://[::]:80/")
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("browser"):
            thread.join(20)
    assert sorted(shown) == ["http://127.0.0.1:80/", "http://[::1]:80/"]
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not open_in_browser("http://127.0.0.1:80/")  # where a browser of the terminal would take it


def test_it_stops_under_load_and_what_is_answered_is_whole(exact_index, digits_folder):
    """A real process, of which many ask when it is told to stop; how long that takes is measured elsewhere."""
    body = stream(pq.read_table(digits_folder / "test.parquet"))
    command = [sys.executable, "-m", "knnvote", "serve", str(exact_index), "--port", "0"]
    answered, cut = [], []

    def ask(place):
        with (
            suppress(OSError, http.client.BadStatusLine),  # of a connection that is closed before it is answered
            closing(http.client.HTTPConnection(*place, timeout=10)) as connection,
        ):
            while True:
                connection.request("POST", "/classify", body, {"Content-Type": ARROW})
                reply = connection.getresponse()
                try:
                    answered.append((reply.status, len(read_stream(reply.read()))))
                except (OSError, http.client.HTTPException, pa.ArrowException) as error:
                    cut.append(error)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        address = urlsplit(process.stderr.readline().split()[0])
        threads = [threading.Thread(target=ask, args=((address.hostname, address.port),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(answered) < 20 and not cut:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert (process.wait(10), process.stderr.read()) == (0, "stopped\n")
        for thread in threads:
            thread.join(10)
    assert (cut, {*answered}) == ([], {(200, 450)})


def test_what_it_cannot_listen_on_is_told(exact_index, invoke):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = invoke("serve", exact_index, "--port", port)
    told = f"error: cannot listen on port {port} of 127.0.0.1: Address already in use; give another --port, or 0 for a "
    assert (done.code, done.stderr) == (1, f"{told}free one\n")
    done = invoke("serve", exact_index, "--host", "no.such.host.invalid", "--port", "0")
    assert done.code == 2
    assert "--host is 'no.such.host.invalid', which is no address of this machine" in done.stderr


def test_the_options_of_the_vote_are_those_of_classify(exact_index, invoke):
    done = invoke("serve", exact_index, "--by-class")
    assert (done.code, "--by-class is of --target-accuracy" in done.stderr) == (2, True)
    assert invoke("serve", "nothing.knn").code == 1


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.example.org", False),
        ("127.example.org", False),
        ("0.0.0.0", False),  # noqa: S104  # it is told of, not listened on
        ("::", False),
    ],
)
def test_it_says_that_others_can_ask_where_they_can(exact_index, invoke, monkeypatch, host, is_loopback):
    monkeypatch.setattr(server, "run", lambda *_given: None)
    with socket.socket() as listening:
        monkeypatch.setattr(server, "listen", lambda *_given: listening)
        done = invoke("serve", exact_index, "--host", host, "--pages", exact_index.parent)
    assert done.code == 0
    assert (f"note: whoever reaches {host} can ask, and read the pages of" in done.stderr) == (not is_loopback)
    assert f"note: no page of knnvote is in {exact_index.parent} yet" in done.stderr
