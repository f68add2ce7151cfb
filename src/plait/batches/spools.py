"""Keeps the rows of a Python iterable with their batch, so that a resume can read them again."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from plait.datasets.examples import Example
from plait.errors import StoreError
from plait.json_values import to_json
from plait.store.batches import BatchStore
from plait.store.places import Place
from plait.store.rows import json_text

SPOOLED = "spooled"
"""In meta: how many rows there are, once all were read."""

_BACKLOG = 5000
"""Rows that may wait to be written."""


async def spooled(examples: AsyncIterator[Example], store: BatchStore, *, known: int = 0) -> AsyncGenerator[Example]:
    """The examples, each stored before it is used; their positions are counted anew, without gaps.

    The first `known` of them were stored by an earlier session, and are not yielded. Values that are no JSON are
    yielded as JSON says them. Raises StoreError, at the next row or the end, where a row cannot be stored.
    """
    position, losses = 0, _Losses()
    async for example in examples:
        losses.check()
        if position >= known:
            text = json_text(to_json(replace(example, position=position)))
            store.add_example(position, text, losses.note)
            # Not the example itself: a row runs with what a resume would read.
            yield Example(**json.loads(text))
        position += 1
    await store.put_meta({})  # returns once all before it is written
    losses.check()
    await store.put_meta({SPOOLED: position})


class _Losses:
    """The first row that could not be stored."""

    def __init__(self) -> None:
        self._first: BaseException | None = None

    def note(self, error: BaseException | None) -> None:
        """For the writer's thread."""
        self._first = self._first or error

    def check(self) -> None:
        if isinstance(self._first, StoreError):
            raise StoreError(*self._first.args)
        if self._first is not None:
            raise StoreError(
                f"a row of the iterable cannot be stored ({type(self._first).__name__}: {self._first}): expected "
                "values that JSON can say, within the limits of the database; leave that row out, or write the rows "
                "to a file"
            ) from self._first


async def spool_all(examples: AsyncIterator[Example], store: BatchStore) -> None:
    """Store all examples at once: a list is there whole, and so it shall be for a resume."""
    async for example in spooled(examples, store):
        if example.position % _BACKLOG == 0:
            await store.put_meta({})  # returns once all before it is written


async def spooled_before(place: Place) -> AsyncGenerator[Example]:
    """The examples that were stored, in order."""

    # One reader for all of it: it waits for a server that is restarted meanwhile.
    reader = await asyncio.to_thread(place.read)
    # Whoever leaves in the middle leaves a read behind, whose connection must not be closed under it.
    reading = threading.Lock()

    def read(after: int) -> list[Example]:
        with reading:
            return [Example(**json.loads(text)) for text in reader.examples(after)]

    def close() -> None:
        with reading:
            reader.close()

    try:
        after = -1
        while chunk := await asyncio.to_thread(read, after):
            for example in chunk:
                yield example
            after = chunk[-1].position
    finally:
        await asyncio.shield(asyncio.to_thread(close))


async def continued(examples: AsyncIterator[Example], store: BatchStore) -> AsyncGenerator[Example]:
    """What was stored, then what the iterable, given once more, has beyond that."""
    known = 0
    async for example in spooled_before(store.place):
        known += 1
        yield example
    async for example in spooled(examples, store, known=known):
        yield example
