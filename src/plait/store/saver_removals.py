"""Copy and delete checkpoints: functions of the writer's connection, each inside the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence

from plait.store.connections import Connection
from plait.store.saver_rows import COPY_CHECKPOINTS, COPY_VALUES, Loads, Place, checkpoint_row, values_of

__all__ = ["copy_thread", "delete_runs", "delete_thread", "keep_latest"]

_PAGE = 100  # checkpoints held at once
_TABLES = ("checkpoints", "checkpoint_values", "checkpoint_writes")


def delete_thread(connection: Connection, thread_id: str) -> None:
    """Everything of a thread."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE thread_id=?", (thread_id,))  # noqa: S608 - our own names


def copy_thread(connection: Connection, source: str, target: str) -> None:
    """Everything of a thread, into another; where both have a checkpoint of an id, the source's counts."""
    connection.execute(COPY_CHECKPOINTS, (target, source))
    connection.execute(COPY_VALUES, (target, source))
    connection.execute(
        "INSERT INTO checkpoint_writes (thread_id, ns, checkpoint_id, task_id, task_path, writes) "
        "SELECT ?, ns, checkpoint_id, task_id, task_path, writes FROM checkpoint_writes WHERE thread_id=? ORDER BY id",
        (target, source),
    )


def delete_runs(connection: Connection, run_ids: Sequence[str], loads: Loads) -> None:
    """The checkpoints whose metadata name one of these runs, their writes, and the values that nobody else holds."""
    touched: dict[tuple[str, str], None] = {}
    for run_id in run_ids:
        sql = "SELECT thread_id, ns, checkpoint_id FROM checkpoints WHERE run_id=?"
        for thread_id, ns, checkpoint_id in connection.execute(sql, (run_id,)).fetchall():
            _delete_one(connection, (thread_id, ns, checkpoint_id))
            touched[thread_id, ns] = None
    for thread_id, ns in touched:
        _drop_values(connection, thread_id, ns, loads)


def keep_latest(connection: Connection, thread_id: str, loads: Loads) -> None:
    """Delete all but the newest checkpoint of each namespace, and what that one's delta channels are rebuilt from."""
    namespaces = connection.execute("SELECT DISTINCT ns FROM checkpoints WHERE thread_id=?", (thread_id,)).fetchall()
    for (ns,) in namespaces:
        kept = _needed(connection, Place(thread_id, ns, None), loads)
        sql = "SELECT checkpoint_id FROM checkpoints WHERE thread_id=? AND ns=?"
        for (checkpoint_id,) in connection.execute(sql, (thread_id, ns)).fetchall():
            if checkpoint_id not in kept:
                _delete_one(connection, (thread_id, ns, checkpoint_id))
        _drop_values(connection, thread_id, ns, loads)


def _needed(connection: Connection, place: Place, loads: Loads) -> set[str]:
    """The newest checkpoint and its ancestors up to where each of its delta channels was last stored whole."""
    row = checkpoint_row(connection, place)
    kept: set[str] = set()
    # LangGraph counts there, by channel, what came since the last whole value; others have their value in the row.
    waiting = set(json.loads(row[6]).get("counters_since_delta_snapshot") or ()) if row is not None else set()
    while row is not None:
        kept.add(row[2])
        waiting -= values_of(connection, row, [*waiting], loads).keys()
        row = checkpoint_row(connection, place._replace(checkpoint_id=row[3])) if waiting and row[3] else None
    return kept


def _delete_one(connection: Connection, place: tuple[str, str, str]) -> None:
    for table in ("checkpoints", "checkpoint_writes"):
        connection.execute(f"DELETE FROM {table} WHERE thread_id=? AND ns=? AND checkpoint_id=?", place)  # noqa: S608


def _drop_values(connection: Connection, thread_id: str, ns: str, loads: Loads) -> None:
    """Delete the values of a namespace that no checkpoint holds any more."""
    held: set[tuple[str, str]] = set()
    place = (thread_id, ns)
    sql = (
        "SELECT checkpoint_id, form, checkpoint FROM checkpoints WHERE thread_id=? AND ns=? AND checkpoint_id>? "
        "ORDER BY checkpoint_id LIMIT ?"
    )
    last = ""
    while rows := connection.execute(sql, (*place, last, _PAGE)).fetchall():
        last = rows[-1][0]
        for _, form, content in rows:
            versions = loads((form, content))["channel_versions"]
            held |= {(channel, str(version)) for channel, version in versions.items()}
    sql = "SELECT channel, version FROM checkpoint_values WHERE thread_id=? AND ns=?"
    unheld = [(*place, *key) for key in connection.execute(sql, place).fetchall() if (key[0], str(key[1])) not in held]
    connection.executemany(
        "DELETE FROM checkpoint_values WHERE thread_id=? AND ns=? AND channel=? AND version=?", unheld
    )
