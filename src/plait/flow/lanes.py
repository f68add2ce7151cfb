"""The calls of this process to one endpoint and model: they queue here and go out as the budget's leases allow.

Nothing here blocks. What happens (a call comes, goes, ends; a lease arrives; time passes) is put on a deque, and
whoever gets the lock deals with it: also inside a garbage collection that interrupts this very code on the same thread.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from plait.errors import GaveUp, PlaitError, QuotaReached
from plait.flow.budgets import Budget, Part
from plait.flow.clock import Clock
from plait.flow.diaries import Diary
from plait.flow.estimates import Sizes
from plait.flow.headers import Advice
from plait.flow.leases import NOTHING, UNLIMITED, Cause, Lease
from plait.flow.limits import Limit
from plait.flow.queues import FairQueue, Place
from plait.flow.slots import Slots
from plait.flow.stopwatches import Stopwatch
from plait.flow.tickets import GONE, GRANTED, REFUSED, Outcome, Ticket

logger = logging.getLogger("plait.flow")

_HEARTBEAT_S = 1.0
_TICK_S = 0.001
_SOON_S = 0.02
"""Leases are not renewed faster than this for a few more slots."""
_HEADERS_S = 0.05


@dataclass(frozen=True, slots=True)
class Patience:
    """How long calls wait at the gate."""

    deadline_s: float = 600.0
    """Without any success at the endpoint."""
    max_wait_s: float | None = 60.0
    """For a day's quota; None: as long as it takes."""


