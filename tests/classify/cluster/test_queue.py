"""Whatever workers die at, every file is done or given up once, and none for another's fault."""

from hypothesis import given
from hypothesis import strategies as st

from knnvote.classify.cluster.queue import ATTEMPTS, Group, Queue


def test_small_files_go_together_and_the_last_ones_one_by_one():
    queue, groups = Queue([10] * 10_000), []
    while (group := queue.take(2, is_idle=True)) is not None:
        groups.append(group.places)
    assert [place for places in groups for place in places] == [*range(10_000)]
    assert len(groups) < 200
    assert [len(places) for places in groups[-3:]] == [1, 1, 1]


def test_large_files_go_alone_and_wait_for_who_is_free():
    queue = Queue([1 << 30] * 3)
    assert queue.take(1, is_idle=True) == Group((0,))
    assert queue.take(2, is_idle=False) is None
    assert queue.take(2, is_idle=True) == Group((1,))


def test_what_a_dead_worker_had_is_tried_alone_and_only_that_is_counted():
    queue = Queue([10] * 8)
    first, second = queue.take(1, is_idle=True), queue.take(1, is_idle=False)
    assert queue.lose([first, second]) == []
    assert queue.take(1, is_idle=False) is None
    assert queue.take(1, is_idle=True) == Group((0,), is_alone=True)
    for _ in range(ATTEMPTS - 1):
        assert queue.lose([Group((0,), is_alone=True)]) == []
    assert queue.lose([Group((0,), is_alone=True)]) == [0]
    assert queue.was_lost(1)
    assert not queue.was_lost(7)


@given(
    sizes=st.lists(st.integers(0, 1 << 24), max_size=60),
    poison=st.sets(st.integers(0, 59)),
    workers=st.integers(1, 4),
    data=st.data(),
)
def test_a_poison_file_is_given_up_and_no_other(sizes, poison, workers, data):
    queue, held = Queue(sizes), [[] for _ in range(workers)]
    done, given_up = [], []
    while len(done) + len(given_up) < len(sizes):
        for groups in held:
            while len(groups) < 2 and not any(group.is_alone for group in groups):
                group = queue.take(workers, is_idle=not groups)
                if group is None:
                    break
                groups.append(group)
        busy = [groups for groups in held if groups]
        assert busy
        groups = data.draw(st.sampled_from(busy))
        if poison & {*groups[0].places}:
            given_up += queue.lose(groups)
            groups.clear()
        else:
            done += groups.pop(0).places
    assert sorted(done) == [place for place in range(len(sizes)) if place not in poison]
    assert sorted(given_up) == [place for place in range(len(sizes)) if place in poison]
