"""Near copies: found where they were made, counted with the answers that they decide; none where there are none."""

from dataclasses import replace

import numpy as np
import pytest
from repeats import spread
from sklearn import datasets

from knnvote import Rule, compare, index_arrays, open_index
from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.evaluation.near_copies import near_copies_of_tests, near_copies_stored
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions

IMAGES, LABELS = digits()
RNG = np.random.default_rng(7)


def stored(folder, x, y, rule=None, **options):
    """What is found of an index of some vectors."""
    groups, is_regression = options.pop("groups", None), options.pop("is_regression", False)
    options = IndexOptions(overwrite=True, **options)
    index_arrays(x, y, folder / "i.knn", groups=groups, is_regression=is_regression, options=options)
    return near_copies_stored(open_index(folder / "i.knn"), rule or Rule())


def clusters_of(d, n=500):
    y = RNG.integers(0, 10, n)
    return (RNG.normal(size=(10, d))[y] * 2 + RNG.normal(size=(n, d)) * RNG.uniform(0.3, 1, 10)[y, None]).astype(
        "f4"
    ), y


SETS = {
    "digits": (IMAGES, LABELS),
    "iris": datasets.load_iris(return_X_y=True),
    "wine": datasets.load_wine(return_X_y=True),
    "breast cancer": datasets.load_breast_cancer(return_X_y=True),
    **{
        f"normal, {d} dimensions": (RNG.normal(size=(500, d)).astype("f4"), RNG.integers(0, 2, 500))
        for d in (2, 8, 384)
    },
    **{f"uniform, {d} dimensions": (RNG.random((500, d)), RNG.integers(0, 2, 500)) for d in (3, 64)},
    **{f"clusters, {d} dimensions": clusters_of(d) for d in (2, 16, 128)},
    "few": (RNG.normal(size=(16, 4)), RNG.integers(0, 2, 16)),
}


@spread(("metric", ["l2", "cosine"]), ("name", SETS))
def test_nothing_is_told_where_there_are_none(tmp_path, name, metric):
    found = stored(tmp_path, *SETS[name], metric=metric)
    assert found is None or not found.are_told
    # Iris has one flower twice, and some of as good as one direction.
    assert found is None or found.images == 0 or name == "iris"


FILM = np.repeat(np.arange(120), 4)
CLASS_OF_FILM = RNG.integers(0, 4, 120)[FILM]


def frames(d=32, dtype="f4"):
    """Four of each of 120 films, nearly the same."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(120, d))[FILM] + rng.normal(size=(480, d)) * 0.02
    return (x * 40 + 128).clip(0, 255).astype(dtype) if dtype == "u1" else x.astype(dtype)


@spread(("metric", ["l2", "cosine", "l1"]), ("dtype", ["f4", "u1"]))
def test_frames_of_films_are_found_with_the_answers_that_they_decide(tmp_path, metric, dtype):
    x = frames(dtype=dtype)
    y = CLASS_OF_FILM
    found = stored(tmp_path, x, y, Rule(k=3), metric=metric)
    index = open_index(tmp_path / "i.knn")
    assert (found.asked, found.of, found.images) == (480, 480, 480)
    assert 300 < found.labels < 420  # of four classes at random three in four are others
    assert found.are_told
    by_film = stored(tmp_path, x, y, Rule(k=3), metric=metric, groups=FILM)
    assert by_film.images == 0
    words = found.told_of_stored(index)
    assert words.startswith(
        f"480 of 480 stored vectors have a near copy among the others, and without such {found.labels}"
    )
    drawn = replace(found, of=5000).told_of_stored(index)
    assert drawn.startswith("480 of 480 stored vectors, drawn of 5,000, have a near copy")
    # Groups that split the films do not hold them together.
    split = stored(tmp_path, x, y, Rule(k=3), metric=metric, groups=np.arange(480) // 2)
    assert split.images == 480
    assert "in another group" in split.told_of_stored(open_index(tmp_path / "i.knn"))


@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
def test_a_few_near_copies_among_digits_are_counted_one_by_one(tmp_path, kind):
    rng = np.random.default_rng(9)
    rows = rng.permutation(len(IMAGES))[:60]
    copies = IMAGES[rows].reshape(60, -1).astype(int) + (rng.random((60, 64)) < 0.02)
    x = np.vstack([IMAGES.reshape(-1, 64), copies.clip(0, 16)]).astype(np.uint8)
    found = stored(tmp_path, x, np.append(LABELS, (LABELS[rows] + 1) % 10), kind=kind)
    assert (found.asked, found.images) == (1857, 120)
    assert found.are_told


def test_means_that_near_copies_decide_are_those_beyond_the_tolerance(tmp_path):
    x = frames()
    found = stored(tmp_path, x, np.random.default_rng(9).normal(size=120)[FILM], Rule(k=3), is_regression=True)
    assert found.images == 480
    assert found.labels > 400


def test_test_images_with_a_near_copy_in_store_are_told_and_so_are_choose_k_s(tmp_path):
    x = frames(d=36, dtype="u1")
    y = CLASS_OF_FILM
    is_test = np.arange(480) % 4 == 0
    index_arrays(x[~is_test].reshape(-1, 6, 6), y[~is_test], tmp_path / "i.knn")
    index = open_index(tmp_path / "i.knn")
    found = near_copies_of_tests(index, x[is_test], Rule(k=3))
    assert (found.asked, found.images) == (120, 120)
    write_table(image_table(x[is_test].reshape(-1, 6, 6), y[is_test]), tmp_path / "t.parquet")
    compared = compare(tmp_path / "t.parquet", index, Rule(k=3))
    assert compared.indexes[0].near_copies == found
    words = f"120 of 120 test images have a near copy in store, and without such {found.labels} of their answers"
    assert any(words in note for note in compared.notes)
    choice = choose_k(index)
    assert choice.near_copies.images == 360
    assert choice.to_json()["near_copies"] == vars(choice.near_copies)
    (note,) = choice.notes
    assert note.startswith("360 of 360 stored images have a near copy among the others")


def test_the_command_that_is_named_leaves_them_out(tmp_path, invoke, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = frames(d=36, dtype="u1")
    table = image_table(x.reshape(-1, 6, 6), CLASS_OF_FILM)
    write_table(table.append_column("film", [FILM]), tmp_path / "a.parquet")
    done = invoke("index", "a.parquet", "--out", "x.knn", "--label-column", "label")
    assert "note: 480 of 480 stored images have a near copy among the others" in done.stderr
    assert "--group-column of knnvote index" in done.stderr
    assert "have a near copy among the others" in invoke("choose-k", "x.knn").stdout
    done = invoke("index", "a.parquet", "--out", "y.knn", "--label-column", "label", "--group-column", "film")
    assert "near copy" not in done.stderr
    chosen = invoke("choose-k", "y.knn").stdout
    assert chosen.startswith("480 images, each left out in turn with its group, of 120, exact search\n")
    assert "near copy" not in chosen


@pytest.mark.parametrize(("times", "unknown"), [(12, 0), (30, 0), (60, 2000)])
def test_exact_copies_are_found_however_many_there_are_of_each(tmp_path, times, unknown):
    things = np.random.default_rng(9).normal(size=(100, 16)).astype("f4")
    found = stored(tmp_path, np.repeat(things, times, axis=0), np.repeat(np.arange(100) % 3, times))
    assert found.images == found.asked == min(100 * times, 2000)
    assert found.are_told
    assert found.unknown == unknown
