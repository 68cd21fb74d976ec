"""A job again into the same folder with other options: what follows without a search has the bytes of a job anew."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sets import CHEAP, EXACT, measured

import knnvote.classify.classifier
import knnvote.data.reading
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.engine import LocalEngine
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.receipt import KEY, read_receipt, seal
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.verification import verify_path
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import locate
from knnvote.data.tables import image_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import relabel_ids
from knnvote.indexer.rungs import Tuned

RNG = np.random.default_rng(11)
LABELS = RNG.integers(0, 4, 400)
IMAGES = np.clip(LABELS[:, None, None] * 50 + RNG.integers(-90, 90, (400, 4, 4)), 0, 255).astype(float)
FILES = {"a.parquet": slice(200, 310), "below/b.parquet": slice(310, 400), "none.parquet": slice(0)}
LIMITS = [(0.5, None), (0.8, 170.0), (None, 165.5), (0.7, 160), (None, None)]
OUTPUTS = {
    "plain": OutputOptions(),
    "all": OutputOptions(neighbors=True, probabilities=True, top=3, prefix="knn_"),
    "none kept": OutputOptions(keep=()),
}


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Files with rows that are no images and columns of every sort, in row groups that are not those of outputs."""
    monkeypatch.chdir(tmp_path)
    images = IMAGES.copy()
    images[[207, 208, 350], 0, 0] = np.nan
    for name, rows in FILES.items():
        table, n = image_table(images[rows]), len(images[rows])
        others = {
            "label": pa.array(LABELS[rows], pa.int8()),
            "category": pa.array([["red", None, "green"][i % 3] for i in range(n)], pa.string()).dictionary_encode(),
            "nested": pa.array([{"a.b": i, "c": ["x"] * (i % 3)} for i in range(n)]),
            "when": pa.array(range(n), pa.timestamp("us", "UTC")),
            "ümlaut": pa.array(["ü" * (i % 5) for i in range(n)], pa.large_string()),
        }
        for column, values in others.items():
            table = table.append_column(column, values)
        (Path("in") / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, Path("in") / name, row_group_size=37)


def build(kind, labels=LABELS, **options):
    index_arrays(IMAGES[:200], labels[:200], Path(f"{kind}.knn"), options=IndexOptions(kind=kind), **options)
    return open_index(f"{kind}.knn")


def classify(index, limits, out, output=OutputOptions(), **how):  # noqa: B008  # it cannot be changed
    rule = Rule(min_confidence=limits[0], max_distance=limits[1])
    return run_job(Classifier(index, rule), "in", out, JobOptions(output=output), **how)


def contents(out):
    return {str(file.relative_to(out)): file.read_bytes() for file in Path(out).rglob("*") if file.is_file()}


@pytest.fixture
def nothing_is_searched(monkeypatch):
    """No image is decoded, and none searched, until the test says so."""

    def refuse(*_args, **_named):
        raise AssertionError

    def start():
        monkeypatch.setattr(knnvote.classify.classifier, "find", refuse)
        monkeypatch.setattr(knnvote.data.reading, "decode_rows", refuse)

    return start


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(
    ("kind", "output"),
    [
        *(("exact", "none kept"), ("hnsw", "all")),
        *(pytest.param("exact", output, marks=pytest.mark.long) for output in ("plain", "all")),
    ],
)
def test_other_limits_need_no_search_and_give_the_bytes_of_a_job_anew(kind, output, nothing_is_searched):
    index, options = build(kind), OUTPUTS[output]
    anew = [classify(index, limits, f"anew-{place}", options) for place, limits in enumerate(LIMITS)]
    assert len({summary.counts.abstained for summary in anew}) == len(LIMITS)  # each is another answer
    classify(index, (None, None), "out", options)
    nothing_is_searched()
    for place, limits in enumerate(LIMITS):
        summary = classify(index, limits, "out", options)
        assert contents("out") == contents(f"anew-{place}")
        assert (summary.written, summary.decided, summary.skipped) == (3, 3, 0)
        assert (summary.counts, summary.bad_example) == (anew[place].counts, anew[place].bad_example)
        assert verify_path("out").problems == []
    assert classify(index, LIMITS[-1], "out", options).skipped == 3


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("labels", [np.array(["ash", "béch", "elm", "oak"])[LABELS], LABELS / 4, LABELS > 1])
def test_so_do_labels_of_any_type_and_numbers(labels, nothing_is_searched):
    is_number = labels.dtype.kind == "f"
    index = build("exact", labels, is_regression=is_number)
    limits = (None if is_number else 0.7, 160.0)
    classify(index, limits, "anew")
    classify(index, (None, None), "out")
    nothing_is_searched()
    assert classify(index, limits, "out").decided == 3
    assert contents("out") == contents("anew")


