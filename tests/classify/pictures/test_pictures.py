import builtins
import itertools
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.choosing.choose_k import Choice, choose_k
from knnvote.classify.choosing.scores import Score
from knnvote.classify.interval import share_interval
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.selection import Selection, select_images
from knnvote.classify.pictures import figures
from knnvote.classify.pictures.agreement import draw_agreement
from knnvote.classify.pictures.choice import draw_choice
from knnvote.classify.pictures.figures import check_picture, new_figure, plain, save, style
from knnvote.classify.pictures.grid import check_grid, draw_errors, draw_grid
from knnvote.classify.pictures.space_map import draw_map, find_map
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index


@pytest.fixture
def job(tmp_path, digits_folder, exact_index, invoke):
    """The digits' test images classified: the folder of the job, which is named otherwise than usual."""
    done = invoke("classify", exact_index, digits_folder / "test.parquet", "--out", "out", "--prefix", "knn_", "--k", 7)
    assert done.code == 0, done.stderr
    return tmp_path / "out"


@pytest.fixture
def wrong(digits_folder, job):
    """Rows whose prediction is wrong, found in plain Python."""
    truth = pq.read_table(digits_folder / "test.parquet")["label"].to_pylist()
    predicted = pq.read_table(job / "test.parquet")["knn_prediction"].to_pylist()
    return [(row, *pair) for row, pair in enumerate(zip(truth, predicted, strict=True)) if pair[0] != pair[1]]


