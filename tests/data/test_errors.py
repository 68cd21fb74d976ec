"""What errors say of parameters: in Python by their names there, on the command line as options that it has."""

import ast
import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import read_record

from knnvote.classify.classifier import Classifier
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.run import run_job
from knnvote.classify.vote import Rule
from knnvote.cli.main import cli
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import (
    ImageFileError,
    KnnvoteError,
    OptionError,
    as_recorded,
    check,
    check_one_of,
    param,
    spelled,
)
from knnvote.data.layout import ImageOptions
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

ROOT = Path(__file__).parents[2]
LIBRARY = sorted(
    path
    for folder in ("data", "indexer", "classify", "src/knnvote")
    for path in (ROOT / folder).rglob("*.py")
    if "cli" not in path.relative_to(ROOT).parts
)
OPTION = re.compile(r"--[a-z][a-z-]*")
_MARK = re.compile(r"""\b(?:param|check|check_one_of)\(\s*("[^"]*"|'[^']*')""")


@cache
def trees():
    """What each module of the library says, by its path."""
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in LIBRARY}


def marked_names():
    """Names that messages of the library mark, read from its text: every worker collects them."""
    return {mark[1:-1] for path in LIBRARY for mark in _MARK.findall(path.read_text())}


OF_JOBS = {field.name for record in (Rule, ImageOptions, OutputOptions) for field in fields(record)}
# These never come before the command line.
OF_PYTHON = {
    *("batches", "groups", "min_confidence_by_class", "mode", "n_jobs", "p", "promise", "random_state", "tune"),
    *("sample_weight", "tuning"),
}
# What Ray's own command is given.
OF_RAY = {("classify/cluster/connection.py", flag) for flag in ("--address", "--skip-version-check")}
MARKED = sorted(marked_names() | OF_JOBS | {"images_key", "labels_key"})


def texts(tree):
    """Strings of a module, with {} for each value that is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_library_speaks_no_language_of_the_command_line():
    said = {
        f"{name}: {text}"
        for name, tree in trees().items()
        for text in texts(tree)
        if re.search(r"--[a-z{]", re.sub("(pip install|ray start)( --[a-z-]+)+", "", text))
        and (name, text) not in OF_RAY
        and name != "src/knnvote/demo.py"  # whose pages tell the commands that make them again
    }
    assert said == {"data/errors.py: --{}"}  # which makes the words of records


def test_all_marked_names_are_checked():
    of_trees = {
        node.args[0].value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args
        if node.func.id in ("param", "check", "check_one_of") and isinstance(node.args[0], ast.Constant)
    }
    assert len(of_trees) > 25
    assert of_trees <= set(MARKED)


@pytest.mark.parametrize("name", sorted({*MARKED} - OF_PYTHON))
def test_every_marked_name_is_an_option_that_the_command_has(name):
    typed = as_typed(name)
    by_command = {
        verb: {flag for parameter in command.params for flag in parameter.opts}
        for verb, command in cli.commands.items()
    }
    verb = re.match(r"knnvote ([a-z-]+) ", typed)
    options = by_command[verb[1]] if verb else set().union(*by_command.values())
    assert set(OPTION.findall(typed)) <= options
    assert OPTION.search(typed) or typed == "IMAGES"  # which is an argument
    value = re.search(r"(--[a-z-]+) ([a-z]+)$", typed)
    if value:  # which the option takes
        found = next(p for command in cli.commands.values() for p in command.params if value[1] in p.opts)
        found.type_cast_value(click.Context(click.Command("x")), value[2])


def names_of_python(tree):
    """Parameters, fields, functions and classes that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def test_every_marked_name_is_one_of_python():
    known = {name for tree in trees().values() for name in names_of_python(tree)}
    assert {part for name in MARKED for part in name.removesuffix("=True").split(".")} <= known


def test_each_face_spells_the_parameters_of_a_message():
    error = KnnvoteError(f"two columns: name one with {param('label_column')}, or pass {param('skip_bad=True')}")
    assert str(error) == "two columns: name one with label_column, or pass skip_bad=True"
    assert error.told(as_typed) == "two columns: name one with --label-column, or pass --skip-bad"
    about = KnnvoteError(f"a.parquet: {error.marked}")
    assert str(about) == f"a.parquet: {error}"
    assert about.told(as_typed) == f"a.parquet: {error.told(as_typed)}"
    assert KnnvoteError(param("is_regression=True")).told(as_typed) == "--task regression"


