"""Ctrl-C and SIGTERM: cancel the run, say what was done, and end the process within a second whatever hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

_PATIENCE_S = 0.8
_CLOSING_S = 5.0
"""For a batch to commit what it has: whoever sends SIGTERM kills after ten seconds or more."""
_SHOW_CURSOR = "\x1b[?25h"


class Stop:
    """Turns the first signal into the cancellation of the current task; a second one ends the process at once.

    Create it inside the running loop. `signal.signal` rather than `loop.add_signal_handler`: its handler runs even
    while a synchronous node blocks the loop.
    """

    def __init__(self, last_words: Callable[[], str]) -> None:
        self.code: int | None = None
        """128 + the signal, once there was one."""
        self._last_words = last_words
        self._said = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def say(self) -> None:
        """The last words, once."""
        if self._said.acquire(blocking=False):
            sys.stderr.write(f"{self._last_words()}\n")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.code is not None:
            leave(self.code)
        self.code = 128 + number
        leave_soon(self.code, before=self.say)
        if self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


class Drain:
    """Turns the first Ctrl-C into `drain`, a second one or SIGTERM into the current task's cancellation.

    `drain` is called on the loop; it returns False where nothing is under way, which is stopped at once. A signal
    after that ends the process. Create it inside the running loop.
    """

    def __init__(self, drain: Callable[[], bool]) -> None:
        self.code: int | None = None
        """128 + the signal, once there was one."""
        self.draining = False
        self._drain = drain
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            leave(128 + number)
        first = self.code is None and number == signal.SIGINT
        self.code = 128 + number
        if self._loop.is_closed():
            return
        if first:
            self._loop.call_soon_threadsafe(self._begin)
        else:
            self._stop()

    def _begin(self) -> None:
        self.draining = self._drain()
        if not self.draining:
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        assert self.code is not None
        leave_soon(self.code, patience_s=_CLOSING_S)
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)


def leave_soon(code: int, *, before: Callable[[], None] | None = None, patience_s: float = _PATIENCE_S) -> None:
    """End the process in a moment, unless it ended by itself: threads of synchronous nodes cannot be stopped."""

    def end() -> None:
        if before is not None:
            before()
        leave(code)

    timer = threading.Timer(patience_s, end)
    timer.daemon = True
    timer.start()


def leave(code: int) -> None:
    """End the process now, with what was written flushed and the cursor shown."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                if stream.isatty():
                    stream.write(_SHOW_CURSOR)
                stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
