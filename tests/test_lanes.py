"""A lane's tickets: none is lost, none counted twice, none waits while it could go, whatever happens in between."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import tracemalloc
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plait.errors import GaveUp
from plait.flow.budgets import MemoryBudget, Part
from plait.flow.clock import SystemClock
from plait.flow.headers import Kind
from plait.flow.lanes import Lane, Patience
from plait.flow.leases import Bound
from plait.flow.limits import Limit
from plait.flow.queues import Place
from plait.flow.tickets import GRANTED, REFUSED, WAITING, Outcome, Ticket
from tests.law import SlowBudget, Time, World

KINDS: tuple[Kind, ...] = ("requests", "tokens", "concurrency", "overload", "unknown")


class Woken:
    """Counts how often a ticket is woken; its loop may be closed."""

    def __init__(self, *, closed: bool = False) -> None:
        self.times = 0
        self.closed = closed

    def __call__(self) -> None:
        self.times += 1
        if self.closed:
            raise RuntimeError("Event loop is closed")


class LaneMachine(RuleBasedStateMachine):
    """Calls come, go, are refused and forgotten in any order, over one lane with a bound, and a second beside it."""

    delay_s = 0.0
    bound = Bound(max_concurrency=3)
    process: int | None = 4

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        memory = MemoryBudget(self.time)
        budget = SlowBudget(memory, self.time, self.delay_s) if self.delay_s else memory
        self.limit = Limit("process", self.process) if self.process else None
        part = Part("endpoint", self.bound)
        self.lanes = [
            Lane(
                "endpoint", (part,), budget, self.time, holder=str(n), patience=Patience(1e9, None), process=self.limit
            )
            for n in range(2)
        ]
        self.tickets: list[tuple[Lane, Ticket, Woken]] = []
        self.over: set[int] = set()

    def granted(self) -> list[tuple[Lane, Ticket, Woken]]:
        return [each for each in self.tickets if each[1].state == GRANTED and not each[1]._ended]

    def waiting(self) -> list[tuple[Lane, Ticket, Woken]]:
        return [each for each in self.tickets if each[1].state == WAITING and not each[1]._ended]

    @rule(lane=st.integers(0, 1), order=st.integers(0, 3), group=st.sampled_from("ab"), count=st.integers(1, 4))
    def come(self, lane: int, order: int, group: str, count: int) -> None:
        for _ in range(count):
            ticket, woken = self.lanes[lane].ticket(Place(order, 1, group), 10.0), Woken()
            ticket.wake = woken
            ticket.try_acquire()
            ticket.try_acquire()
            self.tickets.append((self.lanes[lane], ticket, woken))

    @rule(lane=st.integers(0, 1))
    def come_on_a_loop_that_closes(self, lane: int) -> None:
        ticket = self.lanes[lane].ticket(Place(0, 1, ""), 10.0)
        ticket.wake = woken = Woken(closed=True)
        ticket.try_acquire()
        self.tickets.append((self.lanes[lane], ticket, woken))

    @rule(lane=st.integers(0, 1))
    def leave_before_coming(self, lane: int) -> None:
        self.lanes[lane].ticket(Place(0), 1.0).release()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting()))[1].release()

    @precondition(lambda self: self.granted())
    @rule(data=st.data(), how=st.sampled_from(["answered", "failed", *KINDS]), twice=st.booleans())
    def end(self, data: st.DataObject, how: Any, twice: bool) -> None:
        ticket = data.draw(st.sampled_from(self.granted()))[1]
        outcomes = {"answered": Outcome(tokens=7, output_tokens=3, duration_s=0.5), "failed": None}
        outcome = outcomes[how] if how in outcomes else Outcome(kind=how, retry_after_s=1.0)
        ticket.release(outcome)
        if twice:
            ticket.release(outcome)

    @precondition(lambda self: self.granted())
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """The answer is dropped, and a garbage collection finds it, in the middle of the lane's own work."""
        lane, ticket, _ = data.draw(st.sampled_from(self.granted()))
        with lane._lock:
            ticket.release()
        lane._do(lambda: None)

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 1.1, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.time.run(seconds)

    @invariant()
    def what_is_in_flight_was_granted_and_not_released(self) -> None:
        for lane in self.lanes:
            assert lane.in_flight == len([each for each in self.granted() if each[0] is lane])
            assert lane.waiting == len([each for each in self.waiting() if each[0] is lane])

    @invariant()
    def no_bound_is_exceeded(self) -> None:
        in_flight = sum(lane.in_flight for lane in self.lanes)
        if self.bound.max_concurrency:
            assert in_flight <= self.bound.max_concurrency
        if self.limit:
            assert in_flight <= self.limit.in_flight <= self.limit.capacity

    @invariant()
    def each_is_woken_once(self) -> None:
        for _, ticket, woken in self.tickets:
            assert woken.times == (1 if ticket.sent_at else 0)

    def teardown(self) -> None:
        # Whoever waits is served once the others are through.
        for _ in range(10_000):
            if not self.waiting() and not self.granted():
                break
            for _, ticket, _ in self.granted():
                ticket.release(Outcome(tokens=7, output_tokens=3, duration_s=0.5))
            self.time.run(0.5)
        assert not self.waiting()
        assert [lane.in_flight for lane in self.lanes] == [0, 0]
        self.time.run(10)
        if self.limit:
            assert (self.limit.in_flight, self.limit.waiting) == (0, 0)
        # And the lanes are quiet then: no alarm is set, no lease held.
        assert not self.time._events
        assert [lane.capacity for lane in self.lanes] == [0, 0]


