"""Labels in a table of their own: joined by ids, paths or names of files, and what does not fit told."""

import io
import json
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from repeats import repeats

from knnvote import TrainingOptions, compare, index_arrays, index_files, join_labels, open_index
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.input_file import tell_unused_labels
from knnvote.data.inputs import find_inputs
from knnvote.data.tables import image_table, write_table

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 5, 4), np.uint8)
LABELS = [i % 3 for i in range(30)]
PATHS = [f"{'ab'[i % 2]}/{i:03d}.png" for i in range(30)]


@cache
def png(i):
    stream = io.BytesIO()
    Image.fromarray(PIXELS[i]).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, path in enumerate(PATHS):
        Path("in", path).parent.mkdir(parents=True, exist_ok=True)
        Path("in", path).write_bytes(png(i))
    write_table(image_table(PIXELS), Path("rows.parquet"))
    own = pa.table({"image": [png(i) for i in range(30)], "key": [f"k{i:03d}" for i in range(30)]})
    pq.write_table(own, "own.parquet")
    with tarfile.open("shard.tar", "w") as archive:
        for i in range(30):
            member = tarfile.TarInfo(f"s{i:03d}.png")
            member.size = len(png(i))
            archive.addfile(member, io.BytesIO(png(i)))
    return tmp_path


def csv(name, keys, labels=None, header="id,label"):
    rows = zip(keys, LABELS if labels is None else labels, strict=False)
    Path(name).write_text("\n".join([header, *(f"{key},{label}" for key, label in rows)]) + "\n")
    return name


def stored(index):
    return {row["id"]: row["label"] for row in pq.read_table(Path(index, "labels-1.parquet")).to_pylist()}


@pytest.mark.parametrize(
    ("images", "keys", "ids", "header"),
    [
        ("in", PATHS, PATHS, "file_name,label"),
        ("in", [Path(path).name for path in PATHS], PATHS, "image,y"),
        ("rows.parquet", [f"rows.parquet#{i}" for i in range(30)], None, "id,klass"),
        ("own.parquet", [f"k{i:03d}" for i in range(30)], None, "key,label"),
        ("own.parquet", [f"k{i:03d}" for i in range(30)], None, "KEY,Class"),
        ("shard.tar", [f"s{i:03d}" for i in range(30)], [f"shard.tar#s{i:03d}" for i in range(30)], "anything,label"),
    ],
)
def test_rows_have_the_labels_of_their_ids_paths_or_names(here, images, keys, ids, header):
    expected = dict(zip(ids or keys, LABELS, strict=True))
    csv("labels.csv", keys[::-1], LABELS[::-1], header)
    index_files(join_labels(images, "labels.csv"), here / "x.knn")
    assert stored("x.knn") == expected
    key, label = header.split(",")
    pq.write_table(pa.table({"more": LABELS, label: LABELS, key: keys}), "labels.parquet")
    index_files(join_labels(images, "labels.parquet", label_column=label, id_column=key), here / "y.knn")
    assert stored("y.knn") == expected
    found = compare(join_labels(images, "labels.csv"), open_index("x.knn"))
    assert found.unlabelled == 0
    assert found.indexes[0].accuracy is not None


def test_the_commands_take_them(invoke, here):
    csv("labels.csv", PATHS[:20])
    csv("more.csv", PATHS[20:], LABELS[20:])
    done = invoke("index", "in", "--labels", "labels.csv", "--out", "x.knn")
    assert (done.code, done.stderr.startswith("error: in/a/020.png: no label; mend it, or pass --skip-bad")) == (
        1,
        True,
    )
    assert invoke("index", "in", "--labels", "labels.csv", "--out", "x.knn", "--skip-bad").code == 0
    assert invoke("add", "x.knn", "in", "--labels", "more.csv", "--skip-bad").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["n"] == 30
    done = invoke("compare", "in", "--labels", "labels.csv", "--index", "x.knn", "--json")
    assert json.loads(done.stdout)["unlabelled"] == 10
    done = invoke("compare", "in", "--id-column", "id", "--index", "x.knn")
    assert (done.code, "give one with --labels" in done.stderr) == (2, True)
    assert here.is_dir()


