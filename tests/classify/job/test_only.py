"""A job that answers anew only the rows that abstained: the others stand as they are, and it is said whose they are."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_letters import png
from repeats import spread

import knnvote.data.reading
from knnvote.classify.classifier import Classifier
from knnvote.classify.job import worker as worker_module
from knnvote.classify.job.engine import LocalEngine
from knnvote.classify.job.folder import plan_outputs
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.receipt import KEY, Kept, read_receipt, seal
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import BATCH_SIZE, JobOptions, Work
from knnvote.classify.job.worker import Worker
from knnvote.classify.verification import verify_path
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

RNG = np.random.default_rng(17)
LABELS = RNG.integers(0, 4, 700)
IMAGES = np.clip(LABELS[:, None, None] * 40 + RNG.integers(-90, 90, (700, 4, 4)), 0, 255).astype(np.uint8)
FILES = {"a.parquet": slice(300, 520), "below/b.parquet": slice(520, 700), "none.parquet": slice(0)}
OUTPUTS = {
    "plain": OutputOptions(),
    "all": OutputOptions(neighbors=True, probabilities=True, prefix="knn_"),
    "none kept": OutputOptions(keep=()),
}
UNSURE = Rule(min_confidence=0.7)


@pytest.fixture(params=["arrays", "png"])
def inputs(tmp_path, monkeypatch, request):
    """Files of arrays, or of PNGs among which some are broken, with other columns in small row groups."""
    monkeypatch.chdir(tmp_path)
    for name, rows in FILES.items():
        if request.param == "arrays":
            table = image_table(IMAGES[rows].astype(float))
        else:
            encoded = [png(image) if i % 11 else b"no image" for i, image in enumerate(IMAGES[rows], 3)]
            table = pa.table({"image": pa.array(encoded, pa.binary())})
        table = table.append_column("label", pa.array(LABELS[rows], pa.int8()))
        table = table.append_column("nested", pa.array([{"a": i, "b": ["x"] * (i % 3)} for i in range(len(table))]))
        (Path("in") / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, Path("in") / name, row_group_size=37)


def build(name, stored, labels=LABELS, kind="exact", **options):
    index_arrays(IMAGES[stored], labels[stored], Path(name), options=IndexOptions(kind=kind), **options)
    return open_index(name)


def classify(index, out, rule=UNSURE, output=OUTPUTS["plain"], only=None, **how):
    return run_job(Classifier(index, rule), "in", out, JobOptions(output=output, only=only), **how)


def rows_of(out, name, prefix=""):
    """The rows of an output, and which abstained."""
    rows = pq.read_table(Path(out) / name).to_pylist()
    return rows, [row[f"{prefix}status"] == "abstained" for row in rows]


def expected(before, now, name, prefix=""):
    """The rows as they stood, but for those that abstained, which are as another job has them."""
    (old, withheld), (new, _) = rows_of(before, name, prefix), rows_of(now, name, prefix)
    return [one if is_withheld else other for other, one, is_withheld in zip(old, new, withheld, strict=True)]


def contents(out):
    return {str(file.relative_to(out)): file.read_bytes() for file in Path(out).rglob("*") if file.is_file()}


@pytest.mark.usefixtures("inputs")
@spread(
    ("inputs", ["arrays", "png"]),
    ("kind, output", [*(("exact", output) for output in OUTPUTS), ("hnsw", "all")]),
    indirect=["inputs"],
)
def test_rows_that_abstained_are_as_a_job_anew_has_them_and_all_others_as_they_stood(kind, output):
    options, first, second = OUTPUTS[output], build("1.knn", slice(100)), build("2.knn", slice(300), kind=kind)
    before = classify(first, "out", output=options)
    shutil.copytree("out", "before")
    classify(second, "now", output=options)
    summary = classify(second, "out", output=options, only="abstained", batch_size=50)
    kept = [(name, receipt.kept) for name in FILES if (receipt := read_receipt(locate(f"out/{name}"))) is not None]
    assert before.counts.abstained > summary.counts.abstained > 0
    for name, of_file in kept:
        assert rows_of("out", name, options.prefix)[0] == expected("before", "now", name, options.prefix)
        ok = read_receipt(locate(f"before/{name}")).counts.ok
        assert [(job.index, job.rows) for job in of_file] == ([(first.fingerprint, ok)] if ok else [])
    assert summary.counts.bad_image == before.counts.bad_image
    assert (summary.written, summary.decided, verify_path("out").problems) == (3, 0, [])
    after = contents("out")
    assert classify(second, "out", output=options, only="abstained").skipped == 3  # the same command again
    assert contents("out") == after


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["png"], indirect=True)
def test_only_images_of_rows_that_abstained_are_decoded(monkeypatch):
    build("1.knn", slice(100))
    before = classify(open_index("1.knn"), "out")
    decoded = []

    def count(table, layout, numbers=None, decode=knnvote.data.reading.decode_rows):
        decoded.append(len(table))
        return decode(table, layout, numbers)

    monkeypatch.setattr(knnvote.data.reading, "decode_rows", count)
    classify(build("2.knn", slice(300)), "out", only="abstained")
    assert sum(decoded) == before.counts.abstained


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
@pytest.mark.parametrize("labels", [LABELS.astype(str), LABELS / 2])
def test_so_are_texts_and_numbers(labels):
    is_regression = labels.dtype.kind == "f"
    rule = Rule(k=3, max_distance=150)
    classify(build("1.knn", slice(100), labels, is_regression=is_regression), "out", rule)
    shutil.copytree("out", "before")
    second = build("2.knn", slice(300), labels, is_regression=is_regression)
    classify(second, "now", rule)
    classify(second, "out", rule, only="abstained")
    for name in FILES:
        (rows, _), (_, withheld) = rows_of("out", name), rows_of("before", name)
        assert rows == expected("before", "now", name)
        assert not withheld or 0 < sum(withheld) < len(withheld)


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
def test_what_several_jobs_answered_is_told_by_job_until_one_of_them_answers_again():
    one, two = build("1.knn", slice(60)), build("2.knn", slice(300))
    oks = [classify(one, "out").counts.ok]
    oks += [classify(two, "out", only="abstained").counts.ok]
    lax = replace(UNSURE, min_confidence=0.5)
    oks += [classify(two, "out", lax, only="abstained").counts.ok]
    assert oks[0] < oks[1] < oks[2]

    def kept(name="a.parquet"):
        return [
            (job.index, job.options["min_confidence"], job.rows) for job in read_receipt(locate(f"out/{name}")).kept
        ]

    of_one, of_two = kept()
    assert (of_one[:2], of_two[:2]) == ((one.fingerprint, 0.7), (two.fingerprint, 0.7))
    classify(two, "out", only="abstained")
    first, second = kept()
    assert (first, second[:2]) == (of_one, (two.fingerprint, 0.5))  # its own rows of before are its own again
    assert all("only" not in job.options for job in read_receipt(locate("out/a.parquet")).kept)
    classify(two, "out", overwrite=True)
    classify(two, "anew")
    assert contents("out") == contents("anew")  # and no word of what was


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
def test_it_is_told_wherever_the_job_is_looked_at(invoke):
    build("1.knn", slice(100))
    build("2.knn", slice(300))
    options = ("--min-confidence", "0.7", "--k", "7")
    assert invoke("classify", "1.knn", "in", "--out", "out", "--min-confidence", "0.7").code == 0
    refused = invoke("classify", "2.knn", "in", "--out", "out", *options)
    assert (refused.code, "pass --overwrite" in refused.stderr) == (1, True)
    assert invoke("classify", "2.knn", "in", "--out", "anew", *options).code == 0
    planned = invoke("classify", "2.knn", "in", "--out", "out", *options, "--only", "abstained", "--dry-run", "--json")
    abstained = json.loads(invoke("inspect", "out", "--json").stdout)["abstained"]
    assert json.loads(planned.stdout)["rows"] == abstained
    done = invoke("classify", "2.knn", "in", "--out", "out", *options, "--only", "abstained")
    facts = json.loads(invoke("inspect", "out", "--json").stdout)
    (kept,) = facts["kept"]
    told = f"{kept['rows']:,} of {facts['ok']:,} answers are kept of an earlier job: the index was {kept['index'][:12]}"
    assert told in done.stderr
    assert "--k was 5 and is 7" in done.stderr
    assert told in " ".join(invoke("inspect", "out").stdout.split())
    assert told in invoke("verify", "out").stderr
    assert invoke("explain", "out", "a.parquet#0", "--index", "1.knn").code == 1
    looked = [invoke("explain", "out", f"a.parquet#{row}", "--index", "2.knn") for row in range(12)]
    assert all(told in each.stderr for each in looked)
    assert {each.code for each in looked} == {0, 1}
    other = next(each for each in looked if each.code)
    assert "--overwrite without --only classifies all again" in other.stderr
    command = re.search(
        r"which may be kept of an earlier job, and 2\.knn .* now \(.*; knnvote (.*) tells why", other.stderr
    )
    assert invoke(*shlex.split(command[1])).code == 0
    assert told in invoke("diff", "anew", "out").stdout.replace("\n", " ")
    assert told in json.loads(invoke("diff", "anew", "out", "--json").stdout)["kept"][0]
    for command in (("report", "out"), ("diff", "anew", "out")):
        out = ("--out", "page.html") if command[0] == "report" else ("--report", "page.html")
        assert invoke(*command, *out).code == 0
        assert told in Path("page.html").read_text()
    without = invoke("classify", "2.knn", "in", "--out", "out", *options)
    assert (without.code, "of its answers some are of earlier jobs: pass --overwrite" in without.stderr) == (1, True)
    assert invoke("classify", "2.knn", "in", "--out", "out", *options, "--overwrite").code == 0
    assert json.loads(invoke("inspect", "out", "--json").stdout)["kept"] == []


class Broken(LocalEngine):
    """Ends as if it were killed, when the first file is done."""

    def run(self, work, tasks, progress):
        for outcome in super().run(work, tasks, progress):
            yield outcome
            raise KeyboardInterrupt


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
def test_an_interrupted_job_is_gone_on_with_by_the_same_command():
    classify(build("1.knn", slice(100)), "out")
    shutil.copytree("out", "whole")
    second = build("2.knn", slice(300))
    with pytest.raises(KeyboardInterrupt):
        classify(second, "out", only="abstained", engine=Broken(Classifier(second, UNSURE)))
    summary = classify(second, "out", only="abstained")
    assert (summary.written, summary.skipped) == (2, 1)
    classify(second, "whole", only="abstained")
    assert contents("out") == contents("whole")


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
def test_what_is_damaged_or_new_is_answered_whole_and_nothing_is_kept_of_it(tmp_path):
    classify(build("1.knn", slice(100)), "out")
    damaged = bytearray((tmp_path / "out/a.parquet").read_bytes())
    damaged[damaged.rindex(b"parquet-cpp-arrow")] ^= 1
    (tmp_path / "out/a.parquet").write_bytes(damaged)
    shutil.copy("in/a.parquet", "in/c.parquet")
    second = build("2.knn", slice(300))
    classify(second, "out", only="abstained")
    classify(second, "anew")
    for name in ("a.parquet", "c.parquet"):
        assert rows_of("out", name) == rows_of("anew", name)
        assert read_receipt(locate(f"out/{name}")).kept == ()
    assert read_receipt(locate("out/below/b.parquet")).kept != ()


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
def test_what_cannot_stand_beside_what_is_kept_is_refused_with_a_command_that_works(invoke):
    index, only = build("1.knn", slice(100)), ("--only", "abstained")
    none = invoke("classify", "1.knn", "in", "--out", "out", *only)
    assert (none.code, none.stderr) == (
        1,
        "error: out holds no answers of these inputs, of which some could be kept: leave out --only\n",
    )
    shares = OutputOptions(probabilities=True)
    classify(index, "out", output=shares)
    before = contents("out")
    both = invoke("classify", "1.knn", "in", "--out", "out", *only, "--overwrite")
    assert (both.code, "--only keeps answers, and --overwrite makes all anew" in both.stderr) == (2, True)
    columns = invoke("classify", "1.knn", "in", "--out", "out", *only)
    assert columns.code == 1
    assert "the answers that it keeps have other columns, so leave out --only: pass --overwrite" in columns.stderr
    read = invoke("classify", "1.knn", "in", "--out", "out", "--probabilities", "--shape", "4x4", *only)
    assert "any image may be read otherwise, so leave out --only: pass --overwrite" in read.stderr
    build("more.knn", slice(300), np.where(np.arange(700) % 9, LABELS, 9))
    more = invoke("classify", "more.knn", "in", "--out", "out", "--probabilities", *only)
    assert more.stderr == (
        "error: out/a.parquet holds probabilities of 4 classes, and more.knn gives probabilities of 5 classes: "
        "leave out --only, and pass --overwrite to make all outputs anew\n"
    )
    build("text.knn", slice(300), LABELS.astype(str))
    text = invoke("classify", "text.knn", "in", "--out", "out", "--probabilities", *only)
    assert "holds prediction of type int64, and text.knn gives prediction of type string" in text.stderr
    assert contents("out") == before
    voters = OutputOptions(neighbors=True, keep=())
    classify(build("rungs.knn", slice(100), kind="adaptive"), "voters", output=voters)
    rungs = invoke("classify", "1.knn", "in", "--out", "voters", "--neighbors", "--keep", "label", *only)
    assert "leave out --only: pass --overwrite" in rungs.stderr
    with pytest.raises(KnnvoteError, match=r"^voters/a.parquet holds rung of type int8, and 1.knn gives no rung"):
        classify(index, "voters", output=voters, only="abstained")
    classify(index, "voters", output=voters, overwrite=True)
    with pytest.raises(KnnvoteError, match=r"^voters/a.parquet holds no rung, and rungs.knn gives rung of type"):
        classify(open_index("rungs.knn"), "voters", output=voters, only="abstained")
    assert invoke("classify", "more.knn", "in", "--out", "out", "--probabilities", "--overwrite").code == 0
    with pytest.raises(OptionError, match=r"^only is 'ok'"):
        JobOptions(only="ok")


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
@pytest.mark.parametrize("rows", [-1, 0, 10**9, True, "7", None])
def test_a_receipt_that_keeps_more_than_there_is_is_none(rows):
    index = build("1.knn", slice(100))
    classify(index, "out")
    path = Path("out/a.parquet")
    receipt, table = read_receipt(locate(str(path))), pq.read_table(path)
    raw = replace(receipt, kept=(Kept("x", {}, rows),), seal="0" * 64).to_json()
    with path.open("w+b") as stream:
        with pq.ParquetWriter(stream, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({KEY: raw})
        seal(stream, raw)
    assert read_receipt(locate(str(path))) is None
    assert classify(index, "out").written == 1


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
@pytest.mark.parametrize("rows", [3, 200])
def test_an_output_of_which_other_rows_abstained_than_were_searched_is_told(monkeypatch, rows):
    classify(build("1.knn", slice(100)), "out")
    before = contents("out")
    monkeypatch.setattr(worker_module, "abstained_rows", lambda *_: np.arange(rows))
    with pytest.raises(KnnvoteError, match=r"^out/a.parquet was changed while it was read: run the job again"):
        classify(build("2.knn", slice(300)), "out", only="abstained")
    assert all(contents("out")[name] == before[name] for name in FILES)


def replaced_by_another_run(monkeypatch, module, name, index):
    """Another run of the same job does all of it the first time that something is called; what it leaves, to be."""
    shutil.copytree("out", "other")
    classify(index, "other", only="abstained")
    left, plain = contents("other"), getattr(module, name)
    replaced = []

    def replace_first(*given):
        if not replaced:
            replaced.extend(FILES)
            for file in FILES:
                shutil.copy(f"other/{file}", f"out/{file}.new")
                Path(f"out/{file}.new").replace(f"out/{file}")
        return plain(*given)

    monkeypatch.setattr(module, name, replace_first)
    return left


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
@pytest.mark.parametrize("seam", ["follows", "abstained_rows", "with_kept", "_count"])
def test_what_another_run_made_meanwhile_is_left_as_it_is(monkeypatch, seam):
    """Whether it came before the output was seen to be whole, before it was read, or while it was."""
    classify(build("1.knn", slice(100)), "out")
    index = build("2.knn", slice(300))
    left = replaced_by_another_run(monkeypatch, worker_module, seam, index)
    summary = classify(index, "out", only="abstained")
    assert (summary.skipped, summary.written, summary.failed) == (3, 0, {})
    assert contents("out") == left


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("inputs", ["arrays"], indirect=True)
def test_what_a_worker_made_before_it_died_keeps_its_answers(tmp_path):
    """Nothing but the output holds them, and it is told as made now."""
    classify(build("1.knn", slice(100)), "out")
    index, options = build("2.knn", slice(300)), JobOptions(only="abstained")
    classifier = Classifier(index, UNSURE)
    work = Work.of(classifier, options, locate(tmp_path / "out"), threads=None, batch_size=BATCH_SIZE)
    made = classify(index, "out", only="abstained")
    before = contents("out")
    tasks = plan_outputs(find_inputs("in"), work.out)
    with Worker.open(work, classifier) as worker:
        outcomes = [worker.classify_file(task, is_anew=True) for task in tasks]
    assert sum(outcome.counts.abstained for outcome in outcomes) == made.counts.abstained
    assert not any(outcome.was_done for outcome in outcomes)
    assert contents("out") == before
