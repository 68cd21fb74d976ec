"""What is asked for decides how well an adaptive index searches: labels, or their confidences too."""

import pickle
from dataclasses import replace

import brute_force
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_sets import CHEAP, EXACT, measured, with_rungs

from knnvote import Classifier, JobOptions, KNNVoteClassifier, OutputOptions, Rule, open_index, run_job
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.look.seen import explain_rows
from knnvote.classify.search.ladder import PROMISES
from knnvote.classify.search.search import find
from knnvote.data.errors import OptionError
from knnvote.data.locations import locate
from knnvote.data.sample import split_digits
from knnvote.indexer.build import IndexOptions, index_files
from knnvote.indexer.rungs import Tuned

DIGITS = split_digits()
TEST = DIGITS.test_images.reshape(-1, 64)
LABELS = (CHEAP, EXACT)  # for labels a cheap rung, for confidences exact search


@pytest.fixture(scope="module")
def cheap(tmp_path_factory, digits_folder):
    """An adaptive index folder of the digits, as if tuning had found a cheap rung to be good enough for labels."""

    def tune(index):
        ladders = {"label": measured(LABELS), "confidence": measured((EXACT,))}
        tuned = Tuned(k=5, weights="uniform", target_agreement=0.9, tolerance=None, queries=1, **ladders)
        return replace(index, manifest=replace(index.manifest, search=replace(index.manifest.search, tuned=tuned)))

    out = tmp_path_factory.mktemp("promise") / "digits.knn"
    index_files(str(digits_folder / "train.parquet"), out, options=IndexOptions(kind="adaptive"), tune=tune)
    return out


def shares(table):
    return np.array([list(row.values()) for row in table["probabilities"].to_pylist()])


def test_the_cheap_rung_would_give_other_shares_to_some_digits(cheap):
    answer = Classifier.open(cheap)(TEST)
    sure = answer.rung == 1
    assert 0 < sure.sum() < 450
    assert (answer.confidence[sure] == 1).all()
    assert ((answer.confidence != answer.of_confidences.confidence) & sure).any()


def test_classify_probabilities_are_those_of_predict_proba(cheap, digits_folder, invoke, tmp_path):
    expected = KNNVoteClassifier.open(cheap, n_neighbors=5).predict_proba(TEST.astype(float))
    done = invoke("classify", cheap, digits_folder / "test.parquet", "--out", "p", "--probabilities", "--neighbors")
    assert done.code == 0
    table = pq.read_table(tmp_path / "p" / "test.parquet")
    assert shares(table).tobytes() == expected.tobytes()
    assert table["confidence"].to_numpy().tolist() == expected.max(axis=1).tolist()  # all columns are of one answer
    assert all(expected[row, label] == expected[row].max() for row, label in enumerate(table["prediction"].to_pylist()))
    assert [voters[0]["distance"] for voters in table["neighbors"].to_pylist()] == table["distance"].to_pylist()


def test_a_job_without_probabilities_asks_for_labels_alone_and_both_are_told_apart_when_looked_at_again(
    cheap, digits_folder, tmp_path
):
    index, data = open_index(cheap), str(digits_folder / "test.parquet")
    asked = {"labels": {}, "shares": {"probabilities": True}, "top": {"top": 3}}
    for name, of_output in asked.items():
        run_job(Classifier(index), data, tmp_path / name, JobOptions(output=OutputOptions(**of_output)))
    found = {name: pq.read_table(tmp_path / name / "test.parquet") for name in asked}
    assert found["labels"]["confidence"] != found["shares"]["confidence"]
    for name, promise in (("labels", "label"), ("shares", "confidence"), ("top", "confidence")):
        job = FinishedJob.open(locate(tmp_path / name))
        again = job.classifier(index)
        assert [one.name for one in explain_rows(job, again, ["test.parquet#3"])] == ["test.parquet#3"]
        assert again.promise == promise
        assert again(TEST).confidence.tolist() == found[name]["confidence"].to_pylist()


@pytest.mark.parametrize("bad", [{}, {3: "no image", 7: "no image"}])
def test_an_answer_gives_the_same_probabilities_whenever_they_are_asked_for(cheap, bad):
    expected = KNNVoteClassifier.open(cheap, n_neighbors=5).predict_proba(TEST.astype(float))
    expected[list(bad)] = np.nan
    classifier = Classifier.open(cheap)
    answer = classifier.answer(TEST, bad)
    asked = replace(classifier, promise="confidence").answer(TEST, bad)
    assert asked.of_confidences is asked
    for found in (answer, asked, pickle.loads(pickle.dumps(answer))):  # noqa: S301  # our own
        np.testing.assert_array_equal(found.probabilities(), expected)
        assert found.to_table(probabilities=True, neighbors=True).equals(
            asked.to_table(probabilities=True, neighbors=True)
        )
    assert answer.to_table()["confidence"].to_pylist() != asked.to_table()["confidence"].to_pylist()


@pytest.mark.parametrize("least", [0.0, 0.7, 1.0])
def test_who_abstains_by_a_confidence_asks_for_it(cheap, least):
    index = open_index(cheap)
    answer = Classifier(index, Rule(min_confidence=least))(TEST)
    expected = Classifier(index, Rule(min_confidence=least), promise="exact")(TEST)
    assert answer.again is None
    assert answer.confidence.tobytes() == expected.confidence.tobytes()
    assert answer.status.tolist() == expected.status.tolist()


def test_an_index_of_one_ladder_or_of_another_kind_is_not_asked_twice(cheap, exact_index):
    for index in (open_index(exact_index), with_rungs(cheap, (EXACT,)), with_rungs(cheap, LABELS)):
        answer = Classifier(index)(TEST[:20])
        assert answer.again is None
        assert answer.of_confidences is answer


def test_each_promise_is_kept_by_the_rungs_that_were_found_for_it(cheap):
    index, rule = open_index(cheap), Rule()
    found = {promise: find(index, TEST, rule, promise) for promise in PROMISES}
    D, I = brute_force.neighbors(TEST, DIGITS.train_images.reshape(-1, 64), 5, "l2")
    for promise in ("confidence", "exact"):
        assert np.array_equal(found[promise].D, D)
        assert np.array_equal(found[promise].I, I)
    assert set(found["label"].rung.tolist()) == {1, 2}
    assert set(found["careful"].rung.tolist()) == set(found["confidence"].rung.tolist()) == {1}
    assert found["exact"].rung is None  # no rung of the index's own
    recall = {promise: (found[promise].I == I).mean() for promise in PROMISES}
    assert recall["label"] < recall["careful"] <= 1


def test_a_promise_that_nobody_makes_is_refused(exact_index):
    with pytest.raises(OptionError, match=r"promise is 'best': give one of label, confidence, careful, exact"):
        Classifier(open_index(exact_index), promise="best")