@pytest.mark.usefixtures("here")
def test_a_table_of_few_ids_that_a_column_of_the_images_holds_adds_these_rows_alone(invoke):
    """As a list of rows to look at is filled in."""
    table = pq.read_table("rows.parquet")
    pq.write_table(table.append_column("name", pa.array([f"n{i}" for i in range(30)])), "named.parquet")
    csv("labels.csv", PATHS)
    assert invoke("index", "in", "--labels", "labels.csv", "--out", "x.knn").code == 0
    csv("few.csv", ["n3", "n29"], [2, 1])
    done = invoke("add", "x.knn", "named.parquet", "--labels", "few.csv", "--id-column", "name", "--skip-bad")
    assert (done.code, done.stderr.splitlines()[0]) == (0, "x.knn: 2 images added")
    grown = open_index("x.knn")
    assert dict(zip(grown.ids.to_pylist()[30:], grown.labels.to_pylist()[30:], strict=True)) == {"n3": 2, "n29": 1}
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["skipped"] == 0
    other = invoke("add", "x.knn", "named.parquet", "--labels", "few.csv", "--skip-bad")
    assert other.stderr == (
        "error: named.parquet has no column 'id', and its column 'name' has the ids of few.csv: join them with "
        "--id-column name\n"
    )
    wrong = invoke("add", "x.knn", "named.parquet", "--labels", "few.csv", "--id-column", "nome", "--skip-bad")
    assert wrong.stderr.startswith("error: neither named.parquet nor few.csv has a column 'nome' for --id-column")


def test_the_table_counts_before_a_column_of_the_same_name(here):
    csv("labels.csv", PATHS, ["x"] * 30)
    index_files(join_labels("in", "labels.csv"), here / "x.knn")
    assert {*stored("x.knn").values()} == {"x"}


def test_labels_of_no_image_are_told_and_so_is_a_table_of_other_ids(here):
    csv("labels.csv", [*PATHS, "gone.png", "lost.png"], [*LABELS, 1, 2])
    with pytest.warns(UserWarning, match=r"^labels\.csv: 2 of 32 labels are of no image, the first of 'gone\.png'$"):
        index_files(join_labels("in", "labels.csv"), here / "x.knn")
    csv("others.csv", [f"p{i}" for i in range(30)], [1] * 30)
    with (
        pytest.warns(
            UserWarning, match=r"none of the first 15 rows of in/a has a label in others\.csv.*such as 'p0'.*'a/000"
        ),
        pytest.raises(KnnvoteError, match=r"in/a/000\.png: no label"),
    ):
        index_files(join_labels("in", "others.csv"), here / "y.knn")


@pytest.mark.parametrize(
    ("keys", "labels", "header", "message"),
    [
        ([*PATHS, PATHS[0]], [*LABELS, 2], "id,label", "'a/000.png' has two labels, 0 and 2: leave in the right one"),
        (PATHS, LABELS, "a,b", "which of the columns a, b holds labels"),
        (["", "x"], [1, 2], "id,label", "1 ids are missing"),
    ],
)
def test_tables_that_do_not_tell_are_refused(here, keys, labels, header, message):
    csv("labels.csv", keys, labels, header)
    with pytest.raises(ImageFileError, match=message):
        join_labels("in", "labels.csv")
    with pytest.raises(ImageFileError, match=r"no column 'nothing' for .*; there are"):
        join_labels("in", "labels.csv", label_column="nothing")
    assert here.is_dir()


def test_rows_that_repeat_a_key_with_its_label_are_told(here):
    csv("labels.csv", [*PATHS, *PATHS[:2]], [*LABELS, *LABELS[:2]])
    with pytest.warns(UserWarning, match="2 of 32 rows repeat a key with the same label"):
        inputs = join_labels("in", "labels.csv")
    index_files(inputs, here / "x.knn")
    assert stored("x.knn") == dict(zip(PATHS, LABELS, strict=True))


