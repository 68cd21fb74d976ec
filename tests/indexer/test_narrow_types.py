"""Float16 and int8 from files and arrays to the stored vectors and back."""

import json
import re

import brute_force
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier
from knnvote.classify.search.search import exact_search, search
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.tables import image_table
from knnvote.data.vectors import far_beyond, scales_told
from knnvote.indexer.arrays.labelled import training_set_from_arrays
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.grow import add_files, compact, relabel_ids, remove_ids
from knnvote.indexer.manifest import MANIFEST, read_manifest
from knnvote.indexer.metric import METRICS
from knnvote.indexer.sealed import seal

RNG = np.random.default_rng(0)
HALVES = RNG.normal(size=(60, 12)).astype(np.float16)
SIGNED = RNG.integers(-128, 128, (60, 12)).astype(np.int8)
LABELS = np.arange(60) % 3
HALF = pa.float16()


def str_of_type(x):
    return str(x.dtype)


def write(path, images, kind=None):
    table = image_table(images, LABELS[: len(images)])
    if kind is not None:
        table = table.set_column(0, "image", pa.array([*images], kind))
    pq.write_table(table, path)
    return path


def inputs(*paths):
    return find_inputs([str(path) for path in paths])


def stored(folder, *paths):
    index_files(inputs(*paths), folder, options=IndexOptions(overwrite=True))
    return open_index(folder).vectors


@pytest.mark.parametrize("kind", [None, pa.list_(HALF), pa.list_(HALF, 12), pa.large_list(HALF), "columns"], ids=str)
def test_float16_stays_float16_in_every_layout(tmp_path, kind):
    if kind == "columns":
        columns = {f"v{place}": HALVES[:, place] for place in range(12)} | {"label": LABELS}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    else:
        write(tmp_path / "a.parquet", HALVES, kind)
    vectors = stored(tmp_path / "x", tmp_path / "a.parquet")
    assert vectors.dtype == np.float16
    assert vectors.tobytes() == HALVES.tobytes()
    assert sorted(read_manifest(tmp_path / "x").files) == ["index", "labels"]


def test_float16_of_numpy_files_stays_float16_and_float32_that_would_fit_stays_float32(tmp_path, invoke):
    for name, images in {"h": HALVES, "f": HALVES.astype(np.float32)}.items():
        np.savez(tmp_path / f"{name}.npz", images=images, labels=LABELS)
        assert invoke("convert", f"{name}.npz", f"{name}.parquet").code == 0
    assert stored(tmp_path / "x", tmp_path / "h.parquet").dtype == np.float16
    assert stored(tmp_path / "x", tmp_path / "f.parquet").dtype == np.float32
    stored(tmp_path / "x", tmp_path / "h.parquet")
    assert "float16 from" in invoke("inspect", "x").stdout


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_float16_that_is_not_finite_is_a_bad_row(tmp_path, value, invoke):
    images = HALVES.copy()
    images[7, 3] = value
    write(tmp_path / "a.parquet", images)
    reason = "value 3 is NaN" if np.isnan(value) else "value 3 is infinite"
    assert reason in invoke("index", "a.parquet", "--out", "x").stderr
    assert invoke("index", "a.parquet", "--out", "x", "--skip-bad").code == 0
    assert open_index(tmp_path / "x").vectors.tobytes() == np.delete(HALVES, 7, axis=0).tobytes()


@pytest.mark.parametrize(
    "kind", [None, pa.list_(pa.int8()), pa.list_(pa.int8(), 12), pa.list_(pa.int64(), 12)], ids=str
)
def test_whole_numbers_of_which_some_are_negative_and_all_fit_are_int8_beside_the_index(tmp_path, kind):
    vectors = stored(tmp_path / "x", write(tmp_path / "a.parquet", SIGNED, kind))
    assert vectors.dtype == np.int8
    assert np.array_equal(vectors, SIGNED)
    manifest = read_manifest(tmp_path / "x")
    assert sorted(manifest.files) == ["labels", "vectors"]
    assert manifest.range == (int(SIGNED.min()), int(SIGNED.max()))
    assert verify_folder(tmp_path / "x") == []


