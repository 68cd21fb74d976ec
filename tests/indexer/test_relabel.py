"""Indexes whose labels are mended: what they answer, what is kept, what is told and what refused."""

import errno
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sets import build as build_adaptive
from made_sets import clusters
from repeats import spread

import knnvote.indexer.folder.write
from knnvote.classify.adaptive.tune import Tuning
from knnvote.data.errors import KnnvoteError
from knnvote.data.files import hold_lock
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.grow import relabel_ids, remove_ids
from knnvote.indexer.growth.fixes import read_fixes, read_reviewed
from knnvote.indexer.leftovers import LOCK
from knnvote.indexer.manifest import read_manifest
from knnvote.indexer.records.growth import Growth, lost_told
from knnvote.indexer.training import TrainingOptions

IMAGES, LABELS = (array[:160] for array in digits())
WRONG = np.where(np.arange(160) % 7 == 0, (LABELS + 1) % 10, LABELS)
KINDS = {
    "exact": {"kind": "exact"},
    "adaptive": {"kind": "adaptive"},
    "hnsw": {"kind": "hnsw"},
    "factory": {"kind": "factory", "factory": "PCA8,Flat"},
}
NAMED = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["ant", "bee", "1"]}}}}


def ids_of(rows, file="array"):
    return [f"{file}#{row}" for row in rows]


def relabel(path, ids, labels, told=None):
    how = {"new_classes": True, "tuning": Tuning, "threads": 1}
    return relabel_ids(path, ids, labels, **how, tell=[].append if told is None else told.append)


def state(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def small(tmp_path):
    """An index of six images of three classes, in text."""
    index_arrays(np.arange(24, dtype=np.uint8).reshape(6, 2, 2), ["a", "a", "b", "b", "c", "c"], tmp_path / "x.knn")
    return tmp_path / "x.knn"


@pytest.fixture
def named(tmp_path, invoke):
    """An index of three classes that are numbers with names, of which one is a number."""
    table = image_table(np.arange(16, dtype=np.uint8).reshape(4, 2, 2), np.array([0, 1, 2, 0]))
    pq.write_table(table.replace_schema_metadata({"huggingface": str(NAMED).replace("'", '"')}), tmp_path / "n.parquet")
    assert invoke("index", "n.parquet", "--out", "x.knn").code == 0
    assert open_index(tmp_path / "x.knn").manifest.class_names == ["ant", "bee", "1"]
    return tmp_path / "x.knn"


# Like an index built afresh


@spread(("scale", ["uint8", "float32"]), ("kind", KINDS))
def test_mended_it_is_the_index_of_the_right_labels(tmp_path, kind, scale):
    images = IMAGES if scale == "uint8" else IMAGES.astype(np.float32) / 3
    options = IndexOptions(threads=1, seed=3, **KINDS[kind])
    for name, labels in {"x": WRONG, "fresh": LABELS}.items():
        index_arrays(images, labels, tmp_path / name, options=options)
    before = open_index(tmp_path / "x").fingerprint
    assert relabel(tmp_path / "x", ids_of(range(160)), LABELS) == 23
    mended, fresh = open_index(tmp_path / "x"), open_index(tmp_path / "fresh")
    assert mended.fingerprint == fresh.fingerprint != before
    assert mended.labels.equals(fresh.labels)
    assert verify_folder(tmp_path / "x") == []
    relabel(tmp_path / "x", ids_of(range(160)), WRONG)
    assert open_index(tmp_path / "x").fingerprint == before


def test_an_index_that_was_tuned_is_tuned_again_as_a_fresh_one(tmp_path):
    data = clusters("uint8", n=600, d=20)
    wrong = np.where(np.arange(600) % 5 == 0, (data.y + 1) % 3, data.y)
    tune = Tuning(k=3, weights="distance", target_agreement=0.9)
    for name, labels in {"x": wrong, "fresh": data.y}.items():
        build_adaptive(tmp_path / name, data.x, labels, tune=tune)
    stored = state(tmp_path / "x")
    with pytest.raises(KnnvoteError, match=r"was tuned, and has to be tuned again: pass tuning=knnvote.Tuning"):
        relabel_ids(tmp_path / "x", "array#0", int(data.y[0]))
    assert state(tmp_path / "x") == stored
    relabel(tmp_path / "x", ids_of(range(600)), data.y)
    mended, fresh = open_index(tmp_path / "x"), open_index(tmp_path / "fresh")
    assert mended.tuned == fresh.tuned is not None
    assert mended.fingerprint == fresh.fingerprint


def test_the_vote_that_an_index_keeps_is_found_again_as_a_fresh_one_finds_it(tmp_path):
    tune = Tuning(k=3, target_accuracy=0.7)
    for name, labels in {"x": WRONG, "fresh": LABELS}.items():
        index_arrays(IMAGES, labels, tmp_path / name, tune=tune)
    before = open_index(tmp_path / "x").vote
    with pytest.raises(KnnvoteError, match=r"was tuned, and has to be tuned again"):
        relabel_ids(tmp_path / "x", "array#0", int(LABELS[0]))
    relabel(tmp_path / "x", ids_of(range(160)), LABELS)
    mended, fresh = open_index(tmp_path / "x"), open_index(tmp_path / "fresh")
    assert mended.vote == fresh.vote != before
    assert mended.fingerprint == fresh.fingerprint


def test_where_no_label_changes_nothing_is_written(small):
    before = state(small)
    assert relabel(small, ["array#0", "array#5", "array#0"], ["a", "c", "a"]) == 0
    assert relabel(small, ["array#0", "none"], [None, None]) == relabel(small, [], []) == 0
    assert state(small) == before


def test_numbers_of_a_regression_are_mended_too(tmp_path):
    for name, numbers in {"x": [0.5, 1, 2], "fresh": [0.5, 1.25, -3]}.items():
        index_arrays(np.eye(3), numbers, tmp_path / name, is_regression=True)
    assert relabel(tmp_path / "x", ids_of([1, 2]), ["1.25", "-3"]) == 2
    assert open_index(tmp_path / "x").fingerprint == open_index(tmp_path / "fresh").fingerprint
    with pytest.raises(KnnvoteError, match=r"the label 'much' cannot be one of .*: give a number$"):
        relabel(tmp_path / "x", "array#1", "much")


# What is read as a label


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [
        ([1, 2], "2", 2),
        ([1, 2], " 2.0 ", 2),
        ([1, 2], 2.0, 2),
        (np.array([1, 2], np.uint8), "300", 300),
        ([False, True], "TRUE", True),
        ([False, True], True, True),
        (["1", "2"], "007", "007"),
        (["1", "2"], " 2", "2"),
    ],
)
def test_labels_are_read_as_the_stored_ones_are(tmp_path, stored, given, expected):
    index_arrays(np.eye(2), stored, tmp_path / "x.knn")
    assert relabel(tmp_path / "x.knn", "array#0", given) == 1
    assert open_index(tmp_path / "x.knn").labels.to_pylist() == [expected, stored[1]]
    assert verify_folder(tmp_path / "x.knn") == []