@pytest.mark.parametrize(
    "labels", [pa.array([None, 1, 2, None, 1, 0]), pa.array([np.nan, 1, 2, None, 1, 0]), ["", "x", "y", " ", "x", "z"]]
)
def test_a_blank_row_is_no_second_label_of_its_key(here, labels):
    keys = ["rows.parquet#4", "rows.parquet#4", "rows.parquet#2", "rows.parquet#3", "rows.parquet#4", "rows.parquet#3"]
    pq.write_table(
        pa.table(
            {
                "id": [*keys, "rows.parquet#2"],
                "label": pa.concat_arrays([pa.array(labels), pa.array(labels).slice(0, 1)]),
            }
        ),
        "labels.parquet",
    )
    with pytest.warns(UserWarning, match="labels.parquet: 1 of 7 rows repeat a key with the same label"):
        inputs = join_labels("rows.parquet", "labels.parquet")
    index_files(inputs, here / "x.knn", training=TrainingOptions(skip_bad=True), tell=print)
    filled = pa.array(labels).to_pylist()
    assert stored("x.knn") == {"rows.parquet#2": filled[2], "rows.parquet#3": filled[5], "rows.parquet#4": filled[1]}
    pq.write_table(pa.table({"id": ["a", "a", "a"], "label": pa.array(labels).take([0, 1, 2])}), "labels.parquet")
    with pytest.raises(ImageFileError, match=r"'a' has two labels, [1x].* and [2y].*: leave in the right one"):
        join_labels("rows.parquet", "labels.parquet")


def test_the_name_of_two_files_is_no_key(here):
    Path("in/b/000.png").write_bytes(png(0))
    csv("labels.csv", [Path(path).name for path in PATHS])
    with pytest.raises(
        ImageFileError, match=r"000\.png is the name of several rows, a/000\.png and b/000\.png: give these"
    ):
        index_files(join_labels("in", "labels.csv"), here / "x.knn")


def test_rows_are_joined_whatever_is_read_and_in_whatever_batches(here):
    csv("labels.csv", [f"rows.parquet#{i}" for i in range(30)])
    (source,) = join_labels("rows.parquet", "labels.csv")
    with source.open_rows() as rows:
        for columns in (["label"], ["image", "label"], ["label", "image"], ["image"]):
            batches = list(rows.batches(columns, 7))
            assert {tuple(batch.schema.names) for batch in batches} == {tuple(columns)}
            found = [label for batch in batches for label in batch.to_pydict().get("label", [None] * batch.num_rows)]
            assert found == (LABELS if "label" in columns else [None] * 30)
            taken = list(rows.take(np.array([2, 29]), columns, 8))
            assert [number for numbers, _ in taken for number in numbers.tolist()] == [2, 29]
            if "label" in columns:
                assert [label for _, table in taken for label in table["label"].to_pylist()] == [2, 2]
    tell_unused_labels(find_inputs("in"))
    assert here.is_dir()


def test_a_table_that_lies_beside_images_without_class_folders_is_told_and_taken(invoke, here):
    flat = here / "flat"
    flat.mkdir()
    for i in range(6):
        (flat / f"{i}.png").write_bytes(png(i))
    csv("flat/metadata.csv", [f"{i}.png" for i in range(6)], header="file_name,label")
    done = invoke("index", "flat", "--out", "x.knn")
    assert (done.code, done.stderr.endswith("--labels flat/metadata.csv takes them\n")) == (1, True)
    assert invoke("index", "flat", "--labels", "flat/metadata.csv", "--out", "x.knn").code == 0
    assert stored("x.knn") == {f"{i}.png": i % 3 for i in range(6)}


@pytest.mark.usefixtures("here")
def test_a_list_to_be_filled_in_is_no_table_of_labels_but_for_its_fixes(invoke):
    csv("l.csv", PATHS)
    assert invoke("index", "in", "--labels", "l.csv", "--out", "x.knn").code == 0
    csv("filled.csv", PATHS[:4], ["0,2", "1,1", "2,", "0,1"], header="id,label,fix")
    given = ("index", "in", "--labels", "filled.csv", "--out", "y.knn", "--skip-bad")
    done = invoke(*given)
    assert (done.code, "knnvote relabel X.knn filled.csv mends an index of the images; " in done.stderr) == (1, True)
    assert "--label-column fix takes the labels of that column alone" in done.stderr
    assert invoke(*given, "--label-column", "fix").code == 0
    assert stored("y.knn") == {PATHS[0]: 2, PATHS[1]: 1, PATHS[3]: 1}
    assert "x.knn: 2 labels changed by 3 rows" in invoke("relabel", "x.knn", "filled.csv").stderr


