"""One daemon thread that calls functions at given times, for whatever waits on a clock."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from functools import cache


class Alarms:
    """Callbacks by time (time.monotonic); each is short and never raises."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call it then; at once if that has passed, but always on the alarms' thread."""
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._numbers), callback))
            if self._thread is None or not self._thread.is_alive():  # a fork leaves threads behind
                self._thread = threading.Thread(target=self._run, name="plait alarms", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is callback:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                callback = heapq.heappop(self._heap)[2]
            callback()


@cache
def shared_alarms() -> Alarms:
    """The alarms of this process."""
    return Alarms()
