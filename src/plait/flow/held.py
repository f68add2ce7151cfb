"""A streamed answer between the endpoint and its reader."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from contextvars import ContextVar
from typing import Any, Protocol

from plait.flow.calls import Call, Meter
from plait.flow.limits import Permit
from plait.flow.records import Record
from plait.flow.tickets import Ticket
from plait.flow.wire import Wire


class HeldBody:
    """The rest of a streamed answer, with the permit it holds and the meter that watches it."""

    def __init__(
        self,
        call: Call,
        wire: Wire,
        source: Any,
        permit: Permit,
        ticket: Ticket,
        *,
        opaque: bool,
        owner: Owner,
        record: Record | None = None,
    ) -> None:
        self.meter = Meter(call)
        self.opaque = opaque
        self.source = source
        self._wire = wire
        self._owner = owner
        self._permit = permit
        self._ticket = ticket
        self._chunks = wire.chunks(source)
        self._ready: deque[bytes] = deque()
        self._record = record
        self._kept: list[bytes] = []
        """All bytes so far, until they are recorded."""
        self._reading = asyncio.Lock()
        self._over = False

    async def fetch(self) -> bool:
        """Fetch the next bytes; returns False at the end, having released the permit.

        Raises the transport's protocol error where the stream ends without its terminal event: servers and proxies
        that die in mid-stream often end the body in good order, and half an answer would pass for a whole one.
        """
        if self._over:
            return False
        try:
            chunk = await self._wire.next_chunk(self._chunks)
        except Exception:
            if not self.meter.ended:
                raise
            # Servers that hang up after their last event have said all: another attempt would be paid for.
            chunk = None
        self._owner.check()
        if chunk is not None:
            self.meter.watch_stream(chunk)
            if self._record is not None:
                self._kept.append(chunk)
                if self.meter.ended:
                    # The client sees the last event only once the answer is durable.
                    await self._keep()
            self._ready.append(chunk)
            return True
        self.meter.end_stream()
        if not (self.meter.complete or self.opaque):
            raise self._owner.broken("the stream ended before its last event")
        await self._keep()
        await self._wire.close(self.source)
        self._settle(self.meter)
        return False

    async def next_chunk(self) -> bytes | None:
        """The next bytes for the client, None at the end."""
        if not self._ready:
            async with self._reading:
                if not self._ready and not await self._fetch_or_fail():
                    return None
        return self._ready.popleft()

    async def drain(self) -> None:
        """Take the rest in now, so that the permit is free for a call that its reader waits for."""
        async with self._reading:
            while await self._fetch_or_fail():
                pass

    async def close(self) -> None:
        """End the answer here; what was generated so far is counted."""
        try:
            await self._wire.close(self.source)
        finally:
            if not self._over:
                self.meter.end_stream()
                self._keep_soon()
                self._settle(self.meter)

    async def _keep(self) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        if self.opaque:
            await record.whole(*record.decoded(b"".join(self._kept)))
        else:
            await record.whole(b"".join(self._kept), self.meter)

    def _keep_soon(self) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        if self.opaque:
            record.whole_soon(*record.decoded(b"".join(self._kept)))
        else:
            record.whole_soon(b"".join(self._kept), self.meter)

    def abandon(self) -> None:
        """Release the permit of an answer that nobody can read or close any more (runs in garbage collections)."""
        self._permit.release()

    async def _fetch_or_fail(self) -> bool:
        try:
            return await self.fetch()
        except BaseException:
            try:
                await self._wire.close(self.source)
            finally:
                self._settle(None)
            raise

    def _settle(self, meter: Meter | None) -> None:
        self._over = True
        self._owner.end(meter, self._ticket)
        self._permit.release()


class Owner(Protocol):
    """The call that an answer belongs to."""

    def check(self) -> None:
        """Raise once the run is over."""
        ...

    def end(self, meter: Meter | None, ticket: Ticket | None = None) -> None:
        """Take the meter of the answer, None of a failed one."""
        ...

    def broken(self, why: str) -> Exception:
        """The transport's own error for a stream that breaks off."""
        ...


def note_open(held: HeldBody) -> None:
    """Remember, for this task and those it begins, that it is reading a stream."""
    earlier = [known for known in _open_streams.get() if known() is not None]
    _open_streams.set((*earlier, weakref.ref(held)))


async def drain_open() -> None:
    """Take in the streams that this task is in the middle of reading, before it waits for another permit.

    With a bound of one, a node that calls a model for each sentence of a streamed answer would wait for itself.
    """
    for known in _open_streams.get():
        held = known()
        if held is not None:
            await held.drain()


_open_streams: ContextVar[tuple[weakref.ref[HeldBody], ...]] = ContextVar("plait_open_streams", default=())
