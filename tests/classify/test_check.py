"""A check of images before any work: classes, bad rows, copies, and rows that two parts share."""

import json
import re

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify import check
from knnvote.classify.check import digests, first_equal
from knnvote.classify.inspection import inspect_images
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table

IMAGES, LABELS = (array[:60] for array in digits())
KINDS = {
    "bytes": lambda images: [image.astype(np.uint8).tobytes() for image in images],
    "PNG": lambda images: [imagecodecs.png_encode(image.astype(np.uint8)) for image in images],
    "lists": lambda images: images.astype(np.float64).tolist(),
    "tensors": lambda images: pa.FixedShapeTensorArray.from_numpy_ndarray(images.astype(np.int64)),
    "halves": lambda images: pa.FixedShapeTensorArray.from_numpy_ndarray(images.astype(np.float32) / 7),
}


def write(path, images, labels=None, **columns):
    path.parent.mkdir(exist_ok=True)
    of_labels = {} if labels is None else {"label": labels}
    pq.write_table(pa.table({"image": images, **of_labels, **columns}), path)
    return path


def checked(*paths, **options):
    paths = [*map(str, paths)]
    return inspect_images(paths, find_inputs(paths), **options)["check"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int64, np.float16, np.float32, np.float64])
def test_equal_digests_are_equal_numbers(dtype):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (400, 4)).astype(dtype)
    if np.dtype(dtype).kind in "if":
        images[::3] *= -1
    if np.dtype(dtype).kind == "f":
        images[1::3] /= 4
    found = first_equal(digests(images))
    brute = [int(np.flatnonzero((images == image).all(axis=1))[0]) for image in images]
    assert found.tolist() == brute
    assert 2 < len(set(brute)) < 400


def test_numbers_are_equal_whatever_their_types():
    of_types = [IMAGES.reshape(60, -1).astype(kind) for kind in (np.uint8, np.int64, np.float32)]
    assert first_equal(np.concatenate([digests(images) for images in of_types])).tolist() == [*range(60)] * 3


@pytest.mark.parametrize("batch", [7, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_all_is_told_of_each_kind_of_images(tmp_path, monkeypatch, kind, batch):
    monkeypatch.setattr(check, "_BATCH", batch)
    images, labels = IMAGES.copy(), [f"class {label}" for label in LABELS]
    images[9], images[40] = images[2], images[2]
    labels[9], labels[40], labels[5] = labels[2], "another", None
    train = write(tmp_path / "in" / "train.parquet", KINDS[kind](images[:50]), labels[:50])
    images[55], labels[55] = images[30], labels[30]
    test = write(tmp_path / "in" / "test.parquet", KINDS[kind](images[50:]), labels[50:])
    found = checked(tmp_path / "in")

    def place(path, row):
        return {"file": str(path), "row": row}

    assert (found["rows"], found["images"], found["task"]) == (60, 60, "classification")
    counts = {entry["label"]: entry["rows"] for entry in found["classes"]}
    assert counts == {label: labels.count(label) for label in sorted({*labels} - {None})}
    assert list(counts) == sorted(counts)
    assert found["unlabelled"] == {"rows": 1, "first": place(train, 5)}
    assert found["bad"] == []
    assert found["copies"] == {"rows": 3, "first": [place(train, 2), place(train, 9)]}
    assert found["unlike_copies"] == {"rows": 1, "first": [place(train, 2), place(train, 40)]}
    assert found["parts"] == ["train", "test"]
    assert found["shared"] == [
        {"part": "test", "among": "train", "rows": 1, "first": [place(train, 30), place(test, 5)]}
    ]


def test_bad_rows_are_counted_by_reason_with_the_first_of_each(tmp_path, invoke):
    images = IMAGES.reshape(60, -1).astype(float).tolist()
    images[4] = images[7] = None
    images[6][3] = images[20][5] = float("nan")
    write(tmp_path / "a.parquet", images[:15], LABELS[:15])
    write(tmp_path / "b.parquet", images[15:], LABELS[15:])
    shown = invoke("inspect", "a.parquet", "b.parquet", "--json")
    found = json.loads(shown.stdout)["check"]
    assert (found["rows"], found["images"]) == (60, 56)
    assert found["bad"] == [
        {
            "reason": "null vector",
            "rows": 2,
            "first": {"file": "a.parquet", "row": 4},
            "first_reason": "null vector",
        },
        {
            "reason": "value N is NaN",
            "rows": 2,
            "first": {"file": "a.parquet", "row": 6},
            "first_reason": "value 3 is NaN",
        },
    ]
    shown = invoke("inspect", "a.parquet", "b.parquet")
    assert (shown.code, shown.stderr) == (0, "")
    assert "bad rows    2, the first a.parquet, row 4: null vector" in shown.stdout
    assert "            2, the first a.parquet, row 6: value 3 is NaN" in shown.stdout


def test_what_an_index_would_refuse_of_labels_is_told(tmp_path):
    table = image_table(IMAGES[:4].astype(np.int64), np.array([0, 1, -1, 2]))
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}),
        tmp_path / "a.parquet",
    )
    found = checked(tmp_path / "a.parquet")
    assert [entry["shown"] for entry in found["classes"]] == ["0 (cat)", "1 (dog)"]
    assert found["unlabelled"]["first"]["row"] == 2
    assert [(entry["reason"], entry["rows"]) for entry in found["bad"]] == [
        ("label 2 has no name: 2 classes have one", 1)
    ]


