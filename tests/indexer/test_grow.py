"""Indexes that grow and shrink: what they answer, what they keep, what they refuse, and what a kill leaves."""

import io
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from growing import IMAGES, KINDS, LABELS, NEW, OLD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_sets import FAISS_METRICS, clusters
from made_sets import build as build_adaptive
from PIL import Image
from repeats import spread

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.search.search import exact_search, is_exact
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, Note
from knnvote.data.files import hold_lock
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.grow import add_files, compact, remove_ids
from knnvote.indexer.growth.fixes import read_id_column
from knnvote.indexer.manifest import read_manifest
from knnvote.indexer.training import TrainingOptions

WIDER = {
    "uint8": lambda images: images,
    "uint16": lambda images: images.astype(np.uint16) * 1000,
    "int8": lambda images: images.astype(np.int8) - np.int8(8),
    "float16": lambda images: images.astype(np.float16) / 3,
    "float32": lambda images: images.astype(np.float32) + np.float32(0.5),
    "float64": lambda images: images / 7,
}

# Each kind with each metric and each type, and each metric with each type.
IN_PAIRS = [
    pytest.param(
        *(kind, FAISS_METRICS[(i + j) % len(FAISS_METRICS)], dtype), marks=[pytest.mark.long] if (i + j) % 2 else []
    )
    for i, kind in enumerate(KINDS)
    for j, dtype in enumerate(WIDER)
]


def write(path, images=IMAGES, labels=LABELS, *, ids=None):
    table = image_table(images, labels)
    write_table(table if ids is None else table.append_column("key", ids), path)
    return path


def inputs(*paths):
    return find_inputs([str(path) for path in paths])


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def options(kind="exact", **more):
    return IndexOptions(**{"threads": 1, **KINDS[kind], **more})


def add(index, *paths, **training):
    return add_files(index, inputs(*paths), tuning=Tuning, training=TrainingOptions(**training), threads=1)


def remove(index, ids):
    return remove_ids(index, ids, tuning=Tuning, threads=1)


def answers(folder, xq=IMAGES[:50] ^ 1):
    """What an index answers, exactly and with care, with all that it says of its images."""
    index = open_index(folder)
    D, I = exact_search(index, xq.reshape(len(xq), -1), min(5, index.n))
    vectors = (index.vectors.dtype, index.vectors.tobytes())
    return {"found": (D.tobytes(), I.tobytes()), "labels": index.labels, "ids": index.ids, "vectors": vectors}


def as_fresh(folder, fresh):
    """Whether an index, which answers exactly as one built afresh does, is that one when it is compacted."""
    assert verify_folder(folder) == []
    assert answers(folder) == answers(fresh)
    compact(folder, tuning=Tuning, threads=1)
    return open_index(folder).fingerprint == open_index(fresh).fingerprint