@pytest.mark.usefixtures("here")
def test_a_table_of_other_images_is_told_once_however_many_folders_there_are():
    csv("l.csv", [f"c{i}.png" for i in range(30)])
    none = r"^in/a, in/b: no labelled image"
    with pytest.warns(UserWarning, match=r"l\.csv") as told, pytest.raises(KnnvoteError, match=none):
        index_files(join_labels("in", "l.csv"), "x.knn", training=TrainingOptions(skip_bad=True))
    assert [str(note.message).split(",")[0] for note in told] == [
        "none of the first 15 rows of in/a has a label in l.csv",
        "l.csv: 30 of 30 labels are of no image",
    ]


@pytest.mark.usefixtures("here")
def test_zeros_that_a_spreadsheet_left_out_of_ids_are_told(invoke):
    own = pa.table({"image": [png(i) for i in range(3)], "id": ["007", "010", "011"], "label": [0, 1, 1]})
    pq.write_table(own, "zeros.parquet")
    csv("l.csv", ["7", "10"], [1, 0])
    told = "give '007' for '7', and so on, for a spreadsheet took the ids for numbers and left out their zeros"
    with pytest.warns(UserWarning, match=told), pytest.raises(KnnvoteError, match="no labelled image"):
        index_files(join_labels("zeros.parquet", "l.csv"), "x.knn", training=TrainingOptions(skip_bad=True))
    assert invoke("index", "zeros.parquet", "--out", "x.knn", "--id-column", "id").code == 0
    for command in (("relabel", "x.knn", "l.csv"), ("remove", "x.knn", "7")):
        done = invoke(*command)
        assert (done.code, told in done.stderr) == (1, True), done.stderr
    csv("l.csv", ["007", "010"], [1, 0])
    assert invoke("relabel", "x.knn", "l.csv").code == invoke("remove", "x.knn", "007").code == 0


# Labels as people write them, to an index that is there

NAMES = json.dumps({"info": {"features": {"label": {"names": ["six", "7", "eight"], "_type": "ClassLabel"}}}})
CLASSES = {
    "text": ["7", "8", "A", "true", " x"],
    "code": ["07", "7", "8.0", "8", "A"],
    "int": pa.array([7, 8, 9, 10, 11], pa.int8()),
    "named": [0, 1, 2, 2, 2],
    "bool": [True, False, True, True, True],
    "number": [1.5, 2, 3, 4, 5],
}


@pytest.fixture
def of(here, invoke):
    """Makes an index x.knn of five images of labels of a kind; the others of the folder `new` are to be added."""

    def make(kind):
        labels = pa.array(CLASSES[kind])
        table = image_table(PIXELS[:5]).append_column("label", labels)
        if kind == "named":
            table = table.replace_schema_metadata({"huggingface": NAMES})
        write_table(table, here / "old.parquet")
        task = "regression" if kind == "number" else "classification"
        done = invoke("index", "old.parquet", "--out", "x.knn", "--task", task)
        assert done.code == 0, done.stderr
        (here / "new").mkdir()
        for i in range(5, 9):
            (here / "new" / f"{i}.png").write_bytes(png(i))

    return make


def classed(here, names):
    for i, name in enumerate(names, 5):
        (here / "classes" / name).mkdir(parents=True)
        (here / "classes" / name / f"{i}.png").write_bytes(png(i))


