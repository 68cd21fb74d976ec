"""What inspect and verify tell of a path, to people and to programs."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify import inspection
from knnvote.classify.inspection import inspect_images, inspect_made
from knnvote.data.containers.parquet import ParquetRows
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.sample import digits
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays, index_files
from knnvote.indexer.manifest import read_manifest

IMAGES, LABELS = (array[:40] for array in digits())


def test_an_index_is_shown_readably(invoke, exact_index):
    shown = invoke("inspect", exact_index)
    assert (shown.code, shown.stderr) == (0, "")
    for words in (
        "exact, FAISS not used, metric l2",
        "1,347 of 8 x 8, uint8 from 0 to 16, 0 bad rows left out",
        "int64, classification: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "train.parquet",
        "image image, label label",
        "vectors-1.raw, axes-1.npy",
        read_manifest(exact_index).fingerprint,
    ):
        assert words in shown.stdout


def test_an_index_as_json_is_its_manifest_with_size_and_times(invoke, adaptive_index):
    shown = invoke("inspect", adaptive_index, "--json")
    assert (shown.code, shown.stderr) == (0, "")
    facts = json.loads(shown.stdout)
    manifest = read_manifest(adaptive_index)
    record = manifest.to_json()
    assert {key: facts[key] for key in record} == record
    assert (facts["type"], facts["path"], facts["kind"], facts["n"]) == ("index", str(adaptive_index), "adaptive", 1347)
    named = [file.name for file in manifest.files.values()]
    assert facts["bytes"] == sum((adaptive_index / name).stat().st_size for name in named)
    assert facts["timing"]["build_seconds"] >= 0


def test_images_are_recognised_before_any_work(invoke, digits_folder):
    shown = invoke("inspect", digits_folder)
    assert (shown.code, shown.stderr) == (0, "")
    assert "train.parquet" in shown.stdout
    assert "1,347" in shown.stdout
    assert "tensors, 8 x 8, in column 'image'" in shown.stdout
    facts = json.loads(invoke("inspect", digits_folder / "test.parquet", "--json").stdout)
    (file,) = facts["files"]
    assert facts["type"] == "images"
    assert (file["rows"], file["label_column"]) == (450, "label")
    assert file["path"] == str(digits_folder / "test.parquet")


def test_a_file_that_does_not_fit_is_told_of_beside_those_that_do(tmp_path):
    write_table(image_table(IMAGES), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"x": ["no image"]}), tmp_path / "c.parquet")
    good, broken, other = inspect_images([str(tmp_path)], find_inputs([str(tmp_path)]), quick=True)["files"]
    assert (good["rows"], good["label_column"]) == (40, None)
    assert "as Parquet" in broken["error"]
    assert "no image column" in other["error"]


def test_what_does_not_exist_is_named(invoke):
    shown = invoke("inspect", "gone.knn")
    assert (shown.code, shown.stdout) == (1, "")
    assert shown.stderr == "error: gone.knn does not exist: give the path of a file, a folder or a glob\n"


def test_a_job_is_counted(invoke, tmp_path, exact_index, digits_folder):
    assert invoke("classify", exact_index, digits_folder / "test.parquet", "--out", "out").code == 0
    facts = inspect_made(str(tmp_path / "out"))
    assert (facts["type"], facts["files"], facts["rows"], facts["ok"]) == ("job", 1, 450, 450)
    shown = invoke("inspect", "out")
    assert shown.code == 0
    assert "450: 450 ok, 0 abstained, 0 bad" in shown.stdout


def test_a_damaged_record_of_a_job_is_told(tmp_path):
    (tmp_path / "out" / "_knnvote").mkdir(parents=True)
    (tmp_path / "out" / "_knnvote" / "job.json").write_text("{")
    with pytest.raises(KnnvoteError, match=r"job\.json is damaged: remove it"):
        inspect_made(str(tmp_path / "out"))


def test_class_names_stand_beside_their_numbers(invoke, tmp_path):
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = image_table(IMAGES[:3], np.array([0, 1, 1])).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    index_files(find_inputs([str(tmp_path / "a.parquet")]), tmp_path / "x.knn")
    shown = invoke("inspect", "x.knn")
    assert shown.code == 0
    assert re.search(r"classification: 0 \(cat\), 1 \(dog\) *$", shown.stdout, re.MULTILINE)


def test_names_are_shown_as_they_are_whatever_they_look_like(invoke, tmp_path):
    labels = np.array(["[bold]", "[/]", ":smile:", "\\[x]"])
    index_arrays(IMAGES[:4], labels, tmp_path / "[red]x[/].knn")
    shown = invoke("inspect", "[red]x[/].knn")
    assert (shown.code, shown.stderr) == (0, "")
    assert "[red]x[/].knn" in shown.stdout
    assert ", ".join(sorted(labels)) in shown.stdout


def test_many_classes_are_counted_and_not_all_shown(invoke, tmp_path):
    index_arrays(IMAGES, np.arange(40), tmp_path / "x.knn")
    shown = invoke("inspect", "x.knn").stdout
    assert "19, ... 40 in all" in " ".join(shown.split())
    assert len(json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"]) == 40


def test_a_regression_of_arrays_is_shown(invoke, tmp_path):
    index_arrays(IMAGES, LABELS / 3, tmp_path / "x.knn", is_regression=True)
    shown = invoke("inspect", "x.knn")
    assert shown.code == 0
    assert "double, regression" in shown.stdout
    assert "arrays" in shown.stdout


def test_a_changed_index_is_not_shown(invoke, tmp_path, exact_index):
    shutil.copytree(exact_index, tmp_path / "x.knn")
    manifest = tmp_path / "x.knn" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"n": 1347', b'"n": 1348'))
    shown = invoke("inspect", "x.knn")
    assert (shown.code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("error: x.knn/manifest.json was changed: its checksum does not fit its content")


def test_verify_ends_with_0_for_a_whole_index_and_1_for_a_changed_byte(invoke, tmp_path, exact_index):
    whole = invoke("verify", exact_index)
    assert (whole.code, whole.stdout) == (0, "")
    assert whole.stderr == f"{exact_index}: every byte is as it was written\n"
    shutil.copytree(exact_index, tmp_path / "x.knn")
    file = tmp_path / "x.knn" / "vectors-1.raw"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    changed = invoke("verify", "x.knn")
    assert (changed.code, changed.stdout) == (1, "")
    assert changed.stderr == "x.knn/vectors-1.raw was changed: its SHA-256 differs from the manifest's\n"


@pytest.mark.parametrize("name", ["manifest.json", "timing-1.json", "labels-1.parquet"])
def test_verify_names_a_missing_file_and_ends_with_1(invoke, tmp_path, exact_index, name):
    shutil.copytree(exact_index, tmp_path / "x.knn")
    (tmp_path / "x.knn" / name).unlink()
    shown = invoke("verify", "x.knn")
    assert (shown.code, shown.stdout) == (1, "")
    assert name in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_index_refuses_bad_rows_and_counts_them_when_told_to_leave_them_out(invoke, tmp_path):
    images = [image.ravel().tolist() for image in IMAGES]
    images[3] = None
    pq.write_table(pa.table({"image": images, "label": LABELS}), tmp_path / "a.parquet")
    refused = invoke("index", "a.parquet", "--out", "x.knn")
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: a.parquet, row 3: null image; mend it, or pass --skip-bad")
    assert not (tmp_path / "x.knn").exists()
    done = invoke("index", "a.parquet", "--out", "x.knn", "--skip-bad")
    assert (done.code, done.stdout) == (0, "")
    assert "39 images of 8 x 8, 1 bad rows left out, exact" in done.stderr
    again = invoke("index", "a.parquet", "--out", "x.knn", "--skip-bad")
    assert (again.code, again.stderr.splitlines()[-1]) == (
        1,
        "error: x.knn exists: pass --overwrite to replace it, or give another path",
    )


def test_a_file_that_changes_while_it_is_looked_at_is_told_of(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    write_table(image_table(IMAGES, LABELS), path)
    recognise = inspection.recognise_images

    def and_grow(head, options):
        with path.open("ab") as stream:
            stream.write(b"more")
        return recognise(head, options)

    monkeypatch.setattr(inspection, "recognise_images", and_grow)
    (file,) = inspect_images([str(path)], find_inputs([str(path)]), quick=True)["files"]
    assert file["error"].startswith(f"{path} changed while it was read: ")


def test_quick_tells_which_files_it_reads_as_a_whole_all_the_same(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(["label,pixel0,pixel1,pixel2,pixel3", *(f"{row % 3},{row},1,2,3" for row in range(30))])
    Path("a.csv.gz").write_bytes(gzip.compress(rows.encode()))
    Path("b.csv").write_text(rows)
    with pytest.warns(UserWarning, match=r"^a\.csv\.gz and 1 more: no Parquet, and so converted as a whole, and quick"):
        assert json.loads(invoke("inspect", "a.csv.gz", "b.csv", "--quick", "--json").stdout)["files"][1]["rows"] == 30
    assert invoke("convert", "a.csv.gz", "a.parquet").code == 0
    assert invoke("inspect", "a.parquet", "--quick").stderr == invoke("inspect", "b.csv").stderr == ""


@pytest.mark.parametrize("kind", [int, str])
def test_a_column_of_ids_is_read_as_far_as_it_takes_to_know_that_and_no_further(tmp_path, monkeypatch, kind):
    """A table of many million rows is not held as Python's values."""
    monkeypatch.setattr(inspection, "_ROWS", 10)
    monkeypatch.setattr(inspection, "_MOST_ROWS", 30)
    for name, keys in (("ids", [*range(100)]), ("labels", [*range(15), *range(85)])):
        columns = {"image": [bytes([number]) * 16 for number in range(100)], "key": [kind(key) for key in keys]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    read, plain = [], ParquetRows._batches

    def counted(rows, columns, size):
        for batch in plain(rows, columns, size):
            read.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(ParquetRows, "_batches", counted)
    for name, are_ids, rows_read in (("ids", True, 30), ("labels", False, 20)):
        (source,) = find_inputs(tmp_path / f"{name}.parquet")
        read.clear()
        with source.open_rows() as rows:
            assert inspection._are_ids(rows, rows.head(), "key", quick=False) == are_ids
        assert sum(read) == rows_read


def test_of_several_paths_none_is_an_index_or_an_output(tmp_path, invoke):
    index_arrays(np.zeros((2, 3, 3)), [1, 2], tmp_path / "d.knn")
    index_arrays(np.zeros((2, 3, 3)), [1, 2], tmp_path / "e.knn")
    done = invoke("inspect", str(tmp_path / "d.knn"), str(tmp_path / "e.knn"))
    assert done.code == 2
    assert f"{tmp_path / 'd.knn'} is an index or a job's output: give one at a time" in done.stderr


def test_lines_that_go_to_no_terminal_end_without_blanks_and_are_as_long_as_columns_says(
    invoke, exact_index, monkeypatch
):
    lines = invoke("inspect", exact_index).stdout.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert max(map(len, lines)) > 80
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, invoke("inspect", exact_index).stdout.splitlines()[1:])) <= 80
