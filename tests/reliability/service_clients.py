"""Clients of servers that die: each asks for one run in one of the ways there are, and keeps what it was told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

import httpx

from tests.reliability.service_processes import PATIENCE_S, Servers

WAYS = ("resumable", "streamed", "waited", "background", "queued", "stateless")
_POLL_S = 0.02


@dataclass(slots=True)
class Event:
    """One that a client has read in full."""

    name: str
    data: str
    id: str = ""


@dataclass(slots=True)
class Asked:
    """A run that a client asked for."""

    way: str
    topic: str
    thread_id: str
    run_id: str = ""
    """Empty where the server died before it said."""
    events: list[Event] = field(default_factory=list)
    """Of `resumable` all there were; of `streamed` those up to the death of its server."""
    ended: bool = False
    """Its stream or answer came to its end."""


class Clients:
    """As many as are asked for, taking turns in their ways, and at whichever server runs."""

    def __init__(self, servers: Servers, seed: int) -> None:
        self.asked: list[Asked] = []
        self._servers = servers
        self._chance = random.Random(seed)
        self._shared = str(uuid4())
        self._tasks: list[asyncio.Task[None]] = []
        self._http = httpx.AsyncClient(
            timeout=PATIENCE_S, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
        )

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    def ask(self, count: int, *, ways: Sequence[str] = WAYS) -> None:
        """Let so many more ask, at once."""
        for _ in range(count):
            number = len(self.asked)
            way = ways[number % len(ways)]
            thread = self._shared if way == "queued" else str(uuid4())
            asked = Asked(way, f"topic-{number:05d}", thread)
            self.asked.append(asked)
            self._tasks.append(asyncio.create_task(self._ask(asked)))

    async def done(self) -> None:
        """Return when every client has all it will get; raises what one of them found wrong."""
        await asyncio.gather(*self._tasks)

    async def whole(self, asked: Asked) -> list[Event]:
        """All events of a resumable run, as they are kept."""
        url = f"{self._url()}/threads/{asked.thread_id}/runs/{asked.run_id}/stream"
        async with self._http.stream("GET", url, headers={"last-event-id": "-1"}) as answer:
            answer.raise_for_status()
            return [event async for event in _events(answer)]

    async def status(self, asked: Asked) -> str:
        """Where a run is."""
        answer = await self._http.get(f"{self._url()}/threads/{asked.thread_id}/runs/{asked.run_id}")
        return str(answer.raise_for_status().json()["status"])

    async def told(self, asked: Asked) -> tuple[object, object]:
        """What the thread says was told on it, and what its last checkpoint says."""
        place = f"{self._url()}/threads/{asked.thread_id}"
        thread, state = [(await self._http.get(url)).raise_for_status().json() for url in (place, f"{place}/state")]
        return (thread["values"] or {}).get("told"), (state["values"] or {}).get("told")

    async def _ask(self, asked: Asked) -> None:
        body: dict[str, object] = {
            "assistant_id": "turns",
            "input": {"topic": asked.topic},
            "durability": self._chance.choice(["sync", "async", "exit"]),
        }
        path = f"/threads/{asked.thread_id}/runs"
        if asked.way == "stateless":
            path = "/runs"
        else:
            body["if_not_exists"] = "create"
        if asked.way in ("resumable", "streamed"):
            body |= {"stream_mode": ["values", "messages-tuple"], "stream_resumable": asked.way == "resumable"}
            path += "/stream"
        elif asked.way == "waited":
            path += "/wait"
        # A server that died meanwhile is what these tests are about.
        with suppress(httpx.TransportError):
            async with self._http.stream("POST", self._url() + path, json=body) as answer:
                answer.raise_for_status()
                asked.run_id = answer.headers["content-location"].rpartition("/")[2]
                await self._read(asked, answer)
        while asked.way == "resumable" and asked.run_id and not asked.ended:
            await self._go_on(asked)

    async def _read(self, asked: Asked, answer: httpx.Response) -> None:
        if asked.way in ("resumable", "streamed"):
            async for event in _events(answer):
                asked.events.append(event)
        else:
            await answer.aread()
        if asked.way in ("resumable", "streamed", "waited"):
            # Clients take the end of a stream for the end of the run.
            assert await self.status(asked) not in ("pending", "running"), "the answer ended before its run was over"
        asked.ended = True

    async def _go_on(self, asked: Asked) -> None:
        last = asked.events[-1].id if asked.events else "-1"
        try:
            url = f"{self._url()}/threads/{asked.thread_id}/runs/{asked.run_id}/stream"
            async with self._http.stream("GET", url, headers={"last-event-id": last}) as answer:
                answer.raise_for_status()
                await self._read(asked, answer)
        except httpx.TransportError:
            await asyncio.sleep(_POLL_S)

    def _url(self) -> str:
        running = self._servers.running
        if not running:
            raise httpx.ConnectError("no server runs")
        return self._chance.choice(running).url


async def _events(answer: httpx.Response) -> AsyncIterator[Event]:
    """Whole events alone: one that is cut off was not read."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "event" in fields:
            yield Event(fields["event"], fields["data"], fields.get("id", ""))
        fields = {}
