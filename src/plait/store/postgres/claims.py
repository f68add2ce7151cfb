"""Who runs a batch that is kept in PostgreSQL: a lease that is renewed as long as its holder lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from plait.errors import BatchBusy, BatchNotFound, StoreError
from plait.hosts import is_dead, process_name
from plait.store.connections import Connection
from plait.store.media import Medium
from plait.store.writers import Writer

__all__ = ["LEASE_S", "NOW", "BatchClaim", "is_held"]

LEASE_S = 15.0
"""So long a claim lasts without being renewed: for a holder on another host, which nobody here can see die."""
_RENEW_S = 2.0
_LOOK_AGAIN_S = 0.5
NOW = "extract(epoch FROM clock_timestamp())::float8"
"""The server's clock, in seconds since the epoch: hosts need not agree on the time."""

logger = logging.getLogger("plait")


def is_held(owner: str | None, seen: float | None, now: float) -> bool:
    """Whether somebody runs a batch with this claim."""
    if owner is None or seen is None or now - seen >= LEASE_S:
        return False
    return not is_dead(owner)


class BatchClaim:
    """The claim of this process on one batch; a Claim (see store.batches)."""

    def __init__(self, writer: Writer, batch: str, owner: str) -> None:
        self._tell: Callable[[BatchBusy], None] | None = None
        self._is_lost = False
        self._writer = writer
        self._batch = batch
        self._owner = owner
        self._renewing: asyncio.Task[None] | None = asyncio.create_task(self._renew(), name=f"plait claim {batch}")

    @classmethod
    async def make(cls, medium: Medium, batch: str, *, new_at: float | None = None) -> BatchClaim:
        """Claim a batch, or make it (`new_at`: in seconds since the epoch).

        Waits up to LEASE_S where its holder may be dead on another host. Raises BatchBusy, BatchNotFound, StoreError.
        """
        writer = Writer(medium, gather_s=0.0)
        # Another batch store of this process may have it.
        owner = f"{await asyncio.to_thread(process_name)}#{id(writer):x}"
        first: float | None = None
        try:
            while True:
                found = await writer.do(
                    lambda connection: _take(connection, batch, owner, new_at), about=f"claim {batch}"
                )
                if found is None:
                    return cls(writer, batch, owner)
                holder, seen = found
                if first is not None and seen > first:
                    raise BatchBusy(
                        f"batch {batch} is being run by process {holder.partition('#')[0]}: wait for it or stop it, "
                        f"and watch it with `plait show {batch}`"
                    )
                first = seen if first is None else first
                await asyncio.sleep(_LOOK_AGAIN_S)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(writer.close))
            raise

    def on_lost(self, tell: Callable[[BatchBusy], None]) -> None:
        """See Claim."""
        self._tell = tell
        if self._is_lost:
            self._lose()

    async def release(self) -> None:
        """Let go; harmless the second time."""
        renewing, self._renewing = self._renewing, None
        if renewing is None:
            return
        renewing.cancel()
        await asyncio.wait([renewing])
        sql = "UPDATE batches SET owner = NULL WHERE id = ? AND owner = ?"
        with suppress(StoreError):  # it ends by itself
            await self._writer.added(sql, (self._batch, self._owner))
        await asyncio.to_thread(self._writer.close)

    async def _renew(self) -> None:
        sql = f"UPDATE batches SET seen = {NOW} WHERE id = ? AND owner = ?"  # noqa: S608
        while True:
            await asyncio.sleep(_RENEW_S)
            try:
                kept = await self._writer.do(
                    lambda connection: connection.execute(sql, (self._batch, self._owner)).rowcount,
                    about=f"claim {self._batch}",
                )
            except StoreError as error:
                # Rows meet the same error, and say so.
                logger.debug("the claim on %s cannot be renewed: %s", self._batch, error)
                continue
            if not kept:
                self._lose()
                return

    def _lose(self) -> None:
        self._is_lost = True
        if self._tell is not None:
            self._tell(
                BatchBusy(
                    f"batch {self._batch} was taken over by another process, since this one was not heard of for "
                    f"{LEASE_S:.0f} s (or it was removed): watch it with `plait show {self._batch}`"
                )
            )


def _take(connection: Connection, batch: str, owner: str, new_at: float | None) -> tuple[str, float] | None:
    """Take the claim; else who has it, and since when it was renewed (the server's time)."""
    row = connection.execute(f"SELECT owner, seen, {NOW} FROM batches WHERE id = ? FOR UPDATE", (batch,)).fetchone()  # noqa: S608
    if row is None and new_at is None:
        raise BatchNotFound(f"there is no batch {batch}; `plait batches` lists those there are")
    if row is None:
        insert = f"INSERT INTO batches (id, created_at, owner, seen) VALUES (?, ?, ?, {NOW})"  # noqa: S608
        connection.execute(insert, (batch, new_at, owner))
        return None
    if new_at is not None:
        raise BatchBusy(f"there is a batch {batch} already: choose another id, or go on with `plait resume`")
    holder, seen, now = row
    if is_held(holder, seen, now):
        return str(holder), float(seen)
    update = f"UPDATE batches SET owner = ?, seen = {NOW} WHERE id = ?"  # noqa: S608
    connection.execute(update, (owner, batch))
    return None
