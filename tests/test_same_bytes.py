"""The same input gives the same bytes as the code that made those kept, and what that code made still opens."""

import json
from pathlib import Path

import pytest
import same_bytes

KEPT = Path(__file__).parent / "kept"


@pytest.mark.long
def test_indexes_and_jobs_of_every_kind_have_the_bytes_that_are_kept(tmp_path, invoke):
    """What depends on no machine is compared everywhere, every byte where the same libraries use the same instructions.

    `tests/tools/same_bytes.py` made what is kept, and says how to keep it anew.
    """

    def run(arguments):
        done = invoke(*arguments)
        assert done.code == 0, done.stderr

    same_bytes.make_all(tmp_path, run)
    found, kept = same_bytes.record(tmp_path), json.loads((KEPT / "same_bytes.json").read_text())
    assert sorted(found["sha256"]) == sorted(kept["sha256"])
    assert found["manifest keys"] == kept["manifest keys"]
    assert found["answers"] == kept["answers"]
    other = {
        what: f"{kept['made by'].get(what)} there, {found['made by'].get(what)} here"
        for what in {**kept["made by"], **found["made by"]}
        if kept["made by"].get(what) != found["made by"].get(what)
    }
    if other:
        pytest.skip(f"files, keys and answers are those kept; bytes were made by others: {other}")
    assert found["sha256"] == kept["sha256"]