def test_whole_numbers_that_no_float_holds_are_bad_rows(tmp_path):
    images = np.array([[1, 2], [2**53 + 1, 3], [2**53, 3]])
    write_table(image_table(images, np.arange(3)), tmp_path / "a.parquet")
    found = checked(tmp_path / "a.parquet")
    assert (found["images"], found["copies"]["rows"]) == (2, 0)
    assert [entry["reason"].partition(",")[0] for entry in found["bad"]] == ["value 9007199254740993 is beyond 2**53"]


def test_numbers_to_be_averaged_are_no_classes(tmp_path, invoke):
    write(tmp_path / "a.parquet", IMAGES.reshape(60, -1).tolist(), LABELS / 4)
    assert checked(tmp_path / "a.parquet")["task"] == "regression"
    assert "labels    numbers from 0 to 2.25, for --task regression" in invoke("inspect", "a.parquet").stdout


def test_labels_that_name_images_are_told_to_be_ids(tmp_path, invoke):
    write(tmp_path / "a.parquet", IMAGES.reshape(60, -1).tolist(), LABELS, name=[f"img{row}" for row in range(60)])
    shown = invoke("inspect", "a.parquet", "--label-column", "name")
    assert "60 classes  labels are nearly all unlike each other, so they look like ids: --label-column" in shown.stdout
    assert "10 classes  0: " in invoke("inspect", "a.parquet", "--label-column", "label").stdout


def test_labels_that_look_the_same_are_told_by_inspect_and_once_by_index(tmp_path, invoke):
    write(
        tmp_path / "a.parquet", IMAGES.reshape(60, -1).tolist(), [("cat", "dog", "cat ")[row % 3] for row in range(60)]
    )
    told = "labels differ in blanks or in characters that are not seen, and in nothing else: 'cat' and 'cat ';"
    assert told in " ".join(invoke("inspect", "a.parquet").stdout.split())
    assert checked(tmp_path / "a.parquet")["labels_alike"].startswith(told)
    assert invoke("index", "a.parquet", "--out", "x.knn").stderr.count(f"note: {told}") == 1