@given(st.text(st.characters(exclude_characters="\ufdd0\ufdd1")))
def test_a_text_without_marks_is_the_same_in_every_face(text):
    assert spelled(text, as_typed) == spelled(text, str) == text


def test_what_a_file_quotes_is_shown_as_it_is_whatever_the_parameters_are_called():
    error = KnnvoteError("no column 'skip_bad' in --k.parquet\n")
    assert error.told(as_typed) == str(error) == "no column 'skip_bad' in --k.parquet\\n"


def test_a_check_names_parameter_and_value():
    with pytest.raises(OptionError, match=r"^k is 0: give more$"):
        check("k", 0, False, "give more")
    with pytest.raises(OptionError, match=r"^ties is 3: give one of a, b, or none$"):
        check_one_of("ties", 3, ("a", "b"), ", or none")
    check("k", 1, True, "give more")
    check_one_of("ties", "b", ("a", "b"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 2.5),
        ("k", "5"),
        ("k", None),
        ("weights", 5),
        ("ties", np.ones(3)),
        ("min_confidence", "0.5"),
        ("min_confidence", float("nan")),
        ("max_distance", "far"),
        ("max_distance", float("nan")),
    ],
)
def test_a_rule_refuses_what_is_of_another_type(name, value):
    with pytest.raises(OptionError, match=f"^{name} is "):
        Rule(**{name: value})


@pytest.fixture
def colour(tmp_path, monkeypatch):
    """An index of grey images, and a folder with a colour image and with a file that is none."""
    import io

    import PIL.Image
    import pyarrow as pa

    monkeypatch.chdir(tmp_path)
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    index_arrays(images, np.arange(12) % 2, Path("x.knn"))
    stream = io.BytesIO()
    PIL.Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(stream, "PNG")
    grey = io.BytesIO()
    PIL.Image.fromarray(images[0]).save(grey, "PNG")
    Path("in").mkdir()
    table = pa.table({"image": pa.array([grey.getvalue(), stream.getvalue()])})
    pq.write_table(table, "in/colour.parquet")
    pq.write_table(image_table(images).append_column("other", image_table(images)["image"]), "in/two.parquet")
    write_table(image_table(images), Path("in/good.parquet"))
    return table


REASON = "colour image (RGB, 4 x 4): pass --grayscale to convert it"
FAILURE = "in/two.parquet: several columns could be the image: 'image', 'other'; name one with --image-column"


def recorded(out):
    return pq.read_table(out / "colour.parquet")["reason"].to_pylist(), json.loads(read_record(out, "failures.json"))


@pytest.mark.usefixtures("colour")
def test_what_a_job_writes_down_is_the_same_from_the_command_line_and_from_python(invoke):
    assert invoke("classify", "x.knn", "in", "--out", "a").code == 3
    summary = run_job(Classifier.open("x.knn"), "in", "b")
    assert recorded(Path("a")) == recorded(Path("b")) == ([None, REASON], {"in/two.parquet": FAILURE})
    assert Path("a/colour.parquet").read_bytes() == Path("b/colour.parquet").read_bytes()
    assert summary.failed == {"in/two.parquet": FAILURE}
    assert summary.bad_example == f"in/colour.parquet, row 1: {REASON}"


@pytest.mark.usefixtures("colour")
def test_a_job_that_stops_at_the_first_failure_says_what_to_do_in_the_face_that_ran_it(invoke):
    stopped = invoke("classify", "x.knn", "in/two.parquet", "--out", "a", "--fail-fast")
    assert stopped.stderr == f"error: {FAILURE}\n"
    with pytest.raises(ImageFileError, match=r"could be the image: 'image', 'other'; name one with image_column$"):
        run_job(Classifier.open("x.knn"), "in/two.parquet", "b", fail_fast=True)


def test_an_answer_in_python_says_what_to_do_in_python(colour):
    answer = Classifier.open("x.knn")(colour)
    assert answer.reason.tolist() == [None, "colour image (RGB, 4 x 4): pass grayscale=True to convert it"]


@pytest.mark.usefixtures("colour")
def test_inspect_tells_of_options_of_the_command(invoke):
    told = {file["path"]: file.get("error") for file in json.loads(invoke("inspect", "in", "--json").stdout)["files"]}
    assert told["in/two.parquet"] == FAILURE.removeprefix("in/two.parquet: ")


def test_records_have_options_of_the_command():
    assert [as_recorded(name) for name in ("label_column", "skip_bad=True", "k")] == [
        "--label-column",
        "--skip-bad",
        "--k",
    ]
