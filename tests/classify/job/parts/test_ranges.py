"""A large file done in ranges, by whomever and in whatever order, becomes the output that one process writes."""

import threading
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import BUCKET, serve
from repeats import repeats, spread

from knnvote.classify.classifier import Classifier
from knnvote.classify.job import work as work_module
from knnvote.classify.job import worker as worker_module
from knnvote.classify.job.folder import plan_outputs
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.parts import ranges as ranges_module
from knnvote.classify.job.parts.ranges import Ranges
from knnvote.classify.job.receipt import Counts
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions, Piece, Work
from knnvote.classify.job.worker import Worker
from knnvote.classify.vote import Rule
from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(1)
ROWS, RANGE, GROUP = 1000, 256, 48  # ranges that end elsewhere than the row groups of outputs or of inputs
TRAIN, LABELS = RNG.integers(0, 256, (90, 4, 4), dtype=np.uint8), np.arange(90) % 3
BYTES = RNG.integers(0, 256, (ROWS, 16), dtype=np.uint8)
FLOATS = RNG.normal(size=(ROWS, 5)).astype(np.float32)
FLOATS[FLOATS[:, 0] > 2] = np.nan
FLOATS[300:600] = FLOATS[:300]


def kept():
    """Columns of many sorts, that go on: the dictionary's values come in another order in each row group."""
    words = np.array([f"word {n}" for n in RNG.permutation(400)])[RNG.integers(0, 400, ROWS)]
    return {
        "word": pa.array(words).dictionary_encode(),
        "list": pa.array([[*"abc"[: n % 4]] if n % 7 else None for n in range(ROWS)]),
        "struct": pa.array([{"a": n, "b": None if n % 3 else f"{n}"} for n in range(ROWS)]),
        "when": pa.array(np.arange(ROWS), pa.timestamp("s", "UTC")),
        "half": pa.array(RNG.normal(size=ROWS).astype(np.float16)),
        "null": pa.nulls(ROWS),
    }


ENDINGS = {"array": "npy", "arrow": "arrow"}
INPUTS = {
    "bytes": lambda: pa.table({"image": [row.tobytes() for row in BYTES], **kept()}),
    "floats": lambda: pa.table({"image": FLOATS.tolist(), "n": range(ROWS)}),
    "alone": lambda: pa.table({"image": [row.tobytes() for row in BYTES]}),
    "array": lambda: FLOATS,
    "arrow": lambda: pa.table({"image": FLOATS.tolist(), **kept()}),
}


def write(content, path):
    """As Parquet, or as the ending of the path tells."""
    if path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, content.schema) as writer:
            writer.write_table(content, max_chunksize=170)
    else:
        pq.write_table(content, path, row_group_size=170)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """An index of bytes and one of floats."""
    folder = tmp_path_factory.mktemp("indexes")
    index_arrays(TRAIN, LABELS, folder / "bytes.knn")
    index_arrays(np.nan_to_num(FLOATS[300:400]), np.arange(100) % 4, folder / "floats.knn")
    return folder


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch, tmp_path, indexes):
    monkeypatch.setattr(work_module, "RANGE_ROWS", RANGE)
    monkeypatch.setattr(worker_module, "ROW_GROUP", GROUP)
    monkeypatch.setattr("knnvote.classify.job.folder.Claim.check", lambda _claim: None)  # which is not the matter here
    monkeypatch.chdir(tmp_path)
    for index in indexes.iterdir():
        Path(index.name).symlink_to(index)


def prepared(kind, options=None, rule=None, out="out"):
    """A classifier, its work and the tasks of a file, cut."""
    source = Path(f"in/{kind}.{ENDINGS.get(kind, 'parquet')}")
    source.parent.mkdir(exist_ok=True)
    if not source.exists():
        write(INPUTS[kind](), source)
    name = "floats.knn" if kind in {"floats", *ENDINGS} else "bytes.knn"
    classifier = Classifier.open(name, rule or Rule(k=3, min_confidence=0.5))
    options = options or JobOptions()
    work = Work.of(classifier, options, locate(Path(out).absolute()), threads=None, batch_size=100)
    (task,) = plan_outputs(find_inputs([source]), work.out)
    return classifier, work, task.cut(task.source.count_rows())


def whole(kind, options=None, rule=None, out="whole"):
    """The bytes of the output that one process writes."""
    classifier, *_ = prepared(kind, options, rule)
    assert not run_job(classifier, f"in/{kind}.{ENDINGS.get(kind, 'parquet')}", out, options).failed
    return Path(out, f"{kind}.parquet").read_bytes()


