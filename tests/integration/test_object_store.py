"""Inputs, outputs and indexes on an object store: the real command against a server of the S3 protocol on loopback."""

import io
import json
import queue
import shutil
import signal
import threading
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from apart import Apart
from object_store import BUCKET, KEY, SECRET, serve
from records import ENDED

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.receipt import read_receipt
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import locate
from knnvote.data.recognition import StoredImages
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

FILES = 4
ROWS = 100


@pytest.fixture(scope="module")
def store():
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def work(tmp_path_factory, store, run_apart):
    """An index, a folder of files, both on this machine and in the store, and what a local job makes of them."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 5, 900)
    images = np.clip(labels[:, None, None] * 40 + rng.integers(-80, 80, (900, 8, 8)), 0, 255).astype(np.uint8)
    index_arrays(images[:300], labels[:300], folder / "x.knn")
    for i in range(FILES):
        rows = slice(300 + ROWS * i, 400 + ROWS * i)
        write_table(image_table(images[rows], labels[rows]), folder / "in" / f"{i % 2}" / f"{i} ü.parquet")
    done = run_apart(["classify", "x.knn", "in", "--out", "local"], cwd=folder)
    assert done.code == 0, done.stderr
    for name in ("in", "x.knn"):
        for file in (folder / name).rglob("*"):
            if file.is_file():
                store.put(str(file.relative_to(folder)), file.read_bytes())
    return folder


@pytest.fixture
def command(store, work, tmp_path, run_apart):
    """Run the real command with access to the store; nothing that it writes may give the access away."""
    store.fault, store.requests[:] = (lambda _request: None), []
    environment = {**store.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*arguments):
        done = run_apart(arguments, cwd=work, env=environment)
        assert "Traceback" not in done.stderr
        return done

    yield run
    store.fault = lambda _request: None
    made = [key for key in store.keys_below() if not key.startswith(("in/", "x.knn/"))]
    written = [store.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in made]
    written += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(secret.encode() in content for content in written for secret in (KEY, SECRET))
    if made:
        store.client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in made]})


def uri(name):
    return f"s3://{BUCKET}/{name}"


def outputs_below(out):
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("[!.]*.parquet")}


def local_outputs(work):
    return outputs_below(work / "local")


def stored_outputs(store, prefix):
    names = {key.removeprefix(f"{prefix}/"): content for key, content in store.objects(f"{prefix}/").items()}
    return {name: content for name, content in names.items() if name and not name.startswith(("_knnvote/", ENDED))}


def files(done):
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)["files"]


def test_local_inputs_give_the_same_bytes_in_the_store_as_on_a_disk(store, work, command):
    done = command("classify", "x.knn", "in", "--out", uri("a"), "--json")
    assert files(done) == {"written": FILES, "skipped": 0, "failed": 0}
    assert f"{uri('a')}: {FILES * ROWS} rows" in done.stderr
    assert stored_outputs(store, "a") == local_outputs(work)
    assert {*store.objects("a/")} - {"a/"} == {f"a/{name}" for name in (ENDED, *local_outputs(work))}


def test_inputs_in_the_store_give_the_same_outputs_but_for_the_mark_of_the_input(store, work, command, tmp_path):
    assert files(command("classify", "x.knn", uri("in"), "--out", uri("b"), "--json"))["written"] == FILES
    assert files(command("classify", "x.knn", uri("in/"), "--out", tmp_path / "b", "--json"))["written"] == FILES
    there = stored_outputs(store, "b")
    assert there == outputs_below(tmp_path / "b")
    assert there.keys() == local_outputs(work).keys()
    for name in there:
        expected, found = (read_receipt(locate(folder / name)) for folder in (work / "local", tmp_path / "b"))
        tag = store.client.head_object(Bucket=BUCKET, Key=f"in/{name}")["ETag"]
        assert found.input == {"path": name, "size": (work / "in" / name).stat().st_size, "etag": tag}
        assert asdict(found) | {"input": 0, "seal": 0} == asdict(expected) | {"input": 0, "seal": 0}
        assert pq.read_table(tmp_path / "b" / name).equals(
            pq.read_table(work / "local" / name), check_metadata=True
        ) or (pq.read_table(tmp_path / "b" / name).equals(pq.read_table(work / "local" / name)))


@pytest.mark.long
def test_files_of_the_store_may_be_done_in_another_process(store, work, command, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    classifier = Classifier.open(work / "x.knn")
    summary = run_job(classifier, find_inputs([uri("in")]), locate(uri("apart")), JobOptions(), engine=Apart())
    assert (summary.written, summary.counts.rows) == (FILES, FILES * ROWS)
    assert files(command("classify", "x.knn", uri("in"), "--out", uri("here"), "--json"))["written"] == FILES
    assert stored_outputs(store, "apart") == stored_outputs(store, "here")


def test_a_rerun_skips_what_is_done_and_redoes_an_input_that_changed(store, work, command):
    first = command("classify", "x.knn", uri("in"), "--out", uri("c"), "--json")
    assert files(first)["written"] == FILES
    store.requests.clear()
    assert files(command("classify", "x.knn", uri("in"), "--out", uri("c"), "--json"))["skipped"] == FILES
    assert not [request for request in store.requests if request.startswith(("PUT", "POST"))]
    assert not [request for request in store.requests if request.startswith("GET") and "/in/" in request]
    name = "in/0/0 ü.parquet"
    store.put(name, (work / "in/1/1 ü.parquet").read_bytes())
    try:
        again = files(command("classify", "x.knn", uri("in"), "--out", uri("c"), "--json"))
        verified = command("verify", uri("c"))
    finally:
        store.put(name, (work / name).read_bytes())
    assert again == {"written": 1, "skipped": FILES - 1, "failed": 0}
    assert verified.code == 0, verified.stderr


@pytest.mark.long
def test_other_limits_replace_outputs_in_the_store_without_a_search(store, command, tmp_path):
    assert files(command("classify", "x.knn", uri("in"), "--out", uri("h"), "--json"))["written"] == FILES
    limits = ("--min-confidence", "0.8", "--json")
    done = command("classify", "x.knn", uri("in"), "--out", uri("h"), *limits)
    assert (files(done)["written"], json.loads(done.stdout)["decided"]) == (FILES, FILES)
    assert json.loads(command("classify", "x.knn", uri("in"), "--out", tmp_path / "h", *limits).stdout)["decided"] == 0
    assert stored_outputs(store, "h") == outputs_below(tmp_path / "h")
    assert {*store.objects("h/")} - {"h/"} == {f"h/{name}" for name in (ENDED, *outputs_below(tmp_path / "h"))}
    assert command("verify", uri("h")).code == 0


@pytest.mark.long
def test_of_two_jobs_whose_parts_start_at_once_in_the_store_one_has_the_folder(store, work, monkeypatch):
    pytest.importorskip("obstore")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    start, found = threading.Barrier(2), {}

    def do(k):
        start.wait()
        try:
            found[k] = run_job(Classifier.open("x.knn", Rule(k=k)), uri("in"), uri("race"), part=(1, 1)).written
        except KnnvoteError as error:
            found[k] = str(error)

    threads = [threading.Thread(target=do, args=(k,)) for k in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (refused,) = [told for told in found.values() if told != FILES]
    assert "was made by another job: k was " in refused
    (k,) = [k for k, told in found.items() if told == FILES]
    assert run_job(Classifier.open("x.knn", Rule(k=k)), uri("in"), uri("race")).skipped == FILES


@pytest.mark.long
def test_a_job_killed_at_a_request_that_writes_leaves_whole_objects_and_is_completed_by_a_rerun(
    store, work, command, forks
):
    """At some of them, of which each other one is done by the store all the same."""
    assert command("classify", "x.knn", "in/0", "--out", uri("quiet")).code == 0
    writes = [request for request in store.requests if request.startswith(("PUT", "POST"))]
    expected = stored_outputs(store, "quiet")
    assert len(writes) > len(expected) == FILES // 2
    for fatal in range(0, len(writes), 3):
        prefix, seen, started = f"killed-{fatal}", [], queue.SimpleQueue()

        def kill(request, seen=seen, fatal=fatal, started=started):
            if request.startswith(("PUT", "POST")):
                seen.append(request)
                if len(seen) == fatal + 1:
                    started.get().signal(signal.SIGKILL)
                    return "refuse" if fatal % 2 else None  # the store may have done what it was asked for, or not
            return None

        store.fault = kill
        job = forks.start(["classify", "x.knn", "in/0", "--out", uri(prefix)], cwd=work, env=store.environment)
        started.put(job)
        assert job.finish()[0].code == -signal.SIGKILL
        store.fault = lambda _request: None
        left = stored_outputs(store, prefix)
        assert left.items() <= expected.items()
        done = files(command("classify", "x.knn", "in/0", "--out", uri(prefix), "--json"))
        assert done == {"written": len(expected) - len(left), "skipped": len(left), "failed": 0}
        assert stored_outputs(store, prefix) == expected


@pytest.mark.long
def test_refused_and_slow_requests_are_tried_again(store, work, command):
    chance = np.random.default_rng(3)
    store.fault = lambda _request: ["refuse", "slow", *[None] * 14][chance.integers(16)]
    assert files(command("classify", uri("x.knn"), uri("in"), "--out", uri("d"), "--json"))["written"] == FILES
    store.fault = lambda _request: None
    assert {name: read(content) for name, content in stored_outputs(store, "d").items()} == {
        name: read(content) for name, content in local_outputs(work).items()
    }


def read(content):
    return pq.read_table(io.BytesIO(content)).to_pylist()


def test_an_input_that_the_store_will_not_give_and_an_output_that_it_will_not_take_are_told(store, work, command):
    for file in (work / "in").rglob("*.parquet"):
        store.put(f"given/{file.relative_to(work / 'in')}", file.read_bytes())

    def forbid(request):
        is_output = request.startswith("PUT") and "/f/1/" in request
        return "forbid" if "/given/1/3" in request or is_output else None

    store.fault = forbid
    not_given = ("classify", "x.knn", uri("given"), "--out", uri("e"), "--json")
    not_taken = ("classify", "x.knn", uri("in"), "--out", uri("f"), "--json")
    told_of_input, told_of_output = command(*not_given), command(*not_taken)
    store.fault = lambda _request: None

    assert told_of_input.code == 3
    assert json.loads(told_of_input.stdout)["files"] == {"written": FILES - 1, "skipped": 0, "failed": 1}
    (told,) = [line for line in told_of_input.stderr.splitlines() if line.startswith("failed:")]
    assert told.startswith(f"failed: cannot read {uri('given/1/3 ü.parquet')}")
    assert "ACCESS_DENIED" in told
    assert files(command(*not_given)) == {"written": 1, "skipped": FILES - 1, "failed": 0}

    assert told_of_output.code == 1
    assert told_of_output.stderr.startswith(f"error: cannot write {uri('f/1/1 ü.parquet')}: ")
    assert told_of_output.stderr.rstrip().endswith("mend that and run the same command again")
    assert all(name.startswith("0/") for name in stored_outputs(store, "f"))
    assert files(command(*not_taken))["written"] == FILES // 2


def test_a_disk_that_is_full_before_an_output_can_be_put_is_told(store, work, forks, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))"
    environment = {**store.environment, "TMPDIR": str(tmp_path)}
    command = ["classify", "x.knn", "in", "--out", uri("full"), "--neighbors"]
    done = forks.run(command, cwd=work, env=environment, before=limit)
    assert done.code == 1
    assert f"cannot write {uri('full/0/0 ü.parquet')}: File too large in {tmp_path}; mend" in done.stderr
    assert stored_outputs(store, "full") == {}


def test_another_job_that_takes_the_folder_meanwhile_ends_this_one(store, command):
    """Without a lock, the record in the folder says whose it is, and is read again before each output is put."""

    def take(request):
        if request.startswith("GET") and "/in/" in request:
            options = asdict(Rule()) | asdict(ImageOptions()) | asdict(OutputOptions())
            stored = asdict(StoredImages(shape=(8, 8), column=None, grayscale=False))
            other = {"index": "0" * 64, "options": options, "stored_images": stored, "inputs": {}}
            store.put("g/_knnvote/job.json", json.dumps(other).encode())

    store.fault = take
    done = command("classify", "x.knn", uri("in"), "--out", uri("g"))
    assert done.code == 1
    assert f"{uri('g')} was made by another job: the index was 000000000000" in done.stderr
    assert stored_outputs(store, "g") == {}
    assert json.loads(store.objects("g/_knnvote/")["g/_knnvote/job.json"])["index"] == "0" * 64


def test_the_record_is_read_once_while_it_stays_as_it_is(store, command):
    """By its tag: it names every input, and to read it before each output would cost the square of their number."""
    assert files(command("classify", "x.knn", "in", "--out", uri("r"), "--json"))["written"] == FILES
    reads = [request for request in store.requests if request.startswith("GET /bucket/r/_knnvote/job.json")]
    assert len(reads) < FILES


def test_the_outputs_of_a_job_in_the_store_are_inspected_reported_and_verified(store, command, tmp_path):
    assert command("classify", "x.knn", uri("in"), "--out", uri("h")).code == 0
    assert command("verify", uri("h")).code == 0
    facts = json.loads(command("inspect", uri("h"), "--json").stdout)
    assert (facts["type"], facts["files"], facts["rows"]) == ("job", FILES, FILES * ROWS)
    assert command("report", uri("h"), "--index", uri("x.knn"), "--out", tmp_path / "h.html").code == 0
    assert (tmp_path / "h.html").read_text().count(" UTC</time>") == 3  # of job and index, and the later of these
    content = bytearray(store.objects("h/0/")["h/0/2 ü.parquet"])
    content[100] ^= 1
    store.put("h/0/2 ü.parquet", bytes(content))
    store.put("h/0/foreign.parquet", b"")
    done = command("verify", uri("h"))
    assert done.code == 1
    changed, foreign = done.stderr.splitlines()
    assert changed.startswith(f"{uri('h/0/2 ü.parquet')} was changed")
    assert foreign.startswith(f"{uri('h/0/foreign.parquet')} is foreign")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x.knn", uri("nothing"), "--out", "o"], f"{uri('nothing')} does not exist"),
        (["x.knn", uri("in"), "--out", "s3://no-such-bucket/o"], "cannot write s3://no-such-bucket/o/"),
        (["x.knn", uri("in"), "--out", uri("in/o")], "lies inside the input"),
        (["x.knn", f"s3://{KEY}:{SECRET.replace('/', '%2F')}@{BUCKET}/nothing", "--out", "o"], uri("nothing")),
        (["x.knn", f"s3://{KEY}:{SECRET.replace('/', '%2F')}@{BUCKET}/in?no=1", "--out", "o"], uri("in")),
        (["x.knn", "s5://x/y", "--out", "o"], "cannot open s5://x/y"),
        (["x.knn", "s3:/bucket/in", "--out", "o"], "s3:/bucket/in"),
        (["x.knn", "s3://bucket//in", "--out", "o"], "cannot read s3://bucket//in"),
        ([uri("nothing.knn"), uri("in"), "--out", "o"], f"{uri('nothing.knn')} does not exist"),
    ],
)
def test_what_is_wrong_with_a_uri_is_told_in_one_line_without_credentials(command, arguments, told):
    done = command("classify", *arguments)
    assert done.code == 1
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert KEY not in done.stderr
    assert SECRET not in done.stderr


def test_an_index_in_the_store_is_copied_once_and_checked_by_its_hashes(store, work, command, tmp_path):
    assert files(command("classify", uri("x.knn"), "in", "--out", tmp_path / "o", "--json"))["written"] == FILES
    assert outputs_below(tmp_path / "o") == local_outputs(work)
    store.requests.clear()
    for command_line in (
        ["classify", uri("x.knn"), "in", "--out", tmp_path / "p"],
        ["compare", "in/0", "--index", uri("x.knn")],
        ["choose-k", uri("x.knn"), "--max-k", "2"],
        ["inspect", uri("x.knn")],
    ):
        assert command(*command_line).code == 0, command_line
    read_again = {request for request in store.requests if request.startswith("GET") and "/x.knn/" in request}
    assert all("manifest.json" in request or "timing-1.json" in request for request in read_again)


def test_of_an_index_that_was_copied_while_it_grew_what_its_manifest_names_is_taken(store, work, command, tmp_path):
    for file in (work / "x.knn").iterdir():
        more = b"appended" if file.suffix == ".raw" else b""
        store.put(f"growing.knn/{file.name}", file.read_bytes() + more)
    assert command("verify", uri("growing.knn")).code == 0
    assert files(command("classify", uri("growing.knn"), "in", "--out", tmp_path / "o", "--json"))["written"] == FILES
    assert outputs_below(tmp_path / "o") == local_outputs(work)


def test_an_index_in_the_store_is_verified_there(store, work, command):
    assert command("verify", uri("x.knn")).code == 0
    for file in (work / "x.knn").iterdir():
        store.put(f"z.knn/{file.name}", file.read_bytes()[: -1 if file.suffix == ".parquet" else None])
    done = command("verify", uri("z.knn"))
    assert done.code == 1
    assert done.stderr.startswith(f"{uri('z.knn')}/labels-1.parquet was changed")


def test_an_index_that_was_changed_in_the_store_or_in_the_cache_is_not_used(store, work, command, tmp_path):
    names = [file.name for file in (work / "x.knn").glob("*.raw")]
    content = bytearray((work / "x.knn" / names[0]).read_bytes())
    content[-1] ^= 1
    for file in (work / "x.knn").iterdir():
        store.put(f"y.knn/{file.name}", bytes(content) if file.name == names[0] else file.read_bytes())
    done = command("classify", uri("y.knn"), "in", "--out", tmp_path / "o")
    assert done.code == 1
    assert f"{uri('y.knn')}/{names[0]} was changed: its SHA-256 differs from the manifest's" in done.stderr
    store.put(f"y.knn/{names[0]}", (work / "x.knn" / names[0]).read_bytes())
    assert command("classify", uri("y.knn"), "in", "--out", tmp_path / "o").code == 0
    (cached,) = (tmp_path / "cache").rglob("*.raw")
    cached.write_bytes(bytes(content))
    shutil.rmtree(tmp_path / "o")
    done = command("classify", uri("y.knn"), "in", "--out", tmp_path / "o")
    assert done.code == 0, done.stderr
    assert cached.read_bytes() == (work / "x.knn" / names[0]).read_bytes()
