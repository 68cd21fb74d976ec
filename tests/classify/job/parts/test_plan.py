"""Whose turn it is: every row is dealt out once, in equal numbers as far as files and ranges allow."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knnvote.classify.job import work as work_module
from knnvote.classify.job.folder import plan_outputs
from knnvote.classify.job.parts import plan as plan_module
from knnvote.classify.job.parts.part import JobPart
from knnvote.classify.job.parts.plan import Plan
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate

MADE_FROM = {"index": "x", "options": {}}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    for name in "abcdefgh":
        pq.write_table(pa.table({"image": [b"0"]}), folder / f"{name}.parquet")
    return plan_outputs(find_inputs(folder), locate("/nowhere"))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.integers(0, 1000), min_size=8, max_size=8), parts=st.integers(1, 20))
def test_each_range_has_one_turn_and_no_part_has_much_more_than_its_share(tasks, rows, parts):
    of = dict(zip([task.source.relative for task in tasks], rows, strict=True))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work_module, "RANGE_ROWS", 100)
        patched.setattr(plan_module, "_rows", lambda source: of[source.relative])
        plan = Plan.of(tasks, MADE_FROM, parts)
        dealt = [plan.tasks(JobPart(number=number, parts=parts), tasks) for number in range(1, parts + 1)]
        every = [piece for task in tasks for piece in task.cut(of[task.source.relative])]
        assert [task for of_part in dealt for task in of_part] == every
        loads = [
            sum(1 + (task.piece.rows if task.piece else int)(of[task.source.relative]) for task in of_part)
            for of_part in dealt
        ]
    assert max(loads) <= sum(loads) / parts + 101


def test_files_of_other_kinds_are_dealt_out_by_their_size_and_not_read(tmp_path, monkeypatch):
    for name in "abcd":
        np.savez(tmp_path / f"{name}.npz", np.zeros((100, 8, 8), np.uint8))
    sources = find_inputs([str(Path(tmp_path, f"{name}.npz")) for name in "abcd"])
    monkeypatch.setattr(type(sources[0]), "count_rows", None)
    tasks = plan_outputs(sources, locate("/nowhere"))
    plan = Plan.of(tasks, MADE_FROM, 2)
    assert [*plan.turns.values()] == [[1], [1], [2], [2]]
