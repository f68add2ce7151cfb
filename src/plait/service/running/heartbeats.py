"""The heartbeat of a server: of its event loop, and of a thread in its place while a node holds the loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from plait.store.service.servers import GONE_S
from plait.store.waiters import Done

logger = logging.getLogger("plait.service")

BEAT_S = 1.0
SILENT_S = GONE_S / 2
"""A server that was not heard of for so long may have been taken for dead."""
HELD_S = 120.0
"""So long a loop may be held; one that was not heard of for longer hangs, and others are to take its runs over."""


class Heartbeat:
    """Knows when a server was last heard of, and beats from a thread where its loop is late, from `start` to `stop`.

    `beat` sends one and does not wait, from any thread. The thread only goes on where the last beat was less than
    SILENT_S ago: after a longer silence (the process was stopped, the store was away) the loop beats first, when it has
    looked which runs are still its own.
    """

    def __init__(self, beat: Callable[[Done], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._beat = beat
        self._now = now
        self._beaten = self._turned = now()
        self._asked = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def silent_s(self) -> float:
        """How long ago the store was last told that the server lives."""
        return self._now() - self._beaten

    def turn(self) -> None:
        """The loop is not held."""
        self._turned = self._now()

    def beaten(self) -> None:
        """The loop has beaten itself."""
        self._beaten = self._now()

    def start(self) -> None:
        """Begin to look after the loop."""
        # A daemon: a process that forgot its service ends all the same.
        self._thread = threading.Thread(target=self._run, name="plait-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No beat is sent after this. Blocks for a moment."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Beat in the place of a loop that is late."""
        now = self._now()
        late = 1.5 * BEAT_S < now - self._beaten <= SILENT_S
        if late and not self._asked and now - self._turned < HELD_S:
            self._asked = True
            self._beat(self._answered)

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                self.look()
            except Exception:
                logger.exception("a beat in the place of the event loop failed; trying again")

    def _answered(self, error: BaseException | None) -> None:
        self._asked = False
        now = self._now()
        # The process may have been stopped between question and answer: that is the loop's to find out.
        if error is None and now - self._beaten <= SILENT_S:
            self._beaten = now