def selected(*paths, count=10, **options):
    images = options.pop("images", ImageOptions())
    return select_images(find_inputs(list(map(str, paths))), Selection(count=count, images=images, **options))


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def pixels(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


# Grids


def test_the_folder_of_an_index_or_a_job_names_the_command_that_draws_its_images(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("knnvote.classify.pictures.space_map._SIDES", (48, 36))  # time
    images = np.eye(9, dtype=np.uint8).reshape(9, 3, 3)
    index_arrays(images, np.arange(9) % 2, Path("x.knn"))
    for name in ("in/a.parquet", "in/b.parquet", "a file.parquet"):
        write_table(image_table(images), Path(name))
    for source, out in (("in", "of two"), ("a file.parquet", "of one")):
        assert invoke("classify", "x.knn", source, "--out", out).code == 0
    drawn = {"x.knn": "map.png", "of one": "show.png", "of two": "report.html"}
    for folder, file in drawn.items():
        refused = invoke("show", folder)
        assert refused.code == 1
        command = shlex.split(refused.stderr.partition(": knnvote ")[2].partition(" draws ")[0])
        assert command[0] == file.partition(".")[0]
        assert invoke(*command).code == 0
        assert Path(file).stat().st_size > 0


def test_the_grid_holds_the_pixels_and_labels_of_the_file(digits_folder):
    table = pq.read_table(digits_folder / "test.parquet")
    shown, total = selected(digits_folder / "test.parquet")
    figure = draw_grid(shown, 5)
    assert total == 10
    assert titles(figure) == [str(label) for label in table["label"][:10].to_pylist()]
    images = table["image"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(pixels(figure), images[:10])
    drawn = [axes.images[0] for axes in figure.axes]
    assert {image.get_cmap().name for image in drawn} == {"gray"}
    assert {image.get_clim() for image in drawn} == {(0, images[:10].max())}
    assert {image.get_interpolation() for image in drawn} == {"nearest"}
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 5)


def test_a_grid_of_pictures_in_colour_has_their_colours(tmp_path):
    colours = np.random.default_rng(5).integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
    colours[0, 0, 0] = 255
    np.save(tmp_path / "x.npy", colours)
    shown, _ = selected(tmp_path / "x.npy")
    np.testing.assert_array_equal(pixels(draw_grid(shown, 2, ink="dark")), colours)


def test_ink_on_paper_is_dark(digits_folder, tmp_path, invoke):
    shown, _ = selected(digits_folder / "test.parquet")
    assert {axes.images[0].get_cmap().name for axes in draw_grid(shown, 5, ink="dark").axes} == {"gray_r"}
    for ink in ("light", "dark"):
        asked = ("show", digits_folder / "test.parquet", "--grid", "1x1", "--ink", ink, "--out", f"{ink}.png")
        assert invoke(*asked).code == 0
    light, dark = (imagecodecs.imread(tmp_path / f"{ink}.png")[..., :3].astype(int) for ink in ("light", "dark"))
    assert dark.mean() > light.mean()  # of a digit most pixels are 0


def test_images_without_labels_are_named_by_their_rows_through_all_files(tmp_path):
    images = np.arange(3 * 12, dtype=np.uint8).reshape(3, 4, 3)
    for name in "ab":
        write_table(image_table(images), tmp_path / f"{name}.parquet")
    figure = draw_grid(selected(tmp_path, count=5)[0], 3)
    assert titles(figure) == ["row 0", "row 1", "row 2", "row 0", "row 1"]
    np.testing.assert_array_equal(pixels(figure)[3], images[0])


def test_an_image_that_cannot_be_read_has_its_place(tmp_path):
    png = imagecodecs.png_encode(np.eye(5, dtype=np.uint8))
    pq.write_table(pa.table({"image": [png, b"no image", None], "label": ["a", "b", None]}), tmp_path / "x.parquet")
    figure = draw_grid(selected(tmp_path / "x.parquet")[0], 5)
    assert titles(figure) == ["a", "unreadable\nb", "unreadable\nrow 2"]
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 0]


def test_labels_are_shown_as_they_are_and_on_one_line(tmp_path):
    labels = pa.array(["$x_1$", "two\nlines", "l" * 99])
    write_table(image_table(np.ones((3, 4, 4), np.uint8), labels), tmp_path / "x.parquet")
    figure = draw_grid(selected(tmp_path / "x.parquet")[0], 5)
    save(figure, tmp_path / "x.png")  # where mathematics would be set, or fail to be
    assert titles(figure) == ["$x_1$", "two lines", f"{'l' * 12}…{'l' * 11}"]
    assert not figure.axes[0].title.get_parse_math()


def test_characters_that_no_font_has_are_told_of_once(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_FONTS", ("No Such Font",))
    labels = pa.array(["\u6570\u5b57", "\u6570", "plain"])
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 4), np.uint8)
    write_table(image_table(pixels, labels), tmp_path / "x.parquet")
    index_arrays(pixels, labels, tmp_path / "x.knn")
    grid, drawn_map = draw_grid(selected(tmp_path / "x.parquet")[0], 3), draw_map(open_index(tmp_path / "x.knn"), k=1)
    for figure, name in ((grid, "x.png"), (grid, "x.svg"), (drawn_map, "map.png")):
        with pytest.warns(UserWarning, match="boxes") as told:
            save(figure, tmp_path / name)
        (message,) = (str(warning.message) for warning in told)
        assert message.startswith(f"{tmp_path / name} shows boxes for 2 characters that no font has, such as \u5b57: ")
        assert "install a font that has them, of No Such Font" in message


def test_characters_that_an_installed_font_has_are_drawn_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_FONTS", ("No Such Font", "STIXGeneral"))
    write_table(image_table(np.ones((1, 4, 4), np.uint8), pa.array(["\u20dd"])), tmp_path / "x.parquet")
    save(draw_grid(selected(tmp_path / "x.parquet")[0], 1), tmp_path / "x.png")  # a warning would be an error
    assert (tmp_path / "x.png").exists()


def test_embeddings_are_refused(tmp_path, invoke):
    write_table(image_table(np.full((4, 64), 0.5, np.float32)), tmp_path / "x.parquet")
    done = invoke("show", "x.parquet")
    assert (done.code, done.stdout) == (1, "")
    assert "x.parquet holds 64 values a row in column 'image', and what is shown are pictures" in done.stderr
    assert invoke("show", "x.parquet", "--shape", "8x8").code == 0


