"""Indexes with codes that grow and shrink without a build: what they answer, what they promise, what they write."""

import shutil
from dataclasses import asdict, replace
from functools import partial

import brute_force
import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_sets import clusters, noisy_embeddings
from repeats import every_other

from knnvote.classify.adaptive import tune as tuning_module
from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.search.candidates import encode
from knnvote.classify.search.search import exact_search
from knnvote.data.errors import KnnvoteError
from knnvote.data.tables import image_table, write_table
from knnvote.data.vectors import convert_queries
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.codes import change
from knnvote.indexer.codes.inverted_file import training_rows
from knnvote.indexer.faiss_index import write_faiss
from knnvote.indexer.folder.generations import remove_leftovers
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.folder.write import describe_file
from knnvote.indexer.grow import add_files, compact, relabel_ids, remove_ids
from knnvote.indexer.growth import files as files_module
from knnvote.indexer.growth.told import measured_on
from knnvote.indexer.manifest import MANIFEST, read_manifest
from knnvote.indexer.records.growth import Growth
from knnvote.indexer.sealed import seal

CHANGES = {"tuning": Tuning, "threads": 1}
MADE = clusters("uint8", n=700, d=48, nq=20)


def write(path, x, y):
    write_table(image_table(x, y), path)
    return str(path)


def build(folder, x, y, name="x", *, tune=None, **options):
    path = write(folder / f"{name}.parquet", x, y)
    index_files(path, folder / name, options=IndexOptions(threads=1, **options), tune=tune)
    return folder / name


def ids(name, rows):
    return [f"{name}.parquet#{row}" for row in rows]


# Exact answers are those of brute force after anything


def pictures(rng, n):
    return MADE.x[rng.integers(0, 700, n)] ^ rng.integers(0, 4, (n, 48)).astype(np.uint8)


def embeddings(rng, n):
    return noisy_embeddings(n=n, nq=1, seed=int(rng.integers(1 << 30))).x


def ties(rng, n):
    return rng.integers(0, 2, (n, 12)).astype(np.uint8)


def copies(rng, n):
    return MADE.x[rng.integers(0, 5, n)]


KINDS_OF_DATA = {
    "pictures": (pictures, "l2", "exact"),
    "adaptive pictures": (pictures, "l2", "adaptive"),
    "embeddings": (embeddings, "l2", "adaptive"),
    "embeddings by angle": (embeddings, "cosine", "adaptive"),
    "ties": (ties, "l2", "adaptive"),
    "copies": (copies, "l2", "adaptive"),
}


