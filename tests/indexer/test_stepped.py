"""Indexes whose vectors steps make of images: built at once and in slices, grown, shrunk, mended, and refused."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from brute_force import neighbors

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.search.search import exact_search
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.sample import digits
from knnvote.data.steps import chain
from knnvote.data.steps.step import Step
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.building import work as working
from knnvote.indexer.building.work import Work
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.folder.write import describe_file
from knnvote.indexer.grow import add_files, compact, relabel_ids, remove_ids
from knnvote.indexer.manifest import read_manifest
from knnvote.indexer.sealed import seal
from knnvote.indexer.training import TrainingOptions
from knnvote.indexer.trial.folder import try_folder

IMAGES, LABELS = (array[:160] for array in digits())
EMBEDDINGS = np.random.default_rng(2).normal(0.5, 1, (160, 24)).astype(np.float32)
CHAINS = [("unit",), ("centred",), ("centred", "unit"), ("unit", "centred")]
KINDS = {
    "exact": {"kind": "exact"},
    "adaptive": {"kind": "adaptive"},
    "hnsw": {"kind": "hnsw"},
    "factory": {"kind": "factory", "factory": "PCA8,Flat"},
}


def options(kind="exact", **more):
    return IndexOptions(**{"threads": 1, **KINDS[kind], **more})


def plain(images, steps):
    """What steps make of stored images and what makes it of others, in plain NumPy."""
    x, done = images.reshape(len(images), -1).astype(np.float64), []
    for step in steps:
        mean = x.mean(axis=0)
        done.append((lambda y, mean=mean: y - mean) if step == "centred" else _unit)
        x = done[-1](x)
    return x, done


def _unit(y):
    return y / np.linalg.norm(y, axis=1, keepdims=True)


def write(path, images=IMAGES, labels=LABELS):
    write_table(image_table(images, labels), path)
    return path


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("timing")}


@pytest.mark.parametrize("steps", CHAINS, ids=" ".join)
@pytest.mark.parametrize(
    ("images", "metric"),
    [(IMAGES, "l2"), (EMBEDDINGS, "cosine"), (EMBEDDINGS, "l1")],
    ids=["digits l2", "embeddings cosine", "embeddings l1"],
)
def test_neighbours_are_those_of_brute_force_after_the_steps(images, steps, metric, tmp_path):
    index_arrays(images[:120], LABELS[:120], tmp_path / "x.knn", steps=steps, options=options(metric=metric))
    index = open_index(tmp_path / "x.knn")
    assert verify_folder(tmp_path / "x.knn") == []
    x, done = plain(images[:120], steps)
    np.testing.assert_allclose(index.vectors, x, atol=2e-5)
    np.testing.assert_array_equal(index.images, images[:120].reshape(120, -1))
    answer = Classifier(index, Rule(k=5))(images[120:])
    xq = images[120:].reshape(40, -1).astype(np.float64)
    for step in done:
        xq = step(xq)
    # To the bit by the vectors that are stored, and in float32's precision by those of plain NumPy.
    queries, _ = index.queries(images[120:].reshape(40, -1))
    D, I = neighbors(queries, index.vectors, 5, metric)
    np.testing.assert_array_equal(answer.I, I)
    np.testing.assert_array_equal(answer.D, D)
    np.testing.assert_allclose(D, neighbors(xq, x, 5, metric)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_answers_by_the_steps_and_finds_each_image_itself(kind, tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x.knn", steps=("centred", "unit"), options=options(kind))
    classify = Classifier.open(tmp_path / "x.knn", Rule(k=1))
    for images in (IMAGES, IMAGES.astype(np.float64), IMAGES.reshape(160, 64).astype(np.int32)):
        answer = classify(images)
        assert answer.I[:, 0].tolist() == list(range(160))
        assert answer.D.max() == 0
    assert classify(IMAGES[0]).I.tolist() == [[0]]


@pytest.mark.parametrize("kind", ["exact", "adaptive"])
def test_pictures_stay_bytes_and_are_searched_exactly_after_steps(kind, tmp_path):
    steps = ("centre", "deskew", "blur")
    index_arrays(IMAGES[:120], LABELS[:120], tmp_path / "x.knn", steps=steps, options=options(kind))
    assert verify_folder(tmp_path / "x.knn") == []
    index, (made, _) = open_index(tmp_path / "x.knn"), chain.steps_of(steps)(IMAGES.reshape(160, 64), (8, 8))
    assert (index.vectors.dtype, index.shape) == (np.uint8, (8, 8))
    np.testing.assert_array_equal(index.vectors, made[:120])
    D, I = neighbors(made[120:], made[:120], 5, "l2")
    for images in (IMAGES[120:], IMAGES[120:].astype(np.float64).reshape(40, 64)):
        answer = Classifier(index, Rule(k=5))(images)
        if kind == "exact":
            np.testing.assert_array_equal(answer.I, I)
            np.testing.assert_array_equal(answer.D, D)
        assert np.mean(answer.I[:, 0] == I[:, 0]) > 0.9


def test_embeddings_are_refused_by_steps_on_pictures_and_dark_on_light_by_those_on_a_dark_background(tmp_path, invoke):
    write(tmp_path / "flat.parquet", EMBEDDINGS)
    refused = invoke("index", "flat.parquet", "--out", "x.knn", "--step", "deskew")
    assert refused.code == 2
    assert refused.stderr == (
        "error: --step: deskew needs rows and columns, with up to 4 channels after them, and gets 24 values: put "
        "it before what makes vectors of pictures, say with --shape how flat images are to be read, give arrays (n, "
        "rows, columns), or leave deskew out\n"
    )
    assert invoke("index", "flat.parquet", "--out", "x.knn", "--step", "blur", "--shape", "4x6").code == 0
    given = ("index", "flat.parquet", "--out", "z.knn", "--shape", "4x6", "--step", "centred", "--step", "deskew")
    assert invoke(*given).stderr == (
        "error: --step: deskew takes 0 for the background, and centred before it makes values below 0: put deskew "
        "before centred\n"
    )
    write(tmp_path / "light.parquet", 16 - IMAGES)
    with pytest.raises(
        KnnvoteError, match=r"light.parquet, row 0: its corners are bright and its middle is dark, and c"
    ):
        index_files(tmp_path / "light.parquet", tmp_path / "y.knn", training=TrainingOptions(steps=("centre",)))


def test_cosine_of_unit_vectors_has_the_order_of_cosine(tmp_path):
    for name, steps in (("plain", ()), ("unit", ("unit",))):
        index_arrays(EMBEDDINGS, LABELS, tmp_path / name, steps=steps, options=options(metric="cosine"))
    found = [Classifier.open(tmp_path / name, Rule(k=5))(EMBEDDINGS[:40] * 3) for name in ("plain", "unit")]
    np.testing.assert_array_equal(found[0].I, found[1].I)
    np.testing.assert_allclose(found[0].D, found[1].D, atol=1e-6)


def test_pixels_are_the_default_and_leave_no_trace(tmp_path):
    write(tmp_path / "train.parquet")
    for name, steps in (("none", ()), ("named", ("pixels",))):
        training = TrainingOptions(steps=steps)
        index_files(tmp_path / "train.parquet", tmp_path / name, training=training, options=options())
    assert content(tmp_path / "none") == content(tmp_path / "named")
    manifest = read_manifest(tmp_path / "none").to_json()
    assert manifest["vector"] == {"step": "pixels", "grayscale": None}
    assert not {"images", "steps"} & {*manifest, *manifest["files"]}


def test_a_folder_says_its_steps_and_keeps_the_images(tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x.knn", steps=("centred", "unit"), options=options())
    manifest = read_manifest(tmp_path / "x.knn")
    assert manifest.to_json()["vector"]["step"] == "centred unit"
    assert manifest.images == {"dtype": "uint8", "range": [0, 16]}
    assert (manifest.dtype, manifest.d, manifest.shape) == ("float32", 64, (8, 8))
    assert (tmp_path / "x.knn" / "images-1.raw").read_bytes() == IMAGES.tobytes()
    np.testing.assert_array_equal(np.load(tmp_path / "x.knn" / "steps-1.npy"), IMAGES.reshape(160, 64).mean(axis=0))
    index = open_index(tmp_path / "x.knn")
    np.testing.assert_array_equal(index.picture(3), IMAGES[3])
    assert index.has_pictures


SETS = {
    "bytes": lambda folder: [
        write(folder / "a.parquet", IMAGES[:90], LABELS[:90]),
        write(folder / "b.parquet", IMAGES[90:], LABELS[90:]),
    ],
    "rising types": lambda folder: [
        write(folder / "a.parquet", IMAGES[:90], LABELS[:90]),
        write(folder / "b.parquet", IMAGES[90:] / np.float32(7), LABELS[90:]),
    ],
    "embeddings": lambda folder: [write(folder / "a.parquet", EMBEDDINGS)],
}


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("made", "steps"),
    [("bytes", ("centred", "unit")), ("rising types", ("unit", "centred")), ("embeddings", ("unit",))],
    ids=["bytes", "rising types", "embeddings"],
)
def test_a_build_in_slices_that_is_killed_over_and_over_ends_in_the_bytes_of_one_at_once(
    made, steps, tmp_path, monkeypatch
):
    files = [str(path) for path in SETS[made](tmp_path)]
    build = {"training": TrainingOptions(steps=steps), "options": options("adaptive"), "tell": lambda _note: None}
    index_files(files, tmp_path / "once.knn", **build)
    monkeypatch.setattr(working, "SLICE_ROWS", 40)
    monkeypatch.setattr("knnvote.indexer.building.stepped._BLOCK", 4096)
    keep, ends = Work.keep, 0
    for _ in range(30):
        calls = []

        def keep_or_end(self, calls=calls, **facts):
            if calls:
                raise Killed
            keep(self, **facts)
            calls.append(facts)

        with monkeypatch.context() as patched:
            patched.setattr(Work, "keep", keep_or_end)
            try:
                index_files(files, tmp_path / "x.knn", **build)
                break
            except Killed:
                ends += 1
    assert ends > 3
    assert content(tmp_path / "x.knn") == content(tmp_path / "once.knn")


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_what_is_added_gets_the_steps_as_they_are_and_removed_images_go_with_their_vectors(kind, tmp_path):
    """The mean stays that of the images that the index was built of."""
    old, new = write(tmp_path / "old.parquet", IMAGES[:120], LABELS[:120]), tmp_path / "new.parquet"
    write(new, IMAGES[120:], LABELS[120:])
    training = TrainingOptions(steps=("centred", "unit"))
    index_files(old, tmp_path / "x.knn", training=training, options=options(kind))
    before = open_index(tmp_path / "x.knn")
    assert add_files(tmp_path / "x.knn", new, tuning=Tuning, threads=1) == 40
    assert verify_folder(tmp_path / "x.knn") == []
    grown = open_index(tmp_path / "x.knn")
    assert str(grown.steps) == "centred unit"
    np.testing.assert_array_equal(grown.steps.state, before.steps.state)
    np.testing.assert_array_equal(grown.images, IMAGES.reshape(160, 64))
    np.testing.assert_array_equal(grown.vectors[:120], before.vectors)
    np.testing.assert_array_equal(grown.vectors[120:], before.queries(IMAGES[120:].reshape(40, 64))[0])
    kept = np.setdiff1d(np.arange(160), [0, 130])
    remove_ids(tmp_path / "x.knn", ["old.parquet#0", "new.parquet#10"], tuning=Tuning, threads=1)
    relabel_ids(tmp_path / "x.knn", "old.parquet#1", 9, tuning=Tuning, threads=1)
    compact(tmp_path / "x.knn", tuning=Tuning, threads=1)
    assert verify_folder(tmp_path / "x.knn") == []
    last = open_index(tmp_path / "x.knn")
    np.testing.assert_array_equal(last.vectors, grown.vectors[kept])
    np.testing.assert_array_equal(last.images, grown.images[kept])
    np.testing.assert_array_equal(last.steps.state, before.steps.state)
    assert last.labels[0].as_py() == 9
    assert exact_search(last, last.vectors[:9].astype(np.float64), 1)[1][:, 0].tolist() == list(range(9))


def test_images_of_a_wider_type_are_added_and_those_before_written_anew(tmp_path):
    write(tmp_path / "old.parquet", IMAGES[:120], LABELS[:120])
    write(tmp_path / "new.parquet", IMAGES[120:] / np.float32(3), LABELS[120:])
    training = TrainingOptions(steps=("unit",))
    index_files(tmp_path / "old.parquet", tmp_path / "x.knn", training=training, options=options())
    before = open_index(tmp_path / "x.knn").vectors.tobytes()
    add_files(tmp_path / "x.knn", tmp_path / "new.parquet", threads=1)
    index = open_index(tmp_path / "x.knn")
    assert (index.images.dtype, index.manifest.images["dtype"]) == (np.float32, "float32")
    assert index.vectors[:120].tobytes() == before
    np.testing.assert_array_equal(index.images[:120], IMAGES[:120].reshape(120, 64))
    assert verify_folder(tmp_path / "x.knn") == []


def odd(folder):
    """Nine images, of which the third is blank."""
    images = IMAGES[:9].copy()
    images[2] = 0
    return write(folder / "odd.parquet", images, LABELS[:9])


def test_an_image_without_a_length_is_a_bad_row(tmp_path):
    training = TrainingOptions(steps=("unit",))
    with pytest.raises(KnnvoteError, match=r"odd.parquet, row 2: every value is zero, which has no length; mend it"):
        index_files(odd(tmp_path), tmp_path / "x.knn", training=training)
    index_files(odd(tmp_path), tmp_path / "x.knn", training=replace(training, skip_bad=True), options=options())
    index = open_index(tmp_path / "x.knn")
    assert (index.n, index.manifest.skipped) == (8, 1)
    answer = Classifier(index, Rule(k=1))(np.stack([IMAGES[0], np.zeros((8, 8), np.uint8)]))
    assert answer.status.tolist() == ["ok", "bad_image"]
    assert answer.reason.tolist()[1] == "every value is zero, which has no length"
    with pytest.raises(KnnvoteError, match="image 0 cannot be stored: every value is zero, which has no length"):
        index_arrays(np.zeros((3, 4)), [0, 1, 2], tmp_path / "y.knn", steps=("unit",))


def test_a_value_of_which_no_mean_is_taken_is_a_bad_row(tmp_path):
    images = np.array([[1e308, 0], [1e308, 1], [1, 2]])
    with pytest.raises(
        KnnvoteError, match=r"image 0 cannot be stored: a value beyond 3.40282e\+38, which float32 does"
    ):
        index_arrays(images, [0, 1, 2], tmp_path / "x.knn", steps=("centred",))


def test_an_image_that_is_the_mean_is_refused_by_its_row_and_the_way_out_works(tmp_path, invoke):
    images = np.repeat(IMAGES[:1], 4, axis=0)
    write(tmp_path / "same.parquet", images, [0, 1, 0, 1])
    command = ["index", "same.parquet", "--out", "x.knn", "--step", "centred", "--step", "unit"]
    refused = invoke(*command)
    assert refused.code == 1
    assert (
        "image same.parquet#0 cannot be stored after the steps centred unit: every value is zero, which has no length; "
        "leave it out, or build without these --step"
    ) in refused.stderr
    assert not (tmp_path / "x.knn").exists()
    assert invoke(*command[:4]).code == 0


def test_queries_must_be_such_images_as_are_stored(tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x.knn", steps=("unit",), options=options())
    answer = Classifier.open(tmp_path / "x.knn", Rule(k=1))(IMAGES[:1] / 7)
    assert answer.reason.tolist()[0].endswith(
        "is not a whole number from 0 to 255, as the index stores; knnvote never rescales"
    )


def test_other_steps_than_those_of_the_index_are_refused_when_images_are_added(tmp_path):
    write(tmp_path / "a.parquet", IMAGES[:100], LABELS[:100])
    write(tmp_path / "b.parquet", IMAGES[100:], LABELS[100:])
    training = TrainingOptions(steps=("unit",))
    index_files(tmp_path / "a.parquet", tmp_path / "x.knn", training=training, options=options())
    with pytest.raises(OptionError, match=r"x.knn has the steps unit, for new images too: add them without steps"):
        add_files(tmp_path / "x.knn", tmp_path / "b.parquet", training=TrainingOptions(steps=("centred",)))
    assert add_files(tmp_path / "x.knn", tmp_path / "b.parquet", training=training, threads=1) == 60


@dataclass(frozen=True)
class Blocks(Step):
    """A step that knnvote does not take: means of blocks of so many rows, of bytes rounded down."""

    name = "blocks"
    rows: int

    def __str__(self):
        return f"blocks[{self.rows}]"

    @classmethod
    def read(cls, settings):
        return cls(int(settings))

    def output(self, shape):
        if len(shape) != 2:
            raise OptionError(f"blocks need pictures, and images are {shape}")
        return shape[0] // self.rows, shape[1]

    def __call__(self, images, shape):
        means = images.reshape(len(images), -1, self.rows, shape[1]).mean(axis=2).reshape(len(images), -1)
        return means.astype(np.uint8) if images.dtype == np.uint8 else means.astype(np.float32)


def test_a_further_step_is_a_class_and_a_row_of_a_table(monkeypatch, tmp_path):
    """Its vectors may have other dimensions and types than images have, which pages show all the same."""
    monkeypatch.setitem(chain._STEPS, "blocks", Blocks)
    means = Blocks(2)(IMAGES.reshape(160, 64), (8, 8))
    write(tmp_path / "a.parquet", IMAGES[:100], LABELS[:100])
    write(tmp_path / "b.parquet", IMAGES[100:], LABELS[100:])
    write(tmp_path / "floats.parquet", IMAGES[:1] / np.float32(7), LABELS[:1])
    write(tmp_path / "flat.parquet", EMBEDDINGS, LABELS)
    training, out = TrainingOptions(steps=("blocks[2]",)), tmp_path / "x.knn"
    index_files(tmp_path / "a.parquet", out, training=training, options=options())
    add_files(out, tmp_path / "b.parquet", threads=1)
    index = open_index(out)
    assert (index.manifest.steps, index.shape, index.d, index.vectors.dtype) == ("blocks[2]", (8, 8), 32, np.uint8)
    np.testing.assert_array_equal(index.vectors, means)
    np.testing.assert_array_equal(index.picture(7), IMAGES[7])
    answer = Classifier(index, Rule(k=1))(IMAGES)
    D, I = neighbors(means, means, 1, "l2")
    np.testing.assert_array_equal(answer.I, I)
    np.testing.assert_array_equal(answer.D, D)
    with pytest.raises(KnnvoteError, match=r"make float32 of images of type float32, and uint8 of those that are stor"):
        add_files(out, tmp_path / "floats.parquet", threads=1, tell=lambda _note: None)
    with pytest.raises(OptionError, match="blocks need pictures"):
        index_files(tmp_path / "flat.parquet", tmp_path / "y.knn", training=training)


ABSURD = {
    "vector": [{"step": "sharp", "grayscale": None}, {"step": "pixels", "grayscale": None}, {"step": 3}],
    "images": [{}, {"dtype": "int64", "range": [0, 16]}, {"dtype": "uint8", "range": [16, 0]}, None],
}


@pytest.mark.parametrize("key", ABSURD)
def test_a_sealed_manifest_with_absurd_steps_is_refused(key, tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x.knn", steps=("centred",), options=options())
    manifest = read_manifest(tmp_path / "x.knn").to_json()
    for value in ABSURD[key]:
        (tmp_path / "x.knn" / "manifest.json").write_bytes(seal({**manifest, key: value}))
        with pytest.raises(KnnvoteError, match="is not one that knnvote writes: missing or unusable are"):
            open_index(tmp_path / "x.knn")


@pytest.mark.parametrize("state", [np.zeros(63), np.zeros((64, 1)), np.zeros(64, np.float32), np.full(64, np.inf)])
def test_a_stranger_s_state_that_does_not_fit_is_refused(state, tmp_path):
    index_arrays(IMAGES, LABELS, tmp_path / "x.knn", steps=("centred",), options=options())
    manifest, file = read_manifest(tmp_path / "x.knn"), tmp_path / "x.knn" / "steps-1.npy"
    np.save(file, state)
    files = {**manifest.files, "steps": describe_file(file)}
    (tmp_path / "x.knn" / "manifest.json").write_bytes(seal(replace(manifest, files=files).to_json()))
    with pytest.raises(KnnvoteError, match="have no state of"):
        try_folder(str(tmp_path / "x.knn"))


def test_a_table_of_named_columns_is_known_by_its_names_after_steps(tmp_path):
    table = pa.table({f"feature {i}": EMBEDDINGS[:, i] for i in range(24)})
    index_arrays(table, LABELS, tmp_path / "x.knn", steps=("centred", "unit"), options=options())
    classify = Classifier.open(tmp_path / "x.knn", Rule(k=1))
    shuffled = table.select([f"feature {i}" for i in reversed(range(24))])
    assert classify(shuffled).I[:, 0].tolist() == list(range(160))


def test_part_of_the_files_and_a_dry_run_have_the_steps_too(tmp_path, invoke):
    write(tmp_path / "a.parquet")
    command = ["index", "a.parquet", "--out", "x.knn", "--step", "centred", "--step", "unit", "--sample", "50"]
    assert invoke(*command, "--dry-run").code == 0
    assert invoke(*command).code == 0
    rows = open_index(tmp_path / "x.knn").provenance("row")["row"].to_numpy()
    np.testing.assert_array_equal(open_index(tmp_path / "x.knn").images, IMAGES.reshape(160, 64)[rows])
    state = open_index(tmp_path / "x.knn").steps.state
    np.testing.assert_allclose(state, IMAGES.reshape(160, 64)[rows].mean(axis=0), rtol=1e-12)


def test_a_job_has_the_same_bytes_whatever_its_threads_and_batches(tmp_path):
    index_arrays(IMAGES[:100], LABELS[:100], tmp_path / "x.knn", steps=("centred", "unit"), options=options())
    write(tmp_path / "a.parquet", IMAGES[100:], LABELS[100:])
    asked = JobOptions(output=OutputOptions(neighbors=True))
    classifier, outputs = Classifier.open(tmp_path / "x.knn"), []
    for threads, size in ((1, 2048), (2, 7)):
        out = tmp_path / f"out-{size}"
        run_job(classifier, tmp_path / "a.parquet", out, asked, threads=threads, batch_size=size)
        outputs.append((out / "a.parquet").read_bytes())
    assert outputs[0] == outputs[1]


def test_an_index_keeps_how_it_was_whitened_for_queries_and_for_what_is_added(tmp_path):
    images = np.repeat(IMAGES, 3, axis=0)[:400, ::2, ::2]  # 16 numbers
    labels = np.repeat(LABELS, 3)[:400]
    old, new = write(tmp_path / "old.parquet", images[:360], labels[:360]), tmp_path / "new.parquet"
    write(new, images[360:], labels[360:])
    training = TrainingOptions(steps=("whitened", "unit"))
    index_files(old, tmp_path / "x.knn", training=training, options=options())
    before = open_index(tmp_path / "x.knn")
    assert before.steps.state.size == 2 + 16 * 16 + 2 * 16
    np.testing.assert_array_equal(before.queries(images[:360].reshape(360, 16))[0], before.vectors)
    add_files(tmp_path / "x.knn", new, threads=1)
    grown = open_index(tmp_path / "x.knn")
    np.testing.assert_array_equal(grown.steps.state, before.steps.state)
    np.testing.assert_array_equal(grown.vectors[360:], before.queries(images[360:].reshape(40, 16))[0])
    assert verify_folder(tmp_path / "x.knn") == []
    index_arrays(images[:360], labels[:360], tmp_path / "y.knn", steps=("whitened", "unit"), options=options(threads=2))
    np.testing.assert_array_equal(open_index(tmp_path / "y.knn").steps.state, before.steps.state)


def test_numbers_to_be_averaged_and_too_few_images_are_not_whitened(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.parquet")
    command = ("index", "a.parquet", "--out", "x.knn", "--step", "whitened")
    refused = invoke(*command, "--task", "regression")
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr == "error: --step: whitened needs classes, and these are numbers: leave it out\n"
    refused = invoke(*command)
    assert refused.code == 1
    assert refused.stderr.endswith(
        "error: --step: whitened needs 1,280 images, 20 for each of 64 numbers that it gets, and there are 160: leave "
        "it out, or have more images; of large pictures gradients before it makes fewer numbers\n"
    )
    with pytest.raises(OptionError, match="steps: whitened needs classes, and these are numbers: leave it out"):
        index_arrays(IMAGES, LABELS / 2, tmp_path / "x.knn", steps=("whitened",), is_regression=True)
    assert not (tmp_path / "x.knn").exists()
