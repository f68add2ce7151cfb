"""A PostgreSQL database as the store's medium: transactions that outlast a restart of the server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from zlib import crc32

import psycopg
from psycopg import errors

from plait.errors import StoreError
from plait.masking import shown_url as shown
from plait.store.connections import Connection
from plait.store.files import Durability
from plait.store.media import Prepare
from plait.store.postgres.sessions import ENDING, LOST, Session

__all__ = ["PostgresMedium"]

T = TypeVar("T")

_LOCK = 0x706C6169
"""The advisory lock of those that must be alone: "plai"."""
_TRIES = 20
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)
# The database's own troubles: full disk, no memory, no permission, shutting down. All else is the statement's.
_ITS_OWN = (
    *LOST,
    errors.InsufficientPrivilege,
    errors.UndefinedTable,
    errors.InternalError,
    errors.ReadOnlySqlTransaction,
)


class PostgresMedium:
    """The database of a DSN; a Medium (see store.media).

    Every commit is on the server's disk, whatever `durability` says: a server that crashes takes nothing with it that
    we, who live on, would build on. (A file's last moments are lost together with the process that wrote them.)
    """

    comes_back = True

    def __init__(self, dsn: str, *, prepare: Prepare | None = None, durability: Durability = "power") -> None:
        self.dsn = dsn
        self._prepare = prepare

    @property
    def name(self) -> str:
        return shown(self.dsn)

    def open_to_write(self) -> Session:
        session = Session(self.dsn)
        try:
            session.enroll()
            if self._prepare is not None:
                self.transact(session, self._prepare, alone=True)
        except BaseException:
            session.close()
            raise
        return session

    def open_to_read(self) -> Session:
        return Session(self.dsn)

    @contextmanager
    def session(self, *, to_write: bool = False) -> Iterator[Session]:
        """A connection for a block; psycopg's errors come out as StoreError."""
        verb = "write" if to_write else "read"
        try:
            session = self.open_to_write() if to_write else self.open_to_read()
        except psycopg.Error as error:
            raise self.explained(error, verb) from error
        try:
            yield session
        except psycopg.Error as error:
            raise self.explained(error, verb) from error
        finally:
            session.close()

    def transact(self, connection: Connection, work: Callable[[Connection], T], *, alone: bool | str) -> T:
        assert isinstance(connection, Session)
        locks = _locks(alone)
        # Of a COMMIT that was sent. Where no answer came, `was_committed` alone tells whether it took effect.
        results: list[T] = []
        for tries_left in range(_TRIES, -1, -1):
            try:
                if connection.is_lost:
                    connection.restore()
                if results and connection.was_committed():
                    return results[0]
                results.clear()
                connection.begin(locks)
                results.append(work(connection))
                connection.execute("COMMIT")
            except _AGAIN:
                self._roll_back(connection)
                if not tries_left:
                    raise
            except (*LOST, *ENDING) as error:
                if not tries_left or not _is_over(connection, error):
                    self._roll_back(connection)
                    raise
            except BaseException:
                self._roll_back(connection)
                raise
            else:
                return results[0]
        raise AssertionError("the last try raises")

    def read(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        assert isinstance(connection, Session)
        for tries_left in (2, 1, 0):
            try:
                if connection.is_lost:
                    connection.restore()
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try:
                    return work(connection)
                finally:
                    self._roll_back(connection)
            except (*LOST, *ENDING) as error:
                if not tries_left or not _is_over(connection, error):
                    raise
        raise AssertionError("the last try raises")

    def attempt(self, connection: Connection, sql: str, parameters: tuple[object, ...]) -> None:
        assert isinstance(connection, Session)
        with connection.raw.transaction():  # a savepoint
            connection.execute(sql, parameters)

    def blames_one(self, error: BaseException) -> bool:
        if isinstance(error, OSError | StoreError):
            return False
        return isinstance(error, sqlite3.IntegrityError) or not isinstance(error, _ITS_OWN)

    def explained(self, error: Exception, verb: str = "write") -> StoreError:
        if isinstance(error, StoreError):
            return error
        words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, errors.DiskFull):
            cure = "make room there; what was stored before is safe"
        elif isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
            cure = "name a user that may create tables and write, and the primary, not a replica of it"
        elif isinstance(error, errors.DuplicateTable):
            cure = "the database holds tables of something else: name one that is plait's own"
        elif isinstance(error, (*LOST, *ENDING)):
            cure = "check that the server is up and the DSN is right; what was stored before is safe"
        else:
            cure = "check the database; what was stored before is safe"
        failure = StoreError(f"cannot {verb} {self.name}: {words}; {cure}")
        failure.__cause__ = error
        return failure

    def closed_error(self) -> StoreError:
        return StoreError(f"cannot write {self.name}: its writer is closed; open the store again")

    def close(self, connection: Connection, *, whole: bool) -> None:
        assert isinstance(connection, Session)
        connection.close()

    def _roll_back(self, session: Session) -> None:
        with suppress(psycopg.Error):
            if not session.is_lost and session.in_transaction:
                session.execute("ROLLBACK")


def _is_over(session: Session, error: Exception) -> bool:
    """Whether it can only be opened again."""
    if isinstance(error, ENDING):
        session.close()  # said to psycopg itself, as at a savepoint: it still looks whole
    return session.is_lost


def _locks(alone: bool | str) -> str:
    """Parts of a SELECT. Who is alone is so among all processes; others only wait for rows that it holds."""
    if isinstance(alone, str):
        name = crc32(alone.encode(errors="surrogatepass")) - 2**31
        return f"pg_advisory_xact_lock_shared({_LOCK}), pg_advisory_xact_lock({_LOCK}, {name}),"
    return f"pg_advisory_xact_lock({_LOCK})," if alone else ""