def test_of_many_classes_the_largest_and_the_smallest_are_told(tmp_path, invoke):
    labels = [f"{row % 25:02}" for row in range(58)] + ["one", "two"]
    write(tmp_path / "a.parquet", IMAGES.reshape(60, -1).tolist(), labels)
    shown = invoke("inspect", "a.parquet").stdout
    assert "27 classes  largest 00: 3, 01: 3, " in shown
    assert "            smallest two: 1, one: 1, 24: 2, " in shown
    assert len(checked(tmp_path / "a.parquet")["classes"]) == 27


def test_why_there_are_no_labels_is_told(tmp_path, invoke):
    pq.write_table(
        pa.table({"image": IMAGES.reshape(60, -1).tolist(), "kind": LABELS, "maker": LABELS}), tmp_path / "a.parquet"
    )
    told = "several columns could be the label: kind (int64), maker (int64); name one with --label-column"
    assert f"classes   none: {told}" in invoke("inspect", "a.parquet").stdout
    assert "10 classes" in invoke("inspect", "a.parquet", "--label-column", "kind").stdout
    refused = invoke("inspect", "a.parquet", "--label-column", "nix")
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: a.parquet: no column 'nix' for --label-column; there are image")


@pytest.mark.parametrize("ids", [[f"k{row}" for row in range(20)], [*range(1000, 1020)]])
def test_a_column_of_another_value_in_each_row_is_no_label_and_one_that_repeats_is(tmp_path, invoke, ids):
    images = IMAGES[:20].reshape(20, -1).tolist()
    pq.write_table(pa.table({"image": images, "key": ids}), tmp_path / "ids.parquet")
    pq.write_table(pa.table({"image": images, "kind": [*ids[:19], ids[0]]}), tmp_path / "kinds.parquet")
    pq.write_table(pa.table({"image": images, "age": np.arange(20) / 7}), tmp_path / "ages.parquet")
    told = "column 'key' holds another value in each row, as ids do; --label-column names it if it is the label's"
    assert f"classes   none: {told}" in invoke("inspect", "ids.parquet").stdout
    assert json.loads(invoke("inspect", "ids.parquet", "--json", "--quick").stdout)["files"][0]["no_label"] == told
    assert "20 classes" in invoke("inspect", "ids.parquet", "--label-column", "key").stdout
    assert "19 classes" in invoke("inspect", "kinds.parquet").stdout
    assert "numbers from 0 to 2.71429" in invoke("inspect", "ages.parquet").stdout


def test_what_is_guessed_beside_files_with_labels_or_of_two_kinds_is_no_label(tmp_path, invoke):
    images = IMAGES[:20].reshape(20, -1).tolist()
    write(tmp_path / "a.parquet", IMAGES[:30].reshape(30, -1).tolist(), LABELS[:30])
    for name, column, values in (
        ("b", "kind", [row % 2 for row in range(20)]),
        ("c", "kind", ["xy"[row % 2] for row in range(20)]),
    ):
        pq.write_table(pa.table({"image": images, column: values}), tmp_path / f"{name}.parquet")
    beside = json.loads(invoke("inspect", "a.parquet", "b.parquet", "--json").stdout)
    assert [file["label_column"] for file in beside["files"]] == ["label", None]
    assert beside["files"][1]["no_label"].startswith("no column 'label', which holds the labels of a.parquet; --label")
    assert beside["check"]["unlabelled"] == {"rows": 20, "first": {"file": "b.parquet", "row": 0}}
    unlike = json.loads(invoke("inspect", "b.parquet", "c.parquet", "--json").stdout)
    assert [file["label_column"] for file in unlike["files"]] == [None, None]
    told = "column 'kind' holds number in one file and string in another, as no labels do; --label-column names it"
    assert unlike["files"][0]["no_label"].startswith(told)
    assert json.loads(invoke("inspect", "b.parquet", "--json").stdout)["files"][0]["label_column"] == "kind"


