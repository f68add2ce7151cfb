"""Reads a run's stream: what is stored of it, then what happens, without losing or repeating an event between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

from fastapi import HTTPException

from plait.service.listeners import Listener
from plait.service.problems import problem
from plait.service.running.logs import place_of
from plait.service.running.requests import Outcome, Part
from plait.service.running.topics import Lagged, Reading, Topic
from plait.store.service import ServiceStore
from plait.store.service.records import EVERYTHING, RunRecord

FROM_START = "-1"
_PAGE = 500
_LOOK_AGAIN_S = 0.25
_OVER = ("success", "error", "timeout", "interrupted")


class Follower:
    """Follows runs for one reader."""

    def __init__(self, store: ServiceStore, listener: Listener) -> None:
        self._store = store
        self._listener = listener
        self.closing = False
        """Whether this server ends: what other servers run is waited for no longer."""

    async def follow(self, run: RunRecord, topic: Topic | None, after: str | None) -> AsyncGenerator[list[Part]]:
        """The events behind `after` (an event's id, or `-1` for all; None: from now on), until the run is over.

        Only a resumable run's events are stored; of others there are those that happen from now on, and a reader that
        is too slow for them gets an `error` event and no more. A run of another server is followed through the store.
        `after` is what `checked_id` gives.
        """
        last = after
        if not run.kwargs.get("resumable"):
            async for parts in self._live(run, topic):
                yield parts
            return
        if topic is None:
            async for parts in self._stored_until_over(run, last):
                yield parts
            return
        with topic.follow() as reading:
            if last is None:
                last = await self._store.events.last_id(run.run_id) or FROM_START
            while True:
                async for parts in self._stored(run, last):
                    last = parts[-1].id
                    yield parts
                try:
                    async for parts in _fresh(reading, last):
                        last = parts[-1].id
                        yield parts
                except Lagged:
                    continue  # what was dropped stands in the store
                break
        if topic.moved:
            async for parts in self._stored_until_over(run, last):
                yield parts

    async def outcome(self, run_id: str) -> Outcome | None:
        """How a run ended that another server has, or that is over; None where it was deleted."""
        while True:
            found = await self._store.runs.get(run_id)
            if found is None:
                return None
            if found.status in _OVER:
                break
            if self.closing:
                raise problem(503, "the server is shutting down: try again in a moment", headers={"Retry-After": "5"})
            await asyncio.sleep(_LOOK_AGAIN_S)
        thread = await self._store.threads.get(found.thread_id, EVERYTHING)
        values = dict(thread.values) if thread and thread.values is not None else None
        waiting = [item for items in (thread.interrupts if thread else {}).values() for item in items]  # type: ignore[attr-defined]
        return Outcome(found.run_id, found.status, values, found.error, tuple(waiting), found.usage, found.timings)

    async def _live(self, run: RunRecord, topic: Topic | None) -> AsyncIterator[list[Part]]:
        if topic is None:
            with suppress(HTTPException):
                await self.outcome(run.run_id)
            return
        with topic.follow() as reading:
            try:
                async for parts in _unread(reading):
                    yield parts
            except Lagged:
                self._listener.on_reader_cut(run)
                text = (
                    b'{"error":"ReaderTooSlow","message":"the run goes on, but its events came faster than this '
                    b'client read them: join its stream again, or ask for a resumable one"}'
                )
                yield [Part("error", text)]
                return
        if topic.moved:
            await self.outcome(run.run_id)

    async def _stored(self, run: RunRecord, last: str) -> AsyncIterator[list[Part]]:
        while True:
            records = await self._store.events.after(run.run_id, None if last == FROM_START else last, limit=_PAGE)
            if not records:
                return
            last = records[-1].id
            yield [Part(record.event, record.data, record.id) for record in records]

    async def _stored_until_over(self, run: RunRecord, last: str | None) -> AsyncIterator[list[Part]]:
        if last is None:
            last = await self._store.events.last_id(run.run_id) or FROM_START
        while True:
            # Asked before the events: those of a run that is over are all there.
            found = await self._store.runs.get(run.run_id)
            async for parts in self._stored(run, last):
                last = parts[-1].id
                yield parts
            if found is None or found.status in _OVER or self.closing:
                return
            await asyncio.sleep(_LOOK_AGAIN_S)


async def _unread(reading: Reading) -> AsyncIterator[list[Part]]:
    while parts := await reading.next():
        yield parts


async def _fresh(reading: Reading, last: str) -> AsyncIterator[list[Part]]:
    async for parts in _unread(reading):
        fresh = [part for part in parts if _is_behind(part.id, last)]
        if fresh:
            last = fresh[-1].id
            yield fresh


def _is_behind(event_id: str, last: str) -> bool:
    return last == FROM_START or place_of(event_id) > place_of(last)


def checked_id(after: str | None) -> str | None:
    """What a client gave as Last-Event-ID. Raises HTTPException (422) for what is no event's id."""
    if after in (None, "", FROM_START):
        return after or None
    try:
        place_of(after or "")
    except ValueError:
        shown = (after or "")[:60]
        raise problem(
            422, f"Last-Event-ID: expected the id of an event of this stream, or -1 for all, found {shown!r}"
        ) from None
    return after
