"""Index folders and factory strings from strangers: what may end a process, ends one of its own."""

import json
import os
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.search.search import exact_search
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.sample import digits
from knnvote.indexer import apart, faiss_index
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.codes.inverted_file import training_rows
from knnvote.indexer.codes.library import ENVIRONMENT
from knnvote.indexer.codes.table import tile_type
from knnvote.indexer.faiss_index import build_faiss, write_faiss
from knnvote.indexer.folder import known, verify
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.folder.write import describe_file
from knnvote.indexer.manifest import MANIFEST
from knnvote.indexer.sealed import seal
from knnvote.indexer.trial import folder as trial
from knnvote.indexer.trial.folder import try_folder

IMAGES, LABELS = (array[:80] for array in digits())
KINDS = {
    "exact": IndexOptions(threads=1),
    "adaptive": IndexOptions(kind="adaptive", threads=1),
    "hnsw": IndexOptions(kind="hnsw", threads=1),
    "factory": IndexOptions(kind="factory", factory="PCA8,IVF2,SQ8", threads=1),
}

SEARCHED_BY_FAISS = ("scanned", "hnsw", "factory")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    for name, options in KINDS.items():
        index_arrays(IMAGES, LABELS, folder / name, options=options)
    index_arrays(IMAGES, LABELS, folder / "scanned", options=IndexOptions(metric="l1", threads=1))
    return folder


@pytest.fixture
def stranger(pristine, tmp_path):
    """Copies of index folders, which are nobody's own."""

    def copy(kind):
        return Path(shutil.copytree(pristine / kind, tmp_path / kind))

    return copy


@pytest.fixture
def forked_trials():
    """None: these are the tests of a process of its own."""


@pytest.fixture
def trials(monkeypatch):
    """Each trial that was run apart."""
    calls = []

    def run_apart(*arguments, **limits):
        calls.append(arguments)
        return apart.run_apart(*arguments, **limits)

    monkeypatch.setattr(verify, "run_apart", run_apart)
    return calls