@pytest.mark.usefixtures("inputs")
def test_an_adaptive_index_is_asked_again_where_it_would_search_otherwise(invoke):
    def tune(index):
        ladders = {"label": measured((CHEAP, EXACT)), "confidence": measured((EXACT,))}
        tuned = Tuned(k=5, weights="uniform", target_agreement=0.9, tolerance=None, queries=1, **ladders)
        return replace(index, manifest=replace(index.manifest, search=replace(index.manifest.search, tuned=tuned)))

    index, shares = build("adaptive", tune=tune), OutputOptions(probabilities=True)
    told = "adaptive.knn is searched otherwise for that: pass overwrite=True to make all its outputs anew"
    for first, second in (((None, None), (0.6, None)), ((0.6, None), (None, None)), ((None, None), (None, 160.0))):
        shutil.rmtree("out", ignore_errors=True)
        classify(index, first, "out")
        before = contents("out")
        with pytest.raises(KnnvoteError, match=told):
            classify(index, second, "out")
        assert contents("out") == before
        summary = classify(index, second, "out", overwrite=True)
        assert (summary.written, summary.decided) == (3, 0)
    done = invoke("classify", "adaptive.knn", "in", "--out", "out", "--min-confidence", "0.5", "--overwrite")
    assert done.code == 0
    done = invoke("classify", "adaptive.knn", "in", "--out", "out", "--min-confidence", "0.9", "--json")
    assert "files: 3 written (3 without a search), 0 skipped" in done.stderr  # both ask for confidences
    assert json.loads(done.stdout)["decided"] == 3
    classify(index, (None, None), "shares", shares)
    assert classify(index, (0.6, 160.0), "shares", shares).decided == 3  # shares always do
    classify(index, (0.6, 160.0), "anew", shares)
    assert contents("shares") == contents("anew")


@pytest.mark.usefixtures("inputs")
def test_what_is_damaged_or_of_another_input_is_made_anew(tmp_path):
    index = build("exact")
    classify(index, (None, None), "out")
    damaged = bytearray((tmp_path / "out/a.parquet").read_bytes())
    damaged[damaged.rindex(b"parquet-cpp-arrow")] ^= 1  # who made it: all is read as if nothing were wrong
    (tmp_path / "out/a.parquet").write_bytes(damaged)
    assert read_receipt(locate("out/a.parquet")) is not None
    shutil.copy("in/a.parquet", "in/below/b.parquet")
    summary = classify(index, (0.8, 170.0), "out")
    assert (summary.written, summary.decided) == (3, 1)
    classify(index, (0.8, 170.0), "anew")
    assert contents("out") == contents("anew")