def state(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def content(folder):
    """All that a manifest says but where rows came from, with the hash of each file that shapes an answer."""
    manifest = read_manifest(folder)
    files = {role: file.sha256 for role, file in manifest.files.items() if role != "labels"}
    origin = ("generation", "checksum", "files", "sources", "skipped", "image_column", "label_column", "id_column")
    return {key: value for key, value in manifest.to_json().items() if key not in origin} | {"files": files}


@pytest.fixture
def grown(tmp_path):
    """An index of old.parquet, and new.parquet beside it."""
    write(tmp_path / "old.parquet", IMAGES[OLD], LABELS[OLD])
    write(tmp_path / "new.parquet", IMAGES[NEW], LABELS[NEW])
    index_files(inputs(tmp_path / "old.parquet"), tmp_path / "x.knn", options=options())
    return tmp_path / "x.knn"


# Like an index built afresh, in every exact answer; and in every byte where it is built again or compacted


@pytest.mark.filterwarnings("ignore:images of .* for nothing is rescaled")  # as they are meant to be
@pytest.mark.parametrize(("kind", "metric", "dtype"), IN_PAIRS)
def test_added_to_it_is_the_index_of_all_and_what_was_added_can_be_taken_back(tmp_path, kind, metric, dtype):
    old = write(tmp_path / "old.parquet", IMAGES[OLD], LABELS[OLD])
    new = write(tmp_path / "new.parquet", WIDER[dtype](IMAGES[NEW]), LABELS[NEW])
    for name, files in {"x": [old], "fresh": [old, new]}.items():
        index_files(inputs(*files), tmp_path / name, options=options(kind, metric=metric, seed=3))
    shutil.copytree(tmp_path / "x", tmp_path / "before")
    has_codes = open_index(tmp_path / "x").inverted_file is not None
    assert add(tmp_path / "x", new) == 60
    index = open_index(tmp_path / "x")
    assert index.vectors.dtype == dtype
    assert (index.manifest.growth is not None) == has_codes
    shutil.copytree(tmp_path / "x", tmp_path / "compacted")
    assert as_fresh(tmp_path / "compacted", tmp_path / "fresh")
    assert remove(tmp_path / "x", [f"new.parquet#{row}" for row in range(60)]) == 60
    assert as_fresh(tmp_path / "x", tmp_path / "before")


@spread(("kind", KINDS), ("metric", FAISS_METRICS))
def test_after_a_removal_it_is_the_index_of_the_images_that_stay(tmp_path, kind, metric):
    images = IMAGES.astype(np.uint16)
    images[10:20] *= 4000  # they alone need 16 bits
    index_files(inputs(write(tmp_path / "all.parquet", images)), tmp_path / "x", options=options(kind, metric=metric))
    kept = np.setdiff1d(np.arange(160), [*range(10, 20), 0, 77, 159])
    index_files(
        inputs(write(tmp_path / "kept.parquet", images[kept], LABELS[kept])),
        tmp_path / "fresh",
        options=options(kind, metric=metric),
    )
    assert remove(tmp_path / "x", [f"all.parquet#{row}" for row in [159, *range(10, 20), 77, 0, 77]]) == 13
    assert open_index(tmp_path / "x").vectors.dtype == np.uint8
    one, other = ({**answers(tmp_path / name), "ids": None} for name in ("x", "fresh"))  # of another file
    assert one == other
    provenance = pq.read_table(tmp_path / "x" / "labels-2.parquet")
    compact(tmp_path / "x", tuning=Tuning, threads=1)
    assert content(tmp_path / "x") == content(tmp_path / "fresh")
    assert provenance["row"].to_pylist() == kept.tolist()
    assert provenance["id"].to_pylist() == [f"all.parquet#{row}" for row in kept]
    assert provenance["label"].to_pylist() == LABELS[kept].tolist()


@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint8", "adaptive"), pytest.param("float32", "exact", marks=pytest.mark.long)]
)
def test_an_index_with_bounds_and_tuned_rungs_is_compacted_and_tuned_again_for_what_it_was(tmp_path, kind, dtype):
    made = clusters(dtype, n=4500, d=160, nq=1)
    old, new, kept = slice(0, 4200), slice(4200, 4500), slice(300, 4500)
    tune = Tuning(k=3, weights="distance", target_agreement=0.97)
    files = {
        name: write(tmp_path / f"{name}.parquet", made.x[rows], made.y[rows])
        for name, rows in {"old": old, "new": new, "kept": kept}.items()
    }
    for name, names in {"x": ["old"], "both": ["old", "new"], "left": ["kept"]}.items():
        index_files(inputs(*(files[n] for n in names)), tmp_path / name, options=options(kind), tune=tune)
    add(tmp_path / "x", files["new"])
    shutil.copytree(tmp_path / "x", tmp_path / "compacted")
    assert compact(tmp_path / "compacted", tuning=Tuning, threads=1) == 300
    assert open_index(tmp_path / "compacted").fingerprint == open_index(tmp_path / "both").fingerprint
    assert compact(tmp_path / "compacted") == 0
    remove(tmp_path / "x", [f"old.parquet#{row}" for row in range(300)])
    assert compact(tmp_path / "x", tuning=Tuning, threads=1) == 600
    assert content(tmp_path / "x") == content(tmp_path / "left")
    assert "codes" in read_manifest(tmp_path / "x").files
    if kind == "adaptive":
        tuned = read_manifest(tmp_path / "x").search.tuned
        assert (tuned.k, tuned.weights, tuned.target_agreement) == (3, "distance", 0.97)


def test_an_adaptive_index_that_was_never_tuned_stays_so(tmp_path):
    index_arrays(IMAGES[OLD], LABELS[OLD], tmp_path / "x", options=options("adaptive"))
    add(tmp_path / "x", write(tmp_path / "new.parquet", IMAGES[NEW], LABELS[NEW]))
    remove(tmp_path / "x", ["array#3"])
    assert read_manifest(tmp_path / "x").search.tuned is None