def adopt(folder, role="index", **changes):
    """Have the manifest say what a file is now, as a foreign or hostile program could."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest.update(changes)
    file = folder / manifest["files"][role]["name"]
    manifest["files"][role] = asdict(describe_file(file))
    (folder / MANIFEST).write_bytes(seal(manifest))


def change_index(folder, change):
    """Change a part of the FAISS index of a folder."""
    file = folder / "index-1.faiss"
    index = faiss.read_index(str(file))
    change(faiss.downcast_index(index))
    faiss.write_index(index, str(file))
    adopt(folder)


@pytest.mark.parametrize(
    ("factory", "metric", "end"),
    [
        ("HNSW0", "l2", "its process was stopped by signal SIG[A-Z]+"),
        ("IVF4,Flat,Refine(SQ8)", "l1", "its process was stopped by signal SIG[A-Z]+"),
        ("HNSW10000000", "l2", "it takes more memory than data of this size should"),
    ],
)
def test_a_factory_string_that_ends_its_process_is_refused_with_the_string_and_how_it_ended(factory, metric, end):
    shown = factory.replace("(", r"\(").replace(")", r"\)")
    expected = f"^FAISS cannot build factory '{shown}' over 80 vectors .* metric {metric}: {end}; try kind adaptive"
    with pytest.raises(OptionError, match=expected):
        build_faiss(IMAGES.reshape(80, -1), kind="factory", metric=metric, factory=factory, seed=0)


def test_the_command_survives_a_factory_string_that_ends_its_process(digits_folder, tmp_path, invoke):
    result = invoke("index", digits_folder / "train.parquet", "--out", tmp_path / "x.knn", "--factory", "HNSW0")
    assert result.code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: FAISS cannot build --factory 'HNSW0' over 1,347 vectors")
    assert not (tmp_path / "x.knn").exists()


@pytest.mark.parametrize("factory", ["Flat", "PCA8,IVF2,SQ8", "IVF4,Flat,RFlat", "HNSW8,SQ8"])
def test_an_index_built_apart_has_the_bytes_of_one_built_here(factory, tmp_path):
    x = IMAGES.reshape(80, -1)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        apart_index = build_faiss(x, kind="factory", metric="l2", factory=factory, seed=0).index
    write_faiss(apart_index, tmp_path / "apart")
    write_faiss(faiss_index.fill_index(x.astype(np.float32), factory, faiss.METRIC_L2), tmp_path / "here")
    assert (tmp_path / "apart").read_bytes() == (tmp_path / "here").read_bytes()


def test_what_faiss_prints_while_it_builds_apart_arrives_as_a_warning(capfd):
    with pytest.warns(UserWarning, match=r"^FAISS says: clustering 80 points to 4 centroids: please provide"):
        build_faiss(IMAGES.reshape(80, -1), kind="factory", metric="l2", factory="IVF4,Flat", seed=0)
    assert capfd.readouterr() == ("", "")


def test_no_room_for_the_vectors_of_a_factory_string_is_told(monkeypatch):
    def no_room(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", no_room)
    with pytest.raises(KnnvoteError, match="temporary file: No space left on device; set TMPDIR to a folder that has"):
        build_faiss(IMAGES.reshape(80, -1), kind="factory", metric="l2", factory="Flat", seed=0)


WORKERS = {
    "import os\ndef work(): os.abort()": "its process was stopped by signal SIGABRT",
    "import os, signal\ndef work(): os.kill(os.getpid(), signal.SIGKILL)": "its process was killed, as the system does",
    "def work(): bytes(1 << 60)": "it takes more memory than data of this size should",
    "apart._SECONDS = 0\ndef work():\n  while True: pass": "it gave no answer in many times the time",
    "def work(): raise KnnvoteError('so')": "^so$",
    "def work(): 1 / 0": "its process gave no answer: ZeroDivisionError",
    "import os\ndef work(): os._exit(0)": "its process gave no answer$",
    "import atexit, os\natexit.register(os.abort)\ndef work(): pass": "its process was stopped by signal SIGABRT",
}


@pytest.mark.parametrize("code", WORKERS)
def test_work_apart_ends_in_its_answer_or_in_how_it_ended(code, tmp_path, monkeypatch):
    imports = "from knnvote.data.errors import KnnvoteError\nfrom knnvote.indexer import apart"
    worker = f"{imports}\n{code}\napart.answer(work)"
    (tmp_path / "worker.py").write_text(worker)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(KnnvoteError, match=WORKERS[code]):
        apart.run_apart("worker", memory=0, seconds=0)


def test_a_foreign_module_in_the_working_folder_does_not_stand_for_ours(tmp_path, monkeypatch, stranger):
    (tmp_path / "data.py").write_text("raise SystemExit('foreign')")
    monkeypatch.chdir(tmp_path)
    assert open_index(stranger("exact")).n == 80


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_from_elsewhere_is_tried_once_and_one_of_our_own_never(kind, pristine, stranger, trials):
    assert open_index(pristine / kind).n == 80
    assert not trials
    folder = stranger(kind)
    for _ in range(2):
        assert open_index(folder).n == 80
        assert verify_folder(folder) == []
    assert len(trials) == 1


def test_verifying_a_folder_from_elsewhere_makes_it_known(stranger, trials):
    folder = stranger("exact")
    assert verify_folder(folder) == []
    open_index(folder)
    assert len(trials) == 1


def test_a_known_folder_that_was_touched_moved_or_changed_is_checked_again(stranger, trials, tmp_path):
    folder = stranger("exact")
    open_index(folder)
    (folder / "vectors-1.raw").touch()
    open_index(folder)
    shutil.move(folder, tmp_path / "moved")
    open_index(tmp_path / "moved")
    assert len(trials) == 3
    file = tmp_path / "moved" / "vectors-1.raw"
    content, stat = file.read_bytes(), file.stat()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(KnnvoteError, match=f"^{file} was changed: its SHA-256 differs from the manifest's; build"):
        open_index(tmp_path / "moved")
    assert len(trials) == 3


def test_without_a_cache_folder_every_folder_is_checked_every_time(stranger, trials, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = stranger("exact")
    for _ in range(2):
        assert open_index(folder).n == 80
    assert len(trials) == 2


def test_a_damaged_record_of_a_known_folder_is_none(stranger, trials):
    folder = stranger("exact")
    open_index(folder)
    known._record(folder).write_bytes(b"\xff")
    assert open_index(folder).n == 80
    assert len(trials) == 2


def test_a_trial_that_ends_without_an_answer_is_told_by_folder(stranger, monkeypatch):
    folder = stranger("exact")
    monkeypatch.setattr(verify, "run_apart", lambda *_a, **_k: apart.run_apart("this", memory=0, seconds=0))
    with pytest.raises(
        KnnvoteError, match=f"^{folder} is not an index that knnvote writes: its process gave no answer"
    ):
        open_index(folder)


def wild_neighbor(index):
    neighbors = faiss.rev_swig_ptr(index.hnsw.neighbors.data(), index.hnsw.neighbors.size())
    neighbors[:] = 10**8


def neighbor_below(index):
    """On its upper level the entry point has a neighbour that is on the lowest alone."""
    graph = index.hnsw
    levels, offsets, firsts = map(faiss.vector_to_array, (graph.levels, graph.offsets, graph.cum_nneighbor_per_level))
    neighbors = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
    assert levels[graph.entry_point] > 1
    neighbors[int(offsets[graph.entry_point] + firsts[1])] = np.argmin(levels)


HOSTILE = {
    "neighbours out of range": ("hnsw", wild_neighbor, "neighbours that are no nodes|out of range"),
    "a neighbour on a level that it lacks": ("hnsw", neighbor_below, "neighbours on a level that they lack"),
    "entry point out of range": ("hnsw", lambda index: setattr(index.hnsw, "entry_point", 10**6), "entry|graph"),
    "levels that are not there": ("hnsw", lambda index: setattr(index.hnsw, "max_level", 40), "level|graph"),
    "candidates without end": ("hnsw", lambda index: setattr(index.hnsw, "efSearch", 2**31 - 1), "candidates"),
    "fewer vectors": ("scanned", lambda index: setattr(index, "ntotal", 10), "vectors|codes|cannot reshape"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_index_that_points_outside_itself_is_found_before_it_is_searched(case, stranger, monkeypatch):
    kind, change, found = HOSTILE[case]
    folder = stranger(kind)
    change_index(folder, change)
    monkeypatch.setattr(trial, "_search", None)
    with pytest.raises(KnnvoteError, match=found):
        try_folder(str(folder))


def put(values, place, value):
    values[place] = value
    return values


def put_in(field, place, value):
    """What sets a value of a tile's, which holds 16 vectors: 80 fill five."""

    def change(tiles):
        tiles[field].flat[place] = value
        return tiles

    return change


