"""What the seam asks of a journal: an answer that was paid earlier, and a place to keep a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from plait.flow.calls import Call, Meter
from plait.flow.timings import Timing
from plait.flow.usage import Tokens

KEPT_HEADERS = ("content-type", "x-request-id", "request-id")
"""Of an answer; never any of a request, which carry keys."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer as its client reads it: decoded, a stream with all its events up to the last."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    streamed: bool
    model: str
    tokens: Tokens
    estimated: bool = False
    free: bool = False
    """Whether another batch paid for it."""


class Slot(Protocol):
    """The place of one call among the answers of its run."""

    @property
    def answer(self) -> Answer | None:
        """Paid earlier: to be used instead of a request."""
        ...

    async def record(self, answer: Answer) -> None:
        """Keep an answer; returns once it is durable. Cancelled, it is kept all the same. Raises StoreError."""
        ...

    def record_blocking(self, answer: Answer) -> None:
        """The same on a thread that may wait."""
        ...

    def record_soon(self, answer: Answer) -> None:
        """Keep an answer without waiting for it."""
        ...


class Recorder(Protocol):
    """The journal of one run."""

    def slot(self, call: Call) -> Slot | None:
        """The place of a call that begins here and now; None for calls that are not journalled."""
        ...


class Observer(Protocol):
    """Is told of every call of one run, with where its time went."""

    def replays(self, call: Call, answer: Answer) -> None:
        """The journal answered a call that was made here."""
        ...

    def begins(self, call: Call) -> Callable[[Meter | None, Timing], None]:
        """A call begins here; what is returned is to be called at its end, with no Meter where it failed."""
        ...


class Watcher(Protocol):
    """Follows the calls of many runs: a batch's budget, and how many of its calls wait."""

    def admit(self, call: Call, expected: Tokens) -> bool:
        """A call is about to be sent; False: not before others have ended. Raises BudgetReached."""
        ...

    def settle(self, call: Call, expected: Tokens, tokens: Tokens | None) -> None:
        """The call that was admitted is over: what it cost, None where nothing is known to have been."""
        ...

    def waits(self, change: int) -> None:
        """So many more calls (fewer, if negative) wait for a permit."""
        ...
