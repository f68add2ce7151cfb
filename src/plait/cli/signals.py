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


def leave_soon(code: int, *, before: Callable[[], None] | None = None) -> None:
    """End the process in a moment, unless it ended by itself: threads of synchronous nodes cannot be stopped."""

    def end() -> None:
        if before is not None:
            before()
        leave(code)

    timer = threading.Timer(_PATIENCE_S, end)
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
