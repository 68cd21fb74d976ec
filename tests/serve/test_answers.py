"""Answers over HTTP: those of the batch job to the bit, however images come and however they are gathered."""

import asyncio
import json

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("starlette", reason="serving needs the extra serve")

from asgi import with_client
from services import ARROW, JSON, PNG, png, read_stream, service, stream

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.vote import Rule
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays

RNG = np.random.default_rng(7)
MORE = "neighbors=true&probabilities=true&top=3"


def job(classifier, folder, images, **output):
    """What a job writes of a table of images, without its receipt."""
    write_table(images, folder / "in.parquet")
    out = folder / ("out" + "".join(output))
    run_job(classifier, folder / "in.parquet", out, JobOptions(output=OutputOptions(**output)))
    return pq.read_table(out / "in.parquet").replace_schema_metadata(None)


def write_stepped(folder, table, *steps):
    """An index of a table of digits, whose vectors steps made."""
    images = np.array(table["image"].combine_chunks().to_numpy_ndarray())
    index_arrays(images, table["label"].to_numpy(), folder / "s.knn", steps=steps)
    return folder / "s.knn"


def classify(app, body, kind, query=""):
    reply = with_client(app, lambda client: client.post(f"/classify?{query}", body, kind))
    assert reply.status == 200, reply.body
    return reply


@pytest.fixture(scope="module")
def table(digits_folder):
    return pq.read_table(digits_folder / "test.parquet").slice(0, 120)


@pytest.mark.parametrize("kind", ["exact_index", "adaptive_index"])
def test_a_stream_is_answered_as_the_job_answers_the_file(request, tmp_path, table, kind):
    folder = request.getfixturevalue(kind)
    for query, output in (("", {}), (MORE, {"neighbors": True, "probabilities": True, "top": 3})):
        reply = classify(service(folder), stream(table), ARROW, query)
        found = read_stream(reply.body).replace_schema_metadata(None)
        assert found.equals(job(Classifier.open(folder), tmp_path, table, **output))
        assert reply.headers["content-type"] == ARROW


def test_json_and_encoded_images_are_answered_as_the_job_answers_the_file(exact_index, tmp_path, table):
    images = np.array(table["image"].combine_chunks().to_numpy_ndarray())
    expected = job(Classifier.open(exact_index), tmp_path, table, neighbors=True, keep=("label",))
    rows = expected.drop_columns(["label"]).to_pylist()
    for given in (images, images.reshape(len(images), -1), images.astype(float)):
        body = json.dumps({"images": given.tolist()}).encode()
        assert classify(service(exact_index), body, JSON, "neighbors=true").json["answers"] == rows
    assert classify(service(exact_index), json.dumps(images[3].tolist()).encode(), JSON).json["answers"] == [
        {name: value for name, value in rows[3].items() if name != "neighbors"}
    ]

    async def all_at_once(client):
        replies = (client.post("/classify?neighbors=true", png(image), PNG) for image in images)
        return [reply.json["answers"][0] for reply in await asyncio.gather(*replies)]

    assert with_client(service(exact_index), all_at_once) == rows


def test_a_jpeg_is_answered_as_by_the_classifier(exact_index, table):
    image = np.array(table["image"].combine_chunks().to_numpy_ndarray())[7]
    body = bytes(imagecodecs.jpeg8_encode(image, level=100))
    expected = Classifier.open(exact_index)(body).to_table().to_pylist()
    assert classify(service(exact_index), body, "image/jpeg").json["answers"] == expected


def test_requests_that_come_while_another_is_searched_are_one_batch(exact_index, table):
    images = [row.as_py() for row in table["image"].combine_chunks().storage]

    async def ask(client):
        bodies = [json.dumps([image]).encode() for image in images[:50]]
        await asyncio.gather(
            *(client.post(f"/classify?{'' if i % 5 else MORE}", body, JSON) for i, body in enumerate(bodies))
        )
        return (await client.get("/metrics")).body.decode()

    told = with_client(service(exact_index), ask)
    assert "knnvote_batch_rows_sum 50.0" in told
    count = next(line for line in told.splitlines() if line.startswith("knnvote_batch_rows_count"))
    assert 2 <= float(count.split()[1]) <= 10
    assert 'knnvote_rows_total{status="ok"} 50.0' in told
    assert 'knnvote_requests_total{code="200",method="POST",route="/classify"} 50.0' in told
    assert "knnvote_held_bytes 0.0" in told
    assert "knnvote_waiting 0.0" in told


@pytest.mark.parametrize("labels", ["text", "numbers"])
@pytest.mark.parametrize("metric", ["l2", "cosine", "l1"])
def test_vectors_are_answered_as_the_job_answers_them(tmp_path, labels, metric):
    vectors = RNG.normal(size=(90, 12)).astype(np.float32)
    vectors[50:60] = vectors[:10]  # exact copies, and ties
    given = RNG.integers(0, 3, 80) if labels == "text" else RNG.normal(size=80)
    given = np.array(["naïve", "猫", "b"])[given] if labels == "text" else given
    options = IndexOptions(metric=metric)
    index_arrays(vectors[:80], given, tmp_path / "x.knn", options=options, is_regression=labels == "numbers")
    table = image_table(vectors[45:]).append_column("id", pa.array([f"é{i}" for i in range(45)]))
    expected = job(Classifier.open(tmp_path / "x.knn"), tmp_path, table, neighbors=True)
    app = service(tmp_path / "x.knn")
    assert (
        read_stream(classify(app, stream(table), ARROW, "neighbors=true").body)
        .replace_schema_metadata(None)
        .equals(expected)
    )
    body = json.dumps(vectors[45:].tolist()).encode()
    assert classify(app, body, JSON, "neighbors=true").json["answers"] == expected.drop_columns(["id"]).to_pylist()