@pytest.mark.parametrize(
    ("first", "more", "dtype"),
    [
        (SIGNED, SIGNED.clip(0), "int8"),
        (SIGNED.clip(0), SIGNED, "int8"),
        (SIGNED, SIGNED.astype(np.int16) + 128, "float32"),
        (SIGNED, HALVES, "float16"),
        (HALVES, HALVES.astype(np.float32), "float32"),
        (HALVES, np.abs(SIGNED.astype(np.int32)) * 200, "float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:images of .* for nothing is rescaled", "ignore:images of .* all are stored as")
def test_added_to_it_has_the_type_of_all_and_after_a_removal_the_one_it_had(tmp_path, first, more, dtype):
    a, b = write(tmp_path / "a.parquet", first), write(tmp_path / "b.parquet", more)
    stored(tmp_path / "x", a)
    before, fresh = open_index(tmp_path / "x").fingerprint, stored(tmp_path / "y", a, b)
    add_files(tmp_path / "x", inputs(b))
    assert open_index(tmp_path / "x").vectors.dtype == fresh.dtype == dtype
    assert open_index(tmp_path / "x").fingerprint == open_index(tmp_path / "y").fingerprint
    remove_ids(tmp_path / "x", [f"b.parquet#{row}" for row in range(60)])
    compact(tmp_path / "x")  # of so many it had got codes
    assert open_index(tmp_path / "x").fingerprint == before


def test_without_its_negative_rows_int8_is_bytes(tmp_path):
    stored(tmp_path / "x", write(tmp_path / "a.parquet", np.vstack([SIGNED[:5], np.abs(SIGNED[5:] // 2)])))
    remove_ids(tmp_path / "x", [f"a.parquet#{row}" for row in range(5)])
    assert open_index(tmp_path / "x").vectors.dtype == np.uint8


@pytest.mark.parametrize("x", [HALVES, SIGNED, HALVES.astype(">f2")], ids=["float16", "int8", "high byte first"])
def test_an_estimator_keeps_the_type_and_takes_queries_of_any(x):
    model = KNNVoteClassifier(n_neighbors=1).fit(x, LABELS)
    assert model._index.vectors.dtype == x.dtype.newbyteorder("=")
    for queries in (x, x.astype(np.float64), x.astype(np.float32)):
        assert np.array_equal(model.predict(queries), LABELS)
    assert model.kneighbors(x[:1] + np.float64(0.25))[0][0, 0] == np.sqrt(12 / 16)


def test_hnsw_holds_float16_once_and_settles_by_it(tmp_path):
    x = np.random.default_rng(1).normal(size=(400, 16)).astype(np.float16)
    index_arrays(x, np.arange(400) % 3, tmp_path / "x", options=IndexOptions(kind="hnsw"))
    index = open_index(tmp_path / "x")
    assert index.manifest.factory == "HNSW32,SQfp16"
    assert sorted(index.manifest.files) == ["index", "labels"]
    D, I = search(index, x.astype(np.float64), 1)
    assert (D[:, 0] == 0).mean() > 0.95
    assert np.array_equal(I[D == 0], np.arange(400)[D[:, 0] == 0])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("exact", {"dtype": "uint8"}),
        ("exact", {"dtype": "float32"}),
        ("hnsw", {"factory": "HNSW32,SQ8_direct"}),
        ("hnsw", {"factory": "HNSW32,Flat"}),
    ],
)
def test_a_folder_of_float16_that_says_another_type_is_refused(tmp_path, kind, change):
    index_arrays(HALVES, LABELS, tmp_path / "x", options=IndexOptions(kind=kind))
    manifest = json.loads((tmp_path / "x" / MANIFEST).read_bytes())
    (tmp_path / "x" / MANIFEST).write_bytes(seal({**manifest, **change}))
    with pytest.raises(KnnvoteError, match="is not an index that knnvote writes"):
        open_index(tmp_path / "x")


def test_scales_of_float16_are_told_without_overflow():
    large = np.array([[65504, -65504], [60000, 1]] * 20, np.float16)
    assert far_beyond(large, -65504.0, 65504.0).sum() == 0
    assert far_beyond(large, -1.0, 1.0).all()
    of = {"a": large, "b": large[:30] / 1000}
    assert "those of a from -65504 to 65504" in scales_told({name: (x, x.dtype) for name, x in of.items()})
    of = {"a": SIGNED[:5], "b": SIGNED[:5].clip(0).astype(np.uint8)}
    assert scales_told({name: (x, x.dtype) for name, x in of.items()}) is None


# At rest, and what it answers


def in_folder(folder, x, **options):
    """An index of arrays, opened."""
    index_arrays(x, np.arange(len(x)) % 3, folder, options=IndexOptions(threads=1, **options))
    return open_index(folder)


@pytest.mark.parametrize("x", [HALVES, SIGNED], ids=str_of_type)
def test_a_file_of_vectors_has_their_bytes_alone(tmp_path, x):
    index = in_folder(tmp_path / "x", x, kind="adaptive")
    file = tmp_path / "x" / index.manifest.files["vectors"].name
    assert file.name == "vectors-1.raw"
    assert file.read_bytes() == x.tobytes()
    assert isinstance(index.vectors.base, np.memmap)


@pytest.mark.parametrize(("kind", "metric"), [*(("exact", metric) for metric in METRICS), ("adaptive", "cosine")])
@pytest.mark.parametrize("x", [HALVES, SIGNED], ids=str_of_type)
def test_queries_of_floats_are_searched_as_they_are_alone_and_together(tmp_path, x, kind, metric):
    index = in_folder(tmp_path / "x", x, kind=kind, metric=metric)
    xq = x[:20] + np.float32(0.3)
    assert (xq.astype(x.dtype) != xq).all()
    expected = brute_force.neighbors(xq.astype(np.float64), x, 5, metric)
    classifier = Classifier(index, Rule(k=5), promise="careful")
    for queries, found in ((xq, slice(None)), (xq[:1], slice(1)), (xq.astype(np.float64), slice(None))):
        answer = classifier(queries)
        assert answer.D.tobytes() == expected[0][found].tobytes()
        assert np.array_equal(answer.I, expected[1][found])


@pytest.mark.parametrize("x", [HALVES, SIGNED], ids=str_of_type)
def test_it_grows_shrinks_is_mended_and_compacted_as_it_is(tmp_path, x):
    a, b = write(tmp_path / "a.parquet", x[:40]), write(tmp_path / "b.parquet", x[40:])
    index_files(inputs(a), tmp_path / "x", options=IndexOptions(kind="adaptive", threads=1))
    add_files(tmp_path / "x", inputs(b))
    remove_ids(tmp_path / "x", ["a.parquet#0"])
    relabel_ids(tmp_path / "x", "a.parquet#1", 2)
    for change in (lambda: None, lambda: compact(tmp_path / "x")):
        change()
        index = open_index(tmp_path / "x")
        assert verify_folder(tmp_path / "x") == []
        assert index.vectors.dtype == x.dtype
        assert index.vectors.tobytes() == x[1:].tobytes()
        assert index.labels[:2].to_pylist() == [2, 2]
        D, I = exact_search(index, x[:9].astype(np.float64), 4)
        expected = brute_force.neighbors(x[:9].astype(np.float64), x[1:], 4, "l2")
        assert (D.tobytes(), I.tobytes()) == tuple(found.tobytes() for found in expected)


@pytest.mark.parametrize("x", [HALVES, SIGNED], ids=str_of_type)
def test_arrays_are_not_copied(x):
    assert np.shares_memory(training_set_from_arrays(x, LABELS).vectors, x)


@pytest.mark.parametrize(
    ("first", "more", "told"),
    [
        (HALVES, HALVES / np.float32(3), "the index are float16, and those of .*b.parquet float32: .* in 2 times"),
        (SIGNED, SIGNED / np.float32(3), "the index are int8, and those of .*b.parquet float32: .* in 4 times"),
        (
            HALVES / np.float32(3),
            HALVES.astype(np.float64) / 3,
            "the index are float32, and those of .*b.parquet float64: .* in 2 times",
        ),
        (HALVES / np.float32(3), HALVES, None),
        (SIGNED, SIGNED.astype(np.int16) * 2, "the index are int8, and those of .*b.parquet float32: .* in 4 times"),
        (
            SIGNED,
            SIGNED.astype(np.int16) + 128,
            "the index are int8, and those of .*b.parquet uint8: all are stored as float32",
        ),
        (np.abs(SIGNED.astype(np.int16)).astype(np.uint8), HALVES / np.float32(3), None),
    ],
)
def test_that_others_make_an_index_wider_is_told(tmp_path, first, more, told):
    a, b = write(tmp_path / "a.parquet", first), write(tmp_path / "b.parquet", more)
    stored(tmp_path / "x", a)
    notes = []
    add_files(tmp_path / "x", inputs(b), tell=notes.append)
    found = [note for note in notes if "all are stored as" in note]
    assert bool(re.search(told, *found)) if told else not found


def test_files_of_float16_and_float32_are_told_and_lose_nothing(tmp_path, invoke):
    write(tmp_path / "a.parquet", HALVES)
    write(tmp_path / "b.parquet", HALVES / np.float32(3))
    told = invoke("index", "a.parquet", "b.parquet", "--out", "x").stderr
    assert "images of a.parquet are float16, and those of b.parquet float32: all are stored as float32" in told
    assert open_index(tmp_path / "x").vectors.tobytes() == np.vstack([HALVES, HALVES / np.float32(3)]).tobytes()


# bfloat16


BFLOAT = (RNG.normal(size=(6, 12)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view("V2")


class Tensor:
    """As PyTorch's of bfloat16 are."""

    def __dlpack__(self, **_options):
        raise BufferError

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")


@pytest.mark.parametrize("take", [Classifier.__call__, index_arrays], ids=["queries", "stored"])
def test_bfloat16_is_refused_with_what_makes_float32_of_it(tmp_path, take):
    index = in_folder(tmp_path / "x", HALVES)
    arguments = (Classifier(index, Rule(k=1)),) if take is Classifier.__call__ else ()
    more = () if arguments else (LABELS[:6], tmp_path / "y")
    with pytest.raises(KnnvoteError, match=r"ScalarType BFloat16\): give .* tensor\.detach\(\)\.cpu\(\)\.float\(\)"):
        take(*arguments, Tensor(), *more)
    with pytest.raises(KnnvoteError, match=r"bfloat16, which NumPy saves as such, .* are the same numbers") as refused:
        take(*arguments, BFLOAT, *more)
    python = re.search(r"as such, (.*) are the same", str(refused.value))[1]
    images = eval(python, {"np": np, "images": BFLOAT})  # noqa: S307  # as a reader would
    assert images.dtype == np.float32
    assert np.array_equal(images.view(np.uint16)[:, 1::2], BFLOAT.view(np.uint16))
    take(*arguments, images, *more)


def test_a_numpy_file_of_bfloat16_is_refused_by_its_name(tmp_path, invoke):
    np.save(tmp_path / "b.npy", BFLOAT)
    assert (
        "b.npy: images of type |V2 cannot be used: if they are bfloat16"
        in invoke("convert", "b.npy", "b.parquet").stderr
    )