def fewer_components(tiles):
    narrow = np.zeros(len(tiles), dtype=tile_type(4))
    for field in ("norm", "rest", "rounding", "row"):
        narrow[field] = tiles[field]
    return narrow


HOSTILE_CODES = {
    "a row out of range": ("codes", put_in("row", 3, 10**9), "codes do not hold each stored vector once"),
    "a negative row": ("codes", put_in("row", 3, -2), "codes do not hold each stored vector once"),
    "a row twice": ("codes", put_in("row", slice(0, 2), 5), "codes do not hold each stored vector once"),
    "a row where there is none": ("lists", put_in("row", -1, 0), "codes do not hold each list once"),
    "a list out of range": ("lists", put_in("row", 0, 10**9), "codes do not hold each list once"),
    "a norm that has no absolute value": ("codes", put_in("norm", 0, -(2**31)), "bounds are no lengths"),
    "a norm beyond any": ("lists", put_in("norm", 0, 2**31 - 1), "bounds are no lengths"),
    "a negative rest": ("codes", put_in("rest", 0, -1), "bounds are no lengths"),
    "a rest without end": ("codes", put_in("rest", 0, np.inf), "bounds are no lengths"),
    "a rounding that is no number": ("codes", put_in("rounding", 79, np.nan), "bounds are no lengths"),
    "lists that end before they begin": ("ends", lambda ends: ends[::-1], "lists do not end one after the other"),
    "a list that ends beyond the last": ("ends", lambda ends: put(ends, -1, 81), "lists do not end one after the"),
    "a list that ends before the first": ("ends", lambda ends: put(ends, 0, -1), "lists do not end one after the"),
    "lists whose ends overflow": (
        "ends",
        lambda ends: put(ends, slice(0, 2), [2**63 - 1, -2]),
        "lists do not end one after the other",
    ),
    "no lists": ("ends", lambda ends: ends[:0], "codes do not fit its vectors"),
    "other whole numbers": ("ends", lambda ends: ends.astype(np.int32), "codes do not fit its vectors"),
    "codes of fewer components": ("codes", fewer_components, "codes do not fit its vectors"),
    "codes of fewer vectors": ("codes", lambda tiles: tiles[1:], "codes do not fit its vectors"),
    "codes as bytes": ("codes", lambda tiles: tiles.view(np.uint8), "codes do not fit its vectors"),
    "axes of more components": ("axes", lambda axes: np.vstack([axes, axes[:4]]), "codes do not fit its vectors"),
    "axes of fewer dimensions": ("axes", lambda axes: axes[:, 1:].copy(), "codes do not fit its vectors"),
    "axes of other floats": ("axes", lambda axes: axes.astype(np.float32), "codes do not fit its vectors"),
    "axes that are not finite": ("axes", lambda axes: put(axes, (1, 0), np.nan), "axes are too long, too short"),
    "axes without end": ("axes", lambda axes: put(axes, (1, 1), -np.inf), "axes are too long, too short"),
    "axes whose squares overflow": ("axes", lambda axes: put(axes, (1, 0), 1e300), "axes are too long, too short"),
    "axes of nothing": (
        "axes",
        lambda axes: put(axes, slice(1, None), 0),
        "axes are too long, too short or not finite",
    ),
    "axes of hardly anything": ("axes", lambda axes: put(axes, slice(1, None), 5e-324), "too long, too short"),
    "a centre that is none": ("axes", lambda axes: put(axes, (0, 0), np.nan), "centre is not finite"),
}


