"""A connection to PostgreSQL that looks like sqlite3's, and comes back when the server does."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from plait.errors import StoreError
from plait.masking import is_spilt
from plait.masking import shown_url as shown
from plait.store.addresses import is_dsn
from plait.store.postgres.dialects import translated

__all__ = ["ENDING", "LOST", "Session", "connect"]

CONNECT_S = 10
PATIENCE_S = 60.0
"""So long a server that was there before is waited for: long enough for a restart, or for another to take over."""
_AGAIN_S = 0.25
LOST = (psycopg.OperationalError, psycopg.InterfaceError)
"""What is raised where the connection broke, or the server ends."""
ENDING = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleInTransactionSessionTimeout,
    errors.IdleSessionTimeout,
    # Of PostgreSQL 17; an older psycopg has no name for it.
    getattr(errors, "TransactionTimeout", errors.IdleInTransactionSessionTimeout),
)
"""What a server says before it lets go of a connection. Some of it is no OperationalError: ask for LOST besides."""
_IDLE = (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)


class Session:
    """One connection of one thread; see store.connections.Connection."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._raw = connect(dsn)
        self._gave_up = False
        self._token = uuid.uuid4().hex
        self._number = 0

    @property
    def raw(self) -> psycopg.Connection[Any]:
        """psycopg's connection, as long as it lasts."""
        return self._raw

    @property
    def in_transaction(self) -> bool:
        return self._raw.info.transaction_status not in _IDLE

    @property
    def is_lost(self) -> bool:
        """Whether the connection is no more."""
        return self._raw.closed or self._raw.broken

    def restore(self) -> None:
        """Connect again, trying for up to PATIENCE_S; once only, where that was in vain before. Raises StoreError."""
        self.close()
        until = time.monotonic() + (0.0 if self._gave_up else PATIENCE_S)
        while True:
            try:
                self._raw = connect(self._dsn)
            except psycopg.OperationalError as error:
                if time.monotonic() >= until:
                    self._gave_up = True
                    raise StoreError(
                        f"{shown(self._dsn)} does not answer any more: {_words(error)}; check that the server is up "
                        f"(it was tried for {PATIENCE_S:.0f} s)"
                    ) from error
                time.sleep(_AGAIN_S)
            else:
                self._gave_up = False
                return

    def enroll(self) -> None:
        """Make this session known to the server, for `begin` and `was_committed`."""
        if self.execute("SELECT to_regclass('plait_writers')").fetchone() == (None,):
            # One message is one transaction; two CREATE TABLE IF NOT EXISTS at once fail without the lock.
            self.execute(f"SELECT pg_advisory_xact_lock({_TABLE_LOCK}); {_WRITERS}")
        self.execute("DELETE FROM plait_writers WHERE at < now() - interval '7 days'")
        self.execute("INSERT INTO plait_writers VALUES (?, 0, now())", (self._token,))

    def begin(self, locks: str) -> None:
        """Begin a transaction that leaves its number, after these locks (parts of a SELECT, each with a comma)."""
        self._number += 1
        # One message. READ COMMITTED: what is read after a lock must not be of before it, whatever the default is.
        message = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT {locks} 1; "  # noqa: S608 - numbers of ours
            # Anew, if need be: one that did nothing for a week was swept out.
            f"INSERT INTO plait_writers VALUES ('{self._token}', {self._number}, now()) "
            "ON CONFLICT (token) DO UPDATE SET number = excluded.number, at = excluded.at"
        )
        try:
            self._raw.execute(message.encode())
        except ENDING:
            self.close()
            raise

    def was_committed(self) -> bool:
        """Whether the transaction begun last took effect, though its connection broke in COMMIT. Waits for its end.

        Its number tells; pg_xact_status would not: a server that crashed gives ids that it had not written down again.
        """
        # The lock waits for a connection whose end the server has not noticed yet. READ COMMITTED sees what that one
        # did meanwhile; stricter ones, which may be the database's default, only fail then.
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        row = self.execute("SELECT number FROM plait_writers WHERE token = ? FOR UPDATE", (self._token,)).fetchone()
        self.execute("COMMIT")
        return row is not None and row[0] == self._number

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        statement = translated(sql)
        try:
            if parameters:
                # Binary: as text a bytea takes twice its size, and the server makes no row of more than 1 GB.
                return self._raw.execute(statement.encode(), _plain(parameters), binary=True)
            return self._raw.execute(statement.replace("%%", "%").encode())
        except psycopg.IntegrityError as error:
            raise sqlite3.IntegrityError(_words(error)) from error
        except ENDING:
            # The server says so before it cuts the connection, which then still looks whole.
            self.close()
            raise

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> psycopg.Cursor[Any]:
        cursor = self._raw.cursor()
        try:
            cursor.executemany(translated(sql).encode(), map(_plain, parameters))
        except psycopg.IntegrityError as error:
            raise sqlite3.IntegrityError(_words(error)) from error
        except (*LOST, *ENDING) as error:
            # One without a code is not the server's: its pipeline broke, and the connection may still look whole.
            if error.sqlstate is None or isinstance(error, ENDING):
                self.close()
            raise
        return cursor

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._raw.close()


_TABLE_LOCK = 0x776C6169
_WRITERS = """
CREATE TABLE IF NOT EXISTS plait_writers (token text PRIMARY KEY, number bigint NOT NULL, at timestamptz NOT NULL)
WITH (fillfactor = 20)
"""
# Compiling a statement takes longer than any of ours runs. A lock of a host that vanished goes with its connection: the
# server notices within 15 s, by settings of its own side.
_OPTIONS = (
    "-c jit=off -c idle_in_transaction_session_timeout=20s -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=3 "
    "-c tcp_keepalives_count=3 -c tcp_user_timeout=15000"
)


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A connection in autocommit. Raises psycopg.OperationalError, StoreError for a DSN that is none."""
    if is_dsn(dsn) and is_spilt(dsn):
        raise _unreadable(dsn)
    try:
        own = conninfo_to_dict(dsn).get("options") or ""
        return psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_S,
            application_name="plait",
            options=f"{own} {_OPTIONS}".strip(),
            # And ours notices a server that vanished.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=25_000,
        )
    except psycopg.ProgrammingError:
        # Not libpq's words: they quote what it could not read, a password among it.
        raise _unreadable(dsn) from None


def _unreadable(dsn: str) -> StoreError:
    return StoreError(
        f"expected a DSN such as postgresql://HOST/DATABASE, with USER:PASSWORD@ before the host, found {shown(dsn)}, "
        "which cannot be read: write %40 for @, %25 for % and so on in a user or password, and see the options behind "
        "the ?"
    )


def _words(error: psycopg.Error) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _plain(parameters: Sequence[Any]) -> list[Any]:
    return [_value(value) for value in parameters]


def _value(value: Any) -> Any:
    # SQLite's columns hold flags as numbers, and PostgreSQL's are made alike.
    if value is True or value is False:
        return int(value)
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"PostgreSQL holds no text with a NUL character: take it out of {value[:40]!r}")
    return value