def test_an_index_tuned_for_more_neighbours_than_stay_is_exact_search(tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x", options=options("adaptive"), tune=Tuning(k=9))
    remove(tmp_path / "x", [f"array#{row}" for row in range(152)])
    index = open_index(tmp_path / "x")
    assert (index.n, index.tuned.k, is_exact(index, 1)) == (8, 9, True)


@pytest.mark.filterwarnings("ignore:.* new class")
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_order_of_adding_and_removing_ends_as_the_index_of_what_is_left(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    rows = np.arange(12)
    index_files(inputs(write(folder / "0.parquet", IMAGES[:12], LABELS[:12])), folder / "x", options=options())
    ids = [f"0.parquet#{row}" for row in range(12)]
    for step in range(1, 4):
        if len(ids) == 1 or data.draw(st.booleans(), "adds"):
            drawn = np.array([12 + step, *data.draw(st.lists(st.integers(12, 159), max_size=8))])  # no file comes twice
            add(folder / "x", write(folder / f"{step}.parquet", IMAGES[drawn], LABELS[drawn]))
            rows = np.append(rows, drawn)
            ids += [f"{step}.parquet#{row}" for row in range(len(drawn))]
        else:
            gone = set(data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=len(ids) - 1, unique=True)))
            remove(folder / "x", sorted(gone))
            rows = rows[[name not in gone for name in ids]]
            ids = [name for name in ids if name not in gone]
    index_files(inputs(write(folder / "left.parquet", IMAGES[rows], LABELS[rows])), folder / "fresh", options=options())
    assert open_index(folder / "x").ids.to_pylist() == ids
    compact(folder / "x")
    assert content(folder / "x") == content(folder / "fresh")


@pytest.mark.parametrize(
    "labels", [LABELS.astype(str), LABELS > 4, LABELS.astype(np.int8)], ids=["text", "bool", "int8"]
)
def test_labels_of_every_type_are_joined(tmp_path, labels):
    old, new = (write(tmp_path / f"{rows.start}.parquet", IMAGES[rows], labels[rows]) for rows in (OLD, NEW))
    for name, files in {"x": [old], "fresh": [old, new]}.items():
        index_files(inputs(*files), tmp_path / name, options=options())
    add(tmp_path / "x", new)
    assert as_fresh(tmp_path / "x", tmp_path / "fresh")
    stay = np.flatnonzero(labels != labels[0])
    remove(tmp_path / "x", np.array(open_index(tmp_path / "x").ids)[labels == labels[0]].tolist())
    assert open_index(tmp_path / "x").labels.to_pylist() == labels[stay].tolist()
    assert open_index(tmp_path / "x").classes.to_pylist() == sorted(set(labels[stay].tolist()))


# New files are read as the old ones were


def test_where_each_image_came_from_is_kept_and_the_new_file_joins_the_sources(grown, tmp_path):
    before = read_manifest(grown)
    add(grown, tmp_path / "new.parquet")
    table = pq.read_table(grown / "labels-2.parquet")
    assert table["id"].to_pylist() == [f"old.parquet#{i}" for i in range(100)] + [f"new.parquet#{i}" for i in range(60)]
    assert table["label"].to_pylist() == LABELS.tolist()
    sources = read_manifest(grown).sources
    assert sources[0] == before.sources[0]
    assert (sources[1].path, sources[1].size) == ("new.parquet", (tmp_path / "new.parquet").stat().st_size)
    remove(grown, [f"old.parquet#{i}" for i in range(100)])
    assert [source.path for source in read_manifest(grown).sources] == ["new.parquet"]


def test_a_regression_stays_one_and_takes_whole_numbers_too(tmp_path):
    training = TrainingOptions(is_regression=True)
    old = write(tmp_path / "old.parquet", IMAGES[OLD], LABELS[OLD] / 3)
    new = write(tmp_path / "new.parquet", IMAGES[NEW], LABELS[NEW])
    for name, files in {"x": [old], "fresh": [old, new]}.items():
        index_files(inputs(*files), tmp_path / name, training=training, options=options())
    add(tmp_path / "x", new)
    assert as_fresh(tmp_path / "x", tmp_path / "fresh")
    remove(tmp_path / "x", ["old.parquet#0", "new.parquet#0"])
    kept = np.setdiff1d(np.arange(160), [0, 100])
    assert open_index(tmp_path / "x").targets.tolist() == [
        *(LABELS[kept[kept < 100]] / 3).tolist(),
        *LABELS[kept[kept >= 100]].tolist(),
    ]


def test_columns_ids_and_grey_are_as_the_index_has_them(tmp_path):
    colour = np.stack([IMAGES * 15, IMAGES * 5, IMAGES], axis=-1)
    training = TrainingOptions(
        images=ImageOptions(image_column="picture", grayscale=True), label_column="kind", id_column="key"
    )
    encoded = [png(image) for image in colour]
    for name, rows in {"old": OLD, "new": NEW}.items():
        keys = pa.array(np.arange(160)[rows] + 1000)
        columns = {"picture": encoded[rows], "thumb": encoded[rows], "kind": LABELS[rows], "fold": LABELS[rows] % 2}
        pq.write_table(pa.table({**columns, "key": keys}), tmp_path / f"{name}.parquet")
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    for name, files in {"x": [old], "fresh": [old, new]}.items():
        index_files(inputs(*files), tmp_path / name, training=training, options=options())
    add(tmp_path / "x", new)
    assert as_fresh(tmp_path / "x", tmp_path / "fresh")
    assert open_index(tmp_path / "x").ids.to_pylist()[-1] == "1159"
    with pytest.raises(KnnvoteError, match="stores 100 of the 100 ids already, the first '1000'"):
        add(tmp_path / "x", old)


