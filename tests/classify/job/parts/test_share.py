"""Parts of a job, in whatever order, at once, twice or cut off, leave what one undisturbed run leaves."""

import fcntl
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import ENDED, read_record
from repeats import every_other, spread

from knnvote.classify.classifier import Classifier
from knnvote.classify.cluster.engine import RayEngine
from knnvote.classify.dry_run import dry_job
from knnvote.classify.inspection import inspect_made
from knnvote.classify.job import work as work_module
from knnvote.classify.job import worker as worker_module
from knnvote.classify.job.engine import LocalEngine
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.parts.part import JobPart
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.job.worker import Worker
from knnvote.classify.verification import verify_path
from knnvote.classify.vote import Rule
from knnvote.data import files
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError
from knnvote.data.files import hold_lock
from knnvote.data.locations import locate
from knnvote.indexer.build import index_arrays

RNG = np.random.default_rng(2)
ROWS = {"a": 30, "big": 700, "sub/b": 100, "sub/none": 0}
KINDS = {
    "bytes": lambda n: [row.tobytes() for row in RNG.integers(0, 256, (n, 16), dtype=np.uint8)],
    "floats": lambda n: RNG.normal(size=(n, 6)).astype(np.float32).tolist(),
}


@pytest.fixture(scope="module", autouse=True)
def small_ranges():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work_module, "RANGE_ROWS", 128)
        patched.setattr(worker_module, "ROW_GROUP", 48)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders, each with an index, inputs of a kind, and what an undisturbed run makes of them."""
    folders = {}

    def get(kind):
        if kind not in folders:
            folders[kind] = make(kind, tmp_path_factory.mktemp("made"))
        return folders[kind]

    return get


def make(kind, folder):
    rows_of, is_raw = KINDS[kind], kind == "bytes"
    train = np.frombuffer(b"".join(rows_of(90)), np.uint8).reshape(90, 4, 4) if is_raw else np.float32(rows_of(90))
    index_arrays(train, np.arange(90) % 3, folder / "x.knn")
    for name, n in ROWS.items():
        path = folder / f"in/{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        images = pa.array(rows_of(n), pa.binary() if is_raw else pa.list_(pa.float32()))
        pq.write_table(pa.table({"image": images, "n": range(n)}), path, row_group_size=170)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        run_job(Classifier.open("x.knn", Rule(k=3)), "in", "whole")
    return folder


@pytest.fixture
def classifier(request, made, tmp_path, monkeypatch):
    """A classifier in a working folder of its own, with inputs, and what an undisturbed run makes of them."""
    folder = made(getattr(request, "param", "bytes"))
    for name in ("in", "whole"):
        shutil.copytree(folder / name, tmp_path / name)
    Path(tmp_path, "x.knn").symlink_to(folder / "x.knn")  # which is known, and need not be tried
    monkeypatch.chdir(tmp_path)
    return Classifier.open("x.knn", Rule(k=3))


of_each_kind = pytest.mark.parametrize("classifier", KINDS, indirect=True)


def of_each_kind_with(name, values):
    """Each kind of inputs with some values of another parameter, and the rest long."""
    return spread(("classifier", KINDS), (name, values), indirect=["classifier"])


def everything(folder):
    """Each file and folder by its path: bytes of a file, what the records are without the folder of the inputs."""
    found = {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}
    records = [read_record(Path(folder), name) or b"" for name in ("job.json", "failures.json")]
    return found | {ENDED: [re.sub(rb'"/[^"]*/in/', b'"in/', record) for record in records]}


def at_once(*calls):
    """Call all at the same moment; what each gives, or its error."""
    found = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def call(place, function):
        start.wait()
        try:
            found[place] = function()
        except KnnvoteError as error:
            found[place] = error

    threads = [threading.Thread(target=call, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@of_each_kind_with("order", [(1, 2, 3, 4, 5), (4, 5, 1, 3, 2)])
def test_parts_one_after_the_other_leave_what_one_run_leaves(classifier, order):
    for place, number in enumerate(order):
        summary = run_job(classifier, "in", "out", part=(number, 5))
        waiting = [other for other in sorted(order[place + 1 :]) if other in {1, 2, 3, 4, 5}]
        assert [left.part.number for left in summary.part.left] == waiting
        assert all(left.state == "not run" for left in summary.part.left)
        problems = verify_path("out").problems
        assert len(problems) == len(waiting)
        for left, problem in zip(summary.part.left, problems, strict=True):
            assert problem.startswith(f"out is not whole: part {left.part} has not been run: {len(left.files)} file")
            assert problem.endswith(f"run it with --part {left.part}, or the whole job")
        assert [left["part"] for left in (inspect_made("out")["parts"] or {"left": []})["left"]] == [
            f"{other}/5" for other in waiting
        ]
    assert everything("out") == everything("whole")
    assert inspect_made("out")["parts"] is None


def test_every_row_counts_once_in_the_parts_together_and_again_when_they_run_again(classifier):
    for _ in range(2):
        summaries = [run_job(classifier, "in", "out", part=(number, 4)) for number in range(1, 5)]
        assert sum(summary.counts.rows for summary in summaries) == sum(ROWS.values())
    assert sum(summary.skipped for summary in summaries) == len(ROWS)
    assert not any(summary.written or summary.new_rows for summary in summaries)


@of_each_kind_with("parts", [2, 7])
def test_parts_at_once_and_each_twice_leave_what_one_run_leaves(classifier, parts):
    for _ in range(2):
        shutil.rmtree("out", ignore_errors=True)
        calls = [lambda n=n: run_job(classifier, "in", "out", part=(n, parts)) for n in range(1, parts + 1)]
        for found in at_once(*calls, *calls):
            assert not isinstance(found, Exception), found
            assert not found.failed
        assert everything("out") == everything("whole")


@of_each_kind
def test_a_run_of_the_whole_job_finishes_what_parts_left_and_leaves_nothing_behind(classifier):
    run_job(classifier, "in", "out", part=(2, 4))
    leave_unfinished("out")
    assert list(Path("out").rglob("*.arrow"))
    run_job(classifier, "in", "out")
    assert everything("out") == everything("whole")


def leave_unfinished(out):
    """As parts that were killed do: one of them had not written a word of its own."""
    for name in ("parts/1-of-4/.big.parquet.7.tmp", "parts/2-of-4/.a.parquet.8.tmp", ".job.json.9.tmp"):
        path = Path(out, "_knnvote", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")


def test_a_part_leaves_what_others_have_not_finished_until_all_is_done(classifier):
    leave_unfinished("out")
    for number in (2, 3, 4):
        run_job(classifier, "in", "out", part=(number, 4))
        left = {path.name for path in Path("out").rglob("*.tmp")}
        assert left == {".big.parquet.7.tmp", ".job.json.9.tmp"}
    run_job(classifier, "in", "out", part=(1, 4))
    assert everything("out") == everything("whole")


def test_a_part_that_was_cut_off_is_told_as_such_and_goes_on_where_it_was(classifier, monkeypatch):
    plain, done = Worker.classify_file, []

    def cut_off(worker, task, progress):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task)
        return plain(worker, task, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Worker, "classify_file", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run_job(classifier, "in", "out", part=(1, 2))
    (problem, other) = verify_path("out").problems
    assert "part 1/2 is at work or was cut off: 1 file, first big.parquet" in problem
    assert "part 2/2 has not been run" in other
    summary = run_job(classifier, "in", "out", part=(1, 2))
    assert summary.skipped == 1
    assert summary.new_rows < summary.counts.rows
    run_job(classifier, "in", "out", part=(2, 2))
    assert everything("out") == everything("whole")


def test_files_that_fail_are_told_of_all_parts_and_forgotten_when_they_are_mended(classifier):
    Path("in/bad.parquet").write_bytes(b"PAR1")
    Path("in/sub/bad.parquet").write_bytes(b"PAR1")
    failed = [run_job(classifier, "in", "out", part=(number, 3)).failed for number in (1, 2, 3)]
    assert sum(map(len, failed)) == 2
    assert inspect_made("out")["failures"] == failed[0] | failed[1] | failed[2]
    assert inspect_made("out")["parts"] is None
    assert not Path("out/_knnvote").exists()
    for name in ("in/bad.parquet", "in/sub/bad.parquet"):
        Path(name).unlink()
        shutil.copy("in/a.parquet", name)
    for number in (1, 2, 3):
        run_job(classifier, "in", "out", part=(number, 3))
    assert inspect_made("out")["failures"] == {}
    assert Path("out/bad.parquet").is_file()


def test_fail_fast_ends_a_part_at_its_first_failure_and_no_other(classifier):
    Path("in/bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImageFileError, match=r"bad\.parquet"):
        run_job(classifier, "in", "out", part=(1, 2), fail_fast=True)
    left = run_job(classifier, "in", "out", part=(2, 2), fail_fast=True).part.left
    assert [(of_part.part.number, of_part.state) for of_part in left] == [(1, "not ended")]


def test_of_two_jobs_that_start_at_once_one_has_the_folder(classifier):
    """Neither waits for the other, nor knows of a lock."""
    others = JobOptions(output=OutputOptions(neighbors=True))
    for _ in range(3):
        shutil.rmtree("out", ignore_errors=True)
        found = at_once(
            lambda: run_job(classifier, "in", "out", part=(1, 1)),
            lambda: run_job(classifier, "in", "out", others, part=(1, 1)),
        )
        (refused,) = [each for each in found if isinstance(each, Exception)]
        assert "was made by another job: neighbors was" in str(refused)
        assert verify_path("out").problems == []


def test_parts_replace_the_outputs_of_another_job_where_that_is_asked_for(classifier):
    run_job(Classifier.open("x.knn", Rule(k=1)), "in", "out")
    with pytest.raises(KnnvoteError, match="k was 1 and is 3"):
        run_job(classifier, "in", "out", part=(1, 2))
    first = run_job(classifier, "in", "out", part=(1, 2), overwrite=True)
    assert [left.state for left in first.part.left] == ["not run"]
    run_job(classifier, "in", "out", part=(2, 2), overwrite=True)
    assert everything("out") == everything("whole")


def test_a_part_stops_when_the_folder_becomes_another_jobs(classifier, monkeypatch):
    plain = Worker.classify_file

    def replaced(worker, task, progress):
        record = Path("out/_knnvote/job.json")
        record.write_text(record.read_text().replace('"k": 3', '"k": 9'))
        return plain(worker, task, progress)

    monkeypatch.setattr(Worker, "classify_file", replaced)
    with pytest.raises(KnnvoteError, match="k was 9 and is 3"):
        run_job(classifier, "in", "out", part=(1, 2))
    assert not list(Path("out").rglob("*.parquet"))


@of_each_kind
def test_limits_decide_anew_in_parts_without_a_search(classifier):
    strict = Classifier.open("x.knn", Rule(k=3, min_confidence=0.7))
    run_job(strict, "in", "expected")
    run_job(classifier, "in", "out")
    summaries = [run_job(strict, "in", "out", part=(number, 3)) for number in (1, 2, 3)]
    assert sum(summary.decided for summary in summaries) == len(ROWS)
    assert everything("out") == everything("expected")


FOLLOWING = {"limits": ({"min_confidence": 0.7}, None), "only": ({"min_confidence": 0.3}, "abstained")}


@of_each_kind_with("how", FOLLOWING)
def test_a_large_file_that_follows_from_an_output_is_the_turn_of_one_part_and_counts_once(classifier, how):
    rule, options = {"k": 3, **FOLLOWING[how][0]}, JobOptions(only=FOLLOWING[how][1])
    before = Rule(k=3, min_confidence=0.9)
    for out in ("out", "expected"):
        run_job(replace(classifier, rule=before), "in", out)
    again = replace(classifier, rule=Rule(**rule))
    expected = run_job(again, "in", "expected", options)

    def dry(number=None):
        part = number and JobPart(number=number, parts=3)
        return dry_job(again, "in", locate("out"), options, threads=1, batch_size=64, part=part)

    planned = [dry(number) for number in (1, 2, 3)]
    assert sum(plan.rows for plan in planned) == dry().rows
    assert sum(plan.files + plan.decided for plan in planned) == len(ROWS)
    summaries = [run_job(again, "in", "out", options, part=(number, 3)) for number in (3, 2, 1)]
    assert sum(summary.counts.rows for summary in summaries) == sum(ROWS.values())
    assert sum(summary.counts.ok for summary in summaries) == expected.counts.ok
    assert sum(summary.written for summary in summaries) == len(ROWS)
    assert everything("out") == everything("expected")


@of_each_kind
def test_a_large_file_that_does_not_follow_is_the_turn_of_several(classifier):
    run_job(Classifier.open("x.knn", Rule(k=1)), "in", "out")
    summaries = [run_job(classifier, "in", "out", part=(number, 3), overwrite=True) for number in (3, 2, 1)]
    assert all(summary.new_rows < 400 for summary in summaries)
    assert everything("out") == everything("whole")


@pytest.mark.parametrize("only", [None, "abstained"])
def test_a_dry_run_counts_files_once_whose_ranges_were_dealt_out(classifier, monkeypatch, only):
    """As they were by a job of before, or ere their output was there."""
    monkeypatch.setattr("knnvote.classify.job.parts.plan.may_follow", lambda *_: False)
    shutil.copy("in/big.parquet", "in/zz.parquet")
    options, strict = JobOptions(only=only), replace(classifier, rule=Rule(k=3, min_confidence=0.9))
    run_job(strict, "in", "out")

    def dry(number):
        part = JobPart(number=number, parts=2)
        return dry_job(classifier, "in", locate("out"), options, threads=1, batch_size=64, part=part)

    planned = [dry(number) for number in (1, 2)]
    assert sum(plan.files + plan.decided for plan in planned) == len(ROWS) + 1
    run_job(classifier, "in", "out", options, part=(1, 2))
    assert dry(1).done == run_job(classifier, "in", "out", options, part=(1, 2)).skipped == 2


def test_inputs_that_came_since_are_dealt_out_anew(classifier):
    for number in (1, 2):
        run_job(classifier, "in", "out", part=(number, 2))
    shutil.copy("in/a.parquet", "in/new.parquet")
    for number in (1, 2):
        run_job(classifier, "in", "out", part=(number, 2))
    assert verify_path("out").problems == []
    assert Path("out/new.parquet").is_file()
    assert not Path("out/_knnvote").exists()


def test_other_numbers_of_parts_go_on_where_others_were(classifier):
    run_job(classifier, "in", "out", part=(1, 2))
    summaries = [run_job(classifier, "in", "out", part=(number, 5)) for number in range(1, 6)]
    assert sum(summary.new_rows for summary in summaries) < sum(ROWS.values())
    assert everything("out") == everything("whole")


@pytest.mark.parametrize("damage", every_other(["", "[]", '{"parts": 0}', "{}", "\xff"]))
def test_what_parts_tell_each_other_may_be_damaged(classifier, damage):
    run_job(classifier, "in", "out", part=(1, 2))
    for name in ("plan.json", "1-of-2.json"):
        Path("out/_knnvote/parts", name).write_text(damage, encoding="latin-1")
    assert verify_path("out").problems
    for number in (2, 1):
        run_job(classifier, "in", "out", part=(number, 2))
    assert everything("out") == everything("whole")


def during(monkeypatch, act):
    """Do something once, while a part is at work."""
    plain, acts = Worker.classify_file, [act]

    def classify_file(worker, task, progress):
        outcome = plain(worker, task, progress)
        if acts:
            acts.pop()()
        return outcome

    monkeypatch.setattr(Worker, "classify_file", classify_file)


def lose_the_plan():
    Path("out/_knnvote/parts/plan.json").unlink()


def empty_the_plan():
    Path("out/_knnvote/parts/plan.json").write_bytes(b"")


def lose_what_parts_tell():
    shutil.rmtree("out/_knnvote/parts")


@spread(("is_again", [False, True]), ("damage", [lose_the_plan, empty_the_plan, lose_what_parts_tell]))
def test_a_job_whose_plan_is_lost_has_not_ended_for_that(classifier, monkeypatch, damage, is_again):
    """Its ranges stay, and what is left is told, also of a job that had ended and lost its outputs."""
    if is_again:
        run_job(classifier, "in", "out")
        for path in Path("out").rglob("*.parquet"):
            if path.name != ENDED:
                path.unlink()
    run_job(classifier, "in", "out", part=(1, 3))
    ranges = {path.name for path in Path("out").rglob("*.arrow")}
    assert ranges
    during(monkeypatch, damage)
    left = run_job(classifier, "in", "out", part=(2, 3)).part.left
    assert [str(of_part.part) for of_part in left] == ["3/3"]
    assert ranges < {path.name for path in Path("out").rglob("*.arrow")}
    run_job(classifier, "in", "out", part=(3, 3))
    assert everything("out") == everything("whole")


@pytest.mark.parametrize("damage", [lose_the_plan, empty_the_plan, lose_what_parts_tell])
def test_the_last_part_ends_a_job_whose_plan_is_lost(classifier, monkeypatch, damage):
    run_job(classifier, "in", "out", part=(1, 2))
    during(monkeypatch, damage)
    assert run_job(classifier, "in", "out", part=(2, 2)).part.left == []
    assert everything("out") == everything("whole")


@pytest.mark.parametrize("names", [[*ROWS, "bad"], ["bad", "worse"]])
def test_a_part_that_runs_twice_sees_that_the_other_run_has_ended_the_job(classifier, monkeypatch, names):
    """Files that failed are among it, and may be all of them."""
    for name in ("bad", "worse"):
        Path(f"in/{name}.parquet").write_bytes(b"PAR1")
    inputs = [f"in/{name}.parquet" for name in names]
    run_job(classifier, inputs, "out", part=(1, 2))
    during(monkeypatch, lambda: run_job(classifier, inputs, "out", part=(2, 2)))
    summary = run_job(classifier, inputs, "out", part=(2, 2))
    assert summary.part.left == []
    assert not Path("out/_knnvote/parts").exists()
    assert len(inspect_made("out")["failures"]) == len({"bad", "worse"}.intersection(names))


def test_outputs_that_are_to_be_replaced_are_told_as_left_while_others_are_missing(classifier):
    run_job(Classifier.open("x.knn", Rule(k=1)), "in", "out")
    Path("out/sub/b.parquet").unlink()
    told = run_job(classifier, "in", "out", part=(2, 4), overwrite=True).part.left
    assert told == run_job(classifier, "in", "fresh", part=(2, 4)).part.left
    assert {name for left in told for name in left.files} == {f"{name}.parquet" for name in ROWS}
    for number in (4, 1, 3):
        run_job(classifier, "in", "out", part=(number, 4), overwrite=True)
    assert everything("out") == everything("whole")


def test_a_run_of_all_and_a_part_keep_each_other_away_where_the_disk_has_locks(classifier):
    lock = Path("out/_knnvote/lock")
    with hold_lock(lock, "held"), pytest.raises(KnnvoteError, match="or a run of all its parts: wait for it"):
        run_job(classifier, "in", "out", part=(1, 2))
    with files.share_lock(lock, "held"), pytest.raises(KnnvoteError, match="another job is writing to out: wait for"):
        run_job(classifier, "in", "out")
    assert not lock.exists()


@pytest.mark.parametrize("fault", [38, 37])  # no such call, no locks to give
def test_parts_need_no_locks(classifier, monkeypatch, fault):
    def refuse(_stream, _how):
        raise OSError(fault, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    calls = [lambda n=n: run_job(classifier, "in", "out", part=(n, 3)) for n in (1, 2, 3)]
    assert [found for found in at_once(*calls, *calls) if isinstance(found, Exception)] == []
    assert everything("out") == everything("whole")


def test_a_disk_without_links_has_the_record_made_in_two_steps_and_a_part_waits_for_the_second(classifier, monkeypatch):
    def refuse(_path, _other):
        raise OSError(95, "not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run_job(classifier, "in", "out", part=(1, 2))
    record = Path("out/_knnvote/job.json")
    content = record.read_bytes()
    record.write_bytes(b"")
    finish = threading.Timer(0.1, record.write_bytes, [content])
    finish.start()
    run_job(classifier, "in", "out", part=(2, 2))
    finish.join()
    run_job(classifier, "in", "out")
    assert everything("out") == everything("whole")


def test_what_another_that_ended_the_job_has_removed_is_written_again(classifier, monkeypatch):
    plain, removed = Path.replace, []

    def move(path, target):
        if "big" in str(target) and len(removed) < 3:
            removed.append(target)
            shutil.rmtree("out/_knnvote/parts/1-of-2", ignore_errors=True)
        return plain(path, target)

    monkeypatch.setattr(Path, "replace", move)
    for number in (1, 2):
        run_job(classifier, "in", "out", part=(number, 2))
    assert removed
    assert everything("out") == everything("whole")


def test_a_dry_run_tells_of_the_rows_of_a_part_alone_and_writes_nothing(classifier):
    def dry(number):
        part = JobPart(number=number, parts=3)
        return dry_job(classifier, "in", locate("out"), JobOptions(), threads=1, batch_size=64, part=part)

    assert sum(dry(number).rows for number in (1, 2, 3)) == sum(ROWS.values())
    assert not Path("out").exists()
    run_job(classifier, "in", "out", part=(2, 3))
    assert [dry(number).files > 0 for number in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize("part", [(0, 3), (4, 3), (1, 0), (1.0, 3), (1, 3, 5), "1/3", (True, 2)])
def test_a_part_that_there_is_not_is_refused(part):
    with pytest.raises(OptionError, match=r"^part is "):
        JobPart.of(part)


def test_a_part_may_be_of_numbers_of_numpy(classifier):
    for number in np.arange(1, 3):
        run_job(classifier, "in", "out", part=(number, np.int64(2)))
    assert everything("out") == everything("whole")


def test_a_part_is_refused_before_anything_is_written_by_an_engine_that_spreads_files_itself(classifier):
    class Spreading(LocalEngine):
        does_parts = False

    with pytest.raises(OptionError, match=r"^part is '1/2': the engine spreads the files by itself: leave out part$"):
        run_job(classifier, "in", "out", part=(1, 2), engine=Spreading(classifier))
    assert not Path("out").exists()
    assert not RayEngine.does_parts


OF_16 = "parts count from 1, of 16 from 1/16 to 16/16"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("0/3", f"0 is less than 1; {OF_16}"),
        ("4/3", f"4 is more than 3; {OF_16}"),
        ("1/9999999", "a job has 100,000 parts at most"),
        ("1/100001", "a job has 100,000 parts at most"),
        *((part, f"give I/N; {OF_16}") for part in ("3", "/", "-1/3", "1/3/5", "a/b", "", "1 / 3")),
    ],
)
def test_the_command_refuses_a_part_that_there_is_not_and_says_why(invoke, part, told):
    done = invoke("classify", "x.knn", "in", "--out", "out", "--part", part)
    assert done.code == 2
    assert f"--part is {part!r}: {told}" in done.stderr


def test_an_input_that_changes_between_parts_is_done_by_those_that_are_named(classifier):
    run_job(classifier, "in", "out", part=(1, 2))
    kept = pq.read_table("in/big.parquet")
    pq.write_table(kept.take([*range(1, kept.num_rows), 0]), "in/big.parquet", row_group_size=170)
    left = run_job(classifier, "in", "out", part=(2, 2)).part.left
    assert [(part.part.number, part.files) for part in left] == [(1, ["big.parquet"]), (2, ["big.parquet"])]
    for part in left:
        last = run_job(classifier, "in", "out", part=(part.part.number, 2))
        if not last.part.left:
            break
    assert not last.part.left
    run_job(classifier, "in", "anew")
    assert everything("out") == everything("anew")