def test_a_label_column_that_is_not_there_is_told(digits_folder, invoke):
    done = invoke("show", digits_folder / "test.parquet", "--label-column", "nothing")
    assert (done.code, done.stderr.count("\n")) == (1, 1)
    assert "no column 'nothing' for --label-column" in done.stderr


def test_files_without_rows_give_no_picture(tmp_path, invoke):
    write_table(image_table(np.zeros((0, 4, 4), np.uint8)), tmp_path / "x.parquet")
    done = invoke("show", "x.parquet")
    assert (done.code, done.stderr) == (1, "error: the files hold no rows: there is no image to show\n")
    assert not Path("show.png").exists()


@pytest.mark.parametrize("grid", [(2,), (2, 5, 1), (1, 21)])
def test_a_grid_is_rows_and_columns(grid):
    with pytest.raises(OptionError, match=r"^grid is "):
        check_grid(grid)


# Predictions


def test_predictions_stand_above_the_truth_and_wrong_ones_have_a_cross_and_a_frame(digits_folder, job, wrong):
    count = wrong[0][0] + 1
    shown, _ = selected(digits_folder / "test.parquet", count=count, job=FinishedJob.open(locate(job)))
    figure = draw_grid(shown, 20)
    rows = [row for row, title in enumerate(titles(figure)) if title.startswith("✗")]
    assert rows == [wrong[0][0]]
    assert titles(figure)[rows[0]] == f"✗ {wrong[0][2]}\ntruth {wrong[0][1]}"
    widths = [axes.spines["left"].get_linewidth() for axes in figure.axes]
    assert min(widths[row] for row in rows) > 2 * max(widths[row] for row in range(count) if row not in rows)


def test_rows_without_a_label_say_why(tmp_path, invoke):
    images = [imagecodecs.png_encode(np.full((4, 4), value, np.uint8)) for value in (0, 9)]
    pq.write_table(pa.table({"image": [*images, b"?"], "label": [0, 1, 1]}), tmp_path / "x.parquet")
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / "train.parquet")
    assert invoke("index", "train.parquet", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "x.parquet", "--out", "out", "--k", 2, "--min-confidence", 0.9).code == 0
    figure = draw_grid(selected("x.parquet", job=FinishedJob.open(locate("out")))[0], 5)
    assert titles(figure) == ["abstained\ntruth 0", "abstained\ntruth 1", "bad image\ntruth 1"]


def test_outputs_of_other_inputs_are_refused(digits_folder, job, invoke):
    done = invoke("show", digits_folder / "train.parquet", "--predictions", job)
    assert done.code == 1
    assert f"{job}/train.parquet is not what this job made of {digits_folder}/train.parquet" in done.stderr
    table = pq.read_table(digits_folder / "test.parquet")
    write_table(table.slice(1), Path("test.parquet"))
    done = invoke("show", "test.parquet", "--predictions", job)
    assert done.code == 1
    assert "was made of another content than test.parquet has now: classify it again" in done.stderr
    done = invoke("show", "test.parquet", "--predictions", digits_folder)
    assert "is not the output folder of a job" in done.stderr


