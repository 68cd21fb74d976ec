"""The choice of steps: what is told of each chain is what choose-k tells of an index that is built with it."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

from knnvote.classify.choosing import choose_steps as module
from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.choosing.choose_steps import choose_steps
from knnvote.classify.choosing.every_k import votes
from knnvote.classify.evaluation.mcnemar import mcnemar
from knnvote.classify.interval import share_interval
from knnvote.classify.search.left_out import neighbors_left_out
from knnvote.classify.search.sampling import sample_rows
from knnvote.cli.tables.steps import print_steps
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

IMAGES, LABELS = (array[:250] for array in digits())
RNG = np.random.default_rng(5)
VECTORS = RNG.normal(3, 1, (90, 6)) + np.arange(90)[:, None] % 3
OF_VECTORS = {"groups": np.arange(90) // 2, "sample_weight": RNG.uniform(1, 2, 90)}


def made(folder, images, labels, metric="l2", **given):
    """An index of images, as it is opened."""
    out = folder / f"{len([*folder.iterdir()])}.knn"
    index_arrays(images, labels, out, options=IndexOptions(metric=metric, threads=1), **given)
    return open_index(out)


def right(index, score):
    """Which images get their label from the others by a k and weights."""
    D, I = neighbors_left_out(index, np.arange(index.n), score.k)
    factors = index.vote_factors(None, I)
    return votes(index.class_codes[I], D, score.weights, factors)[:, -1] == index.class_codes


@pytest.mark.parametrize(
    ("images", "labels", "metric", "given", "chains"),
    [
        (IMAGES, LABELS, "l2", {}, ("pixels", "deskew gradients", "centred unit")),
        (VECTORS, np.arange(90) % 3, "cosine", OF_VECTORS, ("pixels", "centred")),
        (RNG.integers(1, 4, (60, 3)), RNG.integers(0, 3, 60), "l1", {}, ("unit", "pixels")),  # copies, and many ties
        (VECTORS, VECTORS[:, 0] * 2 + 0.5, "l2", {"is_regression": True}, ("pixels", "centred unit")),
    ],
    ids=["digits", "vectors in groups", "ties", "regression"],
)
def test_each_chain_is_told_as_choose_k_tells_an_index_that_is_built_with_it(
    tmp_path, images, labels, metric, given, chains
):
    index = made(tmp_path, images, labels, metric, steps=("centred",), **given)  # whose own steps count for nothing
    found = choose_steps(index, chains, max_k=7, threads=2)
    assert {" ".join(result.steps) for result in found.results} == {*chains}
    built = {text: made(tmp_path, images, labels, metric, steps=text.split(), **given) for text in chains}
    for result in found.results:
        other = built[" ".join(result.steps)]
        expected = choose_k(other, max_k=7, threads=1)
        assert {name: getattr(result, name) for name in vars(expected.best)} == vars(expected.best)
        assert (found.images, found.groups, found.measure) == (expected.images, expected.groups, expected.measure)
        assert (result.d, result.with_copies) == (other.d, expected.with_copies)
        if index.is_regression:
            assert (result.accuracy_interval, result.difference) == (None, None)
            continue
        of_best, own = right(built[" ".join(found.best.steps)], found.best), right(other, result)
        assert result.accuracy_interval == share_interval(int(own.sum()), len(own))
        if result is not found.best:
            assert result.difference == mcnemar(" ".join(result.steps), " ".join(found.best.steps), own, of_best)
    losses = [result.value if index.is_regression else -result.value for result in found.results]
    assert losses == sorted(losses)
    assert found == choose_steps(index, chains, max_k=7, threads=1)


def test_of_many_images_some_stand_for_all_and_some_of_these_are_left_out(tmp_path, monkeypatch):
    groups = np.arange(250) // 5
    index, rows = made(tmp_path, IMAGES, LABELS, groups=groups), sample_rows(250, 90)
    part = made(tmp_path, IMAGES[rows], LABELS[rows], groups=groups[rows])
    chains = ("blur", "unit")
    found, expected = choose_steps(index, chains, max_k=3, sample=90), choose_steps(part, chains, max_k=3)
    assert found.results == expected.results
    assert (found.images, found.among, found.stored) == (90, 90, 250)
    monkeypatch.setattr(module, "_ASKED", 40)
    found = choose_steps(index, ["unit"], max_k=3, sample=90)
    assert (found.images, found.among) == (40, 90)
    assert found.best.accuracy_interval.value == found.best.value
    asked = sample_rows(90, 40)
    stepped = made(tmp_path, IMAGES[rows], LABELS[rows], groups=groups[rows], steps=("unit",))
    assert found.best.value == right(stepped, found.best)[asked].mean()


def test_what_is_tried_is_the_own_steps_and_what_takes_the_images_and_changes_neighbours(tmp_path):
    by_l2, by_cosine = (made(tmp_path, VECTORS, np.arange(90) % 3, metric) for metric in ("l2", "cosine"))
    tried = [{" ".join(result.steps) for result in choose_steps(one, max_k=1).results} for one in (by_l2, by_cosine)]
    assert tried == [{"pixels", "unit", "centred unit"}, {"pixels", "centred"}]
    own = made(tmp_path, VECTORS, np.arange(90) % 3, steps=("unit", "centred"))
    found = choose_steps(own, max_k=1)
    assert {" ".join(result.steps) for result in found.results} == {*tried[0], "unit centred"}
    assert found.left_out == {
        "whitened": "whitened needs 120 images, 20 for each of 6 numbers that it gets, and there are 90"
    }
    numbers = made(tmp_path, VECTORS, VECTORS[:, 0], is_regression=True)
    assert not choose_steps(numbers, max_k=1).left_out


def test_chains_that_make_no_vector_of_an_image_are_left_out_by_its_name(tmp_path):
    blank = IMAGES[:60].copy()
    blank[41] = 0
    index = made(tmp_path, blank, LABELS[:60], "cosine", steps=("centred",))
    found = choose_steps(index, max_k=3)
    told = "image array#41: every value is zero, and cosine distance needs a direction"
    assert [result.steps for result in found.results] == [("centred",)]
    assert found.left_out["pixels"] == found.left_out["deskew blur"] == told
    with pytest.raises(KnnvoteError, match=r"image array#41 cannot be stored after the steps pixels: every value is "):
        choose_steps(index, ["pixels"])
    with pytest.raises(
        KnnvoteError, match=r"image array#41 cannot be stored after the steps unit: every value is zero"
    ):
        choose_steps(index, ["pixels", "unit"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"chains": ["sharp"]}, "chains 'sharp': 'sharp' is no step between image and vector: give some of pixels, "),
        ({"chains": ["unit deskew"]}, "chains 'unit deskew' cannot be done to the images of "),
        ({"chains": ["centred deskew"]}, "chains 'centred deskew' cannot be done to the images of "),
        ({"chains": ["pixels unit"]}, "chains 'pixels unit' has pixels, which is no step: leave it out beside"),
        ({"chains": [("unit",)]}, "chains is [('unit',)]: give texts of one step or more, such as 'pixels', 'unit'"),
        ({"chains": []}, "chains is []: give texts of one step or more"),
        ({"chains": [" "]}, "chains is [' ']: give texts of one step or more"),
        ({"sample": 1}, "sample is 1: give a whole number of at least 2"),
        ({"sample": 20, "max_k": 20}, "max_k is 20, and with one of the 20 images of "),
        ({"max_k": 90}, "max_k is 90, and with one of the 90 images of "),
        ({"class_weight": {7: 2.0}}, "class_weight names the class 7, which no image of "),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_can(tmp_path, given, told):
    index = made(tmp_path, VECTORS, np.arange(90) % 3)
    with pytest.raises(OptionError) as refused:
        choose_steps(index, **given)
    assert str(refused.value).startswith(told)
    if "deskew" in told:
        assert "; knnvote index stores flat images as pictures with shape" in str(refused.value)
        assert "say with shape" not in str(refused.value)


def test_a_shorter_chain_that_chance_may_part_from_the_best_is_told(tmp_path, capsys):
    index = made(tmp_path, IMAGES, LABELS)
    found = choose_steps(index, ["deskew", "pixels"], max_k=4)
    pixels, deskew = found.results
    assert found.cheaper is None
    told = replace(pixels, difference=replace(deskew.difference, p=0.05))
    best = replace(deskew, difference=None, microseconds=2)
    found = replace(found, results=[best, told])
    assert found.cheaper is told
    print_steps(found, "x.knn", index.manifest)
    assert (
        "pixels may do as well as deskew: chance may be all that parts them (p = 0.05), and it takes 0.0 us an image "
        "in place of 2.0\n"
    ) in capsys.readouterr().out
    sure = replace(told, difference=replace(told.difference, p=0.04))
    assert replace(found, results=[best, sure]).cheaper is None
    assert replace(found, results=[replace(best, microseconds=0), told]).cheaper is None


def test_the_command_tells_a_table_and_what_builds_the_best(tmp_path, invoke):
    write_table(image_table(IMAGES, LABELS), tmp_path / "in.parquet")
    assert invoke("index", "in.parquet", "--out", "x.knn", "--kind", "adaptive").code == 0
    few = ("choose-step", "x.knn", "--max-k", "5", "--steps", "unit")
    done = invoke(*few, "--steps", "centred  unit", "--steps", "unit")
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "250 images, each left out in turn, exact search by l2"
    assert lines[1].split() == [
        *("steps", "best", "k", "weights", "accuracy", "95%", "interval", "balanced", "p", "numbers", "us", "an"),
        "image",
    ]
    found = choose_steps(open_index(tmp_path / "x.knn"), ["unit", "centred unit"], max_k=5)
    assert {line.split("  ")[0] for line in lines[2:4]} == {"unit", "centred unit"}
    command = shlex.split(lines[-1].replace("IMAGES...", "in.parquet"))
    assert command[:6] == ["knnvote", "index", "in.parquet", "--out", "x-best.knn", "--step"]
    assert invoke(*command[1:]).code == 0
    built = open_index(tmp_path / "x-best.knn")
    assert (str(built.steps).split(), built.kind) == ([*found.best.steps], "adaptive")
    assert (built.vote.k, built.vote.weights) == (found.best.k, found.best.weights)
    record = json.loads(invoke(*few, "--json").stdout)
    (unit,) = (result for result in found.results if result.steps == ("unit",))
    assert record["results"][0]["accuracy"] == unit.value
    refused = invoke("choose-step", "x.knn", "--steps", "deskwe")
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: --steps 'deskwe': 'deskwe' is no step between image and vector: give some")