def change_codes(folder, role, change):
    file = folder / f"{role}-1.npy"
    np.save(file, change(np.load(file)))
    adopt(folder, role)


@pytest.mark.parametrize("case", HOSTILE_CODES)
def test_codes_that_point_outside_or_are_none_are_found_before_they_are_searched(case, stranger, monkeypatch):
    role, change, found = HOSTILE_CODES[case]
    folder = stranger("adaptive")
    change_codes(folder, role, change)
    monkeypatch.setattr(trial, "_search", None)
    with pytest.raises(KnnvoteError, match=found):
        try_folder(str(folder))


NOT_ITS_OWN = {
    "codes": put_in("codes", 700, 3),
    "norm": put_in("norm", 0, 2**29),
    "rest": put_in("rest", 79, 1e4),
    "rounding": put_in("rounding", 5, 0),
    "axes": lambda axes: put(axes, 1, axes[1, ::-1] / 2),
    "centre": lambda axes: put(axes, 0, 1e308),
}


@pytest.mark.parametrize("case", NOT_ITS_OWN)
def test_codes_of_other_vectors_than_it_stores_are_found(case, stranger):
    """By them a search could rule out true neighbours, and find fewer than it is asked for."""
    folder = stranger("adaptive")
    change_codes(folder, "axes" if case in ("axes", "centre") else "codes", NOT_ITS_OWN[case])
    with pytest.raises(KnnvoteError, match="its codes are not those of its vectors"):
        try_folder(str(folder))


