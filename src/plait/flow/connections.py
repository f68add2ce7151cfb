"""Kept-alive HTTP/1.1 connections of one event loop, with no more between a call and its socket than it needs."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import cast

from plait.flow.answers import Answer, Broken
from plait.flow.heads import MOST_HEAD_BYTES, Chunks, NotHttp, read_head

_IDLE_S = 30.0


Origin = tuple[str, int, ssl.SSLContext | None]
"""Host, port, and whom to trust; None: no TLS."""


class Connection(asyncio.Protocol):
    """One connection, for one request after another; `owner` gets it back in between."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Connections, origin: Origin) -> None:
        self.loop = loop
        self.origin = origin
        self.idle_since = 0.0
        self.closed = False
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._held = b""
        self._left: int | None = None
        self._chunks: Chunks | None = None
        self._paused = False

    def ask(self, request: bytes, patience_s: float | None) -> Answer:
        """Send a request; its answer may be silent for `patience_s` seconds at a time."""
        assert self._transport is not None
        self._answer = answer = Answer(self, patience_s)
        self._held = b""
        self._transport.write(request)
        return answer

    def close(self) -> None:
        """End the connection at once, whatever it is doing."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no further for now."""
        if not (self._paused or self.closed) and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self.closed and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # an answer that nobody asked for
            self.close()
            return
        try:
            if answer.head is None:
                rest = self._read_head(answer, data)
                if rest is None:
                    return
                data = rest
            self._read_body(answer, data)
        except NotHttp as error:
            self._end(answer, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._owner.forget(self)
        answer = self._answer
        if answer is None:
            return
        begun = answer.head is not None
        until_the_end = begun and self._left is None and self._chunks is None
        if exc is not None:
            self._end(answer, exc)
        elif until_the_end:
            self._end(answer)
        else:
            said = "the connection closed in the middle" if begun or self._held else "Server disconnected"
            self._end(answer, Broken(said))

    def _read_head(self, answer: Answer, data: bytes) -> bytes | None:
        """The bytes after the head, None where that is not whole yet."""
        data = self._held + data if self._held else data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > MOST_HEAD_BYTES:
                    raise NotHttp(f"expected headers of at most {MOST_HEAD_BYTES} bytes")
                self._held = data
                return None
            head = read_head(data[:end])
            data = data[end + 4 :]
            if head.status >= 200 or head.status == 101:
                break  # the others only announce it
        self._held = b""
        answer.head = head
        self._left, self._chunks = head.length, Chunks(answer.take) if head.chunked else None
        answer.wake()
        return data

    def _read_body(self, answer: Answer, data: bytes) -> None:
        if self._chunks is not None:
            rest = self._chunks.feed(data)
            if rest is not None:
                self._complete(answer, rest)
        elif self._left is None:
            if data:
                answer.take(data)
        else:
            more = len(data) - self._left
            part, rest = (data, b"") if more <= 0 else (data[: self._left], data[self._left :])
            self._left -= len(part)
            if part:
                answer.take(part)
            if not self._left:
                self._complete(answer, rest)

    def _complete(self, answer: Answer, rest: bytes) -> None:
        assert answer.head is not None
        assert self._transport is not None
        keeps = answer.head.keeps and not rest and not self._transport.get_write_buffer_size()
        self._end(answer, keeps=keeps)

    def _end(self, answer: Answer, failure: Exception | None = None, *, keeps: bool = False) -> None:
        self._answer = None
        answer.end(failure)
        if keeps:
            self.resume()
            self._owner.free(self)
        else:
            self.close()


class Connections:
    """The connections of one event loop; `connect` opens another one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[Origin, Callable[[], Connection]], Awaitable[None]],
        *,
        reuse: bool = True,
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._reuse = reuse
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._swept_at = time.monotonic()

    def take(self, origin: Origin) -> Connection | None:
        """One that is open and idle, the one that was used last."""
        idle = self._idle.get(origin)
        oldest = time.monotonic() - _IDLE_S
        while idle:
            connection = idle.pop()
            if not connection.closed and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def open(self, origin: Origin) -> Connection:
        """A new one. Raises OSError; cancelled, it is closed."""
        connection = Connection(self._loop, self, origin)
        self._all.add(connection)
        try:
            await self._connect(origin, lambda: connection)
        except BaseException:
            connection.close()
            self.forget(connection)
            raise
        return connection

    def free(self, connection: Connection) -> None:
        """The connection may be used again."""
        if not self._reuse:
            connection.close()
            return
        connection.idle_since = now = time.monotonic()
        self._idle.setdefault(connection.origin, []).append(connection)
        if now - self._swept_at > _IDLE_S:
            self._swept_at = now
            for known in [known for known in self._all if known in self._idle.get(known.origin, ())]:
                if now - known.idle_since >= _IDLE_S:
                    known.close()

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._all.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def close(self) -> None:
        """Close all."""
        for connection in list(self._all):
            connection.close()
        self._all.clear()
        self._idle.clear()
