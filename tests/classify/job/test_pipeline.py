"""Stages that overlap."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from knnvote.classify.job.pipeline import map_ahead, prefetch


@pytest.fixture
def stage():
    with ThreadPoolExecutor(1, thread_name_prefix="stage") as executor:
        yield executor


@pytest.mark.parametrize("items", [[], [1], [None, None], list(range(100))])
def test_items_come_in_order_and_number(stage, items):
    assert list(prefetch(items, stage)) == items


def test_items_are_made_in_the_stage_while_the_caller_works_on_the_one_before(stage):
    second_began = threading.Event()
    makers = []

    def make():
        makers.append(threading.current_thread().name)
        yield 1
        second_began.set()
        yield 2

    items = prefetch(make(), stage)
    assert next(items) == 1
    assert second_began.wait(10)  # though the caller has not asked for it
    assert list(items) == [2]
    assert makers[0].startswith("stage")


def test_memory_holds_one_item_beside_the_one_at_work(stage):
    made = []

    def make():
        for i in range(10):
            made.append(i)
            yield i

    items = prefetch(make(), stage)
    for i in range(5):
        next(items)
        stage.submit(lambda: None).result()  # whatever was under way is done
        assert len(made) == i + 2


def test_an_error_comes_at_the_item_that_it_stands_for(stage):
    def make():
        yield 1
        message = "third"
        yield 2
        raise ValueError(message)

    items = prefetch(make(), stage)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(items)


def test_two_stages_in_a_row_keep_the_order(stage):
    with ThreadPoolExecutor(1) as second:
        squares = (i * i for i in prefetch(range(50), stage))
        assert list(prefetch(squares, second)) == [i * i for i in range(50)]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_results_come_in_the_order_of_their_items_however_many_are_under_way(ahead):
    delays = [threading.Event() for _ in range(20)]

    def work(i):
        if i % 2 == 0 and ahead > 1:
            delays[i].wait(0.02)  # the one after it is done first
        return i * i

    with ThreadPoolExecutor(ahead) as stage:
        assert list(map_ahead(work, range(20), stage, ahead)) == [i * i for i in range(20)]


def test_as_many_items_are_worked_on_at_once_as_asked_and_no_more_are_taken():
    both = threading.Barrier(2, timeout=10)
    taken = []

    def items():
        for i in range(8):
            taken.append(i)
            yield i

    def work(i):
        both.wait()  # would never end if one were worked on at a time
        return i

    with ThreadPoolExecutor(2) as stage:
        for i in map_ahead(work, items(), stage, 2):
            assert len(taken) <= i + 3


def test_a_failure_is_raised_at_its_item_after_the_results_before_it():
    with ThreadPoolExecutor(2) as stage:
        results = map_ahead(lambda i: 1 // (2 - i), range(5), stage, 2)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