@pytest.mark.parametrize(
    ("channels", "told", "taken"),
    [(3, ["--grayscale"], (True, None)), (2, ["--background", "white"], (False, "white"))],
)
def test_what_an_added_image_needs_is_told_and_becomes_that_of_the_index(invoke, channels, told, taken):
    pixels = np.arange(64 * channels, dtype=np.uint8).reshape(8, 8, channels)
    for name, images in {"a": IMAGES[:4], "b": [pixels]}.items():
        encoded = [png(np.asarray(image, np.uint8)) for image in images]
        pq.write_table(pa.table({"image": encoded, "label": LABELS[: len(encoded)]}), f"{name}.parquet")
    assert invoke("index", "a.parquet", "--out", "x").code == 0
    refused = invoke("add", "x", "b.parquet")
    assert (refused.code, f"pass {' '.join(told)}" in refused.stderr) == (1, True)
    assert invoke("add", "x", "b.parquet", *told).code == 0
    assert invoke("index", "a.parquet", "b.parquet", "--out", "fresh", *told).code == 0
    manifest = read_manifest(Path("x"))
    assert (manifest.grayscale is not None, manifest.background) == taken
    assert open_index("x").fingerprint == open_index("fresh").fingerprint
    if manifest.background:
        other = invoke("add", "x", "a.parquet", "--background", "black")
        assert (other.code, "add them without --background" in other.stderr) == (2, True)


def test_options_of_one_addition_stand_above_the_index(grown, tmp_path):
    table = image_table(IMAGES[NEW], LABELS[NEW] % 2, image_column="picture", label_column="kind")
    table = table.append_column("label", pa.array(LABELS[NEW])).append_column("key", pa.array(map(str, range(60))))
    pq.write_table(table.append_column("image", table["picture"]), tmp_path / "b.parquet")
    add(
        grown, tmp_path / "b.parquet", images=ImageOptions(image_column="picture"), label_column="kind", id_column="key"
    )
    index = open_index(grown)
    assert index.ids.to_pylist()[100:] == [str(i) for i in range(60)]
    assert index.labels.to_pylist()[100:] == (LABELS[NEW] % 2).tolist()
    assert [getattr(index.manifest, key) for key in ("image_column", "label_column", "id_column")] == [
        "image",
        "label",
        None,
    ]


def test_files_are_added_to_an_index_of_arrays(tmp_path):
    index_arrays(IMAGES[OLD], LABELS[OLD], tmp_path / "x", options=options())
    add(tmp_path / "x", write(tmp_path / "new.parquet", IMAGES[NEW] / 7, LABELS[NEW]))
    index = open_index(tmp_path / "x")
    assert np.array_equal(index.vectors, np.concatenate([IMAGES[OLD], IMAGES[NEW] / 7]).reshape(160, 64))
    assert (index.manifest.image_column, index.manifest.label_column) == ("image", "label")
    remove(tmp_path / "x", ["array#0"])
    assert open_index(tmp_path / "x").ids.to_pylist()[:2] == ["array#1", "array#2"]


def test_bad_rows_are_left_out_only_when_told_to_and_counted_with_the_older_ones(tmp_path):
    holed = pa.array([None if row < 5 else row for row in LABELS.tolist()])
    old, new = (write(tmp_path / f"{n}.parquet", IMAGES ^ n, holed) for n in (0, 1))
    index_files(inputs(old), tmp_path / "x", training=TrainingOptions(skip_bad=True), options=options())
    with pytest.raises(KnnvoteError, match=r"1\.parquet, row 0: no label; mend it, or pass skip_bad=True"):
        add(tmp_path / "x", new)
    assert add(tmp_path / "x", new, skip_bad=True) == 160 - holed.null_count
    assert read_manifest(tmp_path / "x").skipped == 2 * holed.null_count


def test_a_file_of_a_stored_ones_name_is_told_apart_where_ids_are_its_own(tmp_path):
    files = [
        write(tmp_path / name / "part.parquet", IMAGES[rows], LABELS[rows], ids=pa.array(np.arange(160)[rows]))
        for name, rows in {"a": OLD, "b": NEW}.items()
    ]
    training = TrainingOptions(id_column="key")
    index_files(inputs(files[0]), tmp_path / "x", training=training, options=options())
    add(tmp_path / "x", files[1])
    table = pq.read_table(tmp_path / "x" / "labels-2.parquet")
    assert table["file"].unique().to_pylist() == ["part.parquet", str(files[1])]