def test_rows_that_are_no_image_have_the_job_s_reasons_and_others_an_answer(exact_index, tmp_path):
    images = [[0.0] * 64, None, [1.0] * 63, [0.5] * 64, [16.0] * 64]
    table = pa.table({"image": pa.array(images), "name": list("abcde")})
    expected = job(Classifier.open(exact_index, Rule(max_distance=1)), tmp_path, table)
    assert expected["status"].to_pylist() == ["abstained", "bad_image", "bad_image", "bad_image", "abstained"]
    app = service(lambda: Classifier.open(exact_index, Rule(max_distance=1)))
    assert read_stream(classify(app, stream(table), ARROW).body).replace_schema_metadata(None).equals(expected)
    answers = classify(app, json.dumps(images).encode(), JSON).json["answers"]
    assert answers == expected.drop_columns(["name"]).to_pylist()


def test_columns_of_a_stream_go_back_as_asked(exact_index, table):
    app = service(exact_index)
    table = table.append_column("prediction", table["label"]).append_column("name", table["label"])
    assert read_stream(classify(app, stream(table), ARROW, "keep=name&prefix=knn_").body).column_names[:2] == [
        "name",
        "knn_prediction",
    ]
    reply = with_client(app, lambda client: client.post("/classify", stream(table), ARROW))
    assert (reply.status, "pass prefix " in reply.json["error"]) == (422, True)


def test_a_stream_of_no_rows_is_answered_by_one_of_none(exact_index, table):
    found = read_stream(classify(service(exact_index), stream(table.slice(0, 0)), ARROW, "prefix=a_").body)
    assert (len(found), found.column_names[:3]) == (0, ["label", "a_prediction", "a_confidence"])


def test_one_that_fails_fails_alone(exact_index, table, monkeypatch):
    decode = Classifier.queries
    images = table["image"].combine_chunks().to_numpy_ndarray()

    def queries(self, rows):
        if (rows.pixels == 13).all(axis=1).any():
            raise ZeroDivisionError
        return decode(self, rows)

    monkeypatch.setattr(Classifier, "queries", queries)

    async def all_at_once(client):
        given = [*images[:5], np.full((8, 8), 13), *images[5:9]]
        return await asyncio.gather(*(client.post("/classify", png(image), PNG) for image in given))

    replies = with_client(service(exact_index), all_at_once)
    assert [reply.status for reply in replies] == [200] * 5 + [500] + [200] * 4
    assert "its log says more" in replies[5].json["error"]


def test_images_of_another_scale_are_told_as_a_job_tells_them(exact_index, table):
    images = np.array(table["image"].combine_chunks().to_numpy_ndarray())[:40]
    app, faint = service(exact_index), images // 16
    told = "40 of 40 images are of another scale than the stored ones"
    assert classify(app, json.dumps(faint.tolist()).encode(), JSON).json["note"].startswith(told)
    metadata = read_stream(classify(app, stream(image_table(faint)), ARROW).body).schema.metadata
    assert metadata[b"knnvote.note"].decode().startswith(told)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [40, 64], "data": faint.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    reply = with_client(app, lambda client: client.post("/v2/models/digits/infer", body, JSON))
    assert reply.json["parameters"]["note"].startswith(told)
    assert "note" not in classify(app, json.dumps(images.tolist()).encode(), JSON).json


def test_where_steps_make_vectors_of_images_answers_and_scale_are_the_job_s(tmp_path, table):
    folder = write_stepped(tmp_path, table, "centred")
    images = np.array(table["image"].combine_chunks().to_numpy_ndarray())[:40]
    classifier, app = Classifier.open(folder), service(folder)
    for given, is_unlike in ((images, False), (images // 16, True)):
        write_table(image_table(given), tmp_path / "in.parquet")
        out = tmp_path / f"out{is_unlike}"
        summary = run_job(classifier, tmp_path / "in.parquet", out, JobOptions())
        reply = classify(app, stream(image_table(given)), ARROW)
        found = read_stream(reply.body)
        assert found.replace_schema_metadata(None).equals(
            pq.read_table(out / "in.parquet").replace_schema_metadata(None)
        )
        note = (found.schema.metadata or {}).get(b"knnvote.note", b"").decode()
        assert (note or None) == summary.unlike_stored
        assert bool(note) == is_unlike


def test_each_of_some_requests_in_one_batch_has_its_own_scale(exact_index, table):
    images = np.array(table["image"].combine_chunks().to_numpy_ndarray())[:40]
    asked = [images[:1], images, images // 16, images, images // 16]

    async def all_at_once(client):
        replies = (client.post("/classify", json.dumps(given.tolist()).encode(), JSON) for given in asked)
        return ["note" in reply.json for reply in await asyncio.gather(*replies)]

    assert with_client(service(exact_index), all_at_once) == [False, False, True, False, True]
