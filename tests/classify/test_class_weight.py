"""Class weights: votes of unequal classes, against scikit-learn's weights and a plain count."""

import json
from pathlib import Path

import brute_force
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sets import build, clusters
from sklearn.utils.class_weight import compute_class_weight
from weightings import WEIGHTS

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.choosing.every_k import votes
from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.pictures import space_map
from knnvote.classify.search.left_out import neighbors_left_out
from knnvote.classify.search.search import why_no_promise
from knnvote.classify.vote import Rule, class_shares, ranked, runner_up, vote
from knnvote.classify.weighting import read_class_weights, read_weighting
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import add_files
from knnvote.indexer.manifest import read_manifest
from knnvote.indexer.sealed import seal

RNG = np.random.default_rng(2)
LABELS = np.repeat([0, 3, 7], [200, 40, 10])
X = (RNG.normal(size=(250, 3)) + np.array([0, 1.2, 2.0])[np.searchsorted([0, 3, 7], LABELS), None]).astype(np.float32)
XQ = RNG.normal(size=(60, 3)).astype(np.float32) + 1
EXPECTED = "give balanced, none, or weights from 1e-9 to 1e9 by label, each once"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "x.knn"
    index_arrays(X, LABELS, folder)
    return open_index(folder)


def test_balanced_weights_are_those_of_scikit_learn_but_for_a_power_of_two(index):
    theirs = compute_class_weight("balanced", classes=np.array([0, 3, 7]), y=LABELS)
    ours = index.class_weights("balanced")
    assert np.allclose(theirs, 16 * ours, rtol=1e-12, atol=0)
    assert 0.5 <= ours.max() < 1
    assert index.class_weights(None) is None
    assert (index.class_weights(((3, 6.0),)) * 8).tolist() == [1, 6, 1]


