"""The rows of a batch that no worker holds: those of its source, and before them those that dead workers left."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from plait.datasets.examples import Example

__all__ = ["Remainder"]


class Remainder:
    """What is left to be leased. It is of one event loop."""

    def __init__(self) -> None:
        self._examples: AsyncIterator[Example] | None = None
        self._returned: deque[Example] = deque()
        self._back = asyncio.Event()
        self._coming: asyncio.Future[Example | None] | None = None
        self._reading = asyncio.Lock()
        self._exhausted = False
        self._closed = False

    def begin(self, examples: AsyncIterator[Example]) -> None:
        """Where the rows come from; before the first `take`."""
        self._examples = examples

    @property
    def is_empty(self) -> bool:
        """Whether all rows were taken, until some are given back."""
        return self._exhausted and not self._returned

    async def take(self, most: int) -> list[Example]:
        """Rows in their order: as many as are there, at least one; none at the end and once it is closed.

        Raises what the source raises.
        """
        found: list[Example] = []
        async with self._reading:
            while len(found) < most and not self._closed:
                example = await self._next(wait=not found)
                if example is None:
                    break
                found.append(example)
        return found

    def give_back(self, rows: Sequence[Example]) -> None:
        """These go to whoever takes next, even while the source lets others wait."""
        self._returned.extendleft(reversed(rows))
        self._back.set()

    def close(self) -> None:
        """Nothing more is taken: the next row may be long in coming, from a pipe."""
        self._closed = True
        if self._coming is not None:
            self._coming.cancel()

    async def closed(self) -> None:
        """Close, and wait until the source is left alone."""
        self.close()
        if self._coming is not None:
            await asyncio.gather(self._coming, return_exceptions=True)

    async def _next(self, *, wait: bool) -> Example | None:
        if not (self._returned or self._exhausted) and self._coming is None:
            assert self._examples is not None, "rows are taken once it is known where they come from"
            self._coming = asyncio.ensure_future(anext(self._examples, None))
            await asyncio.sleep(0)  # enough for one that is there
        if wait and not self._returned and self._coming is not None and not self._coming.done():
            await self._come_or_back(self._coming)
        if self._returned:
            return self._returned.popleft()
        if self._coming is None or not self._coming.done():
            return None
        coming, self._coming = self._coming, None
        if coming.cancelled():
            return None
        example = coming.result()
        self._exhausted = example is None
        return example

    async def _come_or_back(self, coming: asyncio.Future[Example | None]) -> None:
        self._back.clear()
        back = asyncio.ensure_future(self._back.wait())
        either: list[asyncio.Future[Any]] = [coming, back]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.cancel()
