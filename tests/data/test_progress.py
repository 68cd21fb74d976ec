"""Stages of work: who watches is told of them, and what each took is logged."""

import logging
from contextlib import contextmanager

import pytest

from knnvote.data.progress import stage, watched_by


class Watched:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    @contextmanager
    def __call__(self, name, total, unit):
        self.told.append(("begins", name, total() if callable(total) else total, unit))
        yield lambda more: self.told.append((name, more))
        self.told.append(("ends", name))


def test_stages_within_stages_are_told_to_who_watches_and_to_nobody_after():
    watched = Watched()
    with watched_by(watched):
        with stage("outer", lambda: 7) as outer, stage("inner", unit="images") as inner:
            inner(2)
            outer(7)
        with stage("next"):
            pass
    with stage("unseen", 3) as advance:
        advance(3)
    assert watched.told == [
        *(("begins", "outer", 7, "rows"), ("begins", "inner", None, "images"), ("inner", 2), ("outer", 7)),
        *(("ends", "inner"), ("ends", "outer"), ("begins", "next", None, "rows"), ("ends", "next")),
    ]


def test_who_called_the_library_is_told_of_units_whether_or_not_someone_watches():
    done = []
    with stage("alone", 5, progress=done.append) as advance:
        advance(5)
    watched = Watched()
    with watched_by(watched), stage("both", 6, progress=done.append) as advance:
        advance(6)
    assert done == [5, 6]
    assert ("both", 6) in watched.told


def test_a_total_that_asks_files_is_not_asked_for_nobody():
    with stage("quick", lambda: pytest.fail("it was asked")):
        pass


def test_the_seconds_of_a_stage_that_ended_are_logged(caplog):
    caplog.set_level(logging.INFO, "knnvote")
    with stage("reading"):
        pass
    with pytest.raises(ValueError, match="broken"), stage("building"):
        raise ValueError("broken")
    (record,) = caplog.records
    assert record.getMessage().startswith("reading: 0.")