@pytest.mark.parametrize(
    ("stored", "given", "message"),
    [
        ([1, 2], "cat", "the label 'cat' cannot be one of .*: give a whole number$"),
        ([1, 2], "1.5", "the label '1.5' cannot be one of .*: give a whole number$"),
        ([1, 2], "nan", "the label 'nan' cannot be one of"),
        ([1, 2], "inf", "the label 'inf' cannot be one of"),
        ([1, 2], 1.5, "are fractions, and those to compare with are int64; .* give labels of the kind that is stored"),
        ([1, 2], True, "are bool, and those to compare with are int64"),
        ([1, 2], "99999999999999999999", "a label does not fit the int64 of"),
        ([False, True], "maybe", "the label 'maybe' cannot be one of .*: give true or false$"),
        (["1", "2"], 2, "are int64, and those to compare with are string; nothing was changed"),
    ],
)
def test_labels_of_another_kind_are_refused(tmp_path, stored, given, message):
    index_arrays(np.eye(2), stored, tmp_path / "x.knn")
    before = state(tmp_path / "x.knn")
    with pytest.raises(KnnvoteError, match=message):
        relabel(tmp_path / "x.knn", "array#0", given)
    assert state(tmp_path / "x.knn") == before


def test_classes_that_have_names_are_given_by_number_or_name(named):
    assert relabel(named, ids_of([0, 1, 3], "n.parquet"), ["bee", "0", "2"]) == 3
    assert open_index(named).labels.to_pylist() == [1, 0, 2, 2]
    assert relabel(named, ids_of([0], "n.parquet"), [2]) == 1
    for wrong, message in {
        "1": r"the label '1' may be 1 \(bee\) and 2 \(1\) of .*: give 'bee' or '2'$",
        "wasp": r"the label 'wasp' cannot be one of .*: give one of its 3 classes by number or name, as 2 \(1\)",
        "7": r"the label '7' cannot be one of",
    }.items():
        with pytest.raises(KnnvoteError, match=message):
            relabel(named, "n.parquet#1", wrong)
    with pytest.raises(KnnvoteError, match="the label 7 cannot be one of"):
        relabel(named, "n.parquet#1", 7)