@pytest.mark.parametrize("ties", ["nearest", "first-class"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("given", ["balanced", {7: 20, 0: 0.5}])
def test_votes_shares_and_ranks_are_those_of_a_plain_count(index, weights, ties, given):
    rule = Rule(k=9, weights=weights, ties=ties, class_weight=given)
    answer = Classifier(index, rule)(XQ)
    D, I = brute_force.neighbors(XQ, X, 9, "l2")
    assert np.array_equal(answer.I, I)
    of_class = dict(
        zip([0, 3, 7], compute_class_weight("balanced", classes=np.array([0, 3, 7]), y=LABELS), strict=True)
    )
    if given != "balanced":
        of_class = {0: 0.5, 3: 1.0, 7: 20.0}
    w = read_weighting(weights)(D) * np.vectorize(of_class.get)(LABELS[I])
    shares = np.stack([(w * (LABELS[I] == label)).sum(axis=1) for label in (0, 3, 7)], axis=1) / w.sum(axis=1)[:, None]
    assert np.allclose(answer.probabilities(), shares, rtol=0, atol=1e-12)
    assert np.array_equal(answer.confidence, answer.probabilities().max(axis=1))
    is_clear = np.ptp(np.sort(shares, axis=1)[:, 1:], axis=1) > 1e-9
    assert is_clear.mean() > 0.9
    best = np.array([0, 3, 7])[shares.argmax(axis=1)]
    assert np.array_equal(np.array(answer.best.to_pylist())[is_clear], best[is_clear])
    top = answer.top(3).to_pylist()
    assert [told["top"][0] for told in top] == answer.best.to_pylist()
    assert [told["top"][1] if told["top"][1:] else None for told in top] == answer.second.to_pylist()
    unlike = Classifier(index, Rule(k=9, weights=weights, ties=ties))(XQ)
    assert unlike.best.to_pylist() != answer.best.to_pylist()


def test_weights_of_one_change_no_bit_and_no_sum_overflows(index):
    codes, D = index.class_codes[Classifier(index, Rule(k=9))(XQ).I], np.full((60, 9), 1e-320)
    for factors in (None, np.ones(codes.shape)):
        rule = Rule(k=9, weights="distance")
        found = vote(codes, D, rule, factors)
        assert np.array_equal(found[1], ranked(codes, D, rule, 1, factors)[1][:, 0])
        assert np.isfinite(found[1]).all()
        assert np.array_equal(runner_up(codes, D, rule, found[0], factors)[0], runner_up(codes, D, rule, found[0])[0])
        assert np.array_equal(class_shares(codes, D, 3, "distance", factors), class_shares(codes, D, 3, "distance"))
    heavy = index.class_weights(((0, 1e9), (7, 1e-9)))[codes]
    assert np.isfinite(class_shares(codes, D, 3, "distance", heavy)).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_k_has_the_label_that_the_weighed_vote_gives_it(index, weights):
    answer = Classifier(index, Rule(k=12))(XQ)
    codes, D, factors = index.class_codes[answer.I], answer.D, index.vote_factors("balanced", answer.I)
    assert np.array_equal(factors, index.class_weights("balanced")[codes])
    winners = votes(codes, D, weights, factors)
    for k in range(1, 13):
        rule = Rule(k=k, weights=weights)
        assert np.array_equal(winners[:, k - 1], vote(codes[:, :k], D[:, :k], rule, factors[:, :k])[0])


def test_of_unequal_classes_balanced_weights_raise_the_balanced_accuracy(index):
    plain, balanced = choose_k(index, max_k=15), choose_k(index, max_k=15, class_weight="balanced")
    assert (plain.class_weight, balanced.class_weight) == (None, "balanced")
    assert "class_weight" not in plain.to_json()
    assert balanced.to_json()["class_weight"] == "balanced"
    better = [b.balanced_accuracy - p.balanced_accuracy for b, p in zip(balanced.scores, plain.scores, strict=True)]
    assert better[:3] == [0, 0, 0]  # one neighbour has the only vote
    assert np.mean(better[14:]) > 0.02


# What is given


@pytest.mark.parametrize(
    "given",
    ["even", 3, {}, {"a": 0}, {"a": -1}, {"a": 1e10}, {"a": "x"}, {"a": True}, [("a", 1), ("a", 2)], [1, 2], {2.5: 1}],
)
def test_what_is_no_class_weight_is_refused(given):
    for made in (Rule, Tuning):
        with pytest.raises(OptionError) as told:
            made(class_weight=given)
        assert str(told.value) == f"class_weight is {given!r}: {EXPECTED}"


def test_labels_are_those_of_the_index_as_they_are_as_text_or_by_name_in_their_order(tmp_path):
    info = {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}
    table = image_table(X[:4].reshape(-1, 1, 3), np.array([0, 1, 1, 0]))
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": info})})
    write_table(table, tmp_path / "x.parquet")
    index_files(str(tmp_path / "x.parquet"), tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    for given in ({"dog": 2, "cat": 3}, {"1": 2, "0": 3}, {np.int64(1): np.float32(2), 0: 3}, [["1", 2], ["cat", 3]]):
        assert Rule.of(index, class_weight=given).class_weight == ((0, 3.0), (1, 2.0))
    with pytest.raises(
        OptionError, match=r"class_weight names the class 'hen', which no image of .*: name some of 0, 1$"
    ):
        Classifier(index, Rule(class_weight={"hen": 2}))
    with pytest.raises(OptionError, match=r": name each class once$"):
        Rule.of(index, class_weight={"dog": 2, "1": 3})
    assert Rule.of(index, class_weight="none").class_weight is None


def test_a_text_that_is_the_name_of_one_class_and_the_label_of_another_is_refused(tmp_path):
    info = {"features": {"label": {"_type": "ClassLabel", "names": ["1", "0", "2", "dog"]}}}
    table = image_table(X[:4].reshape(-1, 1, 3), np.array([0, 1, 2, 3]))
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": info})})
    write_table(table, tmp_path / "x.parquet")
    index_files(str(tmp_path / "x.parquet"), tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    told = r"names the class '1', which may be 0 \(1\) or 1 \(0\) of .*: say '0 \(1\)' or '1 \(0\)'$"
    with pytest.raises(OptionError, match=f"class_weight {told}"):
        Rule.of(index, class_weight={"1": 2})
    with pytest.raises(OptionError, match=f"min_confidence_by_class {told}"):
        Classifier(index, Rule(min_confidence=0.5, min_confidence_by_class={"2": 1, "1": 0.5}))
    given = {0: 2, 1: 3, "2": 4, "dog": 5}  # numbers, and texts with one meaning alone
    assert Rule.of(index, class_weight=given).class_weight == ((0, 2.0), (1, 3.0), (2, 4.0), (3, 5.0))
    (tmp_path / "w.csv").write_text("class,weight\n1 (0),3\n3 (dog),5\n0 (1),2\n2,4\n")
    assert Rule.of(index, class_weight=read_class_weights(str(tmp_path / "w.csv"))).class_weight == (
        *((0, 2.0), (1, 3.0), (2, 4.0), (3, 5.0)),
    )
    with pytest.raises(OptionError, match=r": name each class once$"):
        Rule.of(index, class_weight={"3 (dog)": 2, "dog": 3})


def test_a_regression_has_no_classes_to_weigh(tmp_path):
    index_arrays(X, X[:, 0].astype(float), tmp_path / "r.knn", is_regression=True)
    index = open_index(tmp_path / "r.knn")
    for refused in (
        lambda: Classifier(index, Rule(class_weight="balanced")),
        lambda: choose_k(index, class_weight="balanced"),
        lambda: index_arrays(X, X[:, 0], tmp_path / "n.knn", is_regression=True, tune=Tuning(class_weight="balanced")),
    ):
        with pytest.raises(OptionError, match=r"built for regression, which has no classes: leave out class_weight$"):
            refused()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"label,weight\n1,2\n", r"w\.csv has the columns label, weight: give a CSV file with the columns class and"),
        (b"", r"has the columns none: give"),
        (
            b"class,weight\n1,much\n",
            r"is no CSV file of class and weight \(could not convert .*: give a number in each",
        ),
        (b"class,weight\n1\n", r"is no CSV file of class and weight"),
        (b"PAR1\xff\xfe", r"is no CSV file of class and weight"),
        (b"class,weight\n1,nan\n", r"gives class 1 the weight nan: give one"),
        (b"class,weight\n1,2\n1,3\n", r"names the class 1 more than once"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content, told):
    (tmp_path / "w.csv").write_bytes(content)
    with pytest.raises(KnnvoteError, match=told):
        read_class_weights(str(tmp_path / "w.csv"))


def test_a_file_gives_weights_by_the_text_of_labels(tmp_path):
    (tmp_path / "w.csv").write_bytes('\ufeffweight,class,why\r\n2,"a, b",x\r\n0.5,c,\r\n'.encode())
    assert read_class_weights(str(tmp_path / "w.csv")) == (("a, b", 2.0), ("c", 0.5))


# What an index keeps


@pytest.mark.parametrize("given", ["balanced", {"1": 3}])
def test_an_adaptive_index_is_tuned_for_class_weights_and_keeps_them(tmp_path, given):
    data = clusters("uint8", n=3000, nq=50)
    y = np.minimum(data.y, 4)  # one class of six in ten
    index = build(tmp_path / "x.knn", data.x, y, tune=Tuning(class_weight=given, target_agreement=0.9))
    own = "balanced" if given == "balanced" else ((1, 3.0),)
    assert index.tuned.class_weight == index.vote.class_weight == Rule.of(index).class_weight == own
    assert why_no_promise(index, Rule.of(index)) is None
    told = "balanced class weights" if given == "balanced" else "class weights of its own"
    assert f"tuned for k 5 and uniform weights with {told}: for k 5 and uniform weights with equal class weights" in (
        why_no_promise(index, Rule())
    )
    found, exact = (Classifier(index, promise=promise)(data.xq) for promise in ("confidence", "exact"))
    assert (np.array(found.best.to_pylist()) == np.array(exact.best.to_pylist())).mean() >= 0.9
    assert read_manifest(tmp_path / "x.knn") == index.manifest
    opened = KNNVoteClassifier.open(tmp_path / "x.knn")
    assert np.array_equal(opened.predict_proba(data.xq), Classifier(index)(data.xq).probabilities())


def test_balanced_weights_follow_what_is_added_and_those_of_a_file_stay(tmp_path):
    more = (np.random.default_rng(3).normal(size=(100, 1, 3)) + 2.5).astype(np.float32)
    for name, given in (("balanced", "balanced"), ("own", {3: 2.0})):
        folder = tmp_path / f"{name}.knn"
        index_arrays(X, LABELS, folder, tune=Tuning(class_weight=given, target_accuracy=0.5))
        before = open_index(folder)
        assert choose_threshold(before, target_accuracy=0.5).acceptance == before.vote.acceptance
        write_table(image_table(more, np.full(100, 7)), tmp_path / f"{name}.parquet")
        add_files(folder, str(tmp_path / f"{name}.parquet"), tuning=Tuning)
        after = open_index(folder)
        assert after.vote.class_weight == before.vote.class_weight == Rule.of(after).class_weight
        assert after.vote.acceptance != before.vote.acceptance
        if name == "balanced":
            counts = np.array([200, 40, 110])
            assert np.allclose(after.class_weights("balanced") * 4, 350 / (3 * counts), rtol=1e-15)


@pytest.mark.parametrize("wrong", ["even", [["a"]], [[0, 0]], [[0, "x"]], [[0, 1e999]], {"0": 1}, 3])
def test_a_manifest_whose_class_weights_are_none_is_refused(tmp_path, wrong):
    index_arrays(X, LABELS, tmp_path / "x.knn", tune=Tuning(class_weight="balanced"))
    record = json.loads((tmp_path / "x.knn/manifest.json").read_text())
    record["vote"]["class_weight"] = wrong
    (tmp_path / "x.knn/manifest.json").write_bytes(seal(record))
    with pytest.raises(KnnvoteError, match="vote"):
        open_index(tmp_path / "x.knn")


def test_the_commands_take_and_keep_class_weights_and_jobs_go_on(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    write_table(image_table(X.reshape(-1, 1, 3), LABELS), Path("train.parquet"))
    write_table(image_table(XQ.reshape(-1, 1, 3)), Path("test.parquet"))
    Path("w.csv").write_text("class,weight\n7,20\n")
    made = invoke("index", "train.parquet", "--out", "x.knn", "--class-weight", "balanced")
    assert "made for k 5 and uniform weights, class weight balanced\n" in made.stderr
    found = {}
    for name, given in (("own", []), ("none", ["none"]), ("file", ["w.csv"])):
        options = ["--class-weight", *given] if given else []
        assert invoke("classify", "x.knn", "test.parquet", "--out", name, *options).code == 0
        found[name] = pq.read_table(f"{name}/test.parquet")["best"].to_pylist()
    index = open_index("x.knn")
    for name, given in (("own", "balanced"), ("none", None), ("file", {7: 20})):
        assert found[name] == Classifier(index, Rule(class_weight=given))(XQ).best.to_pylist()
    assert len({str(labels) for labels in found.values()}) == 3
    refused = invoke("classify", "x.knn", "test.parquet", "--out", "own", "--class-weight", "none")
    assert "--class-weight was" in refused.stderr
    assert "with other votes any row may be answered otherwise" in refused.stderr
    assert invoke("report", "own", "--index", "x.knn", "--out", "page.html").code == 0
    assert "5 neighbours of equal weight, by class so that all count the same" in Path("page.html").read_text()
    told = invoke("choose-k", "x.knn", "--max-k", 2, "--class-weight", "w.csv").stdout
    assert told.startswith("250 images, each left out in turn, exact search, class weight of 7 20\n")
    assert invoke("explain", "own", "3", "--index", "x.knn").code == 0
    settled = invoke("explain", "own", "3", "--index", "x.knn", "--class-weight", "none")
    assert "the job own has settled --class-weight: leave it out" in settled.stderr
    assert invoke("classify", "x.knn", "test.parquet", "--out", "o", "--class-weight", "no.csv").code == 1
    assert pa.types.is_integer(pq.read_schema("own/test.parquet").field("best").type)


def test_suspects_and_maps_are_of_the_vote_that_the_index_was_made_for_or_of_another(tmp_path, index, monkeypatch):
    index_arrays(X, LABELS, tmp_path / "x.knn", tune=Tuning(class_weight="balanced"))
    balanced = open_index(tmp_path / "x.knn")
    plain, own, none = (
        find_suspects(of, k=9, class_weight=given)
        for of, given in ((index, None), (balanced, None), (balanced, "none"))
    )
    assert (plain.class_weight, own.class_weight, none.class_weight) == (None, "balanced", None)
    assert plain.to_json()["suspects"] == none.to_json()["suspects"] != own.to_json()["suspects"]
    assert "class_weight" not in plain.to_json()
    rare = [sum(one.label == 7 for one in found.suspects) for found in (plain, own)]
    assert rare[1] < rare[0]
    _, I = neighbors_left_out(index, np.arange(250), 9)
    votes_of = index.vote_factors("balanced", I)
    share = (votes_of * (index.class_codes[I] != index.class_codes[:, None])).sum(axis=1) / votes_of.sum(axis=1)
    assert [one.against for one in own.suspects] == pytest.approx([share[one.row] for one in own.suspects], abs=1e-12)
    monkeypatch.setattr(space_map, "_SIDES", (48, 36))
    captions = [
        space_map.draw_map(of, k=9, class_weight=given).texts[-1].get_text()
        for of, given in ((index, None), (balanced, None), (balanced, {7: 3}))
    ]
    told = ["class weight balanced" in captions[1], "class weight of 7 3" in captions[2], "weight" in captions[0]]
    assert told == [True, True, False]