@pytest.mark.parametrize(
    ("metric", "value", "found"),
    [("l2", np.nan, "are not finite"), ("l2", 1e200, "a value beyond 1e"), ("cosine", 0, "every value is zero")],
)
def test_vectors_that_could_not_be_stored_are_found(metric, value, found, tmp_path):
    index_arrays(IMAGES / 7, LABELS, tmp_path / "x", options=IndexOptions(metric=metric, threads=1))
    vectors = np.load(tmp_path / "x" / "vectors-1.npy")
    vectors[70] = value
    np.save(tmp_path / "x" / "vectors-1.npy", vectors)
    adopt(tmp_path / "x", "vectors")
    with pytest.raises(KnnvoteError, match=found):
        try_folder(str(tmp_path / "x"))


FAR = {"far": (1.0, 1e149), "farther": (1e-149, 1e149), "all near": (1e-162, 1e-160), "nearest": (1e-300, 1.0)}


@pytest.mark.parametrize("case", FAR)
@pytest.mark.parametrize("kernel", ["", "numpy"])
def test_vectors_that_axes_do_not_reach_are_stored_trusted_and_found(case, kernel, tmp_path, monkeypatch):
    """They are so far out that their bounds, the codes' unit or its square are infinite."""
    monkeypatch.setenv(ENVIRONMENT, kernel)
    scale, far = FAR[case]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12)) * scale
    outside = np.setdiff1d(np.arange(200), training_rows(200, 0))[:3]
    x[outside] = far * np.array([[1.0], [1.5], [2.0]])
    index_arrays(x, np.arange(200) % 3, tmp_path / "x", options=KINDS["adaptive"])
    try_folder(str(tmp_path / "x"))
    D, I = exact_search(open_index(tmp_path / "x"), x[outside], 2)
    assert I[:, 0].tolist() == outside.tolist() or not D.any()
    expected = np.sort(np.sqrt(np.square(x[outside][:, None] - x).sum(axis=2)), axis=1)[:, :2]
    assert np.allclose(D, expected, rtol=1e-12, atol=0)


def test_a_hostile_folder_is_refused_by_its_path_and_verify_says_the_same(stranger):
    folder = stranger("hnsw")
    change_index(folder, wild_neighbor)
    with pytest.raises(KnnvoteError) as refused:
        open_index(folder)
    (problem,) = verify_folder(folder)
    assert problem.startswith(f"{folder} is not an index that knnvote writes: ")
    assert str(refused.value) == f"{problem}; build the index again, or get it again from where it came"


@pytest.mark.parametrize("kind", SEARCHED_BY_FAISS)
@pytest.mark.parametrize("other", SEARCHED_BY_FAISS)
def test_an_index_of_another_kind_does_not_pass(kind, other, stranger, pristine):
    folder = stranger(kind)
    shutil.copy(pristine / other / "index-1.faiss", folder)
    adopt(folder)
    if kind == other or (kind == "factory" and other in ("scanned", "hnsw")):
        try_folder(str(folder))  # any index will do for kind factory, as long as it holds so many of that size
        return
    with pytest.raises(KnnvoteError):
        try_folder(str(folder))


LABEL_TABLES = {
    "another column": lambda table: table.append_column("more", table["row"]),
    "a column less": lambda table: table.drop(["id"]),
    "the same column twice": lambda table: table.append_column("id", table["id"]),
    "numbers for ids": lambda table: table.set_column(1, "id", table["row"]),
    "labels of another type": lambda table: table.set_column(0, "label", table["id"]),
    "labels that are no classes": lambda table: table.set_column(0, "label", pa.array(np.arange(80))),
    "a null": lambda table: table.set_column(2, "file", pa.array([None] * 80, pa.string())),
    "a row less": lambda table: table.slice(1),
}


@pytest.mark.parametrize("case", LABEL_TABLES)
def test_labels_of_other_columns_types_or_rows_are_refused(case, stranger):
    folder = stranger("exact")
    table = LABEL_TABLES[case](pq.read_table(folder / "labels-1.parquet"))
    pq.write_table(table, folder / "labels-1.parquet")
    adopt(folder, "labels")
    with pytest.raises(KnnvoteError, match=r"labels|it does not hold the vectors that its manifest describes"):
        try_folder(str(folder))


