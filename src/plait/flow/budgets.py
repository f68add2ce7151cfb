"""Where the state of the control law lives: in this process, or shared with others."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plait.flow.clock import Clock
from plait.flow.control import exchange
from plait.flow.entries import Entry
from plait.flow.leases import Bound, Lease, Report

logger = logging.getLogger("plait.flow")

_MOST_ENTRIES = 2000
"""Those of idle endpoints and keys go beyond so many."""

Deliver = Callable[[Lease], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of a budget that a call falls under, with the limits that the user set for it."""

    name: str
    """Stable between processes; never holds a key, only a digest of one."""
    bound: Bound = field(default_factory=Bound)
    learns: bool = True


class Budget(Protocol):
    """Limits that several holders share. Reports are taken in and leases granted on all parts in one step."""

    def exchange(self, parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        """Hand in a report; `deliver` gets the lease, at once or later and on whatever thread."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class MemoryBudget:
    """The budget of one process. A report may come in the middle of another, from a garbage collection.

    `begin` makes the entry of a part at its first report, given the time; one of which nothing is known by default.
    """

    def __init__(self, clock: Clock, *, begin: Callable[[Part, float], Entry] | None = None) -> None:
        self._clock = clock
        self._begin = begin or new_entry
        self._entries: dict[str, Entry] = {}
        self._wishes: deque[tuple[Sequence[Part], Report, Deliver]] = deque()
        self._lock = threading.Lock()

    def exchange(self, parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        self._wishes.append((parts, report, deliver))
        while self._wishes and self._lock.acquire(blocking=False):
            try:
                parts, report, deliver = self._wishes.popleft()
                lease = self._lease(parts, report)
            finally:
                self._lock.release()
            deliver(lease)

    def _lease(self, parts: Sequence[Part], report: Report) -> Lease:
        now, wall = self._clock.now(), self._clock.wall()
        try:
            return exchange([(self._entry(part, now), part.bound) for part in parts], report, now, wall)
        except Exception:  # calls wait for it: better to learn anew than to let them hang
            logger.exception("what was learnt of %s made no sense and is learnt anew", parts[0].name)
            for part in parts:
                self._entries[part.name] = new_entry(part, now)
            report.refusals, report.told = [], []
            return exchange([(self._entry(part, now), part.bound) for part in parts], report, now, wall)

    def _entry(self, part: Part, now: float) -> Entry:
        entry = self._entries.get(part.name)
        if entry is None:
            if len(self._entries) >= _MOST_ENTRIES:
                self._entries = {name: kept for name, kept in self._entries.items() if kept.holders or kept.rpm}
            entry = self._entries[part.name] = self._begin(part, now)
        return entry

    def entry(self, name: str) -> Entry | None:
        """What is known under a name."""
        return self._entries.get(name)

    def entries(self) -> dict[str, Entry]:
        """All that is known, by name."""
        return dict(self._entries)

    def close(self) -> None:
        """Nothing outlives the process."""


def new_entry(part: Part, now: float) -> Entry:
    """An entry of which nothing is known."""
    entry = Entry(learns=part.learns)
    entry.requests.at = entry.tokens.at = entry.window.at = now
    entry.requests.since = entry.tokens.since = now
    return entry
