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

_INSERT = "INSERT OR REPLACE INTO examples (position, example) VALUES (?, ?)"
_SELECT = "SELECT example FROM examples WHERE position >= ? ORDER BY position LIMIT 500"


async def spooled(examples: AsyncIterator[Example], store: BatchStore) -> AsyncGenerator[Example]:
    """The examples, each stored before it is used; their positions are counted anew, without gaps."""
    position = 0
    async for example in examples:
        counted = replace(example, position=position)
        store.writer.add(_INSERT, (position, dumps(asdict(counted))))
        position += 1
        yield counted
    await store.put_meta({"spooled": position})


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