def test_errors_show_the_voters_of_the_job_and_who_outvoted_the_truth(digits_folder, exact_index, job, wrong, invoke):
    done = invoke("classify", exact_index, digits_folder / "test.parquet", "--out", "told", "--k", 7, "--neighbors")
    assert done.code == 0
    neighbors = pq.read_table("told/test.parquet")["neighbors"].to_pylist()
    opened = FinishedJob.open(locate(job))
    index = open_index(exact_index)
    shown, total = selected(digits_folder / "test.parquet", count=3, job=opened, classifier=opened.classifier(index))
    assert total == len(wrong) > 3
    figure = draw_errors(shown)
    assert len(figure.axes) == 3 * 8
    for place, (row, truth, predicted) in enumerate(wrong[:3]):
        cells = figure.axes[8 * place : 8 * place + 8]
        assert cells[0].get_title() == f"✗ {predicted}\ntruth {truth}"
        for axes, voter in zip(cells[1:], neighbors[row], strict=True):
            cross = "✗ " if voter["label"] == predicted else ""
            assert axes.get_title() == f"{cross}{voter['label']}\n{voter['distance']:.4g}"
            np.testing.assert_array_equal(axes.images[0].get_array().ravel(), index.vectors[voter["row"]])
            assert (axes.spines["top"].get_linewidth() > 1) == bool(cross)
    assert {axes.images[0].get_cmap().name for axes in draw_errors(shown, ink="dark").axes} == {"gray_r"}


def test_more_errors_than_rows_of_the_grid_are_told(digits_folder, exact_index, job, wrong, invoke):
    options = ("--predictions", job, "--errors", "--index", exact_index)
    drawn = set()
    for grid in ("2x1", "2x20"):  # an image and its neighbours fill a row, of whatever length
        done = invoke("show", digits_folder / "test.parquet", *options, "--grid", grid)
        assert (done.code, done.stdout) == (0, "")
        assert done.stderr == f"show.png: 2 images of {len(wrong)} wrong ones; a larger --grid shows more\n"
        drawn.add(Path("show.png").read_bytes())
    assert len(drawn) == 1
    assert "of --errors the rows alone count" in " ".join(invoke("show", "--help").stdout.split())


def test_no_errors_draw_nothing(digits_folder, exact_index, invoke):
    table = pq.read_table(digits_folder / "train.parquet").slice(0, 50)
    pq.write_table(table, "known.parquet")
    assert invoke("classify", exact_index, "known.parquet", "--out", "out", "--k", 1).code == 0
    done = invoke("show", "known.parquet", "--predictions", "out", "--errors", "--index", exact_index)
    assert (done.code, done.stderr) == (0, "no prediction is wrong: nothing is drawn\n")
    assert not Path("show.png").exists()


def test_errors_of_another_index_are_refused(digits_folder, job, invoke):
    index_arrays(np.arange(128, dtype=np.uint8).reshape(2, 8, 8), np.arange(2), Path("other.knn"))
    done = invoke("show", digits_folder / "test.parquet", "--predictions", job, "--errors", "--index", "other.knn")
    assert done.code == 1
    assert f"{job} was made with another index than other.knn: its fingerprint is" in done.stderr


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_whole_labels_held_as_floats_are_compared_by_value(digits_folder, exact_index, invoke, missing):
    table = pq.read_table(digits_folder / "test.parquet")
    labels = [float(label) for label in table["label"].to_pylist()]
    labels[0] = missing
    write_table(table.set_column(table.schema.get_field_index("label"), "label", [labels]), Path("x.parquet"))
    assert invoke("classify", exact_index, "x.parquet", "--out", "floats", "--k", 7).code == 0
    predicted = pq.read_table("floats/x.parquet")["prediction"].to_pylist()
    opened = FinishedJob.open(locate("floats"))
    shown, total = selected("x.parquet", count=99, job=opened, classifier=opened.classifier(open_index(exact_index)))
    wrong = [row for row in range(1, len(labels)) if labels[row] != predicted[row]]
    assert [image.row for image in shown] == wrong
    assert total == len(wrong) > 3


