"""Suspects: images whose label is contradicted, against plain loops, and as likely label errors on changed labels."""

import json
import re
from pathlib import Path

import brute_force
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import knnvote.classify.evaluation.left_out
import knnvote.classify.evaluation.suspects
from knnvote.classify.evaluation.suspects import Suspect, find_suspects
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.sample import split_digits
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.metric import METRICS

DIGITS = split_digits()


def made(folder, images, labels, **options):
    index_arrays(images, labels, folder / "i.knn", options=IndexOptions(**options))
    return open_index(folder / "i.knn")


def plain_suspects(x, labels, k, metric="l2"):
    """(row, says, votes against, equal rows) by rank, in plain loops; and how many lose the vote."""
    D, I = brute_force.neighbors(x, x, len(x), metric)
    ranked, losing = [], 0
    for row in range(len(x)):
        near = [(d, i) for d, i in zip(D[row].tolist(), I[row].tolist(), strict=True) if i != row][:k]
        tally = {}
        for distance, other in near:
            votes, total = tally.get(labels[other], (0, 0.0))
            tally[labels[other]] = (votes + 1, total + distance)
        says = min(tally, key=lambda label: (-tally[label][0], tally[label][1], label))
        rivals = plain_rivals(x, labels, row)
        losing += says != labels[row]
        if says == labels[row] and not rivals:
            continue
        against = sum(labels[other] != labels[row] for _, other in near)
        own = min((d for d, other in near if labels[other] == labels[row]), default=near[-1][0])
        foreign = min((d for d, other in near if labels[other] != labels[row]), default=near[-1][0])
        relative = own / (own + foreign) if own + foreign else 0.5
        ranked.append(((not rivals, -against, -relative, row), (row, says, against, rivals)))
    return [suspect for _, suspect in sorted(ranked)], losing


def plain_rivals(x, labels, row):
    """The first equal row of each other label; none where most of the equal rows have this row's label."""
    equal = [other for other in range(len(x)) if (x[other] == x[row]).all()]
    counts = {label: sum(labels[other] == label for other in equal) for label in {labels[other] for other in equal}}
    if all(counts[labels[row]] > count for label, count in counts.items() if label != labels[row]):
        return []
    others = sorted(label for label in counts if label != labels[row])
    return [next(other for other in equal if labels[other] == label) for label in others]


