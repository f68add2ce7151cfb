"""Writes lines from an event loop to where writing may block: a slow reader must not hold up calls in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_MOST = 1000
"""Lines that may wait; whoever has more waits with them."""


class Lines:
    """Hands lines to `write`, which gets them in order, many at once when it is slow, in a thread of its own.

    An error of `write` comes out of the next `put` or of `close`.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._held: list[str] = []
        self._writing: asyncio.Task[None] | None = None
        # Not the loop's own executor, which synchronous nodes may fill.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plait-lines")

    async def put(self, line: str) -> None:
        """Take a line, without its end."""
        self._held.append(f"{line}\n")
        if self._writing is not None and self._writing.done():
            self._writing.result()
            self._writing = None
        if self._writing is None:
            self._writing = asyncio.create_task(self._empty(), name="plait lines")
        elif len(self._held) > _MOST:
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Return when all is written."""
        if self._writing is not None:
            await self._writing
        self._thread.shutdown(wait=False)

    async def _empty(self) -> None:
        while self._held:
            lines, self._held = self._held, []
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, "".join(lines))