@pytest.mark.parametrize(
    ("kind", "written", "labels"),
    [
        ("text", ["7", "", "8", '""'], ["7", "8"]),
        ("text", ["true", "", "true", ""], ["true", "true"]),
        ("text", [" 7", "", "A ", " x"], ["7", "A", " x"]),
        ("code", ["8.0", "7", "", ""], ["8.0", "7"]),
        ("code", ["07", "7", "", ""], ["07", "7"]),
        ("int", ["7", "", "8.0", ""], [7, 8]),
        ("named", ["eight", "", '"six"', ""], [2, 0]),
        ("named", ["eight", "0", "", "7"], [2, 0, 1]),
        ("named", ["2", "", "1", ""], [2, 1]),
        ("bool", ["true", "", "false", ""], [True, False]),
        ("bool", ["True", "False", "1", "0"], [True, False, True, False]),
        ("number", ["1", "", "2", ""], [1.0, 2.0]),
    ],
)
@pytest.mark.filterwarnings("ignore:numbers written with a point are all whole")
def test_add_reads_labels_that_people_wrote_as_relabel_does(of, invoke, here, kind, written, labels):
    of(kind)
    csv("filled.csv", [f"{i}.png" for i in range(5, 9)], written)
    done = invoke("add", "x.knn", "new", "--labels", "filled.csv", "--skip-bad")
    assert (done.code, "new class" in done.stderr) == (0, False), done.stderr
    assert open_index("x.knn").labels[5:].to_pylist() == labels
    if " x" not in written:  # of which relabel drops the space
        csv("fixes.csv", [f"old.parquet#{i}" for i in range(4)], written)
        assert invoke("relabel", "x.knn", "fixes.csv").code == 0
        places = [i for i, text in enumerate(written) if text.strip('" ')]
        assert open_index("x.knn").labels.take(pa.array(places)).to_pylist() == labels
    assert here.is_dir()


@pytest.mark.parametrize(
    ("kind", "written", "message"),
    [
        ("int", ["seven", "8"], "the label 'seven' cannot be one of x.knn; nothing was changed: give a whole number"),
        ("named", ["nine", "six"], "the label 'nine' cannot be one of x.knn; nothing was changed: give one of its 3 "),
        (
            "bool",
            ["true", "maybe"],
            "the label 'maybe' cannot be one of x.knn; nothing was changed: give true or false",
        ),
        ("number", ["much", "1"], "the label 'much' cannot be one of x.knn; nothing was changed: give a number"),
    ],
)
def test_labels_that_an_index_cannot_have_are_refused_by_the_file_or_folder_that_says_them(
    of, invoke, here, kind, written, message
):
    of(kind)
    csv("filled.csv", ["5.png", "6.png"], written)
    before = stored("x.knn")
    done = invoke("add", "x.knn", "new", "--labels", "filled.csv", "--skip-bad")
    line = 2 + (kind == "bool")
    told = f"error: '{line + 3}.png' in line {line} of filled.csv: {message}"
    assert (done.code, done.stderr.startswith(told)) == (1, True), done.stderr
    classed(here, written)
    done = invoke("add", "x.knn", "classes")
    bad = next(text for text in written if repr(text) in message)
    assert (done.code, done.stderr.startswith(f"error: classes/{bad}: {message}")) == (1, True), done.stderr
    assert stored("x.knn") == before


@pytest.mark.parametrize(
    ("kind", "folders", "labels"),
    [
        ("text", ["7", "8"], ["7", "8"]),
        ("text", ["label=7", "label=8"], ["7", "8"]),
        ("text", ["7", "new"], ["7", "new"]),
        ("int", ["7", "8"], [7, 8]),
        ("named", ["eight", "six"], [2, 0]),
        ("named", ["0", "2"], [0, 2]),
        ("bool", ["false", "true"], [False, True]),
        ("number", ["1.5", "3"], [1.5, 3.0]),
    ],
)
def test_add_reads_names_of_folders_likewise(of, invoke, here, kind, folders, labels):
    of(kind)
    classed(here, folders)
    done = invoke("add", "x.knn", "classes")
    assert (done.code, "1 new class: 'new'" in done.stderr) == (0, "new" in folders), done.stderr
    index = open_index("x.knn")
    found = dict(zip(index.ids.to_pylist(), index.labels.to_pylist(), strict=True))
    assert [found[f"{folder}/{i}.png"] for i, folder in enumerate(folders, 5)] == labels


def test_a_column_of_the_file_counts_before_the_name_of_its_folder(of, invoke, here):
    of("int")
    (here / "parts" / "label=cat").mkdir(parents=True)
    write_table(image_table(PIXELS[10:12], np.array([7, 8])), here / "parts" / "label=cat" / "a.parquet")
    assert invoke("add", "x.knn", "parts").code == 0
    assert open_index("x.knn").labels[5:].to_pylist() == [7, 8]
    write_table(image_table(PIXELS[12:14]), here / "parts" / "label=cat" / "a.parquet")
    done = invoke("add", "x.knn", "parts")
    assert (done.code, "a.parquet, column 'label': labels are string, and int64" in done.stderr) == (1, True)


