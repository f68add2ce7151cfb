"""The service's store: an SQLite file for the servers of a host, or a PostgreSQL database for those of many."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from plait.errors import StoreError
from plait.store.addresses import Address, is_dsn, medium_of
from plait.store.answers import Answers
from plait.store.connections import Connection, schema_version
from plait.store.files import Durability
from plait.store.schema import prepare_calls
from plait.store.service.assistants import Assistants
from plait.store.service.crons import Crons
from plait.store.service.databases import Database, SharedClock
from plait.store.service.events import Events
from plait.store.service.keys import Keys
from plait.store.service.readers import Readers
from plait.store.service.runs import Runs
from plait.store.service.schema import VERSION, prepare_service
from plait.store.service.servers import GONE_S, Lives, Servers, check_versions
from plait.store.service.threads import Threads
from plait.store.writers import Writer

__all__ = ["ServiceStore", "prepare_answers"]

T = TypeVar("T")
Prepare = Callable[[Connection], None]

_WITH_VERSIONS = 2
_JOURNAL = "service"  # whose answers those of the runs are, in a database that holds those of batches, too
# What comes while a commit is written shares the next one: where no commit waits for a disk, that is company enough.
_GATHER_S = 0.0


class ServiceStore:
    """All that a service keeps: in a file (made with its folder where absent, for their owner only), or under a DSN.

    durability "kill": what was acknowledged survives the death of the process, "power": also a power loss. `clock`
    gives seconds since the epoch (by default this host's, in PostgreSQL the database's). `also` prepares further
    tables: each is called at every start, on the writer's thread and in the transaction that brings the tables up to
    date. `lives` tells of a server's name whether its process may live; `version` is plait's.

    Use it between `open` and `close`, or as an async context manager. Every method that writes is durable on return;
    what one caller wrote, it reads. A cancelled caller does not undo what it asked for. All raise StoreError when the
    store cannot be used; after a failed write to a file it stays closed to writes until it is opened anew.
    """

    def __init__(
        self,
        address: Address,
        *,
        durability: Durability = "kill",
        clock: Callable[[], float] | None = None,
        also: Sequence[Prepare] = (),
        lives: Lives = lambda _: True,
        version: str | None = None,
    ) -> None:
        def own_version() -> str:
            return _version() if version is None else version

        def prepare(connection: Connection) -> None:
            # Not by the clock: that of the database is known once there is a connection.
            now, own = database.now(connection), own_version()
            if _WITH_VERSIONS <= schema_version(connection, "service") <= VERSION:
                check_versions(connection, own, now - GONE_S, lives)
            for step in (prepare_service, *also):
                step(connection)

        self.address = address
        self.answers = Answers(dsn=str(address), batch=_JOURNAL) if is_dsn(address) else Answers(file=Path(address))
        """Where the paid answers of its runs lie, if `prepare_answers` was among `also`."""
        medium = medium_of(address, prepare=prepare, durability=durability)
        self.writer = Writer(medium, gather_s=_GATHER_S)
        self._readers = Readers(medium)
        self.clock = clock or (SharedClock() if is_dsn(address) else time.time)
        database = Database(self.writer, self._readers, self.clock, lives)
        self.assistants = Assistants(database)
        self.threads = Threads(database)
        self.runs = Runs(database)
        self.events = Events(database)
        self.keys = Keys(database)
        self.crons = Crons(database)
        self.servers = Servers(database, own_version)

    async def open(self) -> None:
        """Make the store or bring it up to date.

        Raises StoreError when it is damaged, of a newer plait, used by servers of another one, or out of reach.
        """
        try:
            await self.writer.do(lambda _: None)
        except StoreError as error:
            message = str(error).replace("go on with `plait resume`", "start the service again")
            raise StoreError(message) from error

    async def close(self) -> None:
        """Commit what is queued and let go of the store."""
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self.writer.close)

    async def __aenter__(self) -> ServiceStore:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` on a read-only connection, in one read transaction, on a thread of a small pool."""
        return await self._readers.read(work)


def prepare_answers(connection: Connection) -> None:
    """Make the table of a journal; in the caller's transaction."""
    if isinstance(connection, sqlite3.Connection):
        prepare_calls(connection)
    else:
        from plait.store.postgres.schema import prepare_batches  # noqa: PLC0415 - an extra

        prepare_batches(connection)


@cache
def _version() -> str:
    try:
        return version_of("plait")
    except PackageNotFoundError:
        return "unknown"
