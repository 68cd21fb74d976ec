"""What is installed: the wheel and the sdist, one package in them, and people's own files beside it.

Nothing is fetched: the wheel goes into an environment of its own, which finds other libraries in this one.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from knnvote import index_arrays

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
ROOMS = ("data", "indexer", "classify")
KERNEL = "knnvote/indexer/codes/kernel.compiled"
COMPILER = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

MINE = {
    "data.py": "raise RuntimeError('data.py is mine')\n",
    "indexer.py": "raise RuntimeError('indexer.py is mine')\n",
    "classify.py": """\
import sys
if __name__ != "__main__":
    raise RuntimeError("classify.py is mine")

import numpy as np
import knnvote
from knnvote import Classifier, KNNVoteClassifier

images, labels = np.load("images.npy"), np.load("labels.npy")
answer = Classifier.open("x.knn")(images)
print(answer.prediction.to_pylist() == labels.tolist())
fitted = KNNVoteClassifier(1).fit(images.reshape(len(images), -1), labels)
print(fitted.predict(images.reshape(len(images), -1)).tolist() == labels.tolist())
fitted.save("saved.knn")
print(knnvote.__file__)
""",
}


def run(*arguments, cwd, **options):
    """A process that must do well, with no path to this tree; what it says is shown where it does not."""
    env = {**os.environ, **options.pop("env", {})}
    env.pop("PYTHONPATH", None)
    options = {**options, "env": env, "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run(arguments, cwd=cwd, check=False, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(tree, out):
    """The wheel of a tree, by whatever builder is here."""
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, tree, cwd=out)
    (wheel,) = out.glob("*.whl")
    return wheel


def copy_tree(tree, *, links):
    """What a build takes, links of folders as such or as what they lead to."""
    for name in ("src", *ROOMS):
        shutil.copytree(ROOT / name, tree / name, symlinks=links)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree)


def contents(wheel):
    """What each file of a wheel holds, by name; but for the record of them all."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="module", autouse=True)
