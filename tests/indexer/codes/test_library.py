"""The compiled kernel: which is chosen, and that NumPy stands in where there is none that fits."""

import ctypes
import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from knnvote.data.errors import KnnvoteError
from knnvote.indexer.codes import library

ROOT = Path(__file__).parents[3]
SOURCE = """
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
extern "C" __attribute__((visibility("default"))) int JOIN(runs, VARIANT)() { return 7; }
#if defined(MARK)
extern "C" __attribute__((visibility("default"))) const char *const knnvote_mark = MARK;
#endif
"""
needs_kernel = pytest.mark.skipif(not library._usable(), reason="knnvote was installed without its compiled kernel")
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++")


@pytest.fixture(scope="module")
def hatch_build():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def anew(monkeypatch):
    """What was found before is forgotten, and so is what a test finds."""
    monkeypatch.delenv(library.ENVIRONMENT, raising=False)
    caches = library._usable, library._choose
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


# Which is chosen


def test_a_variant_that_is_not_there_is_refused_in_a_line_that_names_those_that_are(monkeypatch, invoke, exact_index):
    command = ["classify", exact_index, exact_index.parent / "test.parquet", "--out", "job"]
    monkeypatch.setenv(library.ENVIRONMENT, "sse9")
    done = invoke(*command)
    assert done.code != 0
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "sse9" in line]
    named = line.partition("give one of ")[2].partition(", or unset it")[0].split(", ")
    assert named == [*library._usable(), library.NONE]
    for number, variant in enumerate(named):
        monkeypatch.setenv(library.ENVIRONMENT, variant)
        assert library.kernel_name() == variant
        assert invoke(*command[:-1], f"job-{number}").code == 0
    monkeypatch.delenv(library.ENVIRONMENT)
    assert library.kernel_name() == named[0]


@needs_kernel
@pytest.mark.usefixtures("anew")
def test_a_variant_that_the_processor_lacks_is_not_chosen(monkeypatch):
    monkeypatch.setattr(library, "_runs", lambda _, name: name == "plain")
    assert [*library._usable()] == ["plain"]


@needs_kernel
@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_library_of_another_source_is_not_used(monkeypatch, tmp_path, is_there):
    changed = tmp_path / "kernel.cpp"
    if is_there:
        changed.write_bytes(library._SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(library, "_SOURCE", changed)
    assert library.kernel_name() == library.NONE
    monkeypatch.setenv(library.ENVIRONMENT, "plain")
    with pytest.raises(KnnvoteError, match="give one of numpy, or unset it"):
        library.kernel()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("content", [None, b"", b"of another machine"])
def test_without_a_library_numpy_is_at_work(monkeypatch, tmp_path, content):
    path = tmp_path / "kernel.compiled"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(library, "_LIBRARY", path)
    assert library.kernel() is None
    assert library.kernel_name() == library.NONE


# How it is compiled


@needs_compiler
def test_every_variant_is_compiled_into_one_library_that_tells_its_source(hatch_build, monkeypatch, tmp_path):
    source, built = tmp_path / "kernel.cpp", tmp_path / "kernel.compiled"
    source.write_text(SOURCE)
    monkeypatch.setenv("CXX", "g++ -DNOTHING")  # a compiler with an option
    assert hatch_build.compile_kernel(source, built) is None
    loaded = ctypes.CDLL(str(built))
    variants = {"plain", *hatch_build._X86} if hatch_build.platform.machine() == "x86_64" else {"plain"}
    assert {getattr(loaded, f"runs_{variant}")() for variant in variants} == {7}
    assert variants <= set(library._VARIANTS)
    mark = ctypes.c_char_p.in_dll(loaded, "knnvote_mark").value.decode()
    assert hatch_build.hashlib.sha256(source.read_bytes()).hexdigest().startswith(mark)
    assert len(mark) == 16


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/nonexistent/g++", "/nonexistent/g++ does not run: "),
        ("false", "false fails: exit code 1"),
        pytest.param("g++ -DVARIANT", "error", marks=needs_compiler),
    ],
)
def test_without_a_compiler_that_works_there_is_a_reason_and_no_library(
    hatch_build, monkeypatch, tmp_path, compiler, reason
):
    source = tmp_path / "indexer/codes/kernel.cpp"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE + "#error\n")
    stale = source.with_name("kernel.compiled")
    stale.write_text("of before")
    monkeypatch.setenv("CXX", compiler)
    said = hatch_build.compile_kernel(source, tmp_path / "library")
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "library").exists()
    told, build_data = [], {"artifacts": [], "pure_python": True}
    hook = hatch_build.KernelHook(
        str(tmp_path), {}, None, None, "", "wheel", SimpleNamespace(display_warning=told.append)
    )
    hook.initialize("standard", build_data)
    assert build_data == {"artifacts": [], "pure_python": True}  # one wheel for all machines
    assert not stale.exists()
    assert told == [f"knnvote is built without its compiled kernel, and is slower: {said}"]


@needs_compiler
def test_where_the_library_cannot_be_written_there_is_a_reason(hatch_build, monkeypatch, tmp_path):
    source = tmp_path / "kernel.cpp"
    source.write_text(SOURCE)
    monkeypatch.setenv("CXX", "g++")
    said = hatch_build.compile_kernel(source, source / "kernel.compiled")
    assert said == f"{source / 'kernel.compiled'} cannot be written: Not a directory"


def test_without_any_compiler_the_reason_says_what_to_install(hatch_build, monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install one, such as g++" in hatch_build.compile_kernel(tmp_path / "kernel.cpp", tmp_path / "library")
