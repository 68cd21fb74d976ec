"""``max_distance="auto"`` in a rule: a classifier finds the limit."""

import numpy as np
import pytest
from made_sets import clusters

from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.job.run import run_job
from knnvote.classify.search.distance_limit import distance_limit
from knnvote.classify.search.search import find
from knnvote.classify.vote import Rule
from knnvote.data.errors import Note, OptionError
from knnvote.data.sample import split_digits
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index

AUTO = Rule(max_distance="auto")


@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
def test_a_classifier_has_the_limit_that_distance_limit_finds(tmp_path, kind):
    data = clusters("uint8", n=300, d=12)
    index_arrays(data.x, data.y, tmp_path / "x.knn", options=IndexOptions(kind=kind))
    index = open_index(tmp_path / "x.knn")
    limit = distance_limit(index, Rule(k=3)).limit
    classify = Classifier(index, Rule(k=3, max_distance="auto"))
    assert classify.rule == Rule(k=3, max_distance=limit)
    assert Classifier.open(tmp_path / "x.knn", Rule(k=3, max_distance="auto")).rule == classify.rule
    assert Rule.of(index, max_distance="auto").max_distance == "auto"
    far = classify(np.full((1, 12), 255, np.uint8))
    assert far.reason.tolist() == [f"nearest neighbour farther than {limit:g}"]


def test_a_job_of_it_is_the_job_of_the_number(exact_index, digits_folder, tmp_path):
    index = open_index(exact_index)
    limit = distance_limit(index, Rule()).limit
    for name, value in (("auto", "auto"), ("number", limit)):
        run_job(Classifier(index, Rule(max_distance=value)), digits_folder / "test.parquet", tmp_path / name)
    one, other = ((tmp_path / name / "test.parquet").read_bytes() for name in ("auto", "number"))
    assert one == other
    found = choose_threshold(index, AUTO)
    assert found.images == 1347


def test_too_few_images_for_one_are_refused_and_many_copies_told(tmp_path):
    images = split_digits().train_images[:60]
    index_arrays(images, np.arange(60) % 2, tmp_path / "few.knn")
    with pytest.raises(
        OptionError, match=r"needs 99 stored images, and .*few\.knn holds 60.*give max_distance a number$"
    ):
        Classifier.open(tmp_path / "few.knn", AUTO)
    index_arrays(np.concatenate([images] * 2), np.arange(120) % 2, tmp_path / "twice.knn")
    with pytest.warns(Note, match=r"^max_distance is 0, and 120 of the 120 stored images .* so it is too narrow$"):
        Classifier.open(tmp_path / "twice.knn", AUTO)


@pytest.mark.parametrize("wrong", ["far", "5", -1, np.nan, np.inf, True, [1]])
def test_what_is_no_distance_is_refused(wrong):
    with pytest.raises(
        OptionError, match=r"^max_distance is .*: give a distance of at least 0 or 'auto', or leave it out$"
    ):
        Rule(max_distance=wrong)


def test_a_search_without_a_classifier_has_no_limit_to_find(tmp_path):
    data = clusters("uint8", n=300, d=12)
    index_arrays(data.x, data.y, tmp_path / "x.knn", options=IndexOptions(kind="adaptive"))
    with pytest.raises(TypeError, match="'auto', which no classifier has made a number"):
        find(open_index(tmp_path / "x.knn"), data.xq, AUTO, "label")
    assert "max_distance" not in KNNVoteClassifier().get_params()
