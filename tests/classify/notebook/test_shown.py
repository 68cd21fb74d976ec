"""What a notebook shows: short texts of what is found, and answers as DataFrames."""

import builtins
import re

import numpy as np
import pandas as pd
import pytest

from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.job.run import run_job
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.sample import split_digits
from knnvote.indexer.build import index_arrays
from knnvote.indexer.index import in_memory

LABELS = {"numbers": [3, 1, 3, 1], "words": ["b", "a", "b", "a"], "truths": [True, False, True, False]}


@pytest.fixture(scope="module")
def classify(exact_index):
    return Classifier.open(exact_index, Rule(min_confidence=1.0))


def some_bad():
    images = split_digits().test_images[:80].astype(float)
    images[7] = np.nan
    return images


def test_an_answer_has_a_length_and_tells_how_many_images_have_each_status(classify):
    answer = classify(some_bad())
    counts = [int((answer.status == status).sum()) for status in ("ok", "abstained", "bad_image")]
    assert len(answer) == sum(counts) == 80
    assert min(counts) > 0
    path = classify.index.path
    assert repr(answer) == f"<Answer to 80 images by {path}: {counts[0]} ok, {counts[1]} abstained, 1 bad_image>"
    assert repr(classify(some_bad()[:1])) == f"<Answer to 1 image by {path}: 1 ok>"
    assert (len(classify(some_bad()[:0])), repr(classify(some_bad()[:0]))) == (0, f"<Answer to 0 images by {path}>")


def test_index_rule_and_classifier_are_told_in_a_line(classify, tmp_path):
    index = classify.index
    told = f"<Index {index.path}: 1,347 images of 8 x 8, uint8, 10 classes, exact search by l2>"
    assert repr(index) == repr(in_memory(index)) == told
    assert (
        repr(classify)
        == f"Classifier(index={told}, rule=Rule(k=5, weights='uniform', min_confidence=1.0), promise='label')"
    )
    for rule in (
        Rule(),
        Rule(k=3, weights="softmax[0.5]", ties="first-class", max_distance=2.5),
        Rule(class_weight="balanced"),
    ):
        assert eval(repr(rule), {"Rule": Rule}) == rule  # noqa: S307  # our own text
    many = Rule(class_weight=dict.fromkeys(range(1000), 2.0))
    assert len(repr(many)) < 200
    index_arrays(np.arange(12.0).reshape(4, 3), np.arange(4.0), tmp_path / "r.knn", is_regression=True)
    told = repr(Classifier.open(tmp_path / "r.knn", Rule(k=1)).index)
    assert told.endswith("r.knn: 4 images of 3 values, float32, a number each, exact search by l2>")


def test_findings_and_jobs_are_told_in_a_line(classify, digits_folder, tmp_path):
    index = classify.index
    summary = run_job(classify, str(digits_folder / "test.parquet"), tmp_path / "out")
    choice = choose_k(index, max_k=3)
    found = [
        (choice, rf"<Choice k {choice.best.k}, {choice.best.weights}: accuracy 0\.9\d+; \d+ tried on 1,347 images>"),
        (
            find_suspects(index),
            r"<Suspects: \d+ of 1,347 images: \d+ lose the vote, 0 have an equal image of another label>",
        ),
        (
            choose_threshold(index, target_accuracy=0.99),
            r"<Threshold 1 for target accuracy 0\.99: accepts 9\d\.\d% of 1,347 images>",
        ),
        (choose_threshold(index), r"<Threshold: none for no target of 1,347 images; \d+ steps>"),
        (
            summary,
            r"<Summary: 450 rows: \d+ ok, \d+ abstained, 0 bad_image; files: 1 written, 0 skipped, 0 failed; .* s>",
        ),
        (
            compare(str(digits_folder / "test.parquet"), index),
            rf"<Comparison of 1 on 450 images, k 5: {re.escape(str(index.path))} agrees 1\.0000>",
        ),
    ]
    for value, pattern in found:
        assert re.fullmatch(pattern, repr(value)), repr(value)


@pytest.mark.parametrize("name", LABELS)
def test_a_data_frame_has_the_values_of_the_table_and_labels_stay_what_they_are(tmp_path, name):
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2) * 10
    index_arrays(images, LABELS[name], tmp_path / "x.knn")
    answer = Classifier.open(tmp_path / "x.knn", Rule(k=1, max_distance=1))(np.concatenate([images, images[:2] + 9]))
    asked = {"prefix": "knn_", "neighbors": True, "probabilities": True, "top": 2}
    frame, table = answer.to_pandas(**asked), answer.to_table(**asked)
    assert frame.columns.tolist() == table.column_names
    assert frame["knn_prediction"].tolist()[:4] == LABELS[name]
    assert frame["knn_prediction"].isna().tolist() == [False] * 4 + [True] * 2
    assert frame["knn_distance"].tolist() == answer.D[:, 0].tolist()
    assert [row[0]["label"] for row in frame["knn_neighbors"]] == [
        row[0]["label"] for row in answer.neighbors().to_pylist()
    ]
    assert frame.dtypes.equals(answer.to_pandas(**asked).dtypes)
    all_there = Classifier(answer.index, Rule(k=1))(images).to_pandas(**asked)
    assert all_there.dtypes.equals(frame.dtypes)  # whether a value is missing or not
    if name == "numbers":
        assert frame["knn_prediction"].dtype == pd.Int64Dtype()
        assert (all_there["knn_prediction"] == LABELS[name]).all()


def test_without_pandas_a_line_says_how_to_get_it_and_what_goes_without(classify, monkeypatch):
    imported = builtins.__import__

    def without_pandas(name, *arguments, **more):
        if name.partition(".")[0] == "pandas":
            raise ImportError(name)
        return imported(name, *arguments, **more)

    answer = classify(some_bad())
    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(KnnvoteError, match=r"^a DataFrame needs pandas, .*: pip install pandas; to_table\(\) gives"):
        answer.to_pandas()
    assert answer.to_table().num_rows == 80
