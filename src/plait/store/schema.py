"""The tables of the store's files, and the steps that bring an older file up to date."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plait.errors import StoreError
from plait.store.connections import Connection, checked_version, migrate

__all__ = ["VERSION", "check_version", "prepare_batch", "prepare_calls", "prepare_journal"]

Step = Callable[[Connection], None]

# 64-bit signed hashes; nothing is unique here, since equal calls are told apart by their order.
_CALLS = """
CREATE TABLE calls (
    key INTEGER, scope INTEGER, hash INTEGER, branch TEXT, model TEXT,
    input_tokens INTEGER, cached_tokens INTEGER, output_tokens INTEGER, estimated INTEGER,
    status INTEGER, headers TEXT, body BLOB, streamed INTEGER, at REAL, voided INTEGER DEFAULT 0
)
"""
_META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)"
# Rows that came out of a Python iterable, which a resume could not read again.
_EXAMPLES = "CREATE TABLE examples (position INTEGER PRIMARY KEY, example TEXT NOT NULL)"
_RESULTS = """
CREATE TABLE results (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL, status TEXT, outputs TEXT, error TEXT, usage TEXT, timings TEXT,
    duration_s REAL, attempts INTEGER, finished_at REAL
)
"""


def _first(connection: Connection) -> None:
    connection.execute(_CALLS)
    connection.execute("CREATE INDEX calls_scope ON calls (scope)")
    connection.execute("CREATE INDEX calls_hash ON calls (hash)")


def _first_of_a_batch(connection: Connection) -> None:
    connection.execute(_META)
    connection.execute(_EXAMPLES)
    connection.execute(_RESULTS)
    # Who ended how is read without every row's outputs.
    connection.execute("CREATE INDEX results_status ON results (status, id)")
    _first(connection)


def _scored(connection: Connection) -> None:
    # What evaluators say of a row, with what they saw: one JSON object.
    connection.execute("ALTER TABLE results ADD COLUMN evaluation TEXT")


def _unchanged(_: Connection) -> None:
    pass


# Step n brings a file from version n to n + 1. Both lists have the same length: a batch's file holds a journal, too.
_BATCH: Sequence[Step] = (_first_of_a_batch, _scored)
_JOURNAL: Sequence[Step] = (_first, _unchanged)
VERSION = len(_BATCH)
_PART = "batches"


def prepare_batch(connection: Connection) -> None:
    """Bring a batch's file (meta, results, calls) to this version; StoreError when it is of a newer one."""
    migrate(connection, _PART, _BATCH, place=_file(connection))


def prepare_journal(connection: Connection) -> None:
    """Bring a journal's file (calls) to this version; StoreError when it is of a newer one."""
    migrate(connection, _PART, _JOURNAL, place=_file(connection))


def prepare_calls(connection: Connection) -> None:
    """Make a journal's table in a file that has a version of its own."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone() is None:
        _first(connection)


def check_version(connection: Connection) -> int:
    """The version of a file that is only read; StoreError when it is newer, or has none (nothing was written yet)."""
    found = checked_version(connection, _PART, VERSION, place=_file(connection))
    if found == 0:
        raise StoreError(f"{_file(connection)} holds no tables yet: nothing was stored in it")
    return found


def _file(connection: Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2])
