"""One SQLite file of the service, as its parts use it: a writer, readers, a clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from plait.store.service.readers import Readers
from plait.store.writers import Writer

__all__ = ["Database"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """What the parts of a ServiceStore share. `clock` gives seconds since the epoch."""

    writer: Writer
    readers: Readers
    clock: Callable[[], float]

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work` in a read transaction; see Readers."""
        return await self.readers.read(work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work` in a transaction of its own, durable on return; what it raises undoes it."""
        return await self.writer.do(work)
