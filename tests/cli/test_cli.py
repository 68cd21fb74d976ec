"""The command line in this process: what it prints where, how it ends, what it says of mistakes."""

import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.run import run_job
from knnvote.cli.main import cli
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.codes import library
from knnvote.indexer.codes.library import ENVIRONMENT, kernel_name
from knnvote.indexer.manifest import MANIFEST, read_manifest
from knnvote.indexer.sealed import write_sealed

COMMANDS = sorted(cli.commands)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder at work with small files of every sort that mistakes are made with."""
    monkeypatch.chdir(tmp_path)
    make_work()
    return tmp_path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """The same for tests that write nothing."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        make_work()
    return folder


def make_work():
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    index_arrays(images, np.arange(12) % 2, Path("x.knn"))
    write_table(image_table(images, np.arange(12) % 2), Path("good.parquet"))
    write_table(image_table(images, np.arange(12) % 2), Path("in/a.parquet"))
    write_table(image_table(images), Path("unlabelled.parquet"))
    write_table(image_table(np.zeros((3, 5, 5), np.uint8)), Path("five.parquet"))
    write_table(image_table(images[:6] + 0.5), Path("halves.parquet"))
    pq.write_table(pa.table({"n": [1, 2]}), "numbers.parquet")
    pq.write_table(image_table(images).append_column("other", image_table(images)["image"]), "two.parquet")
    labels = image_table(images, np.arange(12)).append_column("class", pa.array(range(12)))
    pq.write_table(labels, "labels.parquet")
    pq.write_table(image_table(images, np.arange(12) / 7), "floats.parquet")
    Path("text.parquet").write_text("not Parquet")
    Path("empty").mkdir()
    Path("foreign").mkdir()
    Path("foreign/notes.txt").write_text("mine")
    np.save("good.npy", images)
    assert not run_job(Classifier.open("x.knn"), "in", "job").failed
    index_arrays(images, np.arange(12) % 2, Path("new.knn"))
    write_sealed(Path("new.knn") / MANIFEST, {**read_manifest(Path("new.knn")).to_json(), "format": 99})


