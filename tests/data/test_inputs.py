"""Finding inputs, describing them, and seeing that they stay as they are."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.data import locations
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.folders.classes import partition_label
from knnvote.data.folders.splits import splits_of
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with files in folders."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/b.parquet",
        "in/a.parquet",
        "in/deep/er/c.parquet",
        "in/notes.txt",
        "in/.hidden.parquet",
        "in/_knnvote/d.parquet",
        "in/.git/e.parquet",
        "in/deep/_tmp.parquet",
        "other/z.parquet",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def relative(*arguments):
    return [file.relative for file in find_inputs([str(argument) for argument in arguments])]


def test_a_folder_gives_every_visible_parquet_file_below_it_in_order(here):
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]
    found = find_inputs(["in"])
    assert [file.shown for file in found] == ["in/a.parquet", "in/b.parquet", "in/deep/er/c.parquet"]
    assert [file.size for file in found] == [len("in/a.parquet"), len("in/b.parquet"), len("in/deep/er/c.parquet")]
    assert {file.root for file in found} == {str(here / "in")}


def test_a_folder_below_a_hidden_one_is_searched_when_it_is_named(here):
    assert relative("in/.git") == ["e.parquet"]
    assert relative(here / "in" / "_knnvote") == ["d.parquet"]


def test_a_file_is_taken_whatever_its_name(here):
    (file,) = find_inputs(["in/notes.txt"])
    assert (file.relative, file.shown, file.root, file.is_local) == ("notes.txt", "in/notes.txt", None, True)
    with file.open() as stream:
        assert stream.read() == b"in/notes.txt"
    assert file.describe() == {
        "path": "notes.txt",
        "size": len(b"in/notes.txt"),
        "sha256": hashlib.sha256(b"in/notes.txt").hexdigest(),
    }
    assert relative("in/.hidden.parquet") == [".hidden.parquet"]
    assert here.is_dir()


@pytest.mark.usefixtures("here")
def test_a_trailing_slash_changes_nothing():
    assert [file.shown for file in find_inputs(["in/"])] == [file.shown for file in find_inputs(["in"])]


@pytest.mark.usefixtures("here")
def test_a_glob_gives_paths_relative_to_what_stands_before_it():
    assert relative("in/*.parquet") == ["a.parquet", "b.parquet"]
    assert relative("in/deep/**/c.parquet") == ["er/c.parquet"]
    assert relative("*/z.parquet") == ["other/z.parquet"]
    assert relative("i?/[ab].parquet") == ["in/a.parquet", "in/b.parquet"]


@pytest.mark.usefixtures("here")
def test_a_glob_that_matches_folders_searches_them():
    assert relative("oth*") == ["other/z.parquet"]
    assert relative("in/de*") == ["deep/er/c.parquet"]


def test_a_path_with_glob_characters_that_exists_is_itself(here):
    (here / "odd[1]").mkdir()
    (here / "odd[1]" / "x*.parquet").write_bytes(b"")
    (here / "odd1").mkdir()
    (here / "odd1" / "wrong.parquet").write_bytes(b"")
    assert relative("odd[1]") == ["x*.parquet"]
    assert relative("odd[1]/x*.parquet") == ["x*.parquet"]


def test_a_file_uri_gives_the_same_files_as_the_path(here):
    assert relative(f"file://{here}/in") == relative("in")
    assert relative(f"file://{here}/in/") == relative("in")
    (file,) = find_inputs([f"file://{here}/in/a.parquet"])
    assert (file.relative, file.shown, file.is_local) == ("a.parquet", f"file://{here}/in/a.parquet", True)


def test_a_uri_may_hold_a_space(here):
    (here / "a b").mkdir()
    (here / "a b" / "x.parquet").write_bytes(b"")
    assert relative(f"file://{here}/a%20b") == ["x.parquet"]


@pytest.mark.parametrize(
    "again",
    [
        "in/a.parquet",
        "./in/a.parquet",
        "in//a.parquet",
        "in/deep/../a.parquet",
        "{here}/in/a.parquet",
        "in",
        "in/a*.parquet",
        "file://{here}/in/a.parquet",
        "linked/a.parquet",
    ],
)
def test_a_file_named_twice_is_taken_once(here, again):
    (here / "linked").symlink_to("in")
    assert relative("in/a.parquet", again.format(here=here)).count("a.parquet") == 1


def test_links_that_lead_back_have_an_end_and_each_file_is_found_once_by_its_shortest_way(here):
    """Two of them in one folder are 2 to the power of 40 ways."""
    (here / "in" / "nested").mkdir()
    (here / "in" / "nested" / "c.parquet").touch()
    before = relative("in")
    assert "nested/c.parquet" in before
    for link, target in (("x", "."), ("y", "."), ("nested/up", ".."), ("nested/round", "round"), ("other", "nested")):
        (here / "in" / link).symlink_to(target)
    assert relative("in") == before


def test_a_link_to_a_file_is_a_file_of_its_own(here):
    (here / "in" / "link.parquet").symlink_to("a.parquet")
    assert relative("in/a.parquet", "in/link.parquet") == ["a.parquet", "link.parquet"]


@pytest.mark.usefixtures("here")
def test_arguments_keep_their_order():
    assert relative("other", "in/b.parquet", "in") == ["z.parquet", "b.parquet", "a.parquet", "deep/er/c.parquet"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gone.parquet", r"^gone\.parquet does not exist: give the path of a file, a folder or a glob$"),
        ("in/gone", r"^in/gone does not exist"),
        ("empty", r"^empty is a folder without any \*\.parquet file"),
        ("in/*.csv", r"^no file matches in/\*\.csv: give"),
        ("nowhere/*.parquet", r"^no file matches nowhere/\*\.parquet"),
        ("gopher://host/x", r"^cannot open gopher://host/x: "),
        ("file:///nowhere/x.parquet", r"^file:///nowhere/x\.parquet does not exist"),
    ],
)
def test_what_is_not_there_is_named(here, argument, message):
    (here / "empty").mkdir()
    with pytest.raises(KnnvoteError, match=message):
        find_inputs(["in", argument])


def test_a_file_that_vanished_is_named(here):
    (file,) = find_inputs(["in/a.parquet"])
    (here / "in" / "a.parquet").unlink()
    with pytest.raises(KnnvoteError, match=r"^cannot read in/a\.parquet: "):
        file.open()
    with pytest.raises(KnnvoteError, match=r"^cannot read in/a\.parquet: "):
        file.describe()


def change_size(path):
    path.write_bytes(path.read_bytes() + b"!")


def change_content(path):
    path.write_bytes(path.read_bytes()[::-1])


def replace_by_its_like(path):
    """By another file of the same size and times."""
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def set_back(path):
    change_content(path)
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize("change", [change_size, change_content, replace_by_its_like, set_back])
@pytest.mark.parametrize("fails", [False, True])
def test_an_input_that_changes_while_it_is_read_is_told_whether_reading_fails_or_not(here, change, fails):
    os.utime(here / "in" / "a.parquet", ns=(0, 0))
    (file,) = find_inputs(["in/a.parquet"])
    with pytest.raises(ImageFileError, match=r"^in/a\.parquet changed while it was read"), file.steady():  # noqa: PT012
        change(here / "in" / "a.parquet")
        if fails:
            raise ImageFileError("no Parquet")


def test_an_input_that_vanishes_while_it_is_read_is_told(here):
    (file,) = find_inputs(["in/a.parquet"])
    with pytest.raises(ImageFileError, match=r"^cannot read in/a\.parquet: No such file"), file.steady():
        (here / "in" / "a.parquet").unlink()


@pytest.mark.usefixtures("here")
def test_what_is_wrong_with_an_input_that_stays_as_it_is_is_told_as_it_is():
    (file,) = find_inputs(["in/a.parquet"])
    with pytest.raises(ImageFileError, match="no Parquet"), file.steady():
        raise ImageFileError("no Parquet")
    with file.steady():
        assert file.describe() == file.describe()


def test_an_index_folder_among_the_inputs_is_passed_over(here):
    (here / "in" / "x.knn").mkdir()
    (here / "in" / "x.knn" / "manifest.json").write_text("{}")
    (here / "in" / "x.knn" / "labels-1.parquet").write_bytes(b"")
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]


def test_outputs_of_a_job_among_the_inputs_are_passed_over(here):
    (here / "in" / "out" / "_knnvote").mkdir(parents=True)
    (here / "in" / "out" / "_knnvote" / "job.json").write_text("{}")
    (here / "in" / "out" / "deep").mkdir()
    for name in ("a", "deep/b"):
        (here / "in" / "out" / f"{name}.parquet").write_bytes(b"")
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]
    with pytest.raises(KnnvoteError, match="without any"):
        find_inputs(["in/out"])


def test_a_glob_passes_over_what_knnvote_made(here):
    (here / "in" / "x.knn").mkdir()
    (here / "in" / "x.knn" / "manifest.json").write_text("{}")
    (here / "in" / "x.knn" / "labels-1.parquet").write_bytes(b"")
    assert relative("in/[ax]*") == ["a.parquet"]


def test_a_manifest_of_somebody_else_hides_nothing(here):
    (here / "in" / "manifest.json").write_text("{}")
    assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]


# What lies in a folder and is not meant, or not all of it


def make(*names):
    for name in names:
        write_table(image_table(np.arange(64, dtype=np.uint8).reshape(16, 2, 2), np.arange(16) % 2), Path(name))


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"),
        ("data/train-0.parquet", "data/validation-0.parquet"),
        ("train/0.parquet", "train/1.parquet", "dev/0.parquet"),
        ("mnist_Train.parquet", "mnist_Test.parquet"),
        ("a/train.parquet", "b/train.parquet", "b/eval.parquet", "c/test.parquet"),
        ("mnistTrain.parquet", "mnistTest.parquet"),
        ("aTrainImages.parquet", "bTrainImages.parquet", "testImages.parquet"),
        ("dev/x/train/0.parquet", "dev/x/test/0.parquet"),
        ("train/0.parquet", "test/0.parquet", "constraint.parquet"),
    ],
)
def test_several_splits_in_one_folder_are_not_stored_together_and_the_commands_that_are_told_work(invoke, names):
    make(*(f"in/{name}" for name in names))
    done = invoke("index", "in", "--out", "x.knn")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    one, *each = re.findall(r"'?(in/[^' ]+?)'?(?=,| |$)", done.stderr.partition(": give ")[2].strip())
    assert invoke("index", one, "--out", "x.knn").code == 0
    trained = sum("train" in name.lower() and "constraint" not in name for name in names)
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["n"] == 16 * trained
    assert invoke("add", "x.knn", "in").code == 1
    assert invoke("index", *each, "--out", "all.knn").code == 0
    split = [name for name in names if "constraint" not in name]
    assert json.loads(invoke("inspect", "all.knn", "--json").stdout)["n"] == 16 * len(split)
    assert invoke("classify", "x.knn", "in", "--out", "out").code == 0


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("x_tr.parquet", "x_te.parquet"), ["test", "train"]),
        (("tr/0.parquet", "x_test.parquet"), ["test", "train"]),
        (("a_tr.parquet", "a_te.parquet", "a_en.parquet"), []),  # languages
        (("dev/train.parquet", "dev/bus.parquet", "dev/contestTrainer.parquet"), ["train"]),  # classes
        (("latest/valet.parquet", "terrain/devil.parquet", "TrainerTestament.parquet"), []),
    ],
)
def test_splits_are_words_that_tell_files_apart(names, splits):
    assert list(splits_of(names)) == splits


def test_a_glob_over_several_splits_is_refused_and_names_that_only_begin_alike_are_none(invoke):
    make("in/train.parquet", "in/test.parquet", "trains/trainer.parquet", "trains/contest.parquet")
    assert "several splits, test and train" in invoke("index", "in/*.parquet", "--out", "x.knn").stderr
    assert invoke("index", "in/train.parquet", "in/test.parquet", "--out", "x.knn").code == 0
    assert invoke("index", "trains", "--out", "y.knn").code == 0


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        ("t/_delta_log/00000000000000000000.json", "Delta"),
        ("t/metadata/00001-a.metadata.json", "Iceberg"),
        ("t/.hoodie/hoodie.properties", "Hudi"),
    ],
)
@pytest.mark.parametrize("argument", ["t", ".", "t/data", "t/*/*.parquet", "file://{here}/t/data/*.parquet"])
def test_a_table_whose_old_files_hold_deleted_rows_is_refused(invoke, tmp_path, mark, kind, argument):
    make("t/data/0.parquet")
    Path(mark).parent.mkdir()
    Path(mark).write_text("{}")
    done = invoke("index", argument.format(here=tmp_path), "--out", "x.knn")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    assert f"t is a table of {kind}, whose files may hold rows that were deleted since: pip install" in done.stderr
    assert invoke("index", "t/data/0.parquet", "--out", "x.knn").code == 0


def test_the_newest_metadata_of_a_table_is_told(invoke):
    make("t/data/0.parquet")
    Path("t/metadata").mkdir()
    for version in (2, 9, 10):
        Path(f"t/metadata/v{version}.metadata.json").touch()
    assert "from_metadata('t/metadata/v10.metadata.json')" in invoke("index", "t", "--out", "x.knn").stderr


def test_two_revisions_of_one_repository_are_refused_and_one_is_taken(invoke):
    revisions = ["a" * 40, "b" * 40]
    make("hub/blobs/x")
    for revision in revisions:
        Path(f"hub/snapshots/{revision}").mkdir(parents=True)
        Path(f"hub/snapshots/{revision}/x.parquet").symlink_to("../../blobs/x")
    done = invoke("index", "hub", "--out", "x.knn")
    one = re.search(r"such as (\S+)", done.stderr)[1]
    assert (done.code, one) == (1, f"hub/snapshots/{revisions[1]}")
    done = invoke("index", one, "--out", "x.knn")
    assert (done.code, "note" in done.stderr) == (0, False)


def test_files_that_may_be_meant_and_have_another_ending_are_told(here):
    for name in ("9.pq", "8.PARQUET", "7.parquet.gz"):
        (here / "in" / name).touch()
    (here / "in" / "6").write_bytes(b"PAR1")
    with pytest.warns(UserWarning, match=r"^in: 4 file\(s\) that may be Parquet are left out.*: 6, \.\.\.; rename"):
        assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]
    assert relative("in/9.pq") == ["9.pq"]


def test_a_folder_that_is_still_written_to_is_told(here):
    make(here / "in" / "sub" / "_temporary" / "0" / "part-0.parquet")
    with pytest.warns(UserWarning, match=r"^in/sub/_temporary tells of a job that is still writing or broke off"):
        assert relative("in") == ["a.parquet", "b.parquet", "deep/er/c.parquet"]


@pytest.mark.parametrize(
    "folders", [("kind=3", "kind=7"), ("cat", "dog"), ("kind=03", "kind=3"), ("03", "3")], ids=" ".join
)
def test_labels_that_are_names_of_folders_are_told_with_what_makes_a_column_of_them(invoke, folders):
    for folder in folders:
        write_table(image_table(np.arange(64, dtype=np.uint8).reshape(16, 2, 2)), Path(f"in/{folder}/0.parquet"))
    assert {file["label_column"] for file in json.loads(invoke("inspect", "in", "--json").stdout)["files"]} == {None}
    done = invoke("index", "in", "--out", "x.knn")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    command = re.search(r'python -c "(.*)" makes rows.parquet', done.stderr)[1]
    exec(command)  # noqa: S102  # of this test's own making
    label = "kind" if "=" in folders[0] else "label"
    assert invoke("index", "rows.parquet", "--label-column", label, "--out", "x.knn").code == 0
    done = invoke("compare", "in", "--index", "x.knn", "--label-column", label)
    assert (done.code, done.stderr.count("makes rows.parquet")) == (1, 1)
    classes = json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"]
    assert classes == ([3, 7] if "kind=7" in folders else [folder.removeprefix("kind=") for folder in folders])


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (("label=3", "label=7"), [3, 7]),
        (("year=2024/class=a%20b", "year=2025/class=c"), ["a b", "c"]),
        (("label=03", "label=3"), ["03", "3"]),
    ],
)
def test_a_label_that_is_in_the_names_of_folders_is_a_column_of_their_files(invoke, folders, labels):
    for place, folder in enumerate(folders):
        images = np.full((16, 2, 2), 40 * place, np.uint8) + np.arange(16, dtype=np.uint8)[:, None, None]
        write_table(image_table(images).append_column("size", [list(range(16))]), Path(f"in/{folder}/0.parquet"))
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"] == labels
    done = invoke("compare", "in", "--index", "x.knn", "--k", "1", "--json")
    assert json.loads(done.stdout)["indexes"][0]["accuracy"] == 1
    assert invoke("classify", "x.knn", "in", "--out", "out", "--k", "1").code == 0
    for folder, label in zip(folders, labels, strict=True):
        found = pq.ParquetFile(f"out/{folder}/0.parquet").read()
        assert found.column_names[:2] == ["size", "prediction"]  # the folder tells the label here too
        assert {*found["prediction"].to_pylist()} == {label}


def test_a_label_of_folders_is_none_where_it_is_not_in_all_or_the_file_has_it(invoke):
    images = image_table(np.arange(64, dtype=np.uint8).reshape(16, 2, 2))
    write_table(images.append_column("label", [["own"] * 16]), Path("in/label=3/0.parquet"))
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"] == ["own"]
    for names in (["label=3/0.parquet", "0.parquet"], ["label=__HIVE_DEFAULT_PARTITION__/x.parquet"]):
        assert partition_label(names) == {}
    assert partition_label(["label=1/y=2/0.parquet"]) == {}


@pytest.mark.parametrize("named", ["in", "in/part-0.parquet"])
def test_labels_that_are_dates_are_told_with_what_makes_text_of_them(invoke, named):
    days = pa.array(["2020-01-02", "2020-01-03"] * 4).cast(pa.date32())
    for part in range(2):
        images = image_table(np.arange(32, dtype=np.uint8).reshape(8, 2, 2) + part)
        write_table(images.append_column("label", days), Path(f"in/part-{part}.parquet"))
    done = invoke("index", named, "--out", "x.knn")
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    exec(re.search(r'python -c "(.*)" makes rows.parquet', done.stderr)[1])  # noqa: S102  # of this test's own making
    assert invoke("index", "rows.parquet", "--out", "x.knn").code == 0
    made = json.loads(invoke("inspect", "x.knn", "--json").stdout)
    assert made["classes"] == ["2020-01-02", "2020-01-03"]
    assert made["n"] == (16 if named == "in" else 8)


def test_what_is_made_of_spark_s_files_has_dates_that_nanoseconds_do_not_reach(invoke):
    taken = pa.array(["1066-10-14", "9999-12-31"]).cast(pa.timestamp("us"))
    for folder in ("kind=3", "kind=7"):
        images = image_table(np.arange(8, dtype=np.uint8).reshape(2, 2, 2)).append_column("taken", taken)
        Path("in", folder).mkdir(parents=True)
        pq.write_table(images, f"in/{folder}/0.parquet", use_deprecated_int96_timestamps=True)
    for options in ((), ("--label-column", "taken")):
        done = invoke("index", "in", "--out", "x.knn", *options)
        exec(re.search(r'python -c "(.*)" makes rows.parquet', done.stderr)[1])  # noqa: S102  # of this test's own making
        assert pq.read_table("rows.parquet")["taken"].cast(pa.timestamp("us")).to_pylist() == 2 * taken.to_pylist()


def test_a_uri_may_have_wildcards(here):
    assert relative(f"file://{here}/in/[ab].parquet") == ["a.parquet", "b.parquet"]
    assert relative(f"file://{here}/**/c.parquet") == relative("**/c.parquet") == ["in/deep/er/c.parquet"]
    assert relative(f"file://{here}/i*/de*") == relative("i*/de*") == ["in/deep/er/c.parquet"]
    assert relative(f"file://{here}/in/*") == relative("in/*")
    with pytest.raises(KnnvoteError, match=r"^no file matches file://.*/in/\*\.csv"):
        find_inputs(f"file://{here}/in/*.csv")


def test_a_leading_tilde_is_the_home_wherever_a_path_is_given(here, invoke, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    make(here / "home" / "x.parquet")
    assert invoke("index", "~/x.parquet", "--out", "~/x.knn").code == 0
    assert invoke("classify", "~/x.knn", "~/*.parquet", "--out", "~/out").code == 0
    assert sorted(path.name for path in (here / "home").iterdir()) == ["out", "x.knn", "x.parquet"]
    assert not (here / "~").exists()
    assert str(locate("~nobody-has-this-name/x")) == "~nobody-has-this-name/x"


@pytest.mark.parametrize("uri", ["hf://datasets/a/b", "s3a://b/x", "http://a/b.parquet"])
def test_a_uri_of_a_kind_that_is_not_read_is_told_in_one_line(invoke, uri):
    done = invoke("inspect", uri)
    assert (done.code, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith(f"error: cannot open {uri}: ")
    assert "download it and give its path" in done.stderr


def test_google_s_store_is_not_asked_for_minutes(monkeypatch):
    asked = []

    class FileSystem:
        @staticmethod
        def from_uri(uri):
            asked.append(uri)
            return None, "b/x"

    monkeypatch.setattr(locations.pafs, "FileSystem", FileSystem)
    for uri in ("gs://b/x", "gs://b/x?retry_limit_seconds=3"):
        locate(uri)
    assert asked == ["gs://b/x?retry_limit_seconds=20", "gs://b/x?retry_limit_seconds=3"]