# What is told and what refused


def test_new_classes_and_those_that_are_gone_are_told(small):
    told = []
    assert relabel(small, ids_of([2, 3, 4]), ["a", "e", "d"], told) == 3
    assert told == [f"new classes of {small}: d, e", f"classes of which {small} has no image now: b"]
    assert open_index(small).classes.to_pylist() == ["a", "c", "d", "e"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["B"],
            "x.knn has no class B (like 'b'), the label of 'array#0' in line 3 of fixes.csv; nothing was changed: ",
        ),
        (
            ["a", "aa", "", "#REF!", "aa"],
            "3 labels are of 2 classes that x.knn has not: aa (like 'a'), #REF!; the first is the label of 'array#1'",
        ),
    ],
)
def test_labels_of_no_class_are_refused_by_their_lines_unless_new_classes_are_meant(small, invoke, labels, message):
    before = state(small)
    rows = "".join(f"array#{row},{label}\n" for row, label in enumerate(labels))
    Path("fixes.csv").write_text(f"sep=,\nid,fix\n{rows},\n")
    done = invoke("relabel", "x.knn", "fixes.csv")
    assert (done.code, done.stderr.startswith(f"error: {message}")) == (1, True), done.stderr
    assert " in line 3 of fixes.csv; " in done.stderr or " in line 4 of fixes.csv; nothing was changed" in done.stderr
    assert state(small) == before
    assert invoke("relabel", "x.knn", "fixes.csv", "--new-classes").code == 0
    assert [label for label in labels if label] == [
        label for label, given in zip(open_index(small).labels.to_pylist(), labels, strict=False) if given
    ]


def test_python_refuses_new_classes_by_their_ids(small):
    with pytest.raises(KnnvoteError, match=r"has no class d, the label of 'array#2'; .*, or pass new_classes=True if"):
        relabel_ids(small, ids_of([0, 2]), ["a", "d"])


def test_an_id_that_several_images_have_is_told(tmp_path):
    table = image_table(np.arange(16, dtype=np.uint8).reshape(4, 2, 2), np.array(list("abab")))
    write_table(table.append_column("id", [["x", "x", "y", "z"]]), tmp_path / "a.parquet")

    told = []
    training = TrainingOptions(id_column="id")
    index_files(tmp_path / "a.parquet", tmp_path / "x.knn", training=training, tell=told.append)
    assert told.pop() == "1 id is stored several times, 'x', 2 times: remove and relabel take all that have an id"
    assert relabel(tmp_path / "x.knn", ["x", "z"], ["b", "b"], told) == 1
    assert told == ["1 id is stored several times, 'x', 2 times: all that have it get its label"]
    assert open_index(tmp_path / "x.knn").labels.to_pylist() == ["b", "b", "a", "b"]


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        (["array#0", "no", "no", "nor"], list("abbc"), r"does not store 2 of the 3 ids, the first 'no'; nothing was"),
        (["array#0", "array#1", "array#0"], list("bab"), None),
        (["array#0", "array#1", "array#0"], list("bac"), r"1 ids have several labels, the first, 'array#0', b and c"),
        (["array#0", "array#1"], "ab", "labels are the text 'ab', and ids several: give a label for each"),
        (["array#0"], ["a", "b"], "give as many labels of one kind as ids"),
        (["array#0", "array#1"], ["a", 7], "give as many labels of one kind as ids"),
    ],
)
def test_ids_that_do_not_fit_are_refused(small, ids, labels, message):
    before = state(small)
    if message is None:
        assert relabel(small, ids, labels) == 1
        return
    with pytest.raises(KnnvoteError, match=message):
        relabel(small, ids, labels)
    assert state(small) == before


# Files


def test_the_command_takes_the_column_fix_and_leaves_rows_without_one(small, invoke):
    Path("fixes.csv").write_text("id;label;fix;why\narray#0;a;b;so, so\narray#1;a;;\narray#2;b;b;\narray#9;b;;\n")
    done = invoke("relabel", "x.knn", "fixes.csv")
    assert (done.code, done.stdout) == (0, "")
    first, second = done.stderr.splitlines()
    assert first == "x.knn: 1 label changed by 2 rows; 2 rows of fixes.csv have no label, and leave theirs"
    assert second.startswith("x.knn: 6 images of 2 x 2, exact")
    assert open_index(small).labels.to_pylist() == list("babbcc")
    again = invoke("relabel", "x.knn", "fixes.csv")
    assert again.stderr == "x.knn: 0 labels changed by 2 rows; 2 rows of fixes.csv have no label, and leave theirs\n"