@pytest.mark.filterwarnings("ignore:.* new class")
def test_a_repeated_id_is_stored_each_time_and_removed_each_time(tmp_path):
    keys = pa.array(["a", "b", "a", "c"])
    old = write(tmp_path / "old.parquet", IMAGES[:4], LABELS[:4], ids=keys)
    new = write(tmp_path / "new.parquet", IMAGES[4:8], LABELS[4:8], ids=pa.array(["d", "e", "d", "d"]))
    with pytest.warns(Note, match="1 id is stored several times, 'a', 2 times: remove and"):
        index_files(inputs(old), tmp_path / "x", training=TrainingOptions(id_column="key"), options=options())
    with pytest.warns(Note, match="'d', 3 times: remove"):
        add(tmp_path / "x", new)
    with pytest.warns(Note, match="2 ids are stored several times, the first, 'a', 2 times: all that have it are"):
        assert remove(tmp_path / "x", ["a", "d"]) == 5
    assert open_index(tmp_path / "x").ids.to_pylist() == ["b", "c", "e"]


# What is refused changes nothing


def refused_files(folder):
    """Files that cannot be added to an index of old.parquet, each with what is said of it."""
    names = '{"info": {"features": {"label": {"names": ["b", "a"], "_type": "ClassLabel"}}}}'
    named = image_table(IMAGES[NEW], LABELS[NEW] % 2).replace_schema_metadata({"huggingface": names})
    write_table(named, folder / "names.parquet")
    write(folder / "shape.parquet", np.zeros((3, 5, 5), np.uint8), LABELS[:3])
    write(folder / "text.parquet", labels=LABELS.astype(str))
    write(folder / "floats.parquet", labels=LABELS / 3)
    write(folder / "truths.parquet", labels=LABELS == 1)
    write(folder / "none.parquet", IMAGES[:0], LABELS[:0])
    return {
        "names.parquet": "class names are b, a, and a, b in what comes before",
        "shape.parquet": "images are 5 x 5, the index stores 8 x 8",
        "text.parquet": "column 'label': labels are string, and int64 in what comes before it: give all labels one",
        "floats.parquet": "labels of type double are numbers to be averaged",
        "truths.parquet": "labels are bool, and int64",
        "none.parquet": r"no labelled image in 1 file\(s\)",
        "old.parquet": r"stores 100 of the 100 ids already, the first 'old\.parquet#0'; nothing was added: they are",
    }


def test_a_file_that_does_not_fit_is_refused_by_name_and_nothing_is_changed(tmp_path):
    names = '{"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}'
    table = image_table(IMAGES[OLD], LABELS[OLD] % 2).replace_schema_metadata({"huggingface": names})
    write_table(table, tmp_path / "old.parquet")
    write(tmp_path / "new.parquet", IMAGES[NEW], LABELS[NEW] % 2)
    index_files(inputs(tmp_path / "old.parquet"), tmp_path / "x", options=options())
    before = state(tmp_path / "x")
    for name, message in refused_files(tmp_path).items():
        with pytest.raises(KnnvoteError, match=message) as refusal:
            add(tmp_path / "x", tmp_path / name)
        assert name in str(refusal.value)
        assert state(tmp_path / "x") == before
    with pytest.raises(KnnvoteError, match=r"shape\.parquet"):  # with one that does
        add(tmp_path / "x", tmp_path / "new.parquet", tmp_path / "shape.parquet")
    assert state(tmp_path / "x") == before


def test_what_was_added_cannot_be_added_again(grown, tmp_path):
    add(grown, tmp_path / "new.parquet")
    before = state(grown)
    with pytest.raises(KnnvoteError, match=r"stores 60 of the 60 ids already, the first 'new\.parquet#0'"):
        add(grown, tmp_path / "new.parquet")
    assert state(grown) == before


def test_a_file_that_was_added_under_another_path_cannot_be_added_again(grown, tmp_path):
    add(grown, tmp_path / "new.parquet")
    shutil.copy(tmp_path / "new.parquet", tmp_path / "copy.parquet")
    message = r"stores images of a file with the same bytes as copy\.parquet already, then named new\.parquet; nothing"
    with pytest.raises(KnnvoteError, match=message):
        add(grown, tmp_path / "copy.parquet")
    remove(grown, [f"new.parquet#{row}" for row in range(60)])
    assert add(grown, tmp_path / "copy.parquet") == 60


def test_new_files_without_the_ids_of_the_index_are_refused(tmp_path):
    old = write(tmp_path / "old.parquet", ids=pa.array(np.arange(160)))
    index_files(inputs(old), tmp_path / "x", training=TrainingOptions(id_column="key"), options=options())
    with pytest.raises(KnnvoteError, match=r"new\.parquet: no column 'key' for id_column"):
        add(tmp_path / "x", write(tmp_path / "new.parquet"))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["old.parquet#1", "here", "there", "here"], r"does not store 2 of the 3 ids, the first 'here'; nothing was"),
        ([], "no id is given"),
        ([f"old.parquet#{row}" for row in range(100)], "all 100 images of .* would be removed"),
    ],
)
def test_ids_that_cannot_be_removed_are_refused_and_nothing_is_changed(grown, ids, message):
    before = state(grown)
    with pytest.raises(KnnvoteError, match=message):
        remove(grown, ids)
    assert state(grown) == before


