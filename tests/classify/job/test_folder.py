"""Which file goes where below a job's output folder."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import ENDED

from knnvote.classify.job.folder import plan_outputs
from knnvote.data.errors import KnnvoteError
from knnvote.data.input_file import InputFile
from knnvote.data.locations import locate

OUT = locate("/jobs/out")


def named(relative, place="/elsewhere/x.parquet"):
    location = locate(place)
    return InputFile(location.filesystem, location.path, location.shown, relative, 0)


@given(
    st.lists(
        st.sampled_from(["a", "..", ".", "", "_knnvote", ENDED, ".DS_Store", "b.parquet", "job.json", "~", "c\n"]),
        min_size=1,
    )
)
def test_no_name_of_an_input_leads_outside_the_output_folder_or_among_its_records(parts):
    named_parts = [part for part in parts if part not in ("", ".")]
    if ".." in parts or parts[0] == "" or named_parts[:1] in ([], ["_knnvote"], [ENDED]) or ".DS_Store" in parts:
        with pytest.raises(KnnvoteError, match="has no place of its own below /jobs/out"):
            plan_outputs([named("/".join(parts))], OUT)
        return
    (task,) = plan_outputs([named("/".join(parts))], OUT)
    below = Path(task.target.path).relative_to("/jobs/out")
    assert ".." not in below.parts
    assert below.parts[0] not in ("_knnvote", ENDED)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.parquet", "./a.parquet"], "would both be written to /jobs/out/a.parquet"),
        (["b/c.parquet", "b"], "would be a file and a folder named /jobs/out/b"),
    ],
)
def test_two_inputs_whose_outputs_would_collide_are_refused(names, told):
    with pytest.raises(KnnvoteError, match=told):
        plan_outputs([named(name, f"/elsewhere/{i}") for i, name in enumerate(names)], OUT)


def test_an_output_folder_below_the_input_is_refused_on_the_same_file_system_only():
    below = replace(named("x.parquet"), root="/jobs")
    with pytest.raises(KnnvoteError, match="lies inside the input /jobs"):
        plan_outputs([below], OUT)
    beside = replace(named("x.parquet"), root="/jobs/ou")
    assert len(plan_outputs([beside], OUT)) == 1
