"""The tutorial and the tour of the README: every block is run in its order, and says and draws what the page shows."""

import contextlib
import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import PIL.Image
import pytest

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
_BLOCK = re.compile(r"^```(console|python|sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Times, sizes on disk and speeds differ from run to run and machine to machine; so does which of two images at one
# distance scikit-learn finds, and its figures with it.
_VARIES = re.compile(r" +\d+(?:\.\d+)? (?:s\b|[kM]?B\b)| +\d+\.\d+ x\b|(?<=scikit-learn )(brute|kd_tree|ball_tree) .*")
# Text of another matplotlib has another size and moves all else: 3.9 draws the right pictures up to 19 of 255 apart in
# the mean, more than wrong ones of this version are (5 to 6). So pixels are compared where this version draws, closely.
_DRAWN_BY = "3.11."
_MOST_DIFFERENT = 1


def mask(told):
    """What a command tells without what varies, nor the spaces around it."""
    return [re.sub(r" +", " ", _VARIES.sub(" *", line)).strip() for line in told.splitlines()]


@pytest.fixture
def run_command(invoke, monkeypatch):
    """Run a command, which must succeed: what it tells, then what it gives."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_line(line):
        program, *arguments = line.split()
        assert program == "knnvote"
        done = invoke(*arguments)
        assert done.code == 0, done.stderr
        return done.stderr + done.stdout

    return run_line


def run_console(block, run_command):
    """Run the commands of a block, each of which tells what stands below it."""
    for told in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = told.partition("\n")
        assert mask(run_command(command)) == mask(expected), command


def run_python(block, names):
    """Run a block, and give what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "a block of Python", "exec"), names)  # noqa: S102  # these blocks are our own
    return printed.getvalue()


def test_every_block_says_what_the_page_shows_and_draws_its_pictures(tmp_path, run_command):
    page = (DOCS / "tutorial.md").read_text()
    names, printed = {}, ""
    for kind, block in _BLOCK.findall(page):
        if kind == "text":
            assert printed == block
            printed = ""
            continue
        assert printed == "", f"the page does not show what is printed before:\n{block}"
        if kind == "console":
            run_console(block, run_command)
        else:
            printed = run_python(block, names)
    assert printed == ""
    pictures = re.findall(r"!\[[^\]]+\]\((.+?)\)", page)
    assert sorted(pictures) == sorted(f"tutorial/{path.name}" for path in (DOCS / "tutorial").iterdir())
    for picture in pictures:
        shown, made = (
            np.asarray(PIL.Image.open(path).convert("L"), float)
            for path in (DOCS / picture, tmp_path / Path(picture).name)
        )
        assert shown.shape == made.shape
        if mpl.__version__.startswith(_DRAWN_BY):
            assert np.abs(shown - made).mean() < _MOST_DIFFERENT, picture
    for drawn, from_python in (("show.png", "again.png"), ("map.png", "map-again.png")):
        assert Path(drawn).read_bytes() == Path(from_python).read_bytes()


def test_the_tour_of_the_readme_says_and_gives_what_it_shows(run_command):
    tour = README.read_text().partition("## A five-minute tour")[2].partition("## Commands")[0]
    names = {}
    for kind, block in _BLOCK.findall(tour):
        if kind == "console":
            run_console(block, run_command)
        elif kind == "sh":
            for command, picture in re.findall(r"^(.+?) +# (?:(\S+\.png): )?", block, re.MULTILINE):
                run_command(command)
                if picture:
                    with PIL.Image.open(picture) as drawn:
                        drawn.load()
        else:
            run_python(block, names)
            for expression, shown in re.findall(r"^(.+?)  # ((?:\[|array\().*)$", block, re.MULTILINE):
                value = repr(eval(expression, names))  # noqa: S307  # these blocks are our own
                assert re.match(re.escape(shown).replace(r"\.\.\.", ".*"), value), expression
