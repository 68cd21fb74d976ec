"""The index folder: committed whole, checked byte by byte, nothing in it that runs code."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.data.errors import KnnvoteError
from knnvote.data.sample import digits, split_digits
from knnvote.indexer import fields
from knnvote.indexer import manifest as manifest_module
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder import open as opening
from knnvote.indexer.folder import write as writing
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.folder.write import describe_file
from knnvote.indexer.manifest import MANIFEST, read_manifest
from knnvote.indexer.sealed import seal

IMAGES, LABELS = (array[:60] for array in digits())
FLOATS = IMAGES / 7  # which float32 does not hold
REPLACING = IndexOptions(overwrite=True)
ARRAYS = [f"{role}-1.npy" for role in ("axes", "codes", "ends", "lists")]
STORED = sorted([*ARRAYS, "labels-1.parquet", "vectors-1.raw"])


@pytest.fixture
def folder(tmp_path):
    """A small index folder with all that one of floats can hold: vectors, codes, labels that are not ASCII."""
    names = np.array(["텐", "naïve", "cat"])
    index_arrays(FLOATS, names[LABELS % 3], tmp_path / "x.knn", options=IndexOptions(kind="adaptive", threads=1))
    return tmp_path / "x.knn"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """The same, for tests that put back what they change."""
    path = tmp_path_factory.mktemp("pristine") / "x.knn"
    names = np.array(["텐", "naïve", "cat"])
    index_arrays(FLOATS, names[LABELS % 3], path, options=IndexOptions(kind="adaptive", threads=1))
    return path


def state(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def problems(folder):
    """What verify says, whether as its findings or as the reason why it could not begin."""
    try:
        return verify_folder(folder)
    except KnnvoteError as error:
        return [str(error)]


def named_files(folder):
    return sorted(file.name for file in read_manifest(folder).files.values())


def edit_manifest(folder, change):
    """Change the manifest and seal it again, as a foreign or hostile program could."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).write_bytes(seal(manifest))


def test_a_folder_holds_its_manifest_the_files_it_names_and_the_timing_alone(folder):
    assert named_files(folder) == STORED
    assert sorted(file.name for file in folder.iterdir()) == sorted([*STORED, MANIFEST, "timing-1.json"])


def test_an_opened_index_holds_what_was_given(folder):
    index = open_index(folder)
    assert (index.n, index.d, index.shape, index.kind, index.metric) == (60, 64, (8, 8), "adaptive", "l2")
    assert np.array_equal(index.vectors, FLOATS.reshape(60, 64))
    assert index.vectors.dtype == np.float64
    labels = np.array(["텐", "naïve", "cat"])[LABELS % 3]
    assert index.labels.to_pylist() == labels.tolist()
    assert index.classes.to_pylist() == sorted(set(labels.tolist()))
    assert index.classes.take(index.class_codes).to_pylist() == labels.tolist()
    assert index.ids.to_pylist() == [f"array#{row}" for row in range(60)]
    assert index.fingerprint == read_manifest(folder).fingerprint
    assert not index.is_regression


def test_each_rows_origin_can_be_read_by_any_parquet_reader(folder):
    table = pq.read_table(folder / "labels-1.parquet")
    assert table.column_names == ["label", "id", "file", "row"]
    assert table.slice(7, 1).drop(["label"]).to_pylist() == [{"id": "array#7", "file": "array", "row": 7}]


def test_labels_of_a_regression_come_back_as_float64(tmp_path):
    index_arrays(IMAGES, LABELS / 3, tmp_path / "x.knn", is_regression=True)
    index = open_index(tmp_path / "x.knn")
    assert index.is_regression
    assert index.targets.tolist() == (LABELS / 3).tolist()
    assert index.classes.to_pylist() == []


def test_vectors_of_an_opened_index_outlive_it(exact_index):
    vectors = open_index(exact_index).vectors
    assert np.array_equal(vectors, split_digits().train_images.reshape(-1, 64))


def test_a_whole_folder_is_verified_without_a_word(pristine, exact_index, adaptive_index):
    assert verify_folder(pristine) == verify_folder(exact_index) == verify_folder(adaptive_index) == []


def test_a_moved_or_copied_folder_is_the_same_index(folder, tmp_path):
    before = open_index(folder).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    shutil.move(folder, tmp_path / "moved")
    for path in (tmp_path / "copy", tmp_path / "moved"):
        assert verify_folder(path) == []
        assert open_index(path).fingerprint == before


