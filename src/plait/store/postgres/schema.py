"""The tables of batches in PostgreSQL: those of a batch's SQLite file, told apart by their first column."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plait.store.connections import Connection, checked_version, migrate

__all__ = ["PART", "has_batches", "prepare_batches"]

PART = "batches"
# Who runs a batch says so every few seconds (owner, seen); nothing refers to a batch, so that rows are stored freely.
_TABLES = """
CREATE TABLE batches (id TEXT PRIMARY KEY, created_at REAL NOT NULL, owner TEXT, seen REAL);
CREATE TABLE batch_meta (batch TEXT, key TEXT, value TEXT, PRIMARY KEY (batch, key));
CREATE TABLE examples (batch TEXT, position INTEGER, example TEXT NOT NULL, PRIMARY KEY (batch, position));
CREATE TABLE results (
    batch TEXT, position INTEGER, id TEXT NOT NULL, status TEXT, outputs TEXT, error TEXT, usage TEXT, timings TEXT,
    duration_s REAL, attempts INTEGER, finished_at REAL, evaluation TEXT, PRIMARY KEY (batch, position)
);
CREATE INDEX results_status ON results (batch, status, id);
CREATE TABLE calls (
    number INTEGER PRIMARY KEY, batch TEXT NOT NULL, key INTEGER, scope INTEGER, hash INTEGER, branch TEXT, model TEXT,
    input_tokens INTEGER, cached_tokens INTEGER, output_tokens INTEGER, estimated INTEGER,
    status INTEGER, headers TEXT, body BLOB, streamed INTEGER, at REAL, voided INTEGER DEFAULT 0
);
CREATE INDEX calls_scope ON calls (batch, scope, number)
"""


def _first(connection: Connection) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)


_STEPS: Sequence[Callable[[Connection], None]] = (_first,)
_PLACE = "the PostgreSQL store"


def has_batches(connection: Connection) -> bool:
    """Whether anybody stored a batch here; StoreError when the tables are of a newer plait."""
    return checked_version(connection, PART, len(_STEPS), place=_PLACE) > 0


def prepare_batches(connection: Connection) -> None:
    """Bring the tables of batches to this version; StoreError when they are of a newer one."""
    migrate(connection, PART, _STEPS, place=_PLACE)