VOTES = [Rule(k=3), Rule(k=5, weights="distance"), Rule(k=4, ties="first-class", class_weight="balanced"), Rule(k=1)]


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("labels", [LABELS, LABELS / 4])
def test_neighbours_that_outputs_hold_vote_again_by_other_rules_and_after_labels_were_mended(
    labels, nothing_is_searched
):
    is_number, output = labels.dtype.kind == "f", JobOptions(output=OutputOptions(neighbors=True, keep=("label",)))
    index = build("exact", labels, is_regression=is_number)
    votes = [rule for rule in VOTES if not (is_number and rule.class_weight)]
    wide, rule = Classifier(index, Rule(k=7)), Rule(k=6, max_distance=170)
    anew = [run_job(Classifier(index, vote), "in", f"anew-{place}", output) for place, vote in enumerate(votes)]
    run_job(wide, "in", "out", output)
    shutil.copytree("out", "relabelled")
    relabel_ids("exact.knn", [f"array#{row}" for row in range(0, 200, 7)], labels[1:200:7])
    mended = open_index("exact.knn")
    for other in labels[2:200:7], labels[1:200:7]:  # once more and back
        relabel_ids("exact.knn", [f"array#{row}" for row in range(0, 200, 7)], other)
    expected = run_job(Classifier(mended, rule), "in", "anew", output)
    nothing_is_searched()
    for place, vote in enumerate(votes):
        shutil.rmtree("fewer", ignore_errors=True)
        shutil.copytree("out", "fewer")
        summary = run_job(Classifier(index, vote), "in", "fewer", output)
        assert contents("fewer") == contents(f"anew-{place}")
        assert (summary.decided, summary.counts, summary.bad_example) == (
            3,
            anew[place].counts,
            anew[place].bad_example,
        )
    summary = run_job(Classifier(open_index("exact.knn"), rule), "in", "relabelled", output)
    assert contents("relabelled") == contents("anew")
    assert (summary.decided, summary.counts) == (3, expected.counts)
    assert verify_path("relabelled").problems == []


@pytest.mark.usefixtures("inputs")
def test_where_who_votes_now_is_not_known_all_is_done_anew_and_told_why(invoke):
    build("exact"), build("adaptive"), build("hnsw")
    for kind, *options in (("exact",), ("exact", "--neighbors"), ("hnsw", "--neighbors"), ("adaptive", "--neighbors")):
        assert invoke("classify", f"{kind}.knn", "in", "--out", f"{kind}{len(options)}", *options).code == 0
    told = (
        "error: {} was made by another job: --k was 5 and is {}; with other votes any row may be {}: pass --overwrite"
    )
    for kind, out, k, why in (
        ("exact", "exact0", 3, "answered otherwise, and outputs without --neighbors do not tell which"),
        ("exact", "exact1", 6, "answered otherwise, and outputs with 5 neighbours do not tell who votes now"),
        ("hnsw", "hnsw1", 3, "answered otherwise, for hnsw.knn may find other neighbours then"),
        ("adaptive", "adaptive1", 3, "answered otherwise, for adaptive.knn may find other neighbours then"),
    ):
        columns = ["--neighbors"] if out.endswith("1") else []
        done = invoke("classify", f"{kind}.knn", "in", "--out", out, "--k", str(k), *columns)
        assert told.format(out, k, why) in done.stderr
    Path("fixes.csv").write_text("id,fix\narray#0,1\narray#1,2\n")
    for kind in ("exact", "hnsw"):
        assert invoke("relabel", f"{kind}.knn", "fixes.csv").code == 0
        done = invoke("classify", f"{kind}.knn", "in", "--out", f"{kind}1", "--neighbors")
        assert "files: 3 written (3 without a search)" in done.stderr
    refused = invoke("classify", "exact.knn", "in", "--out", "exact0")
    assert "with other labels any row may be answered otherwise, and outputs without --neighbors" in refused.stderr
    assert invoke("remove", "exact.knn", "array#7").code == 0
    refused = invoke("classify", "exact.knn", "in", "--out", "exact1", "--neighbors")
    assert "another index may answer any row otherwise: pass --overwrite" in refused.stderr


def other_rows(table):
    rows = pa.array([[{"row": 200 + i, "distance": 1.0}] * 5 for i in range(len(table))])
    return table.set_column(table.schema.get_field_index("neighbors"), "neighbors", rows)


