"""The simulator's own time, which may be moved forward: a day's limit need not take a day."""

from __future__ import annotations

import time

from plait.errors import SettingsError


class Clock:
    """Time that limits, days and the prompt cache live by; latencies and gaps are waited for in real time.

    `frozen`: it moves by `advance` alone. `wall` is where it begins, in seconds since the epoch (default: now).
    """

    def __init__(self, *, frozen: bool = False, wall: float | None = None) -> None:
        self._frozen = frozen
        self._started = time.monotonic()
        self._began = time.time() if wall is None else wall
        self._ahead = 0.0

    def now(self) -> float:
        """Seconds since the clock began."""
        return self._ahead if self._frozen else time.monotonic() - self._started + self._ahead

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._began + self.now()

    def advance(self, seconds: float) -> None:
        """Move forward; from any thread. Raises SettingsError for a negative number."""
        if not seconds >= 0:
            raise SettingsError(f"the clock moves forward only: expected seconds of 0 or more, found {seconds!r}")
        self._ahead += seconds