class SlowLaneMachine(LaneMachine):
    """Leases arrive a little later, as from a file."""

    delay_s = 0.004


class RatedLaneMachine(LaneMachine):
    """The user's rate binds, and no process bound."""

    bound = Bound(rpm=600, tpm=60_000)
    process = None


TestLane = LaneMachine.TestCase
TestSlowLane = SlowLaneMachine.TestCase
TestRatedLane = RatedLaneMachine.TestCase
_SETTINGS = settings(deadline=None, max_examples=30, stateful_step_count=40)
TestLane.settings = TestSlowLane.settings = TestRatedLane.settings = _SETTINGS


def queue(lane: Lane, wake: Any, order: int = 0) -> Ticket:
    ticket = lane.ticket(Place(order), 1.0)
    ticket.wake = wake
    ticket.try_acquire()
    return ticket


def test_the_end_of_a_hopeless_wait_reaches_all_who_wait() -> None:
    world = World(refuses="too many requests")
    lane, time = world.clients[0].lane, world.time
    lane.patience = Patience(5.0, None)
    first = queue(lane, lambda: None)
    first.release(Outcome(kind="requests", retry_after_s=60.0))
    woken = [Woken(closed=number == 0) for number in range(3)]
    tickets = [queue(lane, wake) for wake in woken]
    try:
        time.run(10)
    except RuntimeError:
        time.run(10)
    assert [ticket.state for ticket in tickets] == [REFUSED] * 3
    assert [wake.times for wake in woken] == [1, 1, 1]


def test_one_row_alone_gives_up_after_the_deadline_too() -> None:
    world = World(refuses="too many requests", patience=Patience(600, None))
    client = world.clients[0]
    client.rows(1)
    world.time.run(661)
    assert client.waiting == 0


def test_a_wait_that_the_endpoint_asks_for_beyond_the_deadline_is_refused_at_once() -> None:
    world = World(patience=Patience(600, None))
    lane = world.clients[0].lane
    first = queue(lane, lambda: None)
    first.release(Outcome(kind="requests", retry_after_s=3 * 86_400.0))
    second = queue(lane, Woken())
    world.time.run(1)
    assert isinstance(second.failure, GaveUp)
    assert "72.0 h" in str(second.failure)


def test_a_call_that_ends_is_counted_once_whoever_says_so() -> None:
    world = World(bound=Bound(max_concurrency=1))
    lane = world.clients[0].lane
    first, second = queue(lane, lambda: None), queue(lane, lambda: None)
    lane.end(first, None)
    lane.end(first, None)
    world.time.run(1)
    assert second.state == GRANTED
    assert lane.in_flight == 1


def test_ten_thousand_waiters_take_two_kilobytes_each_at_most() -> None:
    world = World(bound=Bound(max_concurrency=1))
    lane = world.clients[0].lane
    queue(lane, lambda: None)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    wakeups: SimpleQueue[None] = SimpleQueue()
    tickets = [queue(lane, lambda: wakeups.put(None), order) for order in range(10_000)]
    each = (tracemalloc.get_traced_memory()[0] - before) / 10_000
    tracemalloc.stop()
    assert lane.waiting == len(tickets)
    assert each <= 2000


