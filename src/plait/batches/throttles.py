"""How many rows may be in flight: enough that a free permit always finds a call, and no more."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

_SPARE = 8
"""Calls that may wait for a permit before no further row begins."""
_SPARE_S = 0.1
"""And as many as begin in so many seconds: a row takes a moment to come to its first call."""
_LOOK_S = 0.05


class Throttle:
    """Holds rows back while calls of the batch wait at the gate.

    Rows that have just begun count as waiting calls until they make one, or show within a moment that they are busy
    with something else. `most_rows` bounds the rows that are not in a call, and with it the memory.
    """

    def __init__(self, now: Callable[[], float], *, most_rows: int = 1000) -> None:
        self._now = now
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._wake = asyncio.Event()
        self._young: deque[Foot] = deque()
        self._paces = (0, 0)
        self._second = now()
        self.rows = 0
        """Rows begun and not yet done with."""
        self.waiting = 0
        """Calls that wait for a permit."""
        self.calling = 0
        """Calls in flight."""

    async def turn(self) -> None:
        """Return when another row may begin."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        while True:
            self._wake.clear()
            if self.ready():
                return
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def begin(self) -> Foot:
        """A row begins."""
        foot = Foot(self, self._now())
        with self._lock:
            self.rows += 1
            self._young.append(foot)
        return foot

    def ready(self) -> bool:
        """Whether another row may begin now."""
        now = self._now()
        with self._lock:
            while self._young and (self._young[0].moved or now - self._young[0].began > _SPARE_S):
                self._young.popleft()
            if now - self._second >= 1.0:
                self._paces, self._second = (self._paces[1], 0), now
            spare = _SPARE + _SPARE_S * max(self._paces)
            young = sum(not foot.moved for foot in self._young)
            return self.waiting + young < spare and self.rows - self.calling < self._most_rows

    def change(self, *, rows: int = 0, waiting: int = 0, calling: int = 0) -> None:
        """Count what a row does."""
        with self._lock:
            self.rows += rows
            self.waiting += waiting
            self.calling += calling
            if calling > 0 or rows < 0:
                self._paces = (self._paces[0], self._paces[1] + 1)
        if self._wake.is_set() or self._loop is None:
            return
        if threading.get_ident() == self._thread:
            self._wake.set()
        else:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._wake.set)


class Foot:
    """One row in flight."""

    __slots__ = ("_throttle", "began", "moved")

    def __init__(self, throttle: Throttle, began: float) -> None:
        self._throttle = throttle
        self.began = began
        self.moved = False
        """Whether it has made a call, or is over."""

    def waits(self, change: int) -> None:
        """So many more of its calls wait for a permit."""
        self.moved = True
        self._throttle.change(waiting=change)

    def calls(self, change: int) -> None:
        """So many more of its calls are in flight."""
        self.moved = True
        self._throttle.change(calling=change)

    def end(self) -> None:
        """The row is over and its result taken."""
        self.moved = True
        self._throttle.change(rows=-1)