@pytest.mark.parametrize(
    ("name", "step"), [(MANIFEST, 8), pytest.param(MANIFEST, 1, marks=pytest.mark.long), ("timing-1.json", 1)]
)
def test_every_single_flipped_byte_of_a_json_file_is_found(pristine, name, step):
    file = pristine / name
    content = file.read_bytes()
    try:
        for position in range(0, len(content), step):
            damaged = bytearray(content)
            damaged[position] ^= (0x01, 0x20, 0x80)[position % 3]
            file.write_bytes(damaged)
            found = problems(pristine) if name == MANIFEST else _timing_problems(pristine)
            assert len(found) == 1, (position, found)
            assert str(file) in found[0], (position, found)
    finally:
        file.write_bytes(content)


def _timing_problems(folder):
    try:
        read_timing(folder, 1)
    except KnnvoteError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("name", [*STORED, "timing-1.json", MANIFEST])
def test_any_single_changed_byte_of_any_file_is_found_and_the_file_named(pristine, name):
    file = pristine / name
    content = file.read_bytes()

    @given(position=st.integers(0, len(content) - 1), mask=st.integers(1, 255))
    @settings(max_examples=30, deadline=None)
    def check(position, mask):
        damaged = bytearray(content)
        damaged[position] ^= mask
        file.write_bytes(damaged)
        (found,) = problems(pristine)
        assert str(file) in found

    try:
        check()
    finally:
        file.write_bytes(content)
    assert verify_folder(pristine) == []


@pytest.mark.parametrize("name", [*STORED, "timing-1.json", MANIFEST])
@pytest.mark.parametrize("left", [0, 1, 0.5, -1])
def test_a_truncated_file_is_found(pristine, name, left):
    file = pristine / name
    content = file.read_bytes()
    try:
        file.write_bytes(content[: int(len(content) * left) if 0 < left < 1 else left])
        (found,) = problems(pristine)
        assert str(file) in found
        if name not in {MANIFEST, "timing-1.json"}:
            with pytest.raises(
                KnnvoteError, match=rf"{file} has [\d,]+ bytes, and the manifest says {len(content):,}:"
            ):
                open_index(pristine)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", STORED)
def test_a_missing_file_is_found(folder, name):
    (folder / name).unlink()
    assert verify_folder(folder) == [f"{folder / name} is missing"]
    with pytest.raises(KnnvoteError, match=f"{folder / name} is missing, and the manifest says .* build it again"):
        open_index(folder)


def test_a_missing_timing_is_found_and_the_index_still_opens(folder):
    (folder / "timing-1.json").unlink()
    (found,) = verify_folder(folder)
    assert found.startswith(f"cannot read {folder}/timing-1.json: No such file")
    assert open_index(folder).n == 60


def test_every_damaged_file_is_told_of_at_once(folder):
    for name in named_files(folder):
        (folder / name).write_bytes(b"")
    assert len(verify_folder(folder)) == len(STORED)


@pytest.mark.parametrize("name", STORED)
def test_damage_that_keeps_the_size_is_found_on_opening(folder, name):
    (folder / name).write_bytes(b"\0" * (folder / name).stat().st_size)
    with pytest.raises(KnnvoteError, match=f"{folder / name} was changed: its SHA-256 differs from the manifest's; "):
        open_index(folder)


def test_swapped_files_do_not_pass_for_the_index(folder, tmp_path):
    index_arrays(FLOATS[:, :4], LABELS, tmp_path / "y.knn", options=IndexOptions(kind="adaptive"))
    shutil.copy(tmp_path / "y.knn" / "vectors-1.raw", folder / "vectors-1.raw")
    assert len(verify_folder(folder)) == 1

    def adopt(manifest):
        manifest["files"]["vectors"] = asdict(describe_file(folder / "vectors-1.raw"))

    edit_manifest(folder, adopt)
    with pytest.raises(KnnvoteError, match=r"manifest\.json is not one that knnvote writes: .* unusable are files;"):
        open_index(folder)


def test_every_file_is_of_a_plain_format_and_none_a_pickle(pristine):
    for name in ARRAYS:
        assert not np.load(pristine / name, allow_pickle=False).dtype.hasobject
    assert (pristine / "labels-1.parquet").read_bytes().startswith(b"PAR1")
    vectors = np.memmap(pristine / "vectors-1.raw", np.float64, "r", shape=(60, 64))
    assert np.array_equal(vectors, FLOATS.reshape(60, 64))
    for name in (MANIFEST, "timing-1.json"):
        assert isinstance(json.loads((pristine / name).read_bytes()), dict)
    assert len(list(pristine.iterdir())) == len(STORED) + 2


