"""Four processes share one limit over a file, PostgreSQL or Redis: how much of it they use, and how evenly."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.limits_provider import Provider, provider
from plait.flow.budget_places import ledger_at
from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.file_ledgers import FileLedger
from plait.flow.headers import read_advice, why_refused
from plait.flow.holders import new_holder
from plait.flow.lanes import Lane
from plait.flow.leases import Bound
from plait.flow.queues import Place
from plait.flow.shared_budgets import SharedBudget
from plait.flow.tickets import Outcome

ROOT = Path(__file__).parents[1]
PROCESSES, ROWS = 4, 40
LATENCY_S = 0.2
LIMITS = (("told", 1200), ("told", 6000), ("set", 1200), ("set", 6000))
"""Requests a minute: told in headers by a provider that keeps them (with half a second's burst), or set by the user."""
LEARNING_S, MEASURED_S = 5.0, 20.0
WINDOWS_S = (1.0, 10.0)
BIG_TOKENS, SMALL_TOKENS, TPM = 1500.0, 50.0, 180_000


@dataclass(frozen=True, slots=True)
class Course:
    """What one process does: keep `rows` calls of `tokens` going at `base_url` until told to stop."""

    place: str
    """A URL, or a file."""
    base_url: str
    name: str
    """Of the budget's part: what is known of one is not known of the others."""
    rows: int = ROWS
    tokens: float = SMALL_TOKENS
    bound: dict[str, Any] = field(default_factory=dict)
    seconds: float = LEARNING_S + MEASURED_S


@dataclass(slots=True)
class Count:
    """What came of it: the times (time.monotonic) at which calls were let through, and what that took."""

    times: list[float] = field(default_factory=list)
    tokens: float = SMALL_TOKENS
    refused: int = 0
    exchanges: int = 0
    cpu_s: float = 0.0


# --- one process ---------------------------------------------------------------------------------------


def take_part(course: Course) -> Count:
    """Say "ready", begin at the first line of stdin."""
    clock = SystemClock()
    opened = ledger_at(course.place) if "://" in course.place else partial(FileLedger, Path(course.place))
    budget = SharedBudget(opened, clock)
    lane = Lane(course.name, (Part(course.name, Bound(**course.bound)),), budget, clock, holder=new_holder())
    # As every command does before it begins.
    with closing(opened(clock)) as ledger:
        ledger.check()
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.process_time()
    count = asyncio.run(_send(lane, course))
    count.cpu_s, count.exchanges = time.process_time() - began, budget.exchanges
    lane.close()
    budget.close()
    return count


async def _send(lane: Lane, course: Course) -> Count:
    count, end = Count(tokens=course.tokens), time.monotonic() + course.seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def row(number: int) -> None:
            with_end = asyncio.timeout(end - time.monotonic())
            try:
                async with with_end:
                    while True:
                        await _call(lane, session, course, number, count)
            except TimeoutError:
                return

        await asyncio.gather(*(row(number) for number in range(course.rows)))
    return count


async def _call(lane: Lane, session: aiohttp.ClientSession, course: Course, number: int, count: Count) -> None:
    ticket = lane.ticket(Place(number), course.tokens)
    await ticket.acquire(number)
    try:
        count.times.append(ticket.sent_at)
        body = {"model": "m", "messages": [{"role": "user", "content": f"{os.getpid()} {number} {time.time()}"}]}
        async with session.post(course.base_url + "/chat/completions", json=body) as found:
            raw = await found.read()
        if found.status != 200:
            count.refused += 1
            del count.times[-1]
            ticket.release(Outcome(kind=why_refused(found.status, found.headers, raw)))
            await asyncio.sleep(0.3)
            return
        if (advice := read_advice(found.headers, time.time())) is not None:
            ticket.tell(advice)
        ticket.release(Outcome(tokens=course.tokens, output_tokens=3, duration_s=time.monotonic() - ticket.sent_at))
    finally:
        ticket.release()


# --- all of them ---------------------------------------------------------------------------------------


@contextmanager
def places() -> Generator[dict[str, str]]:
    """A file, and the servers that can be started here: PostgreSQL and Redis from the distribution's packages."""
    from tests.servers import postgres_server, redis_server

    with tempfile.TemporaryDirectory() as home, postgres_server() as postgres, redis_server() as redis:
        yield {"host file": str(Path(home, "limits.db")), "PostgreSQL": postgres.url, "Redis": redis.url}


def compete(courses: list[Course]) -> list[Count]:
    """A process for each course, all let go at the same moment."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.limits_shared", json.dumps(asdict(course))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for course in courses
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("a process did not start")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        patience_s = courses[0].seconds + 30
        return [Count(**json.loads(process.communicate(timeout=patience_s)[0])) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def worst_window(times: list[float], begin: float, end: float, window_s: float) -> int:
    """The most calls let through in any `window_s` between two times."""
    inside = sorted(at for at in times if begin <= at < end)
    return max(
        (bisect_left(inside, at + window_s) - n for n, at in enumerate(inside) if at + window_s <= end), default=0
    )


HEAD = (
    f"{'budget':<12} {'limit':<12} {'share used':>10} {'worst 1 s':>9} {'10 s':>6} {'refusals':>8} {'exchanges/s':>11} "
    f"{'CPU/call':>9} {'load':>5}"
)


def shared() -> None:
    """4 processes at one limit; target: >= 98 % of it, worst window <= 1.05x after the first."""
    print(f"{PROCESSES} processes, {ROWS} calls each that wait or are in flight; {MEASURED_S:g} s from the fifth on")
    print(HEAD)
    with places() as found:
        for how, rpm in LIMITS:
            told = {"rpm": rpm, "burst": rpm / 120, "headers": "openai"} if how == "told" else {"headers": "none"}
            bound = {} if how == "told" else {"rpm": rpm}
            for name, place in found.items():
                with provider({**told, "latency_s": LATENCY_S}) as seen:
                    courses = [Course(place, seen.base_url, f"{how} {rpm}", bound=bound)] * PROCESSES
                    counts = compete(courses)
                _print(name, how, rpm, counts, seen)
        _sizes(found)


def _print(name: str, how: str, rpm: int, counts: list[Count], seen: Provider) -> None:
    times = [at for count in counts for at in count.times]
    begin = min(times) + LEARNING_S
    end = begin + MEASURED_S - 0.5
    per_s = rpm / 60
    used = sum(begin <= at < end for at in times) / ((end - begin) * per_s)
    second, ten = (worst_window(times, begin, end, window_s) / per_s / window_s for window_s in WINDOWS_S)
    exchanges = sum(count.exchanges for count in counts) / (LEARNING_S + MEASURED_S)
    cpu_ms = sum(count.cpu_s for count in counts) / len(times) * 1000
    refused = sum(seen.counters["refused"].values())
    limit = f"{how}, {rpm:,}"
    print(
        f"{name:<12} {limit:<12} {used:>10.1%} {second:>8.2f}x {ten:>5.2f}x {refused:>8} {exchanges:>11.0f} "
        f"{cpu_ms:>6.2f} ms {os.getloadavg()[0]:>5.1f}",
        flush=True,
    )


def _sizes(found: dict[str, str]) -> None:
    print(
        f"\n{TPM:,} tokens a minute, set: one process with calls of {BIG_TOKENS:g} tokens, three with {SMALL_TOKENS:g}"
    )
    for name, place in found.items():
        with provider({"headers": "none", "latency_s": LATENCY_S}) as free:
            sizes = [BIG_TOKENS, SMALL_TOKENS, SMALL_TOKENS, SMALL_TOKENS]
            courses = [Course(place, free.base_url, "sizes", tokens=size, bound={"tpm": TPM}) for size in sizes]
            counts = compete(courses)
        spent = [len(count.times) * count.tokens for count in counts]
        whole = TPM / 60 * courses[0].seconds
        big, *small = (f"{each / whole:.2f}" for each in spent)
        print(f"{name:<12} of the tokens: big {big}, small {' '.join(small)}, together {sum(spent) / whole:.2f}")


if __name__ == "__main__":
    print(json.dumps(asdict(take_part(Course(**json.loads(sys.argv[1]))))), flush=True)
