"""The service's store: one SQLite file for what a service keeps, written by any number of servers on a host."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from plait.errors import StoreError
from plait.store.files import Durability
from plait.store.service.assistants import Assistants
from plait.store.service.crons import Crons
from plait.store.service.databases import Database
from plait.store.service.events import Events
from plait.store.service.keys import Keys
from plait.store.service.readers import Readers
from plait.store.service.runs import Runs
from plait.store.service.schema import prepare_service
from plait.store.service.servers import Servers
from plait.store.service.threads import Threads
from plait.store.writers import Writer

__all__ = ["ServiceStore"]

T = TypeVar("T")
Prepare = Callable[[sqlite3.Connection], None]

# What comes while a commit is written shares the next one: where no commit waits for a disk, that is company enough.
_GATHER_S = 0.0


class ServiceStore:
    """All that a service keeps, in `file` (made with its folder where absent, for their owner only).

    durability "kill": what was acknowledged survives the death of the process, "power": also a power loss. `clock`
    gives seconds since the epoch. `also` prepares further tables in the same file: each is called at every start, on
    the writer's thread and in the transaction that brings the file up to date.

    Use it between `open` and `close`, or as an async context manager. Every method that writes is durable on return;
    what one caller wrote, it reads. A cancelled caller does not undo what it asked for. All raise StoreError when the
    file cannot be used; after a failed write the store stays closed to writes until it is opened anew.
    """

    def __init__(
        self,
        file: Path,
        *,
        durability: Durability = "kill",
        clock: Callable[[], float] = time.time,
        also: Sequence[Prepare] = (),
    ) -> None:
        def prepare(connection: sqlite3.Connection) -> None:
            for step in (prepare_service, *also):
                step(connection)

        self.file = file
        self.writer = Writer(file, prepare=prepare, durability=durability, gather_s=_GATHER_S)
        self._readers = Readers(file)
        database = Database(self.writer, self._readers, clock)
        self.assistants = Assistants(database)
        self.threads = Threads(database)
        self.runs = Runs(database)
        self.events = Events(database)
        self.keys = Keys(database)
        self.crons = Crons(database)
        self.servers = Servers(database)

    async def open(self) -> None:
        """Make the file or bring it up to date; StoreError when it is damaged, of a newer plait, or cannot be used."""
        try:
            await self.writer.do(lambda _: None)
        except StoreError as error:
            message = str(error).replace("go on with `plait resume`", "start the service again")
            raise StoreError(message) from error

    async def close(self) -> None:
        """Commit what is queued and let go of the file."""
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self.writer.close)

    async def __aenter__(self) -> ServiceStore:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work` on a read-only connection, in one read transaction, on a thread of a small pool."""
        return await self._readers.read(work)
