"""Runs in the service's store: admitted to their threads, begun once, ended once, read, removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from plait.store.connections import Connection
from plait.store.service.adoptions import Adopted, adopt, take
from plait.store.service.conditions import ALWAYS, Condition, equal, every, listed, owned, page, passes, visible
from plait.store.service.databases import Database
from plait.store.service.faults import AlreadyExists, ThreadBusy, ThreadNotFound
from plait.store.service.records import (
    EVERYTHING,
    Access,
    CancelAction,
    Json,
    RunRecord,
    RunStatus,
    Strategy,
    ThreadRecord,
)
from plait.store.service.rows import RUNS, THREADS, dumped, loaded
from plait.store.service.servers import remove_gone
from plait.store.service.threads import OPEN, ThreadOutcome, mend, settle

__all__ = ["Admission", "RunOutcome", "Runs"]

Claim = Literal["claimed", "busy", "gone"]

_ORDER = "runs.due_at, runs.number"
_NEWEST = "runs.number DESC"
_OPEN = Condition(f"runs.{OPEN}")
_OF_THREAD = "EXISTS (SELECT 1 FROM threads WHERE threads.thread_id = runs.thread_id AND {})"
_BUSY = """
UPDATE threads SET status = 'busy', metadata = ?, config = COALESCE(?, config), updated_at = ? WHERE thread_id = ?
"""
# One of a thread at a time, in the order in which they are due.
_CLAIM = f"""
UPDATE runs SET status = 'running', attempt = attempt + 1, updated_at = ?
WHERE run_id = ? AND status = 'pending' AND server = ? AND NOT EXISTS (
    SELECT 1 FROM runs AS other WHERE other.thread_id = runs.thread_id AND other.{OPEN} AND (
        other.status = 'running' OR (other.due_at, other.number) < (runs.due_at, runs.number)))
