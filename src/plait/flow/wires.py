"""The two ways a call waits: on its event loop, or on its thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from plait.errors import BlockingCall
from plait.flow.clock import Clock
from plait.flow.held import HeldBody
from plait.flow.limits import Limit
from plait.flow.recorders import Answer, Slot
from plait.flow.scopes import Scope
from plait.flow.tickets import Ticket
from plait.flow.wire import drive

_MOMENT_S = 0.2
"""Another process may hold the budget's file for so long."""


class AsyncWire:
    """Waits on the running event loop."""

    can_wait = True

    def __init__(self, send: Callable[[Any], Awaitable[Any]], clock: Clock) -> None:
        self._send = send
        self._clock = clock

    async def acquire(self, limit: Limit | Ticket, order: int, scope: Scope | None) -> None:
        await limit.acquire(order)

    async def send(self, request: Any) -> Any:
        return await self._send(request)

    async def next_chunk(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        try:
            return await chunks.__anext__()
        except StopAsyncIteration:
            return None

    async def close(self, stream: Any) -> None:
        await stream.aclose()

    async def sleep(self, seconds: float, scope: Scope | None) -> None:
        await self._clock.sleep(seconds)

    async def record(self, slot: Slot, answer: Answer) -> None:
        await slot.record(answer)

    def chunks(self, stream: Any) -> AsyncIterator[bytes]:
        return aiter(stream)

    def held_stream(self, flavour: ModuleType, held: HeldBody) -> Any:
        return _async_stream(flavour)(held)


class BlockingWire:
    """Blocks its thread, unless an event loop runs on it: then a call takes what is free or fails at once."""

    def __init__(self, send: Callable[[Any], Any], clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self.can_wait = not _on_event_loop()

    async def acquire(self, limit: Limit | Ticket, order: int, scope: Scope | None) -> None:
        if not self.can_wait:
            if not (limit.try_acquire() or _comes_soon(limit, order)):
                raise BlockingCall(
                    f"a synchronous model call on an event loop's own thread would have to wait for {limit.name} "
                    f"({limit.capacity} in flight) and block every other call; use `await model.ainvoke(...)`, or "
                    "make the node a plain `def`"
                )
            return
        if scope is None:
            limit.acquire_blocking(order, SimpleQueue())
            return
        with scope.wakeups() as wakeups:
            if not limit.acquire_blocking(order, wakeups):
                scope.check()

    async def send(self, request: Any) -> Any:
        return self._send(request)

    async def next_chunk(self, chunks: Iterator[bytes]) -> bytes | None:
        return next(chunks, None)

    async def close(self, stream: Any) -> None:
        stream.close()

    async def sleep(self, seconds: float, scope: Scope | None) -> None:
        if scope is None:
            self._clock.wait(SimpleQueue(), seconds)
            return
        with scope.wakeups() as wakeups:
            self._clock.wait(wakeups, seconds)
        scope.check()

    async def record(self, slot: Slot, answer: Answer) -> None:
        if self.can_wait:
            slot.record_blocking(answer)
        else:
            slot.record_soon(answer)

    def chunks(self, stream: Any) -> Iterator[bytes]:
        return iter(stream)

    def held_stream(self, flavour: ModuleType, held: HeldBody) -> Any:
        return _blocking_stream(flavour)(held)


def _comes_soon(limit: Limit | Ticket, order: int) -> bool:
    return isinstance(limit, Ticket) and limit.pending and limit.acquire_blocking(order, SimpleQueue(), _MOMENT_S)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# Clients check that a body is a stream of their own library, so there is one class for httpx and one for httpx2.
@cache
def _async_stream(flavour: ModuleType) -> Callable[[HeldBody], Any]:
    class HeldAsyncStream(flavour.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, held: HeldBody) -> None:
            self._held = held

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while (chunk := await self._held.next_chunk()) is not None:
                yield chunk

        async def aclose(self) -> None:
            await self._held.close()

        def __del__(self) -> None:
            self._held.abandon()

    return HeldAsyncStream


@cache
def _blocking_stream(flavour: ModuleType) -> Callable[[HeldBody], Any]:
    class HeldStream(flavour.SyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, held: HeldBody) -> None:
            self._held = held

        def __iter__(self) -> Iterator[bytes]:
            while (chunk := drive(self._held.next_chunk())) is not None:
                yield chunk

        def close(self) -> None:
            drive(self._held.close())

        def __del__(self) -> None:
            self._held.abandon()

    return HeldStream