def test_a_pickle_in_place_of_the_codes_is_not_loaded(folder):
    with (folder / "codes-1.npy").open("wb") as stream:
        np.save(stream, np.array([{"x": 1}] * 5000, dtype=object), allow_pickle=True)

    def adopt(manifest):
        manifest["files"]["codes"] = asdict(describe_file(folder / "codes-1.npy"))

    edit_manifest(folder, adopt)
    with pytest.raises(KnnvoteError, match="its files cannot be read"):
        open_index(folder)


def test_a_folder_without_a_manifest_is_no_index(tmp_path):
    for call in (open_index, read_manifest, verify_folder):
        with pytest.raises(
            KnnvoteError, match=r"is not an index folder: it has no manifest.json; give one that knnvote"
        ):
            call(tmp_path)
        with pytest.raises(
            KnnvoteError, match=r"gone.knn does not exist: give an index folder that knnvote index made"
        ):
            call(tmp_path / "gone.knn")


def test_an_index_of_a_newer_format_says_upgrade(folder):
    def renew(manifest):
        manifest.clear()
        manifest.update(format=manifest_module.FORMAT + 1, shards=[])

    edit_manifest(folder, renew)
    for call in (open_index, verify_folder):
        with pytest.raises(KnnvoteError, match=r"has index format 4, and this knnvote reads up to 3: upgrade with pip"):
            call(folder)


@pytest.mark.parametrize(
    "name", ["../x.npy", "/etc/passwd", "sub/vectors-1.raw", "..", "", ".", "a\0b", "vectors-1.raw\n"]
)
def test_a_manifest_that_names_anything_outside_the_folder_is_refused(folder, name):
    (folder.parent / "x.npy").write_bytes(b"secret")

    def point_outside(manifest):
        manifest["files"]["vectors"]["name"] = name

    edit_manifest(folder, point_outside)
    for call in (open_index, verify_folder):
        with pytest.raises(KnnvoteError, match=r"manifest.json is not one that knnvote writes: .* unusable are files;"):
            call(folder)


@pytest.mark.parametrize("key", fields._FIELDS)
@pytest.mark.parametrize("damage", ["missing", 1.5, {"x": []}])
def test_a_sealed_manifest_that_is_not_complete_is_refused_naming_what_is_wrong(pristine, key, damage):
    content = (pristine / MANIFEST).read_bytes()

    def change(manifest):
        if damage == "missing":
            del manifest[key]
        else:
            manifest[key] = damage

    try:
        edit_manifest(pristine, change)
        for call in (open_index, verify_folder):
            with pytest.raises(KnnvoteError, match=rf"missing or unusable are {key}; build the index again"):
                call(pristine)
    finally:
        (pristine / MANIFEST).write_bytes(content)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "object"),
        ("dtype", "<U9999"),
        ("metric", "hamming"),
        ("sources", [3]),
        ("sources", [{}]),
        ("sources", [{"path": "a.parquet", "dtype": "object"}]),
        ("id_column", 3),
        ("feature_names", ["one"]),
        ("feature_names", [3] * 64),
        ("estimator", {"n_neighbors": 0}),
        ("estimator", {"metric": "l2"}),
        ("files", {}),
        ("files", {"labels": "labels-1.parquet"}),
        ("files", {"labels": {"name": "labels-1.parquet", "size": "1", "sha256": ""}}),
        ("files", {"labels": {"name": "labels-1.parquet"}}),
    ],
)
def test_a_sealed_manifest_with_unusable_values_is_refused(folder, key, value):
    edit_manifest(folder, lambda manifest: manifest.update({key: value}))
    with pytest.raises(KnnvoteError, match=f"unusable are {key};"):
        open_index(folder)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"3", b"{}", b"\xff\xfe", b'{"a": "\\ud800"}', b"[" * 100_000, b"{" * 100_000]
)
def test_a_manifest_that_is_none_is_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    for call in (open_index, verify_folder):
        with pytest.raises(KnnvoteError, match=r"manifest.json (is damaged|was changed): .*; build the index again"):
            call(folder)


def test_a_manifest_written_another_way_is_refused_though_it_says_the_same(folder):
    (folder / MANIFEST).write_text(json.dumps(json.loads((folder / MANIFEST).read_bytes())))
    with pytest.raises(KnnvoteError, match="was changed: its checksum does not fit its content"):
        read_manifest(folder)


def test_overwriting_leaves_the_new_generation_alone(folder):
    index_arrays(IMAGES[:20], LABELS[:20], folder, options=REPLACING)
    assert sorted(file.name for file in folder.iterdir()) == [
        "index-2.faiss",
        "labels-2.parquet",
        MANIFEST,
        "timing-2.json",
    ]
    assert verify_folder(folder) == []
    assert open_index(folder).n == 20


