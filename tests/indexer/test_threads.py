"""How many threads the numeric libraries use."""

import os
import threading

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from knnvote.indexer.threads import available_processors, limit_threads, map_single_threaded


def pools():
    np.ones((2, 2)) @ np.ones((2, 2))  # has BLAS loaded
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}


@pytest.mark.parametrize("threads", [1, 2])
def test_every_library_uses_as_many_threads_as_asked_and_again_what_it_used_after(threads):
    before = pools()
    with limit_threads(threads) as count:
        assert count == threads
        assert faiss.omp_get_max_threads() == threads
        assert {number for number in pools().values() if number > threads} == set()
    assert pools() == before


def test_without_a_number_it_is_that_of_the_processors():
    with limit_threads(None) as count:
        assert count == available_processors() == faiss.omp_get_max_threads()


def test_a_failure_within_gives_the_threads_back():
    before = pools()

    def fail():
        with limit_threads(1):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert pools() == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tell which processors are ours")
def test_processors_that_the_process_may_not_use_do_not_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_system_that_tells_only_how_many_there_are_is_believed(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_processors() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors() == 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_items_are_worked_on_in_threads_of_their_own_and_answered_in_order(threads):
    seen = set()

    def work(item):
        seen.add((faiss.omp_get_max_threads(), threading.get_ident() == threading.main_thread().ident))
        return item * item

    assert map_single_threaded(work, range(10), threads) == [item * item for item in range(10)]
    if threads > 1:
        assert seen == {(1, False)}
    with pytest.raises(ZeroDivisionError):
        map_single_threaded(lambda item: 1 // item, range(3), threads)


def test_blas_has_its_threads_again_after_searches_that_end_in_any_order():
    """It has one number for the whole process, which two searches set at once."""
    before = pools()
    both, first_done = threading.Barrier(2), threading.Event()

    def first(item):
        if item == 0:
            both.wait(10)
        return item

    def last(item):
        if item == 0:
            both.wait(10)
            assert first_done.wait(10)
        return item

    others = [threading.Thread(target=lambda: map_single_threaded(last, range(2), 2))]
    others[0].start()
    map_single_threaded(first, range(2), 2)
    first_done.set()
    others[0].join()
    assert pools() == before