def test_arguments_are_compared_where_no_names_tell_splits(tmp_path):
    one = write(tmp_path / "one.parquet", IMAGES[:30].reshape(30, -1).tolist(), LABELS[:30])
    other = write(tmp_path / "other.parquet", IMAGES[20:].reshape(40, -1).tolist(), LABELS[20:])
    third = write(tmp_path / "third" / "a.parquet", IMAGES[25:40].reshape(15, -1).tolist(), LABELS[25:40])
    found = checked(one, other, third.parent)
    assert found["parts"] == [str(one), str(other), str(third.parent)]
    assert [(of["part"], of["among"], of["rows"]) for of in found["shared"]] == [
        (str(other), str(one), 10),
        (str(third.parent), str(one), 5),
        (str(third.parent), str(other), 15),
    ]
    assert found["shared"][1]["first"] == [{"file": str(one), "row": 25}, {"file": str(third), "row": 0}]
    assert checked(one)["shared"] == []


def test_a_file_that_breaks_off_is_told_and_the_others_are_checked(tmp_path, invoke):
    write(tmp_path / "a.parquet", IMAGES[:30].reshape(30, -1).tolist(), LABELS[:30])
    table = pa.table({"image": np.tile(IMAGES.reshape(60, -1), (4, 1)).tolist(), "label": np.tile(LABELS, 4)})
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=120)
    chunk = pq.read_metadata(tmp_path / "b.parquet").row_group(1).column(1)
    content = bytearray((tmp_path / "b.parquet").read_bytes())
    start, size = chunk.dictionary_page_offset, chunk.total_compressed_size
    content[start : start + size] = bytes(size)
    (tmp_path / "b.parquet").write_bytes(content)
    facts = json.loads(invoke("inspect", "a.parquet", "b.parquet", "--json").stdout)
    assert "cannot read b.parquet" in facts["files"][1]["error"]
    assert "error" not in facts["files"][0]
    assert facts["check"]["rows"] == 30
    assert sum(entry["rows"] for entry in facts["check"]["classes"]) == 30


def test_a_quick_look_reads_the_first_rows_alone(tmp_path, invoke):
    write(tmp_path / "a.parquet", IMAGES.reshape(60, -1).tolist(), LABELS)
    shown = invoke("inspect", "a.parquet", "--quick")
    assert len(shown.stdout.splitlines()) == 3
    assert json.loads(invoke("inspect", "a.parquet", "--quick", "--json").stdout)["check"] is None


def test_options_of_images_are_heeded_and_refused_of_an_index(tmp_path, invoke, exact_index):
    colour = np.stack([IMAGES * 15, IMAGES * 5, IMAGES], axis=-1).astype(np.uint8)
    write(tmp_path / "a.parquet", [imagecodecs.png_encode(image) for image in colour], LABELS)
    refused = invoke("inspect", "a.parquet")
    assert refused.code == 1
    assert "pass --grayscale to convert it" in refused.stderr
    assert "readable    60 of 60 rows" in invoke("inspect", "a.parquet", "--grayscale").stdout
    assert checked(tmp_path / "a.parquet", images=ImageOptions(grayscale=True))["images"] == 60
    wrong = invoke("inspect", exact_index, "--quick", "--shape", "8x8")
    assert wrong.code == 2
    assert f"--quick, --shape: of files of images alone, and {exact_index} is none" in wrong.stderr


def test_of_many_files_alike_twenty_are_listed_and_the_others_summed_up(tmp_path, invoke):
    for number in range(23):
        write_table(image_table(np.zeros((2, 4, 4), np.uint8), [number, 0]), tmp_path / "in" / f"{number:02}.parquet")
    (tmp_path / "in" / "zz.parquet").write_text("broken")
    told = invoke("inspect", "in", "--quick").stdout
    assert len(re.findall(r"^in/\d\d.parquet", told, re.MULTILINE)) == 20
    assert "in/19.parquet" in told
    assert "in/20.parquet" not in told
    assert re.search(r"3 more +6 +tensors, 4 x 4, in column 'image' +--json tells", told)
    assert "cannot read in/zz.parquet" in told