@pytest.mark.parametrize("number", [10**20 - 1, 2**62 - 1, 2**62])
def test_a_stray_file_of_an_absurd_generation_costs_nothing(folder, number):
    (folder / f"index-{number}.faiss").touch()
    for _ in range(3):
        index_arrays(IMAGES[:20], LABELS[:20], folder, options=REPLACING)
        assert verify_folder(folder) == []
        assert len(list(folder.iterdir())) == 4


def test_a_manifest_that_could_not_be_read_back_takes_no_ones_place(folder, monkeypatch):
    monkeypatch.setattr("knnvote.indexer.folder.write.next_generation", lambda _folder: 2**63)
    with pytest.raises(KnnvoteError, match="its manifest would have unusable generation"):
        index_arrays(IMAGES[:20], LABELS[:20], folder, options=REPLACING)
    assert verify_folder(folder) == []
    assert open_index(folder).n == len(IMAGES)


def test_an_open_reader_keeps_the_old_generation(folder):
    old = open_index(folder)
    floats = FLOATS.reshape(60, 64)
    codes = np.zeros((1, old.ivf.p), np.int8)
    before = old.ivf.probe(codes, 5, 3)
    index_arrays(255 - IMAGES, LABELS + 100, folder, options=REPLACING)
    assert np.array_equal(old.vectors, floats)
    assert np.array_equal(old.ivf.probe(codes, 5, 3), before)
    assert old.labels.to_pylist() == np.array(["텐", "naïve", "cat"])[LABELS % 3].tolist()
    assert old.ids.to_pylist()[-1] == "array#59"  # read now, from a file that has lost its name
    assert open_index(folder).labels.to_pylist() == (LABELS + 100).tolist()


class Killed(BaseException):
    """The end of a process, as far as one test can play it."""


def count_syncs(monkeypatch, path):
    """How many times a build syncs, which is after every step of it."""
    calls = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _descriptor: calls.append(1))
        index_arrays(IMAGES, LABELS, path, options=IndexOptions(threads=1))
    return len(calls)


def test_whenever_a_build_ends_too_early_the_folder_holds_the_old_index_or_the_new_one(tmp_path, monkeypatch):
    (tmp_path / "counted.knn").mkdir()  # as the others are there
    steps = count_syncs(monkeypatch, tmp_path / "counted.knn")
    assert steps >= 7  # of the index, and of file and folder for labels, timing and manifest
    outcomes = []
    for step in range(steps):
        folder = tmp_path / f"{step}.knn"
        index_arrays(FLOATS, LABELS, folder, options=IndexOptions(threads=1))
        calls = []

        def die(_descriptor, calls=calls, step=step):
            calls.append(1)
            if len(calls) > step:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", die)
            with pytest.raises(Killed):
                index_arrays(IMAGES[:20], LABELS[:20], folder, options=IndexOptions(threads=1, overwrite=True))
        assert verify_folder(folder) == []
        outcomes.append(open_index(folder).n)
        index_arrays(IMAGES[:30], LABELS[:30], folder, options=REPLACING)
        assert open_index(folder).n == 30
        assert len(list(folder.iterdir())) == 4  # nothing is left of what was interrupted
    assert outcomes == [60] * (steps - 1) + [20]  # only the last step follows the rename of the manifest


def fail_on(name, error):
    """A Path.replace that fails for a file of this name."""
    replace = Path.replace

    def replace_or_fail(path, target):
        if Path(target).name.startswith(name):
            raise error
        return replace(path, target)

    return replace_or_fail


@pytest.mark.parametrize("name", ["manifest", "labels", "vectors", "codes", "ends", "timing"])
def test_a_full_disk_leaves_the_old_index_whole_and_the_next_run_cleans_up(folder, monkeypatch, name):
    before = state(folder)
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail_on(name, full))
        with pytest.raises(KnnvoteError, match=rf"cannot write {folder}/{name}.*: No space left on device; mend that"):
            index_arrays(FLOATS[:20], LABELS[:20], folder, options=replace(REPLACING, kind="adaptive"))
    after = state(folder)
    assert {file: after[file] for file in before} == before
    assert verify_folder(folder) == []
    index_arrays(FLOATS[:20], LABELS[:20], folder, options=REPLACING)
    assert verify_folder(folder) == []
    timing = f"timing-{read_manifest(folder).generation}.json"
    assert sorted(state(folder)) == sorted([*named_files(folder), MANIFEST, timing])


