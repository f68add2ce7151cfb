"""Time for tests: it stands still until it is told to pass."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from queue import SimpleQueue

_SHORT_S = 0.6


class FakeClock:
    """Waits of calls pass at once and are noted; alarms ring when time has come to them, near ones by themselves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000.0 + self.time

    def uniform(self, upper: float) -> float:
        return upper

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)

    def wait(self, wakeups: SimpleQueue[None], seconds: float) -> None:
        self.waits.append(seconds)
        self.advance(seconds)

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (when, next(self._numbers), callback))
        self._ring_soon()

    def _ring_soon(self) -> None:
        when = self.next_alarm()
        if when is None or when - self.time > _SHORT_S:
            return
        try:
            # The pace of calls is not what the test is about.
            asyncio.get_running_loop().call_later(0.001, self._reach, when)
        except RuntimeError:  # on a thread without a loop
            threading.Timer(0.001, self._reach, (when,)).start()

    def advance(self, seconds: float) -> None:
        """Let time pass, ringing what is due on the way."""
        self._reach(self.time + seconds)

    def next_alarm(self) -> float | None:
        """When the next alarm rings."""
        return self._alarms[0][0] if self._alarms else None

    def _reach(self, time: float) -> None:
        while self._alarms and self._alarms[0][0] <= time:
            when, _, callback = heapq.heappop(self._alarms)
            self.time = max(self.time, when)
            callback()
        self.time = max(self.time, time)
        self._ring_soon()