def found_suspects(found):
    return [
        (s.row, s.neighbors_say, round(s.against * found.k), [equal.row for equal in s.equal]) for s in found.suspects
    ]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 7 rows, so that small indexes have several and an incomplete one."""
    for module in (knnvote.classify.evaluation.left_out, knnvote.classify.evaluation.suspects):
        monkeypatch.setattr(module, "BLOCK", 7)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 4, 39])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_suspects_and_their_order_are_those_of_plain_loops(tmp_path, dtype, metric, k):
    rng = np.random.default_rng(k)
    x = rng.integers(1, 4, (40, 3)).astype(dtype)  # 27 vectors: most have copies, and distances are often equal
    labels = rng.integers(0, 3, 40).tolist()
    found = find_suspects(made(tmp_path, x, labels, metric=metric), k=k)
    expected, losing = plain_suspects(x, labels, k, metric)
    assert found_suspects(found) == expected
    assert found.losing_the_vote == losing > 0
    assert found.with_equal == sum(bool(rivals) for *_, rivals in expected) > 0


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_the_labels_and_copies_suspects_are_those_of_plain_loops(tmp_path_factory, data):
    n = data.draw(st.integers(2, 14))
    x = np.array(data.draw(st.lists(st.tuples(*[st.integers(0, 3)] * 2), min_size=n, max_size=n)), np.uint8)
    labels = data.draw(st.lists(st.sampled_from([-5, 0, 7]), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n - 1))
    found = find_suspects(made(tmp_path_factory.mktemp("made"), x, labels), k=k)
    assert found_suspects(found) == plain_suspects(x, labels, k)[0]


def test_changed_labels_of_the_digits_are_ranked_first(tmp_path):
    rng = np.random.default_rng(3)
    n = len(DIGITS.train_labels)
    changed = rng.choice(n, n // 50, replace=False)
    labels = DIGITS.train_labels.copy()
    labels[changed] = (labels[changed] + rng.integers(1, 10, len(changed))) % 10
    index = made(tmp_path, DIGITS.train_images, labels)
    found = find_suspects(index)
    rows = [suspect.row for suspect in found.suspects]
    assert found.k == 20
    assert len(set(rows[: len(changed)]) & set(changed.tolist())) / len(changed) >= 0.9
    assert len(set(rows) & set(changed.tolist())) / len(changed) >= 0.95
    truths = {row: DIGITS.train_labels[row] for row in changed}
    right = [s.neighbors_say == truths[s.row] for s in found.suspects if s.row in truths]
    assert np.mean(right) >= 0.95
    again = (find_suspects(index, threads=threads).to_json() for threads in (1, 2))
    assert all(record == found.to_json() for record in again)


def test_a_suspect_tells_where_it_came_from_and_what_its_neighbours_are(tmp_path):
    x = np.array([[10], [13], [9], [11], [90], [91], [93]], np.uint8)
    found = find_suspects(made(tmp_path, x, ["a", "b", "a", "a", "c", "c", "c"]), k=2)
    (suspect,) = found.suspects
    assert (suspect.row, suspect.id, suspect.file, suspect.file_row) == (1, "array#1", "array", 1)
    assert (suspect.label, suspect.neighbors_say, suspect.share, suspect.against) == ("b", "a", 1.0, 1.0)
    assert [(n.row, n.id, n.label, n.distance) for n in suspect.neighbors] == [
        (3, "array#3", "a", 2.0),
        (0, "array#0", "a", 3.0),
    ]
    assert (suspect.equal, suspect.relative_distance, found.search, found.images) == ((), 0.6, "exact", 7)


def test_equal_images_with_different_labels_are_both_found_and_come_first(tmp_path):
    x = np.array([[0], [1], [2], [3], [4], [50], [50], [51], [52], [53]], np.float32)
    labels = [0, 0, 1, 0, 0, 1, 0, 1, 1, 1]
    found = find_suspects(made(tmp_path, x, labels), k=3)
    assert [(s.row, [e.row for e in s.equal]) for s in found.suspects] == [(6, [5]), (5, [6]), (2, [])]
    assert (found.with_equal, found.losing_the_vote) == (2, 2)
    assert [(e.id, e.label, e.distance) for e in found.suspects[0].equal] == [("array#5", 1, 0.0)]


def test_of_many_equal_images_only_those_with_a_rare_label_are_suspect(tmp_path):
    x = np.zeros((30, 2), np.float64)
    x[::2] = -0.0  # equals 0.0
    x[29] = 1
    labels = [0] * 30
    labels[17] = 1
    found = find_suspects(made(tmp_path, x, labels), k=2)
    assert [(s.row, [e.row for e in s.equal]) for s in found.suspects] == [(17, [0])]


@pytest.mark.parametrize("scale", [1e-310, 3e149])
def test_tiny_and_huge_distances_give_finite_scores(tmp_path, scale):
    x = np.array([[0.0], [1.0], [2.0], [3.0]]) * scale
    found = find_suspects(made(tmp_path, x, [0, 1, 0, 1]))
    assert found.suspects
    assert all(0 <= suspect.relative_distance <= 1 for suspect in found.suspects)


def test_labels_without_errors_give_no_suspects(tmp_path):
    x = np.array([[0], [1], [2], [90], [91], [93]], np.uint8)
    found = find_suspects(made(tmp_path, x, [0, 0, 0, 1, 1, 1]), k=2)
    assert ([*found.suspects], found.losing_the_vote, found.with_equal) == ([], 0, 0)


def test_few_images_vote_with_all_others(tmp_path):
    found = find_suspects(made(tmp_path, np.array([[0], [1]], np.uint8), [False, True]))
    assert (found.k, found_suspects(found)) == (1, [(0, True, 1, []), (1, False, 1, [])])


def test_more_neighbours_than_others_one_image_and_regression_are_refused(tmp_path):
    index = made(tmp_path, np.array([[0], [1], [2]], np.uint8), [0, 0, 1])
    for k in (0, 3):
        with pytest.raises(OptionError, match=f"^k is {k}, .* there are 2 neighbours: give k from 1 to 2"):
            find_suspects(index, k=k)
    index_arrays(np.zeros((1, 2), np.uint8), [1], tmp_path / "one.knn")
    with pytest.raises(KnnvoteError, match="holds one image"):
        find_suspects(open_index(tmp_path / "one.knn"))
    index_arrays(np.eye(3), [0.5, 1.5, 2.0], tmp_path / "r.knn", is_regression=True)
    with pytest.raises(KnnvoteError, match=r"r\.knn was built for regression"):
        find_suspects(open_index(tmp_path / "r.knn"))


def test_progress_counts_every_image_once(exact_index):
    done = []
    find_suspects(open_index(exact_index), progress=done.append)
    assert sum(done) == 1347


def test_the_command_prints_the_first_suspects_and_how_many_there_are(invoke, exact_index):
    found = find_suspects(open_index(exact_index))
    result = invoke("suspects", exact_index, "--top", "2")
    assert (result.code, result.stderr) == (0, "")
    title, headers, first, second, *notes = result.stdout.splitlines()
    assert title == "1,347 images, each left out in turn, exact search, k = 20"
    assert re.split(r"  +", headers.strip()) == [
        *("rank", "id", "label", "votes against", "neighbours say", "their share", "nearest distance", "equal image")
    ]
    for line, rank in ((first, 1), (second, 2)):
        assert line.split() == [str(rank), *shown(found.suspects[rank - 1])]
    losing = found.losing_the_vote
    assert notes == [
        f"{losing} of the 1,347 images ({losing / 1347:.2%}) are suspect: their neighbours say another label",
        f"{len(found.suspects) - 2} more are not shown: --top shows more, --json lists all",
    ]


def shown(suspect: Suspect) -> list[str]:
    return [
        suspect.id,
        str(suspect.label),
        f"{suspect.against:.0%}",
        str(suspect.neighbors_say),
        f"{suspect.share:.0%}",
        f"{suspect.neighbors[0].distance:.4g}",
    ]


def test_the_command_gives_json_of_all_on_stdout(invoke, exact_index):
    result = invoke("suspects", exact_index, "--k", "5", "--top", "1", "--json")
    assert (result.code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    found = find_suspects(open_index(exact_index), k=5)
    record = json.loads(result.stdout)
    assert record == json.loads(json.dumps(found.to_json()))
    assert len(record["suspects"]) == len(found.suspects) > 1
    assert [len(suspect["neighbors"]) for suspect in record["suspects"]] == [5] * len(found.suspects)


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True]])
def test_the_command_names_the_equal_image_and_its_label(invoke, labels):
    a, b = labels
    x = np.array([[0], [1], [2], [9], [9], [10], [11]], np.uint8)
    index_arrays(x, [a, a, a, b, a, b, b], Path("i.knn"))
    result = invoke("suspects", "i.knn", "--k", "3")
    assert (result.code, result.stderr) == (0, "")
    assert f"array#3: {b}" in result.stdout.splitlines()[2]
    assert result.stdout.splitlines()[-1] == (
        "2 are contradicted by an equal image with another label: these come first"
    )
    record = json.loads(invoke("suspects", "i.knn", "--k", "3", "--json").stdout)
    assert [(s["row"], s["label"], s["neighbors_say"]) for s in record["suspects"]] == [(4, a, b), (3, b, b)]


def test_the_command_says_that_an_approximate_index_is_approximate(invoke):
    x = np.random.default_rng(0).normal(size=(60, 4))
    index_arrays(x, [0, 1] * 30, Path("h.knn"), options=IndexOptions(kind="hnsw"))
    result = invoke("suspects", "h.knn")
    assert result.code == 0
    assert result.stderr == (
        "note: the search of h.knn is approximate, and so are neighbours: an exact index gives exact ones\n"
    )
    assert "hnsw search" in result.stdout


def test_the_command_refuses_more_neighbours_than_there_are_as_wrong_usage(invoke):
    index_arrays(np.arange(3, dtype=np.uint8)[:, None], [0, 1, 1], Path("three.knn"))
    result = invoke("suspects", "three.knn", "--k", "3")
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: --k is 3, and with one of the 3 images of three.knn left out there are 2 neighbours: "
        "give --k from 1 to 2\n"
    )


def test_only_those_that_are_asked_for_are_described(tmp_path, monkeypatch):
    """A million noisy labels took gigabytes to show twenty."""
    rng = np.random.default_rng(4)
    index_arrays(rng.integers(0, 256, (300, 4, 4), np.uint8), rng.integers(0, 3, 300), tmp_path / "noise.knn")
    found = find_suspects(open_index(tmp_path / "noise.knn"), k=5)
    every = [*found.suspects]
    assert len(every) == len(found.suspects) > 100
    described = []
    describe = knnvote.classify.evaluation.suspects.neighbors_of
    monkeypatch.setattr(
        knnvote.classify.evaluation.suspects,
        "neighbors_of",
        lambda index, rows, D: described.append(rows) or describe(index, rows, D),
    )
    assert found.suspects[:7] == every[:7]
    assert found.suspects[-1] == every[-1]
    assert len(described) == 2 * 8