def test_the_folders_of_parquet_files_are_read_likewise_and_their_own_columns_as_they_are(of, invoke, here):
    of("text")
    (here / "parts" / "label=8").mkdir(parents=True)
    write_table(image_table(PIXELS[10:12]), here / "parts" / "label=8" / "a.parquet")
    assert invoke("add", "x.knn", "parts").code == 0
    assert open_index("x.knn").labels[5:].to_pylist() == ["8", "8"]
    write_table(image_table(PIXELS[12:14], np.array([7, 8])), here / "typed.parquet")
    done = invoke("add", "x.knn", "typed.parquet")
    assert (done.code, "labels are int64, and string in what comes before it" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("kind", "given", "labels"),
    [
        ("text", pa.array(["7", None, " "]), ["7"]),
        ("named", pa.array(["eight", "six", None]).dictionary_encode(), [2, 0]),
        ("bool", pa.array(["true", None, "False"]), [True, False]),
        ("int", pa.array(["7", " 8", ""]), [7, 8]),
        ("text", pa.array([7, 8, None]), "labels are int64, and string in what comes before it"),
        ("int", pa.array([True, None, None]), "labels are bool, and int8 in what comes before it"),
        ("text", pa.nulls(3), "filled.parquet holds no label, its column "),
        ("int", pa.nulls(3), "filled.parquet holds no label, its column "),
    ],
)
def test_text_of_a_parquet_table_is_read_likewise_and_other_types_are_taken_as_they_are(
    of, invoke, kind, given, labels
):
    of(kind)
    pq.write_table(pa.table({"id": ["5.png", "6.png", "7.png"], "label": given}), "filled.parquet")
    done = invoke("add", "x.knn", "new", "--labels", "filled.parquet", "--skip-bad")
    if isinstance(labels, str):
        assert (done.code, labels in done.stderr) == (1, True), done.stderr
    else:
        assert done.code == 0, done.stderr
        assert open_index("x.knn").labels[5:].to_pylist() == labels


def test_json_lines_have_types_of_their_own(of, invoke):
    of("text")
    Path("filled.jsonl").write_text('{"id": "5.png", "label": 7}\n{"id": "6.png", "label": 8}\n')
    done = invoke("add", "x.knn", "new", "--labels", "filled.jsonl", "--skip-bad")
    assert (done.code, "labels are int64, and string in what comes before it" in done.stderr) == (1, True)
    Path("filled.jsonl").write_text('{"id": "5.png", "label": "7"}\n{"id": "6.png", "label": null}\n')
    assert invoke("add", "x.knn", "new", "--labels", "filled.jsonl", "--skip-bad").code == 0
    assert open_index("x.knn").labels[5:].to_pylist() == ["7"]


IMAGES = ["in", "rows.parquet", "shard.tar"]
KEYS = {
    "in": PATHS,
    "rows.parquet": [f"rows.parquet#{i}" for i in range(30)],
    "shard.tar": [f"s{i:03d}" for i in range(30)],
}


@pytest.mark.parametrize("images", repeats(IMAGES, lambda images: images != "shard.tar"))
@pytest.mark.usefixtures("here")
def test_inspect_show_and_report_take_a_table_as_index_does(invoke, images):
    csv("labels.csv", KEYS[images][:28])
    facts = json.loads(invoke("inspect", images, "--labels", "labels.csv", "--json").stdout)
    assert {of["label"]: of["rows"] for of in facts["check"]["classes"]} == {0: 10, 1: 9, 2: 9}
    assert facts["check"]["unlabelled"]["rows"] == 2
    assert {file["label_column"] for file in facts["files"]} == {"label"}
    assert "3 images" in invoke("show", images, "--labels", "labels.csv", "--class", "1", "--grid", "1x3").stderr
    shown = invoke("show", images, "--labels", "labels.csv", "--where", "label = 1", "--grid", "1x2")
    assert "2 images of 9" in shown.stderr
    index_arrays(PIXELS ^ 1, LABELS, "x.knn")
    assert invoke("classify", "x.knn", images, "--out", "out", "--k", "1").code == 0
    done = invoke("report", "out", "--labels", "labels.csv")
    assert (done.code, done.stdout.splitlines()[0].split(" (")[0]) == (
        0,
        "28 rows with a true label: the best guess is right for 1.0000",
    )
    csv("wrong.csv", KEYS[images], [0] * 30)
    assert "right for 0.3" in invoke("report", "out", "--labels", "wrong.csv").stdout
    assert ", wrong ones" not in invoke("show", images, "--labels", "wrong.csv", "--grid", "1x2").stderr
    errors = ["--predictions", "out", "--errors", "--index", "x.knn", "--labels", "wrong.csv"]
    wrong = sum(
        of != 0 for file in Path("out").rglob("[!.]*.parquet") for of in pq.read_table(file)["best"].to_pylist()
    )
    assert f"2 images of {wrong} wrong ones" in invoke("show", images, *errors).stderr


