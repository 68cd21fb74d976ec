"""Image files as they lie in folders: what is taken, as which rows, and that a changed folder is a changed input."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyarrow import fs as pafs

from knnvote.data.containers import images as container
from knnvote.data.errors import ImageFileError, KnnvoteError, Note
from knnvote.data.folders.classes import class_columns
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import find_inputs, refuse_splits
from knnvote.data.locations import Location
from knnvote.indexer.folder.open import open_index

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 6, 5), np.uint8)
CLASSES = ("3", "7", "10")


def encoded(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


def put(path, content=None):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(PIXELS[0]) if content is None else content)


def put_classes(folder="in", classes=CLASSES):
    """Eight images a class; their bytes by path relative to the folder, in the order of the rows."""
    made = {f"{classes[i % 3]}/{i:02d}.png": encoded(pixels) for i, pixels in enumerate(PIXELS)}
    for name, content in made.items():
        put(Path(folder, name), content)
    return dict(sorted(made.items()))


def as_parquet(made, path, label=int):
    names = list(made)
    pq.write_table(
        pa.table({"image": [*made.values()], "label": [label(n.split("/")[0]) for n in names], "file": names}), path
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(*arguments):
    found = []
    for source in find_inputs(list(arguments)):
        with source.open_rows() as rows:
            found += [row for batch in rows.batches(rows.schema.names, 3) for row in batch.to_pylist()]
    return found


def test_a_limit_that_reaches_some_of_the_class_folders_is_told_with_what_draws_from_all(invoke):
    put_classes()
    told = "note: the first 12 rows are of 2 of the 3 classes that folders are named for: --sample in place of --limit"
    assert told in invoke("index", "in", "--out", "x.knn", "--limit", 12).stderr
    for all_of_them in (("--limit", 17), ("--sample", 12)):
        assert (
            "folders are named for" not in invoke("index", "in", "--out", "y.knn", "--overwrite", *all_of_them).stderr
        )


def test_class_folders_give_the_index_and_the_answers_of_a_parquet_file_of_the_same_bytes(invoke):
    made = put_classes()
    as_parquet(made, "same.parquet")
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert invoke("index", "same.parquet", "--id-column", "file", "--out", "y.knn").code == 0
    x, y = (json.loads(invoke("inspect", index, "--json").stdout) for index in ("x.knn", "y.knn"))
    assert (x["classes"], x["n"], x["label_column"]) == ([3, 7, 10], 24, "label")
    assert {key: x[key] for key in ("shape", "classes", "n")} == {key: y[key] for key in ("shape", "classes", "n")}
    for query, out in (("in", "a"), ("same.parquet", "b")):
        assert invoke("classify", "x.knn", query, "--out", out, "--neighbors", "--k", "3").code == 0
    assert sorted(path.name for path in Path("a").glob("[!.]*")) == ["10.parquet", "3.parquet", "7.parquet"]
    split = pa.concat_tables([pq.read_table(f"a/{name}.parquet") for name in ("10", "3", "7")])
    together = pq.read_table("b/same.parquet").select(split.column_names)
    assert split.sort_by("file").to_pylist() == together.sort_by("file").to_pylist()
    assert split["file"].to_pylist() == list(made)
    assert {voter["id"] for voters in split["neighbors"].to_pylist() for voter in voters} <= {*made}
    done = invoke("compare", "same.parquet", "--index", "x.knn", "--index", "y.knn", "--json")
    assert len({report["accuracy"] for report in json.loads(done.stdout)["indexes"]}) == 1
    assert invoke("verify", "a").code == 0


def test_all_that_names_a_row_names_the_path_of_its_image(invoke):
    made = put_classes()
    put("in/3/99.png", made["7/01.png"])
    put("in/7/bad.png", b"no image")
    put("new/7/copy.png", made["7/01.png"])
    put("new/7/of_3.png", made["3/00.png"])
    checked = " ".join(invoke("inspect", "in", "new").stdout.split())
    assert "1, the first in/7/bad.png: " in checked
    assert "3 with another label, the first in/7/01.png, a copy of in/3/99.png" in checked
    assert "2 of new are also in in, the first new/7/copy.png, a copy of in/3/99.png" in checked
    found = json.loads(invoke("inspect", "in", "--json").stdout)["check"]
    assert found["bad"][0]["first"] == {"file": "in/7/bad.png", "row": 0}
    assert invoke("index", "in", "--out", "x.knn", "--k", "1", "--skip-bad").code == 0
    page = Path("page.html")
    assert invoke("compare", "new", "--index", "x.knn", "--report", page).code == 0
    assert "new/7/of_3.png, like 3/00.png at 0<" in page.read_text().replace("<wbr>", "")
    assert invoke("classify", "x.knn", "new", "--out", "out", "--min-confidence", "0").code == 0
    explained = invoke("explain", "out", "7/of_3.png", "--index", "x.knn", "--report", page)
    assert explained.stdout.startswith("7/of_3.png: ")
    assert "Why 7/of_3.png got this answer" in page.read_text()
    told = invoke("explain", "out", "new/7/of_3.png", "--index", "x.knn").stderr
    assert "give file and row, such as 7.parquet#0, an id, such as 7/copy.png, or --id-column" in told


def test_suspects_tell_the_path_of_each_image_and_not_what_a_job_makes_of_its_folder(invoke):
    made = put_classes()
    put("alone.png")
    as_parquet(made, "same.parquet")
    for images in (["in"], ["same.parquet", "--id-column", "file"], ["same.parquet"]):
        assert invoke("index", *images, "--out", "x.knn", "--overwrite").code == 0
        done = invoke("suspects", "x.knn", "--csv", "s.csv", "--report", "s.html", "--k", "2", "--json")
        found = {(row["id"], row["file"], row["row"]) for row in csv.DictReader(Path("s.csv").read_text().splitlines())}
        assert {(one["id"], one["file"], str(one["file_row"])) for one in json.loads(done.stdout)["suspects"]} == found
        assert len(found) > 5
        if images == ["in"]:
            assert found <= {(name, name, "0") for name in made}
            assert " of 3.parquet" not in Path("s.html").read_text()
        else:
            assert {file for _, file, _ in found} == {"same.parquet"}
        Path("s.csv").unlink()


def test_ids_are_paths_by_which_images_are_removed_and_added_again(invoke):
    put_classes()
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert invoke("remove", "x.knn", "10/02.png").code == 0
    done = invoke("add", "x.knn", "in")
    assert (done.code, "stores 23 of the 24 ids already, the first '10/05.png'" in done.stderr) == (1, True)
    for path in Path("in").rglob("*.png"):
        if path.name != "02.png":
            path.unlink()
    assert invoke("add", "x.knn", "in").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["n"] == 24
    assert invoke("remove", "x.knn", "10/02.png").code == 0


def test_formats_and_endings_of_any_case_are_rows_in_the_order_of_names_and_nothing_hidden_is(here):
    kinds = {"b.PNG": "PNG", "a.webp": "WEBP", "c.Bmp": "BMP", "d.gif": "GIF", "_DSC1.png": "PNG"}
    for name, kind in kinds.items():
        put(f"in/{name}", encoded(PIXELS[1], kind))
    for name in (".hidden.png", "Thumbs.db", ".DS_Store", "notes.txt", ".git/x.png", "__MACOSX/._a.png"):
        put(f"in/{name}")
    (here / "in" / "link.png").symlink_to("b.PNG")
    (here / "in" / "empty").mkdir()
    (source,) = find_inputs("in")
    assert (source.relative, source.shown, source.count_rows()) == ("in.parquet", "in", 6)
    found = rows_of("in")
    assert [row["file"] for row in found] == sorted([*kinds, "link.png"])
    assert found[-1]["image"] == found[2]["image"] == encoded(PIXELS[1])


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["3", "10"], [3, 10]),
        (["03", "3"], ["03", "3"]),
        (["3", "cat"], ["3", "cat"]),
        (["9" * 30, "1"], ["9" * 30, "1"]),
        (["train/cat", "test/cat", "test/7"], ["cat", "cat", "7"]),
        (["train", "plane"], ["train", "plane"]),
    ],
)
def test_labels_are_names_of_folders_and_whole_numbers_where_all_are(names, labels):
    assert class_columns(names) == {name: (("label", label),) for name, label in zip(names, labels, strict=True)}


@pytest.mark.parametrize("names", [["", "cat"], ["cat", "dog/big"], ["train", "test"], [""]])
def test_folders_that_are_splits_or_not_equally_deep_are_no_classes(names):
    assert class_columns(names) == {}


def test_folders_of_keys_and_values_tell_a_column_of_that_key():
    assert class_columns(["digit=3", "digit=4"]) == {"digit=3": (("digit", 3),), "digit=4": (("digit", 4),)}
    assert class_columns(["class=a%20b", "class=c"])["class=a%20b"] == (("class", "a b"),)


def test_images_without_class_folders_are_no_training_data_and_the_folder_that_is_told_is(invoke):
    put_classes()
    done = invoke("index", "in/3", "in/7", "--out", "x.knn")
    assert (done.code, "give the folder above them, such as in" in done.stderr) == (1, True)
    put("deep/a/1.png")
    put("deep/b/c/1.png")
    done = invoke("index", "deep", "--out", "x.knn")
    assert (done.code, "equally deep below deep, and here they do not" in done.stderr) == (1, True)
    assert "in column 'image'" in invoke("inspect", "in/3").stdout
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "in/3", "--out", "out").code == 0
    assert pq.read_table("out/3.parquet").column_names[:2] == ["file", "prediction"]


def test_splits_are_refused_together_and_what_is_told_works(invoke):
    put_classes("in/train")
    put_classes("in/test")
    with pytest.raises(KnnvoteError, match=r"several splits, test and train.*: give 'in/train\*', or each"):
        refuse_splits(find_inputs("in"))
    assert invoke("index", "in/train*", "--out", "x.knn").code == 0
    stored = json.loads(invoke("inspect", "x.knn", "--json").stdout)
    assert (stored["n"], stored["classes"]) == (24, [3, 7, 10])
    assert invoke("classify", "x.knn", "in", "--out", "out").code == 0
    assert Path("out/test/3.parquet").is_file()


def run_shell(line):
    subprocess.run(line, shell=True, check=True)  # noqa: S602  # as a person types what a message tells


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        (("train", "bus", "car"), ""),
        (("train", "car", "test"), "in: test, train are classes, as car is beside them; .* such as in/test"),
        (("dev", "te", "en"), "in: dev, te are classes, as en is"),
    ],
)
@pytest.mark.filterwarnings("default::knnvote.data.errors.Note")
def test_classes_that_are_called_as_splits_are_classes_beside_others(invoke, classes, note):
    put_classes(classes=classes)
    with pytest.warns(Note, match=note) if note else nullcontext():
        assert invoke("index", "in", "--out", "x.knn").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"] == sorted(classes)
    assert json.loads(invoke("inspect", "in", "--json").stdout)["check"]["parts"] == ["in"]


@pytest.mark.filterwarnings("ignore::knnvote.data.errors.Note")
def test_classes_that_are_called_as_splits_in_folders_of_splits_are_no_splits(invoke):
    for split in ("train", "test"):
        put_classes(f"in/{split}", classes=("train", "test", "car"))
    assert "several splits, test and train" in invoke("index", "in", "--out", "x.knn").stderr
    assert invoke("index", "in/train*", "--out", "x.knn").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"] == ["car", "test", "train"]
    check = json.loads(invoke("inspect", "in", "--json").stdout)["check"]
    assert (check["parts"], check["shared"][0]["rows"]) == (["train", "test"], 24)


@pytest.mark.parametrize("classes", [("dev", "te", "tr"), ("train", "test", "te")])
def test_folders_all_called_as_splits_are_refused_with_names_by_which_they_are_classes(invoke, classes):
    put_classes(classes=classes)
    for folder in ("in", "in/tr*"):
        done = invoke("index", folder, "--out", "x.knn")
        assert (done.code, "where they are classes and no splits" in done.stderr) == (1, True)
    told = invoke("index", "in", "--out", "x.knn").stderr.partition("call their folders so: ")[2].partition(",")[0]
    for name in classes:
        run_shell(told.replace(min(classes), name))
    assert sorted(path.name for path in Path("in").iterdir()) == sorted(f"label={name}" for name in classes)
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"] == sorted(classes)


def test_parquet_files_whose_folders_tell_a_class_that_is_called_as_a_split_are_of_no_split(invoke):
    for label in ("train", "test"):
        Path(f"in/label={label}").mkdir(parents=True)
        pq.write_table(pa.table({"image": [*map(encoded, PIXELS[:4])]}), f"in/label={label}/0.parquet")
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["classes"] == ["test", "train"]


@pytest.mark.parametrize("is_grey", [True, False])
def test_of_colour_images_of_unlike_sizes_all_that_is_wrong_is_told_at_once_and_what_is_told_works(invoke, is_grey):
    for i in range(12):
        pixels = PIXELS[i] if i % 3 else PIXELS[i][:4, :4]
        put(
            f"in/{'ab'[i % 2]}/{i}.png", encoded(pixels if is_grey else np.stack([pixels, pixels // 2, pixels], axis=2))
        )
    refused = invoke("index", "in", "--out", "x.knn").stderr
    looked = invoke("inspect", "in").stderr
    if not is_grey:
        for told in (refused, looked):
            assert "colour image (RGB, 4 x 4): pass --grayscale to convert it" in told
            assert (
                "images are of 2 sizes, such as 6 x 5 and 4 x 4, and only those of one are stored: --skip-bad" in told
            )
        assert invoke("index", "in", "--out", "x.knn", "--grayscale", "--skip-bad").code == 0
    commands = [refused] if is_grey else [refused, invoke("index", "in", "--out", "y.knn", "--grayscale").stderr]
    for told in commands:
        run_shell(re.search(r"python -c \"[^\"]+\"", told)[0].replace("python", sys.executable, 1))
        assert invoke("index", "resized", "--out", "z.knn", "--overwrite").code == 0
        stored = json.loads(invoke("inspect", "z.knn", "--json").stdout)
        assert (stored["n"], stored["classes"], stored["skipped"]) == (12, ["a", "b"], 0)
        shutil.rmtree("resized")


def test_of_pictures_dark_on_light_the_line_that_is_told_makes_the_inverse(invoke):
    light = np.full((6, 5), 250, np.uint8)
    light[2:4, 2] = 10
    put("in/a/0.png", encoded(light))
    put("in/b/1.png", encoded(light))
    refused = invoke("index", "in", "--out", "x.knn", "--step", "deskew").stderr
    assert "in/a/0.png: its corners are bright and its middle is dark, and deskew takes 0 for the background" in refused
    run_shell(re.search(r"python -c \"[^\"]+\"", refused)[0].replace("python", sys.executable, 1))
    assert invoke("index", "inverted", "--out", "x.knn", "--step", "deskew").code == 0
    np.testing.assert_array_equal(open_index("x.knn").images.reshape(2, -1), np.tile((255 - light).ravel(), (2, 1)))


def test_colour_images_of_one_size_are_told_of_colour_alone(invoke):
    put("in/a/0.png", encoded(np.stack([PIXELS[0], PIXELS[1], PIXELS[2]], axis=2)))
    done = invoke("index", "in", "--out", "x.knn")
    assert (done.code, "pass --grayscale" in done.stderr, "sizes" in done.stderr) == (1, True, False)


def test_bad_images_are_told_by_the_names_of_their_files(invoke):
    put_classes()
    put("in/3/zz.png", encoded(PIXELS[0])[:40])
    put("in/7/large.png", encoded(np.zeros((9, 9), np.uint8)))
    put("in/7/other.tiff", b"II*\0")
    done = invoke("index", "in", "--out", "x.knn")
    assert (done.code, done.stderr.startswith("error: in/3/zz.png: cannot decode PNG")) == (1, True)
    assert invoke("index", "in", "--out", "x.knn", "--skip-bad").code == 0
    done = invoke("classify", "x.knn", "in", "--out", "out")
    assert "bad image, the first: in/3/zz.png: cannot decode PNG" in done.stderr
    reasons = pq.read_table("out/7.parquet", columns=["file", "reason"]).to_pylist()
    assert {row["file"]: row["reason"] for row in reasons if row["reason"]} == {
        "7/large.png": "image is 9 x 9, expected 6 x 5",
        "7/other.tiff": "not PNG, JPEG, WebP, GIF, BMP, JPEG 2000 or AVIF, but TIFF: write it as PNG",
    }


def test_images_of_one_size_that_are_no_images_are_not_taken_for_raw_pixels(invoke):
    for name in "abc":
        put(f"in/{name}.png", bytes(64))
    assert "none of the first 3 rows of column 'image' can be read" in invoke("inspect", "in").stderr


def test_images_beside_parquet_files_are_left_out_and_told_and_taken_by_what_is_told(here):
    made = put_classes("in/pictures")
    as_parquet(made, "in/x.parquet")
    with pytest.warns(
        UserWarning, match=r"^in: 24 file\(s\) of images are left out .*: pictures/10/02.png, \.\.\.; to have"
    ):
        assert [source.shown for source in find_inputs("in")] == ["in/x.parquet"]
    assert [row["file"] for row in rows_of("in/pictures")] == list(made)
    shutil.rmtree("in/pictures")
    put("in/y.png")
    with pytest.warns(UserWarning, match="give in/y.png and the like"):
        find_inputs("in")
    assert [row["file"] for row in rows_of("in/y.png")] == ["y.png"]
    assert here.is_dir()


def test_a_glob_gives_some_images_of_each_folder(invoke):
    put_classes()
    assert invoke("index", "in", "--out", "x.knn").code == 0
    done = invoke("classify", "x.knn", "in/*/*[02468].png", "--out", "out", "--json")
    assert (json.loads(done.stdout)["rows"], done.code) == (12, 0)
    assert invoke("verify", "out").code == 0
    assert {row["label"] for row in rows_of("in/*/*[02468].png")} == {3, 7, 10}
    put("in/3/99.png")
    assert invoke("verify", "out").code == 0
    put("in/3/98.png")
    assert "in/3 was changed since out/3.parquet was made from it" in invoke("verify", "out").stderr
    for twice in (["in", "in/3/*.png"], ["in/3/0*", "in/3/1*"], ["in", "in/3/00.png"]):
        with pytest.raises(KnnvoteError, match="give it once"):
            find_inputs(twice)


def test_images_that_a_shell_gives_one_by_one_are_told_with_what_gives_them_together(here):
    put_classes(classes=("a", "a", "a"))
    names = sorted(str(path) for path in Path("in/a").iterdir())
    with pytest.warns(
        UserWarning, match=r"^24 image files are given one by one.*give in/a, or 'in/a/\*\.png' in quotes"
    ):
        assert len(find_inputs(names)) == 24
    assert len(find_inputs("in/a/*.png")) == len(find_inputs(names[:20])) - 19 == 1
    assert here.is_dir()


def test_two_folders_whose_images_are_named_alike_have_ids_of_their_own(invoke):
    put_classes("one/a", ("x", "y", "z"))
    put_classes("two/a", ("x", "y", "z"))
    assert invoke("index", "one/a", "two/a", "--out", "x.knn").code == 0
    assert invoke("remove", "x.knn", "one/a/x/00.png", "two/a/x/00.png").code == 0
    assert json.loads(invoke("inspect", "x.knn", "--json").stdout)["n"] == 46


def test_a_name_that_is_not_utf_8_and_a_link_to_nothing_fail_as_a_folder(here):
    put("in/a.png")
    (here / "in" / "gone.png").symlink_to("nothing")
    (source,) = find_inputs("in")
    with pytest.raises(ImageFileError, match=r"cannot read in/gone\.png: No such file"):
        source.describe()
    (here / "in" / "gone.png").unlink()
    os.mkfifo("in/pipe.png")
    with pytest.raises(ImageFileError, match=r"cannot read in/pipe\.png: it is not a regular file"):
        source.describe()
    Path("in/pipe.png").unlink()
    Path(os.fsdecode(b"in/\xff.png")).write_bytes(b"")
    with pytest.raises(KnnvoteError, match=r"the name .* is not UTF-8; rename it"):
        find_inputs("in")


def add_one(folder):
    put(folder / "zz.png")


def remove_one(folder):
    (folder / "02.png").unlink()


def change_one(folder):
    put(folder / "02.png", encoded(PIXELS[0]))


def rename_one(folder):
    (folder / "02.png").rename(folder / "020.png")


CHANGES = pytest.mark.parametrize("change", [add_one, remove_one, change_one, rename_one])


@CHANGES
def test_a_folder_that_changed_is_classified_again_and_no_other(invoke, change):
    put_classes()
    assert invoke("index", "in", "--out", "x.knn").code == 0
    first = invoke("classify", "x.knn", "in", "--out", "out", "--json")
    assert json.loads(first.stdout)["files"] == {"written": 3, "skipped": 0, "failed": 0}
    Path("in/10/note.txt").touch()
    again = invoke("classify", "x.knn", "in", "--out", "out", "--json")
    assert json.loads(again.stdout)["files"] == {"written": 0, "skipped": 3, "failed": 0}
    change(Path("in/10"))
    assert "in/10 was changed since" in invoke("verify", "out").stderr
    again = invoke("classify", "x.knn", "in", "--out", "out", "--json")
    assert json.loads(again.stdout)["files"] == {"written": 1, "skipped": 2, "failed": 0}
    assert invoke("verify", "out").code == 0


@CHANGES
def test_a_folder_that_changes_while_it_is_read_is_told(here, change):
    put_classes()
    (source, *_) = find_inputs("in")
    with pytest.raises(ImageFileError, match=r"^in/10 changed while it was read"), source.open_rows():
        change(here / "in" / "10")


def test_a_job_over_folders_goes_on_where_it_was_killed(invoke, monkeypatch):
    put_classes()
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "in", "--out", "whole").code == 0
    read, seen = container._content, []

    def killed(file):
        seen.append(file)
        if len(seen) > 20:
            raise SystemExit(137)
        return read(file)

    with monkeypatch.context() as patched:
        patched.setattr(container, "_content", killed)
        with pytest.raises(SystemExit):
            invoke("classify", "x.knn", "in", "--out", "out")
    shutil.rmtree("in/7")
    put_classes()
    done = invoke("classify", "x.knn", "in", "--out", "out", "--json")
    counts = json.loads(done.stdout)["files"]
    assert (counts["written"] + counts["skipped"], counts["failed"]) == (3, 0)
    assert counts["skipped"] >= 1
    for name in ("3", "7", "10"):
        assert Path(f"out/{name}.parquet").read_bytes() == Path(f"whole/{name}.parquet").read_bytes()


def test_large_images_are_read_a_few_at_a_time_and_one_larger_than_any_image_is_refused(here, monkeypatch):
    put_classes()
    size = max(map(len, put_classes().values()))
    monkeypatch.setattr(container, "BATCH_BYTES", 2 * size)
    (source, *_) = find_inputs("in")
    with source.open_rows() as rows:
        batches = list(rows.batches(["image", "file"], 100))
        assert {batch.num_rows for batch in batches} <= {1, 2, 3}
        assert sum(batch.num_rows for batch in batches) == 8
        assert [batch.num_rows for batch in rows.batches(["file"], 100)] == [8]
        ((places, table),) = rows.take(np.array([1, 6]), ["file"], 10)
        assert (places.tolist(), table["file"].to_pylist()) == ([1, 6], ["10/05.png", "10/20.png"])
    with (here / "in" / "10" / "02.png").open("ab") as stream:
        stream.truncate((1 << 30) + 1)
    with pytest.raises(ImageFileError, match=r"^in/10/02.png has 1,073,741,825 bytes"), source.open_rows() as rows:
        rows.head()


def test_folders_elsewhere_than_on_this_machine_are_told_apart_by_their_listing(here):
    """A file system over another, as those of object stores are in that they are not local."""
    put_classes()
    filesystem = pafs.SubTreeFileSystem(str(here), pafs.LocalFileSystem())
    place = Location(filesystem, "in/10", "s3://in/10")
    source = InputFile(filesystem, "in/10", place.shown, "10.parquet", 0, inner="10", container=container.ImageRows)
    before = source.describe()
    with source.open_rows() as rows:
        batch = next(rows.batches(["image", "file"], 100))
    assert batch.to_pylist() == [{"image": row["image"], "file": row["file"]} for row in rows_of("in")[:8]]
    assert source.describe() == before
    assert before.keys() == {"path", "size", "etag"}
    change_one(here / "in" / "10")
    assert source.describe() != before