def test_an_index_built_again_from_the_same_input_has_the_same_fingerprint(tmp_path):
    path = tmp_path / "x.knn"
    index_arrays(IMAGES, LABELS, path)
    first = open_index(path)
    index_arrays(IMAGES, LABELS, path, options=REPLACING)
    again = open_index(path)
    assert (first.manifest.generation, again.manifest.generation) == (1, 2)
    index_arrays(IMAGES, LABELS + 1, path, options=REPLACING)
    assert first.fingerprint == again.fingerprint != open_index(path).fingerprint


def test_an_index_replaced_while_it_is_opened_is_opened_as_the_new_one(folder, monkeypatch):
    stale = read_manifest(folder)
    index_arrays(FLOATS[:20], LABELS[:20], folder, options=REPLACING)
    newer = read_manifest(folder)
    manifests = iter([stale, newer])
    monkeypatch.setattr(opening, "read_manifest", lambda _path: next(manifests))
    assert open_index(folder).manifest == newer


def test_a_new_folder_that_could_not_be_finished_is_no_index_and_can_be_built_again(tmp_path, monkeypatch):
    path = tmp_path / "x.knn"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail_on("manifest", OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(KnnvoteError, match="No space left"):
            index_arrays(IMAGES, LABELS, path)
    with pytest.raises(KnnvoteError, match="does not exist"):
        open_index(path)
    index_arrays(IMAGES, LABELS, path)
    assert verify_folder(path) == []
    assert len(state(path)) == 4


def test_a_disk_that_cannot_sync_the_index_file_is_told(folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(writing, "sync", lambda _path: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        with pytest.raises(KnnvoteError, match=f"cannot write {folder}: Input/output error"):
            index_arrays(IMAGES, LABELS, folder, options=REPLACING)
    assert verify_folder(folder) == []


def test_a_build_that_outgrows_its_disk_leaves_the_old_index(folder):
    before = state(folder)
    code = (
        "import sys, resource, numpy as np\n"
        "from pathlib import Path\n"
        "from knnvote.data.errors import KnnvoteError\n"
        "from knnvote.indexer.build import IndexOptions, index_arrays\n"
        "images = np.random.default_rng(0).integers(0, 256, (2000, 64))\n"
        "for limit in (200, 20_000):\n"
        "  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, 20_000))\n"
        "  try:\n"
        "    index_arrays(images, images[:, 0], Path(sys.argv[1]), options=IndexOptions(overwrite=True))\n"
        "  except KnnvoteError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()
    assert [line.startswith(f"cannot write {folder}/vectors-2.raw: ") for line in told] == [True, True]
    after = state(folder)
    assert {file: after[file] for file in before} == before
    assert verify_folder(folder) == []


def test_a_build_killed_before_it_commits_leaves_the_old_index_and_the_next_cleans_up(folder):
    code = (
        "import os, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from knnvote.indexer.build import IndexOptions, index_arrays\n"
        "replace = Path.replace\n"
        "def die(path, target):\n"
        "  if Path(target).name == 'manifest.json':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "  return replace(path, target)\n"
        "Path.replace = die\n"
        "index_arrays(np.eye(50), np.arange(50), sys.argv[1], options=IndexOptions(overwrite=True))\n"
    )
    before = state(folder)
    done = subprocess.run([sys.executable, "-c", code, folder], check=False)
    assert done.returncode == -signal.SIGKILL
    after = state(folder)
    assert {file: after[file] for file in before} == before
    assert len(after) > len(before) + 1  # it did leave something
    assert verify_folder(folder) == []
    index_arrays(IMAGES, LABELS, folder, options=REPLACING)
    assert len(state(folder)) == 4
    assert read_manifest(folder).generation == 2


def test_files_of_the_users_own_in_an_index_folder_are_left_alone(folder):
    own = ["notes-1.txt", "train-1.npy", "report.tmp", "labels-1.csv", "index.html"]
    for name in own:
        (folder / name).write_text("mine")
    index_arrays(IMAGES, LABELS, folder, options=REPLACING)
    assert {name: (folder / name).read_text() for name in own} == dict.fromkeys(own, "mine")
    assert open_index(folder).n == 60


@pytest.mark.parametrize("change", [1, -1])
def test_vectors_of_more_or_fewer_bytes_than_the_manifest_counts_are_refused(folder, change):
    file = folder / "vectors-1.raw"
    content = file.read_bytes()
    file.write_bytes(content + b"\0" if change > 0 else content[:change])

    def adopt(manifest):
        manifest["files"]["vectors"] = asdict(describe_file(file))

    edit_manifest(folder, adopt)
    with pytest.raises(KnnvoteError, match=r"manifest\.json is not one that knnvote writes: .* unusable are files;"):
        open_index(folder)
