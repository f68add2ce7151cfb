"""Kept-alive HTTP/1.1 connections of one event loop, with no more between a call and its socket than it needs."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from plait.flow.answers import Answer, Broken
from plait.flow.heads import Head, NotHttp

_IDLE_S = 30.0
_MOST_HEAD_BYTES = 131_072

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
        self._parser: HttpResponseParser | None = None
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._came = 0
        """Bytes of an answer whose head is not whole yet."""
        self._paused = False

    def ask(self, request: bytes, patience_s: float | None) -> Answer:
        """Send a request; its answer may be silent for `patience_s` seconds at a time."""
        assert self._transport is not None
        self._answer = answer = Answer(self, patience_s)
        self._came, self._reason = 0, b""
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
        self._parser = HttpResponseParser(self)
        # Some gateways add a length to chunks, which these override (RFC 9112, section 6.3).
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or self._parser is None:  # an answer that nobody asked for
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:  # a 101, whose protocol is none of ours
            self.close()
        except HttpParserError as error:
            self.close()
            if self._answer is not None:
                found = "" if answer.head else f", found {data[:80]!r}"
                self._end(answer, NotHttp(f"expected an answer of HTTP/1.1: {error}{found}"))
        if answer.head is None and not self.closed:
            self._came += len(data)
            if self._came > _MOST_HEAD_BYTES:
                self._end(answer, NotHttp(f"expected headers of at most {_MOST_HEAD_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._parser = None  # they hold each other
        self._owner.forget(self)
        answer = self._answer
        if answer is None:
            return
        head = answer.head
        if exc is not None:
            self._end(answer, exc)
        elif head is not None and not head.is_framed():
            self._end(answer)
        else:
            begun = head is not None or self._came
            self._end(answer, Broken("the connection closed in the middle" if begun else "Server disconnected"))

    # What the parser calls, in the order in which an answer's parts come.

    def on_message_begin(self) -> None:
        self._headers = []
        if self._answer is None:  # something follows the answer
            self.close()

    def on_status(self, reason: bytes) -> None:
        self._reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None and self._answer.head is None:  # what comes after the body belongs to nobody
            self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self._answer is not None and (status >= 200 or status == 101):  # the others only announce it
            self._answer.head = Head(status, self._reason, self._headers)
            self._answer.wake()

    def on_body(self, part: bytes) -> None:
        if self._answer is not None:
            self._answer.take(part)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        answer = self._answer
        if answer is not None and answer.head is not None:
            assert self._transport is not None
            keeps = self._parser.should_keep_alive() and not answer.head.is_ambiguous()
            keeps = keeps and not self._transport.get_write_buffer_size()
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
