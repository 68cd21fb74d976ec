"""The face of the package: what `import knnvote` has, that each name of it is explained and its example holds."""

import ast
import doctest
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import knnvote
from knnvote import Classifier, ImageOptions, Rule, TrainingOptions, Tuning
from knnvote.cli.main import cli
from knnvote.data.inputs import find_inputs

CLASSES = {
    *("Answer", "Classifier", "ImageOptions", "Index", "IndexOptions", "JobOptions", "KNNVoteClassifier"),
    *("KNNVoteRegressor", "KnnvoteError", "OptionError", "OutputOptions", "RayEngine", "Rule", "Summary"),
    *("TrainingOptions", "Tuning"),
}
FUNCTIONS = {
    *(
        "add_arrays",
        "add_files",
        "choose_distance",
        "choose_k",
        "choose_steps",
        "choose_threshold",
        "compact",
        "compare",
        "distance_limit",
        "find_suspects",
        "index_arrays",
        "index_files",
    ),
    *("join_labels", "open_index", "relabel_ids", "remove_ids", "run_job"),
}
GIVEN_BY = {"Answer": "Classifier", "Index": "open_index", "Summary": "run_job"}  # nobody makes one by its name
HEAVY = ("click", "faiss", "imagecodecs", "numpy", "pyarrow", "rich", "scipy", "sklearn")