def test_the_largest_labels_are_shown_and_those_of_a_regression_may_be_words(tmp_path, digits_folder, invoke):
    images = pq.read_table(digits_folder / "test.parquet")["image"].combine_chunks().to_numpy_ndarray()[:20]
    large = np.arange(20, dtype=np.uint64) % 3 + 2**63
    index_arrays(images, large, tmp_path / "large.knn")
    write_table(image_table(images, large), tmp_path / "large.parquet")
    index_arrays(images, np.arange(20.0), tmp_path / "r.knn", is_regression=True)
    write_table(image_table(images, list("abcdefghijklmnopqrst")), tmp_path / "words.parquet")
    for index, file in (("large.knn", "large.parquet"), ("r.knn", "words.parquet")):
        assert invoke("classify", index, file, "--out", f"out-{index}").code == 0
        done = invoke("show", file, "--predictions", f"out-{index}", "--grid", "1x2", "--out", f"{index}.png")
        assert (done.code, done.stderr) == (0, f"{index}.png: 2 images\n")


def test_errors_are_told_by_the_label_column_of_the_index_where_a_file_has_several_that_could_be(tmp_path, invoke):
    rng = np.random.default_rng(0)
    images, species = rng.integers(0, 255, (60, 4, 4), np.uint8), np.arange(60) % 3
    table = (
        image_table(images, species).rename_columns(["image", "species"]).append_column("weight", pa.array(range(60)))
    )
    write_table(table, tmp_path / "a.parquet")
    assert invoke("index", "a.parquet", "--label-column", "species", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "a.parquet", "--out", "out").code == 0
    done = invoke("show", "a.parquet", "--predictions", "out", "--errors", "--index", "x.knn")
    assert done.code == 0, done.stderr
    assert "of 11 wrong ones" in done.stderr


def test_labels_of_another_kind_than_predictions_are_refused(digits_folder, exact_index, invoke):
    table = pq.read_table(digits_folder / "test.parquet")
    names = [str(label) for label in table["label"].to_pylist()]
    write_table(table.set_column(table.schema.get_field_index("label"), "label", [names]), Path("x.parquet"))
    assert invoke("classify", exact_index, "x.parquet", "--out", "named").code == 0
    done = invoke("show", "x.parquet", "--predictions", "named")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == (
        "error: x.parquet: labels in column 'label' are string, and those to compare with are int64: "
        "name the right column with --label-column\n"
    )


def test_errors_need_a_job_and_its_index(digits_folder, job, invoke):
    assert invoke("show", digits_folder / "test.parquet", "--errors").code == 2
    assert invoke("show", digits_folder / "test.parquet", "--errors", "--predictions", job).code == 2
    assert invoke("show", digits_folder / "test.parquet", "--index", "x.knn").code == 2


# Map


def test_the_map_names_classes_says_what_its_axes_carry_and_claims_no_accuracy(exact_index):
    index = open_index(exact_index)
    figure = draw_map(index, k=15)
    (axes,) = figure.axes
    shares = find_map(index, rule=Rule(k=15), seed=0).shares
    assert figure.get_suptitle().startswith("Regions of 15 nearest neighbours")
    assert f"{shares.sum():.1%} of the variance" in figure.get_suptitle()
    assert {text.get_text() for text in axes.texts} == set("0123456789")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list("0123456789")
    assert sum(len(points.get_offsets()) for points in axes.collections) == 1347
    assert "accuracy" not in figure.get_suptitle()


def test_the_regions_are_the_votes_of_neighbours_in_the_plane(exact_index):
    found = find_map(open_index(exact_index), rule=Rule(k=5), seed=0)
    left, right, bottom, top = found.extent
    height, width = found.regions.shape
    for row, column in ((30, 40), (180, 240), (300, 400)):
        place = (left + (right - left) * column / (width - 1), bottom + (top - bottom) * row / (height - 1))
        nearest = np.argsort(np.square(found.points - place).sum(axis=1))[:5]
        assert found.regions[row, column] == np.bincount(found.codes[nearest]).argmax()
    assert (found.points > (left, bottom)).all()
    assert (found.points < (right, top)).all()


