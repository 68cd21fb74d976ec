"""A new generation of the index is taken up while requests come, and none of them is lost."""

import asyncio
import shutil

import numpy as np
import pytest

pytest.importorskip("starlette", reason="serving needs the extra serve")

from asgi import with_client
from services import PNG, png, service

from knnvote.classify.classifier import Classifier
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.grow import add_files, remove_ids
from knnvote.serve import served

IMAGES = np.random.default_rng(3).integers(0, 256, (40, 5, 5), np.uint8)


def write(folder, label):
    index_arrays(IMAGES, np.full(40, label), folder / "x.knn", options=IndexOptions(overwrite=True))


def test_answers_come_from_the_new_generation_and_no_request_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(served, "_LOCAL_SECONDS", 0.01)
    write(tmp_path, 0)
    app, last = service(tmp_path / "x.knn"), 4

    async def ask(client):
        seen, replies = [], []

        async def one():
            reply = await client.post("/classify", png(IMAGES[0]), PNG)
            replies.append(reply.status)
            seen.append(reply.json["answers"][0]["prediction"])

        for label in range(1, last + 1):
            writing = asyncio.create_task(asyncio.to_thread(write, tmp_path, label))
            while not writing.done() or seen[-1] != label:
                await asyncio.gather(*(one() for _ in range(5)))
        return seen, replies

    seen, replies = with_client(app, ask)
    assert set(replies) == {200}
    assert seen == sorted(seen)
    assert set(seen) >= {0, last}


def test_images_that_are_added_and_removed_count_at_once(tmp_path):
    write(tmp_path, 0)
    current = served.Current(lambda: Classifier.open(tmp_path / "x.knn"))
    write_table(image_table(IMAGES[:2] // 2, np.array([0, 0])), tmp_path / "more.parquet")
    add_files(tmp_path / "x.knn", tmp_path / "more.parquet")
    before = current.served
    current.renew()
    assert (current.served.index.n, before.index.n, current.renewals) == (42, 40, 1)
    remove_ids(tmp_path / "x.knn", ["more.parquet#0"])
    current.renew()
    assert (current.served.index.n, current.renewals) == (41, 2)
    held = current.served
    current.renew()
    assert current.served is held
    assert before.classifier(IMAGES[:3]).prediction.to_pylist() == [0, 0, 0]


def test_what_cannot_be_opened_is_told_once_and_the_one_before_answers(tmp_path, caplog):
    write(tmp_path, 0)
    current = served.Current(lambda: Classifier.open(tmp_path / "x.knn"))
    (tmp_path / "x.knn" / "manifest.json").write_text("{}")
    before = current.served
    for _ in range(3):
        current.renew()
    assert (current.failures, current.renewals, current.served is before) == (1, 0, True)
    assert len([record for record in caplog.records if "cannot be served" in record.message]) == 1
    shutil.rmtree(tmp_path / "x.knn")
    current.renew()
    assert before.classifier(IMAGES[:3]).prediction.to_pylist() == [0, 0, 0]
    write(tmp_path, 3)
    current.renew()
    assert current.served.classifier(IMAGES[:1]).prediction.to_pylist() == [3]


def test_any_failure_to_take_up_an_index_is_counted(tmp_path, monkeypatch, caplog):
    write(tmp_path, 0)
    current = served.Current(lambda: Classifier.open(tmp_path / "x.knn"))
    write(tmp_path, 1)
    monkeypatch.setattr(served.Drawings, "of", lambda _index: 1 / 0)
    current.renew()
    assert (current.failures, current.renewals) == (1, 0)
    assert "ZeroDivisionError('division by zero')" in caplog.text