def test_a_damaged_index_is_refused_and_its_damage_never_sealed(grown, tmp_path):
    file = grown / "vectors-1.raw"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for change in (lambda: add(grown, tmp_path / "new.parquet"), lambda: remove(grown, ["old.parquet#0"])):
        with pytest.raises(KnnvoteError, match=r"vectors-1\.raw was changed: .*; nothing was changed: build the index"):
            change()
    assert read_manifest(grown).generation == 1


def test_no_folder_or_lock_is_made_where_there_is_no_index(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(KnnvoteError, match="is not an index folder"):
        remove(tmp_path / "other", ["a"])
    with pytest.raises(KnnvoteError, match="does not exist"):
        remove(tmp_path / "none", ["a"])
    assert [*tmp_path.rglob("*")] == [tmp_path / "other"]


def test_a_change_is_refused_while_another_build_is_at_work(grown, tmp_path):
    with hold_lock(grown / "lock", "held"), pytest.raises(KnnvoteError, match="another build is writing to"):
        add(grown, tmp_path / "new.parquet")
    add(grown, tmp_path / "new.parquet")
    assert not (grown / "lock").exists()


# Commits


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *(("exact", "add"), ("exact", "remove"), ("exact", "compact"), ("hnsw", "add another type")),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("exact", "add another type"), ("hnsw", "remove"))),
    ],
)
def test_at_every_moment_the_folder_is_the_old_whole_or_the_new_whole(tmp_path, monkeypatch, kind, change):
    """Each step on disk is preceded by a copy of the folder: what a kill at that moment would leave."""
    for module in ("open", "verify"):  # to try every copy apart would take long
        monkeypatch.setattr(f"knnvote.indexer.folder.{module}.is_known", lambda *_: True)
    folder, copies = tmp_path / "x", []
    new = write(tmp_path / "new.parquet", IMAGES[NEW] if change == "add" else IMAGES[NEW] / 7, LABELS[NEW])
    index_files(inputs(write(tmp_path / "old.parquet")), folder, options=options(kind))
    if change == "compact":
        remove(folder, ["old.parquet#0"])
    old = open_index(folder).fingerprint

    def copying(step):
        def copy_first(path, *rest, **named):
            copies.append(tmp_path / f"copy{len(copies)}")
            shutil.copytree(folder, copies[-1])
            return step(path, *rest, **named)

        return copy_first

    with monkeypatch.context() as patched:
        for step in ("replace", "unlink"):
            patched.setattr(Path, step, copying(getattr(Path, step)))
        for step in ("fsync", "ftruncate") if change == "add" else ():
            patched.setattr(os, step, copying(getattr(os, step)))
        changes = {"remove": lambda: remove(folder, ["old.parquet#0"]), "compact": lambda: compact(folder)}
        changes.get(change, lambda: add(folder, new))()
    assert len(state(folder)) == len(read_manifest(folder).files) + 2
    fingerprints = [open_index(copy).fingerprint for copy in copies]
    assert all(verify_folder(copy) == [] for copy in copies)
    assert list(dict.fromkeys(fingerprints)) == [old, open_index(folder).fingerprint]
    assert (copies[-1] / "vectors-1.raw").exists() == ((kind, change) == ("exact", "add"))
    for copy in (copies[fingerprints.count(old) - 1], copies[-1]):  # the next run clears away what is left
        remove(copy, ["old.parquet#1"])
        assert len(state(copy)) == len(read_manifest(copy).files) + 2