MISTAKES = {
    "missing path": ("classify x.knn nothing.parquet --out o", 1, "nothing.parquet does not exist: give the path"),
    "missing index": ("classify nothing.knn good.parquet --out o", 1, "nothing.knn does not exist: give an index"),
    "empty folder": ("classify x.knn empty --out o", 1, "empty is a folder without any *.parquet file"),
    "glob of nothing": ("classify x.knn *.none --out o", 1, "no file matches *.none"),
    "not an index folder": ("classify in good.parquet --out o", 1, "in is not an index folder: it has no manifest"),
    "newer format": ("classify new.knn good.parquet --out o", 1, "new.knn has index format 99, and this knnvote reads"),
    "not Parquet": ("index text.parquet --out o.knn", 1, "cannot read text.parquet as Parquet"),
    "no image column": ("index numbers.parquet --out o.knn", 1, "numbers.parquet: no image column"),
    "no image column to classify": ("classify x.knn numbers.parquet --out o", 1, "numbers.parquet: no image column"),
    "several image columns": (
        "index two.parquet --out o.knn",
        1,
        "could be the image: 'image', 'other'; name one with",
    ),
    "no such image column": ("index good.parquet --out o.knn --image-column y", 1, "there is no image column 'y'"),
    "no label column": ("index unlabelled.parquet --out o.knn", 1, "no label column beside the images"),
    "several label columns": ("index labels.parquet --out o.knn", 1, "name one with --label-column"),
    "no such label column": ("index good.parquet --out o.knn --label-column y", 1, "no column 'y' for --label-column"),
    "float labels": ("index floats.parquet --out o.knn", 1, "--task regression"),
    "wrong shape": ("classify x.knn five.parquet --out o", 1, "images are 5 x 5, the index stores 4 x 4"),
    "wrong --shape": ("classify x.knn good.parquet --out o --shape 2x2", 1, "--shape says 2 x 2, the index stores"),
    "k above n": (
        "classify x.knn good.parquet --out o --k 13",
        2,
        "k is 13, and x.knn holds 12 images: give --k from 1",
    ),
    "k above n to compare": ("compare good.parquet --index x.knn --k 13", 2, "k is 13, and x.knn holds 12 images"),
    "confidence": (
        "classify x.knn good.parquet --out o --min-confidence 2",
        2,
        "--min-confidence is 2.0: give a share",
    ),
    "distance": ("classify x.knn good.parquet --out o --max-distance -1", 2, "--max-distance is -1.0: give a distance"),
    "index exists": ("index good.parquet --out x.knn", 1, "x.knn exists: pass --overwrite to replace it, or give"),
    "index over other files": ("index good.parquet --out foreign", 1, "foreign exists and is not an index folder"),
    "output over other files": ("classify x.knn good.parquet --out foreign", 1, "foreign holds files that knnvote did"),
    "output is a file": (
        "classify x.knn good.parquet --out good.parquet",
        1,
        "good.parquet is not a folder: give --out",
    ),
    "output in input": ("classify x.knn in --out in/out", 1, "the output folder in/out lies inside the input"),
    "column to keep": (
        "classify x.knn good.parquet --out o --keep y",
        1,
        "no column 'y' for --keep; columns beside the image: label",
    ),
    "inspect nothing": ("inspect nothing", 1, "nothing does not exist"),
    "inspect no Parquet": ("inspect text.parquet", 1, "cannot read text.parquet as Parquet"),
    "inspect no images": ("inspect numbers.parquet", 1, "numbers.parquet: no image column"),
    "verify no index": ("verify in", 1, "in is neither an index folder"),
    "compare no index": ("compare good.parquet --index in", 1, "in is not an index folder"),
    "convert nothing": ("convert nothing.npz o.parquet", 1, "cannot read nothing.npz"),
    "convert over a file": ("convert good.npy good.parquet", 1, "good.parquet exists: pass --overwrite"),
    "more threads than a system has": ("index good.parquet --out o.knn --threads 100000", 2, "1<=x<=1024"),
    "page among outputs": ("report job --out job/a.html", 2, "job/a.html lies in the folder of a job, /"),
    "demo in a file": ("demo good.parquet", 1, "good.parquet is a file: give the demo a folder"),
    "demo in an index": ("demo x.knn", 1, "x.knn is an index folder, or a job's: give the demo a"),
    "demo in a job": ("demo job", 1, "job is an index folder, or a job's: give the demo a folder of its own"),
    "picture among outputs": ("show good.parquet --out job/a.png", 2, "job/a.png lies in the folder of a job, /"),
    "factory and kind": ("index good.parquet --out o.knn --factory Flat --kind exact", 2, "leave out --kind"),
    "no such factory": ("index good.parquet --out o.knn --factory Flut", 2, "Flut"),
    "shape of nothing": ("index good.parquet --out o.knn --shape 4by4", 2, "'4by4' is not a shape: give height and"),
    "grid of nothing": ("show good.parquet --grid abc", 2, "'abc' is not a grid: give rows and columns, such as 2x5"),
    "k of zero": ("classify x.knn good.parquet --out o --k 0", 2, "--k"),
    "no images": ("classify x.knn --out o", 2, "IMAGES"),
    "no output": ("classify x.knn good.parquet", 2, "--out"),
    "unknown option": ("classify x.knn good.parquet --out o --nothing", 2, "No such option"),
    "unknown command": ("clasify", 2, "No such command"),
    "unknown sample": ("sample letters o", 2, "letters"),
}