"""  # noqa: S608
_PARK = """
UPDATE runs SET status = 'pending', attempt = attempt - 1, start_after = ?, updated_at = ?
WHERE run_id = ? AND server = ? AND status = 'running'
"""
_FINISH = f"""
UPDATE runs SET status = ?, error = ?, usage = ?, timings = ?, updated_at = ?
WHERE run_id = ? AND server = ? AND {OPEN} RETURNING thread_id
"""  # noqa: S608
_FINISHED_BEFORE = f"""
SELECT run_id FROM runs WHERE NOT ({OPEN}) AND updated_at < ?
AND EXISTS (SELECT 1 FROM events WHERE events.run_id = runs.run_id)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Admission:
    """A run that waits for its turn, and the runs of its thread that were pending or running before, in order."""

    run: RunRecord
    inflight: list[RunRecord]


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. `thread`: what it left of its thread; None: nothing, as when it never began."""

    status: RunStatus
    error: Json | None = None
    usage: Json | None = None
    timings: Json | None = None
    thread: ThreadOutcome | None = None


class Runs:
    """The runs of a ServiceStore. What a caller may not see is as if it were not there.

    A run is seen by its owner, and by the filters on the metadata of its thread, as the Agent Server API has it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        run: RunRecord,
        *,
        access: Access = EVERYTHING,
        thread: ThreadRecord | None = None,
        strategy: Strategy = "enqueue",
        metadata: Json | None = None,
        config: Json | None = None,
    ) -> Admission:
        """Keep a pending run and mark its thread busy, in one transaction.

        `thread` is made where there is none of the run's thread_id; `metadata` is merged into the thread's, shallowly,
        and `config` replaces the thread's.
        What becomes of the runs before it (interrupt, rollback) is the caller's to do. Raises ThreadNotFound where
        there is no thread the caller may see, ThreadBusy for the strategy "reject" where others are pending or
        running, AlreadyExists for the id of another run.
        """

        def work(connection: Connection) -> Admission:
            made = _enter(connection, run, access, thread, metadata or {}, config)
            mine = every(equal("runs.thread_id", run.thread_id), _OPEN)
            inflight = [] if made else RUNS.all(connection, mine, _ORDER)
            if inflight and strategy == "reject":
                raise ThreadBusy(f"a run of thread {run.thread_id} is pending or running: {inflight[0].run_id}")
            try:
                RUNS.add(connection, run)
            except sqlite3.IntegrityError as error:
                raise AlreadyExists(f"there is a run {run.run_id} already") from error
            return Admission(run, inflight)

        return await self._database.write(work, about=run.thread_id)

    async def claim(self, run_id: str, server: str, *, thread_id: str | None = None) -> Claim:
        """Begin a pending run that is in this server's queue: "claimed" to one caller only, which must run it.

        "busy": another run of its thread is running, or is due before it. "gone": it is no longer pending, or in the
        queue of another server. A caller that is cancelled meanwhile may have begun it. `thread_id`, if it is known, is
        that of the run: servers of a database then work beside each other.
        """

        def work(connection: Connection) -> Claim:
            if connection.execute(_CLAIM, (self._database.clock(), run_id, server)).rowcount:
                return "claimed"
            waiting = every(equal("run_id", run_id), equal("server", server), equal("status", "pending"))
            return "busy" if RUNS.count(connection, waiting) else "gone"

        return await self._database.write(work, about=thread_id)

    async def park(self, run_id: str, server: str, *, start_after: float = 0.0) -> bool:
        """Put a running run of this server back, as if this attempt had not begun; False if it is not running there.

        It is not due before `start_after`. A server that ends leaves it for one that adopts its runs.
        """
        row = (start_after, self._database.clock(), run_id, server)
        return await self._database.write(lambda connection: connection.execute(_PARK, row).rowcount > 0)

    async def finish(self, run_id: str, server: str, outcome: RunOutcome, *, thread_id: str | None = None) -> bool:
        """End a pending or running run of this server, and free its thread or leave it busy with the next one.

        One transaction, durable on return; `thread_id` as for `claim`. False, and nothing changed, where somebody else
        ended or adopted the run.
        """
        ended = (dumped(outcome.error), dumped(outcome.usage), dumped(outcome.timings))

        def work(connection: Connection) -> bool:
            now = self._database.clock()
            rows = connection.execute(_FINISH, (outcome.status, *ended, now, run_id, server)).fetchall()
            for (thread_id,) in rows:
                if outcome.thread is None:
                    mend(connection, thread_id, now)
                else:
                    settle(connection, thread_id, outcome.thread, now)
            return bool(rows)

        return await self._database.write(work, about=thread_id)

    async def get(self, run_id: str, thread_id: str | None = None, access: Access = EVERYTHING) -> RunRecord | None:
        """The run as it is now; with `thread_id`, only if it is of that thread."""
        where = every(equal("runs.run_id", run_id), equal("runs.thread_id", thread_id), _seen(access))
        return await self._database.read(lambda connection: RUNS.one(connection, where))

    async def list(
        self,
        thread_id: str,
        access: Access = EVERYTHING,
        *,
        status: RunStatus | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> Sequence[RunRecord]:
        """A page of a thread's runs, the newest first."""
        where = every(equal("runs.thread_id", thread_id), equal("runs.status", status), _seen(access))
        limits = page(limit, offset)
        return await self._database.read(lambda connection: RUNS.all(connection, where, _NEWEST, limits))

    async def recent(self, access: Access = EVERYTHING, *, limit: int = 20) -> Sequence[RunRecord]:
        """The newest runs of all threads, the newest first."""
        where, limits = _seen(access), page(limit, 0)
        return await self._database.read(lambda connection: RUNS.all(connection, where, _NEWEST, limits))

    async def counts(self, access: Access = EVERYTHING) -> dict[RunStatus, int]:
        """How many runs there are, by status."""
        where = _seen(access)
        sql = f"SELECT status, count(*) FROM runs WHERE {where.sql} GROUP BY status"  # noqa: S608
        return await self._database.read(lambda connection: dict(connection.execute(sql, where.parameters).fetchall()))

    async def delete(self, run_id: str, access: Access = EVERYTHING) -> bool:
        """Remove a run with its events; its thread is no longer busy with it. False where there is none."""

        def work(connection: Connection) -> bool:
            found = RUNS.one(connection, every(equal("runs.run_id", run_id), _seen(access)))
            if found is None:
                return False
            for table in ("events", "runs"):
                connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608
            if found.status in ("pending", "running"):
                mend(connection, found.thread_id, self._database.clock())
            return True

        return await self._database.write(work)

    async def delete_finished_events(self, before: float) -> int:
        """Remove the events of runs that ended before this time; gives how many runs they were of."""
        found = await self._database.read(lambda connection: connection.execute(_FINISHED_BEFORE, (before,)).fetchall())
        for row in found:
            # One by one: others write in between.
            await self._database.writer.added("DELETE FROM events WHERE run_id = ?", row)
        return len(found)

    async def request_cancel(
        self, run_ids: Sequence[str], action: CancelAction, access: Access = EVERYTHING, *, thread_id: str | None = None
    ) -> Sequence[RunRecord]:
        """Ask that the pending and running ones of these end; gives those, in order. Their servers do it."""
        named = listed("runs.run_id", dumped(list(run_ids)))
        where = every(named, equal("runs.thread_id", thread_id), _OPEN, _seen(access))
        sql = "UPDATE runs SET cancel = ? WHERE run_id = ?"

        def work(connection: Connection) -> Sequence[RunRecord]:
            found = RUNS.all(connection, where, _ORDER)
            connection.executemany(sql, [(action, run.run_id) for run in found])
            return [replace(run, cancel=action) for run in found]

        return await self._database.write(work)

    async def open(self, access: Access = EVERYTHING, *, status: RunStatus | None = None) -> Sequence[RunRecord]:
        """The pending and running runs of all threads, or those of one of these statuses, in the order they are due."""
        where = every(_OPEN, equal("runs.status", status), _seen(access))
        return await self._database.read(lambda connection: RUNS.all(connection, where, _ORDER))

    async def cancels(self, server: str) -> Sequence[RunRecord]:
        """The pending and running runs of this server that somebody asked to end."""
        where = every(equal("runs.server", server), _OPEN, Condition("runs.cancel IS NOT NULL"))
        return await self._database.read(lambda connection: RUNS.all(connection, where, _ORDER))

    async def pending(self, server: str) -> Sequence[RunRecord]:
        """This server's queue in the order in which its runs are due; `start_after` says which must wait."""
        where = every(equal("runs.server", server), _OPEN, equal("runs.status", "pending"))
        return await self._database.read(lambda connection: RUNS.all(connection, where, _ORDER))

    async def adopt(
        self,
        dead: str,
        server: str,
        *,
        max_attempts: int,
        silent_s: float | None = None,
        only: Collection[str] | None = None,
    ) -> Adopted:
        """Take over the runs of a server that is gone, in one transaction: nobody else gets the same ones.

        With `silent_s` nothing is taken from one that was heard of in that time after all, and lives; the heartbeat of
        one that is gone is removed. `only`: of these ids, which may be a server's own that it has lost track of.
        """

        def work(connection: Connection) -> Adopted:
            now = self._database.now(connection)
            if silent_s is not None and not remove_gone(connection, dead, now - silent_s, self._database.lives):
                return Adopted([], [])
            return adopt(connection, dead, server, max_attempts, now, only=only)

        return await self._database.write(work)

    async def take(self, server: str, *, most: int, waited_s: float) -> Sequence[RunRecord]:
        """Move runs that could have begun for so long at other servers, and did not, into the queue of this one.

        At most so many, in the order in which they are due, those that somebody waits for first; one transaction.
        Those marked STAYS are left, and those of an API key that has as many running as it may. They are given as they
        were, `updated_at` included.
        """

        def work(connection: Connection) -> Sequence[RunRecord]:
            return take(connection, server, most, waited_s, self._database.now(connection))

        return await self._database.write(work)

    async def held(self, server: str) -> Sequence[str]:
        """The ids of the pending and running runs of this server."""
        sql = f"SELECT run_id FROM runs WHERE server = ? AND {OPEN}"  # noqa: S608
        rows = await self._database.read(lambda connection: connection.execute(sql, (server,)).fetchall())
        return [run_id for (run_id,) in rows]

    async def servers_of(self, run_ids: Sequence[str]) -> dict[str, str]:
        """In whose queue the runs are, or who runs them; those that are gone are left out."""
        where = listed("run_id", dumped(list(run_ids)))
        sql = f"SELECT run_id, server FROM runs WHERE {where.sql}"  # noqa: S608
        return await self._database.read(lambda connection: dict(connection.execute(sql, where.parameters).fetchall()))


def _enter(
    connection: Connection,
    run: RunRecord,
    access: Access,
    thread: ThreadRecord | None,
    metadata: Json,
    config: Json | None,
) -> bool:
    """Mark the run's thread busy, or make it so; True if it was made."""
    named = equal("threads.thread_id", run.thread_id)
    seen = every(named, visible(access, "threads"))
    sql = f"SELECT metadata FROM threads WHERE {seen.sql}"  # noqa: S608
    row = connection.execute(sql, seen.parameters).fetchone()
    if row is not None:
        text = _merged(row[0], metadata) if metadata else row[0]
        connection.execute(_BUSY, (text, dumped(config), run.created_at, run.thread_id))
        return False
    if thread is None or THREADS.count(connection, named):
        raise ThreadNotFound(f"there is no thread {run.thread_id}")
    made = replace(thread, status="busy", metadata={**thread.metadata, **metadata}, config=config or thread.config)
    THREADS.add(connection, made)
    return True


def _merged(text: str, metadata: Json) -> str | None:
    return dumped({**loaded(text), **metadata})  # type: ignore[dict-item]


def _seen(access: Access) -> Condition:
    filters = passes(access, "threads")
    of_thread = ALWAYS if filters is ALWAYS else Condition(_OF_THREAD.format(filters.sql), filters.parameters)
    return every(owned(access, "runs"), of_thread)