def test_the_map_says_how_much_of_the_classes_it_shows(tmp_path):
    rng = np.random.default_rng(0)
    codes = np.arange(360) % 36
    middles = rng.normal(size=(36, 2)) * 20
    told = {}
    for name, noise in (("apart", 0.1), ("mixed", 500.0)):
        images = np.zeros((360, 1, 8), np.float32)
        images[:, 0, :2] = middles[codes] + rng.normal(size=(360, 2)) * noise
        index_arrays(images, [f"class {code}" for code in codes], tmp_path / f"{name}.knn")
        figure = draw_map(open_index(tmp_path / f"{name}.knn"), k=5)
        told[name] = int(
            re.search(r"(\d+)% of the images lie in a region of their own class", figure.get_supxlabel())[1]
        )
        legend = figure.axes[0].get_legend()
        assert len(legend.get_texts()) == 36
        assert legend.get_window_extent().y1 < figure.bbox.y1
    assert told["apart"] > 90
    assert told["mixed"] < 50


def test_regression_has_no_map(tmp_path, invoke):
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 4), np.uint8)
    index_arrays(images, np.arange(20) / 2, tmp_path / "x.knn", is_regression=True)
    done = invoke("map", "x.knn")
    assert (done.code, done.stdout) == (2, "")
    assert "x.knn was built for regression, which has no classes and so no regions to map: give an" in done.stderr


def test_equal_images_have_no_map(tmp_path, invoke):
    index_arrays(np.ones((20, 4, 4), np.uint8), np.arange(20), tmp_path / "x.knn")
    done = invoke("map", "x.knn")
    assert (done.code, done.stderr.count("\n")) == (1, 1)
    assert "all alike" in done.stderr


def test_hundreds_of_classes_of_any_name_are_mapped(tmp_path):
    rng = np.random.default_rng(0)
    names = pa.array([f"_${i}$" for i in range(200)])
    index_arrays(rng.integers(0, 255, (200, 4, 4), np.uint8), names, tmp_path / "x.knn")
    figure = draw_map(open_index(tmp_path / "x.knn"), k=3, weights="distance")
    save(figure, tmp_path / "x.png")
    named = len(figure.axes[0].texts)
    assert 0 < named <= 60
    told = figure.get_supxlabel()
    assert f"{named} of 200 classes, those with room for it, are named" in told
    assert max(map(len, told.splitlines())) <= 155  # else it would reach beyond the picture


@pytest.mark.parametrize("longer", [pytest.param("", marks=pytest.mark.long), "_and_so_on" * 9])
def test_names_stand_in_their_own_regions_and_not_over_each_other(tmp_path, exact_index, longer):
    digits = open_index(exact_index)
    names = np.array([f"{digit}{longer}" for digit in digits.labels.to_pylist()])
    index_arrays(digits.vectors.reshape(-1, 8, 8), names, tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    (axes,) = draw_map(index).axes
    found = find_map(index, rule=Rule(k=15), seed=0)
    left, right, bottom, top = found.extent
    assert len(axes.texts) >= 7
    for text in axes.texts:
        x, y = text.get_position()
        line, column = int((y - bottom) / (top - bottom) * 360), int((x - left) / (right - left) * 480)
        assert plain(index.classes[found.regions[line, column]], 12) == text.get_text()
    drawn = boxes(axes.texts)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(drawn, 2))
    assert all(axes.bbox.fully_contains(*corner) for box in drawn for corner in box.get_points())


def test_few_images_are_mapped_and_one_is_told(digits_folder, invoke):
    table = pq.read_table(digits_folder / "train.parquet")
    for name, rows in (("three", 3), ("one", 1)):
        pq.write_table(table.slice(0, rows), f"{name}.parquet")
        assert invoke("index", f"{name}.parquet", "--out", f"{name}.knn").code == 0
    done = invoke("map", "three.knn")
    assert (done.code, done.stderr) == (0, "map.png: written\n")
    done = invoke("map", "three.knn", "--k", 4)
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    done = invoke("map", "one.knn")
    assert (done.code, done.stderr) == (
        1,
        "error: one.knn holds one image, which cannot be spread on a map: index more images\n",
    )