def test_a_killed_addition_leaves_the_old_index_and_the_same_command_completes_it(grown, tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "replace = Path.replace\n"
        "def die(path, target):\n"
        "  if Path(target).name == 'manifest.json':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "  return replace(path, target)\n"
        "Path.replace = die\n"
        "from knnvote.cli.main import main\n"
        "main()\n"
    )
    before = state(grown)
    arguments = ["add", grown, tmp_path / "new.parquet"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    after = state(grown)
    assert after.pop("vectors-1.raw").startswith(before.pop("vectors-1.raw"))  # what the manifest names of it
    assert after.items() > before.items()
    assert verify_folder(grown) == []
    assert open_index(grown).n == 100
    assert add(grown, tmp_path / "new.parquet") == 60
    files = {file.name for file in read_manifest(grown).files.values()}
    assert state(grown).keys() == {*files, "manifest.json", "timing-2.json"}
    assert {name for name in files if "-1." in name} == {"vectors-1.raw", "axes-1.npy", "lists-1.npy"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_opened_before_answers_as_before_in_every_thread(tmp_path, kind):
    for name in ("x", "quiet"):
        index_files(inputs(write(tmp_path / "old.parquet")), tmp_path / name, options=options(kind))
    new = write(tmp_path / "new.parquet", IMAGES[NEW] / 7, LABELS[NEW])
    opened = Classifier.open(tmp_path / "x", Rule(k=3))
    add(tmp_path / "x", new)
    remove(tmp_path / "x", [f"old.parquet#{row}" for row in range(90)])
    assert not (tmp_path / "x" / "labels-1.parquet").exists()
    with ThreadPoolExecutor(2) as threads:
        answers = [*threads.map(opened, [IMAGES[:80], IMAGES[80:]])]
        found = [*threads.map(lambda answer: answer.neighbors(), answers)]
    expected = Classifier.open(tmp_path / "quiet", Rule(k=3))(IMAGES)
    assert pa.concat_arrays(found).equals(expected.neighbors())
    assert pa.concat_arrays([answer.prediction for answer in answers]).equals(expected.prediction)


# The commands


def test_the_commands_tell_what_they_did_and_what_the_index_now_is(grown, tmp_path, invoke):
    done = invoke("add", "x.knn", "new.parquet", "--threads", "1")
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr.startswith("x.knn: 60 images added\nx.knn: 160 images of 8 x 8, exact, ")
    again = invoke("add", "x.knn", "new.parquet")
    assert again.code == 1
    assert again.stderr.startswith("error: x.knn stores 60 of the 60 ids already, the first 'new.parquet#0'; nothing")
    pq.write_table(pa.table({"id": [f"new.parquet#{row}" for row in range(9)]}), tmp_path / "gone.parquet")
    done = invoke("remove", "x.knn", "old.parquet#7", "--ids", "gone.parquet")
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr.startswith("x.knn: 10 images removed\nx.knn: 150 images of 8 x 8, exact, ")
    assert open_index(grown).n == 150
    unknown = invoke("remove", "x.knn", "old.parquet#7")
    assert unknown.code == 1
    assert "x.knn does not store 1 of the 1 ids, the first 'old.parquet#7'" in unknown.stderr


def test_removing_tells_tuning_as_index_does(tmp_path, invoke):
    write(tmp_path / "old.parquet")
    built = invoke("index", "old.parquet", "--out", "x.knn", "--kind", "adaptive", "--k", "3")
    done = invoke("remove", "x.knn", "old.parquet#0")
    assert done.code == 0
    assert done.stderr.splitlines()[2:] == built.stderr.splitlines()[1:]
    assert "tuned for k 3 and uniform weights" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("a", "--id-column", "key")])
def test_a_removal_that_names_nothing_is_wrong_usage(grown, invoke, arguments):
    done = invoke("remove", grown, *arguments)
    assert done.code == 2
    assert "--ids" in done.stderr


@pytest.mark.parametrize(
    ("columns", "name", "ids"),
    [
        ({"anything": ["a", "b"]}, None, ["a", "b"]),
        ({"x": [1.5], "id": [7]}, None, ["7"]),
        ({"id": ["a"], "key": ["b"]}, "key", ["b"]),
        ({"id": pa.array(["b"]).dictionary_encode()}, None, ["b"]),
    ],
)
def test_ids_are_read_from_the_only_column_or_id_or_the_one_named(tmp_path, columns, name, ids):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read_id_column(inputs(tmp_path / "a.parquet"), name).to_pylist() == ids


@pytest.mark.parametrize(
    ("columns", "name", "message"),
    [
        ({"x": ["a"], "y": ["b"]}, None, r"a\.parquet: no column 'id' of ids; there are x, y: name one with"),
        ({"id": ["a"]}, "key", r"a\.parquet: no column 'key' of ids; there are id: name one"),
        ({"id": ["a", None, None]}, None, r"a\.parquet, column 'id': 2 ids are null: leave those rows out"),
        ({"id": [[1]]}, None, r"a\.parquet, column 'id': ids of type list"),
    ],
)
def test_a_file_without_usable_ids_is_refused_by_name(tmp_path, columns, name, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(KnnvoteError, match=message):
        read_id_column(inputs(tmp_path / "a.parquet"), name)


@pytest.mark.parametrize(
    ("name", "content", "id_column", "ids"),
    [
        ("a.csv", 'id\n"007"\nb#1\n', None, ["007", "b#1"]),
        ("a.csv", "007\n12345678901234567890\n", None, ["007", "12345678901234567890"]),
        ("a.csv", "why;key\nblurred, dark;0.10\n", "key", ["0.10"]),
        ("a.txt", "\ufeffa, b#0\r\n\r\nc#1", None, ["a, b#0", "c#1"]),
    ],
    ids=["header", "digits", "named", "lines"],
)
def test_ids_in_text_keep_every_character(tmp_path, name, content, id_column, ids):
    (tmp_path / name).write_text(content)
    assert read_id_column(tmp_path / name, id_column).to_pylist() == ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\nx,y\n", r"no column 'id' of ids; there are a, b: name one with"),
        ("id,b\nx\n", "1 row without an id, or .* in line 2:"),
    ],
)
def test_text_without_usable_ids_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(KnnvoteError, match=rf"a\.csv: {message}"):
        read_id_column(tmp_path / "a.csv")


