"""Groups of stored images: read, kept whatever becomes of the index, told, and refused where they are none."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote import TrainingOptions, Tuning, index_arrays, index_files, join_labels, open_index
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.layout import ImageOptions
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions
from knnvote.indexer.folder.verify import verify_folder
from knnvote.indexer.groups.column import read_groups
from knnvote.indexer.groups.record import Groups, number_groups, told_of_lone_classes
from knnvote.indexer.grow import add_files, compact, relabel_ids, remove_ids
from knnvote.indexer.manifest import Manifest

IMAGES, LABELS = (array[:160] for array in digits())
PATIENTS = [f"p{row // 8}" for row in range(160)]
BY_PATIENT = TrainingOptions(group_column="patient")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, rows=slice(0, 160), **columns):
    table = image_table(IMAGES[rows], LABELS[rows])
    for name, values in columns.items():
        table = table.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    write_table(table, Path(path))
    return path


def groups_of(index):
    return open_index(index).provenance("group")["group"].to_pylist()


@pytest.mark.parametrize("kind", ["exact", "adaptive", "hnsw"])
def test_groups_are_kept_with_the_images_whatever_comes_and_goes(kind):
    write("a.parquet", slice(0, 100), patient=PATIENTS[:100])
    write("b.parquet", slice(100, 160), person=PATIENTS[100:])
    index_files("a.parquet", "x.knn", training=BY_PATIENT, options=IndexOptions(kind=kind, threads=1))
    assert groups_of("x.knn") == PATIENTS[:100]
    assert open_index("x.knn").manifest.groups == Groups(column="patient", count=13, largest=8)
    add_files("x.knn", "b.parquet", training=TrainingOptions(group_column="person"), threads=1)
    assert groups_of("x.knn") == PATIENTS
    assert open_index("x.knn").manifest.groups == Groups(column="patient", count=20, largest=8)
    remove_ids("x.knn", [f"a.parquet#{row}" for row in range(12)], threads=1)
    assert groups_of("x.knn") == PATIENTS[12:]
    assert open_index("x.knn").manifest.groups == Groups(column="patient", count=19, largest=8)
    relabel_ids("x.knn", "b.parquet#3", int(LABELS[103]) ^ 1, threads=1)
    compact("x.knn", threads=1)
    assert groups_of("x.knn") == PATIENTS[12:]
    index = open_index("x.knn")
    assert verify_folder(index.path) == []
    same = np.array(PATIENTS[12:])
    assert np.array_equal(index.groups[:, None] == index.groups, same[:, None] == same)


def test_an_index_without_groups_says_nothing_of_them():
    index_files(write("a.parquet", patient=PATIENTS), "x.knn", training=TrainingOptions(label_column="label"))
    index = open_index("x.knn")
    assert "groups" not in index.manifest.to_json()
    assert index.provenance().column_names == ["label", "id", "file", "row"]
    assert index.groups is None


def test_a_column_of_groups_is_neither_taken_for_labels_nor_for_images():
    table = pa.table(
        {"image": IMAGES.reshape(-1, 64).tolist(), "what": LABELS, "where": [row // 8 for row in range(160)]}
    )
    pq.write_table(table, "a.parquet")
    index_files("a.parquet", "x.knn", training=TrainingOptions(group_column="where"))
    assert open_index("x.knn").manifest.label_column == "what"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([1, 2, None], ["1", "2", None]),
        (pa.array([1.0, 2.0, float("nan")]), ["1", "2", None]),
        (pa.array([1, None], pa.float16()), ["1", None]),
        (["a", "", "  ", " b", "a\t"], ["a", None, None, "b", "a"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.nulls(2), [None, None]),
        ([True, False], ["true", "false"]),
    ],
)
def test_groups_are_names_whatever_type_they_have(given, read):
    found = read_groups(given if isinstance(given, pa.Array) else pa.array(given), "here")
    assert found.type == pa.string()
    assert found.to_pylist() == read


@pytest.mark.parametrize("given", [[0.5, 1.0], [[1], [2]], [{"a": 1}]])
def test_what_names_no_group_is_refused(given):
    with pytest.raises(KnnvoteError, match=r"here: values of type .* name no groups: give whole numbers or texts"):
        read_groups(pa.array(given), "here")


def test_images_without_a_group_are_each_one_of_its_own_and_told():
    numbers = number_groups(pa.chunked_array([["a", None], ["b", None, "a"]]))
    assert numbers[0] == numbers[4]
    assert len({*numbers.tolist()}) == 4
    notes = []
    patients = [None if row % 16 == 5 else patient for row, patient in enumerate(PATIENTS)]
    index_files(write("a.parquet", patient=patients), "x.knn", training=BY_PATIENT, tell=notes.append)
    (note,) = notes
    assert note.startswith("10 of 160 images have no group: each counts as a group of its own, and near copies of it")
    assert open_index("x.knn").manifest.groups == Groups(column="patient", count=30, largest=8)


def test_classes_of_one_group_alone_are_told():
    groups = np.array([0, 0, 1, 1, 2, 3, 3])
    one = told_of_lone_classes(pa.array(["a", "a", "a", "b", "b", "c", "c"]), groups, None)
    assert one.startswith("all images of class c are of one group: with that left out no other has their label")
    several = told_of_lone_classes(pa.array([0, 0, 1, 1, 2, 0, 0]), np.array([0, 1, 1, 1, 2, 3, 3]), ["x", "y", "z"])
    assert several.startswith("all images of class 1 (y) are of one group")
    assert told_of_lone_classes(pa.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 2, 2]), None).startswith(
        "3 classes have images of one group alone (0, 1, 2)"
    )
    assert told_of_lone_classes(pa.array([0, 1, 0]), np.array([0, 0, 1]), None) is None  # one image is no group of its


def test_groups_of_arrays_are_kept_and_named_where_files_are_added():
    index_arrays(IMAGES, LABELS, "x.knn", groups=np.arange(160) // 8)
    assert open_index("x.knn").manifest.groups == Groups(column=None, count=20, largest=8)
    more = write("b.parquet", slice(0, 20), patient=[7] * 20)
    with pytest.raises(OptionError, match=r"images of x\.knn have groups: name those of new ones"):
        add_files("x.knn", more)
    add_files("x.knn", more, training=BY_PATIENT)
    assert open_index("x.knn").manifest.groups == Groups(column=None, count=20, largest=28)
    with pytest.raises(KnnvoteError, match="3 groups for 160 images"):
        index_arrays(IMAGES, LABELS, "y.knn", groups=[1, 2, 3])
    for wrong in (["a", 1] * 80, np.zeros((160, 2)), 5, "a" * 160):
        with pytest.raises(OptionError, match=r"^groups .*: give one whole number or text an image, None where it"):
            index_arrays(IMAGES, LABELS, "y.knn", groups=wrong)
    with pytest.raises(KnnvoteError, match=r"all 160 images are of one group, .*: give other groups, or none"):
        index_arrays(IMAGES, LABELS, "y.knn", groups=["a"] * 160)


REFUSED = {
    "patients": r"no column 'patients' for group_column; there are image, label, patient",
    "label": r"column 'label' holds the labels, no groups: name another with group_column",
    "image": r"column 'image' holds images, no groups: name another with group_column",
}


@pytest.mark.parametrize("column", REFUSED)
def test_a_column_that_is_none_of_groups_is_refused(column):
    training = TrainingOptions(group_column=column, images=ImageOptions(image_column="image"))
    with pytest.raises(KnnvoteError, match=REFUSED[column]):
        index_files(write("a.parquet", patient=PATIENTS), "x.knn", training=training)


def test_one_group_of_all_is_refused_and_the_command_that_helps_works(invoke):
    write("a.parquet", patient=["p"] * 160)
    done = invoke("index", "a.parquet", "--out", "x.knn", "--group-column", "patient", "--label-column", "label")
    assert done.code == 1
    assert done.stderr == (
        "error: all 160 images are of one group by column 'patient', and with it left out nothing is left to judge "
        "them by: name another column with --group-column, or none\n"
    )
    assert not Path("x.knn").exists()
    assert invoke("index", "a.parquet", "--out", "x.knn", "--label-column", "label").code == 0
    done = invoke("add", "x.knn", "a.parquet", "--group-column", "patient")
    assert done.code == 2
    assert "x.knn has no groups" in done.stderr


def test_a_file_without_the_index_s_column_is_refused():
    index_files(write("a.parquet", patient=PATIENTS), "x.knn", training=BY_PATIENT)
    with pytest.raises(KnnvoteError, match=r"no column 'patient' for group_column; there are image, label"):
        add_files("x.knn", write("b.parquet", slice(0, 20)))


def test_groups_may_stand_in_the_table_of_labels():
    """As lesions do beside images of skin: several pictures of one."""
    write_table(image_table(IMAGES), Path("a.parquet"))
    lines = [
        f"a.parquet#{row},{label},{patient}" for row, (label, patient) in enumerate(zip(LABELS, PATIENTS, strict=True))
    ]
    Path("labels.csv").write_text("\n".join(["id,label,lesion", *lines]) + "\n")
    inputs = join_labels("a.parquet", "labels.csv", group_column="lesion")
    index_files(inputs, "x.knn", training=TrainingOptions(group_column="lesion"))
    assert groups_of("x.knn") == PATIENTS
    assert open_index("x.knn").labels.to_pylist() == LABELS.tolist()


def test_the_command_tells_groups_and_so_do_inspect_and_a_dry_run(invoke):
    write("a.parquet", patient=PATIENTS)
    command = ("index", "a.parquet", "--out", "x.knn", "--group-column", "patient")
    assert invoke(*command, "--dry-run").code == 0
    done = invoke(*command)
    told = "20 groups by column 'patient', the largest of 8 images: an image is left out with its group"
    assert done.code == 0
    assert told in done.stderr.splitlines()
    assert told in " ".join(invoke("inspect", "x.knn").stdout.split())
    facts = json.loads(invoke("inspect", "x.knn", "--json").stdout)
    assert facts["groups"] == {"column": "patient", "count": 20, "largest": 8}


def test_the_first_rows_may_be_of_one_group_in_a_dry_run(invoke):
    write("a.parquet", patient=["p"] * 159 + ["q"])
    command = ("index", "a.parquet", "--out", "x.knn", "--group-column", "patient", "--target-accuracy", "0.5")
    assert invoke(*command, "--limit", "100", "--dry-run").code == 0


@pytest.mark.parametrize("wrong", [{"count": 0}, {"largest": 161}, {"column": 3}, {"count": 160}, {"more": 1}])
def test_a_manifest_of_other_groups_is_none(wrong):
    index_files(write("a.parquet", patient=PATIENTS), "x.knn", training=BY_PATIENT)
    record = json.loads(Path("x.knn/manifest.json").read_text())
    assert Manifest.from_json(record).to_json() == {name: record[name] for name in record if name != "checksum"}
    record["groups"] |= wrong
    with pytest.raises(ValueError, match="groups"):
        Manifest.from_json(record)


def test_a_due_tuning_of_what_is_left_of_one_group_is_not_made():
    """Removed to one group, an adaptive index has nothing to be tuned by, and asks exact search."""
    index_arrays(
        IMAGES, LABELS, "x.knn", groups=np.arange(160) // 80, options=IndexOptions(kind="adaptive"), tune=Tuning()
    )
    remove_ids("x.knn", [f"array#{row}" for row in range(80, 160)], tuning=Tuning)
    index = open_index("x.knn")
    assert index.manifest.groups == Groups(column=None, count=1, largest=80)
    assert index.tuned.queries == 0
