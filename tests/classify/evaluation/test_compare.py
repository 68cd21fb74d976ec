"""Comparison of indexes, against what NumPy and scikit-learn compute here."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor

import knnvote.classify.evaluation.compare
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare, exact_answer, share_interval
from knnvote.classify.evaluation.sklearn_search import SklearnSearch
from knnvote.classify.vote import Rule
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.tables import image_table, write_table
from knnvote.data.text import show_speed
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.training import TrainingOptions

RNG = np.random.default_rng(5)
# Noise in 100 dimensions, of which a rough index misses much; a few pixels make the label.
IMAGES = RNG.integers(0, 256, (600, 10, 10), dtype=np.uint8)
LABELS = IMAGES[:, :2, :2].mean(axis=(1, 2)).astype(np.int64) // 64
TRAIN, TEST = slice(0, 500), slice(500, 600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    index_arrays(IMAGES[TRAIN], LABELS[TRAIN], folder / "exact.knn")
    rough = IndexOptions(kind="factory", factory="IVF12,Flat")
    index_arrays(IMAGES[TRAIN], LABELS[TRAIN], folder / "rough.knn", options=rough)
    write_table(image_table(IMAGES[500:540], LABELS[500:540]), folder / "test" / "a.parquet")
    write_table(image_table(IMAGES[540:600], LABELS[540:600]), folder / "test" / "b.parquet")
    return folder


def run(folder, *names, images="test", rule=None, **options):
    indexes = [open_index(folder / f"{name}.knn") for name in names]
    return compare(find_inputs([str(folder / images)]), indexes, rule or Rule(), **options)


def brute_force(k=5):
    """Neighbours (nq, k) by squared distance, then by row."""
    xq, x = (IMAGES[rows].reshape(-1, 100).astype(np.int64) for rows in (TEST, TRAIN))
    D = ((xq[:, None] - x[None]) ** 2).sum(axis=2)
    return np.argsort(D, axis=1, kind="stable")[:, :k], D


def brute_labels(k=5):
    I, D = brute_force(k)
    winners = []
    for row, neighbors in enumerate(I):
        label = LABELS[TRAIN][neighbors]
        distance = np.sqrt(D[row, neighbors])
        winners.append(min(set(label), key=lambda c: (-(label == c).sum(), distance[label == c].sum(), c)))
    return np.array(winners)


def test_recall_agreement_and_accuracy_are_those_computed_by_hand(folder):
    comparison = run(folder, "rough")
    report = comparison.indexes[0]
    answer = Classifier.open(folder / "rough.knn")(IMAGES[TEST])
    truth = brute_force()[0]
    recall = np.array([len(set(found) & set(true)) / 5 for found, true in zip(answer.I, truth, strict=True)])
    assert 0.1 < recall.mean() < 0.95  # rough indeed, or this test shows nothing
    assert report.recall.mean == pytest.approx(recall.mean())
    assert report.recall.p5 == pytest.approx(np.percentile(recall, 5))
    assert report.recall.min == pytest.approx(recall.min())
    label = np.array(answer.prediction.to_pylist())
    assert report.agreement.value == pytest.approx((label == brute_labels()).mean())
    assert report.accuracy == pytest.approx((label == LABELS[TEST]).mean())
    assert (comparison.queries, comparison.k) == (100, 5)
    assert report.relative_speed > 0


def test_accuracy_has_its_interval_and_worst_classes_and_confusions_are_counted_by_hand(folder):
    report = run(folder, "rough").indexes[0]
    label = np.array(Classifier.open(folder / "rough.knn")(IMAGES[TEST]).prediction.to_pylist())
    true = LABELS[TEST]
    assert report.accuracy_interval == share_interval(int((label == true).sum()), 100)
    assert report.accuracy == report.accuracy_interval.value
    pairs = report.judgement.commonest_confusions
    assert sum(pair.images for pair, _ in pairs) == (label != true).sum()
    assert [pair.images for pair, _ in pairs] == sorted((pair.images for pair, _ in pairs), reverse=True)
    for pair, share in pairs:
        assert pair.images == ((true == pair.truth) & (label == pair.label)).sum()
        assert share == pair.images / (true == pair.truth).sum()
    worst = report.judgement.worst_classes
    assert {of_class.label for of_class in worst} == set(true[label != true].tolist())
    highs = [share_interval((label[true == c] == c).sum(), (true == c).sum()).high for c in range(4) if c in true]
    assert worst[0].accuracy.high == min(highs)


def test_of_more_than_five_classes_the_true_one_is_counted_among_the_five_best_that_have_votes(tmp_path, invoke):
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (600, 2, 2), np.uint8), rng.integers(0, 60, 600) ** 2 // 60  # unequal classes
    y[500:510] = 77  # no stored image has it
    index_arrays(x[:500], y[:500], tmp_path / "x.knn")
    write_table(image_table(x[500:], y[500:]), tmp_path / "test.parquet")
    for k, weights in ((20, "distance"), (3, "uniform")):
        (report,) = compare(
            str(tmp_path / "test.parquet"), open_index(tmp_path / "x.knn"), Rule(k=k, weights=weights)
        ).indexes
        answer = Classifier.open(tmp_path / "x.knn", Rule(k=k, weights=weights))(x[500:])
        shares, classes = answer.probabilities(), np.array(answer.index.classes)
        fifth = np.sort(shares, axis=1)[:, -5]
        has = [true in classes and row[classes == true][0] for true, row in zip(y[500:], shares, strict=True)]
        surely, perhaps = (
            sum(share > 0 and is_in(share, least) for share, least in zip(has, fifth, strict=True))
            for is_in in (np.greater, np.greater_equal)
        )
        assert surely <= report.top5_accuracy.value * 100 + 1e-9
        assert report.top5_accuracy.value * 100 <= perhaps + 1e-9
        assert report.top5_accuracy.value > report.accuracy
        hits = np.array(answer.prediction.to_pylist()) == y[500:]
        balanced = np.mean([hits[y[500:] == true].mean() for true in np.unique(y[500:])])
        assert report.judgement.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    done = invoke(
        "compare", tmp_path / "test.parquet", "--index", tmp_path / "x.knn", "--k", 3, "--report", "page.html"
    )
    headers, figures, told = done.stdout.splitlines()[:3]
    assert headers.split()[5:] == ["accuracy", "95%", "interval", "balanced", "top-5", "wrong", "of"]
    assert figures.split()[3:5] == [f"{report.judgement.balanced_accuracy:.4f}", f"{report.top5_accuracy.value:.4f}"]
    assert told.endswith("; top-5: the true label is among the five best of the classes that the 3 neighbours have")
    page = Path("page.html").read_text()
    assert told in page
    assert f"<td>{report.judgement.balanced_accuracy:.4f}</td><td>{report.top5_accuracy.value:.4f}</td>" in page


def test_of_five_classes_or_fewer_none_are_counted(folder):
    assert run(folder, "exact").indexes[0].top5_accuracy is None


@pytest.mark.parametrize("rule", [Rule(), Rule(k=4, weights="distance")])
def test_coverage_is_what_a_least_confidence_accepts(folder, rule):
    for record in run(folder, "exact", rule=rule).indexes[0].coverage:
        strict = replace(rule, min_confidence=record.threshold)
        given = Classifier.open(folder / "exact.knn", strict)(IMAGES[TEST]).prediction.to_pylist()
        accepted = [label == true for label, true in zip(given, LABELS[TEST], strict=True) if label is not None]
        assert (record.images, record.coverage) == (len(accepted), len(accepted) / 100)
        assert record.accuracy == share_interval(sum(accepted), len(accepted))


def test_indexes_differ_from_the_first_and_from_exact_search_as_images_counted_by_hand(folder):
    right = brute_labels() == LABELS[TEST]
    rough = np.array(Classifier.open(folder / "rough.knn")(IMAGES[TEST]).prediction.to_pylist()) == LABELS[TEST]
    counts = int((rough & ~right).sum()), int((right & ~rough).sum())
    paths = str(folder / "rough.knn"), str(folder / "exact.knn")
    found = run(folder, "rough", "exact").differences
    assert [(one.name, one.other, one.only_name, one.only_other) for one in found] == [
        (paths[0], "exact search", *counts),
        (*paths[::-1], *counts[::-1]),
    ]
    (only,) = run(folder, "exact", "rough").differences  # the first is exact search itself
    assert (only.name, only.other, only.only_name, only.only_other) == (*paths, *counts)
    assert run(folder, "exact").differences == []


def test_a_search_that_is_asked_for_a_sample_differs_on_that(folder, monkeypatch):
    monkeypatch.setattr(knnvote.classify.evaluation.compare, "_SLOW_QUERIES", 10)
    monkeypatch.setattr(knnvote.classify.evaluation.compare, "_SLOW_DISTANCES", 0)
    one = run(folder, "rough", algorithms=["brute"]).differences[1]
    assert (one.name, one.other) == ("scikit-learn brute", str(folder / "rough.knn"))
    assert one.only_name + one.only_other <= 10


def test_exact_search_agrees_with_itself_and_with_brute_force(folder):
    report = run(folder, "exact").indexes[0]
    assert (report.recall.mean, report.recall.p5, report.recall.min) == (1, 1, 1)
    assert (report.agreement.value, report.agreement.high, report.flips) == (1, 1, [])
    assert report.accuracy == pytest.approx((brute_labels() == LABELS[TEST]).mean())


def test_flips_are_all_listed_with_row_numbers_through_all_files(folder):
    report = run(folder, "rough").indexes[0]
    label = np.array(Classifier.open(folder / "rough.knn")(IMAGES[TEST]).prediction.to_pylist())
    exact = brute_labels()
    rows = np.flatnonzero(label != exact)
    assert rows.max() >= 40  # in the second file
    assert [(flip.row, flip.exact, flip.label, flip.truth) for flip in report.flips] == [
        (row, exact[row], label[row], LABELS[TEST][row]) for row in rows
    ]


def test_row_numbers_of_flips_count_rows_that_are_bad(folder, tmp_path):
    images = IMAGES[TEST].astype(float)
    images[:3, 0, 0] = np.nan
    write_table(image_table(images, LABELS[TEST]), tmp_path / "bad.parquet")
    before, after = run(folder, "rough"), run(folder, "rough", images=tmp_path / "bad.parquet")
    expected = [flip.row for flip in before.indexes[0].flips if flip.row >= 3]
    assert [flip.row for flip in after.indexes[0].flips] == expected
    assert after.queries == 97
    assert after.bad_images == {"value 0 is NaN": 3}


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (97, 100), (9995, 10000), (1, 1)])
def test_the_interval_is_that_of_clopper_and_pearson(successes, trials):
    interval = share_interval(successes, trials)
    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    assert interval.value == successes / trials
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_exact_search_is_run_once_for_indexes_of_the_same_data_and_metric(folder, tmp_path, monkeypatch):
    other = {"metric": IndexOptions(metric="l1"), "data": IndexOptions()}
    index_arrays(IMAGES[TRAIN], LABELS[TRAIN], tmp_path / "metric.knn", options=other["metric"])
    index_arrays(IMAGES[TRAIN][::-1], LABELS[TRAIN][::-1], tmp_path / "data.knn", options=other["data"])
    calls = []
    real = knnvote.classify.evaluation.compare.exact_search

    def counted(index, xq, k):
        calls.append(index.metric)
        return real(index, xq, k)

    monkeypatch.setattr(knnvote.classify.evaluation.compare, "exact_search", counted)
    run(folder, "exact", "rough", "exact")
    assert calls == ["l2"]
    calls.clear()
    indexes = [open_index(path) for path in (folder / "rough.knn", tmp_path / "metric.knn", tmp_path / "data.knn")]
    compare(find_inputs([str(folder / "test")]), indexes, Rule())
    assert calls == ["l2", "l1", "l2"]


def test_test_images_that_are_stored_are_counted(folder, tmp_path):
    mixed = np.concatenate([IMAGES[TEST][:10], IMAGES[TRAIN][:7]])
    write_table(image_table(mixed), tmp_path / "mixed.parquet")
    comparison = run(folder, "exact", "rough", images=tmp_path / "mixed.parquet")
    assert [report.stored for report in comparison.indexes] == [7, 7]
    assert [report.stored for report in run(folder, "exact").indexes] == [0]


def test_unlabelled_test_images_have_no_accuracy_and_flips_without_truth(folder, tmp_path):
    write_table(image_table(IMAGES[TEST]), tmp_path / "bare.parquet")
    report = run(folder, "rough", images=tmp_path / "bare.parquet").indexes[0]
    assert (report.accuracy, report.accuracy_interval, report.coverage) == (None, None, [])
    assert run(folder, "rough", images=tmp_path / "bare.parquet").differences == []
    assert report.flips
    assert {flip.truth for flip in report.flips} == {None}
    labelled = run(folder, "rough").indexes[0]
    assert (report.recall, report.agreement) == (labelled.recall, labelled.agreement)


def test_accuracy_is_of_the_labelled_images_and_those_without_a_label_are_told(folder, tmp_path):
    write_table(image_table(IMAGES[TEST]), tmp_path / "a.parquet")
    write_table(image_table(IMAGES[TEST], LABELS[TEST]), tmp_path / "b.parquet")
    some, none = run(folder, "exact", images=tmp_path), run(folder, "exact", images=tmp_path / "a.parquet")
    assert some.indexes[0].accuracy == run(folder, "exact").indexes[0].accuracy
    n = some.queries // 2
    assert (some.unlabelled, none.unlabelled) == (n, n)
    assert f"{n} of the {2 * n} test images have no true label: accuracy is of the others" in some.notes
    assert none.indexes[0].accuracy is None
    assert any(note.startswith("no test image has a true label") for note in none.notes)


def test_labels_of_another_integer_type_in_each_file_are_compared_by_value(folder, tmp_path):
    write_table(image_table(IMAGES[500:540], LABELS[500:540].astype(np.int8)), tmp_path / "a.parquet")
    write_table(image_table(IMAGES[540:600], LABELS[540:600].astype(np.uint32)), tmp_path / "b.parquet")
    assert run(folder, "exact", images=tmp_path).indexes[0].accuracy == run(folder, "exact").indexes[0].accuracy


def test_images_without_a_label_do_not_count_towards_accuracy(folder, tmp_path):
    known = LABELS[TEST].astype(float)
    known[:60] = np.nan
    for labels in (pa.array(known), pa.array(known, from_pandas=True)):
        write_table(image_table(IMAGES[TEST], labels), tmp_path / "some.parquet")
        accuracy = run(folder, "exact", images=tmp_path / "some.parquet").indexes[0].accuracy
        assert accuracy == pytest.approx((brute_labels() == LABELS[TEST])[60:].mean())
    write_table(image_table(IMAGES[TEST], pa.nulls(100, pa.int64())), tmp_path / "none.parquet")
    assert run(folder, "exact", images=tmp_path / "none.parquet").indexes[0].accuracy is None


def test_another_label_column_can_be_named(folder, tmp_path):
    table = image_table(IMAGES[TEST], np.zeros(100, np.int64)).append_column("right", pa.array(LABELS[TEST]))
    pq.write_table(table, tmp_path / "two.parquet")
    named = run(folder, "exact", images=tmp_path / "two.parquet", label_column="right")
    assert named.indexes[0].accuracy == run(folder, "exact").indexes[0].accuracy
    with pytest.raises(ImageFileError, match="no column 'wrong' for label_column; there are image, label, right"):
        run(folder, "exact", images=tmp_path / "two.parquet", label_column="wrong")


def test_accuracy_of_a_regression_is_the_coefficient_of_determination(tmp_path):
    targets = IMAGES[:, :5].mean(axis=(1, 2))
    index_arrays(IMAGES[TRAIN], targets[TRAIN], tmp_path / "r.knn", is_regression=True)
    write_table(image_table(IMAGES[TEST], targets[TEST]), tmp_path / "r.parquet")
    report = run(tmp_path, "r", images="r.parquet").indexes[0]
    flat = IMAGES.reshape(600, 100).astype(float)
    theirs = KNeighborsRegressor(5, algorithm="brute").fit(flat[TRAIN], targets[TRAIN]).predict(flat[TEST])
    assert report.accuracy == pytest.approx(r2_score(targets[TEST], theirs))
    assert report.mean_absolute_error == pytest.approx(np.abs(targets[TEST] - theirs).mean())
    assert (report.accuracy_interval, report.coverage) == (None, [])
    write_table(image_table(IMAGES[500:501], targets[500:501]), tmp_path / "one.parquet")
    assert run(tmp_path, "r", images="one.parquet").indexes[0].accuracy is None


@pytest.mark.parametrize("rule", [Rule(k=1), Rule(k=9, weights="distance"), Rule(k=4, ties="first-class")])
def test_the_vote_that_is_asked_for_is_the_one_compared(folder, rule):
    comparison = run(folder, "rough", rule=rule)
    labels = Classifier.open(folder / "rough.knn", rule)(IMAGES[TEST]).prediction.to_pylist()
    exact = Classifier.open(folder / "exact.knn", rule)(IMAGES[TEST]).prediction.to_pylist()
    agreed = [label == other for label, other in zip(labels, exact, strict=True)]
    assert comparison.indexes[0].agreement.value == pytest.approx(np.mean(agreed))
    assert (comparison.k, comparison.weights) == (rule.k, rule.weights)


def test_json_has_the_documented_keys(folder):
    record = json.loads(json.dumps(run(folder, "exact", "rough").to_json(), allow_nan=False))
    assert record.keys() == {
        *("queries", "k", "weights", "threads", "indexes", "differences", "class_names"),
        *("bad_images", "unknown_labels", "unlabelled"),
    }
    documented = {
        *("path", "kind", "recall", "agreement", "accuracy", "accuracy_interval", "mean_absolute_error", "coverage"),
        *("top5_accuracy", "near_copies"),
        *("relative_speed", "images_per_second", "hours_per_million", "bytes", "build_seconds", "flips"),
    }
    for index in record["indexes"]:
        assert index.keys() == documented | {"vote", "stored", "judged", "judgement", "tolerance", "unlike_stored"}
        assert index["recall"].keys() == {"mean", "p5", "min", "found"}
        assert index["agreement"].keys() == index["accuracy_interval"].keys() == {"value", "low", "high"}
        assert index["coverage"][0].keys() == {"threshold", "images", "coverage", "accuracy", "balanced_accuracy"}
        assert all(flip.keys() == {"row", "name", "exact", "label", "truth"} for flip in index["flips"])
    assert record["differences"][0].keys() == {"name", "other", "only_name", "only_other", "p"}
    exact, rough = record["indexes"]
    assert (exact["kind"], rough["kind"]) == ("exact", "factory")
    assert exact["path"] == str(folder / "exact.knn")
    named = json.loads((folder / "exact.knn" / "manifest.json").read_bytes())["files"].values()
    assert exact["bytes"] == sum((folder / "exact.knn" / entry["name"]).stat().st_size for entry in named)


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    write_table(image_table(np.zeros((3, 7, 7), np.uint8)), tmp_path / "other.parquet")
    with pytest.raises(ImageFileError, match=r"other\.parquet: images are 7 x 7, the index stores 10 x 10"):
        run(folder, "exact", images=tmp_path / "other.parquet")
    write_table(image_table(np.full((3, 10, 10), np.nan)), tmp_path / "bad.parquet")
    with pytest.raises(KnnvoteError, match=r"no readable image in .*bad\.parquet"):
        run(folder, "exact", images=tmp_path / "bad.parquet")
    write_table(image_table(IMAGES[:0]), tmp_path / "none.parquet")
    with pytest.raises(KnnvoteError, match=r"no readable image in .*none\.parquet"):
        run(folder, "exact", images=tmp_path / "none.parquet")
    with pytest.raises(OptionError, match="k is 501"):
        run(folder, "exact", rule=Rule(k=501))
    with pytest.raises(ImageFileError, match="there is no image column 'nothing'"):
        compare(
            find_inputs([str(folder / "test")]),
            [open_index(folder / "exact.knn")],
            Rule(),
            images=ImageOptions(image_column="nothing"),
        )


def test_labels_of_another_kind_are_refused_and_not_counted_as_wrong(folder, tmp_path):
    words = [f"number {label}" for label in range(3)]
    write_table(image_table(IMAGES[:3], words), tmp_path / "words.parquet")
    with pytest.raises(ImageFileError, match=r"words\.parquet: labels in column 'label' are string, and those .*int64"):
        run(folder, "exact", images=tmp_path / "words.parquet")


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([1.0, 2.0, 3.0]),
        pa.array([[1], [2], [3]]),
        pa.array([b"a", b"b", b"\xff"]),
        pa.array([1, 2, 3], pa.date32()),
        pa.array([True, False, True]),
    ],
)
def test_labels_that_cannot_be_words_are_refused_beside_words(tmp_path, labels):
    index_arrays(IMAGES[:9], [f"number {label}" for label in range(9)], tmp_path / "words.knn")
    table = image_table(IMAGES[:3]).append_column("label", labels)
    pq.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(
        ImageFileError, match=r"labels in column 'label' are .*(those to compare with are string|not text).*: name"
    ):
        compare(
            find_inputs([str(tmp_path / "test.parquet")]),
            [open_index(tmp_path / "words.knn")],
            Rule(),
            images=ImageOptions(image_column="image"),
        )
    words = pa.array(["number 0", None, "number 3"]).dictionary_encode()
    pq.write_table(table.set_column(1, "label", words), tmp_path / "test.parquet")
    report = run(tmp_path, "words", images="test.parquet", rule=Rule(k=1)).indexes[0]
    assert report.accuracy == 0.5
    pq.write_table(table.set_column(1, "label", pa.nulls(3)), tmp_path / "test.parquet")
    assert run(tmp_path, "words", images="test.parquet", rule=Rule(k=1)).indexes[0].accuracy is None


def test_nan_is_no_label_whole_floats_are_integers_and_infinity_is_refused(folder, tmp_path):
    labels = LABELS[TEST].astype(float)
    labels[::2] = np.nan
    table = image_table(IMAGES[TEST]).append_column("label", pa.array(labels))
    pq.write_table(table, tmp_path / "test.parquet")
    report = run(folder, "rough", images=tmp_path / "test.parquet").indexes[0]
    assert [flip.truth for flip in report.flips] == [
        None if flip.row % 2 == 0 else LABELS[500 + flip.row] for flip in report.flips
    ]
    assert {type(row.label) for row in report.judgement.classes} == {int}
    assert sum(row.images for row in report.judgement.classes) == 50
    labels[3] = np.inf
    pq.write_table(table.set_column(1, "label", pa.array(labels)), tmp_path / "test.parquet")
    with pytest.raises(ImageFileError, match=r"test\.parquet: labels in column 'label' are infinite: name"):
        run(folder, "rough", images=tmp_path / "test.parquet")
    labels[3] = 1.5
    pq.write_table(table.set_column(1, "label", pa.array(labels)), tmp_path / "test.parquet")
    with pytest.raises(ImageFileError, match=r"labels in column 'label' are fractions, and those .* int64: name"):
        run(folder, "rough", images=tmp_path / "test.parquet")


def test_answers_of_a_regression_agree_within_a_twentieth_of_the_spread_of_labels(tmp_path, invoke):
    targets = RNG.normal(0, 3, 500)
    rough = IndexOptions(kind="factory", factory="IVF12,Flat")
    index_arrays(IMAGES[TRAIN], targets, tmp_path / "rough.knn", is_regression=True, options=rough)
    write_table(image_table(IMAGES[TEST], RNG.normal(0, 3, 100)), tmp_path / "test.parquet")
    report = run(tmp_path, "rough", images="test.parquet").indexes[0]
    classifier = Classifier(open_index(tmp_path / "rough.knn"), Rule())
    xq = IMAGES[TEST].reshape(100, -1)
    apart = np.abs(classifier.answer(xq, {}).prediction.to_numpy() - targets[brute_force()[0]].mean(axis=1))
    assert report.tolerance == pytest.approx(0.05 * targets.std())
    assert 0 < np.sum(apart > report.tolerance) < np.sum(apart > 0)
    assert [flip.row for flip in report.flips] == np.flatnonzero(apart > report.tolerance).tolist()
    assert report.agreement.value == pytest.approx(np.mean(apart <= report.tolerance))
    told = invoke("compare", "test.parquet", "--index", "rough.knn").stdout
    assert "R²" in told
    assert "accuracy" not in told
    assert f"labels differ from exact search by more than {report.tolerance:.4g}:" in told


def test_rounding_is_no_disagreement_where_all_numbers_are_equal(tmp_path):
    index_arrays(IMAGES[TRAIN], np.full(500, 0.1), tmp_path / "x.knn", is_regression=True)
    write_table(image_table(IMAGES[TEST], np.full(100, 0.1)), tmp_path / "test.parquet")
    rule = Rule(k=7, weights="distance")
    reports = run(tmp_path, "x", images="test.parquet", rule=rule, algorithms=["brute"]).indexes
    assert [(report.agreement.value, report.accuracy) for report in reports] == [(1, None), (1, None)]


def test_whole_floats_are_integers_of_any_size(tmp_path):
    large = np.array([2**63, 2**63 + 2048], np.uint64)
    index_arrays(IMAGES[:2], large, tmp_path / "x.knn")
    pq.write_table(image_table(IMAGES[:2], large.astype(float)), tmp_path / "test.parquet")
    assert run(tmp_path, "x", images="test.parquet", rule=Rule(k=1)).indexes[0].accuracy == 1


def test_indexes_of_classes_and_of_numbers_are_compared_apart(folder, tmp_path):
    index_arrays(IMAGES[TRAIN], LABELS[TRAIN].astype(float), tmp_path / "r.knn", is_regression=True)
    with pytest.raises(KnnvoteError, match=r"of .*r\.knn and .*exact\.knn only one is for regression: compare them"):
        run(folder, "exact", tmp_path / "r")


def test_indexes_that_read_other_rows_of_the_test_images_are_not_compared(tmp_path):
    colour = [io.BytesIO() for _ in range(4)]
    for i, stream in enumerate(colour):
        grey = np.full((4, 4), 40 * i, np.uint8)
        pixels = np.dstack([grey, grey, grey + (i == 3)])
        PIL.Image.fromarray(pixels).save(stream, "PNG")
    table = pa.table({"image": [stream.getvalue() for stream in colour], "label": [0, 0, 1, 1]})
    pq.write_table(table, tmp_path / "test.parquet")
    pq.write_table(table.slice(0, 3), tmp_path / "train.parquet")
    indexes = []
    for grayscale in (True, False):
        path = tmp_path / f"{grayscale}.knn"
        training = TrainingOptions(images=ImageOptions(grayscale=grayscale))
        index_files(find_inputs([str(tmp_path / "train.parquet")]), path, training=training)
        indexes.append(open_index(path))
    with pytest.raises(KnnvoteError, match=r"only one of .* reads row 3 of the test images, and 1 rows are such"):
        compare(find_inputs([str(tmp_path / "test.parquet")]), indexes, Rule(k=1))


# scikit-learn's searches


@pytest.mark.parametrize("metric", ["l2", "cosine", "l1"])
def test_searches_of_scikit_learn_find_what_exact_search_finds(tmp_path, metric):
    index_arrays(IMAGES[TRAIN], LABELS[TRAIN], tmp_path / "x.knn", options=IndexOptions(metric=metric))
    write_table(image_table(IMAGES[TEST], LABELS[TEST]), tmp_path / "test.parquet")
    exact, *others = run(tmp_path, "x", images="test.parquet", algorithms=["brute", "kd_tree", "ball_tree"]).indexes
    assert [(report.path, report.kind) for report in others] == [
        ("scikit-learn brute", "brute"),
        ("scikit-learn kd_tree", "kd_tree"),
        ("scikit-learn ball_tree", "ball_tree"),
    ]
    for report in others:
        assert report.recall.mean == 1
        assert (report.accuracy, report.flips, report.judged) == (exact.accuracy, [], 100)
        assert report.bytes > 500 * 100 * 8
        assert report.relative_speed > 0
    brute, *trees = (report.bytes for report in others)
    assert min(trees) > brute  # whose nodes are stored too


@pytest.mark.parametrize("metric", ["l2", "cosine", "l1"])
def test_distances_of_scikit_learn_are_in_the_metric_of_the_index(tmp_path, metric):
    index_arrays(IMAGES[TRAIN], LABELS[TRAIN], tmp_path / "x.knn", options=IndexOptions(metric=metric))
    classifier = Classifier(open_index(tmp_path / "x.knn"), Rule(k=5))
    xq = IMAGES[TEST].reshape(100, -1)
    found, exact = SklearnSearch(classifier, "kd_tree").answer(xq), exact_answer(classifier, xq)
    np.testing.assert_allclose(found.D, exact.D, rtol=1e-9)


def test_slow_searches_are_asked_for_a_random_sample(folder, monkeypatch, invoke):
    monkeypatch.setattr(knnvote.classify.evaluation.compare, "_SLOW_QUERIES", 10)
    monkeypatch.setattr(knnvote.classify.evaluation.compare, "_SLOW_DISTANCES", 0)
    done = invoke("compare", folder / "test", "--index", folder / "exact.knn", "--with", "brute, kd_tree", "--json")
    assert (done.code, done.stderr) == (0, "")
    assert [report["judged"] for report in json.loads(done.stdout)["indexes"]] == [100, 10, 10]
    told = invoke("compare", folder / "test", "--index", folder / "exact.knn", "--with", "brute").stdout
    assert "scikit-learn brute: asked for a random sample of 10 of the images, as it is slow" in told


def test_another_name_of_a_search_is_wrong_usage(folder, invoke):
    done = invoke("compare", folder / "test", "--index", folder / "exact.knn", "--with", "brute,tree")
    assert (done.code, done.stdout) == (2, "")
    assert "'tree' is no search of scikit-learn: give some of brute, kd_tree, ball_tree" in done.stderr


def test_speeds_of_what_is_much_slower_are_told_too():
    assert [show_speed(ratio) for ratio in (30.61, 1, 0.46, 0.0177)] == ["30.6 x", "1.0 x", "0.5 x", "0.018 x"]


def test_a_test_file_that_changes_while_it_is_read_is_refused(folder, tmp_path, monkeypatch):
    path = tmp_path / "test.parquet"
    shutil.copy(folder / "test" / "a.parquet", path)
    queries = Classifier.queries

    def and_grow(classifier, rows):
        with path.open("ab") as stream:
            stream.write(b"more")
        return queries(classifier, rows)

    monkeypatch.setattr(Classifier, "queries", and_grow)
    with pytest.raises(ImageFileError, match=r"/test\.parquet changed while it was read: run the same command again"):
        run(folder, "exact", images=path)


def named(images, numbers, names):
    """A table as `datasets` writes one: numbers, and the names that they stand for."""
    feature = {"label": {"_type": "ClassLabel", "names": names}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    return image_table(images, numbers).replace_schema_metadata(metadata)


def test_labels_are_compared_by_their_names_where_numbers_stand_for_other_classes(tmp_path, invoke):
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], 20)
    images = np.clip(true[:, None, None] * 80 + rng.integers(0, 40, (60, 4, 4)), 0, 255).astype(np.uint8)
    write_table(named(images[::2], true[::2], ["ant", "bee", "cat"]), tmp_path / "train.parquet")
    assert invoke("index", "train.parquet", "--out", "x.knn").code == 0
    tests = images[1::2]
    write_table(named(tests, (2 - true)[1::2], ["cat", "bee", "ant"]), tmp_path / "turned.parquet")
    write_table(named(tests, (true + 1)[1::2], ["zebu", "ant", "bee", "cat"]), tmp_path / "more.parquet")
    write_table(image_table(tests, np.array(["ant", "bee", "cat"])[true[1::2]]), tmp_path / "text.parquet")
    write_table(image_table(tests, np.array(["ant", "zebu", "cat"])[true[1::2]]), tmp_path / "unknown.parquet")
    index = open_index(tmp_path / "x.knn")
    for name, accuracy, unknown in (
        ("turned", 1, {}),
        ("more", 1, {}),
        ("text", 1, {}),
        ("unknown", 2 / 3, {"zebu": 10}),
    ):
        found = compare(str(tmp_path / f"{name}.parquet"), index)
        assert found.indexes[0].accuracy == pytest.approx(accuracy), name
        assert found.unknown_labels == unknown
    told = invoke("compare", "unknown.parquet", "--index", "x.knn").stdout
    assert "10 test images have labels that no stored image has (zebu)" in told
    done = invoke("compare", "unknown.parquet", "--index", "x.knn", "--report", "page.html")
    assert (done.code, "zebu" in (tmp_path / "page.html").read_text()) == (0, True)
    assert invoke("classify", "x.knn", "turned.parquet", "--out", "out").code == 0
    done = invoke("show", "turned.parquet", "--predictions", "out", "--errors", "--index", "x.knn")
    assert "no prediction is wrong" in done.stderr
