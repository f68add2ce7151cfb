"""The events of runs that are running here, for whoever follows them: no reader holds up a run or fills the memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from plait.service.running.requests import Part

MOST_AHEAD = 1000
"""Events that a reader may be behind."""


class Lagged(Exception):
    """A reader was so far behind that its events were dropped."""


class Topic:
    """One run's events, from when it is queued to when it is over.

    Where it is `awaited`, what happens before its first reader comes is kept for that one.
    """

    def __init__(self, *, awaited: bool = False) -> None:
        self.ended = asyncio.Event()
        self.moved = False
        self._first = Reading(self.ended) if awaited else None
        self._readings: set[Reading] = {self._first} if self._first else set()

    @property
    def is_read(self) -> bool:
        """Whether anybody follows it, or is about to."""
        return bool(self._readings)

    def publish(self, parts: Sequence[Part]) -> None:
        """Hand on what has happened."""
        for reading in self._readings:
            reading.add(parts)

    def close(self, *, moved: bool = False) -> None:
        """The run is over, and what became of it is stored; or it has `moved` to another server."""
        self.moved = moved
        self.ended.set()
        for reading in self._readings:
            reading.wake()

    @contextmanager
    def follow(self) -> Iterator[Reading]:
        """Read what is published from now on."""
        reading, self._first = self._first or Reading(self.ended), None
        self._readings.add(reading)
        try:
            yield reading
        finally:
            self._readings.discard(reading)


class Reading:
    """What one reader has not read yet."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._parts: deque[Part] = deque()
        self._ended = ended
        self._lagged = False
        self._news = asyncio.Event()

    def add(self, parts: Sequence[Part]) -> None:
        """Keep these until they are read, or mark the reader as too slow."""
        if self._lagged:
            return
        if len(self._parts) + len(parts) > MOST_AHEAD:
            self._lagged = True
            self._parts.clear()
        else:
            self._parts.extend(parts)
        self._news.set()

    def wake(self) -> None:
        """Let the reader look."""
        self._news.set()

    async def next(self) -> list[Part]:
        """All there is, at least one; none when the run is over. Raises Lagged once, and goes on after that."""
        while True:
            if self._lagged:
                self._lagged = False
                raise Lagged
            if self._parts:
                found = list(self._parts)
                self._parts.clear()
                return found
            if self._ended.is_set():
                return []
            self._news.clear()
            await self._news.wait()
