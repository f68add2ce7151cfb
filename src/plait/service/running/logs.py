"""The stream of one run on its way out: numbered and on disk first where it can be resumed, then to its readers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence

from plait.service.json_texts import dumps
from plait.service.running.requests import PLAIT_MODE, Part
from plait.service.running.topics import Topic
from plait.service.running.translations import Said
from plait.store.service.events import Events
from plait.store.service.records import EventRecord

_MOST_UNWRITTEN = 5000
# As the store takes them.
_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class StreamLog:
    """Publishes a run's events. Those of a resumable one are kept: whoever saw one can go on behind it.

    `last_id` is that of the last event that an earlier attempt left. `close` returns when all is out. What `server`
    publishes of a run that another one has taken over goes nowhere.
    """

    def __init__(
        self, run_id: str, topic: Topic, events: Events | None, *, server: str = "", last_id: str | None = None
    ) -> None:
        self._run_id = run_id
        self._topic = topic
        self._events = events
        self._server = server
        self._lost = False
        millis, _, number = (last_id or "0-0").partition("-")
        self._millis, self._number = int(millis), int(number)
        self._unwritten: list[Part] = []
        self._writing: asyncio.Task[None] | None = None

    async def publish(self, said: Sequence[Said]) -> None:
        """Send these on; waits where the disk is far behind. Raises StoreError where it cannot keep them."""
        if self._events is None:
            if self._topic.is_read:  # nobody needs to be told of a run that is only waited for
                self._topic.publish([Part(name, dumps(data)) for name, data in said])
            return
        if self._lost:
            return
        self._unwritten += [Part(name, dumps(data), self._next_id()) for name, data in said]
        if self._writing is None or self._writing.done():
            if self._writing is not None:
                self._writing.result()
            self._writing = asyncio.create_task(self._write(self._events), name=f"plait events {self._run_id}")
        elif len(self._unwritten) > _MOST_UNWRITTEN:
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Return when every event is kept and sent."""
        if self._writing is not None:
            await self._writing

    async def _write(self, events: Events) -> None:
        while self._unwritten:
            parts, self._unwritten = self._unwritten, []
            records = [EventRecord(self._run_id, part.id, part.event, part.data) for part in parts]
            if not await events.append(self._run_id, records, server=self._server):
                self._lost = True
                self._unwritten.clear()
                return
            self._topic.publish(parts)

    def _next_id(self) -> str:
        # Numbered over the whole run, so that ids grow also where the clock goes back.
        self._millis = max(self._millis, time.time_ns() // 1_000_000)
        self._number += 1
        return f"{self._millis}-{self._number}"


def place_of(event_id: str) -> tuple[int, int]:
    """Where an event stands in its run's stream. Raises ValueError for what is no id of one."""
    found = _ID.fullmatch(event_id)
    if found is None:
        raise ValueError(event_id)
    return int(found[1]), int(found[2])


class FirstToken:
    """Publishes, and tells when the first word is out."""

    def __init__(self, publish: Callable[[Sequence[Said]], Awaitable[None]], tell: Callable[[], None]) -> None:
        self._publish = publish
        self._tell: Callable[[], None] | None = tell

    async def __call__(self, said: Sequence[Said]) -> None:
        await self._publish(said)
        if self._tell is not None and any(_is_word(name, data) for name, data in said):
            self._tell()
            self._tell = None


def _is_word(name: str, data: object) -> bool:
    if name == PLAIT_MODE:
        return isinstance(data, dict) and data.get("type") == "token"
    return name.startswith("messages")
