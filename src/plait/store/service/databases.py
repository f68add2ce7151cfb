"""One database of the service, as its parts use it: a writer, readers, a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from plait.store.connections import Connection
from plait.store.service.readers import Readers
from plait.store.writers import Writer

__all__ = ["Database", "SharedClock"]

T = TypeVar("T")

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"


class SharedClock:
    """The database's time, as far as it is known here: servers on several hosts compare the times that they store."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._ahead_s

    def set_by(self, connection: Connection) -> float:
        """Ask the database what time it is; gives that."""
        before = time.time()
        now = float(connection.execute(_NOW).fetchone()[0])
        self._ahead_s = now - (before + time.time()) / 2
        return now


@dataclass(frozen=True, slots=True)
class Database:
    """What the parts of a ServiceStore share. `clock` gives seconds since the epoch."""

    writer: Writer
    readers: Readers
    clock: Callable[[], float]
    lives: Callable[[str], bool]
    """Whether a server may live, by its name alone."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` in a read transaction; see Readers."""
        return await self.readers.read(work)

    async def write(self, work: Callable[[Connection], T], *, about: str | None = None) -> T:
        """The result of `work` in a transaction of its own, durable on return; what it raises undoes it.

        Where it is `about` one thread alone, servers need not wait for what others do on other threads.
        """
        return await self.writer.do(work, about=about)

    def now(self, connection: Connection) -> float:
        """The time by which all servers of this database go."""
        return self.clock.set_by(connection) if isinstance(self.clock, SharedClock) else self.clock()
