"""Crons in the service's store: runs that begin by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from plait.store.connections import Connection
from plait.store.service.conditions import Condition, equal, every, holds, page, visible
from plait.store.service.databases import Database
from plait.store.service.faults import AlreadyExists
from plait.store.service.records import EVERYTHING, Access, CronRecord, Json
from plait.store.service.rows import CRONS

__all__ = ["CronOrder", "CronQuery", "Crons"]

CronOrder = Literal["cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_at", "end_time"]
_ORDERS = ("cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_at", "end_time")
_FIXED = frozenset({"cron_id", "owner", "created_at", "updated_at"})
_DUE = Condition("crons.enabled = 1 AND crons.next_run_at <= ?")


@dataclass(frozen=True, slots=True)
class CronQuery:
    """Which crons: of an assistant, of a thread, enabled or not, holding this metadata."""

    assistant_id: str | None = None
    thread_id: str | None = None
    enabled: bool | None = None
    metadata: Json | None = None


class Crons:
    """The crons of a ServiceStore. What a caller may not see is as if it were not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, record: CronRecord) -> CronRecord:
        """Keep a new cron; AlreadyExists when its id is taken."""

        def work(connection: Connection) -> CronRecord:
            if CRONS.count(connection, _named(record.cron_id)):
                raise AlreadyExists(f"there is a cron {record.cron_id} already")
            CRONS.add(connection, record)
            return record

        return await self._database.write(work)

    async def get(self, cron_id: str, access: Access = EVERYTHING) -> CronRecord | None:
        """The cron as it is now."""
        where = every(_named(cron_id), visible(access, "crons"))
        return await self._database.read(lambda connection: CRONS.one(connection, where))

    async def search(
        self,
        access: Access = EVERYTHING,
        query: CronQuery = CronQuery(),
        *,
        limit: int = 10,
        offset: int = 0,
        sort_by: CronOrder = "created_at",
        sort_order: Literal["asc", "desc"] = "desc",
    ) -> list[CronRecord]:
        """A page of the crons; FilterRefused for metadata of too many conditions."""
        where = _found(access, query)
        direction, nulls = ("ASC", "FIRST") if sort_order == "asc" else ("DESC", "LAST")
        order = f"{_ORDERS[_ORDERS.index(sort_by)]} {direction} NULLS {nulls}, cron_id {direction}"
        limits = page(limit, offset)
        return await self._database.read(lambda connection: CRONS.all(connection, where, order, limits))

    async def count(
        self,
        access: Access = EVERYTHING,
        query: CronQuery = CronQuery(),
    ) -> int:
        """How many `search` would find without a limit."""
        where = _found(access, query)
        return await self._database.read(lambda connection: CRONS.count(connection, where))

    async def update(self, cron_id: str, access: Access, changes: Mapping[str, object]) -> CronRecord | None:
        """The cron after `changes`, by the names of its fields; ValueError for its id, owner, times of making."""
        known = set(CRONS.fields) - _FIXED
        if unknown := changes.keys() - known:
            raise ValueError(f"a cron's {', '.join(sorted(unknown))} cannot be changed")

        def work(connection: Connection) -> CronRecord | None:
            found = CRONS.one(connection, every(_named(cron_id), visible(access, "crons")))
            if found is None:
                return None
            changed = replace(found, **changes, updated_at=self._database.clock())  # type: ignore[arg-type]
            CRONS.put(connection, changed)
            return changed

        return await self._database.write(work)

    async def delete(self, cron_id: str, access: Access = EVERYTHING) -> bool:
        """Remove it; False where there is none. Runs that it began stay."""
        where = every(_named(cron_id), visible(access, "crons"))
        sql = f"DELETE FROM crons WHERE {where.sql}"  # noqa: S608
        return await self._database.write(lambda connection: connection.execute(sql, where.parameters).rowcount > 0)

    async def due(self, now: float, following: Callable[[CronRecord], float | None]) -> Sequence[CronRecord]:
        """The enabled crons whose time has come, as they were, earliest first: each to one caller only.

        `following` gives when such a cron runs next, None for never again. It is called inside the transaction, on the
        writer's thread: it must be quick, and what it raises undoes all. A time behind `end_time` counts as never; so
        does the time that has come, and such a cron is not among those given.
        """
        where = Condition(_DUE.sql, (now,))

        def work(connection: Connection) -> list[CronRecord]:
            found = CRONS.all(connection, where, "crons.next_run_at, crons.cron_id")
            for cron in found:
                following_at = following(cron)
                late = cron.end_time is not None and following_at is not None and following_at > cron.end_time
                CRONS.put(connection, replace(cron, next_run_at=None if late else following_at))
            return [cron for cron in found if cron.end_time is None or (cron.next_run_at or 0.0) <= cron.end_time]

        return await self._database.write(work)


def _named(cron_id: str) -> Condition:
    return equal("crons.cron_id", cron_id)


def _found(access: Access, query: CronQuery) -> Condition:
    return every(
        visible(access, "crons"),
        equal("crons.assistant_id", query.assistant_id),
        equal("crons.thread_id", query.thread_id),
        equal("crons.enabled", query.enabled),
        holds("crons.metadata", query.metadata),
    )
