"""Large files are cut, small ones are not even opened, and what became of ranges is told as of one file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from knnvote.classify.cluster.ranges import Gathering, cut_large, size_of
from knnvote.classify.job import work
from knnvote.classify.job.folder import plan_outputs
from knnvote.classify.job.receipt import Counts
from knnvote.classify.job.work import Outcome, Piece
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A large file among small ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "RANGE_ROWS", 100)
    rng = np.random.default_rng(0)
    for name, rows in {"a": 3, "b": 250, "c": 3}.items():
        write_table(image_table(rng.integers(0, 256, (rows, 8, 8), dtype=np.uint8)), Path(f"in/{name}.parquet"))
    return plan_outputs(find_inputs(["in"]), locate("out"))


def test_a_file_that_is_much_of_the_work_is_cut_unless_its_place_is_taken(tasks, monkeypatch):
    asked = []
    monkeypatch.setattr(InputFile, "count_rows", lambda self: asked.append(self.relative) or 250)
    a, b, c = tasks
    cut = [a, *(replace(b, piece=Piece(number, 3)) for number in range(3)), c]
    assert cut_large(tasks, 2) == cut
    assert asked == ["b.parquet"]
    assert size_of(cut[1]) == b.source.size // 3
    assert cut_large(tasks, 1) == tasks
    Path("out").mkdir()
    Path("out/b.parquet").touch()
    assert cut_large(tasks, 2) == tasks


def outcome(rows=0, **of):
    return Outcome(source="in/b.parquet", counts=Counts(rows=rows, ok=rows), **of)


def told(tasks, outcomes):
    """What is told after each unit, the last one first."""
    gathering, units = Gathering(cut_large(tasks, 2)), [3, 1, 2]
    return [[*gathering.add(unit, outcome)] for unit, outcome in zip(units, outcomes, strict=True)]


def test_ranges_are_told_of_as_one_file(tasks):
    last, first, second = outcome(50, is_range=True, bad_example="row 200"), outcome(100, was_done=True), outcome(100)
    assert told(tasks, [last, first, second]) == [[], [], [outcome(250, bad_example="row 200")]]
    done = outcome(250, was_done=True)
    assert told(tasks, [outcome(was_done=True), done, outcome(was_done=True)])[-1] == [done]


def test_a_file_of_which_a_range_failed_has_failed(tasks):
    failed = outcome(failure="row 120 cannot be read")
    assert told(tasks, [outcome(50), outcome(100), failed])[-1] == [failed]
    other = outcome(failure="row 220 cannot be read")
    assert told(tasks, [other, outcome(100), failed])[-1] == [failed]