@pytest.mark.filterwarnings("ignore:.* new class", "ignore:all .* images are equal")
@pytest.mark.parametrize("data_of", every_other(KINDS_OF_DATA))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_order_of_adding_removing_and_compacting_answers_as_brute_force_does(tmp_path_factory, data_of, data):
    make, metric, kind = KINDS_OF_DATA[data_of]
    folder, rng = tmp_path_factory.mktemp("any"), np.random.default_rng(data.draw(st.integers(0, 99)))
    x = make(rng, 120)
    y = rng.integers(0, 3, len(x))
    at, names = build(folder, x, y, "0", kind=kind, metric=metric), ids("0", range(len(x)))
    with pytest.MonkeyPatch.context() as patched:
        for module in (change, files_module):
            patched.setattr(module, "_BLOCK", 37)
        for step in range(1, 5):
            can_lose = ["remove"] if len(x) > 8 else []
            what = data.draw(st.sampled_from(["add", *can_lose, "compact"]), "step")
            if what == "add":
                more = make(rng, data.draw(st.integers(20, 60)))  # so many that no two files are equal
                labels = rng.integers(0, 3, len(more))
                add_files(at, write(folder / f"{step}.parquet", more, labels), **CHANGES)
                x, y, names = np.concatenate([x, more]), np.append(y, labels), names + ids(step, range(len(more)))
            elif what == "remove":
                gone = rng.permutation(len(x))[: data.draw(st.integers(1, len(x) - 8))]
                remove_ids(at, [names[row] for row in gone], **CHANGES)
                x, y = np.delete(x, gone, axis=0), np.delete(y, gone)
                names = [names[row] for row in np.setdiff1d(np.arange(len(names)), gone)]
            else:
                compact(at, **CHANGES)
    index = open_index(at)
    assert verify_folder(at) == []
    assert np.array_equal(index.vectors, x)
    assert (index.labels.to_pylist(), index.ids.to_pylist()) == (y.tolist(), names)
    assert index.manifest.range == (x.min(), x.max())
    xq, _ = convert_queries(np.concatenate([make(rng, 8), x[-4:]]), index.vectors.dtype)
    D, I = exact_search(index, xq, 5)
    expected_D, expected_I = brute_force.neighbors(xq, x, 5, metric)
    assert (D.tobytes(), I.tobytes()) == (expected_D.tobytes(), expected_I.tobytes())


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_rung_finds_what_was_added(tmp_path, dtype):
    """Even the cheapest, one list: an image is in the list that is the nearest to it."""
    made = clusters(dtype, n=3000, d=64)
    at = build(tmp_path, made.x[:2900], made.y[:2900], kind="adaptive")
    add_files(at, write(tmp_path / "new.parquet", made.x[2900:], made.y[2900:]))
    remove_ids(at, ids("x", range(100)))
    index, rows = open_index(at), np.arange(2800, 2900)
    found = index.ivf.probe(encode(index, index.vectors[rows]).codes, 8, 1)
    assert (found == rows[:, None]).any(axis=1).all()


# What is written


def changed_files(folder, work):
    before = {file.name: file.stat().st_ino for file in folder.iterdir()}
    work()
    return {file.name for file in folder.iterdir() if before.get(file.name) != file.stat().st_ino}


def test_what_is_added_is_appended_and_no_vector_is_coded_again(tmp_path, monkeypatch):
    at = build(tmp_path, MADE.x[:600], MADE.y[:600], kind="adaptive")
    inode, coded = (at / "vectors-1.raw").stat().st_ino, []
    all_records = change.records
    monkeypatch.setattr(change, "records", lambda found: coded.append(len(found.codes)) or all_records(found))
    monkeypatch.setattr("knnvote.indexer.grow.build", None)
    add_files(at, write(tmp_path / "new.parquet", MADE.x[600:], MADE.y[600:]))
    assert ((at / "vectors-1.raw").stat().st_ino, coded) == (inode, [100])
    assert (at / "vectors-1.raw").read_bytes() == MADE.x.tobytes()
    new = {"codes-2.npy", "ends-2.npy", "fitted-2.npy", "labels-2.parquet", MANIFEST, "timing-2.json"}
    assert {file.name for file in at.iterdir()} == {"axes-1.npy", "lists-1.npy", "vectors-1.raw", *new}
    remove_ids(at, ids("x", range(50)))
    assert (at / "vectors-3.raw").read_bytes() == MADE.x[50:].tobytes()  # what was removed is gone from the disk
    assert not (at / "vectors-1.raw").exists()


def test_what_a_killed_addition_appended_is_no_part_of_the_index_and_goes_with_the_next(tmp_path):
    at = build(tmp_path, MADE.x[:600], MADE.y[:600])
    fingerprint, size = open_index(at).fingerprint, (at / "vectors-1.raw").stat().st_size
    with (at / "vectors-1.raw").open("ab") as stream:
        stream.write(b"half a row")
    assert (open_index(at).fingerprint, open_index(at).n) == (fingerprint, 600)
    assert verify_folder(at) == []
    shutil.copytree(at, tmp_path / "cut")
    remove_leftovers(tmp_path / "cut")
    assert (tmp_path / "cut" / "vectors-1.raw").stat().st_size == size
    add_files(at, write(tmp_path / "new.parquet", MADE.x[600:], MADE.y[600:]))
    assert np.array_equal(open_index(at).vectors, MADE.x)
    with (at / "vectors-1.raw").open("r+b") as stream:
        stream.truncate(size)
    with pytest.raises(KnnvoteError, match=r"vectors-1\.raw has .* bytes, and the manifest says"):
        open_index(at)