async def test_ten_thousand_tasks_are_served_in_order() -> None:
    lane = Lane(
        "endpoint",
        (Part("endpoint", Bound(max_concurrency=50)),),
        MemoryBudget(clock := SystemClock()),
        clock,
        holder="1",
    )
    served: list[int] = []

    async def one(order: int) -> None:
        ticket = lane.ticket(Place(order), 1.0)
        await ticket.acquire(order)
        served.append(order)
        await asyncio.sleep(0)
        ticket.release()

    await asyncio.gather(*(one(order) for order in range(10_000)))
    assert len(served) == 10_000
    assert max(abs(place - order) for place, order in enumerate(served)) <= 1000
    assert lane.in_flight == 0
    assert lane.peak <= 50


def test_threads_and_loops_share_a_lane_and_nothing_is_lost() -> None:
    clock = SystemClock()
    limit = Limit("process", 6)
    budget = MemoryBudget(clock)
    part = Part("endpoint", Bound(max_concurrency=5))
    lanes = [Lane("endpoint", (part,), budget, clock, holder=str(n), process=limit) for n in range(2)]
    over: list[int] = []
    served = SimpleQueue[int]()

    def look() -> None:
        if limit.in_flight > 6:
            over.append(limit.in_flight)

    def in_a_thread(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(100):
            ticket = lanes[seed % 2].ticket(Place(chance.randrange(3), 1, str(seed)), 1.0)
            if ticket.acquire_blocking(0, SimpleQueue(), timeout_s=0.0005 if chance.random() < 0.2 else 10.0):
                look()
                served.put(1)
            ticket.release(Outcome(tokens=1.0, duration_s=0.001))

    async def in_a_loop(seed: int) -> None:
        chance = random.Random(seed)

        async def one() -> None:
            ticket = lanes[seed % 2].ticket(Place(chance.randrange(3), 1, str(seed)), 1.0)
            try:
                await ticket.acquire(0)
                look()
                served.put(1)
                await asyncio.sleep(0)
            finally:
                ticket.release(Outcome(tokens=1.0, duration_s=0.001))

        tasks = [asyncio.create_task(one()) for _ in range(150)]
        await asyncio.sleep(0.002)
        for task in chance.sample(tasks, 30):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    threads = [threading.Thread(target=in_a_thread, args=(seed,)) for seed in range(4)]
    threads += [threading.Thread(target=lambda seed=seed: asyncio.run(in_a_loop(seed))) for seed in (4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert [lane.in_flight for lane in lanes] == [0, 0]
    assert [lane.waiting for lane in lanes] == [0, 0]
    assert (limit.in_flight, limit.waiting) == (0, 0)
    assert not over
    assert served.qsize() >= 4 * 80 * 0.9 + 2 * 120


@pytest.mark.parametrize("delay_s", [0.0, 0.003])
def test_three_workflows_each_get_their_share_of_a_slow_endpoint(delay_s: float) -> None:
    world = World(rate=10, burst=20, delay_s=delay_s)
    lane, time = world.clients[0].lane, world.time
    done = {"a": 0, "b": 0, "c": 0}

    def send(group: str, order: int) -> None:
        ticket = lane.ticket(Place(order, 1, group), 30.0)

        def go() -> None:
            def answered(status: int, headers: dict[str, str], body: bytes) -> None:
                if status == 200:
                    done[group] += 1
                    ticket.release(Outcome(tokens=30, output_tokens=10, duration_s=1.0))
                else:
                    ticket.release(Outcome(kind="requests", retry_after_s=1.0))
                    time.call_later(1.0, lambda: send(group, order))

            world.provider.receive(30.0, answered)

        if ticket.try_acquire():
            go()
        else:
            ticket.wake = go

    def begin(group: str) -> None:
        for order in range(1000):
            send(group, order)

    for begins, group in enumerate("abc"):  # the first has a lead of two seconds
        time.call_later(begins, lambda group=group: begin(group))  # type: ignore[misc]
    time.run(90)
    assert min(done.values()) >= 0.8 * sum(done.values()) / 3


def test_what_binds_is_the_process_own_bound_where_that_is_the_narrower() -> None:
    world = World(process=Limit("process", 3), bound=Bound(max_concurrency=50))
    world.load(1.0, depth=20)
    assert world.clients[0].lane.binding == "3 calls at once"
    assert world.clients[0].most == 3


def test_a_bound_that_was_being_used_for_a_moment_is_not_asked_again_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Limit("process", 1)
    world = World(process=process, latency_s=0.5)
    assert process.try_acquire()  # by another lane
    with process._lock:
        world.clients[0].rows(1)
    alarms = 0

    def counted(when: float, callback: Callable[[], None]) -> None:
        nonlocal alarms
        alarms += 1
        call_at(when, callback)

    call_at = world.time.call_at
    monkeypatch.setattr(world.time, "call_at", counted)
    world.time.run(10)
    assert alarms < 50