@pytest.mark.usefixtures("small")
def test_fixes_are_parquet_too_with_columns_of_other_names(tmp_path, invoke):
    table = pa.table({"key": ["array#0", "array#1"], "kind": pa.array(["c", ""]).dictionary_encode(), "label": [1, 2]})
    pq.write_table(table, "fixes.parquet")
    done = invoke("relabel", "x.knn", "fixes.parquet", "--id-column", "key", "--label-column", "kind")
    assert done.code == 0, done.stderr
    assert open_index(tmp_path / "x.knn").labels.to_pylist() == list("cabbcc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\narray#0,b\n", "fixes.csv: no column 'label' of labels; there are id, name: name one with --label-c"),
        ("key,fix\narray#0,b\n", "fixes.csv: no column 'id' of ids; there are key, fix: name one with --id-column"),
        ("id,fix,fix\narray#0,b,c\n", "fixes.csv: several columns are named 'fix': rename all but one"),
        (
            "id,fix\narray#0,b\n,c\n",
            "fixes.csv: 1 row without an id, or with not as many columns, the first in line 3: mend or leave out s",
        ),
        ("array#0\narray#1\n", "fixes.csv: no column 'label' of labels; there are id: name one with --label-column"),
        ('id,fix\narray#0,"b\narray#1,c\n', "cannot read fixes.csv: unexpected end of data; expected an IDX"),
        ("id,fix\n2,b\n", "x.knn does not store 1 of the 1 ids, the first '2'; nothing was changed: give ids as knnvo"),
    ],
)
def test_files_that_say_no_label_are_refused_and_changed_as_told_are_taken(small, invoke, text, message):
    before = state(small)
    Path("fixes.csv").write_text(text)
    done = invoke("relabel", "x.knn", "fixes.csv")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {message}"), done.stderr
    assert state(small) == before
    named = re.findall(r"name one with (--\S+)", done.stderr)
    if named:
        Path("fixes.csv").write_text("key,name,id\narray#0,b,array#0\n")
        columns = {"--id-column": ("--label-column", "name"), "--label-column": ("--id-column", "key")}[named[0]]
        column = {"--id-column": "key", "--label-column": "name"}[named[0]]
        assert invoke("relabel", "x.knn", "fixes.csv", named[0], column, *columns).code == 0
        assert open_index(small).labels[0].as_py() == "b"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("id,label,fix\narray#0,a,\narray#1,a,b\n", "a column 'fix'"),
        ("id,why,label\narray#0,close vote,\narray#1,close vote,b\n", "columns 'why' and 'label'"),
    ],
)
def test_a_list_to_be_filled_in_is_no_list_of_what_to_remove(small, invoke, text, columns):
    Path("list.csv").write_text(text)
    done = invoke("remove", "x.knn", "--ids", "list.csv")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: list.csv: it has {columns}, as lists to be filled in have, of which few rows may be meant: "
        "give a file of these, or name its column of ids with --id-column if all rows are meant\n"
    )
    assert open_index(small).n == 6
    assert invoke("remove", "x.knn", "--ids", "list.csv", "--id-column", "id").code == 0
    assert open_index(small).n == 4


def test_a_list_of_suspects_without_its_column_tells_which_one_is_read(small, invoke):
    Path("fixes.csv").write_text("id,label,suggested,against,fixed\narray#0,a,b,1,b\n")
    done = invoke("relabel", "x.knn", "fixes.csv")
    told = (
        "note: there is no column 'fix', so labels are read of column 'label', which lists of suspects fill with what"
    )
    assert (done.code, done.stderr.startswith(told)) == (0, True), done.stderr
    named = invoke("relabel", "x.knn", "fixes.csv", "--label-column", "fixed")
    assert (named.code, "note" in named.stderr, open_index(small).labels[0].as_py()) == (0, False, "b")


def test_an_index_that_is_replaced_tells_what_was_mended_in_it(tmp_path, small, invoke):
    images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    relabel(small, "array#0", "b")
    lost = " since it was built: another one of the same files has nothing of that, nor of labels changed before, until"
    with pytest.warns(UserWarning, match=f"x.knn has labels changed{lost}"):
        index_arrays(images, list("abcabc"), small, options=IndexOptions(overwrite=True))
    grown = replace(read_manifest(small), growth=Growth(built=5, added=2, removed=1, measured=5))
    told = "2 images added and 1 image removed since it was built: another one of the same files has nothing of that"
    assert lost_told(grown.growth, grown.relabelled_from).startswith(told)
    write_table(image_table(images, np.array(list("abcabc"))), tmp_path / "a.parquet")
    relabel(small, "array#0", "b")
    for is_mended in (True, False):
        done = invoke("index", "a.parquet", "--out", "x.knn", "--overwrite")
        assert (done.code, f"note: x.knn has labels changed{lost}" in done.stderr) == (0, is_mended), done.stderr


