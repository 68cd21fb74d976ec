"""Labels in a file of their own without ids: one for each row of a file, or a file of the same name for each."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from knnvote import TrainingOptions, index_files, join_labels, open_index
from knnvote.data.errors import ImageFileError, KnnvoteError, OptionError
from knnvote.data.inputs import find_inputs
from knnvote.data.tables import image_table

VECTORS = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
LABELS = [f"c{row % 3}" for row in range(30)]
NAMES = [f"n{row}" for row in range(30)]
TEXTS = [f"say {row % 7}" for row in range(30)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", VECTORS)


def csv(name, header, *columns):
    lines = [",".join(map(str, cells)) for cells in zip(*columns, strict=True)]
    Path(name).write_text("\n".join(([header] if header else []) + lines) + "\n")
    return name


def labels_of(inputs, labels, **columns):
    """The name of the column and the labels of the rows of all inputs, in their order."""
    names, found = set(), []
    for source in join_labels(inputs, labels, **columns):
        with source.open_rows() as rows:
            names.add(source.joined_label)
            found += [label for batch in rows.batches([source.joined_label], 7) for label in batch[0].to_pylist()]
    (name,) = names
    return name, found


def test_text_of_one_column():
    for header, name in (("label", "label"), (None, "label"), ("intent", "label")):
        assert labels_of("x.npy", csv("l.csv", header, LABELS)) == (name, LABELS), header
        assert labels_of("x.npy", csv("l.txt", header, LABELS)) == (name, LABELS), header
    assert labels_of("x.npy", csv("l.csv", "intent", range(30))) == ("intent", [*range(30)])
    assert labels_of("x.npy", csv("l.csv", None, range(30))) == ("label", [*range(30)])


@pytest.mark.parametrize(
    ("header", "columns", "name"),
    [
        ("text,label", (TEXTS, LABELS), "label"),
        (",label", (range(30), LABELS), "label"),
        (",text,label", (range(30), TEXTS, LABELS), "label"),
        (",intent", (range(30), LABELS), "intent"),
        ("a,b,label", (TEXTS, TEXTS, LABELS), "label"),
    ],
)
def test_tables_beside_arrays_whatever_other_columns_they_have(header, columns, name):
    assert labels_of("x.npy", csv("l.csv", header, *columns)) == (name, LABELS)


def test_tables_of_other_formats_and_arrays():
    table = pa.table({"text": TEXTS, "label": pa.array(LABELS).dictionary_encode()})
    pq.write_table(table, "l.parquet")
    pa.feather.write_feather(table, "l.feather")
    Path("l.jsonl").write_text("\n".join(map(json.dumps, table.to_pylist())))
    np.save("l.npy", LABELS)
    np.savez("l.npz", y=np.array(LABELS), x=VECTORS)
    for name in ("l.parquet", "l.feather", "l.jsonl", "l.npy"):
        assert labels_of("x.npy", name) == ("label", LABELS), name
    assert labels_of("x.npy", "l.npz") == ("y", LABELS)
    np.savez("l.npz", y=np.array(LABELS), z=np.arange(30).reshape(-1, 1))
    assert labels_of("x.npy", "l.npz", label_column="z") == ("z", [*range(30)])
    with pytest.raises(
        OptionError, match=r"l\.npz holds y \(30,\) <U2, z \(30, 1\) int64: name the array.*label_column"
    ):
        join_labels("x.npy", "l.npz")
    with pytest.raises(
        KnnvoteError, match=r"x\.npy holds x\.npy \(30, 6\) float32: expected an array of labels, \(n,\)"
    ):
        join_labels("x.npy", "x.npy")


def test_ids_of_rows_are_joined_by_and_other_ids_are_told_not_to_be():
    backwards = [*range(29, -1, -1)]
    csv("l.csv", "id,intent", [f"x.parquet#{row}" for row in backwards], [LABELS[row] for row in backwards])
    assert labels_of("x.npy", "l.csv") == ("intent", LABELS)
    csv("l.csv", "id,intent", [f"q{row}" for row in range(30)], LABELS)
    with pytest.warns(
        UserWarning, match=r"l\.csv: labels are taken in their order, for the rows have no ids as in column 'id'"
    ):
        assert labels_of("x.npy", "l.csv") == ("intent", LABELS)


@pytest.mark.parametrize(
    ("header", "columns"), [("name,label", (NAMES, LABELS)), ("n,text,name,label", (range(30), TEXTS, NAMES, LABELS))]
)
def test_a_column_of_texts_that_all_differ_is_told_not_to_be_joined_by(header, columns):
    with pytest.warns(UserWarning, match=r"l\.csv: labels are taken in their order, .* as in column 'name'"):
        assert labels_of("x.npy", csv("l.csv", header, *columns)) == ("label", LABELS)


@pytest.mark.parametrize("name", ["row", "index", ""])
def test_rows_that_are_numbered_in_another_order_are_refused_until_they_are_sorted(name):
    backwards = [*range(29, -1, -1)]
    csv("l.csv", f"{name},label", backwards, [LABELS[row] for row in backwards])
    with pytest.raises(ImageFileError, match=rf"l\.csv: column '{name}' numbers the rows in another order than theirs"):
        join_labels("x.npy", "l.csv")
    csv("l.csv", f"{name},label", range(30), LABELS)
    assert labels_of("x.npy", "l.csv") == ("label", LABELS)


def test_sentences_that_all_differ_are_no_ids_and_not_told():
    said = [f"say {name}" for name in NAMES]
    assert labels_of("x.npy", csv("l.csv", "text,label", said, LABELS)) == ("label", LABELS)


def test_labels_are_fitted_to_the_rows_by_what_checks_their_number():
    (source,) = join_labels("x.npy", csv("l.csv", "intent", LABELS))
    assert source.labels.of_rows(30, "x.npy").labels.to_pylist() == LABELS
    given = replace(source.labels, labels=pa.array(["intent", *LABELS]), texts=None, may_begin_with_name=True)
    assert given.of_rows(30, "x.npy").labels.to_pylist() == LABELS


def test_a_file_with_columns_is_joined_in_order_where_none_could_join():
    pq.write_table(image_table(VECTORS), "x.parquet")
    assert labels_of("x.parquet", csv("l.csv", "label", LABELS)) == ("label", LABELS)
    assert labels_of("x.parquet", csv("l.csv", "a,b,label", TEXTS, TEXTS, LABELS)) == ("label", LABELS)
    pq.write_table(image_table(VECTORS).append_column("b", pa.array(TEXTS)), "x.parquet")
    with pytest.raises(
        ImageFileError, match=r"x\.parquet and l\.csv both have a column 'b': id_column b joins labels by it"
    ):
        labels_of("x.parquet", "l.csv")
    Path("in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((3, 3), np.uint8)).save(f"in/{name}.png")
    told = r"which of the columns a, b, label holds labels, and which ids or paths"
    with pytest.raises(ImageFileError, match=told):
        join_labels("in", "l.csv")
    told = r"one\.csv holds labels without ids: give a table with a column of ids"
    with pytest.raises(ImageFileError, match=told):
        join_labels("in", csv("one.csv", "label", ["p", "q"]))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS[1:], r"x\.npy has 30 rows, and l\.npy 29 labels without ids: give as many"),
        ([*LABELS, "c"], r"x\.npy has 30 rows, and l\.npy 31 labels without ids: give as many"),
    ],
)
def test_labels_that_are_not_as_many_are_refused_with_both_counts(labels, told):
    np.save("l.npy", labels)
    with pytest.raises(ImageFileError, match=told):
        labels_of("x.npy", "l.npy")
    np.save("y.npy", VECTORS)
    with pytest.raises(
        KnnvoteError, match=r"l\.npy has no ids, and so a label for each row of one file, not of 2: give one"
    ):
        join_labels(["x.npy", "y.npy"], "l.npy")


def test_a_file_of_labels_for_each_is_found_by_its_name():
    for folder in ("in/deep", "labels/deep"):
        Path(folder).mkdir(parents=True)
    for place, name in enumerate(["a", "b", "deep/c"]):
        np.save(f"in/{name}.npy", VECTORS + place)
    csv("labels/a.csv", "text,label", TEXTS, LABELS)
    pq.write_table(pa.table({"label": LABELS[::-1]}), "labels/b.parquet")
    np.save("labels/deep/c_labels.npy", LABELS)
    assert labels_of("in", "labels") == ("label", LABELS + LABELS[::-1] + LABELS)
    assert labels_of("in/b.npy", "labels") == ("label", LABELS[::-1])
    np.save("labels/b-labels.npy", LABELS)
    with pytest.raises(
        KnnvoteError, match=r"labels/b-labels\.npy and labels/b\.parquet may both hold the labels of in/b\.npy"
    ):
        join_labels("in", "labels")
    Path("labels/b-labels.npy").unlink()
    Path("labels/a.csv").unlink()
    with pytest.raises(
        KnnvoteError, match=r"labels holds no file of labels for in/a\.npy: expected one such as a\.csv"
    ):
        join_labels("in", "labels")


def test_labels_may_lie_among_the_vectors():
    Path("in").mkdir()
    for name in "ab":
        np.save(f"in/{name}.npy", VECTORS)
    csv("in/a.csv", "label", LABELS)
    np.save("in/b-labels.npy", LABELS)
    assert labels_of("in", "in") == ("label", LABELS * 2)
    Path("in/a.csv").unlink()
    pq.write_table(pa.table({"label": LABELS}), "in/a.parquet")
    assert labels_of("in/*.npy", "in") == ("label", LABELS * 2)


def test_the_commands_take_them(invoke):
    pq.write_table(image_table(VECTORS + np.float32(0.001), np.array(LABELS)), "table.parquet")
    csv("l.csv", "text,intent", TEXTS, LABELS)
    assert invoke("index", "table.parquet", "--out", "t.knn").code == 0
    given = ("--labels", "l.csv", "--label-column", "intent")
    assert invoke("index", "x.npy", *given, "--out", "x.knn").code == 0
    assert [open_index(name).labels.to_pylist() for name in ("x.knn", "t.knn")] == [LABELS, LABELS]
    assert open_index("x.knn").ids.to_pylist() == [f"x.parquet#{row}" for row in range(30)]
    np.save("more.npy", VECTORS[:5] + 3)
    csv("few.csv", "intent", ["c1", "c2", "new", "c1", "c2"])
    done = invoke("add", "x.knn", "more.npy", "--labels", "few.csv")
    assert (done.code, "x.knn has no class new, the label of row 2 of few.csv; " in done.stderr) == (1, True)
    done = invoke("add", "x.knn", "more.npy", "--labels", "few.csv", "--new-classes")
    assert (done.code, "1 new class: 'new'" in done.stderr) == (0, True), done.stderr
    assert open_index("x.knn").labels.to_pylist()[30:] == ["c1", "c2", "new", "c1", "c2"]
    assert json.loads(invoke("compare", "x.npy", *given, "--index", "t.knn", "--json").stdout)["unlabelled"] == 0
    check = json.loads(invoke("inspect", "x.npy", *given, "--json").stdout)
    assert (check["files"][0]["label_column"], check["files"][0]["rows"]) == ("intent", 30)
    assert invoke("choose-threshold", "t.knn", "x.npy", *given, "--target-accuracy", "0.5").code in {0, 1}
    for name in ("x-labels.csv", "labels.csv"):
        csv(name, "text,intent", TEXTS, LABELS)
        for command in (
            ("compare", "--index", "t.knn", "x.npy", name),
            ("choose-threshold", "t.knn", name, "x.npy"),
            ("index", "--out", "y.knn", name, "x.npy"),
        ):
            done = invoke(*command)
            told = f"error: {name} may hold the labels of x.npy: give it as --labels {name}, not as images\n"
            assert (done.code, done.stderr) == (1, told)
    assert invoke("compare", "x.npy", "--labels", "labels.csv", *given[2:], "--index", "t.knn").code == 0
    assert invoke("classify", "t.knn", "x.npy", "--out", "out", "--k", "1").code == 0
    done = invoke("report", "out", *given)
    assert "30 rows with a true label: the best guess is right for 1.0000" in done.stdout, done.stderr
    np.save("few.npy", LABELS[1:])
    done = invoke("report", "out", "--labels", "few.npy")
    assert (done.code, "out/x.parquet has 30 rows, and few.npy 29 labels without ids" in done.stderr) == (1, True)


def test_labels_that_are_dates_are_told_with_what_makes_text_of_them(invoke):
    days = pa.array(["2020-01-02", "2020-01-03"] * 15).cast(pa.date32())
    pq.write_table(pa.table({"label": days}), "days.parquet")
    done = invoke("index", "x.npy", "--labels", "days.parquet", "--out", "x.knn")
    exec(re.search(r'python -c "(.*)" makes rows.parquet', done.stderr)[1], {})  # noqa: S102  # of this test's own making
    assert invoke("index", "x.npy", "--labels", "rows.parquet", "--out", "x.knn").code == 0
    assert open_index("x.knn").labels.to_pylist()[:2] == ["2020-01-02", "2020-01-03"]


def test_bad_rows_are_left_out_with_their_labels():
    odd = VECTORS.copy()
    odd[7, 1] = np.inf
    np.save("x.npy", odd)
    index_files(join_labels("x.npy", csv("l.csv", None, LABELS)), "x.knn", training=TrainingOptions(skip_bad=True))
    assert open_index("x.knn").labels.to_pylist() == LABELS[:7] + LABELS[8:]


def test_inputs_found_before_take_labels_too():
    assert labels_of(find_inputs("x.npy"), csv("l.csv", None, LABELS)) == ("label", LABELS)
