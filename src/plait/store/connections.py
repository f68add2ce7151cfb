"""What the store's SQL runs on: a connection as sqlite3 has it, which PostgreSQL's is made to look like."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from plait.errors import StoreError

__all__ = ["Connection", "Cursor", "add_tables", "checked_version", "migrate", "schema_version"]

_VERSIONS = "CREATE TABLE IF NOT EXISTS plait_versions (part TEXT PRIMARY KEY, version INTEGER NOT NULL)"
_SET_VERSION = """
INSERT INTO plait_versions (part, version) VALUES (?, ?) ON CONFLICT (part) DO UPDATE SET version = excluded.version
"""


class Cursor(Protocol):
    """The rows of a statement, as tuples."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...

    def close(self) -> None: ...


class Connection(Protocol):
    """Runs SQL with `?` for parameters; flags are integers, JSON is text, times are seconds since the epoch.

    One dialect serves both databases: what only PostgreSQL needs stands in comments, `/*pg FOR SHARE */`, which its
    connection takes off; its columns' types are translated (see store.postgres.dialects). Errors of a statement are
    sqlite3's: sqlite3.IntegrityError for a constraint.
    """

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Cursor: ...


def schema_version(connection: Connection, part: str) -> int:
    """The version of the tables of `part` ("batches", "service"), 0 where there are none. An SQLite file has one."""
    if isinstance(connection, sqlite3.Connection):
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    found = connection.execute("SELECT to_regclass('plait_versions')::text").fetchone()
    if found is None or found[0] is None:
        return 0
    row = connection.execute("SELECT version FROM plait_versions WHERE part = ?", (part,)).fetchone()
    return 0 if row is None else int(row[0])


def checked_version(connection: Connection, part: str, known: int, *, place: str) -> int:
    """The version of the tables of `part`, 0 where there are none; StoreError when they are of a newer plait."""
    found = schema_version(connection, part)
    if not 0 <= found <= known:
        raise StoreError(f"{place} is of {part} version {found}, this plait knows up to {known}: install a newer plait")
    return found


def migrate(connection: Connection, part: str, steps: Sequence[Any], *, place: str) -> None:
    """Run the steps behind the version that is there, in the caller's transaction; `place` names it in messages.

    Raises StoreError when the tables are of a newer plait.
    """
    found = checked_version(connection, part, len(steps), place=place)
    for version, step in enumerate(steps[found:], start=found + 1):
        step(connection)
        if isinstance(connection, sqlite3.Connection):
            connection.execute(f"PRAGMA user_version={version}")
        else:
            connection.execute(_VERSIONS)
            connection.execute(_SET_VERSION, (part, version))


def add_tables(connection: Connection, part: str, tables: str) -> None:
    """Make the tables of a part where they are missing; each `CREATE ... IF NOT EXISTS` ends with a semicolon.

    An SQLite file may hold them beside others, whose version is the file's. In PostgreSQL a table of that name that is
    not plait's is an error: LangGraph's own checkpointer has some.
    """
    statements = [statement for statement in tables.split(";") if statement.strip()]

    def make(known: Connection) -> None:
        for statement in statements:
            known.execute(statement.replace("IF NOT EXISTS ", ""))

    if isinstance(connection, sqlite3.Connection):
        # Not executescript: that would commit the caller's transaction.
        for statement in statements:
            connection.execute(statement)
    else:
        migrate(connection, part, (make,), place="the PostgreSQL store")
