"""Assistants in the service's store: workflows with configurations of their own, and all versions of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from plait.store.connections import Connection
from plait.store.service.conditions import Condition, contains, equal, every, holds, page, visible
from plait.store.service.databases import Database
from plait.store.service.faults import AlreadyExists
from plait.store.service.records import EVERYTHING, SYSTEM, Access, AssistantRecord, Json
from plait.store.service.rows import ASSISTANTS, VERSIONS

__all__ = ["AssistantOrder", "AssistantQuery", "Assistants"]

AssistantOrder = Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"]
_ORDERS = ("assistant_id", "graph_id", "name", "created_at", "updated_at")
_CHANGEABLE = frozenset({"graph_id", "name", "description", "config", "context", "metadata"})


@dataclass(frozen=True, slots=True)
class AssistantQuery:
    """Which assistants: of a graph, with `name` in their names, holding this metadata.

    Upper and lower case are alike in names, of ASCII letters at least.
    """

    graph_id: str | None = None
    name: str | None = None
    metadata: Json | None = None


class Assistants:
    """The assistants of a ServiceStore. What a caller may not see is as if it were not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        record: AssistantRecord,
        *,
        if_exists: Literal["raise", "do_nothing"] = "raise",
        access: Access | None = None,
    ) -> AssistantRecord:
        """Keep a new assistant, as its version 1. Where its id is taken, "do_nothing" gives the one that has it.

        AlreadyExists with "raise", or when that one is not visible to `access` (of the record's owner, by default).
        """
        seen_by = access or Access(record.owner)

        def work(connection: Connection) -> AssistantRecord:
            if ASSISTANTS.one(connection, _named(record.assistant_id)) is None:
                ASSISTANTS.add(connection, record)
                VERSIONS.add(connection, record)
                return record
            found = ASSISTANTS.one(connection, every(_named(record.assistant_id), _seen(seen_by)))
            if found is None or if_exists == "raise":
                raise AlreadyExists(f"there is an assistant {record.assistant_id} already")
            return found

        return await self._database.write(work)

    async def get(self, assistant_id: str, access: Access = EVERYTHING) -> AssistantRecord | None:
        """The assistant as it is now."""
        where = every(_named(assistant_id), _seen(access))
        return await self._database.read(lambda connection: ASSISTANTS.one(connection, where))

    async def search(
        self,
        access: Access = EVERYTHING,
        query: AssistantQuery = AssistantQuery(),
        *,
        limit: int = 10,
        offset: int = 0,
        sort_by: AssistantOrder = "created_at",
        sort_order: Literal["asc", "desc"] = "desc",
    ) -> list[AssistantRecord]:
        """A page of the assistants; FilterRefused for metadata of too many conditions."""
        where = _found(access, query)
        direction = "ASC" if sort_order == "asc" else "DESC"
        order = f"{_ORDERS[_ORDERS.index(sort_by)]} {direction}, assistant_id {direction}"
        limits = page(limit, offset)
        return await self._database.read(lambda connection: ASSISTANTS.all(connection, where, order, limits))

    async def count(
        self,
        access: Access = EVERYTHING,
        query: AssistantQuery = AssistantQuery(),
    ) -> int:
        """How many `search` would find without a limit."""
        where = _found(access, query)
        return await self._database.read(lambda connection: ASSISTANTS.count(connection, where))

    async def update(self, assistant_id: str, access: Access, changes: Mapping[str, object]) -> AssistantRecord | None:
        """The assistant after `changes`, as a new version; metadata is merged shallowly, other fields are replaced.

        Keys are names of fields: graph_id, name, description, config, context, metadata; ValueError for others.
        """
        if unknown := changes.keys() - _CHANGEABLE:
            raise ValueError(f"an assistant's {', '.join(sorted(unknown))} cannot be changed")

        def work(connection: Connection) -> AssistantRecord | None:
            found = ASSISTANTS.one(connection, every(_named(assistant_id), visible(access, "assistants")))
            if found is None:
                return None
            values = dict(changes)
            if "metadata" in values:
                values["metadata"] = {**found.metadata, **dict(values["metadata"] or {})}  # type: ignore[call-overload]
            latest = "SELECT max(version) FROM assistant_versions WHERE assistant_id = ?"
            version = int(connection.execute(latest, (assistant_id,)).fetchone()[0]) + 1
            changed = replace(found, **values, version=version, updated_at=self._database.clock())  # type: ignore[arg-type]
            ASSISTANTS.put(connection, changed)
            VERSIONS.add(connection, changed)
            return changed

        return await self._database.write(work)

    async def versions(
        self,
        assistant_id: str,
        access: Access = EVERYTHING,
        *,
        metadata: Json | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[AssistantRecord] | None:
        """A page of its versions, the newest first, each as it was made (`updated_at`); None without the assistant."""
        seen = every(_named(assistant_id), _seen(access))
        where = every(equal("assistant_id", assistant_id), holds("assistant_versions.metadata", metadata))
        limits = page(limit, offset)

        def work(connection: Connection) -> list[AssistantRecord] | None:
            if not ASSISTANTS.count(connection, seen):
                return None
            return VERSIONS.all(connection, where, "version DESC", limits)

        return await self._database.read(work)

    async def set_latest(self, assistant_id: str, version: int, access: Access = EVERYTHING) -> AssistantRecord | None:
        """The assistant after one of its versions was made the current one; None without such a version."""

        def work(connection: Connection) -> AssistantRecord | None:
            found = ASSISTANTS.one(connection, every(_named(assistant_id), visible(access, "assistants")))
            numbered = every(equal("assistant_id", assistant_id), Condition("version = ?", page(version, 0)[:1]))
            chosen = VERSIONS.one(connection, numbered)
            if found is None or chosen is None:
                return None
            changed = replace(chosen, created_at=found.created_at, updated_at=self._database.clock())
            ASSISTANTS.put(connection, changed)
            return changed

        return await self._database.write(work)

    async def delete(self, assistant_id: str, access: Access = EVERYTHING) -> bool:
        """Remove it with its versions and crons; False where there is none."""

        def work(connection: Connection) -> bool:
            if not ASSISTANTS.count(connection, every(_named(assistant_id), visible(access, "assistants"))):
                return False
            _remove(connection, assistant_id)
            return True

        return await self._database.write(work)

    async def ensure_system(self, records: Sequence[AssistantRecord]) -> None:
        """Keep the app's own assistants (owner SYSTEM): new ones are added, those whose graph is gone are removed.

        One that is there already stays as it is. Only what this put there, by its metadata's `created_by: system`, is
        ever removed.
        """
        graphs = {record.graph_id for record in records}

        def work(connection: Connection) -> None:
            own = every(equal("owner", SYSTEM), holds("assistants.metadata", {"created_by": "system"}))
            for found in ASSISTANTS.all(connection, own, "assistant_id"):
                if found.graph_id not in graphs:
                    _remove(connection, found.assistant_id)
            for record in records:
                if not ASSISTANTS.count(connection, _named(record.assistant_id)):
                    ASSISTANTS.add(connection, record)
                    VERSIONS.add(connection, record)

        await self._database.write(work)


def _named(assistant_id: str) -> Condition:
    return equal("assistants.assistant_id", assistant_id)


def _seen(access: Access) -> Condition:
    return visible(access, "assistants", or_system=True)


def _found(access: Access, query: AssistantQuery) -> Condition:
    named = contains("name", query.name)
    return every(_seen(access), equal("graph_id", query.graph_id), named, holds("assistants.metadata", query.metadata))


def _remove(connection: Connection, assistant_id: str) -> None:
    for table in ("assistants", "assistant_versions", "crons"):
        connection.execute(f"DELETE FROM {table} WHERE assistant_id = ?", (assistant_id,))  # noqa: S608
