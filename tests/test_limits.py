"""The bound that threads and event loops share."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.flow.limits import Limit, Permit


async def test_waiters_are_admitted_by_order_then_by_arrival() -> None:
    limit = Limit("test", 1)
    assert limit.try_acquire()
    admitted: list[str] = []

    async def wait(name: str, order: int) -> None:
        await limit.acquire(order)
        admitted.append(name)
        limit.release()

    async with asyncio.TaskGroup() as group:
        for name, order in (("late", 9), ("first", 1), ("second", 1), ("middle", 5)):
            group.create_task(wait(name, order))
            await asyncio.sleep(0)
        limit.release()
    assert admitted == ["first", "second", "middle", "late"]
    assert (limit.in_flight, limit.waiting) == (0, 0)


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    limit = Limit("test", 1)
    assert limit.try_acquire()
    waiter = asyncio.create_task(limit.acquire(5))
    await asyncio.sleep(0)
    limit.release()
    assert not limit.try_acquire()
    await waiter
    limit.release()
    assert limit.in_flight == 0


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    limit = Limit("test", 1)
    assert limit.try_acquire()
    waiters = [asyncio.create_task(limit.acquire(0)) for _ in range(100)]
    await asyncio.sleep(0)
    for waiter in waiters[:99]:
        waiter.cancel()
    await asyncio.wait(waiters[:99])
    assert limit.waiting == 1
    limit.release()
    await waiters[99]
    limit.release()
    assert limit.in_flight == 0


async def test_a_slot_granted_to_a_cancelled_waiter_goes_to_the_next() -> None:
    limit = Limit("test", 1)
    assert limit.try_acquire()
    first, second = (asyncio.create_task(limit.acquire(order)) for order in (0, 1))
    await asyncio.sleep(0)
    limit.release()  # grants the slot to the first, which has not run yet
    first.cancel()
    await asyncio.wait([first])
    await second
    assert first.cancelled()
    assert limit.in_flight == 1


async def test_a_waiter_of_a_closed_loop_does_not_keep_its_slot() -> None:
    limit = Limit("test", 1)
    assert limit.try_acquire()

    def wait_in_a_loop_that_dies() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(limit.acquire(0))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    await asyncio.to_thread(wait_in_a_loop_that_dies)
    limit.release()
    await limit.acquire(1)
    assert limit.in_flight == 1


def test_threads_and_loops_never_exceed_the_capacity() -> None:
    limit = Limit("test", 3)

    def in_threads() -> None:
        for _ in range(200):
            assert limit.acquire_blocking(0, SimpleQueue())
            limit.release()

    async def in_a_loop() -> None:
        async def one() -> None:
            await limit.acquire(0)
            await asyncio.sleep(0)
            limit.release()

        await asyncio.gather(*(one() for _ in range(300)))

    threads = [threading.Thread(target=in_threads) for _ in range(4)]
    threads += [threading.Thread(target=asyncio.run, args=(in_a_loop(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert limit.peak == 3
    assert (limit.in_flight, limit.waiting) == (0, 0)


def test_a_blocked_thread_gives_up_when_it_is_woken_or_its_time_is_over() -> None:
    limit = Limit("test", 1)
    assert limit.try_acquire()
    wakeups: SimpleQueue[None] = SimpleQueue()
    wakeups.put(None)
    assert not limit.acquire_blocking(0, wakeups)
    assert not limit.acquire_blocking(0, SimpleQueue(), timeout_s=0.0)
    assert limit.waiting == 0


def test_a_release_in_a_garbage_collection_during_an_acquire_does_not_deadlock() -> None:
    limit = Limit("test", 2)

    class Dropped:
        def __init__(self) -> None:
            self.circle = self
            self.permit = Permit()
            assert limit.try_acquire()
            self.permit.add(limit)

        def __del__(self) -> None:
            self.permit.release()

    for _ in range(10):
        Dropped()
        # The collection runs while this thread holds the limit's own lock.
        with limit._lock:
            gc.collect()
        assert limit.try_acquire()
        limit.release()
    assert limit.in_flight == 0


def test_a_permit_is_released_once() -> None:
    limit = Limit("test", 2)
    permit = Permit()
    for _ in range(2):
        assert limit.try_acquire()
    permit.add(limit)
    permit.release()
    permit.release()
    assert limit.in_flight == 1


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["hold", "cancel", "drop"])), min_size=1, max_size=30),
)
def test_no_permit_is_lost_or_duplicated(capacity: int, steps: list[tuple[int, str]]) -> None:
    limit = Limit("test", capacity)

    async def one(order: int, way: str) -> None:
        await limit.acquire(order)
        assert limit.in_flight <= capacity
        try:
            await asyncio.sleep(0)
        finally:
            limit.release()

    async def all_of_them() -> None:
        tasks = []
        for order, way in steps:
            task = asyncio.create_task(one(order, way))
            tasks.append(task)
            if way != "hold":
                await asyncio.sleep(0)
            if way == "cancel":
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())
    assert (limit.in_flight, limit.waiting) == (0, 0)
    assert limit.peak <= capacity


@pytest.mark.parametrize("capacity", [1, 7])
async def test_ten_thousand_waiters_are_all_served(capacity: int) -> None:
    limit = Limit("test", capacity)
    served = 0

    async def one(order: int) -> None:
        nonlocal served
        await limit.acquire(order)
        served += 1
        limit.release()

    await asyncio.gather(*(one(order % 10) for order in range(10_000)))
    assert served == 10_000


class Interrupted:
    """A lock in whose guarded section something else happens once, as another thread would make it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.meanwhile: Callable[[], None] | None = None

    def acquire(self, blocking: bool = True) -> bool:
        return self._lock.acquire(blocking)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()
        if self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


async def test_a_slot_returned_while_a_granted_waiter_leaves_is_handed_out() -> None:
    limit, lock = Limit("test", 2), Interrupted()
    limit._lock = lock  # type: ignore[assignment]
    assert limit.try_acquire()
    assert limit.try_acquire()
    second = asyncio.create_task(limit.acquire(1))
    await asyncio.sleep(0)

    class Granted(SimpleQueue[None]):
        def get(self, block: bool = True, timeout: float | None = None) -> None:
            limit.release()  # grants the waiter its slot
            lock.meanwhile = limit.release  # and the other slot comes back while it leaves the queue

    assert limit.acquire_blocking(0, Granted())
    async with asyncio.timeout(60):
        await second
    assert limit.in_flight == 2