# Agreement against speed


def speeds(**of):
    """Reports of indexes, all as sure as can be, by path."""
    agreement = share_interval(450, 450)
    return [SimpleNamespace(path=path, relative_speed=speed, agreement=agreement) for path, speed in of.items()]


def boxes(texts):
    return [text.get_window_extent() for text in texts if text.get_text()]


@pytest.mark.parametrize("fastest", [0.25, 0.9, 3.0, 40.0, 3000.0])
def test_speeds_far_apart_have_plain_numbers_that_do_not_overlap(fastest):
    figure = draw_agreement(speeds(**{"a.knn": 0.2, "b.knn": fastest}))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels(which="both")
    drawn = boxes(labels)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(drawn, 2))
    assert all(re.fullmatch(r"[0-9.]+", label.get_text()) for label in labels)
    left, right = figure.axes[0].get_xlim()
    assert sum(left <= float(label.get_text()) <= right for label in labels) >= 2


def test_every_contender_of_equal_agreement_is_named_below_the_axes():
    names = ["exact.knn", *(f"scikit-learn {name}" for name in ("brute", "kd_tree", "ball_tree")), "$x$.knn"]
    figure = draw_agreement(speeds(**dict.fromkeys(names, 0.5)))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert legend.get_window_extent().y1 <= figure.axes[0].get_tightbbox().y0
    drawn = boxes(legend.get_texts())
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(drawn))
    markers = {container.lines[0].get_marker() for container in figure.axes[0].containers}
    assert len(markers) == len(names)


def test_contenders_of_one_name_are_told_apart_by_their_folders():
    (legend,) = draw_agreement(speeds(**{"a/x.knn": 1.0, "b/x.knn": 2.0})).legends
    assert [text.get_text() for text in legend.get_texts()] == ["a/x.knn", "b/x.knn"]


# Accuracy against k


def test_accuracy_is_drawn_against_k_with_its_band(exact_index):
    choice = choose_k(open_index(exact_index), max_k=6)
    figure = draw_choice(choice)
    (axes,) = figure.axes
    best = min((score for score in choice.scores if score.weights[0] == "s"), key=lambda score: (-score.value, score.k))
    for line, weights in zip(axes.lines[:3], ("uniform", "distance", best.weights), strict=True):
        scores = [score for score in choice.scores if score.weights == weights]
        np.testing.assert_array_equal(line.get_xdata(), range(1, 7))
        np.testing.assert_array_equal(line.get_ydata(), [score.value for score in scores])
    lowest = axes.collections[0].get_paths()[0].vertices[:, 1].min()
    assert lowest == min(s.value - s.standard_error for s in choice.scores if s.weights == "uniform")
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"best: k = {choice.best.k}, {choice.best.weights}" in told
    assert told[:3] == [f"{weights}, ± one standard error" for weights in ("uniform", "distance", best.weights)]
    assert len(axes.lines) == len(axes.collections) + 3 == 6
    assert any(text.startswith("smallest k within one\nstandard error of it: k = 1") for text in told)
    assert any(text.startswith("largest k within one\nstandard error of it: k = 6") for text in told)


def test_a_regression_shows_its_squared_error():
    scores = [Score(k=k, weights=w, value=1 / k, standard_error=0.1) for k in (1, 2) for w in ("uniform", "distance")]
    choice = Choice(images=9, search="exact", measure="mean_squared_error", with_copies=0, scores=scores)
    assert draw_choice(choice).axes[0].get_ylabel() == "mean squared error, leaving one out"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_axis_of_an_accuracy_has_no_number_beyond_0_to_1(value):
    scores = [Score(k=k, weights=w, value=value, standard_error=0) for k in (1, 2) for w in ("uniform", "distance")]
    choice = Choice(images=9, search="exact", measure="accuracy", with_copies=0, scores=scores)
    (axes,) = draw_choice(choice).axes
    axes.figure.draw_without_rendering()
    ticks = [float(label.get_text()) for label in axes.get_yticklabels()]
    assert min(ticks) >= 0
    assert max(ticks) <= 1
    assert value in ticks
    assert len(ticks) >= 3


