"""The limit of the distance: against plain NumPy, at the rate it states, and on images of another kind."""

import json
import math

import brute_force
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import read_record
from repeats import spread

import knnvote.classify.search.distance_limit
from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.job.receipt import read_receipt
from knnvote.classify.search.distance_limit import conformal_quantile, distance_limit, shown_limit
from knnvote.classify.search.sampling import sample_rows
from knnvote.classify.vote import Rule
from knnvote.data.errors import OptionError
from knnvote.data.locations import locate
from knnvote.data.sample import split_digits
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import KINDS

DIGITS = split_digits()
TRAIN = DIGITS.train_images.reshape(-1, 64)
RNG = np.random.default_rng(5)


def made(folder, images, labels, *, is_regression=False, **options):
    path = folder / "i.knn"
    index_arrays(images, labels, path, is_regression=is_regression, options=IndexOptions(overwrite=True, **options))
    return open_index(path)


def plain_distances(x, metric):
    """Of each row to the nearest other."""
    D = brute_force.distances(x, x, metric)
    np.fill_diagonal(D, np.inf)
    return np.sqrt(D.min(axis=1)) if metric == "l2" else D.min(axis=1)


def abstained(index, limit, images):
    return Classifier(index, Rule(max_distance=limit))(images).status == "abstained"


@spread(("alpha", [0.01, 0.05]), ("metric", METRICS))
def test_the_limit_is_the_quantile_of_plain_leave_one_out_distances(tmp_path, metric, alpha):
    index = made(tmp_path, DIGITS.train_images, DIGITS.train_labels, metric=metric)
    found = distance_limit(index, Rule(), false_alarms=alpha)
    rank = math.ceil(1348 * (1 - alpha))
    assert found.limit == shown_limit(np.sort(plain_distances(TRAIN, metric))[rank - 1])
    assert (found.images, found.false_alarms, found.with_copies) == (1347, alpha, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_limit_for_any_number_of_threads_and_for_regression(tmp_path, kind):
    expected = np.sort(plain_distances(TRAIN, "l2"))[math.ceil(1348 * 0.95) - 1]
    for is_regression in (False, True):
        labels = DIGITS.train_labels.astype(float if is_regression else int)
        factory = "Flat" if kind == "factory" else None
        index = made(tmp_path, DIGITS.train_images, labels, kind=kind, factory=factory, is_regression=is_regression)
        limits = {distance_limit(index, Rule(), false_alarms=0.05, threads=threads).limit for threads in (1, 2)}
        assert limits == {shown_limit(expected)}


@pytest.mark.parametrize("metric", METRICS)
def test_of_floats_the_limit_is_the_same_bits_for_any_number_of_threads(tmp_path, metric):
    x = RNG.normal(size=(300, 9)) / 3
    index = made(tmp_path, x, RNG.integers(0, 3, 300), metric=metric)
    first, *others = (distance_limit(index, Rule(), false_alarms=0.1, threads=threads).limit for threads in (1, 2, 3))
    assert others == [first, first]
    assert first == shown_limit(np.sort(plain_distances(x, metric))[math.ceil(301 * 0.9) - 1])


def test_of_many_images_a_random_sample_is_asked_against_all(exact_index, monkeypatch):
    monkeypatch.setattr(knnvote.classify.search.distance_limit, "MAX_IMAGES", 200)
    monkeypatch.setattr(knnvote.classify.search.distance_limit, "_BLOCK", 7)
    found = distance_limit(open_index(exact_index), Rule(), false_alarms=0.1)
    sample = plain_distances(TRAIN, "l2")[sample_rows(1347, 200)]
    assert (found.limit, found.images) == (shown_limit(np.sort(sample)[math.ceil(201 * 0.9) - 1]), 200)


def test_classes_that_are_stored_in_turn_do_not_shape_the_limit(tmp_path, monkeypatch):
    """Every tenth image is of one class, and one image of ten is asked: the closest class would give the limit."""
    monkeypatch.setattr(knnvote.classify.search.distance_limit, "MAX_IMAGES", 400)
    rng = np.random.default_rng(0)
    y = np.arange(6000) % 10
    x = (rng.normal(size=(10, 20)) * 100)[y] + rng.normal(size=(6000, 20)) * (1 + y[:, None])
    index = made(tmp_path, x[:4000].astype(np.float32), y[:4000])
    limit = distance_limit(index, Rule(), false_alarms=0.05).limit
    alarms = share_interval(int(abstained(index, limit, x[4000:].astype(np.float32)).sum()), 2000)
    assert alarms.low <= 0.05 <= alarms.high


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.integers(1, 99))
def test_the_stated_share_of_scores_lies_above_the_quantile_up_to_one(scores, percent):
    scores, alpha = np.unique(scores), percent / 100
    if (len(scores) + 1) * percent < 100:
        with pytest.raises(ValueError, match="too few"):
            conformal_quantile(scores, alpha)
        return
    above = int((scores > conformal_quantile(scores, alpha)).sum())
    assert above == (len(scores) + 1) * percent // 100 - 1  # with a new one, alpha of all at most


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_new_digits_abstain_at_the_stated_rate(exact_index, adaptive_index, tmp_path, alpha):
    rough = made(tmp_path, DIGITS.train_images, DIGITS.train_labels, kind="factory", factory="IVF12,Flat")
    for index in (open_index(exact_index), open_index(adaptive_index), rough):
        limit = distance_limit(index, Rule(), false_alarms=alpha).limit
        alarms = share_interval(int(abstained(index, limit, DIGITS.test_images).sum()), 450)
        assert alarms.low <= alpha <= alarms.high


