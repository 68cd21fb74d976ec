"""Suspects: images whose label is contradicted, against plain loops, and as likely label errors on changed labels."""

import csv
import json
import re
from pathlib import Path

import brute_force
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repeats import spread

import knnvote.classify.evaluation.equal_images
import knnvote.classify.evaluation.suspects
import knnvote.classify.search.left_out
from knnvote.classify.evaluation.suspects import Suspect, find_suspects
from knnvote.cli.tables.evaluation import print_suspects
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.sample import split_digits
from knnvote.data.tables import image_table
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
    for module in (knnvote.classify.search.left_out, knnvote.classify.evaluation.equal_images):
        monkeypatch.setattr(module, "BLOCK", 7)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", METRICS)
@spread(("k", [1, 4, 39]), ("dtype", [np.uint8, np.float64]))
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
        (
            "the surest votes are contradicted as if about 0 (0 to 6) of the 1,347 labels were wrong at random; where "
            "classes overlap, fewer are"
        ),
        f"{len(found.suspects) - 2} more are not shown: --top shows more, --csv and --json list all",
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
    assert "array#3 " not in result.stdout  # which has no row of its own
    assert result.stdout.splitlines()[-1] == (
        "2 are contradicted by an equal vector with another label: these come first, equal ones as one"
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


# How many labels are wrong


def plain_estimate(x, labels, k):
    """Wrong labels, in plain loops: of each class that wins votes, those among the images that agree most."""
    _, I = brute_force.neighbors(x, x, len(x), "l2")
    won = {}
    for row in range(len(x)):
        votes = [labels[other] for other in I[row].tolist() if other != row][:k]
        share = max(map(votes.count, votes)) / k
        says = next(label for label in votes if votes.count(label) == share * k)  # the test has no ties
        won.setdefault(says, []).append((share, labels[row] != says))
    value = 0
    for images in won.values():
        limit = sorted((share for share, _ in images), reverse=True)[int(0.3 * len(images))]
        agreed = [is_wrong for share, is_wrong in images if share >= limit]
        value += len(images) * sum(agreed) / len(agreed)
    return value


def with_wrong(labels, share, seed=3):
    """Labels of which some are changed at random, and the rows of these."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    labels = labels.copy()
    labels[rows] = (labels[rows] + rng.integers(1, 10, len(rows))) % 10
    return labels, set(rows.tolist())


def test_wrong_labels_are_counted_as_in_plain_loops(tmp_path):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(10 * place, 1, (80, 5)) for place in range(2)])
    labels = [int(row >= 80) ^ int(row % 9 == 0) for row in range(160)]
    found = find_suspects(made(tmp_path, x, labels), k=11)
    assert found.label_errors.value == pytest.approx(plain_estimate(x, labels, 11))
    assert found.label_errors.low < found.label_errors.value < found.label_errors.high


@pytest.mark.parametrize("share", [0, 0.05, 0.2])
def test_as_many_wrong_labels_are_estimated_as_were_made_and_the_head_of_the_list_holds_as_many_as_told(
    tmp_path, share
):
    labels, wrong = with_wrong(DIGITS.train_labels, share)
    found = find_suspects(made(tmp_path, DIGITS.train_images, labels))
    errors = found.label_errors
    assert errors.low <= len(wrong) <= errors.high
    assert errors.first == min(round(errors.value), len(found.suspects))
    held = len({suspect.row for suspect in found.suspects[: errors.first]} & wrong)
    assert not wrong or held / len(wrong) == pytest.approx(errors.hold / errors.value, abs=0.05)
    assert found.to_json()["label_errors"] == vars(errors)


def test_wrong_labels_of_one_class_alone_are_counted_too(tmp_path):
    labels = DIGITS.train_labels.copy()
    wrong = np.flatnonzero(labels == 3)[::3]
    labels[wrong] = 7
    errors = find_suspects(made(tmp_path, DIGITS.train_images, labels)).label_errors
    assert errors.low <= len(wrong) <= errors.high


def test_what_neighbours_cannot_tell_is_not_estimated(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 3))
    assert find_suspects(made(tmp_path, x, [0, 1] * 20), k=9).label_errors is None
    assert find_suspects(made(tmp_path / "one", x, [0] * 40)).label_errors is None


def test_where_only_equal_images_are_in_the_head_of_the_list_nothing_is_told_of_it(tmp_path):
    x = np.repeat(np.arange(60, dtype=np.float32), 2)[:, None]
    x[60:] += 100
    labels = np.array([0] * 60 + [1] * 60)
    labels[5] = 1  # an equal image of another label
    found = find_suspects(made(tmp_path, x, labels.tolist()))
    assert (found.with_equal, found.label_errors.first, found.label_errors.hold) == (2, 1, None)
    assert found.told()[-1].endswith("of the 120 labels were wrong at random; where classes overlap, fewer are")


# Cases, lists and what was reviewed


@pytest.fixture
def copies(tmp_path):
    """An index with a pair and a trio of equal images of unlike labels, and a suspect."""
    x = np.array([0, 1, 2, 3, 4, 4, 50, 51, 51, 51, 52, 53], np.float32)[:, None]
    return made(tmp_path, x, ["a", "a", "b", "a", "a", "b", "b", "a", "b", "c", "b", "b"])


def test_of_many_suspects_a_table_beside_a_page_or_list_has_few_and_says_where_all_are(capsys, monkeypatch, copies):
    monkeypatch.setattr("knnvote.cli.tables.evaluation._BESIDE_FILES", 1)
    found = find_suspects(copies, k=3)
    n = len(found.cases)
    for files, told in (
        ((Path("s.csv"), None), "s.csv has all, by their rank"),
        ((None, Path("s.html")), "s.html has the first 2, --csv and --json list all"),
        ((Path("s.csv"), Path("s.html")), "s.html has the first 2, s.csv has all, by their rank"),
    ):
        print_suspects(found, 2, *files)
        assert capsys.readouterr().out.splitlines()[-1] == f"{n - 1} more are not shown: {told}"


def test_equal_images_are_one_case_and_stand_together_in_the_list(copies):
    found = find_suspects(copies, k=3)
    groups = {4: (4, 5), 5: (4, 5), 7: (7, 8, 9), 8: (7, 8, 9), 9: (7, 8, 9)}
    rows = [suspect.row for suspect in found.suspects]
    first = [row for place, row in enumerate(rows) if not {*groups.get(row, ())} & {*rows[:place]}]
    assert [suspect.row for suspect in found.cases] == first != rows
    assert [equal.row for equal in found.cases[0].equal] == [row for row in groups[rows[0]] if row != rows[0]]
    table = found.to_table()
    listed = [int(name.removeprefix("array#")) for name in table["id"].to_pylist()]
    assert sorted(listed) == sorted(rows) != listed != rows
    assert [row for row in listed if row in first] == first
    ranked = zip(listed, table["rank"].to_pylist(), strict=True)
    assert [(row, rank) for row, rank in ranked if row in first] == [
        (row, place + 1) for place, row in enumerate(first)
    ]
    assert table["rank"].to_pylist()[:5] == [1, 1, 1, 2, 2]
    assert {*listed[:3]} == {7, 8, 9}
    assert {*listed[3:5]} == {4, 5}
    equal = dict(zip(listed, table["equal"].to_pylist(), strict=True))
    assert (equal[8], equal[5], equal[2]) == ("array#7: a; array#9: c", "array#4: a", None)
    assert table.column_names == [
        *("id", "label", "suggested", "fix", "share", "against", "distance", "equal", "file", "row", "rank")
    ]


@pytest.mark.parametrize("kind", ["text", "numbers", "booleans", "named"])
def test_a_list_that_is_filled_in_is_taken_as_it_is_and_what_it_confirms_is_reviewed(invoke, kind):
    names = {"text": ["a, b", "=c"], "numbers": [3, -7], "booleans": [False, True], "named": [0, 1]}[kind]
    right = np.repeat([0, 1], 30)
    given = right.copy()
    given[[2, 40, 41]] ^= 1
    x = np.concatenate([np.arange(30), 200 + np.arange(30)]).astype(np.uint8)[:, None]
    table = image_table(x[:, None], np.array([names[code] for code in given]))
    if kind == "named":
        features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["old", "new, or so"]}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, "in.parquet")
    assert invoke("index", "in.parquet", "--out", "i.knn").code == 0
    done = invoke("suspects", "i.knn", "--k", "10", "--csv", "list.csv")
    assert (done.code, done.stderr) == (0, "list.csv: written\n")
    with Path("list.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["id"] for row in rows} == {"in.parquet#2", "in.parquet#40", "in.parquet#41"}
    for row in rows:  # one is mended, one confirmed, and one is left
        row["fix"] = {"2": row["suggested"], "40": row["label"], "41": ""}[row["row"]]
    with Path("filled.csv").open("w", newline="", encoding="utf-8-sig") as stream:  # as a spreadsheet does
        writer = csv.DictWriter(stream, rows[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    done = invoke("relabel", "i.knn", "filled.csv")
    assert done.code == 0, done.stderr
    assert done.stderr.startswith("i.knn: 1 label changed by 2 rows; 1 row of filled.csv has no label")
    given[2] ^= 1
    assert open_index("i.knn").labels.to_pylist() == [names[code] for code in given]
    again = invoke("suspects", "i.knn", "--k", "10", "--reviewed", "filled.csv", "--json")
    record = json.loads(again.stdout)
    assert [suspect["row"] for suspect in record["suspects"]] == [41]
    assert (record["losing_the_vote"], record["reviewed"], again.stderr) == (1, 1, "")
    told = invoke("suspects", "i.knn", "--k", "10", "--reviewed", "filled.csv").stdout
    assert "1 more were reviewed, and are left out" in told


def test_a_label_that_was_confirmed_is_not_counted_as_wrong(tmp_path):
    labels, wrong = with_wrong(DIGITS.train_labels, 0.1)
    index = made(tmp_path, DIGITS.train_images, labels)
    reviewed = [f"array#{row}" for row in sorted(wrong)]
    assert find_suspects(index, reviewed=reviewed[0]).reviewed == 1
    assert find_suspects(index, reviewed=reviewed).label_errors.value < 0.1 * find_suspects(index).label_errors.value


def test_reviewed_ids_that_are_not_stored_are_told(invoke):
    index_arrays(np.arange(6, dtype=np.uint8)[:, None], [0, 0, 0, 1, 1, 1], Path("i.knn"))
    Path("a.csv").write_text("id\narray#1\nother\n")
    Path("b.csv").write_text("id,fix\narray#2,\narray#3,1\n")
    done = invoke("suspects", "i.knn", "--k", "2", "--reviewed", "a.csv", "--reviewed", "b.csv")
    assert (done.code, done.stderr) == (
        0,
        "note: i.knn does not store 1 of the 3 ids that were reviewed: they were removed, or are of another index\n",
    )
    Path("c.csv").write_text("key,why\narray#4,sharp\n")
    refused = invoke("suspects", "i.knn", "--k", "2", "--reviewed", "c.csv")
    assert refused.stderr == "error: c.csv: no column 'id' of ids; there are key, why: name one with --id-column\n"
    assert invoke("suspects", "i.knn", "--k", "2", "--reviewed", "c.csv", "--id-column", "key").code == 0
    assert invoke("suspects", "i.knn", "--k", "2", "--id-column", "key").code == 2
    refused = invoke("suspects", "i.knn", "--reviewed", "none.csv")
    assert (refused.code, refused.stdout) == (1, "")
    assert "none.csv does not exist" in refused.stderr


def test_a_list_is_never_written_over_another(invoke):
    index_arrays(np.arange(6, dtype=np.uint8)[:, None], [0, 0, 0, 1, 1, 1], Path("i.knn"))
    Path("list.csv").write_text("id,fix\narray#2,1\n")
    for name, told in {"list.csv": "exists, and may have been filled in: give", "list": "is no name of a CSV"}.items():
        done = invoke("suspects", "i.knn", "--csv", name)
        assert (done.code, done.stdout) == (2, "")
        assert f"{name} {told}" in done.stderr
    assert Path("list.csv").read_text() == "id,fix\narray#2,1\n"
    assert invoke("suspects", "i.knn", "--csv", "list2.csv").code == 0


def test_of_few_images_so_few_vote_by_default_that_their_own_class_is_no_smaller(tmp_path):
    """All others would outvote each: of equal classes its own is the smallest when it is left out."""
    x = np.repeat([[0.0, 0.0], [9.0, 9.0]], 8, axis=0) + np.random.default_rng(0).random((16, 2))
    y = np.repeat([0, 1], 8)
    y[3] = 1
    index_arrays(x, y, tmp_path / "x.knn")
    found = find_suspects(open_index(tmp_path / "x.knn"))
    assert (found.k, [suspect.id for suspect in found.suspects]) == (4, ["array#3"])


def test_a_list_that_was_made_while_suspects_were_sought_stays(invoke, monkeypatch):
    index_arrays(np.arange(6, dtype=np.uint8)[:, None], [0, 0, 0, 1, 1, 1], Path("i.knn"))
    theirs = "id,fix\narray#2,1\n"

    def made_meanwhile(*args, **named):
        Path("list.csv").write_text(theirs)
        return find_suspects(*args, **named)

    monkeypatch.setattr("knnvote.classify.evaluation.suspects.find_suspects", made_meanwhile)
    done = invoke("suspects", "i.knn", "--csv", "list.csv")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == "error: list.csv was made by something else meanwhile, and stays: give a new name\n"
    assert Path("list.csv").read_text() == theirs
    assert {path.name for path in Path().iterdir()} == {"i.knn", "list.csv"}
    Path("link.csv").symlink_to("nowhere.csv")
    assert "link.csv exists" in invoke("suspects", "i.knn", "--csv", "link.csv").stderr


def test_suspects_of_a_rare_class_that_overlaps_are_told_as_such(tmp_path):
    rng = np.random.default_rng(3)
    labels = np.array(["honest"] * 1980 + ["fraud"] * 20)
    x = (rng.normal(size=(2000, 4)) + (labels == "fraud")[:, None]).astype("f4")
    index_arrays(x, labels, tmp_path / "rare.knn")
    *_, last = find_suspects(open_index(tmp_path / "rare.knn")).told()
    assert re.fullmatch(r"\d+ of the first \d+ suspects are of the 20 labelled fraud: .* need not be wrong", last)
