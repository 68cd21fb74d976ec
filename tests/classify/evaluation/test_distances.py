"""How far is too far: what limits refuse of known and unknown images, and the limit that an index keeps."""

import json
import re

import brute_force
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_sets import clusters

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.distances import choose_distance
from knnvote.classify.search.distance_limit import distance_limit, shown_limit
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, Note, OptionError
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import add_files, remove_ids

N = 300
DATA = clusters("float32", n=N + 60, d=8)
X, Y, XQ = DATA.x[:N], DATA.y[:N], DATA.x[N:]
FAR = np.random.default_rng(0).normal(0, 1, (40, 8)).astype(np.float32) * np.abs(X).max()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("distances")
    index_arrays(X, Y, path / "x.knn")
    index_arrays(X, Y, path / "kept.knn", tune=Tuning(k=3, max_distance="auto", false_alarms=0.1))
    write_table(image_table(FAR, np.full(40, "none")), path / "far.parquet")
    labels = np.append(DATA.y[N : N + 60], np.full(40, 999))
    write_table(image_table(np.concatenate([XQ, FAR]), labels), path / "mixed.parquet")
    return path


def nearest(xq, *, left_out=False):
    D, _ = brute_force.neighbors(xq, X, 2, "l2")
    return D[:, 1 if left_out else 0]


def test_known_and_unknown_images_are_refused_as_brute_force_says(folder):
    index = open_index(folder / "x.knn")
    found = choose_distance(index, false_alarms=0.05, unknown=folder / "far.parquet")
    assert (found.known, found.unknown, found.left_out, found.unlabelled) == (N, 40, True, 0)
    assert found.chosen.limit == distance_limit(index, Rule(), false_alarms=0.05).limit
    assert found.chosen in found.limits
    assert len(found.limits) > 4
    for step in found.limits:
        assert step.known.value == (nearest(X, left_out=True) > step.limit).mean()
        assert step.unknown.value == (nearest(FAR) > step.limit).mean()
    assert [step.limit for step in found.limits] == sorted({step.limit for step in found.limits})
    of_tests = choose_distance(index, false_alarms=0.05, tests=folder / "mixed.parquet")
    assert (of_tests.known, of_tests.unknown, of_tests.left_out) == (60, 40, False)
    assert of_tests.chosen.known.value == (nearest(XQ) > of_tests.chosen.limit).mean() <= 0.05
    assert of_tests.chosen.unknown.value == (nearest(FAR) > of_tests.chosen.limit).mean()
    with pytest.raises(OptionError, match=r"false_alarms 0.01 needs 99 known images, and these are 60"):
        choose_distance(index, tests=folder / "mixed.parquet")


def test_the_command_tells_the_limit_that_classify_finds(folder, invoke):
    told = invoke("choose-threshold", folder / "x.knn", "--false-alarms", 0.05, "--unknown", folder / "far.parquet")
    (limit,) = re.findall(r"^\* --max-distance (\S+) lets about 0.05 of known images abstain$", told.stdout, re.M)
    assert told.stdout.startswith(f"{N} stored images, each left out, and 40 of none\n")
    given = ("classify", folder / "x.knn", folder / "far.parquet", "--out", "out")
    auto = invoke(*given, "--max-distance", "auto", "--false-alarms", 0.05)
    assert auto.stderr.startswith(f"--max-distance is {limit}, which about 0.05")
    assert "1 skipped as done" in invoke(*given, "--max-distance", limit).stderr
    in_json = json.loads(invoke("choose-threshold", folder / "x.knn", "--false-alarms", 0.05, "--json").stdout)
    assert in_json["chosen"]["limit"] == float(limit)
    both = invoke("choose-threshold", folder / "x.knn", "--false-alarms", 0.05, "--target-accuracy", 0.9)
    assert (both.code, "give it without --false-alarms" in both.stderr) == (2, True)


# What an index keeps