def quick_compiler(tmp_path_factory):
    """It does not optimise, which takes a fifth of the time: the searches here are of few images."""
    with pytest.MonkeyPatch.context() as patch:
        if COMPILER:
            script = tmp_path_factory.mktemp("compiler") / "c++"
            script.write_text(f'#!/bin/sh\nexec {COMPILER} "$@" -O0\n')
            script.chmod(0o755)
            patch.setenv("CXX", str(script))
        yield


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree, made of a copy: what is compiled beside its source stays."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    copy_tree(tree, links=True)
    return build_wheel(tree, out)


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """An environment in which the wheel is installed, and other libraries are found."""
    folder = tmp_path_factory.mktemp("site")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, wheel, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    assert sorted(path.name for path in packages.iterdir()) == ["knnvote", wheel.name.split("-py3")[0] + ".dist-info"]
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.fixture
def mine(tmp_path):
    """A folder of someone's own: classify.py beside data.py, and an index that was made elsewhere."""
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4), np.uint8)
    labels = np.arange(30)
    index_arrays(images, labels, tmp_path / "made.knn")
    shutil.copytree(tmp_path / "made.knn", tmp_path / "x.knn")  # so that it is checked, in a process apart
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    for name, text in MINE.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_wheel_holds_one_package_with_every_file_of_the_rooms(wheel):
    names = set(contents(wheel))
    package = {name for name in names if name.startswith("knnvote/")}
    assert {name.split("/")[0] for name in names - package} == {wheel.name.split("-py3")[0] + ".dist-info"}
    expected = {
        f"knnvote/{room}/{path.relative_to(ROOT / room).as_posix()}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    face = ROOT / "src/knnvote"
    folders = (face, *face.glob("cli/**"), face / "serve")
    own = {path.relative_to(face) for folder in folders for path in folder.glob("*.*")}
    expected |= {f"knnvote/{path.as_posix()}" for path in own if "__pycache__" not in path.parts}
    assert package == expected
    assert "knnvote/py.typed" in package
    assert "knnvote/classify/pages/templates/base.html.j2" in package
    assert not any(name.startswith(("bench", "tests")) for name in names)
    assert "knnvote/indexer/codes/kernel.cpp" in package


@needs_compiler
def test_the_wheel_holds_the_compiled_kernel_and_is_of_this_platform_for_every_python(wheel):
    assert KERNEL in contents(wheel)
    assert wheel.name.split("-")[2:] == ["py3", "none", f"{re.sub('[-.]', '_', sysconfig.get_platform())}.whl"]


@needs_compiler
def test_an_installed_wheel_searches_by_the_compiled_kernel(site, tmp_path):
    _, told = run(site / "bin" / "knnvote", "--version", cwd=tmp_path, env={"KNNVOTE_KERNEL": ""}).splitlines()
    assert told in ("kernel avx512", "kernel avx2", "kernel plain")


def test_without_a_compiler_the_wheel_is_pure_and_says_so_in_one_line(tmp_path):
    tree, out = tmp_path / "tree", tmp_path / "out"
    copy_tree(tree, links=True)
    (tree / "indexer/codes/kernel.compiled").write_bytes(b"of another time")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", out)
    told = subprocess.run(
        build, cwd=tree, env={**os.environ, "CXX": "false"}, capture_output=True, text=True, check=True
    )
    (line,) = (line for line in (told.stdout + told.stderr).splitlines() if "kernel" in line)
    assert line == "knnvote is built without its compiled kernel, and is slower: false fails: exit code 1"
    (wheel,) = out.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    held = {name for name in contents(wheel) if name.startswith("knnvote/indexer/codes/kernel")}
    assert held == {"knnvote/indexer/codes/kernel.cpp"}


def test_the_sdist_gives_the_same_wheel(wheel, tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path, cwd=ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
        assert not any(member.issym() or member.islnk() for member in archive.getmembers())
        assert not any(name.endswith(".compiled") for name in archive.getnames())
    (tree,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert {"pyproject.toml", "README.md", "LICENSE", "tests", "src", *ROOMS} <= {path.name for path in tree.iterdir()}
    out = tmp_path / "out"
    out.mkdir()
    assert contents(build_wheel(tree, out)) == contents(wheel)


def test_a_plain_copy_without_links_gives_the_same_wheel(wheel, tmp_path):
    tree, out = tmp_path / "tree", tmp_path / "out"
    out.mkdir()
    copy_tree(tree, links=False)
    assert (tree / "src/knnvote/data").is_dir()
    assert not (tree / "src/knnvote/data").is_symlink()
    assert contents(build_wheel(tree, out)) == contents(wheel)


def test_a_script_named_classify_beside_a_data_py_uses_the_library(site, mine):
    told = run(site / "bin" / "python", "classify.py", cwd=mine).splitlines()
    assert told[:2] == ["True", "True"]
    assert Path(told[2]).is_relative_to(site)
    assert (mine / "saved.knn" / "manifest.json").exists()


def test_a_kernel_in_a_folder_of_such_files_uses_the_library(site, mine):
    """A notebook's kernel, like an interactive session, looks for modules in the folder at work first."""
    cell = MINE["classify.py"].replace('if __name__ != "__main__":', "if sys.path[0] != '':")
    told = run(site / "bin" / "python", "-c", cell, cwd=mine).splitlines()
    assert told[:2] == ["True", "True"]
    session = run(
        site / "bin" / "python", "-i", "-q", cwd=mine, input="import knnvote\nknnvote.open_index('x.knn').n\n"
    )
    assert session.strip() == "30"


@pytest.mark.parametrize("command", ["knnvote", "python -m knnvote"])
def test_the_command_runs_in_a_folder_of_such_files(site, mine, command):
    program, *arguments = command.split()
    told = run(site / "bin" / program, *arguments, "inspect", "x.knn", cwd=mine)
    assert re.search(r"^images +30 of 4 x 4", told, re.MULTILINE)


USES = """\
import numpy as np

import knnvote
from knnvote import Classifier, KNNVoteClassifier, Rule


def sure(folder: str) -> int:
    classify = Classifier.open(folder, Rule(k=3, min_confidence=0.8))
    answer = classify(np.zeros((2, 8, 8)))
    reveal_type(answer.D)
    reveal_type(classify.index.n)
    reveal_type(KNNVoteClassifier().save)
    return int((answer.status == "ok").sum())


summary = knnvote.run_job(Classifier.open("x.knn"), ["a.parquet"], "out")
reveal_type(summary.counts.ok)
"""
MISUSES = """\
import knnvote

knnvote.Rule(k="3")
knnvote.Rule(ties="farthest")
knnvote.index_files(1, "x.knn")
knnvote.Clasifier
"""


@pytest.fixture(scope="module")
def told_of_types(site, tmp_path_factory):
    """What mypy --strict says of each of two programs of someone's own."""
    pytest.importorskip("mypy", reason="types are checked with the extra lint")
    folder = tmp_path_factory.mktemp("types")
    (folder / "uses.py").write_text(USES)
    (folder / "misuses.py").write_text(MISUSES)
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", folder / "cache")
    command = (*mypy, "--python-executable", site / "bin" / "python", "uses.py", "misuses.py")
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=600)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return {name: [line for line in lines if line.startswith(f"{name}.py:")] for name in ("uses", "misuses")}


def test_types_are_seen_in_a_project_that_uses_the_library(told_of_types):
    assert not [line for line in told_of_types["uses"] if ": error:" in line]
    types = [re.search(r'Revealed type is "(.*)"', line)[1] for line in told_of_types["uses"]]
    assert "float64" in types[0] or "floating" in types[0]
    assert re.fullmatch(r"(builtins\.)?int", types[1])
    assert re.search(r"overwrite: (builtins\.)?bool", types[2])
    assert re.fullmatch(r"(builtins\.)?int", types[3])


def test_types_that_do_not_fit_are_told(told_of_types):
    errors = [line for line in told_of_types["misuses"] if ": error:" in line]
    assert [int(line.split(":")[1]) for line in errors] == [3, 4, 5, 6]
    assert [line.rsplit("[", 1)[1] for line in errors] == ["arg-type]"] * 3 + ["attr-defined]"]