def test_images_are_removed_by_a_csv_file_of_ids(grown, tmp_path, invoke):
    (tmp_path / "ids.csv").write_text("id\nold.parquet#0\nold.parquet#5\n")
    n = open_index(grown).n
    assert invoke("remove", "x.knn", "--ids", "ids.csv").code == 0
    assert open_index(grown).n == n - 2


def test_an_index_that_was_tuned_is_not_changed_without_being_tuned_again(tmp_path):
    data = clusters("uint8", n=300, d=20)
    build_adaptive(tmp_path / "x.knn", data.x, data.y, tune=Tuning())
    assert remove_ids(tmp_path / "x.knn", "array#0") == 1  # one id, by itself: far fewer than a fifth
    before = state(tmp_path / "x.knn")
    new = write(tmp_path / "new.parquet", data.x[:60], data.y[:60])
    for change in (
        lambda: add_files(tmp_path / "x.knn", new),
        lambda: remove_ids(tmp_path / "x.knn", [f"array#{row}" for row in range(1, 60)]),
        lambda: compact(tmp_path / "x.knn"),
    ):
        with pytest.raises(KnnvoteError, match=r"was tuned, and has to be tuned again: pass tuning=knnvote.Tuning"):
            change()
        assert state(tmp_path / "x.knn") == before


def test_new_classes_are_told_and_the_index_s_own_label_column_is_taken(tmp_path, invoke):
    """Of several columns that could be the label's, and of another name than they usually have."""
    names = np.array([f"digit {label}" for label in LABELS], object)

    def parquet(name, rows, kinds):
        columns = {"image": IMAGES[rows].reshape(-1, 64).tolist(), "kind": kinds, "maker": ["Canon"] * len(kinds)}
        pq.write_table(pa.table(columns), tmp_path / name)

    known = names[OLD].copy()
    known[np.isin(known, ["digit 8", "digit 9"])] = "digit 0"
    parquet("old.parquet", OLD, known.tolist())
    parquet("new.parquet", NEW, names[NEW].tolist())
    refused = invoke("index", "old.parquet", "--out", "x.knn")
    assert "several columns could be the label: kind (string), maker (string)" in refused.stderr
    assert invoke("index", "old.parquet", "--out", "x.knn", "--label-column", "kind").code == 0
    added = invoke("add", "x.knn", "new.parquet")
    assert added.stderr.splitlines()[:2] == ["note: 2 new classes: 'digit 8', 'digit 9'", "x.knn: 60 images added"]
    assert {"digit 8", "digit 9"} <= set(read_manifest(tmp_path / "x.knn").classes)
    pq.write_table(pq.read_table(tmp_path / "new.parquet").drop_columns("kind"), tmp_path / "other.parquet")
    refused = invoke("add", "x.knn", "other.parquet")
    assert (refused.code, "no column 'kind', from which the labels before it were read" in refused.stderr) == (1, True)
    assert invoke("add", "x.knn", "other.parquet", "--label-column", "maker").stderr.startswith(
        "note: 1 new class: 'Canon'\n"
    )


def test_a_guessed_id_is_refused_with_a_command_that_works(tmp_path, invoke):
    rows = {"image": IMAGES.reshape(-1, 64).tolist(), "name": [f"img{row}" for row in range(160)]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    refused = invoke("index", "a.parquet", "--out", "x.knn")
    assert (refused.code, (tmp_path / "x.knn").exists()) == (1, False)
    assert refused.stderr == (
        "error: column 'name' has 160 values in 160 rows: it looks like an id; "
        "name the labels' with --label-column, or this one if they are, or give labels in a file of their own with "
        "--labels\n"
    )
    named = invoke("index", "a.parquet", "--out", "x.knn", "--label-column", "name")
    assert named.code == 0
    told = "note: column 'name' has 160 values in 160 rows: it looks like an id; --label-column names another column\n"
    assert named.stderr.startswith(told)
    index_arrays(IMAGES, [f"digit {label}" for label in LABELS], tmp_path / "y.knn")
    refused = invoke("add", "y.knn", "a.parquet")
    assert (refused.code, "it looks like an id" in refused.stderr) == (1, True)