def test_an_index_keeps_its_limit_and_what_answers_takes_it_unless_told(folder, invoke, tmp_path):
    index = open_index(folder / "kept.knn")
    limit = distance_limit(index, Rule(), false_alarms=0.1).limit
    assert (index.vote.max_distance.limit, index.vote.max_distance.images) == (limit, N)
    assert Rule.of(index) == Classifier(index).rule == Rule(k=3, max_distance=limit)
    assert Rule.of(index, max_distance="none").max_distance is None
    assert Rule.of(index, k=7, max_distance=9).max_distance == 9
    given = ("classify", folder / "kept.knn", folder / "far.parquet")
    kept = invoke(*given, "--out", "kept")
    assert kept.stderr.startswith(f"abstains where the nearest neighbour is farther than {limit:g}, as about 0.1 of ")
    assert ", as the index was made; --max-distance none accepts any\n" in kept.stderr
    abstained = pq.read_table(tmp_path / "kept/far.parquet")["prediction"].null_count
    assert abstained == (nearest(FAR) > limit).sum() > 0
    assert "40 ok" in invoke(*given, "--out", "any", "--max-distance", "none").stderr
    assert f"abstains where the nearest neighbour is farther than {limit:g}" in " ".join(
        invoke("inspect", folder / "kept.knn").stdout.split()
    )
    assert invoke("compare", folder / "mixed.parquet", "--index", folder / "kept.knn").code == 0


def test_a_limit_that_was_found_is_found_anew_and_one_that_was_given_stays(folder, invoke, tmp_path):
    for name, asked in (("auto", ("auto", "--false-alarms", 0.05)), ("given", (7.5,))):
        assert invoke("index", folder / "mixed.parquet", "--out", f"{name}.knn", "--max-distance", *asked).code == 0
    with pytest.raises(KnnvoteError, match=r"pass tuning=knnvote\.Tuning"):
        remove_ids(tmp_path / "auto.knn", [f"mixed.parquet#{row}" for row in range(60, 100)])
    remove_ids(tmp_path / "auto.knn", [f"mixed.parquet#{row}" for row in range(60, 100)], tuning=Tuning)
    found = open_index(tmp_path / "auto.knn")
    assert found.vote.max_distance.images == 60
    assert found.vote.max_distance.limit == distance_limit(found, Rule(), false_alarms=0.05).limit
    with pytest.warns(Note, match=r"has 18 images now, too few to find max_distance anew: it stays \d"):
        remove_ids(tmp_path / "auto.knn", [f"mixed.parquet#{row}" for row in range(18, 60)], tuning=Tuning)
    few = open_index(tmp_path / "auto.knn").vote.max_distance
    assert (few.limit, few.is_found) == (found.vote.max_distance.limit, False)
    write_table(image_table(X, Y), tmp_path / "more.parquet")
    add_files(tmp_path / "given.knn", tmp_path / "more.parquet", tell=lambda _note: None)
    assert open_index(tmp_path / "given.knn").vote.max_distance.limit == 7.5


def test_distances_without_a_meaning_are_refused(folder, invoke, tmp_path):
    for wrong, told in (
        ({"max_distance": "far"}, "give a distance"),
        ({"max_distance": "auto", "false_alarms": 0}, "give a share of images"),
        ({"false_alarms": 0.1}, "is of max_distance 'auto': give that too"),
    ):
        with pytest.raises(OptionError, match=told):
            Tuning(**wrong)
    index_arrays(X, Y, tmp_path / "cosine.knn", options=IndexOptions(metric="cosine"))
    words = r"max_distance is 3.*: no cosine distance is greater than 2: give less, or leave it out"
    with pytest.raises(OptionError, match=words):
        Classifier.open(tmp_path / "cosine.knn", Rule(max_distance=3))
    done = invoke("index", folder / "mixed.parquet", "--out", "no.knn", "--metric", "cosine", "--max-distance", 3)
    assert (done.code, "no cosine distance is greater than 2" in done.stderr) == (2, True)
    assert Classifier.open(tmp_path / "cosine.knn", Rule(max_distance=2)).rule.limit == 2


@pytest.mark.parametrize("distance", [0.0, 1e-9, 0.48612345678, 27.294688127912362, 123456.5, 9999995.0, 5.0])
def test_a_limit_is_shown_whole_and_never_below_the_distance(distance):
    shown = shown_limit(distance)
    assert distance <= shown <= distance * 1.00001
    assert float(f"{shown:g}") == shown


def test_rows_that_are_no_images_are_told(folder, tmp_path, invoke):
    broken = FAR.astype(np.float64)
    broken[:3, 0] = np.nan
    write_table(image_table(broken, None), tmp_path / "broken.parquet")
    given = ("choose-threshold", folder / "x.knn", "--false-alarms", 0.05, "--unknown", tmp_path / "broken.parquet")
    (line,) = [line for line in invoke(*given).stdout.splitlines() if line.startswith("left out")]
    found = choose_distance(open_index(folder / "x.knn"), false_alarms=0.05, unknown=tmp_path / "broken.parquet")
    assert (found.unknown, found.bad_images) == (37, {"value 0 is NaN": 3})
    assert line == "left out: 3 rows (value 0 is NaN)"
