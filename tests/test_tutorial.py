"""The tutorial: every block is run in its order, and says and draws what the page shows."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import PIL.Image

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^```(console|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MAIN = "from classify.cli import main; main()"
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


def run_console(block, folder):
    """Run the commands of a block, each of which tells what stands below it."""
    for told in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = told.partition("\n")
        program, *arguments = command.split()
        assert program == "knnvote"
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *arguments],
            cwd=folder,
            env={**os.environ, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert mask(done.stdout) == mask(expected), command


def run_python(block, names):
    """Run a block, and give what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "docs/tutorial.md", "exec"), names)  # noqa: S102  # these blocks are our own
    return printed.getvalue()


def test_every_block_says_what_the_page_shows_and_draws_its_pictures(tmp_path, monkeypatch):
    page = (DOCS / "tutorial.md").read_text()
    monkeypatch.chdir(tmp_path)
    names, printed = {}, ""
    for kind, block in _BLOCK.findall(page):
        if kind == "text":
            assert printed == block
            printed = ""
            continue
        assert printed == "", f"the page does not show what is printed before:\n{block}"
        if kind == "console":
            run_console(block, tmp_path)
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
