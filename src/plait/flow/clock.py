"""Time and chance, passed in so that tests decide them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

from plait.flow.alarms import shared_alarms


class Clock(Protocol):
    """What flow control needs of time."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for dates that endpoints send."""
        ...

    def uniform(self, upper: float) -> float:
        """A random number between 0 and `upper`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the loop."""
        ...

    def wait(self, wakeups: SimpleQueue[None], seconds: float) -> None:
        """Wait on this thread, until something is put into `wakeups` or the time is over."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call it, on some thread, when `now` reaches `when`."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def uniform(self, upper: float) -> float:
        return random.uniform(0.0, upper)  # noqa: S311 - spreads retries, guards nothing

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def wait(self, wakeups: SimpleQueue[None], seconds: float) -> None:
        try:
            wakeups.get(timeout=seconds)
        except Empty:
            return

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        shared_alarms().call_at(when, callback)
