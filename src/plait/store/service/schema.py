"""The tables of the service, and the steps that bring older ones up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from plait.store.connections import Connection, migrate

__all__ = ["VERSION", "prepare_service"]

# Large columns come last: what only looks at the ones before them does not read their pages.
_TABLES = """
CREATE TABLE assistants (
    assistant_id TEXT PRIMARY KEY, owner TEXT NOT NULL, graph_id TEXT NOT NULL, name TEXT NOT NULL,
    version INTEGER NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL,
    description TEXT, metadata TEXT NOT NULL, config TEXT NOT NULL, context TEXT NOT NULL
);
CREATE TABLE assistant_versions (
    assistant_id TEXT NOT NULL, version INTEGER NOT NULL, owner TEXT NOT NULL, graph_id TEXT NOT NULL,
    name TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL,
    description TEXT, metadata TEXT NOT NULL, config TEXT NOT NULL, context TEXT NOT NULL,
    PRIMARY KEY (assistant_id, version)
);
CREATE TABLE threads (
    thread_id TEXT PRIMARY KEY, owner TEXT NOT NULL, status TEXT NOT NULL, temporary INTEGER NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, state_updated_at REAL NOT NULL,
    metadata TEXT NOT NULL, config TEXT NOT NULL, interrupts TEXT NOT NULL, error TEXT, "values" TEXT
);
CREATE INDEX threads_created ON threads (created_at);
CREATE INDEX threads_updated ON threads (updated_at);
CREATE INDEX threads_owned ON threads (owner, updated_at);
CREATE INDEX threads_temporary ON threads (updated_at) WHERE temporary = 1;
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, thread_id TEXT NOT NULL, assistant_id TEXT NOT NULL,
    graph_id TEXT NOT NULL, owner TEXT NOT NULL, status TEXT NOT NULL, server TEXT NOT NULL, attempt INTEGER NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, start_after REAL NOT NULL,
    due_at REAL GENERATED ALWAYS AS (max(created_at, start_after)),
    multitask_strategy TEXT NOT NULL, client TEXT NOT NULL, key_id TEXT NOT NULL, interactive INTEGER NOT NULL,
    cancel TEXT, metadata TEXT NOT NULL, error TEXT, usage TEXT, timings TEXT, kwargs TEXT NOT NULL
);
CREATE INDEX runs_thread ON runs (thread_id, status, owner);
CREATE INDEX runs_server ON runs (server) WHERE status IN ('pending', 'running');
CREATE TABLE events (
    number INTEGER PRIMARY KEY, run_id TEXT NOT NULL, ms INTEGER NOT NULL, n INTEGER NOT NULL, event TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX events_run ON events (run_id, ms, n);
CREATE TABLE keys (
    key_id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL, revoked_at REAL, last_used_at REAL, rpm REAL, runs_per_day INTEGER,
    tokens_per_day INTEGER, usd_per_day REAL, max_running INTEGER
);
CREATE TABLE key_usage (
    key_id TEXT NOT NULL, day TEXT NOT NULL, runs INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL,
    PRIMARY KEY (key_id, day)
);
CREATE TABLE crons (
    cron_id TEXT PRIMARY KEY, owner TEXT NOT NULL, assistant_id TEXT NOT NULL, thread_id TEXT, schedule TEXT NOT NULL,
    timezone TEXT, end_time REAL, next_run_at REAL, enabled INTEGER NOT NULL, on_run_completed TEXT NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, metadata TEXT NOT NULL, payload TEXT NOT NULL
);
CREATE INDEX crons_next ON crons (next_run_at);
CREATE TABLE servers (server TEXT PRIMARY KEY, seen REAL NOT NULL)
"""


def _first(connection: Connection) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    if not isinstance(connection, sqlite3.Connection):
        from plait.store.postgres.functions import define  # noqa: PLC0415 - an extra

        define(connection)


def _versioned(connection: Connection) -> None:
    connection.execute("ALTER TABLE servers ADD COLUMN version TEXT NOT NULL DEFAULT ''")


# Step n brings the tables from version n to n + 1.
_STEPS: Sequence[Callable[[Connection], None]] = (_first, _versioned)
VERSION = len(_STEPS)


def prepare_service(connection: Connection) -> None:
    """Bring a service's tables to this version; StoreError when they are of a newer one."""
    place = "the PostgreSQL store"
    if isinstance(connection, sqlite3.Connection):
        place = str(connection.execute("PRAGMA database_list").fetchone()[2])
    migrate(connection, "service", _STEPS, place=place)