class Lane:
    """One queue with one lease. `process`: the bound of all lanes together, taken last."""

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        budget: Budget,
        clock: Clock,
        *,
        holder: str,
        patience: Patience | None = None,
        process: Limit | None = None,
    ) -> None:
        self.name = name
        self.in_flight = 0
        self.peak = 0
        self.patience = patience or Patience()
        self._parts = tuple(parts)
        self._budget = budget
        self._clock = clock
        self._queue: FairQueue[Ticket] = FairQueue()
        self._events: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []
        self._lease: Lease = NOTHING
        self._asking = False
        self._asked_at = -math.inf
        self._reported = 0
        self._requests = 0.0
        self._tokens = 0.0
        self._next_at = -math.inf
        self._alarm_at = math.inf
        self._diary = Diary(holder)
        self._stopwatch = Stopwatch()
        self._progress_at = clock.now()
        self._slots = Slots(process, clock, self._do)
        self._refused = False
        self._sizes_at = 0.0
        self.sizes = Sizes()
        """What the calls of this model cost."""

    # --- what tickets do -----------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        return self._lease.slots

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def binding(self) -> str:
        """What the calls that wait here wait for, in words."""
        lease = self._lease
        slots = self._slots.at_most(lease.slots)
        match self._stopwatch.cause or lease.cause:
            case "rpm" if lease.request_interval_s > 0:
                return f"{60 / lease.request_interval_s:,.0f} requests/min"
            case "tpm" if lease.tokens_interval_s > 0:
                return f"{60 / lease.tokens_interval_s:,.0f} tokens/min"
            case "concurrency" if slots < UNLIMITED:
                return f"{slots:,} calls at once"
            case cause:
                return {"rpm": "requests/min", "tpm": "tokens/min", "quota": "a daily quota"}.get(
                    cause, "calls at once"
                )

    @property
    def parts(self) -> tuple[Part, ...]:
        """What its calls fall under."""
        return self._parts

    @property
    def idle(self) -> bool:
        """Whether no call waits or is in flight."""
        return not (self.in_flight or self._queue)

    @property
    def asking(self) -> bool:
        """Whether a lease is on its way."""
        return self._asking

    def ticket(self, place: Place, tokens: float) -> Ticket:
        """A place in the queue for one attempt that is expected to cost so many tokens."""
        return Ticket(self, place, tokens)

    def take(self, ticket: Ticket) -> None:
        ticket.queued = True
        self._do(lambda: self._enqueue(ticket))

    def leave(self, ticket: Ticket) -> None:
        self._do(lambda: self._abandon(ticket))

    def end(self, ticket: Ticket, outcome: Outcome | None) -> None:
        self._do(lambda: self._finish(ticket, outcome))

    def tell(self, ticket: Ticket, advice: Advice) -> None:
        self._do(lambda: self._hear(ticket, advice))

    def close(self) -> None:
        """Report what is not reported yet and give everything back; for the end of the process."""
        self._do(self._say_goodbye)

    def _do(self, event: Callable[[], None]) -> None:
        self._events.append(event)
        # The second look happens after the lock is free: an event that found it taken is seen here.
        while self._events and self._lock.acquire(blocking=False):
            try:
                while self._events:
                    self._events.popleft()()
                self._dispatch()
                actions, self._actions = self._actions, []
            finally:
                self._lock.release()
            for action in actions:
                try:
                    action()
                except Exception:  # the others are of other calls
                    logger.exception("%s: a waiter could not be told", self.name)

    # --- events, each under the lock -------------------------------------------------------------------

    def _enqueue(self, ticket: Ticket) -> None:
        if ticket.gone:
            return
        if not self._queue and not self.in_flight:
            self._progress_at = self._clock.now()
        self._stopwatch.begin(ticket, self._clock.now())
        self._queue.push(ticket)

    def _abandon(self, ticket: Ticket) -> None:
        if ticket.state == GRANTED:  # its turn had come meanwhile
            self._finish(ticket, None)
        else:
            self._queue.leave(ticket)

    def _finish(self, ticket: Ticket, outcome: Outcome | None) -> None:
        if ticket.state != GRANTED:
            return
        ticket.state = GONE
        self.in_flight -= 1
        self._slots.end_one(self._actions)
        if outcome is None:
            return
        now = self._clock.now()
        self._diary.note_end(ticket, outcome)
        self._refused = outcome.kind is not None or (self._refused and not outcome.reached)
        if outcome.kind is not None:
            # What is left of the lease was granted before this was known.
            self._requests = self._tokens = 0.0
            self._ask(now)
        elif outcome.reached:
            self._progress_at = now

    def _hear(self, ticket: Ticket, advice: Advice) -> None:
        self._diary.note_told(ticket, advice)
        now = self._clock.now()
        if now - self._asked_at >= _HEADERS_S:
            self._ask(now)

    def _receive(self, lease: Lease) -> None:
        self._asking = False
        self._lease = lease
        self._requests, self._tokens = lease.requests, lease.tokens
        if lease.sizes is not None:
            self.sizes = Sizes.load(lease.sizes)
        if lease.quota_until is not None:
            self._progress_at = self._clock.now()  # a day's end is no deadline of calls
            self._give_up_on_quota(lease.quota_until)
        elif lease.starts_at - self._clock.now() > self.patience.deadline_s:
            self._fail(self._hopeless_under(lease), self._too_long(lease.starts_at - self._clock.now()))

    def _hopeless_under(self, lease: Lease) -> list[Ticket]:
        """A lease that begins too late because the first call needs so many tokens is no matter of the others."""
        first = self._queue.pop() if lease.requests and lease.cause == "tpm" else None
        return self._queue.drain() if first is None else [first]

    def _wake_up(self) -> None:
        now = self._clock.now()
        if now < self._alarm_at:
            return
        self._alarm_at = math.inf
        if self._queue and self._refused and now - self._progress_at >= self.patience.deadline_s:
            self._fail(self._queue.drain(), self._too_long(0.0))
        active = self.in_flight or self._queue
        if now - self._asked_at >= _HEARTBEAT_S and (active or self._lease is not NOTHING):
            self._ask(now)

    # --- sending -----------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        now = self._clock.now()
        while (ticket := self._queue.peek()) is not None:
            held_up = self._held_up_by(ticket, now)
            if held_up is not None and not self._asking:
                self._slots.return_unused(self._actions)
            if held_up is None and not self._slots.take(ticket.place.order):
                held_up = "concurrency"
            if held_up is not None:
                self._stopwatch.hold(held_up, now)
                break
            self._queue.pop()
            self._let_through(ticket, now)
        else:
            self._stopwatch.hold(None, now)
            self._slots.return_unused(self._actions)
        self._set_alarm(now)

    def _held_up_by(self, ticket: Ticket, now: float) -> Cause | None:
        """What the first waiter lacks; asks for a new lease where that may help."""
        lease = self._lease
        if now >= lease.expires_at:
            self._ask(now)
            return lease.cause if lease is not NOTHING else "concurrency"
        if lease.quota_until is not None:
            if now >= lease.renew_at:
                self._ask(now)
            return "quota"
        # The next lease may have fewer slots, and counts with no more in flight than were reported.
        slots = min(lease.slots, self._reported) if self._asking and lease.slots < UNLIMITED else lease.slots
        if self.in_flight >= slots:
            if now >= lease.renew_at or (self._diary.has_successes and now - self._asked_at >= _SOON_S):
                self._ask(now)
            return "concurrency"
        if now < lease.starts_at:
            if now >= lease.renew_at:
                self._ask(now)
            return lease.cause
        if self._requests < 1 or (self._tokens < ticket.tokens and not math.isinf(self._tokens)):
            short_of_tokens = self._requests >= 1
            if lease.requests or now >= lease.renew_at or now - self._asked_at >= _SOON_S:
                self._ask(now)
            return "tpm" if short_of_tokens else lease.cause if lease.requests else "rpm"
        if now < self._next_at:
            return "tpm" if lease.cause == "tpm" else "rpm"
        return None

    def _let_through(self, ticket: Ticket, now: float) -> None:
        self._stopwatch.end(ticket, now)
        lease = self._lease
        self._requests -= 1
        self._tokens -= ticket.tokens
        spacing = max(lease.request_interval_s, ticket.tokens * lease.tokens_interval_s)
        # Timers are late by a little; without this the delay would add up.
        self._next_at = max(self._next_at, now - max(spacing, 0.01), lease.starts_at) + spacing
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        ticket.sent_at, ticket.in_flight = now, self.in_flight
        self._diary.note_sent(ticket)
        ticket.state = GRANTED
        if ticket.wake is not None:
            self._actions.append(partial(self._wake, ticket))

    def _wake(self, ticket: Ticket) -> None:
        assert ticket.wake is not None
        try:
            ticket.wake()
        except RuntimeError:  # its event loop is closed: nobody is there to send it
            ticket.release()

    # --- the budget --------------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        if self._asking:
            return
        self._asking = True
        report = self._diary.hand_in()
        report.in_flight = self._reported = self.in_flight
        report.waiting = len(self._queue)
        report.asked = self._slots.capacity or 0
        first = self._queue.peek()
        if first is not None:
            report.first_tokens = first.tokens
            report.waiting_tokens = first.tokens * report.waiting
            report.held_up = self._kept_up(now)
        if now - self._sizes_at >= _HEARTBEAT_S and not report.new:
            report.sizes, self._sizes_at = self.sizes.dump(), now
        report.leaving = not report.in_flight and not report.waiting and now - self._asked_at >= _HEARTBEAT_S
        if report.leaving:
            self._actions.append(lambda: self._budget.exchange(self._parts, report, lambda _: self._do(self._depart)))
        else:
            deliver = self._deliver
            self._actions.append(lambda: self._budget.exchange(self._parts, report, deliver))
        self._asked_at = now

    def _say_goodbye(self) -> None:
        if self._lease is not NOTHING or not self._diary.is_empty:
            report = self._diary.hand_in()
            report.leaving, report.sizes = True, self.sizes.dump()
            self._actions.append(lambda: self._budget.exchange(self._parts, report, lambda _: None))

    def _deliver(self, lease: Lease) -> None:
        self._do(lambda: self._receive(lease))

    def _depart(self) -> None:
        self._asking = False
        self._lease, self._requests, self._tokens = NOTHING, 0.0, 0.0

    def _kept_up(self, now: float) -> Cause | None:
        """What binds the demand: a lease used up as fast as it allowed, not one that lasted longer."""
        lease = self._lease
        if self._stopwatch.cause is not None and now > self._stopwatch.since:
            return self._stopwatch.cause
        if lease.requests and self._requests < 1:
            lasted = now - lease.starts_at
            if lasted <= 1.5 * lease.requests * lease.request_interval_s + _HEADERS_S:
                return "rpm"
        return None

    # --- time --------------------------------------------------------------------------------------------

    def _set_alarm(self, now: float) -> None:
        if not (self.in_flight or self._queue or self._lease is not NOTHING):
            return
        due = max(self._asked_at, now if self._asking else -math.inf) + _HEARTBEAT_S
        if self._queue and not self._asking and not self._slots.awaited:
            lease = self._lease
            if self.in_flight >= lease.slots or lease.quota_until is not None or self._requests < 1:
                due = min(due, max(lease.renew_at, lease.starts_at, now + _SOON_S))
            elif now < lease.starts_at:
                due = min(due, lease.starts_at, max(lease.renew_at, now + _SOON_S))
            else:
                due = min(due, self._next_at)
        if self._queue and self._refused:
            due = min(due, self._progress_at + self.patience.deadline_s)
        if self._slots.is_busy:
            due = now
        due = max(due, now + _TICK_S)
        if due < self._alarm_at:
            self._alarm_at = due
            self._actions.append(lambda: self._clock.call_at(due, lambda: self._do(self._wake_up)))

    # --- hopeless waits ------------------------------------------------------------------------------------

    def _give_up_on_quota(self, until: float) -> None:
        most = self.patience.max_wait_s
        waits_s = until - self._clock.wall()
        if most is not None and waits_s > most:
            own = self._lease.quota_is_own
            self._fail(self._queue.drain(), lambda: QuotaReached(self.name, until, waits_s, own=own))

    def _too_long(self, asked_s: float) -> Callable[[], PlaitError]:
        cause = self._lease.cause if asked_s > 0 else self._stopwatch.cause or self._lease.cause
        waited_s = self._clock.now() - self._progress_at
        return lambda: GaveUp(self.name, cause, waited_s, asked_s)

    def _fail(self, tickets: Sequence[Ticket], failure: Callable[[], PlaitError]) -> None:
        for ticket in tickets:
            ticket.state, ticket.failure = REFUSED, failure()
            if ticket.wake is not None:
                self._actions.append(partial(self._wake, ticket))
