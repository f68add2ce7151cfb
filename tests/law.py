"""A provider and its clients in virtual time: what the control law achieves, thousands of seconds in milliseconds.

Pure discrete events on one thread: real lanes, leases, retries and headers; only the network and the clock are models.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from plait.errors import PlaitError
from plait.flow.budgets import Budget, Deliver, MemoryBudget, Part
from plait.flow.entries import Entry
from plait.flow.headers import read_advice, retry_after_s, why_refused
from plait.flow.lanes import Lane, Patience
from plait.flow.leases import Bound, Report
from plait.flow.limits import Limit
from plait.flow.queues import BATCH, Place
from plait.flow.retries import Attempts, RetryPolicy
from plait.flow.tickets import Outcome

NOON = 1_782_907_200.0
"""2026-07-01 12:00 UTC, which is wall time when `now` is 1000."""


class Time:
    """A clock (`flow.clock.Clock`) that passes only in `run`, from one event to the next."""

    def __init__(self, *, seed: int = 0, now: float = 1000.0, wall: float = NOON) -> None:
        self.chance = random.Random(seed)
        self._now = now
        self._epoch = wall - now
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._epoch + self._now

    def uniform(self, upper: float) -> float:
        return self.chance.uniform(0.0, upper)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps in virtual time")

    def wait(self, wakeups: SimpleQueue[None], seconds: float) -> None:
        raise AssertionError("nothing waits in virtual time")

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), callback))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.call_at(self._now + seconds, callback)

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let events happen for so long, or until `until` is true after one of them."""
        end = self._now + seconds
        while self._events and self._events[0][0] <= end:
            when, _, callback = heapq.heappop(self._events)
            self._now = max(self._now, when)
            callback()
            if until():
                return
        self._now = end

    def jump(self, seconds: float) -> None:
        """Set the clock, which should only go forward, to another time."""
        self._now += seconds


