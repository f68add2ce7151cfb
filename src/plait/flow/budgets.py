"""Where the state of the control law lives: in this process, or shared by all processes of a host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plait.flow.clock import Clock
from plait.flow.control import exchange
from plait.flow.entries import Entry
from plait.flow.leases import Bound, Lease, Report

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
    """The budget of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def exchange(self, parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        with self._lock:
            now = self._clock.now()
            entries = []
            for part in parts:
                if part.name not in self._entries:
                    self._entries[part.name] = new_entry(part, now)
                entries.append((self._entries[part.name], part.bound))
            lease = exchange(entries, report, now, self._clock.wall())
        deliver(lease)

    def entry(self, name: str) -> Entry | None:
        """What is known under a name."""
        return self._entries.get(name)

    def close(self) -> None:
        """Nothing outlives the process."""


def new_entry(part: Part, now: float) -> Entry:
    """An entry of which nothing is known."""
    entry = Entry(learns=part.learns)
    entry.requests.at = entry.tokens.at = entry.window.at = now
    entry.requests.since = entry.tokens.since = now
    return entry
