"""The concurrency limit: who is served now, and who waits in order of arrival."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque


class Seats:
    """At most `limit` are taken at once (None: no bound). Used on the simulator's own loop only."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> bool:
        """Whether somebody who comes now is served now; those who wait go first."""
        return self.limit is None or (self.taken < self.limit and not self._waiting)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def claim(self) -> asyncio.Future[None] | None:
        """Take a seat, or a place in the queue: then the future is done once a seat was taken."""
        if self.free:
            self.taken += 1
            return None
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        return place

    def leave(self, place: asyncio.Future[None] | None) -> None:
        """Give back what `claim` gave: the seat, or the place in the queue."""
        if place is not None and (not place.done() or place.cancelled()):
            with contextlib.suppress(ValueError):  # `admit` may have dropped it before its owner came here
                self._waiting.remove(place)
            return
        self.taken -= 1
        self.admit()

    def admit(self) -> None:
        """Seat those who wait while there is room; needed where `limit` was raised."""
        while self._waiting and (self.limit is None or self.taken < self.limit):
            place = self._waiting.popleft()
            if not place.cancelled():
                self.taken += 1
                place.set_result(None)