@pytest.mark.parametrize(("arguments", "code", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_on_stderr_in_a_line_and_never_as_a_traceback(
    invoke, made_once, monkeypatch, arguments, code, told
):
    monkeypatch.chdir(made_once)
    result = invoke(*arguments.split())
    assert result.code == code
    assert told in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    if code == 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith(("error: ", "failed: "))]
        assert len(errors) == 1
        assert told in errors[0]
    assert not Path("o").exists() or not list(Path("o").glob("*.parquet"))
    assert not Path("o.knn/manifest.json").exists()


@pytest.mark.usefixtures("work")
def test_from_within_a_job_s_folder_a_picture_may_go_elsewhere(invoke, monkeypatch):
    monkeypatch.chdir("job")
    inside = invoke("show", "../good.parquet")
    assert (inside.code, inside.stdout) == (2, "")
    assert "show.png lies in the folder of a job" in inside.stderr
    assert invoke("show", "../good.parquet", "--out", "../show.png").code == 0
    assert Path("../show.png").exists()


def test_labels_cannot_command_the_terminal(invoke):
    labels = np.array(["\x1b]0;owned\x07\x9b", "\u202eabc", "two\nlines"])[np.arange(12) % 3]
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    index_arrays(images, labels, Path("x.knn"))
    write_table(image_table(images, labels), Path("test.parquet"))
    index_arrays(images, labels, Path("rough.knn"), options=IndexOptions(kind="factory", factory="PCA1,Flat"))
    told = [
        invoke("inspect", "x.knn", "--json"),
        invoke("inspect", "x.knn"),
        invoke("suspects", "x.knn"),
        invoke("compare", "test.parquet", "--index", "rough.knn"),
    ]
    for done in told:
        assert done.code == 0
        assert all(char.isprintable() or char == "\n" for char in done.stdout + done.stderr)
    assert r"\x1b]0;owned\x07\x9b, two\nlines, \u202eabc" in told[1].stdout
    assert json.loads(told[0].stdout)["classes"] == sorted(set(labels.tolist()))


@pytest.mark.usefixtures("work")
def test_pixels_of_a_wrong_type_are_bad_rows_and_say_what_the_index_stores(invoke):
    result = invoke("classify", "x.knn", "halves.parquet", "--out", "o")
    assert result.code == 1
    advice = "error: no row got an answer; knnvote inspect halves.parquet tells how its images are read\n"
    assert result.stderr.endswith(advice)
    assert invoke("inspect", "halves.parquet").code == 0
    assert invoke("classify", "x.knn", "halves.parquet", "--out", "o").code == 1, "a job that was done before too"
    assert "6 rows (0 ok, 0 abstained, 6 bad images)" in result.stderr
    reason = pq.read_table("o/halves.parquet")["reason"][0].as_py()
    assert reason.startswith("value 0.5 is not a whole number from 0 to 255, as the index stores")


@pytest.mark.usefixtures("work")
def test_a_folder_of_another_job_is_refused_naming_what_differs(invoke):
    assert invoke("classify", "x.knn", "good.parquet", "--out", "o").code == 0
    result = invoke("classify", "x.knn", "good.parquet", "--out", "o", "--k", "3", "--neighbors")
    assert result.code == 1
    assert result.stderr == (
        "error: o was made by another job: --k was 5 and is 3; --neighbors was not given and is given; all "
        "outputs get other columns: pass --overwrite to make all its outputs anew, or give another --out\n"
    )
    result = invoke("classify", "x.knn", "good.parquet", "--out", "o", "--k", "3", "--neighbors", "--overwrite")
    assert (result.code, "files: 1 written, 0 skipped" in result.stderr) == (0, True)
    result = invoke("classify", "x.knn", "good.parquet", "--out", "o", "--k", "3", "--neighbors")
    assert (result.code, "files: 0 written, 1 skipped" in result.stderr) == (0, True)


@pytest.mark.usefixtures("work")
def test_a_full_disk_is_told_in_one_line(invoke, monkeypatch):
    def fail(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    for arguments in (
        ("classify", "x.knn", "good.parquet", "--out", "o"),
        ("index", "good.parquet", "--out", "o.knn"),
        ("sample", "digits", "digits"),
    ):
        result = invoke(*arguments)
        assert result.code == 1
        assert re.fullmatch(r"error: cannot write .*: No space left on device.*\n", result.stderr)


@pytest.mark.usefixtures("work")
def test_files_that_fail_exit_with_3_after_the_others_are_done_and_with_1_where_none_is(invoke):
    Path("in/b.parquet").write_text("not Parquet")
    write_table(image_table(np.zeros((2, 4, 4))), Path("in/c.parquet"))
    result = invoke("classify", "x.knn", "in", "--out", "o", "--json")
    assert result.code == 3
    failed, summary = result.stderr.splitlines()
    assert failed.startswith("failed: cannot read in/b.parquet as Parquet: ")
    assert "files: 2 written, 0 skipped as done, 1 failed" in summary
    record = json.loads(result.stdout)
    assert record["files"] == {"written": 2, "skipped": 0, "failed": 1}
    assert list(record["failures"]) == ["in/b.parquet"]
    result = invoke("classify", "x.knn", "in", "--out", "fast", "--fail-fast")
    assert result.code == 1
    assert result.stderr.startswith("error: cannot read in/b.parquet as Parquet")
    assert [file.name for file in Path("fast").glob("*.parquet")] == ["a.parquet"]
    assert invoke("classify", "x.knn", "in", "--out", "o").code == 3  # the others were done already
    assert invoke("classify", "x.knn", "in/b.parquet", "--out", "none").code == 1


@pytest.mark.usefixtures("work")
def test_more_bad_images_than_are_allowed_exit_with_1_and_the_outputs_are_there(invoke):
    images = np.zeros((8, 4, 4))
    images[2, 0, 0] = np.nan
    write_table(image_table(images), Path("in/nan.parquet"))  # one of 20 rows
    assert invoke("classify", "x.knn", "in", "--out", "o", "--fail-if-bad", "0.05").code == 0
    result = invoke("classify", "x.knn", "in", "--out", "o", "--fail-if-bad", "0.04")
    assert result.code == 1
    told = "error: 0.05 of the rows are bad images, more than --fail-if-bad 0.04 allows"
    assert result.stderr.splitlines()[-1] == told
    assert invoke("verify", "o").code == 0
    Path("in/b.parquet").write_text("not Parquet")
    assert invoke("classify", "x.knn", "in", "--out", "o", "--fail-if-bad", "0.05").code == 3
    assert invoke("classify", "x.knn", "in", "--out", "o", "--fail-if-bad", "0").code == 1
    assert invoke("classify", "x.knn", "in", "--out", "o", "--fail-if-bad", "5%").code == 2


@pytest.mark.usefixtures("work")
def test_classify_talks_on_stderr_and_gives_json_on_stdout(invoke):
    result = invoke("classify", "x.knn", "good.parquet", "--out", "o")
    assert (result.code, result.stdout) == (0, "")
    assert re.fullmatch(
        r"o: 12 rows \(12 ok, 0 abstained, 0 bad images\); files: 1 written, 0 skipped as done, 0 failed; [\d.]+ s\n",
        result.stderr,
    )
    result = invoke("classify", "x.knn", "good.parquet", "--out", "o", "--json")
    assert result.code == 0
    assert "1 skipped as done" in result.stderr
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    assert {name: record[name] for name in ("rows", "ok", "abstained", "bad_image")} == {
        "rows": 12,
        "ok": 12,
        "abstained": 0,
        "bad_image": 0,
    }
    assert record["files"] == {"written": 0, "skipped": 1, "failed": 0}
    assert {"seconds", "rows_per_second"} <= record.keys()


@pytest.mark.usefixtures("work")
def test_every_option_of_classify_reaches_the_output(invoke):
    options = (
        "--k 3 --weights distance --ties first-class --neighbors --probabilities --top 2 --prefix knn_ --keep label"
    )
    more = "--max-distance 1e9 --min-confidence 0.1 --batch-size 5 --threads 1 --image-column image --shape 4x4"
    result = invoke("classify", "x.knn", "good.parquet", "--out", "o", *options.split(), *more.split())
    assert result.code == 0
    rows = pq.read_table("o/good.parquet").to_pylist()
    assert list(rows[0]) == [
        "label",
        *(
            f"knn_{name}"
            for name in ("prediction", "confidence", "distance", "best", "second", "margin", "status", "reason")
        ),
        "knn_neighbors",
        *("knn_probabilities", "knn_top", "knn_top_share"),
    ]
    assert all(len(row["knn_neighbors"]) == 3 for row in rows)
    assert [row["knn_prediction"] for row in rows] == [row["label"] for row in rows]  # each finds itself


@pytest.mark.usefixtures("work")
def test_index_inspect_and_verify_say_what_is_there(invoke):
    result = invoke("index", "good.parquet", "--out", "made.knn", "--seed", "3")
    assert (result.code, result.stdout) == (0, "")
    assert result.stderr.startswith("made.knn: 12 images of 4 x 4, exact, ")
    result = invoke("inspect", "made.knn")
    assert (result.code, result.stderr) == (0, "")
    assert "12 of 4 x 4, uint8" in result.stdout
    record = json.loads(invoke("inspect", "made.knn", "--json").stdout)
    assert (record["type"], record["n"], record["seed"]) == ("index", 12, 3)
    result = invoke("verify", "made.knn")
    assert (result.code, result.stdout) == (0, "")
    assert result.stderr == "made.knn: every byte is as it was written\n"
    file = Path("made.knn") / record["files"]["labels"]["name"]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    result = invoke("verify", "made.knn")
    assert result.code == 1
    assert str(file) in result.stderr


@pytest.mark.usefixtures("work")
def test_inspect_tells_of_images_and_of_jobs(invoke):
    result = invoke("inspect", "in")
    assert (result.code, result.stderr) == (0, "")
    assert re.search(r"in/a\.parquet +12 +tensors, 4 x 4, in column 'image' +label", result.stdout)
    Path("in/b.parquet").write_text("not Parquet")
    record = json.loads(invoke("inspect", "in", "--json").stdout)
    assert record["type"] == "images"
    assert record["files"][0]["rows"] == 12
    assert "as Parquet" in record["files"][1]["error"]
    invoke("classify", "x.knn", "in", "--out", "o")
    record = json.loads(invoke("inspect", "o", "--json").stdout)
    assert (record["type"], record["rows"], record["ok"], record["files"]) == ("job", 12, 12, 1)
    assert list(record["failures"]) == ["in/b.parquet"]
    assert "1 of 2 classified, 1 failed" in invoke("inspect", "o").stdout


@pytest.mark.usefixtures("work")
def test_compare_prints_a_table_or_json_and_says_when_test_images_are_stored(invoke):
    result = invoke("compare", "good.parquet", "--index", "x.knn")
    assert (result.code, result.stderr) == (0, "")
    assert "12 images, k = 5" in result.stdout
    assert "x.knn: 12 of the 12 test images equal a stored one, and find it" in result.stdout
    result = invoke("compare", "unlabelled.parquet", "--index", "x.knn", "--k", "1", "--json")
    assert (result.code, result.stderr) == (0, "")
    record = json.loads(result.stdout)
    assert (record["queries"], record["k"]) == (12, 1)
    assert record["indexes"][0]["accuracy"] is None
    assert record["indexes"][0]["recall"]["mean"] == 1


def test_sample_prints_the_paths_that_it_wrote(invoke):
    result = invoke("sample", "digits", "digits")
    assert (result.code, result.stdout, result.stderr) == (0, "digits/train.parquet\ndigits/test.parquet\n", "")
    assert pq.read_metadata("digits/test.parquet").num_rows == 450


def test_convert_says_how_many_rows_there_are(invoke):
    np.savez("some.npz", x=np.zeros((3, 2, 2), np.uint8), y=np.arange(3))
    result = invoke("convert", "some.npz", "some.parquet")
    assert (result.code, result.stdout, result.stderr) == (0, "", "some.parquet: 3 rows\n")


@pytest.mark.usefixtures("work")
def test_bad_training_rows_are_refused_by_number_or_left_out_and_counted(invoke):
    images = np.arange(48.0).reshape(3, 4, 4)
    images[1, 0, 0] = np.nan
    write_table(image_table(images, np.arange(3)), Path("nan.parquet"))
    result = invoke("index", "nan.parquet", "--out", "o.knn")
    assert result.code == 1
    assert result.stderr.startswith("error: nan.parquet, row 1: value 0 is NaN; mend it, or pass --skip-bad")
    result = invoke("index", "nan.parquet", "--out", "o.knn", "--skip-bad")
    assert result.code == 0
    assert "2 images of 4 x 4, 1 bad rows left out" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_one_sentence_and_one_example(command):
    text = cli.commands[command].get_help(click.Context(cli.commands[command], info_name=command))
    sentence = " ".join(cli.commands[command].help.split())
    assert re.fullmatch(r"[A-Z][^.]*(\.\w+[^.]*)*\.", sentence)
    assert len(re.findall(rf"^ *knnvote {command}\b", text, re.MULTILINE)) == 1
    assert "Example:" in text
    for option in cli.commands[command].params:
        assert isinstance(option, click.Argument) or option.help


def test_the_version_and_the_kernel_are_told(invoke, monkeypatch):
    result = invoke("--version")
    assert (result.code, result.stderr) == (0, "")
    assert re.fullmatch(rf"knnvote \d+\.\d+\.\d+\S*\nkernel {kernel_name()}\b.*\n", result.stdout, re.DOTALL)
    monkeypatch.setenv(ENVIRONMENT, "numpy")
    assert invoke("--version").stdout.splitlines()[1].startswith("kernel numpy (")


def test_a_kernel_that_was_not_compiled_is_told_with_the_command_that_compiles_it(invoke, monkeypatch, exact_index):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    for cached in (library._usable, library._choose):
        monkeypatch.setattr(library, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(library, "_LIBRARY", Path("gone"))
    _, *told = invoke("--version").stdout.splitlines()
    assert max(map(len, told)) <= 80
    assert " ".join(told) == (
        "kernel numpy (not compiled for this machine: install a C++ compiler, such as g++, and knnvote again)"
    )
    shown = " ".join(invoke("inspect", exact_index).stdout.split())
    assert " ".join(told) in shown


def test_inspect_tells_the_kernel(invoke, exact_index):
    shown = invoke("inspect", exact_index).stdout
    assert re.search(rf"^kernel +{kernel_name()}\b", shown, re.MULTILINE)
    assert json.loads(invoke("inspect", exact_index, "--json").stdout)["kernel"] == kernel_name()


@pytest.mark.parametrize(
    "arguments", [["--version"], ["inspect", "X"], ["verify", "COPY"], ["compare", "--index", "X"]]
)
def test_a_kernel_that_is_not_at_hand_is_refused_with_those_that_are(
    invoke, monkeypatch, exact_index, digits_folder, tmp_path, arguments
):
    shutil.copytree(exact_index, tmp_path / "copy")
    places = {"X": exact_index, "COPY": tmp_path / "copy", "compare": "compare"}
    monkeypatch.setenv(ENVIRONMENT, "sse9")
    images = [digits_folder / "test.parquet"] if arguments[0] == "compare" else []
    result = invoke(*(places.get(word, word) for word in arguments), *images)
    assert result.code == 1
    assert re.fullmatch(
        rf"error: {ENVIRONMENT} is 'sse9', which is not at hand here: give one of .*numpy, or unset it\n", result.stderr
    )


def test_help_names_every_command(invoke):
    result = invoke("--help")
    assert (result.code, result.stderr) == (0, "")
    assert all(re.search(rf"^  {command} ", result.stdout, re.MULTILINE) for command in COMMANDS)


def test_an_index_on_another_machine_is_refused(invoke, tmp_path):
    result = invoke("index", "x.parquet", "--out", "s3://bucket/out")
    assert (result.code, result.stdout) == (2, "")
    assert "'s3://bucket/out' is a URI, and what is needed is a path of this machine" in result.stderr
    for command in ("add s3://KEY:SEC@b/x.knn x.parquet", "sample digits s3://b/x", "convert x.csv s3://b/x.parquet"):
        result = invoke(*command.split())
        assert result.code == 2
        assert "'s3://b/x" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("work")
def test_rows_that_are_stored_files_without_rows_and_folders_left_empty_are_told(invoke):
    write_table(image_table(np.zeros((0, 4, 4), np.uint8)), Path("none.parquet"))
    done = invoke("classify", "x.knn", "good.parquet", "in", "none.parquet", "--out", "o", "--json")
    assert "note: 1 file without a row, the first none.parquet\n" in done.stderr
    assert "note: 24 of 24 rows equal a stored one, and find it: " in done.stderr
    assert json.loads(done.stdout)["stored"] == 24
    assert "a stored one" not in invoke("classify", "x.knn", "five.parquet", "--out", "failed").stderr
    assert invoke("inspect", "failed").stderr.startswith(
        "error: failed is an empty folder: give one with images; where a job left it so, no file could be classified"
    )


@pytest.mark.usefixtures("work")
def test_fewer_images_than_vote_are_told_when_they_are_stored(invoke):
    told = "note: --k is 13, and o.knn holds 12 images: until it holds as many, classify needs --k 12 or less\n"
    assert told in invoke("index", "good.parquet", "--out", "o.knn", "--k", "13").stderr
    assert invoke("classify", "o.knn", "good.parquet", "--out", "o").code == 2
    assert invoke("classify", "o.knn", "good.parquet", "--out", "o", "--k", "12").code == 0


@pytest.mark.usefixtures("work")
def test_an_index_behind_its_images_is_told_with_the_command_that_has_it_first(invoke):
    refused = invoke("classify", "good.parquet", "x.knn", "--out", "swapped out")
    assert (refused.code, Path("swapped out").exists()) == (2, False)
    command = re.search(r"x\.knn is an index, and INDEX comes first: knnvote (.*)", refused.stderr)[1]
    assert invoke(*shlex.split(command)).code == 0
    assert Path("swapped out/good.parquet").is_file()
