"""Parts of a job on hosts that know nothing of each other: processes of one number in namespaces of their own, killed.

`parts.py`, run by itself, kills more of them.
"""

import pytest
from object_store import serve
from parts import Nursery, Place, prove, why_no_namespaces, write_job

_WHY_NOT = why_no_namespaces()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(_WHY_NOT is not None, reason=_WHY_NOT or "there are namespaces"),
]


def test_parts_killed_in_namespaces_of_their_own_leave_what_one_run_leaves(tmp_path):
    """Over one folder, and over a store."""
    pytest.importorskip("obstore")
    with Nursery(tmp_path) as nursery, serve() as store:
        write_job(tmp_path, nursery)
        for place in (Place(folder=tmp_path, nursery=nursery), Place(folder=tmp_path, nursery=nursery, store=store)):
            assert prove(place, kills=2, parts=3, seed=1)["killed"] >= 2
