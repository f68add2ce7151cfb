"""Threads in the service's store: conversations and what their last runs left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from plait.store.connections import Connection
from plait.store.service.conditions import Condition, equal, every, holds, listed, page, visible
from plait.store.service.databases import Database
from plait.store.service.faults import AlreadyExists
from plait.store.service.records import EVERYTHING, Access, Json, ThreadRecord, ThreadStatus
from plait.store.service.rows import THREADS, dumped

__all__ = ["MOST_SWEPT", "OPEN", "ThreadOrder", "ThreadOutcome", "ThreadQuery", "Threads", "mend", "settle"]

ThreadOrder = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]
_ORDERS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")

OPEN = "status IN ('pending', 'running')"
"""Of a run: it is not over. As the indexes have it."""

# Whether a thread waits for its next run, or in which state the last one left it.
_OPEN_RUNS = f"EXISTS (SELECT 1 FROM runs WHERE runs.thread_id = threads.thread_id AND {OPEN})"  # noqa: S608
_LEFT = "CASE WHEN interrupts <> '{}' THEN 'interrupted' WHEN error IS NOT NULL THEN 'error' ELSE 'idle' END"
_MEND = f"""
UPDATE threads SET status = CASE WHEN {_OPEN_RUNS} THEN 'busy' ELSE {_LEFT} END, updated_at = ? WHERE thread_id = ?
"""  # noqa: S608
_SETTLE = f"""
UPDATE threads SET status = CASE WHEN {_OPEN_RUNS} THEN 'busy' ELSE ? END, interrupts = ?, error = ?,
"values" = COALESCE(?, "values"), updated_at = ?, state_updated_at = ? WHERE thread_id = ?
"""  # noqa: S608


MOST_SWEPT = 1000
"""Temporary threads that are found at once."""
_TEMPORARY = "SELECT thread_id FROM threads WHERE temporary = 1 AND status <> 'busy' AND updated_at < ? LIMIT ?"


@dataclass(frozen=True, slots=True)
class ThreadQuery:
    """Which threads: of these ids, in this status, whose metadata and values hold these."""

    ids: Sequence[str] | None = None
    status: ThreadStatus | None = None
    metadata: Json | None = None
    values: Json | None = None


@dataclass(frozen=True, slots=True)
class ThreadOutcome:
    """What a run, or a change of the state by hand, left of its thread. `values` None: they stay as they were."""

    status: ThreadStatus
    values: Json | None = None
    interrupts: Json | None = None
    error: Json | None = None


class Threads:
    """The threads of a ServiceStore. What a caller may not see is as if it were not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, record: ThreadRecord, *, if_exists: Literal["raise", "do_nothing"] = "raise", access: Access | None = None
    ) -> ThreadRecord:
        """Keep a new thread. Where its id is taken, "do_nothing" gives the one that has it.

        AlreadyExists with "raise", or when that one is not visible to `access` (of the record's owner, by default).
        """
        seen_by = access or Access(record.owner)

        def work(connection: Connection) -> ThreadRecord:
            named = _named(record.thread_id)
            if not THREADS.count(connection, named):
                THREADS.add(connection, record)
                return record
            found = THREADS.one(connection, every(named, visible(seen_by, "threads")))
            if found is None or if_exists == "raise":
                raise AlreadyExists(f"there is a thread {record.thread_id} already")
            return found

        return await self._database.write(work)

    async def get(self, thread_id: str, access: Access = EVERYTHING) -> ThreadRecord | None:
        """The thread as it is now."""
        where = every(_named(thread_id), visible(access, "threads"))
        return await self._database.read(lambda connection: THREADS.one(connection, where))

    async def patch(
        self, thread_id: str, access: Access = EVERYTHING, *, metadata: Json | None = None, config: Json | None = None
    ) -> ThreadRecord | None:
        """The thread after `metadata` was merged into its own, shallowly, and `config` replaced its own."""

        def work(connection: Connection) -> ThreadRecord | None:
            found = THREADS.one(connection, every(_named(thread_id), visible(access, "threads")))
            if found is None:
                return None
            changed = replace(
                found,
                metadata={**found.metadata, **(metadata or {})},
                config=found.config if config is None else config,
                updated_at=self._database.clock(),
            )
            THREADS.put(connection, changed)
            return changed

        return await self._database.write(work)

    async def delete(self, thread_id: str, access: Access = EVERYTHING) -> bool:
        """Remove it with its runs, their events and its crons; False where there is none.

        Its checkpoints are the saver's to remove.
        """

        def work(connection: Connection) -> bool:
            if not THREADS.count(connection, every(_named(thread_id), visible(access, "threads"))):
                return False
            of_it = "(SELECT run_id FROM runs WHERE thread_id = ?)"
            connection.execute(f"DELETE FROM events WHERE run_id IN {of_it}", (thread_id,))  # noqa: S608
            for table in ("runs", "crons", "threads"):
                connection.execute(f"DELETE FROM {table} WHERE thread_id = ?", (thread_id,))  # noqa: S608
            return True

        return await self._database.write(work)

    async def search(
        self,
        access: Access = EVERYTHING,
        query: ThreadQuery = ThreadQuery(),
        *,
        limit: int = 10,
        offset: int = 0,
        sort_by: ThreadOrder = "updated_at",
        sort_order: Literal["asc", "desc"] = "desc",
    ) -> list[ThreadRecord]:
        """A page of the threads that are not temporary; FilterRefused for a query of too many conditions."""
        where = _found(access, query)
        direction = "ASC" if sort_order == "asc" else "DESC"
        order = f"threads.{_ORDERS[_ORDERS.index(sort_by)]} {direction}, threads.thread_id {direction}"
        limits = page(limit, offset)
        return await self._database.read(lambda connection: THREADS.all(connection, where, order, limits))

    async def count(
        self,
        access: Access = EVERYTHING,
        query: ThreadQuery = ThreadQuery(),
    ) -> int:
        """How many `search` would find without a limit."""
        where = _found(access, query)
        return await self._database.read(lambda connection: THREADS.count(connection, where))

    async def temporary_before(self, before: float) -> Sequence[str]:
        """The threads of stateless runs that ended before this time, 1,000 of them at most."""
        row = (before, MOST_SWEPT)
        rows = await self._database.read(lambda connection: connection.execute(_TEMPORARY, row).fetchall())
        return [thread_id for (thread_id,) in rows]

    async def copy(
        self, thread_id: str, new_id: str, access: Access = EVERYTHING, *, owner: str | None = None
    ) -> ThreadRecord | None:
        """A new thread with the old one's metadata, config and state; its runs and checkpoints are not copied.

        It is of `owner`, or of the old one's. AlreadyExists when `new_id` is taken.
        """

        def work(connection: Connection) -> ThreadRecord | None:
            found = THREADS.one(connection, every(_named(thread_id), visible(access, "threads")))
            if found is None:
                return None
            if THREADS.count(connection, _named(new_id)):
                raise AlreadyExists(f"there is a thread {new_id} already")
            now = self._database.clock()
            status: ThreadStatus = "interrupted" if found.interrupts else "error" if found.error else "idle"
            made = replace(
                found,
                thread_id=new_id,
                owner=found.owner if owner is None else owner,
                status=status,
                temporary=False,
                created_at=now,
                updated_at=now,
                state_updated_at=now,
            )
            THREADS.add(connection, made)
            return made

        return await self._database.write(work)

    async def set_state(self, thread_id: str, outcome: ThreadOutcome) -> bool:
        """Keep what is left of the thread; it stays busy while runs of it are pending or running.

        False where there is no such thread.
        """
        return await self._database.write(
            lambda connection: settle(connection, thread_id, outcome, self._database.clock())
        )


def settle(connection: Connection, thread_id: str, outcome: ThreadOutcome, now: float) -> bool:
    """`Threads.set_state` in the caller's transaction."""
    left = (outcome.status, dumped(outcome.interrupts or {}), dumped(outcome.error), dumped(outcome.values))
    return connection.execute(_SETTLE, (*left, now, now, thread_id)).rowcount > 0


def mend(connection: Connection, thread_id: str, now: float) -> None:
    """Give a thread its status back after runs of it are gone that left nothing."""
    connection.execute(_MEND, (now, thread_id))


def _named(thread_id: str) -> Condition:
    return equal("threads.thread_id", thread_id)


def _found(access: Access, query: ThreadQuery) -> Condition:
    return every(
        Condition("threads.temporary = 0"),
        visible(access, "threads"),
        listed("threads.thread_id", None if query.ids is None else dumped(list(query.ids))),
        equal("threads.status", query.status),
        holds("threads.metadata", query.metadata),
        holds('threads."values"', query.values),
    )
