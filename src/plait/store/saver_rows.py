"""The tables of the checkpointer, and what reads them and takes from them: functions of a connection.

A checkpoint is one row: its skeleton (versions, ids, the channels whose values are short) as the serializer wrote it,
and its metadata as JSON. Other values have a row per version, written when they change and shared by the checkpoints
that still hold that version. The writes of a node's execution are one row, so that they are kept all or not at all.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ormsgpack
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    writes_sort_key,
)

from plait.errors import StoreError

__all__ = [
    "INSERT_CHECKPOINT",
    "INSERT_OWN_CHECKPOINT",
    "INSERT_VALUE",
    "INSERT_WRITES",
    "Loads",
    "Place",
    "Wanted",
    "checkpoint_row",
    "delta_history",
    "find",
    "fitting",
    "is_short",
    "listed",
    "pack_writes",
    "prepare_checkpoints",
    "snapshot",
    "values_of",
]

Loads = Callable[[tuple[str, bytes]], Any]

INSERT_CHECKPOINT = "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_OWN_CHECKPOINT = """
INSERT OR REPLACE INTO checkpoints SELECT ?, ?, ?, ?, ?, ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM runs WHERE run_id = ? AND server != ?)
"""
INSERT_VALUE = "INSERT OR REPLACE INTO checkpoint_values VALUES (?, ?, ?, ?, ?, ?)"
INSERT_WRITES = (
    "INSERT INTO checkpoint_writes (thread_id, ns, checkpoint_id, task_id, task_path, writes) VALUES (?, ?, ?, ?, ?, ?)"
)

_TABLES = """
CREATE TABLE IF NOT EXISTS checkpoints (
    thread_id TEXT NOT NULL, ns TEXT NOT NULL, checkpoint_id TEXT NOT NULL, parent_id TEXT, run_id TEXT,
    form TEXT NOT NULL, checkpoint BLOB NOT NULL, metadata TEXT NOT NULL,
    PRIMARY KEY (thread_id, ns, checkpoint_id)
);
CREATE INDEX IF NOT EXISTS checkpoints_by_run ON checkpoints (run_id) WHERE run_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS checkpoint_values (
    thread_id TEXT NOT NULL, ns TEXT NOT NULL, channel TEXT NOT NULL, version NOT NULL,
    form TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (thread_id, ns, channel, version)
);
CREATE TABLE IF NOT EXISTS checkpoint_writes (
    id INTEGER PRIMARY KEY, thread_id TEXT NOT NULL, ns TEXT NOT NULL, checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL, task_path TEXT NOT NULL, writes BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS checkpoint_writes_by_place ON checkpoint_writes (thread_id, ns, checkpoint_id);
"""
_PLAIN = {int, float, bool, type(None)}
_SHORT = 200  # characters: a text up to here stays in the checkpoint's own row
_LONGEST = 900_000_000  # bytes: SQLite holds a little more in a row
_HEAD = "SELECT thread_id, ns, checkpoint_id, parent_id, form, checkpoint, metadata FROM checkpoints"


def prepare_checkpoints(connection: sqlite3.Connection) -> None:
    """Make the checkpointer's tables where they are missing; runs inside the caller's transaction."""
    # Not executescript: that would commit the caller's transaction.
    for statement in _TABLES.split(";"):
        connection.execute(statement)


class Place(NamedTuple):
    """Where checkpoints lie; without an id, the newest of the namespace is meant."""

    thread_id: str
    ns: str
    checkpoint_id: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checkpoints to list; None: whatever it is. `filters` are compared with the metadata, never put into SQL."""

    thread_id: str | None = None
    ns: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    filters: Mapping[str, Any] | None = None


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All reads inside see the file at one moment, also without a transaction of the caller's."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def find(connection: sqlite3.Connection, place: Place, loads: Loads) -> CheckpointTuple | None:
    """One checkpoint with its values and pending writes, or None."""
    with snapshot(connection):
        row = checkpoint_row(connection, place)
        return None if row is None else _loaded(connection, row, loads)


def checkpoint_row(connection: sqlite3.Connection, place: Place) -> Sequence[Any] | None:
    """(thread id, namespace, checkpoint id, parent's id, form, checkpoint, metadata), or None."""
    if place.checkpoint_id is None:
        cursor = connection.execute(
            f"{_HEAD} WHERE thread_id=? AND ns=? ORDER BY checkpoint_id DESC LIMIT 1", (place.thread_id, place.ns)
        )
    else:
        cursor = connection.execute(f"{_HEAD} WHERE thread_id=? AND ns=? AND checkpoint_id=?", place)
    found: Sequence[Any] | None = cursor.fetchone()
    return found


def _loaded(connection: sqlite3.Connection, row: Sequence[Any], loads: Loads) -> CheckpointTuple:
    thread_id, ns, checkpoint_id, parent_id, form, content, metadata = row
    checkpoint: Checkpoint = loads((form, content))
    short = checkpoint["channel_values"]
    checkpoint["channel_values"] = values = {}
    for channel, version in checkpoint["channel_versions"].items():
        if channel in short:
            values[channel] = short[channel]
        else:
            values.update(_value(connection, (thread_id, ns, channel, version), loads))
    parsed: CheckpointMetadata = json.loads(metadata)
    return CheckpointTuple(
        {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}},
        checkpoint,
        parsed,
        {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": parent_id}}
        if parent_id
        else None,
        _pending(connection, (thread_id, ns, checkpoint_id), loads),
    )


def _value(connection: sqlite3.Connection, key: tuple[object, ...], loads: Loads) -> dict[str, Any]:
    """The channel and its value; empty where it has none in that version."""
    sql = "SELECT channel, form, content FROM checkpoint_values WHERE thread_id=? AND ns=? AND channel=? AND version=?"
    return {channel: loads((form, content)) for channel, form, content in connection.execute(sql, key)}


def is_short(value: object) -> bool:
    """Whether a value stays in the checkpoint's own row, written anew with each."""
    # Exactly these types: a subclass comes back as itself only through the serializer.
    kind = type(value)
    return kind in _PLAIN or (kind is str and len(value) <= _SHORT)  # type: ignore[arg-type]


def fitting(content: bytes) -> bytes:
    """The content; StoreError when it is more than a row can hold."""
    if len(content) > _LONGEST:
        raise StoreError(
            f"expected at most {_LONGEST / 1e6:,.0f} MB in one value of a state, found {len(content) / 1e6:,.0f} MB: "
            "keep such data in files and their paths in the state"
        )
    return content


def pack_writes(writes: Sequence[tuple[int, str, tuple[str, bytes]]]) -> bytes:
    """One row's worth of writes: each has its index, channel and serialized value."""
    return ormsgpack.packb([(index, channel, form, content) for index, channel, (form, content) in writes])


def _pending(connection: sqlite3.Connection, place: tuple[str, str, str], loads: Loads) -> list[PendingWrite]:
    """What was written at a checkpoint, in the order in which a run would apply it."""
    sql = "SELECT task_id, task_path, writes FROM checkpoint_writes WHERE thread_id=? AND ns=? AND checkpoint_id=?"
    found: dict[tuple[str, int], tuple[str, str, tuple[str, bytes]]] = {}
    for task_id, path, packed in connection.execute(f"{sql} ORDER BY id", place):
        for index, channel, form, content in ormsgpack.unpackb(packed):
            # The first of an ordinary write counts, the last of an error, interrupt or answer.
            if index < 0 or (task_id, index) not in found:
                found[task_id, index] = path, channel, (form, content)
    ordered = sorted(found, key=lambda key: writes_sort_key(found[key][0], *key))
    return [(key[0], found[key][1], loads(found[key][2])) for key in ordered]


def listed(
    connection: sqlite3.Connection, wanted: Wanted, after: Sequence[str] | None, size: int, loads: Loads
) -> list[CheckpointTuple]:
    """At most `size` checkpoints, newest first, after the one that `after` names (checkpoint, thread, namespace)."""
    found: list[CheckpointTuple] = []
    asked = {
        "thread_id=?": wanted.thread_id,
        "ns=?": wanted.ns,
        "checkpoint_id=?": wanted.checkpoint_id,
        "checkpoint_id<?": wanted.before,
    }
    conditions = {sql: value for sql, value in asked.items() if value is not None}
    parameters = list(conditions.values())
    where = [*conditions]
    if after is not None:
        where.append("(checkpoint_id, thread_id, ns) < (?, ?, ?)")
        parameters += after
    sql = f"SELECT thread_id, ns, checkpoint_id, metadata FROM checkpoints WHERE {' AND '.join(where) or '1'} "  # noqa: S608 - conditions are ours
    with snapshot(connection):
        cursor = connection.execute(sql + "ORDER BY checkpoint_id DESC, thread_id DESC, ns DESC", parameters)
        with contextlib.closing(cursor):
            for thread_id, ns, checkpoint_id, metadata in cursor:
                if len(found) == size:
                    break
                if wanted.filters and not _matches(json.loads(metadata), wanted.filters):
                    continue
                row = checkpoint_row(connection, Place(thread_id, ns, checkpoint_id))
                assert row is not None
                found.append(_loaded(connection, row, loads))
    return found


def _matches(metadata: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    return all(metadata.get(key) == value for key, value in filters.items())


def delta_history(
    connection: sqlite3.Connection, place: Place, channels: Sequence[str], loads: Loads
) -> dict[str, DeltaChannelHistory]:
    """What BaseCheckpointSaver.get_delta_channel_history asks for, in one walk up the parents."""
    newest_first: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    with snapshot(connection):
        target = checkpoint_row(connection, place)
        parent = target[3] if target is not None else None
        while parent is not None and len(seeds) < len(newest_first):
            row = checkpoint_row(connection, Place(place.thread_id, place.ns, parent))
            if row is None:
                break
            for write in reversed(_pending(connection, (place.thread_id, place.ns, parent), loads)):
                if write[1] in newest_first and write[1] not in seeds:
                    newest_first[write[1]].append(write)
            seeds |= values_of(connection, row, [channel for channel in newest_first if channel not in seeds], loads)
            parent = row[3]
    history: dict[str, DeltaChannelHistory] = {}
    for channel, writes in newest_first.items():
        history[channel] = {"writes": writes[::-1]}
        if channel in seeds:
            history[channel]["seed"] = seeds[channel]
    return history


def values_of(
    connection: sqlite3.Connection, row: Sequence[Any], channels: Sequence[str], loads: Loads
) -> dict[str, Any]:
    """The values of those of `channels` that have one in this checkpoint's row."""
    checkpoint: Checkpoint = loads((row[4], row[5]))
    found: dict[str, Any] = {}
    for channel in channels:
        if channel in checkpoint["channel_values"]:
            found[channel] = checkpoint["channel_values"][channel]
        elif channel in checkpoint["channel_versions"]:
            found |= _value(connection, (row[0], row[1], channel, checkpoint["channel_versions"][channel]), loads)
    return found