def of_a_fresh_process(code):
    """What code prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def index_of_digits(digits_folder, tmp_path_factory):
    """An index folder as one of them makes it that stands beside the files. Tests copy it."""
    out = tmp_path_factory.mktemp("index") / "digits.knn"
    knnvote.index_files(str(digits_folder / "train.parquet"), out)
    return out


@pytest.fixture
def digits(digits_folder, index_of_digits, tmp_path, monkeypatch):
    """A folder at work with digits/train.parquet, digits/test.parquet and an index of the first, digits.knn."""
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    for name in ("train.parquet", "test.parquet"):
        Path("digits", name).symlink_to(digits_folder / name)
    shutil.copytree(index_of_digits, "digits.knn")


def test_the_face_holds_these_names_and_no_others():
    assert set(knnvote.__all__) == {*CLASSES, *FUNCTIONS}
    assert knnvote.__all__ == sorted(knnvote.__all__)
    assert dir(knnvote) == knnvote.__all__
    for name in knnvote.__all__:
        found = getattr(knnvote, name)
        assert found.__name__ == name
        assert isinstance(found, type) == (name in CLASSES)


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(knnvote.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {alias.name: node.module for node in checked.body for alias in node.names}
    assert seen == {name: getattr(knnvote, name).__module__ for name in knnvote.__all__}


@pytest.mark.parametrize("name", knnvote.__all__)
@pytest.mark.usefixtures("digits")
def test_each_name_is_documented_with_an_example_that_holds(name):
    text = getattr(knnvote, name).__doc__
    assert text
    assert text[0].isupper()
    assert re.search(r"^ *Example:\n +>>> ", text, re.MULTILINE)
    example = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    assert re.search(rf"^ +>>> from knnvote import .*\b{GIVEN_BY.get(name, name)}\b", text, re.MULTILINE)
    said = []
    assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_method_that_people_call_is_documented(name):
    found = getattr(knnvote, name)
    for method, value in vars(found).items():
        if not method.startswith("_") and callable(value):
            assert value.__doc__, f"{name}.{method}"


def test_importing_the_face_takes_no_time():
    loaded = of_a_fresh_process(
        "import json, sys; before = set(sys.modules); import knnvote; dir(knnvote); hasattr(knnvote, 'nothing')\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert "knnvote" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {*HEAVY}
    assert [name for name in loaded if name.startswith("knnvote.")] == []


def test_a_name_is_imported_when_it_is_first_used():
    loaded = of_a_fresh_process(
        "import json, sys, knnvote; knnvote.KnnvoteError\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('knnvote')]))"
    )
    assert "knnvote.data.errors" in loaded
    assert not any(name.startswith(("knnvote.classify", "knnvote.indexer")) for name in loaded)
    assert knnvote.Rule is Rule is importlib.import_module("knnvote.classify.vote").Rule


def test_a_star_imports_the_face():
    names = {}
    exec("from knnvote import *", names)  # noqa: S102
    assert sorted(names.keys() - {"__builtins__"}) == knnvote.__all__


def test_an_unknown_name_is_an_attribute_error_as_of_any_module():
    with pytest.raises(AttributeError, match=r"^module 'knnvote' has no attribute 'Clasifier'$"):
        knnvote.Clasifier  # noqa: B018  # its being asked for is the test
    with pytest.raises(ImportError, match="cannot import name 'Clasifier'"):
        exec("from knnvote import Clasifier")  # noqa: S102
    assert not hasattr(knnvote, "__path_of_nothing__")


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "nothing.parquet"]])
def test_python_m_knnvote_is_the_command(arguments, tmp_path):
    commands = ([sys.executable, "-m", "knnvote"], [Path(sys.executable).with_name("knnvote")])
    by_module, by_script = (
        subprocess.run([*command, *arguments], cwd=tmp_path, check=False, capture_output=True, text=True)
        for command in commands
    )
    assert by_module.returncode == by_script.returncode
    assert by_module.stdout.replace("python -m knnvote", "knnvote") == by_script.stdout
    assert by_module.stderr.replace("python -m knnvote", "knnvote") == by_script.stderr
    if arguments == ["--help"]:
        assert all(f"  {name} " in by_module.stdout for name in cli.commands)


def as_text(path):
    return path


def as_path(path):
    return Path(path)


def as_list(path):
    return [path]


def as_tuple_of_paths(path):
    return (Path(path),)


@pytest.mark.parametrize("named", [as_text, as_path, as_list, as_tuple_of_paths, find_inputs])
@pytest.mark.usefixtures("digits")
def test_files_are_named_by_text_or_path_one_or_several(named):
    knnvote.index_files(named("digits/train.parquet"), as_path("named.knn"))
    index = knnvote.open_index(as_path("named.knn"))
    assert index.fingerprint == knnvote.open_index("digits.knn").fingerprint
    compared = knnvote.compare(named("digits/test.parquet"), [index])
    assert compared.queries == 450
    summary = knnvote.run_job(Classifier(index), named("digits/test.parquet"), as_path("out"))
    assert (summary.written, summary.counts.rows) == (1, 450)
    assert pq.read_metadata("out/test.parquet").num_rows == 450
    assert knnvote.add_files(as_path("named.knn"), named("digits/test.parquet"), tuning=Tuning) == 450


@pytest.mark.usefixtures("digits")
def test_a_folder_or_a_glob_names_all_its_files_in_order():
    for out, named in enumerate(["digits", Path("digits"), "digits/*.parquet", ["digits/test.parquet", "digits"]]):
        summary = knnvote.run_job(Classifier.open("digits.knn"), named, str(out))
        assert (summary.written, summary.counts.rows) == (2, 1797)


@pytest.mark.usefixtures("digits")
def test_an_index_is_not_written_to_where_only_a_uri_leads():
    told = r"^'s3://bucket/x.knn' is a URI, and what is needed is a path of this machine$"
    with pytest.raises(knnvote.OptionError, match=told):
        knnvote.index_files("digits/train.parquet", "s3://bucket/x.knn")
    with pytest.raises(knnvote.OptionError, match=told):
        knnvote.index_arrays([[1, 2]], [1], "s3://key:secret@bucket/x.knn?region=here")
    with pytest.raises(knnvote.OptionError, match=told):
        knnvote.remove_ids("s3://bucket/x.knn", ["x"], tuning=Tuning)
    with pytest.raises(knnvote.OptionError, match=told):
        knnvote.compact("s3://bucket/x.knn", tuning=Tuning)
    with pytest.raises(knnvote.OptionError, match=told):
        knnvote.relabel_ids("s3://bucket/x.knn", ["x"], [1], tuning=Tuning)
    with pytest.raises(knnvote.OptionError, match=told):
        knnvote.add_files("s3://bucket/x.knn", "digits/test.parquet", tuning=Tuning)
    assert not Path("s3:").exists()


@pytest.mark.usefixtures("digits")
def test_a_file_that_is_not_there_is_told_before_anything_is_written():
    for work in (
        lambda: knnvote.index_files("nothing.parquet", "new.knn"),
        lambda: knnvote.add_files("digits.knn", "nothing.parquet", tuning=Tuning),
        lambda: knnvote.run_job(Classifier.open("digits.knn"), "nothing.parquet", "out"),
        lambda: knnvote.compare("nothing.parquet", [knnvote.open_index("digits.knn")]),
    ):
        with pytest.raises(knnvote.KnnvoteError, match=r"^nothing\.parquet does not exist: give the path of"):
            work()
    assert not Path("new.knn").exists()
    assert not Path("out").exists()
    with pytest.raises(knnvote.KnnvoteError, match=r"^no index is given to compare: give one at least$"):
        knnvote.compare("digits/test.parquet", [])


@pytest.mark.usefixtures("digits")
def test_options_nest_as_they_are_documented():
    images = ImageOptions(image_column="image", shape=(8, 8))
    training = TrainingOptions(images=images, label_column="label")
    knnvote.index_files("digits/train.parquet", "nested.knn", training=training)
    assert knnvote.open_index("nested.knn").shape == (8, 8)


@pytest.mark.parametrize("given", ["digits.knn", Path("digits.knn"), None, 5])
def test_where_an_opened_index_is_wanted_its_path_is_refused_with_what_to_give(given):
    told = "open_index('digits.knn')" if isinstance(given, str | Path) else "open_index(path)"
    calls = {
        "index": (
            knnvote.Classifier,
            knnvote.choose_distance,
            knnvote.choose_k,
            knnvote.choose_steps,
            knnvote.choose_threshold,
            knnvote.find_suspects,
            lambda x: knnvote.distance_limit(x, Rule()),
        ),
        "indexes": (lambda x: knnvote.compare("test.parquet", [x]),),
    }
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(
                knnvote.OptionError, match=f"{name} is .*give an opened index, as {re.escape(told)} gives"
            ):
                function(given)
    told = "Classifier.open('digits.knn')" if isinstance(given, str | Path) else "Classifier.open(path)"
    with pytest.raises(knnvote.OptionError, match=f"classifier is .*{re.escape(told)}"):
        knnvote.run_job(given, "test.parquet", "out")
