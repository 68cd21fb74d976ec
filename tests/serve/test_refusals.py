"""What is not answered, and what is said instead: who asks, how much, and what."""

import asyncio
import json
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="serving needs the extra serve")

from asgi import with_client
from services import ARROW, JSON, PNG, png, service, stream

from knnvote.data.errors import KnnvoteError
from knnvote.data.tables import image_table
from knnvote.serve import bodies, tables

IMAGE = np.full((8, 8), 7)
INFER = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def app(exact_index):
    return service(exact_index)


def post(app, path, body, kind, **more):
    return with_client(app, lambda client: client.post(path, body, kind, **more))


def bomb(side):
    """A PNG that claims many pixels, in few bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(64))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def table(**columns):
    return stream(pa.table(columns))


TABLE = image_table(IMAGE[None].astype(np.uint8))
VIEWS = pa.table({"image": pa.array([bytes(64)], pa.binary_view())})
COLOURED = np.dstack([IMAGE, IMAGE + 1, IMAGE])


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "told"),
    [
        ("/classify", b"GIF89a", PNG, 422, "cannot decode GIF"),
        ("/classify", png(IMAGE)[:40], PNG, 422, "cannot decode PNG"),
        ("/classify", png(np.zeros((9, 9))), PNG, 422, "image is 9 x 9, expected 8 x 8"),
        ("/classify", png(COLOURED), PNG, 422, "colour image (RGB, 8 x 8)"),
        ("/classify", json.dumps([[-1] * 64]).encode(), JSON, 422, "value -1 is not a whole"),
        ("/classify", bomb(50_000), PNG, 422, "claim 2,500,000,000 pixels: at most 67,108,864"),
        ("/classify", table(image=[bomb(8000)] * 2), ARROW, 422, "claim 128,000,000 pixels"),
        ("/classify", b"", PNG, 422, "0 bytes"),
        ("/classify", b"[[1, 2", JSON, 422, "is no JSON"),
        ("/classify", b"[" * 100_000, JSON, 422, "is no JSON"),
        ("/classify", b"\xff", JSON, 422, "is no JSON"),
        ("/classify", b'{"image": []}', JSON, 422, "give it images and nothing else"),
        ("/classify", b'"text"', JSON, 422, "give a list of lists"),
        ("/classify", b'[["a"]]', JSON, 422, "image"),
        ("/classify", b"[[1], [[2]]]", JSON, 422, "one depth"),
        ("/classify", b"[[1" + b"0" * 400 + b"]]", JSON, 422, "one depth"),
        ("/classify", b"[[1, 2, 3]]", JSON, 422, "images are 3 values, the index stores 8 x 8"),
        ("/classify", json.dumps([[float("nan")] * 64]).encode(), JSON, 422, "NaN"),
        ("/classify", b"[]", JSON, 422, "image"),
        ("/classify", b"no stream", ARROW, 422, "is no Arrow stream"),
        ("/classify", stream(TABLE)[:-200], ARROW, 422, "is no Arrow stream"),
        ("/classify", stream(TABLE, compression="zstd"), ARROW, 422, "its buffers are compressed"),
        ("/classify", stream(VIEWS), ARROW, 422, "is binary_view, which is not taken here"),
        ("/classify", table(image=pa.array([bytes(64)]).dictionary_encode()), ARROW, 422, "is not taken here"),
        ("/classify", table(a=[1]), ARROW, 422, "name one with image_column"),
        ("/classify", b"ARROW1\0\0", ARROW, 422, "write a stream"),
        ("/classify?top=0", png(IMAGE), PNG, 422, "top is 0"),
        ("/classify?k=3", png(IMAGE), PNG, 422, "there is no parameter 'k'"),
        ("/classify?neighbors=1", png(IMAGE), PNG, 422, "give true or false"),
        ("/classify?shape=8xx8", png(IMAGE), PNG, 422, "such as 28x28"),
        ("/classify?top=1&top=2", png(IMAGE), PNG, 422, "given twice"),
        ("/classify?background=red", png(IMAGE), PNG, 422, "background is 'red'"),
        ("/classify", b"a,b", "text/csv", 415, "Content-Type is 'text/csv': send one image as image/png"),
        ("/classify", b"a,b", "", 415, "Content-Type is not told"),
        ("/nothing", b"", PNG, 404, "Not Found"),
        ("/metrics", b"", PNG, 405, "Method Not Allowed"),
        ("/v2/models/other/infer", b"{}", JSON, 404, "the one here is digits"),
        ("/drawing", png(np.zeros((20, 20))), PNG, 422, "nothing is drawn"),
        ("/drawing", b"text", PNG, 422, "not PNG, JPEG"),
        ("/drawing", bomb(50_000), PNG, 422, "pixels"),
        (INFER, b"[]", JSON, 422, "give inputs with one tensor"),
        (INFER, b'{"inputs": [{"name": "x"}]}', JSON, 422, "there is no input 'x'"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_reason(app, path, body, kind, status, told):
    reply = post(app, path, body, kind)
    assert reply.status == status, reply.body
    assert list(reply.json) == ["error"]
    assert told in reply.json["error"]


def test_a_path_in_a_request_is_never_opened(app, tmp_path):
    (tmp_path / "image.png").write_bytes(png(IMAGE))
    column = pa.array([{"bytes": None, "path": str(tmp_path / "image.png")}])
    reply = post(
        app, "/classify", table(image=column.cast(pa.struct({"bytes": pa.binary(), "path": pa.string()}))), ARROW
    )
    assert (reply.status, reply.json["error"]) == (422, "null image")


LABELLED = stream(image_table(np.arange(128, dtype=np.uint8).reshape(2, 8, 8) // 8, np.array(["a", "ü"])))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(LABELLED) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.data())
def test_a_damaged_stream_is_answered_or_refused_and_nothing_else(app, changes, data):
    body = bytearray(LABELLED)
    for place, value in changes:
        body[place] = value
    length = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    assert post(app, "/classify", bytes(body[:length]), ARROW).status in {200, 422}


def test_colour_is_converted_where_it_is_asked_for(app):
    assert post(app, "/classify?grayscale=true", png(COLOURED), PNG).status == 200


def test_too_many_images_are_refused(app, monkeypatch):
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    many = image_table(np.zeros((4, 8, 8), np.uint8))
    for body, kind in ((stream(many), ARROW), (json.dumps(np.zeros((4, 64)).tolist()).encode(), JSON)):
        reply = post(app, "/classify", body, kind)
        assert (reply.status, "at most: send more in several" in reply.json["error"]) == (422, True)


def test_too_many_images_in_json_are_refused_before_they_are_made_a_table(monkeypatch):
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    with pytest.raises(KnnvoteError, match="a request may hold 3 images at most"):
        tables.json_table(b"[[1], [[2]], 3, {}]", (8, 8))  # of which no table could be made


def test_answers_that_no_memory_holds_are_not_begun(app, monkeypatch):
    monkeypatch.setattr(tables, "_MOST_VALUES", 9)
    two = stream(image_table(np.zeros((2, 8, 8), np.uint8)))
    for asked, values in (("neighbors=true", 40), ("probabilities=true", 20), ("top=3", 12), ("top=99", 20)):
        reply = post(app, f"/classify?{asked}", two, ARROW)
        told = f"would hold {values} values of neighbours and classes: 9 may be asked for at a time"
        assert (reply.status, told in reply.json["error"]) == (422, True)
    assert post(app, "/classify?top=2", two, ARROW).status == 200
    assert post(app, "/classify", two, ARROW).status == 200


# How much


def test_a_body_is_refused_by_its_head_or_as_soon_as_it_is_too_long(exact_index):
    app = service(exact_index, body=1000)

    def never():
        for _ in range(3):  # of which two are too much, and the third is at hand
            yield b"a" * 600
        raise AssertionError  # nobody reads on

    for path in ("/classify", "/drawing", INFER):
        for body, headers in ((never(), []), (b"", [("content-length", "1001")])):
            kind = JSON if path == INFER else PNG
            reply = post(app, path, body, kind, headers=headers)
            assert reply.status == 413
            assert reply.headers["connection"] == "close"
            assert "longer than 1.0 kB" in reply.json["error"]


def test_a_body_that_does_not_come_in_time_is_given_up(app, monkeypatch):
    monkeypatch.setattr(bodies, "_PIECE_SECONDS", 0.01)
    reply = post(app, "/classify", [png(IMAGE)[:20], asyncio.Event()], PNG)
    assert (reply.status, reply.headers["connection"]) == (408, "close")


def test_who_goes_away_in_the_midst_of_a_body_harms_nobody(app):
    async def ask(client):
        gone = await client.post("/classify", [png(IMAGE)[:20], None], PNG)
        told = (await client.get("/metrics")).body.decode()
        return gone.status, "knnvote_held_bytes 0.0" in told, (await client.post("/classify", png(IMAGE), PNG)).status

    assert with_client(app, ask) == (400, True, 200)


def test_bodies_that_are_held_together_have_a_limit_too(exact_index):
    app = service(exact_index, held=150)

    async def ask(client):
        rest = asyncio.Event()
        slow = asyncio.create_task(client.post("/classify", [b"[" + b" " * 100, rest, b"[0]]"], JSON))
        await asyncio.sleep(0)
        refused = await client.post("/classify", b" " * 100, JSON)
        rest.set()
        return refused, await slow, await client.post("/classify", png(IMAGE), PNG)

    refused, slow, after = with_client(app, ask)
    assert (refused.status, refused.headers["retry-after"], slow.status, after.status) == (503, "1", 422, 200)


def test_more_than_may_wait_are_told_to_ask_again(exact_index):
    app = service(exact_index, waiting=4)

    async def all_at_once(client):
        return await asyncio.gather(*(client.post("/classify", png(IMAGE), PNG) for _ in range(20)))

    replies = with_client(app, all_at_once)
    refused = [reply for reply in replies if reply.status == 503]
    assert {reply.status for reply in replies} == {200, 503}
    assert all(reply.headers["retry-after"] == "1" and "ask again" in reply.json["error"] for reply in refused)
    assert len(refused) < 20


# Who


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("10.1.2.3:80", 200),
        ("knn.example:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        (None, 421),
    ],
)
def test_names_by_which_it_may_be_asked(exact_index, host, status):
    app = service(exact_index, names=("knn.example",))
    reply = with_client(app, lambda client: client.get("/v2/health/live", host=host))
    assert reply.status == status
    if status == 421:
        assert "--allow-host" in reply.json["error"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://127.0.0.1:8000", 200),
        ("http://127.0.0.1:9000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_that_may_ask(app, origin, status):
    assert post(app, "/classify", png(IMAGE), PNG, origin=origin).status == status


def test_every_answer_forbids_what_browsers_do_unless_told(app):
    for path in ("/", "/metrics", "/nothing"):
        reply = with_client(app, lambda client, path=path: client.get(path))
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in reply.headers


# What is kept of them


def test_methods_that_clients_make_up_are_counted_as_one(app):
    async def ask(client):
        for method in ("BREW", "PROPFIND", "HEAD"):
            await client.ask(method, "/v2")
        return (await client.get("/metrics")).body.decode()

    told = with_client(app, ask)
    assert 'knnvote_requests_total{code="405",method="other",route="/v2"} 2.0' in told
    assert 'method="HEAD"' in told
    assert "BREW" not in told


def test_a_path_forges_no_line_of_the_log(app, caplog):
    with caplog.at_level("INFO", "knnvote"):
        with_client(app, lambda client: client.get("/x\nGET /y: 200, 1.0 ms" + "a" * 500))
    (line,) = [record.getMessage() for record in caplog.records if "ms" in record.getMessage()]
    assert line.startswith(r"'GET /x\nGET /y: 200, 1.0 msaaa")
    assert (len(line) < 250, "\n" in line) == (True, False)
