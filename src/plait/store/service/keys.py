"""API keys in the service's store, and what each was used for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plait.store.connections import Connection
from plait.store.service.conditions import equal
from plait.store.service.databases import Database
from plait.store.service.faults import AlreadyExists
from plait.store.service.records import KeyRecord
from plait.store.service.rows import KEYS

__all__ = ["KeyUsage", "Keys"]

_TAKEN = "SELECT 1 FROM keys WHERE key_id = ? OR digest = ?"
_REVOKE = "UPDATE keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL"
_TOUCH = "UPDATE keys SET last_used_at = ? WHERE key_id = ?"
_CHARGE = """
INSERT INTO key_usage (key_id, day, runs, tokens, usd) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key_id, day) DO UPDATE SET
runs = key_usage.runs + excluded.runs, tokens = key_usage.tokens + excluded.tokens, usd = key_usage.usd + excluded.usd
"""
_USED = "SELECT runs, tokens, usd FROM key_usage WHERE key_id = ? AND day = ?"


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What a key was used for on one day."""

    runs: int = 0
    tokens: int = 0
    usd: float = 0.0


class Keys:
    """The API keys of a ServiceStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, record: KeyRecord) -> KeyRecord:
        """Keep a new key; AlreadyExists when there is one of its id or digest."""
        taken = (record.key_id, record.digest)

        def work(connection: Connection) -> KeyRecord:
            if connection.execute(_TAKEN, taken).fetchone():
                raise AlreadyExists(f"there is an API key {record.key_id} already")
            KEYS.add(connection, record)
            return record

        return await self._database.write(work)

    async def by_digest(self, digest: str) -> KeyRecord | None:
        """The key of this hash, also if it was revoked or has expired."""
        return await self._database.read(lambda connection: KEYS.one(connection, equal("digest", digest)))

    async def list(self, owner: str | None = None) -> Sequence[KeyRecord]:
        """The keys of an owner (None: of all), oldest first, with those that were revoked or have expired."""
        where = equal("owner", owner)
        return await self._database.read(lambda connection: KEYS.all(connection, where, "created_at, key_id"))

    async def revoke(self, key_id: str, at: float) -> bool:
        """Make it useless from now on; False where there is no such key, or it was revoked before."""
        return await self._database.write(lambda connection: connection.execute(_REVOKE, (at, key_id)).rowcount > 0)

    async def touch(self, key_id: str, at: float) -> None:
        """Note when it was last used; does not wait until that is durable."""
        self._database.writer.add(_TOUCH, (at, key_id))

    async def charge(self, key_id: str, day: str, *, runs: int = 0, tokens: int = 0, usd: float = 0.0) -> None:
        """Add to what the key was used for on a day (`2026-11-21`); durable on return."""
        await self._database.writer.added(_CHARGE, (key_id, day, runs, tokens, usd))

    async def used(self, key_id: str, day: str) -> KeyUsage:
        """What the key was used for on a day, by all servers of this store."""
        row = await self._database.read(lambda connection: connection.execute(_USED, (key_id, day)).fetchone())
        return KeyUsage() if row is None else KeyUsage(*row)
