"""Keeps the rows of a Python iterable with their batch, so that a resume can read them again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from plait.datasets.examples import Example
from plait.json_values import dumps
from plait.store.batches import DATABASE, BatchStore
from plait.store.files import open_to_read

SPOOLED = "spooled"
"""In meta: how many rows there are, once all were read."""

_INSERT = "INSERT OR REPLACE INTO examples (position, example) VALUES (?, ?)"
_SELECT = "SELECT example FROM examples WHERE position >= ? ORDER BY position LIMIT 500"
_BACKLOG = 5000
"""Rows that may wait to be written."""


async def spooled(examples: AsyncIterator[Example], store: BatchStore, *, known: int = 0) -> AsyncGenerator[Example]:
    """The examples, each stored before it is used; their positions are counted anew, without gaps.

    The first `known` of them were stored by an earlier session, and are not yielded.
    """
    position = 0
    async for example in examples:
        if position >= known:
            counted = replace(example, position=position)
            store.writer.add(_INSERT, (position, dumps(asdict(counted))))
            yield counted
        position += 1
    await store.put_meta({SPOOLED: position})


async def spool_all(examples: AsyncIterator[Example], store: BatchStore) -> None:
    """Store all examples at once: a list is there whole, and so it shall be for a resume."""
    async for example in spooled(examples, store):
        if example.position % _BACKLOG == 0:
            await store.put_meta({})  # returns once all before it is written


async def spooled_before(folder: Path) -> AsyncGenerator[Example]:
    """The examples that were stored, in order."""

    def read(position: int) -> list[Example]:
        with closing(open_to_read(folder / DATABASE)) as connection:
            return [Example(**json.loads(text)) for (text,) in connection.execute(_SELECT, (position,))]

    position = 0
    while chunk := await asyncio.to_thread(read, position):
        for example in chunk:
            yield example
        position = chunk[-1].position + 1


async def continued(examples: AsyncIterator[Example], store: BatchStore) -> AsyncGenerator[Example]:
    """What was stored, then what the iterable, given once more, has beyond that."""
    known = 0
    async for example in spooled_before(store.folder):
        known += 1
        yield example
    async for example in spooled(examples, store, known=known):
        yield example
