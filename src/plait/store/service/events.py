"""The event log of resumable runs in the service's store."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from plait.store.connections import Connection
from plait.store.service.databases import Database
from plait.store.service.faults import BadEventId
from plait.store.service.records import EventRecord
from plait.store.waiters import Done

__all__ = ["Events"]

_INSERT = "INSERT INTO events (run_id, ms, n, event, data) VALUES (?, ?, ?, ?, ?)"
# Where the run is somebody else's there is no run_id, which the table refuses.
_INSERT_OWN = """
INSERT INTO events (run_id, ms, n, event, data)
VALUES ((SELECT run_id FROM runs WHERE run_id = ? AND server = ? /*pg FOR SHARE */), ?, ?, ?, ?)
"""
_AFTER = """
SELECT ms, n, event, data FROM events WHERE run_id = ? AND (ms, n) > (?, ?) ORDER BY ms, n LIMIT ?
"""
_LAST = "SELECT ms, n FROM events WHERE run_id = ? ORDER BY ms DESC, n DESC LIMIT 1"
_BEGINNING = frozenset({None, "", "-1"})
# As many digits as a 64-bit column surely holds.
_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class Events:
    """The events of a ServiceStore's runs, in the order of their ids."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run_id: str, events: Sequence[EventRecord], done: Done | None = None) -> None:
        """Queue events; never waits. `done` gets None or the error, on the writer's thread, when all are durable.

        Events that are added one after the other become durable in that order. Raises BadEventId at once.
        """
        rows = [_row(run_id, event) for event in events]
        writer = self._database.writer
        if not rows:
            if done is not None:
                done(None)
            return
        for row in rows[:-1]:
            writer.add(_INSERT, row)
        writer.add(_INSERT, rows[-1], done)

    async def append(self, run_id: str, events: Sequence[EventRecord], *, server: str | None = None) -> bool:
        """Keep events of a run, in order; durable on return, and also if the waiter is cancelled.

        With `server`: only as long as that one has the run; False, and none kept, where it was deleted or adopted.
        They share their commit with whatever else is written at that moment. Raises StoreError when the file cannot be
        written, BadEventId for an id that is none.
        """
        rows = [_row(run_id, event) for event in events]
        if not rows:
            return True
        sql = _INSERT
        if server is not None:
            sql, rows = _INSERT_OWN, [(run_id, server, *row[1:]) for row in rows]
        for row in rows[:-1]:
            # What fails of a row of ours is the file, or whose run it is, and then the last one fails as well.
            self._database.writer.add(sql, row)
        try:
            await self._database.writer.added(sql, rows[-1])
        except sqlite3.IntegrityError:
            return False
        return True

    async def after(self, run_id: str, last_id: str | None = None, *, limit: int = 1000) -> Sequence[EventRecord]:
        """The run's events behind `last_id`, oldest first; None or "-1": from the first.

        The id need not be of an event that is there. Raises BadEventId where it is none.
        """
        ms, n = (-1, -1) if last_id in _BEGINNING else _numbers(str(last_id))

        def work(connection: Connection) -> list[EventRecord]:
            rows = connection.execute(_AFTER, (run_id, ms, n, limit))
            return [EventRecord(run_id, f"{ms}-{n}", event, data) for ms, n, event, data in rows]

        return await self._database.read(work)

    async def last_id(self, run_id: str) -> str | None:
        """The id of the run's newest event, above which a new attempt goes on."""
        row = await self._database.read(lambda connection: connection.execute(_LAST, (run_id,)).fetchone())
        return None if row is None else f"{row[0]}-{row[1]}"

    async def delete(self, run_id: str) -> None:
        """Remove the run's events."""
        await self._database.writer.added("DELETE FROM events WHERE run_id = ?", (run_id,))


def _row(run_id: str, event: EventRecord) -> tuple[object, ...]:
    return (run_id, *_numbers(event.id), event.event, event.data)


def _numbers(event_id: str) -> tuple[int, int]:
    found = _ID.fullmatch(event_id)
    if found is None:
        raise BadEventId(f"an event's id is <milliseconds>-<number>, found {event_id[:50]!r}")
    return int(found[1]), int(found[2])
