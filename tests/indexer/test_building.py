"""Builds in slices: the bytes of one at once, whatever ends it in between, and memory that does not grow with them."""

import errno
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from repeats import every_other

from knnvote import IndexOptions, KnnvoteError, TrainingOptions, Tuning, index_files, join_labels, open_index
from knnvote.classify.adaptive import tune
from knnvote.data.inputs import find_inputs
from knnvote.data.progress import watched_by
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.building import work as working
from knnvote.indexer.building.gathered import Gathered
from knnvote.indexer.building.work import Growing, Work
from knnvote.indexer.codes import components, inverted_file
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.leftovers import WORK

IMAGES, LABELS = (array[:1200] for array in digits())
RNG = np.random.default_rng(3)
ADAPTIVE, EXACT = IndexOptions(kind="adaptive", threads=1), IndexOptions(threads=1)


GOES_ON = "goes on with a build that was cut off"


def small_slices(patch, rows=170, size=1 << 20):
    patch.setattr(working, "SLICE_ROWS", rows)
    patch.setattr(working, "SLICE_BYTES", size)


def write(path, images, labels, **columns):
    table = image_table(images, labels)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    write_table(table, path)


def halves(images, labels=LABELS):
    """Two files of the same kind of images."""

    def make(folder):
        write(folder / "in" / "a.parquet", images[:700], labels[:700])
        write(folder / "in" / "b.parquet", images[700:], labels[700 : len(images)])
        return {"inputs": folder / "in"}

    return make


def of_rising_types(folder):
    """Bytes, then 16 bits, then floats: what was kept is widened twice."""
    for number, images in enumerate((IMAGES[:500], IMAGES[500:900] * np.uint16(3000), IMAGES[900:] / np.float32(7))):
        write(folder / "in" / f"{number}.parquet", images, LABELS[: len(images)])
    return {"inputs": folder / "in"}


def of_float16_and_wider(folder):
    """Floats of 16 bits, and then of 32."""
    vectors = RNG.normal(size=(1200, 24)).astype(np.float16)
    write(folder / "in" / "a.parquet", vectors[:700], LABELS[:700])
    write(folder / "in" / "b.parquet", vectors[700:].astype(np.float32) / 3, LABELS[700:1200])
    return {"inputs": folder / "in"}


def of_small_signed_numbers(folder):
    """Bytes that int8 holds, and then negative ones."""
    write(folder / "in" / "a.parquet", IMAGES[:700], LABELS[:700])
    pq.write_table(
        pa.table({"image": (IMAGES[700:].reshape(-1, 64).astype(np.int8) - 8).tolist(), "label": LABELS[700:]}),
        folder / "in" / "b.parquet",
    )
    return {"inputs": folder / "in"}


def with_bad_rows(folder):
    vectors = RNG.normal(size=(1200, 12)).astype(np.float32)
    vectors[::90] = np.nan
    columns = {
        "vector": vectors.tolist(),
        "size": vectors[:, 0].clip(0).tolist(),
        "key": [f"k{i}" for i in range(1200)],
    }
    folder.joinpath("in").mkdir()
    pq.write_table(pa.table(columns), folder / "in" / "a.parquet")
    named = {"label_column": "size", "id_column": "key", "is_regression": True, "skip_bad": True}
    return {"inputs": folder / "in", "training": TrainingOptions(**named)}


def with_labels_apart(folder):
    write_table(image_table(IMAGES, LABELS).drop(["label"]), folder / "in" / "a.parquet")
    lines = [f"a.parquet#{row},class {label},{1 + row % 7}" for row, label in enumerate(LABELS)]
    (folder / "labels.csv").write_text("\n".join(["id,label,times", *lines]))
    inputs = join_labels(folder / "in", folder / "labels.csv", weight_column="times")
    return {"inputs": inputs, "training": TrainingOptions(weight_column="times")}


def with_groups(folder):
    groups = [None if row % 50 == 7 else f"patient {row // 9}" for row in range(1200)]
    write(folder / "in" / "a.parquet", IMAGES, LABELS, patient=groups)
    return {"inputs": folder / "in", "training": TrainingOptions(group_column="patient", keep=("patient",))}


def of_image_files(folder):
    """Rows that are known by names of files, of which those in two folders are alike."""
    for part in ("one", "two"):
        for row in range(30):
            path = folder / "in" / part / str(LABELS[row]) / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[row] * 16).save(path)
    return {"inputs": [folder / "in" / "one", folder / "in" / "two"]}


