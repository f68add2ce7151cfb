"""Whose run begins next: turns between clients, interactive ones first, one at a time on a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from plait.service.running.courses import Course
from plait.service.running.dispatchers import Dispatcher
from plait.service.running.queues import FairQueue, Waiting
from plait.service.running.topics import Topic
from plait.store.service.records import RunRecord


def waiting(number: int, *, client: str = "c", thread: str | None = None, interactive: bool = True) -> Waiting:
    return Waiting(str(number), thread or f"thread {number}", client, interactive)


def taken(queue: FairQueue, count: int) -> list[str]:
    found = [queue.take(0.0) for _ in range(count)]
    return [each.run_id for each in found if each is not None]


def filled(items: Iterable[Waiting]) -> FairQueue:
    queue = FairQueue()
    for item in items:
        queue.put(item)
    return queue


def test_clients_take_turns_whatever_they_asked_for() -> None:
    queue = filled([*(waiting(number, client="many") for number in range(5)), waiting(9, client="few")])
    assert taken(queue, 3) == ["0", "9", "1"]


def test_interactive_runs_go_first_and_background_runs_get_on_all_the_same() -> None:
    background = [waiting(100 + number, client="b", interactive=False) for number in range(3)]
    queue = filled([*background, *(waiting(number) for number in range(20))])
    order = taken(queue, 23)
    assert order[:9] == [str(number) for number in range(9)]
    assert order[9] == "100"
    assert order[19] == "101"


def test_a_thread_has_one_run_at_a_time_in_the_order_they_came() -> None:
    queue = filled([waiting(1, thread="t"), waiting(2, thread="t"), waiting(3, thread="t"), waiting(4)])
    assert taken(queue, 4) == ["1", "4"]
    queue.free("t")
    assert taken(queue, 2) == ["2"]
    queue.free("t")
    assert taken(queue, 2) == ["3"]


def test_a_run_withdrawn_from_behind_another_does_not_free_its_thread() -> None:
    queue = filled([waiting(1, thread="t"), waiting(2, thread="t"), waiting(3, thread="t")])
    assert taken(queue, 1) == ["1"]
    assert queue.remove("2")
    assert not queue.remove("2")
    assert taken(queue, 1) == []
    queue.free("t")
    assert taken(queue, 1) == ["3"]
    assert len(queue) == 0


def test_a_run_withdrawn_from_the_front_lets_the_next_of_its_thread_through() -> None:
    queue = filled([waiting(1, thread="t"), waiting(2, thread="t")])
    queue.remove("1")
    assert taken(queue, 1) == ["2"]


def test_a_client_that_may_not_have_another_run_does_not_hold_up_the_others() -> None:
    queue = filled([waiting(1, client="full"), waiting(2, client="full"), waiting(3, client="other")])
    found = queue.take(0.0, may=lambda item: item.client != "full")
    assert found is not None
    assert found.run_id == "3"
    assert queue.take(0.0, may=lambda item: item.client != "full") is None
    assert taken(queue, 2) == ["1", "2"]


def test_a_run_waits_for_its_time() -> None:
    queue = FairQueue()
    queue.put(Waiting("later", "t", "c", due_at=10.0))
    queue.put(waiting(1, thread="t"))
    assert queue.next_due() == 10.0
    assert taken(queue, 2) == ["1"]
    queue.free("t")
    assert queue.take(9.9) is None
    found = queue.take(10.0)
    assert found is not None
    assert found.run_id == "later"
    assert queue.next_due() is None


def test_a_client_that_fills_the_queue_leaves_the_others_their_share() -> None:
    queue = filled(Waiting(str(n), f"t{n}", "greedy", due_at=1e12) for n in range(10))
    assert not queue.has_room("greedy", 10)
    assert queue.has_room("other", 10)
    for number in range(5):
        queue.put(waiting(100 + number, client="other"))
    assert not queue.has_room("other", 10)
    assert queue.has_room("third", 10)
    assert not queue.has_room("third", 10, coming=5)
    assert not FairQueue().has_room("alone", 2, coming=2)
    for number in range(10):
        queue.remove(str(number))
    assert queue.has_room("greedy", 10)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=30),
    st.sets(st.integers(0, 29)),
    st.integers(1, 4),
)
def test_every_run_begins_once_unless_it_is_withdrawn(
    items: list[tuple[int, int, bool]], gone: set[int], at_once: int
) -> None:
    runs = [Waiting(str(n), f"t{thread}", f"c{client}", live) for n, (thread, client, live) in enumerate(items)]
    queue = filled(runs)
    withdrawn = {str(n) for n in gone if queue.remove(str(n))}
    begun: list[str] = []
    running: list[Waiting] = []
    while True:
        while len(running) < at_once and (found := queue.take(0.0)) is not None:
            assert found.thread_id not in {other.thread_id for other in running}
            begun.append(found.run_id)
            running.append(found)
        if not running:
            break
        queue.free(running.pop(0).thread_id)
    assert sorted(begun, key=int) == [run.run_id for run in runs if run.run_id not in withdrawn]
    assert len(queue) == 0


async def begun_at(now: float, *, due: float) -> list[str]:
    """Which runs begin at once where the store's clock says `now`: one that is due, if it is."""
    begun: list[str] = []

    async def begin(course: Course) -> bool:
        begun.append(course.run.run_id)
        return True

    dispatcher = Dispatcher(begin, most=1, most_of=lambda _: None, clock=lambda: now)
    dispatcher.line_up(Course(RunRecord("r", "t", "a", start_after=due), Topic(), temporary=False))
    await dispatcher.ended(10, unless=asyncio.Event())
    dispatcher.stop()
    return begun


async def test_a_run_is_due_by_the_clock_of_the_store_not_by_this_hosts() -> None:
    ahead, behind = time.time() + 3600, time.time() - 3600
    assert await begun_at(ahead, due=ahead - 1) == ["r"]
    assert await begun_at(behind, due=behind + 1) == []


async def test_a_run_whose_turn_has_not_come_is_tried_again_by_the_clock_of_the_store() -> None:
    tries = 0
    over = asyncio.Event()

    async def begin(_: Course) -> bool:
        nonlocal tries
        tries += 1
        if tries == 2:
            over.set()
        return tries == 2

    # An hour behind: by this host's clock it would be tried again in an hour.
    dispatcher = Dispatcher(begin, most=1, most_of=lambda _: None, clock=lambda: time.time() - 3600)
    dispatcher.line_up(Course(RunRecord("r", "t", "a"), Topic(), temporary=False))
    await asyncio.wait_for(over.wait(), 30)
    dispatcher.stop()
