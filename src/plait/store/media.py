"""Where a Writer writes and Readers read: one SQLite file, or a PostgreSQL database."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from plait.errors import StoreError
from plait.store.connections import Connection
from plait.store.files import Durability, blames_one, closed_error, explained, open_to_read, open_to_write

__all__ = ["FileMedium", "Medium", "Prepare"]

T = TypeVar("T")
Prepare = Callable[[Connection], None]

_log = logging.getLogger(__name__)


class Medium(Protocol):
    """Makes connections, each for one thread, and says what their errors mean. All methods block."""

    @property
    def name(self) -> str:
        """For messages and the names of threads; never holds a password."""
        ...

    @property
    def comes_back(self) -> bool:
        """Whether a connection that failed may serve again later, as it is."""
        ...

    def open_to_write(self) -> Connection:
        """A connection, with all tables brought up to date."""
        ...

    def open_to_read(self) -> Connection: ...

    def transact(self, connection: Connection, work: Callable[[Connection], T], *, alone: bool | str) -> T:
        """The result of `work` in a transaction, committed; what it raises undoes it.

        `alone`: as if no other transaction ran meanwhile, whatever process it is of; a text: none that is alone, or so
        among those of the same text. `work` may be called again.
        """
        ...

    def read(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        """The result of `work`, which sees the database as it is at one moment."""
        ...

    def attempt(self, connection: Connection, sql: str, parameters: tuple[object, ...]) -> None:
        """Run a statement that may fail by its own fault without harm to the transaction it is in."""
        ...

    def blames_one(self, error: BaseException) -> bool:
        """Whether a record or a piece of work is at fault, rather than the database."""
        ...

    def explained(self, error: Exception, verb: str = "write") -> StoreError:
        """The error of the whole database, in words, with what to do."""
        ...

    def closed_error(self) -> StoreError: ...

    def close(self, connection: Connection, *, whole: bool) -> None:
        """Let go of a connection; `whole`: all that was written before was written well."""
        ...


class FileMedium:
    """One SQLite file; a Medium. See Writer for `durability`, and for what becomes of the file."""

    comes_back = False

    def __init__(self, file: Path, *, prepare: Prepare | None = None, durability: Durability = "power") -> None:
        self.file = file
        self._prepare = prepare
        self._durability: Durability = durability

    @property
    def name(self) -> str:
        return self.file.name

    def open_to_write(self) -> sqlite3.Connection:
        connection = open_to_write(self.file, self._durability)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if self._prepare is not None:
                self._prepare(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def open_to_read(self) -> sqlite3.Connection:
        return open_to_read(self.file)

    def transact(self, connection: Connection, work: Callable[[Connection], T], *, alone: bool | str) -> T:
        # There is one writer of a file at a time in any case.
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            if not _rolled_back(connection):
                raise self.explained(error) if isinstance(error, Exception) else error from error
            raise
        return result

    def read(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            connection.execute("COMMIT")

    def attempt(self, connection: Connection, sql: str, parameters: tuple[object, ...]) -> None:
        connection.execute(sql, parameters)

    def blames_one(self, error: BaseException) -> bool:
        return blames_one(error)

    def explained(self, error: Exception, verb: str = "write") -> StoreError:
        return explained(self.file, error, verb)

    def closed_error(self) -> StoreError:
        return closed_error(self.file)

    def close(self, connection: Connection, *, whole: bool) -> None:
        assert isinstance(connection, sqlite3.Connection)
        try:
            if whole:
                connection.execute("PRAGMA busy_timeout=0")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
        except sqlite3.Error as error:
            _log.debug("closing %s: %s", self.file, error)  # its WAL holds everything that was acknowledged


def _rolled_back(connection: Connection) -> bool:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True