def of_some_rows(folder):
    return {**halves(IMAGES)(folder), "training": TrainingOptions(sample=900)}


SETS = {
    "bytes": halves(IMAGES),
    "copies": halves(np.repeat(IMAGES[:40], 30, axis=0)),
    "all equal": halves(np.repeat(IMAGES[:1], 1200, axis=0)),
    "embeddings": halves(RNG.normal(size=(1200, 24)).astype(np.float32)),
    "float64": halves(RNG.normal(size=(1200, 24))),
    "float16": halves(RNG.normal(size=(1200, 24)).astype(np.float16)),
    "float16 and wider": of_float16_and_wider,
    "text": halves(IMAGES, np.array([f"class {label}" for label in LABELS])),
    "rising types": of_rising_types,
    "signed": of_small_signed_numbers,
    "bad rows": with_bad_rows,
    "labels apart": with_labels_apart,
    "groups": with_groups,
    "image files": of_image_files,
    "a sample": of_some_rows,
}
TOLD = pytest.mark.filterwarnings("ignore:.*(exact search|images|labels)")


def build(given, out, options=ADAPTIVE, **more):
    notes = []
    index_files(**{"options": options, "tell": notes.append, **given}, out=out, **more)
    return notes


def content(folder):
    """Every byte but the seconds."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("timing-")}


@TOLD
@pytest.mark.parametrize("made", every_other(SETS))
def test_a_build_in_slices_has_the_bytes_and_the_notes_of_one_at_once(made, tmp_path, monkeypatch):
    given = SETS[made](tmp_path)
    notes = build(given, tmp_path / "once.knn")
    small_slices(monkeypatch, 20 if made == "image files" else 170)
    kept = []
    monkeypatch.setattr(Work, "keep", lambda work, keep=Work.keep, **facts: kept.append(facts) or keep(work, **facts))
    assert build(given, tmp_path / "sliced.knn") == notes
    assert len(kept) > 3
    assert content(tmp_path / "sliced.knn") == content(tmp_path / "once.knn")
    assert verify_folder(tmp_path / "sliced.knn") == []


@TOLD
@pytest.mark.parametrize(
    "options",
    [
        EXACT,
        *(IndexOptions(metric="l1", threads=1), IndexOptions(kind="hnsw", threads=1)),
        *(IndexOptions(kind="adaptive", metric=metric, threads=1) for metric in ("cosine", "l1")),
    ],
)
def test_every_kind_is_built_in_slices(options, tmp_path, monkeypatch):
    given = halves(IMAGES + np.uint8(1))(tmp_path)
    build(given, tmp_path / "once.knn", options)
    small_slices(monkeypatch)
    build(given, tmp_path / "sliced.knn", options)
    assert content(tmp_path / "sliced.knn") == content(tmp_path / "once.knn")


# What ends a build


class Killed(BaseException):
    """As far as files are concerned."""


def end_at(monkeypatch, owner, name, at, error, *, before):
    """Raise an error before or after a method of a class does its work for the at-th time."""
    calls, method = 0, getattr(owner, name)

    def ending(self, *arguments, **named):
        nonlocal calls
        calls += 1
        if calls == at and before:
            raise error
        found = method(self, *arguments, **named)
        if calls == at:
            raise error
        return found

    monkeypatch.setattr(owner, name, ending)


@TOLD
@pytest.mark.parametrize(
    ("made", "before"),
    [
        *((made, False) for made in ("bytes", "rising types", "image files", "a sample")),
        ("labels apart", True),
        *(pytest.param(made, False, marks=pytest.mark.long) for made in ("bad rows", "labels apart")),
        *(pytest.param(made, True, marks=pytest.mark.long) for made in ("bytes", "rising types")),
    ],
)
def test_a_build_that_was_ended_at_any_slice_goes_on_and_has_the_bytes_of_an_undisturbed_one(
    made, before, tmp_path, monkeypatch
):
    given, out = SETS[made](tmp_path), tmp_path / "x.knn"
    notes = build(given, tmp_path / "once.knn")
    whole = content(tmp_path / "once.knn")
    small_slices(monkeypatch, 20 if made == "image files" else 330)
    ends = 0
    for _ in range(40):
        with monkeypatch.context() as patched:  # each goes one slice farther
            end_at(patched, Work, "keep", 2 if before else 1, Killed(), before=before)
            try:
                assert [note for note in build(given, out) if GOES_ON not in note] == notes
                break
            except Killed:
                ends += 1
    assert ends > 5
    assert content(out) == whole


def test_what_was_read_is_not_read_again(tmp_path, monkeypatch):
    given, out, read = halves(IMAGES)(tmp_path), tmp_path / "x.knn", []
    small_slices(monkeypatch)
    with monkeypatch.context() as patched:
        end_at(patched, Work, "keep", 4, Killed(), before=False)
        with pytest.raises(Killed):
            build(given, out)
    rows = []
    add = Gathered.add
    monkeypatch.setattr(Gathered, "add", lambda self, x, *a, **k: rows.append(len(x)) or add(self, x, *a, **k))
    notes = build(given, out, progress=read.append)
    assert notes == [f"{GOES_ON}: {1200 - sum(rows):,} rows are read already"]
    assert sum(rows) < 700
    assert sum(read) == 1200  # to who watches it, all was


def test_a_disk_that_is_full_is_told_once_and_the_same_build_goes_on_when_there_is_room(tmp_path, monkeypatch):
    given, out = halves(IMAGES)(tmp_path), tmp_path / "x.knn"
    build(given, tmp_path / "once.knn")
    small_slices(monkeypatch)
    full = OSError(errno.ENOSPC, "No space left on device")
    for at in (1, 3, 14, 25):
        with monkeypatch.context() as patched:
            end_at(patched, Growing, "write", at, full, before=True)
            with pytest.raises(KnnvoteError) as told:
                build(given, out)
        assert str(told.value).startswith(f"cannot write {out}/{WORK}: No space left on device; mend that and run the")
    build(given, out)
    assert content(out) == content(tmp_path / "once.knn")


def refuse(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_when_all_else_is_done_costs_nothing_but_the_end(tmp_path, monkeypatch):
    given, out = halves(IMAGES)(tmp_path), tmp_path / "x.knn"
    build(given, tmp_path / "once.knn")
    small_slices(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr("knnvote.indexer.folder.write.pq.ParquetWriter", pytest.fail)
        patched.setattr(
            "knnvote.indexer.folder.write._write_rows", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(KnnvoteError, match="cannot write"):
            build(given, out)
    assert [path.name for path in out.iterdir()] == [WORK]
    with monkeypatch.context() as patched:
        patched.setattr(inverted_file, "records", pytest.fail)
        build(given, out)
    assert content(out) == content(tmp_path / "once.knn")


def killed_build(tmp_path, monkeypatch):
    """What was to be built, and the folder where it was killed when four slices were kept."""
    given, out = halves(IMAGES)(tmp_path), tmp_path / "x.knn"
    small_slices(monkeypatch)
    with monkeypatch.context() as patched:
        end_at(patched, Work, "keep", 4, Killed(), before=False)
        with pytest.raises(Killed):
            build(given, out)
    return given, out


@pytest.mark.parametrize("change", ["options", "training", "inputs", "a damaged state", "a slice gone"])
def test_another_build_starts_anew_and_says_so(change, tmp_path, monkeypatch):
    given, out = killed_build(tmp_path, monkeypatch)
    if change == "options":
        given["options"] = IndexOptions(kind="adaptive", seed=1, threads=1)
    elif change == "training":
        given["training"] = TrainingOptions(limit=1100)
    elif change == "inputs":
        write(tmp_path / "in" / "b.parquet", IMAGES[600:], LABELS[600:])
    elif change == "a slice gone":
        (out / WORK / "rows-1.arrow").unlink()
    else:
        (out / WORK / "state.json").write_text("{}")
    build(given, tmp_path / "once.knn")
    notes = build(given, out)
    assert content(out) == content(tmp_path / "once.knn")
    why = "was changed" if change == "a slice gone" else "is of a build of other inputs, options or versions"
    if change != "a damaged state":
        assert notes[0].startswith(f"{out}/{WORK} {why}: it is removed")


def test_a_build_whose_images_do_not_fit_leaves_nothing(tmp_path, monkeypatch):
    vectors = RNG.normal(size=(1200, 12)).astype(np.float32)
    vectors[1100] = np.nan
    pq.write_table(pa.table({"vector": vectors.tolist(), "label": LABELS}), tmp_path / "a.parquet")
    small_slices(monkeypatch)
    with pytest.raises(KnnvoteError, match="row 1100: value 0 is NaN"):
        build({"inputs": tmp_path / "a.parquet"}, tmp_path / "x.knn")
    assert not (tmp_path / "x.knn").exists()


def test_an_unfinished_build_over_an_index_leaves_that_whole_and_goes_on(tmp_path, monkeypatch):
    given, out = halves(IMAGES)(tmp_path), tmp_path / "x.knn"
    build(given, out, EXACT)
    build(given, tmp_path / "once.knn")
    small_slices(monkeypatch)
    again = IndexOptions(kind="adaptive", threads=1, overwrite=True)
    with monkeypatch.context() as patched:
        end_at(patched, Work, "keep", 12, Killed(), before=False)
        with pytest.raises(Killed):
            build(given, out, again)
    assert open_index(out).kind == "exact"
    assert verify_folder(out) == []
    build(given, out, again)
    assert open_index(out).kind == "adaptive"
    assert not (out / WORK).exists()
    once, twice = open_index(tmp_path / "once.knn"), open_index(out)
    assert once.fingerprint == twice.fingerprint


def test_without_links_the_files_are_copied(tmp_path, monkeypatch):
    given = halves(IMAGES)(tmp_path)
    build(given, tmp_path / "once.knn")
    small_slices(monkeypatch)

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    build(given, tmp_path / "x.knn")
    assert content(tmp_path / "x.knn") == content(tmp_path / "once.knn")


# Memory


def peaks_of(given, out, options, tuning):
    """Bytes at most: of Arrow, and of Python and NumPy in each stage, so that none hides what another takes."""
    pool, before, found = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool(), {}

    @contextmanager
    def watch(name, _total, _unit):
        tracemalloc.reset_peak()
        yield lambda _more: None
        found[name] = max(found.get(name, 0), tracemalloc.get_traced_memory()[1])

    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        with watched_by(watch):
            build(given, out, options, tune=tuning)
        return {**found, "Arrow": pool.max_memory()}
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


@pytest.mark.long
@TOLD
def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch):
    small_slices(monkeypatch, rows=400)
    monkeypatch.setattr(inverted_file, "_AXES_FROM", 200)  # fewer than lists are made from, of the smaller set too
    for name, rows in (("_STORED", 600), ("_SAMPLE", 200)):
        monkeypatch.setattr(components, name, rows)
    monkeypatch.setattr(tune, "_TESTED", (200, 200))
    monkeypatch.setattr(tune, "_FIRST_PART", 100)
    peaks, counts, d, rng = [], (2000, 6000), 900, np.random.default_rng(0)
    basis = rng.normal(size=(20, d)) * 20
    for n in counts:
        for start in range(0, n, 1000):
            images = (rng.normal(size=(1000, 20)) @ basis + 128).clip(0, 255).astype(np.uint8)
            write(tmp_path / str(n) / f"{start}.parquet", images.reshape(-1, 30, 30), np.arange(1000) % 5)
        given, out = {"inputs": find_inputs(tmp_path / str(n))}, tmp_path / f"{n}.knn"
        peaks.append(peaks_of(given, out, ADAPTIVE, Tuning(target_agreement=0.9)))
    few, many = peaks
    assert {"reading", "finding axes", "coding", "tuning", "writing"} < few.keys()
    grown = {name: many[name] - few[name] for name in few}
    assert max(grown.values()) < 0.3 * (counts[1] - counts[0]) * d, grown  # of what more vectors take: lists are more


def test_an_unfinished_build_is_told_as_such_by_whatever_is_given_it(tmp_path, monkeypatch, invoke):
    _, out = killed_build(tmp_path, monkeypatch)
    (out / "vectors-1.raw").touch()
    (out / ".manifest.json.12.tmp").touch()
    images = str(tmp_path / "in")
    for command in (
        ["inspect", out],
        ["verify", out],
        ["classify", out, images, "--out", tmp_path / "o"],
        ["add", out, images],
        ["compact", out],
        ["explain", out, "1"],
    ):
        done = invoke(*map(str, command))
        assert (done.code, done.stdout) == (1, "")
        told = f"{out} is an unfinished build, without a manifest.json: run its knnvote index command again"
        assert done.stderr == f"error: {told}\n"
    assert (out / WORK).is_dir()
    (out / "notes.txt").touch()
    assert "is neither an index folder" in invoke("verify", str(out)).stderr