def test_choose_k_prints_the_same_with_a_plot_and_tells_its_file(exact_index, invoke):
    plain_run = invoke("choose-k", exact_index, "--max-k", 3)
    for options, file in ((("--plot",), "choose-k.png"), (("--plot", "own.svg"), "own.svg")):
        done = invoke("choose-k", exact_index, "--max-k", 3, *options)
        assert (done.code, done.stdout, done.stderr) == (0, plain_run.stdout, f"{file}: written\n")
    assert Path("own.svg").read_bytes().startswith(b"<?xml")
    assert imagecodecs.png_decode(Path("choose-k.png").read_bytes()).shape[:2] == (600, 960)


# Files


def test_the_file_is_a_png_of_the_figures_size_and_the_same_bytes_twice(digits_folder, invoke):
    shown, _ = selected(digits_folder / "test.parquet", count=2)
    width, height = draw_grid(shown, 2).get_size_inches() * 120
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        done = invoke("show", digits_folder / "test.parquet", "--grid", "1x2", "--out", name)
        assert (done.code, done.stdout, done.stderr) == (0, "", f"{name}: 2 images\n")
    assert imagecodecs.png_decode(Path("a.png").read_bytes()).shape[:2] == (int(height), int(width))
    for kind in ("png", "svg"):
        assert Path(f"a.{kind}").read_bytes() == Path(f"b.{kind}").read_bytes()


@pytest.mark.long
def test_the_map_has_the_same_bytes_twice(exact_index, invoke):
    for name in ("a.png", "b.png"):
        assert invoke("map", exact_index, "--out", name, "--k", 3).code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize("command", [("show", "x.parquet", "--out"), ("map", "x", "--out")])
def test_another_suffix_is_refused_before_any_work(invoke, command):
    done = invoke(*command, "x.jpg")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == "error: x.jpg is no name of a picture: give one that ends in .png or .svg\n"


def test_an_index_that_plot_took_for_its_file_is_told(exact_index, invoke):
    done = invoke("choose-k", "--plot", exact_index)
    assert (done.code, done.stdout) == (2, "")
    told = f"{exact_index} is no name of a picture: give one that ends in .png or .svg, or put --plot last"
    assert done.stderr == f"error: {told}\n"


def test_a_place_that_takes_no_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KnnvoteError, match=r"cannot write .*file/x.png"):
        save(new_figure(1, 1), tmp_path / "file" / "x.png")


def test_without_matplotlib_the_command_to_install_it_is_told(monkeypatch, digits_folder, invoke):
    importing = builtins.__import__

    def without(name, *arguments, **named):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return importing(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    done = invoke("show", digits_folder / "test.parquet")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == ("error: pictures need matplotlib, which is not installed: pip install 'knnvote[plot]'\n")
    with pytest.raises(KnnvoteError):
        check_picture(Path("x.png"))


def test_styles_tell_ninety_classes_apart():
    assert len({style(place)[0] for place in range(10)}) == 10
    assert len({style(place) for place in range(90)}) == 90


def test_short_labels_stay_as_they_are():
    assert [plain(label) for label in (3, True, "seven")] == ["3", "True", "seven"]


def test_long_labels_that_start_alike_stay_apart_and_blank_ones_are_seen():
    told = [plain(f"same_beginning_of_every_name_{end}") for end in ("a", "b")]
    assert told == ["same_beginni…very_name_a", "same_beginni…very_name_b"]
    assert max(map(len, told)) <= 24
    assert [plain(label) for label in ("", " \n")] == ["(blank)", "(blank)"]
