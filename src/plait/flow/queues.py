"""Who goes next: by class, in fair turns between workflows, then the oldest run first."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

INTERACTIVE, BATCH, BACKGROUND = range(3)
"""Somebody is looking; nobody is; and what judges the others' work, which comes last."""

_arrivals = itertools.count()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands in the queue."""

    order: int
    """Older runs have lower numbers and go first."""
    priority: int = BATCH
    group: str = ""
    """The workflow or batch; groups of one class get equal turns."""


class Waiter(Protocol):
    """What a queue holds."""

    place: Place

    @property
    def gone(self) -> bool:
        """Whether it no longer waits."""
        ...

    @gone.setter
    def gone(self, value: bool) -> None: ...


_W = TypeVar("_W", bound=Waiter)


class _Class(Generic[_W]):
    """The groups of one priority: the one that got the fewest turns so far goes next (stride scheduling).

    Source: C. Waldspurger, W. Weihl: Stride Scheduling, MIT/LCS/TM-528, 1995.
    """

    __slots__ = ("groups", "now", "turns")

    def __init__(self) -> None:
        self.groups: dict[str, list[tuple[int, int, _W]]] = {}
        self.turns: list[tuple[int, str]] = []
        self.now = 0

    def push(self, waiter: _W) -> None:
        waiting = self.groups.get(waiter.place.group)
        if waiting is None:
            waiting = self.groups[waiter.place.group] = []
            # A group that was away gets no turns for it.
            heapq.heappush(self.turns, (self.now, waiter.place.group))
        heapq.heappush(waiting, (waiter.place.order, next(_arrivals), waiter))

    def peek(self) -> _W | None:
        while self.turns:
            waiting = self.groups[self.turns[0][1]]
            while waiting and waiting[0][2].gone:
                heapq.heappop(waiting)
            if waiting:
                return waiting[0][2]
            del self.groups[heapq.heappop(self.turns)[1]]
        return None

    def pop(self) -> None:
        turn, group = self.turns[0]
        heapq.heappop(self.groups[group])
        self.now = turn
        heapq.heapreplace(self.turns, (turn + 1, group))


class FairQueue(Generic[_W]):
    """Waiters by class, group and age; every operation is O(log n). Not safe across threads by itself."""

    __slots__ = ("_classes", "_gone", "_size")

    def __init__(self) -> None:
        self._classes: dict[int, _Class[_W]] = {}
        self._size = 0
        self._gone = 0

    def __len__(self) -> int:
        return self._size

    def push(self, waiter: _W) -> None:
        """Queue a waiter."""
        kind = self._classes.get(waiter.place.priority)
        if kind is None:
            kind = self._classes[waiter.place.priority] = _Class()
            self._classes = dict(sorted(self._classes.items()))
        kind.push(waiter)
        self._size += 1

    def peek(self) -> _W | None:
        """The one that goes next."""
        for kind in self._classes.values():
            waiter = kind.peek()
            if waiter is not None:
                return waiter
        return None

    def pop(self) -> _W | None:
        """Take out the one that goes next."""
        for kind in self._classes.values():
            waiter = kind.peek()
            if waiter is not None:
                kind.pop()
                self._size -= 1
                return waiter
        return None

    def leave(self, waiter: _W) -> None:
        """A waiter gives up; it is taken out when its turn comes."""
        if not waiter.gone:
            waiter.gone = True
            self._size -= 1
            self._gone += 1
            if self._gone > 64 and self._gone > self._size:
                self._clean()

    def _clean(self) -> None:
        self._gone = 0
        for kind in self._classes.values():
            for waiting in kind.groups.values():
                waiting[:] = [entry for entry in waiting if not entry[2].gone]
                heapq.heapify(waiting)

    def drain(self) -> list[_W]:
        """Take all out, in no order."""
        found = [
            entry[2]
            for kind in self._classes.values()
            for waiting in kind.groups.values()
            for entry in waiting
            if not entry[2].gone
        ]
        self._classes.clear()
        self._size = self._gone = 0
        return found