def test_textures_and_upside_down_digits_abstain(exact_index):
    index = open_index(exact_index)
    limit = distance_limit(index, Rule()).limit
    y, x = np.mgrid[:8, :8]
    patterns = [(y // s + x // s) % 2 for s in (1, 2, 4)] + [(axis // s) % 2 for axis in (y, x, x + y) for s in (1, 2)]
    mean_ink = DIGITS.train_images.mean()  # textures have about the ink of digits
    textures = np.array([*(pattern * 2 * mean_ink for pattern in patterns), *RNG.integers(0, 17, (100, 8, 8))])
    shuffled = RNG.permuted(DIGITS.test_images.reshape(450, 64), axis=1).reshape(450, 8, 8)
    assert abstained(index, limit, np.rint(textures).astype(np.uint8)).mean() >= 0.98
    assert abstained(index, limit, shuffled).mean() >= 0.98
    # Of the others, 0, 1 and 8 look like themselves and 6 and 9 like each other.
    turned = DIGITS.test_images[np.isin(DIGITS.test_labels, (2, 3, 4, 5, 7))][:, ::-1, ::-1]
    assert abstained(index, limit, turned).mean() >= 0.8


def test_too_few_images_for_the_rate_say_how_many_are_needed(tmp_path):
    x = RNG.integers(0, 99, (99, 4)).astype(np.uint8)
    assert distance_limit(made(tmp_path, x, range(99)), Rule()).limit == shown_limit(plain_distances(x, "l2").max())
    with pytest.raises(OptionError, match=r"at false_alarms 0\.01 needs 99 stored images, and .* holds 98"):
        distance_limit(made(tmp_path, x[:98], range(98)), Rule())
    with pytest.raises(OptionError, match=r"needs 2 stored images, and .* holds 1:"):
        distance_limit(made(tmp_path, x[:1], [0]), Rule(), false_alarms=0.9)


@pytest.mark.parametrize("share", [0, -0.1, 1, 0.00001, float("nan")])
def test_a_rate_without_a_meaning_is_refused(exact_index, share):
    with pytest.raises(OptionError, match=r"give a share of images from 0\.0001, below 1"):
        distance_limit(open_index(exact_index), Rule(), false_alarms=share)


def test_the_command_writes_the_number_and_a_rerun_skips_all(exact_index, digits_folder, invoke, tmp_path):
    job = ("classify", exact_index, digits_folder / "test.parquet", "--out", "out", "--max-distance", "auto")
    done = invoke(*job, "--threads", "1")
    limit = distance_limit(open_index(exact_index), Rule()).limit
    assert done.code == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        f"--max-distance is {limit:.6g}, which about 0.01 of images of the stored kind exceed: "
        "from 1,347 stored images, each left out"
    )
    record = json.loads(read_record(tmp_path / "out"))
    assert f'"max_distance": {limit}' in json.dumps(record)
    receipt = read_receipt(locate(str(tmp_path / "out" / "test.parquet")))
    assert f'"max_distance": {limit}' in json.dumps(receipt.options)
    table = pq.read_table(tmp_path / "out" / "test.parquet")
    status, distance = table["status"].to_pylist(), table["distance"].to_numpy()
    assert [s == "abstained" for s in status] == (distance > limit).tolist()
    again = invoke(*job, "--threads", "2")
    assert "0 written, 1 skipped as done" in again.stderr
    other = invoke(*job, "--false-alarms", "0.05")
    assert "1 written (1 without a search), 0 skipped" in other.stderr
    assert pq.read_table(tmp_path / "out" / "test.parquet")["status"].to_pylist().count("ok") < status.count("ok")


def test_many_copies_are_told(tmp_path, invoke, digits_folder):
    index = made(tmp_path, np.concatenate([DIGITS.train_images] * 2), [*DIGITS.train_labels] * 2)
    done = invoke("classify", index.path, digits_folder / "test.parquet", "--out", "out", "--max-distance", "auto")
    assert "--max-distance is 0, " in done.stderr
    assert "; 2,694 have an exact copy stored, so it is too narrow" in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--max-distance", "far"), "'far' is no distance: give a number, auto, or none"),
        (("--false-alarms", "0.05"), "--false-alarms is of --max-distance auto"),
        (("--max-distance", "3", "--false-alarms", "0.01"), "--false-alarms is of --max-distance auto"),
        (("--max-distance", "auto", "--false-alarms", "2"), "--false-alarms is 2.0: give a share"),
    ],
)
def test_wrong_usage_is_told(exact_index, digits_folder, invoke, options, told):
    done = invoke("classify", exact_index, digits_folder / "test.parquet", "--out", "out", *options)
    assert (done.code, told in done.stderr) == (2, True), done.stderr
