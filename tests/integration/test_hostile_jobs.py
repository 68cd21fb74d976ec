"""Job folders that were damaged or are a stranger's: every command that reads one answers or says what is wrong."""

import json
import shutil
import socket
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import ENDED, read_record, write_record
from repeats import every_other

from knnvote.classify.job.receipt import KEY, Receipt, read_receipt, seal
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (130, 4, 4), dtype=np.uint8)
READERS = (
    ("inspect", "out"),
    ("inspect", "out", "--json"),
    ("verify", "out"),
    ("report", "out", "--out", "report.html"),
    ("show", "in", "--predictions", "out", "--out", "show.png"),
    ("show", "in", "--predictions", "out", "--out", "show.png", "--sort", "margin", "--class", "1"),
    ("explain", "out", "0.parquet#3", "--index", "x.knn", "--report", "explain.html"),
    ("review", "out", "--index", "x.knn", "--report", "review.html"),
    ("classify", "x.knn", "in", "--out", "out"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_apart):
    """A folder with an index, inputs and the job `out`. Tests copy it."""
    folder = tmp_path_factory.mktemp("job")
    index_arrays(IMAGES[:60], np.arange(60) % 3, folder / "x.knn")
    for i in range(2):
        write_table(image_table(IMAGES[60 + 35 * i : 95 + 35 * i]), folder / "in" / f"{i}.parquet")
    done = run_apart(["classify", "x.knn", "in", "--out", "out"], cwd=folder)
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def job(finished, tmp_path, invoke):
    """A copy of the job, in the folder at work."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    assert invoke("verify", "out").code == 0
    return tmp_path / "out"


def rewrite(path, *, columns=None, counts=None):
    """An output with other columns or another receipt, and with a right seal: a stranger can make one."""
    table = pq.read_table(path)
    made = pa.table({name: table[name] for name in table.column_names} | (columns or {}))
    record = json.loads(pq.read_metadata(path).metadata[KEY])
    record["counts"] |= counts or {}
    record |= {"seal": record.pop("seal") and "0" * 64}  # the last entry
    receipt = json.dumps(record).encode()
    with path.open("w+b") as stream:
        with pq.ParquetWriter(stream, made.schema) as writer:
            writer.write_table(made)
            writer.add_key_value_metadata({KEY: receipt})
        seal(stream, receipt)


def answers_as(**columns):
    return lambda path: rewrite(path, columns=columns)


def counts_of(number):
    return lambda path: rewrite(path, counts={"ok": number})


def failures_of(content):
    return lambda path: write_record(path.parent, json.dumps(content).encode(), "failures.json")


LATIN = pa.StringArray.from_buffers(35, pa.py_buffer(np.arange(36, dtype=np.int32)), pa.py_buffer(b"\xe9" * 35))
DAMAGES = {
    "counts without end": counts_of(float("inf")),
    "counts of 4,000 digits": counts_of(10**4000),
    "counts below none": counts_of(-5),
    "counts of text": counts_of("5"),
    "failures of a number": failures_of({"a.parquet": 5}),
    "failures as a list": failures_of(["a"]),
    "labels of another type": answers_as(prediction=pa.array(["a"] * 35)),
    "labels as lists": answers_as(prediction=pa.array([[1]] * 35)),
    "labels as structs": answers_as(prediction=pa.array([{"a": 1}] * 35)),
    "labels that are no UTF-8": answers_as(prediction=LATIN),
    "confidences as text": answers_as(confidence=pa.array(["a"] * 35)),
    "distances as text": answers_as(distance=pa.array(["a"] * 35)),
    "distances without end": answers_as(distance=pa.array([float("inf")] * 35)),
    "distances as near as numbers are": answers_as(distance=pa.array((1 + np.spacing(1) * np.arange(35)).tolist())),
    "best guesses as lists": answers_as(best=pa.array([[1]] * 35)),
    "margins as text": answers_as(margin=pa.array(["a"] * 35)),
    "statuses that are no UTF-8": answers_as(status=LATIN),
    "reasons as numbers": answers_as(reason=pa.array(range(35))),
}


@pytest.mark.parametrize("damage", every_other(DAMAGES))
def test_every_command_that_reads_a_damaged_job_answers_or_says_what_is_wrong(job, invoke, damage):
    DAMAGES[damage](job / "0.parquet")
    for arguments in READERS:
        done = invoke(*arguments)
        assert done.code in {0, 1}, (arguments, done)
        assert "Traceback" not in done.stderr
        assert len(done.stdout) < 20_000
        if done.code:
            assert all(len(line) < 2000 for line in done.stderr.splitlines())
            assert "out" in done.stderr


@pytest.mark.parametrize("number", [float("inf"), 10**4000, -5, "5", True, None])
def test_a_receipt_whose_counts_cannot_be_is_none(job, number):
    path = job / "0.parquet"
    assert isinstance(read_receipt(locate(path)), Receipt)
    counts_of(number)(path)
    assert read_receipt(locate(path)) is None


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/key?endpoint_override=127.0.0.1:{port}&scheme=http", "s3://user:secret@bucket/key", "s3://b/k?a=b"],
)
def test_no_server_that_a_strangers_job_names_is_asked(job, invoke, monkeypatch, address):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "precious")
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        record = json.loads(read_record(job))
        record["inputs"]["0.parquet"] = address.format(port=server.getsockname()[1])
        write_record(job, json.dumps(record).encode())

        def listen():
            while not ended.is_set():
                try:
                    asked.append(server.accept()[0].close())
                except TimeoutError:
                    continue

        ended = threading.Event()
        listener = threading.Thread(target=listen)
        listener.start()
        for arguments in READERS:
            done = invoke(*arguments)
            assert done.code == 1
            assert ".knnvote.parquet is damaged: remove it and run the job again" in done.stderr
        ended.set()
        listener.join()
    assert asked == []
    (job / ENDED).unlink()
    assert invoke("classify", "x.knn", "in", "--out", "out").code == 0
