"""Carries examples from a reading thread to the event loop with bounded look-ahead."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

__all__ = ["in_thread", "pumped"]

T = TypeVar("T")

AHEAD = 256
"""Rows that are read at most before somebody wants them."""
# Low, for both threads running at once take turns at the interpreter's lock every few rows: a third slower.
_RESUMED_AT = 16
_CLOSE_S = 2.0
_RECHECK_S = 0.5


class _Pump(Generic[T]):
    """The thread appends, the loop pops; a deque's ends are safe without a lock, which the loop may not wait on."""

    def __init__(self, rows: Callable[[Callable[[], bool]], Iterator[T]]) -> None:
        self._rows = rows
        self._ready: deque[T] = deque()
        self._news = asyncio.Event()
        self._room: SimpleQueue[None] = SimpleQueue()
        self._hungry = False
        self._held = False
        self._stopped = False
        self._done = False
        self._error: BaseException | None = None

    async def rows(self) -> AsyncGenerator[T]:
        ready = self._ready
        self._loop = asyncio.get_running_loop()
        # A daemon: a read that nothing can interrupt must not keep the process alive.
        threading.Thread(target=self._read, name="plait-dataset", daemon=True).start()
        try:
            while True:
                while ready:
                    row = ready.popleft()
                    if self._held and len(ready) <= _RESUMED_AT:
                        self._held = False
                        self._room.put(None)
                    yield row
                self._news.clear()
                self._hungry = True
                # What came between the two lines above woke nobody.
                done = self._done
                if ready:
                    continue
                if done:
                    break
                await self._news.wait()
            if self._error is not None:
                raise self._error
        finally:
            await self._close()

    async def _close(self) -> None:
        self._stopped = True
        self._room.put(None)
        try:
            async with asyncio.timeout(_CLOSE_S):
                while not self._done:
                    self._news.clear()
                    if not self._done:
                        await self._news.wait()
        except TimeoutError:
            # The source's own code blocks; the thread ends when it returns.
            pass

    def _read(self) -> None:
        rows = self._rows(lambda: self._stopped)
        try:
            for row in rows:
                self._ready.append(row)
                if self._hungry:
                    self._hungry = False
                    self._wake()
                if len(self._ready) >= AHEAD:
                    self._wait_for_room()
                if self._stopped:
                    break
        except BaseException as error:  # noqa: BLE001  (raised again where the rows are wanted)
            self._error = error
        finally:
            close = getattr(rows, "close", None)
            if close is not None:
                close()
            self._done = True
            self._wake()

    def _wait_for_room(self) -> None:
        self._held = True
        while self._held and len(self._ready) >= _RESUMED_AT and not self._stopped:
            try:
                self._room.get(timeout=_RECHECK_S)
            except Empty:
                continue
        self._held = False

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            # The loop is closed: nobody waits.
            self._stopped = True


def pumped(rows: Callable[[Callable[[], bool]], Iterator[T]]) -> AsyncGenerator[T]:
    """What the iterator gives, read in a thread of its own; it is called with a function that says when to stop.

    Closing the generator, or cancelling whoever waits for a row, ends the thread. Errors of the iterator come
    out here, behind the rows before them.
    """
    return _Pump(rows).rows()


async def in_thread(function: Callable[[Callable[[], bool]], T]) -> T:
    """The function's result, computed in a thread; a cancelled caller leaves it alone and `stop()` is true then."""

    def once(stop: Callable[[], bool]) -> Iterator[T]:
        yield function(stop)

    rows = pumped(once)
    try:
        return await anext(rows)
    finally:
        await rows.aclose()