def test_an_addition_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    at = build(tmp_path, MADE.x[:600], MADE.y[:600])
    before = {file.name: file.read_bytes() for file in at.iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in ("commit", "read_through", "write_labels"):
        with monkeypatch.context() as patched:
            patched.setattr(f"knnvote.indexer.growth.change.{name}", fail)
            with pytest.raises(KnnvoteError, match="No space left on device"):
                add_files(at, write(tmp_path / f"{name}.parquet", MADE.x[600:], MADE.y[600:]))
        assert {file.name: file.read_bytes() for file in at.iterdir()} == before


def test_a_file_that_another_folder_links_to_is_not_written_to(tmp_path):
    at = build(tmp_path, MADE.x[:600], MADE.y[:600])
    shutil.copytree(at, tmp_path / "kept", copy_function=lambda source, target: (tmp_path / target).hardlink_to(source))
    add_files(at, write(tmp_path / "new.parquet", MADE.x[600:], MADE.y[600:]))
    assert (at / "vectors-2.raw").exists()
    assert verify_folder(tmp_path / "kept") == verify_folder(at) == []


def test_a_folder_of_the_format_before_that_has_codes_grows_into_one_of_this(tmp_path):
    """Its vectors lie in a FAISS index, which then goes."""
    at = build(tmp_path, MADE.x[:600], MADE.y[:600])
    holder = faiss.IndexScalarQuantizer(48, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2)
    holder.add(MADE.x[:600].astype(np.float32))
    write_faiss(holder, at / "index-1.faiss")
    (at / "vectors-1.raw").unlink()
    manifest = read_manifest(at)
    files = {"index": describe_file(at / "index-1.faiss"), **manifest.files}
    del files["vectors"]
    record = replace(manifest, files=files, factory="SQ8_direct", format=2).to_json()
    (at / MANIFEST).write_bytes(seal(record))
    assert verify_folder(at) == []
    add_files(at, write(tmp_path / "new.parquet", MADE.x[600:], MADE.y[600:]))
    index = open_index(at)
    assert (index.manifest.format, index.manifest.factory, "index" in index.manifest.files) == (3, "", False)
    assert np.array_equal(index.vectors, MADE.x)
    assert verify_folder(at) == []


def test_who_opens_an_index_while_it_grows_need_not_try_it_apart(promising, tmp_path, monkeypatch):
    """Though the file of its vectors changes: what it names of that was checked, and stays."""
    shutil.copytree(promising, tmp_path, dirs_exist_ok=True)
    at, opened = tmp_path / "x", []
    remove_ids(at, "x.parquet#0")  # which was copied, and is known now

    def open_it(_index):
        monkeypatch.setattr("knnvote.indexer.folder.verify.run_apart", None)
        opened.append(open_index(at).n)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_files(at, [str(tmp_path / "few.parquet"), str(tmp_path / "one.parquet")], tuning=lambda **_: open_it)
    assert (opened, open_index(at).n) == ([3999], 3999)


ABSURD = [
    {"built": 0},
    {"built": 699},
    {"added": -1},
    {"removed": 1.0},
    {"measured": 0},
    {"changed": True},
    {"more": 1},
]


@pytest.mark.parametrize("entries", ABSURD, ids=str)
def test_an_absurd_growth_is_refused_by_its_name(tmp_path, entries):
    at = build(tmp_path, MADE.x, MADE.y)
    remove_ids(at, "x.parquet#0")
    record = read_manifest(at).to_json()
    (at / MANIFEST).write_bytes(seal({**record, "growth": record["growth"] | entries}))
    with pytest.raises(KnnvoteError, match="missing or unusable are growth;"):
        open_index(at)


@pytest.mark.parametrize("rows", [[-1], [699], [0.5], [[1]]], ids=str)
def test_rows_that_it_cannot_have_been_fitted_to_are_refused(tmp_path, rows):
    at = build(tmp_path, MADE.x, MADE.y, kind="adaptive")
    remove_ids(at, "x.parquet#0")
    np.save(at / "fitted-2.npy", rows)
    record = read_manifest(at).to_json()
    record["files"]["fitted"] = asdict(describe_file(at / "fitted-2.npy"))
    (at / MANIFEST).write_bytes(seal(record))
    with pytest.raises(KnnvoteError, match=r"it was fitted to rows that it has not|its codes do not fit its vectors"):
        open_index(at)


# What it was fitted to


def test_tuning_asks_no_image_that_axes_and_lists_were_fitted_to_whatever_came_or_went_since(tmp_path):
    at = build(tmp_path, MADE.x[:600], MADE.y[:600], kind="adaptive", seed=4)
    fitted = {f"x.parquet#{row}" for row in training_rows(600, 4)}
    gone = ids("x", range(0, 600, 9))
    add_files(at, write(tmp_path / "new.parquet", MADE.x[600:], MADE.y[600:]))
    remove_ids(at, [*gone, "new.parquet#3"])
    relabel_ids(at, "new.parquet#4", 3)
    index = open_index(at)
    named = np.array(index.ids.to_pylist())
    assert set(named[index.fitted_rows]) == fitted - set(gone)
    asked = np.concatenate(tuning_module._draw(index, 0.5))
    assert len(asked) == index.n - len(index.fitted_rows)
    assert not fitted & set(named[asked])


# What it promises


@pytest.fixture(scope="module")
def promising(tmp_path_factory):
    """An adaptive index of 4,000 images, tuned to rungs; and 1,000 others."""
    folder, made = tmp_path_factory.mktemp("promising"), clusters("uint8", n=5000, d=160)
    tune = Tuning(k=3, target_agreement=0.9, target_accuracy=0.5)
    build(folder, made.x[:4000], made.y[:4000], kind="adaptive", tune=tune)
    for name, rows in {"few": slice(4000, 4799), "one": slice(4799, 4800)}.items():
        write(folder / f"{name}.parquet", made.x[rows], made.y[rows])
    assert open_index(folder / "x").tuned.label.reached
    return folder


def promise(folder):
    manifest = read_manifest(folder)
    return manifest.search.tuned, manifest.vote


def told(folder):
    manifest = read_manifest(folder)
    return measured_on(manifest.growth, manifest.search, manifest.vote)


def test_a_promise_is_measured_again_when_a_fifth_has_come_or_gone_and_till_then_says_on_what_it_was(
    promising, tmp_path, invoke
):
    shutil.copytree(promising, tmp_path, dirs_exist_ok=True)
    at, before = tmp_path / "x", promise(tmp_path / "x")
    assert told(at) is None
    added = invoke("add", "x", "few.parquet")
    on = "measured on 4,000 images; since then 799 came or went, and it is measured again when 800 have"
    assert (added.code, added.stderr.splitlines()[-1], told(at)) == (0, on, on)
    assert promise(at) == before
    shown = " ".join(invoke("inspect", "x").stdout.split())
    assert f"built of 4,000 images, since then 799 added and 0 removed; {on}" in shown
    note = f"note: what x promises was {on}\n"
    assert note in invoke("classify", "x", "one.parquet", "--out", "out").stderr
    assert note in invoke("compare", "one.parquet", "--index", "x").stderr
    invoke("add", "x", "one.parquet")
    tuned, vote = promise(at)
    assert told(at) is None
    assert (tuned.k, tuned.target_agreement, vote.acceptance.target_accuracy) == (3, 0.9, 0.5)
    assert tuned.queries > before[0].queries
    assert vote.acceptance.images == 4800
    assert read_manifest(at).growth == Growth(built=4000, added=800, measured=4800)
    assert note not in invoke("classify", "x", "one.parquet", "--out", "out", "--overwrite").stderr


def test_what_goes_counts_as_what_comes_and_new_labels_are_measured_at_once(promising, tmp_path):
    shutil.copytree(promising, tmp_path, dirs_exist_ok=True)
    at, before = tmp_path / "x", promise(tmp_path / "x")
    remove_ids(at, ids("x", range(799)))
    assert (promise(at), read_manifest(at).growth.changed) == (before, 799)
    relabel_ids(at, "x.parquet#900", int(open_index(at).labels[0].as_py() == 0), **CHANGES)
    assert read_manifest(at).growth == Growth(built=4000, removed=799, measured=3201)
    remove_ids(at, ids("x", range(1000, 1640)))
    measure_again = partial(remove_ids, at, "x.parquet#2000")
    with pytest.raises(KnnvoteError, match="has to be tuned again: pass tuning="):
        measure_again()
    assert measure_again(**CHANGES) == 1
    assert read_manifest(at).growth == Growth(built=4000, removed=1440, measured=2560)
    assert promise(at)[1].acceptance.images == 2560


def test_a_measuring_that_is_interrupted_leaves_the_index_as_it_was(promising, tmp_path):
    shutil.copytree(promising, tmp_path, dirs_exist_ok=True)
    before = {file.name: file.read_bytes() for file in (tmp_path / "x").iterdir()}

    def interrupted(_index):
        raise KeyboardInterrupt

    new = write(tmp_path / "new.parquet", MADE.x[:800, np.arange(160) % 48], MADE.y[:800])
    with pytest.raises(KeyboardInterrupt):
        add_files(tmp_path / "x", [new, str(tmp_path / "few.parquet")], tuning=lambda **_: interrupted)
    assert {file.name: file.read_bytes() for file in (tmp_path / "x").iterdir()} == before


# What is told


@pytest.mark.parametrize(
    ("growth", "pays"),
    [
        (Growth(built=10, added=9, removed=4, measured=10), False),
        (Growth(built=10, added=10, measured=10), True),
        (Growth(built=10, removed=5, measured=10), True),
    ],
)
def test_building_afresh_pays_when_it_doubled_or_halved(growth, pays):
    assert growth.is_outgrown == pays


def test_the_commands_tell_when_building_afresh_pays_and_what_was_done(tmp_path, invoke):
    write(tmp_path / "a.parquet", MADE.x[:300], MADE.y[:300])
    write(tmp_path / "b.parquet", MADE.x[300:], MADE.y[300:])
    invoke("index", "a.parquet", "--out", "x.knn", "--kind", "adaptive")
    note = (
        "note: built of 300 images, since then 400 added and 0 removed; knnvote compact x.knn builds it afresh, for a "
        "faster search"
    )
    assert invoke("add", "x.knn", "b.parquet").stderr.splitlines()[-1] == note
    assert "knnvote compact builds it afresh" in " ".join(invoke("inspect", "x.knn").stdout.split())
    done = invoke("compact", "x.knn")
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr.startswith(
        "x.knn: built afresh, after 400 vectors came or went\nx.knn: 700 vectors of 48 values"
    )
    assert "growth" not in read_manifest(tmp_path / "x.knn").to_json()
    assert invoke("compact", "x.knn").stderr == "x.knn: nothing to do, for it is as it was built\n"
    index_arrays(MADE.x[:50], MADE.y[:50], tmp_path / "y.knn", options=IndexOptions(metric="l1"))
    remove_ids(tmp_path / "y.knn", "array#0")
    assert compact(tmp_path / "y.knn") == 0  # each change built it afresh