def left(out="out"):
    return sorted(str(path.relative_to(out)) for path in Path(out).rglob("*.*") if path.is_file())


OPTIONS = {
    "bytes": JobOptions(output=OutputOptions(neighbors=True, probabilities=True, source=True, prefix="knn_")),
    "floats": JobOptions(),
    "alone": JobOptions(output=OutputOptions(probabilities=True)),
    "array": JobOptions(output=OutputOptions(neighbors=True, source=True)),
    "arrow": JobOptions(),
}


@pytest.mark.parametrize(
    ("kind", "seed"), repeats([*((kind, 0) for kind in INPUTS), ("bytes", 1)], lambda case: case[1] == 0)
)
def test_the_output_is_that_of_one_process_byte_by_byte_in_whatever_order(kind, seed):
    expected = whole(kind, OPTIONS[kind])
    classifier, work, tasks = prepared(kind, OPTIONS[kind])
    assert [task.piece for task in tasks] == [Piece(number, 4) for number in range(4)]
    order = np.random.default_rng(seed).permutation(4)
    outcomes, told = [], []
    for number in order:
        assert not Path("out", f"{kind}.parquet").exists()
        with Worker.open(work, classifier) as worker:
            outcomes.append(worker.classify_file(tasks[number], told.append))
    assert Path("out", f"{kind}.parquet").read_bytes() == expected
    assert left() == [f"{kind}.parquet"]
    assert [outcome.is_range for outcome in outcomes] == [True, True, True, False]
    assert sum((outcome.counts for outcome in outcomes), Counts()).rows == sum(told) == ROWS
    assert not any(outcome.was_done for outcome in outcomes)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_a_range_that_is_done_is_not_done_again_and_one_of_another_input_or_rule_is(kind):
    classifier, work, tasks = prepared(kind)
    with Worker.open(work, classifier) as worker:
        first = worker.classify_file(tasks[1])
        (file,) = Path("out").rglob("*.arrow")
        before = file.stat().st_ino
        again = worker.classify_file(tasks[1])
    assert (again.was_done, again.is_range, again.counts) == (True, True, first.counts)
    assert file.stat().st_ino == before
    other, work_of_other, _ = prepared(kind, rule=Rule(k=1))
    with Worker.open(work_of_other, other) as worker:
        assert not worker.classify_file(tasks[1]).was_done
    table = pq.read_table(tasks[0].source.path)
    pq.write_table(table.slice(1).append_column("more", pa.array(range(ROWS - 1))), tasks[0].source.path)
    classifier, work, tasks = prepared(kind)
    with Worker.open(work, classifier) as worker:
        assert not worker.classify_file(tasks[1]).was_done