@pytest.mark.parametrize("shape", [(10**18, 10**18), (2**40, 64), (-1, 64), (80, 65), (), (80, 64, 1)])
def test_an_array_that_claims_another_shape_is_refused_without_room_for_it(shape, tmp_path):
    index_arrays(IMAGES / 7, LABELS, tmp_path / "x", options=IndexOptions(metric="l1", threads=1))
    file = tmp_path / "x" / "vectors-1.npy"
    content = file.read_bytes()[128:]
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
        stream.write(content)
    adopt(tmp_path / "x", "vectors")
    with pytest.raises(KnnvoteError, match=r"files cannot be read|does not hold the vectors"):
        try_folder(str(tmp_path / "x"))


ABSURD = {
    "n": [0, -1, True, 2**70, 1.0],
    "d": [0, -64, False],
    "shape": [[], [8], [8, -8], [8, 8, 2], [64.0], [True, 64], [[8, 8]]],
    "range": [[0], [0, "16"], [16, 0], [0, None], [float("nan"), 1], [0, 10**400], [False, 16]],
    "classes": [[], [1, 0], [0, 0], [0, "1"], [0, None], [[0], [1]], [True, False], ["0"], list(range(81))],
    "class_names": ["x", [1], {}],
    "label_type": ["list<item: int64>", "int", "", 3],
    "task": ["ranking", 1],
    "search": [{}, {"grid": 1.0}, {"candidates_per_neighbor": 0, "is_centred": False}, {"candidates_per_neighbor": 2}],
    "seed": [-1, 2**31, True],
    "versions": [{"knnvote": 1}, {"x": {}}],
    "vector": [{"step": "pixels", "grayscale": 3}],
    "sources": [[{"path": 1}]],
    "image_column": [3],
    "skipped": [-1, True],
    "data_sha256": ["", "x" * 64],
}


@pytest.mark.parametrize("key", ABSURD)
def test_a_sealed_manifest_of_absurd_values_is_refused_by_its_key(key, stranger, invoke):
    folder = stranger("hnsw")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for value in ABSURD[key]:
        (folder / MANIFEST).write_bytes(seal({**manifest, key: value}))
        with pytest.raises(KnnvoteError, match=rf"missing or unusable are .*{key}.*; build the index again"):
            open_index(folder)
    for command in ("inspect", "verify"):
        result = invoke(command, folder)
        assert result.code == 1
        (line,) = result.stderr.splitlines()
        assert key in line


def test_a_size_that_a_file_does_not_have_is_told_by_verify_and_on_opening(stranger):
    folder = stranger("exact")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"]["codes"]["size"] = 2**62
    (folder / MANIFEST).write_bytes(seal(manifest))
    (problem,) = verify_folder(folder)
    assert problem.startswith(f"{folder}/codes-1.npy has ")
    assert problem.endswith(" bytes, and the manifest says 4,611,686,018,427,387,904")
    with pytest.raises(KnnvoteError, match=problem):
        open_index(folder)


def test_a_manifest_nested_deeper_than_any_is_refused(stranger):
    folder = stranger("exact")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    deep = []
    for _ in range(100):
        deep = [deep]
    (folder / MANIFEST).write_bytes(seal({**manifest, "more": deep}))
    with pytest.raises(KnnvoteError, match="missing or unusable are more;"):
        open_index(folder)


@pytest.mark.parametrize("timing", [{}, {"read_seconds": 1, "build_seconds": "2"}, {"read_seconds": 1}])
def test_a_sealed_timing_without_seconds_is_told_by_inspect_and_verify(timing, stranger, invoke):
    folder = stranger("exact")
    (folder / "timing-1.json").write_bytes(seal(timing))
    for command in ("inspect", "verify"):
        result = invoke(command, folder)
        assert result.code == 1
        assert "timing-1.json is not one that knnvote writes: it does not hold seconds" in result.stderr


def test_a_manifest_is_read_for_no_more_than_any_could_be(stranger, monkeypatch):
    folder = stranger("exact")
    monkeypatch.setattr("knnvote.indexer.sealed._LARGEST", 100)
    with pytest.raises(KnnvoteError, match=r"manifest.json is damaged: it is not JSON"):
        open_index(folder)
