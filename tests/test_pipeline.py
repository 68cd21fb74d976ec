"""Stages that overlap."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from classify.pipeline import prefetch


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