def test_a_file_that_has_more_or_fewer_rows_than_when_it_was_cut_loses_none():
    for rows in (ROWS * 2, ROWS // 3, 1, 0):
        _, _, tasks = prepared("alone")
        table = INPUTS["alone"]()
        pq.write_table(pa.concat_tables([table, table]).slice(0, rows), "in/alone.parquet", row_group_size=170)
        classifier, work, (now, *_) = prepared("alone")
        with Worker.open(work, classifier) as worker:
            for piece in (task.piece for task in tasks):
                worker.classify_file(now.__class__(now.source, now.target, piece))
        assert Path("out/alone.parquet").read_bytes() == whole("alone", out=f"whole {rows}"), rows
        Path("in/alone.parquet").unlink()


def test_ranges_of_a_file_that_is_done_are_not_done_and_count_once():
    classifier, work, tasks = prepared("bytes")
    whole("bytes", rule=Rule(k=3, min_confidence=0.5), out="out")
    told = []
    with Worker.open(work, classifier) as worker:
        outcomes = [worker.classify_file(task, told.append) for task in tasks]
    assert all(outcome.was_done for outcome in outcomes)
    assert [outcome.counts.rows for outcome in outcomes] == [ROWS, 0, 0, 0]
    assert [outcome.is_range for outcome in outcomes] == [False, True, True, True]
    assert sum(told) == ROWS


def test_a_file_that_follows_from_an_earlier_output_is_made_whole_by_the_first_range():
    expected = whole("bytes", rule=Rule(k=3, min_confidence=0.9))
    whole("bytes", out="out")
    classifier, work, tasks = prepared("bytes", rule=Rule(k=3, min_confidence=0.9))
    with Worker.open(work, classifier) as worker:
        outcomes = [worker.classify_file(task) for task in tasks[2:]]
    assert [(outcome.was_decided, outcome.was_done) for outcome in outcomes] == [(True, False), (False, True)]
    assert Path("out/bytes.parquet").read_bytes() == expected


def test_a_bad_image_of_a_range_is_told_by_its_row_in_the_file():
    classifier, work, tasks = prepared("floats")
    bad = int(np.flatnonzero(np.isnan(FLOATS[:, 0]) & (np.arange(ROWS) >= 240))[0])
    assert bad < 480
    with Worker.open(work, classifier) as worker:
        assert worker.classify_file(tasks[1]).bad_example.startswith(f"in/floats.parquet, row {bad}: ")


def test_row_groups_before_a_range_are_not_read(monkeypatch):
    _, _, tasks = prepared("bytes")
    with tasks[0].source.open_rows() as rows:
        read = []
        plain = ParquetRows._read
        monkeypatch.setattr(ParquetRows, "_read", lambda *given: read.append(given[3]) or plain(*given))
        batches = [*rows.batches(["image"], 100, range(400, 600))]
    assert read == [[2, 3]]
    assert pa.Table.from_batches(batches)["image"].to_pylist() == [row.tobytes() for row in BYTES[400:600]]


def test_a_damaged_range_fails_its_file_alone_and_is_done_again():
    expected = whole("bytes")
    classifier, work, tasks = prepared("bytes")
    with Worker.open(work, classifier) as worker:
        for task in tasks[:3]:
            worker.classify_file(task)
        file = Path(Ranges(work.out, tasks[1]).file(tasks[1].piece).path)
        content = file.read_bytes()
        file.write_bytes(content[:200] + bytes(len(content) // 2 - 200) + content[len(content) // 2 :])
        failed = worker.classify_file(tasks[3])
        assert f"{file} was damaged" in failed.failure
        assert failed.failure.endswith("and is removed: run the same command again")
        again = [worker.classify_file(task) for task in tasks]
    assert [outcome.was_done for outcome in again] == [True, False, True, True]
    assert Path("out/bytes.parquet").read_bytes() == expected


def all_but_the_last(kind):
    """A file whose first three ranges are done: what does the last, the tasks, and the place of a range's answers."""
    classifier, work, tasks = prepared(kind, OPTIONS[kind])
    with Worker.open(work, classifier) as worker:
        for task in tasks[:3]:
            worker.classify_file(task)
    return classifier, work, tasks, Path(Ranges(work.out, tasks[0]).file(tasks[0].piece).path)


@pytest.mark.parametrize(
    "kind", repeats([kind for kind in INPUTS if kind not in ENDINGS], lambda kind: kind == "bytes")
)
def test_no_flipped_bit_of_a_range_comes_into_an_output(kind):
    """Wherever it is: compression and Arrow check nothing, and a bit of a distance is as good as another."""
    expected = whole(kind, OPTIONS[kind])
    classifier, work, tasks, file = all_but_the_last(kind)
    content = file.read_bytes()
    places = [5, *np.random.default_rng(3).integers(0, len(content), 3).tolist(), -200, -40]
    with Worker.open(work, classifier) as worker:
        worker.classify_file(tasks[3])
        for place in places:
            Path(f"out/{kind}.parquet").unlink()
            for task in tasks[1:]:
                worker.classify_file(task)
            damaged = bytearray(content)
            damaged[place] ^= 1
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(damaged)
            outcomes = [worker.classify_file(task) for task in (tasks[3], *tasks)]
            assert Path(f"out/{kind}.parquet").read_bytes() == expected, place
            failures = [outcome.failure for outcome in outcomes if outcome.failure]
            assert all("was damaged" in failure and "and is removed" in failure for failure in failures)
            assert len(failures) <= 1
    assert left() == [f"{kind}.parquet"]


def test_a_damaged_head_of_the_first_range_is_told_and_the_range_is_done_again():
    expected = whole("alone", OPTIONS["alone"])
    classifier, work, tasks, file = all_but_the_last("alone")
    file.write_bytes(b"\xff" * 64 + file.read_bytes()[64:])
    with Worker.open(work, classifier) as worker:
        assert f"{file} was damaged" in worker.classify_file(tasks[3]).failure
        assert not file.exists()
        worker.classify_file(tasks[0])
    assert Path("out/alone.parquet").read_bytes() == expected


@spread(("fault", [OSError(5, "connection lost"), MemoryError("none left")]), ("when", ["_check", "open_stream"]))
def test_a_range_that_cannot_be_read_at_the_moment_stays(monkeypatch, fault, when):
    expected = whole("alone", OPTIONS["alone"])
    classifier, work, tasks, file = all_but_the_last("alone")
    content = file.read_bytes()

    def fail(_stream):
        raise fault

    with Worker.open(work, classifier) as worker:
        with monkeypatch.context() as patched:
            patched.setattr(ranges_module if when == "_check" else pa.ipc, when, fail)
            if isinstance(fault, OSError):
                failure = worker.classify_file(tasks[3]).failure
                assert failure == f"cannot read {file}: connection lost; run the same command again"
            else:
                with pytest.raises(KnnvoteError, match="memory ran out"):
                    worker.classify_file(tasks[3])
        assert file.read_bytes() == content
        worker.classify_file(tasks[3])
    assert Path("out/alone.parquet").read_bytes() == expected


def test_a_range_that_its_store_refuses_at_the_moment_stays_there(monkeypatch):
    _, work, tasks, file = all_but_the_last("alone")
    with serve() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        ranges = Ranges(locate(f"s3://{BUCKET}/out"), tasks[0])
        key = ranges.file(tasks[0].piece).path.removeprefix(f"{BUCKET}/")
        store.put(key, file.read_bytes())
        store.fault = lambda request: "forbid" if request.startswith("GET") and key in request else None
        for read in (ranges.schema, lambda: next(ranges.groups())):
            with pytest.raises(
                ImageFileError, match=r"^cannot read s3://.*1-of-4\.arrow: .*; run the same command again"
            ):
                read()
        store.fault = lambda _request: None
        assert next(ranges.groups()).equals(next(Ranges(work.out, tasks[0]).groups()))
        store.put(key, file.read_bytes()[:-100])
        with pytest.raises(ImageFileError, match=r"^s3://.* was damaged .* and is removed: run the same command again"):
            next(Ranges(ranges.out, tasks[0]).groups())
        assert store.objects(key) == {}


def test_a_range_of_before_whose_receipt_has_no_seal_is_done_again():
    classifier, work, tasks, file = all_but_the_last("alone")
    content = file.read_bytes()
    ranges = Ranges(work.out, tasks[0])
    assert ranges.done(tasks[0].piece, work.made_from, tasks[0].source.describe()) is not None
    seal = content[-8 - len('"}') - 64 : -8 - len('"}')]
    assert set(seal) <= set(b"0123456789abcdef")
    file.write_bytes(content.replace(seal, b"0" * 64))
    with Worker.open(work, classifier) as worker:
        assert not worker.classify_file(tasks[0]).was_done


@pytest.mark.parametrize("tail", [b"", b"x", b"\xff" * 8, b"[]" + (2).to_bytes(8, "little")])
def test_a_range_without_a_receipt_is_done_again(tail):
    classifier, work, tasks = prepared("alone")
    file = Path(Ranges(work.out, tasks[0]).file(tasks[0].piece).path)
    file.parent.mkdir(parents=True)
    file.write_bytes(tail)
    with Worker.open(work, classifier) as worker:
        assert not worker.classify_file(tasks[0]).was_done


def test_all_ranges_at_once_by_several_leave_the_same_bytes():
    expected = whole("bytes")
    classifier, work, tasks = prepared("bytes")
    failures = []

    def do(numbers):
        try:
            with Worker.open(work, classifier) as worker:
                failures.extend(worker.classify_file(tasks[number]).failure for number in numbers)
        except Exception as error:  # noqa: BLE001  # told below
            failures.append(error)

    for _ in range(2):
        Path("out/bytes.parquet").unlink(missing_ok=True)
        orders = ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2])
        threads = [threading.Thread(target=partial(do, order)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not any(failures)
        assert Path("out/bytes.parquet").read_bytes() == expected
        assert left() == ["bytes.parquet"]


@pytest.mark.parametrize(("rows", "group"), [(1000, 48), (1000, 1), (257, 256), (512, 300), (5, 7), (0, 16)])
def test_ranges_hold_every_row_once_and_end_where_row_groups_do(rows, group):
    for pieces in range(1, 6):
        spans = [Piece(number, pieces).span(rows, group) for number in range(pieces)]
        assert [row for span in spans for row in span] == [*range(rows)]
        assert all(span.stop % group == 0 for span in spans[:-1])


def test_whose_state_is_known_is_not_hashed_for_every_range(monkeypatch):
    classifier, work, tasks = prepared("alone")
    hashed = []
    describe = type(tasks[0].source).describe
    monkeypatch.setattr(type(tasks[0].source), "describe", lambda source: hashed.append(1) or describe(source))
    with Worker.open(work, classifier) as worker:
        for task in tasks:
            worker.classify_file(task)
    assert len(hashed) == 1