@pytest.mark.usefixtures("here")
def test_ids_of_two_shards_are_told_apart_by_report_and_columns_are_named(invoke):
    shutil.copy("shard.tar", "other.tar")
    csv("labels.csv", KEYS["shard.tar"])
    index_arrays(PIXELS ^ 1, LABELS, "x.knn")
    assert invoke("classify", "x.knn", "shard.tar", "other.tar", "--out", "out", "--k", "1").code == 0
    refused = invoke("report", "out", "--labels", "labels.csv")
    assert "s000 is the name of several rows, other.tar#s000 and shard.tar#s000" in refused.stderr
    csv("ids.csv", [f"other.tar#{key}" for key in KEYS["shard.tar"]], header="name,truth")
    done = invoke("report", "out", "--labels", "ids.csv", "--id-column", "name", "--label-column", "truth")
    assert done.stdout.startswith("30 rows with a true label: the best guess is right for 1.0000 (")
    refused = invoke("report", "out", "--labels", "ids.csv", "--id-column", "nome", "--label-column", "truth")
    assert "neither out/other.parquet nor ids.csv has a column 'nome' for --id-column" in refused.stderr
    csv("none.csv", ["a", "b"])
    with pytest.warns(UserWarning, match="2 of 2 labels are of no image"):
        assert invoke("report", "out", "--labels", "none.csv").stdout == ""
    for command in (["inspect", "shard.tar"], ["report", "out"]):
        done = invoke(*command, "--id-column", "name")
        assert (done.code, "give one with --labels" in done.stderr) == (2, True)
    assert "--labels: of files of images alone" in invoke("inspect", "x.knn", "--labels", "ids.csv").stderr


@pytest.mark.parametrize(
    ("images", "header", "options"),
    [
        ("in", "a/000.png,cat", []),
        ("in", "a/000.png,y", []),
        ("in", "000.png,cat,more", ["--id-column", "000.png", "--label-column", "cat"]),
        ("own.parquet", "k000,y", ["--id-column", "key"]),
        ("shard.tar", "s000,class", []),
        ("shard.tar", "shard.tar#s000,class", []),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_table_whose_first_line_is_of_an_image_is_refused_with_what_names_its_columns(
    invoke, images, header, options
):
    keys = KEYS.get(images, [f"k{i:03d}" for i in range(30)])
    more = ",some" * (header.count(",") - 1)
    lines = [header, *(f"{key},{'cat' if i % 2 else 'dog'}{more}" for i, key in enumerate(keys[1:]))]
    Path("bare.csv").write_text("\n".join(lines) + "\n")
    done = invoke("index", images, "--labels", "bare.csv", *options, "--out", "x.knn")
    assert done.code == 1
    first = header.split(",")[0]
    assert f"error: bare.csv has no header: its first line, {header}, is of an image, {first}:" in done.stderr
    run = done.stderr.partition("above it, as ")[2].removesuffix(" does\n")
    subprocess.run(run, shell=True, check=True)  # noqa: S602  # as a person types what a message tells
    own = options if images == "own.parquet" else []
    assert invoke("index", images, "--labels", "bare.named.csv", *own, "--out", "x.knn").code == 0
    assert len(open_index("x.knn").ids) == 30
