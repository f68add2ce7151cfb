"""The tables of the service's file, and the steps that bring an older file up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from plait.errors import StoreError

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


def _first(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)


# Step n brings a file from version n to n + 1.
_STEPS: Sequence[Callable[[sqlite3.Connection], None]] = (_first,)
VERSION = len(_STEPS)


def prepare_service(connection: sqlite3.Connection) -> None:
    """Bring a service's file to this version; StoreError when it is of a newer one."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if not 0 <= found <= VERSION:
        file = connection.execute("PRAGMA database_list").fetchone()[2]
        raise StoreError(
            f"{file} is of service version {found}, this plait knows up to {VERSION}: install a newer plait"
        )
    for version, step in enumerate(_STEPS[found:], start=found + 1):
        step(connection)
        connection.execute(f"PRAGMA user_version={version}")
