"""The tour, on files that it leaves behind."""

import html
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote import demo
from knnvote.classify.classifier import Classifier
from knnvote.cli.data import tell_next
from knnvote.cli.main import cli
from knnvote.data.errors import KnnvoteError
from knnvote.data.sample import drawn_one
from knnvote.demo import DemoPaths, draw, run_demo
from knnvote.indexer.folder.verify import verify_folder

FOLDER = "my demo"  # the space is quoted in the commands that are printed


FOREIGN = ("notes.txt", "predictions/exact/mine.csv", "predictions/drawn/mine.csv", "explained/mine.csv")


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """Where the demo ran, and what it said the first and the second time; between them files not its own came in."""
    here = tmp_path_factory.mktemp("tour")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        tell_next(run_demo(Path(FOLDER), said.append), said.append, "knnvote")
        paste(here, commands(said)[1])  # which makes what the second demo forgets
        for name in FOREIGN:
            (here / FOLDER / name).write_text("not the demo's")
        again = []
        tell_next(run_demo(Path(FOLDER), again.append), again.append, "knnvote")
    return here, said, again


def commands(said):
    found = [line.strip() for line in said if line.startswith("  knnvote ")]
    assert [command.split()[1] for command in found] == ["serve", "compare", "classify", "inspect"]
    return found[1:]


def paste(here, command):
    """Run a command that a demo printed in a shell, as a person would."""
    path = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
    done = subprocess.run(  # noqa: S602
        command, shell=True, cwd=here, env={**os.environ, "PATH": path}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_tour_says_what_the_recipe_asks_for(tour):
    for said in tour[1:]:
        told = "\n".join(said)
        assert "pixels range over (0, 16), vectors have shape (1797, 64)" in told
        accuracies = re.findall(
            r"^  (exact|adaptive) +accuracy (0\.\d{4}) \(balanced 0\.\d{4}\), agreement with exact search ([\d.]+)",
            told,
            re.M,
        )
        assert [kind for kind, *_ in accuracies] == ["exact", "adaptive"]
        assert all(float(accuracy) >= 0.98 and float(agreement) >= 0.99 for _, accuracy, agreement in accuracies)
        assert re.search(r"recognised as 1, by \d+% of the vote", told)
        assert len(re.findall(r"^    a \d at distance [\d.]+: train\.parquet#\d+$", told, re.MULTILINE)) == 5


def test_it_draws_the_ten_digits_and_the_one(tour):
    told = "\n".join(tour[1]).splitlines()
    first = next(i for i, line in enumerate(told) if "here are 0 to 9" in line)
    assert all(line.startswith("    ") for line in told[first + 1 : first + 17])
    assert told[first + 17].startswith("  ")
    assert not told[first + 17].startswith("    ")
    one = next(i for i, line in enumerate(told) if line.startswith("5. "))
    assert told[one + 1 : one + 9] == ["    " + line for line in draw(drawn_one(), per_image=8)]


def test_its_files_are_left_behind_and_are_what_it_says(tour):
    here, _, said = tour
    folder = here / FOLDER
    assert pq.read_metadata(folder / "train.parquet").num_rows == 1347
    assert pq.read_metadata(folder / "test.parquet").num_rows == 450
    truth = pq.read_table(folder / "test.parquet")["label"].to_numpy()
    for kind in ("exact", "adaptive"):
        assert verify_folder(folder / f"{kind}.knn") == []
        predicted = pq.read_table(folder / "predictions" / kind / "test.parquet")["prediction"].to_numpy()
        told = float(re.search(rf"{kind} +accuracy ([\d.]+)", "\n".join(said))[1])
        assert told == pytest.approx((predicted == truth).mean(), abs=1e-4)
    drawn = pq.read_table(folder / "drawn.parquet")
    answer = Classifier.open(folder / "exact.knn")(drawn)
    assert answer.prediction.to_pylist() == [1]
    assert pq.read_table(folder / "predictions" / "drawn" / "drawn.parquet")["prediction"].to_pylist() == [1]


def test_the_commands_it_prints_run_when_pasted_after_a_second_demo_too(tour, invoke, monkeypatch):
    here, _, said = tour
    monkeypatch.chdir(here)
    for command in commands(said):  # one of which a shell has run
        done = invoke(*shlex.split(command.replace("\\\n", ""))[1:])
        assert done.code == 0, done.stderr
    table = pq.read_table(here / FOLDER / "explained" / "test.parquet")
    assert table.num_rows == 450
    assert pa.types.is_list(table.schema.field("neighbors").type)
    assert "abstained" in table["status"].to_pylist()


def test_it_ends_with_the_pages_to_open_which_lead_to_each_other(tour, monkeypatch):
    here, _, said = tour
    monkeypatch.chdir(here)
    last = said[said.index(f"\nAll files are in '{FOLDER}'. Open in a browser:") + 1 :]
    pages = [Path(line.strip()) for line in last[:3]]
    assert [page.name for page in pages] == ["comparison.html", "report.html", "drawn.html"]
    texts = [page.read_text() for page in pages]
    for page, text in zip(pages, texts, strict=True):
        assert {*re.findall(r'href="\./(.*?)"', text)} == {other.name for other in pages if other != page}
        again = html.unescape(re.search(r"<dt>this page again</dt><dd><code>(.*?)</code>", text)[1])
        _, command, *arguments = shlex.split(again)
        assert cli.commands[command].make_context(command, arguments[:]).params  # it can be read
        assert arguments[-1] == page.name
    accuracy = re.search(r"exact +accuracy ([\d.]+)", "\n".join(said))[1]
    assert f"{100 * float(accuracy):.2f}%" in texts[1]
    assert "<h1>Why drawn.parquet#0 got this answer</h1>" in texts[2]


def test_the_last_lines_fit_a_terminal_where_names_are_as_they_come():
    paths, said = DemoPaths(Path("knnvote-demo"), (Path("knnvote-demo/drawn.html"),), "pages need x: pip install y"), []
    tell_next(paths, said.append, "knnvote")
    assert max(map(len, "\n".join(said).splitlines())) <= 80


def test_without_the_libraries_of_pages_it_says_what_installs_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    paths = demo._write_pages(DemoPaths(tmp_path), None)
    assert paths.pages == ()
    said = []
    tell_next(paths, said.append, "knnvote")
    assert said[0].endswith("There are no pages to open:")
    assert said[1] == "  pages need Jinja2, which is not installed: pip install 'knnvote[plot]'"


def test_files_that_are_not_its_own_survive_a_second_demo(tour):
    here = tour[0]
    for name in FOREIGN:
        assert (here / FOLDER / name).read_text() == "not the demo's"


def test_a_second_demo_says_the_same(tour):
    _, first, second = tour
    assert first == second


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(KnnvoteError, match="demo is a file: give the demo a folder"):
        run_demo(tmp_path / "demo", print)
    assert (tmp_path / "demo").read_text() == "mine"


def test_a_drawing_is_darker_where_there_is_more_ink():
    image = np.array([[0, 8, 16, 0]])
    assert draw(image, per_image=4) == ["  ==@@"]
    assert draw(np.hstack([image, image]), per_image=4) == ["  ==@@      ==@@"]
