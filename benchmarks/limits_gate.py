"""What the gate costs by itself: CPU of an uncontended call, memory of a waiter, time to admit one of many."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import httpx2

from benchmarks.measure import Figure, interleave
from benchmarks.subjects import InstantTransport
from plait.flow.budgets import Budget, MemoryBudget, Part
from plait.flow.clock import SystemClock
from plait.flow.gate import Gate, Lanes
from plait.flow.host_budget import HostBudget
from plait.flow.lanes import Lane
from plait.flow.leases import Bound
from plait.flow.queues import Place
from plait.flow.tickets import Outcome, Ticket
from plait.flow.transport import FlowTransport
from plait.settings import Settings

CALLS = 3000
ROUNDS = 7
WARM_UP_S = 2.5
WAITERS = (1_000, 10_000, 100_000)
ADMITTED = 500
URL = "http://127.0.0.1:9/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Tell a story about a magical forest."}]}'


def gate() -> None:
    """CPU of an uncontended call at the gate; target <= 30 us. The rest of the seam reads bodies, headers, usage."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as home, asyncio.Runner() as runner:
        host = HostBudget(Path(home, "limits.db"), clock)
        subjects: dict[str, Callable[[], float]] = {}

        def add(name: str, calls: Callable[[int], Coroutine[None, None, None]]) -> None:
            started = time.monotonic()
            while time.monotonic() < started + WARM_UP_S:  # an unknown endpoint's pace doubles until it is no bound
                runner.run(calls(500))
            subjects[name] = lambda: runner.run(_cpu(calls))

        add("no gate", partial(_send, InstantTransport()))
        budgets: dict[str, Budget] = {"memory": MemoryBudget(clock), "host file": host}
        for name, budget in budgets.items():
            lanes = Lanes(budget, clock)
            lane = Lane("m", (Part("m", Bound()),), budget, clock, holder=f"1-{name}")
            add(f"gate alone, {name}", partial(_pass, lane))
            transport = FlowTransport(InstantTransport(), Gate(Settings(), clock=clock, lanes=lanes))
            add(f"whole seam, {name}", partial(_send, transport))
        found = interleave(subjects, rounds=ROUNDS)
        host.close()
    bare = Figure.of(found.pop("no gate")).median
    print(f"CPU a call, {CALLS} calls a round, one after another, {ROUNDS} rounds")
    for name, values in found.items():
        less = bare if name.startswith("whole") else 0.0
        print(f"{name:<22} {Figure.of([value - less for value in values]).text(' us', scale=1e6, digits=1)}")


async def _pass(lane: Lane, calls: int) -> None:
    for _ in range(calls):
        ticket = lane.ticket(Place(0), 100.0)
        await ticket.acquire(0)
        ticket.release(Outcome(tokens=100.0, output_tokens=50, duration_s=0.01))


async def _send(transport: httpx2.AsyncBaseTransport, calls: int) -> None:
    for _ in range(calls):
        headers = {"authorization": "Bearer sk-benchmark", "content-type": "application/json"}
        response = await transport.handle_async_request(httpx2.Request("POST", URL, headers=headers, content=BODY))
        await response.aread()
        await response.aclose()


async def _cpu(calls: Callable[[int], Coroutine[None, None, None]]) -> float:
    started = time.process_time()
    await calls(CALLS)
    return (time.process_time() - started) / CALLS


def waiters() -> None:
    """Memory of a waiter, and time to admit one while many wait; target <= 2 kB each, O(log n)."""
    print("waiters   a waiter   with its task and future   to admit one")
    times = {}
    for count in WAITERS:
        ticket_bytes = _traced(count, lambda lane, n: [_queued(lane, number) for number in range(n)])
        whole_bytes = asyncio.run(_task_bytes(count))
        times[count] = Figure.of([_time_to_admit(count) for _ in range(5)])
        print(
            f"{count:>7}  {ticket_bytes / 1000:>6.2f} kB   {whole_bytes / 1000:>6.2f} kB                   "
            f"{times[count].text(' us', scale=1e6, digits=1)}"
        )
    first, last = WAITERS[0], WAITERS[-1]
    print(f"{last // first} times the waiters, {times[last].median / times[first].median:.2f} times the time")


def _full_lane() -> tuple[Lane, Ticket]:
    """A lane with one slot, and who has taken it."""
    clock = SystemClock()
    part = Part("m", Bound(max_concurrency=1), learns=False)
    lane = Lane("m", (part,), MemoryBudget(clock), clock, holder="1-0")
    holder = lane.ticket(Place(0), 100.0)
    assert holder.try_acquire()
    return lane, holder


def _queued(lane: Lane, number: int) -> Ticket:
    ticket = lane.ticket(Place(number, group=f"workflow {number % 3}"), 100.0)
    assert not ticket.try_acquire()
    return ticket


def _traced(count: int, fill: Callable[[Lane, int], list[Ticket]]) -> float:
    lane, _holder = _full_lane()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = fill(lane, count)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(kept) == lane.waiting
    return grown / count


async def _task_bytes(count: int) -> float:
    lane, _holder = _full_lane()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tickets = [lane.ticket(Place(number), 100.0) for number in range(count)]
    tasks = [asyncio.create_task(ticket.acquire(0)) for ticket in tickets]
    await asyncio.sleep(0)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return grown / count


def _time_to_admit(count: int) -> float:
    """CPU seconds to end a call and let the next through, `count` others waiting."""
    lane, holder = _full_lane()
    granted: deque[Ticket] = deque()
    tickets = [_queued(lane, number) for number in range(count)]
    for ticket in tickets:
        ticket.wake = partial(granted.append, ticket)
    gc.collect()
    holder.release()
    started = time.process_time()
    for _ in range(ADMITTED):
        while not granted:  # the alarms' thread may be at it
            time.sleep(0)
        granted.popleft().release()
    return (time.process_time() - started) / ADMITTED