@dataclass
class Provider:
    """What an endpoint accepts, and what it says of it. Change its fields while it runs."""

    time: Time
    rate: float = math.inf
    """Requests per second of a token bucket."""
    burst: float = 20.0
    token_rate: float = math.inf
    token_burst: float = math.inf
    per_minute: int | None = None
    """Requests in each minute of the calendar, instead of a bucket."""
    concurrency: float = math.inf
    queues: bool = False
    """What is above `concurrency` waits instead of being refused."""
    latency_s: float = 1.0
    rtt_s: float = 0.002
    tells_when: bool = True
    """Retry-After, in whole seconds."""
    headers: bool = False
    """As OpenAI's."""
    chance: float = 0.0
    """Of a refusal for no reason."""
    refuses: str = ""
    """Refuse all, in these words."""

    def __post_init__(self) -> None:
        self.level, self.token_level, self.at = self.burst, self.token_burst, self.time.now()
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.tokens = 0.0
        self.working = 0
        self.most = 0
        self.line: deque[Callable[[], None]] = deque()
        self.minute, self.in_minute = -1, 0

    def receive(self, tokens: float, answer: Callable[[int, dict[str, str], bytes], None]) -> None:
        """A request arrives; `answer` is called in due time."""
        why = self.refuses or self._objection(tokens)
        if why:
            self.refused.append(self.time.now())
            headers = self._told(tokens)
            if self.tells_when:
                headers["retry-after"] = str(max(1, math.ceil(self._wait_s(tokens))))
            self.time.call_later(self.rtt_s / 2, lambda: answer(429, headers, why.encode()))
            return
        self.level -= 1
        self.token_level -= tokens
        self.tokens += tokens
        self.in_minute += 1
        self.accepted.append(self.time.now())
        headers = self._told(tokens)
        if self.working < self.concurrency:
            self._work(headers, answer)
        else:
            self.line.append(lambda: self._work(headers, answer))

    def _work(self, headers: dict[str, str], answer: Callable[[int, dict[str, str], bytes], None]) -> None:
        self.working += 1
        self.most = max(self.most, self.working)

        def done() -> None:
            self.working -= 1
            if self.line and self.working < self.concurrency:
                self.line.popleft()()
            self.time.call_later(self.rtt_s / 2, lambda: answer(200, headers, b""))

        self.time.call_later(self.latency_s, done)

    def _refill(self) -> None:
        now = self.time.now()
        elapsed, self.at = now - self.at, now
        if math.isfinite(self.rate):
            self.level = min(self.burst, self.level + self.rate * elapsed)
        else:
            self.level = self.burst
        if math.isfinite(self.token_rate):
            self.token_level = min(self.token_burst, self.token_level + self.token_rate * elapsed)
        else:
            self.token_level = self.token_burst
        minute = int(self.time.wall() // 60)
        if minute != self.minute:
            self.minute, self.in_minute = minute, 0

    def _objection(self, tokens: float) -> str:
        self._refill()
        if self.time.chance.random() < self.chance:
            return "too many requests"
        if self.per_minute is not None and self.in_minute >= self.per_minute:
            return "too many requests"
        if self.level < 1 - 1e-9:
            return "rate limit reached on requests per min (RPM)"
        if self.token_level < tokens:
            return "rate limit reached on tokens per min (TPM)"
        if self.working >= self.concurrency and not self.queues:
            return "too many concurrent requests"
        return ""

    def _wait_s(self, tokens: float) -> float:
        if self.per_minute is not None and self.in_minute >= self.per_minute:
            return 60 - self.time.wall() % 60
        waits = [0.05]
        if self.level < 1:
            waits.append((1 - self.level) / self.rate)
        if self.token_level < tokens:
            waits.append((tokens - self.token_level) / self.token_rate)
        return max(waits)

    def _told(self, tokens: float) -> dict[str, str]:
        if not self.headers:
            return {}
        told: dict[str, str] = {}
        if math.isfinite(self.rate):
            told |= {
                "x-ratelimit-limit-requests": f"{self.rate * 60:.0f}",
                "x-ratelimit-remaining-requests": str(max(0, math.floor(self.level))),
                "x-ratelimit-reset-requests": f"{(self.burst - self.level) / self.rate:.3f}s",
            }
        if math.isfinite(self.token_rate):
            told |= {
                "x-ratelimit-limit-tokens": f"{self.token_rate * 60:.0f}",
                "x-ratelimit-remaining-tokens": str(max(0, math.floor(self.token_level))),
                "x-ratelimit-reset-tokens": f"{(self.token_burst - self.token_level) / self.token_rate:.3f}s",
            }
        return told

    def accepted_in(self, start: float, seconds: float) -> int:
        """How many were accepted in that time."""
        return sum(start <= at < start + seconds for at in self.accepted)


class SlowBudget:
    """A budget whose leases come a little later, as those of a file do."""

    def __init__(self, budget: Budget, time: Time, seconds: float) -> None:
        self._budget = budget
        self._time = time
        self._seconds = seconds

    def exchange(self, parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        def exchange() -> None:
            self._budget.exchange(parts, report, deliver)

        self._time.call_later(self._seconds, exchange)

    def close(self) -> None:
        self._budget.close()


@dataclass
class Client:
    """Sends rows through a lane as `exchange.py` does: one attempt a ticket, refusals retried with their waits."""

    lane: Lane
    provider: Provider
    time: Time
    policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(deadline_s=600.0))
    waiting: int = 0
    done: list[float] = field(default_factory=list)
    failed: list[PlaitError] = field(default_factory=list)
    gave_up: int = 0
    """Calls whose own deadline ended them."""
    attempts: int = 0
    most: int = 0
    sent: list[float] = field(default_factory=list)
    orders: Iterable[int] = field(default_factory=itertools.count)

    def rows(self, count: int, *, tokens: float = 30.0, used: float | None = None) -> None:
        """Queue that many rows, oldest first; each will use `used` tokens, where `tokens` are expected."""
        self.waiting += count
        for order in itertools.islice(iter(self.orders), count):
            self._try(
                Place(order, BATCH, ""), tokens, tokens if used is None else used, Attempts(self.policy, self.time)
            )

    def keep(self, depth: int, *, tokens: float = 30.0) -> None:
        """From now on there are always `depth` rows not yet answered."""
        self.depth = depth
        self.rows(depth - self.waiting, tokens=tokens)

    depth: int = 0

    def _try(self, place: Place, tokens: float, used: float, attempts: Attempts) -> None:
        ticket = self.lane.ticket(place, tokens)

        def go() -> None:
            if ticket.state != 1:
                assert ticket.failure is not None
                self._end(ticket.failure)
                return
            self.attempts += 1
            self.sent.append(self.time.now())
            self.most = max(self.most, self.lane.in_flight)
            attempts.begin()
            self.time.call_later(self.provider.rtt_s / 2, lambda: self.provider.receive(used, answered))

        def answered(status: int, headers: dict[str, str], body: bytes) -> None:
            wall = self.time.wall()
            if advice := read_advice(headers, wall):
                ticket.tell(advice)
            if status == 200:
                ticket.release(Outcome(tokens=used, output_tokens=10, duration_s=self.time.now() - ticket.sent_at))
                self.done.append(self.time.now())
                self._end(None)
                return
            kind = why_refused(status, headers, body)
            ticket.release(Outcome(kind=kind, retry_after_s=retry_after_s(headers, wall)))
            wait_s = attempts.wait_after_response(status, headers, body)
            if wait_s is None:
                self.gave_up += 1
                self._end(None)
                return
            self.time.call_later(wait_s, lambda: self._try(place, tokens, used, attempts))

        try:
            granted = ticket.try_acquire()
        except PlaitError as error:
            self._end(error)
            return
        if granted:
            go()
        else:
            ticket.wake = go

    def _end(self, error: PlaitError | None) -> None:
        self.waiting -= 1
        if error is not None:
            self.failed.append(error)
        elif self.waiting < self.depth:
            self.rows(1)


class World:
    """One provider, some clients of it (processes), one budget."""

    def __init__(
        self,
        *,
        holders: int = 1,
        bound: Bound | None = None,
        patience: Patience | None = None,
        policy: RetryPolicy | None = None,
        process: Limit | None = None,
        delay_s: float = 0.0,
        seed: int = 0,
        time: Time | None = None,
        **provider: object,
    ) -> None:
        self.time = time or Time(seed=seed)
        self.provider = Provider(self.time, **provider)  # type: ignore[arg-type]
        self.budget = MemoryBudget(self.time)
        shared: Budget = SlowBudget(self.budget, self.time, delay_s) if delay_s else self.budget
        self.part = Part("endpoint", bound or Bound())
        orders = itertools.count()
        self.clients = [
            Client(
                Lane("endpoint", (self.part,), shared, self.time, holder=f"{n}", patience=patience, process=process),
                self.provider,
                self.time,
                policy or RetryPolicy(),
                orders=orders,
            )
            for n in range(holders)
        ]
        self.started = self.time.now()

    @property
    def entry(self) -> Entry:
        entry = self.budget.entry("endpoint")
        assert entry is not None
        return entry

    @property
    def refusals(self) -> int:
        return len(self.provider.refused)

    def finish(self, rows: int, *, tokens: float = 30.0, within_s: float = 36_000.0) -> float:
        """Virtual seconds that this many rows take, shared equally by the clients."""
        began = self.time.now()
        for client in self.clients:
            client.rows(rows // len(self.clients), tokens=tokens)
        self.time.run(within_s, until=lambda: not any(client.waiting for client in self.clients))
        assert not any(client.waiting for client in self.clients), "rows are left over"
        return self.time.now() - began

    def load(self, seconds: float, *, depth: int = 200, tokens: float = 30.0) -> None:
        """Let all clients always want more, for so long."""
        for client in self.clients:
            client.keep(depth, tokens=tokens)
        self.time.run(seconds)

    def throughput(self, seconds: float) -> float:
        """Rows accepted per second in the last so many."""
        return self.provider.accepted_in(self.time.now() - seconds, seconds) / seconds
