"""The tables of the checkpointer, and what reads them and takes from them: functions of a connection.

A checkpoint is one row: its skeleton (versions, ids, the channels whose values are short) as the serializer wrote it,
and its metadata as JSON. Other values have a row per version, written when they change and shared by the checkpoints
that still hold that version. The writes of a node's execution are one row, so that they are kept all or not at all.
"""

from __future__ import annotations

import contextlib
import json
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
from plait.store.connections import Connection, add_tables

__all__ = [
    "COPY_CHECKPOINTS",
    "COPY_VALUES",
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

_REPLACE_CHECKPOINT = """
ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE SET parent_id = excluded.parent_id, run_id = excluded.run_id,
form = excluded.form, checkpoint = excluded.checkpoint, metadata = excluded.metadata
"""
_REPLACE_VALUE = """
ON CONFLICT (thread_id, ns, channel, version) DO UPDATE SET form = excluded.form, content = excluded.content
"""
INSERT_CHECKPOINT = f"INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?) {_REPLACE_CHECKPOINT}"  # noqa: S608
# Left out where the run is another server's, and it cannot become that before this is committed.
INSERT_OWN_CHECKPOINT = f"""
INSERT INTO checkpoints SELECT ?, ?, ?, ?, ?, ?, ?, ?
WHERE COALESCE((SELECT server FROM runs WHERE run_id = ? /*pg FOR SHARE */), ?) = ? {_REPLACE_CHECKPOINT}
"""  # noqa: S608
INSERT_VALUE = f"INSERT INTO checkpoint_values VALUES (?, ?, ?, ?, ?, ?) {_REPLACE_VALUE}"  # noqa: S608
COPY_CHECKPOINTS = f"""
INSERT INTO checkpoints SELECT ?, ns, checkpoint_id, parent_id, run_id, form, checkpoint, metadata
FROM checkpoints WHERE thread_id = ? {_REPLACE_CHECKPOINT}
"""  # noqa: S608
COPY_VALUES = f"""
INSERT INTO checkpoint_values SELECT ?, ns, channel, version, form, content
FROM checkpoint_values WHERE thread_id = ? {_REPLACE_VALUE}
"""  # noqa: S608
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
    thread_id TEXT NOT NULL, ns TEXT NOT NULL, channel TEXT NOT NULL, version TEXT NOT NULL,
    form TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (thread_id, ns, channel, version)
);
CREATE TABLE IF NOT EXISTS checkpoint_writes (
    id INTEGER PRIMARY KEY, thread_id TEXT NOT NULL, ns TEXT NOT NULL, checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL, task_path TEXT NOT NULL, writes BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS checkpoint_writes_by_place ON checkpoint_writes (thread_id, ns, checkpoint_id);
"""
_HEADS = 100
_PLAIN = {int, float, bool, type(None)}
_SHORT = 200  # characters: a text up to here stays in the checkpoint's own row
_LONGEST = 900_000_000  # bytes: SQLite holds a little more in a row, and so does PostgreSQL
_HEAD = "SELECT thread_id, ns, checkpoint_id, parent_id, form, checkpoint, metadata FROM checkpoints"


def prepare_checkpoints(connection: Connection) -> None:
    """Make the checkpointer's tables where they are missing; runs inside the caller's transaction."""
    add_tables(connection, "checkpoints", _TABLES)


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
def snapshot(connection: Connection) -> Iterator[None]:
    """All reads inside see the file at one moment, also without a transaction of the caller's."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def find(connection: Connection, place: Place, loads: Loads) -> CheckpointTuple | None:
    """One checkpoint with its values and pending writes, or None."""
    with snapshot(connection):
        row = checkpoint_row(connection, place)
        return None if row is None else _loaded(connection, row, loads)


def checkpoint_row(connection: Connection, place: Place) -> Sequence[Any] | None:
    """(thread id, namespace, checkpoint id, parent's id, form, checkpoint, metadata), or None."""
    if place.checkpoint_id is None:
        cursor = connection.execute(
            f"{_HEAD} WHERE thread_id=? AND ns=? ORDER BY checkpoint_id DESC LIMIT 1", (place.thread_id, place.ns)
        )
    else:
        cursor = connection.execute(f"{_HEAD} WHERE thread_id=? AND ns=? AND checkpoint_id=?", place)
    found: Sequence[Any] | None = cursor.fetchone()
    return found


def _loaded(connection: Connection, row: Sequence[Any], loads: Loads) -> CheckpointTuple:
    thread_id, ns, checkpoint_id, parent_id, form, content, metadata = row
    checkpoint: Checkpoint = loads((form, content))
    short = checkpoint["channel_values"]
    checkpoint["channel_values"] = values = {}
    for channel, version in checkpoint["channel_versions"].items():
        if channel in short:
            values[channel] = short[channel]
        else:
            values.update(_value(connection, (thread_id, ns, channel, str(version)), loads))
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


def _value(connection: Connection, key: tuple[object, ...], loads: Loads) -> dict[str, Any]:
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


def _pending(connection: Connection, place: tuple[str, str, str], loads: Loads) -> list[PendingWrite]:
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
    connection: Connection, wanted: Wanted, after: Sequence[str] | None, size: int, loads: Loads
) -> list[CheckpointTuple]:
    """At most `size` checkpoints, newest first, after the one that `after` names (checkpoint, thread, namespace)."""
    found: list[CheckpointTuple] = []
    with snapshot(connection):
        while len(found) < size:
            limit = _HEADS if wanted.filters else min(size - len(found), _HEADS)
            heads = _heads(connection, wanted, after, limit)
            for thread_id, ns, checkpoint_id, metadata in heads:
                if len(found) == size:
                    break
                if wanted.filters and not _matches(json.loads(metadata), wanted.filters):
                    continue
                row = checkpoint_row(connection, Place(thread_id, ns, checkpoint_id))
                assert row is not None
                found.append(_loaded(connection, row, loads))
            if len(heads) < limit:
                break
            after = (heads[-1][2], *heads[-1][:2])
    return found


def _heads(
    connection: Connection, wanted: Wanted, after: Sequence[str] | None, limit: int
) -> list[tuple[str, str, str, str]]:
    """The next of the listing, without their values: all that a filter needs, and never a whole thread at once."""
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
    # The conditions are ours.
    sql = f"""
    SELECT thread_id, ns, checkpoint_id, metadata FROM checkpoints WHERE {" AND ".join(where) or "1 = 1"}
    ORDER BY checkpoint_id DESC, thread_id DESC, ns DESC LIMIT {limit}
    """  # noqa: S608
    return connection.execute(sql, parameters).fetchall()


def _matches(metadata: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    return all(metadata.get(key) == value for key, value in filters.items())


def delta_history(
    connection: Connection, place: Place, channels: Sequence[str], loads: Loads
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


def values_of(connection: Connection, row: Sequence[Any], channels: Sequence[str], loads: Loads) -> dict[str, Any]:
    """The values of those of `channels` that have one in this checkpoint's row."""
    checkpoint: Checkpoint = loads((row[4], row[5]))
    found: dict[str, Any] = {}
    for channel in channels:
        if channel in checkpoint["channel_values"]:
            found[channel] = checkpoint["channel_values"][channel]
        elif channel in checkpoint["channel_versions"]:
            version = str(checkpoint["channel_versions"][channel])
            found |= _value(connection, (row[0], row[1], channel, version), loads)
    return found