def no_numbers(table):
    return table.set_column(table.schema.get_field_index("best"), "best", pa.array([["x"]] * len(table)))


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (no_numbers, "cannot read out/a.parquet: "),
        (other_rows, "out/a.parquet holds other neighbours than its receipt says: "),
        (lambda table: table.drop_columns("margin"), "cannot read out/a.parquet: "),
        (lambda table: table.slice(3), "in/a.parquet and out/a.parquet do not hold as many rows: "),
    ],
)
def test_what_a_stranger_sealed_is_told(invoke, change, told):
    votes = ("--neighbors", "--k", "3") if change is other_rows else ()
    classify(build("exact"), (None, None), "out", OutputOptions(neighbors=bool(votes)))
    path = Path("out/a.parquet")
    receipt, table = read_receipt(locate(str(path))), pq.read_table(path)
    with path.open("w+b") as stream:
        changed, raw = change(table.replace_schema_metadata()), replace(receipt, seal="0" * 64).to_json()
        with pq.ParquetWriter(stream, changed.schema) as writer:
            writer.write_table(changed)
            writer.add_key_value_metadata({KEY: raw})
        seal(stream, raw)
    command = ("classify", "exact.knn", "in", "--out", "out", "--min-confidence", "0.8", *votes)
    done = invoke(*command)
    assert (done.code, done.stderr.startswith(f"error: {told}")) == (1, True), done.stderr
    path.unlink()
    assert invoke(*command).code == 0


class Broken(LocalEngine):
    """Ends as if it were killed, when the first file is done."""

    def run(self, work, tasks, progress):
        for outcome in super().run(work, tasks, progress):
            yield outcome
            raise KeyboardInterrupt


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(("overwrite", "limits", "k"), [(False, (0.8, None), 5), (True, (None, None), 3)])
def test_a_job_that_replaces_another_is_gone_on_with_by_the_same_command(overwrite, limits, k):
    index = build("exact")
    rule = Rule(k=k, min_confidence=limits[0])
    classify(index, (None, None), "out")
    before = contents("out")
    with pytest.raises(KeyboardInterrupt):
        run_job(Classifier(index, rule), "in", "out", overwrite=overwrite, engine=Broken(Classifier(index, rule)))
    run_job(Classifier(index, rule), "in", "anew")
    after = contents("anew")
    assert {name: contents("out")[name] for name in ("below/b.parquet", "none.parquet")} == {
        name: before[name] for name in ("below/b.parquet", "none.parquet")
    }
    assert contents("out")["a.parquet"] == after["a.parquet"]
    assert len(verify_path("out").problems) == 2  # which are another job's
    summary = run_job(Classifier(index, rule), "in", "out")  # not even told to overwrite again
    assert (summary.written, summary.skipped) == (2, 1)
    assert contents("out") == after


@pytest.mark.usefixtures("inputs")
def test_outputs_of_inputs_that_are_not_given_are_not_left_behind(invoke):
    classify(build("exact"), (None, None), "out")
    before = contents("out")
    for options in (("--min-confidence", "0.8"), ("--k", "3", "--overwrite")):
        done = invoke("classify", "exact.knn", "in/a.parquet", "--out", "out", *options)
        assert done.code == 1
        assert "out/below/b.parquet would stay as another job made it, for its input " in done.stderr
        assert done.stderr.endswith("is not given, nor are 1 others: give all inputs of the folder, or another --out\n")
        assert contents("out") == before
    assert invoke("classify", "exact.knn", "in", "--out", "out", "--k", "3", "--overwrite").code == 0


@pytest.mark.usefixtures("inputs")
def test_another_index_answers_anew_where_it_is_asked_to(invoke):
    classify(build("exact"), (None, None), "out")
    build("hnsw")
    refused = invoke("classify", "hnsw.knn", "in", "--out", "out")
    assert "another index may answer any row otherwise: pass --overwrite to make all" in refused.stderr
    assert invoke("classify", "hnsw.knn", "in", "--out", "out", "--overwrite").code == 0
    assert invoke("classify", "hnsw.knn", "in", "--out", "anew").code == 0
    assert contents("out") == contents("anew")
