"""What comes for one request over a connection, in pieces, for the one reader who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from plait.flow.heads import Head

_MOST_UNREAD_BYTES = 65_536


class Line(Protocol):
    """The connection that an answer comes over."""

    loop: asyncio.AbstractEventLoop

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Broken(Exception):
    """The connection ended before the answer did."""


class Silent(Exception):
    """Nothing came for as long as was allowed."""


class Answer:
    """What comes for one request: first its head, then its body in pieces as they came.

    Belongs to its connection's loop. `close` before the end closes the connection, which is how an endpoint learns
    that nobody listens; after the end it does nothing.
    """

    __slots__ = (
        "_connection",
        "_failure",
        "_loop",
        "_parts",
        "_patience_s",
        "_since",
        "_timer",
        "_unread",
        "_waiter",
        "complete",
        "head",
    )

    def __init__(self, connection: Line, patience_s: float | None) -> None:
        self.head: Head | None = None
        self.complete = False
        """Whether all of it has come."""
        self._connection = connection
        self._loop = connection.loop
        self._parts: deque[bytes] = deque()
        self._unread = 0
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._patience_s = patience_s
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def wait_for_head(self, patience_s: float | None) -> Head:
        """The head. Raises Broken, Silent, NotHttp, OSError; cancelled or failed, the connection is closed."""
        patience_s, self._patience_s = self._patience_s, patience_s
        try:
            while self.head is None:
                await self._wait()
        except BaseException:
            self.close()
            raise
        finally:
            self._patience_s = patience_s
        return self.head

    async def next_part(self) -> bytes | None:
        """The next bytes of the body, None after the last. Raises as `wait_for_head`."""
        while not self._parts:
            if self.complete:
                return None
            await self._wait()
        part = self._parts.popleft()
        self._unread -= len(part)
        if not self.complete and self._unread <= _MOST_UNREAD_BYTES // 2:
            self._connection.resume()
        return part

    async def rest(self) -> bytes:
        """The whole body, or what is left of it. Raises as `wait_for_head`."""
        while not self.complete:
            self._unread = 0  # nobody but this holds the reading up
            self._connection.resume()
            await self._wait()
        whole = self._parts.popleft() if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return whole

    def close(self) -> None:
        """Nobody reads further."""
        self._stop_timer()
        if not self.complete:
            self._connection.close()

    def take(self, data: bytes) -> None:
        """Bytes of the body have come."""
        self._parts.append(data)
        self._unread += len(data)
        if self._unread > _MOST_UNREAD_BYTES:
            self._connection.pause()
        self.wake()

    def end(self, failure: Exception | None = None) -> None:
        """Nothing more comes."""
        if failure is None:
            self.complete = True
        elif not self.complete:
            self._failure = failure
        self._stop_timer()
        self.wake()

    def wake(self) -> None:
        """Something has come."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = waiter = self._loop.create_future()
        if self._patience_s is not None:
            self._since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._patience_s, self._look)
        try:
            await waiter
        finally:
            self._waiter = None

    def _look(self) -> None:
        # One timer for all the waits of an answer: each would cost more than the bytes it waits for.
        self._timer = None
        if self._waiter is None or self._patience_s is None:
            return
        left = self._since + self._patience_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.end(Silent(f"nothing came for {self._patience_s:g} s"))
            self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