def test_many_new_classes_are_told_in_short(small):
    told = []
    relabel(small, ids_of(range(6)), list("uvwxyz"), told)
    assert told[0] == f"new classes of {small}: u, v, w, x, y and 1 more"


def test_files_of_labels_of_two_types_are_refused(tmp_path):
    for name, labels in {"a": ["x"], "b": [1]}.items():
        pq.write_table(pa.table({"id": [name], "label": labels}), tmp_path / f"{name}.parquet")
    with pytest.raises(KnnvoteError, match="labels are int64 and string in one file and another: give one file"):
        read_fixes([tmp_path / "a.parquet", tmp_path / "b.parquet"])


def test_gaps_in_numbers_are_no_labels(tmp_path):
    pq.write_table(pa.table({"id": list("abc"), "fix": [1.0, float("nan"), None]}), tmp_path / "a.parquet")
    assert read_fixes(tmp_path / "a.parquet")["label"].to_pylist() == [1.0, None, None]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("id,fix\na,1\nb,\nc, \nd,x\n", ["a", "d"]),
        ("id,why,label\na,close vote,1\nb,close vote,\nc,abstained, \n", ["a"]),
        ("id,label,fix,why\na,1,,blurred\nb,1,2,\n", ["b"]),
        ("id,label\na,\nb,1\n", ["a", "b"]),
        ("a\nb\n", ["a", "b"]),
    ],
)
def test_what_was_reviewed_is_a_row_that_is_filled_in_or_of_a_file_of_which_none_is_to_be(tmp_path, text, seen):
    (tmp_path / "a.csv").write_text(text)
    pq.write_table(pa.table({"id": ["p", "q"], "fix": pa.array([3, None])}), tmp_path / "b.parquet")
    assert read_reviewed([tmp_path / "a.csv", tmp_path / "b.parquet"]).to_pylist() == [*seen, "p"]


def test_what_was_removed_is_no_longer_relabelled(small, invoke):
    remove_ids(small, "array#0")
    Path("fixes.csv").write_text("id,fix\narray#0,b\narray#1,b\n")
    assert invoke("relabel", "x.knn", "fixes.csv").code == 1
    Path("fixes.csv").write_text("id,fix\narray#1,b\n")
    assert invoke("relabel", "x.knn", "fixes.csv").code == 0
    assert open_index(small).labels.to_pylist() == list("bbbcc")


# Faults


def out_of_space(*_arguments, **_named):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["seal", "table", "manifest"])
def test_an_index_that_cannot_be_written_is_as_it_was(small, monkeypatch, where):
    before = state(small)
    module = knnvote.indexer.folder.write
    owner, name = {
        "seal": (module, "write_sealed"),
        "table": (module.pq, "ParquetWriter"),
        "manifest": (module, "next_generation"),
    }[where]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, out_of_space)
        with pytest.raises(KnnvoteError, match=r"cannot write .*x\.knn.*: No space left on device"):
            relabel(small, "array#0", "b")
    assert state(small) == before
    assert relabel(small, "array#0", "b") == 1


def test_one_whose_tuning_fails_is_as_it_was(tmp_path):
    data = clusters("uint8", n=300, d=20)
    build_adaptive(tmp_path / "x.knn", data.x, data.y, tune=Tuning())
    before = state(tmp_path / "x.knn")

    def interrupted(**_options):
        def tune(_index):
            raise KeyboardInterrupt

        return tune

    with pytest.raises(KeyboardInterrupt):
        relabel_ids(tmp_path / "x.knn", "array#0", int(data.y[0]) + 1, tuning=interrupted)
    assert state(tmp_path / "x.knn") == before


def test_one_that_is_damaged_or_in_use_is_refused(small):
    with (
        hold_lock(small / LOCK, "held"),
        pytest.raises(KnnvoteError, match=r"another build is writing to .*: wait for it"),
    ):
        relabel(small, "array#0", "b")
    file = next(small.glob("labels-*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    before = state(small)
    with pytest.raises(KnnvoteError, match="nothing was changed: build the index again from its images"):
        relabel(small, "array#0", "b")
    assert state(small) == before
