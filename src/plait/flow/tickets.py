"""A call at the gate: first it waits for its turn, then it is in flight, at last it says what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

from plait.errors import PlaitError
from plait.flow.headers import Advice, Kind
from plait.flow.leases import Cause
from plait.flow.queues import Place

WAITING, GRANTED, REFUSED, GONE = range(4)


class Gatekeeper(Protocol):
    """What lets calls through."""

    name: str

    @property
    def capacity(self) -> int:
        """Calls it lets through at once."""
        ...

    @property
    def asking(self) -> bool:
        """Whether it is about to learn what it may let through."""
        ...

    def take(self, ticket: Ticket) -> None: ...
    def leave(self, ticket: Ticket) -> None: ...
    def end(self, ticket: Ticket, outcome: Outcome | None) -> None: ...
    def tell(self, ticket: Ticket, advice: Advice) -> None: ...


class Outcome:
    """How an attempt ended, as far as limits are concerned."""

    __slots__ = ("duration_s", "kind", "output_tokens", "reached", "retry_after_s", "tokens")

    def __init__(
        self,
        *,
        tokens: float = 0.0,
        output_tokens: int = 0,
        duration_s: float = 0.0,
        kind: Kind | None = None,
        retry_after_s: float | None = None,
        reached: bool = True,
    ) -> None:
        self.tokens = tokens
        """What was used, input and output."""
        self.output_tokens = output_tokens
        self.duration_s = duration_s
        self.kind: Kind | None = kind
        """What it was refused for; None where it was answered."""
        self.retry_after_s = retry_after_s
        self.reached = reached
        """False where nobody was there to answer."""


class Ticket:
    """One attempt of one call. Waits like a `limits.Limit`, is released once, whoever asks."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_keeper",
        "failure",
        "in_flight",
        "place",
        "queued",
        "requests_before",
        "sent_at",
        "since",
        "state",
        "tokens",
        "tokens_before",
        "waits",
        "wake",
    )

    def __init__(self, keeper: Gatekeeper, place: Place, tokens: float) -> None:
        self._keeper = keeper
        self._ended = False
        self.place = place
        self.tokens = tokens
        """What is reserved for it."""
        self.state = WAITING
        self.wake: Callable[[], None] | None = None
        self.failure: PlaitError | None = None
        self.since: tuple[float, ...] | None = None
        """The gate's clocks of waiting when this joined the queue."""
        self.queued = False
        self.waits: dict[Cause, float] = {}
        """Seconds waited, by cause; set when it is let through."""
        self.sent_at = 0.0
        self.in_flight = 0
        self.requests_before = 0.0
        self.tokens_before = 0.0

    @property
    def name(self) -> str:
        return self._keeper.name

    @property
    def capacity(self) -> int:
        return self._keeper.capacity

    @property
    def pending(self) -> bool:
        """Whether a moment's patience may be all that it takes."""
        return self._keeper.asking

    @property
    def gone(self) -> bool:
        return self.state != WAITING

    @gone.setter
    def gone(self, value: bool) -> None:
        self.state = GONE

    def try_acquire(self) -> bool:
        """Go through now or stay in the queue. Raises what waiting is hopeless for."""
        if self.state == WAITING and not self.queued:
            self._keeper.take(self)
        return self._granted()

    async def acquire(self, order: int) -> None:
        """Wait to be let through. A cancelled waiter leaves the queue, and its turn goes to the next."""
        if self.try_acquire():
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self.wake = lambda: _wake(loop, turn)
        try:
            if not self._granted():
                await turn
        except BaseException:
            self.release()
            raise
        self._granted()

    def acquire_blocking(self, order: int, wakeups: SimpleQueue[None], timeout_s: float | None = None) -> bool:
        """Wait on this thread until something else is put into `wakeups` or the time is over; True if let through."""
        if self.try_acquire():
            return True
        self.wake = lambda: wakeups.put(None)
        try:
            if not self._granted():
                wakeups.get(timeout=timeout_s)
        except Empty:
            pass
        except BaseException:
            self.release()
            raise
        if self._granted():
            return True
        self.release()
        return False

    def _granted(self) -> bool:
        if self.state == REFUSED:
            assert self.failure is not None
            raise self.failure
        return self.state == GRANTED

    def tell(self, advice: Advice) -> None:
        """Pass on what the answer's headers say."""
        self._keeper.tell(self, advice)

    def release(self, outcome: Outcome | None = None) -> None:
        """It is over, or nobody waits for it any more; does nothing the second time. Safe in a garbage collection."""
        if self._ended:
            return
        self._ended = True
        if self.queued and self.state == WAITING:
            self._keeper.leave(self)
        elif self.queued:
            self._keeper.end(self, outcome)


def _wake(loop: asyncio.AbstractEventLoop, turn: asyncio.Future[None]) -> None:
    if asyncio._get_running_loop() is loop:  # noqa: SLF001 - None where there is none, and no exception
        loop.call_soon(_resolve, turn)  # the other way writes to a pipe to wake the loop, which is awake
    else:
        loop.call_soon_threadsafe(_resolve, turn)


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
