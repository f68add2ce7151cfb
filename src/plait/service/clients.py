"""Clients that wait for a run: the event stream they read meanwhile, and noticing that they have gone away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

HEARTBEAT_S = 5.0
"""Between the comments that keep a silent stream's connection alive: as the reference server."""

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def event(name: str, data: bytes) -> bytes:
    """One server-sent event; `data` is JSON, which has no line ends."""
    return b"event: %b\r\ndata: %b\r\n\r\n" % (name.encode(), data)


async def unless_gone(request: Request, work: Awaitable[T], *, timeout_s: float | None = None) -> T:
    """What `work` returns, unless the client goes away meanwhile: then it is cancelled, as when this is.

    Raises ClientGone, and TimeoutError after `timeout_s`.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(request.receive))
    try:
        await asyncio.wait({working, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone if gone.done() else TimeoutError
    finally:
        await _cancelled(working, gone)


class ClientGone(Exception):
    """Nobody is there any more to read the answer."""


class EventStream(Response):
    """A response of server-sent events, with comments while there are none.

    `chunks` are whole events. `left` is awaited when the client went away, or the server stopped the response, before
    the last of them.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        *,
        left: Callable[[], Awaitable[object]],
        headers: Mapping[str, str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._chunks = chunks
        self._left = left
        self._heartbeat_s = heartbeat_s
        self._silent = True
        self.init_headers({**_HEADERS, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        except BaseException as unsent:
            await asyncio.shield(asyncio.ensure_future(self._left()))
            if isinstance(unsent, OSError):
                return
            raise
        # Of their own accord: a wait for the next event that also minds the client costs more than the event.
        sender = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_until_gone(receive))
        heart = asyncio.create_task(self._beat(send))
        try:
            await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unfinished = not sender.done()
            await _cancelled(sender, gone, heart)
            if unfinished:
                await asyncio.shield(asyncio.ensure_future(self._left()))
        if not sender.cancelled() and (error := sender.exception()) is not None and not isinstance(error, OSError):
            raise error

    async def _send(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                self._silent = False
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:  # how a server that speaks ASGI 2.4 says that the client is gone
            await self._left()
            raise
        finally:
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()

    async def _beat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if self._silent:
                await send({"type": "http.response.body", "body": b": heartbeat\r\n\r\n", "more_body": True})
            self._silent = True


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*futures: asyncio.Future[Any]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.wait(futures)
